"""How recurrent weights and biases start: orthogonal, identity, scaled Gaussian, open gates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnncourse._validation import (
    Array,
    as_float,
    check_number,
    check_positive,
    check_rng,
    check_shapes,
    check_size,
)
from rnncourse.gradient_flow import spectral_radius

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def orthogonal(n: int, gain: float, rng: np.random.Generator) -> Array:
    """Draw `gain` times an orthogonal matrix, all orthogonal matrices being equally likely.

    The QR decomposition of a Gaussian matrix fixes Q only up to the sign of each column, and
    LAPACK's choice depends on the matrix. Multiplying by the signs of R's diagonal makes the
    decomposition unique and the result uniform in the sense of Haar [1]_.

    Parameters
    ----------
    n : int
        Number of rows and columns.
    gain : float
        All singular values of the result.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n, n)

    Raises
    ------
    ValueError
        If `n` is below 1 or `gain` is not positive.
    TypeError
        If a size is no integer or `rng` is no generator.

    References
    ----------
    .. [1] F. Mezzadri, "How to generate random matrices from the classical compact groups",
       Notices of the AMS 54(5), 2007.

    Examples
    --------
    >>> W = orthogonal(3, gain=2.0, rng=np.random.default_rng(0))
    >>> np.allclose(W @ W.T, 4 * np.eye(3))
    True
    """
    check_size(n=n)
    check_positive("gain", gain)
    check_rng(rng)
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    return gain * Q * np.sign(np.diag(R))


def identity(n: int, gain: float = 1.0) -> Array:
    """Return `gain` times the identity: every unit starts by keeping its own value [1]_.

    Parameters
    ----------
    n : int
        Number of rows and columns.
    gain : float, optional

    Returns
    -------
    ndarray, shape (n, n)

    Raises
    ------
    ValueError
        If `n` is below 1 or `gain` is not positive.
    TypeError
        If a size is no integer.

    References
    ----------
    .. [1] Q. V. Le, N. Jaitly, G. E. Hinton, "A simple way to initialize recurrent networks of
       rectified linear units", arXiv:1504.00941, 2015.

    Examples
    --------
    >>> identity(2, gain=0.5)
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    check_size(n=n)
    check_positive("gain", gain)
    return gain * np.eye(n)


def scaled_gaussian(n: int, gain: float, rng: np.random.Generator) -> Array:
    """Draw independent Gaussian entries with the standard deviation ``gain / √n``.

    For large n the spectral radius tends to `gain` [1]_, but the spectral norm to ``2 gain``.

    Parameters
    ----------
    n : int
        Number of rows and columns.
    gain : float
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n, n)

    Raises
    ------
    ValueError
        If `n` is below 1 or `gain` is not positive.
    TypeError
        If a size is no integer or `rng` is no generator.

    References
    ----------
    .. [1] V. L. Girko, "Circular law", Theory of Probability & Its Applications 29(4), 1985.

    Examples
    --------
    >>> W = scaled_gaussian(400, gain=1.5, rng=np.random.default_rng(0))
    >>> round(float(W.std()) * 20, 2)
    1.5
    """
    check_size(n=n)
    check_positive("gain", gain)
    check_rng(rng)
    return gain / np.sqrt(n) * rng.standard_normal((n, n))


def scale_to_radius(W: ArrayLike, radius: float) -> Array:
    """Scale a matrix so that its spectral radius is `radius`.

    Parameters
    ----------
    W : ndarray, shape (H, H)
    radius : float
        Largest absolute value of an eigenvalue of the result.

    Returns
    -------
    ndarray, shape (H, H)
        A new array in the dtype of `W`.

    Raises
    ------
    ValueError
        If `W` is not square, its spectral radius is zero so that no factor helps, or `radius` is
        not positive.

    Examples
    --------
    >>> scale_to_radius(np.array([[2.0, 6.0], [0.0, 1.0]]), radius=1.0)
    array([[1. , 3. ],
           [0. , 0.5]])
    """
    W = as_float("W", W)
    check_shapes(W=(W, "H H"))
    check_positive("radius", radius)
    rho = spectral_radius(W)
    if rho == 0:
        raise ValueError("W has the spectral radius 0: all its eigenvalues are zero at any scale")
    return W * (radius / rho)


def orthogonal_gates(H: int, gates: int, gain: float, rng: np.random.Generator) -> Array:
    """Draw one orthogonal matrix per gate and stack them as LSTM and GRU weights are stacked.

    One orthogonal draw of the whole ``(gates · H, H)`` matrix would make its *columns* orthonormal;
    each gate's block would then shrink vectors by about ``1/√gates``.

    Parameters
    ----------
    H : int
        Hidden size.
    gates : int
        Number of blocks: 4 for an LSTM, 3 for a GRU.
    gain : float
        All singular values of each block.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (gates * H, H)

    Raises
    ------
    ValueError
        If `H` or `gates` is below 1 or `gain` is not positive.
    TypeError
        If a size is no integer or `rng` is no generator.

    Examples
    --------
    >>> W_h = orthogonal_gates(3, gates=4, gain=1.0, rng=np.random.default_rng(0))
    >>> all(np.allclose(block @ block.T, np.eye(3)) for block in np.split(W_h, 4))
    True
    """
    check_size(H=H, gates=gates)
    return np.concatenate([orthogonal(H, gain, rng) for _ in range(gates)])


def forget_bias(b: ArrayLike, value: float) -> Array:
    """Return an LSTM's bias with the forget gate's block set to `value`.

    At zero input the forget gate then starts at ``1 / (1 + exp(−value))``: 0.50 for 0, 0.73 for 1
    [1]_, 0.95 for 3.

    Parameters
    ----------
    b : ndarray, shape (4H,)
        Bias with the blocks i, f, g, o.
    value : float

    Returns
    -------
    ndarray, shape (4H,)
        A new array; the other three blocks are those of `b`.

    Raises
    ------
    ValueError
        If the length of `b` is not a multiple of four or `value` is not finite.
    TypeError
        If a parameter is no number.

    References
    ----------
    .. [1] F. A. Gers, J. Schmidhuber, F. Cummins, "Learning to forget: continual prediction with
       LSTM", Neural Computation 12(10), 2000; R. Jozefowicz, W. Zaremba, I. Sutskever, "An
       empirical exploration of recurrent network architectures", ICML 2015.

    Examples
    --------
    >>> forget_bias(np.zeros(8), 1.0)
    array([0., 0., 1., 1., 0., 0., 0., 0.])
    """
    b, H = _check_gate_bias(b, gates=4)
    check_number("value", value)
    if not np.isfinite(value):
        raise ValueError(f"value must be finite, but it is {value}")
    opened = b.copy()
    opened[H : 2 * H] = value  # blocks are i, f, g, o
    return opened


def chrono(b: ArrayLike, T_max: float, rng: np.random.Generator) -> Array:
    """Return an LSTM's bias with gates opened for memories of up to `T_max` steps [1]_.

    Each unit draws a time constant τ uniformly from ``[1, T_max − 1]``; its forget gate gets the
    bias ``log τ``, so that it forgets over about τ steps, and its input gate ``−log τ``.

    Parameters
    ----------
    b : ndarray, shape (4H,)
        Bias with the blocks i, f, g, o.
    T_max : float
        Longest delay expected, at least 2.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (4H,)
        A new array; the blocks g and o are those of `b`.

    Raises
    ------
    ValueError
        If the length of `b` is not a multiple of four or `T_max` is below 2.
    TypeError
        If `rng` is no generator.

    References
    ----------
    .. [1] C. Tallec, Y. Ollivier, "Can recurrent neural networks warp time?", ICLR 2018.

    Examples
    --------
    >>> b = chrono(np.zeros(8), T_max=101, rng=np.random.default_rng(0))
    >>> np.array_equal(b[:2], -b[2:4]) and bool((np.exp(b[2:4]) <= 100).all())
    True
    """
    b, H = _check_gate_bias(b, gates=4)
    log_tau = _log_time_constants(H, T_max, rng)
    opened = b.copy()
    opened[:H], opened[H : 2 * H] = -log_tau, log_tau  # blocks are i, f, g, o
    return opened


def chrono_gru(b: ArrayLike, T_max: float, rng: np.random.Generator) -> Array:
    """Return a GRU's bias with the update gate opened for memories of up to `T_max` steps.

    The update gate z keeps the old state, ``h = (1 − z) n + z h_prev``, so it plays both parts that
    an LSTM gives to two gates: its bias is ``log τ``, τ uniform in ``[1, T_max − 1]``.

    Parameters
    ----------
    b : ndarray, shape (3H,)
        One of the two biases, with the blocks r, z, n. The gate sees their sum: set one of them and
        leave the other's z block at zero.
    T_max : float
        Longest delay expected, at least 2.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (3H,)
        A new array; the blocks r and n are those of `b`.

    Raises
    ------
    ValueError
        If the length of `b` is not a multiple of three or `T_max` is below 2.
    TypeError
        If `rng` is no generator.

    References
    ----------
    C. Tallec, Y. Ollivier, "Can recurrent neural networks warp time?", ICLR 2018.

    Examples
    --------
    >>> b = chrono_gru(np.zeros(6), T_max=2, rng=np.random.default_rng(0))
    >>> b.tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    b, H = _check_gate_bias(b, gates=3)
    opened = b.copy()
    opened[H : 2 * H] = _log_time_constants(H, T_max, rng)  # blocks are r, z, n
    return opened


def _log_time_constants(H: int, T_max: float, rng: np.random.Generator) -> Array:
    check_rng(rng)
    check_number("T_max", T_max)
    if not (np.isfinite(T_max) and T_max >= 2):
        raise ValueError(f"T_max must be at least 2, but it is {T_max}")
    return np.log(rng.uniform(1, T_max - 1, H))


def _check_gate_bias(b: ArrayLike, gates: int) -> tuple[Array, int]:
    b = as_float("b", b)
    check_shapes(b=(b, f"{gates}H"))
    if len(b) % gates:
        raise ValueError(
            f"b has shape {b.shape}, expected ({gates}H,): a multiple of {gates}, one block a gate"
        )
    return b, len(b) // gates
