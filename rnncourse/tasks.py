"""Synthetic tasks of the literature, time-major, drawn from an explicit random generator."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncourse._validation import Array, IntArray, as_index, check_positive, check_rng, check_size


def one_hot(tokens: IntArray, size: int) -> Array:
    """Return one-hot vectors along a new last axis.

    Parameters
    ----------
    tokens : ndarray of int, shape (...)
        Entries in ``[0, size)``.
    size : int

    Returns
    -------
    ndarray, shape (..., size)

    Raises
    ------
    ValueError
        If a token is not in ``[0, size)``.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> one_hot(np.array([2, 0]), size=3)
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    check_size(size=size)
    tokens = as_index("tokens", tokens, size)
    return (tokens[..., None] == np.arange(size)).astype(np.float64)


def delayed_recall(
    delay: int, batch: int, rng: np.random.Generator, classes: int = 2, distractors: int = 4
) -> tuple[Array, IntArray]:
    """Draw the recall task: name the first symbol after `delay` distractors.

    Guessing gets ``1 / classes`` right. With two classes the network has to keep one bit.

    Parameters
    ----------
    delay : int
        Number of distractors after the symbol; 0 asks for it at once.
    batch : int
    rng : numpy.random.Generator
    classes : int, optional
        Number of symbols to recall.
    distractors : int, optional
        Number of other symbols; with 0 the inputs after the first are zero vectors.

    Returns
    -------
    x : ndarray, shape (delay + 1, batch, classes + distractors)
        One-hot inputs; the symbol to recall is ``x[0]``.
    targets : ndarray of int, shape (batch,)
        What to answer after the last input.

    Raises
    ------
    ValueError
        If a size is too small.
    TypeError
        If a size is no integer or `rng` is no generator.

    Examples
    --------
    >>> x, targets = delayed_recall(delay=10, batch=3, rng=np.random.default_rng(0))
    >>> x.shape, bool((x[0].argmax(axis=-1) == targets).all())
    ((11, 3, 6), True)
    """
    check_size(0, delay=delay, distractors=distractors)
    check_size(batch=batch, classes=classes)
    check_rng(rng)
    targets = rng.integers(classes, size=batch)
    x = np.zeros((delay + 1, batch, classes + distractors))
    x[0] = one_hot(targets, classes + distractors)
    if distractors and delay:
        noise = rng.integers(classes, classes + distractors, size=(delay, batch))
        x[1:] = one_hot(noise, classes + distractors)
    return x, targets


def adding(T: int, batch: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw the adding problem [1]_: sum the two marked numbers of a sequence.

    One mark lies in the first half, one in the second. Always answering 1 has the mean squared
    error Var(U₁ + U₂) = 1/6.

    Parameters
    ----------
    T : int
        Length, at least 2.
    batch : int
    rng : numpy.random.Generator

    Returns
    -------
    x : ndarray, shape (T, batch, 2)
        ``x[..., 0]`` holds numbers from [0, 1), ``x[..., 1]`` the marks, 1 at two steps and 0 else.
    targets : ndarray, shape (batch,)
        The *sum* of the two marked numbers; some papers ask for the mean.

    Raises
    ------
    ValueError
        If a size is too small.
    TypeError
        If a size is no integer or `rng` is no generator.

    References
    ----------
    .. [1] S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997.

    Examples
    --------
    >>> x, targets = adding(T=10, batch=3, rng=np.random.default_rng(0))
    >>> bool(np.allclose((x[..., 0] * x[..., 1]).sum(axis=0), targets))
    True
    """
    check_size(2, T=T)
    check_size(batch=batch)
    check_rng(rng)
    x = np.zeros((T, batch, 2))
    x[..., 0] = rng.random((T, batch))
    columns = np.arange(batch)
    x[rng.integers(0, T // 2, size=batch), columns, 1] = 1
    x[rng.integers(T // 2, T, size=batch), columns, 1] = 1
    return x, (x[..., 0] * x[..., 1]).sum(axis=0)


def copy(
    delay: int, batch: int, rng: np.random.Generator, symbols: int = 8, length: int = 10
) -> tuple[Array, IntArray]:
    """Draw the copy task [1]_: read `length` symbols, wait, and write them at the go sign.

    The input is `length` symbols, ``delay - 1`` blanks, the go sign and `length` blanks. The best
    answer without memory, blanks and then guesses, has the mean cross-entropy
    ``length · log(symbols) / (delay + 2 · length)``.

    Parameters
    ----------
    delay : int
        Steps between the last symbol and the first answer, at least 1.
    batch : int
    rng : numpy.random.Generator
    symbols : int, optional
        Size of the alphabet; index `symbols` is the blank and ``symbols + 1`` the go sign.
    length : int, optional
        Number of symbols to copy.

    Returns
    -------
    x : ndarray, shape (delay + 2 * length, batch, symbols + 2)
        One-hot inputs.
    targets : ndarray of int, shape (delay + 2 * length, batch)
        The blank until the go sign has been read, then the symbols: ``symbols + 1`` classes.

    Raises
    ------
    ValueError
        If a size is too small.
    TypeError
        If a size is no integer or `rng` is no generator.

    References
    ----------
    .. [1] M. Arjovsky, A. Shah, Y. Bengio, "Unitary evolution recurrent neural networks", ICML
       2016.

    Examples
    --------
    >>> x, y = copy(delay=3, batch=1, rng=np.random.default_rng(0), symbols=5, length=2)
    >>> x.argmax(axis=-1).ravel(), y.ravel()
    (array([4, 3, 5, 5, 6, 5, 5]), array([5, 5, 5, 5, 5, 4, 3]))
    """
    check_size(delay=delay, batch=batch, symbols=symbols, length=length)
    check_rng(rng)
    blank, go = symbols, symbols + 1
    message = rng.integers(symbols, size=(length, batch))
    tokens = np.full((delay + 2 * length, batch), blank)
    targets = tokens.copy()
    tokens[:length] = message
    tokens[length + delay - 1] = go
    targets[length + delay :] = message
    return one_hot(tokens, symbols + 2), targets


def temporal_order(T: int, batch: int, rng: np.random.Generator) -> tuple[Array, IntArray]:
    """Draw the temporal-order task: which two symbols came, and in which order?

    Two of T inputs are A or B, the others are one of four distractors. As in the code of [1]_ the
    first lies in the second tenth of the sequence, the second in the sixth.

    Parameters
    ----------
    T : int
        Length, at least 10.
    batch : int
    rng : numpy.random.Generator

    Returns
    -------
    x : ndarray, shape (T, batch, 6)
        One-hot inputs in the order A, B, four distractors.
    targets : ndarray of int, shape (batch,)
        0 to 3 for AA, AB, BA, BB.

    Raises
    ------
    ValueError
        If a size is too small.
    TypeError
        If a size is no integer or `rng` is no generator.

    References
    ----------
    .. [1] R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural
       networks", ICML 2013.

    Examples
    --------
    >>> x, targets = temporal_order(T=20, batch=3, rng=np.random.default_rng(0))
    >>> x.shape, (x[..., :2].sum(axis=(0, 2)) == 2).all()
    ((20, 3, 6), np.True_)
    """
    check_size(10, T=T)
    check_size(batch=batch)
    check_rng(rng)
    tokens = rng.integers(2, 6, size=(T, batch))
    first, second = rng.integers(2, size=(2, batch))
    columns = np.arange(batch)
    tokens[rng.integers(T // 10, 2 * T // 10, size=batch), columns] = first
    tokens[rng.integers(5 * T // 10, 6 * T // 10, size=batch), columns] = second
    return one_hot(tokens, 6), 2 * first + second


def parity(T: int, batch: int, rng: np.random.Generator) -> tuple[Array, IntArray]:
    """Draw the parity task: after every bit, is the number of ones so far odd?

    Parameters
    ----------
    T : int
        Length.
    batch : int
    rng : numpy.random.Generator

    Returns
    -------
    x : ndarray, shape (T, batch, 1)
        Bits, 0.0 or 1.0.
    targets : ndarray of int, shape (T, batch)
        1 where the number of ones up to this step is odd.

    Raises
    ------
    ValueError
        If a size is below 1.
    TypeError
        If a size is no integer or `rng` is no generator.

    Examples
    --------
    >>> x, targets = parity(T=5, batch=1, rng=np.random.default_rng(0))
    >>> x.ravel(), targets.ravel()
    (array([1., 1., 1., 0., 0.]), array([1, 0, 1, 1, 1]))
    """
    check_size(T=T, batch=batch)
    check_rng(rng)
    bits = rng.integers(2, size=(T, batch))
    return bits[..., None].astype(np.float64), bits.cumsum(axis=0) % 2


def echo(
    T: int, lag: int, batch: int, rng: np.random.Generator
) -> tuple[Array, IntArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Draw the echo task: repeat at every step the bit that came `lag` steps ago.

    Parameters
    ----------
    T : int
        Length of the stream.
    lag : int
        0 asks for the bit that is just being read.
    batch : int
    rng : numpy.random.Generator

    Returns
    -------
    x : ndarray, shape (T, batch, 1)
        Bits as −1.0 and 1.0.
    targets : ndarray of int, shape (T, batch)
        ``targets[t]`` is 1 where ``x[t - lag]`` is 1.0; 0 in the first `lag` steps.
    mask : ndarray of bool, shape (T, batch)
        False in the first `lag` steps, which have no answer.

    Raises
    ------
    ValueError
        If a size is too small.
    TypeError
        If a size is no integer or `rng` is no generator.

    Examples
    --------
    >>> x, targets, mask = echo(T=6, lag=2, batch=1, rng=np.random.default_rng(0))
    >>> x.ravel(), targets.ravel(), mask.ravel()[:3]
    (array([ 1.,  1.,  1., -1., -1., -1.]), array([0, 0, 1, 1, 1, 0]), array([False, False,  True]))
    """
    check_size(0, lag=lag)
    check_size(T=T, batch=batch)
    check_rng(rng)
    bits = rng.integers(2, size=(T, batch))
    targets = np.zeros_like(bits)
    targets[lag:] = bits[: max(T - lag, 0)]
    mask = np.broadcast_to((np.arange(T) >= lag)[:, None], bits.shape).copy()
    return 2.0 * bits[..., None] - 1.0, targets, mask


def mackey_glass(
    T: int,
    batch: int,
    rng: np.random.Generator,
    tau: float = 17.0,
    spacing: float = 1.0,
    substeps: int = 10,
) -> Array:
    """Integrate the Mackey–Glass equation [1]_, chaotic for ``tau`` above about 16.8.

    ``dx/dt = 0.2 x(t − tau) / (1 + x(t − tau)^10) − 0.1 x(t)``, by Heun's method. Each series
    starts at another random constant, and its first 500 time units are left out.

    Parameters
    ----------
    T : int
        Number of values.
    batch : int
        Number of series.
    rng : numpy.random.Generator
    tau : float, optional
        Delay; a whole number of integration steps.
    spacing : float, optional
        Time between two values.
    substeps : int, optional
        Integration steps from one value to the next.

    Returns
    -------
    ndarray, shape (T, batch, 1)

    Raises
    ------
    ValueError
        If a size is not positive or `tau` is not a whole number of integration steps.
    TypeError
        If a size is no integer or `rng` is no generator.

    References
    ----------
    .. [1] M. C. Mackey, L. Glass, "Oscillation and chaos in physiological control systems", Science
       197, 1977.

    Examples
    --------
    >>> y = mackey_glass(T=300, batch=2, rng=np.random.default_rng(0))
    >>> y.shape, bool(0.2 < y.min() < y.max() < 1.5)
    ((300, 2, 1), True)
    """
    check_size(T=T, batch=batch, substeps=substeps)
    check_rng(rng)
    check_positive("tau", tau)
    check_positive("spacing", spacing)
    dt = spacing / substeps
    lag = round(tau / dt)
    if lag < 1 or abs(lag * dt - tau) > 1e-9 * tau:
        raise ValueError(
            f"tau must be a whole number of integration steps of {dt}, but it is {tau}"
        )

    def slope(x: Array, delayed: Array) -> Array:
        return 0.2 * delayed / (1 + delayed**10) - 0.1 * x

    washout = round(500 / spacing) * substeps
    x = np.empty((lag + washout + T * substeps, batch))
    x[: lag + 1] = rng.uniform(0.5, 1.3, size=batch)  # the past of the first step
    for i in range(lag, len(x) - 1):
        k1 = slope(x[i], x[i - lag])
        k2 = slope(x[i] + dt * k1, x[i + 1 - lag])
        x[i + 1] = x[i] + dt * (k1 + k2) / 2
    return x[lag + washout :: substeps, :, None].copy()
