"""Assignment 11: attention forward and backward, beam search, and BLEU."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter

import numpy as np

from rnncourse import attention, decoding, metrics
from rnncourse.exercises.spec import Case, Exercise, normal, weights

ATTENTION = "12-translation: Attention"
BEAM = "12-translation: Beam search"
BLEU = "12-translation: BLEU"


def _source_mask(rng, s):
    """Return a mask over T source steps; where B allows it, some sequence is shorter than T."""
    lengths = 1 + rng.permutation(np.arange(s.B) % s.T)
    lengths[-1] = s.T
    if s.B == 1 and s.T > 1:
        lengths[0] = s.T - 1
    return np.arange(s.T)[:, None] < lengths


def _query(rng, s):
    return normal(rng, s.B, s.H), normal(rng, s.T, s.B, s.H), normal(rng, s.T, s.B, s.D)


def _attention_cases(rng, s):
    q, K, V = _query(rng, s)
    yield Case((q, K, V, None), "mask is None")
    mask = _source_mask(rng, s)
    K, V = K.copy(), V.copy()
    K[~mask], V[~mask] = np.nan, np.nan
    yield Case((q, K, V, mask), "keys and values are NaN at masked steps")
    # whole numbers and sixteenths, so that large scores are exact in single precision too
    q, K, V = _query(rng, s)
    large, coarse = 64 * np.rint(8 * q), np.rint(8 * K) / 8
    yield Case((large, coarse, V, mask), "the scores are in the hundreds")
    level = np.linspace(1, 300, s.B)[:, None]
    K = np.rint(16 * (np.abs(normal(rng, s.T, 1, s.H)) + 0.1 * K)) / 16
    yield Case(
        (1 + np.rint(level * np.abs(q)), K, V, mask), "the sequences have scores of different size"
    )
    q, K, V = _query(rng, s)
    mask = _source_mask(rng, s)
    mask[:, 0] = False
    yield Case((q, K, V, mask), "one sequence has no real step")
    mask = rng.random((s.T, s.B)) < 0.5
    mask[0], mask[-1], mask[1, 0] = False, True, True
    yield Case((q, K, V, mask), "the mask has holes")
    K = 1 + np.rint(16 * np.abs(K)) / 16
    yield Case((-1000 * (1 + np.rint(np.abs(q))), K, V, mask), "all scores are below -1000")


dot_attention = Exercise(
    name="dot_attention",
    reference=attention.dot_attention,
    section=ATTENTION,
    axes={"q": "B H", "K": "S B H", "V": "S B E", "mask": "S B"},
    returns=("context: B E", "weights: S B"),
    draw=lambda rng, s: (*_query(rng, s), _source_mask(rng, s)),
    special=_attention_cases,
)


def _scores(q, K):
    return np.einsum("bh,sbh->sb", q, K)


def _mix(w, V):
    """Average values, without letting NaN through where the weight is 0."""
    return np.einsum("sb,sbe->be", w, np.where(w[..., None] != 0, V, 0))


def _all_true(mask, scores):
    return np.ones(scores.shape, bool) if mask is None else mask


def _attend(scores, V, mask):
    w = attention.masked_softmax(scores, mask)
    return _mix(w, V), w


def _keys_cleaned(K, mask):
    return K if mask is None else np.where(mask[..., None], K, 0)


@dot_attention.mistake(
    "mask-ignored",
    "the mask is not used",
    "Padding of the source gets weight in your version, so the context depends on how long the "
    "other sequences of the batch are.",
)
def _(q, K, V, mask=None):
    w = _softmax(_scores(q, K), axis=0)
    return np.einsum("sb,sbe->be", w, V), w


def _softmax(z, axis):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@dot_attention.mistake(
    "mask-after-softmax",
    "weights of masked steps are set to 0 after the softmax",
    "Your weights sum to less than 1: padding has taken its share before you removed it. Mask the "
    "scores, so that the softmax never sees those steps.",
)
def _(q, K, V, mask=None):
    scores = _scores(q, _keys_cleaned(K, mask))
    w = np.where(_all_true(mask, scores), _softmax(scores, axis=0), 0)
    return _mix(w, V), w


@dot_attention.form("mask-after-softmax")
def _(q, K, V, mask=None):
    scores = (q * K).sum(axis=-1)
    w = np.exp(scores - scores.max(axis=0))
    w = w / w.sum(axis=0)
    if mask is not None:
        w = w * mask
    return (w[..., None] * V).sum(axis=0), w


@dot_attention.mistake(
    "masked-score-zero",
    "masked scores are set to 0 before the softmax",
    "A score of 0 is a weight of exp(0) = 1 before normalising. Which score has the weight 0?",
)
def _(q, K, V, mask=None):
    scores = _scores(q, _keys_cleaned(K, mask))
    w = _softmax(np.where(_all_true(mask, scores), scores, 0.0), axis=0)
    return np.einsum("sb,sbe->be", w, _keys_cleaned(V, mask)), w


@dot_attention.mistake(
    "mask-inverted",
    "the mask is read the wrong way round",
    "True means that a source step is real. Your weights stand at the padding.",
)
def _(q, K, V, mask=None):
    return _attend(_scores(q, K), V, None if mask is None else ~mask)


@dot_attention.mistake(
    "scaled",
    "the scores are divided by the square root of H",
    "That is scaled attention, as in Transformers. Here the plain dot product is asked for.",
)
def _(q, K, V, mask=None):
    return _attend(_scores(q, K) / np.sqrt(q.shape[-1]), V, mask)


@dot_attention.mistake(
    "softmax-over-batch",
    "the softmax runs over the batch",
    "For each sequence the weights of its *source steps* must sum to 1. Which axis is that?",
)
def _(q, K, V, mask=None):
    scores = _scores(q, _keys_cleaned(K, mask))
    w = _softmax(np.where(_all_true(mask, scores), scores, -1e30), axis=1)
    return np.einsum("sb,sbe->be", w, _keys_cleaned(V, mask)), w


@dot_attention.form("softmax-over-batch")
def _(q, K, V, mask=None):
    scores = _scores(q, K)
    w = _softmax(np.where(_all_true(mask, scores), scores, -np.inf), axis=1)
    return np.einsum("sb,sbe->be", w, _keys_cleaned(V, mask)), w


@dot_attention.form("softmax-over-batch")
def _(q, K, V, mask=None):
    scores = _scores(q, K)
    w = _softmax(np.where(_all_true(mask, scores), scores, -np.inf), axis=1)
    return _mix(np.nan_to_num(w), V), np.nan_to_num(w)


@dot_attention.mistake(
    "softmax-over-everything",
    "the softmax runs over the whole array",
    "Your weights sum to 1 over all sequences together. Each sequence has attention of its own.",
)
def _(q, K, V, mask=None):
    scores = _scores(q, _keys_cleaned(K, mask))
    e = np.exp(np.where(_all_true(mask, scores), scores, -1e30) - scores.max())
    w = e / e.sum()
    return np.einsum("sb,sbe->be", w, _keys_cleaned(V, mask)), w


@dot_attention.mistake(
    "overflow",
    "the exponential of a large score overflows",
    "exp(1000) is infinity. Subtracting one number from all scores of a sequence changes nothing "
    "in the softmax.",
)
def _(q, K, V, mask=None):
    scores = _scores(q, K)
    e = np.where(_all_true(mask, scores), np.exp(scores), 0)
    total = e.sum(axis=0)
    w = e / np.where(total > 0, total, 1)
    return _mix(w, V), w


@dot_attention.mistake(
    "one-maximum-for-all",
    "one maximum is subtracted from all sequences together",
    "A sequence whose scores lie far below the largest of the batch underflows to 0 / 0. Each "
    "sequence has a maximum of its own.",
)
def _(q, K, V, mask=None):
    scores = _scores(q, K)
    allowed = np.where(_all_true(mask, scores), scores, -np.inf)
    e = np.exp(allowed - allowed.max())
    total = e.sum(axis=0)
    w = e / np.where(total > 0, total, 1)
    return _mix(w, V), w


@dot_attention.form("one-maximum-for-all")
def _(q, K, V, mask=None):
    scores = _scores(q, K)
    allowed = np.where(_all_true(mask, scores), scores, -np.inf)
    e = np.exp(allowed - allowed.max())
    w = np.nan_to_num(e / e.sum(axis=0))
    return _mix(w, V), w


@dot_attention.mistake(
    "nan-times-zero",
    "masked values are multiplied by the weight 0, which leaves NaN where they are NaN",
    "0 · NaN is NaN. The docstring says that masked values do not matter: take them out before the "
    "sum.",
)
def _(q, K, V, mask=None):
    w = attention.masked_softmax(_scores(q, K), mask)
    return np.einsum("sb,sbe->be", w, V), w


@dot_attention.mistake(
    "empty-not-handled",
    "a sequence without a real step gives NaN or weights on padding",
    "Its weights are all 0, and so is its context: the docstring says so. Where does 0 / 0 arise?",
)
def _(q, K, V, mask=None):
    scores = _scores(q, K)
    allowed = np.where(_all_true(mask, scores), scores, -np.inf)
    w = _softmax(allowed, axis=0)
    return _mix(w, V), w


@dot_attention.form("empty-not-handled")
def _(q, K, V, mask=None):
    scores = _scores(q, K)
    w = _softmax(np.where(_all_true(mask, scores), scores, -1e30), axis=0)
    return _mix(w, V), w


@dot_attention.mistake(
    "not-normalised",
    "the exponentials are not divided by their sum",
    "The context is a weighted *mean*: the weights of one sequence must sum to 1.",
)
def _(q, K, V, mask=None):
    scores = _scores(q, K)
    allowed = np.where(_all_true(mask, scores), scores, -np.inf)
    top = np.where(np.isfinite(allowed).any(axis=0), allowed.max(axis=0), 0)
    w = np.exp(allowed - top)
    return _mix(w, V), w


@dot_attention.mistake(
    "hard",
    "all weight goes to the best source step",
    "That is an argmax, through which no gradient flows. The softmax spreads the weight.",
)
def _(q, K, V, mask=None):
    scores = _scores(q, K)
    allowed = np.where(_all_true(mask, scores), scores, -np.inf)
    best = np.arange(len(K))[:, None] == allowed.argmax(axis=0)
    w = np.where(_all_true(mask, scores), best, False).astype(float)
    return _mix(w, V), w


@dot_attention.mistake(
    "uniform",
    "all real steps have the same weight",
    "The query does not matter to your context.",
)
def _(q, K, V, mask=None):
    return _attend(np.zeros(K.shape[:2]), V, mask)


@dot_attention.mistake(
    "keys-mixed",
    "the context is a mean of the keys",
    "Keys are compared with the query; what is averaged are the values.",
)
def _(q, K, V, mask=None):
    return _attend(_scores(q, K), K, mask)


@dot_attention.mistake(
    "weights-batch-first",
    "the weights have shape (B, S)",
    "The course is time-major: source steps come first.",
)
def _(q, K, V, mask=None):
    context, w = attention.dot_attention(q, K, V, mask)
    return context, w.T


@dot_attention.mistake(
    "outputs-exchanged",
    "weights and context are returned in the wrong order",
    "The context comes first.",
)
def _(q, K, V, mask=None):
    return attention.dot_attention(q, K, V, mask)[::-1]


@dot_attention.mistake(
    "scores-returned",
    "the scores are returned in place of the weights",
    "The backward pass needs the weights, after the softmax.",
)
def _(q, K, V, mask=None):
    return attention.dot_attention(q, K, V, mask)[0], _scores(q, K)


@dot_attention.form("scores-returned")
def _(q, K, V, mask=None):
    scores = _scores(q, K)
    allowed = np.where(_all_true(mask, scores), scores, -np.inf)
    return attention.dot_attention(q, K, V, mask)[0], allowed


@dot_attention.mistake(
    "divided-by-steps",
    "the context is divided by the number of source steps",
    "The weights sum to 1 already, so their sum of values is a mean.",
)
def _(q, K, V, mask=None):
    context, w = attention.dot_attention(q, K, V, mask)
    return context / len(K), w


@dot_attention.mistake(
    "cosine",
    "query and keys are normalised first",
    "The plain dot product is asked for: the length of a key matters too.",
)
def _(q, K, V, mask=None):
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return _attend(_scores(q, K / np.linalg.norm(K, axis=-1, keepdims=True)), V, mask)


@dot_attention.mistake(
    "values-overwritten",
    "the caller's values are set to 0 at masked steps",
    "The result is right, but the caller's array has changed. Use `np.where` or a copy.",
)
def _(q, K, V, mask=None):
    context, w = attention.dot_attention(q, K, V, mask)
    if mask is not None:
        V[~mask] = 0
    return context, w


@dot_attention.variant("sequence by sequence")
def _(q, K, V, mask=None):
    S, B = K.shape[:2]
    context, w = np.zeros((B, V.shape[2])), np.zeros((S, B))
    for b in range(B):
        real = np.arange(S) if mask is None else np.flatnonzero(mask[:, b])
        if len(real):
            scores = K[real, b] @ q[b]
            e = np.exp(scores - scores.max())
            w[real, b] = e / e.sum()
            context[b] = w[real, b] @ V[real, b]
    return context, w


@dot_attention.variant("batched matrix products")
def _(q, K, V, mask=None):
    scores = np.matmul(K.transpose(1, 0, 2), q[:, :, None])[..., 0].T
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    top = np.nan_to_num(scores.max(axis=0), neginf=0.0)
    e = np.exp(scores - top)
    w = e / np.maximum(e.sum(axis=0), np.finfo(float).tiny)
    values = V if mask is None else np.where(mask[:, :, None], V, 0)
    return np.matmul(w.T[:, None, :], values.transpose(1, 0, 2))[:, 0], w


@dot_attention.variant("broadcasting")
def _(q, K, V, mask=None):
    mask = np.ones(K.shape[:2], bool) if mask is None else np.asarray(mask)
    scores = np.where(mask, (np.where(mask[..., None], K, 0) * q).sum(-1), -1e300)
    e = np.exp(scores - scores.max(0)) * mask
    total = e.sum(0)
    w = np.divide(e, total, out=np.zeros_like(e), where=total > 0)
    return (w[..., None] * np.where(mask[..., None], V, 0)).sum(0), w


@dot_attention.variant("log-sum-exp")
def _(q, K, V, mask=None):
    scores = np.einsum("...h,s...h->s...", q, K)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    w = np.nan_to_num(np.exp(scores - np.logaddexp.reduce(scores, axis=0)))
    return (w[:, :, None] * np.where(w[:, :, None] == 0, 0, V)).sum(axis=0), w


@dot_attention.variant("torch inside")
def _(q, K, V, mask=None):
    import torch

    q, K, V = (torch.tensor(np.array(a)) for a in (q, K, V))
    scores = (q * K).sum(-1)
    if mask is not None:
        real = torch.tensor(np.array(mask))
        scores, V = scores.masked_fill(~real, -torch.inf), V.masked_fill(~real[..., None], 0)
    w = scores.softmax(0).nan_to_num(0.0)
    return (w[..., None] * V).sum(0).numpy(), w.numpy()


def _attention_weights(rng, s, mask):
    """Return weights as attention would, so that no term of the backward pass is small."""
    w = np.where(mask, 0.2 + rng.random((s.T, s.B)), 0)
    total = w.sum(axis=0)
    return w / np.where(total > 0, total, 1)


def _backward_arguments(rng, s):
    q, K, V = _query(rng, s)
    return normal(rng, s.B, s.D), q, K, V, _attention_weights(rng, s, _source_mask(rng, s))


def _backward_cases(rng, s):
    dcontext, q, K, V, _ = _backward_arguments(rng, s)
    w = _attention_weights(rng, s, np.ones((s.T, s.B), bool))
    yield Case((dcontext, q, K, V, w), "nothing is masked")
    mask = _source_mask(rng, s)
    K, V = K.copy(), V.copy()
    K[~mask], V[~mask] = np.nan, np.nan
    w = _attention_weights(rng, s, mask)
    yield Case((dcontext, q, K, V, w), "keys and values are NaN at masked steps")
    mask[:, 0] = False
    dcontext, q, K, V, _ = _backward_arguments(rng, s)
    yield Case(
        (dcontext, q, K, V, _attention_weights(rng, s, mask)), "one sequence has no real step"
    )
    values = normal(rng, s.T, s.B, s.H)
    args = normal(rng, s.B, s.H), q, K, values, _attention_weights(rng, s, _source_mask(rng, s))
    yield Case(args, "keys and values have the same size")


attention_backward = Exercise(
    name="attention_backward",
    reference=attention.attention_backward,
    section=ATTENTION,
    axes={"dcontext": "B E", "q": "B H", "K": "S B H", "V": "S B E", "weights": "S B"},
    returns=("dq: B H", "dK: S B H", "dV: S B E"),
    draw=_backward_arguments,
    special=_backward_cases,
)


def _dweights(dcontext, V, w):
    return np.einsum("be,sbe->sb", dcontext, np.where(w[..., None] > 0, V, 0))


def _dscores(dcontext, V, w):
    dw = _dweights(dcontext, V, w)
    return w * (dw - (w * dw).sum(axis=0))


def _from_dscores(ds, dcontext, q, K, w):
    """Finish the backward pass from gradients of the scores."""
    keys = np.where(w[..., None] > 0, K, 0)
    dq, dK = np.einsum("sb,sbh->bh", ds, keys), np.einsum("sb,bh->sbh", ds, q)
    return dq, dK, w[..., None] * dcontext


@attention_backward.mistake(
    "softmax-skipped",
    "the gradient of the weights is taken for that of the scores",
    "Between scores and weights stands the softmax, and it has a derivative.",
)
def _(dcontext, q, K, V, weights):
    return _from_dscores(_dweights(dcontext, V, weights), dcontext, q, K, weights)


@attention_backward.mistake(
    "softmax-diagonal-only",
    "the derivative w (1 - w) is used, as if each weight depended on its own score only",
    "Raising one score lowers all other weights. The Jacobian of the softmax has entries off the "
    "diagonal.",
)
def _(dcontext, q, K, V, weights):
    ds = weights * (1 - weights) * _dweights(dcontext, V, weights)
    return _from_dscores(ds, dcontext, q, K, weights)


@attention_backward.mistake(
    "softmax-mean-missing",
    "the second term of the softmax's derivative is missing",
    "Adding a constant to all scores changes no weight, so the gradients of the scores of one "
    "sequence must sum to 0. Yours do not.",
)
def _(dcontext, q, K, V, weights):
    ds = weights * _dweights(dcontext, V, weights)
    return _from_dscores(ds, dcontext, q, K, weights)


@attention_backward.mistake(
    "weights-missing-in-mean",
    "in the softmax's derivative, the plain sum of the gradients is subtracted",
    "What is subtracted is a *weighted* mean of the gradients. Check that your gradients of the "
    "scores sum to 0.",
)
def _(dcontext, q, K, V, weights):
    dw = _dweights(dcontext, V, weights)
    return _from_dscores(weights * (dw - dw.sum(axis=0)), dcontext, q, K, weights)


@attention_backward.form("weights-missing-in-mean")
def _(dcontext, q, K, V, weights):
    dw = _dweights(dcontext, V, weights)
    return _from_dscores(weights * (dw - dw.mean(axis=0)), dcontext, q, K, weights)


@attention_backward.mistake(
    "sum-over-batch",
    "the sum in the softmax's derivative runs over the batch",
    "The softmax was taken over the source steps, and so is the sum in its derivative.",
)
def _(dcontext, q, K, V, weights):
    dw = _dweights(dcontext, V, weights)
    ds = weights * (dw - (weights * dw).sum(axis=1, keepdims=True))
    return _from_dscores(ds, dcontext, q, K, weights)


@attention_backward.form("sum-over-batch")
def _(dcontext, q, K, V, weights):
    dw = _dweights(dcontext, V, weights)
    ds = weights * (dw - (weights * dw).sum())
    return _from_dscores(ds, dcontext, q, K, weights)


@attention_backward.mistake(
    "sign-of-softmax",
    "the two terms of the softmax's derivative have the wrong signs",
    "dV is right, dq and dK have the wrong sign: raising the score of a step with a good value "
    "must help.",
)
def _(dcontext, q, K, V, weights):
    return _from_dscores(-_dscores(dcontext, V, weights), dcontext, q, K, weights)


@attention_backward.mistake(
    "values-without-weights",
    "every value gets the whole gradient of the context",
    "A value that had little weight in the context has little gradient.",
)
def _(dcontext, q, K, V, weights):
    dq, dK, _ = attention.attention_backward(dcontext, q, K, V, weights)
    return dq, dK, np.broadcast_to(dcontext, V.shape).copy()


@attention_backward.mistake(
    "values-with-scores",
    "dV uses the gradient of the scores where the weights belong",
    "The context is a sum of weight times value. What is its derivative by the value?",
)
def _(dcontext, q, K, V, weights):
    ds = _dscores(dcontext, V, weights)
    dq, dK, _ = _from_dscores(ds, dcontext, q, K, weights)
    return dq, dK, ds[..., None] * dcontext


@attention_backward.mistake(
    "query-averaged",
    "dq is averaged over the source steps",
    "The query takes part in the score of every source step, and its gradient is the sum.",
)
def _(dcontext, q, K, V, weights):
    dq, dK, dV = attention.attention_backward(dcontext, q, K, V, weights)
    return dq / len(K), dK, dV


@attention_backward.mistake(
    "query-from-last-step",
    "dq holds the part of the last source step only",
    "The query takes part in the score of every source step: `+=`, not `=`.",
)
def _(dcontext, q, K, V, weights):
    _, dK, dV = attention.attention_backward(dcontext, q, K, V, weights)
    ds = _dscores(dcontext, V, weights)
    return ds[-1][:, None] * np.where(weights[-1][:, None] > 0, K[-1], 0), dK, dV


@attention_backward.mistake(
    "keys-from-weights",
    "dK uses the weights where the gradient of the scores belongs",
    "The weights say how the context was mixed, not how the loss depends on a score.",
)
def _(dcontext, q, K, V, weights):
    dq, _, dV = attention.attention_backward(dcontext, q, K, V, weights)
    return dq, weights[..., None] * q, dV


@attention_backward.mistake(
    "scaled",
    "the gradients of query and keys are divided by the square root of H",
    "The forward pass does not scale the scores, so the backward pass does not either.",
)
def _(dcontext, q, K, V, weights):
    dq, dK, dV = attention.attention_backward(dcontext, q, K, V, weights)
    return dq / np.sqrt(q.shape[-1]), dK / np.sqrt(q.shape[-1]), dV


@attention_backward.mistake(
    "averaged-over-batch",
    "all gradients are divided by the batch size",
    "Whether the loss is a mean is decided in `dcontext`. The backward pass does not divide again.",
)
def _(dcontext, q, K, V, weights):
    return tuple(g / len(q) for g in attention.attention_backward(dcontext, q, K, V, weights))


@attention_backward.mistake(
    "order-of-outputs",
    "dV is returned before dK",
    "Gradients come in the order of the arguments: dq, dK, dV.",
)
def _(dcontext, q, K, V, weights):
    dq, dK, dV = attention.attention_backward(dcontext, q, K, V, weights)
    return dq, dV, dK


@attention_backward.mistake(
    "nan-times-zero",
    "NaN in masked keys or values reaches the gradients",
    "0 · NaN is NaN. Steps with weight 0 take no part: take them out before the sums.",
)
def _(dcontext, q, K, V, weights):
    dw = np.einsum("be,sbe->sb", dcontext, V)
    ds = weights * (dw - (weights * dw).sum(axis=0))
    dq, dK = np.einsum("sb,sbh->bh", ds, K), np.einsum("sb,bh->sbh", ds, q)
    return dq, dK, weights[..., None] * dcontext


@attention_backward.mistake(
    "weights-overwritten",
    "the caller's weights are overwritten",
    "The gradients are right, but the weights are a cache of the forward pass. Write into a new "
    "array.",
)
def _(dcontext, q, K, V, weights):
    out = attention.attention_backward(dcontext, q, K, V, weights)
    weights *= 0.5
    return out


@attention_backward.variant("full Jacobian of the softmax")
def _(dcontext, q, K, V, weights):
    B = weights.shape[1]
    real = weights[..., None] > 0
    K, V = np.where(real, K, 0), np.where(real, V, 0)
    dq, dK, dV = np.zeros(q.shape), np.zeros(K.shape), np.zeros(V.shape)
    for b in range(B):
        w = weights[:, b]
        ds = (np.diag(w) - np.outer(w, w)) @ (V[:, b] @ dcontext[b])
        dq[b], dK[:, b], dV[:, b] = ds @ K[:, b], np.outer(ds, q[b]), np.outer(w, dcontext[b])
    return dq, dK, dV


@attention_backward.variant("centred values")
def _(dcontext, q, K, V, weights):
    real = np.expand_dims(weights > 0, -1)
    V = np.where(real, V, 0)
    context = (weights[..., None] * V).sum(axis=0)
    ds = weights * ((V - context) * dcontext).sum(axis=-1)
    return (
        (ds[..., None] * np.where(real, K, 0)).sum(axis=0),
        ds[..., None] * q,
        (weights[..., None] * dcontext[None]),
    )


@attention_backward.variant("step by step")
def _(dcontext, q, K, V, weights):
    S = len(weights)
    dw = np.stack(
        [(dcontext * np.where(weights[s][:, None] > 0, V[s], 0)).sum(1) for s in range(S)]
    )
    mean = sum(weights[s] * dw[s] for s in range(S))
    dq, dK, dV = np.zeros_like(q), [], []
    for s in range(S):
        ds = (weights[s] * (dw[s] - mean))[:, None]
        dq = dq + ds * np.where(weights[s][:, None] > 0, K[s], 0)
        dK.append(ds * q)
        dV.append(weights[s][:, None] * dcontext)
    return [dq, np.array(dK), np.array(dV)]


@attention_backward.variant("torch autograd inside")
def _(dcontext, q, K, V, weights):
    import torch

    dcontext, q, K, V, w = (torch.tensor(np.array(a)) for a in (dcontext, q, K, V, weights))
    real = w > 0
    K, V = K.masked_fill(~real[..., None], 0), V.masked_fill(~real[..., None], 0)
    q, K, V = (a.requires_grad_() for a in (q, K, V))
    scores = (q * K).sum(-1)  # any scores with these weights have the same gradients
    scores = torch.where(real, w.clamp(min=1e-300).log() + scores - scores.detach(), -1e30)
    new = torch.where(real.any(0), scores.softmax(0), torch.zeros_like(scores))
    (new[..., None] * V).sum(0).backward(dcontext)
    return q.grad.numpy(), K.grad.numpy(), V.grad.numpy()


def _additive_arguments(rng, s, A=None):
    A = s.V if A is None else A
    return (
        normal(rng, s.B, s.H),
        normal(rng, s.T, s.B, s.D),
        1.5 * weights(rng, A, s.H),
        1.5 * weights(rng, A, s.D),
        normal(rng, A),
    )


def _additive_cases(rng, s):
    n = s.H
    q, K = normal(rng, s.B, n), normal(rng, s.T, s.B, n)
    W = 1.5 * weights(rng, n, n), 1.5 * weights(rng, n, n)
    yield Case((q, K, *W, normal(rng, n)), "all weights are square")
    n = s.T
    args = normal(rng, n, s.H), normal(rng, n, n, s.D), *_additive_arguments(rng, s)[2:]
    yield Case(args, "S = B")


additive_scores = Exercise(
    name="additive_scores",
    reference=attention.additive_scores,
    section=ATTENTION,
    axes={"q": "B H", "K": "S B E", "W_q": "A H", "W_k": "A E", "v": "A"},
    returns=("scores: S B",),
    draw=_additive_arguments,
    special=_additive_cases,
)


@additive_scores.mistake(
    "no-tanh",
    "the tanh is missing",
    "Without it the score is a sum of one term for the query and one for the key. Then the query "
    "changes all scores alike, and the softmax does not see it.",
)
def _(q, K, W_q, W_k, v):
    return (q @ W_q.T + K @ W_k.T) @ v


@additive_scores.mistake(
    "tanh-per-term",
    "the tanh is taken of each product, and the results are added",
    "Query and key must meet *inside* the tanh. Otherwise the query changes all scores alike, and "
    "the softmax does not see it.",
)
def _(q, K, W_q, W_k, v):
    return (np.tanh(q @ W_q.T) + np.tanh(K @ W_k.T)) @ v


@additive_scores.mistake(
    "tanh-outside",
    "the tanh is taken of the score",
    "Your scores lie in [-1, 1], so no step can get much more weight than another. The tanh "
    "belongs to the hidden layer.",
)
def _(q, K, W_q, W_k, v):
    return np.tanh((q @ W_q.T + K @ W_k.T) @ v)


@additive_scores.mistake(
    "query-ignored",
    "the query is not used",
    "Your attention is the same at every step of the decoder.",
)
def _(q, K, W_q, W_k, v):
    return np.tanh(K @ W_k.T) @ v


@additive_scores.mistake(
    "keys-ignored",
    "the keys are not used",
    "All source steps have the same score in your version.",
)
def _(q, K, W_q, W_k, v):
    return np.broadcast_to(np.tanh(q @ W_q.T) @ v, K.shape[:2]).copy()


@additive_scores.mistake(
    "v-missing",
    "the hidden layer is summed, without the weights v",
    "Each hidden unit has a weight of its own in the score.",
)
def _(q, K, W_q, W_k, v):
    return np.tanh(q @ W_q.T + K @ W_k.T).sum(axis=-1)


@additive_scores.form("v-missing")
def _(q, K, W_q, W_k, v):
    return np.tanh(q @ W_q.T + K @ W_k.T).mean(axis=-1)


@additive_scores.mistake(
    "v-inside",
    "the weights v are applied before the tanh",
    "v weighs the *hidden units*, after their tanh.",
)
def _(q, K, W_q, W_k, v):
    return np.tanh((q @ W_q.T + K @ W_k.T) * v).sum(axis=-1)


@additive_scores.mistake(
    "softmax-applied",
    "the result is normalised already",
    "Scores are asked for. The softmax comes later, together with the mask.",
)
def _(q, K, W_q, W_k, v):
    return attention.masked_softmax(attention.additive_scores(q, K, W_q, W_k, v))


@additive_scores.mistake(
    "batch-first",
    "the result has shape (B, S)",
    "The course is time-major: source steps come first.",
)
def _(q, K, W_q, W_k, v):
    return attention.additive_scores(q, K, W_q, W_k, v).T


@additive_scores.mistake(
    "weights-exchanged",
    "`W_q` is applied to the keys and `W_k` to the query",
    "The names and the shapes tell which is which; with square weights NumPy cannot complain.",
)
def _(q, K, W_q, W_k, v):
    return np.tanh(q @ W_k.T + K @ W_q.T) @ v


@additive_scores.mistake(
    "not-transposed",
    "the weights are used without their transpose",
    "Row i of a weight matrix holds the weights *into* unit i. With square weights NumPy cannot "
    "complain.",
)
def _(q, K, W_q, W_k, v):
    return np.tanh(q @ W_q + K @ W_k) @ v


@additive_scores.mistake(
    "reshape-for-transpose",
    "the weights are reshaped where they should be transposed",
    "`reshape` cuts the same numbers into other rows; a transpose exchanges rows and columns.",
)
def _(q, K, W_q, W_k, v):
    return np.tanh(q @ W_q.reshape(W_q.shape[::-1]) + K @ W_k.reshape(W_k.shape[::-1])) @ v


@additive_scores.mistake(
    "scaled",
    "the scores are divided by the square root of the number of hidden units",
    "Scaling belongs to dot products of long vectors. Here v can learn any scale.",
)
def _(q, K, W_q, W_k, v):
    return attention.additive_scores(q, K, W_q, W_k, v) / np.sqrt(len(v))


@additive_scores.mistake(
    "sigmoid-for-tanh",
    "the logistic sigmoid is used in place of tanh",
    "Look up the activation of the hidden layer.",
)
def _(q, K, W_q, W_k, v):
    return 1 / (1 + np.exp(-(q @ W_q.T + K @ W_k.T))) @ v


@additive_scores.mistake(
    "first-query-for-all",
    "the query of the first sequence is used for all",
    "Each sequence has a query of its own.",
)
def _(q, K, W_q, W_k, v):
    return np.tanh(q[0] @ W_q.T + K @ W_k.T) @ v


@additive_scores.variant("einsum")
def _(q, K, W_q, W_k, v):
    a = np.einsum("ah,bh->ba", W_q, q)[None] + np.einsum("ae,sbe->sba", W_k, K)
    return np.einsum("a,sba->sb", v, np.tanh(a))


@additive_scores.variant("loops")
def _(q, K, W_q, W_k, v):
    S, B = K.shape[:2]
    return [[v @ np.tanh(W_q @ q[b] + W_k @ K[s, b]) for b in range(B)] for s in range(S)]


@additive_scores.variant("joint weights")
def _(q, K, W_q, W_k, v):
    both = np.concatenate([np.broadcast_to(q, (*K.shape[:2], q.shape[-1])), K], axis=-1)
    return np.dot(np.tanh(both @ np.hstack([W_q, W_k]).T), v)


@additive_scores.variant("unit by unit")
def _(q, K, W_q, W_k, v):
    scores = np.zeros(K.shape[:2])
    for a in range(len(v)):
        scores += v[a] * np.tanh(q @ W_q[a] + K @ W_k[a])
    return scores


@additive_scores.variant("torch inside")
def _(q, K, W_q, W_k, v):
    import torch

    q, K, W_q, W_k, v = (torch.tensor(np.array(a)) for a in (q, K, W_q, W_k, v))
    linear = torch.nn.functional.linear
    return (torch.tanh(linear(q, W_q) + linear(K, W_k)) @ v).numpy()


class _Model:
    """Log-probabilities of the next token that depend on all tokens read so far."""

    def __init__(self, rng, V, likely, boost):
        logits = 1.5 * rng.standard_normal((509, V))
        logits[:, likely] += boost
        self.table = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def __call__(self, token, state):
        read = (31 * (1 if state is None else state) + 7 * int(token) + 3) % 509
        return self.table[read].copy(), read


class _Garden:
    """The best first token leads astray: only a wider beam finds the best sequence."""

    def __init__(self, eos):
        self.eos = eos

    def __call__(self, token, state):
        read = (*(() if state is None else state), int(token))
        other = [t for t in range(4) if t != self.eos]
        p = np.full(4, 0.02)
        if len(read) == 1:
            p[other[0]], p[other[1]] = 0.6, 0.36
        elif read[1] == other[0]:
            p[self.eos], p[other[1]], p[other[2]] = 0.4, 0.3, 0.28
        else:
            p[self.eos] = 0.94
        return np.log(p / p.sum()), read


def _search(rng, V, width, max_len, alpha, boost=0.0, apart=()):
    """Draw a model on which two ways to search end in different tokens."""
    eos = int(rng.integers(V))
    bos = V + int(rng.integers(5))
    for _ in range(300):
        args = _Model(rng, V, eos, boost), bos, eos, width, max_len, alpha
        if not apart or _beam(*args, **apart[0])[0] != _beam(*args, **apart[1])[0]:
            break
    return args


def _search_cases(rng, s):
    yield Case((_Garden(2), 7, 2, 1, 6, 0.0), "width = 1, greedy search is led astray")
    yield Case((_Garden(1), 7, 1, 2, 6, 0.0), "width = 2, greedy search is led astray")
    refill, free, stay = {"refill": True}, {"prune": False}, {"stay": True}
    for ways in itertools.combinations([{}, refill, free, stay], 2):
        yield Case(_search(rng, 5, 2, 6, 0.7, 0.5, ways), "width = 2")
    yield Case(_search(rng, 5, 2, 6, 0.7, 0.5, (stay, {"one_each": True})), "width = 2")
    for way in ({"one_state": True}, {"first_only": True}, {"stop_at_eos": False}):
        yield Case(_search(rng, 6, 3, 7, 1.0, 0.5, ({}, way)), "alpha = 1")
    yield Case(_search(rng, 5, 3, 7, 0.0, 0.5), "alpha = 0")
    yield Case(_search(rng, 5, 3, 4, 0.7, -9.0), "no hypothesis ends before max_len")
    some = _search(rng, 4, 2, 4, 1.0, -0.5, ({}, {"unfinished": False}))
    yield Case(some, "some hypotheses end at max_len")
    yield Case(_search(rng, 3, 300, 4, 0.5), "the beam holds all hypotheses")
    yield Case(_search(rng, 5, 3, 1, 1.0), "max_len = 1")
    yield Case(_search(rng, 6, 1, 9, 1.0, 0.5), "width = 1")
    yield Case(_search(rng, 5, 3, 6, 2.0, 0.5), "alpha = 2")


beam_search = Exercise(
    name="beam_search",
    reference=decoding.beam_search,
    section=BEAM,
    axes={"step_fn": "", "bos": "", "eos": "", "width": "", "max_len": "", "alpha": ""},
    returns=("tokens", "score"),
    draw=lambda rng, s: _search(rng, 6, 3, 7, 0.8, 0.5),
    sizes=({}, {"again": 1}),
    special=_search_cases,
)


def _beam(
    step_fn,
    bos,
    eos,
    width,
    max_len,
    alpha,
    *,
    length_of=lambda tokens: len(tokens),
    grow=lambda log_p, step: log_p + step,
    prune=True,
    stop_at_eos=True,
    refill=False,
    stay=False,
    first_only=False,
    unfinished=True,
    one_state=False,
    one_each=False,
    pick=max,
):
    """Search like the reference, with one thing or another done otherwise."""
    live, complete = [(0.0, [], None)], []
    for length in range(1, max_len + 1):
        extended = []
        for log_p, tokens, state in live:
            if stay and tokens and tokens[-1] == eos:
                extended.append((log_p, tokens, state))
                continue
            step, new = step_fn(tokens[-1] if tokens else bos, live[0][2] if one_state else state)
            best = np.argsort(-step, kind="stable")
            best = best if refill else best[: 1 if one_each and tokens else width]
            extended += [(grow(log_p, float(step[t])), [*tokens, int(t)], new) for t in best]
        extended.sort(key=lambda hypothesis: -hypothesis[0])
        live, room = [], width
        for hypothesis in extended if not prune or refill else extended[:width]:
            ended = hypothesis[1][-1] == eos and stop_at_eos and not stay
            if ended or length == max_len:
                complete.append(hypothesis)
                if first_only:
                    break
            elif room or not prune:
                live.append(hypothesis)
                room -= 1
        if not live or (first_only and complete):
            break
        if stay and all(h[1][-1] == eos for h in live):
            complete += live
            break
    if not unfinished:
        complete = [h for h in complete if h[1][-1] == eos] or complete
    scored = [(h[0] / max(length_of(h[1]), 1) ** alpha, h[1]) for h in complete]
    score, tokens = pick(scored, key=lambda candidate: candidate[0])
    return tokens, score


@beam_search.mistake(
    "greedy",
    "only the best token is followed, whatever `width` is",
    "A beam keeps several hypotheses alive, since the best first token need not begin the best "
    "sequence.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, 1, max_len, alpha)


@beam_search.mistake(
    "alpha-ignored",
    "the scores are not divided by a power of the length",
    "Every further token makes a sequence less probable, so short ones win. What is `alpha` for?",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, 0.0)


@beam_search.mistake(
    "always-mean",
    "the scores are always divided by the length itself",
    "That is right for `alpha = 1`. `alpha` is the power to which the length is raised.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, 1.0)


@beam_search.mistake(
    "multiplied-by-length",
    "the scores are multiplied by the power of the length",
    "Log-probabilities are negative: multiplying by the length punishes long sequences twice.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, -alpha)


@beam_search.mistake(
    "bos-counts",
    "the length counts `bos`",
    "The length counts the tokens that were produced: `eos`, not `bos`.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, alpha, length_of=lambda t: len(t) + 1)


@beam_search.mistake(
    "eos-does-not-count",
    "the length does not count `eos`",
    "The length counts the tokens that were produced, `eos` included: its probability is part of "
    "the score.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    def length(tokens):
        return len(tokens) - (tokens[-1] == eos)

    return _beam(step_fn, bos, eos, width, max_len, alpha, length_of=length)


@beam_search.mistake(
    "never-ends",
    "hypotheses go on after `eos`",
    "A hypothesis that ends in `eos` is complete: set it aside, and extend it no more.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, alpha, stop_at_eos=False)


@beam_search.mistake(
    "first-complete-wins",
    "the first complete hypothesis is returned",
    "A longer hypothesis may come out better, above all with `alpha` > 0. Collect the complete "
    "ones and compare at the end.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, alpha, first_only=True)


@beam_search.mistake(
    "no-common-pruning",
    "each hypothesis keeps its own best extensions, and none is dropped",
    "The number of your hypotheses grows like `width` to the power of the length. All extensions "
    "compete for `width` places together.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, alpha, prune=False)


@beam_search.mistake(
    "one-extension-each",
    "from the second step on each hypothesis keeps its best extension only",
    "Your hypotheses never compete. Two extensions of one hypothesis may both be better than any "
    "of another: compare all of them together.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, alpha, one_each=True)


@beam_search.mistake(
    "beam-refilled",
    "complete hypotheses do not use up a place: `width` others always live on",
    "That is another version of beam search. Here complete hypotheses count among the `width` "
    "extensions that are kept at a step, and the beam shrinks.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, alpha, refill=True)


@beam_search.mistake(
    "complete-stay-in-beam",
    "complete hypotheses stay in the beam and compete with longer ones",
    "Your complete hypotheses are pushed out by longer live ones, or push them out, before lengths "
    "are compared. Set them aside as soon as they end.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, alpha, stay=True)


@beam_search.mistake(
    "unfinished-dropped",
    "hypotheses of `max_len` tokens without `eos` are left out",
    "A hypothesis that has reached `max_len` is complete as well, and competes with the others.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, alpha, unfinished=False)


@beam_search.mistake(
    "one-state-for-all",
    "all hypotheses are extended from the state of the best one",
    "Each hypothesis has read other tokens and has a state of its own: keep it together with its "
    "tokens.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, alpha, one_state=True)


@beam_search.mistake(
    "probabilities-added",
    "the probabilities of the tokens are added",
    "Probabilities of successive tokens multiply, so their logarithms add.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(
        step_fn, bos, eos, width, max_len, alpha, grow=lambda total, step: total + math.exp(step)
    )


@beam_search.mistake(
    "last-token-only",
    "hypotheses are compared by their last token alone",
    "The score of a hypothesis is the sum over all its tokens.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, alpha, grow=lambda total, step: step)


@beam_search.mistake(
    "worst-returned",
    "the complete hypothesis with the lowest score is returned",
    "Log-probabilities are negative: the best is the one closest to 0.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len, alpha, pick=min)


@beam_search.mistake(
    "one-token-more",
    "hypotheses may be one token longer than `max_len`",
    "`max_len` counts all tokens that are produced, `eos` included.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    return _beam(step_fn, bos, eos, width, max_len + 1, alpha)


@beam_search.mistake(
    "bos-in-tokens",
    "`bos` is part of the tokens",
    "The tokens are what was produced: without `bos`.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    tokens, score = _beam(step_fn, bos, eos, width, max_len, alpha)
    return [bos, *tokens], score


@beam_search.mistake(
    "eos-removed",
    "`eos` is removed from the tokens",
    "The caller must see whether the sequence ended or hit `max_len`: leave `eos` in.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    tokens, score = _beam(step_fn, bos, eos, width, max_len, alpha)
    return (tokens[:-1] if tokens[-1] == eos else tokens), score


@beam_search.mistake(
    "score-not-normalised",
    "the right tokens are returned with their plain log-probability",
    "The score is what the hypotheses were compared by: log p divided by the power of the length.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    tokens, score = _beam(step_fn, bos, eos, width, max_len, alpha)
    return tokens, score * len(tokens) ** alpha


@beam_search.mistake(
    "probability-returned",
    "the exponential of the score is returned",
    "Scores stay logarithms.",
)
def _(step_fn, bos, eos, width, max_len, alpha):
    tokens, score = _beam(step_fn, bos, eos, width, max_len, alpha)
    return tokens, math.exp(score)


@beam_search.variant("heap")
def _(step_fn, bos, eos, width, max_len, alpha):
    live, done = [(0.0, (), None)], []
    while live:
        pool = []
        for total, tokens, state in live:
            log_probs, new = step_fn(tokens[-1] if tokens else bos, state)
            pool += [(total + lp, (*tokens, t), new) for t, lp in enumerate(log_probs)]
        best = heapq.nlargest(width, pool, key=lambda h: h[0])
        over = [len(h[1]) == max_len or h[1][-1] == eos for h in best]
        done += [h for h, end in zip(best, over, strict=True) if end]
        live = [h for h, end in zip(best, over, strict=True) if not end]
    total, tokens, _ = max(done, key=lambda h: h[0] / len(h[1]) ** alpha)
    return list(tokens), total / len(tokens) ** alpha


@beam_search.variant("one table per step")
def _(step_fn, bos, eos, width, max_len, alpha):
    totals, histories, states = np.zeros(1), [()], [None]
    best_score, best_tokens = -np.inf, None
    for length in range(1, max_len + 1):
        steps = [step_fn(h[-1] if h else bos, s) for h, s in zip(histories, states, strict=True)]
        table = totals[:, None] + np.array([log_probs for log_probs, _ in steps])
        flat = np.argsort(-table, axis=None, kind="stable")[:width]
        rows, tokens = np.unravel_index(flat, table.shape)
        kept = []
        for row, token in zip(rows, tokens, strict=True):
            history, total = (*histories[row], int(token)), table[row, token]
            if token == eos or length == max_len:
                if total / length**alpha > best_score:
                    best_score, best_tokens = total / length**alpha, history
            else:
                kept.append((total, history, steps[row][1]))
        if not kept:
            break
        totals = np.array([k[0] for k in kept])
        histories, states = [k[1] for k in kept], [k[2] for k in kept]
    return np.array(best_tokens), float(best_score)


@beam_search.variant("recursion")
def _(step_fn, bos, eos, width, max_len, alpha):
    def search(live, length):
        extended = []
        for total, tokens, state in live:
            log_probs, new = step_fn(tokens[-1] if tokens else bos, state)
            for token, lp in enumerate(np.asarray(log_probs).tolist()):
                extended.append((total + lp, [*tokens, token], new))
        extended = sorted(extended, key=lambda h: h[0], reverse=True)[:width]
        done = [h for h in extended if h[1][-1] == eos or length == max_len]
        live = [h for h in extended if not (h[1][-1] == eos or length == max_len)]
        results = [(h[0] / length**alpha, h[1]) for h in done]
        return results + (search(live, length + 1) if live else [])

    score, tokens = max(search([(0.0, [], None)], 1))
    return tokens, score


@beam_search.variant("dictionaries")
def _(step_fn, bos, eos, width, max_len, alpha):
    beam = [{"tokens": [bos], "log_p": 0.0, "state": None}]
    finished = []
    for _ in range(max_len):
        candidates = []
        for h in beam:
            log_probs, state = step_fn(h["tokens"][-1], h["state"])
            for token in range(len(log_probs)):
                entry = {"tokens": [*h["tokens"], token], "state": state}
                entry["log_p"] = h["log_p"] + float(log_probs[token])
                candidates.append(entry)
        candidates.sort(key=lambda h: h["log_p"], reverse=True)
        beam = []
        for h in candidates[:width]:
            (finished if h["tokens"][-1] == eos else beam).append(h)
        if not beam:
            break
    finished += beam
    for h in finished:
        h["score"] = h["log_p"] / (len(h["tokens"]) - 1) ** alpha
    best = max(finished, key=lambda h: h["score"])
    return best["tokens"][1:], best["score"]


def _edited(rng, reference, cut=0):
    """Return a copy of a sentence with one word changed near its end, and words cut off."""
    out = list(reference)
    out[-2] = 50 + int(rng.integers(5))
    return out[: len(out) - cut]


def _corpus(rng, cut):
    """Return candidates that share 4-grams with their references, and repeat some words."""
    candidates, references = [], []
    for n in (9, 14, 7):
        reference = rng.integers(0, 30, n).tolist()
        candidate = _edited(rng, reference, cut)
        candidate[1] = candidate[0]  # once in the reference, twice here
        second = [*reference[: n // 2 + 1], *rng.integers(30, 40, n // 2 + 2).tolist()]
        candidates.append(candidate)
        references.append([reference, second])
    references[1] = [references[1][1], references[1][0][:9], references[1][0]]
    return candidates, references


def _bleu_cases(rng, s):
    candidates, references = _corpus(rng, 0)
    yield Case((candidates, [r[:1] for r in references], 2), "one reference each, max_n = 2")
    yield Case((candidates, [r[:1] for r in references], 4), "candidates as long as references")
    longer = [[*c, 60, 61] for c in candidates]
    yield Case((longer, [r[:1] for r in references], 4), "candidates longer than references")
    yield Case(([r[-1] for r in references], references, 4), "perfect candidates")
    yield Case(([[90, 91, 92, 93, 94]], [[[1, 2, 3, 4, 5]]], 4), "no word in common")
    yield Case(([[1, 2, 3]], [[[1, 2, 3]]], 4), "a candidate of three words")
    short = [*candidates[:1], [7, 8]]
    yield Case((short, [references[0], [[7, 8, 9, 10, 11]]], 4), "one candidate is shorter than 4")
    six = [1, 2, 3, 4, 5, 6]
    tie = [[*six, 9, 7, 8], [*six, 8, 9, 7, 6, 5]]  # 7 words; references of 5 and 9
    yield Case(([[*six, 10]], [[tie[0], six[:5]]], 3), "two references are equally close in length")
    mat = ["the", "cat", "is", "on", "the", "mat"]
    yield Case(([["the"] * 7], [[mat, ["the"]]], 1), "words repeated")
    words = [["the", "white", "whale", "swims", "a", "way"]]
    yield Case((words, [[["the", "white", "whale", "swims", "away", "now", "."]]], 4), "words")
    digits, others = [[1, 12, 3, 4, 5, 6]], [[[11, 2, 3, 4, 5, 6]]]
    yield Case((digits, others, 2), "tokens with one and two digits")
    yield Case(([[2, 1, 3, 4, 5]], [[[1, 2, 3, 4, 5]]], 2), "two words change places")
    order = [[3, 1, 2, 5, 4]]
    yield Case((order, [[[1, 2, 3, 4, 5]]], 1), "right words in the wrong order, max_n = 1")
    both = [[1, 2, 1, 2, 1, 2, 3]]
    yield Case(
        (both, [[[1, 2, 9, 8, 7, 6, 5], [1, 2, 1, 2, 4, 4, 3]]], 2), "counts differ by reference"
    )


bleu = Exercise(
    name="bleu",
    reference=metrics.bleu,
    section=BLEU,
    axes={"candidates": "", "references": "", "max_n": ""},
    returns=("bleu",),
    draw=lambda rng, s: (*_corpus(rng, 2), 4),
    sizes=({}, {"again": 1}),
    special=_bleu_cases,
    atol=1e-9,
    float32=False,
)


def _grams(tokens, n):
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _allowed(references, n, clip):
    counts = [_grams(r, n) for r in references]
    most = Counter()
    for c in counts[:1] if clip == "first" else counts:
        most = most + c if clip == "sum" else most | c
    return most


def _matches(candidate, references, n, clip="max", distinct=False):
    """Return matched and total n-grams of one sentence."""
    counts, most = _grams(candidate, n), _allowed(references, n, clip)
    if distinct:
        counts, most = Counter(set(counts)), Counter(set(most))
    if clip == "none":
        return sum(c for gram, c in counts.items() if gram in most), counts.total()
    return (counts & most).total(), counts.total()


def _closest(candidate, references):
    return min((abs(len(r) - len(candidate)), len(r)) for r in references)[1]


def _penalty(length, reference_length):
    return math.exp(min(0.0, 1 - reference_length / length)) if length else 0.0


def _bleu(
    candidates,
    references,
    max_n=4,
    *,
    clip="max",
    distinct=False,
    length_of=_closest,
    penalty=_penalty,
    combine=None,
    add=0,
    orders=None,
):
    """Return BLEU, with one thing or another done otherwise."""
    precisions = []
    for n in orders or range(1, max_n + 1):
        pairs = [
            _matches(c, r, n, clip, distinct) for c, r in zip(candidates, references, strict=True)
        ]
        matched, total = (sum(p[i] for p in pairs) + add for i in (0, 1))
        precisions.append(matched / total if total else 0.0)
    if combine is None:
        mean = math.prod(precisions) ** (1 / len(precisions))
    else:
        mean = combine(precisions)
    length = sum(map(len, candidates))
    closest = sum(length_of(c, r) for c, r in zip(candidates, references, strict=True))
    return mean * penalty(length, closest)


def _relabelled(label):
    """Return BLEU with every n-gram turned into `label` of it before counting."""

    def code(candidates, references, max_n=4):
        def turned(sentence, n):
            return [label(sentence[i : i + n]) for i in range(len(sentence) - n + 1)]

        log_precision = 0.0
        for n in range(1, max_n + 1):
            pairs = [
                _matches(turned(c, n), [turned(r, n) for r in refs], 1)
                for c, refs in zip(candidates, references, strict=True)
            ]
            matched, total = (sum(p[i] for p in pairs) for i in (0, 1))
            if matched == 0:
                return 0.0
            log_precision += math.log(matched / total) / max_n
        c = sum(map(len, candidates))
        r = sum(map(_closest, candidates, references))
        return math.exp(log_precision + min(0.0, 1 - r / c))

    return code


bleu.mistake(
    "tokens-run-together",
    "the tokens of an n-gram are joined to one string",
    "Joined without a gap, the tokens 1 and 12 look like 11 and 2. What can stand for an n-gram "
    "and keep its tokens apart?",
)(_relabelled(lambda gram: "".join(map(str, gram))))


bleu.mistake(
    "order-inside-ngrams-lost",
    "n-grams count as equal if they hold the same tokens in any order",
    "An n-gram is a *run* of tokens. Without their order, BLEU would not notice words that change "
    "places.",
)(_relabelled(lambda gram: tuple(sorted(map(str, gram)))))


@bleu.mistake(
    "mean-of-sentences",
    "BLEU is computed for each sentence, and then averaged",
    "Counts are summed over the corpus *before* dividing. A single short sentence without a common "
    "4-gram gets 0 in your version.",
)
def _(candidates, references, max_n=4):
    scores = [metrics.bleu([c], [r], max_n) for c, r in zip(candidates, references, strict=True)]
    return sum(scores) / len(scores)


@bleu.mistake(
    "mean-of-precisions-per-sentence",
    "the precision of each sentence is computed, and then averaged",
    "Sum matches and totals over the corpus first, and divide once per n.",
)
def _(candidates, references, max_n=4):
    def mean(n):
        pairs = [_matches(c, r, n) for c, r in zip(candidates, references, strict=True)]
        return sum(m / t if t else 0.0 for m, t in pairs) / len(pairs)

    precisions = [mean(n) for n in range(1, max_n + 1)]
    return _bleu(
        candidates, references, max_n, combine=lambda _: math.prod(precisions) ** (1 / max_n)
    )


@bleu.mistake(
    "not-clipped",
    "an n-gram counts as often as the candidate repeats it",
    '"the the the the" would be a perfect translation of any sentence with "the". How often may '
    "an n-gram count at most?",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, clip="none")


@bleu.mistake(
    "counts-of-references-added",
    "an n-gram may count as often as it occurs in all references together",
    "The references are alternatives: the limit is the largest count in *any one* of them.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, clip="sum")


@bleu.mistake(
    "first-reference-only",
    "matches are looked for in the first reference only",
    "An n-gram may match any of the references.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, clip="first")


@bleu.mistake(
    "different-ngrams-only",
    "each different n-gram counts once",
    "An n-gram that occurs twice in candidate and reference is two matches. Use counts, not sets.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, distinct=True)


@bleu.mistake(
    "no-brevity-penalty",
    "short candidates are not punished",
    "Precision alone is best for a candidate of one safe word. Which factor makes up for it?",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, penalty=lambda c, r: 1.0)


@bleu.mistake(
    "long-candidates-rewarded",
    "the length factor exceeds 1 for long candidates",
    "Long candidates lose precision already. The penalty is never above 1.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, penalty=lambda c, r: math.exp(1 - r / c))


@bleu.mistake(
    "ratio-of-lengths",
    "the penalty is the ratio of the lengths",
    "The penalty is exponential in the ratio: look up its formula.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, penalty=lambda c, r: min(1.0, c / r))


@bleu.mistake(
    "penalty-inverted",
    "candidates longer than the references are punished, short ones are not",
    "Precision already punishes what is too much; the penalty is for what is missing.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, penalty=lambda c, r: _penalty(r, c))


@bleu.mistake(
    "penalty-per-sentence",
    "the brevity penalty is computed for each sentence",
    "One sentence may be short if another is long: lengths are summed over the corpus first.",
)
def _(candidates, references, max_n=4):
    pairs = list(zip(candidates, references, strict=True))
    mean = sum(_penalty(len(c), _closest(c, r)) for c, r in pairs) / len(pairs)
    return _bleu(candidates, references, max_n, penalty=lambda c, r: mean)


@bleu.mistake(
    "shortest-reference",
    "the shortest reference sets the length",
    "With several references the one *closest* in length counts.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, length_of=lambda c, r: min(map(len, r)))


@bleu.mistake(
    "longest-reference",
    "the longest reference sets the length",
    "With several references the one *closest* in length counts.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, length_of=lambda c, r: max(map(len, r)))


@bleu.mistake(
    "first-reference-length",
    "the first reference sets the length",
    "With several references the one *closest* in length counts.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, length_of=lambda c, r: len(r[0]))


@bleu.mistake(
    "longer-of-two-close",
    "of two references equally close in length, the longer one is taken",
    "The docstring says which of two equally close lengths counts.",
)
def _(candidates, references, max_n=4):
    def closest(c, r):
        return min((abs(len(x) - len(c)), -len(x)) for x in r)[1] * -1

    return _bleu(candidates, references, max_n, length_of=closest)


@bleu.mistake(
    "arithmetic-mean",
    "the precisions are averaged arithmetically",
    "If no 4-gram matches, BLEU is 0. Which mean is 0 as soon as one number is?",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, combine=lambda p: sum(p) / len(p))


@bleu.mistake(
    "product-without-root",
    "the precisions are multiplied, and no root is taken",
    "The geometric mean of n numbers is the n-th root of their product.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, combine=math.prod)


@bleu.mistake(
    "only-longest-ngrams",
    "only the precision for n = max_n is used",
    "All n from 1 to `max_n` take part.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, orders=[max_n])


@bleu.mistake(
    "one-order-missing",
    "n = max_n is left out",
    "`range` ends before its second argument.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, orders=list(range(1, max_n)) or [1])


@bleu.mistake(
    "always-four",
    "n-grams up to 4 are used, whatever `max_n` is",
    "`max_n` sets the longest n-gram.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, 4)


@bleu.mistake(
    "smoothed",
    "1 is added to all counts",
    "That is a smoothed version, with other numbers. Without a match BLEU is 0 here.",
)
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n, add=1)


@bleu.mistake(
    "recall",
    "matches are divided by the n-grams of the reference",
    "That is recall, as in ROUGE. BLEU divides by what the candidate has said.",
)
def _(candidates, references, max_n=4):
    def recall(n):
        pairs = list(zip(candidates, references, strict=True))
        total = sum(_grams(r[0], n).total() for _, r in pairs)
        return sum(_matches(c, r, n)[0] for c, r in pairs) / total if total else 0.0

    values = [recall(n) for n in range(1, max_n + 1)]
    return _bleu(candidates, references, max_n, combine=lambda _: math.prod(values) ** (1 / max_n))


@bleu.mistake(
    "percent",
    "the result is multiplied by 100",
    "Papers print 100 times BLEU; here it lies in [0, 1].",
)
def _(candidates, references, max_n=4):
    return 100 * metrics.bleu(candidates, references, max_n)


@bleu.variant("logarithms, loops")
def _(candidates, references, max_n=4):
    log_sum = 0.0
    for n in range(1, max_n + 1):
        right = made = 0
        for c, refs in zip(candidates, references, strict=True):
            mine = [tuple(c[i : i + n]) for i in range(len(c) - n + 1)]
            for gram in set(mine):
                limit = max(
                    sum(tuple(r[i : i + n]) == gram for i in range(len(r) - n + 1)) for r in refs
                )
                right += min(mine.count(gram), limit)
            made += len(mine)
        if right == 0:
            return 0.0
        log_sum += np.log(right) - np.log(made)
    c_len = sum(len(c) for c in candidates)
    r_len = 0
    for c, refs in zip(candidates, references, strict=True):
        r_len += sorted(map(len, refs), key=lambda n: (abs(n - len(c)), n))[0]
    brevity = 1.0 if c_len > r_len else np.exp(1 - r_len / c_len)
    return brevity * np.exp(log_sum / max_n)


@bleu.variant("power of the product")
def _(candidates, references, max_n=4):
    return _bleu(candidates, references, max_n)


@bleu.variant("counts in arrays")
def _(candidates, references, max_n=4):
    stats = np.zeros((max_n, 2))
    lengths = np.zeros(2)
    for c, refs in zip(candidates, references, strict=True):
        for n in range(1, max_n + 1):
            stats[n - 1] += _matches(c, refs, n)
        lengths += len(c), _closest(c, refs)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(stats[:, 0]) - np.log(stats[:, 1])
    if not np.isfinite(logs).all():
        return 0
    return float(np.exp(logs.mean() + min(0.0, 1 - lengths[1] / lengths[0])))


@bleu.variant("strings as keys")
def _(candidates, references, max_n=4):
    def grams(tokens, n):
        return Counter("|".join(map(str, tokens[i : i + n])) for i in range(len(tokens) - n + 1))

    precisions = []
    for n in range(1, max_n + 1):
        right = made = 0
        for c, refs in zip(candidates, references, strict=True):
            mine, theirs = grams(c, n), [grams(r, n) for r in refs]
            right += sum(min(k, max(t[g] for t in theirs)) for g, k in mine.items())
            made += max(len(c) - n + 1, 0)
        if not right:
            return 0.0
        precisions.append(right / made)
    c_len = sum(map(len, candidates))
    r_len = sum(
        min((len(r) for r in refs), key=lambda n: (abs(n - len(c)), n))
        for c, refs in zip(candidates, references, strict=True)
    )
    return float(np.exp(np.mean(np.log(precisions)))) * min(1.0, float(np.exp(1 - r_len / c_len)))
