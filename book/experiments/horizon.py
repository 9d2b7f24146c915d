"""How far back can a recurrent network learn to remember?

The task is delayed recall: a symbol A or B, then `delay` distractors out of four other symbols, and
at the end the question which of the two it was. One network of 64 units is trained per delay and
seed, on fresh batches of 32 sequences. A run counts as solved at the first check, one every 25
updates, at which the network answers at least 95 % of 256 sequences correctly; chance is 50 %. The
criterion is a peak: it asks whether training finds the memory, not whether it keeps it.

A further architecture is one class with the methods of `Cell`, entered into `CELLS`, and its
configurations added to `CONFIGS`; results that are stored already stay valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rnncourse.bptt import cross_entropy_backward, readout_backward
from rnncourse.experiments import Experiment
from rnncourse.initialization import identity, orthogonal, scaled_gaussian
from rnncourse.rnn import cross_entropy, init_params, readout
from rnncourse.tasks import delayed_recall
from rnncourse.training import SGD, Adam, train

CLASSES, DISTRACTORS, HIDDEN, BATCH = 2, 4, 64, 32
D = CLASSES + DISTRACTORS
CHECK_EVERY, CHECK_SIZE, SOLVED = 25, 256, 0.95

Array = np.ndarray[Any, Any]
Params = dict[str, Array]


class Cell(Protocol):
    """A recurrent architecture, seen from the task: x goes in, the last state comes out."""

    def init(self, rng: np.random.Generator) -> Params:
        """Draw the parameters of the recurrence."""

    def forward(self, params: Params, x: Array) -> tuple[Array, Any]:
        """Return the last state, (B, H), and what the backward pass needs."""

    def backward(self, params: Params, x: Array, cache: Any, dh: Array) -> Params:
        """Return the gradients, given that of the last state."""


@dataclass(frozen=True)
class RNN:
    """``h_t = (1 − α) h_{t−1} + α φ(W_xh x_t + W_hh h_{t−1} + W_skip h_{t−s} + b_h)``.

    α = 1 without `skip` is the vanilla network; α < 1 is the leaky one; `skip` = s > 0 adds a
    connection over s steps. `init` sets W_hh and leaves the rest at PyTorch's default.
    """

    start: str = "default"
    gain: float = 1.0
    relu: bool = False
    alpha: float = 1.0
    skip: int = 0

    def init(self, rng: np.random.Generator) -> Params:
        params = init_params(D, HIDDEN, CLASSES, rng)
        if self.start == "orthogonal":
            params["W_hh"] = orthogonal(HIDDEN, self.gain, rng)
        elif self.start == "gaussian":
            params["W_hh"] = scaled_gaussian(HIDDEN, self.gain, rng)
        elif self.start == "identity":
            params["W_hh"], params["b_h"] = identity(HIDDEN, self.gain), np.zeros(HIDDEN)
        elif self.start != "default":
            raise ValueError(f"start is {self.start!r}")
        if self.skip:
            params["W_skip"] = init_params(D, HIDDEN, CLASSES, rng)["W_hh"]
        return params

    def forward(self, params: Params, x: Array) -> tuple[Array, Any]:
        T, B, _ = x.shape
        a = x @ params["W_xh"].T + params["b_h"]
        h = np.zeros((T + 1, B, HIDDEN), x.dtype)  # h[t + 1] is the state after x[t]
        out = np.empty_like(a)
        for t in range(T):
            a[t] += h[t] @ params["W_hh"].T
            if self.skip and t + 1 >= self.skip:
                a[t] += h[t + 1 - self.skip] @ params["W_skip"].T
            out[t] = np.maximum(a[t], 0) if self.relu else np.tanh(a[t])
            h[t + 1] = (1 - self.alpha) * h[t] + self.alpha * out[t]
        return h[-1], (h, out)

    def backward(self, params: Params, x: Array, cache: Any, dh: Array) -> Params:
        h, out = cache
        T = len(x)
        slope = out > 0 if self.relu else 1 - out**2
        da, dh_all = np.empty_like(out), np.zeros_like(h)
        dh_all[-1] = dh
        for t in reversed(range(T)):
            da[t] = self.alpha * slope[t] * dh_all[t + 1]
            dh_all[t] += (1 - self.alpha) * dh_all[t + 1] + da[t] @ params["W_hh"]
            if self.skip and t + 1 >= self.skip:
                dh_all[t + 1 - self.skip] += da[t] @ params["W_skip"]
        grads = {"W_xh": _sum_outer(da, x), "W_hh": _sum_outer(da, h[:-1]), "b_h": da.sum((0, 1))}
        if self.skip:
            grads["W_skip"] = _sum_outer(da[self.skip - 1 :], h[: T + 1 - self.skip])
        return grads


CELLS: dict[str, type[Cell]] = {"rnn": RNN}


def run(
    seed: int,
    *,
    delay: int,
    cell: str = "rnn",
    optimizer: str = "sgd",
    lr: float = 0.1,
    max_norm: float | None = 1.0,
    updates: int = 1500,
    **options: Any,
) -> dict[str, Any]:
    """Train one network and say whether and when it solved the task."""
    rng = np.random.default_rng([seed, delay])
    model = CELLS[cell](**options)
    initial = model.init(rng)
    if "W_hy" not in initial:
        # the read-out of init_params; a cell may bring its own
        initial |= {k: v for k, v in init_params(D, HIDDEN, CLASSES, rng).items() if "y" in k}
    params = {name: p.astype(np.float32) for name, p in initial.items()}
    check_x, check_y = _batch(delay, CHECK_SIZE, np.random.default_rng(delay))

    def loss_and_grads(params: Params, batch: Any) -> tuple[float, Params]:
        x, y = batch
        h, cache = model.forward(params, x)
        logits = readout(h, params["W_hy"], params["b_y"])
        dh, dW_hy, db_y = readout_backward(cross_entropy_backward(logits, y), h, params["W_hy"])
        grads = model.backward(params, x, cache, dh) | {"W_hy": dW_hy, "b_y": db_y}
        return float(cross_entropy(logits, y)), grads

    accuracies = []

    def solved(step: int, params: Params) -> bool:
        if step % CHECK_EVERY:
            return False
        h, _ = model.forward(params, check_x)
        guess = readout(h, params["W_hy"], params["b_y"]).argmax(-1)
        accuracies.append(float(np.mean(guess == check_y)))
        return accuracies[-1] >= SOLVED

    rule = SGD(lr, momentum=0.9) if optimizer == "sgd" else Adam(lr)
    batches = (_batch(delay, BATCH, rng) for _ in range(updates))
    _, history = train(
        loss_and_grads, params, batches, rule, max_norm=max_norm, callback=solved, progress=False
    )
    return {
        "solved": bool(accuracies and accuracies[-1] >= SOLVED),
        "accuracy": max(accuracies, default=0.0),
        "updates": len(history.loss),
        "first_loss": history.loss[0],
        "norm_median": float(np.median(history.norm)),
        "norm_max": max(history.norm),
        "clipped_share": history.clipped_share,
    }


def _batch(delay: int, size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    x, y = delayed_recall(delay, size, rng, CLASSES, DISTRACTORS)
    return x.astype(np.float32), y


def _sum_outer(da: Array, inputs: Array) -> Array:
    """Sum the outer products of two sequences over time and batch."""
    return da.reshape(-1, da.shape[-1]).T @ inputs.reshape(-1, inputs.shape[-1])


RECIPES: dict[str, tuple[dict[str, Any], list[int]]] = {
    "default-sgd": ({}, [8, 10, 12, 14, 16, 18, 20, 25, 30]),
    "default-adam": ({"optimizer": "adam", "lr": 1e-3}, [10, 20, 30, 40, 50]),
    "default-adam-fast": ({"optimizer": "adam", "lr": 3e-3}, [20, 30, 50, 75]),
    "orthogonal-sgd": ({"start": "orthogonal"}, [10, 20, 50, 100, 200]),
    "gaussian-sgd": ({"start": "gaussian"}, [10, 20, 50, 100]),
    "irnn-adam": (
        {"start": "identity", "relu": True, "optimizer": "adam", "lr": 1e-3},
        [10, 20, 50, 100, 200],
    ),
    "leaky-sgd": ({"alpha": 0.1}, [10, 20, 50, 75]),
    "skip-sgd": ({"skip": 10}, [10, 20, 50, 100, 200]),
    "skip-2-sgd": ({"skip": 2}, [20, 30, 50, 100, 200]),
    "skip-5-sgd": ({"skip": 5}, [20, 50, 100, 200]),
    "skip-20-sgd": ({"skip": 20}, [20, 50, 100, 200]),
}

CONFIGS = {
    f"{name}-{delay}": {"delay": delay, **parameters}
    for name, (parameters, delays) in RECIPES.items()
    for delay in delays
}

EXPERIMENT = Experiment(
    run, configs=CONFIGS, seeds=range(10), reduced={"updates": 20}, tolerance=5e-3
)
