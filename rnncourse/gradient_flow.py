"""How gradients travel through time: Jacobians, their products, and how far they reach.

All arrays of growth factors share one index: entry ``k`` belongs to ``k`` steps, and entry 0 is the
identity, so a position in the array is a number of steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnncourse._validation import (
    Array,
    as_float,
    check_all_finite,
    check_number,
    check_positive,
    check_shapes,
    check_size,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def step_jacobian(h: ArrayLike, W_hh: ArrayLike) -> Array:
    """Return the Jacobian of one step, ``∂h_t/∂h_{t-1} = diag(1 − h_t²) W_hh``.

    Parameters
    ----------
    h : ndarray, shape (..., H)
        State *after* the step: the derivative of tanh at the step is ``1 − h²``.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.

    Returns
    -------
    ndarray, shape (..., H, H)
        Row i, column j holds the derivative of unit i after the step by unit j before it.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> step_jacobian(np.array([0.0, 0.5]), np.array([[1.0, 2.0], [4.0, 8.0]]))
    array([[1., 2.],
           [3., 6.]])
    """
    h, W_hh = as_float("h", h), as_float("W_hh", W_hh)
    _check_states(h, W_hh)
    return (1 - h**2)[..., None] * W_hh  # scaling row i by 1 - h_i² is the product with diag


def log_singular_values(h: ArrayLike, W_hh: ArrayLike) -> Array:
    """Return the logarithms of all singular values of ``∂h_k/∂h_0`` along a trajectory.

    The product of Jacobians grows or shrinks exponentially, so it is scaled back to norm 1 after
    each step and the logarithm of the scale is added up; nothing overflows or underflows. Values
    more than 1e15 below the largest one are lost to rounding.

    Parameters
    ----------
    h : ndarray, shape (T, ..., H)
        States of a trajectory, as :func:`rnncourse.rnn.rnn_forward` returned them; axes between the
        first and the last, such as the batch, are separate trajectories.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.

    Returns
    -------
    ndarray, shape (T + 1, ..., H)
        Entry ``[k, ..., i]`` is the natural logarithm of the i-th largest singular value after
        k steps; ``-inf`` stands for a singular value of zero.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or an argument holds NaN or infinity.

    Examples
    --------
    >>> log_singular_values(np.zeros((1000, 2)), np.diag([10.0, 9.9]))[-1].round(1)
    array([2302.6, 2292.5])
    """
    h, W_hh = as_float("h", h), as_float("W_hh", W_hh)
    _check_states(h, W_hh, time=True)
    check_all_finite(h=h, W_hh=W_hh)
    T, H = len(h), h.shape[-1]
    product = np.broadcast_to(np.eye(H), (*h.shape[1:], H))  # ∂h_k/∂h_0, up to its scale
    log_scale = np.zeros((*h.shape[1:-1], 1))
    log_s = np.zeros((T + 1, *h.shape[1:]))
    with np.errstate(divide="ignore"):  # log(0) = -inf is the answer for a singular product
        for k in range(T):
            product = step_jacobian(h[k], W_hh) @ product
            s = np.linalg.svd(product, compute_uv=False)
            log_s[k + 1] = log_scale + np.log(s)
            norm = np.where(s[..., :1] > 0, s[..., :1], 1.0)
            product = product / norm[..., None]
            log_scale = log_scale + np.log(norm)
    return log_s


def jacobian_product_norms(h: ArrayLike, W_hh: ArrayLike) -> Array:
    """Return the spectral norms ``‖∂h_k/∂h_0‖`` of the products of step Jacobians, k = 0 … T.

    ``∂h_k/∂h_0 = J_k J_{k-1} … J_1`` with ``J_t = diag(1 − h_t²) W_hh``. The norm is the largest
    factor by which a gradient at step k changes on its way to step 0.

    Parameters
    ----------
    h : ndarray, shape (T, ..., H)
        States of a trajectory; axes between the first and the last are separate trajectories.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.

    Returns
    -------
    ndarray, shape (T + 1, ...)
        ``norms[k]`` belongs to k steps and ``norms[0]`` is 1. Norms beyond the largest float are
        ``inf``; use ``log_singular_values(h, W_hh)[..., 0]`` where that matters.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or an argument holds NaN or infinity.

    Examples
    --------
    >>> jacobian_product_norms(np.zeros((3, 2)), 0.5 * np.eye(2))
    array([1.   , 0.5  , 0.25 , 0.125])
    """
    with np.errstate(over="ignore"):
        return np.exp(log_singular_values(h, W_hh)[..., 0])


def linear_gradient_norms(W: ArrayLike, T: int) -> Array:
    """Return ``‖Wᵏ‖`` for k = 0 … T: how a linear RNN scales gradients over k steps.

    A linear recurrence ``h_t = W h_{t-1} + …`` has the Jacobian W at every step, which is also the
    Jacobian of a tanh network at the state zero.

    Parameters
    ----------
    W : ndarray, shape (H, H)
        Recurrent weights.
    T : int
        Number of steps.

    Returns
    -------
    ndarray, shape (T + 1,)
        ``norms[k]`` is the spectral norm of the k-th power of `W`; ``norms[0]`` is 1.

    Raises
    ------
    ValueError
        If `W` is not square or holds NaN or infinity, or `T` is negative.
    TypeError
        If a size is no integer.

    Examples
    --------
    A matrix with the spectral radius 0.9 need not shrink anything at first:

    >>> linear_gradient_norms([[0.9, 10.0], [0.0, 0.9]], 3).round(1)
    array([ 1. , 10.1, 18. , 24.3])
    """
    W = as_float("W", W)
    check_shapes(W=(W, "H H"))
    check_size(0, T=T)
    return jacobian_product_norms(np.zeros((T, len(W))), W)


def spectral_radius(W: ArrayLike) -> float:
    """Return ρ(W), the largest absolute value of an eigenvalue.

    For a linear RNN it is the growth per step in the long run, ``‖Wᵏ‖^(1/k) → ρ(W)`` [1]_. It says
    nothing about the first steps, and nothing certain about a tanh network.

    Parameters
    ----------
    W : ndarray, shape (H, H)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `W` is not square or holds NaN or infinity.

    References
    ----------
    .. [1] I. Gelfand, "Normierte Ringe", Matematicheskii Sbornik 9(51), 1941.

    Examples
    --------
    >>> spectral_radius([[0.9, 10.0], [0.0, -0.5]])
    0.9
    """
    W = as_float("W", W)
    check_shapes(W=(W, "H H"))
    check_all_finite(W=W)
    return float(np.abs(np.linalg.eigvals(W)).max())


def spectral_norm(W: ArrayLike) -> float:
    """Return σ_max(W), the largest singular value: the most that W can stretch a vector.

    Parameters
    ----------
    W : ndarray, shape (M, N)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `W` is not a matrix or holds NaN or infinity.

    Examples
    --------
    >>> spectral_norm([[0.0, 3.0], [0.0, 0.0]])
    3.0
    """
    W = as_float("W", W)
    check_shapes(W=(W, "M N"))
    check_all_finite(W=W)
    return float(np.linalg.norm(W, 2))


def norm_bounds(W_hh: ArrayLike, T: int, gamma: float = 1.0) -> Array:
    """Return the upper bounds ``(γ σ_max(W_hh))ᵏ`` of ``‖∂h_k/∂h_0‖`` for k = 0 … T.

    γ bounds the slope of the activation: 1 for tanh, 1/4 for the logistic function. If γ σ_max is
    below 1, gradients must vanish; if they explode, it is above 1. Neither holds the other way
    round.

    Parameters
    ----------
    W_hh : ndarray, shape (H, H)
        Recurrent weights.
    T : int
        Number of steps.
    gamma : float, optional
        Largest slope of the activation.

    Returns
    -------
    ndarray, shape (T + 1,)

    Raises
    ------
    ValueError
        If `W_hh` is not square, `T` is negative or `gamma` is not positive.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> norm_bounds([[0.0, 2.0], [0.0, 0.0]], 3)
    array([1., 2., 4., 8.])
    """
    W_hh = as_float("W_hh", W_hh)
    check_shapes(W_hh=(W_hh, "H H"))
    check_positive("gamma", gamma)
    check_size(0, T=T)
    with np.errstate(over="ignore"):
        return (gamma * spectral_norm(W_hh)) ** np.arange(T + 1)


def growth_rate(log_norms: ArrayLike, start: int = 0) -> Array:
    """Return the mean factor per step between step `start` and the last step.

    Parameters
    ----------
    log_norms : ndarray, shape (T + 1, ...)
        Logarithms of norms, such as ``log_singular_values(h, W_hh)[..., 0]``.
    start : int, optional
        First step that counts; a positive value leaves out the transient.

    Returns
    -------
    ndarray, shape (...)
        ``exp((log_norms[T] − log_norms[start]) / (T − start))``. Its logarithm estimates the
        largest Lyapunov exponent.

    Raises
    ------
    ValueError
        If `start` is not in ``[0, T)``.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> print(growth_rate(np.log([1.0, 100.0, 50.0, 25.0]), start=1).round(6))
    0.5
    """
    log_norms = as_float("log_norms", log_norms)
    if log_norms.ndim < 1 or len(log_norms) < 2:
        raise ValueError(f"log_norms has shape {log_norms.shape}, expected (T + 1, ...), T >= 1")
    check_size(0, start=start)
    T = len(log_norms) - 1
    if not 0 <= start < T:
        raise ValueError(f"start must lie in [0, {T}) for {T} steps, but it is {start}")
    return np.exp((log_norms[T] - log_norms[start]) / (T - start))


def lyapunov_exponents(h: ArrayLike, W_hh: ArrayLike) -> Array:
    """Estimate all Lyapunov exponents of a trajectory: mean logarithmic growth per step.

    A frame of orthonormal directions is carried along by the step Jacobians and made orthonormal
    again by a QR decomposition after each; the diagonals of R hold the growth of each direction,
    to full relative precision for small exponents too [1]_.

    Parameters
    ----------
    h : ndarray, shape (T, H)
        States of one trajectory.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.

    Returns
    -------
    ndarray, shape (H,)
        In nats per step, largest first. A positive first exponent means that nearby states part
        and gradients explode; ``-inf`` stands for a direction that is lost.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or an argument holds NaN or infinity.

    References
    ----------
    .. [1] G. Benettin, L. Galgani, A. Giorgilli, J.-M. Strelcyn, "Lyapunov characteristic exponents
       for smooth dynamical systems", Meccanica 15, 1980.

    Examples
    --------
    >>> lyapunov_exponents(np.zeros((50, 2)), np.diag([2.0, 0.5])).round(3)
    array([ 0.693, -0.693])
    """
    h, W_hh = as_float("h", h), as_float("W_hh", W_hh)
    _check_states(h, W_hh, time=True)
    check_shapes(h=(h, "T H"))
    check_all_finite(h=h, W_hh=W_hh)
    frame = np.eye(len(W_hh))
    log_growth = np.zeros(len(W_hh))
    with np.errstate(divide="ignore"):
        for h_t in h:
            frame, R = np.linalg.qr(step_jacobian(h_t, W_hh) @ frame)
            log_growth += np.log(np.abs(np.diag(R)))
    return np.sort(log_growth / len(h))[::-1]


def memory_horizon(norms: ArrayLike, threshold: float = 1 / np.e) -> int:
    """Return the largest number of steps k with ``norms[k] >= threshold``.

    Parameters
    ----------
    norms : ndarray, shape (T + 1,)
        Factors over 0, 1, …, T steps, as :func:`jacobian_product_norms` returns them.
    threshold : float, optional
        Smallest factor that still counts as remembered.

    Returns
    -------
    int
        0 if no factor over one step or more reaches the threshold. T means "at least T": the
        measurement ended before the memory did.

    Raises
    ------
    ValueError
        If `norms` is not a vector, holds NaN, or `threshold` is not positive.

    Examples
    --------
    >>> memory_horizon([1.0, 0.8, 0.5, 0.3, 0.1], threshold=0.4)
    2
    """
    norms = as_float("norms", norms)
    check_shapes(norms=(norms, "T+1"))
    check_positive("threshold", threshold)
    if np.isnan(norms).any():
        raise ValueError(f"norms holds NaN at step {int(np.isnan(norms).argmax())}")
    remembered = np.flatnonzero(norms >= threshold)
    return int(remembered[-1]) if remembered.size else 0


def saturation(h: ArrayLike, tol: float = 0.1) -> float:
    """Return the share of states with ``|h| > 1 − tol``, where tanh is flat and passes no gradient.

    Parameters
    ----------
    h : ndarray
        States, of any shape.
    tol : float, optional
        Distance from ±1 below which a state counts as saturated, in (0, 1).

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If `h` is empty or holds NaN, or `tol` is not in (0, 1).
    TypeError
        If a parameter is no number.

    Examples
    --------
    >>> saturation(np.array([0.95, -0.99, 0.5, 0.0]), tol=0.1)
    0.5
    """
    h = as_float("h", h)
    if h.size == 0:
        raise ValueError(f"h has shape {h.shape}: it must not be empty")
    check_number("tol", tol)
    if not 0 < tol < 1:
        raise ValueError(f"tol must lie in (0, 1), but it is {tol}")
    check_all_finite(h=h)
    return float(np.mean(np.abs(h) > 1 - tol))


def influence_map(h: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike) -> Array:
    """Return ``‖∂h_t/∂x_s‖`` for all pairs of steps: which state depends on which input.

    Parameters
    ----------
    h : ndarray, shape (T, H)
        States of one trajectory.
    W_xh : ndarray, shape (H, D)
        Input weights.
    W_hh : ndarray, shape (H, H)
        Recurrent weights.

    Returns
    -------
    ndarray, shape (T, T)
        Entry ``[t, s]`` is a Frobenius norm. The map is lower-triangular, because no state depends
        on a later input.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> influence_map(np.zeros((3, 1)), np.ones((1, 1)), np.full((1, 1), 0.5))
    array([[1.  , 0.  , 0.  ],
           [0.5 , 1.  , 0.  ],
           [0.25, 0.5 , 1.  ]])
    """
    h, W_xh, W_hh = as_float("h", h), as_float("W_xh", W_xh), as_float("W_hh", W_hh)
    sizes = check_shapes(h=(h, "T H"), W_xh=(W_xh, "H D"), W_hh=(W_hh, "H H"))
    T, H, D = sizes["T"], sizes["H"], sizes["D"]
    influence = np.zeros((T, T))
    dh_dx = np.zeros((T, H, D))  # ∂h_t/∂x_s for the current t and all s
    for t in range(T):
        dh_dx[:t] = step_jacobian(h[t], W_hh) @ dh_dx[:t]
        dh_dx[t] = (1 - h[t] ** 2)[:, None] * W_xh
        influence[t] = np.linalg.norm(dh_dx, axis=(1, 2))
    return influence


def _check_states(h: Array, W_hh: Array, time: bool = False) -> None:
    """Check that `W_hh` is square and fits the last axis of `h`; with `time`, h has a time axis."""
    sizes = check_shapes(W_hh=(W_hh, "H H"))
    axes = "(T, ..., H)" if time else "(..., H)"
    if h.ndim < 1 + time or h.shape[-1] != sizes["H"]:
        raise ValueError(
            f"h has shape {h.shape}, expected {axes} with H = {sizes['H']}: "
            f"H comes from W_hh, shape {W_hh.shape}"
        )
