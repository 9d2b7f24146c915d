"""Assignment 10: how good a language model is, how to draw from it, and whether it copies."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np

from rnncourse import decoding, language_model, metrics
from rnncourse.exercises.spec import Case, Exercise

PERPLEXITY = "11-language-models: Perplexity"
SAMPLING = "11-language-models: Sampling"
NGRAMS = "11-language-models: N-grams"
COPYING = "11-language-models: Copying"


def _log_probs(rng, s):
    return (-0.3 - 3 * rng.random((s.T, s.B)),)


def _length_mask(s):
    """Return a mask whose sequences differ in length, some of them shorter than T."""
    lengths = 1 + np.arange(s.B) % s.T
    return np.arange(s.T)[:, None] < lengths


def _perplexity_cases(rng, s):
    yield Case((_log_probs(rng, s)[0], _length_mask(s)), "some tokens are masked")
    (log_probs,) = _log_probs(rng, s)
    log_probs[~_length_mask(s)] = np.nan
    yield Case((log_probs, _length_mask(s)), "masked entries are NaN")
    (log_probs,) = _log_probs(rng, s)
    log_probs[0, 0] = 0.0
    mask = np.ones((s.T, s.B), bool)
    mask[-1, -1] = False
    yield Case((log_probs, mask), "one token was certain")
    yield Case((_log_probs(rng, s)[0], np.zeros((s.T, s.B), bool)), "no token counts")
    yield Case((np.full((s.T, s.B), -np.log(27)),), "27 tokens are equally probable")
    yield Case((-2 - rng.random((400, 3)),), "a text of 1200 tokens")
    yield Case((-1 - rng.random(7),), "one sequence without a batch axis")
    yield Case((-9 - rng.random((s.T, s.B)),), "every token came as a surprise")
    alone = np.arange(s.T * s.B).reshape(s.T, s.B) == rng.integers(1, s.T * s.B)
    yield Case((_log_probs(rng, s)[0], alone), "one token counts")


perplexity = Exercise(
    name="perplexity",
    reference=metrics.perplexity,
    section=PERPLEXITY,
    axes={"log_probs": "T B", "mask": "T B"},
    returns=("perplexity",),
    draw=_log_probs,
    special=_perplexity_cases,
)


def _weights(log_probs, mask):
    return np.ones(log_probs.shape, bool) if mask is None else mask


def _mean(values, mask):
    """Return the mean over the entries that count, 0 without any."""
    mask = _weights(values, mask)
    return np.where(mask, values, 0).sum() / max(mask.sum(), 1)


@perplexity.mistake(
    "sign",
    "the minus sign is missing",
    "Your perplexity is below 1, but no token can be easier to guess than one that is certain. "
    "Log-probabilities are negative.",
)
def _(log_probs, mask=None):
    return np.exp(_mean(log_probs, mask))


@perplexity.mistake(
    "not-exponentiated",
    "the mean loss itself is returned",
    "That is the cross-entropy in nats. Perplexity is the number of equally likely choices that "
    "would give this loss.",
)
def _(log_probs, mask=None):
    return -_mean(log_probs, mask)


@perplexity.mistake(
    "base-two",
    "2 is raised to a loss in nats",
    "The log-probabilities are natural. Base and logarithm must fit: for uniform guesses among 27 "
    "the perplexity is 27.",
)
def _(log_probs, mask=None):
    return 2.0 ** -_mean(log_probs, mask)


@perplexity.mistake(
    "mean-of-perplexities",
    "the exponential is taken of each token, and then the mean",
    "A single improbable token dominates your result. Take the mean of the *logarithms* first.",
)
def _(log_probs, mask=None):
    log_probs = np.where(_weights(log_probs, mask), log_probs, 0)
    return _mean(np.exp(-log_probs), mask) if mask is None or mask.any() else 1.0


@perplexity.mistake(
    "mean-of-sequence-perplexities",
    "the perplexity of each sequence is computed, and then their mean",
    "The mean of perplexities is larger than the perplexity of all tokens together. Average the "
    "log-probabilities of everything, then exponentiate once.",
)
def _(log_probs, mask=None):
    weights = _weights(log_probs, mask)
    kept = np.where(weights, log_probs, 0).sum(axis=0)
    return np.exp(-kept / np.maximum(weights.sum(axis=0), 1)).mean()


@perplexity.mistake(
    "mean-of-step-perplexities",
    "the perplexity of each time step is computed, and then their mean",
    "The mean of perplexities is larger than the perplexity of all tokens together. Average the "
    "log-probabilities of everything, then exponentiate once.",
)
def _(log_probs, mask=None):
    weights = _weights(log_probs, mask)
    if log_probs.ndim == 1:
        return np.exp(-log_probs).mean()
    kept = np.where(weights, log_probs, 0).sum(axis=1)
    return np.exp(-kept / np.maximum(weights.sum(axis=1), 1)).mean()


@perplexity.mistake(
    "mean-of-sequence-means",
    "each sequence is averaged first, so that short ones weigh too much",
    "A token of a short sequence counts more than one of a long sequence in your version. Take one "
    "mean over all tokens that count.",
)
def _(log_probs, mask=None):
    weights = _weights(log_probs, mask)
    kept = np.where(weights, log_probs, 0).sum(axis=0)
    return np.exp(-(kept / np.maximum(weights.sum(axis=0), 1)).mean())


@perplexity.mistake(
    "mask-ignored",
    "the mask is not used",
    "Padding is easy to predict, so your perplexity is that of another text.",
)
def _(log_probs, mask=None):
    return np.exp(-log_probs.mean())


@perplexity.mistake(
    "divided-by-all",
    "the sum over the tokens that count is divided by all entries",
    "More padding makes your perplexity better. By how many tokens must the sum be divided?",
)
def _(log_probs, mask=None):
    return np.exp(-np.where(_weights(log_probs, mask), log_probs, 0).sum() / log_probs.size)


@perplexity.mistake(
    "mask-inverted",
    "the mask is read the wrong way round",
    "True means that a token counts.",
)
def _(log_probs, mask=None):
    return np.exp(-_mean(log_probs, None if mask is None else ~mask))


@perplexity.mistake(
    "sum",
    "the log-probabilities are summed, not averaged",
    "A text twice as long has the square of your perplexity. It is a measure per token.",
)
def _(log_probs, mask=None):
    return np.exp(-np.where(_weights(log_probs, mask), log_probs, 0).sum())


@perplexity.mistake(
    "product-underflows",
    "the probabilities are multiplied, which underflows for a long text",
    "The product of 1200 probabilities is 0 in floating point. Stay with logarithms until the end.",
)
def _(log_probs, mask=None):
    weights = _weights(log_probs, mask)
    product = np.prod(np.exp(np.where(weights, log_probs, 0)))
    with np.errstate(divide="ignore"):
        return product ** (-1 / max(weights.sum(), 1))


@perplexity.mistake(
    "nan-times-zero",
    "masked entries are multiplied by 0, which leaves NaN where they are NaN",
    "0 · NaN is NaN. Select the tokens that count rather than multiplying the others away.",
)
def _(log_probs, mask=None):
    weights = _weights(log_probs, mask)
    return np.exp(-(log_probs * weights).sum() / max(weights.sum(), 1))


@perplexity.mistake(
    "empty-not-handled",
    "the result is NaN if no token counts",
    "The mean of no numbers is 0 / 0. The docstring says what to return then.",
)
def _(log_probs, mask=None):
    weights = _weights(log_probs, mask)
    return np.exp(-np.where(weights, log_probs, 0).sum() / weights.sum())


@perplexity.form("empty-not-handled")
def _(log_probs, mask=None):
    weights = _weights(log_probs, mask)
    return np.exp(-np.where(weights, log_probs, 0).sum() / max(weights.sum(), 1)) * weights.any()


@perplexity.mistake(
    "reciprocal-of-mean-probability",
    "1 over the mean probability is returned",
    "Perplexity is 1 over the *geometric* mean of the probabilities: average their logarithms.",
)
def _(log_probs, mask=None):
    log_probs = np.where(_weights(log_probs, mask), log_probs, 0)
    return 1 / _mean(np.exp(log_probs), mask) if mask is None or mask.any() else 1.0


@perplexity.mistake(
    "entropy-of-the-numbers",
    "each log-probability is weighted with its probability",
    "The tokens were drawn from the text already, so each counts once. Weighting with the model's "
    "own probability gives the model's opinion of itself.",
)
def _(log_probs, mask=None):
    log_probs = np.where(_weights(log_probs, mask), log_probs, 0)
    return np.exp(-(np.exp(log_probs) * log_probs).sum())


@perplexity.variant("boolean index")
def _(log_probs, mask=None):
    kept = log_probs if mask is None else log_probs[mask]
    return np.exp(-kept.mean()) if kept.size else 1.0


@perplexity.variant("loops")
def _(log_probs, mask=None):
    total, count = 0.0, 0
    for index in np.ndindex(log_probs.shape):
        if mask is None or mask[index]:
            total -= log_probs[index]
            count += 1
    return float(np.exp(total / count)) if count else 1


@perplexity.variant("bits")
def _(log_probs, mask=None):
    weights = np.ones_like(log_probs, dtype=bool) if mask is None else mask
    bits = np.sum(log_probs / np.log(2), where=weights) / max(np.sum(weights), 1)
    return 2.0**-bits


@perplexity.variant("nanmean")
def _(log_probs, mask=None):
    values = log_probs if mask is None else np.where(mask, log_probs, np.nan)
    return np.exp(-np.nan_to_num(np.nanmean(values)))


@perplexity.variant("torch inside")
def _(log_probs, mask=None):
    import torch

    kept = torch.tensor(np.array(log_probs))
    kept = kept if mask is None else kept[torch.tensor(np.array(mask))]
    return kept.mean().neg().exp().item() if len(kept) else 1.0


bits_per_character = Exercise(
    name="bits_per_character",
    reference=metrics.bits_per_character,
    section=PERPLEXITY,
    axes={"loss": ""},
    returns=("bits",),
    draw=lambda rng, s: (0.4 + 3 * rng.random(),),
    sizes=({}, {"again": 1}),
    special=lambda rng, s: [
        Case((float(np.log(8)),), "8 equally likely characters"),
        Case((0.0,), "a perfect model"),
        Case((6.5,), "a loss above 6"),
    ],
)


@bits_per_character.mistake(
    "multiplied",
    "the loss is multiplied by log 2",
    "A bit is smaller than a nat, so there must be more of them.",
)
def _(loss):
    return loss * np.log(2)


@bits_per_character.mistake(
    "log2-of-loss",
    "the base-2 logarithm of the loss is taken",
    "The loss is a mean of logarithms already. Only their base has to change.",
)
def _(loss):
    with np.errstate(divide="ignore"):
        return np.log2(loss)


@bits_per_character.mistake(
    "power-of-two",
    "2 is raised to the loss",
    "That resembles a perplexity. A change of units is a factor.",
)
def _(loss):
    return 2.0**loss


@bits_per_character.mistake(
    "perplexity",
    "the perplexity is returned",
    "Perplexity is a number of choices; bits are their logarithm.",
)
def _(loss):
    return np.exp(loss)


@bits_per_character.mistake(
    "unchanged",
    "the loss is returned in nats",
    "With 8 equally likely characters the answer is 3: one bit halves the choices.",
)
def _(loss):
    return loss


@bits_per_character.mistake(
    "base-ten",
    "the loss is divided by log 10",
    "That gives decimal digits per character. A bit has two values.",
)
def _(loss):
    return loss / np.log(10)


@bits_per_character.mistake(
    "divided-by-two",
    "the loss is divided by 2",
    "A change of base divides by the *logarithm* of the new base.",
)
def _(loss):
    return loss / 2


@bits_per_character.mistake(
    "bytes",
    "the result is divided by 8",
    "That is bytes per character.",
)
def _(loss):
    return loss / np.log(2) / 8


@bits_per_character.variant("log2 of e")
def _(loss):
    return loss * np.log2(np.e)


@bits_per_character.variant("log2 of the perplexity")
def _(loss):
    return np.log2(np.exp(loss))


@bits_per_character.variant("logarithm of a power")
def _(loss):
    return np.array(loss) / np.logaddexp(0, 0)


GAPS = np.array([2.2, 1.4, 0.8, 0.2, -0.5, -1.2])
ROWS = 400  # of each of the two kinds of rows in a batch


def _batch_of(rng, logits, shift=-3.0):
    """Return rows of two kinds in turn: the same logits in two orders, at different levels.

    Both orders are far from sorted, so that a place in the order is not taken for a token.
    """
    falling = np.sort(_softmax(logits / 2))[::-1]
    far = 0.4 * (falling[0] - falling[-1])
    for _ in range(1000):
        first = rng.permutation(logits)
        second = np.roll(first, 1 + rng.integers(len(logits) - 1))
        rows = [_softmax(row / 2) for row in (first, second)]
        if all(np.abs(p - q).max() > far for p in rows for q in (falling, falling[::-1])):
            break
    return np.tile([first, second + shift], (ROWS, 1))


def _generator(rng):
    return np.random.default_rng(rng.integers(2**63))


def _sample_cases(rng, s):
    def case(logits, temperature, top_k, note):
        return Case((logits, temperature, top_k, _generator(rng)), note)

    yield case(_batch_of(rng, GAPS), 0.4, None, "a low temperature")
    yield case(_batch_of(rng, GAPS), 2.0, None, "a high temperature")
    yield case(_batch_of(rng, GAPS), 1.0, 2, "top_k = 2")
    yield case(_batch_of(rng, GAPS), 2.0, 3, "top_k = 3, and a high temperature")
    yield case(_batch_of(rng, GAPS), 1.0, 1, "top_k = 1")
    yield case(_batch_of(rng, GAPS), 1.0, 9, "top_k is larger than V")
    ties = np.array([0.0, -0.5, -0.5, -0.5, -1.1, -1.3])
    yield case(_batch_of(rng, ties), 1.0, 2, "three logits tie for the last place")
    yield case(_batch_of(rng, GAPS) + 2000, 1.0, None, "logits near 2000")
    yield case(_batch_of(rng, GAPS, shift=-2000.0), 1.0, None, "rows at very different levels")
    impossible = GAPS.copy()
    impossible[0] = -np.inf
    yield case(_batch_of(rng, impossible), 1.0, None, "one logit is -inf")
    yield case(rng.permutation(GAPS), 1.0, None, "one row of logits")
    yield case(rng.permutation(GAPS), 2.0, 3, "one row of logits, top_k = 3")


def _sample_calls(f, logits, temperature, top_k, rng):
    """Call twice with one state of the generator, then with others: many times for a single row."""
    others = copy.deepcopy(rng).integers(2**63, size=20 if logits.ndim == 1 else 1)
    generators = [rng, rng, *map(np.random.default_rng, others)]
    return [f(logits, temperature, top_k, r) for r in generators]


def _softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _cut(logits, top_k):
    """Return logits with -inf outside the top k of their row, ties with the last included."""
    if top_k is None or top_k >= logits.shape[-1]:
        return logits
    return np.where(logits >= np.sort(logits, axis=-1)[..., -max(top_k, 1), None], logits, -np.inf)


def _right(row, temperature, top_k):
    return _softmax(_cut(row, top_k) / temperature)


def _kinds(result, logits):
    """Return the drawn tokens without the repetition, shape (calls, rows, kinds), and the rows."""
    used = np.array([np.asarray(a) for i, a in enumerate(result) if i != 1])
    if logits.ndim == 1:
        return used.reshape(-1, 1, 1), logits[None]
    return used.reshape(len(used), -1, 2), logits[:2]


def _verify_sample(result, logits, temperature, top_k, rng):
    V = logits.shape[-1]
    for a in map(np.asarray, result):
        if a.shape != logits.shape[:-1]:
            wanted = "a single number, shape ()" if logits.ndim == 1 else f"{logits.shape[:-1]}"
            return f"token has shape {a.shape}, expected {wanted}."
        if a.dtype.kind not in "iu":
            return f"token has dtype {a.dtype}, but an integer is expected."
        if a.size and not 0 <= a.min() <= a.max() < V:
            return f"A token lies outside [0, V = {V})."
    drawn, rows = _kinds(result, logits)
    for kind, row in enumerate(rows):
        tokens, p = drawn[..., kind].ravel(), _right(row, temperature, top_k)
        counts, n = np.bincount(tokens, minlength=V), tokens.size
        if counts[p == 0].any():
            return (
                f"A token was drawn that has no chance: {np.count_nonzero(p)} of {V} logits are "
                "to be considered in its row."
            )
        far = np.abs(counts - n * p) > 6.5 * np.sqrt(n * p * (1 - p)) + 3
        if far.any():
            worst = int(np.argmax(np.abs(counts / n - p)))
            return (
                f"Of {n} tokens drawn for the same logits, {counts[worst] / n:.0%} are the one "
                f"with probability {p[worst]:.0%}."
            )
        if logits.ndim == 2:
            same = np.mean(drawn[:, 1:, kind] == drawn[:, :-1, kind])
            if abs(same - p @ p) > 0.15:
                return "The rows of a batch are not drawn independently of each other."
    if (_right(rows[0], temperature, top_k) < 0.99).all():
        first, again, *others = map(np.asarray, result)
        if not np.array_equal(first, again):
            return "Two calls with the same state of `rng` give different results."
        if all(np.array_equal(first, a) for a in others):
            return "Calls with different generators give the same result."
    return None


def _hypotheses(row, temperature, top_k):
    """Return the distributions that known mistakes draw from, the right one first."""
    V = len(row)
    k = V if top_k is None else min(top_k, V)
    order = np.argsort(-row, kind="stable")
    right = _right(row, temperature, top_k)
    zeroed = np.where(_cut(row, top_k) == row, row, 0) / temperature
    smallest = np.where(row <= np.sort(row)[k - 1], row, -np.inf)
    return [
        right,
        _right(row, 1.0, top_k),
        _softmax(_cut(row, top_k) * temperature),
        np.eye(V)[order[0]],
        _right(row, temperature, None),
        _right(row, temperature, k + 1),
        _right(row, temperature, max(k - 1, 1) if k < V else V),
        _softmax(smallest / temperature),
        (right > 0) / np.count_nonzero(right),
        _softmax(zeroed),
        right[order],
        right[order[::-1]],
        np.full(V, 1 / V),
    ]


def _sample_fingerprint(result, logits, temperature, top_k, rng):
    arrays = [np.asarray(a) for a in result]
    first, again, *others = arrays
    V = logits.shape[-1]
    if first.shape != logits.shape[:-1]:
        return np.array([-1.0, first.ndim])
    if first.dtype.kind not in "iu" or min(a.min() for a in arrays) < 0:
        return np.array([-2.0])
    if max(a.max() for a in arrays) >= V:
        return np.array([-3.0])
    drawn, rows = _kinds(result, logits)
    certain = (_right(rows[0], temperature, top_k) > 0.99).any()
    marks = [len(np.unique(drawn)) == 1] if logits.ndim == 1 else []
    for kind, row in enumerate(rows if logits.ndim == 2 else ()):
        tokens = drawn[..., kind]
        if not certain and (tokens == tokens[:, :1]).all():
            return np.array([-4.0])  # which token the whole batch got may be luck
        share = np.bincount(tokens.ravel(), minlength=V) / tokens.size
        distances = [np.abs(share - p).max() for p in _hypotheses(row, temperature, top_k)]
        near = int(np.argmin(distances))
        marks.append(near if distances[near] < 0.1 else -1)
        ties = len(np.unique(row)) < V
        marks.append(np.count_nonzero(share) if ties else 0)
    if not certain and logits.ndim == 2:
        marks.append(np.array_equal(first, again))
        marks.append(all(np.array_equal(first, a) for a in others))
    return np.array(marks, dtype=float)


sample = Exercise(
    name="sample",
    reference=decoding.sample,
    section=SAMPLING,
    axes={"logits": "B V", "temperature": "", "top_k": "", "rng": ""},
    returns=("token",),
    draw=lambda rng, s: (_batch_of(rng, GAPS), 1.0, None, _generator(rng)),
    special=_sample_cases,
    sizes=({},),
    call=_sample_calls,
    verify=_verify_sample,
    fingerprint=_sample_fingerprint,
)


def _draw(p, rng):
    """Draw from each row of probabilities."""
    u = rng.random(p.shape[:-1])
    tokens = (p.cumsum(axis=-1) < u[..., None]).sum(axis=-1)
    return np.minimum(tokens, p.shape[-1] - 1)


@sample.mistake(
    "temperature-ignored",
    "the temperature is not used",
    "At a low temperature the most probable token should win nearly always. Where does the "
    "temperature enter the softmax?",
)
def _(logits, temperature, top_k, rng):
    return _draw(_softmax(_cut(logits, top_k)), rng)


@sample.form("temperature-ignored")
def _(logits, temperature, top_k, rng):
    p = _softmax(_cut(logits, top_k)) / temperature
    return _draw(p / p.sum(axis=-1, keepdims=True), rng)


@sample.mistake(
    "temperature-multiplied",
    "the logits are multiplied by the temperature",
    "A temperature near 0 should sharpen the distribution; yours flattens it.",
)
def _(logits, temperature, top_k, rng):
    return _draw(_softmax(_cut(logits, top_k) * temperature), rng)


@sample.mistake(
    "greedy",
    "the most probable token is always taken",
    "Two calls with different generators give the same token. Sampling is a draw, with every token "
    "at its own probability.",
)
def _(logits, temperature, top_k, rng):
    return logits.argmax(axis=-1)


@sample.mistake(
    "top-k-ignored",
    "`top_k` is not used",
    "In your version every token can be drawn. Which logits must the softmax never see?",
)
def _(logits, temperature, top_k, rng):
    return _draw(_softmax(logits / temperature), rng)


@sample.mistake(
    "one-too-many",
    "one token more than `top_k` has a chance",
    "With `top_k = 1` only the best token may be drawn. Which entry of the sorted logits is the "
    "last to be kept?",
)
def _(logits, temperature, top_k, rng):
    k = None if top_k is None else top_k + 1
    return _draw(_softmax(_cut(logits, k) / temperature), rng)


@sample.mistake(
    "one-too-few",
    "the last of the `top_k` tokens has no chance",
    "Is the k-th largest logit itself kept or not?",
)
def _(logits, temperature, top_k, rng):
    k = None if top_k is None else max(top_k - 1, 1)
    return _draw(_softmax(_cut(logits, k) / temperature), rng)


@sample.mistake(
    "smallest-kept",
    "the `top_k` smallest logits are kept",
    "Sorting puts the smallest first. Which end do you need?",
)
def _(logits, temperature, top_k, rng):
    return (
        _draw(_softmax(-_cut(-logits, top_k) / temperature), rng)
        if top_k is None
        else _draw(
            _softmax(np.where(np.isfinite(_cut(-logits, top_k)), logits, -np.inf) / temperature),
            rng,
        )
    )


@sample.mistake(
    "uniform-among-top-k",
    "all tokens that are kept have the same chance",
    "Which tokens may be drawn is one thing, how often another: their logits still decide.",
)
def _(logits, temperature, top_k, rng):
    p = np.isfinite(_cut(logits, top_k)).astype(float)
    return _draw(p / p.sum(axis=-1, keepdims=True), rng)


@sample.mistake(
    "masked-with-zero",
    "logits outside the top k are set to 0",
    "A logit of 0 is a weight of 1, not of 0. Which logit has the probability 0?",
)
def _(logits, temperature, top_k, rng):
    kept = _cut(logits, top_k)
    return _draw(_softmax(np.where(kept == logits, logits, 0) / temperature), rng)


@sample.mistake(
    "ties-cut",
    "exactly `top_k` tokens are kept, even if others tie with the last",
    "Among equal logits your version prefers an arbitrary one. The docstring says what happens to "
    "ties: compare with the k-th largest value.",
)
def _(logits, temperature, top_k, rng):
    V = logits.shape[-1]
    order = np.argsort(-logits, axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1)
    kept = np.where(rank < (V if top_k is None else top_k), logits, -np.inf)
    return _draw(_softmax(kept / temperature), rng)


@sample.form("ties-cut")
def _(logits, temperature, top_k, rng):
    V = logits.shape[-1]
    rank = np.argsort(np.argsort(logits, axis=-1, kind="stable"), axis=-1)
    kept = np.where(rank >= V - (V if top_k is None else top_k), logits, -np.inf)
    return _draw(_softmax(kept / temperature), rng)


@sample.mistake(
    "overflow",
    "the exponential of a large logit overflows",
    "exp(2000) is infinity. The softmax does not change when a number is subtracted from all "
    "logits of a row.",
)
def _(logits, temperature, top_k, rng):
    e = np.exp(_cut(logits, top_k) / temperature)
    p = e / e.sum(axis=-1, keepdims=True)
    if np.isnan(p).any():
        raise ValueError("probabilities contain NaN")
    return _draw(p, rng)


@sample.form("overflow")
def _(logits, temperature, top_k, rng):
    e = np.exp(_cut(logits, top_k) / temperature)
    p = e / e.sum(axis=-1, keepdims=True)
    return (p.cumsum(axis=-1) < rng.random((*p.shape[:-1], 1))).sum(axis=-1)


@sample.mistake(
    "one-maximum-for-all",
    "one maximum is subtracted from all rows together",
    "A row far below the largest logit of the batch underflows to 0 / 0. Every row has a maximum "
    "of its own.",
)
def _(logits, temperature, top_k, rng):
    e = np.exp((_cut(logits, top_k) - logits.max()) / temperature)
    p = e / e.sum(axis=-1, keepdims=True)
    if np.isnan(p).any():
        raise ValueError("probabilities contain NaN")
    return _draw(p, rng)


@sample.form("one-maximum-for-all")
def _(logits, temperature, top_k, rng):
    e = np.exp((_cut(logits, top_k) - logits.max()) / temperature)
    p = e / e.sum(axis=-1, keepdims=True)
    return (p.cumsum(axis=-1) < rng.random((*p.shape[:-1], 1))).sum(axis=-1)


@sample.mistake(
    "one-draw-for-the-batch",
    "one random number serves the whole batch",
    "Rows with the same logits always get the same token in your version. Every row needs "
    "randomness of its own.",
)
def _(logits, temperature, top_k, rng):
    p = _right_rows(logits, temperature, top_k)
    return np.minimum((p.cumsum(axis=-1) < rng.random()).sum(axis=-1), p.shape[-1] - 1)


def _right_rows(logits, temperature, top_k):
    return _softmax(_cut(logits, top_k) / temperature)


@sample.mistake(
    "threshold-of-the-batch",
    "the k-th largest logit is taken over the whole batch",
    "Each row has its own `top_k` best tokens: over which axis do you sort?",
)
def _(logits, temperature, top_k, rng):
    kept = logits
    if top_k is not None and top_k < logits.size:
        kept = np.where(logits >= np.sort(logits, axis=None)[-top_k], logits, -np.inf)
    top = kept.max(axis=-1, keepdims=True)
    e = np.exp((kept - np.where(np.isfinite(top), top, 0)) / temperature)
    return _draw(e / np.maximum(e.sum(axis=-1, keepdims=True), 1e-300), rng)


@sample.mistake(
    "not-renormalised",
    "probabilities outside the top k are set to 0, and the rest does not sum to 1",
    "What is left must be divided by its sum before you draw from it.",
)
def _(logits, temperature, top_k, rng):
    kept = np.isfinite(_cut(logits, top_k))
    p = np.where(kept, _softmax(logits / temperature), 0)
    if not np.allclose(p.sum(axis=-1), 1):
        raise ValueError("probabilities do not sum to 1")
    return _draw(p, rng)


@sample.form("not-renormalised")
def _(logits, temperature, top_k, rng):
    p = np.where(np.isfinite(_cut(logits, top_k)), _softmax(logits / temperature), 0)
    return (p.cumsum(axis=-1) < rng.random((*p.shape[:-1], 1)) * 0.9999999).sum(axis=-1)


@sample.mistake(
    "rank-returned",
    "the place in the sorted order is returned, not the token",
    "After sorting, position 0 is the most probable token, whichever that was. Translate it back.",
)
def _(logits, temperature, top_k, rng):
    p = _right_rows(logits, temperature, top_k)
    return _draw(-np.sort(-p, axis=-1), rng)


@sample.form("rank-returned")
def _(logits, temperature, top_k, rng):
    return _draw(np.sort(_right_rows(logits, temperature, top_k), axis=-1), rng)


@sample.mistake(
    "own-generator",
    "the random numbers do not come from `rng`",
    "Two calls with the same state of `rng` should agree, so that a sample can be repeated.",
)
def _(logits, temperature, top_k, rng):
    return _draw(_right_rows(logits, temperature, top_k), np.random.default_rng())


@sample.mistake(
    "fixed-seed",
    "the random numbers come from a generator that you seed yourself",
    "Every call draws the same tokens. Draw from the generator that you are given.",
)
def _(logits, temperature, top_k, rng):
    return _draw(_right_rows(logits, temperature, top_k), np.random.default_rng(0))


@sample.mistake(
    "uniform",
    "every token has the same chance",
    "The logits do not matter to your draw.",
)
def _(logits, temperature, top_k, rng):
    return rng.integers(logits.shape[-1], size=logits.shape[:-1])


@sample.mistake(
    "logits-overwritten",
    "the caller's logits are changed",
    "The draw is right, but the caller's array now holds -inf or scaled logits. Work on a copy.",
)
def _(logits, temperature, top_k, rng):
    kept = _cut(logits, top_k) / temperature
    logits[...] = kept + 1.0
    return _draw(_softmax(kept), rng)


@sample.mistake(
    "array-for-one-row",
    "one row of logits gives an array of length 1",
    "For logits of shape (V,) the result is a single integer.",
)
def _(logits, temperature, top_k, rng):
    return _draw(_right_rows(np.atleast_2d(logits), temperature, top_k), rng)


@sample.variant("choice row by row")
def _(logits, temperature, top_k, rng):
    if logits.ndim == 2:
        p = _right_rows(logits, temperature, top_k)
        return [int(rng.choice(p.shape[1], p=row)) for row in p]
    return rng.choice(len(logits), p=_right_rows(logits, temperature, top_k))


@sample.variant("inverse of the distribution function")
def _(logits, temperature, top_k, rng):
    p = _right_rows(logits, temperature, top_k).astype(float)
    return (p.cumsum(axis=-1) / p.sum(axis=-1, keepdims=True) < rng.random((*p.shape[:-1], 1))).sum(
        axis=-1
    )


@sample.variant("exponential race")
def _(logits, temperature, top_k, rng):
    p = _right_rows(logits, temperature, top_k)
    with np.errstate(divide="ignore"):
        return np.argmin(rng.exponential(size=p.shape) / p, axis=-1)


@sample.variant("multinomial")
def _(logits, temperature, top_k, rng):
    p = _right_rows(logits, temperature, top_k).astype(float)
    return rng.multinomial(1, p / p.sum(axis=-1, keepdims=True)).argmax(axis=-1)


@sample.variant("torch seeded from rng")
def _(logits, temperature, top_k, rng):
    import torch

    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    z = torch.as_tensor(np.array(logits)) / temperature
    if top_k is not None and top_k < z.shape[-1]:
        z = z.masked_fill(z < z.topk(top_k).values[..., -1:], -torch.inf)
    return torch.multinomial(z.softmax(-1), 1, generator=generator)[..., 0].numpy()


def _ngram_cases(rng, s):
    tokens = rng.integers(0, 3, 40)
    yield Case((tokens, 2), "tokens of which many repeat")
    yield Case((tokens, 1), "n = 1")
    yield Case(("the white whale the white sail", 3), "a string of characters")
    yield Case((["call", "me", "ishmael", "call", "me", "ishmael", "said", "ahab"], 2), "words")
    yield Case((np.zeros(6, int), 2), "the same token over and over")
    yield Case((np.array([1, 12, 3, 11, 2, 3, 1, 12]), 2), "tokens with one and two digits")
    yield Case((np.arange(5), 5), "n is the length of the text")
    yield Case((np.arange(3), 4), "n is longer than the text")
    yield Case((np.array([2, 1, 2, 1, 1, 2]), 3), "the same tokens in several orders")


ngram_counts = Exercise(
    name="ngram_counts",
    reference=language_model.ngram_counts,
    section=NGRAMS,
    axes={"tokens": "", "n": ""},
    returns=("counts",),
    draw=lambda rng, s: (rng.integers(0, 4, 60), 3),
    sizes=({},),
    special=_ngram_cases,
)


def _items(tokens):
    return tokens.tolist() if isinstance(tokens, np.ndarray) else list(tokens)


def _counts(grams):
    return dict(Counter(grams))


@ngram_counts.mistake(
    "last-missing",
    "the last n-gram is not counted",
    "A text of 5 tokens has one 5-gram. How many starting places are there for n?",
)
def _(tokens, n):
    items = _items(tokens)
    return _counts(tuple(items[i : i + n]) for i in range(len(items) - n))


@ngram_counts.mistake(
    "short-tails",
    "the tails of the text are counted too, though they are shorter than n",
    "A slice past the end is silently cut. At which place does the last complete n-gram start?",
)
def _(tokens, n):
    items = _items(tokens)
    return _counts(tuple(items[i : i + n]) for i in range(len(items)))


@ngram_counts.mistake(
    "not-overlapping",
    "the text is cut into pieces of n tokens",
    "Every token starts an n-gram, so n-grams overlap: `abab` holds `ab`, `ba` and `ab`.",
)
def _(tokens, n):
    items = _items(tokens)
    return _counts(tuple(items[i : i + n]) for i in range(0, len(items) - n + 1, n))


@ngram_counts.mistake(
    "circular",
    "the text is taken to begin again after its end",
    "The last token has no successor. A modulo or `np.roll` joins the end to the beginning.",
)
def _(tokens, n):
    items = _items(tokens)
    return _counts(tuple(items[(i + j) % len(items)] for j in range(n)) for i in range(len(items)))


@ngram_counts.mistake(
    "joined-keys",
    "the keys are strings",
    'Joined to a string, (1, 12) and (11, 2) are both "112". Use tuples as keys.',
)
def _(tokens, n):
    items = _items(tokens)
    return _counts("".join(map(str, items[i : i + n])) for i in range(len(items) - n + 1))


@ngram_counts.mistake(
    "each-once",
    "every n-gram has the count 1",
    "How often an n-gram occurs is what the model learns from. What happens to a key that is "
    "already in your dict?",
)
def _(tokens, n):
    return dict.fromkeys(language_model.ngram_counts(tokens, n), 1)


@ngram_counts.mistake(
    "first-not-counted",
    "the first occurrence of every n-gram is not counted",
    "A key that appears for the first time has been seen once.",
)
def _(tokens, n):
    return {gram: c - 1 for gram, c in language_model.ngram_counts(tokens, n).items()}


@ngram_counts.mistake(
    "frequencies",
    "the counts are divided by their sum",
    "Counts are asked for. Probabilities need smoothing first, or unseen n-grams get 0.",
)
def _(tokens, n):
    counts = language_model.ngram_counts(tokens, n)
    return {gram: c / sum(counts.values()) for gram, c in counts.items()}


@ngram_counts.mistake(
    "order-ignored",
    "the tokens of an n-gram are sorted",
    "`ab` and `ba` are different: order is what an n-gram model knows.",
)
def _(tokens, n):
    items = _items(tokens)
    return _counts(tuple(sorted(items[i : i + n])) for i in range(len(items) - n + 1))


@ngram_counts.mistake(
    "bigrams-always",
    "pairs are counted whatever n is",
    "Your keys have two tokens. How many should they have?",
)
def _(tokens, n):
    return _counts(pairwise(_items(tokens)))


@ngram_counts.mistake(
    "one-token-too-long",
    "runs of n + 1 tokens are counted",
    "A bigram has two tokens: the context has n - 1, and the next token is one of the n.",
)
def _(tokens, n):
    return language_model.ngram_counts(tokens, n + 1)


@ngram_counts.mistake(
    "context-only",
    "runs of n - 1 tokens are counted",
    "The context of an n-gram has n - 1 tokens; the token after it belongs to the n-gram.",
)
def _(tokens, n):
    items = _items(tokens)
    return _counts(tuple(items[i : i + n - 1]) for i in range(len(items) - n + 2))


@ngram_counts.mistake(
    "all-orders",
    "shorter n-grams are counted as well",
    "Only runs of exactly n tokens are asked for.",
)
def _(tokens, n):
    out = {}
    for k in range(1, n + 1):
        out.update(language_model.ngram_counts(tokens, k))
    return out


@ngram_counts.mistake(
    "nested-by-context",
    "the result is a dict of dicts",
    "That is a good way to store a model, but here one dict with tuples of n tokens is asked for.",
)
def _(tokens, n):
    nested = defaultdict(dict)
    for gram, c in language_model.ngram_counts(tokens, n).items():
        nested[gram[:-1]][gram[-1]] = c
    return dict(nested)


@ngram_counts.mistake(
    "unigrams-bare",
    "for n = 1 the keys are tokens, not tuples",
    "A tuple with one token is written `(token,)`. Keys of all n should look alike.",
)
def _(tokens, n):
    counts = language_model.ngram_counts(tokens, n)
    return {gram[0]: c for gram, c in counts.items()} if n == 1 else counts


@ngram_counts.mistake(
    "padded-start",
    "begin signs are put in front of the text",
    "The n-grams of the text itself are asked for; yours holds tokens that are not in it.",
)
def _(tokens, n):
    items = [None] * (n - 1) + _items(tokens)
    return _counts(tuple(items[i : i + n]) for i in range(len(items) - n + 1))


@ngram_counts.variant("zip")
def _(tokens, n):
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


@ngram_counts.variant("dict.get")
def _(tokens, n):
    counts = {}
    for end in range(n, len(tokens) + 1):
        gram = tuple(tokens[end - n : end])
        counts[gram] = counts.get(gram, 0) + 1
    return counts


@ngram_counts.variant("defaultdict with a window")
def _(tokens, n):
    counts, window = defaultdict(int), ()
    for token in tokens:
        window = (*window, token)[-n:]
        if len(window) == n:
            counts[window] += 1
    return counts


@ngram_counts.variant("list.count")
def _(tokens, n):
    items = _items(tokens)
    grams = [tuple(items[i : i + n]) for i in range(len(items) - n + 1)]
    return {gram: grams.count(gram) for gram in set(grams)}


@ngram_counts.variant("numpy windows")
def _(tokens, n):
    array = np.array(_items(tokens))
    if len(array) < n:
        return {}
    windows = np.lib.stride_tricks.sliding_window_view(array, n)
    grams, counts = np.unique(windows, axis=0, return_counts=True)
    return {tuple(g.tolist()): int(c) for g, c in zip(grams, counts, strict=True)}


def _copying_cases(rng, s):
    yield Case(("the white cat", "a white whale"), "strings of characters")
    yield Case((np.arange(10, 16), np.arange(30, 60)), "no token in common")
    yield Case((np.array([5, 1, 2, 3, 9]), np.array([7, 1, 2, 3, 8, 1, 2])), "a run in the middle")
    yield Case(
        (np.array([1, 2, 3, 4]), np.array([1, 9, 2, 9, 3, 9, 4])), "the right order with gaps"
    )
    yield Case((np.array([1, 2, 3, 4]), np.array([4, 3, 2, 1])), "the reverse of the training text")
    text = rng.integers(0, 50, 80)
    yield Case((text[20:50], text), "the sample is a piece of the training text")
    yield Case((text, text[30:44]), "the sample holds the whole training text")
    train = np.array([1, 2, 9, 9, 1, 2, 3, 4, 9])
    yield Case((np.array([8, 1, 2, 3, 4, 8]), train), "the run begins like an earlier one")
    yield Case((np.array([1, 1, 1, 1, 1]), np.array([1, 1, 7, 1, 1, 1, 7])), "one token repeated")
    again = np.array([1, 1, 2, 8, 3])
    yield Case((again, np.array([9, 1, 2, 3])), "the run begins at the token that broke a match")
    turned = np.array([8, 9, 7])
    yield Case((np.array([7, 8, 9]), turned), "the same tokens in another order")
    sample = np.array([1, 2, 3, 7, 3, 4, 5, 6, 8, 1, 2])
    yield Case((sample, np.array([3, 4, 5, 6, 1, 2, 3])), "two runs, the longer one later")
    yield Case((np.array([4, 5, 6]), np.array([4, 5, 6])), "sample and training text are equal")
    words = ["call", "me", "ishmael", "some", "years", "ago"]
    yield Case((words[1:4], words), "words")
    yield Case((np.array([1, 2, 3]), np.array([12, 3, 11, 2])), "tokens with one and two digits")


def _copying_draw(rng, s):
    """Return a sample with a copied run of 6 in a training text that holds shorter matches."""
    train = rng.integers(0, 12, 120)
    start = int(rng.integers(40, 80))
    sample = rng.integers(12, 20, 24)
    sample[3:6] = train[:3]
    sample[9:15] = train[start : start + 6]
    train[start + 6] = 20
    return sample, train


longest_copied_ngram = Exercise(
    name="longest_copied_ngram",
    reference=language_model.longest_copied_ngram,
    section=COPYING,
    axes={"sample": "", "train": ""},
    returns=("length",),
    draw=_copying_draw,
    sizes=({}, {"again": 1}),
    special=_copying_cases,
)


def _longest(sample, train):
    return language_model.longest_copied_ngram(sample, train)


@longest_copied_ngram.mistake(
    "gaps-allowed",
    "the tokens need only come in the same order, with gaps between them",
    "A common *subsequence* may skip tokens. A copied n-gram is a run without a gap.",
)
def _(sample, train):
    row = [0] * (len(train) + 1)
    for a in sample:
        above, row = row, [0]
        for j, b in enumerate(train):
            row.append(above[j] + 1 if a == b else max(above[j + 1], row[j]))
    return row[-1]


@longest_copied_ngram.mistake(
    "same-position",
    "sample and training text are compared position by position",
    "A run may be copied from anywhere in the training text.",
)
def _(sample, train):
    longest = run = 0
    for a, b in zip(sample, train, strict=False):
        run = run + 1 if a == b else 0
        longest = max(longest, run)
    return longest


@longest_copied_ngram.mistake(
    "common-beginning",
    "only a run at the beginning of both is found",
    "A copied run may start anywhere, in the sample and in the training text.",
)
def _(sample, train):
    n = 0
    while n < min(len(sample), len(train)) and sample[n] == train[n]:
        n += 1
    return n


@longest_copied_ngram.mistake(
    "known-tokens",
    "a run counts in which every token occurs somewhere in the training text",
    "A new sentence of known words is not a copy. The *order* must occur in the training text too.",
)
def _(sample, train):
    known, longest, run = set(train), 0, 0
    for a in sample:
        run = run + 1 if a in known else 0
        longest = max(longest, run)
    return longest


@longest_copied_ngram.mistake(
    "known-bigrams",
    "a run counts in which every pair occurs somewhere in the training text",
    "Pairs from different places can join to a run that is nowhere in the training text. The whole "
    "run must occur in one place.",
)
def _(sample, train):
    sample, train = _items(sample), _items(train)
    if not set(sample) & set(train):
        return 0
    pairs, longest, run = set(pairwise(train)), 1, 1
    for pair in pairwise(sample):
        run = run + 1 if pair in pairs else 1
        longest = max(longest, run)
    return longest


@longest_copied_ngram.mistake(
    "first-occurrence-only",
    "each token is looked up only where it occurs first",
    "`index` finds the first occurrence. A longer match may begin at a later one.",
)
def _(sample, train):
    sample, train = _items(sample), _items(train)
    longest = 0
    for i, a in enumerate(sample):
        if a in train:
            j, n = train.index(a), 0
            while i + n < len(sample) and j + n < len(train) and sample[i + n] == train[j + n]:
                n += 1
            longest = max(longest, n)
    return longest


@longest_copied_ngram.mistake(
    "one-too-long",
    "the first length that no longer occurs is returned",
    "Your loop ends with the first n that is *not* found. Which one was found last?",
)
def _(sample, train):
    return _longest(sample, train) + 1


@longest_copied_ngram.mistake(
    "one-too-short",
    "the length is one too small",
    "With one shared token the answer is 1. Count tokens, not the steps between them.",
)
def _(sample, train):
    return max(_longest(sample, train) - 1, 0)


@longest_copied_ngram.mistake(
    "whole-sample-or-nothing",
    "only a copy of the whole sample is found",
    "A sample may begin on its own and copy later.",
)
def _(sample, train):
    return len(sample) if _longest(sample, train) == len(sample) else 0


@longest_copied_ngram.mistake(
    "limited-length",
    "no run beyond some fixed length is looked for",
    "Copies can be long: that is what makes them interesting.",
)
def _(sample, train):
    return min(_longest(sample, train), 5)


@longest_copied_ngram.form("limited-length")
def _(sample, train):
    return min(_longest(sample, train), 4)


@longest_copied_ngram.form("limited-length")
def _(sample, train):
    return min(_longest(sample, train), 10)


@longest_copied_ngram.mistake(
    "shared-tokens",
    "the number of different tokens in common is returned",
    "A set forgets the order. How long is the longest *run*?",
)
def _(sample, train):
    return len(set(_items(sample)) & set(_items(train)))


@longest_copied_ngram.mistake(
    "last-run",
    "the length of the last copied run is returned, not of the longest",
    "Your result is overwritten by every later run. Keep the largest.",
)
def _(sample, train):
    train, sample = _items(train), _items(sample)
    last, i = 0, 0
    while i < len(sample):
        n = 0
        while i + n < len(sample) and _contains(train, sample[i : i + n + 1]):
            n += 1
        last, i = n or last, i + max(n, 1)
    return last


@longest_copied_ngram.mistake(
    "first-run",
    "the length of the first copied run is returned, not of the longest",
    "Your search stops at the first match. A longer one may follow.",
)
def _(sample, train):
    train, sample = _items(train), _items(sample)
    for i in range(len(sample)):
        n = 0
        while i + n < len(sample) and _contains(train, sample[i : i + n + 1]):
            n += 1
        if n:
            return n
    return 0


def _contains(train, run):
    n = len(run)
    return any(train[j : j + n] == run for j in range(len(train) - n + 1))


@longest_copied_ngram.mistake(
    "run-not-reset",
    "matches are added up without starting again after a gap",
    "All your copied tokens count together. A run ends where the next token does not follow in "
    "the training text.",
)
def _(sample, train):
    train, sample = _items(train), _items(sample)
    return sum(a in train for a in sample)


@longest_copied_ngram.mistake(
    "joined-text",
    "the tokens are joined to strings and their characters compared",
    "Joined to a string, the tokens 12 and 3 look like 1, 2, 3. Compare tokens.",
)
def _(sample, train):
    return _longest("".join(map(str, sample)), "".join(map(str, train)))


@longest_copied_ngram.mistake(
    "reversal-counts",
    "runs that occur backwards count as copies",
    "Order matters: only a run that occurs as it stands is a copy.",
)
def _(sample, train):
    return max(_longest(sample, train), _longest(_items(sample)[::-1], _items(train)))


@longest_copied_ngram.mistake(
    "breaking-token-skipped",
    "the token that breaks a match is not tried as the start of the next one",
    "Look at the token that ends a run of yours. It does not continue this run, but could it begin "
    "another one?",
)
def _(sample, train):
    longest = 0
    for start in range(len(train)):
        run = 0
        for token in sample:
            fits = start + run < len(train) and token == train[start + run]
            run = run + 1 if fits else 0
            longest = max(longest, run)
    return longest


@longest_copied_ngram.mistake(
    "order-ignored",
    "runs of the same tokens in any order count as copies",
    "Order matters: only a run that occurs as it stands is a copy.",
)
def _(sample, train):
    def bags(items, n):
        return {tuple(sorted(map(str, items[i : i + n]))) for i in range(len(items) - n + 1)}

    sample, train = _items(sample), _items(train)
    sizes = range(1, min(len(sample), len(train)) + 1)
    return max((n for n in sizes if bags(sample, n) & bags(train, n)), default=0)


@longest_copied_ngram.mistake(
    "run-returned",
    "the run itself is returned, not its length",
    "The result is a number of tokens.",
)
def _(sample, train):
    train, sample = _items(train), _items(sample)
    n = _longest(sample, train)
    return next(
        sample[i : i + n] for i in range(len(sample) + 1) if _contains(train, sample[i : i + n])
    )


@longest_copied_ngram.variant("sets of n-grams")
def _(sample, train):
    sample, train = tuple(sample), tuple(train)
    for n in range(min(len(sample), len(train)), 0, -1):
        seen = {train[j : j + n] for j in range(len(train) - n + 1)}
        if any(sample[i : i + n] in seen for i in range(len(sample) - n + 1)):
            return n
    return 0


@longest_copied_ngram.variant("grow a window")
def _(sample, train):
    sample, train = _items(sample), _items(train)
    n = 0
    for i in range(len(sample)):
        while i + n < len(sample) and _contains(train, sample[i : i + n + 1]):
            n += 1
    return n


@longest_copied_ngram.variant("table")
def _(sample, train):
    table = np.zeros((len(sample) + 1, len(train) + 1), dtype=int)
    for i, a in enumerate(sample):
        for j, b in enumerate(train):
            if a == b:
                table[i + 1, j + 1] = table[i, j] + 1
    return table.max()


@longest_copied_ngram.variant("difflib")
def _(sample, train):
    import difflib

    a, b = tuple(sample), tuple(train)
    return difflib.SequenceMatcher(None, a, b, autojunk=False).find_longest_match().size


@longest_copied_ngram.variant("binary search over the length")
def _(sample, train):
    sample, train = tuple(sample), tuple(train)

    def copied(n):
        seen = {train[j : j + n] for j in range(len(train) - n + 1)}
        return any(sample[i : i + n] in seen for i in range(len(sample) - n + 1))

    low, high = 0, min(len(sample), len(train))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if copied(middle) else (low, middle - 1)
    return low
