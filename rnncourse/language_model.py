"""N-gram language models, the baseline of chapter 11, and a test for copying."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncourse._validation import IntArray, as_index, check_size

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Float64Array = np.ndarray[Any, np.dtype[np.float64]]


def ngram_counts(tokens: Sequence[Any] | IntArray, n: int) -> dict[tuple[Any, ...], int]:
    """Count every run of `n` successive tokens.

    Parameters
    ----------
    tokens : sequence
        Token indices, words, or a string of characters.
    n : int
        Length of the runs, at least 1.

    Returns
    -------
    dict
        From tuples of `n` tokens to their number; empty if there are fewer than `n` tokens.

    Raises
    ------
    ValueError
        If `n` is below 1.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> ngram_counts("abab", 2)
    {('a', 'b'): 2, ('b', 'a'): 1}
    """
    check_size(n=n)
    items = list(_items("tokens", tokens))
    return dict(Counter(tuple(items[i : i + n]) for i in range(len(items) - n + 1)))


class KneserNey:
    """Interpolated Kneser–Ney n-gram model [1]_ [2]_.

    With c the counts of n-grams, d a discount and N₁₊(u ·) the number of different tokens after
    the context u,

    ``p(w | u) = max(c(u w) − d, 0) / c(u ·) + d · N₁₊(u ·) / c(u ·) · p(w | u without its first)``.

    Orders below the highest do not count how often an n-gram occurs but after how many different
    tokens, and below order 1 stands the uniform distribution. A context that never occurred passes
    everything to the shorter one. Every order has the discount ``n₁ / (n₁ + 2 n₂)``, with n₁ and n₂
    the numbers of n-grams counted once and twice, or 0.5 if one of them is zero.

    Parameters
    ----------
    tokens : ndarray of int, shape (N,)
        Training text.
    n : int
        Highest order: a token is predicted from the `n` − 1 before it.
    V : int
        Vocabulary size.

    Raises
    ------
    ValueError
        If there are fewer than `n` tokens, one is not in ``[0, V)``, `n` is below 1, or ``V ** n``
        does not fit into 63 bits.

    References
    ----------
    .. [1] R. Kneser, H. Ney, "Improved backing-off for m-gram language modeling", ICASSP 1995.
    .. [2] S. F. Chen, J. Goodman, "An empirical study of smoothing techniques for language
       modeling", Computer Speech & Language 13(4), 1999.

    Examples
    --------
    >>> model = KneserNey(np.array([0, 1, 0, 1, 0, 2]), n=2, V=4)
    >>> p = model.distribution([0])
    >>> int(p.argmax()), round(float(p.sum()), 6), bool((p > 0).all())
    (1, 1.0, True)
    """

    def __init__(self, tokens: ArrayLike, n: int, V: int) -> None:
        check_size(n=n, V=V)
        tokens = as_index("tokens", tokens, V).astype(np.int64)
        if int(V) ** int(n) >= 2**63:
            raise ValueError(f"V ** n = {V} ** {n} does not fit into 63 bits")
        if tokens.ndim != 1 or len(tokens) < n:
            raise ValueError(f"tokens has shape {tokens.shape}, expected (N,) with N at least {n}")
        self.n, self.V = int(n), int(V)
        # an n-gram is one number in base V; its context is the number without the last digit
        grams, counts = np.unique(self._encode(_runs(tokens, n)), return_counts=True)
        self.orders = [_Order(grams, counts, V)]
        for k in range(n - 1, 0, -1):
            longer = np.unique(self._encode(_runs(tokens, k + 1)))
            # how many different tokens stand to the left of each k-gram
            grams, counts = np.unique(longer % V**k, return_counts=True)
            self.orders.insert(0, _Order(grams, counts, V))

    def _encode(self, runs: IntArray) -> IntArray:
        """Read the last axis as the digits of a number in base V."""
        return runs @ self.V ** np.arange(runs.shape[-1] - 1, -1, -1, dtype=np.int64)

    def _probabilities(self, runs: IntArray) -> Float64Array:
        """Return the probability of each row's last token, given the tokens before it."""
        p = np.full(len(runs), 1 / self.V)
        for k in range(1, runs.shape[1] + 1):
            p = self.orders[k - 1].interpolate(self._encode(runs[:, -k:]), p)
        return p

    def log_probs(self, tokens: ArrayLike) -> Float64Array:
        """Return the natural log-probability of every token of a text, given those before it.

        Parameters
        ----------
        tokens : ndarray of int, shape (N,)
            The first tokens have shorter contexts.

        Returns
        -------
        ndarray, shape (N,)

        Raises
        ------
        ValueError
            If a token is not in ``[0, V)``.

        Examples
        --------
        >>> KneserNey(np.array([0, 1, 0, 1]), n=2, V=2).log_probs(np.array([0, 1])).shape
        (2,)
        """
        tokens = as_index("tokens", tokens, self.V).astype(np.int64)
        if tokens.ndim != 1 or not tokens.size:
            raise ValueError(f"tokens has shape {tokens.shape}, expected (N,) with N at least 1")
        start = [
            self._probabilities(tokens[None, :i]) for i in range(1, min(self.n, len(tokens) + 1))
        ]
        return np.log(np.concatenate([*start, self._probabilities(_runs(tokens, self.n))]))

    def distribution(self, context: ArrayLike) -> Float64Array:
        """Return the probability of every token after a context.

        Parameters
        ----------
        context : sequence of int
            Of any length; at most the last ``n - 1`` tokens matter.

        Returns
        -------
        ndarray, shape (V,)

        Raises
        ------
        ValueError
            If a token is not in ``[0, V)``.

        Examples
        --------
        >>> KneserNey(np.array([0, 1, 0, 1]), n=2, V=2).distribution([0]).round(3)
        array([0.083, 0.917])
        """
        past = as_index("context", context, self.V) if np.size(context) else np.empty(0, np.int64)
        if past.ndim != 1:
            raise ValueError(f"context has shape {past.shape}, expected (N,)")
        past = past[max(len(past) - self.n + 1, 0) :]
        runs = np.column_stack([np.tile(past, (self.V, 1)), np.arange(self.V)])
        return self._probabilities(runs.astype(np.int64))


class _Order:
    """Counts of all n-grams of one length, with those of their contexts."""

    def __init__(self, grams: IntArray, counts: IntArray, V: int) -> None:
        once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
        self.discount = once / (once + 2 * twice) if once and twice else 0.5
        self.V, self.grams, self.counts = V, grams, counts
        self.contexts, first, self.kinds = np.unique(
            grams // V, return_index=True, return_counts=True
        )
        self.totals = np.add.reduceat(counts, first)

    def interpolate(self, grams: IntArray, lower: Float64Array) -> Float64Array:
        """Return the probabilities at this order, given those of the order below."""
        count = _lookup(self.grams, self.counts, grams)
        total = _lookup(self.contexts, self.totals, grams // self.V)
        kinds = _lookup(self.contexts, self.kinds, grams // self.V)
        d = self.discount
        p = (np.maximum(count - d, 0) + d * kinds * lower) / np.maximum(total, 1)
        return np.where(total > 0, p, lower)


def _runs(tokens: IntArray, n: int) -> IntArray:
    """Return all runs of n tokens, shape (N - n + 1, n)."""
    if len(tokens) < n:
        return np.empty((0, n), np.int64)
    return np.lib.stride_tricks.sliding_window_view(tokens, n)


def _lookup(keys: IntArray, values: IntArray, wanted: IntArray) -> IntArray:
    """Return the values that belong to `wanted` among the sorted `keys`, 0 where there is none."""
    position = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[position] == wanted, values[position], 0)


def longest_copied_ngram(
    sample: Sequence[Hashable] | IntArray, train: Sequence[Hashable] | IntArray
) -> int:
    """Return the length of the longest run of tokens in `sample` that also occurs in `train`.

    Parameters
    ----------
    sample, train : sequence
        Token indices, words, or strings of characters.

    Returns
    -------
    int
        0 if they share no token.

    Raises
    ------
    TypeError
        If `sample` or `train` is no sequence.

    Examples
    --------
    >>> longest_copied_ngram("the white cat", "a white whale")
    7
    """
    if isinstance(sample, str) and isinstance(train, str):
        return _longest_shared_substring(sample, train)
    codes: dict[Any, int] = {}
    sample, train = (
        np.array([codes.setdefault(item, len(codes)) for item in _items(name, tokens)], np.int64)
        for name, tokens in (("sample", sample), ("train", train))
    )
    longest, run = 0, np.zeros(len(train) + 1, np.int64)
    for token in sample:
        # run[j + 1]: how many tokens before and at train[j] equal the last ones of the sample
        run[1:] = np.where(train == token, run[:-1] + 1, 0)
        longest = max(longest, int(run.max()))
    return longest


def _longest_shared_substring(sample: str, train: str) -> int:
    longest = 0
    for start in range(len(sample)):
        # only a run longer than the best so far is of interest, so the search never goes back
        while start + longest < len(sample) and sample[start : start + longest + 1] in train:
            longest += 1
    return longest


def _items(name: str, tokens: Sequence[Hashable] | IntArray) -> Sequence[Any]:
    if not hasattr(tokens, "__len__"):
        raise TypeError(f"{name} must be a sequence of tokens, but it is {tokens!r}")
    if isinstance(tokens, np.ndarray) and tokens.ndim != 1:
        raise ValueError(f"{name} has shape {tokens.shape}, expected (N,)")
    return tokens.tolist() if isinstance(tokens, np.ndarray) else tokens
