"""Recurrences with a shorter way through time: leaky states, skip connections, learned starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnncourse._validation import Array, as_float, check_number, check_shapes, check_size

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def leaky_rnn_forward(
    x: ArrayLike, h0: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike, alpha: float
) -> Array:
    """Run a leaky RNN, whose state moves only a part of the way at each step.

    ``h_t = (1 − α) h_{t-1} + α tanh(W_xh x_t + W_hh h_{t-1} + b_h)`` [1]_. With a small α the
    Jacobian of a step, ``(1 − α) I + α diag(1 − tanh²) W_hh``, stays near the identity.

    Parameters
    ----------
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
    alpha : float
        Share of the new value, in (0, 1]; with 1 this is the vanilla RNN.

    Returns
    -------
    ndarray, shape (T, B, H)
        States.

    Raises
    ------
    ValueError
        If the shapes do not fit together or `alpha` is not in (0, 1].

    References
    ----------
    .. [1] H. Jaeger, M. Lukoševičius, D. Popovici, U. Siewert, "Optimization and applications of
       echo state networks with leaky-integrator neurons", Neural Networks 20(3), 2007.

    Examples
    --------
    Without input the state fades by 1 − α at each step:

    >>> zero = np.zeros((1, 1))
    >>> leaky_rnn_forward(np.zeros((3, 1, 1)), [[1.0]], zero, zero, [0.0], alpha=0.5).ravel()
    array([0.5  , 0.25 , 0.125])
    """
    x, h0, W_xh, W_hh, b_h = _check_forward(x, h0, W_xh, W_hh, b_h)
    _check_alpha(alpha)
    h = np.empty((len(x), *h0.shape), np.result_type(x, h0, W_xh, W_hh, b_h))
    h_prev = h0
    for t in range(len(x)):
        new = np.tanh(x[t] @ W_xh.T + h_prev @ W_hh.T + b_h)  # (B, H)
        h_prev = h[t] = (1 - alpha) * h_prev + alpha * new
    return h


def leaky_rnn_backward(
    dh: ArrayLike,
    x: ArrayLike,
    h0: ArrayLike,
    h: ArrayLike,
    W_xh: ArrayLike,
    W_hh: ArrayLike,
    b_h: ArrayLike,
    alpha: float,
) -> tuple[Array, Array, Array, Array, Array]:
    """Backpropagate through a leaky RNN.

    Parameters
    ----------
    dh : ndarray, shape (T, B, H)
        Direct gradient of the loss with respect to each state.
    x, h0, W_xh, W_hh, b_h, alpha
        As given to :func:`leaky_rnn_forward`.
    h : ndarray, shape (T, B, H)
        As :func:`leaky_rnn_forward` returned it.

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
        If the shapes do not fit together or `alpha` is not in (0, 1].

    Examples
    --------
    Even with no recurrent weights the gradient reaches the initial state, as (1 − α) per step:

    >>> x, zero, dh = np.zeros((3, 1, 1)), np.zeros((1, 1)), np.zeros((3, 1, 1))
    >>> dh[-1] = 1
    >>> h = leaky_rnn_forward(x, zero, zero, zero, [0.0], alpha=0.5)
    >>> leaky_rnn_backward(dh, x, zero, h, zero, zero, [0.0], alpha=0.5)[1].item()
    0.125
    """
    x, h0, W_xh, W_hh, b_h = _check_forward(x, h0, W_xh, W_hh, b_h)
    dh, h = as_float("dh", dh), as_float("h", h)
    check_shapes(x=(x, "T B D"), h0=(h0, "B H"), dh=(dh, "T B H"), h=(h, "T B H"))
    _check_alpha(alpha)
    h_prev = np.concatenate([h0[None], h[:-1]])
    new = np.tanh(x @ W_xh.T + h_prev @ W_hh.T + b_h)  # (T, B, H), all states being known
    da = np.empty(h.shape, np.result_type(dh, x, h0, h, W_xh, W_hh, b_h))
    dh_next = np.zeros(h0.shape, da.dtype)
    for t in reversed(range(len(x))):
        dh_t = dh[t] + dh_next
        da[t] = alpha * dh_t * (1 - new[t] ** 2)
        dh_next = (1 - alpha) * dh_t + da[t] @ W_hh
    return da @ W_xh, dh_next, _sum_outer(da, x), _sum_outer(da, h_prev), da.sum(axis=(0, 1))


def skip_rnn_forward(
    x: ArrayLike,
    h0: ArrayLike,
    W_xh: ArrayLike,
    W_hh: ArrayLike,
    W_skip: ArrayLike,
    b_h: ArrayLike,
    skip: int,
) -> Array:
    """Run an RNN that also sees its state from `skip` steps ago.

    ``h_t = tanh(W_xh x_t + W_hh h_{t-1} + W_skip h_{t-skip} + b_h)`` [1]_. A gradient can then go
    back T steps through about ``T / skip`` Jacobians instead of T.

    Parameters
    ----------
    x : ndarray, shape (T, B, D)
        Inputs.
    h0 : ndarray, shape (B, H)
        State before the first input. There is no state before `h0`: while ``t − skip`` points
        there, the skip term is zero.
    W_xh : ndarray, shape (H, D)
        Input weights.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.
    W_skip : ndarray, shape (H, H)
        Weights of the skip connection.
    b_h : ndarray, shape (H,)
        Bias.
    skip : int
        Length of the skip in steps, at least 1.

    Returns
    -------
    ndarray, shape (T, B, H)
        States.

    Raises
    ------
    ValueError
        If the shapes do not fit together or `skip` is below 1.
    TypeError
        If a size is no integer.

    References
    ----------
    .. [1] T. Lin, B. G. Horne, P. Tiňo, C. L. Giles, "Learning long-term dependencies in NARX
       recurrent neural networks", IEEE Transactions on Neural Networks 7(6), 1996.

    Examples
    --------
    The initial state comes back after `skip` steps and again after twice as many:

    >>> zero, one = np.zeros((1, 1)), np.ones((1, 1))
    >>> skip_rnn_forward(np.zeros((5, 1, 1)), one, zero, zero, one, [0.0], skip=2).ravel().round(2)
    array([0.  , 0.76, 0.  , 0.64, 0.  ])
    """
    x, h0, W_xh, W_hh, b_h = _check_forward(x, h0, W_xh, W_hh, b_h)
    W_skip = as_float("W_skip", W_skip)
    check_shapes(h0=(h0, "B H"), W_skip=(W_skip, "H H"))
    check_size(skip=skip)
    T, dtype = len(x), np.result_type(x, h0, W_xh, W_hh, W_skip, b_h)
    states = np.empty((T + 1, *h0.shape), dtype)  # states[t] is h_t, counted from h_0
    states[0] = h0
    for t in range(1, T + 1):
        a = x[t - 1] @ W_xh.T + states[t - 1] @ W_hh.T + b_h
        if t >= skip:
            a += states[t - skip] @ W_skip.T
        states[t] = np.tanh(a)
    return states[1:]


def skip_rnn_backward(
    dh: ArrayLike,
    x: ArrayLike,
    h0: ArrayLike,
    h: ArrayLike,
    W_xh: ArrayLike,
    W_hh: ArrayLike,
    W_skip: ArrayLike,
    skip: int,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Backpropagate through an RNN with a skip connection in time.

    Parameters
    ----------
    dh : ndarray, shape (T, B, H)
        Direct gradient of the loss with respect to each state.
    x, h0, W_xh, W_hh, W_skip, skip
        As given to :func:`skip_rnn_forward`.
    h : ndarray, shape (T, B, H)
        As :func:`skip_rnn_forward` returned it.

    Returns
    -------
    dx : ndarray, shape (T, B, D)
    dh0 : ndarray, shape (B, H)
    dW_xh : ndarray, shape (H, D)
    dW_hh : ndarray, shape (H, H)
    dW_skip : ndarray, shape (H, H)
    db_h : ndarray, shape (H,)

    Raises
    ------
    ValueError
        If the shapes do not fit together or `skip` is below 1.
    TypeError
        If a size is no integer.

    Examples
    --------
    With the skip alone, the gradient of the fourth state jumps over every other one:

    >>> x, zero, one, dh = (
    ...     np.zeros((4, 1, 1)),
    ...     np.zeros((1, 1)),
    ...     np.ones((1, 1)),
    ...     np.zeros((4, 1, 1)),
    ... )
    >>> dh[-1] = 1
    >>> h = skip_rnn_forward(x, zero, one, zero, one, [0.0], skip=2)
    >>> dx, dh0, *_ = skip_rnn_backward(dh, x, zero, h, one, zero, one, skip=2)
    >>> dx.ravel(), dh0.item()
    (array([0., 1., 0., 1.]), 1.0)
    """
    dh, x, h0, h = (as_float(name, a) for name, a in (("dh", dh), ("x", x), ("h0", h0), ("h", h)))
    W_xh, W_hh = as_float("W_xh", W_xh), as_float("W_hh", W_hh)
    W_skip = as_float("W_skip", W_skip)
    check_shapes(
        dh=(dh, "T B H"),
        x=(x, "T B D"),
        h0=(h0, "B H"),
        h=(h, "T B H"),
        W_xh=(W_xh, "H D"),
        W_hh=(W_hh, "H H"),
        W_skip=(W_skip, "H H"),
    )
    check_size(skip=skip)
    T, dtype = len(x), np.result_type(dh, x, h0, h, W_xh, W_hh, W_skip)
    states = np.concatenate([h0[None], h])  # states[t] is h_t, counted from h_0
    dstates = np.zeros(states.shape, dtype)  # total gradient of each state
    dstates[1:] = dh
    da = np.empty(h.shape, dtype)
    for t in reversed(range(1, T + 1)):
        da[t - 1] = dstates[t] * (1 - states[t] ** 2)
        dstates[t - 1] += da[t - 1] @ W_hh
        if t >= skip:
            dstates[t - skip] += da[t - 1] @ W_skip
    dW_skip = _sum_outer(da[skip - 1 :], states[: max(T - skip + 1, 0)])
    return (
        da @ W_xh,
        dstates[0],
        _sum_outer(da, x),
        _sum_outer(da, states[:-1]),
        dW_skip,
        da.sum(axis=(0, 1)),
    )


def learned_h0_gradient(dh0: ArrayLike) -> Array:
    """Return the gradient of one learned initial state that all sequences of a batch start from.

    The parameter is used once per sequence, so its gradient is the sum over the batch.

    Parameters
    ----------
    dh0 : ndarray, shape (B, H)
        Gradient with respect to the initial state of each sequence, as a backward pass returns it.

    Returns
    -------
    ndarray, shape (H,)

    Raises
    ------
    ValueError
        If `dh0` is not a matrix or is empty.

    Examples
    --------
    >>> learned_h0_gradient(np.array([[1.0, 2.0], [3.0, -4.0], [0.5, 0.0]]))
    array([ 4.5, -2. ])
    """
    dh0 = as_float("dh0", dh0)
    check_shapes(dh0=(dh0, "B H"))
    return dh0.sum(axis=0)


def _sum_outer(da: Array, inputs: Array) -> Array:
    """Return ``Σ_t Σ_b da[t, b]ᵀ inputs[t, b]``, the gradient of a weight used at every step."""
    return np.tensordot(da, inputs, axes=([0, 1], [0, 1]))


def _check_forward(
    x: ArrayLike, h0: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike
) -> tuple[Array, Array, Array, Array, Array]:
    x, h0, b_h = as_float("x", x), as_float("h0", h0), as_float("b_h", b_h)
    W_xh, W_hh = as_float("W_xh", W_xh), as_float("W_hh", W_hh)
    check_shapes(
        x=(x, "T B D"), h0=(h0, "B H"), W_xh=(W_xh, "H D"), W_hh=(W_hh, "H H"), b_h=(b_h, "H")
    )
    return x, h0, W_xh, W_hh, b_h


def _check_alpha(alpha: float) -> None:
    check_number("alpha", alpha)
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must lie in (0, 1], but it is {alpha}")
