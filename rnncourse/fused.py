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
    dh: ArrayLike, x: ArrayLike, h0: ArrayLike, h: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike
) -> tuple[Array, Array, Array, Array, Array]:
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
    dh, x, h0, h, W_xh, W_hh = _same_dtype(dh=dh, x=x, h0=h0, h=h, W_xh=W_xh, W_hh=W_hh)
    sizes = check_shapes(
        dh=(dh, "T B H"),
        x=(x, "T B D"),
        h0=(h0, "B H"),
        h=(h, "T B H"),
        W_xh=(W_xh, "H D"),
        W_hh=(W_hh, "H H"),
    )
    dx = np.empty(x.shape, x.dtype)
    dW_xh, dW_hh = np.zeros_like(W_xh, order="C"), np.zeros_like(W_hh, order="C")
    db_h = np.zeros(sizes["H"], x.dtype)
    dh_t = np.zeros(h0.shape, x.dtype)  # what the later states ask of this one, then all that is
    for block in reversed(_blocks(sizes["T"], sizes["B"])):
        da = 1 - h[block] ** 2  # tanh' for all steps of the block; the loop multiplies it by dh_t
        for da_t, direct in zip(da[::-1], dh[block][::-1], strict=True):
            dh_t += direct
            da_t *= dh_t
            da_t.dot(W_hh, dh_t)
        da_rows = _rows(da)
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
    gates : ndarray, shape (T, B, 4, H)
        The gates i, f, g, o of each step, for :func:`lstm_backward`.

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
    # σ(a) = ½ + ½ tanh(a/2): with a halved in the weights, one tanh serves all four gates
    half = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], x.dtype), H)
    shift = 1 - half
    gates = _rows(x).dot((half[:, None] * W_x).T).reshape(T, B, 4 * H)
    gates += half * b
    W_h_T = (half[:, None] * W_h).T.copy()
    h, c = np.empty((T, B, H), x.dtype), np.empty((T, B, H), x.dtype)
    recurrent, new = np.empty((B, 4 * H), x.dtype), np.empty((B, H), x.dtype)
    h_prev, c_prev = h0, c0
    for gates_t, h_t, c_t in zip(gates, h, c, strict=True):
        h_prev.dot(W_h_T, recurrent)
        gates_t += recurrent
        np.tanh(gates_t, gates_t)
        gates_t *= half
        gates_t += shift
        i, f, g, o = gates_t[:, :H], gates_t[:, H : 2 * H], gates_t[:, 2 * H : -H], gates_t[:, -H:]
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
) -> tuple[Array, Array, Array, Array, Array, Array]:
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
        gates=(gates, "T B 4 H"),
        dc_last=(dc_last, "B H"),
    )
    T, B, D, H = (sizes[axis] for axis in "TBDH")
    _check_weights(4, D, H, W_x=W_x, W_h=W_h)
    dx = np.empty(x.shape, x.dtype)
    dW_x, dW_h = np.zeros_like(W_x, order="C"), np.zeros_like(W_h, order="C")
    db = np.zeros(4 * H, x.dtype)
    dh_t, dc_t = np.zeros((B, H), x.dtype), dc_last.copy()
    through_h = np.empty((B, H), x.dtype)
    for block in reversed(_blocks(T, B)):
        i, f, g, o = np.moveaxis(gates[block], 2, 0)
        tanh_c = np.tanh(c[block])
        dc_dh = o * (1 - tanh_c**2)
        da = np.empty((len(f), B, 4, H), x.dtype)  # derivatives first; the loop multiplies by dc_t
        da[:, :, 0] = g * i * (1 - i)
        da[:, :, 1] = _previous(c, c0, block) * f * (1 - f)
        da[:, :, 2] = i * (1 - g**2)
        da[:, :, 3] = tanh_c * o * (1 - o)
        for t in reversed(range(len(da))):
            dh_t += dh[block][t]
            dc_t += np.multiply(dh_t, dc_dh[t], through_h)
            da[t, :, :3] *= dc_t[:, None]
            da[t, :, 3] *= dh_t
            dc_t *= f[t]
            da[t].reshape(B, 4 * H).dot(W_h, dh_t)
        da_rows = da.reshape(-1, 4 * H)
        dx[block] = da_rows.dot(W_x).reshape(dx[block].shape)
        dW_x += da_rows.T.dot(_rows(x[block]))
        dW_h += da_rows.T.dot(_rows(_previous(h, h0, block)))
        db += da_rows.sum(axis=0)
    return dx, dh_t, dc_t, dW_x, dW_h, db


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
    gates : ndarray, shape (T, B, 4, H)
        r, z, n and ``W_hn h + b_hn`` of each step, for :func:`gru_backward`.

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
    ((5, 2, 4), (5, 2, 4, 4))
    """
    x, h0, W_x, W_h, b_x, b_h = _same_dtype(x=x, h0=h0, W_x=W_x, W_h=W_h, b_x=b_x, b_h=b_h)
    sizes = check_shapes(x=(x, "T B D"), h0=(h0, "B H"))
    T, B, D, H = (sizes[axis] for axis in "TBDH")
    _check_weights(3, D, H, W_x=W_x, W_h=W_h, b_x=b_x, b_h=b_h)
    gates = np.empty((T, B, 4 * H), x.dtype)
    gates[..., : 3 * H] = _rows(x).dot(W_x.T).reshape(T, B, 3 * H)
    gates[..., : 3 * H] += b_x
    W_h_T = W_h.T.copy()
    h = np.empty((T, B, H), x.dtype)
    recurrent = np.empty((B, 3 * H), x.dtype)
    h_prev = h0
    for gates_t, h_t in zip(gates, h, strict=True):
        rz, z, n, h_n = (
            gates_t[:, : 2 * H],
            gates_t[:, H : 2 * H],
            gates_t[:, 2 * H : -H],
            gates_t[:, -H:],
        )
        h_prev.dot(W_h_T, recurrent)
        recurrent += b_h
        rz += recurrent[:, : 2 * H]
        rz *= 0.5
        np.tanh(rz, rz)
        rz += 1
        rz *= 0.5  # σ(a) = ½ (1 + tanh(a/2))
        h_n[:] = recurrent[:, 2 * H :]
        n += rz[:, :H] * h_n
        np.tanh(n, n)
        np.subtract(h_prev, n, h_t)
        h_t *= z
        h_t += n  # (1 - z) n + z h_prev
        h_prev = h_t
    return h, gates.reshape(T, B, 4, H)


def gru_backward(
    dh: ArrayLike,
    x: ArrayLike,
    h0: ArrayLike,
    h: ArrayLike,
    gates: ArrayLike,
    W_x: ArrayLike,
    W_h: ArrayLike,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Backpropagate through a GRU, as :func:`rnncourse.gates.gru_backward` does.

    Parameters
    ----------
    dh : ndarray, shape (T, B, H)
        Direct gradient of the loss with respect to each hidden state.
    x, h0 : ndarray
        As given to :func:`gru_forward`.
    h : ndarray, shape (T, B, H)
        As :func:`gru_forward` returned it.
    gates : ndarray, shape (T, B, 4, H)
        As :func:`gru_forward` returned them.
    W_x : ndarray, shape (3H, D)
        Input weights.
    W_h : ndarray, shape (3H, H)
        Recurrent weights.

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
        gates=(gates, "T B 4 H"),
    )
    T, B, D, H = (sizes[axis] for axis in "TBDH")
    _check_weights(3, D, H, W_x=W_x, W_h=W_h)
    dx = np.empty(x.shape, x.dtype)
    dW_x, dW_h = np.zeros_like(W_x, order="C"), np.zeros_like(W_h, order="C")
    db_x, db_h = np.zeros(3 * H, x.dtype), np.zeros(3 * H, x.dtype)
    dh_t, kept = np.zeros((B, H), x.dtype), np.empty((B, H), x.dtype)
    for block in reversed(_blocks(T, B)):
        r, z, n, h_n = np.moveaxis(gates[block], 2, 0)
        h_prev = _previous(h, h0, block)
        da_n = (1 - z) * (1 - n**2)  # derivatives first; the loop multiplies by dh_t
        da_h = np.empty((len(z), B, 3, H), x.dtype)
        da_h[:, :, 0] = h_n * r * (1 - r)
        da_h[:, :, 1] = (h_prev - n) * z * (1 - z)
        da_h[:, :, 2] = r
        for t in reversed(range(len(da_h))):
            dh_t += dh[block][t]
            da_n[t] *= dh_t
            da_h[t, :, 0] *= da_n[t]
            da_h[t, :, 1] *= dh_t
            da_h[t, :, 2] *= da_n[t]
            np.multiply(dh_t, z[t], kept)
            da_h[t].reshape(B, 3 * H).dot(W_h, dh_t)
            dh_t += kept
        da_rows = da_h.reshape(-1, 3 * H)
        dW_h += da_rows.T.dot(_rows(h_prev))
        db_h += da_rows.sum(axis=0)
        da_h[:, :, 2] = da_n  # on the input side r does not stand before n
        dx[block] = da_rows.dot(W_x).reshape(dx[block].shape)
        dW_x += da_rows.T.dot(_rows(x[block]))
        db_x += da_rows.sum(axis=0)
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
    """Cut T steps into blocks of about `BLOCK_ROWS` rows."""
    steps = max(1, BLOCK_ROWS // B)
    return [slice(start, min(start + steps, T)) for start in range(0, T, steps)]


def _previous(states: Array, first: Array, block: slice) -> Array:
    """Return the states before the steps of a block."""
    if block.start > 0:
        return states[block.start - 1 : block.stop - 1]
    return np.concatenate([first[None], states[: block.stop - 1]])
