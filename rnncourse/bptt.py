"""Backpropagation through time: backward passes of the vanilla RNN, and how to check them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncourse import fused
from rnncourse._validation import (
    Array,
    as_float,
    as_floats,
    as_index,
    check_alike,
    check_keys,
    check_number,
    check_positive,
    check_shapes,
    check_size,
)
from rnncourse.clipping import cosine
from rnncourse.rnn import (
    Params,
    cross_entropy,
    log_softmax,
    readout,
    rnn_forward,
    valid_tokens,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def rnn_step_backward(
    dh: ArrayLike, x_t: ArrayLike, h_prev: ArrayLike, h: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike
) -> tuple[Array, Array, Array, Array, Array]:
    """Backpropagate through one step of a vanilla RNN.

    Parameters
    ----------
    dh : ndarray, shape (B, H)
        Total gradient of the loss with respect to `h`: from this step's output and from all later
        steps.
    x_t : ndarray, shape (B, D)
        Inputs of the step.
    h_prev : ndarray, shape (B, H)
        State before the step.
    h : ndarray, shape (B, H)
        State after the step, as :func:`rnncourse.rnn.rnn_step` returned it.
    W_xh : ndarray, shape (H, D)
        Input weights.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.

    Returns
    -------
    dx : ndarray, shape (B, D)
    dh_prev : ndarray, shape (B, H)
    dW_xh : ndarray, shape (H, D)
    dW_hh : ndarray, shape (H, H)
    db_h : ndarray, shape (H,)

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    References
    ----------
    P. J. Werbos, "Backpropagation through time: what it does and how to do it", Proc. IEEE 78(10),
    1990.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> [g.item() for g in rnn_step_backward(one, one, one, 0.5 * one, 2 * one, 3 * one)]
    [1.5, 2.25, 0.75, 0.75, 0.75]
    """
    dh, x_t, h_prev, h = (
        as_float(name, a) for name, a in (("dh", dh), ("x_t", x_t), ("h_prev", h_prev), ("h", h))
    )
    W_xh, W_hh = as_float("W_xh", W_xh), as_float("W_hh", W_hh)
    check_shapes(
        dh=(dh, "B H"),
        x_t=(x_t, "B D"),
        h_prev=(h_prev, "B H"),
        h=(h, "B H"),
        W_xh=(W_xh, "H D"),
        W_hh=(W_hh, "H H"),
    )
    da = dh * (1 - h**2)  # (B, H), through tanh
    return da @ W_xh, da @ W_hh, da.T @ x_t, da.T @ h_prev, da.sum(axis=0)


def rnn_backward(
    dh: ArrayLike, x: ArrayLike, h0: ArrayLike, h: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike
) -> tuple[Array, Array, Array, Array, Array]:
    """Backpropagate through a whole sequence (full BPTT).

    The loss reaches ``h[t]`` on two ways: directly, which is ``dh[t]``, and through ``h[t + 1]``.
    The weights are the same at every step, so their gradients are sums over all steps.

    Parameters
    ----------
    dh : ndarray, shape (T, B, H)
        Direct gradient of the loss with respect to each state, not counting the way through later
        states.
    x : ndarray, shape (T, B, D)
        Inputs.
    h0 : ndarray, shape (B, H)
        State before the first input.
    h : ndarray, shape (T, B, H)
        States, as :func:`rnncourse.rnn.rnn_forward` returned them.
    W_xh : ndarray, shape (H, D)
        Input weights.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.

    Returns
    -------
    dx : ndarray, shape (T, B, D)
    dh0 : ndarray, shape (B, H)
    dW_xh : ndarray, shape (H, D)
    dW_hh : ndarray, shape (H, H)
    db_h : ndarray, shape (H,)

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    See Also
    --------
    rnncourse.fused.rnn_backward : The same result, faster.

    Examples
    --------
    >>> x, h0, h = np.ones((5, 2, 3)), np.zeros((2, 4)), np.full((5, 2, 4), 0.5)
    >>> [g.shape for g in rnn_backward(h, x, h0, h, np.ones((4, 3)), np.eye(4))]
    [(5, 2, 3), (2, 4), (4, 3), (4, 4), (4,)]
    """
    dh, x, h0, h = (as_float(name, a) for name, a in (("dh", dh), ("x", x), ("h0", h0), ("h", h)))
    W_xh, W_hh = as_float("W_xh", W_xh), as_float("W_hh", W_hh)
    check_shapes(
        dh=(dh, "T B H"),
        x=(x, "T B D"),
        h0=(h0, "B H"),
        h=(h, "T B H"),
        W_xh=(W_xh, "H D"),
        W_hh=(W_hh, "H H"),
    )
    dtype = np.result_type(dh, x, h0, h, W_xh, W_hh)
    dx = np.empty(x.shape, dtype)
    dW_xh, dW_hh, db_h = (
        np.zeros(W_xh.shape, dtype),
        np.zeros(W_hh.shape, dtype),
        np.zeros(len(W_hh), dtype),
    )
    dh_next = np.zeros(h0.shape, dtype)  # what the later states ask of this one
    for t in reversed(range(len(x))):
        h_prev = h[t - 1] if t > 0 else h0
        dx[t], dh_next, dW_xh_t, dW_hh_t, db_h_t = rnn_step_backward(
            dh[t] + dh_next, x[t], h_prev, h[t], W_xh, W_hh
        )
        dW_xh += dW_xh_t
        dW_hh += dW_hh_t
        db_h += db_h_t
    return dx, dh_next, dW_xh, dW_hh, db_h


def truncated_bptt(
    dh: ArrayLike,
    x: ArrayLike,
    h0: ArrayLike,
    h: ArrayLike,
    W_xh: ArrayLike,
    W_hh: ArrayLike,
    k: int,
) -> tuple[Array, Array, Array, Array, Array]:
    """Backpropagate so that each ``dh[t]`` passes through at most k steps: t, t − 1, …, t − k + 1.

    The window slides: every step's loss sees k steps of the past [1]_. One pass over the lags
    suffices, because all steps can be sent back by one more step at once. Cost grows with k·T.

    Parameters
    ----------
    dh : ndarray, shape (T, B, H)
        Direct gradient of the loss with respect to each state.
    x : ndarray, shape (T, B, D)
        Inputs.
    h0 : ndarray, shape (B, H)
        State before the first input.
    h : ndarray, shape (T, B, H)
        States, as :func:`rnncourse.rnn.rnn_forward` returned them.
    W_xh : ndarray, shape (H, D)
        Input weights.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.
    k : int
        Number of steps. With k = 1 no gradient flows from one step to another; with k >= T the
        result is that of :func:`rnn_backward`.

    Returns
    -------
    dx : ndarray, shape (T, B, D)
    dh0 : ndarray, shape (B, H)
        From the first k steps only.
    dW_xh : ndarray, shape (H, D)
    dW_hh : ndarray, shape (H, H)
    db_h : ndarray, shape (H,)

    Raises
    ------
    ValueError
        If the shapes do not fit together or `k` is below 1.
    TypeError
        If `k` is not an integer.

    See Also
    --------
    chunked_bptt : The cheaper truncation that training loops use.

    References
    ----------
    .. [1] R. J. Williams, J. Peng, "An efficient gradient-based algorithm for on-line training of
       recurrent network trajectories", Neural Computation 2(4), 1990.

    Examples
    --------
    A loss on the last of three states, with a state of one unit that passes everything on:

    >>> x, h0, h, one = np.ones((3, 1, 1)), np.zeros((1, 1)), np.zeros((3, 1, 1)), np.ones((1, 1))
    >>> dh = np.array([0.0, 0.0, 1.0]).reshape(3, 1, 1)
    >>> for k in (1, 2, 3):
    ...     dx, dh0, *_ = truncated_bptt(dh, x, h0, h, one, one, k)
    ...     print(dx.ravel(), dh0.item())
    [0. 0. 1.] 0.0
    [0. 1. 1.] 0.0
    [1. 1. 1.] 1.0
    """
    dh, x, h0, h = (as_float(name, a) for name, a in (("dh", dh), ("x", x), ("h0", h0), ("h", h)))
    W_xh, W_hh = as_float("W_xh", W_xh), as_float("W_hh", W_hh)
    _check_window(k)
    T = check_shapes(
        dh=(dh, "T B H"),
        x=(x, "T B D"),
        h0=(h0, "B H"),
        h=(h, "T B H"),
        W_xh=(W_xh, "H D"),
        W_hh=(W_hh, "H H"),
    )["T"]
    slope = 1 - h**2  # tanh' at every step
    reach = dh  # reach[s]: what the losses exactly `lag` steps after s ask of h[s]
    total = dh.astype(np.result_type(dh, x, h0, h, W_xh, W_hh))
    for lag in range(1, min(k, T)):
        reach = (reach[1:] * slope[1 : T - lag + 1]) @ W_hh  # all of them one step back
        total[: T - lag] += reach
    da = total * slope  # (T, B, H)
    h_prev = np.concatenate([h0[None], h[:-1]])
    dW_xh, dW_hh = np.tensordot(da, x, ([0, 1], [0, 1])), np.tensordot(da, h_prev, ([0, 1], [0, 1]))
    return da @ W_xh, da[0] @ W_hh, dW_xh, dW_hh, da.sum(axis=(0, 1))


def chunked_bptt(
    dh: ArrayLike,
    x: ArrayLike,
    h0: ArrayLike,
    h: ArrayLike,
    W_xh: ArrayLike,
    W_hh: ArrayLike,
    k: int,
) -> tuple[Array, Array, Array, Array, Array]:
    """Backpropagate through disjoint chunks of k steps; the state goes on, the gradient stops.

    This is what a training loop does that carries the state from chunk to chunk and detaches it.
    ``dh[t]`` reaches back to the start of its own chunk: k steps at a chunk's end, one at its
    start. Cost grows with T alone.

    Parameters
    ----------
    dh : ndarray, shape (T, B, H)
        Direct gradient of the loss with respect to each state.
    x : ndarray, shape (T, B, D)
        Inputs.
    h0 : ndarray, shape (B, H)
        State before the first input.
    h : ndarray, shape (T, B, H)
        States, as :func:`rnncourse.rnn.rnn_forward` returned them.
    W_xh : ndarray, shape (H, D)
        Input weights.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.
    k : int
        Number of steps of a chunk; the last chunk may be shorter.

    Returns
    -------
    dx : ndarray, shape (T, B, D)
    dh0 : ndarray, shape (B, H)
        From the first chunk only.
    dW_xh : ndarray, shape (H, D)
    dW_hh : ndarray, shape (H, H)
    db_h : ndarray, shape (H,)

    Raises
    ------
    ValueError
        If the shapes do not fit together or `k` is below 1.
    TypeError
        If `k` is not an integer.

    See Also
    --------
    truncated_bptt : A window that slides.

    Examples
    --------
    >>> x, h0, h, one = np.ones((4, 1, 1)), np.zeros((1, 1)), np.zeros((4, 1, 1)), np.ones((1, 1))
    >>> dx, dh0, *_ = chunked_bptt(np.ones((4, 1, 1)), x, h0, h, one, one, k=2)
    >>> dx.ravel(), dh0.item()
    (array([2., 1., 2., 1.]), 2.0)
    """
    dh, x, h0, h = (as_float(name, a) for name, a in (("dh", dh), ("x", x), ("h0", h0), ("h", h)))
    W_xh, W_hh = as_float("W_xh", W_xh), as_float("W_hh", W_hh)
    _check_window(k)
    check_shapes(dh=(dh, "T B H"), x=(x, "T B D"), h0=(h0, "B H"), h=(h, "T B H"))
    chunks = []
    for start in range(0, len(x), k):
        chunk = slice(start, start + k)
        h_before = h[start - 1] if start > 0 else h0
        chunks.append(rnn_backward(dh[chunk], x[chunk], h_before, h[chunk], W_xh, W_hh))
    dx, dh0, dW_xh, dW_hh, db_h = zip(*chunks, strict=True)
    return np.concatenate(dx), dh0[0], sum(dW_xh), sum(dW_hh), sum(db_h)


def checkpointed_bptt(
    dh: ArrayLike | Callable[[int, Array], ArrayLike],
    x: ArrayLike,
    h0: ArrayLike,
    W_xh: ArrayLike,
    W_hh: ArrayLike,
    b_h: ArrayLike,
    segment: int | None = None,
) -> tuple[Array, Array, Array, Array]:
    """Run forward and full BPTT while storing only O(√T) states; the gradients are exact.

    The forward pass keeps the state at the start of each segment of about √T steps and forgets the
    rest. The backward pass takes the segments from last to first, computes the states of one of
    them again and sends the gradient through it [1]_. It costs one more forward pass.

    Parameters
    ----------
    dh : ndarray, shape (T, B, H), or callable
        Direct gradient of the loss with respect to each state. A callable ``dh(start, h)`` gets the
        number of the segment's first step and its states ``(S, B, H)``, and returns their gradient
        in the same shape, so that it too never exists for all steps at once.
    x : ndarray, shape (T, B, D)
        Inputs.
    h0 : ndarray, shape (B, H)
        State before the first input.
    W_xh : ndarray, shape (H, D)
        Input weights.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.
    b_h : ndarray, shape (H,)
        Bias.
    segment : int, optional
        Steps of a segment; √T, rounded up, without it.

    Returns
    -------
    dh0 : ndarray, shape (B, H)
    dW_xh : ndarray, shape (H, D)
    dW_hh : ndarray, shape (H, H)
    db_h : ndarray, shape (H,)
        There is no `dx`, which would be as long as the sequence.

    Raises
    ------
    ValueError
        If the shapes do not fit together or `segment` is below 1.
    TypeError
        If `segment` is not an integer.

    References
    ----------
    .. [1] A. Gruslys, R. Munos, I. Danihelka, M. Lanctot, A. Graves, "Memory-efficient
       backpropagation through time", NIPS 2016; T. Chen, B. Xu, C. Zhang, C. Guestrin, "Training
       deep nets with sublinear memory cost", arXiv:1604.06174, 2016.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, h0, dh = (rng.normal(size=s) for s in ((100, 2, 3), (2, 4), (100, 2, 4)))
    >>> weights = rng.normal(size=(4, 3)), rng.normal(size=(4, 4)) / 2, np.zeros(4)
    >>> h = rnn_forward(x, h0, *weights)
    >>> full = rnn_backward(dh, x, h0, h, *weights[:2])[1:]
    >>> all(map(np.allclose, full, checkpointed_bptt(dh, x, h0, *weights)))
    True
    """
    x, h0, W_xh = as_float("x", x), as_float("h0", h0), as_float("W_xh", W_xh)
    W_hh, b_h = as_float("W_hh", W_hh), as_float("b_h", b_h)
    T = check_shapes(
        x=(x, "T B D"), h0=(h0, "B H"), W_xh=(W_xh, "H D"), W_hh=(W_hh, "H H"), b_h=(b_h, "H")
    )["T"]
    steps = math.isqrt(T - 1) + 1 if segment is None else segment
    _check_window(steps, "segment")
    if not callable(dh):
        dh = as_float("dh", dh)
        check_shapes(x=(x, "T B D"), h0=(h0, "B H"), dh=(dh, "T B H"))
    starts = range(0, T, steps)

    checkpoints = np.empty((len(starts), *h0.shape), np.result_type(x, h0, W_xh, W_hh, b_h))
    checkpoints[0] = h0
    for n, start in enumerate(starts[:-1]):
        h = fused.rnn_forward(x[start : start + steps], checkpoints[n], W_xh, W_hh, b_h)
        checkpoints[n + 1] = h[-1]
        del h  # before the next segment needs its room

    dh_end: Array = np.zeros_like(h0)  # gradient of the state at the segment's end, from later ones
    sums: list[Array] = [np.zeros_like(W) for W in (W_xh, W_hh, b_h)]
    part = -(-steps // 4)  # the gradient goes through a segment in parts: less room for its steps
    for start, h_start in zip(reversed(starts), checkpoints[::-1], strict=True):
        x_segment = x[start : start + steps]
        h = fused.rnn_forward(x_segment, h_start, W_xh, W_hh, b_h)
        dh_segment = as_float("dh", dh(start, h) if callable(dh) else dh[start : start + steps])
        check_shapes(h=(h, "S B H"), dh=(dh_segment, "S B H"))
        for t in reversed(range(0, len(h), part)):
            now, h_prev = slice(t, t + part), h[t - 1] if t > 0 else h_start
            _, dh_end, *grads = fused.rnn_backward(
                dh_segment[now], x_segment[now], h_prev, h[now], W_xh, W_hh, dh_end, need_dx=False
            )
            sums = [total + grad for total, grad in zip(sums, grads, strict=True)]
        del h, dh_segment
    dW_xh, dW_hh, db_h = sums
    return dh_end, dW_xh, dW_hh, db_h


def gradient_cosine(full: Sequence[ArrayLike], truncated: Sequence[ArrayLike]) -> float:
    """Return the cosine of the angle between two gradients, each seen as one long vector.

    Parameters
    ----------
    full, truncated : sequence of ndarray
        Gradients in the same order and shapes, such as ``(dW_xh, dW_hh, db_h)``.

    Returns
    -------
    float
        1 for the same direction, 0 for orthogonal ones, -1 for opposite ones.

    Raises
    ------
    ValueError
        If the shapes differ, or one of the two is zero and so has no direction.
    TypeError
        If `full` or `truncated` is no list or tuple of real arrays.

    Examples
    --------
    >>> gradient_cosine([np.array([[3.0]]), np.array([4.0])], [np.array([[3.0]]), np.array([0.0])])
    0.6
    """
    dicts = {}
    for name, grads in (("full", full), ("truncated", truncated)):
        if not isinstance(grads, list | tuple):
            raise TypeError(f"{name} must be a list or tuple of arrays, but it is {grads!r}")
        dicts[name] = as_floats(name, dict(enumerate(grads)))
    if len(full) != len(truncated):
        raise ValueError(f"full holds {len(full)} arrays and truncated {len(truncated)}")
    check_alike(**dicts)
    return cosine(dicts["full"], dicts["truncated"])


def _check_window(k: int, name: str = "k") -> None:
    if not isinstance(k, int | np.integer):
        raise TypeError(f"{name} must be a whole number of steps, but it is {k!r}")
    if k < 1:
        raise ValueError(f"{name} must be at least 1 step, but it is {k}")


def readout_backward(
    dlogits: ArrayLike, h: ArrayLike, W_hy: ArrayLike
) -> tuple[Array, Array, Array]:
    """Backpropagate through the read-out at all positions at once.

    Parameters
    ----------
    dlogits : ndarray, shape (..., V)
    h : ndarray, shape (..., H)
    W_hy : ndarray, shape (V, H)

    Returns
    -------
    dh : ndarray, shape (..., H)
    dW_hy : ndarray, shape (V, H)
    db_y : ndarray, shape (V,)

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> [g.shape for g in readout_backward(np.ones((5, 2, 3)), np.ones((5, 2, 4)), np.ones((3, 4)))]
    [(5, 2, 4), (3, 4), (3,)]
    """
    dlogits, h, W_hy = as_float("dlogits", dlogits), as_float("h", h), as_float("W_hy", W_hy)
    if dlogits.ndim < 1 or dlogits.shape[:-1] != h.shape[:-1]:
        raise ValueError(
            f"h has shape {h.shape}, expected (..., H) with the leading axes of dlogits, "
            f"shape {dlogits.shape}"
        )
    flat_dlogits = dlogits.reshape(-1, dlogits.shape[-1])  # (N, V)
    flat_h = h.reshape(-1, h.shape[-1])  # (N, H)
    check_shapes(dlogits=(flat_dlogits, "N V"), h=(flat_h, "N H"), W_hy=(W_hy, "V H"))
    return dlogits @ W_hy, flat_dlogits.T @ flat_h, flat_dlogits.sum(axis=0)


def cross_entropy_backward(
    logits: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None
) -> Array:
    """Return the gradient of :func:`rnncourse.rnn.cross_entropy` with respect to the logits.

    At a valid position it is (softmax − one-hot) divided by the number of valid positions;
    elsewhere it is zero.

    Parameters
    ----------
    logits : ndarray, shape (..., V)
    targets : ndarray of int, shape (...)
    mask : ndarray of bool, shape (...), optional
        True where a position counts.

    Returns
    -------
    ndarray, shape (..., V)

    Raises
    ------
    ValueError
        If shapes do not fit or a valid target is not in ``[0, V)``.

    Examples
    --------
    >>> cross_entropy_backward(np.zeros((1, 2)), np.array([1]))
    array([[ 0.5, -0.5]])
    """
    logits = as_float("logits", logits)
    labels, weights = valid_tokens(logits, targets, mask)
    weights = weights[..., None]
    one_hot = np.arange(logits.shape[-1]) == labels[..., None]
    dlogits = np.where(weights > 0, np.exp(log_softmax(logits)) - one_hot, 0)
    return dlogits * (weights / np.maximum(weights.sum(), 1))


def embedding_backward(dout: ArrayLike, tokens: ArrayLike, V: int) -> Array:
    """Return the gradient of the embedding matrix: a token's row sums over all its occurrences.

    Parameters
    ----------
    dout : ndarray, shape (..., D)
        Gradient with respect to the looked-up vectors ``E[tokens]``.
    tokens : ndarray of int, shape (...)
    V : int
        Vocabulary size.

    Returns
    -------
    ndarray, shape (V, D)

    Raises
    ------
    ValueError
        If the shapes do not fit, `V` is below 1 or a token is not in ``[0, V)``.
    TypeError
        If `V` or a token is no integer.

    Examples
    --------
    >>> embedding_backward(np.array([[1.0], [2.0], [4.0]]), np.array([0, 2, 0]), V=3)
    array([[5.], [0.], [2.]])
    """
    check_size(V=V)
    dout, tokens = as_float("dout", dout), as_index("tokens", tokens, V)
    if dout.ndim < 1 or dout.shape[:-1] != tokens.shape:
        raise ValueError(
            f"dout has shape {dout.shape}, expected (..., D) with the leading axes of tokens, "
            f"shape {tokens.shape}"
        )
    dE = np.zeros((V, dout.shape[-1]), dout.dtype)
    np.add.at(dE, tokens, dout)  # `dE[tokens] += dout` would keep one of several equal tokens
    return dE


def loss_and_gradients(
    params: Mapping[str, Array],
    x: ArrayLike,
    targets: ArrayLike,
    h0: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> tuple[float, Params]:
    """Return the cross-entropy of an RNN with read-out, and the gradient of every parameter.

    Parameters
    ----------
    params : dict
        ``W_xh``, ``W_hh``, ``b_h``, ``W_hy``, ``b_y``.
    x : ndarray, shape (T, B, D)
        Inputs.
    targets : ndarray of int, shape (T, B)
        Right class at each step.
    h0 : ndarray, shape (B, H), optional
        Initial state; zeros without it.
    mask : ndarray of bool, shape (T, B), optional
        True where a position counts; without it all do.

    Returns
    -------
    loss : float
    grads : dict
        With the keys of `params`.

    Raises
    ------
    ValueError
        If a parameter is missing or the shapes do not fit together.
    TypeError
        If `params` is no dict, or an array does not hold what it should.

    Examples
    --------
    >>> from rnncourse.rnn import init_params
    >>> params = init_params(D=3, H=4, V=2, rng=np.random.default_rng(0))
    >>> loss, grads = loss_and_gradients(params, np.ones((5, 1, 3)), np.zeros((5, 1), int))
    >>> grads.keys() == params.keys()
    True
    """
    x = as_float("x", x)
    check_shapes(x=(x, "T B D"))
    check_keys("params", params, "W_xh", "W_hh", "b_h", "W_hy", "b_y")
    if h0 is None:
        h0 = np.zeros((x.shape[1], len(params["W_hh"])), x.dtype)
    h = rnn_forward(x, h0, params["W_xh"], params["W_hh"], params["b_h"])
    logits = readout(h, params["W_hy"], params["b_y"])
    dlogits = cross_entropy_backward(logits, targets, mask)
    dh, dW_hy, db_y = readout_backward(dlogits, h, params["W_hy"])
    _, _, dW_xh, dW_hh, db_h = rnn_backward(dh, x, h0, h, params["W_xh"], params["W_hh"])
    grads = {"W_xh": dW_xh, "W_hh": dW_hh, "b_h": db_h, "W_hy": dW_hy, "b_y": db_y}
    return float(cross_entropy(logits, targets, mask)), grads


def numerical_gradient(f: Callable[[Array], Any], a: ArrayLike, eps: float = 1e-5) -> Array:
    """Estimate the gradient of a scalar function by central differences.

    The error is O(eps²) from the method plus O(u/eps) from rounding, so the best `eps` is near the
    cube root of the machine precision u: about 6e-6 in float64.

    Parameters
    ----------
    f : callable
        Takes an array of the shape of `a` and returns a number.
    a : ndarray
        Where to take the gradient; it is not modified.
    eps : float, optional
        Step in each coordinate.

    Returns
    -------
    ndarray
        In the shape of `a`, float64.

    Raises
    ------
    ValueError
        If `eps` is not positive.
    TypeError
        If `f` is no function or returns something else than a number, or `a` is not real.

    Examples
    --------
    >>> numerical_gradient(lambda a: (a**2).sum(), np.array([1.0, -3.0])).round(6)
    array([ 2., -6.])
    """
    check_positive("eps", eps)
    if not callable(f):
        raise TypeError(f"f must be a function of an array, but it is {f!r}")
    point = as_float("a", a).astype(np.float64)
    grad = np.empty_like(point)
    for i in np.ndindex(point.shape):
        centre = point[i]
        point[i] = centre + eps
        f_plus = f(point.copy())
        point[i] = centre - eps
        f_minus = f(point.copy())
        point[i] = centre
        check_number("f(a)", f_plus)
        grad[i] = (f_plus - f_minus) / (2 * eps)
    return grad


def relative_error(a: ArrayLike, b: ArrayLike) -> float:
    """Return ``‖a − b‖ / (‖a‖ + ‖b‖)``, the distance of two arrays on a scale from 0 to 1.

    Parameters
    ----------
    a, b : ndarray
        Of the same shape.

    Returns
    -------
    float
        0 if the arrays are equal, also when both are zero.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> relative_error(np.array([1.0]), np.array([3.0]))
    0.5
    """
    a, b = as_float("a", a), as_float("b", b)
    if a.shape != b.shape:
        raise ValueError(f"a has shape {a.shape} and b has shape {b.shape}; they must agree")
    scale = np.linalg.norm(a) + np.linalg.norm(b)
    return float(np.linalg.norm(a - b) / scale) if scale > 0 else 0.0
