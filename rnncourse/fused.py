"""The recurrences of :mod:`rnncourse.rnn`, `bptt` and `gates`, arranged for speed.

The same equations, with four changes of order that leave the results as they are:

1. Inputs do not depend on states, so their product with the weights is one product for all steps.
2. A weight's gradient is a sum over steps of products, which is one product of longer matrices.
3. Whatever part of a derivative needs no gradient from later is computed for many steps at once.
4. Results go into arrays that exist already, and weights are transposed once, not at each step.

What remains inside the time loop is what the recurrence forces to be there. The backward passes
work through blocks of steps, so that their intermediate results stay small enough for the cache and
need no second copy of the sequence. One trick concerns the processor alone and is kept apart: see
:func:`_product`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from rnncourse._validation import Array, as_float, check_shapes
from rnncourse.gates import _check_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike

BLOCK_ROWS = 1024  # steps times batch of a block: enough for a fast product, few enough to cache
SMALL_PRODUCT = 10**6  # multiplications up to which OpenBLAS multiplies without rearranging


def rnn_forward(
    x: ArrayLike, h0: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike
) -> Array:
    """Run a vanilla RNN over a sequence, as :func:`rnncourse.rnn.rnn_forward` does.

    Parameters
    ----------
    x : ndarray, shape (T, B, D)
        Inputs.
    h0 : ndarray, shape (B, H)
        Hidden state before the first input.
    W_xh : ndarray, shape (H, D)
        Input weights.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.
    b_h : ndarray, shape (H,)
        Bias.

    Returns
    -------
    ndarray, shape (T, B, H)
        Hidden states.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> from rnncourse import rnn
    >>> rng = np.random.default_rng(0)
    >>> x, h0 = rng.normal(size=(5, 2, 3)), np.zeros((2, 4))
    >>> params = rnn.init_params(D=3, H=4, V=2, rng=rng)
    >>> weights = params["W_xh"], params["W_hh"], params["b_h"]
    >>> np.allclose(rnn_forward(x, h0, *weights), rnn.rnn_forward(x, h0, *weights))
    True
    """
    x, h0, W_xh, W_hh, b_h = _same_dtype(x=x, h0=h0, W_xh=W_xh, W_hh=W_hh, b_h=b_h)
    check_shapes(
        x=(x, "T B D"),
        h0=(h0, "B H"),
        W_xh=(W_xh, "H D"),
        W_hh=(W_hh, "H H"),
        b_h=(b_h, "H"),
    )
    h = np.empty((len(x), *h0.shape), x.dtype)
    _product(W_xh.T, len(h0))(_rows(x), _rows(h))  # W_xh x_t for all t at once
    h += b_h
    times_W_hh_T = _product(W_hh.T, len(h0))
    recurrent = np.empty_like(h0, order="C")
    h_prev = h0
    for h_t in h:
        times_W_hh_T(h_prev, recurrent)  # recurrent = h_prev @ W_hh.T
        h_t += recurrent
        h_prev = np.tanh(h_t, h_t)
    return h


def rnn_backward(
    dh: ArrayLike,
    x: ArrayLike,
    h0: ArrayLike,
    h: ArrayLike,
    W_xh: ArrayLike,
    W_hh: ArrayLike,
    dh_last: ArrayLike | None = None,
    *,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array, Array, Array]:
    """Backpropagate through a whole sequence, as :func:`rnncourse.bptt.rnn_backward` does.

    Parameters
    ----------
    dh : ndarray, shape (T, B, H)
        Direct gradient of the loss with respect to each state.
    x : ndarray, shape (T, B, D)
        Inputs.
    h0 : ndarray, shape (B, H)
        State before the first input.
    h : ndarray, shape (T, B, H)
        States, as the forward pass returned them.
    W_xh : ndarray, shape (H, D)
        Input weights.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.
    dh_last : ndarray, shape (B, H), optional
        Gradient of the last state from steps that are not in `h`; zero without it.
    need_dx : bool, optional
        False saves a product where the inputs are data and not the output of another layer.

    Returns
    -------
    dx : ndarray, shape (T, B, D), or None
    dh0 : ndarray, shape (B, H)
    dW_xh : ndarray, shape (H, D)
    dW_hh : ndarray, shape (H, H)
    db_h : ndarray, shape (H,)

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> from rnncourse import bptt
    >>> rng = np.random.default_rng(0)
    >>> x, h0, dh = (rng.normal(size=shape) for shape in ((5, 2, 3), (2, 4), (5, 2, 4)))
    >>> W_xh, W_hh, h = rng.normal(size=(4, 3)), rng.normal(size=(4, 4)), np.tanh(dh)
    >>> fast = rnn_backward(dh, x, h0, h, W_xh, W_hh)
    >>> all(map(np.allclose, fast, bptt.rnn_backward(dh, x, h0, h, W_xh, W_hh)))
    True
    """
    dh_last = np.zeros_like(as_float("h0", h0)) if dh_last is None else dh_last
    dh, x, h0, h, W_xh, W_hh, dh_last = _same_dtype(
        dh=dh, x=x, h0=h0, h=h, W_xh=W_xh, W_hh=W_hh, dh_last=dh_last
    )
    sizes = check_shapes(
        dh=(dh, "T B H"),
        x=(x, "T B D"),
        h0=(h0, "B H"),
        h=(h, "T B H"),
        W_xh=(W_xh, "H D"),
        W_hh=(W_hh, "H H"),
        dh_last=(dh_last, "B H"),
    )
    dx = np.empty(x.shape, x.dtype) if need_dx else None
    sums: list[Array] = []  # dW_xh, dW_hh, db_h
    times_W_hh = _product(W_hh, sizes["B"])
    dh_t = dh_last.copy(order="C")  # what the later states ask of this one
    for block in reversed(_blocks(sizes["T"], sizes["B"])):
        da = 1 - h[block] ** 2  # tanh' for all steps of the block; the loop multiplies it by dh_t
        for da_t, direct in zip(da[::-1], dh[block][::-1], strict=True):
            dh_t += direct
            da_t *= dh_t
            times_W_hh(da_t, dh_t)  # dh_t = da_t @ W_hh
        da_rows = _rows(da)
        if dx is not None:
            _product(W_xh, sizes["B"])(da_rows, _rows(dx[block]))
        h_prev = _rows(_previous(h, h0, block))
        terms = da_rows.T.dot(_rows(x[block])), da_rows.T.dot(h_prev), da_rows.sum(axis=0)
        sums = _add(sums, terms)
    dW_xh, dW_hh, db_h = sums
    return dx, dh_t, dW_xh, dW_hh, db_h


def lstm_forward(
    x: ArrayLike, h0: ArrayLike, c0: ArrayLike, W_x: ArrayLike, W_h: ArrayLike, b: ArrayLike
) -> tuple[Array, Array, Array]:
    """Run an LSTM over a sequence, as :func:`rnncourse.gates.lstm_forward` does.

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
    gates : ndarray, shape (T, B, 4, H)
        The gates i, f, g, o of all steps, for :func:`lstm_backward`.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> from rnncourse.gates import init_lstm_params
    >>> params = init_lstm_params(D=3, H=4, rng=np.random.default_rng(0))
    >>> h, c, gates = lstm_forward(np.ones((5, 2, 3)), np.zeros((2, 4)), np.zeros((2, 4)), **params)
    >>> h.shape, c.shape, gates.shape
    ((5, 2, 4), (5, 2, 4), (5, 2, 4, 4))
    """
    x, h0, c0, W_x, W_h, b = _same_dtype(x=x, h0=h0, c0=c0, W_x=W_x, W_h=W_h, b=b)
    sizes = check_shapes(x=(x, "T B D"), h0=(h0, "B H"), c0=(c0, "B H"))
    T, B, D, H = (sizes[axis] for axis in "TBDH")
    _check_weights(4, D, H, W_x=W_x, W_h=W_h, b=b)
    # σ(a) = ½ + ½ tanh(a/2), so one tanh serves all four gates
    half = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], x.dtype), H)
    shift = 1 - half
    gates = np.empty((T, B, 4 * H), x.dtype)
    _product(W_x.T, B)(_rows(x), _rows(gates))  # W_x x_t for all t at once
    gates += b
    times_W_h_T = _product(W_h.T, B)
    h, c = np.empty((T, B, H), x.dtype), np.empty((T, B, H), x.dtype)
    recurrent, new = np.empty((B, 4 * H), x.dtype), np.empty((B, H), x.dtype)
    h_prev, c_prev = h0, c0
    for gates_t, i, f, g, o, h_t, c_t in zip(gates, *_split(gates, H), h, c, strict=True):
        times_W_h_T(h_prev, recurrent)
        gates_t += recurrent
        gates_t *= half
        np.tanh(gates_t, gates_t)
        gates_t *= half
        gates_t += shift
        np.multiply(f, c_prev, c_t)
        c_t += np.multiply(i, g, new)
        np.tanh(c_t, h_t)
        h_t *= o
        h_prev, c_prev = h_t, c_t
    return h, c, gates.reshape(T, B, 4, H)


def lstm_backward(
    dh: ArrayLike,
    x: ArrayLike,
    h0: ArrayLike,
    c0: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    gates: ArrayLike,
    W_x: ArrayLike,
    W_h: ArrayLike,
    dc_last: ArrayLike | None = None,
    *,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array, Array, Array, Array]:
    """Backpropagate through an LSTM, as :func:`rnncourse.gates.lstm_backward` does.

    Parameters
    ----------
    dh : ndarray, shape (T, B, H)
        Direct gradient of the loss with respect to each hidden state.
    x, h0, c0 : ndarray
        As given to :func:`lstm_forward`.
    h, c : ndarray, shape (T, B, H)
        As :func:`lstm_forward` returned them.
    gates : ndarray, shape (T, B, 4, H)
        As :func:`lstm_forward` returned them.
    W_x : ndarray, shape (4H, D)
        Input weights.
    W_h : ndarray, shape (4H, H)
        Recurrent weights.
    dc_last : ndarray, shape (B, H), optional
        Gradient with respect to the last cell; zero without it.
    need_dx : bool, optional
        False saves a product where the inputs are data and not the output of another layer.

    Returns
    -------
    dx : ndarray, shape (T, B, D), or None
    dh0 : ndarray, shape (B, H)
    dc0 : ndarray, shape (B, H)
    dW_x : ndarray, shape (4H, D)
    dW_h : ndarray, shape (4H, H)
    db : ndarray, shape (4H,)

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> from rnncourse.gates import init_lstm_params
    >>> params = init_lstm_params(D=3, H=4, rng=np.random.default_rng(0))
    >>> x, h0, c0 = np.ones((5, 2, 3)), np.zeros((2, 4)), np.zeros((2, 4))
    >>> states = lstm_forward(x, h0, c0, **params)
    >>> grads = lstm_backward(np.ones((5, 2, 4)), x, h0, c0, *states, params["W_x"], params["W_h"])
    >>> [g.shape for g in grads]
    [(5, 2, 3), (2, 4), (2, 4), (16, 3), (16, 4), (16,)]
    """
    dc_last = np.zeros_like(as_float("c0", c0)) if dc_last is None else dc_last
    dh, x, h0, c0, h, c, gates, W_x, W_h, dc_last = _same_dtype(
        dh=dh, x=x, h0=h0, c0=c0, h=h, c=c, gates=gates, W_x=W_x, W_h=W_h, dc_last=dc_last
    )
    sizes = check_shapes(
        dh=(dh, "T B H"),
        x=(x, "T B D"),
        h0=(h0, "B H"),
        c0=(c0, "B H"),
        h=(h, "T B H"),
        c=(c, "T B H"),
        gates=(gates, "T B 4 H"),
        dc_last=(dc_last, "B H"),
    )
    T, B, D, H = (sizes[axis] for axis in "TBDH")
    _check_weights(4, D, H, W_x=W_x, W_h=W_h)
    dx = np.empty(x.shape, x.dtype) if need_dx else None
    sums: list[Array] = []  # dW_x, dW_h, db
    times_W_h = _product(W_h, B)
    dh_t, dc_t = np.zeros((B, H), x.dtype), dc_last.copy(order="C")
    through_h = np.empty((B, H), x.dtype)
    blocks = _blocks(T, B)
    da_block = np.empty((blocks[0].stop, B, 4 * H), x.dtype)
    for block in reversed(blocks):
        i, f, g, o = np.moveaxis(gates[block], 2, 0)
        tanh_c = np.tanh(c[block])
        dc_dh = o * (1 - tanh_c**2)
        da = da_block[: len(f)]  # the derivatives; the loop multiplies in dc_t and dh_t
        da_i, da_f, da_g, da_o = _split(da, H)
        sigma = gates[block].reshape(da.shape)
        np.subtract(1, sigma, da)
        da *= sigma  # σ' = σ (1 − σ), for i, f and o
        da_g[:] = 1 - g**2  # tanh'
        da_i *= g
        da_f *= _previous(c, c0, block)
        da_g *= i
        da_o *= tanh_c
        da_ifg = da.reshape(-1, B, 4, H)[:, :, :3]
        steps = zip(da, da_ifg, da_o, dh[block], dc_dh, f, strict=True)
        for da_t, da_ifg_t, da_o_t, direct, dc_dh_t, f_t in reversed(list(steps)):
            dh_t += direct
            dc_t += np.multiply(dh_t, dc_dh_t, through_h)
            da_ifg_t *= dc_t[:, None]
            da_o_t *= dh_t
            dc_t *= f_t
            times_W_h(da_t, dh_t)  # dh_t = da_t @ W_h
        da_rows = _rows(da)
        if dx is not None:
            _product(W_x, B)(da_rows, _rows(dx[block]))
        h_prev = _rows(_previous(h, h0, block))
        terms = da_rows.T.dot(_rows(x[block])), da_rows.T.dot(h_prev), da_rows.sum(axis=0)
        sums = _add(sums, terms)
    dW_x, dW_h, db = sums
    return dx, dh_t, dc_t, dW_x, dW_h, db


def gru_forward(
    x: ArrayLike, h0: ArrayLike, W_x: ArrayLike, W_h: ArrayLike, b_x: ArrayLike, b_h: ArrayLike
) -> tuple[Array, tuple[Array, Array]]:
    """Run a GRU over a sequence, as :func:`rnncourse.gates.gru_forward` does.

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
    h : ndarray, shape (T, B, H)
        Hidden states.
    gates : tuple of ndarray, shapes (T, B, 3, H) and (T, B, H)
        r, z, n and ``W_hn h + b_hn`` of all steps, for :func:`gru_backward`.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> from rnncourse.gates import init_gru_params
    >>> params = init_gru_params(D=3, H=4, rng=np.random.default_rng(0))
    >>> h, gates = gru_forward(np.ones((5, 2, 3)), np.zeros((2, 4)), **params)
    >>> h.shape, [a.shape for a in gates]
    ((5, 2, 4), [(5, 2, 3, 4), (5, 2, 4)])
    """
    x, h0, W_x, W_h, b_x, b_h = _same_dtype(x=x, h0=h0, W_x=W_x, W_h=W_h, b_x=b_x, b_h=b_h)
    sizes = check_shapes(x=(x, "T B D"), h0=(h0, "B H"))
    T, B, D, H = (sizes[axis] for axis in "TBDH")
    _check_weights(3, D, H, W_x=W_x, W_h=W_h, b_x=b_x, b_h=b_h)
    b_rz, b_xn, b_hn = (b_x + b_h)[: 2 * H], b_x[2 * H :], b_h[2 * H :]
    gates = np.empty((T, B, 3 * H), x.dtype)
    _product(W_x.T, B)(_rows(x), _rows(gates))  # W_x x_t for all t at once
    gates += np.concatenate([b_rz, b_xn])
    times_W_h_T = _product(W_h.T, B)
    h, recurrent_n = np.empty((T, B, H), x.dtype), np.empty((T, B, H), x.dtype)
    recurrent, reset = np.empty((B, 3 * H), x.dtype), np.empty((B, H), x.dtype)
    recurrent_rz, W_hn_h = recurrent[:, : 2 * H], recurrent[:, 2 * H :]
    h_prev = h0
    steps = zip(gates[:, :, : 2 * H], *_split(gates, H), recurrent_n, h, strict=True)
    for rz, r, z, n, recurrent_n_t, h_t in steps:
        times_W_h_T(h_prev, recurrent)
        rz += recurrent_rz
        rz *= 0.5
        np.tanh(rz, rz)  # σ(a) = ½ + ½ tanh(a/2)
        rz *= 0.5
        rz += 0.5
        np.add(W_hn_h, b_hn, recurrent_n_t)
        n += np.multiply(r, recurrent_n_t, reset)
        np.tanh(n, n)
        np.subtract(h_prev, n, h_t)
        h_t *= z
        h_t += n  # n + z (h_prev - n) = (1 - z) n + z h_prev
        h_prev = h_t
    return h, (gates.reshape(T, B, 3, H), recurrent_n)


def gru_backward(
    dh: ArrayLike,
    x: ArrayLike,
    h0: ArrayLike,
    h: ArrayLike,
    gates: tuple[ArrayLike, ArrayLike],
    W_x: ArrayLike,
    W_h: ArrayLike,
    *,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array, Array, Array, Array]:
    """Backpropagate through a GRU, as :func:`rnncourse.gates.gru_backward` does.

    Parameters
    ----------
    dh : ndarray, shape (T, B, H)
        Direct gradient of the loss with respect to each hidden state.
    x, h0 : ndarray
        As given to :func:`gru_forward`.
    h : ndarray, shape (T, B, H)
        As :func:`gru_forward` returned it.
    gates : tuple of ndarray, shapes (T, B, 3, H) and (T, B, H)
        As :func:`gru_forward` returned them.
    W_x : ndarray, shape (3H, D)
        Input weights.
    W_h : ndarray, shape (3H, H)
        Recurrent weights.
    need_dx : bool, optional
        False saves a product where the inputs are data and not the output of another layer.

    Returns
    -------
    dx : ndarray, shape (T, B, D), or None
    dh0 : ndarray, shape (B, H)
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
    >>> from rnncourse.gates import init_gru_params
    >>> params = init_gru_params(D=3, H=4, rng=np.random.default_rng(0))
    >>> x, h0 = np.ones((5, 2, 3)), np.zeros((2, 4))
    >>> states = gru_forward(x, h0, **params)
    >>> grads = gru_backward(np.ones((5, 2, 4)), x, h0, *states, params["W_x"], params["W_h"])
    >>> [g.shape for g in grads]
    [(5, 2, 3), (2, 4), (12, 3), (12, 4), (12,), (12,)]
    """
    if not isinstance(gates, tuple | list) or len(gates) != 2:
        raise TypeError(f"gates must be the pair that gru_forward returns, but it is {gates!r}")
    dh, x, h0, h, rzn, recurrent_n, W_x, W_h = _same_dtype(
        dh=dh, x=x, h0=h0, h=h, gates=gates[0], recurrent_n=gates[1], W_x=W_x, W_h=W_h
    )
    sizes = check_shapes(
        dh=(dh, "T B H"),
        x=(x, "T B D"),
        h0=(h0, "B H"),
        h=(h, "T B H"),
        gates=(rzn, "T B 3 H"),
        recurrent_n=(recurrent_n, "T B H"),
    )
    T, B, D, H = (sizes[axis] for axis in "TBDH")
    _check_weights(3, D, H, W_x=W_x, W_h=W_h)
    dx = np.empty(x.shape, x.dtype) if need_dx else None
    sums: list[Array] = []  # dW_x, dW_h, db_x, db_h
    times_W_h = _product(W_h, B)
    dh_t, through_gates = np.zeros((B, H), x.dtype), np.empty((B, H), x.dtype)
    blocks = _blocks(T, B)
    da_block = np.empty((blocks[0].stop, B, 3 * H), x.dtype)
    for block in reversed(blocks):
        r, z, n = np.moveaxis(rzn[block], 2, 0)
        h_prev = _previous(h, h0, block)
        da_n = (1 - z) * (1 - n**2)  # the derivatives; the loop multiplies in dh_t
        da = da_block[: len(z)]
        da_r, da_z, da_hn = _split(da, H)
        np.multiply(recurrent_n[block], r * (1 - r), da_r)
        np.multiply(h_prev - n, z * (1 - z), da_z)
        da_hn[:] = r
        steps = zip(da, da_r, da_z, da_hn, da_n, dh[block], z, strict=True)
        for da_t, da_r_t, da_z_t, da_hn_t, da_n_t, direct, z_t in reversed(list(steps)):
            dh_t += direct
            da_n_t *= dh_t
            da_r_t *= da_n_t
            da_z_t *= dh_t
            da_hn_t *= da_n_t
            dh_t *= z_t
            times_W_h(da_t, through_gates)  # through_gates = da_t @ W_h
            dh_t += through_gates
        da_rows = _rows(da)
        dW_h, db_h = da_rows.T.dot(_rows(h_prev)), da_rows.sum(axis=0)
        da_hn[:] = da_n  # on the input side no r stands before n
        if dx is not None:
            _product(W_x, B)(da_rows, _rows(dx[block]))
        terms = da_rows.T.dot(_rows(x[block])), dW_h, da_rows.sum(axis=0), db_h
        sums = _add(sums, terms)
    dW_x, dW_h, db_x, db_h = sums
    return dx, dh_t, dW_x, dW_h, db_x, db_h


def _same_dtype(**arrays: ArrayLike) -> list[Array]:
    """Return the arguments as float arrays of their common dtype, without a copy where it fits."""
    floats = [as_float(name, array) for name, array in arrays.items()]
    dtype = np.result_type(*floats)
    return [array.astype(dtype, copy=False) for array in floats]


def _rows(a: Array) -> Array:
    """Return ``(T, B, N)`` as the matrix ``(T·B, N)``."""
    return a.reshape(-1, a.shape[-1])


def _blocks(T: int, B: int) -> list[slice]:
    """Cut T steps into blocks of equal length, of about `BLOCK_ROWS` rows each."""
    steps = -(-T // max(1, round(T * B / BLOCK_ROWS)))
    return [slice(start, min(start + steps, T)) for start in range(0, T, steps)]


def _previous(states: Array, first: Array, block: slice) -> Array:
    """Return the states before the steps of a block."""
    if block.start > 0:
        return states[block.start - 1 : block.stop - 1]
    return np.concatenate([first[None], states[: block.stop - 1]])


def _add(sums: list[Array], terms: Iterable[Array]) -> list[Array]:
    """Add a block's terms to the sums in place; the terms of the first block become the sums."""
    if not sums:
        return list(terms)
    for total, term in zip(sums, terms, strict=True):
        total += term
    return sums


def _split(a: Array, H: int) -> list[Array]:
    """Return views of the gates' parts of the last axis, H wide each."""
    return [a[..., start : start + H] for start in range(0, a.shape[-1], H)]


def _product(W: Array, B: int) -> Callable[[Array, Array], object]:
    """Return a function that writes ``h @ W`` into its second argument, as fast as it can.

    `h` has B rows or a multiple of B. The result is that of ``h.dot(W, out)``. The products of a
    time step have few rows, and OpenBLAS spends a quarter of their time on copying both factors
    into the order that suits its large products. It leaves this out for products of at most 10⁶
    multiplications where the processor has AVX-512, so there we cut `W` into groups of columns,
    and `h` into groups of rows, until each piece is that small. Elsewhere pieces would be slower.
    """
    K, N = W.shape
    rows = columns = 1
    if B * K * N > SMALL_PRODUCT and _small_products_are_fast():
        columns = _divisor(N, 64)
        rows = _divisor(B, SMALL_PRODUCT // (columns * K))
    if rows < 4 or columns < 16:
        contiguous = np.ascontiguousarray(W)
        return lambda h, out: h.dot(contiguous, out)
    pieces = W.T.reshape(-1, 1, columns, K).swapaxes(2, 3).copy()  # (N/columns, 1, K, columns)

    def times_pieces(h: Array, out: Array) -> None:
        grid = out.reshape(-1, rows, N // columns, columns).transpose(2, 0, 1, 3)
        np.matmul(h.reshape(-1, rows, K), pieces, out=grid)

    return times_pieces


def _divisor(n: int, limit: int) -> int:
    """Return the largest divisor of `n` that is at most `limit`, and at least 1."""
    return max((d for d in range(1, min(n, limit) + 1) if n % d == 0), default=1)


@cache
def _small_products_are_fast() -> bool:
    """Return whether NumPy multiplies with OpenBLAS on a processor that has AVX-512."""
    build = np.show_config(mode="dicts")
    simd = build["SIMD Extensions"]
    names = {"X86_V4", "AVX512_SKX"}  # NumPy's newer and older name
    blas = str(build["Build Dependencies"]["blas"]["name"])
    return "openblas" in blas and not names.isdisjoint([*simd["baseline"], *simd.get("found", [])])
