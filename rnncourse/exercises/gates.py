"""Assignment 06: LSTM and GRU steps, the way back through an LSTM, and open gates."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import numpy as np

from rnncourse import gates, initialization
from rnncourse.exercises.spec import Case, Exercise, normal, weights

LSTM = "07-gates: From leak to gate"
PATH = "07-gates: What the gate protects"
BIAS = "07-gates: The forget bias"
BACK = "07-gates: Backward through an LSTM step"
GRU = "07-gates: GRU"

sigmoid = gates.sigmoid


def _lstm_args(rng, s):
    return (
        normal(rng, s.B, s.D),
        np.tanh(normal(rng, s.B, s.H)),
        normal(rng, s.B, s.H),
        weights(rng, 4 * s.H, s.D),
        weights(rng, 4 * s.H, s.H),
        0.5 * normal(rng, 4 * s.H),
    )


def _saturated(rng, blocks, H):
    """Return a bias whose blocks are driven to 0 or 1, each with one unit that is not."""
    b = np.repeat(rng.permutation([1000.0, -1000.0, 1000.0, -1000.0])[:blocks], H)
    b[rng.integers(H) :: H] = normal(rng, blocks)
    b[0], b[H + 1] = 1000.0, 1000.0
    return b


lstm_step = Exercise(
    name="lstm_step",
    reference=gates.lstm_step,
    section=LSTM,
    axes={
        "x_t": "B D",
        "h_prev": "B H",
        "c_prev": "B H",
        "W_x": "4H D",
        "W_h": "4H H",
        "b": "4H",
    },
    returns=("h: B H", "c: B H"),
    draw=_lstm_args,
    special=lambda rng, s: [
        Case((*_lstm_args(rng, s)[:5], _saturated(rng, 4, s.H)), "gates that are wide open or shut")
    ],
)


def _blocks(x_t, h_prev, W_x, W_h, b):
    """Return the four pre-activations i, f, g, o."""
    return np.split(x_t @ W_x.T + h_prev @ W_h.T + b, 4, axis=-1)


def _gates(*args, order="ifgo"):
    """Return i, f, g, o from blocks that are read in the given order."""
    a = dict(zip(order, _blocks(*args), strict=True))
    return sigmoid(a["i"]), sigmoid(a["f"]), np.tanh(a["g"]), sigmoid(a["o"])


def _update(i, f, g, o, c_prev):
    c = f * c_prev + i * g
    return o * np.tanh(c), c


ORDERS = ("ifog", "figo", "fiog", "igfo", "oifg", "gifo", "ofig")


@lstm_step.mistake(
    "gate-order",
    "the blocks of the weights are read in another order than i, f, g, o",
    "Every gate looks plausible, so only numbers can tell. Which quarter of the rows belongs to "
    "which gate?",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    return _update(*_gates(x_t, h_prev, W_x, W_h, b, order=ORDERS[0]), c_prev)


def _reordered(order):
    def code(x_t, h_prev, c_prev, W_x, W_h, b):
        return _update(*_gates(x_t, h_prev, W_x, W_h, b, order=order), c_prev)

    return code


for _order in ORDERS[1:]:
    lstm_step.form("gate-order")(_reordered(_order))


@lstm_step.mistake(
    "gates-interleaved",
    "every fourth row is taken for a gate, not a quarter of the rows in one block",
    "The rows of one gate stand together: first all H of i, then all H of f. A reshape to (H, 4) "
    "reads them as if they alternated.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    a = x_t @ W_x.T + h_prev @ W_h.T + b
    i, f, g, o = (a[:, n::4] for n in range(4))
    return _update(sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o), c_prev)


@lstm_step.mistake(
    "candidate-sigmoid",
    "the candidate g is squashed by the sigmoid",
    "Your cell can only ever be pushed upwards. Gates say how much, the candidate says what: which "
    "range does it need?",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, o = map(sigmoid, _blocks(x_t, h_prev, W_x, W_h, b))
    return _update(i, f, g, o, c_prev)


@lstm_step.mistake(
    "candidate-linear",
    "the candidate g is not squashed",
    "One large input can write any number into your cell. The candidate has a nonlinearity of its "
    "own.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, o = _blocks(x_t, h_prev, W_x, W_h, b)
    return _update(sigmoid(i), sigmoid(f), g, sigmoid(o), c_prev)


@lstm_step.mistake(
    "gates-tanh",
    "the gates are squashed by tanh",
    "A gate is a share between 0 and 1. Yours can be negative and then turns the sign of what it "
    "lets through.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    return _update(*map(np.tanh, _blocks(x_t, h_prev, W_x, W_h, b)), c_prev)


@lstm_step.mistake(
    "sigmoid-overflow",
    "the sigmoid overflows and gives NaN",
    "exp(1000) is infinite, and infinity over infinity is NaN. Write the sigmoid so that its "
    "exponential stands in one place only, or use the one given.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, o = _blocks(x_t, h_prev, W_x, W_h, b)
    i, f, o = (np.exp(a) / (1 + np.exp(a)) for a in (i, f, o))
    return _update(i, f, np.tanh(g), o, c_prev)


@lstm_step.mistake(
    "cell-not-squashed",
    "the tanh of the cell is missing in h",
    "Your states can leave [-1, 1]. The cell may grow without bound; what does the network show of "
    "it?",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    c = f * c_prev + i * g
    return o * c, c


@lstm_step.mistake(
    "tanh-after-output-gate",
    "the output gate acts before the tanh, not after it",
    "Squash the cell first, then show a share of it.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    c = f * c_prev + i * g
    return np.tanh(o * c), c


@lstm_step.mistake(
    "sigmoid-of-cell",
    "the cell is squashed by the sigmoid in h",
    "None of your states is negative. Which function keeps the sign of the cell?",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    c = f * c_prev + i * g
    return o * sigmoid(c), c


@lstm_step.mistake(
    "output-gate-missing",
    "the output gate is not used",
    "Your unit shows its whole cell at every step. One of the four gates has no effect in your "
    "code.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, _o = _gates(x_t, h_prev, W_x, W_h, b)
    c = f * c_prev + i * g
    return np.tanh(c), c


@lstm_step.mistake(
    "cell-is-output",
    "the cell is returned as the state",
    "The cell is the memory; the state is what the network shows of it. They are two arrays.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    _, c = gates.lstm_step(x_t, h_prev, c_prev, W_x, W_h, b)
    return c, c


@lstm_step.mistake(
    "state-from-old-cell",
    "h shows the cell of the step before",
    "The step writes first and shows afterwards. Which of the two cells do you squash?",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    return o * np.tanh(c_prev), f * c_prev + i * g


@lstm_step.mistake(
    "forget-gate-missing",
    "the old cell is kept whole",
    "That is the LSTM of 1997, whose cell can only add up. One of the four gates has no effect in "
    "your code.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    return _update(i, np.ones_like(f), g, o, c_prev)


@lstm_step.mistake(
    "input-gate-missing",
    "the candidate is written whole",
    "Your network cannot choose to ignore an input. One of the four gates has no effect in your "
    "code.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    return _update(np.ones_like(i), f, g, o, c_prev)


@lstm_step.mistake(
    "gates-coupled",
    "the candidate is weighted by 1 - f in place of i",
    "Keeping and writing are two decisions in an LSTM. The GRU couples them.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    _, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    return _update(1 - f, f, g, o, c_prev)


@lstm_step.mistake(
    "forget-gate-inverted",
    "the old cell is weighted by 1 - f",
    "An open forget gate keeps. It is badly named: f near 1 forgets nothing.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    return _update(i, 1 - f, g, o, c_prev)


@lstm_step.mistake(
    "cell-ignored",
    "the old cell is not used",
    "Change `c_prev`: your answer stays the same. What does the forget gate multiply?",
    section=PATH,
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    return _update(i, 0 * f, g, o, c_prev)


@lstm_step.mistake(
    "state-kept-for-cell",
    "the forget gate multiplies `h_prev` in place of `c_prev`",
    "Two arrays come from the step before. The gates read one of them; the other is the memory.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    return _update(*_gates(x_t, h_prev, W_x, W_h, b), h_prev)


@lstm_step.mistake(
    "gates-read-cell",
    "the gates read `c_prev` in place of `h_prev`",
    "Two arrays come from the step before. The gates see what the network has shown, not what it "
    "holds.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    return _update(*_gates(x_t, c_prev, W_x, W_h, b), c_prev)


@lstm_step.mistake(
    "gates-ignore-state",
    "the gates do not read the previous state",
    "Change `h_prev`: your answer stays the same. A gate depends on what is read *and* on what was "
    "shown before.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    return _update(*_gates(x_t, 0 * h_prev, W_x, W_h, b), c_prev)


@lstm_step.mistake(
    "bias-missing",
    "the bias is not used",
    "Whether a fresh LSTM remembers is a matter of its bias. Which gate does it open?",
    section=BIAS,
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    return _update(*_gates(x_t, h_prev, W_x, W_h, 0 * b), c_prev)


@lstm_step.mistake(
    "bias-twice",
    "the bias is added twice",
    "The course's LSTM has one bias. PyTorch stores two vectors, of which only the sum acts.",
    section=BIAS,
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    return _update(*_gates(x_t, h_prev, W_x, W_h, 2 * b), c_prev)


def _blocks_turned(W_h):
    """Transpose each square block of stacked recurrent weights."""
    H = W_h.shape[1]
    return W_h.reshape(-1, H, H).transpose(0, 2, 1).reshape(W_h.shape)


@lstm_step.mistake(
    "recurrent-block-not-transposed",
    "the blocks of `W_h` are used without their transpose",
    "A block of `W_h` is square, so NumPy cannot complain. Its rows belong to the units that "
    "receive.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    return gates.lstm_step(x_t, h_prev, c_prev, W_x, _blocks_turned(W_h), b)


@lstm_step.mistake(
    "outputs-exchanged",
    "cell and state are returned in the wrong order",
    "Compare your `return` with the docstring.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    return gates.lstm_step(x_t, h_prev, c_prev, W_x, W_h, b)[::-1]


@lstm_step.mistake(
    "cell-overwritten",
    "the previous cell is overwritten in place",
    "The numbers are right, but the caller's `c_prev` is gone: the backward pass will need it. "
    "`*=` and `+=` write into the caller's array.",
)
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    h, c = gates.lstm_step(x_t, h_prev, c_prev, W_x, W_h, b)
    c_prev[...] = c
    return h, c_prev


@lstm_step.form("cell-overwritten")
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    c_prev *= f
    c = c_prev + i * g
    return o * np.tanh(c), c


@lstm_step.variant("einsum")
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    a = np.einsum("bd,kd->kb", x_t, W_x) + np.einsum("bh,kh->kb", h_prev, W_h) + b[:, None]
    i, f, g, o = a.reshape(4, -1, len(x_t))
    c = (1 / (1 + np.exp(-f)) * c_prev.T + np.tanh(g) / (1 + np.exp(-i))).T
    return np.tanh(c) / (1 + np.exp(-o)).T, c


@lstm_step.variant("loops")
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    B, H = h_prev.shape
    h, c = np.zeros((B, H)), np.zeros((B, H))
    for n in range(B):
        for u in range(H):
            i, f, g, o = (
                float(W_x[k * H + u] @ x_t[n] + W_h[k * H + u] @ h_prev[n] + b[k * H + u])
                for k in range(4)
            )
            i, f, o = (0.5 * (1 + np.tanh(a / 2)) for a in (i, f, o))
            c[n, u] = f * c_prev[n, u] + i * np.tanh(g)
            h[n, u] = o * np.tanh(c[n, u])
    return h, c


@lstm_step.variant("gate by gate, stacked inputs")
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    H = h_prev.shape[1]
    joint = np.hstack([x_t, h_prev])
    W = np.hstack([W_x, W_h])

    def gate(k, squash):
        rows = slice(k * H, (k + 1) * H)
        return squash(joint @ W[rows].T + b[rows])

    c = gate(1, sigmoid) * c_prev + gate(0, sigmoid) * gate(2, np.tanh)
    return [gate(3, sigmoid) * np.tanh(c), c]


@lstm_step.variant("clipped sigmoid, preallocated")
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    out = np.empty((2, *h_prev.shape))
    a = x_t.dot(W_x.T) + h_prev.dot(W_h.T) + b.reshape(1, -1)
    H = h_prev.shape[1]
    i, f, o = (1 / (1 + np.exp(-np.clip(a[:, s : s + H], -60, 60))) for s in (0, H, 3 * H))
    np.add(f * c_prev, i * np.tanh(a[:, 2 * H : 3 * H]), out=out[1])
    np.multiply(o, np.tanh(out[1]), out=out[0])
    return tuple(out)


@lstm_step.variant("torch inside")
def _(x_t, h_prev, c_prev, W_x, W_h, b):
    import torch

    x_t, h_prev, c_prev, W_x, W_h, b = map(torch.as_tensor, (x_t, h_prev, c_prev, W_x, W_h, b))
    i, f, g, o = (x_t @ W_x.T + h_prev @ W_h.T + b).chunk(4, dim=1)
    c = f.sigmoid() * c_prev + i.sigmoid() * g.tanh()
    return (o.sigmoid() * c.tanh()).numpy(), c.numpy()


def _lstm_sequence(rng, s):
    _, h0, c0, *parameters = _lstm_args(rng, s)
    return normal(rng, s.T, s.B, s.D), h0, c0, *parameters


lstm_forward = Exercise(
    name="lstm_forward",
    reference=gates.lstm_forward,
    section=LSTM,
    axes={
        "x": "T B D",
        "h0": "B H",
        "c0": "B H",
        "W_x": "4H D",
        "W_h": "4H H",
        "b": "4H",
    },
    returns=("h: T B H", "c: T B H"),
    draw=_lstm_sequence,
)


def _run(x, h0, c0, W_x, W_h, b, carry=lambda h, c, h0, c0: (h, c)):
    """Run an LSTM; `carry` says what the next step receives."""
    states, cells, h_t, c_t = [], [], h0, c0
    for x_t in x:
        h, c = gates.lstm_step(x_t, h_t, c_t, W_x, W_h, b)
        states.append(h)
        cells.append(c)
        h_t, c_t = carry(h, c, h0, c0)
    return np.array(states), np.array(cells)


@lstm_forward.mistake(
    "cell-not-carried",
    "every step starts from the cell `c0` again",
    "Your state is handed on, your memory is not. What two things does step t receive from "
    "step t - 1?",
    section=PATH,
)
def _(*args):
    return _run(*args, carry=lambda h, c, h0, c0: (h, c0))


@lstm_forward.form("cell-not-carried")
def _(*args):
    return _run(*args, carry=lambda h, c, h0, c0: (h, np.zeros_like(c0)))


@lstm_forward.mistake(
    "state-not-carried",
    "every step starts from the state `h0` again",
    "The gates of your step t do not know what the network showed at step t - 1.",
)
def _(*args):
    return _run(*args, carry=lambda h, c, h0, c0: (h0, c))


@lstm_forward.mistake(
    "nothing-carried",
    "every step starts from `h0` and `c0` again",
    "Change `x[0]`: only your `h[0]` changes. What must step t receive from step t - 1?",
)
def _(*args):
    return _run(*args, carry=lambda h, c, h0, c0: (h0, c0))


@lstm_forward.mistake(
    "cell-carried-as-state",
    "the next step receives the cell in place of the state",
    "From the second step on, your gates read the memory itself. Keep the two arrays apart.",
)
def _(*args):
    return _run(*args, carry=lambda h, c, h0, c0: (c, c))


@lstm_forward.mistake(
    "state-carried-as-cell",
    "the next step receives the state in place of the cell",
    "The cell is squashed and gated at every step in your version: that is the path which the LSTM "
    "was invented to avoid.",
    section=PATH,
)
def _(*args):
    return _run(*args, carry=lambda h, c, h0, c0: (h, h))


@lstm_forward.mistake(
    "both-exchanged",
    "cell and state are exchanged on the way to the next step",
    "In which order does your step return its two results, and in which does it take them?",
)
def _(*args):
    return _run(*args, carry=lambda h, c, h0, c0: (c, h))


@lstm_forward.mistake(
    "c0-ignored",
    "the first cell is taken as zero, not as `c0`",
    "A cell that was handed over from earlier text is lost in your version.",
)
def _(x, h0, c0, W_x, W_h, b):
    return _run(x, h0, 0 * c0, W_x, W_h, b)


@lstm_forward.mistake(
    "h0-ignored",
    "the first state is taken as zero, not as `h0`",
    "Mind that `h[t - 1]` at t = 0 is `h[-1]`, the last row of the array, which does not exist "
    "yet.",
)
def _(x, h0, c0, W_x, W_h, b):
    return _run(x, 0 * h0, c0, W_x, W_h, b)


@lstm_forward.mistake(
    "both-starts-ignored",
    "state and cell start from zero",
    "Your first step does not use `h0` and `c0`. Mind that index -1 is the last row of an array.",
)
def _(x, h0, c0, W_x, W_h, b):
    return _run(x, 0 * h0, 0 * c0, W_x, W_h, b)


@lstm_forward.mistake(
    "starts-exchanged",
    "`h0` is used as the cell and `c0` as the state",
    "Compare the order of your arguments with that of the step.",
)
def _(x, h0, c0, W_x, W_h, b):
    return _run(x, c0, h0, W_x, W_h, b)


@lstm_forward.mistake(
    "before-the-step",
    "state and cell are stored before the step in place of after it",
    "`h[t]` is the state *after* reading `x[t]`, so `h[0]` is not `h0`.",
)
def _(x, h0, c0, W_x, W_h, b):
    h, c = _run(x, h0, c0, W_x, W_h, b)
    return np.concatenate([h0[None], h[:-1]]), np.concatenate([c0[None], c[:-1]])


@lstm_forward.mistake(
    "starts-in-output",
    "`h0` and `c0` are part of the result, which is one step too long",
    "There are T inputs and T states after them; `h0` and `c0` stand before the first.",
)
def _(x, h0, c0, W_x, W_h, b):
    h, c = _run(x, h0, c0, W_x, W_h, b)
    return np.concatenate([h0[None], h]), np.concatenate([c0[None], c])


@lstm_forward.mistake(
    "time-reversed",
    "the sequence is read from its end",
    "Your last state knows one input only. Time runs forwards here.",
)
def _(x, *rest):
    h, c = _run(x[::-1], *rest)
    return h[::-1], c[::-1]


@lstm_forward.form("time-reversed")
def _(x, *rest):
    return _run(x[::-1], *rest)


@lstm_forward.mistake(
    "only-last",
    "only the last state and the last cell are returned",
    "The read-out and the backward pass need every step.",
)
def _(*args):
    h, c = _run(*args)
    return h[-1], c[-1]


@lstm_forward.mistake(
    "last-step-missing",
    "the last step is not computed",
    "The loop ends one step early: count how often it runs when T = 1.",
)
def _(*args):
    h, c = _run(*args)
    h[-1] = c[-1] = 0
    return h, c


@lstm_forward.mistake(
    "outputs-exchanged",
    "cells and states are returned in the wrong order",
    "Compare your `return` with the docstring.",
)
def _(*args):
    return _run(*args)[::-1]


@lstm_forward.mistake(
    "batch-first-output",
    "the results have the batch axis first",
    "The course is time-major: `h[t]` is the state of the whole batch at step t.",
    section="02-vanilla-rnn: Batch and time are not interchangeable",
)
def _(*args):
    h, c = _run(*args)
    return h.transpose(1, 0, 2), c.transpose(1, 0, 2)


@lstm_forward.mistake(
    "start-overwritten",
    "the starting cell is overwritten in place",
    "The numbers are right, but the caller's `c0` now holds the last cell. Bind a new name to the "
    "new cell rather than writing into the old array.",
)
def _(x, h0, c0, W_x, W_h, b):
    h, c = _run(x, h0, c0, W_x, W_h, b)
    c0[...] = c[-1]
    return h, c


@lstm_forward.variant("lists")
def _(x, h0, c0, W_x, W_h, b):
    pairs = [(h0, c0)]
    for x_t in x:
        pairs.append(gates.lstm_step(x_t, *pairs[-1], W_x, W_h, b))
    return [h for h, _ in pairs[1:]], [c for _, c in pairs[1:]]


@lstm_forward.variant("inputs multiplied at once")
def _(x, h0, c0, W_x, W_h, b):
    from_input = x @ W_x.T + b
    h, c = np.zeros((2, len(x), *h0.shape))
    h_t, c_t = h0, c0
    for t, a in enumerate(from_input):
        i, f, g, o = np.split(a + h_t @ W_h.T, 4, axis=1)
        c_t = c[t] = sigmoid(f) * c_t + sigmoid(i) * np.tanh(g)
        h_t = h[t] = sigmoid(o) * np.tanh(c_t)
    return h, c


@lstm_forward.variant("recursion")
def _(x, h0, c0, W_x, W_h, b):
    def run(t):
        if t < 0:
            return h0[None], c0[None]
        h, c = run(t - 1)
        h_t, c_t = gates.lstm_step(x[t], h[-1], c[-1], W_x, W_h, b)
        return np.concatenate([h, h_t[None]]), np.concatenate([c, c_t[None]])

    h, c = run(len(x) - 1)
    return h[1:], c[1:]


@lstm_forward.variant("zero-step wrap-around used on purpose")
def _(x, h0, c0, W_x, W_h, b):
    h, c = (np.zeros((len(x) + 1, *h0.shape)) for _ in range(2))
    h[-1], c[-1] = h0, c0
    for t in range(len(x)):
        h[t], c[t] = gates.lstm_step(x[t], h[t - 1], c[t - 1], W_x, W_h, b)
    return h[:-1], c[:-1]


@lstm_forward.variant("torch module inside")
def _(x, h0, c0, W_x, W_h, b):
    import torch

    module = torch.nn.LSTM(x.shape[2], h0.shape[1], dtype=torch.float64)
    with torch.no_grad():
        module.weight_ih_l0.copy_(torch.tensor(W_x))
        module.weight_hh_l0.copy_(torch.tensor(W_h))
        module.bias_ih_l0.copy_(torch.tensor(b))
        module.bias_hh_l0.zero_()
        cells, c_t = [], (torch.tensor(h0)[None], torch.tensor(c0)[None])
        states = []
        for x_t in torch.tensor(x):
            out, c_t = module(x_t[None], c_t)
            states.append(out[0].numpy())
            cells.append(c_t[1][0].numpy())
    return np.array(states), np.array(cells)


def _backward_args(rng, s):
    return normal(rng, s.B, s.H), normal(rng, s.B, s.H), *_lstm_args(rng, s)


def _backward_cases(rng, s):
    dh, dc, *rest = _backward_args(rng, s)
    yield Case((dh, np.zeros_like(dc), *rest), "the last step: nothing comes from a later cell")
    dh, dc, *rest = _backward_args(rng, s)
    yield Case((np.zeros_like(dh), dc, *rest), "the loss reads the cell only")


lstm_step_backward = Exercise(
    name="lstm_step_backward",
    reference=gates.lstm_step_backward,
    section=BACK,
    axes={
        "dh": "B H",
        "dc": "B H",
        "x_t": "B D",
        "h_prev": "B H",
        "c_prev": "B H",
        "W_x": "4H D",
        "W_h": "4H H",
        "b": "4H",
    },
    returns=("dx: B D", "dh_prev: B H", "dc_prev: B H", "dW_x: 4H D", "dW_h: 4H H", "db: 4H"),
    draw=_backward_args,
    special=_backward_cases,
)


def _back(dh, dc, x_t, h_prev, c_prev, W_x, W_h, b, **changes):
    """Backward pass in which named parts can be exchanged for wrong ones, functions of all parts.

    The parts are computed in the order in which they stand below.
    """
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    c = f * c_prev + i * g
    v = {"dh": dh, "dc": dc, "x_t": x_t, "h_prev": h_prev, "c_prev": c_prev}
    v |= {"i": i, "f": f, "g": g, "o": o, "c": c, "tanh_c": np.tanh(c), "h": o * np.tanh(c)}
    parts = {
        "total": lambda v: v["dc"] + v["dh"] * v["o"] * (1 - v["tanh_c"] ** 2),
        "a_i": lambda v: v["total"] * v["g"] * v["i"] * (1 - v["i"]),
        "a_f": lambda v: v["total"] * v["c_prev"] * v["f"] * (1 - v["f"]),
        "a_g": lambda v: v["total"] * v["i"] * (1 - v["g"] ** 2),
        "a_o": lambda v: v["dh"] * v["tanh_c"] * v["o"] * (1 - v["o"]),
        "dc_prev": lambda v: v["total"] * v["f"],
        "da": lambda v: np.concatenate([v["a_i"], v["a_f"], v["a_g"], v["a_o"]], axis=1),
        "dx": lambda v: v["da"] @ W_x,
        "dh_prev": lambda v: v["da"] @ W_h,
        "dW_x": lambda v: v["da"].T @ v["x_t"],
        "dW_h": lambda v: v["da"].T @ v["h_prev"],
        "db": lambda v: v["da"].sum(axis=0),
    }
    for name, part in {**parts, **changes}.items():
        v[name] = part(v)
    return tuple(v[name] for name in ("dx", "dh_prev", "dc_prev", "dW_x", "dW_h", "db"))


def _wrong(**changes):
    """Return a backward pass with these parts exchanged."""
    return lambda *args: _back(*args, **changes)


lstm_step_backward.mistake(
    "cell-through-state-forgotten",
    "the way from the cell through h = o tanh(c) is not counted",
    "The cell reaches the loss on two ways: through the next cell, which is `dc`, and through the "
    "state of this step. Add up all that reaches it before you distribute.",
)(_wrong(total=lambda v: v["dc"]))

lstm_step_backward.mistake(
    "later-cell-ignored",
    "`dc`, what later cells send back, is not used",
    "At the last step your gradients are right, at all others the memory's path is cut.",
    section=PATH,
)(_wrong(total=lambda v: v["dh"] * v["o"] * (1 - v["tanh_c"] ** 2)))

lstm_step_backward.mistake(
    "dc-prev-without-state",
    "`dc_prev` takes only `dc` back, not what came through h",
    "Only `dc_prev` is wrong. The old cell feeds the new one, and the new one acts on two ways.",
)(_wrong(dc_prev=lambda v: v["dc"] * v["f"]))

lstm_step_backward.mistake(
    "later-cell-not-for-gates",
    "the gates receive only what came through h, not `dc`",
    "`dc_prev` is right and the gates' gradients are not. i, f and g made the cell: they answer "
    "for everything that the cell did.",
)(
    _wrong(
        a_i=lambda v: (v["total"] - v["dc"]) * v["g"] * v["i"] * (1 - v["i"]),
        a_f=lambda v: (v["total"] - v["dc"]) * v["c_prev"] * v["f"] * (1 - v["f"]),
        a_g=lambda v: (v["total"] - v["dc"]) * v["i"] * (1 - v["g"] ** 2),
    )
)

lstm_step_backward.mistake(
    "bracket-lost",
    "the derivative of a gate multiplies only the second summand of the cell's gradient",
    "`a + b * c` is not `(a + b) * c`. Give the cell's total gradient a name and use that.",
)(
    _wrong(
        a_i=lambda v: v["dc"] * v["g"] + (v["total"] - v["dc"]) * v["g"] * v["i"] * (1 - v["i"]),
        a_f=lambda v: (
            v["dc"] * v["c_prev"] + (v["total"] - v["dc"]) * v["c_prev"] * v["f"] * (1 - v["f"])
        ),
        a_g=lambda v: v["dc"] * v["i"] + (v["total"] - v["dc"]) * v["i"] * (1 - v["g"] ** 2),
    )
)
lstm_step_backward.form("bracket-lost")(
    _wrong(
        a_i=lambda v: v["dc"] + (v["total"] - v["dc"]) * v["g"] * v["i"] * (1 - v["i"]),
        a_f=lambda v: v["dc"] + (v["total"] - v["dc"]) * v["c_prev"] * v["f"] * (1 - v["f"]),
        a_g=lambda v: v["dc"] + (v["total"] - v["dc"]) * v["i"] * (1 - v["g"] ** 2),
    )
)
lstm_step_backward.form("bracket-lost")(
    _wrong(dc_prev=lambda v: v["dc"] + (v["total"] - v["dc"]) * v["f"])
)

lstm_step_backward.mistake(
    "cell-tanh-derivative-missing",
    "the slope of tanh(c) is missing on the way from h to the cell",
    "Between the cell and the state stand two things: a tanh and the output gate.",
)(_wrong(total=lambda v: v["dc"] + v["dh"] * v["o"]))

lstm_step_backward.mistake(
    "output-gate-missing-on-the-way-back",
    "the output gate is missing on the way from h to the cell",
    "Between the cell and the state stand two things: a tanh and the output gate.",
)(_wrong(total=lambda v: v["dc"] + v["dh"] * (1 - v["tanh_c"] ** 2)))

lstm_step_backward.mistake(
    "slope-from-cell",
    "the slope of the tanh is taken as 1 - c² in place of 1 - tanh(c)²",
    "Your slope is negative where the cell exceeds 1. The short formula holds for the *value* of "
    "the tanh.",
)(_wrong(total=lambda v: v["dc"] + v["dh"] * v["o"] * (1 - v["c"] ** 2)))

lstm_step_backward.mistake(
    "slope-from-state",
    "the slope of the tanh is taken as 1 - h²",
    "In a vanilla network h is a tanh. Here it is a tanh times a gate.",
)(_wrong(total=lambda v: v["dc"] + v["dh"] * v["o"] * (1 - v["h"] ** 2)))

lstm_step_backward.mistake(
    "slope-at-old-cell",
    "the slope of the tanh is taken at the old cell",
    "The state shows the *new* cell. At which point must the slope be taken?",
)(_wrong(total=lambda v: v["dc"] + v["dh"] * v["o"] * (1 - np.tanh(v["c_prev"]) ** 2)))

lstm_step_backward.mistake(
    "sigmoid-slopes-missing",
    "the slopes of the sigmoids are missing",
    "You have the gradients of the gates, not yet of what stood inside the sigmoids. The slope of "
    "a sigmoid follows from its value.",
)(
    _wrong(
        a_i=lambda v: v["total"] * v["g"],
        a_f=lambda v: v["total"] * v["c_prev"],
        a_o=lambda v: v["dh"] * v["tanh_c"],
    )
)

lstm_step_backward.mistake(
    "forget-slope-missing",
    "the slope of the sigmoid is missing for the forget gate",
    "Three of your four blocks are right. What distinguishes the second?",
)(_wrong(a_f=lambda v: v["total"] * v["c_prev"]))

lstm_step_backward.mistake(
    "input-slope-missing",
    "the slope of the sigmoid is missing for the input gate",
    "Three of your four blocks are right. What distinguishes the first?",
)(_wrong(a_i=lambda v: v["total"] * v["g"]))

lstm_step_backward.mistake(
    "output-slope-missing",
    "the slope of the sigmoid is missing for the output gate",
    "Three of your four blocks are right. What distinguishes the last?",
)(_wrong(a_o=lambda v: v["dh"] * v["tanh_c"]))

lstm_step_backward.mistake(
    "candidate-slope-missing",
    "the slope of the candidate's tanh is missing",
    "Three of your four blocks are right. What distinguishes the third?",
)(_wrong(a_g=lambda v: v["total"] * v["i"]))

lstm_step_backward.mistake(
    "candidate-slope-sigmoid",
    "the candidate gets the slope of a sigmoid",
    "Your slope is 0 at g = 0, where the tanh is steepest. The candidate is no gate.",
)(_wrong(a_g=lambda v: v["total"] * v["i"] * v["g"] * (1 - v["g"])))

lstm_step_backward.mistake(
    "candidate-slope-square-missing",
    "the candidate's slope is taken as 1 - g in place of 1 - g²",
    "A tanh is as steep at -a as at a. Is your factor the same for g and for -g?",
)(_wrong(a_g=lambda v: v["total"] * v["i"] * (1 - v["g"])))

lstm_step_backward.mistake(
    "candidate-tanh-twice",
    "the candidate's slope takes the tanh of g, which is a tanh already",
    "The slope is 1 - tanh(a)² with a *before* the tanh. What does g hold?",
)(_wrong(a_g=lambda v: v["total"] * v["i"] * (1 - np.tanh(v["g"]) ** 2)))

lstm_step_backward.mistake(
    "gates-all-tanh",
    "all gates get the slope of a tanh, 1 - gate²",
    "Three of the four blocks went through a sigmoid. What is its slope?",
)(
    _wrong(
        a_i=lambda v: v["total"] * v["g"] * (1 - v["i"] ** 2),
        a_f=lambda v: v["total"] * v["c_prev"] * (1 - v["f"] ** 2),
        a_o=lambda v: v["dh"] * v["tanh_c"] * (1 - v["o"] ** 2),
    )
)

lstm_step_backward.mistake(
    "new-cell-for-forget-gate",
    "the forget gate's gradient is formed with the new cell",
    "Which cell did the forget gate multiply?",
)(_wrong(a_f=lambda v: v["total"] * v["c"] * v["f"] * (1 - v["f"])))

lstm_step_backward.mistake(
    "state-for-forget-gate",
    "the forget gate's gradient is formed with `h_prev`",
    "Which array did the forget gate multiply, the memory or what was shown of it?",
)(_wrong(a_f=lambda v: v["total"] * v["h_prev"] * v["f"] * (1 - v["f"])))

lstm_step_backward.mistake(
    "own-factor",
    "input gate and candidate are multiplied by themselves, not by each other",
    "The derivative of a product i · g with respect to i is the *other* factor.",
)(
    _wrong(
        a_i=lambda v: v["total"] * v["i"] * v["i"] * (1 - v["i"]),
        a_g=lambda v: v["total"] * v["g"] * (1 - v["g"] ** 2),
    )
)

lstm_step_backward.mistake(
    "output-gate-from-cell",
    "the output gate's gradient is formed with c in place of tanh(c)",
    "What did the output gate multiply?",
)(_wrong(a_o=lambda v: v["dh"] * v["c"] * v["o"] * (1 - v["o"])))

lstm_step_backward.mistake(
    "output-gate-from-cell-gradient",
    "the output gate receives the cell's gradient in place of the state's",
    "The output gate acts on `h` alone. Which of the two gradients reaches it?",
)(_wrong(a_o=lambda v: v["total"] * v["tanh_c"] * v["o"] * (1 - v["o"])))

lstm_step_backward.mistake(
    "forget-gate-missing-in-dc-prev",
    "`dc_prev` is not multiplied by the forget gate",
    "Only `dc_prev` is wrong. The old cell was kept only in part.",
    section=PATH,
)(_wrong(dc_prev=lambda v: v["total"]))

lstm_step_backward.mistake(
    "input-gate-in-dc-prev",
    "`dc_prev` is multiplied by the input gate",
    "Only `dc_prev` is wrong. Which gate decided about the old cell?",
    section=PATH,
)(_wrong(dc_prev=lambda v: v["total"] * v["i"]))

lstm_step_backward.mistake(
    "gate-order",
    "the four gradients are stacked in another order than i, f, g, o",
    "The rows of your gradient must meet the rows of the weights.",
)(_wrong(da=lambda v: np.hstack([v["a_i"], v["a_f"], v["a_o"], v["a_g"]])))
lstm_step_backward.form("gate-order")(
    _wrong(da=lambda v: np.hstack([v["a_f"], v["a_i"], v["a_g"], v["a_o"]]))
)
lstm_step_backward.form("gate-order")(
    _wrong(da=lambda v: np.hstack([v["a_f"], v["a_i"], v["a_o"], v["a_g"]]))
)

lstm_step_backward.mistake(
    "weight-gradient-from-new-state",
    "`dW_h` is formed with the new state where the step used `h_prev`",
    "All else is right. `W_h` was multiplied by a state: by which one?",
)(_wrong(dW_h=lambda v: v["da"].T @ v["h"]))


@lstm_step_backward.mistake(
    "state-passes-directly",
    "`dh` is added to `dh_prev`",
    "The state has no direct way from step to step; only the cell has one. The old state acts "
    "through the gates.",
    section=PATH,
)
def _(dh, *rest):
    dx, dh_prev, *others = gates.lstm_step_backward(dh, *rest)
    return (dx, dh_prev + dh, *others)


@lstm_step_backward.mistake(
    "recurrent-block-not-transposed",
    "the blocks of `W_h` are transposed on the way back",
    "Only `dh_prev` is wrong. A block of `W_h` is square, so its shape cannot warn you.",
)
def _(*args):
    W_h = args[6]
    dx, dh_prev, dc_prev, dW_x, dW_h, db = gates.lstm_step_backward(*args)
    H = W_h.shape[1]
    i, f, g, o = _gates(*args[2:4], *args[5:])
    da = _da(args, i, f, g, o)
    dh_prev = sum(da[:, k * H : (k + 1) * H] @ W_h[k * H : (k + 1) * H].T for k in range(4))
    return dx, dh_prev, dc_prev, dW_x, dW_h, db


def _da(args, i, f, g, o):
    """Return the gradient of the pre-activations."""
    dh, dc, c_prev = args[0], args[1], args[4]
    tanh_c = np.tanh(f * c_prev + i * g)
    total = dc + dh * o * (1 - tanh_c**2)
    return np.hstack(
        [
            total * g * i * (1 - i),
            total * c_prev * f * (1 - f),
            total * i * (1 - g**2),
            dh * tanh_c * o * (1 - o),
        ]
    )


@lstm_step_backward.mistake(
    "weight-gradients-transposed",
    "the weight gradients are transposed",
    "A gradient has the shape of its weight: 4H rows.",
)
def _(*args):
    *rest, dW_x, dW_h, db = gates.lstm_step_backward(*args)
    return (*rest, dW_x.T, dW_h.T, db)


@lstm_step_backward.mistake(
    "bias-mean-over-batch",
    "the bias gradient is averaged over the batch",
    "The same bias acts on every sequence. Its gradient collects what all of them ask for.",
)
def _(*args):
    *rest, db = gates.lstm_step_backward(*args)
    return (*rest, db / len(args[0]))


@lstm_step_backward.mistake(
    "all-divided-by-batch",
    "the gradients of weights and bias are divided by the batch size",
    "If the loss is a mean, `dh` contains the 1/B already; a second division is one too many.",
)
def _(*args):
    *rest, dW_x, dW_h, db = gates.lstm_step_backward(*args)
    return (*rest, *(grad / len(args[0]) for grad in (dW_x, dW_h, db)))


@lstm_step_backward.mistake(
    "bias-not-summed",
    "the bias gradient still has a batch axis",
    "A gradient has the shape of its parameter. What happens backward where the forward pass "
    "broadcast `b` over the batch?",
)
def _(*args):
    *rest, _ = gates.lstm_step_backward(*args)
    return (*rest, _da(args, *_gates(*args[2:4], *args[5:])))


@lstm_step_backward.mistake(
    "outputs-exchanged",
    "two outputs, such as `dh_prev` and `dc_prev`, are returned in the wrong order",
    "Compare your `return` with the docstring.",
)
def _(*args):
    dx, dh_prev, dc_prev, *rest = gates.lstm_step_backward(*args)
    return (dx, dc_prev, dh_prev, *rest)


@lstm_step_backward.form("outputs-exchanged")
def _(*args):
    dx, dh_prev, dc_prev, dW_x, dW_h, db = gates.lstm_step_backward(*args)
    return dx, dh_prev, dc_prev, dW_h, dW_x, db


@lstm_step_backward.mistake(
    "upstream-gradient-overwritten",
    "the upstream gradient `dc` is changed in place",
    "The numbers are right, but whoever called you has lost `dc`. `+=` writes into the caller's "
    "array.",
)
def _(dh, dc, x_t, h_prev, c_prev, W_x, W_h, b):
    grads = gates.lstm_step_backward(dh, dc, x_t, h_prev, c_prev, W_x, W_h, b)
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    dc += dh * o * (1 - np.tanh(f * c_prev + i * g) ** 2)
    return grads


@lstm_step_backward.variant("gate by gate")
def _(dh, dc, x_t, h_prev, c_prev, W_x, W_h, b):
    H = h_prev.shape[1]
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    t = np.tanh(f * c_prev + i * g)
    total = dc + dh * o - dh * o * t * t
    dx, dh_prev = np.zeros_like(x_t), np.zeros_like(h_prev)
    dW_x, dW_h, db = np.zeros_like(W_x), np.zeros_like(W_h), np.zeros_like(b)
    upstream = (total * g, total * c_prev, total * i, dh * t)
    slopes = (i - i * i, f - f * f, (1 - g) * (1 + g), o - o * o)
    for k, (d, slope) in enumerate(zip(upstream, slopes, strict=True)):
        rows, da = slice(k * H, (k + 1) * H), d * slope
        dx += da @ W_x[rows]
        dh_prev += da @ W_h[rows]
        dW_x[rows], dW_h[rows], db[rows] = da.T @ x_t, da.T @ h_prev, da.sum(0)
    return dx, dh_prev, total * f, dW_x, dW_h, db


@lstm_step_backward.variant("sample by sample")
def _(dh, dc, x_t, h_prev, c_prev, W_x, W_h, b):
    rows = [
        gates.lstm_step_backward(
            *(v[n : n + 1] for v in (dh, dc, x_t, h_prev, c_prev)), W_x, W_h, b
        )
        for n in range(len(dh))
    ]
    dx, dh_prev, dc_prev, dW_x, dW_h, db = zip(*rows, strict=True)
    return (*map(np.concatenate, (dx, dh_prev, dc_prev)), sum(dW_x), sum(dW_h), sum(db))


@lstm_step_backward.variant("einsum, list of outputs")
def _(dh, dc, x_t, h_prev, c_prev, W_x, W_h, b):
    args = (dh, dc, x_t, h_prev, c_prev, W_x, W_h, b)
    i, f, g, o = _gates(x_t, h_prev, W_x, W_h, b)
    da = _da(args, i, f, g, o)
    total = dc + dh * o / np.cosh(f * c_prev + i * g) ** 2
    return [
        np.einsum("bk,kd->bd", da, W_x),
        np.einsum("bk,kh->bh", da, W_h),
        np.einsum("bh,bh->bh", total, f),
        np.einsum("bk,bd->kd", da, x_t),
        np.einsum("bk,bh->kh", da, h_prev),
        np.einsum("bk->k", da),
    ]


@lstm_step_backward.variant("torch autograd inside")
def _(dh, dc, x_t, h_prev, c_prev, W_x, W_h, b):
    import torch

    leaves = [torch.tensor(v, requires_grad=True) for v in (x_t, h_prev, c_prev, W_x, W_h, b)]
    x_t, h_prev, c_prev, W_x, W_h, b = leaves
    i, f, g, o = (x_t @ W_x.T + h_prev @ W_h.T + b).chunk(4, dim=1)
    c = f.sigmoid() * c_prev + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    ((h * torch.tensor(dh)).sum() + (c * torch.tensor(dc)).sum()).backward()
    return tuple(leaf.grad.numpy() for leaf in leaves)


def _gru_args(rng, s):
    return (
        normal(rng, s.B, s.D),
        np.tanh(normal(rng, s.B, s.H)),
        weights(rng, 3 * s.H, s.D),
        weights(rng, 3 * s.H, s.H),
        0.5 * normal(rng, 3 * s.H),
        0.5 * normal(rng, 3 * s.H),
    )


gru_step = Exercise(
    name="gru_step",
    reference=gates.gru_step,
    section=GRU,
    axes={
        "x_t": "B D",
        "h_prev": "B H",
        "W_x": "3H D",
        "W_h": "3H H",
        "b_x": "3H",
        "b_h": "3H",
    },
    returns=("h: B H",),
    draw=_gru_args,
    special=lambda rng, s: [
        Case(
            (*_gru_args(rng, s)[:4], _saturated(rng, 3, s.H), 0.5 * normal(rng, 3 * s.H)),
            "gates that are wide open or shut",
        )
    ],
)


def _gru_blocks(x_t, h_prev, W_x, W_h, b_x, b_h, order="rzn"):
    """Return the six pre-activations by side and gate, as in ``a["xr"]``."""
    from_x = np.split(x_t @ W_x.T + b_x, 3, axis=-1)
    from_h = np.split(h_prev @ W_h.T + b_h, 3, axis=-1)
    a = {"x" + k: v for k, v in zip(order, from_x, strict=True)}
    return a | {"h" + k: v for k, v in zip(order, from_h, strict=True)}


def _gru(*args, candidate=None, mix=None, squash=sigmoid, order="rzn"):
    """Advance a GRU with parts that can be exchanged for wrong ones."""
    a = _gru_blocks(*args, order=order)
    r, z = squash(a["xr"] + a["hr"]), squash(a["xz"] + a["hz"])
    n = np.tanh(a["xn"] + r * a["hn"]) if candidate is None else candidate(a, r)
    h_prev = args[1]
    return (1 - z) * n + z * h_prev if mix is None else mix(z, n, h_prev, r)


@gru_step.mistake(
    "update-gate-exchanged",
    "z weighs the new value, and 1 - z the old",
    "Papers disagree on which of the two z stands for. In the chapter, as in PyTorch, the update "
    "gate says how much to *keep*.",
)
def _(*args):
    return _gru(*args, mix=lambda z, n, h, r: z * n + (1 - z) * h)


@gru_step.mistake(
    "reset-before-the-product",
    "the reset gate multiplies the state before the recurrent product",
    "Both forms are in print. In PyTorch's, the product comes first: what does r multiply there?",
)
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    H = h_prev.shape[1]

    def candidate(a, r):
        return np.tanh(a["xn"] + (r * h_prev) @ W_h[2 * H :].T + b_h[2 * H :])

    return _gru(x_t, h_prev, W_x, W_h, b_x, b_h, candidate=candidate)


@gru_step.mistake(
    "reset-ignored",
    "the reset gate is not used",
    "You compute r and leave it. The candidate must be able to look away from the past.",
)
def _(*args):
    return _gru(*args, candidate=lambda a, r: np.tanh(a["xn"] + a["hn"]))


@gru_step.mistake(
    "bias-outside-the-reset",
    "the recurrent bias of the candidate is added outside the reset gate",
    "The reset gate multiplies the whole recurrent side, bias and all: this is why a GRU has two "
    "biases.",
)
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    b = b_h[2 * h_prev.shape[1] :]

    def candidate(a, r):
        return np.tanh(a["xn"] + r * (a["hn"] - b) + b)

    return _gru(x_t, h_prev, W_x, W_h, b_x, b_h, candidate=candidate)


@gru_step.mistake(
    "all-biases-in-the-reset",
    "the input bias of the candidate is multiplied by the reset gate too",
    "The reset gate acts on what comes from the state. Which of the two biases belongs to that "
    "side?",
)
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    b = b_x[2 * h_prev.shape[1] :]

    def candidate(a, r):
        return np.tanh(a["xn"] - b + r * (a["hn"] + b))

    return _gru(x_t, h_prev, W_x, W_h, b_x, b_h, candidate=candidate)


@gru_step.mistake(
    "reset-on-everything",
    "the reset gate multiplies the input too",
    "With r = 0 your candidate sees nothing at all. It is to see the input without the past.",
)
def _(*args):
    return _gru(*args, candidate=lambda a, r: np.tanh(r * (a["xn"] + a["hn"])))


@gru_step.mistake(
    "reset-on-the-input",
    "the reset gate multiplies the input side in place of the recurrent side",
    "Which of the two is to be reset, what is read or what is remembered?",
)
def _(*args):
    return _gru(*args, candidate=lambda a, r: np.tanh(r * a["xn"] + a["hn"]))


@gru_step.mistake(
    "reset-after-the-tanh",
    "the reset gate multiplies the finished candidate",
    "With r = 0 your candidate is 0. It is to see the input without the past.",
)
def _(*args):
    return _gru(*args, candidate=lambda a, r: r * np.tanh(a["xn"] + a["hn"]))


@gru_step.mistake(
    "reset-inverted",
    "the recurrent side is weighted by 1 - r",
    "An open reset gate lets the past through.",
)
def _(*args):
    return _gru(*args, candidate=lambda a, r: np.tanh(a["xn"] + (1 - r) * a["hn"]))


@gru_step.mistake(
    "reset-on-kept-state",
    "the kept share of the state is multiplied by the reset gate as well",
    "The reset gate is about the candidate only; what is kept is the update gate's affair.",
)
def _(*args):
    return _gru(*args, mix=lambda z, n, h, r: (1 - z) * n + z * r * h)


@gru_step.mistake(
    "update-for-reset",
    "the update gate is used in the candidate in place of the reset gate",
    "Two gates, two jobs: one decides what the candidate may see, the other what is kept.",
)
def _(*args):
    a = _gru_blocks(*args)
    z = sigmoid(a["xz"] + a["hz"])
    return (1 - z) * np.tanh(a["xn"] + z * a["hn"]) + z * args[1]


@gru_step.mistake(
    "gate-order",
    "the blocks of the weights are read in another order than r, z, n",
    "Every gate looks plausible, so only numbers can tell. Which third of the rows belongs to "
    "which gate?",
)
def _(*args):
    return _gru(*args, order="zrn")


for _order in ("rnz", "nzr", "znr", "nrz"):
    gru_step.form("gate-order")(lambda *args, order=_order: _gru(*args, order=order))


@gru_step.mistake(
    "gates-interleaved",
    "every third row is taken for a gate, not a third of the rows in one block",
    "The rows of one gate stand together: first all H of r, then all H of z.",
)
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    rows = np.concatenate([np.arange(k, len(b_x), 3) for k in range(3)])
    return gates.gru_step(x_t, h_prev, W_x[rows], W_h[rows], b_x[rows], b_h[rows])


@gru_step.mistake(
    "candidate-sigmoid",
    "the candidate is squashed by the sigmoid",
    "None of your candidates is negative. Gates say how much, the candidate says what.",
)
def _(*args):
    return _gru(*args, candidate=lambda a, r: sigmoid(a["xn"] + r * a["hn"]))


@gru_step.mistake(
    "candidate-linear",
    "the candidate is not squashed",
    "Your states can leave [-1, 1]. The candidate has a nonlinearity of its own.",
)
def _(*args):
    return _gru(*args, candidate=lambda a, r: a["xn"] + r * a["hn"])


@gru_step.mistake(
    "gates-tanh",
    "the gates are squashed by tanh",
    "A gate is a share between 0 and 1. Yours can be negative.",
)
def _(*args):
    return _gru(*args, squash=np.tanh)


@gru_step.mistake(
    "sigmoid-overflow",
    "the sigmoid overflows and gives NaN",
    "exp(1000) is infinite, and infinity over infinity is NaN. Write the sigmoid so that its "
    "exponential stands in one place only, or use the one given.",
)
def _(*args):
    return _gru(*args, squash=lambda a: np.exp(a) / (1 + np.exp(a)))


@gru_step.mistake(
    "new-value-not-weighted",
    "the candidate is added whole: n + z h",
    "The two shares must add up to 1, or the state grows.",
)
def _(*args):
    return _gru(*args, mix=lambda z, n, h, r: n + z * h)


@gru_step.mistake(
    "nothing-kept",
    "the old state is not mixed in",
    "With z = 1 your state becomes 0, where it should stay as it is.",
)
def _(*args):
    return _gru(*args, mix=lambda z, n, h, r: (1 - z) * n)


@gru_step.mistake(
    "candidate-returned",
    "the candidate itself is returned",
    "Your update gate has no effect: nothing can be kept.",
)
def _(*args):
    return _gru(*args, mix=lambda z, n, h, r: n)


@gru_step.mistake(
    "tanh-at-the-end",
    "the mixture is squashed once more",
    "An update gate at 1 must copy the state exactly; your tanh shrinks it at every step.",
)
def _(*args):
    return np.tanh(_gru(*args))


@gru_step.mistake(
    "recurrent-bias-missing",
    "`b_h` is not used",
    "The GRU needs both biases, since the reset gate multiplies one of them.",
)
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    return _gru(x_t, h_prev, W_x, W_h, b_x, 0 * b_h)


@gru_step.mistake(
    "input-bias-missing",
    "`b_x` is not used",
    "The GRU needs both biases, since the reset gate multiplies one of them.",
)
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    return _gru(x_t, h_prev, W_x, W_h, 0 * b_x, b_h)


@gru_step.mistake(
    "biases-exchanged",
    "`b_x` and `b_h` are exchanged",
    "For r and z only their sum matters, for the candidate it does not: which bias stands inside "
    "the reset?",
)
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    return _gru(x_t, h_prev, W_x, W_h, b_h, b_x)


@gru_step.mistake(
    "gates-ignore-state",
    "the gates r and z do not read the state",
    "A gate depends on what is read *and* on the state before.",
)
def _(*args):
    a = _gru_blocks(*args)
    r, z = sigmoid(a["xr"]), sigmoid(a["xz"])
    return (1 - z) * np.tanh(a["xn"] + r * a["hn"]) + z * args[1]


@gru_step.mistake(
    "recurrent-block-not-transposed",
    "the blocks of `W_h` are used without their transpose",
    "A block of `W_h` is square, so NumPy cannot complain. Its rows belong to the units that "
    "receive.",
)
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    return _gru(x_t, h_prev, W_x, _blocks_turned(W_h), b_x, b_h)


@gru_step.mistake(
    "state-overwritten",
    "the previous state is overwritten in place",
    "The numbers are right, but the caller's `h_prev` is gone. Return a new array.",
)
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    h_prev[...] = _gru(x_t, h_prev, W_x, W_h, b_x, b_h)
    return h_prev


@gru_step.variant("difference form")
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    a = _gru_blocks(x_t, h_prev, W_x, W_h, b_x, b_h)
    n = np.tanh(a["xn"] + sigmoid(a["xr"] + a["hr"]) * a["hn"])
    return n + (h_prev - n) / (1 + np.exp(-(a["xz"] + a["hz"])))


@gru_step.variant("einsum")
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    H = h_prev.shape[1]
    x = np.einsum("bd,khd->kbh", x_t, W_x.reshape(3, H, -1)) + b_x.reshape(3, 1, H)
    h = np.einsum("bj,khj->kbh", h_prev, W_h.reshape(3, H, H)) + b_h.reshape(3, 1, H)
    r, z = 1 / (1 + np.exp(-(x + h)[:2]))
    return (1 - z) * np.tanh(x[2] + r * h[2]) + z * h_prev


@gru_step.variant("loops")
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    B, H = h_prev.shape
    h = [[0.0] * H for _ in range(B)]
    for n in range(B):
        for u in range(H):
            x = [W_x[k * H + u] @ x_t[n] + b_x[k * H + u] for k in range(3)]
            s = [W_h[k * H + u] @ h_prev[n] + b_h[k * H + u] for k in range(3)]
            r, z = (0.5 + 0.5 * np.tanh((x[k] + s[k]) / 2) for k in range(2))
            h[n][u] = (1 - z) * np.tanh(x[2] + r * s[2]) + z * h_prev[n][u]
    return np.array(h)


@gru_step.variant("columns, preallocated")
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    H = h_prev.shape[1]
    out = np.empty(h_prev.shape[::-1])
    x = W_x @ x_t.T + b_x[:, None]
    h = W_h @ h_prev.T + b_h[:, None]
    both = sigmoid(x[: 2 * H] + h[: 2 * H])
    out[:] = np.tanh(x[2 * H :] + both[:H] * h[2 * H :])
    out *= 1 - both[H:]
    out += both[H:] * h_prev.T
    return out.T


@gru_step.variant("torch module inside")
def _(x_t, h_prev, W_x, W_h, b_x, b_h):
    import torch

    cell = torch.nn.GRUCell(x_t.shape[1], h_prev.shape[1], dtype=torch.float64)
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor(W_x))
        cell.weight_hh.copy_(torch.tensor(W_h))
        cell.bias_ih.copy_(torch.tensor(b_x))
        cell.bias_hh.copy_(torch.tensor(b_h))
        return cell(torch.tensor(x_t), torch.tensor(h_prev)).numpy()


forget_bias = Exercise(
    name="forget_bias",
    reference=initialization.forget_bias,
    section=BIAS,
    axes={"b": "4H", "value": ""},
    returns=("b: 4H",),
    sizes=({"H": 4}, {"H": 3}, {"H": 2}),
    draw=lambda rng, s: (normal(rng, 4 * s.H), rng.uniform(1.2, 3.0)),
    special=lambda rng, s: [
        Case((normal(rng, 4 * s.H), 0.0), "the value is 0"),
        Case((normal(rng, 4 * s.H), -3.5), "the value is negative"),
        Case((normal(rng, 4 * 5), 1.0), "the value is 1"),
        Case((np.zeros(4 * s.H), 2.5), "the bias is zero"),
        Case((normal(rng, 4), 1.5), "one unit"),
    ],
)


def _with(b, value, start, stop, step=None):
    new = b.copy()
    new[start:stop:step] = value
    return new


@forget_bias.mistake(
    "input-gate-opened",
    "the block of the input gate is set",
    "You opened the first gate of i, f, g, o. Which one lets the old cell through?",
)
def _(b, value):
    return _with(b, value, 0, len(b) // 4)


@forget_bias.mistake(
    "candidate-set",
    "the block of the candidate is set",
    "Count the blocks i, f, g, o: yours is the third.",
)
def _(b, value):
    H = len(b) // 4
    return _with(b, value, 2 * H, 3 * H)


@forget_bias.mistake(
    "output-gate-opened",
    "the block of the output gate is set",
    "Count the blocks i, f, g, o: yours is the last.",
)
def _(b, value):
    return _with(b, value, 3 * len(b) // 4, None)


@forget_bias.mistake(
    "all-gates-set",
    "all four blocks are set",
    "That opens every gate. Only one of the four decides how long the cell keeps its content.",
)
def _(b, value):
    return np.full(len(b), float(value))


@forget_bias.mistake(
    "value-added",
    "the value is added to the bias that is there",
    "The bias is to *be* the value, wherever it was before.",
)
def _(b, value):
    H = len(b) // 4
    return _with(b, b[H : 2 * H] + value, H, 2 * H)


@forget_bias.mistake(
    "others-lost",
    "the other three blocks are zero",
    "Their values must stay as they were. Start from a copy.",
)
def _(b, value):
    H = len(b) // 4
    return _with(np.zeros(len(b)), value, H, 2 * H)


@forget_bias.mistake(
    "caller-overwritten",
    "the caller's bias is changed in place",
    "The numbers are right, but the array that you were given has changed. Slices of an array are "
    "views of it.",
)
def _(b, value):
    H = len(b) // 4
    b[H : 2 * H] = value
    return b


@forget_bias.mistake(
    "interleaved",
    "every fourth entry is set",
    "The entries of one gate stand together in one block of H.",
)
def _(b, value):
    return _with(b, value, 1, None, 4)


@forget_bias.mistake(
    "only-one-unit",
    "only one unit's bias is set",
    "A gate has one bias for each of the H units.",
)
def _(b, value):
    return _with(b, value, len(b) // 4, len(b) // 4 + 1)


@forget_bias.form("only-one-unit")
def _(b, value):
    return _with(b, value, 1, 2)


@forget_bias.mistake(
    "to-the-end",
    "everything from the forget gate on is set",
    "Where does the block of the forget gate end?",
)
def _(b, value):
    return _with(b, value, len(b) // 4, None)


@forget_bias.mistake(
    "from-the-start",
    "everything up to the forget gate is set",
    "Where does the block of the forget gate begin?",
)
def _(b, value):
    return _with(b, value, 0, len(b) // 2)


@forget_bias.mistake(
    "half-the-value",
    "half of the value is set",
    "Halving would be right for PyTorch's two bias vectors, which are added. Here is one.",
)
def _(b, value):
    H = len(b) // 4
    return _with(b, value / 2, H, 2 * H)


@forget_bias.mistake(
    "twice-the-value",
    "twice the value is set",
    "The two bias vectors of PyTorch add up; here is one.",
)
def _(b, value):
    H = len(b) // 4
    return _with(b, 2 * value, H, 2 * H)


@forget_bias.mistake(
    "gate-value-for-bias",
    "the bias is set to the sigmoid of the value",
    "The value is the bias itself; the sigmoid comes later, in the step.",
)
def _(b, value):
    H = len(b) // 4
    return _with(b, sigmoid(value), H, 2 * H)


@forget_bias.mistake(
    "only-raised",
    "biases above the value are left as they are",
    "The bias is to *be* the value, wherever it was before.",
)
def _(b, value):
    H = len(b) // 4
    return _with(b, np.maximum(b[H : 2 * H], value), H, 2 * H)


@forget_bias.mistake(
    "zero-skipped",
    "a value of 0 changes nothing",
    "0 is a value like any other; `if value:` is false for it.",
)
def _(b, value):
    H = len(b) // 4
    return _with(b, value, H, 2 * H) if value else b.copy()


@forget_bias.mistake(
    "only-the-block",
    "only the block of the forget gate is returned",
    "The result has the shape of `b`: all four blocks.",
)
def _(b, value):
    return np.full(len(b) // 4, float(value))


@forget_bias.mistake(
    "gru-blocks",
    "the bias is cut into three blocks",
    "Three blocks has the GRU. How many has an LSTM?",
)
def _(b, value):
    H = len(b) // 3
    return _with(b, value, H, 2 * H)


@forget_bias.variant("concatenation")
def _(b, value):
    i, _, g, o = np.split(b, 4)
    return np.concatenate([i, np.full(len(i), value), g, o])


@forget_bias.variant("reshaped copy")
def _(b, value):
    rows = b.reshape(4, -1).copy()
    rows[1] = value
    return rows.ravel()


@forget_bias.variant("where")
def _(b, value):
    gate = np.arange(b.size) * 4 // b.size
    return np.where(gate == 1, value, b)


@forget_bias.variant("list comprehension")
def _(b, value):
    H = len(b) // 4
    return [value if H <= n < 2 * H else float(b[n]) for n in range(len(b))]


@forget_bias.variant("put")
def _(b, value):
    new, H = np.array(b, dtype=float), b.shape[0] // 4
    np.put(new, range(H, H + H), value)
    return new


@forget_bias.variant("torch inside")
def _(b, value):
    import torch

    new = torch.tensor(b)
    new.chunk(4)[1].fill_(value)
    return new.numpy()


def _forget_gates(rng, *shape):
    return rng.uniform(0.3, 0.97, shape)


def _forget_cases(rng, s):
    yield Case((rng.uniform(0.95, 1.0, (40, s.B, s.H)),), "gates near 1 over many steps")
    yield Case((_forget_gates(rng, s.T, s.H),), "one sequence without a batch axis")
    yield Case((_forget_gates(rng, s.T),), "one unit")
    f = _forget_gates(rng, s.T, s.B, s.H)
    f[rng.integers(1, s.T - 1), 0, 0] = 0
    yield Case((f,), "a gate that shuts once")
    yield Case((np.ones((0, s.B, s.H)),), "no steps")
    yield Case((np.ones((s.T, s.B, s.H)),), "gates wide open")


cell_gradient = Exercise(
    name="cell_gradient",
    reference=gates.cell_gradient,
    section=PATH,
    axes={"f": "T B H"},
    returns=("factor: B H",),
    draw=lambda rng, s: (_forget_gates(rng, s.T, s.B, s.H),),
    special=_forget_cases,
    atol=1e-9,
)


@cell_gradient.mistake(
    "summed",
    "the gates are added",
    "Two gates of 1/2 in a row keep a quarter. How do shares of shares combine?",
)
def _(f):
    return f.sum(axis=0)


@cell_gradient.mistake(
    "averaged",
    "the gates are averaged over time",
    "A single gate that shuts cuts the path for good; an average hides it.",
)
def _(f):
    return f.mean(axis=0) if len(f) else np.ones(f.shape[1:])


@cell_gradient.mistake(
    "geometric-mean",
    "the factor per step is returned, not that of all steps",
    "You take a T-th root. What is left after *all* steps?",
)
def _(f):
    return f.prod(axis=0) ** (1 / max(len(f), 1))


@cell_gradient.mistake(
    "power-of-one-gate",
    "one gate is raised to the power T",
    "The gate differs from step to step: that is what makes it a gate.",
)
def _(f):
    return f[-1] ** len(f) if len(f) else np.ones(f.shape[1:])


@cell_gradient.form("power-of-one-gate")
def _(f):
    return f[0] ** len(f) if len(f) else np.ones(f.shape[1:])


@cell_gradient.mistake(
    "power-of-the-mean",
    "the mean gate is raised to the power T",
    "The product of numbers is not a power of their mean. One gate that shuts must give 0.",
)
def _(f):
    return f.mean(axis=0) ** len(f) if len(f) else np.ones(f.shape[1:])


@cell_gradient.mistake(
    "last-gate-only",
    "only the gate of the last step counts",
    "The gradient passes every step on its way back, not only one.",
)
def _(f):
    return f[-1] if len(f) else np.ones(f.shape[1:])


@cell_gradient.mistake(
    "first-gate-only",
    "only the gate of the first step counts",
    "The gradient passes every step on its way back, not only one.",
)
def _(f):
    return f[0] if len(f) else np.ones(f.shape[1:])


@cell_gradient.mistake(
    "first-step-missing",
    "the gate of the first step is left out",
    "From the last cell to the cell *before* the first step there are T gates.",
)
def _(f):
    return f[1:].prod(axis=0)


@cell_gradient.mistake(
    "last-step-missing",
    "the gate of the last step is left out",
    "From the last cell to the cell before the first step there are T gates.",
)
def _(f):
    return f[:-1].prod(axis=0)


@cell_gradient.mistake(
    "all-axes",
    "the product runs over units and sequences too",
    "Each unit of each sequence has a path of its own: nothing mixes them.",
)
def _(f):
    return f.prod()


@cell_gradient.form("all-axes")
def _(f):
    return np.full(f.shape[1:], f.prod())


@cell_gradient.mistake(
    "wrong-axis",
    "the product runs over the last axis",
    "Axis 0 is time. What do you multiply along the last axis?",
)
def _(f):
    return f.prod(axis=-1)


@cell_gradient.mistake(
    "batch-axis",
    "the product runs over the batch",
    "Axis 0 is time, axis 1 the batch. Sequences do not influence each other.",
)
def _(f):
    return f.prod(axis=min(1, f.ndim - 1)) if f.ndim > 2 else f.prod(axis=0)


@cell_gradient.mistake(
    "running-product",
    "the product up to every step is returned",
    "You have the right number and all those before it. One factor per unit is asked for.",
)
def _(f):
    return f.cumprod(axis=0)


@cell_gradient.mistake(
    "log-not-undone",
    "the logarithm of the product is returned",
    "Adding logarithms is a good idea; the way back is missing.",
)
def _(f):
    return np.log(f).sum(axis=0)


@cell_gradient.mistake(
    "sigmoid-slope",
    "the slope f(1 - f) is multiplied in place of f",
    "The slope belongs to the way through the gate. On the direct path the gates are held fixed.",
)
def _(f):
    return (f * (1 - f)).prod(axis=0)


@cell_gradient.mistake(
    "one-minus-gate",
    "1 - f is multiplied in place of f",
    "f is the share that is kept, in spite of its name.",
)
def _(f):
    return (1 - f).prod(axis=0)


@cell_gradient.mistake(
    "no-steps",
    "the function fails when there are no steps",
    "With no steps nothing is lost. What is a product of no factors?",
)
def _(f):
    factor = f[0]
    for gate in f[1:]:
        factor = factor * gate
    return factor


@cell_gradient.form("no-steps")
def _(f):
    return f.cumprod(axis=0)[-1]


@cell_gradient.mistake(
    "caller-overwritten",
    "the caller's gates are overwritten in place",
    "The result may be right, but the gates of step 0 are gone. `*=` on a view writes into the "
    "caller's array.",
)
def _(f):
    if not len(f):
        return np.ones(f.shape[1:])
    if f.ndim == 1:
        f[0] = f.prod()
        return f[0]
    factor = f[0]
    for gate in f[1:]:
        factor *= gate
    return factor


@cell_gradient.variant("loop")
def _(f):
    factor = np.ones(f.shape[1:])
    for gate in f:
        factor = factor * gate
    return factor


@cell_gradient.variant("logarithms")
def _(f):
    return np.exp(np.sum(np.log(f), axis=0))


@cell_gradient.variant("reduce")
def _(f):
    return np.multiply.reduce(f[::-1], axis=0)


@cell_gradient.variant("last running product")
def _(f):
    return np.cumprod(np.concatenate([np.ones((1, *f.shape[1:])), f]), axis=0)[-1]


@cell_gradient.variant("halves")
def _(f):
    def product(part):
        if len(part) == 0:
            return np.ones(part.shape[1:])
        if len(part) == 1:
            return part[0].copy()
        middle = len(part) // 2
        return product(part[:middle]) * product(part[middle:])

    return product(f)


@cell_gradient.variant("torch inside")
def _(f):
    import torch

    return torch.tensor(f).prod(dim=0).numpy()
