"""Assignment 04: gradient norms, clipping by norm and by value, and the update that uses it."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import numpy as np

from rnncourse import clipping
from rnncourse.exercises.spec import Case, Exercise, normal

WAYS = "05-clipping: Three ways to clip"
LOOP = "05-clipping: Where in the loop"
ONE = ({"T": 5, "B": 3, "D": 2, "H": 4, "V": 6},)


def _grads(rng, s, norm=None):
    """Return gradients of an RNN with read-out, each tensor of another size, scaled to `norm`."""
    grads = {
        "W_xh": normal(rng, s.H, s.D),
        "W_hh": 5 * normal(rng, s.H, s.H),
        "b_h": 0.3 * normal(rng, s.H),
        "W_hy": normal(rng, s.V, s.H),
        "b_y": 0.1 * normal(rng, s.V),
    }
    if norm is None:
        return grads
    scale = norm / np.sqrt(sum((g**2).sum() for g in grads.values()))
    return {name: g * scale for name, g in grads.items()}


def _norm_cases(rng, s):
    yield Case((_grads(rng, s, 1e-3),), "small gradients")
    yield Case(({"W": normal(rng, 3, 2, 4), "b": normal(rng, 4)},), "a tensor with three axes")
    yield Case(({"W": normal(rng, 3, 3)},), "one tensor")
    yield Case(({"b": normal(rng, 1)},), "one number")
    yield Case(({"W": np.zeros((2, 3)), "b": np.zeros(2)},), "all gradients are zero")
    yield Case(({"u": normal(rng, 5), "v": -normal(rng, 2)},), "vectors only")


global_norm = Exercise(
    name="global_norm",
    reference=clipping.global_norm,
    section=WAYS,
    axes={"grads": ""},
    returns=("norm",),
    sizes=ONE,
    draw=lambda rng, s: (_grads(rng, s),),
    special=_norm_cases,
)


@global_norm.mistake(
    "sum-of-norms",
    "the norms of the tensors are added",
    "For one vector (3, 4), cut into (3) and (4), you get 7. Norms do not add; what does?",
)
def _(grads):
    return sum(np.linalg.norm(g) for g in grads.values())


@global_norm.mistake(
    "root-missing",
    "the square root is missing",
    "You return the sum of squares. Double all gradients: the norm must double too.",
)
def _(grads):
    return sum((g**2).sum() for g in grads.values())


@global_norm.mistake(
    "largest-norm",
    "the largest norm of a tensor is taken",
    "The other tensors do not count in your version. See all gradients as one long vector.",
)
def _(grads):
    return max(np.linalg.norm(g) for g in grads.values())


@global_norm.mistake(
    "mean-square",
    "the squares are averaged, not summed",
    "A norm sums over the entries. With a mean, a large network gets no larger norm.",
)
def _(grads):
    flat = np.concatenate([g.ravel() for g in grads.values()])
    return np.sqrt((flat**2).mean())


@global_norm.mistake(
    "mean-of-norms",
    "the norms of the tensors are averaged",
    "See all gradients as one long vector: how long is it?",
)
def _(grads):
    return np.mean([np.linalg.norm(g) for g in grads.values()])


@global_norm.mistake(
    "absolute-sum",
    "absolute values are summed in place of squares",
    "That is the 1-norm. The length of a vector comes from Pythagoras.",
)
def _(grads):
    return sum(np.abs(g).sum() for g in grads.values())


@global_norm.mistake(
    "largest-entry",
    "the largest absolute entry is taken",
    "That is the maximum norm. The length of a vector comes from Pythagoras.",
)
def _(grads):
    return max(np.abs(g).max() for g in grads.values())


@global_norm.mistake(
    "root-of-sum-of-norms",
    "the norms are added without being squared again, then rooted",
    "The squares of the norms add up, and the root comes last.",
)
def _(grads):
    return np.sqrt(sum(np.linalg.norm(g) for g in grads.values()))


@global_norm.mistake(
    "first-tensor-only",
    "only the first tensor counts",
    "Look at where your `return` stands: does the loop end before it?",
)
def _(grads):
    return np.linalg.norm(next(iter(grads.values())))


@global_norm.mistake(
    "last-tensor-only",
    "only the last tensor counts",
    "Each tensor overwrites the sum of those before it.",
)
def _(grads):
    return np.linalg.norm(list(grads.values())[-1])


@global_norm.mistake(
    "vectors-ignored",
    "the biases do not count",
    "The global norm runs over every parameter, biases too.",
)
def _(grads):
    return np.sqrt(sum((g**2).sum() for g in grads.values() if g.ndim > 1))


@global_norm.mistake(
    "sum-of-entries",
    "the entries are summed without being squared",
    "Entries of opposite sign cancel in your version.",
)
def _(grads):
    return abs(sum(g.sum() for g in grads.values()))


@global_norm.form("sum-of-entries")
def _(grads):
    return sum(g.sum() for g in grads.values())


@global_norm.variant("one long vector")
def _(grads):
    return np.linalg.norm(np.concatenate([np.ravel(g) for g in grads.values()]))


@global_norm.variant("norm of norms")
def _(grads):
    return np.linalg.norm([np.linalg.norm(grads[name]) for name in grads])


@global_norm.variant("hypot")
def _(grads):
    norm = 0.0
    for g in grads.values():
        for entry in g.flat:
            norm = np.hypot(norm, entry)
    return norm


@global_norm.variant("vdot")
def _(grads):
    return sum(np.vdot(g, g) for _, g in grads.items()) ** 0.5


@global_norm.variant("python floats")
def _(grads):
    return sum(float(e) * float(e) for g in grads.values() for e in g.ravel()) ** 0.5


@global_norm.variant("torch inside")
def _(grads):
    import torch

    return torch.stack([torch.tensor(g).norm() for g in grads.values()]).norm().item()


def _limit_cases(rng, s):
    yield Case((_grads(rng, s, 0.5), 2.0), "the norm is below the limit")
    yield Case((_grads(rng, s, 1.0), 0.9), "just above the limit")
    yield Case((_grads(rng, s, 1.0), 1.1), "just below the limit")
    four = {name: normal(rng, 3) for name in "abcd"}
    four = {name: 0.8 * g / np.linalg.norm(g) for name, g in four.items()}
    yield Case((four, 1.0), "each tensor is below the limit, all together are above it")
    yield Case((_grads(rng, s, 40.0), 0.25), "far above the limit")
    yield Case(({"W": np.zeros((2, 3)), "b": np.zeros(2)}, 1.0), "all gradients are zero")


clip_by_global_norm = Exercise(
    name="clip_by_global_norm",
    reference=clipping.clip_by_global_norm,
    section=WAYS,
    axes={"grads": "", "max_norm": ""},
    returns=("clipped", "norm"),
    sizes=ONE,
    draw=lambda rng, s: (_grads(rng, s, 7.0), 3.0),
    special=_limit_cases,
)


def _scaled(grads, factor):
    return {name: g * factor for name, g in grads.items()}


@clip_by_global_norm.mistake(
    "per-tensor",
    "each tensor is clipped by its own norm",
    "The tensors change their sizes relative to each other, so the direction turns, and together "
    "they can still exceed the limit. One factor for all.",
)
def _(grads, max_norm):
    return clipping.clip_per_tensor(grads, max_norm), clipping.global_norm(grads)


@clip_by_global_norm.mistake(
    "scaled-up-below-the-limit",
    "gradients below the limit are scaled up to it",
    "Clipping is a ceiling. What should happen to a gradient that already fits under it?",
)
def _(grads, max_norm):
    norm = clipping.global_norm(grads)
    return _scaled(grads, max_norm / norm if norm else 1.0), norm


@clip_by_global_norm.form("scaled-up-below-the-limit")
def _(grads, max_norm):
    norm = clipping.global_norm(grads)
    return _scaled(grads, np.divide(max_norm, norm)), norm


@clip_by_global_norm.mistake(
    "norm-after-clipping",
    "the norm is measured after clipping",
    "Your norm never exceeds the limit, so a log of it never shows that clipping was at work. "
    "Measure before.",
    section=LOOP,
)
def _(grads, max_norm):
    clipped, _ = clipping.clip_by_global_norm(grads, max_norm)
    return clipped, clipping.global_norm(clipped)


@clip_by_global_norm.mistake(
    "by-value",
    "the entries are clipped, not the norm",
    "Clipping entry by entry turns the direction and limits the wrong thing.",
)
def _(grads, max_norm):
    return clipping.clip_by_value(grads, max_norm), clipping.global_norm(grads)


@clip_by_global_norm.mistake(
    "not-divided-by-norm",
    "gradients above the limit are multiplied by the limit",
    "What is the norm of your result? Which factor turns the old norm into the limit?",
)
def _(grads, max_norm):
    norm = clipping.global_norm(grads)
    return _scaled(grads, max_norm if norm > max_norm else 1.0), norm


@clip_by_global_norm.mistake(
    "factor-inverted",
    "the factor is norm/limit, so large gradients grow",
    "Your result is longer than what went in. Turn the fraction round.",
)
def _(grads, max_norm):
    norm = clipping.global_norm(grads)
    return _scaled(grads, max(1.0, norm / max_norm)), norm


@clip_by_global_norm.mistake(
    "unit-norm",
    "gradients above the limit are scaled to norm 1, not to the limit",
    "Your division by the norm gives a direction. How long is it to be?",
)
def _(grads, max_norm):
    norm = clipping.global_norm(grads)
    return _scaled(grads, 1 / norm if norm > max_norm else 1.0), norm


@clip_by_global_norm.mistake(
    "max-for-min",
    "the larger of 1 and limit/norm is taken",
    "Large gradients pass and small ones grow: exactly the wrong way round.",
)
def _(grads, max_norm):
    norm = clipping.global_norm(grads)
    return _scaled(grads, max(1.0, max_norm / norm) if norm else 1.0), norm


@clip_by_global_norm.mistake(
    "nothing-clipped",
    "the gradients come back as they went in",
    "You compute the norm and do not use it. The norm of the result must not exceed the limit.",
)
def _(grads, max_norm):
    return dict(grads), clipping.global_norm(grads)


@clip_by_global_norm.mistake(
    "zero-gradient",
    "a zero gradient gives NaN",
    "0/0 is not a number, and one NaN ruins all parameters. What is to be done when the norm is 0?",
)
def _(grads, max_norm):
    norm = clipping.global_norm(grads)
    return _scaled(grads, np.minimum(1.0, np.float64(max_norm) / norm) if norm else np.nan), norm


@clip_by_global_norm.mistake(
    "caller-overwritten",
    "the caller's gradients are changed in place",
    "The numbers are right, but the caller has lost the raw gradients. `*=` writes into the "
    "caller's arrays.",
)
def _(grads, max_norm):
    clipped, norm = clipping.clip_by_global_norm(grads, max_norm)
    for name in grads:
        grads[name][...] = clipped[name]
    return grads, norm


@clip_by_global_norm.form("caller-overwritten")
def _(grads, max_norm):
    clipped, norm = clipping.clip_by_global_norm(grads, max_norm)
    grads.update(clipped)
    return grads, norm


@clip_by_global_norm.mistake(
    "outputs-exchanged",
    "norm and gradients are returned in the wrong order",
    "Compare your `return` with the docstring.",
)
def _(grads, max_norm):
    clipped, norm = clipping.clip_by_global_norm(grads, max_norm)
    return norm, clipped


@clip_by_global_norm.mistake(
    "norm-not-returned",
    "only the gradients are returned",
    "The norm before clipping is the number to log: it tells how often the limit is at work.",
    section=LOOP,
)
def _(grads, max_norm):
    return clipping.clip_by_global_norm(grads, max_norm)[0]


@clip_by_global_norm.mistake(
    "root-missing",
    "the square root of the norm is missing",
    "You compare a sum of squares with a length.",
)
def _(grads, max_norm):
    square = clipping.global_norm(grads) ** 2
    return _scaled(grads, min(1.0, max_norm / square) if square else 1.0), square


@clip_by_global_norm.mistake(
    "sum-of-norms",
    "the global norm is taken as the sum of the norms",
    "Norms do not add; their squares do.",
)
def _(grads, max_norm):
    norm = sum(np.linalg.norm(g) for g in grads.values())
    return _scaled(grads, min(1.0, max_norm / norm) if norm else 1.0), norm


@clip_by_global_norm.mistake(
    "limit-subtracted",
    "the excess is subtracted from every entry",
    "The factor must be the same for all entries, so that the direction stays.",
)
def _(grads, max_norm):
    norm = clipping.global_norm(grads)
    excess = max(0.0, norm - max_norm)
    return {name: g - excess for name, g in grads.items()}, norm


@clip_by_global_norm.variant("if and else")
def _(grads, max_norm):
    norm = float(np.linalg.norm(np.concatenate([g.ravel() for g in grads.values()])))
    if norm <= max_norm:
        return grads, norm
    return {k: v / norm * max_norm for k, v in grads.items()}, norm


@clip_by_global_norm.variant("torch's small constant")
def _(grads, max_norm):
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in grads.values()))
    factor = np.clip(max_norm / (norm + 1e-6), None, 1.0)
    return dict(zip(grads, (g * factor for g in grads.values()), strict=True)), norm


@clip_by_global_norm.variant("divided by the larger")
def _(grads, max_norm):
    norm = np.linalg.norm([np.linalg.norm(g) for g in grads.values()])
    out = {}
    for name in reversed(list(grads)):
        out[name] = np.divide(grads[name], max(1, norm / max_norm))
    return [out, norm]


@clip_by_global_norm.variant("copies scaled in place")
def _(grads, max_norm):
    total = 0.0
    for g in grads.values():
        total += np.vdot(g, g)
    norm, clipped = total**0.5, {}
    for name, g in grads.items():
        clipped[name] = g.copy()
        if norm > max_norm:
            clipped[name] *= max_norm / norm
    return clipped, norm


@clip_by_global_norm.variant("torch inside")
def _(grads, max_norm):
    import torch

    parameters = {name: torch.nn.Parameter(torch.tensor(g)) for name, g in grads.items()}
    for name, p in parameters.items():
        p.grad = torch.tensor(grads[name])
    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), max_norm)
    return {name: p.grad.numpy() for name, p in parameters.items()}, norm.item()


def _value_cases(rng, s):
    yield Case(({"W": np.array([[-3.0, 0.5], [2.0, -0.2]]), "b": np.array([0.9, -4.0])}, 1.0))
    yield Case((_grads(rng, s, 0.2), 1.0), "no entry reaches the limit")
    yield Case((_grads(rng, s, 300.0), 0.05), "almost every entry exceeds the limit")
    mixed = {"W": np.array([2.0, -0.5, -2.5]), "b": np.array([0.1, -0.4])}
    yield Case((mixed, 1.5), "one tensor exceeds the limit, the other does not")


clip_by_value = Exercise(
    name="clip_by_value",
    reference=clipping.clip_by_value,
    section=WAYS,
    axes={"grads": "", "limit": ""},
    returns=("clipped",),
    sizes=ONE,
    draw=lambda rng, s: (_grads(rng, s, 7.0), 0.8),
    special=_value_cases,
)


@clip_by_value.mistake(
    "only-from-above",
    "large negative entries pass",
    "The limit holds for the size of an entry, whatever its sign.",
)
def _(grads, limit):
    return {name: np.minimum(g, limit) for name, g in grads.items()}


@clip_by_value.mistake(
    "only-from-below",
    "large positive entries pass",
    "The limit holds for the size of an entry, whatever its sign.",
)
def _(grads, limit):
    return {name: np.maximum(g, -limit) for name, g in grads.items()}


@clip_by_value.mistake(
    "lower-bound-zero",
    "negative entries become 0",
    "Half of your gradient is gone. The interval is symmetric around 0.",
)
def _(grads, limit):
    return {name: np.clip(g, 0, limit) for name, g in grads.items()}


@clip_by_value.mistake(
    "sign-lost",
    "the sign of the entries is lost",
    "All your entries are positive: the update would move every parameter the same way.",
)
def _(grads, limit):
    return {name: np.minimum(np.abs(g), limit) for name, g in grads.items()}


@clip_by_value.mistake(
    "by-global-norm",
    "all gradients are scaled by one factor: that is clipping by global norm",
    "Here each entry is clipped on its own, and the direction may turn.",
)
def _(grads, limit):
    return clipping.clip_by_global_norm(grads, limit)[0]


@clip_by_value.mistake(
    "per-tensor-norm",
    "each tensor is scaled to a norm below the limit",
    "Here each entry is clipped on its own; entries within the limit stay as they are.",
)
def _(grads, limit):
    return clipping.clip_per_tensor(grads, limit)


@clip_by_value.mistake(
    "scaled-by-largest-entry",
    "a tensor is scaled until its largest entry fits",
    "Entries within the limit change in your version. Clip entry by entry.",
)
def _(grads, limit):
    return {name: g * min(1.0, limit / np.abs(g).max()) for name, g in grads.items()}


@clip_by_value.form("scaled-by-largest-entry")
def _(grads, limit):
    top = max(np.abs(g).max() for g in grads.values())
    return {name: g * min(1.0, limit / top) for name, g in grads.items()}


@clip_by_value.mistake(
    "large-entries-zeroed",
    "entries beyond the limit become 0",
    "Just where the slope is steepest, your update does not move. Clip to the limit.",
)
def _(grads, limit):
    return {name: np.where(np.abs(g) > limit, 0.0, g) for name, g in grads.items()}


@clip_by_value.mistake(
    "all-entries-at-limit",
    "every entry becomes plus or minus the limit",
    "Small entries grow in your version. Clipping is a ceiling.",
)
def _(grads, limit):
    return {name: limit * np.sign(g) for name, g in grads.items()}


@clip_by_value.mistake(
    "large-entries-positive",
    "large negative entries become +limit",
    "An entry of -5 should become -limit: keep the sign.",
)
def _(grads, limit):
    return {name: np.where(np.abs(g) > limit, limit, g) for name, g in grads.items()}


@clip_by_value.mistake(
    "tanh-for-clip",
    "the entries are squashed by a tanh",
    "Entries within the limit must not change.",
)
def _(grads, limit):
    return {name: limit * np.tanh(g / limit) for name, g in grads.items()}


@clip_by_value.mistake(
    "limit-one",
    "the limit is always 1",
    "Your function does not use its second argument.",
)
def _(grads, limit):
    return clipping.clip_by_value(grads, 1.0)


@clip_by_value.mistake(
    "caller-overwritten",
    "the caller's gradients are changed in place",
    "The numbers are right, but the caller has lost the raw gradients.",
)
def _(grads, limit):
    for g in grads.values():
        np.clip(g, -limit, limit, out=g)
    return grads


@clip_by_value.form("caller-overwritten")
def _(grads, limit):
    for name in grads:
        grads[name] = np.clip(grads[name], -limit, limit)
    return grads


@clip_by_value.mistake(
    "keys-lost",
    "a list of arrays is returned, not a dict",
    "The update needs the names to find the parameter of each gradient.",
)
def _(grads, limit):
    return [np.clip(g, -limit, limit) for g in grads.values()]


@clip_by_value.variant("minimum and maximum")
def _(grads, limit):
    return {name: np.maximum(-limit, np.minimum(g, limit)) for name, g in grads.items()}


@clip_by_value.variant("sign and size")
def _(grads, limit):
    return {name: np.sign(g) * np.fmin(np.abs(g), limit) for name, g in grads.items()}


@clip_by_value.variant("where")
def _(grads, limit):
    out = {}
    for name, g in grads.items():
        out[name] = np.where(g > limit, limit, np.where(g < -limit, -limit, g))
    return out


@clip_by_value.variant("boolean index on a copy")
def _(grads, limit):
    out = {name: np.array(g) for name, g in grads.items()}
    for g in out.values():
        g[g > limit] = limit
        g[g < -limit] = -limit
    return out


@clip_by_value.variant("python loop")
def _(grads, limit):
    def clip(g):
        return [clip(e) for e in g] if np.ndim(g) else min(max(float(g), -limit), limit)

    return {name: np.array(clip(g)) for name, g in grads.items()}


@clip_by_value.variant("torch inside")
def _(grads, limit):
    import torch

    return {name: torch.tensor(g).clamp(-limit, limit).numpy() for name, g in grads.items()}


def _two(rng, s):
    a = _grads(rng, s)
    noise = _grads(rng, s)
    return a, {name: 0.7 * a[name] + noise[name] for name in a}


def _cosine_cases(rng, s):
    a, b = _two(rng, s)
    yield Case((a, {name: -3 * g for name, g in a.items()}), "opposite directions")
    yield Case((a, {name: 1e-4 * g for name, g in b.items()}), "very different norms")
    yield Case(({"w": np.array([1.0, 0.0])}, {"w": np.array([0.0, 2.0])}), "a right angle")
    yield Case((b, {name: a[name] for name in reversed(a)}), "keys in another order")


cosine = Exercise(
    name="cosine",
    reference=clipping.cosine,
    section=WAYS,
    axes={"a": "", "b": ""},
    returns=("cosine",),
    sizes=ONE,
    draw=_two,
    special=_cosine_cases,
)


def _dot(a, b):
    return sum(np.vdot(a[name], b[name]) for name in a)


def _length(a):
    return np.sqrt(_dot(a, a))


@cosine.mistake(
    "mean-over-tensors",
    "the cosines of the tensors are averaged",
    "A tiny bias counts as much as the largest matrix in your version. See each gradient as one "
    "long vector.",
)
def _(a, b):
    each = [_dot({n: a[n]}, {n: b[n]}) / _length({n: a[n]}) / _length({n: b[n]}) for n in a]
    return np.mean(each)


@cosine.mistake(
    "sum-over-tensors",
    "the cosines of the tensors are added",
    "Your cosine can exceed 1. See each gradient as one long vector.",
)
def _(a, b):
    return sum(_dot({n: a[n]}, {n: b[n]}) / _length({n: a[n]}) / _length({n: b[n]}) for n in a)


@cosine.mistake(
    "not-normalised",
    "the dot product is not divided by the norms",
    "Double one gradient: the angle stays, your answer does not.",
)
def _(a, b):
    return _dot(a, b)


@cosine.mistake(
    "one-norm-missing",
    "the dot product is divided by one norm only",
    "Double the other gradient: the angle stays, your answer does not.",
)
def _(a, b):
    return _dot(a, b) / _length(a)


@cosine.form("one-norm-missing")
def _(a, b):
    return _dot(a, b) / _length(b)


@cosine.mistake(
    "root-missing",
    "the norms are not rooted",
    "You divide by squared norms. Which power of the length does the dot product have?",
)
def _(a, b):
    return _dot(a, b) / (_dot(a, a) * _dot(b, b))


@cosine.mistake(
    "divided-by-one-square",
    "the dot product is divided by the square of one norm",
    "Exchange the two gradients: your answer changes, the angle does not.",
)
def _(a, b):
    return _dot(a, b) / _dot(a, a)


@cosine.form("divided-by-one-square")
def _(a, b):
    return _dot(a, b) / _dot(b, b)


@cosine.mistake(
    "sign-lost",
    "the absolute value is taken",
    "Opposite directions have the cosine -1, not 1.",
)
def _(a, b):
    return abs(clipping.cosine(a, b))


@cosine.mistake(
    "angle",
    "the angle is returned, not its cosine",
    "The same direction should give 1.",
)
def _(a, b):
    return np.arccos(np.clip(clipping.cosine(a, b), -1, 1))


@cosine.form("angle")
def _(a, b):
    return np.degrees(np.arccos(np.clip(clipping.cosine(a, b), -1, 1)))


@cosine.mistake(
    "distance",
    "one minus the cosine is returned",
    "The same direction should give 1, not 0.",
)
def _(a, b):
    return 1 - clipping.cosine(a, b)


@cosine.mistake(
    "matched-by-position",
    "the tensors are matched by their position, not by their name",
    "A dict may list the same keys in another order. Look each gradient up by name.",
)
def _(a, b):
    dot = 0.0
    for u, v in zip(a.values(), b.values(), strict=True):
        if u.shape != v.shape:
            raise ValueError("operands could not be broadcast together")
        dot += np.vdot(u, v)
    return dot / _length(a) / _length(b)


@cosine.form("matched-by-position")
def _(a, b):
    flat_a = np.concatenate([g.ravel() for g in a.values()])
    flat_b = np.concatenate([g.ravel() for g in b.values()])
    return flat_a @ flat_b / np.linalg.norm(flat_a) / np.linalg.norm(flat_b)


@cosine.mistake(
    "first-tensor-only",
    "only the first tensor counts",
    "Look at where your `return` stands: does the loop end before it?",
)
def _(a, b):
    n = next(iter(a))
    return _dot({n: a[n]}, {n: b[n]}) / _length({n: a[n]}) / _length({n: b[n]})


@cosine.mistake(
    "norms-added",
    "the norms are added, not multiplied",
    "cos = a·b / (‖a‖ ‖b‖): a product stands below.",
)
def _(a, b):
    return _dot(a, b) / (_length(a) + _length(b))


@cosine.variant("one long vector by name")
def _(a, b):
    u = np.hstack([a[k].ravel() for k in sorted(a)])
    v = np.hstack([b[k].ravel() for k in sorted(a)])
    return u.dot(v) / (np.linalg.norm(u) * np.linalg.norm(v))


@cosine.variant("unit vectors")
def _(a, b):
    return float(sum((a[k] / _length(a) * (b[k] / _length(b))).sum() for k in a))


@cosine.variant("from the distance")
def _(a, b):
    u = {k: a[k] / _length(a) for k in a}
    v = {k: b[k] / _length(b) for k in b}
    return 1 - sum(((u[k] - v[k]) ** 2).sum() for k in u) / 2


@cosine.variant("loop over entries")
def _(a, b):
    ab = aa = bb = 0.0
    for name in a:
        for p, q in zip(a[name].flat, b[name].flat, strict=True):
            ab, aa, bb = ab + p * q, aa + p * p, bb + q * q
    return ab / (aa**0.5 * bb**0.5)


@cosine.variant("torch inside")
def _(a, b):
    import torch

    u = torch.cat([torch.tensor(a[k]).flatten() for k in a])
    v = torch.cat([torch.tensor(b[k]).flatten() for k in a])
    return torch.nn.functional.cosine_similarity(u, v, dim=0, eps=1e-30).item()


def _update_cases(rng, s):
    params = _grads(rng, s)
    yield Case((params, _grads(rng, s, 0.5), 0.1, 2.0), "the norm is below the limit")
    yield Case((params, _grads(rng, s, 40.0), 0.01, 0.25), "far above the limit")
    yield Case((params, _grads(rng, s, 3.0), 0.5, 1.0), "a large learning rate")
    yield Case((params, _grads(rng, s, 3.0), 2.5, 1.0), "a learning rate above 1")
    grads = _grads(rng, s, 5.0)
    turned = {name: grads[name] for name in reversed(grads)}
    yield Case((params, turned, 0.2, 1.5), "keys in another order")
    square = {name: normal(rng, 3, 3) for name in "UVW"}
    grads = {name: normal(rng, 3, 3) for name in "WVU"}
    yield Case((square, grads, 0.2, 1.0), "keys in another order, all of one shape")
    yield Case((square, {name: np.zeros((3, 3)) for name in "UVW"}, 0.2, 1.0), "no gradient")


sgd_step = Exercise(
    name="sgd_step",
    reference=clipping.sgd_step,
    section=LOOP,
    axes={"params": "", "grads": "", "lr": "", "max_norm": ""},
    returns=("params",),
    sizes=ONE,
    draw=lambda rng, s: (_grads(rng, s), _grads(rng, s, 7.0), 0.1, 3.0),
    special=_update_cases,
)


def _moved(params, step):
    return {name: p - step[name] for name, p in params.items()}


@sgd_step.mistake(
    "not-clipped",
    "the gradients are not clipped",
    "Above the limit your step is as long as the raw gradient. Where does `max_norm` enter?",
)
def _(params, grads, lr, max_norm):
    return _moved(params, _scaled(grads, lr))


@sgd_step.mistake(
    "uphill",
    "the gradient is added",
    "The gradient points uphill. Which way lies a smaller loss?",
)
def _(params, grads, lr, max_norm):
    clipped, _ = clipping.clip_by_global_norm(grads, max_norm)
    return {name: p + lr * clipped[name] for name, p in params.items()}


@sgd_step.mistake(
    "step-clipped",
    "the learning rate is applied first and the product is clipped",
    "The limit then holds for the step, not for the gradient: with a small learning rate it "
    "never acts.",
)
def _(params, grads, lr, max_norm):
    clipped, _ = clipping.clip_by_global_norm(_scaled(grads, lr), max_norm)
    return _moved(params, clipped)


@sgd_step.mistake(
    "parameters-clipped",
    "the new parameters are clipped, not the gradients",
    "Clipping limits how far one step goes, not how large a parameter may be.",
)
def _(params, grads, lr, max_norm):
    moved = _moved(params, _scaled(grads, lr))
    return clipping.clip_by_global_norm(moved, max_norm)[0]


@sgd_step.form("parameters-clipped")
def _(params, grads, lr, max_norm):
    clipped, _ = clipping.clip_by_global_norm(grads, max_norm)
    return clipping.clip_by_global_norm(_moved(params, _scaled(clipped, lr)), max_norm)[0]


@sgd_step.mistake(
    "per-tensor",
    "each tensor is clipped by its own norm",
    "One factor for all tensors keeps the direction; one factor each turns it.",
    section=WAYS,
)
def _(params, grads, lr, max_norm):
    return _moved(params, _scaled(clipping.clip_per_tensor(grads, max_norm), lr))


@sgd_step.mistake(
    "by-value",
    "the entries are clipped, not the norm",
    "Clipping entry by entry turns the direction and limits the wrong thing.",
    section=WAYS,
)
def _(params, grads, lr, max_norm):
    return _moved(params, _scaled(clipping.clip_by_value(grads, max_norm), lr))


@sgd_step.mistake(
    "learning-rate-missing",
    "the learning rate is not used",
    "Your step is as long as the clipped gradient, whatever `lr` is.",
)
def _(params, grads, lr, max_norm):
    return _moved(params, clipping.clip_by_global_norm(grads, max_norm)[0])


@sgd_step.mistake(
    "learning-rate-divides",
    "the gradient is divided by the learning rate",
    "A smaller learning rate should make a smaller step.",
)
def _(params, grads, lr, max_norm):
    return _moved(params, _scaled(clipping.clip_by_global_norm(grads, max_norm)[0], 1 / lr))


@sgd_step.mistake(
    "scaled-up-below-the-limit",
    "gradients below the limit are scaled up to it",
    "Near a minimum the gradient is small, and so should be the step.",
    section=WAYS,
)
def _(params, grads, lr, max_norm):
    norm = clipping.global_norm(grads)
    return _moved(params, _scaled(grads, lr * max_norm / norm if norm else 0.0))


@sgd_step.mistake(
    "step-returned",
    "the step is returned, not the new parameters",
    "The caller replaces its parameters by what you return.",
)
def _(params, grads, lr, max_norm):
    return _scaled(clipping.clip_by_global_norm(grads, max_norm)[0], lr)


@sgd_step.form("step-returned")
def _(params, grads, lr, max_norm):
    return _scaled(clipping.clip_by_global_norm(grads, max_norm)[0], -lr)


@sgd_step.mistake(
    "gradients-returned",
    "the clipped gradients are returned, not the new parameters",
    "The caller replaces its parameters by what you return.",
)
def _(params, grads, lr, max_norm):
    return clipping.clip_by_global_norm(grads, max_norm)[0]


@sgd_step.mistake(
    "parameters-overwritten",
    "the caller's parameters are changed in place",
    "The numbers are right, but the old parameters are gone. `-=` writes into the caller's arrays.",
)
def _(params, grads, lr, max_norm):
    clipped, _ = clipping.clip_by_global_norm(grads, max_norm)
    for name in params:
        params[name] -= lr * clipped[name]
    return params


@sgd_step.form("parameters-overwritten")
def _(params, grads, lr, max_norm):
    params.update(clipping.sgd_step(params, grads, lr, max_norm))
    return params


@sgd_step.mistake(
    "gradients-overwritten",
    "the caller's gradients are changed in place",
    "The numbers are right, but the raw gradients are gone before anybody could log their norm.",
)
def _(params, grads, lr, max_norm):
    clipped, _ = clipping.clip_by_global_norm(grads, max_norm)
    for name in grads:
        grads[name][...] = clipped[name]
    return _moved(params, _scaled(clipped, lr))


@sgd_step.mistake(
    "matched-by-position",
    "parameters and gradients are matched by their position, not by their name",
    "A dict may list the same keys in another order. Look each gradient up by name.",
)
def _(params, grads, lr, max_norm):
    clipped, _ = clipping.clip_by_global_norm(grads, max_norm)
    pairs = zip(params.items(), clipped.values(), strict=True)
    return {name: p - lr * g for (name, p), g in pairs}


@sgd_step.mistake(
    "nothing-moves",
    "the parameters come back unchanged",
    "You compute the new values but do not return them.",
)
def _(params, grads, lr, max_norm):
    return dict(params)


@sgd_step.mistake(
    "zero-gradient",
    "a zero gradient gives NaN",
    "0/0 is not a number, and one NaN ruins all parameters.",
    section=WAYS,
)
def _(params, grads, lr, max_norm):
    norm = clipping.global_norm(grads)
    return _moved(params, _scaled(grads, lr * min(1.0, max_norm / norm) if norm else np.nan))


@sgd_step.variant("one comprehension")
def _(params, grads, lr, max_norm):
    norm = np.sqrt(sum((g * g).sum() for g in grads.values()))
    return {k: params[k] - lr * grads[k] * min(1, max_norm / max(norm, 1e-30)) for k in params}


@sgd_step.variant("copies moved in place")
def _(params, grads, lr, max_norm):
    norm = np.linalg.norm([np.linalg.norm(g) for g in grads.values()])
    rate = lr if norm <= max_norm else lr * max_norm / norm
    new = {}
    for name, g in grads.items():
        new[name] = params[name].copy()
        new[name] -= rate * g
    return new


@sgd_step.variant("flattened")
def _(params, grads, lr, max_norm):
    names = sorted(params)
    p = np.concatenate([params[k].ravel() for k in names])
    g = np.concatenate([grads[k].ravel() for k in names])
    p = p - lr * g / max(1.0, np.linalg.norm(g) / max_norm)
    cuts = np.cumsum([params[k].size for k in names])[:-1]
    parts = zip(names, np.split(p, cuts), strict=True)
    return {k: part.reshape(params[k].shape) for k, part in parts}


@sgd_step.variant("gradients deleted from a copy")
def _(params, grads, lr, max_norm):
    left, new = dict(grads), {}
    norm = sum(float(np.vdot(g, g)) for g in left.values()) ** 0.5
    while left:
        name, g = left.popitem()
        new[name] = np.add(params[name], -lr * (max_norm / norm if norm > max_norm else 1) * g)
    return new


@sgd_step.variant("torch inside")
def _(params, grads, lr, max_norm):
    import torch

    weights = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in params.items()}
    for name, w in weights.items():
        w.grad = torch.tensor(grads[name])
    torch.nn.utils.clip_grad_norm_(weights.values(), max_norm)
    torch.optim.SGD(weights.values(), lr).step()
    return {name: w.detach().numpy() for name, w in weights.items()}
