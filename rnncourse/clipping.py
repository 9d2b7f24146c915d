"""Gradient clipping: by global norm, by value and per tensor, and the update that uses it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rnncourse._validation import Array, as_finite, as_floats, check_alike, check_positive
from rnncourse.rnn import Params


def global_norm(grads: Mapping[str, Array]) -> float:
    """Return the Euclidean norm of all gradients seen as one long vector.

    Entries are scaled to about 1 before they are squared, by a power of two and so without
    rounding; no square overflows or vanishes where the norm itself does not [1]_.

    Parameters
    ----------
    grads : dict of ndarray

    Returns
    -------
    float
        NaN if an entry is NaN, else infinity if one is infinite; 0 without any entry.

    Raises
    ------
    TypeError
        If `grads` is no dict of real arrays.

    References
    ----------
    .. [1] J. L. Blue, "A portable Fortran program to find the Euclidean norm of a vector", ACM
       Transactions on Mathematical Software 4(1), 1978.

    Examples
    --------
    >>> global_norm({"W": np.array([[3.0]]), "b": np.array([4.0])})
    5.0
    >>> global_norm({"W": np.array([1e200, 0.0])})
    1e+200
    """
    vectors = [g.astype(np.float64).ravel() for g in as_floats("grads", grads).values()]
    largest = float(np.max([np.abs(v).max(initial=0.0) for v in vectors], initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    scale = math.ldexp(1.0, math.frexp(largest)[1] - 1)
    return scale * math.sqrt(sum(np.square(v / scale).sum() for v in vectors))


def clip_by_global_norm(grads: Mapping[str, Array], max_norm: float) -> tuple[Params, float]:
    """Scale all gradients by one factor so that their global norm is at most `max_norm` [1]_.

    Parameters
    ----------
    grads : dict of ndarray
    max_norm : float
        Largest norm allowed; gradients below it come back unchanged.

    Returns
    -------
    clipped : dict of ndarray
        New arrays.
    norm : float
        Global norm *before* clipping: the number to log.

    Raises
    ------
    ValueError
        If `max_norm` is not positive, or a gradient holds NaN or infinity, which no factor repairs,
        or the norm exceeds the range of float64.
    TypeError
        If `grads` is no dict of real arrays or `max_norm` no number.

    References
    ----------
    .. [1] R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural
       networks", ICML 2013.

    Examples
    --------
    >>> clip_by_global_norm({"W": np.array([3.0]), "b": np.array([4.0])}, max_norm=1.0)
    ({'W': array([0.6]), 'b': array([0.8])}, 5.0)
    """
    check_positive("max_norm", max_norm)
    grads = as_finite("grads", grads)
    norm = global_norm(grads)
    if not np.isfinite(norm):
        raise ValueError("grads is finite, but its norm is not: it exceeds the range of float64")
    scale = min(1.0, max_norm / norm) if norm > 0 else 1.0
    return {name: g * scale for name, g in grads.items()}, norm


def clip_by_value(grads: Mapping[str, Array], limit: float) -> Params:
    """Clip every entry of every gradient to ``[-limit, limit]``; this turns the direction.

    Parameters
    ----------
    grads : dict of ndarray
    limit : float

    Returns
    -------
    dict of ndarray
        New arrays.

    Raises
    ------
    ValueError
        If `limit` is not positive, or a gradient holds NaN or infinity.
    TypeError
        If `grads` is no dict of real arrays or `limit` no number.

    Examples
    --------
    >>> clip_by_value({"W": np.array([3.0, -0.5])}, limit=1.0)
    {'W': array([ 1. , -0.5])}
    """
    check_positive("limit", limit)
    grads = as_finite("grads", grads)
    return {name: np.clip(g, -limit, limit) for name, g in grads.items()}


def clip_per_tensor(grads: Mapping[str, Array], max_norm: float) -> Params:
    """Scale each gradient on its own to a norm of at most `max_norm`; this turns the direction.

    Parameters
    ----------
    grads : dict of ndarray
    max_norm : float

    Returns
    -------
    dict of ndarray
        New arrays. Their global norm may reach ``sqrt(len(grads)) * max_norm``.

    Raises
    ------
    ValueError
        If `max_norm` is not positive, or a gradient holds NaN or infinity.
    TypeError
        If `grads` is no dict of real arrays or `max_norm` no number.

    Examples
    --------
    >>> clip_per_tensor({"W": np.array([3.0, 4.0]), "b": np.array([0.5])}, max_norm=1.0)
    {'W': array([0.6, 0.8]), 'b': array([0.5])}
    """
    grads = as_floats("grads", grads)
    check_positive("max_norm", max_norm)
    return {name: clip_by_global_norm({name: g}, max_norm)[0][name] for name, g in grads.items()}


def cosine(a: Mapping[str, Array], b: Mapping[str, Array]) -> float:
    """Return the cosine of the angle between two gradients, each seen as one long vector.

    Parameters
    ----------
    a, b : dict of ndarray
        With the same keys and shapes.

    Returns
    -------
    float
        1 for the same direction, -1 for the opposite one.

    Raises
    ------
    ValueError
        If the keys or shapes differ, or one of the two is zero and so has no direction.
    TypeError
        If `a` or `b` is no dict of real arrays.

    Examples
    --------
    >>> round(cosine({"W": np.array([1.0, 0.0])}, {"W": np.array([1.0, 1.0])}), 4)
    0.7071
    """
    a, b = as_floats("a", a), as_floats("b", b)
    check_alike(a=a, b=b)
    norm_a, norm_b = global_norm(a), global_norm(b)
    if norm_a == 0 or norm_b == 0:
        raise ValueError("a zero gradient has no direction")
    return float(sum(np.vdot(a[name] / norm_a, b[name] / norm_b) for name in a))


def sgd_step(
    params: Mapping[str, Array], grads: Mapping[str, Array], lr: float, max_norm: float
) -> Params:
    """Take one step of gradient descent, clipping by global norm *before* the update.

    Parameters
    ----------
    params : dict of ndarray
    grads : dict of ndarray
        With the same keys.
    lr : float
        Learning rate.
    max_norm : float
        Limit of the global norm.

    Returns
    -------
    dict of ndarray
        New parameters; the old ones are unchanged.

    Raises
    ------
    ValueError
        If keys or shapes differ, `lr` or `max_norm` is not positive, or a gradient is not finite.
    TypeError
        If `params` or `grads` is no dict of real arrays, or a number is none.

    Examples
    --------
    >>> sgd_step({"w": np.array([1.0])}, {"w": np.array([4.0])}, lr=0.5, max_norm=2.0)
    {'w': array([0.])}
    """
    params, grads = as_floats("params", params), as_floats("grads", grads)
    check_alike(params=params, grads=grads)
    check_positive("lr", lr)
    clipped, _ = clip_by_global_norm(grads, max_norm)
    return {name: p - lr * clipped[name] for name, p in params.items()}
