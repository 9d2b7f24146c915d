"""Optimisers on dicts of arrays, and a training loop that clips and says what clipping did."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from rnncourse._validation import (
    Array,
    as_finite,
    as_floats,
    check_alike,
    check_keys,
    check_number,
    check_positive,
)
from rnncourse.clipping import clip_by_global_norm, global_norm
from rnncourse.rnn import Params

Batch = TypeVar("Batch")


class Optimizer(Protocol):
    """Anything that turns parameters and gradients into new parameters."""

    def step(self, params: Mapping[str, Array], grads: Mapping[str, Array]) -> Params:
        """Return the parameters after one update; `params` itself stays as it is."""


def _check_pairs(
    params: Mapping[str, Array], grads: Mapping[str, Array], state: Mapping[str, Array]
) -> dict[str, tuple[Array, Array]]:
    """Check that gradients fit the parameters and what the optimizer remembers; return pairs."""
    params, grads = as_floats("params", params), as_finite("grads", grads)
    check_alike(params=params, grads=grads)
    for name, p in params.items():
        if name in state and state[name].shape != p.shape:
            raise ValueError(
                f"params[{name!r}] has shape {p.shape}, but the optimizer has stepped one of shape "
                f"{state[name].shape} before: make a new optimizer for another model"
            )
    return {name: (p, grads[name]) for name, p in params.items()}


def _check_decay(name: str, value: float) -> None:
    check_number(name, value)
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), but it is {value}")


@dataclass
class SGD:
    """Gradient descent, with Polyak's momentum [1]_ if asked for.

    The velocity is ``v ← momentum · v + g`` and the update ``p ← p − lr · v``, as in
    ``torch.optim.SGD``; without momentum it is plain gradient descent.

    Parameters
    ----------
    lr : float
        Learning rate.
    momentum : float, optional
        Share of the velocity that survives a step, in [0, 1).

    Raises
    ------
    ValueError
        If `lr` is not positive or `momentum` is not in [0, 1).

    References
    ----------
    .. [1] B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR
       Computational Mathematics and Mathematical Physics 4(5), 1964.

    Examples
    --------
    >>> sgd = SGD(lr=0.1, momentum=0.5)
    >>> params = sgd.step({"w": np.array([1.0])}, {"w": np.array([2.0])})
    >>> sgd.step(params, {"w": np.array([0.0])})
    {'w': array([0.7])}
    """

    lr: float
    momentum: float = 0.0
    velocity: Params = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_positive("lr", self.lr)
        _check_decay("momentum", self.momentum)

    def step(self, params: Mapping[str, Array], grads: Mapping[str, Array]) -> Params:
        """Return new parameters.

        Parameters
        ----------
        params, grads : dict of ndarray
            With the same keys and shapes.

        Returns
        -------
        dict of ndarray

        Raises
        ------
        ValueError
            If keys or shapes differ, also from those of earlier steps, or a gradient holds NaN
            or infinity.

        Examples
        --------
        >>> SGD(lr=0.5).step({"w": np.array([1.0])}, {"w": np.array([4.0])})
        {'w': array([-1.])}
        """
        pairs = _check_pairs(params, grads, self.velocity)
        for name, (_, g) in pairs.items():
            self.velocity[name] = self.momentum * self.velocity.get(name, np.zeros_like(g)) + g
        return {name: p - self.lr * self.velocity[name] for name, (p, _) in pairs.items()}


@dataclass
class Adam:
    """Adam [1]_: steps of about `lr` per parameter, whatever the scale of its gradient.

    Keeps running means m of the gradient and v of its square, both corrected for their start at
    zero, and updates ``p ← p − lr · m̂ / (√v̂ + eps)``.

    Parameters
    ----------
    lr : float, optional
        Learning rate.
    beta1, beta2 : float, optional
        Decay of m and of v, in [0, 1).
    eps : float, optional
        Keeps the denominator away from zero.

    Raises
    ------
    ValueError
        If `lr` or `eps` is not positive, or a decay is not in [0, 1).

    References
    ----------
    .. [1] D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.

    Examples
    --------
    >>> adam = Adam(lr=0.1)
    >>> adam.step({"w": np.array([1.0, 1.0])}, {"w": np.array([1e-3, -1e3])})["w"].round(4)
    array([0.9, 1.1])
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    steps: int = field(default=0, init=False)
    m: Params = field(default_factory=dict, init=False, repr=False)
    v: Params = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_positive("lr", self.lr)
        check_positive("eps", self.eps)
        _check_decay("beta1", self.beta1)
        _check_decay("beta2", self.beta2)

    def step(self, params: Mapping[str, Array], grads: Mapping[str, Array]) -> Params:
        """Return new parameters.

        Parameters
        ----------
        params, grads : dict of ndarray
            With the same keys and shapes.

        Returns
        -------
        dict of ndarray

        Raises
        ------
        ValueError
            If keys or shapes differ, also from those of earlier steps, or a gradient holds NaN
            or infinity.

        Examples
        --------
        >>> Adam(lr=0.5).step({"w": np.array([1.0])}, {"w": np.array([4.0])})["w"].round(4)
        array([0.5])
        """
        pairs = _check_pairs(params, grads, self.m)
        self.steps += 1
        new: Params = {}
        for name, (p, g) in pairs.items():
            m = self.beta1 * self.m.get(name, np.zeros_like(g)) + (1 - self.beta1) * g
            v = self.beta2 * self.v.get(name, np.zeros_like(g)) + (1 - self.beta2) * g**2
            m_hat = m / (1 - self.beta1**self.steps)
            v_hat = v / (1 - self.beta2**self.steps)
            new[name] = p - self.lr * m_hat / (np.sqrt(v_hat) + self.eps)
            self.m[name], self.v[name] = m, v
        return new


@dataclass
class History:
    """What a training run looked like, one entry per update.

    Attributes
    ----------
    loss : list of float
    norm : list of float
        Global gradient norm *before* clipping.
    clipped : list of bool
        Whether that norm was above the limit.

    Examples
    --------
    >>> History(loss=[2.0, 1.0], norm=[0.5, 8.0], clipped=[False, True]).clipped_share
    0.5
    """

    loss: list[float] = field(default_factory=list)
    norm: list[float] = field(default_factory=list)
    clipped: list[bool] = field(default_factory=list)

    @property
    def clipped_share(self) -> float:
        """Share of the updates that were clipped; 0 before the first one."""
        return sum(self.clipped) / max(len(self.clipped), 1)


def train(
    loss_and_grads: Callable[[Params, Batch], tuple[float, Mapping[str, Array]]],
    params: Mapping[str, Array],
    batches: Iterable[Batch],
    optimizer: Optimizer,
    *,
    max_norm: float | None = None,
    callback: Callable[[int, Params], object] | None = None,
    progress: bool = True,
) -> tuple[Params, History]:
    """Train on every batch once: gradient, log its norm, clip, update, in this order.

    Parameters
    ----------
    loss_and_grads : callable
        ``(params, batch) -> (loss, grads)``. A state carried from batch to batch lives in there.
    params : dict of ndarray
        Start values; they are not modified.
    batches : iterable
        One item per update. An endless iterable needs a `callback` that ends it.
    optimizer : SGD, Adam or alike
    max_norm : float, optional
        Limit of the global norm; no clipping without it.
    callback : callable, optional
        Called as ``callback(step, params)`` after every update, `step` from 1; training ends when
        it returns True.
    progress : bool, optional
        Show a progress bar with loss, norm and share of clipped steps on standard error.

    Returns
    -------
    params : dict of ndarray
    history : History

    Raises
    ------
    ValueError
        If `max_norm` is not positive, keys or shapes differ, a loss is NaN, or a gradient holds NaN
        or infinity.

    Examples
    --------
    >>> def loss_and_grads(params, target):
    ...     error = params["w"] - target
    ...     return float((error**2).sum()), {"w": 2 * error}
    >>> params, history = train(
    ...     loss_and_grads,
    ...     {"w": np.zeros(2)},
    ...     [np.ones(2)] * 50,
    ...     SGD(0.1),
    ...     max_norm=1.0,
    ...     progress=False,
    ... )
    >>> params["w"].round(3), history.norm[0] > 1.0, 0 < history.clipped_share < 1
    (array([1., 1.]), True, True)
    """
    if max_norm is not None:
        check_positive("max_norm", max_norm)
    check_keys("params", params)
    params, history = dict(params), History()
    bar = progress_bar(batches) if progress else None
    for step, batch in enumerate(batches if bar is None else bar, start=1):
        loss, grads = loss_and_grads(params, batch)
        if np.isnan(loss):
            raise ValueError(f"the loss of update {step} is NaN; look for its cause")
        grads = as_finite("grads", grads)
        norm = global_norm(grads)
        if max_norm is not None:
            grads, _ = clip_by_global_norm(grads, max_norm)
        params = optimizer.step(params, grads)
        history.loss.append(float(loss))
        history.norm.append(norm)
        history.clipped.append(max_norm is not None and norm > max_norm)
        if bar is not None:
            bar.set_postfix(loss=loss, norm=norm, clipped=history.clipped_share, refresh=False)
        if callback is not None and callback(step, params) is True:
            break
    if bar is not None:
        bar.close()
    return params, history


def progress_bar(items: Iterable[Batch]) -> Any:
    """Wrap an iterable in a progress bar: tqdm where it is installed, plain lines elsewhere.

    Parameters
    ----------
    items : iterable

    Returns
    -------
    tqdm.tqdm or PlainProgress
        Iterates over `items`, with ``set_postfix(**numbers)`` and ``close()``.

    Examples
    --------
    >>> bar = progress_bar(range(3))
    >>> list(bar)
    [0, 1, 2]
    """
    try:
        from tqdm import tqdm
    except ImportError:
        return PlainProgress(items)
    return tqdm(items, unit="step", mininterval=0.5)


class PlainProgress:
    """A progress display that needs nothing: about ten lines on standard error.

    Parameters
    ----------
    items : iterable

    Examples
    --------
    >>> list(PlainProgress("abc"))
    ['a', 'b', 'c']
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = items
        self.total = len(items) if isinstance(items, Sized) else None
        self.numbers: dict[str, float] = {}
        self.done = 0
        self.printed = 0

    def __iter__(self) -> Iterator[Any]:
        every = max(1, (self.total or 1000) // 10)
        for item in self.items:
            self.done += 1
            yield item
            if self.done % every == 0:
                self._print()

    def set_postfix(self, *, refresh: bool = True, **numbers: float) -> None:
        """Set the numbers that the next line shows.

        Parameters
        ----------
        refresh : bool, optional
            Taken for compatibility with tqdm; lines come at their own pace.
        **numbers : float
        """
        self.numbers = numbers

    def close(self) -> None:
        """Print the last state unless it stands there already."""
        if self.done != self.printed:
            self._print()

    def _print(self) -> None:
        of_total = f"/{self.total}" if self.total else ""
        numbers = "".join(f", {name} {value:.3g}" for name, value in self.numbers.items())
        print(f"step {self.done}{of_total}{numbers}", file=sys.stderr)
        self.printed = self.done
