"""The recurrences of :mod:`rnncourse.rnn`, `bptt` and `gates`, arranged for speed.

The same equations, with four changes of order that leave the results as they are:

1. Inputs do not depend on states, so their product with the weights is one product for all steps.
2. A weight's gradient is a sum over steps of products, which is one product of longer matrices.
3. Whatever part of a derivative needs no gradient from later is computed for many steps at once.
4. Results go into arrays that exist already, and weights are transposed once, not at each step.

What remains inside the time loop is what the recurrence forces to be there. The backward passes
work through blocks of steps, so that their intermediate results stay small enough for the cache and
need no second copy of the sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnncourse._validation import Array, as_float, check_shapes
from rnncourse.gates import _check_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

BLOCK_ROWS = 1024  # steps times batch of a block: enough for a fast product, few enough to cache


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
    h = _rows(x).dot(W_xh.T).reshape(len(x), *h0.shape)  # W_xh x_t for all t at once
    h += b_h
    W_hh_T = W_hh.T.copy()
    recurrent = np.empty_like(h0, order="C")
    h_prev = h0
    for h_t in h:
        h_prev.dot(W_hh_T, recurrent)
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
    dh_last = np.zeros_like(h0) if dh_last is None else dh_last
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
    dW_xh, dW_hh = np.zeros(W_xh.shape, x.dtype), np.zeros(W_hh.shape, x.dtype)
    db_h = np.zeros(sizes["H"], x.dtype)
    dh_t = dh_last.copy(order="C")  # what the later states ask of this one
    for block in reversed(_blocks(sizes["T"], sizes["B"])):
        da = 1 - h[block] ** 2  # tanh' for all steps of the block; the loop multiplies it by dh_t
        for da_t, direct in zip(da[::-1], dh[block][::-1], strict=True):
            dh_t += direct
            da_t *= dh_t
            da_t.dot(W_hh, dh_t)
        da_rows = _rows(da)
        if dx is not None:
            dx[block] = da_rows.dot(W_xh).reshape(dx[block].shape)
        dW_xh += da_rows.T.dot(_rows(x[block]))
        dW_hh += da_rows.T.dot(_rows(_previous(h, h0, block)))
        db_h += da_rows.sum(axis=0)
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
    gates : ndarray, shape (4, T, B, H)
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
    ((5, 2, 4), (5, 2, 4), (4, 5, 2, 4))
    """
    x, h0, c0, W_x, W_h, b = _same_dtype(x=x, h0=h0, c0=c0, W_x=W_x, W_h=W_h, b=b)
    sizes = check_shapes(x=(x, "T B D"), h0=(h0, "B H"), c0=(c0, "B H"))
    T, B, D, H = (sizes[axis] for axis in "TBDH")
    _check_weights(4, D, H, W_x=W_x, W_h=W_h, b=b)
    # σ(a) = ½ + ½ tanh(a/2): with a halved in the weights, one tanh serves all four gates
    half = np.array([0.5, 0.5, 1.0, 0.5], x.dtype).reshape(4, 1, 1)
    shift = 1 - half
    W_x_T, W_h_T = (_per_gate_transposed(half * W.reshape(4, H, -1)) for W in (W_x, W_h))
    gates: Array = np.matmul(_rows(x), W_x_T)  # (4, T·B, H): each gate is contiguous
    gates += half * b.reshape(4, 1, H)
    gates = gates.reshape(4, T, B, H)
    h, c = np.empty((T, B, H), x.dtype), np.empty((T, B, H), x.dtype)
    recurrent, new = np.empty((4, B, H), x.dtype), np.empty((B, H), x.dtype)
    h_prev, c_prev = h0, c0
    for gates_t, h_t, c_t in zip(gates.swapaxes(0, 1), h, c, strict=True):
        np.matmul(h_prev, W_h_T, out=recurrent)
        gates_t += recurrent
        np.tanh(gates_t, gates_t)
        gates_t *= half
        gates_t += shift
        i, f, g, o = gates_t
        np.multiply(f, c_prev, c_t)
        c_t += np.multiply(i, g, new)
        np.tanh(c_t, h_t)
        h_t *= o
        h_prev, c_prev = h_t, c_t
    return h, c, gates


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
    gates : ndarray, shape (4, T, B, H)
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
    dc_last = np.zeros_like(c0) if dc_last is None else dc_last
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
        gates=(gates, "4 T B H"),
        dc_last=(dc_last, "B H"),
    )
    T, B, D, H = (sizes[axis] for axis in "TBDH")
    _check_weights(4, D, H, W_x=W_x, W_h=W_h)
    W_x, W_h = W_x.reshape(4, H, D), W_h.reshape(4, H, H)
    dx = np.empty(x.shape, x.dtype) if need_dx else None
    dW_x, dW_h, db = np.zeros_like(W_x), np.zeros_like(W_h), np.zeros((4, H), x.dtype)
    dh_t, dc_t = np.zeros((B, H), x.dtype), dc_last.copy(order="C")
    through_h, products = np.empty((B, H), x.dtype), np.empty((4, B, H), x.dtype)
    for block in reversed(_blocks(T, B)):
        i, f, g, o = gates[:, block]
        tanh_c = np.tanh(c[block])
        dc_dh = o * (1 - tanh_c**2)
        da = np.empty((4, *f.shape), x.dtype)  # the derivatives; the loop multiplies in dc_t, dh_t
        da[0] = g * i * (1 - i)
        da[1] = _previous(c, c0, block) * f * (1 - f)
        da[2] = i * (1 - g**2)
        da[3] = tanh_c * o * (1 - o)
        for t in reversed(range(len(f))):
            dh_t += dh[block][t]
            dc_t += np.multiply(dh_t, dc_dh[t], through_h)
            da[:3, t] *= dc_t
            da[3, t] *= dh_t
            dc_t *= f[t]
            np.matmul(da[:, t], W_h, out=products).sum(axis=0, out=dh_t)
        da_rows = da.reshape(4, -1, H)
        if dx is not None:
            dx[block] = np.matmul(da_rows, W_x).sum(axis=0).reshape(dx[block].shape)
        dW_x += np.matmul(da_rows.swapaxes(1, 2), _rows(x[block]))
        dW_h += np.matmul(da_rows.swapaxes(1, 2), _rows(_previous(h, h0, block)))
        db += da_rows.sum(axis=1)
    return dx, dh_t, dc_t, dW_x.reshape(4 * H, D), dW_h.reshape(4 * H, H), db.reshape(4 * H)


def gru_forward(
    x: ArrayLike, h0: ArrayLike, W_x: ArrayLike, W_h: ArrayLike, b_x: ArrayLike, b_h: ArrayLike
) -> tuple[Array, Array]:
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
    gates : ndarray, shape (4, T, B, H)
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
    >>> h.shape, gates.shape
    ((5, 2, 4), (4, 5, 2, 4))
    """
    x, h0, W_x, W_h, b_x, b_h = _same_dtype(x=x, h0=h0, W_x=W_x, W_h=W_h, b_x=b_x, b_h=b_h)
    sizes = check_shapes(x=(x, "T B D"), h0=(h0, "B H"))
    T, B, D, H = (sizes[axis] for axis in "TBDH")
    _check_weights(3, D, H, W_x=W_x, W_h=W_h, b_x=b_x, b_h=b_h)
    # σ(a) = ½ + ½ tanh(a/2), with a halved in the weights of r and z
    half = np.array([0.5, 0.5, 1.0], x.dtype).reshape(3, 1, 1)
    W_x_T, W_h_T = (_per_gate_transposed(half * W.reshape(3, H, -1)) for W in (W_x, W_h))
    b_x, b_h = half * b_x.reshape(3, 1, H), half * b_h.reshape(3, 1, H)
    gates: Array = np.empty((4, T * B, H), x.dtype)
    np.matmul(_rows(x), W_x_T, out=gates[:3])
    gates[:3] += b_x
    gates = gates.reshape(4, T, B, H)
    h, recurrent = np.empty((T, B, H), x.dtype), np.empty((3, B, H), x.dtype)
    reset = np.empty((B, H), x.dtype)
    h_prev = h0
    for gates_t, h_t in zip(gates.swapaxes(0, 1), h, strict=True):
        rz, (r, z, n, recurrent_n) = gates_t[:2], gates_t
        np.matmul(h_prev, W_h_T, out=recurrent)
        recurrent += b_h
        rz += recurrent[:2]
        np.tanh(rz, rz)
        rz *= 0.5
        rz += 0.5
        recurrent_n[:] = recurrent[2]
        n += np.multiply(r, recurrent_n, reset)
        np.tanh(n, n)
        np.subtract(h_prev, n, h_t)
        h_t *= z
        h_t += n  # n + z (h_prev - n) = (1 - z) n + z h_prev
        h_prev = h_t
    return h, gates


def gru_backward(
    dh: ArrayLike,
    x: ArrayLike,
    h0: ArrayLike,
    h: ArrayLike,
    gates: ArrayLike,
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
    gates : ndarray, shape (4, T, B, H)
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
    dh, x, h0, h, gates, W_x, W_h = _same_dtype(
        dh=dh, x=x, h0=h0, h=h, gates=gates, W_x=W_x, W_h=W_h
    )
    sizes = check_shapes(
        dh=(dh, "T B H"),
        x=(x, "T B D"),
        h0=(h0, "B H"),
        h=(h, "T B H"),
        gates=(gates, "4 T B H"),
    )
    T, B, D, H = (sizes[axis] for axis in "TBDH")
    _check_weights(3, D, H, W_x=W_x, W_h=W_h)
    W_x, W_h = W_x.reshape(3, H, D), W_h.reshape(3, H, H)
    dx = np.empty(x.shape, x.dtype) if need_dx else None
    dW_x, dW_h = np.zeros_like(W_x), np.zeros_like(W_h)
    db_x, db_h = np.zeros((3, H), x.dtype), np.zeros((3, H), x.dtype)
    dh_t, products = np.zeros((B, H), x.dtype), np.empty((4, B, H), x.dtype)
    for block in reversed(_blocks(T, B)):
        r, z, n, recurrent_n = gates[:, block]
        h_prev = _previous(h, h0, block)
        da_n = (1 - z) * (1 - n**2)  # the derivatives; the loop multiplies in dh_t
        da = np.empty((3, *z.shape), x.dtype)
        da[0] = recurrent_n * r * (1 - r)
        da[1] = (h_prev - n) * z * (1 - z)
        da[2] = r
        for t in reversed(range(len(z))):
            dh_t += dh[block][t]
            da_n[t] *= dh_t
            da[0, t] *= da_n[t]
            da[1, t] *= dh_t
            da[2, t] *= da_n[t]
            np.multiply(dh_t, z[t], products[3])
            np.matmul(da[:, t], W_h, out=products[:3])
            products.sum(axis=0, out=dh_t)
        da_rows = da.reshape(3, -1, H)
        dW_h += np.matmul(da_rows.swapaxes(1, 2), _rows(h_prev))
        db_h += da_rows.sum(axis=1)
        da[2] = da_n  # on the input side no r stands before n
        if dx is not None:
            dx[block] = np.matmul(da_rows, W_x).sum(axis=0).reshape(dx[block].shape)
        dW_x += np.matmul(da_rows.swapaxes(1, 2), _rows(x[block]))
        db_x += da_rows.sum(axis=1)
    weights = dW_x.reshape(3 * H, D), dW_h.reshape(3 * H, H)
    return dx, dh_t, *weights, db_x.reshape(3 * H), db_h.reshape(3 * H)


def _same_dtype(**arrays: ArrayLike) -> list[Array]:
    """Return the arguments as float arrays of their common dtype, without a copy where it fits."""
    floats = [as_float(name, array) for name, array in arrays.items()]
    dtype = np.result_type(*floats)
    return [array.astype(dtype, copy=False) for array in floats]


def _rows(a: Array) -> Array:
    """Return ``(T, B, N)`` as the matrix ``(T·B, N)``."""
    return a.reshape(-1, a.shape[-1])


def _blocks(T: int, B: int) -> list[slice]:
    """Cut T steps into blocks of about `BLOCK_ROWS` rows."""
    steps = max(1, BLOCK_ROWS // B)
    return [slice(start, min(start + steps, T)) for start in range(0, T, steps)]


def _previous(states: Array, first: Array, block: slice) -> Array:
    """Return the states before the steps of a block."""
    if block.start > 0:
        return states[block.start - 1 : block.stop - 1]
    return np.concatenate([first[None], states[: block.stop - 1]])


def _per_gate_transposed(W: Array) -> Array:
    """Return stacked weights ``(gates, H, N)`` as contiguous ``(gates, N, H)``."""
    return W.swapaxes(1, 2).copy()
