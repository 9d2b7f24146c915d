"""Dot and additive attention over the states of an encoder, forward and backward.

S counts source steps, as T counts target steps. Keys and values are time-major, like states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnncourse._validation import Array, Mask, as_float, as_mask, check_shapes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _check_mask(mask: ArrayLike | None, scores: Array) -> Mask:
    if mask is None:
        return np.ones(scores.shape, bool)
    return as_mask("mask", mask, scores.shape, of="scores (S, B)")


def masked_softmax(scores: ArrayLike, mask: ArrayLike | None = None) -> Array:
    """Return the softmax over the source steps that the mask allows, and 0 elsewhere.

    The mask works *before* the normalisation. Zeroing weights after it would leave a sum below 1.

    Parameters
    ----------
    scores : ndarray, shape (S, B)
        What stands at masked steps does not matter.
    mask : ndarray of bool, shape (S, B), optional
        True where a source step is real.

    Returns
    -------
    ndarray, shape (S, B)
        Each column sums to 1; a column without a real step is all zero.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If the mask is neither boolean nor 0/1.

    Examples
    --------
    >>> masked_softmax(np.array([[0.0], [0.0], [9.0]]), np.array([[True], [True], [False]]))
    array([[0.5],
           [0.5],
           [0. ]])
    """
    scores = as_float("scores", scores)
    check_shapes(scores=(scores, "S B"))
    mask = _check_mask(mask, scores)
    allowed = np.where(mask, scores, -np.inf)
    largest = np.where(mask.any(axis=0), allowed.max(axis=0), 0)
    weights = np.exp(allowed - largest)
    total = weights.sum(axis=0)
    return weights / np.where(total > 0, total, 1)


def attend(scores: ArrayLike, V: ArrayLike, mask: ArrayLike | None = None) -> tuple[Array, Array]:
    """Turn scores into weights, and average the values with them.

    Parameters
    ----------
    scores : ndarray, shape (S, B)
    V : ndarray, shape (S, B, E)
        Values. What stands at masked steps does not matter.
    mask : ndarray of bool, shape (S, B), optional
        True where a source step is real.

    Returns
    -------
    context : ndarray, shape (B, E)
        Zero for a sequence without a real step.
    weights : ndarray, shape (S, B)

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> context, weights = attend(np.zeros((2, 1)), np.array([[[1.0]], [[3.0]]]))
    >>> context
    array([[2.]])
    """
    scores, V = as_float("scores", scores), as_float("V", V)
    check_shapes(scores=(scores, "S B"), V=(V, "S B E"))
    weights = masked_softmax(scores, mask)
    values = np.where(weights[..., None] > 0, V, 0)  # 0 · NaN would be NaN
    return np.einsum("sb,sbe->be", weights, values), weights


def attend_backward(dcontext: ArrayLike, V: ArrayLike, weights: ArrayLike) -> tuple[Array, Array]:
    """Backpropagate through :func:`attend`.

    Parameters
    ----------
    dcontext : ndarray, shape (B, E)
    V : ndarray, shape (S, B, E)
    weights : ndarray, shape (S, B)
        As :func:`attend` returned them; masked steps have weight 0 and so no gradient.

    Returns
    -------
    dscores : ndarray, shape (S, B)
    dV : ndarray, shape (S, B, E)

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> weights = np.full((2, 1), 0.5)
    >>> dscores, dV = attend_backward(np.ones((1, 1)), np.array([[[1.0]], [[3.0]]]), weights)
    >>> dscores.ravel(), dV.ravel()
    (array([-0.5,  0.5]), array([0.5, 0.5]))
    """
    dcontext, V, weights = (
        as_float(name, a) for name, a in (("dcontext", dcontext), ("V", V), ("weights", weights))
    )
    check_shapes(dcontext=(dcontext, "B E"), V=(V, "S B E"), weights=(weights, "S B"))
    dV = weights[..., None] * dcontext  # (S, B, E)
    values = np.where(weights[..., None] > 0, V, 0)
    dweights = np.einsum("be,sbe->sb", dcontext, values)
    dscores = weights * (dweights - (weights * dweights).sum(axis=0))  # through the softmax
    return dscores, dV


def dot_attention(
    q: ArrayLike, K: ArrayLike, V: ArrayLike, mask: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Attend with the plain dot product: the score of source step s is ``q · K[s]`` [1]_.

    Parameters
    ----------
    q : ndarray, shape (B, H)
        Query, such as the decoder's state. For scaled scores pass ``q / sqrt(H)``.
    K : ndarray, shape (S, B, H)
        Keys, such as the encoder's states.
    V : ndarray, shape (S, B, E)
        Values; often the keys once more.
    mask : ndarray of bool, shape (S, B), optional
        True where a source step is real. What stands elsewhere in `K` and `V` does not matter.

    Returns
    -------
    context : ndarray, shape (B, E)
        Weighted mean of the values; zero for a sequence without a real step.
    weights : ndarray, shape (S, B)
        Each column sums to 1, or is all zero if the sequence has no real step.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    TypeError
        If the mask is neither boolean nor 0/1.

    References
    ----------
    .. [1] M.-T. Luong, H. Pham, C. D. Manning, "Effective approaches to attention-based neural
       machine translation", EMNLP 2015.

    Examples
    --------
    >>> K = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> context, weights = dot_attention(np.array([[9.0, 0.0]]), K, K)
    >>> weights.round(3).ravel()
    array([1., 0.])
    """
    q, K, V = as_float("q", q), as_float("K", K), as_float("V", V)
    check_shapes(q=(q, "B H"), K=(K, "S B H"), V=(V, "S B E"))
    return attend(np.einsum("bh,sbh->sb", q, K), V, mask)


def attention_backward(
    dcontext: ArrayLike, q: ArrayLike, K: ArrayLike, V: ArrayLike, weights: ArrayLike
) -> tuple[Array, Array, Array]:
    """Backpropagate through :func:`dot_attention`.

    Parameters
    ----------
    dcontext : ndarray, shape (B, E)
        Gradient of the loss with respect to the context.
    q : ndarray, shape (B, H)
    K : ndarray, shape (S, B, H)
    V : ndarray, shape (S, B, E)
    weights : ndarray, shape (S, B)
        As :func:`dot_attention` returned them; masked steps have weight 0.

    Returns
    -------
    dq : ndarray, shape (B, H)
    dK : ndarray, shape (S, B, H)
    dV : ndarray, shape (S, B, E)
        Where keys and values are one array, its gradient is ``dK + dV``.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> q, K, V = np.ones((2, 3)), np.ones((5, 2, 3)), np.ones((5, 2, 4))
    >>> context, weights = dot_attention(q, K, V)
    >>> [g.shape for g in attention_backward(np.ones((2, 4)), q, K, V, weights)]
    [(2, 3), (5, 2, 3), (5, 2, 4)]
    """
    q, K, weights = as_float("q", q), as_float("K", K), as_float("weights", weights)
    check_shapes(q=(q, "B H"), K=(K, "S B H"), weights=(weights, "S B"))
    dscores, dV = attend_backward(dcontext, V, weights)
    keys = np.where(weights[..., None] > 0, K, 0)
    dq = np.einsum("sb,sbh->bh", dscores, keys)
    dK = np.einsum("sb,bh->sbh", dscores, q)
    return dq, dK, dV


def additive_scores(
    q: ArrayLike, K: ArrayLike, W_q: ArrayLike, W_k: ArrayLike, v: ArrayLike
) -> Array:
    """Score source steps with one hidden layer: ``v · tanh(W_q q + W_k K[s])`` [1]_.

    Parameters
    ----------
    q : ndarray, shape (B, H)
        Query, such as the decoder's previous state.
    K : ndarray, shape (S, B, E)
        Keys; their size may differ from the query's.
    W_q : ndarray, shape (A, H)
    W_k : ndarray, shape (A, E)
    v : ndarray, shape (A,)

    Returns
    -------
    ndarray, shape (S, B)
        For :func:`attend`, which applies the mask.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    References
    ----------
    .. [1] D. Bahdanau, K. Cho, Y. Bengio, "Neural machine translation by jointly learning to align
       and translate", ICLR 2015.

    Examples
    --------
    >>> additive_scores(
    ...     np.ones((2, 3)), np.ones((5, 2, 4)), np.ones((6, 3)), np.ones((6, 4)), np.ones(6)
    ... ).shape
    (5, 2)
    """
    return _hidden_layer(q, K, W_q, W_k, v) @ as_float("v", v)


def _hidden_layer(
    q: ArrayLike, K: ArrayLike, W_q: ArrayLike, W_k: ArrayLike, v: ArrayLike
) -> Array:
    """Check the arguments of additive attention and return its hidden layer, (S, B, A)."""
    q, K, v = as_float("q", q), as_float("K", K), as_float("v", v)
    W_q, W_k = as_float("W_q", W_q), as_float("W_k", W_k)
    check_shapes(q=(q, "B H"), K=(K, "S B E"), W_q=(W_q, "A H"), W_k=(W_k, "A E"), v=(v, "A"))
    return np.tanh(q @ W_q.T + K @ W_k.T)


def additive_scores_backward(
    dscores: ArrayLike, q: ArrayLike, K: ArrayLike, W_q: ArrayLike, W_k: ArrayLike, v: ArrayLike
) -> tuple[Array, Array, Array, Array, Array]:
    """Backpropagate through :func:`additive_scores`.

    Parameters
    ----------
    dscores : ndarray, shape (S, B)
        From :func:`attend_backward`.
    q, K, W_q, W_k, v : ndarray
        As for :func:`additive_scores`.

    Returns
    -------
    dq : ndarray, shape (B, H)
    dK : ndarray, shape (S, B, E)
    dW_q : ndarray, shape (A, H)
    dW_k : ndarray, shape (A, E)
    dv : ndarray, shape (A,)

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> q, K, W_q, W_k = np.ones((2, 3)), np.ones((5, 2, 4)), np.ones((6, 3)), np.ones((6, 4))
    >>> grads = additive_scores_backward(np.ones((5, 2)), q, K, W_q, W_k, np.ones(6))
    >>> [g.shape for g in grads]
    [(2, 3), (5, 2, 4), (6, 3), (6, 4), (6,)]
    """
    hidden = _hidden_layer(q, K, W_q, W_k, v)  # (S, B, A)
    dscores, q, K = as_float("dscores", dscores), as_float("q", q), as_float("K", K)
    W_q, W_k, v = as_float("W_q", W_q), as_float("W_k", W_k), as_float("v", v)
    check_shapes(K=(K, "S B E"), dscores=(dscores, "S B"))
    da = dscores[..., None] * v * (1 - hidden**2)  # (S, B, A), through v and tanh
    da_q = da.sum(axis=0)  # (B, A), as the query takes part in every score
    dW_k = np.einsum("sba,sbe->ae", da, K)
    dv = np.einsum("sb,sba->a", dscores, hidden)
    return da_q @ W_q, da @ W_k, da_q.T @ q, dW_k, dv
