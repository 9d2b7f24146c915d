"""Connectionist temporal classification: labels without their times (Graves et al. 2006).

A path names one label or the blank at every step. Collapsing it, first repeats and then blanks,
gives a label sequence; the likelihood of a label sequence sums over all paths that collapse to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rnncourse._validation import (
    Array,
    IntArray,
    as_array,
    as_float,
    as_index,
    check_shapes,
    check_size,
)
from rnncourse.rnn import log_softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def collapse(path: Sequence[int] | IntArray, blank: int = 0) -> list[int]:
    """Merge repeated labels, *then* remove blanks; so a blank between them keeps two equal labels.

    Parameters
    ----------
    path : sequence of int
        One label or the blank for every step.
    blank : int, optional

    Returns
    -------
    list of int

    Raises
    ------
    ValueError
        If `path` is not one sequence of integers.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> collapse([0, 3, 3, 0, 3, 5, 5, 0])
    [3, 3, 5]
    """
    path = as_array("path", path)
    check_size(0, blank=blank)
    if path.size and (path.ndim != 1 or path.dtype.kind not in "iu"):
        raise ValueError(
            f"path has shape {path.shape} and dtype {path.dtype}, expected (T,) integers: one "
            "label or the blank for every step"
        )
    steps = [int(label) for label in path]
    merged = [label for t, label in enumerate(steps) if t == 0 or label != steps[t - 1]]
    return [label for label in merged if label != blank]


def ctc_greedy(log_probs: ArrayLike, blank: int = 0) -> list[int]:
    """Collapse the most probable path, which need not give the most probable labels.

    Parameters
    ----------
    log_probs : ndarray, shape (T, V)
        Logits serve as well.
    blank : int, optional

    Returns
    -------
    list of int

    Raises
    ------
    ValueError
        If `log_probs` is not of shape (T, V), holds NaN, or `blank` is not in ``[0, V)``.

    Examples
    --------
    >>> ctc_greedy(np.eye(3)[[0, 1, 1, 0, 1, 2]])
    [1, 1, 2]
    """
    log_probs = as_float("log_probs", log_probs)
    _check_scores(log_probs, blank)
    return collapse(log_probs.argmax(axis=-1), blank)


def _check_scores(log_probs: Array, blank: int) -> int:
    """Check log-probabilities or logits and the blank; return V."""
    V = check_shapes(log_probs=(log_probs, "T V"))["V"]
    if np.isnan(log_probs).any():
        raise ValueError("log_probs holds NaN")
    if as_index("blank", blank, V).ndim:
        raise TypeError(f"blank must be one label, but it is {blank!r}")
    return V


def _check(log_probs: ArrayLike, labels: ArrayLike, blank: int) -> tuple[Array, IntArray]:
    """Check the arguments; return the log-probabilities and the labels with blanks between."""
    log_probs = as_float("log_probs", log_probs)
    V = _check_scores(log_probs, blank)
    labels = as_array("labels", labels)
    checked = as_index("labels", labels, V) if labels.size else np.empty(0, np.intp)
    if checked.ndim != 1 or (checked == blank).any():
        raise ValueError(
            f"labels must be a sequence without the blank {blank}, but it is {checked}"
        )
    with_blanks = np.full(2 * len(checked) + 1, blank)
    with_blanks[1::2] = checked
    return log_probs, with_blanks


def _alpha(log_probs: Array, states: IntArray, blank: int) -> Array:
    """Return log alpha, shape (T, S): of all paths that stand in state s after step t."""
    may_skip = np.zeros(len(states), bool)  # the blank between two different labels is optional
    may_skip[2:] = (states[2:] != blank) & (states[2:] != states[:-2])
    log_p = log_probs[:, states]  # (T, S)
    alpha = np.full(log_p.shape, -np.inf, log_p.dtype)
    alpha[0, :2] = log_p[0, :2]
    for t in range(1, len(log_p)):
        reached = alpha[t - 1].copy()  # by staying
        reached[1:] = np.logaddexp(reached[1:], alpha[t - 1, :-1])  # by one step
        skipped = np.where(may_skip[2:], alpha[t - 1, :-2], -np.inf)
        reached[2:] = np.logaddexp(reached[2:], skipped)
        alpha[t] = reached + log_p[t]
    return alpha


def ctc_log_likelihood(log_probs: ArrayLike, labels: ArrayLike, blank: int = 0) -> float:
    """Return the log-probability of a label sequence, summed over all paths by dynamic programming.

    With blanks put around and between the labels, a path moves through S = 2L + 1 states: it stays,
    advances by one, or skips the blank between two different labels [1]_.

    Parameters
    ----------
    log_probs : ndarray, shape (T, V)
        Log-probabilities of labels and blank at every step.
    labels : sequence of int, length L
        Without blanks; it may be empty.
    blank : int, optional

    Returns
    -------
    float
        ``-inf`` if T steps are too few: L plus the number of equal neighbours are needed.

    Raises
    ------
    ValueError
        If the shapes do not fit, or `labels` holds the blank or anything outside ``[0, V)``.

    References
    ----------
    .. [1] A. Graves, S. Fernández, F. Gomez, J. Schmidhuber, "Connectionist temporal
       classification", ICML 2006.

    Examples
    --------
    Two steps, uniform over a blank and one label: three of four paths collapse to that label.

    >>> round(float(np.exp(ctc_log_likelihood(np.log(np.full((2, 2), 0.5)), [1]))), 6)
    0.75
    """
    log_probs, states = _check(log_probs, labels, blank)
    alpha = _alpha(log_probs, states, blank)
    return float(np.logaddexp.reduce(alpha[-1, -2:]))  # ends in the last label or the blank after


def ctc_gradient(logits: ArrayLike, labels: ArrayLike, blank: int = 0) -> tuple[float, Array]:
    """Return the CTC loss of one sequence and its gradient with respect to the logits.

    The gradient is softmax − occupancy. The occupancy says how probable each symbol is at each
    step, given that the path collapses to the labels.

    Parameters
    ----------
    logits : ndarray, shape (T, V)
    labels : sequence of int, length L
    blank : int, optional

    Returns
    -------
    loss : float
        Negative log-likelihood; ``inf`` if there are too few steps for the labels.
    dlogits : ndarray, shape (T, V)
        Zero where the loss is infinite.

    Raises
    ------
    ValueError
        If the shapes do not fit, a logit is not finite, or `labels` holds the blank or anything
        outside ``[0, V)``.

    Examples
    --------
    >>> loss, dlogits = ctc_gradient(np.zeros((2, 2)), [1])
    >>> dlogits.round(4)
    array([[ 0.1667, -0.1667],
           [ 0.1667, -0.1667]])
    """
    logits = as_float("logits", logits)
    check_shapes(logits=(logits, "T V"))
    if not np.isfinite(logits).all():
        raise ValueError("logits holds NaN or infinity")
    log_probs, states = _check(log_softmax(logits), labels, blank)
    alpha = _alpha(log_probs, states, blank)
    log_likelihood = np.logaddexp.reduce(alpha[-1, -2:])
    if log_likelihood == -np.inf:
        return np.inf, np.zeros_like(log_probs)
    # the way from the end is the way of the reversed problem; both count step t, so divide once
    beta = _alpha(log_probs[::-1], states[::-1], blank)[::-1, ::-1]
    posterior = np.exp(alpha + beta - log_probs[:, states] - log_likelihood)  # (T, S)
    occupancy = np.zeros_like(log_probs)
    np.add.at(occupancy.T, states, posterior.T)
    return float(-log_likelihood), np.exp(log_probs) - occupancy


def ctc_loss(
    logits: ArrayLike,
    lengths: ArrayLike,
    labels: Sequence[ArrayLike],
    blank: int = 0,
) -> tuple[float, Array]:
    """Return the mean CTC loss of a padded batch and its gradient.

    Parameters
    ----------
    logits : ndarray, shape (T, B, V)
    lengths : ndarray of int, shape (B,)
        Each in [1, T].
    labels : sequence of B label sequences
    blank : int, optional

    Returns
    -------
    loss : float
        Mean over the batch; sequences with too few steps for their labels are left out.
    dlogits : ndarray, shape (T, B, V)
        Zero at padded steps and for the sequences left out.

    Raises
    ------
    ValueError
        If the shapes do not fit, a length is below 1 or beyond T, or a label is out of range.

    Examples
    --------
    >>> loss, dlogits = ctc_loss(np.zeros((4, 2, 3)), [4, 2], [[1, 2], [2]])
    >>> round(loss, 4), dlogits.shape, bool((dlogits[2:, 1] == 0).all())
    (1.3925, (4, 2, 3), True)
    """
    logits, lengths = as_float("logits", logits), as_index("lengths", lengths)
    sizes = check_shapes(logits=(logits, "T B V"), lengths=(lengths, "B"))
    if lengths.min() < 1 or lengths.max() > sizes["T"]:
        raise ValueError(f"lengths must lie in [1, T = {sizes['T']}], but they are {lengths}")
    if not hasattr(labels, "__len__"):
        raise TypeError(f"labels must be a sequence of label sequences, but it is {labels!r}")
    if len(labels) != sizes["B"]:
        raise ValueError(f"labels has {len(labels)} entries, expected B = {sizes['B']}")
    total, counted, dlogits = 0.0, 0, np.zeros_like(logits)
    for i, (length, sequence) in enumerate(zip(lengths, labels, strict=True)):
        loss, dlogits[:length, i] = ctc_gradient(logits[:length, i], sequence, blank)
        if np.isfinite(loss):
            total, counted = total + loss, counted + 1
    return total / max(counted, 1), dlogits / max(counted, 1)
