"""Sequences of different length: padding, masks, packing, reversal, both directions, streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncourse._validation import (
    Array,
    IntArray,
    as_array,
    as_float,
    as_index,
    as_mask,
    check_keys,
    check_number,
    check_shapes,
    check_size,
)
from rnncourse.bptt import rnn_backward
from rnncourse.rnn import Params, rnn_forward

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
AnyArray = np.ndarray[Any, np.dtype[Any]]


def _check_lengths(lengths: ArrayLike, T: int, smallest: int = 0) -> IntArray:
    """Return `lengths` as an array of integers in ``[smallest, T]``, shape (B,)."""
    check_size(0, T=T)
    checked = as_array("lengths", lengths)
    if checked.dtype.kind not in "iu":
        raise TypeError(f"lengths must hold integers, but its dtype is {checked.dtype}")
    if checked.ndim != 1 or not checked.size:
        raise ValueError(f"lengths has shape {checked.shape}, expected (B,) with B at least 1")
    if checked.min() < smallest or checked.max() > T:
        raise ValueError(
            f"lengths must lie in [{smallest}, T = {T}], but they lie in "
            f"[{checked.min()}, {checked.max()}]"
        )
    return checked.astype(np.intp)


def _check_time_major(name: str, x: ArrayLike, lengths: ArrayLike) -> AnyArray:
    """Return `x` as an array whose second axis fits `lengths`."""
    checked, B = as_array(name, x), as_array("lengths", lengths).size
    if checked.ndim < 2 or checked.shape[1] != B or not len(checked):
        raise ValueError(
            f"{name} has shape {checked.shape}, expected (T, B, ...) = (T, {B}, ...): "
            f"B = {B} comes from lengths"
        )
    return checked


def pad(sequences: Sequence[ArrayLike], value: float = 0.0) -> tuple[AnyArray, IntArray]:
    """Put sequences of different length into one time-major array, filled up at the end.

    Parameters
    ----------
    sequences : sequence of ndarray, each of shape (T_i, ...)
        With the same trailing axes. A sequence may be empty unless all are.
    value : float, optional
        What the padding holds.

    Returns
    -------
    padded : ndarray, shape (T, B, ...)
        T is the longest length. Integers stay integers if `value` is one.
    lengths : ndarray of int, shape (B,)

    Raises
    ------
    ValueError
        If there is no sequence, all are empty, or their trailing axes differ.
    TypeError
        If a parameter is no number.

    Examples
    --------
    >>> padded, lengths = pad([np.array([1, 2, 3]), np.array([4])], value=0)
    >>> padded, lengths
    (array([[1, 4],
           [2, 0],
           [3, 0]]), array([3, 1]))
    """
    check_number("value", value)
    if not hasattr(sequences, "__iter__"):
        raise TypeError(f"sequences must be a list of arrays, but it is {sequences!r}")
    arrays = [as_array(f"sequences[{i}]", s) for i, s in enumerate(sequences)]
    if not arrays or any(a.ndim == 0 for a in arrays):
        raise ValueError("sequences must hold at least one array, each with a time axis")
    lengths = np.array([len(a) for a in arrays])
    if not lengths.any():
        raise ValueError("sequences holds only empty sequences")
    for i, a in enumerate(arrays):
        if a.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"sequences[{i}] has shape {a.shape}, expected (T_i, ...) with the trailing axes "
                f"of sequences[0], shape {arrays[0].shape}"
            )
    shape = (lengths.max(), len(arrays), *arrays[0].shape[1:])
    padded = np.full(shape, value, np.result_type(*arrays, value))
    for i, a in enumerate(arrays):
        padded[: len(a), i] = a
    return padded, lengths


def length_mask(lengths: ArrayLike, T: int) -> BoolArray:
    """Say which steps of a padded batch are real: ``mask[t, i]`` is ``t < lengths[i]``.

    Parameters
    ----------
    lengths : ndarray of int, shape (B,)
        Each in [0, T]; a sequence of length 0 has no real step.
    T : int
        Length of the padded batch.

    Returns
    -------
    ndarray of bool, shape (T, B)

    Raises
    ------
    ValueError
        If a length is negative or beyond T.

    Examples
    --------
    >>> length_mask(np.array([3, 1]), T=3)
    array([[ True,  True],
           [ True, False],
           [ True, False]])
    """
    lengths = _check_lengths(lengths, T)
    return np.arange(T)[:, None] < lengths


def last_valid(h: ArrayLike, lengths: ArrayLike) -> Array:
    """Return each sequence's state at its own last step, ``h[lengths[i] - 1, i]``.

    Parameters
    ----------
    h : ndarray, shape (T, B, H)
        States of a padded batch.
    lengths : ndarray of int, shape (B,)
        Each in [1, T]: an empty sequence has no last state.

    Returns
    -------
    ndarray, shape (B, H)

    Raises
    ------
    ValueError
        If a length is below 1 or beyond T, or the shapes do not fit.

    Examples
    --------
    >>> last_valid(np.arange(6.0).reshape(3, 2, 1), np.array([3, 1]))
    array([[4.],
           [1.]])
    """
    h = _check_time_major("h", as_float("h", h), lengths)
    lengths = _check_lengths(lengths, len(h), smallest=1)
    return h[lengths - 1, np.arange(len(lengths))]


def last_valid_backward(dlast: ArrayLike, lengths: ArrayLike, T: int) -> Array:
    """Backpropagate through :func:`last_valid`: put each gradient at its sequence's last step.

    Parameters
    ----------
    dlast : ndarray, shape (B, H)
    lengths : ndarray of int, shape (B,)
    T : int
        Length of the padded batch.

    Returns
    -------
    ndarray, shape (T, B, H)
        Zero everywhere else, so nothing flows back through padding.

    Raises
    ------
    ValueError
        If a length is below 1 or beyond T, or the shapes do not fit.

    Examples
    --------
    >>> last_valid_backward(np.array([[7.0], [8.0]]), np.array([3, 1]), T=3)[..., 0]
    array([[0., 8.],
           [0., 0.],
           [7., 0.]])
    """
    dlast, lengths = as_float("dlast", dlast), _check_lengths(lengths, T, smallest=1)
    check_shapes(lengths=(lengths, "B"), dlast=(dlast, "B H"))
    dh = np.zeros((T, *dlast.shape), dlast.dtype)
    dh[lengths - 1, np.arange(len(lengths))] = dlast
    return dh


def summary(h: ArrayLike, lengths: ArrayLike, how: str = "last") -> Array:
    """Summarise the states of each sequence in one vector, over its real steps only.

    Parameters
    ----------
    h : ndarray, shape (T, B, H)
        States of a padded batch.
    lengths : ndarray of int, shape (B,)
        Each in [1, T].
    how : {"last", "mean", "max"}, optional
        The last state, the mean, or the largest value of every unit.

    Returns
    -------
    ndarray, shape (B, H)

    Raises
    ------
    ValueError
        If a length is below 1 or beyond T, the shapes do not fit, or `how` is something else.

    Examples
    --------
    >>> h = np.array([1.0, 5.0, 3.0, 9.0]).reshape(4, 1, 1)  # the 9 stands in the padding
    >>> [float(summary(h, np.array([3]), how)[0, 0]) for how in ("last", "mean", "max")]
    [3.0, 3.0, 5.0]
    """
    if how not in ("last", "mean", "max"):
        raise ValueError(f'how must be "last", "mean" or "max", but it is {how!r}')
    h = as_float("h", h)
    result = last_valid(h, lengths)
    if how == "last":
        return result
    real = length_mask(lengths, len(h))[..., None]
    if how == "max":
        result = np.where(real, h, np.full((), -np.inf, h.dtype)).max(axis=0)
    else:
        result = np.where(real, h, np.zeros((), h.dtype)).sum(axis=0)
        result /= np.asarray(lengths, h.dtype)[:, None]
    return result


def summary_backward(
    dsummary: ArrayLike, h: ArrayLike, lengths: ArrayLike, how: str = "last"
) -> Array:
    """Backpropagate through :func:`summary`.

    Parameters
    ----------
    dsummary : ndarray, shape (B, H)
    h : ndarray, shape (T, B, H)
        The states that were summarised.
    lengths : ndarray of int, shape (B,)
    how : {"last", "mean", "max"}, optional

    Returns
    -------
    ndarray, shape (T, B, H)
        Zero at padded steps. The gradient of a maximum goes to the first step that attains it.

    Raises
    ------
    ValueError
        As for :func:`summary`, or if `dsummary` does not have its shape.

    Examples
    --------
    >>> h = np.array([1.0, 5.0, 3.0, 9.0]).reshape(4, 1, 1)
    >>> summary_backward(np.array([[6.0]]), h, np.array([3]), "mean").ravel()
    array([2., 2., 2., 0.])
    >>> summary_backward(np.array([[6.0]]), h, np.array([3]), "max").ravel()
    array([0., 6., 0., 0.])
    """
    dsummary, value = as_float("dsummary", dsummary), summary(h, lengths, how)
    h = as_float("h", h)
    check_shapes(h=(h, "T B H"), dsummary=(dsummary, "B H"))
    if how == "last":
        return last_valid_backward(dsummary, lengths, len(h))
    real = length_mask(lengths, len(h))[..., None]
    if how == "mean":
        share = dsummary / np.asarray(lengths, dsummary.dtype)[:, None]
        return np.where(real, share, np.zeros((), dsummary.dtype))
    first = (real & (h == value)).argmax(axis=0)  # (B, H)
    dh = np.zeros(h.shape, dsummary.dtype)
    np.put_along_axis(dh, first[None], dsummary[None], axis=0)
    return dh


def masked_mean(loss: ArrayLike, mask: ArrayLike) -> float:
    """Average over the steps that count: divide by their number, not by T·B.

    Parameters
    ----------
    loss : ndarray, shape (T, B)
        Loss of every step. What stands at masked steps does not matter, not even NaN.
    mask : ndarray of bool, shape (T, B)
        True where a step counts.

    Returns
    -------
    float
        0 if no step counts.

    Raises
    ------
    ValueError
        If the shapes differ.
    TypeError
        If the mask is neither boolean nor 0/1.

    Examples
    --------
    >>> masked_mean(np.array([[1.0, 2.0], [3.0, 99.0]]), np.array([[True, True], [True, False]]))
    2.0
    """
    loss = as_float("loss", loss)
    mask = as_mask("mask", mask, loss.shape, of="loss")
    count = np.count_nonzero(mask)
    return float(np.where(mask, loss, 0).sum() / count) if count else 0.0


def sort_by_length(lengths: ArrayLike) -> tuple[IntArray, IntArray]:
    """Return the order that puts the longest sequence first, and the order that undoes it.

    Parameters
    ----------
    lengths : ndarray of int, shape (B,)

    Returns
    -------
    order : ndarray of int, shape (B,)
        ``lengths[order]`` descends; sequences of equal length keep their order.
    inverse : ndarray of int, shape (B,)
        ``x[:, order][:, inverse]`` is ``x`` again.

    Raises
    ------
    ValueError
        If a length is negative.

    Examples
    --------
    >>> sort_by_length(np.array([2, 5, 3]))
    (array([1, 2, 0]), array([2, 0, 1]))
    """
    lengths = _check_lengths(lengths, T=np.iinfo(np.intp).max)
    order = np.argsort(-lengths, kind="stable")
    return order, np.argsort(order)


def pack(x: ArrayLike, lengths: ArrayLike) -> tuple[AnyArray, IntArray]:
    """Keep only the real steps of a padded batch: all at t = 0, then all at t = 1, and so on.

    The result is that of ``torch.nn.utils.rnn.pack_padded_sequence`` with sorted sequences: since
    the lengths descend, the sequences that still run at step t are the first ``batch_sizes[t]``.

    Parameters
    ----------
    x : ndarray, shape (T, B, ...)
        Padded batch, longest sequence first; see :func:`sort_by_length`.
    lengths : ndarray of int, shape (B,)
        Each in [1, T], descending.

    Returns
    -------
    data : ndarray, shape (sum(lengths), ...)
    batch_sizes : ndarray of int, shape (max(lengths),)
        How many sequences are at least t + 1 long.

    Raises
    ------
    ValueError
        If a length is below 1 or beyond T, the lengths do not descend, or the shapes do not fit.

    Examples
    --------
    >>> pack(np.array([[1, 4], [2, 0], [3, 0]]), np.array([3, 1]))
    (array([1, 4, 2, 3]), array([2, 1, 1]))
    """
    x = _check_time_major("x", x, lengths)
    lengths = _check_lengths(lengths, len(x), smallest=1)
    if (np.diff(lengths) > 0).any():
        raise ValueError("lengths must descend: sort the batch first, longest sequence first")
    mask = length_mask(lengths, lengths.max())
    return x[: len(mask)][mask], mask.sum(axis=1)


def unpack(
    data: ArrayLike, batch_sizes: ArrayLike, value: float = 0.0
) -> tuple[AnyArray, IntArray]:
    """Undo :func:`pack`: return the padded batch and the lengths.

    Parameters
    ----------
    data : ndarray, shape (N, ...)
    batch_sizes : ndarray of int, shape (T,)
        Not ascending, with the sum N.
    value : float, optional
        What the padding holds.

    Returns
    -------
    padded : ndarray, shape (T, B, ...)
    lengths : ndarray of int, shape (B,)
        Descending.

    Raises
    ------
    ValueError
        If the batch sizes ascend, are not positive, or do not sum to the number of rows of `data`.
    TypeError
        If a parameter is no number.

    Examples
    --------
    >>> unpack(np.array([1, 4, 2, 3]), np.array([2, 1, 1]), value=0)
    (array([[1, 4],
           [2, 0],
           [3, 0]]), array([3, 1]))
    """
    check_number("value", value)
    data = as_array("data", data)
    sizes = _check_batch_sizes(batch_sizes, data)
    mask = np.arange(sizes[0]) < sizes[:, None]  # (T, B)
    padded = np.full((*mask.shape, *data.shape[1:]), value, np.result_type(data, value))
    padded[mask] = data
    return padded, mask.sum(axis=0)


def _check_batch_sizes(batch_sizes: ArrayLike, data: ArrayLike) -> IntArray:
    sizes, rows = as_index("batch_sizes", batch_sizes), np.shape(data)[:1]
    if sizes.ndim != 1 or not sizes.size or (np.diff(sizes) > 0).any() or sizes[-1] < 1:
        raise ValueError(f"batch_sizes must be positive and not ascend, but it is {sizes}")
    if rows != (sizes.sum(),):
        raise ValueError(
            f"data has shape {np.shape(data)}, expected (N, ...) with N = {sizes.sum()}, "
            "the sum of batch_sizes"
        )
    return sizes


def rnn_forward_packed(
    data: ArrayLike,
    batch_sizes: ArrayLike,
    h0: ArrayLike,
    W_xh: ArrayLike,
    W_hh: ArrayLike,
    b_h: ArrayLike,
) -> tuple[Array, Array]:
    """Run a vanilla RNN over packed sequences: the batch shrinks as sequences end.

    Parameters
    ----------
    data : ndarray, shape (N, D)
        Packed inputs from :func:`pack`.
    batch_sizes : ndarray of int, shape (T,)
    h0 : ndarray, shape (B, H)
        Initial states, longest sequence first.
    W_xh : ndarray, shape (H, D)
    W_hh : ndarray, shape (H, H)
    b_h : ndarray, shape (H,)

    Returns
    -------
    h : ndarray, shape (N, H)
        Packed states.
    h_last : ndarray, shape (B, H)
        Each sequence's state at its own last step.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> data, batch_sizes = pack(np.ones((3, 2, 1)), np.array([3, 1]))
    >>> one = np.ones((1, 1))
    >>> h, h_last = rnn_forward_packed(data, batch_sizes, np.zeros((2, 1)), one, one, np.zeros(1))
    >>> h.shape, bool(h_last[1] == h[1])
    ((4, 1), True)
    """
    data, h0 = as_float("data", data), as_float("h0", h0)
    sizes = _check_batch_sizes(batch_sizes, data)
    if data.ndim != 2:
        raise ValueError(f"data has shape {data.shape}, expected (N, D)")
    if h0.ndim != 2 or len(h0) != sizes[0]:
        raise ValueError(f"h0 has shape {h0.shape}, expected (B, H) with B = {sizes[0]}")
    h, h_last, start = [], h0.astype(np.result_type(data, h0)), 0
    for running in sizes:
        x_t = data[None, start : start + running]
        h.append(rnn_forward(x_t, h_last[:running], W_xh, W_hh, b_h)[0])
        h_last = np.concatenate([h[-1], h_last[running:]])
        start += running
    return np.concatenate(h), h_last


def reverse_padded(x: ArrayLike, lengths: ArrayLike) -> AnyArray:
    """Reverse each sequence within its own length; the padding stays at the end.

    Parameters
    ----------
    x : ndarray, shape (T, B, ...)
    lengths : ndarray of int, shape (B,)
        Each in [0, T].

    Returns
    -------
    ndarray, shape (T, B, ...)
        A new array; reversing twice gives `x`.

    Raises
    ------
    ValueError
        If a length is negative or beyond T, or the shapes do not fit.

    Examples
    --------
    >>> reverse_padded(np.array([[1, 4], [2, 0], [3, 0]]), np.array([3, 1]))
    array([[3, 4],
           [2, 0],
           [1, 0]])
    """
    x = _check_time_major("x", x, lengths)
    lengths = _check_lengths(lengths, len(x))
    t = np.arange(len(x))[:, None]  # (T, 1)
    source = np.where(t < lengths, lengths - 1 - t, t)  # (T, B)
    return x[source, np.arange(len(lengths))]


def bidirectional_forward(
    x: ArrayLike,
    lengths: ArrayLike,
    forward: Mapping[str, Array],
    backward: Mapping[str, Array],
) -> Array:
    """Run one RNN from left to right and another from right to left, and join their states.

    Both start from zero states. The backward half at step t has read ``x[lengths[i] - 1]`` down to
    ``x[t]`` and no padding. States at padded steps are zero, as torch returns them from packed
    sequences.

    Parameters
    ----------
    x : ndarray, shape (T, B, D)
    lengths : ndarray of int, shape (B,)
        Each in [0, T].
    forward, backward : dict
        ``W_xh (H, D)``, ``W_hh (H, H)``, ``b_h (H,)`` of each direction.

    Returns
    -------
    ndarray, shape (T, B, 2H)
        Forward states first.

    Raises
    ------
    ValueError
        If a length is negative or beyond T, or the shapes do not fit.

    Examples
    --------
    >>> params = {"W_xh": np.ones((4, 3)), "W_hh": np.eye(4), "b_h": np.zeros(4)}
    >>> bidirectional_forward(np.ones((5, 2, 3)), np.array([5, 2]), params, params).shape
    (5, 2, 8)
    """
    x = as_float("x", x)
    left_to_right, right_to_left = _both_states(x, lengths, forward, backward)
    h = np.concatenate([left_to_right, reverse_padded(right_to_left, lengths)], axis=-1)
    return np.where(length_mask(lengths, len(x))[..., None], h, 0)


def _both_states(
    x: Array, lengths: ArrayLike, forward: Mapping[str, Array], backward: Mapping[str, Array]
) -> tuple[Array, Array]:
    """Return the states of both directions, each in the order in which it read its inputs."""
    axes = {"W_xh": "H D", "W_hh": "H H", "b_h": "H"}
    for name, p in (("forward", forward), ("backward", backward)):
        check_keys(name, p, *axes)
        weights = {f"{name}[{key!r}]": (as_float(key, p[key]), axes[key]) for key in axes}
        check_shapes(x=(x, "T B D"), **weights)
    h_forward, h_backward = (
        rnn_forward(
            inputs,
            np.zeros((x.shape[1], len(p["W_hh"])), x.dtype),
            p["W_xh"],
            p["W_hh"],
            p["b_h"],
        )
        for inputs, p in ((x, forward), (reverse_padded(x, lengths), backward))
    )
    return h_forward, h_backward


def bidirectional_backward(
    dh: ArrayLike,
    x: ArrayLike,
    lengths: ArrayLike,
    forward: Mapping[str, Array],
    backward: Mapping[str, Array],
) -> tuple[Array, Params, Params]:
    """Backpropagate through :func:`bidirectional_forward`, whose states it computes again.

    Parameters
    ----------
    dh : ndarray, shape (T, B, 2H)
    x : ndarray, shape (T, B, D)
        What stands at padded steps does not matter, neither here nor in `dh`.
    lengths : ndarray of int, shape (B,)
    forward, backward : dict
        ``W_xh (H, D)``, ``W_hh (H, H)``, ``b_h (H,)`` of each direction.

    Returns
    -------
    dx : ndarray, shape (T, B, D)
    dforward, dbackward : dict
        Gradients with the keys ``W_xh``, ``W_hh``, ``b_h``.

    Raises
    ------
    ValueError
        If a length is negative or beyond T, or the shapes do not fit.

    Examples
    --------
    >>> params = {"W_xh": np.ones((4, 3)), "W_hh": np.eye(4), "b_h": np.zeros(4)}
    >>> dx, dforward, dbackward = bidirectional_backward(
    ...     np.ones((5, 2, 8)), np.ones((5, 2, 3)), np.array([5, 2]), params, params
    ... )
    >>> dx.shape, dforward["W_hh"].shape
    ((5, 2, 3), (4, 4))
    """
    x, dh = as_float("x", x), as_float("dh", dh)
    check_keys("forward", forward, "W_hh")
    check_shapes(x=(x, "T B D"), dh=(dh, "T B H+H"))
    H = len(forward["W_hh"])
    mask = length_mask(lengths, len(x))[..., None]
    dh, x = np.where(mask, dh, 0), np.where(mask, x, 0)  # 0 · NaN in the padding would be NaN
    h_forward, h_backward = _both_states(x, lengths, forward, backward)
    if dh.shape[-1] != H + h_backward.shape[-1]:
        raise ValueError(
            f"dh has shape {dh.shape}, expected (T, B, 2H) with 2H = {H} + {h_backward.shape[-1]}, "
            "the sizes of forward['W_hh'] and backward['W_hh']"
        )
    grads = []
    for dh_half, inputs, h, p in (
        (dh[..., :H], x, h_forward, forward),
        (reverse_padded(dh[..., H:], lengths), reverse_padded(x, lengths), h_backward, backward),
    ):
        h0 = np.zeros_like(h[0])
        grads.append(rnn_backward(dh_half, inputs, h0, h, p["W_xh"], p["W_hh"]))
    (dx_forward, _, *dforward), (dx_backward, _, *dbackward) = grads
    names = ("W_xh", "W_hh", "b_h")
    return (
        dx_forward + reverse_padded(dx_backward, lengths),
        dict(zip(names, dforward, strict=True)),
        dict(zip(names, dbackward, strict=True)),
    )


def bidirectional_summary(h: ArrayLike, lengths: ArrayLike) -> Array:
    """Return what both directions know after reading everything.

    The forward half is taken at the last real step, the backward half at step 0, where it ends.

    Parameters
    ----------
    h : ndarray, shape (T, B, 2H)
        From :func:`bidirectional_forward`.
    lengths : ndarray of int, shape (B,)
        Each in [1, T].

    Returns
    -------
    ndarray, shape (B, 2H)

    Raises
    ------
    ValueError
        If a length is below 1 or beyond T, the shapes do not fit, or the last axis is odd.

    Examples
    --------
    >>> bidirectional_summary(np.arange(8.0).reshape(2, 2, 2), np.array([2, 1]))
    array([[4., 1.],
           [2., 3.]])
    """
    h = as_float("h", h)
    if h.ndim != 3 or h.shape[-1] % 2:
        raise ValueError(f"h has shape {h.shape}, expected (T, B, 2H)")
    H = h.shape[-1] // 2
    return np.concatenate([last_valid(h[..., :H], lengths), h[0, :, H:]], axis=-1)


def buckets(lengths: ArrayLike, batch: int) -> list[IntArray]:
    """Group sequences of similar length, so that little padding is computed.

    Parameters
    ----------
    lengths : ndarray of int, shape (N,)
    batch : int
        Largest size of a group.

    Returns
    -------
    list of ndarray of int
        Indices of each group, longest sequences first; every index occurs once.

    Raises
    ------
    ValueError
        If a length is negative or `batch` is below 1.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> buckets(np.array([2, 9, 3, 8, 2]), batch=2)
    [array([1, 3]), array([2, 0]), array([4])]
    """
    check_size(batch=batch)
    order, _ = sort_by_length(lengths)
    return [order[i : i + batch] for i in range(0, len(order), batch)]


def stream_batches(
    tokens: ArrayLike, batch: int, steps: int
) -> Iterator[tuple[IntArray, IntArray]]:
    """Cut one long text into parallel streams and yield them chunk by chunk.

    Stream i is the i-th of `batch` equal contiguous pieces. Chunk n + 1 continues every stream of
    chunk n, so the hidden state may be carried over. Each target is the token after its input.

    Parameters
    ----------
    tokens : ndarray of int, shape (N,)
    batch : int
        Number of streams B.
    steps : int
        Length of a chunk; the last one may be shorter.

    Yields
    ------
    inputs : ndarray of int, shape (steps, B)
    targets : ndarray of int, shape (steps, B)

    Raises
    ------
    ValueError
        If `batch` or `steps` is below 1, or there are fewer than ``batch + 1`` tokens. It is raised
        at the call, not at the first item. Up to ``batch - 1`` tokens at the end are left out.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> for inputs, targets in stream_batches(np.arange(8), batch=2, steps=2):
    ...     print(inputs.tolist(), targets.tolist())
    [[0, 3], [1, 4]] [[1, 4], [2, 5]]
    [[2, 5]] [[3, 6]]
    """
    tokens = as_index("tokens", tokens)
    check_size(batch=batch, steps=steps)
    if tokens.ndim != 1 or len(tokens) <= batch:
        raise ValueError(
            f"tokens has shape {tokens.shape}, expected (N,) with N at least batch + 1 = "
            f"{batch + 1}"
        )
    length = (len(tokens) - 1) // batch
    inputs = tokens[: batch * length].reshape(batch, length).T  # (length, B)
    targets = tokens[1 : batch * length + 1].reshape(batch, length).T
    return ((inputs[t : t + steps], targets[t : t + steps]) for t in range(0, length, steps))
