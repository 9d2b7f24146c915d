"""LSTM and GRU: step and sequence, forward and backward, in PyTorch's gate order and orientation.

The weights of all gates are stacked in one matrix, block after block: *i, f, g, o* for the LSTM and
*r, z, n* for the GRU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncourse._extras import require
from rnncourse._validation import (
    Array,
    as_float,
    as_floats,
    check_shapes,
    check_size,
)
from rnncourse.rnn import Params, _uniform

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike


def sigmoid(a: ArrayLike) -> Array:
    """Return the logistic function ``1 / (1 + exp(−a))``, without overflow at any argument.

    Parameters
    ----------
    a : ndarray

    Returns
    -------
    ndarray
        In the shape of `a`, entries in [0, 1].

    Raises
    ------
    TypeError
        If `a` holds anything but real numbers.

    Examples
    --------
    >>> sigmoid([-1000.0, 0.0, 1000.0])
    array([0. , 0.5, 1. ])
    """
    return 0.5 * (1 + np.tanh(0.5 * as_float("a", a)))


def lstm_gates(
    x_t: ArrayLike, h_prev: ArrayLike, W_x: ArrayLike, W_h: ArrayLike, b: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """Return the four gates of an LSTM: input i, forget f, candidate g and output o.

    Parameters
    ----------
    x_t : ndarray, shape (..., D)
        Inputs, of one step or of a whole sequence.
    h_prev : ndarray, shape (..., H)
        Hidden states before those inputs.
    W_x : ndarray, shape (4H, D)
        Input weights of i, f, g, o.
    W_h : ndarray, shape (4H, H)
        Recurrent weights of i, f, g, o.
    b : ndarray, shape (4H,)
        Biases of i, f, g, o.

    Returns
    -------
    i, f, g, o : ndarray, shape (..., H)
        `g` lies in [-1, 1], the others in [0, 1].

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> i, f, g, o = lstm_gates(
    ...     np.zeros((2, 3)), np.zeros((2, 1)), np.zeros((4, 3)), np.zeros((4, 1)), [0, 9, 0, -9]
    ... )
    >>> [gate[0].round(3).item() for gate in (i, f, g, o)]
    [0.5, 1.0, 0.0, 0.0]
    """
    x_t, h_prev, W_x, W_h, b = _as_floats(x_t=x_t, h_prev=h_prev, W_x=W_x, W_h=W_h, b=b)
    _check_inputs(x_t, h_prev)
    _check_weights(4, x_t.shape[-1], h_prev.shape[-1], W_x=W_x, W_h=W_h, b=b)
    a_i, a_f, a_g, a_o = np.split(x_t @ W_x.T + h_prev @ W_h.T + b, 4, axis=-1)
    return sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)


def lstm_step(
    x_t: ArrayLike,
    h_prev: ArrayLike,
    c_prev: ArrayLike,
    W_x: ArrayLike,
    W_h: ArrayLike,
    b: ArrayLike,
) -> tuple[Array, Array]:
    """Advance an LSTM by one time step.

    The cell keeps a share f of its old content and takes up a share i of the candidate g; the state
    shows a share o of it: ``c_t = f c_{t-1} + i g`` and ``h_t = o tanh(c_t)`` [1]_.

    Parameters
    ----------
    x_t : ndarray, shape (B, D)
        Inputs at time t.
    h_prev : ndarray, shape (B, H)
        Hidden state at time t - 1.
    c_prev : ndarray, shape (B, H)
        Cell at time t - 1.
    W_x : ndarray, shape (4H, D)
        Input weights of i, f, g, o.
    W_h : ndarray, shape (4H, H)
        Recurrent weights of i, f, g, o.
    b : ndarray, shape (4H,)
        Biases of i, f, g, o.

    Returns
    -------
    h : ndarray, shape (B, H)
        Hidden state at time t.
    c : ndarray, shape (B, H)
        Cell at time t.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    References
    ----------
    .. [1] S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997;
       with the forget gate of F. A. Gers, J. Schmidhuber, F. Cummins, "Learning to forget", Neural
       Computation 12(10), 2000.

    Examples
    --------
    An open forget gate and a closed input gate keep the cell:

    >>> W_x, W_h, b = np.zeros((4, 3)), np.zeros((4, 1)), [-99, 99, 0, 99]
    >>> h, c = lstm_step(np.ones((2, 3)), np.zeros((2, 1)), [[0.5], [-2.0]], W_x, W_h, b)
    >>> c.ravel()
    array([ 0.5, -2. ])
    """
    x_t, h_prev, c_prev = _as_floats(x_t=x_t, h_prev=h_prev, c_prev=c_prev)
    check_shapes(x_t=(x_t, "B D"), h_prev=(h_prev, "B H"), c_prev=(c_prev, "B H"))
    i, f, g, o = lstm_gates(x_t, h_prev, W_x, W_h, b)
    c = f * c_prev + i * g
    h = o * np.tanh(c)
    return h, c


def lstm_step_backward(
    dh: ArrayLike,
    dc: ArrayLike,
    x_t: ArrayLike,
    h_prev: ArrayLike,
    c_prev: ArrayLike,
    W_x: ArrayLike,
    W_h: ArrayLike,
    b: ArrayLike,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Backpropagate through one step of an LSTM; the gates are computed again from the inputs.

    Parameters
    ----------
    dh : ndarray, shape (B, H)
        Total gradient of the loss with respect to the new hidden state.
    dc : ndarray, shape (B, H)
        Gradient with respect to the new cell from all later steps, *not* counting the way through
        the new hidden state.
    x_t, h_prev, c_prev, W_x, W_h, b : ndarray
        The arguments of :func:`lstm_step`.

    Returns
    -------
    dx : ndarray, shape (B, D)
    dh_prev : ndarray, shape (B, H)
    dc_prev : ndarray, shape (B, H)
    dW_x : ndarray, shape (4H, D)
    dW_h : ndarray, shape (4H, H)
    db : ndarray, shape (4H,)

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> zero, one = np.zeros((1, 1)), np.ones((1, 1))
    >>> W_x, W_h, b = np.zeros((4, 1)), np.zeros((4, 1)), np.zeros(4)
    >>> dx, dh_prev, dc_prev, *_ = lstm_step_backward(zero, one, one, one, one, W_x, W_h, b)
    >>> dc_prev.item()
    0.5
    """
    dh, dc, x_t, h_prev, c_prev, W_x, W_h = _as_floats(
        dh=dh, dc=dc, x_t=x_t, h_prev=h_prev, c_prev=c_prev, W_x=W_x, W_h=W_h
    )
    check_shapes(
        dh=(dh, "B H"),
        dc=(dc, "B H"),
        x_t=(x_t, "B D"),
        h_prev=(h_prev, "B H"),
        c_prev=(c_prev, "B H"),
    )
    i, f, g, o = lstm_gates(x_t, h_prev, W_x, W_h, b)
    tanh_c = np.tanh(f * c_prev + i * g)
    dc_total = dc + dh * o * (1 - tanh_c**2)  # the cell also acts through h = o tanh(c)
    da = np.concatenate(
        [
            dc_total * g * i * (1 - i),  # sigmoid' = i (1 - i)
            dc_total * c_prev * f * (1 - f),
            dc_total * i * (1 - g**2),  # the candidate is a tanh
            dh * tanh_c * o * (1 - o),
        ],
        axis=1,
    )  # (B, 4H)
    return da @ W_x, da @ W_h, dc_total * f, da.T @ x_t, da.T @ h_prev, da.sum(axis=0)


def lstm_forward(
    x: ArrayLike, h0: ArrayLike, c0: ArrayLike, W_x: ArrayLike, W_h: ArrayLike, b: ArrayLike
) -> tuple[Array, Array]:
    """Run an LSTM over a sequence, one step after the other.

    Parameters
    ----------
    x : ndarray, shape (T, B, D)
        Inputs.
    h0, c0 : ndarray, shape (B, H)
        Hidden state and cell before the first input.
    W_x : ndarray, shape (4H, D)
        Input weights of i, f, g, o.
    W_h : ndarray, shape (4H, H)
        Recurrent weights of i, f, g, o.
    b : ndarray, shape (4H,)
        Biases of i, f, g, o.

    Returns
    -------
    h : ndarray, shape (T, B, H)
        Hidden states.
    c : ndarray, shape (T, B, H)
        Cells.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    See Also
    --------
    rnncourse.fused.lstm_forward : The same result, faster.

    Examples
    --------
    >>> params = init_lstm_params(D=3, H=4, rng=np.random.default_rng(0))
    >>> h, c = lstm_forward(np.ones((5, 2, 3)), np.zeros((2, 4)), np.zeros((2, 4)), **params)
    >>> h.shape, c.shape
    ((5, 2, 4), (5, 2, 4))
    """
    x, h0, c0, W_x, W_h, b = _as_floats(x=x, h0=h0, c0=c0, W_x=W_x, W_h=W_h, b=b)
    sizes = check_shapes(x=(x, "T B D"), h0=(h0, "B H"), c0=(c0, "B H"))
    _check_weights(4, sizes["D"], sizes["H"], W_x=W_x, W_h=W_h, b=b)
    h = np.empty((len(x), *h0.shape), np.result_type(x, h0, c0, W_x, W_h, b))
    c = np.empty_like(h)
    h_t, c_t = h0, c0
    for t in range(len(x)):
        h_t, c_t = h[t], c[t] = lstm_step(x[t], h_t, c_t, W_x, W_h, b)
    return h, c


def lstm_backward(
    dh: ArrayLike,
    x: ArrayLike,
    h0: ArrayLike,
    c0: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    W_x: ArrayLike,
    W_h: ArrayLike,
    b: ArrayLike,
    dc_last: ArrayLike | None = None,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Backpropagate through an LSTM over a whole sequence.

    Parameters
    ----------
    dh : ndarray, shape (T, B, H)
        Direct gradient of the loss with respect to each hidden state.
    x, h0, c0 : ndarray
        As given to :func:`lstm_forward`.
    h, c : ndarray, shape (T, B, H)
        As :func:`lstm_forward` returned them.
    W_x, W_h, b : ndarray
        Parameters.
    dc_last : ndarray, shape (B, H), optional
        Gradient of the loss with respect to the last cell, if the loss reads it directly; zero
        without it.

    Returns
    -------
    dx : ndarray, shape (T, B, D)
    dh0 : ndarray, shape (B, H)
    dc0 : ndarray, shape (B, H)
    dW_x : ndarray, shape (4H, D)
    dW_h : ndarray, shape (4H, H)
    db : ndarray, shape (4H,)

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    See Also
    --------
    rnncourse.fused.lstm_backward : The same result, faster.

    Examples
    --------
    >>> params = init_lstm_params(D=3, H=4, rng=np.random.default_rng(0))
    >>> x, h0, c0 = np.ones((5, 2, 3)), np.zeros((2, 4)), np.zeros((2, 4))
    >>> h, c = lstm_forward(x, h0, c0, **params)
    >>> [g.shape for g in lstm_backward(np.ones_like(h), x, h0, c0, h, c, **params)]
    [(5, 2, 3), (2, 4), (2, 4), (16, 3), (16, 4), (16,)]
    """
    dh, x, h0, c0, h, c = _as_floats(dh=dh, x=x, h0=h0, c0=c0, h=h, c=c)
    W_x, W_h, b = _as_floats(W_x=W_x, W_h=W_h, b=b)
    dc_next = np.zeros_like(c0) if dc_last is None else as_float("dc_last", dc_last)
    sizes = check_shapes(
        dh=(dh, "T B H"),
        x=(x, "T B D"),
        h0=(h0, "B H"),
        c0=(c0, "B H"),
        h=(h, "T B H"),
        c=(c, "T B H"),
        dc_last=(dc_next, "B H"),
    )
    _check_weights(4, sizes["D"], sizes["H"], W_x=W_x, W_h=W_h, b=b)
    dtype = np.result_type(dh, x, h0, c0, h, c, W_x, W_h, b)
    dx = np.empty(x.shape, dtype)
    dW_x, dW_h, db = (np.zeros(w.shape, dtype) for w in (W_x, W_h, b))
    dh_next = np.zeros(h0.shape, dtype)
    for t in reversed(range(len(x))):
        h_prev, c_prev = (h[t - 1], c[t - 1]) if t > 0 else (h0, c0)
        dx[t], dh_next, dc_next, dW_x_t, dW_h_t, db_t = lstm_step_backward(
            dh[t] + dh_next, dc_next, x[t], h_prev, c_prev, W_x, W_h, b
        )
        dW_x += dW_x_t
        dW_h += dW_h_t
        db += db_t
    return dx, dh_next, dc_next, dW_x, dW_h, db


def cell_gradient(f: ArrayLike) -> Array:
    """Return the factor ``∏ f_t`` by which the cell's direct path scales a gradient.

    Along the cell alone ``∂c_T/∂c_0 = f_T ⋯ f_1``; the ways through the gates come on top. The path
    does not vanish only where the forget gates stay near 1.

    Parameters
    ----------
    f : ndarray, shape (T, ...)
        Forget gates of all steps.

    Returns
    -------
    ndarray, shape (...)
        1 if there are no steps.

    Raises
    ------
    ValueError
        If `f` has no time axis.

    Examples
    --------
    >>> cell_gradient(np.full((20, 1), 0.5))
    array([9.53674316e-07])
    """
    f = as_float("f", f)
    if f.ndim < 1:
        raise ValueError("f is a single number, expected (T, ...): one forget gate for each step")
    return f.prod(axis=0)


def gru_gates(
    x_t: ArrayLike,
    h_prev: ArrayLike,
    W_x: ArrayLike,
    W_h: ArrayLike,
    b_x: ArrayLike,
    b_h: ArrayLike,
) -> tuple[Array, Array, Array, Array]:
    """Return the gates of a GRU: reset r, update z and candidate n, and what r multiplies.

    The reset gate acts *after* the recurrent product, as in PyTorch:
    ``n = tanh(W_xn x + b_xn + r (W_hn h + b_hn))``. This is why the GRU needs two biases.

    Parameters
    ----------
    x_t : ndarray, shape (..., D)
        Inputs, of one step or of a whole sequence.
    h_prev : ndarray, shape (..., H)
        Hidden states before those inputs.
    W_x : ndarray, shape (3H, D)
        Input weights of r, z, n.
    W_h : ndarray, shape (3H, H)
        Recurrent weights of r, z, n.
    b_x, b_h : ndarray, shape (3H,)
        Biases of the input side and the recurrent side.

    Returns
    -------
    r, z, n : ndarray, shape (..., H)
    recurrent_n : ndarray, shape (..., H)
        ``W_hn h + b_hn``, which the backward pass needs.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> W_x, W_h, b_x, b_h = np.zeros((3, 2)), np.zeros((3, 1)), [0, 9, 0], [0, 0, 4]
    >>> gates = gru_gates(np.zeros((1, 2)), np.zeros((1, 1)), W_x, W_h, b_x, b_h)
    >>> [gate.round(3).item() for gate in gates]
    [0.5, 1.0, 0.964, 4.0]
    """
    x_t, h_prev = _as_floats(x_t=x_t, h_prev=h_prev)
    W_x, W_h, b_x, b_h = _as_floats(W_x=W_x, W_h=W_h, b_x=b_x, b_h=b_h)
    _check_inputs(x_t, h_prev)
    _check_weights(3, x_t.shape[-1], h_prev.shape[-1], W_x=W_x, W_h=W_h, b_x=b_x, b_h=b_h)
    x_r, x_z, x_n = np.split(x_t @ W_x.T + b_x, 3, axis=-1)
    h_r, h_z, h_n = np.split(h_prev @ W_h.T + b_h, 3, axis=-1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    return r, z, np.tanh(x_n + r * h_n), h_n


def gru_step(
    x_t: ArrayLike,
    h_prev: ArrayLike,
    W_x: ArrayLike,
    W_h: ArrayLike,
    b_x: ArrayLike,
    b_h: ArrayLike,
) -> Array:
    """Advance a GRU by one time step: ``h_t = (1 − z) n + z h_{t-1}`` [1]_.

    Parameters
    ----------
    x_t : ndarray, shape (B, D)
        Inputs at time t.
    h_prev : ndarray, shape (B, H)
        Hidden state at time t - 1.
    W_x : ndarray, shape (3H, D)
        Input weights of r, z, n.
    W_h : ndarray, shape (3H, H)
        Recurrent weights of r, z, n.
    b_x, b_h : ndarray, shape (3H,)
        Biases of the input side and the recurrent side.

    Returns
    -------
    ndarray, shape (B, H)
        Hidden state at time t.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    References
    ----------
    .. [1] K. Cho et al., "Learning phrase representations using RNN encoder–decoder for statistical
       machine translation", EMNLP 2014; here in PyTorch's form, with the reset gate after the
       product and z as the share that is kept.

    Examples
    --------
    An update gate at 1 keeps the state:

    >>> W_x, W_h, b_x, b_h = np.zeros((3, 2)), np.zeros((3, 1)), [0, 99, 0], np.zeros(3)
    >>> gru_step(np.ones((1, 2)), [[0.25]], W_x, W_h, b_x, b_h)
    array([[0.25]])
    """
    x_t, h_prev = _as_floats(x_t=x_t, h_prev=h_prev)
    check_shapes(x_t=(x_t, "B D"), h_prev=(h_prev, "B H"))
    _, z, n, _ = gru_gates(x_t, h_prev, W_x, W_h, b_x, b_h)
    return (1 - z) * n + z * h_prev


def gru_step_backward(
    dh: ArrayLike,
    x_t: ArrayLike,
    h_prev: ArrayLike,
    W_x: ArrayLike,
    W_h: ArrayLike,
    b_x: ArrayLike,
    b_h: ArrayLike,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Backpropagate through one step of a GRU; the gates are computed again from the inputs.

    Parameters
    ----------
    dh : ndarray, shape (B, H)
        Total gradient of the loss with respect to the new hidden state.
    x_t, h_prev, W_x, W_h, b_x, b_h : ndarray
        The arguments of :func:`gru_step`.

    Returns
    -------
    dx : ndarray, shape (B, D)
    dh_prev : ndarray, shape (B, H)
    dW_x : ndarray, shape (3H, D)
    dW_h : ndarray, shape (3H, H)
    db_x : ndarray, shape (3H,)
    db_h : ndarray, shape (3H,)

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> one, W = np.ones((1, 1)), np.zeros((3, 1))
    >>> dx, dh_prev, *_ = gru_step_backward(one, one, one, W, W, np.zeros(3), np.zeros(3))
    >>> dh_prev.item()
    0.5
    """
    dh, x_t, h_prev, W_x, W_h = _as_floats(dh=dh, x_t=x_t, h_prev=h_prev, W_x=W_x, W_h=W_h)
    check_shapes(dh=(dh, "B H"), x_t=(x_t, "B D"), h_prev=(h_prev, "B H"))
    r, z, n, recurrent_n = gru_gates(x_t, h_prev, W_x, W_h, b_x, b_h)
    da_n = dh * (1 - z) * (1 - n**2)
    da_z = dh * (h_prev - n) * z * (1 - z)
    da_r = da_n * recurrent_n * r * (1 - r)
    da_x = np.concatenate([da_r, da_z, da_n], axis=1)  # (B, 3H)
    da_h = np.concatenate([da_r, da_z, da_n * r], axis=1)  # r stands between W_hn h and n
    dh_prev = da_h @ W_h + dh * z
    return da_x @ W_x, dh_prev, da_x.T @ x_t, da_h.T @ h_prev, da_x.sum(axis=0), da_h.sum(axis=0)


def gru_forward(
    x: ArrayLike, h0: ArrayLike, W_x: ArrayLike, W_h: ArrayLike, b_x: ArrayLike, b_h: ArrayLike
) -> Array:
    """Run a GRU over a sequence, one step after the other.

    Parameters
    ----------
    x : ndarray, shape (T, B, D)
        Inputs.
    h0 : ndarray, shape (B, H)
        Hidden state before the first input.
    W_x : ndarray, shape (3H, D)
        Input weights of r, z, n.
    W_h : ndarray, shape (3H, H)
        Recurrent weights of r, z, n.
    b_x, b_h : ndarray, shape (3H,)
        Biases of the input side and the recurrent side.

    Returns
    -------
    ndarray, shape (T, B, H)
        Hidden states.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    See Also
    --------
    rnncourse.fused.gru_forward : The same result, faster.

    Examples
    --------
    >>> params = init_gru_params(D=3, H=4, rng=np.random.default_rng(0))
    >>> gru_forward(np.ones((5, 2, 3)), np.zeros((2, 4)), **params).shape
    (5, 2, 4)
    """
    x, h0, W_x, W_h, b_x, b_h = _as_floats(x=x, h0=h0, W_x=W_x, W_h=W_h, b_x=b_x, b_h=b_h)
    sizes = check_shapes(x=(x, "T B D"), h0=(h0, "B H"))
    _check_weights(3, sizes["D"], sizes["H"], W_x=W_x, W_h=W_h, b_x=b_x, b_h=b_h)
    h = np.empty((len(x), *h0.shape), np.result_type(x, h0, W_x, W_h, b_x, b_h))
    h_t = h0
    for t in range(len(x)):
        h_t = h[t] = gru_step(x[t], h_t, W_x, W_h, b_x, b_h)
    return h


def gru_backward(
    dh: ArrayLike,
    x: ArrayLike,
    h0: ArrayLike,
    h: ArrayLike,
    W_x: ArrayLike,
    W_h: ArrayLike,
    b_x: ArrayLike,
    b_h: ArrayLike,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Backpropagate through a GRU over a whole sequence.

    Parameters
    ----------
    dh : ndarray, shape (T, B, H)
        Direct gradient of the loss with respect to each hidden state.
    x, h0 : ndarray
        As given to :func:`gru_forward`.
    h : ndarray, shape (T, B, H)
        As :func:`gru_forward` returned it.
    W_x, W_h, b_x, b_h : ndarray
        Parameters.

    Returns
    -------
    dx : ndarray, shape (T, B, D)
    dh0 : ndarray, shape (B, H)
    dW_x : ndarray, shape (3H, D)
    dW_h : ndarray, shape (3H, H)
    db_x : ndarray, shape (3H,)
    db_h : ndarray, shape (3H,)

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    See Also
    --------
    rnncourse.fused.gru_backward : The same result, faster.

    Examples
    --------
    >>> params = init_gru_params(D=3, H=4, rng=np.random.default_rng(0))
    >>> x, h0 = np.ones((5, 2, 3)), np.zeros((2, 4))
    >>> h = gru_forward(x, h0, **params)
    >>> [g.shape for g in gru_backward(np.ones_like(h), x, h0, h, **params)]
    [(5, 2, 3), (2, 4), (12, 3), (12, 4), (12,), (12,)]
    """
    dh, x, h0, h = _as_floats(dh=dh, x=x, h0=h0, h=h)
    W_x, W_h, b_x, b_h = _as_floats(W_x=W_x, W_h=W_h, b_x=b_x, b_h=b_h)
    sizes = check_shapes(dh=(dh, "T B H"), x=(x, "T B D"), h0=(h0, "B H"), h=(h, "T B H"))
    _check_weights(3, sizes["D"], sizes["H"], W_x=W_x, W_h=W_h, b_x=b_x, b_h=b_h)
    dtype = np.result_type(dh, x, h0, h, W_x, W_h, b_x, b_h)
    dx = np.empty(x.shape, dtype)
    dW_x, dW_h, db_x, db_h = (np.zeros(w.shape, dtype) for w in (W_x, W_h, b_x, b_h))
    dh_next = np.zeros(h0.shape, dtype)
    for t in reversed(range(len(x))):
        h_prev = h[t - 1] if t > 0 else h0
        dx[t], dh_next, dW_x_t, dW_h_t, db_x_t, db_h_t = gru_step_backward(
            dh[t] + dh_next, x[t], h_prev, W_x, W_h, b_x, b_h
        )
        dW_x += dW_x_t
        dW_h += dW_h_t
        db_x += db_x_t
        db_h += db_h_t
    return dx, dh_next, dW_x, dW_h, db_x, db_h


def init_lstm_params(
    D: int, H: int, rng: np.random.Generator, dtype: type[np.floating[Any]] = np.float64
) -> Params:
    """Draw LSTM parameters uniform in ±1/√H, the range of ``torch.nn.LSTM``.

    Parameters
    ----------
    D, H : int
        Sizes of input and hidden state.
    rng : numpy.random.Generator
    dtype : dtype, optional
        float64 or float32.

    Returns
    -------
    dict
        ``W_x (4H, D)``, ``W_h (4H, H)``, ``b (4H,)``.

    Raises
    ------
    ValueError
        If a size is below 1.
    TypeError
        If a size is no integer, `rng` no generator or `dtype` no float.

    See Also
    --------
    rnncourse.initialization.forget_bias : What to change before training.

    Examples
    --------
    >>> params = init_lstm_params(D=3, H=4, rng=np.random.default_rng(0))
    >>> {name: p.shape for name, p in params.items()}
    {'W_x': (16, 3), 'W_h': (16, 4), 'b': (16,)}
    """
    check_size(D=D, H=H)
    return _uniform({"W_x": (4 * H, D), "W_h": (4 * H, H), "b": (4 * H,)}, H, rng, dtype)


def init_gru_params(
    D: int, H: int, rng: np.random.Generator, dtype: type[np.floating[Any]] = np.float64
) -> Params:
    """Draw GRU parameters uniform in ±1/√H, as ``torch.nn.GRU`` does.

    Parameters
    ----------
    D, H : int
        Sizes of input and hidden state.
    rng : numpy.random.Generator
    dtype : dtype, optional
        float64 or float32.

    Returns
    -------
    dict
        ``W_x (3H, D)``, ``W_h (3H, H)``, ``b_x (3H,)``, ``b_h (3H,)``.

    Raises
    ------
    ValueError
        If a size is below 1.
    TypeError
        If a size is no integer, `rng` no generator or `dtype` no float.

    Examples
    --------
    >>> params = init_gru_params(D=3, H=4, rng=np.random.default_rng(0))
    >>> {name: p.shape for name, p in params.items()}
    {'W_x': (12, 3), 'W_h': (12, 4), 'b_x': (12,), 'b_h': (12,)}
    """
    check_size(D=D, H=H)
    shapes = {"W_x": (3 * H, D), "W_h": (3 * H, H), "b_x": (3 * H,), "b_h": (3 * H,)}
    return _uniform(shapes, H, rng, dtype)


def from_torch(module: torch.nn.LSTM | torch.nn.GRU) -> Params:
    """Copy the weights of a one-layer, unidirectional ``torch.nn.LSTM`` or ``torch.nn.GRU``.

    Of an LSTM's two bias vectors only the sum matters, so it becomes `b`. A GRU needs both.

    Parameters
    ----------
    module : torch.nn.LSTM or torch.nn.GRU

    Returns
    -------
    dict
        ``W_x, W_h, b`` for an LSTM and ``W_x, W_h, b_x, b_h`` for a GRU, as copies.

    Raises
    ------
    ValueError
        If the module is of another kind, or has several layers or directions or a projection.

    Examples
    --------
    >>> import torch
    >>> {k: v.shape for k, v in from_torch(torch.nn.LSTM(3, 4)).items()}
    {'W_x': (16, 3), 'W_h': (16, 4), 'b': (16,)}
    """
    if not hasattr(module, "mode"):
        raise TypeError(f"module must be a torch.nn.LSTM or torch.nn.GRU, but it is {module!r}")
    if (
        module.mode not in ("LSTM", "GRU")
        or module.num_layers != 1
        or module.bidirectional
        or module.proj_size
    ):
        raise ValueError(
            "module must be a torch.nn.LSTM or torch.nn.GRU with one layer, one direction and no "
            f"projection, but it has mode={module.mode}, {module.num_layers} layers, "
            f"bidirectional={module.bidirectional} and proj_size={module.proj_size}"
        )
    weights = {name: p.detach().cpu().numpy().copy() for name, p in module.named_parameters()}
    params = {"W_x": weights["weight_ih_l0"], "W_h": weights["weight_hh_l0"]}
    zero = np.zeros_like(params["W_h"][:, 0])
    b_x, b_h = weights.get("bias_ih_l0", zero), weights.get("bias_hh_l0", zero.copy())
    return params | ({"b": b_x + b_h} if module.mode == "LSTM" else {"b_x": b_x, "b_h": b_h})


def to_torch(params: Mapping[str, Array]) -> torch.nn.LSTM | torch.nn.GRU:
    """Return the ``torch.nn.LSTM`` or ``torch.nn.GRU`` that computes the same states.

    Parameters
    ----------
    params : dict
        ``W_x, W_h, b`` make an LSTM, whose second bias is zero; ``W_x, W_h, b_x, b_h`` make a GRU.
        Further entries are ignored.

    Returns
    -------
    torch.nn.LSTM or torch.nn.GRU
        In the dtype of the parameters.

    Raises
    ------
    ValueError
        If the keys belong to neither, or the shapes do not fit together.
    TypeError
        If `params` is no dict of real arrays.
    ModuleNotFoundError
        If PyTorch is not installed.

    Examples
    --------
    >>> params = init_gru_params(D=3, H=4, rng=np.random.default_rng(0))
    >>> np.array_equal(from_torch(to_torch(params))["b_h"], params["b_h"])
    True
    """
    require("torch", extra="torch")
    import torch

    params = as_floats("params", params)
    if {"W_x", "W_h", "b"} <= params.keys():
        gates, biases = 4, {"b": params["b"]}
        b_x, b_h = params["b"], np.zeros_like(params["b"])
    elif {"W_x", "W_h", "b_x", "b_h"} <= params.keys():
        gates, biases = 3, {"b_x": params["b_x"], "b_h": params["b_h"]}
        b_x, b_h = params["b_x"], params["b_h"]
    else:
        raise ValueError(
            "params must hold W_x, W_h, b for an LSTM or W_x, W_h, b_x, b_h for a GRU, "
            f"but it holds {sorted(params)}"
        )
    W_x, W_h = params["W_x"], params["W_h"]
    sizes = check_shapes(W_x=(W_x, "G D"), W_h=(W_h, "G H"))
    _check_weights(gates, sizes["D"], sizes["H"], W_x=W_x, W_h=W_h, **biases)
    dtype = torch.float32 if W_h.dtype == np.float32 else torch.float64
    kind = torch.nn.LSTM if gates == 4 else torch.nn.GRU
    module = kind(sizes["D"], sizes["H"], dtype=dtype)
    with torch.no_grad():
        module.weight_ih_l0.copy_(torch.from_numpy(np.array(W_x)))
        module.weight_hh_l0.copy_(torch.from_numpy(np.array(W_h)))
        module.bias_ih_l0.copy_(torch.from_numpy(np.array(b_x)))
        module.bias_hh_l0.copy_(torch.from_numpy(np.array(b_h)))
    return module


def _as_floats(**arrays: ArrayLike) -> tuple[Array, ...]:
    return tuple(as_float(name, array) for name, array in arrays.items())


def _check_inputs(x_t: Array, h_prev: Array) -> None:
    """Check that inputs and previous states have the same leading axes."""
    if h_prev.size == 0 or x_t.size == 0:
        raise ValueError(f"x_t, shape {x_t.shape}, and h_prev, {h_prev.shape}, must not be empty")
    if x_t.ndim < 1 or x_t.ndim != h_prev.ndim or x_t.shape[:-1] != h_prev.shape[:-1]:
        raise ValueError(
            f"h_prev has shape {h_prev.shape}, expected (..., H) with the leading axes of x_t, "
            f"shape {x_t.shape}"
        )


def _check_weights(gates: int, D: int, H: int, **weights: Array) -> None:
    """Check stacked weights against the sizes of input and state."""
    expected = {"W_x": (gates * H, D), "W_h": (gates * H, H)}
    for name, array in weights.items():
        shape = expected.get(name, (gates * H,))
        if array.shape != shape:
            label = {"W_x": f"({gates}H, D)", "W_h": f"({gates}H, H)"}.get(name, f"({gates}H,)")
            raise ValueError(
                f"{name} has shape {array.shape}, expected {label} = {shape}: "
                f"D = {D} comes from the inputs and H = {H} from the hidden state"
            )
