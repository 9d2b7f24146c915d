"""Assignment 13: train a recurrent network, find out what ails it, repair it, and measure."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import numpy as np

from rnncourse import bptt, clipping, metrics, rnn
from rnncourse.exercises.spec import Case, Exercise, normal

BPTT = "03-bptt: The code"
PATHS = "03-bptt: All paths, not one"
PRODUCT = "04-gradient-flow: A product of Jacobians"
CLIP = "05-clipping: Three ways to clip"
LOOP = "05-clipping: Where in the loop"
START = "06-initialisation: What the start can promise"
DRAWING = "06-initialisation: Drawing an orthogonal matrix"
READOUT = "02-vanilla-rnn: Read-out and loss"
ONE = ({"T": 5, "B": 3, "D": 2, "H": 4, "V": 6},)


def _params(rng, s):
    return {
        "W_xh": normal(rng, s.H, s.D) * s.D**-0.5,
        "W_hh": 1.1 * normal(rng, s.H, s.H) * s.H**-0.5,
        "b_h": 0.3 * normal(rng, s.H),
        "W_hy": normal(rng, s.V, s.H),
        "b_y": 0.3 * normal(rng, s.V),
    }


def _batch(rng, s):
    return _params(rng, s), normal(rng, s.T, s.B, s.D), rng.integers(s.V, size=s.B)


def _two_steps(rng, s):
    yield Case(_batch(rng, type(s)(**{**vars(s), "T": 2})), "two steps")


def _norm_cases(rng, s):
    yield from _two_steps(rng, s)
    params, x, targets = _batch(rng, type(s)(**{**vars(s), "T": 8}))
    params["W_hh"] *= 0.1
    yield Case((params, x, targets), "the gradient vanishes")


def _states(params, x):
    h0 = np.zeros((x.shape[1], len(params["b_h"])))
    return h0, rnn.rnn_forward(x, h0, params["W_xh"], params["W_hh"], params["b_h"])


def _logits(params, h):
    return rnn.readout(h, params["W_hy"], params["b_y"])


def _last_step_gradients(params, x, targets):
    """Return loss and gradients of a network whose last state is read out."""
    h0, h = _states(params, x)
    logits = _logits(params, h[-1])
    dlogits = bptt.cross_entropy_backward(logits, targets)
    dh = np.zeros_like(h)
    dh[-1] = dlogits @ params["W_hy"]
    _, _, dW_xh, dW_hh, db_h = bptt.rnn_backward(dh, x, h0, h, params["W_xh"], params["W_hh"])
    grads = {"W_xh": dW_xh, "W_hh": dW_hh, "b_h": db_h}
    grads |= {"W_hy": dlogits.T @ h[-1], "b_y": dlogits.sum(axis=0)}
    return float(rnn.cross_entropy(logits, targets)), grads


last_step_gradients = Exercise(
    name="last_step_gradients",
    reference=_last_step_gradients,
    section=BPTT,
    axes={"params": "", "x": "T B D", "targets": "B"},
    returns=("loss", "grads"),
    draw=_batch,
    special=_two_steps,
)


def _by_hand(params, x, targets, slope=lambda h, h_prev: 1 - h**2, back=None, old=None, steps=None):
    """Compute the recurrent gradients step by step, with parts that may be wrong."""
    loss, grads = _last_step_gradients(params, x, targets)
    h0, h = _states(params, x)
    before = np.concatenate([h0[None], h[:-1]])
    dh = bptt.cross_entropy_backward(_logits(params, h[-1]), targets) @ params["W_hy"]
    W = params["W_hh"] if back is None else back
    new = {name: np.zeros_like(params[name]) for name in ("W_xh", "W_hh", "b_h")}
    for t in reversed(range(max(len(x) - (steps or len(x)), 0), len(x))):
        da = dh * slope(h[t], before[t])
        new["W_xh"] += da.T @ x[t]
        new["W_hh"] += da.T @ (before if old is None else old(h))[t]
        new["b_h"] += da.sum(axis=0)
        dh = da @ W
    return loss, {**grads, **new}


@last_step_gradients.mistake(
    "last-step-only",
    "nothing is propagated back through time",
    "Your gradient knows only the last use of the weights, so a symbol at the first step can never "
    "be learned. Every step used the same weights.",
    section=PATHS,
)
def _(params, x, targets):
    return _by_hand(params, x, targets, steps=1)


@last_step_gradients.mistake(
    "tanh-derivative-missing",
    "the derivative of tanh is missing",
    "Which function stands between the sum of the three terms and the state?",
)
def _(params, x, targets):
    return _by_hand(params, x, targets, slope=lambda h, h_prev: np.ones_like(h))


@last_step_gradients.mistake(
    "derivative-at-previous-state",
    "the derivative of tanh is taken at the previous state",
    "The tanh of a step produced the state *after* it.",
)
def _(params, x, targets):
    return _by_hand(params, x, targets, slope=lambda h, h_prev: 1 - h_prev**2)


@last_step_gradients.mistake(
    "recurrent-weight-transposed",
    "`W_hh` is transposed on the way back",
    "Forward, a row of states is multiplied by `W_hh.T`; what undoes that on the way back?",
)
def _(params, x, targets):
    return _by_hand(params, x, targets, back=params["W_hh"].T)


@last_step_gradients.mistake(
    "weight-gradient-from-new-state",
    "the gradient of `W_hh` is formed with the state after the step",
    "`W_hh` was multiplied by a state: by which one?",
)
def _(params, x, targets):
    return _by_hand(params, x, targets, old=lambda h: h)


@last_step_gradients.mistake(
    "summed-over-the-batch",
    "loss and gradients are summed over the batch, not averaged",
    "With twice as many sequences your loss doubles, and so does each step of training.",
)
def _(params, x, targets):
    loss, grads = _last_step_gradients(params, x, targets)
    return loss * len(targets), {name: g * len(targets) for name, g in grads.items()}


@last_step_gradients.mistake(
    "gradients-not-averaged",
    "the loss is averaged over the batch but its gradients are summed",
    "They must belong to the same number. Compare with a numerical gradient of your loss.",
    section="03-bptt: Checking a gradient",
)
def _(params, x, targets):
    loss, grads = _last_step_gradients(params, x, targets)
    return loss, {name: g * len(targets) for name, g in grads.items()}


@last_step_gradients.mistake(
    "loss-at-every-step",
    "every step is read out and enters the loss",
    "The answer is known at the end only: the read-out sees the *last* state.",
)
def _(params, x, targets):
    return bptt.loss_and_gradients(params, x, np.broadcast_to(targets, x.shape[:2]))


@last_step_gradients.mistake(
    "mean-state-read",
    "the mean of all states is read out",
    "The read-out sees the *last* state.",
)
def _(params, x, targets):
    h0, h = _states(params, x)
    logits = _logits(params, h.mean(axis=0))
    dlogits = bptt.cross_entropy_backward(logits, targets)
    dh = np.broadcast_to(dlogits @ params["W_hy"] / len(h), h.shape)
    _, _, dW_xh, dW_hh, db_h = bptt.rnn_backward(dh, x, h0, h, params["W_xh"], params["W_hh"])
    grads = {"W_xh": dW_xh, "W_hh": dW_hh, "b_h": db_h}
    grads |= {"W_hy": dlogits.T @ h.mean(axis=0), "b_y": dlogits.sum(axis=0)}
    return float(rnn.cross_entropy(logits, targets)), grads


@last_step_gradients.mistake(
    "gradient-sign",
    "all gradients have the wrong sign",
    "The gradient points to where the loss *grows*. It is softmax minus one-hot.",
)
def _(params, x, targets):
    loss, grads = _last_step_gradients(params, x, targets)
    return loss, {name: -g for name, g in grads.items()}


@last_step_gradients.mistake(
    "divided-by-steps",
    "the recurrent gradients are divided by the number of steps",
    "The uses of a shared weight *add up*.",
    section=PATHS,
)
def _(params, x, targets):
    loss, grads = _last_step_gradients(params, x, targets)
    return loss, {n: g if n in ("W_hy", "b_y") else g / len(x) for n, g in grads.items()}


@last_step_gradients.mistake(
    "weights-from-the-last-step",
    "`=` stands where `+=` should: only the first step's contribution is kept",
    "Going back in time, each step overwrites the one before. What must the contributions do?",
    section=PATHS,
)
def _(params, x, targets):
    loss, grads = _last_step_gradients(params, x, targets)
    longer = _by_hand(params, x, targets, steps=len(x) - 1)[1] if len(x) > 1 else None
    if longer is None:
        return loss, grads
    recurrent = ("W_xh", "W_hh", "b_h")
    return loss, {**grads, **{n: grads[n] - longer[n] for n in recurrent}}


@last_step_gradients.variant("step by step")
def _(params, x, targets):
    return _by_hand(params, x, targets)


@last_step_gradients.variant("all steps with a mask")
def _(params, x, targets):
    mask = np.zeros(x.shape[:2], bool)
    mask[-1] = True
    return bptt.loss_and_gradients(params, x, np.broadcast_to(targets, x.shape[:2]), mask=mask)


@last_step_gradients.variant("one sequence after the other")
def _(params, x, targets):
    B = len(targets)
    each = [_last_step_gradients(params, x[:, [b]], targets[[b]]) for b in range(B)]
    grads = {name: sum(g[name] for _, g in each) / B for name in reversed(list(params))}
    return sum(loss for loss, _ in each) / B, grads


@last_step_gradients.variant("torch autograd")
def _(params, x, targets):
    import torch

    p = {name: torch.tensor(np.array(a), requires_grad=True) for name, a in params.items()}
    h = torch.zeros(x.shape[1], len(params["b_h"]), dtype=p["b_h"].dtype)
    for x_t in torch.tensor(np.array(x), dtype=h.dtype):
        h = torch.tanh(x_t @ p["W_xh"].T + h @ p["W_hh"].T + p["b_h"])
    logits = h @ p["W_hy"].T + p["b_y"]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(np.array(targets)))
    loss.backward()
    return loss.item(), {name: a.grad.numpy() for name, a in p.items()}


def _state_gradient_norms(params, x, targets):
    """Return the norm of the gradient of the loss by each state, all sequences together."""
    return np.array([np.linalg.norm(dh) for dh in _state_gradients(params, x, targets)])


def _state_gradients(params, x, targets, slope=lambda h: 1 - h**2, back=None, one_late=False):
    _, h = _states(params, x)
    W = params["W_hh"] if back is None else back
    dh = bptt.cross_entropy_backward(_logits(params, h[-1]), targets) @ params["W_hy"]
    gradients = [dh]
    for t in reversed(range(1, len(x))):
        dh = (dh * slope(h[t - one_late])) @ W
        gradients.append(dh)
    return np.array(gradients[::-1])


state_gradient_norms = Exercise(
    name="state_gradient_norms",
    reference=_state_gradient_norms,
    section=PRODUCT,
    axes={"params": "", "x": "T B D", "targets": "B"},
    returns=("norms: T",),
    draw=_batch,
    special=_norm_cases,
    atol=1e-8,
)


def _norms(gradients):
    return np.linalg.norm(gradients, axis=(1, 2))


@state_gradient_norms.mistake(
    "reversed-in-time",
    "the norms come in the order in which they are computed, last step first",
    "Entry t belongs to the state after step t. Going back, you meet the last step first.",
)
def _(params, x, targets):
    return _state_gradient_norms(params, x, targets)[::-1]


@state_gradient_norms.mistake(
    "tanh-derivative-missing",
    "the derivative of tanh is missing",
    "Between two states stand the weights *and* a tanh.",
)
def _(params, x, targets):
    return _norms(_state_gradients(params, x, targets, slope=np.ones_like))


@state_gradient_norms.mistake(
    "derivative-at-previous-state",
    "the derivative of tanh is taken one step too early",
    "From state t to state t - 1 the gradient passes the tanh that produced state t.",
)
def _(params, x, targets):
    return _norms(_state_gradients(params, x, targets, one_late=True))


@state_gradient_norms.mistake(
    "recurrent-weight-transposed",
    "`W_hh` is transposed on the way back",
    "Forward, a row of states is multiplied by `W_hh.T`; what undoes that on the way back?",
)
def _(params, x, targets):
    return _norms(_state_gradients(params, x, targets, back=params["W_hh"].T))


@state_gradient_norms.mistake(
    "before-the-tanh",
    "the gradient before the tanh is measured, not that of the state",
    "The gradient of the pre-activation has one more factor 1 - h² than the gradient of the state.",
)
def _(params, x, targets):
    _, h = _states(params, x)
    return _norms(_state_gradients(params, x, targets) * (1 - h**2))


@state_gradient_norms.mistake(
    "squared",
    "the squares are not rooted",
    "A norm doubles when the gradient doubles.",
)
def _(params, x, targets):
    return _state_gradient_norms(params, x, targets) ** 2


@state_gradient_norms.mistake(
    "batch-kept",
    "each sequence gets a norm of its own",
    "One norm per step is wanted, over sequences and units together.",
)
def _(params, x, targets):
    return np.linalg.norm(_state_gradients(params, x, targets), axis=2)


@state_gradient_norms.mistake(
    "mean-over-sequences",
    "the norms of the sequences are averaged",
    "Take the norm of the whole array (B, H) of a step.",
)
def _(params, x, targets):
    return np.linalg.norm(_state_gradients(params, x, targets), axis=2).mean(axis=1)


@state_gradient_norms.mistake(
    "loss-not-averaged",
    "the loss is summed over the batch, not averaged",
    "The mean loss is meant: its gradient has a factor 1/B.",
)
def _(params, x, targets):
    return _state_gradient_norms(params, x, targets) * len(targets)


@state_gradient_norms.mistake(
    "spectral-norm",
    "the largest singular value of each step's gradient is taken",
    "`np.linalg.norm(…, 2)` of a matrix is its largest singular value. Here the root of the sum of "
    "all squares is meant.",
)
def _(params, x, targets):
    return np.array([np.linalg.norm(dh, 2) for dh in _state_gradients(params, x, targets)])


@state_gradient_norms.mistake(
    "direct-gradient-only",
    "nothing is propagated back: only the last state gets a gradient",
    "The loss depends on every state, through the later ones.",
    section=PATHS,
)
def _(params, x, targets):
    norms = _state_gradient_norms(params, x, targets)
    norms[:-1] = 0
    return norms


@state_gradient_norms.variant("Jacobians")
def _(params, x, targets):
    _, h = _states(params, x)
    B = len(targets)
    total = np.zeros(len(x))
    dlogits = bptt.cross_entropy_backward(_logits(params, h[-1]), targets)
    for b in range(B):
        g = params["W_hy"].T @ dlogits[b]
        for t in range(len(x) - 1, -1, -1):
            total[t] += g @ g
            g = (np.diag(1 - h[t, b] ** 2) @ params["W_hh"]).T @ g
    return np.sqrt(total)


@state_gradient_norms.variant("einsum")
def _(params, x, targets):
    g = _state_gradients(params, x, targets)
    return np.sqrt(np.einsum("tbh,tbh->t", g, g))


@state_gradient_norms.variant("list")
def _(params, x, targets):
    return [float(np.sqrt((g**2).sum())) for g in _state_gradients(params, x, targets)]


@state_gradient_norms.variant("flat")
def _(params, x, targets):
    g = _state_gradients(params, x, targets)
    return np.linalg.norm(g.reshape(len(x), -1), axis=1)


def _diagnose(norms, tolerance):
    """Say from the gradient norms of all states how gradients fare on their way back."""
    if not np.isfinite(norms).all():
        return "exploding"
    rate = (norms[0] / norms[-1]) ** (1 / (len(norms) - 1))
    if rate < 1 - tolerance:
        return "vanishing"
    return "exploding" if rate > 1 + tolerance else "healthy"


def _path(rng, T, rate):
    """Return norms whose mean factor per step back is `rate`, with jitter between the ends."""
    norms = rate ** np.arange(T - 1, -1, -1.0) * (0.2 + rng.random())
    norms[1:-1] *= 0.97 + 0.06 * rng.random(T - 2)
    return norms


def _diagnose_cases(rng, s):
    yield Case((_path(rng, 20, 0.7), 0.1), "norms shrink on the way back")
    yield Case((_path(rng, 20, 1.4), 0.1), "norms grow on the way back")
    yield Case((_path(rng, 20, 0.97), 0.1), "a slow fall that adds up")
    yield Case((_path(rng, 20, 1.03), 0.1), "a slow growth that adds up")
    yield Case((_path(rng, 20, 1.001), 0.1), "norms stay")
    yield Case((_path(rng, 6, 1.38), 0.3), "growth with a large tolerance")
    yield Case((_path(rng, 6, 0.73), 0.3), "a fall with a large tolerance")
    yield Case((np.array([0.84, 1.0]), 0.1), "two steps, shrinking")
    yield Case((np.array([1.16, 1.0]), 0.1), "two steps, growing")
    yield Case((1e-3 * _path(rng, 12, 0.99), 0.1), "small norms that stay")
    yield Case((1e3 * _path(rng, 12, 1.01), 0.1), "large norms that stay")
    yield Case((1e4 * _path(rng, 12, 0.6), 0.05), "large norms that shrink")
    yield Case((1e-6 * _path(rng, 12, 1.5), 0.05), "small norms that grow")
    yield Case((np.array([1.0, 1.0, 0.2, 0.2, 1.0, 1.0]), 0.1), "a dip in the middle")
    yield Case((np.array([1.0, 0.5, 1.0, 0.5, 1.0]), 0.1), "up and down")
    wave = np.array([1.0, 0.2, 0.4, 2.5, 5.0, 1.0])
    yield Case((wave, 0.1), "first and last norm are equal, those between are not")
    yield Case((np.array([0.3, 1.0, 1.0, 1.0, 1.0]), 0.1), "all is lost at the first step")
    yield Case((np.array([3.0, 3.0, 3.0, 3.0, 1.0]), 0.1), "a jump at the last step")
    yield Case((np.array([np.nan, 9.0, 3.0, 1.0]), 0.1), "NaN at the first step")
    yield Case((np.array([1.0, np.inf, 1.0, 1.0]), 0.1), "infinity on the way")
    yield Case((np.array([0.0, 0.0, 0.5, 1.0]), 0.1), "nothing arrives")
    yield Case((_path(rng, 9, 0.8), 0.3), "a large tolerance")
    yield Case((_path(rng, 9, 0.95), 0.02), "a small tolerance")


diagnose = Exercise(
    name="diagnose",
    reference=_diagnose,
    section=PRODUCT,
    axes={"norms": "", "tolerance": ""},
    returns=("verdict",),
    sizes=ONE,
    draw=lambda rng, s: (_path(rng, 15, 0.8), 0.1),
    special=_diagnose_cases,
)


def _verdict(rate, tolerance):
    if rate < 1 - tolerance:
        return "vanishing"
    return "exploding" if rate > 1 + tolerance else "healthy"


def _with_rate(rate):
    """Return a diagnosis that measures the factor per step in another way."""

    def code(norms, tolerance):
        if not np.isfinite(norms).all():
            return "exploding"
        with np.errstate(all="ignore"):
            return _verdict(rate(norms), tolerance)

    return code


diagnose.mistake(
    "line-fitted",
    "the factor is the slope of a line through the logarithms of all norms",
    "A fitted line weighs all norms. The mean factor per step is the one that leads from the last "
    "norm to the first in T - 1 equal steps.",
)(_with_rate(lambda n: np.exp(-np.polyfit(range(len(n)), np.log(np.maximum(n, 1e-300)), 1)[0])))


diagnose.mistake(
    "direction-of-time",
    "time runs the wrong way",
    "Gradients travel from the last state to the first: they vanish if the norm of the *first* "
    "state is the smaller one.",
)(_with_rate(lambda n: (n[-1] / n[0]) ** (1 / (len(n) - 1))))

diagnose.mistake(
    "not-per-step",
    "the factor over all steps is compared, not the factor per step",
    "0.97 per step is mild, yet 0.5 after twenty steps. Which root makes it a factor per step?",
)(_with_rate(lambda n: n[0] / n[-1]))

diagnose.mistake(
    "steps-miscounted",
    "the root counts states, not the steps between them",
    "Between T states lie T - 1 steps.",
)(_with_rate(lambda n: (n[0] / n[-1]) ** (1 / len(n))))

diagnose.mistake(
    "last-step-only",
    "only the factor of the last step is looked at",
    "One step is an accident of one input. The mean factor over all steps is meant.",
)(_with_rate(lambda n: n[-2] / n[-1]))

diagnose.mistake(
    "first-step-only",
    "only the factor of the first step is looked at",
    "One step is an accident of one input. The mean factor over all steps is meant.",
)(_with_rate(lambda n: n[0] / n[1] if n[1] else 0.0))

diagnose.mistake(
    "arithmetic-mean",
    "the factors of the steps are averaged arithmetically",
    "Factors multiply along the way: halving and doubling cancel. Which mean fits a product?",
)(_with_rate(lambda n: np.nan_to_num(n[:-1] / n[1:]).mean()))

diagnose.mistake(
    "size-for-growth",
    "the size of the first norm is judged, not its ratio to the last",
    "The norm of a gradient depends on the loss and the batch. What tells is how it *changes* on "
    "the way.",
)(_with_rate(lambda n: n[0]))

diagnose.mistake(
    "largest-over-last",
    "the largest norm on the way is compared, not the first",
    "What arrives at the first state counts, whatever happens on the way.",
)(_with_rate(lambda n: (n.max() / n[-1]) ** (1 / (len(n) - 1))))


@diagnose.mistake(
    "nan-is-healthy",
    "NaN and infinity are called healthy",
    "Every comparison with NaN is False, so it falls to your last branch. What has happened "
    "to a gradient that is not finite?",
)
def _(norms, tolerance):
    if not np.isfinite(norms).all():
        return "healthy"
    return _diagnose(norms, tolerance)


@diagnose.form("nan-is-healthy")
def _(norms, tolerance):
    return _verdict((norms[0] / norms[-1]) ** (1 / (len(norms) - 1)), tolerance)


@diagnose.mistake(
    "labels-exchanged",
    "the words are exchanged",
    "A factor below 1 makes gradients *vanish*.",
)
def _(norms, tolerance):
    names = {"vanishing": "exploding", "exploding": "vanishing", "healthy": "healthy"}
    return names[_diagnose(norms, tolerance)]


@diagnose.mistake(
    "never-exploding",
    "growth is never found",
    "Ask for both sides: a factor well above 1 is an illness too.",
)
def _(norms, tolerance):
    verdict = _diagnose(norms, tolerance)
    return "healthy" if verdict == "exploding" and np.isfinite(norms).all() else verdict


@diagnose.mistake(
    "tolerance-ignored",
    "any factor below 1 is called vanishing and any above 1 exploding",
    "No network hits 1 exactly. What is the tolerance for?",
)
def _(norms, tolerance):
    return _diagnose(norms, 0.0)


@diagnose.variant("logarithms")
def _(norms, tolerance):
    norms = np.asarray(norms, float)
    if np.isnan(norms).any() or np.isinf(norms).any():
        return "exploding"
    with np.errstate(divide="ignore"):
        rate = np.exp((np.log(norms[0]) - np.log(norms[-1])) / (len(norms) - 1))
    return _verdict(rate, tolerance)


@diagnose.variant("powers compared")
def _(norms, tolerance):
    steps = len(norms) - 1
    if not all(np.isfinite(n) for n in norms):
        return "exploding"
    if norms[0] < norms[-1] * (1 - tolerance) ** steps:
        return "vanishing"
    if norms[0] > norms[-1] * (1 + tolerance) ** steps:
        return "exploding"
    return "healthy"


@diagnose.variant("table")
def _(norms, tolerance):
    if not np.isfinite(np.sum(norms)):
        return "exploding"
    rate = np.power(norms[0] / norms[-1], 1 / (np.size(norms) - 1))
    names = ["vanishing", "healthy", "exploding"]
    return names[int(np.searchsorted([1 - tolerance, 1 + tolerance], rate))]


@diagnose.variant("NumPy string")
def _(norms, tolerance):
    return np.array([_diagnose(norms, tolerance)])[0]


def _repair_recurrent(params, gain):
    """Replace `W_hh` by `gain` times the orthogonal matrix that is nearest to it."""
    U, _, Vt = np.linalg.svd(params["W_hh"])
    return {**params, "W_hh": gain * U @ Vt}


def _repair_cases(rng, s):
    yield Case((_params(rng, s), 0.5 + 0.2 * rng.random()), "a gain below 1")
    sick = _params(rng, s)
    sick["W_hh"] *= 0.01
    yield Case((sick, 1.2), "weights that are far too small")
    sick = _params(rng, s)
    sick["W_hh"] *= 20
    yield Case((sick, 1.0), "weights that are far too large")


repair_recurrent = Exercise(
    name="repair_recurrent",
    reference=_repair_recurrent,
    section=START,
    axes={"params": "", "gain": ""},
    returns=("params",),
    draw=lambda rng, s: (_params(rng, s), 1.3 + 0.4 * rng.random()),
    special=_repair_cases,
    sizes=(
        {"T": 5, "B": 3, "D": 2, "H": 4, "V": 6},
        {"T": 4, "B": 6, "D": 7, "H": 3, "V": 5},
    ),
)


def _with_recurrent(params, W):
    return {**params, "W_hh": W}


@repair_recurrent.mistake(
    "norm-scaled",
    "`W_hh` is scaled so that its largest singular value is `gain`",
    "*All* singular values shall be `gain`: scaling leaves the small ones small, and those "
    "directions still vanish.",
)
def _(params, gain):
    W = params["W_hh"]
    return _with_recurrent(params, W * gain / np.linalg.norm(W, 2))


@repair_recurrent.mistake(
    "radius-scaled",
    "`W_hh` is scaled so that its spectral radius is `gain`",
    "The radius is about eigenvalues. *All singular values* shall be `gain`.",
)
def _(params, gain):
    W = params["W_hh"]
    return _with_recurrent(params, W * gain / np.abs(np.linalg.eigvals(W)).max())


@repair_recurrent.mistake(
    "identity",
    "`W_hh` is replaced by a multiple of the identity",
    "That is orthogonal too, but forgets all that the weights have learned. The *nearest* "
    "orthogonal matrix is wanted.",
)
def _(params, gain):
    return _with_recurrent(params, gain * np.eye(len(params["W_hh"])))


@repair_recurrent.mistake(
    "gain-ignored",
    "`gain` is not used",
    "All singular values of the result shall be `gain`.",
)
def _(params, gain):
    return _repair_recurrent(params, 1.0)


@repair_recurrent.mistake(
    "left-factor-only",
    "only the left singular vectors are used",
    "W = U S Vᵀ. Which of the three factors is ill, and which two must stay?",
)
def _(params, gain):
    return _with_recurrent(params, gain * np.linalg.svd(params["W_hh"])[0])


@repair_recurrent.mistake(
    "right-factor-transposed",
    "the right singular vectors are transposed once too often",
    "`np.linalg.svd` returns Vᵀ already.",
)
def _(params, gain):
    U, _, Vt = np.linalg.svd(params["W_hh"])
    return _with_recurrent(params, gain * U @ Vt.T)


@repair_recurrent.mistake(
    "result-transposed",
    "the orthogonal matrix is transposed",
    "The transpose turns the other way. It is not the nearest orthogonal matrix.",
)
def _(params, gain):
    U, _, Vt = np.linalg.svd(params["W_hh"])
    return _with_recurrent(params, gain * (U @ Vt).T)


@repair_recurrent.mistake(
    "qr-factor",
    "the Q of a QR decomposition is taken",
    "It is orthogonal, but not the *nearest* to the weights: QR keeps the first column's direction "
    "and bends the others to it.",
    section=DRAWING,
)
def _(params, gain):
    return _with_recurrent(params, gain * np.linalg.qr(params["W_hh"])[0])


@repair_recurrent.form("qr-factor")
def _(params, gain):
    Q, R = np.linalg.qr(params["W_hh"])
    return _with_recurrent(params, gain * Q * np.sign(np.diag(R)))


@repair_recurrent.mistake(
    "others-lost",
    "only `W_hh` is returned",
    "The network needs its other parameters too: return all of them.",
)
def _(params, gain):
    return {"W_hh": _repair_recurrent(params, gain)["W_hh"]}


@repair_recurrent.mistake(
    "all-weights-repaired",
    "the other weight matrices are replaced too",
    "Only `W_hh` is used again and again, so only its powers matter. Leave the rest alone.",
)
def _(params, gain):
    new = dict(params)
    for name in ("W_xh", "W_hh", "W_hy"):
        U, _, Vt = np.linalg.svd(params[name], full_matrices=False)
        new[name] = gain * U @ Vt
    return new


@repair_recurrent.mistake(
    "repaired-in-place",
    "the right parameters are returned, but the caller's dict or array is changed too",
    "You will want to compare the network before and after. Return a new dict.",
)
def _(params, gain):
    params["W_hh"] = _repair_recurrent(params, gain)["W_hh"]
    return params


@repair_recurrent.mistake(
    "nothing-repaired",
    "the parameters come back as they were",
    "Look at the singular values of your `W_hh`: are they all `gain`?",
)
def _(params, gain):
    return dict(params)


@repair_recurrent.variant("inverse root")
def _(params, gain):
    W = params["W_hh"]
    values, V = np.linalg.eigh(W.T @ W)
    return {**params, "W_hh": gain * (W @ (V / np.sqrt(values)) @ V.T)}


@repair_recurrent.variant("Newton's iteration")
def _(params, gain):
    W = np.array(params["W_hh"]) / np.linalg.norm(params["W_hh"])
    for _ in range(60):
        W = 0.5 * (W + np.linalg.inv(W).T)
    return {name: gain * W if name == "W_hh" else a.copy() for name, a in params.items()}


@repair_recurrent.variant("sum over singular vectors")
def _(params, gain):
    U, _, Vt = np.linalg.svd(params["W_hh"])
    new = dict(params)
    new["W_hh"] = sum(gain * np.outer(u, v) for u, v in zip(U.T, Vt, strict=True))
    return new


@repair_recurrent.variant("torch inside")
def _(params, gain):
    import torch

    U, _, Vt = torch.linalg.svd(torch.tensor(np.array(params["W_hh"])))
    return {**params, "W_hh": (gain * U @ Vt).numpy()}


def _training_step(params, x, targets, lr, max_norm):
    """Take one clipped step of gradient descent; return parameters, loss and norm."""
    loss, grads = _last_step_gradients(params, x, targets)
    norm = clipping.global_norm(grads)
    return clipping.sgd_step(params, grads, lr, max_norm), loss, norm


def _step_arguments(rng, s, share, lr=None):
    """Return arguments whose gradient norm is `share` times the limit."""
    params, x, targets = _batch(rng, s)
    norm = clipping.global_norm(_last_step_gradients(params, x, targets)[1])
    return params, x, targets, 0.2 + 0.3 * rng.random() if lr is None else lr, norm / share


def _step_cases(rng, s):
    yield Case(_step_arguments(rng, s, 0.4), "the gradient is shorter than the limit")
    yield Case(_step_arguments(rng, s, 6.0), "the gradient is far longer than the limit")
    yield Case(_step_arguments(rng, s, 1.5, 2.0), "a learning rate above 1")


training_step = Exercise(
    name="training_step",
    reference=_training_step,
    section=LOOP,
    axes={"params": "", "x": "T B D", "targets": "B", "lr": "", "max_norm": ""},
    returns=("params", "loss", "norm"),
    draw=lambda rng, s: _step_arguments(rng, s, 2.0),
    special=_step_cases,
)


def _moved(params, grads, lr):
    return {name: p - lr * grads[name] for name, p in params.items()}


@training_step.mistake(
    "uphill",
    "the parameters move along the gradient",
    "The gradient points to where the loss grows.",
)
def _(params, x, targets, lr, max_norm):
    loss, grads = _last_step_gradients(params, x, targets)
    clipped, norm = clipping.clip_by_global_norm(grads, max_norm)
    return _moved(params, clipped, -lr), loss, norm


@training_step.mistake(
    "not-clipped",
    "the gradient is not clipped",
    "`max_norm` is a ceiling for the global norm of the gradient.",
)
def _(params, x, targets, lr, max_norm):
    loss, grads = _last_step_gradients(params, x, targets)
    return _moved(params, grads, lr), loss, clipping.global_norm(grads)


@training_step.mistake(
    "always-scaled",
    "short gradients are stretched to the limit",
    "Clipping is a ceiling. A gradient below it stays as it is.",
    section=CLIP,
)
def _(params, x, targets, lr, max_norm):
    loss, grads = _last_step_gradients(params, x, targets)
    norm = clipping.global_norm(grads)
    return _moved(params, grads, lr * max_norm / norm), loss, norm


@training_step.mistake(
    "per-tensor",
    "each tensor is clipped by its own norm",
    "That changes the direction of the step. One factor for all tensors.",
    section=CLIP,
)
def _(params, x, targets, lr, max_norm):
    loss, grads = _last_step_gradients(params, x, targets)
    clipped = clipping.clip_per_tensor(grads, max_norm)
    return _moved(params, clipped, lr), loss, clipping.global_norm(grads)


@training_step.mistake(
    "by-value",
    "entries are clipped, not the norm",
    "That changes the direction of the step. One factor for all entries.",
    section=CLIP,
)
def _(params, x, targets, lr, max_norm):
    loss, grads = _last_step_gradients(params, x, targets)
    clipped = clipping.clip_by_value(grads, max_norm)
    return _moved(params, clipped, lr), loss, clipping.global_norm(grads)


@training_step.mistake(
    "update-clipped",
    "the gradient is clipped after it has been multiplied by the learning rate",
    "The limit is meant for the gradient, before the learning rate.",
)
def _(params, x, targets, lr, max_norm):
    loss, grads = _last_step_gradients(params, x, targets)
    step, _ = clipping.clip_by_global_norm({n: lr * g for n, g in grads.items()}, max_norm)
    return _moved(params, step, 1.0), loss, clipping.global_norm(grads)


@training_step.mistake(
    "clipped-norm-returned",
    "the norm after clipping is returned",
    "It never exceeds the limit, so it cannot tell how often clipping acts. Log the norm *before*.",
)
def _(params, x, targets, lr, max_norm):
    new, loss, norm = _training_step(params, x, targets, lr, max_norm)
    return new, loss, min(norm, max_norm)


@training_step.mistake(
    "loss-after-the-step",
    "the loss of the new parameters is returned",
    "The loss that belongs to the gradient is that *before* the step; another forward pass costs "
    "time.",
)
def _(params, x, targets, lr, max_norm):
    new, _, norm = _training_step(params, x, targets, lr, max_norm)
    return new, _last_step_gradients(new, x, targets)[0], norm


@training_step.mistake(
    "learning-rate-ignored",
    "the learning rate is not used",
    "`lr` sets the length of the step.",
)
def _(params, x, targets, lr, max_norm):
    return _training_step(params, x, targets, 1.0, max_norm)


@training_step.mistake(
    "gradients-returned",
    "the clipped gradients are returned in place of the new parameters",
    "The step itself is still to be taken.",
)
def _(params, x, targets, lr, max_norm):
    loss, grads = _last_step_gradients(params, x, targets)
    clipped, norm = clipping.clip_by_global_norm(grads, max_norm)
    return clipped, loss, norm


@training_step.mistake(
    "readout-not-trained",
    "the read-out keeps its parameters",
    "All five parameters are trained.",
)
def _(params, x, targets, lr, max_norm):
    new, loss, norm = _training_step(params, x, targets, lr, max_norm)
    return {**new, "W_hy": params["W_hy"], "b_y": params["b_y"]}, loss, norm


@training_step.mistake(
    "updated-in-place",
    "the right parameters are returned, but the caller's arrays are changed too",
    "`p -= …` writes into the array that was given. Return new arrays in a new dict.",
)
def _(params, x, targets, lr, max_norm):
    new, loss, norm = _training_step(params, x, targets, lr, max_norm)
    for name in params:
        params[name][...] = new[name]
    return params, loss, norm


@training_step.variant("factor")
def _(params, x, targets, lr, max_norm):
    loss, grads = _by_hand(params, x, targets)
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    factor = min(1.0, max_norm / norm)
    return {n: params[n] - lr * factor * grads[n] for n in grads}, loss, norm


@training_step.variant("flat vector")
def _(params, x, targets, lr, max_norm):
    loss, grads = _last_step_gradients(params, x, targets)
    norm = float(np.linalg.norm(np.concatenate([grads[n].ravel() for n in sorted(grads)])))
    length = lr if norm <= max_norm else lr * max_norm / norm
    return {n: np.add(p, -length * grads[n]) for n, p in params.items()}, loss, norm


@training_step.variant("norm of norms")
def _(params, x, targets, lr, max_norm):
    loss, grads = _last_step_gradients(params, x, targets)
    norm = np.linalg.norm([np.linalg.norm(g) for g in grads.values()])
    if norm > max_norm:
        grads = {n: g / norm * max_norm for n, g in grads.items()}
    return [_moved(params, grads, lr), loss, norm]


@training_step.variant("copies changed")
def _(params, x, targets, lr, max_norm):
    new = {n: np.array(p, float) for n, p in params.items()}
    loss, grads = _last_step_gradients(new, x, targets)
    norm = clipping.global_norm(grads)
    for n in new:
        new[n] -= lr * grads[n] / max(1, norm / max_norm)
    return new, loss, norm


def _recall_accuracy(params, x, targets):
    """Return the share of sequences whose answer, read from the last state, is right."""
    _, h = _states(params, x)
    return metrics.accuracy(_logits(params, h[-1]), targets)


def _accuracy_arguments(rng, s, B, share):
    """Return a batch of which a given share is answered rightly."""
    s = type(s)(**{**vars(s), "B": B})
    params, x, _ = _batch(rng, s)
    targets = _logits(params, _states(params, x)[1][-1]).argmax(axis=-1)
    wrong = rng.permutation(B)[round(share * B) :]
    targets[wrong] = (targets[wrong] + rng.integers(1, s.V, len(wrong))) % s.V
    return params, x, targets


def _accuracy_cases(rng, s):
    yield Case(_accuracy_arguments(rng, s, 41, 0.6), "a larger batch")
    yield Case(_accuracy_arguments(rng, s, 7, 1.0), "all answers are right")
    yield Case(_accuracy_arguments(rng, s, 7, 0.0), "no answer is right")
    yield Case(_accuracy_arguments(rng, s, 1, 1.0), "one sequence")


recall_accuracy = Exercise(
    name="recall_accuracy",
    reference=_recall_accuracy,
    section=READOUT,
    axes={"params": "", "x": "T B D", "targets": "B"},
    returns=("accuracy",),
    sizes=ONE,
    draw=lambda rng, s: _accuracy_arguments(rng, s, 53, 0.8),
    special=_accuracy_cases,
)


@recall_accuracy.mistake(
    "counted",
    "right answers are counted, not divided by their number",
    "A share lies between 0 and 1.",
)
def _(params, x, targets):
    return _recall_accuracy(params, x, targets) * len(targets)


@recall_accuracy.mistake(
    "error-rate",
    "the share of wrong answers is returned",
    "A network that is always right has the accuracy 1.",
)
def _(params, x, targets):
    return 1 - _recall_accuracy(params, x, targets)


@recall_accuracy.mistake(
    "first-state-read",
    "the first state is read out",
    "The answer is asked for at the end.",
)
def _(params, x, targets):
    return metrics.accuracy(_logits(params, _states(params, x)[1][0]), targets)


@recall_accuracy.mistake(
    "mean-state-read",
    "the mean of all states is read out",
    "The network was trained to answer from its *last* state.",
)
def _(params, x, targets):
    return metrics.accuracy(_logits(params, _states(params, x)[1].mean(axis=0)), targets)


@recall_accuracy.mistake(
    "every-step-read",
    "the answers at all steps are counted",
    "The answer is asked for at the end only.",
)
def _(params, x, targets):
    logits = _logits(params, _states(params, x)[1])
    return float((logits.argmax(axis=-1) == targets).mean())


@recall_accuracy.mistake(
    "smallest-logit",
    "the smallest logit is taken for the answer",
    "The answer is the class with the *largest* logit.",
)
def _(params, x, targets):
    _, h = _states(params, x)
    return float((_logits(params, h[-1]).argmin(axis=-1) == targets).mean())


@recall_accuracy.mistake(
    "probability-averaged",
    "the probability of the right class is averaged",
    "An answer is right or wrong, however sure the network is.",
)
def _(params, x, targets):
    _, h = _states(params, x)
    p = np.exp(rnn.log_softmax(_logits(params, h[-1])))
    return float(p[np.arange(len(targets)), targets].mean())


@recall_accuracy.mistake(
    "readout-bias-missing",
    "the bias of the read-out is left out",
    "The bias can decide which logit is the largest.",
)
def _(params, x, targets):
    return _recall_accuracy({**params, "b_y": 0 * params["b_y"]}, x, targets)


@recall_accuracy.mistake(
    "state-not-carried",
    "the last input is read from a fresh state",
    "Without the state the network sees nothing but the last distractor.",
)
def _(params, x, targets):
    return _recall_accuracy(params, x[-1:], targets)


@recall_accuracy.mistake(
    "percent",
    "the share is returned in percent",
    "A share lies between 0 and 1.",
)
def _(params, x, targets):
    return 100 * _recall_accuracy(params, x, targets)


@recall_accuracy.variant("loop")
def _(params, x, targets):
    right = 0
    for b in range(len(targets)):
        h = np.zeros(len(params["b_h"]))
        for x_t in x[:, b]:
            h = np.tanh(params["W_xh"] @ x_t + params["W_hh"] @ h + params["b_h"])
        right += int(np.argmax(params["W_hy"] @ h + params["b_y"]) == targets[b])
    return right / len(targets)


@recall_accuracy.variant("probabilities")
def _(params, x, targets):
    _, h = _states(params, x)
    p = np.exp(rnn.log_softmax(_logits(params, h[-1])))
    return np.mean(p.argmax(1) == targets)


@recall_accuracy.variant("count_nonzero")
def _(params, x, targets):
    h = np.zeros((x.shape[1], len(params["b_h"])))
    for x_t in x:
        h = np.tanh(x_t @ params["W_xh"].T + h @ params["W_hh"].T + params["b_h"])
    logits = h @ params["W_hy"].T + params["b_y"]
    return np.count_nonzero(np.argsort(logits)[:, -1] == targets) / np.size(targets)


@recall_accuracy.variant("largest equals right")
def _(params, x, targets):
    _, h = _states(params, x)
    logits = _logits(params, h[-1])
    return (logits[np.arange(len(targets)), targets] >= logits.max(axis=1)).mean().item()
