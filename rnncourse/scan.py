"""The linear recurrence ``h_t = a_t h_{t-1} + b_t``, by a loop and by a parallel scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnncourse._validation import Array, as_float

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def linear_recurrence(a: ArrayLike, b: ArrayLike, h0: ArrayLike) -> Array:
    """Compute ``h_t = a_t h_{t-1} + b_t`` (element by element), one step after the other.

    Parameters
    ----------
    a : ndarray, shape (T, ...)
        Factors of the state, such as forget gates.
    b : ndarray, shape (T, ...)
        What is added to the state.
    h0 : ndarray, shape (...)
        State before the first step.

    Returns
    -------
    ndarray, shape (T, ...)
        States; ``h[t]`` is the state after step t.

    Raises
    ------
    ValueError
        If the shapes do not fit together or there are no steps.

    Examples
    --------
    >>> linear_recurrence(a=[[0.5], [0.5], [2.0]], b=[[1.0], [0.0], [1.0]], h0=[4.0]).ravel()
    array([3. , 1.5, 4. ])
    """
    a, b, h0 = _check(a, b, h0)
    h = np.empty(a.shape, np.result_type(a, b, h0))
    h_t = h0
    for t in range(len(a)):
        h_t = h[t] = a[t] * h_t + b[t]
    return h


def combine(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return the one step ``h → a h + b`` that equals two steps, the first before the second.

    ``a₂ (a₁ h + b₁) + b₂ = (a₂ a₁) h + (a₂ b₁ + b₂)``. This operation is associative, so many steps
    may be combined in any grouping; the step of a tanh network has no such closed form.

    Parameters
    ----------
    first, second : tuple of ndarray
        Factor and summand of each step.

    Returns
    -------
    tuple of ndarray

    Examples
    --------
    >>> combine((2.0, 1.0), (3.0, 5.0))
    (6.0, 8.0)
    """
    (a1, b1), (a2, b2) = first, second
    return a2 * a1, a2 * b1 + b2


def parallel_scan(a: ArrayLike, b: ArrayLike, h0: ArrayLike) -> Array:
    """Compute ``h_t = a_t h_{t-1} + b_t`` in about 2 log₂ T array operations instead of T.

    Neighbouring steps are combined into one, the recurrence of half the length is solved in the
    same way, and the states in between follow from it [1]_. It does about 3/2 as much arithmetic as
    the loop, but no operation waits for the step before it.

    Parameters
    ----------
    a : ndarray, shape (T, ...)
        Factors of the state.
    b : ndarray, shape (T, ...)
        What is added to the state.
    h0 : ndarray, shape (...)
        State before the first step.

    Returns
    -------
    ndarray, shape (T, ...)
        The states of :func:`linear_recurrence`, up to rounding.

    Raises
    ------
    ValueError
        If the shapes do not fit together or there are no steps.

    References
    ----------
    .. [1] G. E. Blelloch, "Prefix sums and their applications", CMU-CS-90-190, 1990; E. Martin,
       C. Cundy, "Parallelizing linear recurrent neural nets over sequence length", ICLR 2018.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a, b, h0 = rng.uniform(size=(100, 3)), rng.normal(size=(100, 3)), rng.normal(size=3)
    >>> np.allclose(parallel_scan(a, b, h0), linear_recurrence(a, b, h0))
    True
    """
    a, b, h0 = _check(a, b, h0)
    return _scan(a, b, h0)


def _scan(a: Array, b: Array, h0: Array) -> Array:
    h = np.empty(a.shape, np.result_type(a, b, h0))
    h[0] = a[0] * h0 + b[0]
    if len(a) == 1:
        return h
    pairs = len(a) // 2
    even, odd = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    h[odd] = _scan(*combine((a[even], b[even]), (a[odd], b[odd])), h0)  # states after each pair
    h[2::2] = a[2::2] * h[1:-1:2] + b[2::2]  # one step further from each of them
    return h


def linear_recurrence_backward(
    dh: ArrayLike, a: ArrayLike, h0: ArrayLike, h: ArrayLike
) -> tuple[Array, Array, Array]:
    """Backpropagate through the linear recurrence; this too is a scan, from the end.

    The total gradient of a state follows ``g_t = dh_t + a_{t+1} g_{t+1}``: the same kind of
    recurrence, in reversed time.

    Parameters
    ----------
    dh : ndarray, shape (T, ...)
        Direct gradient of the loss with respect to each state.
    a : ndarray, shape (T, ...)
        Factors of the state.
    h0 : ndarray, shape (...)
        State before the first step.
    h : ndarray, shape (T, ...)
        States, as :func:`parallel_scan` returned them.

    Returns
    -------
    da : ndarray, shape (T, ...)
    db : ndarray, shape (T, ...)
    dh0 : ndarray, shape (...)

    Raises
    ------
    ValueError
        If the shapes do not fit together or there are no steps.

    Examples
    --------
    >>> a, h0 = np.array([[0.5], [2.0]]), np.array([4.0])
    >>> h = parallel_scan(a, np.zeros((2, 1)), h0)
    >>> [g.ravel().tolist() for g in linear_recurrence_backward([[0.0], [1.0]], a, h0, h)]
    [[8.0, 2.0], [2.0, 1.0], [1.0]]
    """
    dh = as_float("dh", dh)
    a, h, h0 = _check(a, h, h0, second="h")
    if dh.shape != a.shape:
        raise ValueError(f"dh has shape {dh.shape}, expected that of a, {a.shape}")
    a_next = np.concatenate([a[1:], np.ones_like(a[:1])])[::-1]  # the last state has no next step
    g = _scan(a_next, dh[::-1], np.zeros_like(h0))[::-1]
    h_prev = np.concatenate([h0[None], h[:-1]])
    return g * h_prev, g, g[0] * a[0]


def _check(
    a: ArrayLike, b: ArrayLike, h0: ArrayLike, second: str = "b"
) -> tuple[Array, Array, Array]:
    a, b, h0 = as_float("a", a), as_float(second, b), as_float("h0", h0)
    if a.ndim < 1 or len(a) == 0:
        raise ValueError(f"a has shape {a.shape}, expected (T, ...) with at least one step")
    if b.shape != a.shape:
        raise ValueError(f"{second} has shape {b.shape}, expected that of a, {a.shape}")
    if h0.shape != a.shape[1:]:
        raise ValueError(
            f"h0 has shape {h0.shape}, expected {a.shape[1:]}: that of a, {a.shape}, without time"
        )
    return a, b, h0
