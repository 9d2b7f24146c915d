"""What a decoder reads: gold or own tokens; and how it chooses: greedy, sampling, beam search."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncourse._validation import (
    Array,
    IntArray,
    as_array,
    as_float,
    check_number,
    check_positive,
    check_rng,
    check_size,
)
from rnncourse.rnn import log_softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

AnyArray = np.ndarray[Any, np.dtype[Any]]
BatchStep = Callable[[IntArray, Any], tuple[Any, Any]]
TokenStep = Callable[[int, Any], tuple[Any, Any]]


def shift_right(y: ArrayLike, bos: float) -> AnyArray:
    """Return the decoder's inputs under teacher forcing: `bos`, then every target but the last.

    To predict ``y[t]`` the decoder reads ``y[t - 1]``. Reading ``y[t]`` would give the answer away.

    Parameters
    ----------
    y : ndarray, shape (T, ...)
        Targets, time first.
    bos : int or float
        What stands before the first target.

    Returns
    -------
    ndarray, shape (T, ...)
        A new array in the dtype of `y`.

    Raises
    ------
    ValueError
        If `y` has no time step.
    TypeError
        If the dtype of `y` cannot hold `bos`.

    Examples
    --------
    >>> shift_right(np.array([[5, 6], [7, 8], [9, 9]]), bos=0)
    array([[0, 0],
           [5, 6],
           [7, 8]])
    """
    y = as_array("y", y)
    check_number("bos", bos)
    if y.ndim < 1 or len(y) < 1:
        raise ValueError(f"y has shape {y.shape}, expected (T, ...) with T at least 1")
    if y.dtype.kind not in "biufc":
        raise TypeError(f"y must hold numbers, but its dtype is {y.dtype}")
    if y.dtype.kind in "iu":
        bounds = np.iinfo(y.dtype)
        if not (float(bos).is_integer() and bounds.min <= bos <= bounds.max):
            raise TypeError(f"bos must fit the dtype of y, {y.dtype}, but it is {bos}")
    return np.concatenate([np.full_like(y[:1], bos), y[:-1]])


def mix_inputs(
    gold: ArrayLike, predicted: ArrayLike, eps: float, rng: np.random.Generator
) -> AnyArray:
    """Mix gold and predicted inputs for scheduled sampling [1]_: one coin for every entry.

    This belongs to training. After training the decoder only ever reads its own predictions.

    Parameters
    ----------
    gold : ndarray
        Right inputs, of one step or of a whole batch of sequences.
    predicted : ndarray
        The model's own, in the same shape.
    eps : float
        Probability of the *gold* entry, as in [1]_: 1 is teacher forcing, 0 is free running.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray
        A new array.

    Raises
    ------
    ValueError
        If the shapes differ or `eps` is not in [0, 1].
    TypeError
        If `rng` is no generator or a parameter is no number.

    References
    ----------
    .. [1] S. Bengio, O. Vinyals, N. Jaitly, N. Shazeer, "Scheduled sampling for sequence prediction
       with recurrent neural networks", NeurIPS 2015.

    Examples
    --------
    >>> mix_inputs(np.zeros(6, int), np.ones(6, int), eps=0.5, rng=np.random.default_rng(0))
    array([1, 0, 0, 0, 1, 1])
    """
    gold, predicted = as_array("gold", gold), as_array("predicted", predicted)
    check_rng(rng)
    if gold.shape != predicted.shape:
        raise ValueError(
            f"predicted has shape {predicted.shape}, expected {gold.shape}, the shape of gold"
        )
    check_number("eps", eps)
    if not 0 <= eps <= 1:
        raise ValueError(f"eps must lie in [0, 1], but it is {eps}")
    return np.where(rng.random(gold.shape) < eps, gold, predicted)


def inverse_sigmoid(step: float, k: float) -> float:
    """Return the share of gold inputs after `step` updates: ``k / (k + exp(step / k))``.

    It falls from ``k / (k + 1)`` to 0 and passes 1/2 at ``step = k log k``.

    Parameters
    ----------
    step : float
        Number of updates so far, at least 0.
    k : float
        How slowly it falls, at least 1.

    Returns
    -------
    float
        In [0, 1).

    Raises
    ------
    ValueError
        If `step` is negative or `k` below 1.
    TypeError
        If a parameter is no number.

    References
    ----------
    S. Bengio, O. Vinyals, N. Jaitly, N. Shazeer, "Scheduled sampling for sequence prediction with
    recurrent neural networks", NeurIPS 2015.

    Examples
    --------
    >>> round(inverse_sigmoid(0, k=9.0), 4), inverse_sigmoid(1e9, k=9.0)
    (0.9, 0.0)
    """
    _check_schedule(step)
    check_number("k", k)
    if not k >= 1:
        raise ValueError(f"k must be at least 1, but it is {k}")
    exponent = min(step / k, 700.0)  # exp would overflow above 709
    return k / (k + math.exp(exponent)) if exponent < 700 else 0.0


def linear_decay(step: float, total: float, floor: float = 0.0) -> float:
    """Return the share of gold inputs on a straight line from 1 down to `floor` at step `total`.

    Parameters
    ----------
    step : float
        Number of updates so far, at least 0.
    total : float
        When the floor is reached.
    floor : float, optional
        In [0, 1].

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `step` is negative, `total` not positive, or `floor` not in [0, 1].
    TypeError
        If a parameter is no number.

    References
    ----------
    S. Bengio, O. Vinyals, N. Jaitly, N. Shazeer, "Scheduled sampling for sequence prediction with
    recurrent neural networks", NeurIPS 2015.

    Examples
    --------
    >>> linear_decay(25, total=100), linear_decay(500, total=100, floor=0.1)
    (0.75, 0.1)
    """
    _check_schedule(step)
    check_positive("total", total)
    check_number("floor", floor)
    if not 0 <= floor <= 1:
        raise ValueError(f"floor must lie in [0, 1], but it is {floor}")
    return max(floor, 1 - (1 - floor) * step / total)


def exponential_decay(step: float, k: float) -> float:
    """Return the share of gold inputs ``k ** step``.

    Parameters
    ----------
    step : float
        Number of updates so far, at least 0.
    k : float
        In (0, 1).

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `step` is negative or `k` not in (0, 1).
    TypeError
        If a parameter is no number.

    References
    ----------
    S. Bengio, O. Vinyals, N. Jaitly, N. Shazeer, "Scheduled sampling for sequence prediction with
    recurrent neural networks", NeurIPS 2015.

    Examples
    --------
    >>> exponential_decay(2, k=0.5)
    0.25
    """
    _check_schedule(step)
    check_number("k", k)
    if not 0 < k < 1:
        raise ValueError(f"k must lie in (0, 1), but it is {k}")
    return float(k**step)


def _check_schedule(step: float) -> None:
    check_number("step", step)
    if not step >= 0:
        raise ValueError(f"step must be at least 0, but it is {step}")


def free_run(step_fn: BatchStep, h0: Any, bos: int, steps: int) -> IntArray:
    """Let a decoder read its own predictions: greedy decoding of a batch, without a stop sign.

    Parameters
    ----------
    step_fn : callable
        ``(tokens (B,), h) -> (logits (B, V), h)``: one step of the decoder.
    h0 : ndarray, shape (B, H), or a tuple of such arrays
        State before `bos`; it is handed to `step_fn` as it is.
    bos : int
        First input of every sequence.
    steps : int
        Number of tokens to produce, at least 1.

    Returns
    -------
    ndarray of int, shape (steps, B)
        The predictions without `bos`. Among equal logits the lowest token wins.

    Raises
    ------
    ValueError
        If `steps` is below 1 or `bos` is negative.

    Examples
    --------
    >>> count_up = lambda tokens, h: (np.eye(4)[(tokens + 1) % 4], h)
    >>> free_run(count_up, np.zeros((2, 3)), bos=1, steps=4)[:, 0]
    array([2, 3, 0, 1])
    """
    tokens, h = _first_tokens(step_fn, h0, bos, steps), h0
    outputs = []
    for _ in range(steps):
        logits, h = step_fn(tokens, h)
        tokens = np.argmax(_check_logits(logits, tokens), axis=-1)
        outputs.append(tokens)
    return np.stack(outputs)


def _first_tokens(step_fn: BatchStep, h0: Any, bos: int, steps: int) -> IntArray:
    check_size(steps=steps)
    check_size(0, bos=bos)
    _check_callable(step_fn)
    first = as_array("h0", h0[0] if isinstance(h0, tuple) and h0 else h0)
    if first.ndim < 1 or not len(first):
        raise ValueError(
            f"h0 has shape {first.shape}, expected (B, H) or a tuple of such: its first axis "
            "says how many sequences to write"
        )
    return np.full(len(first), bos)


def _check_callable(step_fn: object) -> None:
    if not callable(step_fn):
        raise TypeError(
            "step_fn must be a function (tokens, state) -> (scores, new state), "
            f"but it is {step_fn!r}"
        )


def _check_logits(logits: ArrayLike, tokens: IntArray) -> Array:
    checked = as_float("step_fn's first result", logits)
    if checked.ndim != 2 or len(checked) != len(tokens) or not checked.size:
        raise ValueError(
            f"step_fn must return logits of shape (B, V) = ({len(tokens)}, V) first, "
            f"but it returned shape {checked.shape}"
        )
    if np.isnan(checked).any():
        raise ValueError("step_fn returned logits that hold NaN")
    return checked


def sample(
    logits: ArrayLike, temperature: float, top_k: int | None, rng: np.random.Generator
) -> IntArray | int:
    """Draw tokens from ``softmax(logits / temperature)``, restricted to the `top_k` best.

    Adding Gumbel noise and taking the argmax is a draw from the softmax, without computing it.

    Parameters
    ----------
    logits : ndarray, shape (V,) or (B, V)
    temperature : float
        Below 1 sharpens the distribution towards the argmax, above 1 flattens it.
    top_k : int or None
        Only the `top_k` largest logits keep a chance; so do those that tie with the last of them.
        None, or anything from V on, keeps all.
    rng : numpy.random.Generator

    Returns
    -------
    int, or ndarray of int of shape (B,)

    Raises
    ------
    ValueError
        If `temperature` is not positive, `top_k` is below 1, or no logit of a row is finite.
    TypeError
        If a size is no integer or `rng` is no generator.

    References
    ----------
    A. Fan, M. Lewis, Y. Dauphin, "Hierarchical neural story generation", ACL 2018 (top-k sampling).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sample(np.array([1.0, 3.0, 2.0]), temperature=1.0, top_k=1, rng=rng)
    1
    >>> sample(np.array([[1.0, 3.0, 2.0]] * 5), temperature=1.0, top_k=2, rng=rng)
    array([1, 1, 2, 1, 1])
    """
    logits = as_float("logits", logits)
    check_positive("temperature", temperature)
    if logits.ndim not in (1, 2) or not logits.size:
        raise ValueError(f"logits has shape {logits.shape}, expected (V,) or (B, V)")
    if not np.isfinite(logits.max(axis=-1)).all():
        raise ValueError("logits holds NaN, +inf or nothing but -inf in a row")
    if top_k is not None:
        check_size(top_k=top_k)
    check_rng(rng)
    if top_k is not None and top_k < logits.shape[-1]:
        smallest_kept = np.sort(logits, axis=-1)[..., -top_k, None]
        logits = np.where(logits >= smallest_kept, logits, -np.inf)
    scaled = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    tokens = np.argmax(scaled + rng.gumbel(size=scaled.shape), axis=-1)
    return int(tokens) if tokens.ndim == 0 else tokens


def free_sample(
    step_fn: BatchStep,
    h0: Any,
    bos: int,
    steps: int,
    temperature: float,
    top_k: int | None,
    rng: np.random.Generator,
) -> IntArray:
    """Let a decoder read what was drawn from its own predictions; see :func:`sample`.

    Parameters
    ----------
    step_fn, h0, bos, steps
        As for :func:`free_run`.
    temperature, top_k, rng
        As for :func:`sample`.

    Returns
    -------
    ndarray of int, shape (steps, B)

    Raises
    ------
    ValueError
        If `steps` or `top_k` is below 1, `temperature` is not positive or `bos` is negative.
    TypeError
        If `rng` is no generator.

    Examples
    --------
    >>> flat = lambda tokens, h: (np.zeros((len(tokens), 3)), h)
    >>> rng = np.random.default_rng(0)
    >>> free_sample(flat, np.zeros((2, 1)), 0, 4, temperature=1.0, top_k=None, rng=rng).shape
    (4, 2)
    """
    tokens, h = _first_tokens(step_fn, h0, bos, steps), h0
    outputs = []
    for _ in range(steps):
        logits, h = step_fn(tokens, h)
        tokens = np.asarray(sample(_check_logits(logits, tokens), temperature, top_k, rng))
        outputs.append(tokens)
    return np.stack(outputs)


def greedy(step_fn: TokenStep, bos: int, eos: int, max_len: int) -> tuple[list[int], float]:
    """Take the most probable token at every step: a beam of width 1.

    Parameters
    ----------
    step_fn, bos, eos, max_len
        As for :func:`beam_search`.

    Returns
    -------
    tokens : list of int
        Without `bos`; with `eos` unless `max_len` came first.
    log_prob : float
        Sum of the tokens' log-probabilities.

    Raises
    ------
    ValueError
        If `max_len` is below 1 or `step_fn` does not return log-probabilities.

    Examples
    --------
    >>> count_up = lambda token, state: (np.log(np.eye(4)[token + 1] * 0.96 + 0.01), state)
    >>> greedy(count_up, bos=0, eos=3, max_len=10)[0]
    [1, 2, 3]
    """
    _check_callable(step_fn)
    _check_search(bos, eos, width=1, max_len=max_len, alpha=0.0)
    tokens: list[int] = []
    total, token, state = 0.0, bos, None
    while len(tokens) < max_len and (not tokens or token != eos):
        scores, state = step_fn(token, state)
        log_p = _check_log_probs(scores)
        token = int(log_p.argmax())
        tokens.append(token)
        total += float(log_p[token])
    return tokens, total


def beam_search(
    step_fn: TokenStep, bos: int, eos: int, width: int, max_len: int, alpha: float
) -> tuple[list[int], float]:
    """Search for the sequence with the largest ``log p / length ** alpha``.

    Every step extends all live hypotheses by all tokens and keeps the `width` most probable
    extensions. Those that end in `eos` are complete and set aside; the others live on. A
    hypothesis of `max_len` tokens is complete as well. With `width` = 1 this is greedy decoding,
    with a width beyond all hypotheses an exhaustive search.

    Parameters
    ----------
    step_fn : callable
        ``(token, state) -> (log_probs (V,), state)`` for one hypothesis. The state is None at the
        first call and otherwise what the call before returned; `step_fn` must not modify it, since
        several hypotheses share it.
    bos, eos : int
        Tokens that begin and end a sequence.
    width : int
        Number of extensions kept at each step.
    max_len : int
        Largest number of tokens, `eos` included.
    alpha : float
        0 compares plain log-probabilities, which favours short sequences; 1 compares the mean per
        token. The length counts `eos`, not `bos`.

    Returns
    -------
    tokens : list of int
        Best complete hypothesis, without `bos`; with `eos` unless `max_len` came first.
    score : float
        Its ``log p / length ** alpha``.

    Raises
    ------
    ValueError
        If `width` or `max_len` is below 1, `alpha` is negative, or `step_fn` does not return
        log-probabilities.

    Notes
    -----
    Among equal scores the hypothesis that was ahead one step earlier wins, then the lower token;
    at the end, the shorter one.

    References
    ----------
    I. Sutskever, O. Vinyals, Q. V. Le, "Sequence to sequence learning with neural networks",
    NeurIPS 2014.

    Examples
    --------
    Greedy takes token 0 first, with probability 0.6, and must then take one of probability 0.5.

    >>> table = {None: [0.6, 0.4, 0.0], 0: [0.25, 0.25, 0.5], 1: [0.0, 0.0, 1.0]}
    >>> def step_fn(token, state):
    ...     with np.errstate(divide="ignore"):
    ...         return np.log(table[state if state is None else token]), "started"
    >>> for width in (1, 2):
    ...     tokens, score = beam_search(step_fn, bos=0, eos=2, width=width, max_len=5, alpha=0.0)
    ...     print(tokens, round(float(np.exp(score)), 2))
    [0, 2] 0.3
    [1, 2] 0.4
    """
    _check_callable(step_fn)
    _check_search(bos, eos, width, max_len, alpha)
    live: list[tuple[float, list[int], Any]] = [(0.0, [], None)]  # log p, tokens, state
    complete: list[tuple[float, list[int]]] = []  # score, tokens
    for length in range(1, max_len + 1):
        extended = []
        for log_p, tokens, state in live:
            scores, new_state = step_fn(tokens[-1] if tokens else bos, state)
            step_log_p = _check_log_probs(scores)
            for token in np.argsort(-step_log_p, kind="stable")[:width].tolist():
                extended.append((log_p + float(step_log_p[token]), [*tokens, token], new_state))
        extended.sort(key=lambda hypothesis: -hypothesis[0])  # stable: ties keep their order
        live = []
        for hypothesis in extended[:width]:
            log_p, tokens, _ = hypothesis
            if tokens[-1] == eos or length == max_len:
                complete.append((log_p / length**alpha, tokens))
            else:
                live.append(hypothesis)
        if not live:
            break
    score, tokens = max(complete, key=lambda candidate: candidate[0])
    return tokens, score


def _check_search(bos: int, eos: int, width: int, max_len: int, alpha: float) -> None:
    check_size(width=width, max_len=max_len)
    check_size(-(2**63), bos=bos, eos=eos)  # step_fn may give a meaning to any integer
    check_number("alpha", alpha)
    if not (alpha >= 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha must be at least 0, but it is {alpha}")


def _check_log_probs(log_probs: ArrayLike) -> Array:
    checked = as_float("step_fn's first result", log_probs)
    if checked.ndim != 1 or not checked.size or np.isnan(checked).any() or (checked > 1e-6).any():
        raise ValueError(
            f"step_fn must return log-probabilities of shape (V,), none above 0, but it returned "
            f"shape {checked.shape} with the largest entry {checked.max(initial=-np.inf):.3g}; "
            "apply rnncourse.rnn.log_softmax to logits"
        )
    return checked


def batch_of_one(step_fn: BatchStep, h0: Any) -> TokenStep:
    """Turn a decoder step on batches into the step on single tokens that the searches take.

    Parameters
    ----------
    step_fn : callable
        ``(tokens (B,), h) -> (logits (B, V), h)``.
    h0 : ndarray, shape (1, H), or a tuple of such arrays
        State before `bos`.

    Returns
    -------
    callable
        ``(token, state) -> (log_probs (V,), state)``.

    Examples
    --------
    >>> count_up = lambda tokens, h: (9.0 * np.eye(4)[(tokens + 1) % 4], h)
    >>> greedy(batch_of_one(count_up, np.zeros((1, 2))), bos=0, eos=3, max_len=9)[0]
    [1, 2, 3]
    """

    def step_one(token: int, state: Any) -> tuple[Array, Any]:
        logits, new_state = step_fn(np.array([token]), h0 if state is None else state)
        return log_softmax(logits)[0], new_state

    return step_one
