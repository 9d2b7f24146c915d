"""Assignment 08: padding, masks, packing, and reading a padded batch at the right step."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np

from rnncourse import sequences
from rnncourse.exercises.spec import Case, Exercise, normal

PAD_AND_MASK = "09-variable-length: Pad and mask"
SUMMARY = "09-variable-length: First leak: the summary"
LOSS = "09-variable-length: Second leak: the loss"
DIRECTION = "09-variable-length: Third leak: the other direction"
PACKING = "09-variable-length: Packing"


def draw_lengths(rng, s):
    """Return B lengths up to T: T occurs once, neither first nor last where B allows it."""
    if s.B == 1:
        return np.array([s.T])
    lengths = rng.integers(1, max(s.T, 2), s.B)
    lengths[rng.integers(1, s.B - 1) if s.B > 2 else 1] = s.T
    return lengths


def _mask(lengths, T):
    return np.arange(T)[:, None] < lengths


def _vectors(rng, lengths, D):
    return [normal(rng, n, D) for n in lengths]


def _pad_cases(rng, s):
    tokens = [rng.integers(1, 9, n) for n in draw_lengths(rng, s)]
    yield Case((tokens, 0), "sequences of tokens, padded with 0")
    with_pad = [np.append(rng.integers(1, 9, n), 9) for n in draw_lengths(rng, s)]
    with_pad[0][:] = 9
    yield Case((with_pad, 9), "the value of the padding also occurs as a token")
    yield Case((tokens, -0.5), "tokens, padded with -0.5")
    with_zero = [np.append(rng.integers(0, 9, n), [0, 70_000 + n]) for n in draw_lengths(rng, s)]
    yield Case((with_zero, 9), "0 and a large number are tokens too")
    mixed = [rng.integers(1, 9, 3), normal(rng, 2)]
    yield Case((mixed, 0), "the first sequence holds integers, the second does not")
    some = _vectors(rng, (2, 0, 3, 1), s.D)
    yield Case((some, 0.0), "one sequence is empty")
    yield Case((some[1:], 0.0), "the first sequence is empty")
    yield Case((_vectors(rng, [s.T] * s.B, s.D), 2.0), "all sequences have the same length")
    yield Case(([normal(rng, n, 2, 3) for n in (1, 4, 2)], 1.5), "each step is a matrix")


pad = Exercise(
    name="pad",
    reference=sequences.pad,
    section=PAD_AND_MASK,
    axes={"sequences": "", "value": ""},
    returns=("padded: T B D", "lengths: B"),
    draw=lambda rng, s: (_vectors(rng, draw_lengths(rng, s), s.D), 1.0 + rng.random()),
    special=_pad_cases,
)


def _padded(items, value, T=None, dtype=None):
    """Pad as asked, but to T steps and with another dtype where given."""
    T = max(map(len, items)) if T is None else T
    dtype = np.result_type(*items, value) if dtype is None else dtype
    out = np.full((T, len(items), *items[0].shape[1:]), value, dtype)
    for i, a in enumerate(items):
        out[: len(a), i] = a[:T]
    return out


def _lengths_of(items):
    return np.array([len(a) for a in items])


@pad.mistake(
    "padded-at-the-front",
    "the padding stands before the sequences",
    "A recurrent network would read your padding first, and its state would no longer be `h0` when "
    "the sequence begins. Where can padding stand without changing any state at a real step?",
)
def _(sequences, value):
    out = _padded(sequences, value)
    out[...] = value
    for i, a in enumerate(sequences):
        out[len(out) - len(a) :, i] = a
    return out, _lengths_of(sequences)


@pad.mistake(
    "zeros-replaced",
    "zeros inside the sequences become the padding's value",
    "You fill up with 0 and exchange every 0 afterwards. What if 0 is a real entry of a sequence?",
)
def _(sequences, value):
    out = _padded(sequences, value)
    out[_padded(sequences, 0) == 0] = value
    return out, _lengths_of(sequences)


@pad.mistake(
    "dtype-of-the-first",
    "the dtype is that of the first sequence and the value",
    "Which numbers does your array have to hold? Look at all sequences, not at the first alone.",
)
def _(sequences, value):
    dtype = np.result_type(sequences[0], value)
    return _padded(sequences, value, dtype=dtype), _lengths_of(sequences)


@pad.mistake(
    "batch-first",
    "the batch axis comes first",
    "The course is time-major: `padded[t]` holds step t of all sequences.",
)
def _(sequences, value):
    return _padded(sequences, value).swapaxes(0, 1), _lengths_of(sequences)


@pad.mistake(
    "reshape-for-transpose",
    "the batch-first array is reshaped, where its axes should be exchanged",
    "`reshape` cuts the same numbers into other rows, so your sequences are mixed. Which function "
    "exchanges two axes?",
)
def _(sequences, value):
    out = _padded(sequences, value)
    return np.ascontiguousarray(out.swapaxes(0, 1)).reshape(out.shape), _lengths_of(sequences)


@pad.mistake(
    "value-ignored",
    "the padding is always 0",
    "The caller chooses what the padding holds: use `value`.",
)
def _(sequences, value):
    return _padded(sequences, 0 * value), _lengths_of(sequences)


@pad.mistake(
    "tokens-become-floats",
    "tokens come back as floating-point numbers",
    "`np.zeros` and `np.full` with a float make an array of floats, and floats cannot index an "
    "embedding. Integers should stay integers if the padding is one.",
)
def _(sequences, value):
    return _padded(sequences, value, dtype=float), _lengths_of(sequences)


@pad.mistake(
    "value-rounded",
    "the array takes the dtype of the sequences even where that cannot hold the padding",
    "An array of integers turns a padding of -0.5 into 0 without a word. Which dtype holds the "
    "sequences *and* the value?",
)
def _(sequences, value):
    return _padded(sequences, value, dtype=sequences[0].dtype), _lengths_of(sequences)


@pad.mistake(
    "cut-to-first",
    "the array is as long as the first sequence",
    "The longest sequence may stand anywhere in the batch. What happens to a sequence longer than "
    "your array?",
)
def _(sequences, value):
    return _padded(sequences, value, T=len(sequences[0])), _lengths_of(sequences)


@pad.mistake(
    "cut-to-shortest",
    "all sequences are cut to the shortest",
    "Cutting loses data, padding does not: the array must be as long as the longest sequence.",
)
def _(sequences, value):
    return _padded(sequences, value, T=min(map(len, sequences))), _lengths_of(sequences)


@pad.mistake(
    "sorted",
    "the sequences are sorted by length",
    "Row i of the result must belong to sequence i, or labels and predictions no longer fit "
    "together. Sorting is for packing, and must be undone afterwards.",
    section=PACKING,
)
def _(sequences, value):
    items = sorted(sequences, key=len, reverse=True)
    return _padded(items, value), _lengths_of(items)


@pad.form("sorted")
def _(sequences, value):
    items = sorted(sequences, key=len)
    return _padded(items, value), _lengths_of(items)


@pad.mistake(
    "padded-lengths",
    "every length is the length of the padded array",
    "Your lengths say that there is no padding at all, so nobody can tell real steps from others. "
    "Take the lengths before padding.",
)
def _(sequences, value):
    out = _padded(sequences, value)
    return out, np.full(len(sequences), len(out))


@pad.mistake(
    "lengths-from-content",
    "the lengths are counted as the entries that differ from the padding",
    "A real token may equal the padding, and your count misses it. The sequences themselves know "
    "how long they are.",
)
def _(sequences, value):
    out = _padded(sequences, value)
    real = (out != value).reshape(*out.shape[:2], -1).any(axis=-1)
    return out, real.sum(axis=0)


@pad.mistake(
    "last-indices",
    "the index of the last step is returned in place of the length",
    "A sequence of one step has length 1. Its last index is 0.",
)
def _(sequences, value):
    return _padded(sequences, value), _lengths_of(sequences) - 1


@pad.mistake(
    "last-step-repeated",
    "the last real step is repeated, and `value` is not used",
    "Repeated steps look like data. Padding must be what the caller chose, so that it can be told.",
)
def _(sequences, value):
    out = _padded(sequences, value)
    for i, a in enumerate(sequences):
        out[len(a) :, i] = a[-1] if len(a) else value
    return out, _lengths_of(sequences)


@pad.mistake(
    "sequence-repeated",
    "short sequences start again from their beginning",
    "`np.resize` fills up with copies of the data. Padding must be the value that the caller "
    "chose.",
)
def _(sequences, value):
    out = _padded(sequences, value)
    for i, a in enumerate(sequences):
        if len(a):
            out[:, i] = np.resize(a, (len(out), *a.shape[1:]))
    return out, _lengths_of(sequences)


@pad.mistake(
    "empty-dropped",
    "empty sequences are left out",
    "A sequence of length 0 still has its place in the batch: everything after it moves up in "
    "yours, and labels no longer fit.",
)
def _(sequences, value):
    items = [a for a in sequences if len(a)]
    return _padded(items, value), _lengths_of(items)


@pad.mistake(
    "one-step-too-long",
    "there is one step of padding even after the longest sequence",
    "The longest sequence needs no padding.",
)
def _(sequences, value):
    return _padded(sequences, value, T=max(map(len, sequences)) + 1), _lengths_of(sequences)


@pad.mistake(
    "one-step-too-short",
    "the last step of the longest sequence is cut off",
    "Count the steps that an array needs to hold the longest sequence.",
)
def _(sequences, value):
    T = max(map(len, sequences))
    return _padded(sequences, value, T=max(T - 1, 0)), _lengths_of(sequences)


@pad.mistake(
    "list-overwritten",
    "the caller's list is overwritten with padded sequences",
    "The numbers are right, but the caller's sequences are padded now too. Collect yours in a new "
    "list or array.",
)
def _(sequences, value):
    out, lengths = _padded(sequences, value), _lengths_of(sequences)
    for i in range(len(sequences)):
        sequences[i] = out[:, i]
    return out, lengths


@pad.variant("np.pad")
def _(sequences, value):
    lengths = [len(a) for a in sequences]
    dtype = np.result_type(value, *sequences)
    columns = [
        np.pad(
            np.asarray(a, dtype),
            [(0, max(lengths) - len(a))] + [(0, 0)] * (np.ndim(a) - 1),
            constant_values=value,
        )
        for a in sequences
    ]
    return np.stack(columns, axis=1), np.array(lengths)


@pad.variant("zip_longest")
def _(sequences, value):
    filler = np.full(np.shape(sequences[0])[1:], value)
    rows = itertools.zip_longest(*sequences, fillvalue=filler)
    return np.array([np.stack(row) for row in rows]), [len(a) for a in sequences]


@pad.variant("masked assignment")
def _(sequences, value):
    lengths = np.fromiter(map(len, sequences), int)
    T = lengths.max()
    out = np.full(
        (len(lengths), T, *sequences[0].shape[1:]), value, np.result_type(*sequences, value)
    )
    out[np.arange(T) < lengths[:, None]] = np.concatenate(sequences)
    return out.swapaxes(0, 1), lengths


@pad.variant("concatenated filling")
def _(sequences, value):
    T = max(len(a) for a in sequences)
    full = [
        np.concatenate([a, np.full((T - len(a), *a.shape[1:]), value)]) if len(a) < T else a
        for a in sequences
    ]
    if isinstance(value, int):
        full = [f.astype(np.result_type(*sequences, value)) for f in full]
    return [[f[t] for f in full] for t in range(T)], tuple(len(a) for a in sequences)


@pad.variant("torch inside")
def _(sequences, value):
    import torch

    dtype = np.result_type(*sequences, value)
    tensors = [torch.tensor(np.asarray(a, dtype)) for a in sequences]
    out = torch.nn.utils.rnn.pad_sequence(tensors, padding_value=float(value))
    return out.numpy().astype(dtype), np.array([len(t) for t in tensors])


def _mask_cases(rng, s):
    yield Case((draw_lengths(rng, s), s.T + 2), "T is larger than every length")
    lengths = draw_lengths(rng, s)
    lengths[0] = 0
    yield Case((lengths, s.T), "one length is 0")
    yield Case((np.full(s.B, s.T), s.T), "there is no padding")


length_mask = Exercise(
    name="length_mask",
    reference=sequences.length_mask,
    section=PAD_AND_MASK,
    axes={"lengths": "B", "T": ""},
    returns=("mask: T B",),
    draw=lambda rng, s: (draw_lengths(rng, s), int(s.T)),
    special=_mask_cases,
)


@length_mask.mistake(
    "one-step-too-many",
    "one step of padding counts as real",
    "A sequence of length 1 has the real step t = 0 and no other. For which t does your "
    "comparison hold?",
)
def _(lengths, T):
    return np.arange(T)[:, None] <= lengths


@length_mask.mistake(
    "last-step-missing",
    "the last real step counts as padding",
    "The last real step of a sequence of length 3 is t = 2. For which t does your comparison hold?",
)
def _(lengths, T):
    return np.arange(T)[:, None] < lengths - 1


@length_mask.mistake(
    "first-step-missing",
    "the count of steps begins with 1",
    "The first step is t = 0: your mask treats it as padding, or moves all steps by one.",
)
def _(lengths, T):
    t = np.arange(T)[:, None]
    return (t > 0) & (t <= lengths)


@length_mask.mistake(
    "inverted",
    "the mask is True at the padding",
    "True means that a step is real. Some libraries mask the other way round.",
)
def _(lengths, T):
    return np.arange(T)[:, None] >= lengths


@length_mask.mistake(
    "batch-first",
    "the mask has shape (B, T)",
    "The course is time-major: `mask[t]` belongs to step t.",
)
def _(lengths, T):
    return np.arange(T) < lengths[:, None]


@length_mask.mistake(
    "reshape-for-transpose",
    "a mask of shape (B, T) is reshaped to (T, B)",
    "`reshape` mixes the sequences; exchanging the axes is another operation.",
)
def _(lengths, T):
    return (np.arange(T) < lengths[:, None]).reshape(T, -1)


@length_mask.mistake(
    "steps-ignored",
    "the mask is as long as the longest sequence, not T",
    "A batch may be padded beyond its longest sequence, for example to the length of other "
    "batches.",
)
def _(lengths, T):
    return np.arange(lengths.max())[:, None] < lengths


@length_mask.mistake(
    "numbers",
    "the mask holds numbers where True and False are asked for",
    "An array of 0 and 1 indexes steps 0 and 1 when it is used as an index; a mask of bools "
    "selects.",
)
def _(lengths, T):
    return (np.arange(T)[:, None] < lengths).astype(float)


@length_mask.mistake(
    "padding-at-the-front",
    "the real steps are taken to be the last ones",
    "Padding stands at the end: a sequence of length 2 occupies the steps t = 0 and t = 1.",
)
def _(lengths, T):
    return np.arange(T)[:, None] >= T - lengths


@length_mask.mistake(
    "only-last-step",
    "only the last real step is marked",
    "That is where a summary is read. A mask marks all steps that are real.",
)
def _(lengths, T):
    return np.arange(T)[:, None] == lengths - 1


@length_mask.mistake(
    "empty-has-a-step",
    "a sequence of length 0 gets a real step",
    "With length 0 no step is real, so its column is False from top to bottom.",
)
def _(lengths, T):
    return np.arange(T)[:, None] < np.maximum(lengths, 1)


@length_mask.mistake(
    "additive",
    "the result holds 0 and -inf, to be added to scores",
    "That is made *from* a mask, for a softmax. Here the mask itself is asked for.",
)
def _(lengths, T):
    return np.where(np.arange(T)[:, None] < lengths, 0.0, -np.inf)


@length_mask.variant("loops")
def _(lengths, T):
    mask = np.zeros((T, len(lengths)), dtype=bool)
    for i, n in enumerate(lengths):
        mask[:n, i] = True
    return mask


@length_mask.variant("nested list")
def _(lengths, T):
    return [[bool(t < n) for n in lengths] for t in range(T)]


@length_mask.variant("outer comparison, transposed")
def _(lengths, T):
    return np.greater.outer(lengths, np.arange(T)).T


@length_mask.variant("cumulative sum of marks")
def _(lengths, T):
    ends = np.zeros((T + 1, len(lengths)), int)
    ends[lengths, np.arange(len(lengths))] = 1
    return np.cumsum(ends, axis=0)[:T] == 0


@length_mask.variant("torch inside")
def _(lengths, T):
    import torch

    return (torch.arange(T)[:, None] < torch.as_tensor(np.array(lengths))).numpy()


def _states(rng, s):
    """Return states and lengths below and at T, also where B = 1."""
    lengths = draw_lengths(rng, s)
    if s.B == 1 and s.T > 1:
        lengths = lengths - 1
    return np.tanh(normal(rng, s.T, s.B, s.H)), lengths


def _last_cases(rng, s):
    more = SimpleNamespace(**{**vars(s), "T": s.T + 2})
    h, _ = _states(rng, more)
    yield Case((h, draw_lengths(rng, s)), "every sequence is followed by padding")
    yield Case((_states(rng, s)[0], np.ones(s.B, int)), "all lengths are 1")
    yield Case((_states(rng, s)[0], np.full(s.B, s.T)), "there is no padding")


last_valid = Exercise(
    name="last_valid",
    reference=sequences.last_valid,
    section=SUMMARY,
    axes={"h": "T B H", "lengths": "B"},
    returns=("last: B H",),
    draw=_states,
    special=_last_cases,
)


@last_valid.mistake(
    "padded-end",
    "the state at the end of the padding is taken",
    "`h[-1]` is right for the longest sequence only; for the others it has read padding since "
    "their end.",
)
def _(h, lengths):
    return h[-1]


@last_valid.mistake(
    "one-step-late",
    "the state one step after the end is taken",
    "Steps count from 0, so the last step of a sequence of length n is not step n.",
)
def _(h, lengths):
    return h[np.minimum(lengths, len(h) - 1), np.arange(len(lengths))]


@last_valid.mistake(
    "one-step-early",
    "the state before the last step is taken",
    "Your summary has not read the last input. Steps count from 0: which index has the last one?",
)
def _(h, lengths):
    return h[np.maximum(lengths - 2, 0), np.arange(len(lengths))]


@last_valid.form("one-step-early")
def _(h, lengths):
    return h[lengths - 2, np.arange(len(lengths))]


@last_valid.mistake(
    "one-index-only",
    "indexing with the lengths alone gives all sequences at each of the steps",
    "`h[steps]` picks whole steps, so the result has an axis too many. Index both axes at once: a "
    "step and a sequence for each entry.",
)
def _(h, lengths):
    return h[lengths - 1]


@last_valid.form("one-index-only")
def _(h, lengths):
    return h[lengths - 1, :]


@last_valid.mistake(
    "first-sequence",
    "the right steps are taken, all from the first sequence",
    "Entry i belongs to sequence i: the second index must run along with the lengths.",
)
def _(h, lengths):
    return h[lengths - 1, 0]


@last_valid.mistake(
    "one-length-for-all",
    "every sequence is read at the step where the first one ends",
    "Each sequence has its own last step.",
)
def _(h, lengths):
    return h[lengths[0] - 1]


@last_valid.mistake(
    "longest-for-all",
    "every sequence is read at the step where the longest one ends",
    "That is right for the longest sequence only. Each sequence has its own last step.",
)
def _(h, lengths):
    return h[lengths.max() - 1]


@last_valid.mistake(
    "masked-end",
    "padded states are set to 0 and the last step is taken",
    "Shorter sequences get zeros from you. A mask hides what is wrong; it does not find "
    "what is right.",
)
def _(h, lengths):
    return (h * _mask(lengths, len(h))[..., None])[-1]


@last_valid.mistake(
    "mean",
    "the mean over the real steps is taken",
    "That is another summary, a useful one. Here the last real state is asked for.",
)
def _(h, lengths):
    return (h * _mask(lengths, len(h))[..., None]).sum(axis=0) / lengths[:, None]


@last_valid.mistake(
    "sum",
    "the sum over the real steps is taken",
    "Long sequences get large summaries from you. The state at one step is asked for.",
)
def _(h, lengths):
    return (h * _mask(lengths, len(h))[..., None]).sum(axis=0)


@last_valid.mistake(
    "maximum",
    "the maximum over the real steps is taken",
    "Your summary mixes units of different steps. The state at one step is asked for.",
)
def _(h, lengths):
    return np.where(_mask(lengths, len(h))[..., None], h, -np.inf).max(axis=0)


@last_valid.mistake(
    "first-step",
    "the first state is taken",
    "The first state has read one input.",
)
def _(h, lengths):
    return h[0]


@last_valid.mistake(
    "sorted-not-undone",
    "the summaries come back in order of length",
    "Whoever sorts a batch must put it back: entry i must belong to sequence i.",
    section=PACKING,
)
def _(h, lengths):
    order = np.argsort(-lengths, kind="stable")
    return h[lengths[order] - 1, order]


@last_valid.form("sorted-not-undone")
def _(h, lengths):
    order = np.argsort(lengths, kind="stable")
    return h[lengths[order] - 1, order]


@last_valid.mistake(
    "batch-first",
    "axis 0 of `h` is taken for the batch",
    "`h` is time-major, (T, B, H): the step is the first index and the sequence the second.",
)
def _(h, lengths):
    T, B, _ = h.shape
    return h.reshape(B, T, -1)[np.arange(B), lengths - 1]


@last_valid.mistake(
    "counted-from-the-end",
    "the step is counted from the end of the array",
    "`h[-n]` is n steps before the end of the *padded* array. Count from the start of the "
    "sequence.",
)
def _(h, lengths):
    return h[-lengths, np.arange(len(lengths))]


@last_valid.variant("take_along_axis")
def _(h, lengths):
    return np.take_along_axis(h, (lengths - 1)[None, :, None], axis=0)[0]


@last_valid.variant("list comprehension")
def _(h, lengths):
    return np.array([h[n - 1, i] for i, n in enumerate(lengths)])


@last_valid.variant("one-hot over time")
def _(h, lengths):
    marks = np.arange(len(h))[:, None] == lengths - 1
    return np.einsum("tb,tbh->bh", marks.astype(float), h)


@last_valid.variant("carry the state")
def _(h, lengths):
    last = h[0]
    for t in range(1, len(h)):
        last = np.where((t < lengths)[:, None], h[t], last)
    return last


@last_valid.variant("flat index")
def _(h, lengths):
    B = h.shape[1]
    return h.reshape(-1, h.shape[-1])[(lengths - 1) * B + np.arange(B)]


@last_valid.variant("torch inside")
def _(h, lengths):
    import torch

    index = torch.as_tensor(np.array(lengths)) - 1
    h = torch.as_tensor(np.array(h))
    return h.gather(0, index[None, :, None].expand(1, -1, h.shape[-1]))[0].numpy()


def _loss_and_mask(rng, s):
    return 0.5 + rng.random((s.T, s.B)), _mask(_states(rng, s)[1], s.T)


def _masked_mean_cases(rng, s):
    loss, mask = _loss_and_mask(rng, s)
    loss[~mask] = np.nan
    yield Case((loss, mask), "the loss is NaN at masked steps")
    loss, mask = _loss_and_mask(rng, s)
    loss[0, 0] = loss[0, 1 % s.B] = 0.0
    yield Case((loss, mask), "the loss of some real steps is 0")
    loss, mask = _loss_and_mask(rng, s)
    loss[0] = -3.0
    yield Case((loss, mask), "some entries are negative")
    yield Case((loss, np.zeros_like(mask)), "no step counts")
    holes = rng.random((s.T, s.B)) < 0.5
    holes[:2, 0], holes[0, -1], holes[-1, -1] = (True, False), False, True
    yield Case((0.5 + rng.random((s.T, s.B)), holes), "the mask has holes")
    one = np.zeros((s.T, s.B), bool)
    one[0, 1 % s.B] = True
    yield Case((0.5 + rng.random((s.T, s.B)), one), "one step counts")


masked_mean = Exercise(
    name="masked_mean",
    reference=sequences.masked_mean,
    section=LOSS,
    axes={"loss": "T B", "mask": "T B"},
    returns=("mean",),
    draw=_loss_and_mask,
    special=_masked_mean_cases,
)


def _total(loss, mask):
    return np.where(mask, loss, 0).sum()


@masked_mean.mistake(
    "divided-by-all-steps",
    "the sum over real steps is divided by T·B",
    "More padding makes your loss smaller though nothing else changes. Of how many numbers is it "
    "the mean?",
)
def _(loss, mask):
    return _total(loss, mask) / loss.size


@masked_mean.mistake(
    "mask-ignored",
    "the mask is not used",
    "Padding counts in your loss: a network is rewarded for predicting it.",
)
def _(loss, mask):
    return np.mean(loss)


@masked_mean.mistake(
    "padding-in-the-sum",
    "padding is part of the sum, though not of the count",
    "The mask belongs in both places: in the sum and in the number it is divided by.",
)
def _(loss, mask):
    return loss.sum() / mask.sum() if mask.any() else 0.0


@masked_mean.mistake(
    "sum",
    "the losses are summed, not averaged",
    "A batch twice as large has twice your loss. Divide by the number of steps that count.",
)
def _(loss, mask):
    return _total(loss, mask)


@masked_mean.mistake(
    "divided-by-batch",
    "the sum is divided by the number of sequences",
    "A sequence twice as long has twice your loss. Count steps, not sequences.",
)
def _(loss, mask):
    return _total(loss, mask) / loss.shape[1]


@masked_mean.mistake(
    "divided-by-steps",
    "the sum is divided by T alone",
    "A larger batch has a larger loss in your version. Count every step that counts, in all "
    "sequences.",
)
def _(loss, mask):
    return _total(loss, mask) / loss.shape[0]


@masked_mean.mistake(
    "mean-of-sequence-means",
    "each sequence is averaged, then the sequences",
    "A step of a short sequence weighs more than one of a long sequence in your version. Take one "
    "mean over all real steps.",
)
def _(loss, mask):
    counts = mask.sum(axis=0)
    return (np.where(mask, loss, 0).sum(axis=0) / np.maximum(counts, 1)).mean()


@masked_mean.form("mean-of-sequence-means")
def _(loss, mask):
    counts = mask.sum(axis=0)
    means = np.where(mask, loss, 0).sum(axis=0) / np.maximum(counts, 1)
    return means[counts > 0].mean() if mask.any() else 0.0


@masked_mean.mistake(
    "mean-of-step-means",
    "each time step is averaged, then the time steps",
    "The late steps, which few sequences reach, weigh too much in your version. Take one mean over "
    "all real steps.",
)
def _(loss, mask):
    counts = mask.sum(axis=1)
    return (np.where(mask, loss, 0).sum(axis=1) / np.maximum(counts, 1)).mean()


@masked_mean.form("mean-of-step-means")
def _(loss, mask):
    counts = mask.sum(axis=1)
    means = np.where(mask, loss, 0).sum(axis=1) / np.maximum(counts, 1)
    return means[counts > 0].mean() if mask.any() else 0.0


@masked_mean.mistake(
    "mask-inverted",
    "the mask is read the wrong way round",
    "True means that a step counts; you average the padding.",
)
def _(loss, mask):
    return _total(loss, ~mask) / (~mask).sum() if not mask.all() else 0.0


@masked_mean.form("mask-inverted")
def _(loss, mask):
    return loss[~mask].mean()


@masked_mean.mistake(
    "nan-times-zero",
    "masked entries are multiplied by 0, which leaves NaN where the loss is NaN",
    "0 · NaN is NaN. Select the entries that count rather than multiplying the others away.",
)
def _(loss, mask):
    return (loss * mask).sum() / max(mask.sum(), 1)


@masked_mean.mistake(
    "empty-not-handled",
    "the result is NaN if no step counts",
    "The mean of no numbers is 0 / 0. The docstring says what to return then.",
)
def _(loss, mask):
    return _total(loss, mask) / mask.sum()


@masked_mean.form("empty-not-handled")
def _(loss, mask):
    return np.float64(_total(loss, mask)) / mask.sum()


@masked_mean.mistake(
    "counts-non-zero-losses",
    "the number of non-zero losses is taken for the number of steps that count",
    "A real step may have the loss 0, and it counts. The mask tells how many there are.",
)
def _(loss, mask):
    kept = np.where(mask, loss, 0)
    count = np.count_nonzero(kept)
    return kept.sum() / count if count else 0.0


@masked_mean.form("counts-non-zero-losses")
def _(loss, mask):
    kept = np.where(mask, loss, 0)
    count = np.count_nonzero(kept > 0)
    return kept.sum() / count if count else 0.0


@masked_mean.mistake(
    "one-added-to-count",
    "1 is added to the number of steps to avoid a division by 0",
    "That makes every mean too small. Treat the case without any step by itself.",
)
def _(loss, mask):
    return _total(loss, mask) / (mask.sum() + 1)


@masked_mean.mistake(
    "one-length-for-all",
    "the sum is divided by B times the longest length",
    "That counts the padding up to the longest sequence. Of how many numbers is it the mean?",
)
def _(loss, mask):
    count = mask.any(axis=1).sum() * mask.shape[1]
    return _total(loss, mask) / count if count else 0.0


@masked_mean.mistake(
    "loss-overwritten",
    "the caller's loss is set to 0 at masked steps",
    "The mean is right, but the caller's array has lost its values. Work on a copy.",
)
def _(loss, mask):
    loss[~mask] = 0
    return loss.sum() / max(mask.sum(), 1)


@masked_mean.mistake(
    "not-reduced",
    "one number per sequence is returned",
    "Training needs one number: the mean over all real steps of all sequences.",
)
def _(loss, mask):
    return np.where(mask, loss, 0).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)


@masked_mean.variant("boolean index")
def _(loss, mask):
    kept = loss[mask]
    return kept.mean() if len(kept) else 0.0


@masked_mean.variant("loops")
def _(loss, mask):
    total = count = 0
    for row, keep in zip(loss, mask, strict=True):
        for value, counts in zip(row, keep, strict=True):
            if counts:
                total, count = total + value, count + 1
    return total / max(count, 1)


@masked_mean.variant("masked array")
def _(loss, mask):
    return float(np.ma.masked_array(loss, ~np.asarray(mask)).filled(0).sum()) / max(mask.sum(), 1)


@masked_mean.variant("np.mean with where")
def _(loss, mask):
    return np.mean(loss, where=mask) if np.any(mask) else 0


@masked_mean.variant("nanmean")
def _(loss, mask):
    return np.nan_to_num(np.nanmean(np.where(mask, loss, np.nan)))


@masked_mean.variant("torch inside")
def _(loss, mask):
    import torch

    kept = torch.tensor(loss)[torch.tensor(mask)]
    return kept.sum().item() / max(len(kept), 1)


def _packing_lengths(rng, s):
    return np.sort(draw_lengths(rng, s))[::-1].copy()


def _pack_cases(rng, s):
    lengths = _packing_lengths(rng, s)
    x = rng.integers(1, 99, (s.T, s.B))
    x[0] = 0
    yield Case((x, lengths), "tokens, some of them 0")
    x = normal(rng, s.T, s.B, s.D)
    x[0] = 0.0
    yield Case((x, lengths), "the first inputs are 0")
    yield Case((normal(rng, s.T + 2, s.B, s.D), lengths), "padded beyond the longest sequence")
    yield Case((normal(rng, s.T, s.B, s.D), np.full(s.B, s.T)), "there is no padding")
    yield Case((normal(rng, s.T, s.B, s.D), np.ones(s.B, int)), "all lengths are 1")
    yield Case((normal(rng, 5, 4, s.D), np.array([5, 3, 3, 2])), "two sequences are equally long")


pack = Exercise(
    name="pack",
    reference=sequences.pack,
    section=PACKING,
    axes={"x": "T B D", "lengths": "B"},
    returns=("data: N D", "batch_sizes: T"),
    draw=lambda rng, s: (normal(rng, s.T, s.B, s.D), _packing_lengths(rng, s)),
    special=_pack_cases,
)


def _sizes(lengths):
    return _mask(lengths, lengths.max()).sum(axis=1)


@pack.mistake(
    "sequence-after-sequence",
    "the data hold one sequence after the other",
    "The network needs all inputs of step 0 together, then all of step 1: which axis must be the "
    "outer one?",
)
def _(x, lengths):
    return np.concatenate([x[:n, i] for i, n in enumerate(lengths)]), _sizes(lengths)


@pack.mistake(
    "lengths-for-batch-sizes",
    "the lengths are returned in place of the batch sizes",
    "There is one batch size per *step*: how many sequences are still running then?",
)
def _(x, lengths):
    return sequences.pack(x, lengths)[0], lengths.copy()


@pack.mistake(
    "padding-kept",
    "the padding is part of the data",
    "Nothing is saved if the padding stays. Which entries of step t belong to sequences that are "
    "long enough?",
)
def _(x, lengths):
    T, B = x.shape[:2]
    return x.reshape(T * B, *x.shape[2:]), np.full(T, B)


@pack.form("padding-kept")
def _(x, lengths):
    return x.reshape(-1, *x.shape[2:]), _sizes(lengths)


@pack.mistake(
    "empty-steps",
    "there are batch sizes of 0 after the longest sequence",
    "If the array is padded beyond its longest sequence, the last steps are empty, and a "
    "recurrent network need not run them. Where does the last sequence end?",
)
def _(x, lengths):
    return sequences.pack(x, lengths)[0], _mask(lengths, len(x)).sum(axis=1)


@pack.mistake(
    "zeros-dropped",
    "inputs that are 0 are taken for padding",
    "A real input may be 0, and padding need not be. The lengths tell which steps are real.",
)
def _(x, lengths):
    real = (x != 0).reshape(*x.shape[:2], -1).any(axis=-1)
    return x[real], real.sum(axis=1)


@pack.form("zeros-dropped")
def _(x, lengths):
    real = (x != 0).reshape(*x.shape[:2], -1).any(axis=-1)
    return x[real], real.sum(axis=1)[: lengths.max()]


@pack.mistake(
    "one-step-too-many",
    "one step of padding per sequence is kept",
    "A sequence of length 1 runs at t = 0 only. For which t does your comparison hold?",
)
def _(x, lengths):
    mask = np.arange(len(x))[:, None] <= lengths
    return x[mask], mask.sum(axis=1)


@pack.form("one-step-too-many")
def _(x, lengths):
    mask = np.arange(lengths.max())[:, None] <= lengths
    return x[: len(mask)][mask], mask.sum(axis=1)


@pack.mistake(
    "last-step-missing",
    "the last step of every sequence is dropped",
    "A sequence of length 1 runs at t = 0. Count the steps that yours has.",
)
def _(x, lengths):
    mask = _mask(lengths - 1, max(lengths.max() - 1, 1))
    return x[: len(mask)][mask], mask.sum(axis=1)


@pack.form("last-step-missing")
def _(x, lengths):
    mask = _mask(lengths - 1, lengths.max())
    return x[: len(mask)][mask], mask.sum(axis=1)


@pack.form("last-step-missing")
def _(x, lengths):
    mask = _mask(lengths - 1, lengths.max() - 1)
    return x[: len(mask)][mask], mask.sum(axis=1)


@pack.mistake(
    "cumulative-sizes",
    "the batch sizes are added up",
    "You return where each step *ends* in the data. How many rows does each step have?",
)
def _(x, lengths):
    data, batch_sizes = sequences.pack(x, lengths)
    return data, np.cumsum(batch_sizes)


@pack.mistake(
    "start-of-each-step",
    "the batch sizes are the places where the steps begin",
    "You return where each step *starts* in the data. How many rows does each step have?",
)
def _(x, lengths):
    data, batch_sizes = sequences.pack(x, lengths)
    return data, np.cumsum(batch_sizes) - batch_sizes


@pack.mistake(
    "ends-counted",
    "the batch sizes count the sequences that end at each step",
    "A sequence of length 3 runs at t = 0, 1 and 2, so it counts three times.",
)
def _(x, lengths):
    return sequences.pack(x, lengths)[0], np.bincount(lengths, minlength=lengths.max() + 1)[1:]


@pack.mistake(
    "sorted-again",
    "the batch is put in ascending order",
    "With the longest sequence first, those still running at step t are the first ones of the "
    "batch. The caller has sorted already.",
)
def _(x, lengths):
    mask = _mask(lengths[::-1], lengths.max())
    return x[: len(mask), ::-1][mask], mask.sum(axis=1)


@pack.mistake(
    "time-reversed",
    "the data begin with the last step",
    "Step 0 comes first, with the largest batch.",
)
def _(x, lengths):
    mask = _mask(lengths, lengths.max())[::-1]
    return x[: len(mask)][::-1][mask], mask.sum(axis=1)


@pack.mistake(
    "outputs-exchanged",
    "batch sizes and data are returned in the wrong order",
    "The data come first, the batch sizes second.",
)
def _(x, lengths):
    return sequences.pack(x, lengths)[::-1]


@pack.mistake(
    "all-sequences-at-every-step",
    "the batch size is B at every step",
    "The batch shrinks as sequences end: the sum of the batch sizes must be the number of rows.",
)
def _(x, lengths):
    return sequences.pack(x, lengths)[0], np.full(lengths.max(), len(lengths))


@pack.mistake(
    "cut-to-shortest",
    "only the steps that all sequences have are kept",
    "Steps after the end of the shortest sequence are lost. Packing drops padding, no data.",
)
def _(x, lengths):
    T = lengths.min()
    return x[:T].reshape(-1, *x.shape[2:]), np.full(T, len(lengths))


@pack.variant("loop over steps")
def _(x, lengths):
    data, sizes = [], []
    for t in range(max(lengths)):
        running = int(np.sum(lengths > t))
        data.append(x[t, :running])
        sizes.append(running)
    return np.concatenate(data), np.array(sizes)


@pack.variant("nested loops and lists")
def _(x, lengths):
    rows = [x[t, i] for t in range(lengths[0]) for i in range(len(lengths)) if t < lengths[i]]
    return rows, [sum(1 for n in lengths if n > t) for t in range(lengths[0])]


@pack.variant("indices")
def _(x, lengths):
    t = np.concatenate([np.arange(n) for n in lengths])
    i = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((i, t))
    return x[t[order], i[order]], np.bincount(t)


@pack.variant("sizes by searching")
def _(x, lengths):
    ascending = np.sort(lengths)
    sizes = len(lengths) - np.searchsorted(ascending, np.arange(lengths[0]), side="right")
    return np.vstack([np.reshape(x[t, :n], (n, -1)) for t, n in enumerate(sizes)]).reshape(
        sizes.sum(), *x.shape[2:]
    ), sizes


@pack.variant("torch inside")
def _(x, lengths):
    import torch

    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(np.array(x)), torch.tensor(np.array(lengths))
    )
    return packed.data.numpy(), packed.batch_sizes.numpy()


def _reverse_cases(rng, s):
    yield Case((rng.integers(0, 99, (s.T, s.B)), draw_lengths(rng, s)), "tokens")
    lengths = draw_lengths(rng, s)
    lengths[-1] = 0
    yield Case((normal(rng, s.T, s.B, s.D), lengths), "one sequence is empty")
    x = normal(rng, s.T + 2, s.B, s.D)
    yield Case((x, draw_lengths(rng, s)), "every sequence is followed by padding")
    yield Case((normal(rng, s.T, s.B, s.D), np.full(s.B, s.T)), "there is no padding")


def _inputs(rng, s):
    return normal(rng, s.T, s.B, s.D), _states(rng, s)[1]


reverse_padded = Exercise(
    name="reverse_padded",
    reference=sequences.reverse_padded,
    section=DIRECTION,
    axes={"x": "T B D", "lengths": "B"},
    returns=("reversed: T B D",),
    draw=_inputs,
    special=_reverse_cases,
)


def _gather(x, source):
    return x[source, np.arange(x.shape[1])]


@reverse_padded.mistake(
    "array-reversed",
    "the whole array is reversed, padding included",
    "The padding of a short sequence comes first in your result, so the backward network starts "
    "in it. Reverse each sequence within its own length.",
)
def _(x, lengths):
    return x[::-1].copy()


@reverse_padded.mistake(
    "wraps-into-padding",
    "real steps are right, but the padding comes out reversed too",
    "`lengths - 1 - t` is negative at padded steps, and a negative index counts from the end. "
    "What should stand there is what stood there before.",
)
def _(x, lengths):
    return _gather(x, lengths - 1 - np.arange(len(x))[:, None])


@reverse_padded.mistake(
    "padding-filled-with-first-step",
    "the padding is filled with the sequence's first step",
    "Clipping the index at 0 reads step 0 again and again. The padding should stay as it is.",
)
def _(x, lengths):
    return _gather(x, np.maximum(lengths - 1 - np.arange(len(x))[:, None], 0))


@reverse_padded.mistake(
    "padding-zeroed",
    "the padding is set to 0",
    "The padding may hold anything, and it stays where and what it is.",
)
def _(x, lengths):
    y = sequences.reverse_padded(x, lengths)
    y[~_mask(lengths, len(x))] = 0
    return y


@reverse_padded.mistake(
    "one-step-late",
    "the first step of the result is padding",
    "A sequence of length n ends at step n - 1. From where does your reading start?",
)
def _(x, lengths):
    t = np.arange(len(x))[:, None]
    return _gather(x, np.where(t < lengths, np.minimum(lengths - t, len(x) - 1), t))


@reverse_padded.mistake(
    "last-step-left-out",
    "the last real step stays where it is",
    "Your reversal covers one step too few: the last step of a sequence must come first.",
)
def _(x, lengths):
    return sequences.reverse_padded(x, np.maximum(lengths - 1, 0))


@reverse_padded.mistake(
    "one-length-for-all",
    "every sequence is reversed within the length of the first",
    "Each sequence has a length of its own.",
)
def _(x, lengths):
    return sequences.reverse_padded(x, np.full_like(lengths, lengths[0]))


@reverse_padded.mistake(
    "longest-for-all",
    "every sequence is reversed within the longest length",
    "That is right for the longest sequence only; the others still begin with padding.",
)
def _(x, lengths):
    return sequences.reverse_padded(x, np.full_like(lengths, lengths.max()))


@reverse_padded.mistake(
    "not-reversed",
    "nothing is reversed",
    "Your result equals the input. If you work on a slice, make sure that it is written back.",
)
def _(x, lengths):
    return x.copy()


@reverse_padded.mistake(
    "batch-reversed",
    "the order of the sequences is reversed, not that of the steps",
    "Axis 0 is time. Sequence i must stay sequence i.",
)
def _(x, lengths):
    return x[:, ::-1].copy()


@reverse_padded.form("batch-reversed")
def _(x, lengths):
    return sequences.reverse_padded(x, lengths)[:, ::-1]


@reverse_padded.mistake(
    "wrong-sequence",
    "the steps are chosen by the lengths, but all from the first sequence",
    "Both indices must run together: which step, and of which sequence.",
)
def _(x, lengths):
    t = np.arange(len(x))[:, None]
    return x[np.where(t < lengths, lengths - 1 - t, t), 0]


@reverse_padded.mistake(
    "rolled",
    "each sequence is shifted in a circle, not reversed",
    "Your first step is right and the ones after it run forwards. Reversing turns the whole order "
    "round.",
)
def _(x, lengths):
    y = x.copy()
    for i, n in enumerate(lengths):
        y[:n, i] = np.roll(x[:n, i], 1, axis=0)
    return y


@reverse_padded.mistake(
    "moved-to-the-end",
    "each sequence is reversed, and the padding is moved to the front",
    "The backward network would read the padding first. It stays at the end.",
)
def _(x, lengths):
    y = np.empty_like(x)
    for i, n in enumerate(lengths):
        y[:, i] = np.concatenate([x[n:, i], x[:n, i][::-1]])
    return y


@reverse_padded.mistake(
    "half-overwritten",
    "steps are overwritten before they are read",
    "In the second half of the loop you read what you wrote in the first. Read from the old array "
    "and write into a new one.",
)
def _(x, lengths):
    y = x.copy()
    for i, n in enumerate(lengths):
        for t in range(n):
            y[t, i] = y[n - 1 - t, i]
    return y


@reverse_padded.mistake(
    "x-overwritten",
    "the caller's array is reversed in place",
    "The result is right, but the forward direction still needs the old `x`. Return a new array.",
)
def _(x, lengths):
    for i, n in enumerate(lengths):
        x[:n, i] = x[:n, i][::-1].copy()
    return x


@reverse_padded.variant("loop over sequences")
def _(x, lengths):
    y = np.array(x)
    for i, n in enumerate(lengths):
        y[:n, i] = x[:n, i][::-1]
    return y


@reverse_padded.variant("concatenated columns")
def _(x, lengths):
    columns = [np.concatenate([np.flip(x[:n, i], axis=0), x[n:, i]]) for i, n in enumerate(lengths)]
    return np.stack(columns, axis=1)


@reverse_padded.variant("take_along_axis")
def _(x, lengths):
    t = np.arange(len(x)).reshape(-1, 1)
    source = np.where(t < lengths, lengths - 1 - t, t)
    return np.take_along_axis(x, source.reshape(*source.shape, *[1] * (x.ndim - 2)), axis=0)


@reverse_padded.variant("sort by a key")
def _(x, lengths):
    y = np.empty_like(x)
    for i in range(x.shape[1]):
        keys = [-t if t < lengths[i] else t for t in range(len(x))]
        y[:, i] = x[np.argsort(keys, kind="stable"), i]
    return y


@reverse_padded.variant("modulo")
def _(x, lengths):
    T = len(x)
    rolled = x[::-1]  # sequence i begins T - lengths[i] steps too late
    t = np.arange(T)[:, None]
    source = np.where(t < lengths, (t + T - lengths) % T, T - 1 - t)
    return rolled[source, np.arange(x.shape[1])]


@reverse_padded.variant("torch inside")
def _(x, lengths):
    import torch

    y = torch.tensor(np.array(x))
    for i, n in enumerate(lengths):
        y[:n, i] = y[:n, i].flip(0)
    return y.numpy()
