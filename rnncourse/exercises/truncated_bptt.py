"""Assignment 07: streams, truncated gradients, and the exact gradient in little memory."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import numpy as np

from rnncourse import bptt, rnn, sequences
from rnncourse.exercises.spec import Case, Exercise, normal
from rnncourse.exercises.vanilla_rnn import rnn_arguments

STREAM = "08-truncated-bptt: Cutting a stream"
TERMS = "08-truncated-bptt: Which terms are dropped"
BIAS = "08-truncated-bptt: A bias, not noise"
STATE = "08-truncated-bptt: Whose state is it?"
EXACT = r"08-truncated-bptt: The exact gradient in $\sqrt T$ memory"
STEP = "03-bptt: The derivation"
SHARED = "03-bptt: All paths, not one"


def _text(rng, n):
    """Return n tokens that all differ, so that each shows where it came from."""
    return rng.permutation(n) + int(rng.integers(10, 50))


def _stream_cases(rng, s):
    yield Case((_text(rng, 24), 3, 4), "the number of tokens is a multiple of the batch size")
    yield Case((_text(rng, 30), 4, 3), "tokens are left over and the last chunk is shorter")
    yield Case((_text(rng, 11), 1, 4), "one stream")
    yield Case((_text(rng, 18), 2, 20), "chunks longer than a stream")
    yield Case((_text(rng, 10), 3, 1), "chunks of one step")
    yield Case((_text(rng, 5), 4, 2), "one step in all")
    yield Case((rng.integers(0, 4, 29), 3, 3), "tokens that repeat")
    yield Case((100_000 + _text(rng, 20), 3, 4), "a large vocabulary")


stream_batches = Exercise(
    name="stream_batches",
    reference=sequences.stream_batches,
    section=STREAM,
    axes={"tokens": "N", "batch": "", "steps": ""},
    returns=("chunks",),
    sizes=({},),
    draw=lambda rng, s: (_text(rng, 2 * int(rng.integers(7, 12)) * 3 + 2), 2, 3),
    special=_stream_cases,
    iterator=True,
)


def _chunks(inputs, targets, steps):
    """Cut arrays of shape (length, batch) into chunks."""
    return [(inputs[t : t + steps], targets[t : t + steps]) for t in range(0, len(inputs), steps)]


def _streams(tokens, batch):
    """Return inputs and targets of shape (length, batch)."""
    length = (len(tokens) - 1) // batch
    inputs = tokens[: batch * length].reshape(batch, length).T
    return inputs, tokens[1 : batch * length + 1].reshape(batch, length).T


@stream_batches.mistake(
    "targets-equal-inputs",
    "the targets are the inputs themselves",
    "A network that copies its input gets everything right. Which token is to be predicted?",
)
def _(tokens, batch, steps):
    inputs, _ = _streams(tokens, batch)
    return _chunks(inputs, inputs, steps)


@stream_batches.mistake(
    "targets-roll-round",
    "the last target of each stream is the first token of that stream",
    "`np.roll` brings to the end what stood at the beginning. What follows the last token of a "
    "stream in the text?",
)
def _(tokens, batch, steps):
    inputs, _ = _streams(tokens, batch)
    return _chunks(inputs, np.roll(inputs, -1, axis=0), steps)


@stream_batches.mistake(
    "shift-inside-the-chunk",
    "the last target of each chunk is the first token of that chunk",
    "What follows the last token of a chunk in the text? It stands in the next chunk.",
)
def _(tokens, batch, steps):
    inputs, _ = _streams(tokens, batch)
    return [(x, np.roll(x, -1, axis=0)) for x, _ in _chunks(inputs, inputs, steps)]


@stream_batches.mistake(
    "target-lost-per-chunk",
    "each chunk loses the prediction at its last token",
    "You cut first and shift afterwards, inside the chunk. The target of a chunk's last "
    "token is the next chunk's first one.",
)
def _(tokens, batch, steps):
    inputs, _ = _streams(tokens, batch)
    return [(x[:-1], x[1:]) for x, _ in _chunks(inputs, inputs, steps)]


@stream_batches.mistake(
    "batch-first",
    "inputs and targets have the batch axis first",
    "The course is time-major: `inputs[t]` holds one token of every stream.",
    section="02-vanilla-rnn: Batch and time are not interchangeable",
)
def _(tokens, batch, steps):
    return [(x.T, y.T) for x, y in sequences.stream_batches(tokens, batch, steps)]


@stream_batches.mistake(
    "reshape-for-transpose",
    "the text is folded row by row, so that neighbours land in different streams",
    "Follow one column of your first chunk: does it read like the text? A reshape to "
    "(length, batch) deals the tokens out like cards.",
)
def _(tokens, batch, steps):
    length = (len(tokens) - 1) // batch
    inputs = tokens[: batch * length].reshape(length, batch)
    targets = tokens[1 : batch * length + 1].reshape(length, batch)
    return _chunks(inputs, targets, steps)


@stream_batches.mistake(
    "chunks-not-continued",
    "the rows of a chunk follow each other in the text, so the next chunk does not continue them",
    "Within a chunk all is well. Compare the end of a column with its start in the next "
    "chunk: does the carried state belong there?",
    section=STATE,
)
def _(tokens, batch, steps):
    def chunk(start, width):
        at = start + np.arange(batch)[None, :] * width + np.arange(width)[:, None]
        return tokens[at], tokens[at + 1]

    length = (len(tokens) - 1) // batch
    widths = [min(steps, length - t) for t in range(0, length, steps)]
    starts = np.cumsum([0, *widths[:-1]]) * batch
    return [chunk(start, width) for start, width in zip(starts, widths, strict=True)]


@stream_batches.mistake(
    "short-chunk-dropped",
    "a last chunk that is shorter than the others is left out",
    "When the streams do not divide evenly, their end is never read. How long is the last chunk?",
)
def _(tokens, batch, steps):
    return [c for c in sequences.stream_batches(tokens, batch, steps) if len(c[0]) == steps]


@stream_batches.mistake(
    "short-chunk-padded",
    "the last chunk is filled up with zeros",
    "Zero is a token like any other, so the network learns to predict it. The last chunk may be "
    "shorter.",
)
def _(tokens, batch, steps):
    def fill(a):
        return np.concatenate([a, np.zeros((steps - len(a), batch), a.dtype)])

    return [(fill(x), fill(y)) for x, y in sequences.stream_batches(tokens, batch, steps)]


@stream_batches.mistake(
    "short-chunk-overlaps",
    "the last chunk reaches back to be as long as the others",
    "Its first tokens are read twice, and the carried state has seen them already.",
    section=STATE,
)
def _(tokens, batch, steps):
    inputs, targets = _streams(tokens, batch)
    last = max(0, len(inputs) - steps)
    starts = [min(t, last) for t in range(0, len(inputs), steps)]
    return [(inputs[t : t + steps], targets[t : t + steps]) for t in starts]


@stream_batches.mistake(
    "windows-overlap",
    "the chunks begin at every step, not at every `steps` steps",
    "Every token is read many times, and a carried state would jump back each time.",
    section=STATE,
)
def _(tokens, batch, steps):
    inputs, targets = _streams(tokens, batch)
    last = max(0, len(inputs) - steps)
    return [(inputs[t : t + steps], targets[t : t + steps]) for t in range(last + 1)]


@stream_batches.mistake(
    "target-lost-per-stream",
    "each stream loses its last target, since the text is cut before it is shifted",
    "The token after a stream's end exists: it begins the next stream. Only the very last token of "
    "the text has no successor.",
)
def _(tokens, batch, steps):
    length = len(tokens) // batch
    streams = tokens[: batch * length].reshape(batch, length).T
    return _chunks(streams[:-1], streams[1:], steps)


@stream_batches.mistake(
    "start-left-out",
    "tokens are left out at the start of the text, not at its end",
    "What does not divide evenly is to be left out at the end.",
)
def _(tokens, batch, steps):
    length = (len(tokens) - 1) // batch
    first = len(tokens) - 1 - batch * length
    return sequences.stream_batches(tokens[first:], batch, steps)


@stream_batches.mistake(
    "one-stream",
    "only the first stream is returned, in `batch` copies",
    "All your columns are equal. Each stream begins at a place of its own.",
)
def _(tokens, batch, steps):
    inputs, targets = _streams(tokens, batch)
    return _chunks(np.repeat(inputs[:, :1], batch, 1), np.repeat(targets[:, :1], batch, 1), steps)


@stream_batches.mistake(
    "shifted-streams",
    "stream i begins one token after stream i - 1",
    "Your streams are nearly the same text. They should be `batch` different pieces of it.",
)
def _(tokens, batch, steps):
    length = (len(tokens) - 1) // batch
    at = np.arange(length)[:, None] + np.arange(batch)
    return _chunks(tokens[at], tokens[at + 1], steps)


@stream_batches.mistake(
    "targets-before-inputs",
    "inputs and targets are exchanged: the targets are the tokens before the inputs",
    "You ask the network for what it has read already. In which direction is the shift, and in "
    "which order are the two returned?",
)
def _(tokens, batch, steps):
    return [(y, x) for x, y in sequences.stream_batches(tokens, batch, steps)]


@stream_batches.mistake(
    "only-first-chunk",
    "only the first chunk is produced",
    "A `return` in the loop ends it; a generator uses `yield`.",
)
def _(tokens, batch, steps):
    return [next(iter(sequences.stream_batches(tokens, batch, steps)))]


@stream_batches.mistake(
    "backwards",
    "the chunks come from last to first",
    "The state runs from chunk to chunk: it must meet them in the order of the text.",
    section=STATE,
)
def _(tokens, batch, steps):
    return list(sequences.stream_batches(tokens, batch, steps))[::-1]


@stream_batches.mistake(
    "floats",
    "tokens come out as floating-point numbers",
    "Tokens are numbers of classes and will be used as indices. `np.zeros` makes floats.",
)
def _(tokens, batch, steps):
    pairs = sequences.stream_batches(tokens, batch, steps)
    return [(x.astype(float), y.astype(float)) for x, y in pairs]


@stream_batches.variant("generator with index arithmetic")
def _(tokens, batch, steps):
    length = (len(tokens) - 1) // batch
    starts = np.arange(batch) * length
    for t in range(0, length, steps):
        at = starts + np.arange(t, min(t + steps, length))[:, None]
        yield tokens[at], tokens[at + 1]


@stream_batches.variant("nested lists")
def _(tokens, batch, steps):
    n = (len(tokens) - 1) // batch
    chunks = []
    for t in range(0, n, steps):
        rows = range(t, min(t + steps, n))
        x = [[int(tokens[i * n + r]) for i in range(batch)] for r in rows]
        y = [[int(tokens[i * n + r + 1]) for i in range(batch)] for r in rows]
        chunks.append([x, y])
    return chunks


@stream_batches.variant("array_split and zip")
def _(tokens, batch, steps):
    inputs, targets = _streams(tokens, batch)
    cuts = list(range(steps, len(inputs), steps))
    return zip(np.split(inputs, cuts), np.split(targets, cuts), strict=True)


@stream_batches.variant("streams of one token more")
def _(tokens, batch, steps):
    n = (tokens.size - 1) // batch
    streams = np.stack([tokens[i * n : (i + 1) * n + 1] for i in range(batch)], axis=1)
    t = 0
    while t < n:
        piece = streams[t : t + steps + 1]
        yield piece[:-1], piece[1:]
        t += steps


@stream_batches.variant("tuple of copies")
def _(tokens, batch, steps):
    inputs, targets = _streams(np.array(tokens, dtype=np.int32), batch)
    return tuple((x.copy(), y.copy()) for x, y in _chunks(inputs, targets, steps))


@stream_batches.variant("torch inside")
def _(tokens, batch, steps):
    import torch

    n = (len(tokens) - 1) // batch
    x = torch.as_tensor(tokens)[: n * batch].view(batch, n).t()
    y = torch.as_tensor(tokens)[1 : n * batch + 1].view(batch, n).t()
    return [(a.numpy(), b.numpy()) for a, b in zip(x.split(steps), y.split(steps), strict=True)]


AXES = {
    "dh": "T B H",
    "x": "T B D",
    "h0": "B H",
    "h": "T B H",
    "W_xh": "H D",
    "W_hh": "H H",
    "k": "",
}
OUTPUTS = ("dx: T B D", "dh0: B H", "dW_xh: H D", "dW_hh: H H", "db_h: H")


def _sequence(rng, s, T=None):
    T = s.T if T is None else T
    _, h0, W_xh, W_hh, b_h = rnn_arguments(rng, s)
    x = normal(rng, T, s.B, s.D)
    h = rnn.rnn_forward(x, h0, W_xh, W_hh, b_h)
    return normal(rng, T, s.B, s.H), x, h0, h, W_xh, W_hh


def _window_cases(rng, s):
    yield Case((*_sequence(rng, s, 7), 3), "T = 7 and k = 3")
    yield Case((*_sequence(rng, s, 6), 2), "T = 6 and k = 2")
    yield Case((*_sequence(rng, s, 5), 1), "k = 1")
    yield Case((*_sequence(rng, s, 4), 4), "k = T")
    yield Case((*_sequence(rng, s, 3), 5), "k larger than T")
    dh, *rest = _sequence(rng, s, 6)
    dh[:-1] = 0
    yield Case((dh, *rest, 4), "the loss reads the last state only")


def _window_args(rng, s):
    return (*_sequence(rng, s), (s.T + 1) // 2)


truncated_bptt = Exercise(
    name="truncated_bptt",
    reference=bptt.truncated_bptt,
    section=TERMS,
    axes=AXES,
    returns=OUTPUTS,
    draw=_window_args,
    special=_window_cases,
)


def _before(h0, h):
    return np.concatenate([h0[None], h[:-1]])


def _terms(
    dh, x, h0, h, W_xh, W_hh, reach, *, slope=None, back=None, before=None, dh0=None, use=None
):
    """Return the five gradients when the loss at t passes the steps s with ``reach(s, t)``.

    `slope`, `back` and `before` replace tanh', the recurrent weights on the way back and the
    previous states; ``dh0(t)`` says whether the loss at t reaches h0, and ``use(s)`` whether the
    weight gradients count step s.
    """
    T = len(x)
    slope = 1 - h**2 if slope is None else slope
    back = W_hh if back is None else back
    before = _before(h0, h) if before is None else before
    da, d_start = np.zeros_like(dh), np.zeros_like(h0)
    for t in range(T):
        d = dh[t]
        for s in range(t, -1, -1):
            if not reach(s, t):
                break
            a = d * slope[s]
            da[s] += a
            d = a @ back
            if s == 0 and (dh0 is None or dh0(t)):
                d_start += d
    counted = da if use is None else da * np.array([use(s) for s in range(T)])[:, None, None]
    return (
        da @ W_xh,
        d_start,
        np.einsum("tbh,tbd->hd", counted, x),
        np.einsum("tbh,tbk->hk", counted, before),
        counted.sum(axis=(0, 1)),
    )


def _sliding(k):
    return lambda s, t: t - s < k


def _in_chunk(k):
    return lambda s, t: s // k == t // k


@truncated_bptt.mistake(
    "one-step-too-far",
    "the gradient passes k + 1 steps",
    "With k = 1 no gradient may flow from one step to another; in your version some does. "
    "Does your count begin with the loss's own step?",
)
def _(*args):
    *rest, k = args
    return bptt.truncated_bptt(*rest, k + 1)


@truncated_bptt.mistake(
    "one-step-too-short",
    "the gradient passes k - 1 steps",
    "With k = 1 your gradient is zero, though each loss's own step counts as the first.",
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _sliding(k - 1))


@truncated_bptt.mistake(
    "not-truncated",
    "the gradient is not truncated at all",
    "Your answer is that of full BPTT: `k` has no effect.",
)
def _(*args):
    *rest, _ = args
    return bptt.rnn_backward(*rest)


@truncated_bptt.mistake(
    "chunks-for-windows",
    "the sequence is cut into chunks of k steps, and the gradient stops at the cuts",
    "That is the truncation of training loops. Here the window slides: the loss at *every* "
    "step sees k steps of the past.",
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _in_chunk(k))


@truncated_bptt.form("chunks-for-windows")
def _(*args):
    *rest, k = args
    T = len(args[0])
    return _terms(*rest, lambda s, t: (T - 1 - s) // k == (T - 1 - t) // k)


@truncated_bptt.mistake(
    "only-last-window",
    "only the last k steps of the sequence are used",
    "The losses of the first steps do not count in your version. Each of them has a window of its "
    "own.",
)
def _(*args):
    *rest, k = args
    T = len(args[0])
    return _terms(*rest, lambda s, t: s >= T - k)


@truncated_bptt.mistake(
    "only-last-loss",
    "only the loss at the last step is sent back",
    "`dh[t]` of the earlier steps is not used. Each of them has a window of its own.",
)
def _(*args):
    *rest, k = args
    T = len(args[0])
    return _terms(*rest, lambda s, t: t == T - 1 and t - s < k)


@truncated_bptt.mistake(
    "nothing-carried",
    "no gradient flows from one step to another, whatever k is",
    "Your answer is that of k = 1. What does the loss at t ask of `h[t - 1]`?",
)
def _(*args):
    *rest, _ = args
    return bptt.truncated_bptt(*rest, 1)


@truncated_bptt.mistake(
    "own-step-left-out",
    "each loss skips its own step",
    "The steps are t, t - 1, …: the first is the loss's own.",
)
def _(dh, x, h0, h, W_xh, W_hh, k):
    full = bptt.truncated_bptt(dh, x, h0, h, W_xh, W_hh, k)
    own = _terms(dh, x, h0, h, W_xh, W_hh, _sliding(1))
    return tuple(a - b for a, b in zip(full, own, strict=True))


@truncated_bptt.mistake(
    "only-the-oldest-step",
    "each loss counts at the far end of its window only",
    "The gradient leaves its mark at every step it passes, not only where it stops.",
    section=SHARED,
)
def _(dh, x, h0, h, W_xh, W_hh, k):
    far = bptt.truncated_bptt(dh, x, h0, h, W_xh, W_hh, k)
    near = bptt.truncated_bptt(dh, x, h0, h, W_xh, W_hh, k - 1) if k > 1 else None
    return far if near is None else tuple(a - b for a, b in zip(far, near, strict=True))


@truncated_bptt.mistake(
    "tanh-derivative-missing",
    "the derivative of tanh is missing",
    "Every step back passes a tanh, also the first one.",
    section=STEP,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _sliding(k), slope=np.ones_like(args[3]))


@truncated_bptt.mistake(
    "square-missing",
    "the derivative is taken as 1 - h in place of 1 - h²",
    "A tanh is as steep at -a as at a. Is your factor the same for h and for -h?",
    section=STEP,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _sliding(k), slope=1 - args[3])


@truncated_bptt.mistake(
    "tanh-twice",
    "the derivative takes the tanh of `h`, which is a tanh already",
    "The derivative is 1 - tanh(a)² with a *before* the tanh. What does `h` hold?",
    section=STEP,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _sliding(k), slope=1 - np.tanh(args[3]) ** 2)


@truncated_bptt.mistake(
    "recurrent-weight-transposed",
    "`W_hh` is transposed on the way back",
    "With k = 1 all but `dh0` is right, and the error grows with the lag. `W_hh` is square, so its "
    "shape cannot warn you.",
    section=STEP,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _sliding(k), back=args[5].T)


@truncated_bptt.mistake(
    "weight-gradient-from-new-state",
    "`dW_hh` is formed with `h[s]` where the step used `h[s - 1]`",
    "All else is right. `W_hh` was multiplied by a state: by which one?",
    section=STEP,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _sliding(k), before=args[3])


@truncated_bptt.mistake(
    "h0-taken-as-zero",
    "step 0 is treated as if its previous state were zero",
    "Only `dW_hh` is wrong. Truncation cuts the gradient, not the state.",
    section=STREAM,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _sliding(k), before=_before(0 * args[2], args[3]))


@truncated_bptt.mistake(
    "index-wraps-around",
    "at step 0, `h[s - 1]` is `h[-1]`, the last state",
    "Only `dW_hh` is wrong. Python counts negative indices from the end.",
    section=STEP,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _sliding(k), before=np.roll(args[3], 1, axis=0))


@truncated_bptt.mistake(
    "dh0-forgotten",
    "`dh0` is zero",
    "All else is right. Losses whose window covers step 0 reach the start state.",
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _sliding(k), dh0=lambda t: False)


@truncated_bptt.mistake(
    "dh0-one-step-short",
    "the loss at step k - 1 does not reach `dh0`",
    "All else is right. The loss at step k - 1 passes the steps k - 1, …, 0. What lies "
    "behind step 0?",
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _sliding(k), dh0=lambda t: t < k - 1)


@truncated_bptt.mistake(
    "dh0-not-truncated",
    "`dh0` is that of full BPTT",
    "All else is right. Losses from step k on cannot see the start state.",
)
def _(*args):
    *rest, k = args
    full = bptt.rnn_backward(*rest)
    dx, _, *others = bptt.truncated_bptt(*rest, k)
    return (dx, full[1], *others)


@truncated_bptt.mistake(
    "dx-not-truncated",
    "`dx` is that of full BPTT",
    "All else is right. The gradient of an input comes from the losses that can see it.",
)
def _(*args):
    *rest, k = args
    _, *others = bptt.truncated_bptt(*rest, k)
    return (bptt.rnn_backward(*rest)[0], *others)


@truncated_bptt.mistake(
    "last-step-only-for-weights",
    "the weight gradients count only the last use of the weights",
    "The weights were used at every step of every window.",
    section=SHARED,
)
def _(*args):
    *rest, k = args
    T = len(args[0])
    return _terms(*rest, _sliding(k), use=lambda s: s == T - 1)


@truncated_bptt.mistake(
    "first-step-only-for-weights",
    "each step overwrites the weight gradients of the step before (`=` for `+=`)",
    "Your weight gradients are those of step 0 alone. The same weights act at every step.",
    section=SHARED,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _sliding(k), use=lambda s: s == 0)


@truncated_bptt.mistake(
    "divided-by-k",
    "the weight gradients are divided by k",
    "A window of k steps is a sum of up to k terms, not their mean.",
    section=SHARED,
)
def _(*args):
    *rest, k = args
    dx, dh0, *grads = bptt.truncated_bptt(*rest, k)
    return (dx, dh0, *(g / k for g in grads))


@truncated_bptt.mistake(
    "bias-mean-over-batch",
    "the bias gradient is averaged over the batch",
    "The same bias acts on every sequence. Its gradient collects what all of them ask for.",
    section=STEP,
)
def _(*args):
    *rest, db_h = bptt.truncated_bptt(*args)
    return (*rest, db_h / args[1].shape[1])


@truncated_bptt.mistake(
    "upstream-gradient-overwritten",
    "the upstream gradient `dh` is changed in place",
    "The numbers are right, but whoever called you has lost `dh`. `+=` on a slice writes into the "
    "caller's array.",
)
def _(dh, x, h0, h, W_xh, W_hh, k):
    grads = bptt.truncated_bptt(dh, x, h0, h, W_xh, W_hh, k)
    dh *= 1 - h**2
    return grads


@truncated_bptt.form("upstream-gradient-overwritten")
def _(dh, x, h0, h, W_xh, W_hh, k):
    grads = bptt.truncated_bptt(dh, x, h0, h, W_xh, W_hh, k)
    dh += 1
    return grads


@truncated_bptt.variant("loss by loss")
def _(*args):
    *rest, k = args
    return _terms(*rest, _sliding(k))


@truncated_bptt.variant("full BPTT of each window")
def _(dh, x, h0, h, W_xh, W_hh, k):
    before = _before(h0, h)
    dx, dh0 = np.zeros_like(x), np.zeros_like(h0)
    dW_xh, dW_hh, db_h = np.zeros_like(W_xh), np.zeros_like(W_hh), np.zeros(len(W_hh))
    for t in range(len(x)):
        first = max(0, t - k + 1)
        only = np.zeros((t + 1 - first, *h0.shape))
        only[-1] = dh[t]
        window = slice(first, t + 1)
        dx_t, d_first, *grads = bptt.rnn_backward(
            only, x[window], before[first], h[window], W_xh, W_hh
        )
        dx[window] += dx_t
        dh0 += d_first * (first == 0)
        dW_xh, dW_hh, db_h = (a + b for a, b in zip((dW_xh, dW_hh, db_h), grads, strict=True))
    return [dx, dh0, dW_xh, dW_hh, db_h]


@truncated_bptt.variant("difference of two carried gradients")
def _(dh, x, h0, h, W_xh, W_hh, k):
    """Carry the gradient of each of the last k losses on its own, and drop the oldest."""
    da, running = np.zeros_like(dh), []
    for t in reversed(range(len(x))):
        running = [*running, dh[t]][-k:]
        running = [d * (1 - h[t] * h[t]) for d in running]
        da[t] = sum(running)
        running = [a @ W_hh for a in running]
        leaving = sum(running)
    flat = da.reshape(-1, da.shape[-1])
    return (
        da @ W_xh,
        leaving,
        flat.T @ x.reshape(len(flat), -1),
        flat.T @ _before(h0, h).reshape(len(flat), -1),
        flat.sum(0),
    )


@truncated_bptt.variant("torch autograd with detach")
def _(dh, x, h0, h, W_xh, W_hh, k):
    import torch

    dh, x, h0, W_xh, W_hh = map(torch.tensor, (dh, x, h0, W_xh, W_hh))
    before = torch.tensor(_before(h0.numpy(), h))
    with torch.no_grad():
        b = torch.atanh(torch.tensor(h)) - x @ W_xh.T - before @ W_hh.T
    leaves = [v.requires_grad_() for v in (x, h0, W_xh, W_hh, b)]
    loss = 0.0
    for t in range(len(x)):
        first = max(0, t - k + 1)
        state = h0 if first == 0 else before[first].detach()
        for s in range(first, t + 1):
            state = torch.tanh(x[s] @ W_xh.T + state @ W_hh.T + b[s])
        loss = loss + (state * dh[t]).sum()
    dx, dh0, dW_xh, dW_hh, db = torch.autograd.grad(loss, leaves, allow_unused=True)
    return dx.numpy(), dh0.numpy(), dW_xh.numpy(), dW_hh.numpy(), db.sum((0, 1)).numpy()


chunked_bptt = Exercise(
    name="chunked_bptt",
    reference=bptt.chunked_bptt,
    section=TERMS,
    axes=AXES,
    returns=OUTPUTS,
    draw=_window_args,
    special=_window_cases,
)


@chunked_bptt.mistake(
    "sliding-window",
    "every loss sees k steps of the past, across the cuts",
    "Right after a cut a loss can look back over one step only. Your window slides with the loss.",
)
def _(*args):
    return bptt.truncated_bptt(*args)


@chunked_bptt.mistake(
    "not-truncated",
    "the gradient passes the cuts",
    "Your answer is that of full BPTT: the cuts have no effect. What is handed from a chunk to the "
    "chunk before it?",
)
def _(*args):
    *rest, _ = args
    return bptt.rnn_backward(*rest)


@chunked_bptt.mistake(
    "nothing-carried",
    "no gradient flows from one step to another, not even inside a chunk",
    "Your answer is that of k = 1. Inside a chunk, all is as in full BPTT.",
)
def _(*args):
    *rest, _ = args
    return bptt.chunked_bptt(*rest, 1)


@chunked_bptt.mistake(
    "cuts-from-the-end",
    "the cuts are counted from the end of the sequence",
    "The first chunk has k steps; the *last* may be shorter.",
)
def _(*args):
    *rest, k = args
    T = len(args[0])
    return _terms(*rest, lambda s, t: (T - 1 - s) // k == (T - 1 - t) // k)


@chunked_bptt.mistake(
    "cuts-one-late",
    "the gradient passes one step too far, into the chunk before",
    "Which is the first step of a chunk? The gradient may pass that one, and no other before it.",
)
def _(*args):
    *rest, k = args
    return _terms(*rest, lambda s, t: s >= t // k * k - 1)


@chunked_bptt.mistake(
    "chunks-of-one-more",
    "the chunks have k + 1 steps",
    "With k = 1 no gradient may flow from one step to another; in your version some does.",
)
def _(*args):
    *rest, k = args
    return bptt.chunked_bptt(*rest, k + 1)


@chunked_bptt.mistake(
    "state-reset-to-zero",
    "each chunk starts from a zero state",
    "Only `dW_hh` is wrong. Truncation cuts the gradient, not the state: which state did a chunk's "
    "first step read?",
    section=STREAM,
)
def _(*args):
    *rest, k = args
    before = _before(args[2], args[3])
    before[k::k] = 0
    return _terms(*rest, _in_chunk(k), before=before)


@chunked_bptt.mistake(
    "state-reset-to-h0",
    "each chunk starts from `h0`",
    "Only `dW_hh` is wrong. `h0` stands before the first chunk; which state stands before the "
    "others?",
    section=STREAM,
)
def _(*args):
    *rest, k = args
    before = _before(args[2], args[3])
    before[k::k] = args[2]
    return _terms(*rest, _in_chunk(k), before=before)


@chunked_bptt.mistake(
    "state-one-late",
    "each later chunk starts from its own first state",
    "Only `dW_hh` is wrong. The state *before* a chunk is the last one of the chunk before it.",
    section=STREAM,
)
def _(*args):
    *rest, k = args
    before = _before(args[2], args[3])
    before[k::k] = args[3][k::k]
    return _terms(*rest, _in_chunk(k), before=before)


@chunked_bptt.mistake(
    "h0-taken-as-zero",
    "the first chunk is treated as if it started from zero",
    "Only `dW_hh` is wrong. Which state did step 0 read?",
    section=STREAM,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _in_chunk(k), before=_before(0 * args[2], args[3]))


@chunked_bptt.mistake(
    "index-wraps-around",
    "at step 0, `h[start - 1]` is `h[-1]`, the last state",
    "Only `dW_hh` is wrong. Python counts negative indices from the end.",
    section=STEP,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _in_chunk(k), before=np.roll(args[3], 1, axis=0))


@chunked_bptt.mistake(
    "only-last-chunk",
    "the weight gradients are those of the last chunk",
    "Each chunk overwrites the sum. The weights were used in all of them.",
    section=SHARED,
)
def _(*args):
    *rest, k = args
    T = len(args[0])
    return _terms(*rest, _in_chunk(k), use=lambda s: s // k == (T - 1) // k)


@chunked_bptt.mistake(
    "only-first-chunk",
    "the weight gradients are those of the first chunk",
    "The weights were used in all chunks: what happens to their gradients?",
    section=SHARED,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _in_chunk(k), use=lambda s: s < k)


@chunked_bptt.mistake(
    "mean-over-chunks",
    "the weight gradients are averaged over the chunks",
    "The loss is a sum over all steps, so the chunks' gradients add up.",
    section=SHARED,
)
def _(*args):
    *rest, k = args
    dx, dh0, *grads = bptt.chunked_bptt(*rest, k)
    return (dx, dh0, *(g / -(-len(args[0]) // k) for g in grads))


@chunked_bptt.mistake(
    "short-chunk-dropped",
    "a last chunk that is shorter than k steps is left out",
    "When T is not a multiple of k, the losses at the end do not count in your version.",
)
def _(*args):
    *rest, k = args
    T = len(args[0])
    return _terms(*rest, lambda s, t: s // k == t // k and t < T // k * k)


@chunked_bptt.mistake(
    "only-losses-at-chunk-ends",
    "only the last loss of each chunk is sent back",
    "Every step has a loss of its own, not only the last one of a chunk.",
)
def _(*args):
    *rest, k = args
    T = len(args[0])
    return _terms(*rest, lambda s, t: s // k == t // k and (t % k == k - 1 or t == T - 1))


@chunked_bptt.mistake(
    "dh0-from-last-chunk",
    "`dh0` is what leaves the last chunk, not the first",
    "All else is right. Which of the chunks touches the start state?",
)
def _(*args):
    *rest, k = args
    dx, dh0, *grads = bptt.chunked_bptt(*rest, k)
    dh, x, _, h, W_xh, W_hh = rest
    start = (len(x) - 1) // k * k
    if start:
        dh0 = bptt.rnn_backward(dh[start:], x[start:], h[start - 1], h[start:], W_xh, W_hh)[1]
    return (dx, dh0, *grads)


@chunked_bptt.mistake(
    "dh0-summed-over-chunks",
    "`dh0` adds up what leaves every chunk",
    "What leaves a later chunk belongs to the state before *that* chunk, and is dropped.",
)
def _(*args):
    *rest, k = args
    dx, dh0, *grads = bptt.chunked_bptt(*rest, k)
    dh, x, _, h, W_xh, W_hh = rest
    for start in range(k, len(x), k):
        c = slice(start, start + k)
        dh0 = dh0 + bptt.rnn_backward(dh[c], x[c], h[start - 1], h[c], W_xh, W_hh)[1]
    return (dx, dh0, *grads)


@chunked_bptt.mistake(
    "dh0-forgotten",
    "`dh0` is zero",
    "All else is right. The first chunk starts from `h0`, so its losses reach it.",
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _in_chunk(k), dh0=lambda t: False)


@chunked_bptt.mistake(
    "dx-of-one-chunk",
    "`dx` covers one chunk only",
    "Every input has a gradient. `dx` has the shape of `x`.",
)
def _(*args):
    *rest, k = args
    dx, *others = bptt.chunked_bptt(*rest, k)
    return (dx[:k], *others)


@chunked_bptt.form("dx-of-one-chunk")
def _(*args):
    *rest, k = args
    dx, *others = bptt.chunked_bptt(*rest, k)
    return (dx[(len(dx) - 1) // k * k :], *others)


@chunked_bptt.mistake(
    "tanh-derivative-missing",
    "the derivative of tanh is missing",
    "Every step back passes a tanh, also the first one.",
    section=STEP,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _in_chunk(k), slope=np.ones_like(args[3]))


@chunked_bptt.mistake(
    "recurrent-weight-transposed",
    "`W_hh` is transposed on the way back",
    "With k = 1 all but `dh0` is right. `W_hh` is square, so its shape cannot warn you.",
    section=STEP,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _in_chunk(k), back=args[5].T)


@chunked_bptt.mistake(
    "weight-gradient-from-new-state",
    "`dW_hh` is formed with `h[t]` where the step used `h[t - 1]`",
    "All else is right. `W_hh` was multiplied by a state: by which one?",
    section=STEP,
)
def _(*args):
    *rest, k = args
    return _terms(*rest, _in_chunk(k), before=args[3])


@chunked_bptt.mistake(
    "upstream-gradient-overwritten",
    "the upstream gradient `dh` is changed in place",
    "The numbers are right, but whoever called you has lost `dh`. A slice of an array is a view of "
    "it.",
)
def _(dh, x, h0, h, W_xh, W_hh, k):
    grads = bptt.chunked_bptt(dh, x, h0, h, W_xh, W_hh, k)
    dh *= 1 - h**2
    return grads


@chunked_bptt.variant("one loop with resets")
def _(dh, x, h0, h, W_xh, W_hh, k):
    da, carried = np.zeros_like(dh), np.zeros_like(h0)
    for t in range(len(x) - 1, -1, -1):
        if (t + 1) % k == 0:
            carried = 0 * carried
        da[t] = (dh[t] + carried) * (1 - h[t] ** 2)
        carried = da[t] @ W_hh
    before = _before(h0, h)
    dW_xh, dW_hh = np.einsum("tbh,tbd->hd", da, x), np.einsum("tbh,tbk->hk", da, before)
    return da @ W_xh, carried, dW_xh, dW_hh, da.sum((0, 1))


@chunked_bptt.variant("loss by loss")
def _(*args):
    *rest, k = args
    return list(_terms(*rest, _in_chunk(k)))


@chunked_bptt.variant("recursion over chunks")
def _(dh, x, h0, h, W_xh, W_hh, k):
    first = bptt.rnn_backward(dh[:k], x[:k], h0, h[:k], W_xh, W_hh)
    if len(x) <= k:
        return first
    rest = bptt.chunked_bptt(dh[k:], x[k:], h[k - 1], h[k:], W_xh, W_hh, k)
    sums = (a + b for a, b in zip(first[2:], rest[2:], strict=True))
    return (np.vstack([first[0], rest[0]]), first[1], *sums)


@chunked_bptt.variant("chunks from last to first, preallocated")
def _(dh, x, h0, h, W_xh, W_hh, k):
    dx = np.full(x.shape, np.nan)
    dW_xh, dW_hh, db_h = np.zeros(W_xh.shape), np.zeros(W_hh.shape), np.zeros(W_hh.shape[0])
    for start in list(range(0, len(x), k))[::-1]:
        end = min(start + k, len(x))
        before = h[start - 1] if start else h0
        dx[start:end], dh0, a, b, c = bptt.rnn_backward(
            dh[start:end], x[start:end], before, h[start:end], W_xh, W_hh
        )
        dW_xh += a
        dW_hh += b
        db_h += c
    return dx, dh0, dW_xh, dW_hh, db_h


@chunked_bptt.variant("torch autograd with detach")
def _(dh, x, h0, h, W_xh, W_hh, k):
    import torch

    before = torch.tensor(_before(h0, h))
    dh, x, h0, W_xh, W_hh = map(torch.tensor, (dh, x, h0, W_xh, W_hh))
    with torch.no_grad():
        b = torch.atanh(torch.tensor(h)) - x @ W_xh.T - before @ W_hh.T
    leaves = [v.requires_grad_() for v in (x, h0, W_xh, W_hh, b)]
    loss, state = 0.0, h0
    for t in range(len(x)):
        if t and t % k == 0:
            state = state.detach()
        state = torch.tanh(x[t] @ W_xh.T + state @ W_hh.T + b[t])
        loss = loss + (state * dh[t]).sum()
    dx, dh0, dW_xh, dW_hh, db = torch.autograd.grad(loss, leaves)
    return dx.numpy(), dh0.numpy(), dW_xh.numpy(), dW_hh.numpy(), db.sum((0, 1)).numpy()


def _gradient_pair(rng, s, size=1.0, angle=0.6):
    """Return two gradients of a network, each tensor of another size and another angle."""
    full = [4 * normal(rng, s.H, s.D), normal(rng, s.H, s.H), 0.3 * normal(rng, s.H)]
    other = [angle * (n + 1) * a + normal(rng, *a.shape) * (3 - n) for n, a in enumerate(full)]
    return [a * size for a in full], [a * size for a in other]


def _cosine_cases(rng, s):
    full, other = _gradient_pair(rng, s)
    yield Case((full, [-a for a in other]), "the gradients point apart")
    full, other = _gradient_pair(rng, s)
    yield Case((full, [3 * a for a in full]), "the same direction")
    yield Case(_gradient_pair(rng, s, 1e-6), "tiny gradients")
    full, other = _gradient_pair(rng, s)
    other[2] = np.zeros(s.H)
    yield Case((full, other), "one tensor of the truncated gradient is zero")
    full, other = _gradient_pair(rng, s)
    yield Case((full[:1], other[:1]), "one tensor")
    full, other = _gradient_pair(rng, s)
    yield Case((full, [100 * a for a in other]), "gradients of very different size")
    full, other = _gradient_pair(rng, s)
    yield Case(([100 * a for a in full], other), "the full gradient is much larger")
    yield Case(
        ([np.array([3.0, 4.0]), np.zeros((2, 2))], [np.array([-4.0, 3.0]), np.eye(2)]), "orthogonal"
    )


gradient_cosine = Exercise(
    name="gradient_cosine",
    reference=bptt.gradient_cosine,
    section=BIAS,
    axes={"full": "", "truncated": ""},
    returns=("cosine",),
    sizes=({"H": 4, "D": 3},),
    draw=_gradient_pair,
    special=_cosine_cases,
)


def _long(grads):
    return np.concatenate([g.ravel() for g in grads])


def _norm(v):
    return np.sqrt((v**2).sum())


def _cosine(a, b):
    return (a * b).sum() / (_norm(a) * _norm(b))


@gradient_cosine.mistake(
    "mean-of-cosines",
    "the cosines of the tensors are averaged",
    "A small bias counts as much as a large matrix in your version. See each gradient as one long "
    "vector.",
)
def _(full, truncated):
    return np.mean([_cosine(a, b) for a, b in zip(full, truncated, strict=True)])


@gradient_cosine.form("mean-of-cosines")
def _(full, truncated):
    pairs = zip(full, truncated, strict=True)
    return np.mean([_cosine(a, b) if _norm(a) * _norm(b) else 0.0 for a, b in pairs])


@gradient_cosine.mistake(
    "dot-product",
    "the inner product is not divided by the lengths",
    "Your number grows with the gradients. A cosine lies between -1 and 1.",
)
def _(full, truncated):
    return (_long(full) * _long(truncated)).sum()


@gradient_cosine.mistake(
    "divided-by-one-length",
    "the inner product is divided by one length only",
    "Double the other gradient: your number doubles. A cosine depends on directions alone.",
)
def _(full, truncated):
    a, b = _long(full), _long(truncated)
    return (a * b).sum() / _norm(a)


@gradient_cosine.form("divided-by-one-length")
def _(full, truncated):
    a, b = _long(full), _long(truncated)
    return (a * b).sum() / _norm(b)


@gradient_cosine.mistake(
    "projection",
    "the inner product is divided by a squared length",
    "That is the share of one gradient in the other, not the angle between them.",
)
def _(full, truncated):
    a, b = _long(full), _long(truncated)
    return (a * b).sum() / (a * a).sum()


@gradient_cosine.form("projection")
def _(full, truncated):
    a, b = _long(full), _long(truncated)
    return (a * b).sum() / (b * b).sum()


@gradient_cosine.mistake(
    "roots-missing",
    "the lengths are not rooted",
    "You divide by squared lengths: twice the gradient gives half the cosine.",
)
def _(full, truncated):
    a, b = _long(full), _long(truncated)
    return (a * b).sum() / ((a * a).sum() * (b * b).sum())


@gradient_cosine.mistake(
    "absolute-value",
    "the sign is lost",
    "A gradient that points the opposite way gets 1 in your version.",
)
def _(full, truncated):
    return abs(_cosine(_long(full), _long(truncated)))


@gradient_cosine.mistake(
    "squared",
    "the cosine is squared",
    "A gradient that points the opposite way gets 1 in your version.",
)
def _(full, truncated):
    return _cosine(_long(full), _long(truncated)) ** 2


@gradient_cosine.mistake(
    "distance",
    "1 minus the cosine is returned",
    "Equal directions get 0 in your version. Similarity is asked for, not distance.",
)
def _(full, truncated):
    return 1 - _cosine(_long(full), _long(truncated))


@gradient_cosine.mistake(
    "angle",
    "the angle is returned, not its cosine",
    "Equal directions get 0 in your version. Leave out the last step.",
)
def _(full, truncated):
    return np.arccos(np.clip(_cosine(_long(full), _long(truncated)), -1, 1))


@gradient_cosine.form("angle")
def _(full, truncated):
    return np.degrees(np.arccos(np.clip(_cosine(_long(full), _long(truncated)), -1, 1)))


@gradient_cosine.mistake(
    "ratio-of-lengths",
    "the ratio of the lengths is returned",
    "Lengths say nothing about directions: two orthogonal vectors may be equally long.",
)
def _(full, truncated):
    return _norm(_long(truncated)) / _norm(_long(full))


@gradient_cosine.mistake(
    "first-tensor-only",
    "only the first tensor counts",
    "Look at where your `return` stands: does the loop end before it?",
)
def _(full, truncated):
    return _cosine(full[0], truncated[0])


@gradient_cosine.mistake(
    "last-tensor-only",
    "only the last tensor counts",
    "Each tensor overwrites the sums of those before it.",
)
def _(full, truncated):
    return _cosine(full[-1], truncated[-1])


@gradient_cosine.mistake(
    "lengths-added",
    "the lengths of the tensors are added up",
    "Lengths do not add; their squares do.",
)
def _(full, truncated):
    top = (_long(full) * _long(truncated)).sum()
    return top / (sum(map(_norm, full)) * sum(map(_norm, truncated)))


@gradient_cosine.mistake(
    "products-of-lengths-added",
    "the products of the tensors' lengths are added up in the denominator",
    "First the length of each whole gradient, then the product of the two.",
)
def _(full, truncated):
    top = (_long(full) * _long(truncated)).sum()
    return top / sum(_norm(a) * _norm(b) for a, b in zip(full, truncated, strict=True))


@gradient_cosine.mistake(
    "constant-in-denominator",
    "a constant in the denominator swallows small gradients",
    "Your cosine is far too small for tiny gradients: there, your constant is the length.",
)
def _(full, truncated):
    a, b = _long(full), _long(truncated)
    return (a * b).sum() / (_norm(a) * _norm(b) + 1e-8)


@gradient_cosine.form("constant-in-denominator")
def _(full, truncated):
    a, b = _long(full), _long(truncated)
    return (a * b).sum() / max(_norm(a) * _norm(b), 1e-8)


@gradient_cosine.mistake(
    "correlation",
    "the mean is subtracted first",
    "That is a correlation. A gradient that is the same for all weights has a direction too.",
)
def _(full, truncated):
    a, b = _long(full), _long(truncated)
    return _cosine(a - a.mean(), b - b.mean())


@gradient_cosine.mistake(
    "sign-agreement",
    "the share of entries with equal sign is returned",
    "Large and small entries count the same in your version.",
)
def _(full, truncated):
    return (np.sign(_long(full)) == np.sign(_long(truncated))).mean()


@gradient_cosine.mistake(
    "biases-ignored",
    "the biases do not count",
    "Every parameter is part of the gradient, vectors too.",
)
def _(full, truncated):
    pairs = [(a, b) for a, b in zip(full, truncated, strict=True) if a.ndim > 1]
    return _cosine(_long([a for a, _ in pairs]), _long([b for _, b in pairs]))


@gradient_cosine.mistake(
    "list-per-tensor",
    "one cosine per tensor is returned",
    "One number for the whole pair is asked for.",
)
def _(full, truncated):
    return [_cosine(a, b) for a, b in zip(full, truncated, strict=True)]


@gradient_cosine.variant("sums over tensors")
def _(full, truncated):
    dot = sum(np.vdot(a, b) for a, b in zip(full, truncated, strict=True))
    lengths = [sum(np.sum(np.square(g)) for g in grads) for grads in (full, truncated)]
    return dot / (lengths[0] ** 0.5 * lengths[1] ** 0.5)


@gradient_cosine.variant("unit vectors")
def _(full, truncated):
    a, b = (_long(g) / np.linalg.norm(_long(g)) for g in (full, truncated))
    return float(a @ b)


@gradient_cosine.variant("law of cosines")
def _(full, truncated):
    a, b = (_long(g) / _norm(_long(g)) for g in (full, truncated))
    return 1 - ((a - b) ** 2).sum() / 2


@gradient_cosine.variant("tiny guard")
def _(full, truncated):
    a, b = _long(full), _long(truncated)
    return np.dot(a, b) / max(_norm(a) * _norm(b), np.finfo(float).tiny)


@gradient_cosine.variant("python floats")
def _(full, truncated):
    a = [float(e) for g in full for e in np.ravel(g)]
    b = [float(e) for g in truncated for e in np.ravel(g)]
    dot = sum(p * q for p, q in zip(a, b, strict=True))
    return dot / (sum(p * p for p in a) * sum(q * q for q in b)) ** 0.5


@gradient_cosine.variant("torch inside")
def _(full, truncated):
    import torch

    a, b = torch.tensor(_long(full)), torch.tensor(_long(truncated))
    return torch.dot(a / a.norm(), b / b.norm()).item()


def _segment_gradient(c, limit):
    """Return a function that gives the gradient of sum(c h²)/2 for one segment of states."""

    def dh(start, h):
        h = np.asarray(h, dtype=float)
        if len(h) > limit:
            raise ValueError(f"dh takes the states of one segment, at most {limit}, not {len(h)}")
        return c[start : start + len(h)] * h

    return dh


def _checkpoint_args(rng, s, T=None, segment=None):
    T = s.T if T is None else T
    segment = max(1, T // 2) if segment is None else segment
    _, h0, W_xh, W_hh, b_h = rnn_arguments(rng, s)
    c = normal(rng, T, s.B, s.H)
    return _segment_gradient(c, segment), normal(rng, T, s.B, s.D), h0, W_xh, W_hh, b_h, segment


checkpointed_bptt = Exercise(
    name="checkpointed_bptt",
    reference=bptt.checkpointed_bptt,
    section=EXACT,
    axes={
        "dh": "",
        "x": "T B D",
        "h0": "B H",
        "W_xh": "H D",
        "W_hh": "H H",
        "b_h": "H",
        "segment": "",
    },
    returns=("dh0: B H", "dW_xh: H D", "dW_hh: H H", "db_h: H"),
    draw=_checkpoint_args,
    special=lambda rng, s: [
        Case(_checkpoint_args(rng, s, 9, 3), "three segments of three steps"),
        Case(_checkpoint_args(rng, s, 8, 3), "a last segment that is shorter"),
        Case(_checkpoint_args(rng, s, 7, 2), "a last segment of one step"),
        Case(_checkpoint_args(rng, s, 4, 1), "segments of one step"),
        Case(_checkpoint_args(rng, s, 4, 4), "one segment"),
        Case(_checkpoint_args(rng, s, 3, 5), "a segment longer than the sequence"),
    ],
)


def _checkpointed(
    dh,
    x,
    h0,
    W_xh,
    W_hh,
    b_h,
    segment,
    *,
    order=reversed,
    start_state=None,
    first_step=lambda start, segment: start,
    carry=True,
    starts=None,
    back=None,
    join=-1,
    keep=lambda n, last: True,
    pile_up=False,
    before=None,
    slope=lambda h: 1 - h**2,
    recompute_bias=True,
):
    """Checkpointed BPTT with parts that can be exchanged for wrong ones."""
    T = len(x)
    h_all = np.concatenate([h0[None], rnn.rnn_forward(x, h0, W_xh, W_hh, b_h)])
    starts = list(range(0, T, segment)) if starts is None else starts
    back = W_hh if back is None else back
    carried = np.zeros_like(h0)
    dh0 = carried
    sums = [np.zeros_like(W) for W in (W_xh, W_hh, b_h)]
    for start in order(starts):
        x_part = x[start : start + segment]
        state = h_all[start] if start_state is None else start_state(start, h0, h_all)
        h = rnn.rnn_forward(x_part, state, W_xh, W_hh, b_h if recompute_bias else 0 * b_h)
        direct = np.array(dh(first_step(start, segment), h))
        direct[join] += carried
        h_prev = np.concatenate([state[None] if before is None else before(state, h), h[:-1]])
        da, d = np.zeros_like(h), np.zeros_like(h0)
        for t in reversed(range(len(h))):
            da[t] = (direct[t] + d) * slope(h[t])
            d = da[t] @ back
        if start == 0:
            dh0 = d
        if carry:
            carried = carried + d if pile_up else d
        if keep(start, starts[-1]):
            sums[0] += np.einsum("tbh,tbd->hd", da, x_part)
            sums[1] += np.einsum("tbh,tbk->hk", da, h_prev)
            sums[2] += da.sum(axis=(0, 1))
    return dh0, *sums


def _wrong(**changes):
    return lambda *args: _checkpointed(*args, **changes)


checkpointed_bptt.mistake(
    "gradient-stops-at-segments",
    "no gradient passes from a segment to the one before it",
    "That is truncation into chunks. A checkpoint saves memory and drops no term: what does the "
    "segment's first state pass on?",
)(_wrong(carry=False))

checkpointed_bptt.mistake(
    "segments-not-reversed",
    "the segments are visited from first to last",
    "A segment needs what later segments send back. In which order must they be visited?",
)(_wrong(order=list))


@checkpointed_bptt.mistake(
    "all-states-at-once",
    "the states of all steps are computed and passed to `dh` together",
    "Then nothing is saved. Compute the states of one segment at a time, from its checkpoint.",
)
def _(dh, x, h0, W_xh, W_hh, b_h, segment):
    h = rnn.rnn_forward(x, h0, W_xh, W_hh, b_h)
    return bptt.rnn_backward(dh(0, h), x, h0, h, W_xh, W_hh)[1:]


checkpointed_bptt.mistake(
    "recomputed-from-h0",
    "each segment is computed again from `h0`",
    "The states that you compute again are not those of the first pass. Where does a segment "
    "start?",
)(_wrong(start_state=lambda start, h0, h: h0))

checkpointed_bptt.mistake(
    "recomputed-from-zero",
    "later segments are computed again from a zero state",
    "The states that you compute again are not those of the first pass. What did the first "
    "pass keep for this?",
)(_wrong(start_state=lambda start, h0, h: h[start] if start == 0 else 0 * h0))

checkpointed_bptt.mistake(
    "checkpoint-one-late",
    "the checkpoint of a later segment is the state after its first step",
    "Checkpoint and segment must fit together: the state *before* the first input of the segment.",
)(_wrong(start_state=lambda start, h0, h: h[start + 1] if start else h0))

checkpointed_bptt.mistake(
    "checkpoint-one-early",
    "the checkpoint of a later segment is one step too old",
    "Checkpoint and segment must fit together: the state right before the first input of the "
    "segment.",
)(_wrong(start_state=lambda start, h0, h: h[start - 1] if start else h0))

checkpointed_bptt.mistake(
    "start-not-passed",
    "`dh` is always called with start 0",
    "`dh` must know which steps of the sequence the states belong to.",
)(_wrong(first_step=lambda start, segment: 0))

checkpointed_bptt.mistake(
    "number-of-segment-passed",
    "`dh` is called with the number of the segment, not of its first step",
    "The third segment does not start at step 2.",
)(_wrong(first_step=lambda start, segment: start // segment))

checkpointed_bptt.mistake(
    "carried-gradient-at-the-start",
    "the gradient of later segments is added at the segment's first step, not at its last",
    "What later segments send back arrives at the segment's end and must pass all of its steps.",
)(_wrong(join=0))

checkpointed_bptt.mistake(
    "carried-gradient-everywhere",
    "the gradient of later segments is added at every step of the segment",
    "It arrives once, at the segment's end; from there your loop carries it on.",
)(_wrong(join=slice(None)))

checkpointed_bptt.mistake(
    "carried-gradient-piles-up",
    "the carried gradient is added to, not replaced, at each segment",
    "What a segment sends back already contains what it received.",
)(_wrong(pile_up=True))

checkpointed_bptt.mistake(
    "only-first-segment",
    "each segment overwrites the weight gradients of the one before (`=` for `+=`)",
    "Your weight gradients are those of the first segment alone.",
    section=SHARED,
)(_wrong(keep=lambda start, last: start == 0))

checkpointed_bptt.mistake(
    "only-last-segment",
    "the weight gradients count only the last segment",
    "The weights were used in all segments.",
    section=SHARED,
)(_wrong(keep=lambda start, last: start == last))


@checkpointed_bptt.mistake(
    "short-segment-dropped",
    "a last segment that is shorter than the others is left out",
    "When T is not a multiple of `segment`, the losses at the end do not count in your version.",
)
def _(dh, x, h0, W_xh, W_hh, b_h, segment):
    starts = list(range(0, len(x) // segment * segment, segment))
    if not starts:
        return tuple(np.zeros_like(a) for a in (h0, W_xh, W_hh, b_h))
    return _checkpointed(dh, x, h0, W_xh, W_hh, b_h, segment, starts=starts)


checkpointed_bptt.mistake(
    "before-segment-zero",
    "the first step of each segment is treated as if its previous state were zero",
    "Only `dW_hh` is wrong. Which state did the segment's first step read?",
)(_wrong(before=lambda state, h: 0 * state[None]))

checkpointed_bptt.mistake(
    "index-wraps-around",
    "at a segment's first step, `h[t - 1]` is `h[-1]`, its last state",
    "Only `dW_hh` is wrong. Python counts negative indices from the end.",
)(_wrong(before=lambda state, h: h[-1:]))

checkpointed_bptt.mistake(
    "bias-missing",
    "the states are computed again without the bias",
    "The second forward pass must repeat the first exactly.",
)(_wrong(recompute_bias=False))

checkpointed_bptt.mistake(
    "tanh-derivative-missing",
    "the derivative of tanh is missing",
    "Every step back passes a tanh.",
    section=STEP,
)(_wrong(slope=np.ones_like))

checkpointed_bptt.mistake(
    "recurrent-weight-transposed",
    "`W_hh` is transposed on the way back",
    "`W_hh` is square, so its shape cannot warn you.",
    section=STEP,
)(lambda *args: _checkpointed(*args, back=args[4].T))


@checkpointed_bptt.mistake(
    "dh0-forgotten",
    "`dh0` is zero",
    "All else is right. What leaves the first segment belongs to the start state.",
)
def _(*args):
    dh0, *grads = bptt.checkpointed_bptt(*args)
    return (0 * dh0, *grads)


@checkpointed_bptt.mistake(
    "dx-returned",
    "`dx` is returned too",
    "`dx` is as long as the sequence, which is what you want to avoid. Compare with the docstring.",
)
def _(*args):
    return (np.zeros_like(args[1]), *bptt.checkpointed_bptt(*args))


@checkpointed_bptt.mistake(
    "mean-over-segments",
    "the weight gradients are averaged over the segments",
    "The segments' gradients add up: the loss is a sum over all steps.",
    section=SHARED,
)
def _(*args):
    dh0, *grads = bptt.checkpointed_bptt(*args)
    return (dh0, *(g / -(-len(args[1]) // args[6]) for g in grads))


@checkpointed_bptt.variant("checkpoints in a dict")
def _(dh, x, h0, W_xh, W_hh, b_h, segment):
    saved, state = {}, h0
    for t, x_t in enumerate(x):
        if t % segment == 0:
            saved[t] = state
        state = rnn.rnn_step(x_t, state, W_xh, W_hh, b_h)
    d, sums = np.zeros_like(h0), None
    while saved:
        start, state = saved.popitem()
        part = x[start : start + segment]
        h = rnn.rnn_forward(part, state, W_xh, W_hh, b_h)
        direct = np.array(dh(start, h))
        direct[-1] = direct[-1] + d
        _, d, *grads = bptt.rnn_backward(direct, part, state, h, W_xh, W_hh)
        sums = grads if sums is None else [a + b for a, b in zip(sums, grads, strict=True)]
    return (d, *sums)


@checkpointed_bptt.variant("recursion over segments")
def _(dh, x, h0, W_xh, W_hh, b_h, segment):
    def back(start, state):
        part = x[start : start + segment]
        h = rnn.rnn_forward(part, state, W_xh, W_hh, b_h)
        end = start + len(part)
        d, sums = (0.0, (0.0, 0.0, 0.0)) if end == len(x) else back(end, h[-1])
        direct = np.asarray(dh(start, h)).copy()
        direct[-1] += d
        _, d, *grads = bptt.rnn_backward(direct, part, state, h, W_xh, W_hh)
        return d, [a + b for a, b in zip(sums, grads, strict=True)]

    d, sums = back(0, h0)
    return (d, *sums)


@checkpointed_bptt.variant("step by step, dh for one state at a time")
def _(dh, x, h0, W_xh, W_hh, b_h, segment):
    d = np.zeros_like(h0)
    dW_xh, dW_hh, db_h = np.zeros_like(W_xh), np.zeros_like(W_hh), np.zeros_like(b_h)
    for t in range(len(x) - 1, -1, -1):
        before = rnn.rnn_forward(x[:t], h0, W_xh, W_hh, b_h)[-1] if t else h0
        h = rnn.rnn_step(x[t], before, W_xh, W_hh, b_h)
        da = (dh(t, h[None])[0] + d) * (1 - h**2)
        d = da @ W_hh
        dW_xh, dW_hh, db_h = dW_xh + da.T @ x[t], dW_hh + da.T @ before, db_h + da.sum(0)
    return [d, dW_xh, dW_hh, db_h]


@checkpointed_bptt.variant("carried gradient through its own small pass")
def _(dh, x, h0, W_xh, W_hh, b_h, segment):
    starts = range(0, len(x), segment)
    states = [h0]
    for start in starts:
        part = x[start : start + segment]
        states.append(rnn.rnn_forward(part, states[-1], W_xh, W_hh, b_h)[-1])
    d = np.zeros(h0.shape)
    total = [np.zeros(a.shape) for a in (W_xh, W_hh, b_h)]
    for n in range(len(starts) - 1, -1, -1):
        part = x[starts[n] : starts[n] + segment]
        h = rnn.rnn_forward(part, states[n], W_xh, W_hh, b_h)
        late = np.zeros_like(h)
        late[-1] = d
        one = bptt.rnn_backward(late, part, states[n], h, W_xh, W_hh)
        two = bptt.rnn_backward(dh(starts[n], h), part, states[n], h, W_xh, W_hh)
        d = one[1] + two[1]
        total = [t + a + b for t, a, b in zip(total, one[2:], two[2:], strict=True)]
    return (d, *total)


@checkpointed_bptt.variant("torch autograd inside each segment")
def _(dh, x, h0, W_xh, W_hh, b_h, segment):
    import torch

    weights = [torch.tensor(a, requires_grad=True) for a in (W_xh, W_hh, b_h)]
    starts = list(range(0, len(x), segment))
    states, state = [], h0
    for start in starts:
        states.append(state)
        state = rnn.rnn_forward(x[start : start + segment], state, W_xh, W_hh, b_h)[-1]
    d = torch.zeros(h0.shape, dtype=torch.float64)
    for start, state in zip(starts[::-1], states[::-1], strict=True):
        first = torch.tensor(state, requires_grad=True)
        h, run = [], first
        for x_t in torch.tensor(x[start : start + segment]):
            run = torch.tanh(x_t @ weights[0].T + run @ weights[1].T + weights[2])
            h.append(run)
        stacked = torch.stack(h)
        direct = torch.tensor(dh(start, stacked.detach().numpy()))
        ((stacked * direct).sum() + (run * d).sum()).backward()
        d = first.grad
    return (d.numpy(), *(w.grad.numpy() for w in weights))
