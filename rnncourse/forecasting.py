"""Forecasting without leakage: windows, scaling, rolling origins, and what a network must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnncourse._validation import (
    Array,
    IntArray,
    as_float,
    check_all_finite,
    check_number,
    check_shapes,
    check_size,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _check_series(name: str, y: ArrayLike, shortest: int = 1) -> Array:
    """Return `y` as a finite float array with at least `shortest` steps on its first axis."""
    checked = as_float(name, y)
    if checked.ndim not in (1, 2) or len(checked) < shortest or not checked.size:
        raise ValueError(
            f"{name} has shape {checked.shape}, expected (N,) or (N, D) with N at least {shortest}"
        )
    if not np.isfinite(checked).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return checked


def windows(y: ArrayLike, n_in: int, n_out: int, stride: int) -> tuple[Array, Array]:
    """Cut a series into pairs of a past and the future that follows it, time-major.

    Window i begins at step ``i · stride``. One that would reach beyond the end is left out.

    Parameters
    ----------
    y : ndarray, shape (N,) or (N, D)
    n_in : int
        Steps of the past.
    n_out : int
        Steps of the future.
    stride : int
        Distance between the starts of two windows.

    Returns
    -------
    inputs : ndarray, shape (n_in, B) or (n_in, B, D)
        B windows side by side: ``inputs[t, i]`` is ``y[i * stride + t]``.
    targets : ndarray, shape (n_out, B) or (n_out, B, D)
        ``targets[t, i]`` is ``y[i * stride + n_in + t]``.

    Raises
    ------
    ValueError
        If a size is below 1, the series is shorter than one window, or it holds NaN.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> inputs, targets = windows(np.arange(7.0), n_in=3, n_out=1, stride=2)
    >>> inputs, targets
    (array([[0., 2.],
           [1., 3.],
           [2., 4.]]), array([[3., 5.]]))
    """
    check_size(n_in=n_in, n_out=n_out, stride=stride)
    y = _check_series("y", y, shortest=n_in + n_out)
    starts = np.arange(0, len(y) - n_in - n_out + 1, stride)  # (B,)
    steps = np.arange(n_in + n_out)[:, None]  # (n_in + n_out, 1)
    both = y[starts + steps]
    return both[:n_in], both[n_in:]


def fit_scaler(train: ArrayLike) -> tuple[Array, Array]:
    """Return mean and standard deviation over time, of the training part alone.

    Statistics of the whole series would tell the model about the future.

    Parameters
    ----------
    train : ndarray, shape (N,) or (N, D)

    Returns
    -------
    mean : ndarray, shape () or (D,)
    std : ndarray, shape () or (D,)
        Divides by N; 1 where the series is constant, so that scaling divides by nothing.

    Raises
    ------
    ValueError
        If `train` is empty or holds NaN.

    Examples
    --------
    >>> mean, std = fit_scaler(np.array([1.0, 3.0, 1.0, 3.0]))
    >>> scale(np.array([4.0]), mean, std)
    array([2.])
    """
    train = _check_series("train", train)
    # a constant's computed deviation may be rounding error, so ask for the range
    constant = train.max(axis=0) == train.min(axis=0)
    return np.asarray(train.mean(axis=0)), np.where(constant, 1, train.std(axis=0))


def scale(y: ArrayLike, mean: ArrayLike, std: ArrayLike) -> Array:
    """Return ``(y − mean) / std``.

    Parameters
    ----------
    y : ndarray, shape (..., D) or any shape for scalar statistics
    mean, std : ndarray
        From :func:`fit_scaler`.

    Returns
    -------
    ndarray, in the shape of `y`

    Raises
    ------
    ValueError
        If `mean` or `std` does not fit the last axes of `y`, or `std` is not positive.

    Examples
    --------
    >>> scale(np.array([3.0, 5.0]), mean=3.0, std=2.0)
    array([0., 1.])
    """
    y, mean, std = _check_scale("y", y, mean, std)
    return (y - mean) / std


def unscale(z: ArrayLike, mean: ArrayLike, std: ArrayLike) -> Array:
    """Undo :func:`scale`: return ``z · std + mean``.

    Parameters
    ----------
    z : ndarray
    mean, std : ndarray
        From :func:`fit_scaler`.

    Returns
    -------
    ndarray, in the shape of `z`

    Raises
    ------
    ValueError
        If `mean` or `std` does not fit the last axes of `z`, or `std` is not positive.

    Examples
    --------
    >>> unscale(np.array([0.0, 1.0]), mean=3.0, std=2.0)
    array([3., 5.])
    """
    z, mean, std = _check_scale("z", z, mean, std)
    return z * std + mean


def _check_scale(
    name: str, values: ArrayLike, mean: ArrayLike, std: ArrayLike
) -> tuple[Array, Array, Array]:
    checked, mean, std = as_float(name, values), as_float("mean", mean), as_float("std", std)
    for other, array in (("mean", mean), ("std", std)):
        axes = checked.shape[max(checked.ndim - array.ndim, 0) :]
        if len(axes) < array.ndim or any(
            a not in (1, b) for a, b in zip(array.shape, axes, strict=True)
        ):
            raise ValueError(
                f"{other} has shape {array.shape}, expected () or {checked.shape[-1:]}: one number "
                f"or one for each entry of the last axis of {name}, shape {checked.shape}"
            )
    if not (std > 0).all():
        raise ValueError(f"std must be positive, but it is {std}; fit_scaler gives 1 to constants")
    return checked, mean, std


def rolling_origin(n: int, first: int, horizon: int, step: int) -> list[tuple[IntArray, IntArray]]:
    """Split a series again and again: learn on everything up to an origin, test right after it.

    Parameters
    ----------
    n : int
        Length of the series.
    first : int
        First origin: how many values the first training part holds.
    horizon : int
        Length of every test part.
    step : int
        Distance between two origins.

    Returns
    -------
    list of (train, test)
        Indices ``0 … origin − 1`` and ``origin … origin + horizon − 1``, for every origin whose
        test part fits into the series.

    Raises
    ------
    ValueError
        If a size is below 1, or not even the first test part fits.
    TypeError
        If a size is no integer.

    References
    ----------
    L. J. Tashman, "Out-of-sample tests of forecasting accuracy: an analysis and review",
    International Journal of Forecasting 16(4), 2000.

    Examples
    --------
    >>> for train, test in rolling_origin(n=7, first=3, horizon=2, step=2):
    ...     print(train, test)
    [0 1 2] [3 4]
    [0 1 2 3 4] [5 6]
    """
    check_size(n=n, first=first, horizon=horizon, step=step)
    if first + horizon > n:
        raise ValueError(f"n must be at least first + horizon = {first} + {horizon}, but it is {n}")
    origins = range(first, n - horizon + 1, step)
    return [(np.arange(origin), np.arange(origin, origin + horizon)) for origin in origins]


def persistence(y: ArrayLike, horizon: int) -> Array:
    """Forecast that everything stays as it is: the last value, `horizon` times.

    Parameters
    ----------
    y : ndarray, shape (N,) or (N, D)
        The past.
    horizon : int

    Returns
    -------
    ndarray, shape (horizon,) or (horizon, D)

    Raises
    ------
    ValueError
        If the past is empty or holds NaN, or `horizon` is below 1.

    Examples
    --------
    >>> persistence(np.array([1.0, 4.0]), horizon=3)
    array([4., 4., 4.])
    """
    return seasonal_naive(y, horizon, m=1)


def seasonal_naive(y: ArrayLike, horizon: int, m: int) -> Array:
    """Forecast that the last season repeats.

    Parameters
    ----------
    y : ndarray, shape (N,) or (N, D)
        The past.
    horizon : int
    m : int
        Length of the season; with 1 this is persistence.

    Returns
    -------
    ndarray, shape (horizon,) or (horizon, D)
        Step h is ``y[N − m + h mod m]``.

    Raises
    ------
    ValueError
        If the past is shorter than a season or holds NaN, or `horizon` or `m` is below 1.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> seasonal_naive(np.array([9.0, 1.0, 2.0, 3.0]), horizon=5, m=3)
    array([1., 2., 3., 1., 2.])
    """
    check_size(horizon=horizon, m=m)
    y = _check_series("y", y, shortest=m)
    return y[len(y) - m + np.arange(horizon) % m]


def fit_ar(y: ArrayLike, p: int) -> tuple[float, Array]:
    """Fit an autoregression of order `p` by least squares.

    The model is ``y_t = c + φ₁ y_{t−1} + … + φ_p y_{t−p} + noise``.

    Parameters
    ----------
    y : ndarray, shape (N,)
    p : int
        Order; 0 fits the mean.

    Returns
    -------
    intercept : float
    phi : ndarray, shape (p,)
        ``phi[0]`` belongs to the value just before.

    Raises
    ------
    ValueError
        If `p` is negative, or fewer than ``p + 1`` equations remain for the ``p + 1`` unknowns, or
        the series holds NaN.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> y = 0.9 ** np.arange(20)
    >>> intercept, phi = fit_ar(y, p=1)
    >>> phi.round(6), round(intercept, 6) == 0
    (array([0.9]), True)
    """
    check_size(0, p=p)
    y = _check_series("y", y, shortest=2 * p + 1)
    check_shapes(y=(y, "N"))
    lags = [y[p - lag : len(y) - lag] for lag in range(1, p + 1)]  # y[t - lag] for all t >= p
    design = np.column_stack([np.ones(len(y) - p), *lags])  # (N - p, p + 1)
    solution = np.linalg.lstsq(design, y[p:])[0]
    return float(solution[0]), solution[1:]


def companion_matrix(phi: ArrayLike) -> Array:
    """Return the matrix that advances ``(y_t, …, y_{t−p+1})`` of an autoregression by one step.

    Parameters
    ----------
    phi : ndarray, shape (p,)
        From :func:`fit_ar`.

    Returns
    -------
    ndarray, shape (p, p)
        Its largest absolute eigenvalue says how fast free-running forecasts approach the mean:
        like the radius to the power of the horizon. At 1 or above they do not.

    Raises
    ------
    ValueError
        If `phi` is empty.

    Examples
    --------
    >>> companion_matrix(np.array([0.5, 0.3]))
    array([[0.5, 0.3],
           [1. , 0. ]])
    """
    phi = as_float("phi", phi)
    p = check_shapes(phi=(phi, "p"))["p"]
    check_all_finite(phi=phi)
    matrix = np.eye(p, k=-1, dtype=phi.dtype)
    matrix[0] = phi
    return matrix


def companion_radius(phi: ArrayLike) -> float:
    """Return the largest absolute eigenvalue of :func:`companion_matrix`.

    Parameters
    ----------
    phi : ndarray, shape (p,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `phi` is empty.

    Examples
    --------
    >>> companion_radius(np.array([0.9]))
    0.9
    """
    return float(np.abs(np.linalg.eigvals(companion_matrix(phi))).max())


def forecast_ar(y: ArrayLike, intercept: float, phi: ArrayLike, horizon: int) -> Array:
    """Forecast with an autoregression that reads its own forecasts.

    Parameters
    ----------
    y : ndarray, shape (N,)
        The past, at least p values.
    intercept : float
    phi : ndarray, shape (p,)
        From :func:`fit_ar`.
    horizon : int

    Returns
    -------
    ndarray, shape (horizon,)

    Raises
    ------
    ValueError
        If the past is shorter than p or holds NaN, or `horizon` is below 1.
    TypeError
        If a size is no integer or a parameter is no number.

    Examples
    --------
    >>> forecast_ar(np.array([8.0]), intercept=0.0, phi=np.array([0.5]), horizon=3)
    array([4., 2., 1.])
    """
    check_size(horizon=horizon)
    phi = as_float("phi", phi)
    check_number("intercept", intercept)
    if phi.ndim != 1:
        raise ValueError(f"phi has shape {phi.shape}, expected (p,)")
    check_all_finite(intercept=np.asarray(intercept), phi=phi)
    p = len(phi)
    y = _check_series("y", y, shortest=max(p, 1))
    check_shapes(y=(y, "N"))
    path = np.concatenate([y[len(y) - p :], np.zeros(horizon)])
    for t in range(p, p + horizon):
        path[t] = intercept + phi @ path[t - p : t][::-1]
    return path[p:]
