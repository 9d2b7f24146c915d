"""Assignment 01: the vanilla RNN forward, its loss, its size, and parity by hand."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import itertools

import numpy as np

from rnncourse import rnn
from rnncourse.exercises.spec import Case, Exercise, normal, weights

rnn_step = Exercise(
    name="rnn_step",
    reference=rnn.rnn_step,
    section="02-vanilla-rnn: One step",
    axes={"x_t": "B D", "h_prev": "B H", "W_xh": "H D", "W_hh": "H H", "b_h": "H"},
    returns=("h: B H",),
)


@rnn_step.mistake(
    "bias-outside-tanh",
    "the bias is added after the tanh",
    "A state can leave [-1, 1] in your version. Which three terms does the tanh squash together?",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(x_t @ W_xh.T + h_prev @ W_hh.T) + b_h


@rnn_step.mistake(
    "bias-missing",
    "the bias is not used",
    "With zero input and zero state your unit stays at 0. Which term of the equation lets it "
    "rest elsewhere?",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(x_t @ W_xh.T + h_prev @ W_hh.T)


@rnn_step.mistake(
    "bias-twice",
    "the bias is added twice",
    "The course has one bias. PyTorch stores two vectors, of which only the sum matters.",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(x_t @ W_xh.T + b_h + h_prev @ W_hh.T + b_h)


@rnn_step.mistake(
    "tanh-per-term",
    "the tanh is taken of each product, and the results are added",
    "Input and memory must be weighed against each other before they are squashed: one tanh, "
    "of a sum.",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(x_t @ W_xh.T) + np.tanh(h_prev @ W_hh.T) + b_h


@rnn_step.form("tanh-per-term")
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(x_t @ W_xh.T) + np.tanh(h_prev @ W_hh.T + b_h)


@rnn_step.form("tanh-per-term")
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(x_t @ W_xh.T) + np.tanh(h_prev @ W_hh.T) + np.tanh(b_h)


@rnn_step.form("tanh-per-term")
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(x_t @ W_xh.T + b_h) + np.tanh(h_prev @ W_hh.T)


@rnn_step.mistake(
    "no-tanh",
    "the tanh is missing, so the recurrence is linear",
    "Double the input and the state: your output doubles. A linear recurrence cannot do more "
    "than one matrix product; which function bends it?",
    section="02-vanilla-rnn: Why the tanh must be there",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return x_t @ W_xh.T + h_prev @ W_hh.T + b_h


@rnn_step.mistake(
    "state-ignored",
    "the previous state is not used",
    "Call your function with two different `h_prev`: the answer does not change, so nothing "
    "is remembered.",
    section="02-vanilla-rnn: A network that ignores its state, and trains",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(x_t @ W_xh.T + b_h)


@rnn_step.mistake(
    "input-ignored",
    "the input is not used",
    "Call your function with two different `x_t`: the answer does not change.",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(h_prev @ W_hh.T + b_h)


@rnn_step.mistake(
    "recurrent-weight-not-transposed",
    "`W_hh` is used without its transpose",
    "`W_hh` is square, so NumPy cannot complain. Row i of `W_hh` holds the weights *into* unit i: "
    "what does that make of a batch of row vectors?",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(x_t @ W_xh.T + h_prev @ W_hh + b_h)


@rnn_step.mistake(
    "input-weight-not-transposed",
    "`W_xh` is used without its transpose",
    "It runs only when D = H, and then gives wrong numbers. `W_xh` has one row per unit; your "
    "inputs are rows of length D.",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(x_t @ W_xh + h_prev @ W_hh.T + b_h)


@rnn_step.mistake(
    "weights-not-transposed",
    "neither weight matrix is transposed",
    "Weights have one row per unit. A row of inputs times such a matrix needs it turned.",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(x_t @ W_xh + h_prev @ W_hh + b_h)


@rnn_step.mistake(
    "weights-on-the-left",
    "the weights stand to the left, as if the batch were columns",
    "The equation of the chapter is about one column. Your batch holds one sequence per row: "
    "transpose the whole equation.",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(W_xh @ x_t + W_hh @ h_prev + b_h)


@rnn_step.form("weights-on-the-left")
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(W_xh @ x_t + W_hh @ h_prev + b_h[:, None])


@rnn_step.mistake(
    "reshape-for-transpose",
    "`W_xh` is reshaped where it should be transposed",
    "`reshape` keeps the order in memory and cuts it into new rows; a transpose exchanges rows "
    "and columns. The shapes agree, the numbers do not.",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(x_t @ W_xh.reshape(W_xh.shape[::-1]) + h_prev @ W_hh.T + b_h)


@rnn_step.mistake(
    "sigmoid-for-tanh",
    "the logistic sigmoid is used in place of tanh",
    "None of your states is negative. The range of the vanilla RNN's state is symmetric around 0.",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return 1 / (1 + np.exp(-(x_t @ W_xh.T + h_prev @ W_hh.T + b_h)))


@rnn_step.mistake(
    "relu-for-tanh",
    "a ReLU is used in place of tanh",
    "None of your states is negative and some exceed 1. Look up the activation in the definition.",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.maximum(x_t @ W_xh.T + h_prev @ W_hh.T + b_h, 0)


@rnn_step.mistake(
    "old-state-added",
    "the old state is added to the new one",
    "The old state enters only through `W_hh`. Adding it makes a residual connection, which the "
    "vanilla RNN does not have.",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return h_prev + np.tanh(x_t @ W_xh.T + h_prev @ W_hh.T + b_h)


@rnn_step.mistake(
    "state-overwritten",
    "the previous state is overwritten in place",
    "The numbers are right, but the caller's `h_prev` is gone: the backward pass will need it. "
    "Return a new array.",
)
def _(x_t, h_prev, W_xh, W_hh, b_h):
    h_prev[...] = np.tanh(x_t @ W_xh.T + h_prev @ W_hh.T + b_h)
    return h_prev


@rnn_step.variant("einsum")
def _(x_t, h_prev, W_xh, W_hh, b_h):
    a = np.einsum("bd,hd->bh", x_t, W_xh) + np.einsum("bk,hk->bh", h_prev, W_hh)
    return np.tanh(a + b_h[None, :])


@rnn_step.variant("loops")
def _(x_t, h_prev, W_xh, W_hh, b_h):
    B, D = np.shape(x_t)
    H = len(b_h)
    h = [[0.0] * H for _ in range(B)]
    for b in range(B):
        for i in range(H):
            a = b_h[i]
            for d in range(D):
                a += W_xh[i][d] * x_t[b][d]
            for k in range(H):
                a += W_hh[i][k] * h_prev[b][k]
            h[b][i] = np.tanh(a)
    return np.array(h)


@rnn_step.variant("stacked weights")
def _(x_t, h_prev, W_xh, W_hh, b_h):
    joint = np.concatenate([x_t, h_prev, np.ones((len(x_t), 1))], axis=1)
    return np.tanh(joint @ np.hstack([W_xh, W_hh, b_h[:, None]]).T)


@rnn_step.variant("columns")
def _(x_t, h_prev, W_xh, W_hh, b_h):
    return np.tanh(W_xh @ x_t.T + W_hh @ h_prev.T + b_h.reshape(-1, 1)).T


@rnn_step.variant("tanh by exponentials")
def _(x_t, h_prev, W_xh, W_hh, b_h):
    a = x_t.dot(W_xh.T) + h_prev.dot(W_hh.T) + b_h
    return 1 - 2 / (np.exp(2 * a) + 1)


@rnn_step.variant("torch inside")
def _(x_t, h_prev, W_xh, W_hh, b_h):
    import torch

    x_t, h_prev, W_xh, W_hh, b_h = map(torch.as_tensor, (x_t, h_prev, W_xh, W_hh, b_h))
    return torch.tanh(x_t @ W_xh.T + h_prev @ W_hh.T + b_h).numpy()


def rnn_arguments(rng, s):
    return (
        normal(rng, s.T, s.B, s.D),
        np.tanh(normal(rng, s.B, s.H)),
        weights(rng, s.H, s.D),
        weights(rng, s.H, s.H),
        normal(rng, s.H) * 0.5,
    )


rnn_forward = Exercise(
    name="rnn_forward",
    reference=rnn.rnn_forward,
    section="02-vanilla-rnn: The state is all that is left of the past",
    axes={"x": "T B D", "h0": "B H", "W_xh": "H D", "W_hh": "H H", "b_h": "H"},
    returns=("h: T B H",),
    draw=rnn_arguments,
)


@rnn_forward.mistake(
    "h0-ignored",
    "the start state `h0` is not used",
    "Your first step starts from zeros. Give `h0` to step 0; mind that `h[t - 1]` at t = 0 is "
    "`h[-1]`, the last row of the array, which you have not filled yet.",
)
def _(x, h0, W_xh, W_hh, b_h):
    h = np.zeros((len(x), *h0.shape))
    for t in range(len(x)):
        h[t] = rnn.rnn_step(x[t], h[t - 1], W_xh, W_hh, b_h)
    return h


@rnn_forward.mistake(
    "state-not-carried",
    "every step starts from `h0` again",
    "Change `x[0]`: only your `h[0]` changes. What must step t receive from step t - 1?",
)
def _(x, h0, W_xh, W_hh, b_h):
    return np.stack([rnn.rnn_step(x_t, h0, W_xh, W_hh, b_h) for x_t in x])


@rnn_forward.mistake(
    "state-before-input",
    "the state is stored before the step instead of after it",
    "`h[t]` is the state *after* reading `x[t]`, so `h[0]` is not `h0`.",
)
def _(x, h0, W_xh, W_hh, b_h):
    h, h_t = [], h0
    for x_t in x:
        h.append(h_t)
        h_t = rnn.rnn_step(x_t, h_t, W_xh, W_hh, b_h)
    return np.array(h)


@rnn_forward.mistake(
    "h0-in-output",
    "the start state is part of the result, which is one step too long",
    "There are T inputs and T states after them; `h0` stands before the first.",
)
def _(x, h0, W_xh, W_hh, b_h):
    h = [h0]
    for x_t in x:
        h.append(rnn.rnn_step(x_t, h[-1], W_xh, W_hh, b_h))
    return np.array(h)


@rnn_forward.mistake(
    "first-input-skipped",
    "the first input is never read",
    "Your `h[0]` equals `h0`. How many steps do T inputs make, and with which index does the "
    "first one begin?",
)
def _(x, h0, W_xh, W_hh, b_h):
    h = np.zeros((len(x), *h0.shape))
    h[0] = h0
    for t in range(1, len(x)):
        h[t] = rnn.rnn_step(x[t], h[t - 1], W_xh, W_hh, b_h)
    return h


@rnn_forward.mistake(
    "last-step-missing",
    "the last step is not computed",
    "The loop ends one step early: count how often it runs when T = 1.",
)
def _(x, h0, W_xh, W_hh, b_h):
    h, h_t = np.zeros((len(x), *h0.shape)), h0
    for t in range(len(x) - 1):
        h_t = h[t] = rnn.rnn_step(x[t], h_t, W_xh, W_hh, b_h)
    return h


@rnn_forward.mistake(
    "time-reversed",
    "the sequence is read from its end",
    "Your `h[0]` knows the last input and your last state knows only one. Time runs forwards here; "
    "the backward pass is the one that runs backwards.",
)
def _(x, h0, W_xh, W_hh, b_h):
    return rnn.rnn_forward(x[::-1], h0, W_xh, W_hh, b_h)[::-1]


@rnn_forward.form("time-reversed")
def _(x, h0, W_xh, W_hh, b_h):
    return rnn.rnn_forward(x[::-1], h0, W_xh, W_hh, b_h)


@rnn_forward.mistake(
    "only-last-state",
    "only the last state is returned",
    "The read-out and the backward pass need the state of every step.",
)
def _(x, h0, W_xh, W_hh, b_h):
    return rnn.rnn_forward(x, h0, W_xh, W_hh, b_h)[-1]


@rnn_forward.mistake(
    "batch-first-output",
    "the result has the batch axis first",
    "The course is time-major: `h[t]` is the state of the whole batch at step t.",
    section="02-vanilla-rnn: Batch and time are not interchangeable",
)
def _(x, h0, W_xh, W_hh, b_h):
    return rnn.rnn_forward(x, h0, W_xh, W_hh, b_h).transpose(1, 0, 2)


@rnn_forward.form("batch-first-output")
def _(x, h0, W_xh, W_hh, b_h):
    h = rnn.rnn_forward(x, h0, W_xh, W_hh, b_h)
    return h.reshape(h.shape[1], h.shape[0], -1)


@rnn_forward.mistake(
    "axes-exchanged",
    "the loop runs over the batch axis of `x`",
    "Axis 0 of `x` is time. If you loop over axis 1, the sequences of the batch become the steps "
    "of one sequence.",
    section="02-vanilla-rnn: Batch and time are not interchangeable",
)
def _(x, h0, W_xh, W_hh, b_h):
    h, h_t = [], h0
    for t in range(x.shape[1]):
        h_t = np.tanh(x[:, t] @ W_xh.T + h_t @ W_hh.T + b_h)
        h.append(h_t)
    return np.stack(h)


@rnn_forward.form("axes-exchanged")
def _(x, h0, W_xh, W_hh, b_h):
    h, h_t = [], h0
    for t in range(x.shape[1]):
        h_t = np.tanh(x[:, t] @ W_xh.T + h_t @ W_hh.T + b_h)
        h.append(h_t)
    return np.stack(h, axis=1)


@rnn_forward.mistake(
    "integer-buffer",
    "the states are stored in an array of integers",
    "All your states are whole numbers. Which dtype does the array have that you write them into?",
)
def _(x, h0, W_xh, W_hh, b_h):
    return rnn.rnn_forward(x, h0, W_xh, W_hh, b_h).astype(int)


@rnn_forward.form("integer-buffer")
def _(x, h0, W_xh, W_hh, b_h):
    h, h_t = np.zeros((len(x), *h0.shape), dtype=int), h0
    for t in range(len(x)):
        h[t] = rnn.rnn_step(x[t], h_t, W_xh, W_hh, b_h)
        h_t = h[t]
    return h


@rnn_forward.mistake(
    "half-precision-buffer",
    "the states are stored in half precision",
    "Only about three digits of your states are right. float16 is too coarse here.",
)
def _(x, h0, W_xh, W_hh, b_h):
    return rnn.rnn_forward(x, h0, W_xh, W_hh, b_h).astype(np.float16)


@rnn_forward.form("half-precision-buffer")
def _(x, h0, W_xh, W_hh, b_h):
    h, h_t = np.zeros((len(x), *h0.shape), dtype=np.float16), h0
    for t in range(len(x)):
        h[t] = rnn.rnn_step(x[t], h_t, W_xh, W_hh, b_h)
        h_t = h[t].astype(float)
    return h


@rnn_forward.mistake(
    "one-buffer-for-all",
    "all steps share one array, so all hold the last state",
    "Appending an array to a list stores a reference. If you then write into that array, every "
    "entry of the list changes.",
)
def _(x, h0, W_xh, W_hh, b_h):
    h, h_t = [], h0.copy()
    for x_t in x:
        h_t[...] = rnn.rnn_step(x_t, h_t, W_xh, W_hh, b_h)
        h.append(h_t)
    return np.array(h)


@rnn_forward.mistake(
    "h0-overwritten",
    "the start state is overwritten in place",
    "The states are right, but the caller's `h0` now holds the last one. Bind a new name "
    "to the new state rather than writing into the old array.",
)
def _(x, h0, W_xh, W_hh, b_h):
    h = []
    for x_t in x:
        h0[...] = rnn.rnn_step(x_t, h0, W_xh, W_hh, b_h)
        h.append(h0.copy())
    return np.array(h)


@rnn_forward.mistake(
    "no-tanh",
    "the tanh is missing, so the recurrence is linear",
    "Your states leave [-1, 1] and grow with time. Use the step that you have already written.",
    section="02-vanilla-rnn: Why the tanh must be there",
)
def _(x, h0, W_xh, W_hh, b_h):
    h, h_t = [], h0
    for x_t in x:
        h_t = x_t @ W_xh.T + h_t @ W_hh.T + b_h
        h.append(h_t)
    return np.array(h)


@rnn_forward.mistake(
    "recurrent-weight-not-transposed",
    "`W_hh` is used without its transpose",
    "`W_hh` is square, so NumPy cannot complain. Use the step that you have already written.",
)
def _(x, h0, W_xh, W_hh, b_h):
    return rnn.rnn_forward(x, h0, W_xh, W_hh.T, b_h)


@rnn_forward.mistake(
    "weights-not-transposed",
    "neither weight matrix is transposed",
    "It runs only when D = H, and then gives wrong numbers. Use the step that you have already "
    "written.",
    section="02-vanilla-rnn: One step",
)
def _(x, h0, W_xh, W_hh, b_h):
    h, h_t = [], h0
    for x_t in x:
        h_t = np.tanh(x_t @ W_xh + h_t @ W_hh + b_h)
        h.append(h_t)
    return np.array(h)


@rnn_forward.mistake(
    "state-ignored",
    "no step uses a state",
    "Change `x[0]`: only your `h[0]` changes, and `h0` changes nothing. What must step t "
    "receive from step t - 1?",
    section="02-vanilla-rnn: A network that ignores its state, and trains",
)
def _(x, h0, W_xh, W_hh, b_h):
    return np.tanh(x @ W_xh.T + b_h)


@rnn_forward.variant("inputs projected at once")
def _(x, h0, W_xh, W_hh, b_h):
    a = np.einsum("tbd,hd->tbh", x, W_xh) + b_h
    for t in range(len(a)):
        a[t] += (a[t - 1] if t else h0) @ W_hh.T
        np.tanh(a[t], out=a[t])
    return a


@rnn_forward.variant("recursion")
def _(x, h0, W_xh, W_hh, b_h):
    if len(x) == 0:
        return np.empty((0, *h0.shape))
    first = np.tanh(x[0] @ W_xh.T + h0 @ W_hh.T + b_h)
    return (
        np.concatenate([first[None], rnn.rnn_forward(x[1:], first, W_xh, W_hh, b_h)])
        if len(x) > 1
        else first[None]
    )


@rnn_forward.variant("accumulate")
def _(x, h0, W_xh, W_hh, b_h):
    def step(h, x_t):
        return np.tanh(x_t @ W_xh.T + h @ W_hh.T + b_h)

    return np.stack(list(itertools.accumulate(x, step, initial=h0))[1:])


@rnn_forward.variant("extended array")
def _(x, h0, W_xh, W_hh, b_h):
    h = np.zeros((len(x) + 1, *h0.shape))
    h[-1] = h0
    for t in range(len(x)):
        h[t] = np.tanh(x[t] @ W_xh.T + h[t - 1] @ W_hh.T + b_h)
    return h[:-1]


@rnn_forward.variant("sequence by sequence")
def _(x, h0, W_xh, W_hh, b_h):
    rows = []
    for b in range(x.shape[1]):
        h, row = h0[b], []
        for x_t in x[:, b]:
            h = np.tanh(W_xh @ x_t + W_hh @ h + b_h)
            row.append(h)
        rows.append(row)
    return np.array(rows).swapaxes(0, 1)


@rnn_forward.variant("torch.nn.RNN inside")
def _(x, h0, W_xh, W_hh, b_h):
    import torch

    net = torch.nn.RNN(W_xh.shape[1], W_xh.shape[0])
    with torch.no_grad():
        net.weight_ih_l0.copy_(torch.tensor(W_xh))
        net.weight_hh_l0.copy_(torch.tensor(W_hh))
        net.bias_ih_l0.copy_(torch.tensor(b_h))
        net.bias_hh_l0.zero_()
        out, _ = net(torch.tensor(x).float(), torch.tensor(h0).float()[None])
    return out.numpy()


readout = Exercise(
    name="readout",
    reference=rnn.readout,
    section="02-vanilla-rnn: Read-out and loss",
    axes={"h": "T B H", "W_hy": "V H", "b_y": "V"},
    returns=("logits: T B V",),
)


@readout.mistake(
    "bias-missing",
    "the output bias is not used",
    "With a state of zeros your logits are zero. Which term gives the network a preference "
    "before it has seen anything?",
)
def _(h, W_hy, b_y):
    return h @ W_hy.T


@readout.mistake(
    "softmax-applied",
    "the result holds probabilities, not logits",
    "Each of your rows sums to 1. The softmax belongs to the loss, which needs the logits.",
)
def _(h, W_hy, b_y):
    e = np.exp(h @ W_hy.T + b_y)
    return e / e.sum(axis=-1, keepdims=True)


@readout.mistake(
    "log-softmax-applied",
    "the result holds log-probabilities, not logits",
    "The normalisation belongs to the loss. The read-out is one affine map.",
)
def _(h, W_hy, b_y):
    return rnn.log_softmax(h @ W_hy.T + b_y)


@readout.mistake(
    "tanh-applied",
    "a tanh is applied to the output",
    "All your logits lie in [-1, 1], so no class could ever get most of the probability. "
    "State and output are not the same: only the state is squashed.",
)
def _(h, W_hy, b_y):
    return np.tanh(h @ W_hy.T + b_y)


@readout.mistake(
    "weight-not-transposed",
    "`W_hy` is used without its transpose",
    "It runs only when V = H, and then gives wrong numbers. `W_hy` has one row per class; your "
    "states are rows of length H.",
)
def _(h, W_hy, b_y):
    return h @ W_hy + b_y


@readout.mistake(
    "reshape-for-transpose",
    "`W_hy` is reshaped where it should be transposed",
    "`reshape` keeps the order in memory; a transpose exchanges rows and columns.",
)
def _(h, W_hy, b_y):
    return h @ W_hy.reshape(W_hy.shape[::-1]) + b_y


@readout.mistake(
    "only-last-step",
    "only the last state is read out",
    "The same read-out is applied at every step, so the time axis stays.",
)
def _(h, W_hy, b_y):
    return h[-1] @ W_hy.T + b_y


@readout.mistake(
    "previous-state",
    "each step is read out from the state before it",
    "Your outputs lag one step behind. The prediction at step t uses the state that has "
    "already read `x[t]`.",
)
def _(h, W_hy, b_y):
    return np.concatenate([np.zeros_like(h[:1]), h[:-1]]) @ W_hy.T + b_y


@readout.form("previous-state")
def _(h, W_hy, b_y):
    return np.roll(h, 1, axis=0) @ W_hy.T + b_y


@readout.mistake(
    "mean-over-time",
    "the states are averaged over time first",
    "One output per step is asked for, not one for the sequence.",
)
def _(h, W_hy, b_y):
    return h.mean(axis=0) @ W_hy.T + b_y


@readout.mistake(
    "bias-multiplied",
    "the bias multiplies the product instead of being added",
    "A bias shifts; it does not scale.",
)
def _(h, W_hy, b_y):
    return h @ W_hy.T * b_y


@readout.mistake(
    "bias-subtracted",
    "the bias is subtracted",
    "Only the sign of one term is wrong.",
)
def _(h, W_hy, b_y):
    return h @ W_hy.T - b_y


@readout.variant("einsum")
def _(h, W_hy, b_y):
    return np.einsum("...h,vh->...v", h, W_hy) + b_y


@readout.variant("loop over steps")
def _(h, W_hy, b_y):
    return np.array([[W_hy @ state + b_y for state in h_t] for h_t in h])


@readout.variant("flattened")
def _(h, W_hy, b_y):
    flat = h.reshape(-1, h.shape[-1])
    return (flat @ W_hy.T + b_y).reshape(*h.shape[:-1], len(b_y))


@readout.variant("tensordot in place")
def _(h, W_hy, b_y):
    logits = np.tensordot(h, W_hy, axes=([-1], [1]))
    logits += b_y
    return logits


@readout.variant("torch inside")
def _(h, W_hy, b_y):
    import torch

    return torch.nn.functional.linear(*map(torch.as_tensor, (h, W_hy, b_y))).numpy()


def loss_arguments(rng, s):
    return 2 * normal(rng, s.T, s.B, s.V), rng.integers(0, s.V, (s.T, s.B))


def _mask(rng, s):
    """Return a mask whose sequences differ in length, with at least one step each."""
    lengths = 1 + np.arange(s.B) % s.T
    return np.arange(s.T)[:, None] < rng.permutation(lengths)


def loss_cases(rng, s):
    logits, targets = loss_arguments(rng, s)
    yield Case((logits, targets, _mask(rng, s)), "some steps are masked")
    scattered = rng.random((s.T, s.B)) < 0.5
    scattered[0, 0], scattered[-1, -1] = True, False
    yield Case((*loss_arguments(rng, s), scattered), "the mask has holes")
    alone = np.arange(s.T * s.B).reshape(s.T, s.B) == rng.integers(1, s.T * s.B)
    yield Case((*loss_arguments(rng, s), alone), "the mask lets one position through")
    partial = np.ones((s.T, s.B), bool)
    partial[0], partial[:, -1] = False, False
    yield Case((*loss_arguments(rng, s), partial), "the first step and one sequence are masked")
    yield Case((logits + 1000, targets), "logits near 1000")
    level = np.where(np.arange(s.T * s.B) % 2, 400, -400).reshape(s.T, s.B, 1)
    yield Case((logits + level, targets), "logits near 400 at some positions and -400 at others")
    spread = logits + 1000 * np.eye(s.V)[rng.integers(0, s.V, (s.T, s.B))]
    yield Case((spread, targets), "one logit of each position is 1000 above the others")
    yield Case((logits, targets, np.ones((s.T, s.B), bool)), "the mask lets everything through")


cross_entropy = Exercise(
    name="cross_entropy",
    reference=rnn.cross_entropy,
    section="02-vanilla-rnn: Read-out and loss",
    axes={"logits": "T B V", "targets": "T B", "mask": "T B"},
    returns=("loss",),
    draw=loss_arguments,
    special=loss_cases,
)


def _losses(logits, targets):
    return -np.take_along_axis(rnn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]


def position_weights(targets, mask):
    return np.ones(targets.shape) if mask is None else mask.astype(float)


@cross_entropy.mistake(
    "mask-ignored",
    "the mask is not used",
    "Padding counts in your loss, so the network would be trained to predict padding.",
)
def _(logits, targets, mask=None):
    return _losses(logits, targets).mean()


@cross_entropy.mistake(
    "divided-by-all-positions",
    "the sum over valid positions is divided by T·B",
    "More padding makes your loss smaller though no prediction changed. Of how many numbers "
    "is this the mean?",
)
def _(logits, targets, mask=None):
    return (_losses(logits, targets) * position_weights(targets, mask)).mean()


@cross_entropy.mistake(
    "mask-inverted",
    "the mask is read the wrong way round",
    "True means that a position counts.",
)
def _(logits, targets, mask=None):
    w = 1 - position_weights(targets, mask) if mask is not None else np.ones(targets.shape)
    return (_losses(logits, targets) * w).sum() / w.sum()


@cross_entropy.mistake(
    "sum-instead-of-mean",
    "the losses are summed, not averaged",
    "A batch twice as large would give twice the loss. Divide by the number of valid positions.",
)
def _(logits, targets, mask=None):
    return (_losses(logits, targets) * position_weights(targets, mask)).sum()


@cross_entropy.mistake(
    "divided-by-batch-only",
    "the sum is divided by the batch size alone",
    "A sequence twice as long would give twice the loss. Count every valid position, in all steps.",
)
def _(logits, targets, mask=None):
    return (_losses(logits, targets) * position_weights(targets, mask)).sum() / targets.shape[1]


@cross_entropy.mistake(
    "divided-by-steps-only",
    "the sum is divided by the number of steps alone",
    "A larger batch would give a larger loss. Count every valid position, in all sequences.",
)
def _(logits, targets, mask=None):
    return (_losses(logits, targets) * position_weights(targets, mask)).sum() / len(targets)


@cross_entropy.mistake(
    "mean-of-means",
    "each sequence is averaged first, then the sequences",
    "A token in a short sequence counts more than one in a long sequence in your version. "
    "Take one mean over all valid positions.",
)
def _(logits, targets, mask=None):
    w = position_weights(targets, mask)
    return ((_losses(logits, targets) * w).sum(axis=0) / np.maximum(w.sum(axis=0), 1)).mean()


@cross_entropy.form("mean-of-means")
def _(logits, targets, mask=None):
    w = position_weights(targets, mask)
    return ((_losses(logits, targets) * w).sum(axis=1) / np.maximum(w.sum(axis=1), 1)).mean()


@cross_entropy.mistake(
    "not-normalised",
    "the logit itself is taken for the log-probability",
    "exp of your values does not sum to 1 over the classes. What turns logits into probabilities?",
)
def _(logits, targets, mask=None):
    picked = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    w = position_weights(targets, mask)
    return -(picked * w).sum() / w.sum()


@cross_entropy.mistake(
    "softmax-over-wrong-axis",
    "the softmax runs over another axis than the classes",
    "For one position, the probabilities of the V classes must sum to 1. Which axis is that?",
)
def _(logits, targets, mask=None):
    log_p = np.moveaxis(rnn.log_softmax(np.moveaxis(logits, 1, -1)), -1, 1)
    w = position_weights(targets, mask)
    return -(np.take_along_axis(log_p, targets[..., None], -1)[..., 0] * w).sum() / w.sum()


@cross_entropy.form("softmax-over-wrong-axis")
def _(logits, targets, mask=None):
    log_p = np.moveaxis(rnn.log_softmax(np.moveaxis(logits, 0, -1)), -1, 0)
    w = position_weights(targets, mask)
    return -(np.take_along_axis(log_p, targets[..., None], -1)[..., 0] * w).sum() / w.sum()


@cross_entropy.form("softmax-over-wrong-axis")
def _(logits, targets, mask=None):
    log_p = rnn.log_softmax(logits.ravel()).reshape(logits.shape)
    w = position_weights(targets, mask)
    return -(np.take_along_axis(log_p, targets[..., None], -1)[..., 0] * w).sum() / w.sum()


@cross_entropy.mistake(
    "overflow",
    "the exponential of a large logit overflows",
    "exp(1000) is infinity. A softmax does not change when the same number is subtracted from "
    "all logits of a position: which number makes every exponent harmless?",
)
def _(logits, targets, mask=None):
    e = np.exp(logits)
    p = np.take_along_axis(e / e.sum(-1, keepdims=True), targets[..., None], -1)[..., 0]
    w = position_weights(targets, mask)
    return -(np.log(p) * w).sum() / w.sum()


@cross_entropy.form("overflow")
def _(logits, targets, mask=None):
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    w = position_weights(targets, mask)
    return -(np.take_along_axis(log_p, targets[..., None], -1)[..., 0] * w).sum() / w.sum()


@cross_entropy.mistake(
    "one-maximum-for-all",
    "one maximum is subtracted from all positions together",
    "Positions whose logits lie far below the largest of the batch underflow to log(0). "
    "Every position has a maximum of its own.",
)
def _(logits, targets, mask=None):
    e = np.exp(logits - logits.max())
    log_p = np.log(e / e.sum(-1, keepdims=True))
    w = position_weights(targets, mask)
    return -(np.take_along_axis(log_p, targets[..., None], -1)[..., 0] * w).sum() / w.sum()


@cross_entropy.form("one-maximum-for-all")
def _(logits, targets, mask=None):
    shifted = logits - logits.max()
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    w = position_weights(targets, mask)
    return -(np.take_along_axis(log_p, targets[..., None], -1)[..., 0] * w).sum() / w.sum()


@cross_entropy.mistake(
    "sign",
    "the minus sign is missing",
    "Your loss is negative, and descending on it makes the right class less probable.",
)
def _(logits, targets, mask=None):
    return -rnn.cross_entropy(logits, targets, mask)


@cross_entropy.mistake(
    "bits-instead-of-nats",
    "the logarithm has base 2",
    "Your loss is in bits. This course measures in nats: natural logarithm.",
)
def _(logits, targets, mask=None):
    return rnn.cross_entropy(logits, targets, mask) / np.log(2)


@cross_entropy.mistake(
    "log-of-mean-probability",
    "the probabilities are averaged before the logarithm",
    "The logarithm of a mean is not the mean of the logarithms. Each position has its own loss.",
)
def _(logits, targets, mask=None):
    w = position_weights(targets, mask)
    return -np.log((np.exp(-_losses(logits, targets)) * w).sum() / w.sum())


@cross_entropy.mistake(
    "mean-over-classes",
    "the mean also runs over the V classes",
    "Your loss is V times too small: a one-hot target has V - 1 zeros, which are no positions.",
)
def _(logits, targets, mask=None):
    return rnn.cross_entropy(logits, targets, mask) / logits.shape[-1]


@cross_entropy.mistake(
    "not-averaged",
    "one loss per position is returned",
    "Training needs one number. Average over the positions that count.",
)
def _(logits, targets, mask=None):
    return _losses(logits, targets) * position_weights(targets, mask)


@cross_entropy.mistake(
    "negative-probability",
    "the probability itself is averaged, without a logarithm",
    "Your loss never exceeds 1 in size. A confident wrong answer should cost far more.",
)
def _(logits, targets, mask=None):
    w = position_weights(targets, mask)
    return -(np.exp(-_losses(logits, targets)) * w).sum() / w.sum()


@cross_entropy.variant("loops")
def _(logits, targets, mask=None):
    total, count = 0.0, 0
    for t in range(logits.shape[0]):
        for b in range(logits.shape[1]):
            if mask is not None and not mask[t, b]:
                continue
            top = max(logits[t, b])
            total += top + np.log(sum(np.exp(z - top) for z in logits[t, b]))
            total -= logits[t, b, targets[t, b]]
            count += 1
    return total / count


@cross_entropy.variant("one-hot")
def _(logits, targets, mask=None):
    z = logits - logits.max(axis=2, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=2, keepdims=True))
    picked = (np.eye(logits.shape[-1])[targets] * log_p).sum(-1)
    return -picked.mean() if mask is None else -picked[mask].mean()


@cross_entropy.variant("logaddexp")
def _(logits, targets, mask=None):
    nll = np.logaddexp.reduce(logits, axis=-1)
    nll -= np.squeeze(np.take_along_axis(logits, np.expand_dims(targets, -1), -1), -1)
    return np.average(nll, weights=mask)


@cross_entropy.variant("flattened")
def _(logits, targets, mask=None):
    flat, y = logits.reshape(-1, logits.shape[-1]), targets.ravel()
    if mask is not None:
        flat, y = flat[mask.ravel()], y[mask.ravel()]
    flat = flat - flat.max(1)[:, None]
    return float(np.mean(np.log(np.exp(flat).sum(1)) - flat[np.arange(len(y)), y]))


@cross_entropy.variant("torch inside")
def _(logits, targets, mask=None):
    import torch

    y = targets if mask is None else np.where(mask, targets, -100)
    flat = torch.tensor(logits).flatten(0, 1)
    return torch.nn.functional.cross_entropy(flat, torch.tensor(y).flatten()).item()


count_parameters = Exercise(
    name="count_parameters",
    reference=rnn.count_parameters,
    section="02-vanilla-rnn: One set of weights",
    axes={"D": "", "H": "", "V": ""},
    returns=("count",),
    draw=lambda rng, s: tuple(int(n) for n in rng.choice(np.arange(5, 60), 3, replace=False)),
    sizes=({"D": 2, "H": 3, "V": 4},),
    special=lambda rng, s: [
        Case((1, 1, 1), "all sizes are 1"),
        Case((7, 11, 4)),
        Case((300, 512, 10_000), "a word model"),
    ],
)


@count_parameters.mistake(
    "hidden-bias-forgotten",
    "the bias of the state is not counted",
    "Go through the equation of one step and count the entries of everything that is learned.",
)
def _(D, H, V):
    return H * D + H * H + V * H + V


@count_parameters.mistake(
    "output-bias-forgotten",
    "the bias of the read-out is not counted",
    "Go through the equation of the read-out and count the entries of everything that is learned.",
)
def _(D, H, V):
    return H * D + H * H + H + V * H


@count_parameters.mistake(
    "both-biases-forgotten",
    "no bias is counted",
    "Biases are learned too.",
)
def _(D, H, V):
    return H * D + H * H + V * H


@count_parameters.mistake(
    "two-biases",
    "the bias of the state is counted twice",
    "PyTorch stores two bias vectors for one step; only their sum matters, and the course has one.",
    section="02-vanilla-rnn: The same numbers from PyTorch",
)
def _(D, H, V):
    return H * D + H * H + 2 * H + V * H + V


@count_parameters.mistake(
    "recurrent-weights-forgotten",
    "`W_hh` is not counted",
    "What you count is a feed-forward layer. Which matrix carries the state to the next step?",
)
def _(D, H, V):
    return H * D + H + V * H + V


@count_parameters.mistake(
    "readout-forgotten",
    "the read-out is not counted",
    "The function counts a network *with* read-out: V enters.",
)
def _(D, H, V):
    return H * D + H * H + H


@count_parameters.mistake(
    "recurrent-weights-twice",
    "`W_hh` is counted twice",
    "Each weight matrix is stored once, however often it is used.",
)
def _(D, H, V):
    return H * D + 2 * H * H + H + V * H + V


@count_parameters.mistake(
    "state-counted",
    "the entries of the state are counted as parameters",
    "A state is computed, not learned; nothing of it is stored in the model.",
)
def _(D, H, V):
    return H * D + H * H + H + V * H + V + H + V


@count_parameters.mistake(
    "readout-reads-input",
    "the read-out is counted as a matrix (V, D)",
    "The read-out sees the state, not the input.",
)
def _(D, H, V):
    return H * D + H * H + H + V * D + V


@count_parameters.variant("factored")
def _(D, H, V):
    return H * (D + H + 1) + V * (H + 1)


@count_parameters.variant("from arrays")
def _(D, H, V):
    if H * (D + H + V) > 10**6:
        return sum(int(np.prod(s)) for s in [(H, D), (H, H), (H,), (V, H), (V,)])
    return np.size(np.empty((H, D + H + 1))) + np.zeros((V, H + 1)).size


@count_parameters.variant("numpy sum")
def _(D, H, V):
    return np.array([H * D, H * H, H, V * H, V]).sum()


@count_parameters.variant("power")
def _(D, H, V):
    return sum((D * H, H**2, H, H * V, V))


def _parity_strings():
    """Return groups of bit strings of one length each: all short ones and some long ones."""
    groups = [np.array(list(itertools.product((0.0, 1.0), repeat=n))) for n in range(1, 7)]
    rng = np.random.default_rng(1969)
    return [*groups, *(rng.integers(0, 2, (8, n)).astype(float) for n in (15, 60, 200))]


def _parity_problem(result):
    """Return what keeps a dict from being the parameters of an RNN, or ''."""
    H = np.shape(result["b_h"])[0] if np.ndim(result["b_h"]) == 1 else 0
    shapes = {"W_xh": (H, 1), "W_hh": (H, H), "b_h": (H,), "W_hy": (2, H), "b_y": (2,)}
    for name, shape in shapes.items():
        if np.shape(result[name]) != shape or H < 1:
            wanted = "(H,)" if name == "b_h" else f"{shape}"
            return f"{name} has shape {np.shape(result[name])}, expected {wanted}."
        if not np.isfinite(result[name]).all():
            return f"{name} holds NaN or infinity."
    return ""


def _parity_predictions(result):
    p = {name: np.asarray(value, float) for name, value in result.items()}
    found = []
    for bits in _parity_strings():
        h = np.zeros((len(bits), len(p["b_h"])))
        for x_t in bits.T:
            h = np.tanh(x_t[:, None] @ p["W_xh"].T + h @ p["W_hh"].T + p["b_h"])
        found.append((h @ p["W_hy"].T + p["b_y"]).argmax(axis=1))
    return found


def _verify_parity(result):
    problem = _parity_problem(result)
    if problem:
        return problem
    for bits, found in zip(_parity_strings(), _parity_predictions(result), strict=True):
        wrong = int((found != bits.sum(axis=1) % 2).sum())
        if wrong:
            return (
                f"The parity is wrong for {wrong} of {len(bits)} bit strings of length "
                f"{bits.shape[1]}."
            )
    return None


def _parity_fingerprint(result):
    if _parity_problem(result):
        return np.concatenate([np.shape(result[name]) for name in sorted(result)])
    found = _parity_predictions(result)
    right = [
        bool((answer == bits.sum(axis=1) % 2).all())
        for bits, answer in zip(_parity_strings(), found, strict=True)
    ]
    if all(right[:6]):
        return np.array(-1)  # wrong on long strings only, wherever the drift sets in
    return np.concatenate(found)


parity_weights = Exercise(
    name="parity_weights",
    reference=rnn.parity_weights,
    section="02-vanilla-rnn: Any length: parity by hand",
    axes={},
    returns=("weights",),
    sizes=({},),
    verify=_verify_parity,
    fingerprint=_parity_fingerprint,
)


def _parity_with(**changes):
    return {**rnn.parity_weights(), **changes}


@parity_weights.mistake(
    "parity-inverted",
    "the two outputs are exchanged",
    "Your network is right about parity but calls even odd. Which logit must win for an odd number "
    "of ones?",
)
def _():
    p = rnn.parity_weights()
    return {**p, "W_hy": p["W_hy"][::-1], "b_y": p["b_y"][::-1]}


@parity_weights.mistake(
    "gain-too-small",
    "the units do not saturate, so the state drifts",
    "Short strings come out right, long ones do not: what is only nearly 0 or 1 is fed back "
    "again and again. How far must the units be driven so that an error shrinks at each step?",
)
def _():
    p = rnn.parity_weights()
    return {**p, **{name: p[name] / 10 for name in ("W_xh", "W_hh", "b_h")}}


@parity_weights.mistake(
    "last-bit",
    "the answer is the last bit: nothing is remembered",
    'Test "1 0": the parity is 1. Without recurrent weights the state forgets the first bit.',
    section="02-vanilla-rnn: A network that ignores its state, and trains",
)
def _():
    return _parity_with(W_hh=np.zeros((2, 2)))


@parity_weights.mistake(
    "or-instead-of-xor",
    "the network says whether there was any 1 at all",
    'Test "1 1": the parity is 0. A unit that, once on, stays on computes OR; a second unit must '
    "notice the second 1.",
)
def _():
    p = rnn.parity_weights()
    return {
        **p,
        "W_xh": 20 * np.array([[2.0], [2.0]]),
        "W_hh": 20 * np.array([[0.75, 0.0], [0.0, 0.75]]),
        "b_h": 20 * np.array([-0.5, -0.5]),
        "W_hy": np.array([[0.0, 0.0], [1.0, 0.0]]),
        "b_y": np.array([0.0, 0.0]),
    }


@parity_weights.mistake(
    "one-class",
    "the answer is always the same",
    "Your read-out does not react to the state.",
)
def _():
    return _parity_with(W_hy=np.zeros((2, 2)), b_y=np.array([1.0, 0.0]))


@parity_weights.form("one-class")
def _():
    return _parity_with(W_hy=np.zeros((2, 2)), b_y=np.array([0.0, 1.0]))


@parity_weights.mistake(
    "bias-shape",
    "the biases are columns, not vectors",
    "A bias of shape (H, 1) is added to (B, H) by broadcasting, which mixes units and sequences.",
    section="02-vanilla-rnn: One step",
)
def _():
    p = rnn.parity_weights()
    return {**p, "b_h": p["b_h"][:, None], "b_y": p["b_y"][:, None]}


@parity_weights.form("bias-shape")
def _():
    p = rnn.parity_weights()
    return {**p, "b_h": p["b_h"][:, None]}


@parity_weights.mistake(
    "input-weight-orientation",
    "`W_xh` has shape (D, H) where the course has (H, D)",
    "Weights have PyTorch's orientation: one row per unit.",
    section="02-vanilla-rnn: One step",
)
def _():
    return _parity_with(W_xh=rnn.parity_weights()["W_xh"].T)


@parity_weights.mistake(
    "recurrent-weights-transposed",
    "`W_hh` is transposed",
    "Row i of `W_hh` holds the weights into unit i: both of your units must read the *difference* "
    "of the two.",
)
def _():
    return _parity_with(W_hh=rnn.parity_weights()["W_hh"].T)


@parity_weights.variant("three units")
def _():
    g = 30.0
    return {
        "W_xh": g * np.array([[1.0], [1.0], [0.0]]),
        "W_hh": g * np.array([[0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.0, 0.0, 0.0]]),
        "b_h": g * np.array([-0.5, -1.5, 1.0]),
        "W_hy": np.array([[0.0, 0.0, 0.0], [3.0, -3.0, -3.0]]),
        "b_y": np.array([0.0, 0.0]),
    }


@parity_weights.variant("units exchanged")
def _():
    p = rnn.parity_weights()
    return {
        "b_y": p["b_y"],
        "W_hy": p["W_hy"][:, ::-1],
        "b_h": p["b_h"][::-1],
        "W_hh": p["W_hh"][::-1, ::-1],
        "W_xh": p["W_xh"][::-1],
    }


@parity_weights.variant("integers")
def _():
    return {name: np.rint(2 * value).astype(int) for name, value in rnn.parity_weights().items()}


@parity_weights.variant("lists")
def _():
    return {name: value.tolist() for name, value in rnn.parity_weights().items()}
