"""What results are measured with: language models, translation, speech and forecasts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rnncourse._validation import Array, as_float, as_mask, check_number, check_size
from rnncourse.language_model import ngram_counts
from rnncourse.rnn import valid_tokens
from rnncourse.sequences import masked_mean

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def perplexity(log_probs: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Return ``exp(−mean log p)``: how many equally likely tokens would be as hard to guess.

    The mean is over all tokens that count. The mean of the perplexities of batches is larger.

    Parameters
    ----------
    log_probs : ndarray, shape (...)
        Natural log-probability that the model gave to each token that came, none above 0.
    mask : ndarray of bool, shape (...), optional
        True where a token counts.

    Returns
    -------
    float
        At least 1; 1 if no token counts.

    Raises
    ------
    ValueError
        If the shapes differ or a log-probability that counts is NaN or above 0.

    Examples
    --------
    >>> round(perplexity(np.log([0.25, 0.25, 0.25])), 6)
    4.0
    """
    log_probs = as_float("log_probs", log_probs)
    if mask is None:
        mask = np.ones(log_probs.shape, bool)
    mask = as_mask("mask", mask, log_probs.shape, of="log_probs")
    mean = masked_mean(log_probs, mask)
    if not np.all(log_probs[mask] <= 1e-6):
        raise ValueError("log_probs holds NaN or a value above 0: these are not log-probabilities")
    return float(np.exp(-mean))


def bits_per_character(loss: float) -> float:
    """Convert a mean cross-entropy from nats to bits: divide by ``log 2``.

    Parameters
    ----------
    loss : float
        Mean negative natural log-probability per character.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `loss` is negative or NaN.
    TypeError
        If a parameter is no number.

    Examples
    --------
    >>> bits_per_character(np.log(8))
    3.0
    """
    check_number("loss", loss)
    if not loss >= 0:
        raise ValueError(f"loss must be at least 0, but it is {loss}")
    return float(loss / np.log(2))


def accuracy(logits: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Return the share of positions whose largest logit is the target's.

    Parameters
    ----------
    logits : ndarray, shape (..., V)
        Among equal logits the first counts as the answer.
    targets : ndarray of int, shape (...)
    mask : ndarray of bool, shape (...), optional
        True where a position counts.

    Returns
    -------
    float
        0 if no position counts.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    logits = as_float("logits", logits)
    labels, weights = valid_tokens(logits, targets, mask)
    if np.isnan(logits[weights > 0]).any():
        raise ValueError("logits holds NaN, which has no largest entry")
    return masked_mean(logits.argmax(axis=-1) == labels, weights)


def bleu(
    candidates: Sequence[Sequence[Hashable]],
    references: Sequence[Sequence[Sequence[Hashable]]],
    max_n: int = 4,
) -> float:
    """Return the BLEU score of a corpus [1]_, without smoothing.

    The geometric mean of the clipped n-gram precisions for n = 1 to `max_n`, times a penalty if the
    candidates are together shorter than their closest references. Counts are summed over the corpus
    before dividing: BLEU is not a mean over sentences.

    Parameters
    ----------
    candidates : sequence of token sequences
    references : sequence of lists of token sequences
        ``references[i]`` holds one or more references for ``candidates[i]``.
    max_n : int, optional
        Longest n-gram.

    Returns
    -------
    float
        In [0, 1]; papers print 100 times this. 0 if no n-gram of some length matches.

    Raises
    ------
    ValueError
        If there is no candidate, a candidate has no reference, the numbers of candidates and
        reference lists differ, or `max_n` is below 1.
    TypeError
        If a reference is a string although its candidate is split into tokens.

    References
    ----------
    .. [1] K. Papineni, S. Roukos, T. Ward, W.-J. Zhu, "BLEU: a method for automatic evaluation of
       machine translation", ACL 2002.

    Examples
    --------
    >>> candidate = "the the the the".split()
    >>> bleu([candidate], [["the cat sat down".split()]], max_n=1)
    0.25
    """
    check_size(max_n=max_n)
    _check_texts(candidates=candidates, references=references)
    if not candidates or len(candidates) != len(references) or not all(map(len, references)):
        raise ValueError(
            f"candidates has {len(candidates)} entries and references has {len(references)}; "
            "there must be at least one, as many of both, and at least one reference each"
        )
    for i, (candidate, alternatives) in enumerate(zip(candidates, references, strict=True)):
        if not isinstance(candidate, str) and any(isinstance(r, str) for r in alternatives):
            raise TypeError(
                f"references[{i}] must be a list of references, each split into tokens as "
                f"candidates[{i}] is, but it holds strings"
            )
        _check_texts(**{f"references[{i}]": alternatives})
    log_precision = 0.0
    for n in range(1, max_n + 1):
        matches = total = 0
        for candidate, alternatives in zip(candidates, references, strict=True):
            counts = Counter(ngram_counts(candidate, n))
            most = Counter[tuple[Hashable, ...]]()
            for reference in alternatives:
                most |= Counter(ngram_counts(reference, n))  # the largest count in any reference
            matches += (counts & most).total()  # an n-gram counts at most as often as there
            total += counts.total()
        if matches == 0:
            return 0.0
        log_precision += math.log(matches / total) / max_n
    length = sum(map(len, candidates))
    closest = sum(
        min((abs(len(r) - len(c)), len(r)) for r in alternatives)[1]
        for c, alternatives in zip(candidates, references, strict=True)
    )
    return math.exp(log_precision + min(0.0, 1 - closest / length))


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Return the least number of insertions, deletions and substitutions that turn `a` into `b`.

    Parameters
    ----------
    a, b : sequence
        Strings, or lists of words or tokens.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If `a` or `b` is no sequence.

    References
    ----------
    V. I. Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals",
    Soviet Physics Doklady 10(8), 1966.

    Examples
    --------
    >>> edit_distance("kitten", "sitting")
    3
    """
    for name, sequence in (("a", a), ("b", b)):
        if not hasattr(sequence, "__len__"):
            raise TypeError(f"{name} must be a sequence, but it is {sequence!r}")
    row = list(range(len(b) + 1))  # distances from a[:0]
    for i, item in enumerate(a, start=1):
        above, row = row, [i]
        for j, other in enumerate(b, start=1):
            substitution = above[j - 1] + (item != other)
            row.append(min(substitution, above[j] + 1, row[j - 1] + 1))
    return row[-1]


def word_error_rate(
    hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]
) -> float:
    """Return all edits divided by the number of reference words. It may exceed 1.

    Parameters
    ----------
    hypotheses, references : sequence of word sequences
        Of the same length. A string counts as a sequence of characters.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If their numbers differ or the references hold no word.

    Examples
    --------
    >>> word_error_rate(["a b c d".split()], [["a"]])
    3.0
    """
    _check_texts(hypotheses=hypotheses, references=references)
    if len(hypotheses) != len(references):
        raise ValueError(
            f"hypotheses has {len(hypotheses)} entries and references has {len(references)}"
        )
    words = sum(map(len, references))
    if not words:
        raise ValueError("references must hold at least one word")
    return sum(map(edit_distance, hypotheses, references)) / words


def _check_texts(**texts: Sequence[Sequence[object]]) -> None:
    """Check that each argument is a list of sequences and not, say, one string."""
    for name, sequences in texts.items():
        if isinstance(sequences, str) or not (
            hasattr(sequences, "__len__") and all(hasattr(s, "__len__") for s in sequences)
        ):
            raise TypeError(f"{name} must hold sequences of tokens, but it is {sequences!r}")


def _pair(**arrays: ArrayLike) -> list[Array]:
    """Return arrays of the same shape, none of them empty."""
    checked = [as_float(name, a) for name, a in arrays.items()]
    for name, array in zip(arrays, checked, strict=True):
        if array.shape != checked[0].shape or not array.size:
            raise ValueError(
                f"{name} has shape {array.shape}, expected {checked[0].shape}, "
                f"the shape of {next(iter(arrays))}, with at least one entry"
            )
    return checked


def rmse(y: ArrayLike, y_hat: ArrayLike) -> float:
    """Return the root of the mean squared error.

    Parameters
    ----------
    y, y_hat : ndarray
        Of the same shape.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the shapes differ or there is no entry.

    Examples
    --------
    >>> rmse([1.0, 2.0], [1.0, 4.0]) == 2**0.5
    True
    """
    y, y_hat = _pair(y=y, y_hat=y_hat)
    return float(np.sqrt(np.mean((y - y_hat) ** 2)))


def skill(error: float, baseline_error: float) -> float:
    """Return ``1 − error / baseline_error``: 1 is perfect, 0 no better, below 0 worse.

    Parameters
    ----------
    error, baseline_error : float
        The same measure of error for the model and for what it must beat.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the baseline's error is not positive.
    TypeError
        If a parameter is no number.

    Examples
    --------
    >>> skill(0.5, baseline_error=2.0)
    0.75
    """
    check_number("error", error)
    check_number("baseline_error", baseline_error)
    if not baseline_error > 0:
        raise ValueError(f"baseline_error must be positive, but it is {baseline_error}")
    return 1 - error / baseline_error


def mase(y: ArrayLike, y_hat: ArrayLike, train: ArrayLike, m: int) -> float:
    """Return the mean absolute error over that of the seasonal-naive forecast in training [1]_.

    Parameters
    ----------
    y, y_hat : ndarray
        Values and forecasts, of the same shape.
    train : ndarray, shape (N,)
        Training part of the series. It sets the scale: the mean of ``|train[t] − train[t − m]|``.
    m : int
        Season; 1 compares with persistence.

    Returns
    -------
    float
        Below 1 where the forecast is better than the seasonal-naive one was in training.

    Raises
    ------
    ValueError
        If the shapes differ, `train` has no value `m` steps after its first, or repeats itself
        exactly, so that there is no scale.
    TypeError
        If a size is no integer.

    References
    ----------
    .. [1] R. J. Hyndman, A. B. Koehler, "Another look at measures of forecast accuracy",
       International Journal of Forecasting 22(4), 2006.

    Examples
    --------
    >>> mase([5.0, 5.0], [4.0, 8.0], train=[0.0, 1.0, 3.0, 2.0, 6.0], m=1)
    1.0
    """
    y, y_hat = _pair(y=y, y_hat=y_hat)
    train = as_float("train", train)
    check_size(m=m)
    if train.ndim != 1 or len(train) <= m:
        raise ValueError(
            f"train has shape {train.shape} and m is {m}; "
            "expected (N,) with N above m and m at least 1"
        )
    scale = np.mean(np.abs(train[m:] - train[:-m]))
    if scale == 0:
        raise ValueError(f"train repeats itself exactly after m = {m} steps: there is no scale")
    return float(np.mean(np.abs(y - y_hat)) / scale)


def pinball(y: ArrayLike, q: ArrayLike, tau: float) -> float:
    """Return the mean quantile loss: ``tau · (y − q)`` above the forecast, ``(1 − tau) · (q − y)``
    below.

    Its expectation is smallest where `q` is the tau-quantile of y.

    Parameters
    ----------
    y, q : ndarray
        Values and forecasts of their quantile, of the same shape.
    tau : float
        Which quantile, in (0, 1).

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the shapes differ or `tau` is not in (0, 1).
    TypeError
        If a parameter is no number.

    References
    ----------
    R. Koenker, G. Bassett, "Regression quantiles", Econometrica 46(1), 1978.

    Examples
    --------
    >>> pinball([10.0, 10.0], [8.0, 12.0], tau=0.75)
    1.0
    """
    y, q = _pair(y=y, q=q)
    check_number("tau", tau)
    if not 0 < tau < 1:
        raise ValueError(f"tau must lie in (0, 1), but it is {tau}")
    return float(np.mean(np.maximum(tau * (y - q), (tau - 1) * (y - q))))


def interval_coverage(y: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> float:
    """Return the share of values inside their forecast interval, ends included.

    Parameters
    ----------
    y, lower, upper : ndarray
        Of the same shape, no lower end above its upper end.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the shapes differ, a value is NaN or an interval is upside down.

    Examples
    --------
    >>> interval_coverage([1.0, 5.0], lower=[0.0, 0.0], upper=[2.0, 4.0])
    0.5
    """
    y, lower, upper = _pair(y=y, lower=lower, upper=upper)
    if not (lower <= upper).all() or np.isnan(y).any():
        raise ValueError("lower is above upper in at least one interval, or an argument holds NaN")
    return float(np.mean((lower <= y) & (y <= upper)))
