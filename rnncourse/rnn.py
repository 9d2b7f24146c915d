"""The vanilla recurrent network: step, sequence, read-out, loss and parameters.

Arrays are time-major, weights have PyTorch's orientation; see the course's notation table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncourse._extras import require
from rnncourse._validation import (
    Array,
    as_array,
    as_float,
    as_floats,
    as_index,
    as_mask,
    check_dtype,
    check_rng,
    check_shapes,
    check_size,
)

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

Params = dict[str, Array]


def rnn_step(
    x_t: ArrayLike, h_prev: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike
) -> Array:
    """Advance a vanilla RNN by one time step.

    Computes ``h_t = tanh(W_xh x_t + W_hh h_{t-1} + b_h)`` for every sequence in the batch [1]_.

    Parameters
    ----------
    x_t : ndarray, shape (B, D)
        Inputs at time t.
    h_prev : ndarray, shape (B, H)
        Hidden state at time t - 1.
    W_xh : ndarray, shape (H, D)
        Input weights.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.
    b_h : ndarray, shape (H,)
        Bias.

    Returns
    -------
    ndarray, shape (B, H)
        Hidden state at time t, each entry in [-1, 1].

    Raises
    ------
    ValueError
        If the shapes do not fit together; the message names the argument and both shapes.

    References
    ----------
    .. [1] J. L. Elman, "Finding structure in time", Cognitive Science 14(2), 1990.

    Examples
    --------
    >>> rnn_step(np.ones((1, 2)), np.zeros((1, 1)), np.array([[0.5, -0.5]]), np.eye(1), np.ones(1))
    array([[0.76159416]])
    """
    x_t, h_prev, b_h = as_float("x_t", x_t), as_float("h_prev", h_prev), as_float("b_h", b_h)
    W_xh, W_hh = as_float("W_xh", W_xh), as_float("W_hh", W_hh)
    check_shapes(
        x_t=(x_t, "B D"),
        h_prev=(h_prev, "B H"),
        W_xh=(W_xh, "H D"),
        W_hh=(W_hh, "H H"),
        b_h=(b_h, "H"),
    )
    return np.tanh(x_t @ W_xh.T + h_prev @ W_hh.T + b_h)  # (B, H)


def rnn_forward(
    x: ArrayLike, h0: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike
) -> Array:
    """Run a vanilla RNN over a sequence, one step after the other.

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
        Hidden states; ``h[t]`` is the state after reading ``x[t]``.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    See Also
    --------
    rnncourse.fused.rnn_forward : The same result, faster.

    Examples
    --------
    >>> h = rnn_forward(
    ...     np.ones((5, 2, 3)), np.zeros((2, 4)), np.ones((4, 3)), np.eye(4), np.zeros(4)
    ... )
    >>> h.shape
    (5, 2, 4)
    """
    x, h0, W_xh = as_float("x", x), as_float("h0", h0), as_float("W_xh", W_xh)
    W_hh, b_h = as_float("W_hh", W_hh), as_float("b_h", b_h)
    sizes = check_shapes(x=(x, "T B D"), h0=(h0, "B H"), W_xh=(W_xh, "H D"))
    dtype = np.result_type(x, h0, W_xh, W_hh, b_h)
    h = np.empty((sizes["T"], sizes["B"], sizes["H"]), dtype)
    h_t = h0
    for t in range(sizes["T"]):
        h_t = h[t] = rnn_step(x[t], h_t, W_xh, W_hh, b_h)
    return h


def readout(h: ArrayLike, W_hy: ArrayLike, b_y: ArrayLike) -> Array:
    """Map hidden states to outputs: ``logits = W_hy h + b_y``, with the same weights at every step.

    Parameters
    ----------
    h : ndarray, shape (..., H)
        Hidden states, of one step or of a whole sequence.
    W_hy : ndarray, shape (V, H)
        Output weights.
    b_y : ndarray, shape (V,)
        Output bias.

    Returns
    -------
    ndarray, shape (..., V)

    Raises
    ------
    ValueError
        If the last axis of `h` or `b_y` does not fit `W_hy`.

    Examples
    --------
    >>> readout(np.ones((5, 2, 4)), np.ones((3, 4)), np.zeros(3)).shape
    (5, 2, 3)
    """
    h, W_hy, b_y = as_float("h", h), as_float("W_hy", W_hy), as_float("b_y", b_y)
    check_shapes(W_hy=(W_hy, "V H"), b_y=(b_y, "V"))
    if h.ndim < 1 or h.shape[-1] != W_hy.shape[1]:
        raise ValueError(
            f"h has shape {h.shape}, expected (..., H) = (..., {W_hy.shape[1]}): "
            f"H comes from W_hy, shape {W_hy.shape}"
        )
    return h @ W_hy.T + b_y


def log_softmax(logits: ArrayLike) -> Array:
    """Return the logarithm of the softmax over the last axis, without overflow.

    Parameters
    ----------
    logits : ndarray, shape (..., V)

    Returns
    -------
    ndarray, shape (..., V)

    Raises
    ------
    ValueError
        If there is no last axis or it is empty.

    Examples
    --------
    >>> log_softmax(np.array([1000.0, 1000.0]))
    array([-0.69314718, -0.69314718])
    """
    logits = _as_logits(logits)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _as_logits(logits: ArrayLike) -> Array:
    checked = as_float("logits", logits)
    if checked.ndim < 1 or checked.shape[-1] == 0:
        raise ValueError(f"logits has shape {checked.shape}, expected (..., V) with V >= 1")
    return checked


def valid_tokens(
    logits: Array, targets: ArrayLike, mask: ArrayLike | None
) -> tuple[np.ndarray[Any, np.dtype[np.intp]], Array]:
    """Check targets and mask against logits and return both as arrays, the mask as 0/1 weights.

    Parameters
    ----------
    logits : ndarray, shape (..., V)
    targets : ndarray of int, shape (...)
    mask : ndarray of bool, shape (...), or None
        None means that every position counts.

    Returns
    -------
    targets : ndarray of int, shape (...)
    weights : ndarray, shape (...)
        1 where a position counts and 0 elsewhere, in the dtype of `logits`.

    Raises
    ------
    ValueError
        If the shapes differ, or a target that counts is not in ``[0, V)``.
    TypeError
        If the targets are not integers or the mask is neither boolean nor 0/1.

    Examples
    --------
    >>> valid_tokens(np.zeros((2, 3)), [0, 2], [True, False])
    (array([0, 0]), array([1., 0.]))
    """
    logits = _as_logits(logits)
    labels = as_array("targets", targets)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"targets must hold integers, but its dtype is {labels.dtype}")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"targets has shape {labels.shape}, expected {logits.shape[:-1]}: "
            f"one target for each position of logits, shape {logits.shape}"
        )
    if mask is None:
        weights = np.ones(labels.shape, logits.dtype)
    else:
        weights = as_mask("mask", mask, labels.shape, of="targets").astype(logits.dtype)
    # padding may hold any integer, so only the positions that count are checked
    labels = as_index("targets", np.where(weights > 0, labels, 0), logits.shape[-1])
    return labels.astype(np.intp), weights


def cross_entropy(
    logits: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None
) -> np.floating[Any]:
    """Return the mean negative log-probability of the targets over the valid positions.

    Parameters
    ----------
    logits : ndarray, shape (..., V)
        Unnormalised log-probabilities, e.g. ``(T, B, V)``.
    targets : ndarray of int, shape (...)
        Index of the right class at each position.
    mask : ndarray of bool, shape (...), optional
        True where a position counts. The mean divides by the number of those positions, not by T·B.

    Returns
    -------
    float
        The loss in nats; 0 if no position counts.

    Raises
    ------
    ValueError
        If shapes do not fit or a valid target is not in ``[0, V)``.

    Examples
    --------
    >>> print(cross_entropy(np.zeros((2, 3)), np.array([0, 2])).round(4))
    1.0986
    """
    logits = as_float("logits", logits)
    labels, weights = valid_tokens(logits, targets, mask)
    log_p = np.take_along_axis(log_softmax(logits), labels[..., None], axis=-1)[..., 0]
    # chosen, not multiplied: what padding holds does not matter, be it NaN
    return -np.where(weights > 0, log_p, 0).sum() / np.maximum(weights.sum(), 1)


def count_parameters(D: int, H: int, V: int) -> int:
    """Return the number of parameters of a vanilla RNN with read-out; it does not depend on T.

    Parameters
    ----------
    D, H, V : int
        Sizes of input, hidden state and output.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If a size is below 1.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> count_parameters(D=3, H=4, V=2)
    42
    """
    check_size(D=D, H=H, V=V)
    return H * D + H * H + H + V * H + V


def init_params(
    D: int, H: int, V: int, rng: np.random.Generator, dtype: type[np.floating[Any]] = np.float64
) -> Params:
    """Draw parameters as ``torch.nn.RNN`` and ``torch.nn.Linear`` do: uniform in ±1/√H.

    Parameters
    ----------
    D, H, V : int
        Sizes of input, hidden state and output.
    rng : numpy.random.Generator
    dtype : dtype, optional
        float64 or float32.

    Returns
    -------
    dict
        ``W_xh (H, D)``, ``W_hh (H, H)``, ``b_h (H,)``, ``W_hy (V, H)``, ``b_y (V,)``.

    Raises
    ------
    ValueError
        If a size is below 1.
    TypeError
        If a size is no integer, `rng` no generator or `dtype` no float.

    Examples
    --------
    >>> params = init_params(D=3, H=4, V=2, rng=np.random.default_rng(0))
    >>> sum(p.size for p in params.values()) == count_parameters(3, 4, 2)
    True
    """
    check_size(D=D, H=H, V=V)
    shapes = {"W_xh": (H, D), "W_hh": (H, H), "b_h": (H,), "W_hy": (V, H), "b_y": (V,)}
    return _uniform(shapes, H, rng, dtype)


def _uniform(
    shapes: Mapping[str, tuple[int, ...]],
    H: int,
    rng: np.random.Generator,
    dtype: type[np.floating[Any]],
) -> Params:
    """Draw arrays of the given shapes, uniform in ±1/√H."""
    check_rng(rng)
    check_dtype(dtype)
    bound = H**-0.5
    return {name: rng.uniform(-bound, bound, shape).astype(dtype) for name, shape in shapes.items()}


def parity_weights() -> Params:
    """Return hand-set weights with which the RNN computes the parity of bit strings of any length.

    Two saturated units suffice: with p the parity so far, the first says whether ``x + p >= 1`` and
    the second whether ``x + p = 2``. The new parity is then half of their difference, which is all
    that the next step needs.

    Returns
    -------
    dict
        ``W_xh (2, 1)``, ``W_hh (2, 2)``, ``b_h (2,)``, ``W_hy (2, 2)``, ``b_y (2,)``. Inputs are
        0.0 or 1.0, the initial state is zero, and ``argmax`` of the logits is the parity.

    Examples
    --------
    >>> p = parity_weights()
    >>> bits = np.array([1.0, 1.0, 0.0, 1.0]).reshape(4, 1, 1)
    >>> h = rnn_forward(bits, np.zeros((1, 2)), p["W_xh"], p["W_hh"], p["b_h"])
    >>> readout(h, p["W_hy"], p["b_y"]).argmax(axis=-1).ravel()
    array([1, 0, 0, 1])
    """
    gain = 20.0  # tanh(gain / 2) equals 1 to nine digits, so nothing drifts in long strings
    return {
        "W_xh": gain * np.array([[1.0], [1.0]]),
        "W_hh": gain * np.array([[0.5, -0.5], [0.5, -0.5]]),
        "b_h": gain * np.array([-0.5, -1.5]),
        "W_hy": np.array([[0.0, 0.0], [1.0, -1.0]]),
        "b_y": np.array([0.0, -1.0]),
    }


def from_torch(rnn: torch.nn.RNN) -> Params:
    """Copy the weights of a one-layer, unidirectional ``torch.nn.RNN`` with tanh.

    PyTorch keeps two bias vectors of which only the sum matters; the sum becomes `b_h`.

    Parameters
    ----------
    rnn : torch.nn.RNN

    Returns
    -------
    dict
        ``W_xh``, ``W_hh``, ``b_h``, as copies.

    Raises
    ------
    ValueError
        If the module has several layers or directions, or another nonlinearity.
    TypeError
        If it is no recurrent module of PyTorch.

    Examples
    --------
    >>> import torch
    >>> {k: v.shape for k, v in from_torch(torch.nn.RNN(3, 4)).items()}
    {'W_xh': (4, 3), 'W_hh': (4, 4), 'b_h': (4,)}
    """
    if not hasattr(rnn, "mode"):
        raise TypeError(f"rnn must be a torch.nn.RNN, but it is {rnn!r}")
    if rnn.num_layers != 1 or rnn.bidirectional or rnn.mode != "RNN_TANH":
        raise ValueError(
            "rnn must be a torch.nn.RNN with one layer, one direction and tanh, "
            f"but it has {rnn.num_layers} layers, bidirectional={rnn.bidirectional} "
            f"and mode={rnn.mode}"
        )
    weights = {name: p.detach().cpu().numpy().copy() for name, p in rnn.named_parameters()}
    W_hh = weights["weight_hh_l0"]
    b_h = weights["bias_ih_l0"] + weights["bias_hh_l0"] if rnn.bias else np.zeros_like(W_hh[:, 0])
    return {"W_xh": weights["weight_ih_l0"], "W_hh": W_hh, "b_h": b_h}


def to_torch(params: Mapping[str, Array]) -> torch.nn.RNN:
    """Return a ``torch.nn.RNN`` that computes the same states; its second bias is zero.

    Parameters
    ----------
    params : dict
        ``W_xh (H, D)``, ``W_hh (H, H)``, ``b_h (H,)``; further entries are ignored.

    Returns
    -------
    torch.nn.RNN
        In the dtype of the parameters.

    Raises
    ------
    ValueError
        If an entry is missing or the shapes do not fit together.
    TypeError
        If `params` is no dict of real arrays.
    ModuleNotFoundError
        If PyTorch is not installed.

    Examples
    --------
    >>> params = init_params(D=3, H=4, V=2, rng=np.random.default_rng(0))
    >>> np.array_equal(from_torch(to_torch(params))["W_hh"], params["W_hh"])
    True
    """
    require("torch", extra="torch")
    import torch

    arrays = as_floats("params", params, "W_xh", "W_hh", "b_h")
    W_xh, W_hh, b_h = arrays["W_xh"], arrays["W_hh"], arrays["b_h"]
    sizes = check_shapes(W_xh=(W_xh, "H D"), W_hh=(W_hh, "H H"), b_h=(b_h, "H"))
    dtype = torch.float32 if W_hh.dtype == np.float32 else torch.float64
    rnn = torch.nn.RNN(sizes["D"], sizes["H"], dtype=dtype)
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(torch.tensor(W_xh))
        rnn.weight_hh_l0.copy_(torch.tensor(W_hh))
        rnn.bias_ih_l0.copy_(torch.tensor(b_h))
        rnn.bias_hh_l0.zero_()
    return rnn
