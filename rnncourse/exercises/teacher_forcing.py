"""Assignment 09: what a decoder reads: gold tokens, its own, or a mixture that changes."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import copy
import math

import numpy as np

from rnncourse import decoding
from rnncourse.exercises.spec import Case, Exercise, normal

MODES = "10-teacher-forcing: Two modes of one network"
SCHEDULED = "10-teacher-forcing: Scheduled sampling"


def _tokens(rng, s):
    """Return tokens from 1 on, no two successive ones equal, and a different `bos`."""
    y = 1 + (np.cumsum(rng.integers(1, 8, (s.T, s.B)), axis=0) + np.arange(s.B)) % 8
    return y, 10 + int(rng.integers(10))


def _shift_cases(rng, s):
    y, bos = _tokens(rng, s)
    yield Case((y[:, 0], bos), "one sequence without a batch axis")
    yield Case((normal(rng, s.T, s.B, s.D), 1.5), "the targets are vectors")
    yield Case((y, 0), "bos is 0")
    yield Case((y, -1), "bos is -1")
    yield Case((np.repeat(y, 2, axis=0)[: s.T], bos), "some tokens occur twice in a row")


shift_right = Exercise(
    name="shift_right",
    reference=decoding.shift_right,
    section=MODES,
    axes={"y": "T B", "bos": ""},
    returns=("inputs: T B",),
    draw=_tokens,
    special=_shift_cases,
)


@shift_right.mistake(
    "not-shifted",
    "the inputs are the targets themselves",
    "At step t the decoder would read the very token that it has to predict, and the loss falls to "
    "0 by copying. Which token is known before step t?",
)
def _(y, bos):
    return y.copy()


@shift_right.mistake(
    "shifted-left",
    "the sequence is shifted to the left",
    "At step t your decoder reads `y[t + 1]`, a token from the future. Inputs lag behind targets.",
)
def _(y, bos):
    return np.concatenate([y[1:], np.full_like(y[:1], bos)])


@shift_right.form("shifted-left")
def _(y, bos):
    return np.roll(y, -1, axis=0)


@shift_right.form("shifted-left")
def _(y, bos):
    return np.concatenate([y[1:], y[-1:]])


@shift_right.mistake(
    "last-comes-first",
    "the last target stands where `bos` should",
    "`np.roll` moves the end to the front: the first input gives away the last target. Nothing "
    "is known before the first step but `bos`.",
)
def _(y, bos):
    return np.roll(y, 1, axis=0)


@shift_right.mistake(
    "one-step-too-long",
    "`bos` is put in front and nothing is left out",
    "T targets need T inputs. Which target is never an input, since nothing comes after it?",
)
def _(y, bos):
    return np.concatenate([np.full_like(y[:1], bos), y])


@shift_right.mistake(
    "first-replaced",
    "the first target is replaced by `bos`, and nothing is shifted",
    "From step 1 on your decoder reads the token that it has to predict. `bos` is added in front; "
    "the first target moves to step 1.",
)
def _(y, bos):
    return np.concatenate([np.full_like(y[:1], bos), y[1:]])


@shift_right.mistake(
    "one-step-too-short",
    "only the last target is left out, and there is no `bos`",
    "T targets need T inputs. What does the decoder read at step 0?",
)
def _(y, bos):
    return y[:-1].copy()


@shift_right.mistake(
    "bos-at-the-end",
    "the last target is replaced by `bos`, at the end",
    "`bos` marks the *beginning* of a sequence.",
)
def _(y, bos):
    return np.concatenate([y[:-1], np.full_like(y[:1], bos)])


@shift_right.mistake(
    "batch-axis",
    "the batch axis is shifted instead of time",
    "Axis 0 is time. In your version a sequence reads its neighbour.",
)
def _(y, bos):
    axis = min(1, y.ndim - 1)
    x = np.roll(y, 1, axis=axis)
    x[(slice(None),) * axis + (0,)] = bos
    return x


@shift_right.mistake(
    "flattened",
    "the array is shifted by one entry in memory, not by one step",
    "One step holds the tokens of all B sequences. In your version a sequence reads its neighbour.",
)
def _(y, bos):
    return np.concatenate([[np.asarray(bos, y.dtype)], y.ravel()[:-1]]).reshape(y.shape)


@shift_right.mistake(
    "bos-ignored",
    "the first input is always 0",
    "The begin sign has an index of its own: use `bos`.",
)
def _(y, bos):
    return np.concatenate([np.zeros_like(y[:1]), y[:-1]])


@shift_right.mistake(
    "first-repeated",
    "the first target stands where `bos` should",
    "The first input tells the first target. Nothing is known before the first step but `bos`.",
)
def _(y, bos):
    return np.concatenate([y[:1], y[:-1]])


@shift_right.mistake(
    "two-steps",
    "the sequence is shifted by two steps",
    "To predict `y[t]` the decoder reads `y[t - 1]`.",
)
def _(y, bos):
    return np.concatenate([np.full_like(y[:2], bos), y[:-2]])[: len(y)]


@shift_right.mistake(
    "bos-everywhere",
    "`bos` is copied from step to step",
    "A loop that reads what it has just written copies the first entry to all others. Read from "
    "`y`.",
)
def _(y, bos):
    return np.full_like(y, bos)


@shift_right.mistake(
    "tokens-become-floats",
    "tokens come back as floating-point numbers",
    "`np.zeros` and `np.full` make floats unless told otherwise, and floats cannot index an "
    "embedding. The inputs have the dtype of `y`.",
)
def _(y, bos):
    return np.concatenate([np.full(y[:1].shape, float(bos)), y[:-1]])


@shift_right.mistake(
    "y-overwritten",
    "the caller's targets are shifted in place",
    "The result is right, but the loss needs the targets as they were. Return a new array.",
)
def _(y, bos):
    y[1:] = y[:-1].copy()
    y[0] = bos
    return y


@shift_right.variant("preallocated")
def _(y, bos):
    x = np.empty_like(y)
    x[0] = bos
    x[1:] = y[:-1]
    return x


@shift_right.variant("roll, then bos")
def _(y, bos):
    x = np.roll(y, 1, axis=0)
    x[0] = bos
    return x


@shift_right.variant("np.pad")
def _(y, bos):
    widths = [(1, 0)] + [(0, 0)] * (y.ndim - 1)
    return np.pad(y, widths, constant_values=bos)[:-1]


@shift_right.variant("index with a sentinel")
def _(y, bos):
    t = np.arange(len(y)).reshape(-1, *[1] * (y.ndim - 1))
    return np.where(t == 0, np.array(bos, dtype=y.dtype), y[np.arange(len(y)) - 1])


@shift_right.variant("list")
def _(y, bos):
    steps = [np.broadcast_to(np.asarray(bos, y.dtype), y.shape[1:]), *y]
    steps.pop()
    return steps


@shift_right.variant("torch inside")
def _(y, bos):
    import torch

    y = torch.tensor(np.array(y))
    return torch.cat([torch.full_like(y[:1], bos), y[:-1]]).numpy()


def _mixture(rng, eps, shape=None, real=False):
    """Return arguments whose entries tell where they come from."""
    shape = (50 + int(rng.integers(10)), 60 + int(rng.integers(10))) if shape is None else shape
    gold = rng.permutation(math.prod(shape)).reshape(shape)
    predicted = 100_000 + rng.permutation(math.prod(shape)).reshape(shape)
    if real:
        gold, predicted = gold + 0.25, predicted + 0.25
    return gold, predicted, eps, np.random.default_rng(rng.integers(2**63))


def _mix_cases(rng, s):
    yield Case(_mixture(rng, 0.22 + 0.04 * rng.random()), "eps is small")
    yield Case(_mixture(rng, 1.0), "eps = 1")
    yield Case(_mixture(rng, 0.0), "eps = 0")
    yield Case(_mixture(rng, 0.9, (2500,)), "one step of a large batch")
    yield Case(_mixture(rng, 0.35, real=True), "the inputs are real numbers")
    yield Case(_mixture(rng, 0.5, (2, 4)), "a small batch, mixed many times")


def _mix_calls(f, gold, predicted, eps, rng):
    """Call twice with one state of the generator, then with others: many times if it is cheap."""
    others = copy.deepcopy(rng).integers(2**63, size=20 if gold.size < 50 else 1)
    generators = [rng, rng, *map(np.random.default_rng, others)]
    return [f(gold, predicted, eps, r) for r in generators]


def _verify_mixture(result, gold, predicted, eps, rng):
    results = [np.asarray(a) for a in result]
    for a in results:
        if a.shape != gold.shape:
            return f"inputs has shape {a.shape}, expected {gold.shape}."
        if a.dtype.kind not in "iu" and gold.dtype.kind in "iu":
            return f"inputs has dtype {a.dtype}, but tokens are integers."
        strange = ~(np.isclose(a, gold, rtol=1e-6) | np.isclose(a, predicted, rtol=1e-6))
        if strange.any():
            return (
                f"{np.count_nonzero(strange)} of {a.size} entries are neither the gold nor the "
                "predicted one of their position."
            )
    first, again, *others = results
    from_gold = np.isclose([first, *others], gold, rtol=1e-6)
    share, tolerance = from_gold.mean(), 6 * np.sqrt(eps * (1 - eps) / from_gold.size)
    if abs(share - eps) > tolerance:
        return f"{share:.0%} of the entries are gold where {eps:.0%} should be."
    if 0 < eps < 1:
        for axis, words in ((1, "sequence"), (2, "step")):
            if gold.ndim == 2 and gold.size > 50 and _constant(from_gold, axis) > 0.3:
                return f"All entries of one {words} come from the same source."
        if not np.array_equal(first, again):
            return "Two calls with the same state of `rng` give different results."
        if all(np.array_equal(first, a) for a in others):
            return "Calls with different generators give the same result."
        if gold.size < 50 and _constant(from_gold.reshape(len(from_gold), -1), 1) > 0.5:
            return "All entries of one call come from the same source."
        if gold.size < 50 and _same_count(from_gold):
            return "Every call takes the same number of gold entries: the coins are no coins."
        if gold.size > 50 and abs(_agreement(from_gold) - eps**2 - (1 - eps) ** 2) > 0.1:
            return "Neighbouring entries do not choose their source independently."
    return None


def _constant(from_gold, axis):
    """Return the share of columns or rows that have one source only."""
    return float(np.mean(from_gold.all(axis=axis) | (~from_gold).all(axis=axis)))


def _same_count(from_gold):
    """Say whether all calls have the same number of gold entries."""
    return len({int(call.sum()) for call in from_gold}) == 1


def _agreement(from_gold):
    """Return the share of neighbours, along the last axis, that have the same source."""
    return float(np.mean(from_gold[..., 1:] == from_gold[..., :-1]))


def _mixture_fingerprint(result, gold, predicted, eps, rng):
    results = [np.asarray(a) for a in result]
    first, again, *others = results
    if first.shape != gold.shape:
        return np.array([-1.0, first.ndim])
    small = gold.size < 50
    used = np.stack([first, *others])
    is_gold = np.isclose(used, gold, rtol=1e-6)
    is_predicted = np.isclose(used, predicted, rtol=1e-6)
    one_source = np.all(
        is_gold.reshape(len(used), -1).all(1) | is_predicted.reshape(len(used), -1).all(1)
    )
    if one_source and not small and 0 < eps < 1:
        return np.array([1.0])  # which of the two it is may be luck
    shares = [abs(is_gold.mean() - p) < 0.05 for p in (eps, 1 - eps, 0.5)]
    patterns = [_constant(is_gold, axis) > 0.3 for axis in (1, 2)] if first.ndim == 2 else [0, 0]
    flags = is_gold[0].reshape(len(first), -1)[:, 0]
    falls = np.all(np.diff(flags.astype(int)) <= 0)
    details = [*shares, *patterns, falls, np.array_equal(first, again)]
    return np.array(
        [
            one_source,
            is_gold.any(),
            is_predicted.any(),
            (is_gold | is_predicted).all(),
            (np.isin(used, gold) | np.isin(used, predicted)).all(),
            ((used > gold) & (used < predicted)).all(),
            used.dtype.kind in "iu",
            all(np.array_equal(first, a) for a in others),
            *([not one_source and _same_count(is_gold)] if small else details),
        ],
        dtype=float,
    )


mix_inputs = Exercise(
    name="mix_inputs",
    reference=decoding.mix_inputs,
    section=SCHEDULED,
    axes={"gold": "T B", "predicted": "T B", "eps": "", "rng": ""},
    returns=("inputs: T B",),
    draw=lambda rng, s: _mixture(rng, 0.6 + 0.04 * rng.random()),
    special=_mix_cases,
    sizes=({},),
    call=_mix_calls,
    verify=_verify_mixture,
    fingerprint=_mixture_fingerprint,
)


@mix_inputs.mistake(
    "probabilities-exchanged",
    "`eps` is taken for the probability of the predicted entry",
    "At `eps = 1` everything should be gold: that is teacher forcing.",
)
def _(gold, predicted, eps, rng):
    return np.where(rng.random(gold.shape) < eps, predicted, gold)


@mix_inputs.mistake(
    "coin-per-sequence",
    "one coin is thrown per sequence",
    "Some of your sequences are forced from end to end and the others run free: no network ever "
    "has to recover from a single slip. How many coins does an array of this shape need?",
)
def _(gold, predicted, eps, rng):
    return np.where(rng.random(gold.shape[-1]) < eps, gold, predicted)


@mix_inputs.mistake(
    "coin-per-step",
    "one coin is thrown per time step, for the whole batch",
    "At each step all your sequences read from the same source. How many coins does an array of "
    "this shape need?",
)
def _(gold, predicted, eps, rng):
    coins = rng.random((len(gold), *[1] * (gold.ndim - 1)))
    return np.where(coins < eps, gold, predicted)


@mix_inputs.mistake(
    "one-coin",
    "one coin is thrown for everything",
    "Each call of yours is either all gold or all predicted. Throw one coin for every entry.",
)
def _(gold, predicted, eps, rng):
    return gold.copy() if rng.random() < eps else predicted.copy()


@mix_inputs.form("one-coin")
def _(gold, predicted, eps, rng):
    return predicted.copy() if rng.random() >= eps else gold.copy()


@mix_inputs.mistake(
    "fixed-share",
    "exactly the share `eps` is gold, at random places",
    "Of eight entries with `eps = 0.5`, four are gold in every call of yours. How often would "
    "eight independent coins do that?",
)
def _(gold, predicted, eps, rng):
    is_gold = np.arange(gold.size) < round(eps * gold.size)
    return np.where(rng.permutation(is_gold).reshape(gold.shape), gold, predicted)


@mix_inputs.mistake(
    "fair-coin",
    "the coin is fair whatever `eps` is",
    "`eps` sets how often the gold entry is read, and it changes during training.",
)
def _(gold, predicted, eps, rng):
    return np.where(rng.random(gold.shape) < 0.5, gold, predicted)


@mix_inputs.form("fair-coin")
def _(gold, predicted, eps, rng):
    return np.where(rng.integers(0, 2, gold.shape) == 1, gold, predicted)


@mix_inputs.mistake(
    "blended",
    "gold and predicted entries are averaged",
    "A weighted mean of two tokens is no token. Choose one of the two at each position.",
)
def _(gold, predicted, eps, rng):
    return eps * gold + (1 - eps) * predicted


@mix_inputs.form("blended")
def _(gold, predicted, eps, rng):
    mixed = eps * gold + (1 - eps) * predicted
    return mixed.astype(gold.dtype) if 0 < eps < 1 else mixed


@mix_inputs.mistake(
    "first-part-gold",
    "the first steps are gold and the others predicted",
    "That is no coin: the late steps of a sequence would never see a gold input.",
)
def _(gold, predicted, eps, rng):
    out = predicted.copy()
    n = round(eps * len(gold))
    out[:n] = gold[:n]
    return out


@mix_inputs.mistake(
    "threshold-without-coin",
    "gold if `eps` is at least 1/2, otherwise predicted",
    "No randomness is left. `eps` is the probability of a gold entry, not a switch.",
)
def _(gold, predicted, eps, rng):
    return gold.copy() if eps >= 0.5 else predicted.copy()


@mix_inputs.mistake(
    "own-generator",
    "the random numbers do not come from `rng`",
    "Two calls with the same state of `rng` should agree, so that an experiment can be repeated. "
    "Draw from the generator that you are given.",
)
def _(gold, predicted, eps, rng):
    return np.where(np.random.default_rng().random(gold.shape) < eps, gold, predicted)


@mix_inputs.mistake(
    "fixed-seed",
    "the random numbers come from a generator that you seed yourself",
    "Every call throws the same coins: the same positions would be gold in every batch. Draw from "
    "the generator that you are given.",
)
def _(gold, predicted, eps, rng):
    return np.where(np.random.default_rng(0).random(gold.shape) < eps, gold, predicted)


@mix_inputs.mistake(
    "normal-for-uniform",
    "a normal random number is compared with `eps`",
    "The probability that a standard normal number lies below `eps` is not `eps`. For which "
    "distribution on [0, 1] is it?",
)
def _(gold, predicted, eps, rng):
    return np.where(rng.standard_normal(gold.shape) < eps, gold, predicted)


@mix_inputs.mistake(
    "positions-lost",
    "entries are drawn from all positions",
    "The input at one position must be the gold or the predicted token *of that position*.",
)
def _(gold, predicted, eps, rng):
    mixed = np.where(rng.random(gold.shape) < eps, gold, predicted)
    return rng.permuted(mixed.ravel()).reshape(gold.shape)


@mix_inputs.form("positions-lost")
def _(gold, predicted, eps, rng):
    coins = rng.random(gold.shape) < eps
    return np.where(
        coins, rng.choice(gold.ravel(), gold.shape), rng.choice(predicted.ravel(), gold.shape)
    )


@mix_inputs.mistake(
    "gold-overwritten",
    "the predicted entries are written into the caller's `gold`",
    "The mixture is right, but the gold inputs are spoilt for the next epoch. Write into a new "
    "array.",
)
def _(gold, predicted, eps, rng):
    keep = rng.random(gold.shape) < eps
    gold[~keep] = predicted[~keep]
    return gold


@mix_inputs.mistake(
    "predicted-overwritten",
    "the gold entries are written into the caller's `predicted`",
    "The mixture is right, but an argument has changed. Write into a new array.",
)
def _(gold, predicted, eps, rng):
    keep = rng.random(gold.shape) < eps
    predicted[keep] = gold[keep]
    return predicted


@mix_inputs.mistake(
    "never-gold",
    "the predicted entries are always taken",
    "At `eps = 1` everything should be gold. Look at how your coin is compared with `eps`.",
)
def _(gold, predicted, eps, rng):
    return predicted.copy()


@mix_inputs.mistake(
    "always-gold",
    "the gold entries are always taken",
    "At `eps = 0` everything should be predicted. Look at how your coin is compared with `eps`.",
)
def _(gold, predicted, eps, rng):
    return gold.copy()


@mix_inputs.variant("binomial")
def _(gold, predicted, eps, rng):
    return np.where(rng.binomial(1, eps, size=gold.shape), gold, predicted)


@mix_inputs.variant("loops")
def _(gold, predicted, eps, rng):
    out = []
    for g, p in zip(gold.ravel(), predicted.ravel(), strict=True):
        out.append(g if rng.random() < eps else p)
    return np.array(out).reshape(gold.shape)


@mix_inputs.variant("choice")
def _(gold, predicted, eps, rng):
    source = rng.choice(2, size=gold.shape, p=[1 - eps, eps])
    return np.choose(source, [predicted, gold])


@mix_inputs.variant("complement")
def _(gold, predicted, eps, rng):
    out = gold.copy()
    own = rng.uniform(size=gold.shape) >= eps
    out[own] = predicted[own]
    return out


@mix_inputs.variant("arithmetic with a 0/1 mask")
def _(gold, predicted, eps, rng):
    keep = (rng.random(gold.shape) < eps).astype(int)
    return keep * gold + (1 - keep) * predicted


@mix_inputs.variant("step by step")
def _(gold, predicted, eps, rng):
    if gold.ndim == 1:
        return np.where(rng.random(len(gold)) < eps, gold, predicted)
    return np.stack(
        [np.where(rng.random(len(g)) < eps, g, p) for g, p in zip(gold, predicted, strict=True)]
    )


def _sigmoid_cases(rng, s):
    yield Case((0, 9.0), "before the first update")
    yield Case((round(20 * math.log(20)), 20.0), "half-way")
    yield Case((7, 1.0), "k = 1")
    yield Case((1, 2.5), "after one update")
    yield Case((137, 20), "k is an integer")
    yield Case((900, 60.0), "late in training")
    yield Case((10**6, 12.5), "so late that exp overflows")


inverse_sigmoid = Exercise(
    name="inverse_sigmoid",
    reference=decoding.inverse_sigmoid,
    section=SCHEDULED,
    axes={"step": "", "k": ""},
    returns=("eps",),
    draw=lambda rng, s: (int(rng.integers(31, 59)) * 2 + 1, 20.0 + 5 * rng.random()),
    sizes=({}, {"again": 1}),
    special=_sigmoid_cases,
    atol=1e-9,
    float32=False,
)


def _exp(x):
    with np.errstate(over="ignore"):
        return float(np.exp(x))


@inverse_sigmoid.mistake(
    "rising",
    "the sign in the exponent is wrong, so the share of gold inputs rises",
    "Training starts with a teacher and ends without. Does your share rise or fall with `step`?",
)
def _(step, k):
    return k / (k + _exp(-step / k))


@inverse_sigmoid.mistake(
    "share-of-predictions",
    "the share of predicted inputs is returned",
    "The result is the probability of a *gold* input. Yours starts near 0.",
)
def _(step, k):
    return 1 - decoding.inverse_sigmoid(step, k)


@inverse_sigmoid.mistake(
    "plain-sigmoid",
    "k is missing outside the exponential",
    "Your share starts at 1/2. With k in both places it starts at k / (k + 1), close to 1.",
)
def _(step, k):
    return 1 / (1 + _exp(step / k))


@inverse_sigmoid.mistake(
    "numerator-one",
    "the numerator is 1 where k belongs",
    "Your share starts at 1 / (k + 1). What is the share before the first update meant to be?",
)
def _(step, k):
    return 1 / (k + _exp(step / k))


@inverse_sigmoid.mistake(
    "denominator-one",
    "k is missing in the denominator",
    "Your share exceeds 1, and it is a probability.",
)
def _(step, k):
    return k / (1 + _exp(step / k))


@inverse_sigmoid.mistake(
    "k-not-in-exponent",
    "the exponent is `step`, not `step / k`",
    "Your share collapses within a few updates. k also sets the unit in which steps are counted.",
)
def _(step, k):
    return k / (k + _exp(step))


@inverse_sigmoid.mistake(
    "exponent-multiplied",
    "the exponent is `step * k`",
    "A larger k should make the share fall more slowly.",
)
def _(step, k):
    return k / (k + _exp(step * k))


@inverse_sigmoid.mistake(
    "floor-division",
    "the exponent is rounded down",
    "Your share falls in stairs: `//` drops the fraction.",
)
def _(step, k):
    return k / (k + _exp(step // k))


@inverse_sigmoid.mistake(
    "overflow",
    "`math.exp` overflows late in training",
    "`math.exp` raises an exception above 709. The share is then 0 to all digits: avoid the call, "
    "or use an exponential that returns infinity.",
)
def _(step, k):
    return k / (k + math.exp(step / k))


@inverse_sigmoid.mistake(
    "nan-when-late",
    "the result is NaN late in training",
    "Infinity divided by infinity is NaN. Bring the formula into a form with one exponential.",
)
def _(step, k):
    with np.errstate(all="ignore"):
        e = np.exp(step / k)
        return 1 - e / (k + e)


@inverse_sigmoid.mistake(
    "exponential-decay",
    "the share decays exponentially from the start",
    "That is another schedule: the inverse sigmoid stays near 1 for a while before it falls.",
)
def _(step, k):
    return _exp(-step / k)


@inverse_sigmoid.mistake(
    "shifted-sigmoid",
    "the sigmoid is centred at step k",
    "Where does your share pass 1/2? With `k / (k + exp(step / k))` it is where exp(step / k) = k.",
)
def _(step, k):
    return 1 / (1 + _exp((step - k) / k))


@inverse_sigmoid.variant("numpy")
def _(step, k):
    return k / (k + np.exp(np.float64(step) / k))


@inverse_sigmoid.variant("negative exponent")
def _(step, k):
    e = math.exp(-step / k)
    return k * e / (k * e + 1)


@inverse_sigmoid.variant("logistic function of a shift")
def _(step, k):
    z = math.log(k) - step / k
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


@inverse_sigmoid.variant("tanh")
def _(step, k):
    z = np.log(k) - step / k
    return math.exp(z) / (1 + math.exp(z)) if z < 0 else (1 + np.tanh(z / 2)) / 2


@inverse_sigmoid.variant("try and except")
def _(step, k):
    try:
        return k / (k + math.exp(step / k))
    except OverflowError:
        return 0


def _linear_cases(rng, s):
    yield Case((0, 80, 0.2), "before the first update")
    yield Case((80, 80, 0.2), "when the floor is reached")
    yield Case((200, 80, 0.2), "after the floor is reached")
    yield Case((200, 80, 0.0), "after the floor, which is 0")
    yield Case((30, 80, 0.0), "the floor is 0")
    yield Case((30, 80, 1.0), "the floor is 1")
    yield Case((76, 80, 0.25), "just before the floor is reached")
    yield Case((4, 5, 0.25), "one update before the floor is reached")
    yield Case((1, 5, 0.25), "after the first update")


linear_decay = Exercise(
    name="linear_decay",
    reference=decoding.linear_decay,
    section=SCHEDULED,
    axes={"step": "", "total": "", "floor": ""},
    returns=("eps",),
    draw=lambda rng, s: (
        int(rng.integers(10, 90)),
        100 + int(rng.integers(9)),
        0.1 + rng.random() / 5,
    ),
    sizes=({},),
    special=_linear_cases,
    atol=1e-9,
    float32=False,
)


@linear_decay.mistake(
    "floor-ignored",
    "the line falls to 0, whatever the floor",
    "`floor` is the share that remains at the end of the schedule and after it.",
)
def _(step, total, floor):
    return max(0.0, 1 - step / total)


@linear_decay.mistake(
    "not-stopped",
    "the line goes on below the floor",
    "After `total` updates the share stays at the floor; yours falls on, and below 0 it is no "
    "probability.",
)
def _(step, total, floor):
    return 1 - (1 - floor) * step / total


@linear_decay.mistake(
    "floor-too-early",
    "the line aims at 0 and is cut off at the floor",
    "Your share reaches the floor before step `total`. Which line passes through 1 at step 0 and "
    "through `floor` at step `total`?",
)
def _(step, total, floor):
    return max(floor, 1 - step / total)


@linear_decay.mistake(
    "floor-one-update-early",
    "the floor is reached one update before `total`",
    "Follow your shares with `total = 5`: at which step does the floor appear for the first time?",
)
def _(step, total, floor):
    return floor if step >= total - 1 else 1 - (1 - floor) * step / total


@linear_decay.mistake(
    "stopped-at-zero",
    "the line is cut off at 0, not at the floor",
    "The line has the right slope. Where does it have to stop?",
)
def _(step, total, floor):
    return max(0.0, 1 - (1 - floor) * step / total)


@linear_decay.mistake(
    "rising",
    "the share of gold inputs rises",
    "Training starts with a teacher (share 1) and ends with `floor`.",
)
def _(step, total, floor):
    return min(1.0, floor + (1 - floor) * step / total)


@linear_decay.form("rising")
def _(step, total, floor):
    return 1 - decoding.linear_decay(step, total, floor)


@linear_decay.mistake(
    "floor-added",
    "the floor is added to a line from 1 to 0",
    "Your share exceeds 1 at the start. The line must be flatter, not higher.",
)
def _(step, total, floor):
    return max(0.0, 1 - step / total) + floor


@linear_decay.mistake(
    "starts-too-low",
    "the line starts at 1 - floor",
    "Before the first update every input is gold.",
)
def _(step, total, floor):
    return max(floor, (1 - floor) * (1 - step / total))


@linear_decay.form("starts-too-low")
def _(step, total, floor):
    return max(0.0, (1 - floor) * (1 - step / total))


@linear_decay.mistake(
    "smaller-taken",
    "the smaller of line and floor is taken",
    "Your share is the floor from the start. Which of the two should win at step 0?",
)
def _(step, total, floor):
    return min(floor, 1 - (1 - floor) * step / total)


@linear_decay.mistake(
    "floor-division",
    "`//` drops the fraction",
    "Your share stays at 1 and then jumps. Use a division that keeps the fraction.",
)
def _(step, total, floor):
    return max(floor, 1 - (1 - floor) * (step // total))


@linear_decay.mistake(
    "exponential",
    "the share falls exponentially",
    "The same *amount* is lost in each update, not the same factor.",
)
def _(step, total, floor):
    return max(floor, math.exp(-step / total))


@linear_decay.variant("interpolation")
def _(step, total, floor):
    return np.interp(step, [0, total], [1.0, floor])


@linear_decay.variant("weights of both ends")
def _(step, total, floor):
    done = min(step / total, 1)
    return (1 - done) * 1.0 + done * floor


@linear_decay.variant("branches")
def _(step, total, floor):
    if step >= total:
        return floor
    return 1 + step * (floor - 1) / total


@linear_decay.variant("clip")
def _(step, total, floor):
    return np.clip(1 - (1 - floor) * step / total, floor, 1)


def _sixty_fourths(rng, *shape):
    return rng.integers(1, 64, shape) / 64


class _Decoder:
    """A decoder step whose state and tokens are mixed so well that no slip goes unnoticed.

    States are multiples of 1/64, which single precision holds exactly.
    """

    def __init__(self, rng, V, H, ties=False, pair=False):
        self.E, self.W = _sixty_fourths(rng, V, H), 9 * normal(rng, H, V)
        self.ties, self.pair = ties, pair

    def __call__(self, tokens, h):
        first = h[0] + h[1] if self.pair else h
        new = np.mod(3 * first + self.E[np.asarray(tokens)], 1.0)
        logits = np.sin(new @ self.W)
        if self.ties:
            logits = np.rint(logits)
        return logits, ((new, np.mod(h[1] + 5 * new, 1.0)) if self.pair else new)


def _free_arguments(rng, s):
    decoder = _Decoder(rng, s.V, s.H)
    return decoder, _sixty_fourths(rng, s.B, s.H), int(rng.integers(s.V)), s.T + 5


def _free_cases(rng, s):
    h0 = _sixty_fourths(rng, s.B, s.H)
    yield Case((_Decoder(rng, s.V, s.H), h0, 0, 1), "one step")
    yield Case((_Decoder(rng, 7, s.H, ties=True), h0, 2, 12), "several logits are equal")
    pair = (h0, _sixty_fourths(rng, s.B, s.H))
    yield Case(
        (_Decoder(rng, s.V, s.H, pair=True), pair, 1, 8), "the state is a pair, as in an LSTM"
    )


free_run = Exercise(
    name="free_run",
    reference=decoding.free_run,
    section=MODES,
    axes={"step_fn": "", "h0": "B H", "bos": "", "steps": ""},
    returns=("tokens: T B",),
    draw=_free_arguments,
    special=_free_cases,
    sizes=(
        {"T": 5, "B": 3, "H": 4, "V": 6},
        {"T": 4, "B": 6, "H": 3, "V": 5},
        {"T": 3, "B": 1, "H": 2, "V": 5},
        {"T": 3, "B": 3, "H": 3, "V": 3},
    ),
)


def _batch(h0):
    return len(h0[0]) if isinstance(h0, tuple) else len(h0)


def _run(step_fn, h0, bos, steps, choose=lambda logits: logits.argmax(axis=-1)):
    """Decode, with another way to choose the tokens."""
    tokens, h, out = np.full(_batch(h0), bos), h0, []
    for _ in range(steps):
        logits, h = step_fn(tokens, h)
        tokens = choose(logits)
        out.append(tokens)
    return np.stack(out)


@free_run.mistake(
    "state-not-carried",
    "every step starts from `h0` again",
    "Only the last token reaches your next step, so it is a bigram model. `step_fn` returns the "
    "new state for a reason.",
)
def _(step_fn, h0, bos, steps):
    tokens, out = np.full(_batch(h0), bos), []
    for _ in range(steps):
        tokens = step_fn(tokens, h0)[0].argmax(axis=-1)
        out.append(tokens)
    return np.stack(out)


@free_run.mistake(
    "bos-at-every-step",
    "every step reads `bos`",
    "`bos` is the first input only. What does a decoder read at the next step when there is no "
    "teacher?",
)
def _(step_fn, h0, bos, steps):
    tokens, h, out = np.full(_batch(h0), bos), h0, []
    for _ in range(steps):
        logits, h = step_fn(tokens, h)
        out.append(logits.argmax(axis=-1))
    return np.stack(out)


@free_run.mistake(
    "one-token-late",
    "each step reads the prediction before the last one",
    "The prediction of step t is the input of step t + 1, at once.",
)
def _(step_fn, h0, bos, steps):
    before = tokens = np.full(_batch(h0), bos)
    h, out = h0, []
    for _ in range(steps):
        logits, h = step_fn(before, h)
        before, tokens = tokens, logits.argmax(axis=-1)
        out.append(tokens)
    return np.stack(out)


@free_run.mistake(
    "bos-in-output",
    "`bos` is part of the result, which is one step too long",
    "`bos` is an input. The result holds the predictions, one for each of the `steps`.",
)
def _(step_fn, h0, bos, steps):
    out = decoding.free_run(step_fn, h0, bos, steps)
    return np.concatenate([np.full_like(out[:1], bos), out])


@free_run.mistake(
    "inputs-returned",
    "the inputs of the steps are returned, not their predictions",
    "Your first row is `bos`, and the last prediction is missing. Store a token after the step "
    "that predicts it.",
)
def _(step_fn, h0, bos, steps):
    out = decoding.free_run(step_fn, h0, bos, steps)
    return np.concatenate([np.full_like(out[:1], bos), out[:-1]])


@free_run.mistake(
    "batch-first",
    "the result has shape (B, steps)",
    "The course is time-major: row t holds the tokens of step t.",
)
def _(step_fn, h0, bos, steps):
    return decoding.free_run(step_fn, h0, bos, steps).T


@free_run.mistake(
    "reshape-for-transpose",
    "a result of shape (B, steps) is reshaped to (steps, B)",
    "`reshape` mixes the sequences; exchanging the axes is another operation.",
)
def _(step_fn, h0, bos, steps):
    out = decoding.free_run(step_fn, h0, bos, steps)
    return out.T.reshape(out.shape)


@free_run.mistake(
    "one-step-short",
    "the last step is missing",
    "Count how often your loop runs when `steps` is 1.",
)
def _(step_fn, h0, bos, steps):
    return decoding.free_run(step_fn, h0, bos, steps)[:-1]


@free_run.mistake(
    "one-step-more",
    "there is one step too many",
    "The result has exactly `steps` rows.",
)
def _(step_fn, h0, bos, steps):
    return decoding.free_run(step_fn, h0, bos, steps + 1)


@free_run.mistake(
    "only-last-token",
    "only the tokens of the last step are returned",
    "The whole sequence is the output, one row per step.",
)
def _(step_fn, h0, bos, steps):
    return decoding.free_run(step_fn, h0, bos, steps)[-1]


@free_run.mistake(
    "logits-returned",
    "the logits are returned, not the tokens",
    "A token is the index of the largest logit.",
)
def _(step_fn, h0, bos, steps):
    tokens, h, out = np.full(_batch(h0), bos), h0, []
    for _ in range(steps):
        logits, h = step_fn(tokens, h)
        tokens = logits.argmax(axis=-1)
        out.append(logits)
    return np.stack(out)


@free_run.mistake(
    "largest-logit-returned",
    "the largest logit is returned, not its index",
    "`max` gives a value, and a token is an index.",
)
def _(step_fn, h0, bos, steps):
    tokens, h, out = np.full(_batch(h0), bos), h0, []
    for _ in range(steps):
        logits, h = step_fn(tokens, h)
        tokens = logits.argmax(axis=-1)
        out.append(logits.max(axis=-1))
    return np.stack(out)


@free_run.mistake(
    "one-token-for-all",
    "the first sequence's token is used for the whole batch",
    "Each sequence reads its own prediction. Over which axis is your argmax taken?",
)
def _(step_fn, h0, bos, steps):
    return _run(step_fn, h0, bos, steps, lambda z: np.full(len(z), z[0].argmax()))


@free_run.mistake(
    "smallest-logit",
    "the least probable token is taken",
    "The larger the logit, the more probable the token.",
)
def _(step_fn, h0, bos, steps):
    return _run(step_fn, h0, bos, steps, lambda z: z.argmin(axis=-1))


@free_run.mistake(
    "last-of-equals",
    "among equal logits the highest token is taken",
    "The docstring says which token wins a tie. Sorting in ascending order and taking the last "
    "does not give that one.",
)
def _(step_fn, h0, bos, steps):
    return _run(step_fn, h0, bos, steps, lambda z: z.shape[1] - 1 - z[:, ::-1].argmax(axis=-1))


@free_run.mistake(
    "zero-state",
    "the first step starts from a state of zeros",
    "The decoder starts from `h0`, for example from what an encoder has read.",
)
def _(step_fn, h0, bos, steps):
    zero = tuple(map(np.zeros_like, h0)) if isinstance(h0, tuple) else np.zeros_like(h0)
    return decoding.free_run(step_fn, zero, bos, steps)


@free_run.mistake(
    "two-updates-per-step",
    "`step_fn` is applied twice in each step",
    "Each call of `step_fn` advances the state. Take logits and state from the same call.",
)
def _(step_fn, h0, bos, steps):
    tokens, h, out = np.full(_batch(h0), bos), h0, []
    for _ in range(steps):
        _, h = step_fn(tokens, h)
        logits, h = step_fn(tokens, h)
        tokens = logits.argmax(axis=-1)
        out.append(tokens)
    return np.stack(out)


@free_run.form("two-updates-per-step")
def _(step_fn, h0, bos, steps):
    tokens, h, out = np.full(_batch(h0), bos), h0, []
    for _ in range(steps):
        _, h = step_fn(tokens, h)
        tokens = step_fn(tokens, h)[0].argmax(axis=-1)
        out.append(tokens)
    return np.stack(out)


@free_run.mistake(
    "bos-ignored",
    "the first input is token 0",
    "The begin sign has an index of its own: use `bos`.",
)
def _(step_fn, h0, bos, steps):
    return decoding.free_run(step_fn, h0, 0, steps)


@free_run.variant("lists")
def _(step_fn, h0, bos, steps):
    B = len(h0[0]) if isinstance(h0, tuple) else len(h0)
    rows, state = [[bos] * B], h0
    while len(rows) <= steps:
        logits, state = step_fn(np.array(rows[-1]), state)
        rows.append([int(np.argmax(row)) for row in logits])
    return rows[1:]


@free_run.variant("preallocated")
def _(step_fn, h0, bos, steps):
    first = h0[0] if isinstance(h0, tuple) else h0
    out = np.empty((steps + 1, first.shape[0]), dtype=np.int64)
    out[0] = bos
    h = h0
    for t in range(steps):
        logits, h = step_fn(out[t], h)
        out[t + 1] = np.asarray(logits).argmax(1)
    return out[1:]


@free_run.variant("recursion")
def _(step_fn, h0, bos, steps):
    def run(tokens, h, left):
        if left == 0:
            return []
        logits, h = step_fn(tokens, h)
        best = np.argmax(logits, axis=1)
        return [best, *run(best, h, left - 1)]

    return np.vstack(run(np.full(_batch(h0), bos), h0, steps))


@free_run.variant("stable sort")
def _(step_fn, h0, bos, steps):
    def best(logits):
        return np.argsort(-logits, axis=-1, kind="stable")[:, 0]

    return _run(step_fn, h0, bos, steps, best).astype(np.int32)


@free_run.variant("generator inside")
def _(step_fn, h0, bos, steps):
    def predictions():
        tokens, h = np.repeat(bos, _batch(h0)), h0
        while True:
            logits, h = step_fn(tokens, h)
            tokens = logits.argmax(axis=-1)
            yield tokens

    return np.array([tokens for tokens, _ in zip(predictions(), range(steps), strict=False)])
