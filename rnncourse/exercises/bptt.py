"""Assignment 02: backpropagation through time, the loss, embeddings, and checks by differences."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from rnncourse import bptt, rnn
from rnncourse.exercises.spec import Case, Exercise, normal
from rnncourse.exercises.vanilla_rnn import (
    loss_arguments,
    loss_cases,
    position_weights,
    rnn_arguments,
)

STEP = "03-bptt: The derivation"
TIME = "03-bptt: The code"
SHARED = "03-bptt: All paths, not one"
LOSS = "03-bptt: Two kinds of gradient"
TABLE = "03-bptt: One more shared weight: embeddings"
CHECK = "03-bptt: Checking a gradient"


def _step_args(rng, s):
    x, h0, W_xh, W_hh, b_h = rnn_arguments(rng, s)
    h = rnn.rnn_step(x[0], h0, W_xh, W_hh, b_h)
    return normal(rng, s.B, s.H), x[0], h0, h, W_xh, W_hh


rnn_step_backward = Exercise(
    name="rnn_step_backward",
    reference=bptt.rnn_step_backward,
    section=STEP,
    axes={
        "dh": "B H",
        "x_t": "B D",
        "h_prev": "B H",
        "h": "B H",
        "W_xh": "H D",
        "W_hh": "H H",
    },
    returns=("dx: B D", "dh_prev: B H", "dW_xh: H D", "dW_hh: H H", "db_h: H"),
    draw=_step_args,
)


def _from_da(da, x_t, h_prev, W_xh, W_hh):
    """Return the five gradients for a given gradient of the pre-activation."""
    return da @ W_xh, da @ W_hh, da.T @ x_t, da.T @ h_prev, da.sum(axis=0)


@rnn_step_backward.mistake(
    "tanh-derivative-missing",
    "the derivative of tanh is missing",
    "Your gradients are right only where the state is near 0. Which function stands between the "
    "sum of the three terms and `h`?",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    return _from_da(dh, x_t, h_prev, W_xh, W_hh)


@rnn_step_backward.mistake(
    "tanh-twice",
    "the derivative takes the tanh of `h`, which is a tanh already",
    "The derivative is 1 - tanh(a)² with a *before* the tanh. What does `h` hold?",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    return _from_da(dh * (1 - np.tanh(h) ** 2), x_t, h_prev, W_xh, W_hh)


@rnn_step_backward.mistake(
    "square-missing",
    "the derivative is taken as 1 - h in place of 1 - h²",
    "A tanh is as steep at -a as at a. Is your factor the same for h and for -h?",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    return _from_da(dh * (1 - h), x_t, h_prev, W_xh, W_hh)


@rnn_step_backward.mistake(
    "sigmoid-derivative",
    "the derivative is that of the logistic sigmoid, h(1 - h)",
    "Your factor is 0 at h = 0, where tanh is steepest.",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    return _from_da(dh * h * (1 - h), x_t, h_prev, W_xh, W_hh)


@rnn_step_backward.mistake(
    "derivative-at-previous-state",
    "the derivative of tanh is taken at the previous state",
    "The tanh of this step produced `h`. Which of the two states tells how steep it was?",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    return _from_da(dh * (1 - h_prev**2), x_t, h_prev, W_xh, W_hh)


@rnn_step_backward.mistake(
    "derivative-inverted",
    "the gradient is divided by the derivative of tanh",
    "A saturated unit lets nothing through; in your version it lets the most through.",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    return _from_da(dh / (1 - h**2), x_t, h_prev, W_xh, W_hh)


@rnn_step_backward.mistake(
    "derivative-sign",
    "the derivative of tanh has the wrong sign",
    "tanh never falls, so its derivative is never negative.",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    return _from_da(dh * (h**2 - 1), x_t, h_prev, W_xh, W_hh)


@rnn_step_backward.mistake(
    "weight-gradient-from-new-state",
    "`dW_hh` is formed with `h` where the step used `h_prev`",
    "All else is right. `W_hh` was multiplied by a state: by which one?",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    return _from_da(dh * (1 - h**2), x_t, h, W_xh, W_hh)


@rnn_step_backward.mistake(
    "recurrent-weight-transposed",
    "`W_hh` is transposed on the way back",
    "Only `dh_prev` is wrong. Forward, a row of states is multiplied by `W_hh.T`; what undoes that "
    "orientation on the way back?",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh * (1 - h**2)
    return da @ W_xh, da @ W_hh.T, da.T @ x_t, da.T @ h_prev, da.sum(axis=0)


@rnn_step_backward.mistake(
    "input-weight-transposed",
    "`W_xh` is transposed on the way back",
    "It runs only when D = H, and then gives wrong numbers. Compare the shapes of `da` and `W_xh`.",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh * (1 - h**2)
    return da @ W_xh.T, da @ W_hh, da.T @ x_t, da.T @ h_prev, da.sum(axis=0)


@rnn_step_backward.mistake(
    "weight-gradients-transposed",
    "the weight gradients are transposed",
    "A gradient has the shape of its weight: (H, D) and (H, H). Rows belong to the units that "
    "receive.",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh * (1 - h**2)
    return da @ W_xh, da @ W_hh, x_t.T @ da, h_prev.T @ da, da.sum(axis=0)


@rnn_step_backward.mistake(
    "recurrent-gradient-transposed",
    "`dW_hh` is transposed",
    "`dW_hh` is square, so its shape cannot warn you. Compare it with how you form `dW_xh`.",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh * (1 - h**2)
    return da @ W_xh, da @ W_hh, da.T @ x_t, h_prev.T @ da, da.sum(axis=0)


@rnn_step_backward.mistake(
    "bias-mean-over-batch",
    "the bias gradient is averaged over the batch",
    "The same bias acts on every sequence. Its gradient collects what all of them ask for.",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh * (1 - h**2)
    return da @ W_xh, da @ W_hh, da.T @ x_t, da.T @ h_prev, da.mean(axis=0)


@rnn_step_backward.mistake(
    "all-divided-by-batch",
    "the gradients of weights and bias are divided by the batch size",
    "If the loss is a mean, `dh` contains the 1/B already; a second division is one too many.",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh * (1 - h**2)
    B = len(dh)
    return da @ W_xh, da @ W_hh, da.T @ x_t / B, da.T @ h_prev / B, da.sum(axis=0) / B


@rnn_step_backward.mistake(
    "bias-not-summed",
    "the bias gradient still has a batch axis",
    "A gradient has the shape of its parameter. What happens backward where the forward pass "
    "broadcast `b_h` over the batch?",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh * (1 - h**2)
    return da @ W_xh, da @ W_hh, da.T @ x_t, da.T @ h_prev, da


@rnn_step_backward.mistake(
    "bias-before-tanh-derivative",
    "the bias gradient sums `dh` before the tanh derivative",
    "The bias is added inside the tanh, together with the two products.",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh * (1 - h**2)
    return da @ W_xh, da @ W_hh, da.T @ x_t, da.T @ h_prev, dh.sum(axis=0)


@rnn_step_backward.mistake(
    "derivative-only-for-weights",
    "`dx` and `dh_prev` are formed without the tanh derivative",
    "Everything that enters the tanh passes its derivative on the way back, inputs and states too.",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh * (1 - h**2)
    return dh @ W_xh, dh @ W_hh, da.T @ x_t, da.T @ h_prev, da.sum(axis=0)


@rnn_step_backward.form("derivative-only-for-weights")
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh * (1 - h**2)
    return da @ W_xh, dh @ W_hh, da.T @ x_t, da.T @ h_prev, da.sum(axis=0)


@rnn_step_backward.mistake(
    "upstream-gradient-overwritten",
    "the upstream gradient `dh` is changed in place",
    "The numbers are right, but whoever called you has lost `dh`. `*=` writes into the caller's "
    "array.",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    dh *= 1 - h**2
    return _from_da(dh, x_t, h_prev, W_xh, W_hh)


@rnn_step_backward.mistake(
    "outputs-exchanged",
    "two outputs, such as `dx` and `dh_prev`, are returned in the wrong order",
    "Compare your `return` with the order in the docstring.",
)
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    dx, dh_prev, *rest = _from_da(dh * (1 - h**2), x_t, h_prev, W_xh, W_hh)
    return (dh_prev, dx, *rest)


@rnn_step_backward.form("outputs-exchanged")
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    dx, dh_prev, dW_xh, dW_hh, db_h = _from_da(dh * (1 - h**2), x_t, h_prev, W_xh, W_hh)
    return dx, dh_prev, dW_hh, dW_xh, db_h


@rnn_step_backward.variant("einsum")
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = np.einsum("bh,bh->bh", dh, 1 - h * h)
    return (
        np.einsum("bh,hd->bd", da, W_xh),
        np.einsum("bh,hk->bk", da, W_hh),
        np.einsum("bh,bd->hd", da, x_t),
        np.einsum("bh,bk->hk", da, h_prev),
        np.einsum("bh->h", da),
    )


@rnn_step_backward.variant("sample by sample")
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    dx, dh_prev = np.zeros_like(x_t), np.zeros_like(h_prev)
    dW_xh, dW_hh, db_h = np.zeros_like(W_xh), np.zeros_like(W_hh), np.zeros(len(W_hh))
    for b in range(len(dh)):
        da = (1 + h[b]) * (1 - h[b]) * dh[b]
        dx[b], dh_prev[b] = W_xh.T @ da, W_hh.T @ da
        dW_xh += np.outer(da, x_t[b])
        dW_hh += np.outer(da, h_prev[b])
        db_h += da
    return dx, dh_prev, dW_xh, dW_hh, db_h


@rnn_step_backward.variant("list of outputs, ones for the sum")
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh - dh * h**2
    both = da.T @ np.hstack([x_t, h_prev, np.ones((len(da), 1))])
    D = x_t.shape[1]
    return [da @ W_xh, da @ W_hh, both[:, :D], both[:, D:-1], both[:, -1]]


@rnn_step_backward.variant("recomputed cosh")
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    da = dh / np.cosh(np.arctanh(h)) ** 2
    return da @ W_xh, da @ W_hh, (x_t.T @ da).T, (h_prev.T @ da).T, da.sum(0)


@rnn_step_backward.variant("torch autograd inside")
def _(dh, x_t, h_prev, h, W_xh, W_hh):
    import torch

    x_t, h_prev, W_xh, W_hh = (
        torch.tensor(v, requires_grad=True) for v in (x_t, h_prev, W_xh, W_hh)
    )
    # the bias is not given, so the pre-activation is recovered from h
    with torch.no_grad():
        b = torch.atanh(torch.tensor(h)) - x_t @ W_xh.T - h_prev @ W_hh.T
    b.requires_grad_()
    out = torch.tanh(x_t @ W_xh.T + h_prev @ W_hh.T + b)
    out.backward(torch.tensor(dh))
    grads = (v.grad.numpy() for v in (x_t, h_prev, W_xh, W_hh))
    return (*grads, b.grad.sum(0).numpy())


def _sequence_args(rng, s):
    x, h0, W_xh, W_hh, b_h = rnn_arguments(rng, s)
    h = rnn.rnn_forward(x, h0, W_xh, W_hh, b_h)
    return normal(rng, s.T, s.B, s.H), x, h0, h, W_xh, W_hh


def _sequence_cases(rng, s):
    dh, *rest = _sequence_args(rng, s)
    dh[:-1] = 0
    yield Case((dh, *rest), "the loss reads the last state only")
    longer = SimpleNamespace(T=9, B=2, D=2, H=3)
    yield Case(_sequence_args(rng, longer), "a longer sequence")


rnn_backward = Exercise(
    name="rnn_backward",
    reference=bptt.rnn_backward,
    section=TIME,
    axes={
        "dh": "T B H",
        "x": "T B D",
        "h0": "B H",
        "h": "T B H",
        "W_xh": "H D",
        "W_hh": "H H",
    },
    returns=("dx: T B D", "dh0: B H", "dW_xh: H D", "dW_hh: H H", "db_h: H"),
    draw=_sequence_args,
    special=_sequence_cases,
)


def _bptt(
    dh,
    x,
    h0,
    h,
    W_xh,
    W_hh,
    *,
    derivative=lambda h, h_prev: 1 - h**2,
    back=None,
    carry=True,
    order=reversed,
    before=None,
):
    """Full BPTT with parts that can be exchanged for wrong ones; returns the terms of each step."""
    T = len(x)
    h_prev = np.concatenate([h0[None], h[:-1]]) if before is None else before
    back = W_hh if back is None else back
    da, dh_next = np.zeros_like(dh), np.zeros_like(h0)
    for t in order(range(T)):
        da[t] = (dh[t] + dh_next) * derivative(h[t], h_prev[t])
        if carry:
            dh_next = da[t] @ back
    return da, h_prev, dh_next


def _collect(da, x, h_prev, dh0, W_xh, steps=slice(None)):
    """Return the five gradients from the gradients of the pre-activations."""
    a = da[steps]
    return (
        da @ W_xh,
        dh0,
        np.einsum("tbh,tbd->hd", a, x[steps]),
        np.einsum("tbh,tbk->hk", a, h_prev[steps]),
        a.sum(axis=(0, 1)),
    )


def _wrong_bptt(dh, x, h0, h, W_xh, W_hh, **changes):
    da, h_prev, dh_next = _bptt(dh, x, h0, h, W_xh, W_hh, **changes)
    return _collect(da, x, h_prev, dh_next, W_xh)


@rnn_backward.mistake(
    "overwritten-not-summed",
    "each step overwrites the weight gradients of the step before (`=` for `+=`)",
    "Your weight gradients are those of step 0 alone. The same weights act at every step: what "
    "happens to their gradients?",
    section=SHARED,
)
def _(dh, x, h0, h, W_xh, W_hh):
    da, h_prev, dh_next = _bptt(dh, x, h0, h, W_xh, W_hh)
    return _collect(da, x, h_prev, dh_next, W_xh, slice(0, 1))


@rnn_backward.mistake(
    "only-last-use",
    "the weight gradients count only the last use of the weights",
    "The weights were used T times, and each use moves the loss. Which terms of the sum do "
    "you have?",
    section=SHARED,
)
def _(dh, x, h0, h, W_xh, W_hh):
    da, h_prev, dh_next = _bptt(dh, x, h0, h, W_xh, W_hh)
    return _collect(da, x, h_prev, dh_next, W_xh, slice(-1, None))


@rnn_backward.mistake(
    "gradient-not-carried",
    "no gradient flows from one step to the step before it",
    "Every step is treated as if nothing came after it. Through which path does `h[t]` reach the "
    "loss of step t + 1?",
)
def _(dh, x, h0, h, W_xh, W_hh):
    da, h_prev, _ = _bptt(dh, x, h0, h, W_xh, W_hh, carry=False)
    return _collect(da, x, h_prev, da[0] @ W_hh, W_xh)


@rnn_backward.form("gradient-not-carried")
def _(dh, x, h0, h, W_xh, W_hh):
    return _wrong_bptt(dh, x, h0, h, W_xh, W_hh, carry=False)


@rnn_backward.mistake(
    "direct-gradient-ignored",
    "only the gradient at the last step enters; `dh[t]` of earlier steps is not used",
    "The loss reads every state. The gradient at `h[t]` has two parts: one comes from later steps, "
    "where is the other?",
)
def _(dh, x, h0, h, W_xh, W_hh):
    last = np.zeros_like(dh)
    last[-1] = dh[-1]
    return _wrong_bptt(last, x, h0, h, W_xh, W_hh)


@rnn_backward.mistake(
    "loop-not-reversed",
    "the loop runs forwards in time",
    "Step t needs what step t + 1 sends back. In which order must the steps be visited?",
)
def _(dh, x, h0, h, W_xh, W_hh):
    return _wrong_bptt(dh, x, h0, h, W_xh, W_hh, order=list)


@rnn_backward.mistake(
    "weight-gradient-from-new-state",
    "`dW_hh` is formed with `h[t]` where the step used `h[t - 1]`",
    "All else is right. `W_hh` was multiplied by a state: by which one?",
    section=STEP,
)
def _(dh, x, h0, h, W_xh, W_hh):
    da, _, dh_next = _bptt(dh, x, h0, h, W_xh, W_hh)
    return _collect(da, x, h, dh_next, W_xh)


@rnn_backward.mistake(
    "h0-taken-as-zero",
    "step 0 is treated as if its previous state were zero",
    "Only `dW_hh` is wrong. Which state did step 0 read, and is it zero?",
)
def _(dh, x, h0, h, W_xh, W_hh):
    before = np.concatenate([np.zeros_like(h0)[None], h[:-1]])
    return _wrong_bptt(dh, x, h0, h, W_xh, W_hh, before=before)


@rnn_backward.mistake(
    "index-wraps-around",
    "at step 0, `h[t - 1]` is `h[-1]`, the last state",
    "Only `dW_hh` is wrong. Python counts negative indices from the end: print t - 1 at the "
    "first step.",
)
def _(dh, x, h0, h, W_xh, W_hh):
    return _wrong_bptt(dh, x, h0, h, W_xh, W_hh, before=np.roll(h, 1, axis=0))


@rnn_backward.mistake(
    "dh0-forgotten",
    "`dh0` is zero",
    "All else is right. The start state feeds step 0, so it has a gradient: the loop leaves it in "
    "a variable that you already have.",
)
def _(dh, x, h0, h, W_xh, W_hh):
    dx, _, *rest = bptt.rnn_backward(dh, x, h0, h, W_xh, W_hh)
    return (dx, np.zeros_like(h0), *rest)


@rnn_backward.mistake(
    "dh0-stops-at-first-state",
    "`dh0` is the gradient at `h[0]`, one step too early",
    "`h0` stands *before* `h[0]`: one more tanh and one more `W_hh` lie between them.",
)
def _(dh, x, h0, h, W_xh, W_hh):
    dx, _, *rest = bptt.rnn_backward(dh, x, h0, h, W_xh, W_hh)
    later = bptt.rnn_backward(dh[1:], x[1:], h[0], h[1:], W_xh, W_hh)[1] if len(x) > 1 else 0
    return (dx, dh[0] + later, *rest)


@rnn_backward.mistake(
    "dh0-only-direct",
    "`dh0` takes only the direct gradient at step 0 back, not what later steps send",
    "The total gradient at `h[0]` has two parts; both go on to `h0`.",
)
def _(dh, x, h0, h, W_xh, W_hh):
    dx, _, *rest = bptt.rnn_backward(dh, x, h0, h, W_xh, W_hh)
    return (dx, (dh[0] * (1 - h[0] ** 2)) @ W_hh, *rest)


@rnn_backward.mistake(
    "tanh-derivative-missing",
    "the derivative of tanh is missing",
    "Your gradients are too large and grow with every step back. Use the step that you have "
    "already written.",
    section=STEP,
)
def _(dh, x, h0, h, W_xh, W_hh):
    return _wrong_bptt(dh, x, h0, h, W_xh, W_hh, derivative=lambda h, h_prev: np.ones_like(h))


@rnn_backward.mistake(
    "tanh-twice",
    "the derivative takes the tanh of `h`, which is a tanh already",
    "The derivative is 1 - tanh(a)² with a *before* the tanh. What does `h` hold?",
    section=STEP,
)
def _(dh, x, h0, h, W_xh, W_hh):
    return _wrong_bptt(dh, x, h0, h, W_xh, W_hh, derivative=lambda h, h_prev: 1 - np.tanh(h) ** 2)


@rnn_backward.mistake(
    "square-missing",
    "the derivative is taken as 1 - h in place of 1 - h²",
    "A tanh is as steep at -a as at a. Is your factor the same for h and for -h?",
    section=STEP,
)
def _(dh, x, h0, h, W_xh, W_hh):
    return _wrong_bptt(dh, x, h0, h, W_xh, W_hh, derivative=lambda h, h_prev: 1 - h)


@rnn_backward.mistake(
    "derivative-at-previous-state",
    "the derivative of tanh is taken at the previous state",
    "The tanh of step t produced `h[t]`. Which state tells how steep it was?",
    section=STEP,
)
def _(dh, x, h0, h, W_xh, W_hh):
    return _wrong_bptt(dh, x, h0, h, W_xh, W_hh, derivative=lambda h, h_prev: 1 - h_prev**2)


@rnn_backward.mistake(
    "recurrent-weight-transposed",
    "`W_hh` is transposed on the way back",
    "The last step is right, and the error grows towards the first. `W_hh` is square, so its shape "
    "cannot warn you.",
    section=STEP,
)
def _(dh, x, h0, h, W_xh, W_hh):
    return _wrong_bptt(dh, x, h0, h, W_xh, W_hh, back=W_hh.T)


@rnn_backward.mistake(
    "divided-by-steps",
    "the weight gradients are divided by T",
    "The total derivative is a sum over the uses of a weight, not their mean.",
    section=SHARED,
)
def _(dh, x, h0, h, W_xh, W_hh):
    dx, dh0, *rest = bptt.rnn_backward(dh, x, h0, h, W_xh, W_hh)
    return (dx, dh0, *(g / len(x) for g in rest))


@rnn_backward.mistake(
    "divided-by-batch",
    "the weight gradients are divided by the batch size",
    "If the loss is a mean, `dh` contains the 1/B already; a second division is one too many.",
)
def _(dh, x, h0, h, W_xh, W_hh):
    dx, dh0, *rest = bptt.rnn_backward(dh, x, h0, h, W_xh, W_hh)
    return (dx, dh0, *(g / x.shape[1] for g in rest))


@rnn_backward.mistake(
    "bias-mean-over-batch",
    "the bias gradient is averaged over the batch",
    "The same bias acts on every sequence. Its gradient collects what all of them ask for.",
    section=STEP,
)
def _(dh, x, h0, h, W_xh, W_hh):
    *rest, db_h = bptt.rnn_backward(dh, x, h0, h, W_xh, W_hh)
    return (*rest, db_h / x.shape[1])


@rnn_backward.mistake(
    "upstream-gradient-overwritten",
    "the upstream gradient `dh` is changed in place",
    "The numbers are right, but whoever called you has lost `dh`. `dh[t] += ...` writes into the "
    "caller's array.",
)
def _(dh, x, h0, h, W_xh, W_hh):
    grads = bptt.rnn_backward(dh, x, h0, h, W_xh, W_hh)
    da, _, _ = _bptt(dh, x, h0, h, W_xh, W_hh)
    dh += np.concatenate([da[1:] @ W_hh, np.zeros_like(h0)[None]])
    return grads


@rnn_backward.form("upstream-gradient-overwritten")
def _(dh, x, h0, h, W_xh, W_hh):
    grads = bptt.rnn_backward(dh, x, h0, h, W_xh, W_hh)
    dh *= 1 - h**2
    return grads


@rnn_backward.mistake(
    "carried-gradient-piles-up",
    "the carried gradient is added to, not replaced, at each step",
    "What step t sends back already contains what it received. Adding it to the old "
    "value counts the later steps twice.",
)
def _(dh, x, h0, h, W_xh, W_hh):
    da, dh_next = np.zeros_like(dh), np.zeros_like(h0)
    for t in reversed(range(len(x))):
        da[t] = (dh[t] + dh_next) * (1 - h[t] ** 2)
        dh_next = dh_next + da[t] @ W_hh
    return _collect(da, x, np.concatenate([h0[None], h[:-1]]), dh_next, W_xh)


@rnn_backward.mistake(
    "carried-before-tanh-derivative",
    "the carried gradient skips the derivative of tanh",
    "The last step is right. What goes back to `h[t - 1]` has passed the tanh of step t as well.",
)
def _(dh, x, h0, h, W_xh, W_hh):
    da, dh_next = np.zeros_like(dh), np.zeros_like(h0)
    for t in reversed(range(len(x))):
        total = dh[t] + dh_next
        da[t] = total * (1 - h[t] ** 2)
        dh_next = total @ W_hh
    return _collect(da, x, np.concatenate([h0[None], h[:-1]]), dh_next, W_xh)


@rnn_backward.mistake(
    "derivative-only-for-direct-gradient",
    "the derivative of tanh multiplies only the direct gradient, not the carried one",
    "A pair of brackets is missing: the two parts of the gradient meet *before* they pass the "
    "tanh of the step.",
)
def _(dh, x, h0, h, W_xh, W_hh):
    da, dh_next = np.zeros_like(dh), np.zeros_like(h0)
    for t in reversed(range(len(x))):
        da[t] = dh[t] * (1 - h[t] ** 2) + dh_next
        dh_next = da[t] @ W_hh
    return _collect(da, x, np.concatenate([h0[None], h[:-1]]), dh_next, W_xh)


@rnn_backward.mistake(
    "dx-in-reverse-order",
    "`dx` is in reverse order of time",
    "The loop visits the last step first, so a list filled by `append` starts with the last step.",
)
def _(dh, x, h0, h, W_xh, W_hh):
    dx, *rest = bptt.rnn_backward(dh, x, h0, h, W_xh, W_hh)
    return (dx[::-1], *rest)


@rnn_backward.mistake(
    "dx-only-direct",
    "`dx` takes only the direct gradient of each step back",
    "`x[t]` reaches the loss of every later step too. Use the total gradient at step t.",
)
def _(dh, x, h0, h, W_xh, W_hh):
    _, *rest = bptt.rnn_backward(dh, x, h0, h, W_xh, W_hh)
    return (dh * (1 - h**2) @ W_xh, *rest)


@rnn_backward.mistake(
    "truncated-to-one-step",
    "the gradient is carried back one step only",
    "Right for T = 2, too short for longer sequences: what step t sends back must contain "
    "what it received itself.",
)
def _(dh, x, h0, h, W_xh, W_hh):
    direct = dh * (1 - h**2)
    sent = direct @ W_hh
    da = direct.copy()
    da[:-1] += sent[1:] * (1 - h[:-1] ** 2)
    return _collect(da, x, np.concatenate([h0[None], h[:-1]]), da[0] @ W_hh, W_xh)


@rnn_backward.mistake(
    "first-step-skipped",
    "the loop stops before step 0",
    "Count how often your loop runs when T = 1. Which index must be the last?",
)
def _(dh, x, h0, h, W_xh, W_hh):
    dx, dW_xh, dW_hh, db_h = np.zeros_like(x), np.zeros_like(W_xh), np.zeros_like(W_hh), 0
    db_h = np.zeros(len(W_hh))
    dh_next = np.zeros_like(h0)
    for t in range(len(x) - 1, 0, -1):
        dx[t], dh_next, a, b, c = bptt.rnn_step_backward(
            dh[t] + dh_next, x[t], h[t - 1], h[t], W_xh, W_hh
        )
        dW_xh, dW_hh, db_h = dW_xh + a, dW_hh + b, db_h + c
    return dx, dh_next, dW_xh, dW_hh, db_h


@rnn_backward.variant("pre-activations first, then einsum")
def _(dh, x, h0, h, W_xh, W_hh):
    da, h_prev, dh0 = _bptt(dh, x, h0, h, W_xh, W_hh)
    return _collect(da, x, h_prev, dh0, W_xh)


@rnn_backward.variant("recursion over time")
def _(dh, x, h0, h, W_xh, W_hh):
    def back(t, dh_next):
        if t < 0:
            return [], dh_next, 0.0, 0.0, 0.0
        h_prev = h[t - 1] if t else h0
        dx, dh_next, a, b, c = bptt.rnn_step_backward(
            dh[t] + dh_next, x[t], h_prev, h[t], W_xh, W_hh
        )
        dxs, dh0, A, B, C = back(t - 1, dh_next)
        return [*dxs, dx], dh0, A + a, B + b, C + c

    dxs, dh0, *grads = back(len(x) - 1, np.zeros_like(h0))
    return (np.array(dxs), dh0, *grads)


@rnn_backward.variant("one gradient per source step")
def _(dh, x, h0, h, W_xh, W_hh):
    total = None
    for s in range(len(x)):
        only = np.zeros_like(dh[: s + 1])
        only[s] = dh[s]
        da, h_prev, dh0 = _bptt(only, x[: s + 1], h0, h[: s + 1], W_xh, W_hh)
        da = np.concatenate([da, np.zeros_like(dh[s + 1 :])])
        h_prev = np.concatenate([h0[None], h[:-1]])
        part = _collect(da, x, h_prev, dh0, W_xh)
        total = part if total is None else tuple(a + b for a, b in zip(total, part, strict=True))
    return total


@rnn_backward.variant("sequence by sequence")
def _(dh, x, h0, h, W_xh, W_hh):
    parts = [
        bptt.rnn_backward(
            *(np.ascontiguousarray(a[:, b : b + 1]) for a in (dh, x)),
            h0[b : b + 1],
            h[:, b : b + 1],
            W_xh,
            W_hh,
        )
        for b in range(x.shape[1])
    ]
    dx, dh0, *weights = zip(*parts, strict=True)
    return [np.concatenate(dx, axis=1), np.concatenate(dh0), *(sum(w) for w in weights)]


@rnn_backward.variant("torch autograd inside")
def _(dh, x, h0, h, W_xh, W_hh):
    import torch

    h_prev = np.concatenate([h0[None], h[:-1]])
    b = np.arctanh(h) - x @ W_xh.T - h_prev @ W_hh.T
    x, h0, W_xh, W_hh, b = (torch.tensor(v, requires_grad=True) for v in (x, h0, W_xh, W_hh, b))
    state, loss = h0, 0.0
    for t in range(len(x)):
        state = torch.tanh(x[t] @ W_xh.T + state @ W_hh.T + b[t])
        loss = loss + (state * torch.tensor(dh[t])).sum()
    loss.backward()
    return (*(v.grad.numpy() for v in (x, h0, W_xh, W_hh)), b.grad.sum((0, 1)).numpy())


cross_entropy_backward = Exercise(
    name="cross_entropy_backward",
    reference=bptt.cross_entropy_backward,
    section=LOSS,
    axes={"logits": "T B V", "targets": "T B", "mask": "T B"},
    returns=("dlogits: T B V",),
    draw=loss_arguments,
    special=loss_cases,
)


def _softmax(logits, axis=-1):
    e = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _one_hot(logits, targets):
    return np.eye(logits.shape[-1])[targets]


def _weights(targets, mask):
    return position_weights(targets, mask)[..., None]


@cross_entropy_backward.mistake(
    "not-averaged",
    "the gradient is not divided by the number of valid positions",
    "The loss is a mean, so each position carries only its share of it.",
)
def _(logits, targets, mask=None):
    return (_softmax(logits) - _one_hot(logits, targets)) * _weights(targets, mask)


@cross_entropy_backward.mistake(
    "divided-by-all-positions",
    "the gradient is divided by T·B where some positions are masked",
    "Divide by what the loss divides by: more padding must not make the gradient smaller.",
)
def _(logits, targets, mask=None):
    d = (_softmax(logits) - _one_hot(logits, targets)) * _weights(targets, mask)
    return d / targets.size


@cross_entropy_backward.mistake(
    "divided-by-batch-only",
    "the gradient is divided by the batch size alone",
    "The loss is a mean over all valid positions, in all steps of all sequences.",
)
def _(logits, targets, mask=None):
    d = (_softmax(logits) - _one_hot(logits, targets)) * _weights(targets, mask)
    return d / targets.shape[1]


@cross_entropy_backward.mistake(
    "mask-ignored",
    "the mask is not used",
    "Masked positions do not enter the loss, so nothing can flow back to them.",
)
def _(logits, targets, mask=None):
    return (_softmax(logits) - _one_hot(logits, targets)) / targets.size


@cross_entropy_backward.mistake(
    "mask-only-in-count",
    "masked positions still get a gradient, though the count is right",
    "Your divisor knows the mask; what about the entries themselves?",
)
def _(logits, targets, mask=None):
    return (_softmax(logits) - _one_hot(logits, targets)) / _weights(targets, mask).sum()


@cross_entropy_backward.mistake(
    "mask-inverted",
    "the mask is read the wrong way round",
    "True means that a position counts.",
)
def _(logits, targets, mask=None):
    w = _weights(targets, mask) if mask is None else 1 - _weights(targets, mask)
    return (_softmax(logits) - _one_hot(logits, targets)) * w / w.sum()


@cross_entropy_backward.mistake(
    "one-hot-missing",
    "the target is not subtracted: the result holds probabilities",
    "The gradient would push every logit down, the right one too. Each row must sum to 0.",
)
def _(logits, targets, mask=None):
    w = _weights(targets, mask)
    return _softmax(logits) * w / w.sum()


@cross_entropy_backward.mistake(
    "softmax-missing",
    "the logits are used where the probabilities belong",
    "Differentiate the log of the normaliser: what does it turn the logits into?",
)
def _(logits, targets, mask=None):
    w = _weights(targets, mask)
    return (logits - _one_hot(logits, targets)) * w / w.sum()


@cross_entropy_backward.mistake(
    "sign",
    "the sign is wrong",
    "The loss falls when the right logit grows. Which sign has its gradient then?",
)
def _(logits, targets, mask=None):
    return -bptt.cross_entropy_backward(logits, targets, mask)


@cross_entropy_backward.mistake(
    "class-index-subtracted",
    "the number of the class is subtracted, not 1 at its place",
    "A target is a name, not a quantity: class 3 is not three times class 1.",
)
def _(logits, targets, mask=None):
    w = _weights(targets, mask)
    return (_softmax(logits) - targets[..., None]) * w / w.sum()


@cross_entropy_backward.mistake(
    "gradient-of-probability",
    "the gradient is taken with respect to the probabilities, not the logits",
    "-1/p at the target is the first factor of the chain rule. The softmax makes the second.",
)
def _(logits, targets, mask=None):
    w = _weights(targets, mask)
    return -_one_hot(logits, targets) / _softmax(logits) * w / w.sum()


@cross_entropy_backward.mistake(
    "softmax-jacobian-twice",
    "the difference is multiplied by p(1 - p) as well",
    "Softmax and logarithm together give a difference; their derivatives are already inside it.",
)
def _(logits, targets, mask=None):
    w = _weights(targets, mask)
    p = _softmax(logits)
    return (p - _one_hot(logits, targets)) * p * (1 - p) * w / w.sum()


@cross_entropy_backward.mistake(
    "softmax-over-wrong-axis",
    "the softmax runs over another axis than the classes",
    "For one position, the probabilities of the V classes must sum to 1. Which axis is that?",
)
def _(logits, targets, mask=None):
    w = _weights(targets, mask)
    return (_softmax(logits, axis=0) - _one_hot(logits, targets)) * w / w.sum()


@cross_entropy_backward.form("softmax-over-wrong-axis")
def _(logits, targets, mask=None):
    w = _weights(targets, mask)
    return (_softmax(logits, axis=1) - _one_hot(logits, targets)) * w / w.sum()


@cross_entropy_backward.form("softmax-over-wrong-axis")
def _(logits, targets, mask=None):
    w = _weights(targets, mask)
    return (_softmax(logits, axis=None) - _one_hot(logits, targets)) * w / w.sum()


@cross_entropy_backward.mistake(
    "overflow",
    "the exponential of a large logit overflows",
    "exp(1000) is infinity. A softmax does not change when the same number is subtracted from "
    "all logits of a position.",
)
def _(logits, targets, mask=None):
    e = np.exp(logits)
    w = _weights(targets, mask)
    return (e / e.sum(axis=-1, keepdims=True) - _one_hot(logits, targets)) * w / w.sum()


@cross_entropy_backward.mistake(
    "one-maximum-for-all",
    "one maximum is subtracted from all positions together",
    "Positions whose logits lie far below the largest of the batch underflow to 0/0. Every "
    "position has a maximum of its own.",
)
def _(logits, targets, mask=None):
    e = np.exp(logits - logits.max())
    w = _weights(targets, mask)
    return (e / e.sum(axis=-1, keepdims=True) - _one_hot(logits, targets)) * w / w.sum()


@cross_entropy_backward.mistake(
    "logits-overwritten",
    "the logits are changed in place",
    "The numbers are right, but the caller's logits are gone. `-=` writes into the caller's array.",
)
def _(logits, targets, mask=None):
    d = bptt.cross_entropy_backward(logits, targets, mask)
    logits -= logits.max(axis=-1, keepdims=True)
    return d


@cross_entropy_backward.variant("loops")
def _(logits, targets, mask=None):
    d = np.zeros(logits.shape)
    count = targets.size if mask is None else np.count_nonzero(mask)
    for i in np.ndindex(targets.shape):
        if mask is not None and not mask[i]:
            continue
        e = np.exp(logits[i] - max(logits[i]))
        d[i] = e / sum(e) / count
        d[i][targets[i]] -= 1 / count
    return d


@cross_entropy_backward.variant("fancy indexing")
def _(logits, targets, mask=None):
    d = _softmax(logits.reshape(-1, logits.shape[-1]))
    d[np.arange(len(d)), targets.reshape(-1)] -= 1
    if mask is not None:
        d[~mask.reshape(-1)] = 0
    d /= targets.size if mask is None else mask.sum()
    return d.reshape(logits.shape)


@cross_entropy_backward.variant("put_along_axis")
def _(logits, targets, mask=None):
    mask = np.ones(targets.shape, bool) if mask is None else mask
    d = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    index = np.expand_dims(targets, -1)
    np.put_along_axis(d, index, np.take_along_axis(d, index, -1) - 1, -1)
    return np.where(mask[..., None], d / mask.sum(), 0.0)


@cross_entropy_backward.variant("torch autograd inside")
def _(logits, targets, mask=None):
    import torch

    z = torch.tensor(logits, requires_grad=True)
    y = torch.tensor(targets if mask is None else np.where(mask, targets, -100))
    torch.nn.functional.cross_entropy(z.flatten(0, 1), y.flatten()).backward()
    return z.grad.numpy()


def _embedding_args(rng, s):
    tokens = rng.integers(0, s.V - 1, (s.T, s.B))  # the last row is never looked up
    tokens.flat[:2], tokens.flat[-1] = (0, s.V - 2), 0
    return normal(rng, s.T, s.B, s.D), tokens, s.V


def _embedding_cases(rng, s):
    dout, _, V = _embedding_args(rng, s)
    yield Case((dout, np.full((s.T, s.B), s.V - 2), V), "all tokens are the same")
    one = rng.permutation(V)[:, None]
    yield Case((normal(rng, V, 1, s.D), one, V), "every token occurs once")


embedding_backward = Exercise(
    name="embedding_backward",
    reference=bptt.embedding_backward,
    section=TABLE,
    axes={"dout": "T B D", "tokens": "T B", "V": ""},
    returns=("dE: V D",),
    draw=_embedding_args,
    special=_embedding_cases,
    sizes=(
        {"T": 5, "B": 3, "D": 2, "H": 4, "V": 6},
        {"T": 4, "B": 6, "D": 7, "H": 3, "V": 5},
        {"T": 3, "B": 1, "D": 4, "H": 2, "V": 5},
        {"T": 4, "B": 4, "D": 4, "H": 4, "V": 4},
    ),
)


@embedding_backward.mistake(
    "repeated-tokens-lost",
    "of several equal tokens, only one counts",
    "`dE[tokens] += dout` reads once, adds, and writes once per position: a repeated index keeps "
    "the last write. Which NumPy function adds every time?",
)
def _(dout, tokens, V):
    dE = np.zeros((V, dout.shape[-1]))
    dE[tokens] += dout
    return dE


@embedding_backward.mistake(
    "averaged-over-occurrences",
    "the row of a token is the mean over its occurrences",
    "A token that occurs twice moves the loss twice. Sum, do not average.",
)
def _(dout, tokens, V):
    count = np.bincount(tokens.ravel(), minlength=V)[:, None]
    return bptt.embedding_backward(dout, tokens, V) / np.maximum(count, 1)


@embedding_backward.mistake(
    "divided-by-batch",
    "the gradient is divided by the batch size",
    "If the loss is a mean, `dout` contains the division already.",
)
def _(dout, tokens, V):
    return bptt.embedding_backward(dout, tokens, V) / tokens.shape[1]


@embedding_backward.mistake(
    "divided-by-positions",
    "the gradient is divided by the number of tokens",
    "If the loss is a mean, `dout` contains the division already.",
)
def _(dout, tokens, V):
    return bptt.embedding_backward(dout, tokens, V) / tokens.size


@embedding_backward.mistake(
    "only-tokens-that-occur",
    "rows of tokens that do not occur are left out",
    "The embedding matrix has V rows whatever the batch holds: the gradient has its shape.",
)
def _(dout, tokens, V):
    return bptt.embedding_backward(dout, tokens, V)[np.unique(tokens)]


@embedding_backward.form("only-tokens-that-occur")
def _(dout, tokens, V):
    return bptt.embedding_backward(dout, tokens, V)[: tokens.max() + 1]


@embedding_backward.mistake(
    "token-zero-dropped",
    "token 0 gets no gradient",
    "Here token 0 is a token like all others. Padding is the business of the mask.",
)
def _(dout, tokens, V):
    dE = bptt.embedding_backward(dout, tokens, V)
    dE[0] = 0
    return dE


@embedding_backward.mistake(
    "only-last-step",
    "only the tokens of the last step count",
    "The embedding was looked up at every step.",
)
def _(dout, tokens, V):
    return bptt.embedding_backward(dout[-1], tokens[-1], V)


@embedding_backward.mistake(
    "last-sequence-only",
    "only the tokens of one sequence count",
    "The embedding was looked up for every sequence of the batch.",
)
def _(dout, tokens, V):
    return bptt.embedding_backward(dout[:, -1], tokens[:, -1], V)


@embedding_backward.form("last-sequence-only")
def _(dout, tokens, V):
    return bptt.embedding_backward(dout[:, 0], tokens[:, 0], V)


@embedding_backward.mistake(
    "transposed",
    "the result has shape (D, V)",
    "A gradient has the shape of its parameter: one row per token.",
)
def _(dout, tokens, V):
    return bptt.embedding_backward(dout, tokens, V).T


@embedding_backward.mistake(
    "sum-over-features",
    "the features are summed: the result has one number per token",
    "Every component of a token's vector has a gradient of its own.",
)
def _(dout, tokens, V):
    return bptt.embedding_backward(dout, tokens, V).sum(axis=1)


@embedding_backward.mistake(
    "axes-mixed",
    "tokens and gradients are flattened in different orders",
    "If you flatten both arrays, position (t, b) must land at the same place in both.",
)
def _(dout, tokens, V):
    return bptt.embedding_backward(dout.reshape(-1, dout.shape[-1]), tokens.T.ravel(), V)


@embedding_backward.variant("one-hot product")
def _(dout, tokens, V):
    one_hot = np.eye(V)[tokens.ravel()]
    return one_hot.T @ dout.reshape(tokens.size, -1)


@embedding_backward.variant("loop")
def _(dout, tokens, V):
    dE = [[0.0] * dout.shape[-1] for _ in range(V)]
    for t, row in enumerate(tokens):
        for b, v in enumerate(row):
            for d, g in enumerate(dout[t, b]):
                dE[v][d] += g
    return dE


@embedding_backward.variant("bincount per feature")
def _(dout, tokens, V):
    flat = dout.reshape(-1, dout.shape[-1])
    columns = [np.bincount(tokens.ravel(), weights=c, minlength=V) for c in flat.T]
    return np.stack(columns, axis=1)


@embedding_backward.variant("masked sums")
def _(dout, tokens, V):
    return np.array([dout[tokens == v].sum(axis=0) for v in range(V)])


@embedding_backward.variant("einsum over comparison")
def _(dout, tokens, V):
    return np.einsum("tbd,tbv->vd", dout, tokens[..., None] == np.arange(V))


@embedding_backward.variant("torch inside")
def _(dout, tokens, V):
    import torch

    dE = torch.zeros(V, dout.shape[-1], dtype=torch.tensor(dout).dtype)
    flat = torch.tensor(dout.reshape(-1, dout.shape[-1]))
    return dE.index_add_(0, torch.tensor(tokens.ravel()), flat).numpy()


def _smooth(coefficients):
    """Return a scalar function whose partial derivatives all differ and whose third ones matter."""

    def f(a):
        a = np.asarray(a, dtype=float)
        return float(np.sum(coefficients * a**3 + np.sin(a)) + np.prod(1 + 0.3 * np.cos(a)))

    return f


def _difference_args(rng, shape, eps):
    return _smooth(1 + rng.random(shape)), rng.uniform(0.5, 1.5, shape), eps


numerical_gradient = Exercise(
    name="numerical_gradient",
    reference=bptt.numerical_gradient,
    section=CHECK,
    axes={"f": "", "a": "", "eps": ""},
    returns=("grad",),
    sizes=({"D": 3},),
    draw=lambda rng, s: _difference_args(rng, (2, 3), 0.05),
    special=lambda rng, s: [
        Case(_difference_args(rng, (4,), 1e-5)),
        Case(_difference_args(rng, (2, 1, 3), 1e-3)),
        Case(_difference_args(rng, (3, 3), 0.2)),
        Case(_difference_args(rng, (1,), 0.1), "one entry"),
    ],
    float32=False,
)


def _differences(f, a, quotient, result=None):
    grad = np.zeros_like(a) if result is None else result
    for i in np.ndindex(a.shape):
        step = np.zeros_like(a)
        step[i] = 1
        grad[i] = quotient(a, step)
    return grad


@numerical_gradient.mistake(
    "forward-difference",
    "the difference is one-sided: f(a + eps) - f(a)",
    "Your error shrinks with eps, a central difference's with eps². Step to both sides.",
)
def _(f, a, eps):
    return _differences(f, a, lambda a, e: (f(a + eps * e) - f(a)) / eps)


@numerical_gradient.mistake(
    "backward-difference",
    "the difference is one-sided: f(a) - f(a - eps)",
    "Your error shrinks with eps, a central difference's with eps². Step to both sides.",
)
def _(f, a, eps):
    return _differences(f, a, lambda a, e: (f(a) - f(a - eps * e)) / eps)


@numerical_gradient.mistake(
    "divided-by-eps",
    "the difference is divided by eps, not by the distance of the two points",
    "Your gradient is twice too large. How far apart are the two points?",
)
def _(f, a, eps):
    return _differences(f, a, lambda a, e: (f(a + eps * e) - f(a - eps * e)) / eps)


@numerical_gradient.mistake(
    "brackets-missing",
    "the division by 2·eps is written as / 2 * eps",
    "`x / 2 * eps` multiplies by eps: Python reads from left to right.",
)
def _(f, a, eps):
    return _differences(f, a, lambda a, e: (f(a + eps * e) - f(a - eps * e)) / 2 * eps)


@numerical_gradient.mistake(
    "not-divided",
    "the difference is not divided by the distance of the points",
    "A difference of values is no slope yet.",
)
def _(f, a, eps):
    return _differences(f, a, lambda a, e: f(a + eps * e) - f(a - eps * e))


@numerical_gradient.mistake(
    "sign",
    "the two values are subtracted in the wrong order",
    "For a function that grows, your gradient is negative.",
)
def _(f, a, eps):
    return -bptt.numerical_gradient(f, a, eps)


@numerical_gradient.mistake(
    "eps-ignored",
    "the argument `eps` is not used",
    "Your step has a size of its own. The caller chooses `eps` to see how the error depends on it.",
)
def _(f, a, eps):
    return bptt.numerical_gradient(f, a, 1e-5)


@numerical_gradient.form("eps-ignored")
def _(f, a, eps):
    return bptt.numerical_gradient(f, a, 1e-3)


@numerical_gradient.form("eps-ignored")
def _(f, a, eps):
    return bptt.numerical_gradient(f, a, 1e-4)


@numerical_gradient.form("eps-ignored")
def _(f, a, eps):
    return bptt.numerical_gradient(f, a, 1e-6)


@numerical_gradient.mistake(
    "all-coordinates-at-once",
    "all entries are moved together",
    "That gives one number, the slope in the direction (1, …, 1). A partial derivative moves one "
    "entry and holds the others.",
)
def _(f, a, eps):
    return np.full(a.shape, (f(a + eps) - f(a - eps)) / (2 * eps))


@numerical_gradient.form("all-coordinates-at-once")
def _(f, a, eps):
    return (f(a + eps) - f(a - eps)) / (2 * eps)


@numerical_gradient.mistake(
    "rows-moved-together",
    "whole rows are moved together",
    "`a[i]` of a matrix is a row. Every entry needs a derivative of its own.",
)
def _(f, a, eps):
    grad = np.zeros_like(a)
    for i in range(len(a)):
        step = np.zeros_like(a)
        step[i] = eps
        grad[i] = (f(a + step) - f(a - step)) / (2 * eps)
    return grad


@numerical_gradient.mistake(
    "not-restored",
    "an entry is not put back before the next one is moved",
    "From the second entry on, you stand at another point. And the caller's array is changed.",
)
def _(f, a, eps):
    grad = np.zeros_like(a)
    for i in np.ndindex(a.shape):
        a[i] += eps
        f_plus = f(a.copy())
        a[i] -= 2 * eps
        grad[i] = (f_plus - f(a.copy())) / (2 * eps)
    return grad


@numerical_gradient.form("not-restored")
def _(f, a, eps):
    grad, a = np.zeros_like(a), a.copy()
    for i in np.ndindex(a.shape):
        a[i] += eps
        f_plus = f(a)
        a[i] -= 2 * eps
        grad[i] = (f_plus - f(a)) / (2 * eps)
    return grad


@numerical_gradient.mistake(
    "flattened",
    "the result is a vector, not of the shape of `a`",
    "The gradient has the shape of what it is taken by.",
)
def _(f, a, eps):
    return bptt.numerical_gradient(f, a, eps).ravel()


@numerical_gradient.mistake(
    "relative-step",
    "the step is eps times the entry",
    "The step is `eps` in every coordinate; at an entry of 0, yours would be 0.",
)
def _(f, a, eps):
    return _differences(
        f, a, lambda a, e: (f(a + eps * e * a) - f(a - eps * e * a)) / (2 * eps * (e * a).sum())
    )


@numerical_gradient.variant("flat view")
def _(f, a, eps):
    def partial(i):
        step = np.zeros(a.size)
        step[i] = eps
        step = step.reshape(a.shape)
        return 0.5 / eps * (f(a + step) - f(a - step))

    return np.array([partial(i) for i in range(a.size)]).reshape(a.shape)


@numerical_gradient.variant("restored in place")
def _(f, a, eps):
    grad = np.zeros_like(a)
    it = np.nditer(a, flags=["multi_index"], op_flags=[["readwrite"]])
    for _ in it:
        i = it.multi_index
        old = a[i]
        a[i] = old + eps
        f_plus = f(a)
        a[i] = old - eps
        grad[i] = (f_plus - f(a)) / (2 * eps)
        a[i] = old
    return grad


@numerical_gradient.variant("moved back by subtraction")
def _(f, a, eps):
    grad = np.empty(a.shape)
    for i in np.ndindex(*a.shape):
        a[i] += eps
        grad[i] = f(a) / (2 * eps)
        a[i] -= 2 * eps
        grad[i] -= f(a) / (2 * eps)
        a[i] += eps
    return grad


@numerical_gradient.variant("mean of both sides")
def _(f, a, eps):
    grad = np.zeros_like(a)
    centre = f(a)
    for i in np.ndindex(a.shape):
        up, down = a.copy(), a.copy()
        up[i] += eps
        down[i] -= eps
        grad[i] = ((f(up) - centre) / eps + (centre - f(down)) / eps) / 2
    return grad


@numerical_gradient.variant("identity matrix")
def _(f, a, eps):
    steps = np.eye(a.size).reshape(a.size, *a.shape) * eps
    return np.reshape([(f(a + e) - f(a - e)) / eps / 2 for e in steps], a.shape)


def _pair(rng, shape, size=1.0):
    a = normal(rng, *shape) * size
    return a, a + 0.3 * normal(rng, *shape) * size


relative_error = Exercise(
    name="relative_error",
    reference=bptt.relative_error,
    section=CHECK,
    axes={"a": "", "b": ""},
    returns=("error",),
    sizes=({"D": 3, "H": 4},),
    draw=lambda rng, s: _pair(rng, (4, 3)),
    special=lambda rng, s: [
        Case(_pair(rng, (5,))),
        Case((normal(rng, 2, 3, 4), 3 * normal(rng, 2, 3, 4)), "arrays of very different size"),
        Case(_pair(rng, (3, 3), 1e-9), "tiny arrays"),
        Case((np.zeros((2, 3)), np.zeros((2, 3))), "both are zero"),
        Case((normal(rng, 2, 3), np.zeros((2, 3))), "one is zero"),
        Case((normal(rng, 1), -2 * normal(rng, 1)), "one entry"),
    ],
)


def _norm(a):
    return np.sqrt((a**2).sum())


@relative_error.mistake(
    "no-zero-case",
    "two arrays of zeros give NaN",
    "0/0 is not a number. Two equal arrays have the error 0, also when they are zero.",
)
def _(a, b):
    return _norm(a - b) / (_norm(a) + _norm(b))


@relative_error.mistake(
    "divided-by-one-norm",
    "the difference is divided by the norm of one array",
    "Exchange the two arguments: your answer changes. The scale must treat both alike.",
)
def _(a, b):
    return _norm(a - b) / _norm(a) if _norm(a) else 0.0


@relative_error.form("divided-by-one-norm")
def _(a, b):
    return _norm(a - b) / _norm(b) if _norm(b) else 0.0


@relative_error.mistake(
    "divided-by-larger-norm",
    "the difference is divided by the larger norm, not by the sum of both",
    "For b = -a your error is 2. The scale of this measure ends at 1.",
)
def _(a, b):
    scale = max(_norm(a), _norm(b))
    return _norm(a - b) / scale if scale else 0.0


@relative_error.mistake(
    "absolute-error",
    "the difference is not divided by a scale",
    "1e-3 is a large error for gradients of 1e-3 and a small one for gradients of 1000.",
)
def _(a, b):
    return _norm(a - b)


@relative_error.mistake(
    "squares-not-rooted",
    "the norms are not rooted",
    "Your norms are sums of squares; the root is missing.",
)
def _(a, b):
    scale = (a**2).sum() + (b**2).sum()
    return ((a - b) ** 2).sum() / scale if scale else 0.0


@relative_error.mistake(
    "constant-in-denominator",
    "a constant in the denominator swallows small arrays",
    "Your error is far too small for tiny gradients: there, your constant is the scale. Treat the "
    "case of zeros on its own.",
)
def _(a, b):
    return _norm(a - b) / (_norm(a) + _norm(b) + 1e-8)


@relative_error.form("constant-in-denominator")
def _(a, b):
    return _norm(a - b) / max(_norm(a) + _norm(b), 1e-8)


@relative_error.form("constant-in-denominator")
def _(a, b):
    return _norm(a - b) / (_norm(a) + _norm(b) + 1e-6)


@relative_error.mistake(
    "norm-of-sum",
    "the difference is divided by the norm of a + b",
    "For b near -a your scale vanishes. Add the norms, not the arrays.",
)
def _(a, b):
    return _norm(a - b) / _norm(a + b) if _norm(a + b) else 0.0


@relative_error.mistake(
    "largest-entry",
    "the largest relative error of an entry is taken",
    "One entry near 0 dominates your measure. Compare the arrays as whole vectors.",
)
def _(a, b):
    scale = np.abs(a) + np.abs(b)
    return (np.abs(a - b) / np.where(scale == 0, 1, scale)).max()


@relative_error.mistake(
    "mean-over-entries",
    "the relative errors of the entries are averaged",
    "One entry near 0 counts as much as a large one in your measure. Compare the arrays as "
    "whole vectors.",
)
def _(a, b):
    scale = np.abs(a) + np.abs(b)
    return (np.abs(a - b) / np.where(scale == 0, 1, scale)).mean()


@relative_error.mistake(
    "sum-norm",
    "absolute values are summed in place of the Euclidean norm",
    "‖a‖ is the root of the sum of squares.",
)
def _(a, b):
    scale = np.abs(a).sum() + np.abs(b).sum()
    return np.abs(a - b).sum() / scale if scale else 0.0


@relative_error.mistake(
    "elementwise",
    "one error per entry is returned",
    "One number for the whole pair is asked for.",
)
def _(a, b):
    scale = np.abs(a) + np.abs(b)
    return np.abs(a - b) / np.where(scale == 0, 1, scale)


@relative_error.variant("ravel and dot")
def _(a, b):
    d, a, b = np.ravel(a - b), np.ravel(a), np.ravel(b)
    scale = np.sqrt(a @ a) + np.sqrt(b @ b)
    return 0 if scale == 0 else np.sqrt(d @ d) / scale


@relative_error.variant("early return")
def _(a, b):
    if np.array_equal(a, b):
        return 0.0
    return float(_norm(a - b) / (_norm(a) + _norm(b)))


@relative_error.variant("divide with where")
def _(a, b):
    scale = np.asarray(np.linalg.norm(a) + np.linalg.norm(b))
    return np.divide(np.linalg.norm(a - b), scale, out=np.zeros(()), where=scale > 0)


@relative_error.variant("tiny guard")
def _(a, b):
    tiny = np.finfo(float).tiny
    return np.linalg.norm(a - b) / max(np.linalg.norm(a) + np.linalg.norm(b), tiny)


@relative_error.variant("python floats")
def _(a, b):
    def norm(v):
        return sum(float(e) ** 2 for e in v) ** 0.5

    a, b = a.ravel().tolist(), b.ravel().tolist()
    scale = norm(a) + norm(b)
    return norm([p - q for p, q in zip(a, b, strict=True)]) / scale if scale else 0.0


@relative_error.variant("torch inside")
def _(a, b):
    import torch

    a, b = torch.tensor(a), torch.tensor(b)
    scale = a.norm() + b.norm()
    return ((a - b).norm() / scale).item() if scale > 0 else 0.0
