"""Which way of training makes a network a good free-running forecaster?

A vanilla network of 8, 16 or 48 units learns to predict the next value of a Mackey–Glass series
(delay 17, one value every 2 time units) from the one before. In training it reads, at each step
after a warm-up of 10, either the true value or its own prediction. The modes differ in the share
of true values, in how that share falls, in whether a coin is thrown per value or per sequence, and
in whether the gradient passes through a prediction that is fed back. The score
is the squared error on held-out series, with true inputs one step ahead, and free-running up to
50 steps after a warm-up of 50.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncourse.bptt import rnn_step_backward
from rnncourse.decoding import exponential_decay, inverse_sigmoid, linear_decay
from rnncourse.experiments import Experiment
from rnncourse.initialization import orthogonal
from rnncourse.rnn import init_params, rnn_step
from rnncourse.tasks import mackey_glass
from rnncourse.training import Adam, train

BATCH, WARM_UP, LENGTH = 32, 10, 60
TEST_WARM_UP, HORIZON, RATE = 50, 50, 3e-3

Array = np.ndarray[Any, Any]
Params = dict[str, Array]


def roll(params: Params, y: Array, own: Array) -> tuple[Array, Array, Array]:
    """Predict ``y[1:]`` step by step; where `own` is True, read the last prediction instead of y.

    Returns inputs (T, B, 1), states (T + 1, B, H) and predictions (T, B, 1).
    """
    T, B = len(y) - 1, y.shape[1]
    x, pred = np.empty((T, B, 1)), np.empty((T, B, 1))
    h = np.zeros((T + 1, B, len(params["W_hh"])))
    for t in range(T):
        x[t] = np.where(own[t], pred[t - 1], y[t]) if t else y[0]
        h[t + 1] = rnn_step(x[t], h[t], params["W_xh"], params["W_hh"], params["b_h"])
        pred[t] = h[t + 1] @ params["W_hy"].T + params["b_y"]
    return x, h, pred


def roll_backward(
    params: Params, x: Array, h: Array, dpred: Array, own: Array, through: bool
) -> Params:
    """Gradients of :func:`roll`; `through` lets them pass the predictions that were fed back."""
    grads = {name: np.zeros_like(p) for name, p in params.items()}
    dh, dfed_back = np.zeros_like(h[0]), np.zeros_like(dpred[0])
    for t in reversed(range(len(x))):
        d = dpred[t] + dfed_back
        grads["W_hy"] += d.T @ h[t + 1]
        grads["b_y"] += d.sum(axis=0)
        dx, dh, dW_xh, dW_hh, db_h = rnn_step_backward(
            dh + d @ params["W_hy"], x[t], h[t], h[t + 1], params["W_xh"], params["W_hh"]
        )
        for name, g in (("W_xh", dW_xh), ("W_hh", dW_hh), ("b_h", db_h)):
            grads[name] += g
        dfed_back = dx * own[t] if through and t else np.zeros_like(dx)
    return grads


def run(
    seed: int,
    *,
    hidden: int,
    start: float = 1.0,
    end: float = 1.0,
    through: bool = True,
    noise: float = 0.0,
    schedule: str = "linear",
    coin: str = "value",
    updates: int = 1500,
) -> dict[str, Any]:
    """Train with a share of true inputs that falls from `start` to `end`.

    The linear schedule takes 60 % of training; the others are half way at the same update.
    """
    rng = np.random.default_rng(seed)
    scale, centre = 0.23, 0.93  # bring the series to about zero mean and unit variance
    train_y = (
        mackey_glass(600, 16, np.random.default_rng(1000 + seed), spacing=2.0) - centre
    ) / scale
    test_y = (mackey_glass(120, 64, np.random.default_rng(7), spacing=2.0) - centre) / scale
    params = init_params(1, hidden, 1, rng)
    params["W_hh"] = orthogonal(hidden, 0.9, rng)

    adam = Adam(RATE)

    half = 0.3 * updates

    def falling(step: int) -> float:
        if schedule == "exponential":
            return exponential_decay(step, 0.5 ** (1 / half))
        if schedule == "inverse-sigmoid":
            return inverse_sigmoid(step, half / np.log(half / np.log(half / np.log(half))))
        return linear_decay(step, 2 * half)

    def batch(step: int) -> tuple[Array, float]:
        adam.lr = RATE * linear_decay(step, updates, floor=0.03)
        starts = rng.integers(0, len(train_y) - LENGTH, BATCH)
        rows = np.arange(LENGTH)[:, None] + starts
        share = end + (start - end) * falling(step)
        return train_y[rows, rng.integers(0, train_y.shape[1], BATCH)], share

    def loss_and_grads(params: Params, item: tuple[Array, float]) -> tuple[float, Params]:
        y, share = item
        coins = rng.random((LENGTH - 1 if coin == "value" else 1, BATCH, 1))
        own = np.repeat(coins >= share, (LENGTH - 1) // len(coins), axis=0)
        own[: WARM_UP + 1] = False
        inputs = y + noise * rng.standard_normal(y.shape) if noise else y
        x, h, pred = roll(params, inputs, own)
        error = (pred - y[1:])[WARM_UP:]
        dpred = np.zeros_like(pred)
        dpred[WARM_UP:] = 2 * error / error.size
        return float((error**2).mean()), roll_backward(params, x, h, dpred, own, through)

    params, _ = train(
        loss_and_grads, params, map(batch, range(updates)), adam, max_norm=1.0, progress=False
    )
    y = test_y[: TEST_WARM_UP + HORIZON + 1]
    own = np.zeros((len(y) - 1, y.shape[1], 1), bool)
    forced = roll(params, y, own)[2] - y[1:]
    own[TEST_WARM_UP:] = True
    free = roll(params, y, own)[2] - y[1:]
    return {
        "one_step": float((forced[TEST_WARM_UP:] ** 2).mean()),
        "free": (free[TEST_WARM_UP - 1 :] ** 2).mean(axis=(1, 2)),
        "variance": float(test_y.var()),
    }


MODES: dict[str, dict[str, Any]] = {
    "teacher-forcing": {},
    "teacher-forcing-noise": {"noise": 0.05},
    "scheduled": {"end": 0.0},
    "scheduled-detached": {"end": 0.0, "through": False},
    "free-running": {"start": 0.0, "end": 0.0},
}

VARIANTS: dict[str, dict[str, Any]] = {
    "always-75": {"start": 0.75, "end": 0.75},
    "always-50": {"start": 0.5, "end": 0.5},
    "always-25": {"start": 0.25, "end": 0.25},
    "exponential": {"end": 0.0, "schedule": "exponential"},
    "inverse-sigmoid": {"end": 0.0, "schedule": "inverse-sigmoid"},
    "coin-per-sequence": {"end": 0.0, "coin": "sequence"},
}

EXPERIMENT = Experiment(
    run,
    configs={
        f"{mode}-{hidden}": {"hidden": hidden, **parameters}
        for hidden in (8, 16, 48)
        for mode, parameters in MODES.items()
    }
    | {f"{name}-16": {"hidden": 16, **parameters} for name, parameters in VARIANTS.items()},
    seeds=range(5),
    reduced={"updates": 20},
    tolerance=5e-3,
)
