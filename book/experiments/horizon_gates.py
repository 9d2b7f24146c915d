"""How far back can a gated network of the same size learn to remember?

Task, optimiser family and criterion are those of the experiment `horizon`. The gated networks have
as many parameters as the vanilla network of 64 units there: an LSTM of 30 units and a GRU of 35.
The LSTM starts with its forget bias at 0, 1 or 3, or with chrono biases for the delay at hand; the
GRU starts as PyTorch's or with chrono biases for its update gate.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnncourse.experiments import Experiment, load_experiment
from rnncourse.fused import gru_backward, gru_forward, lstm_backward, lstm_forward
from rnncourse.gates import init_gru_params, init_lstm_params
from rnncourse.initialization import chrono, chrono_gru, forget_bias

horizon = sys.modules[load_experiment("horizon").run.__module__]
Array, Params = np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]
LSTM_UNITS, GRU_UNITS = 30, 35


def readout_params(units: int, rng: np.random.Generator) -> Params:
    """Draw a read-out from `units` states, as PyTorch does."""
    bound = units**-0.5
    classes = horizon.CLASSES
    return {
        "W_hy": rng.uniform(-bound, bound, (classes, units)),
        "b_y": rng.uniform(-bound, bound, classes),
    }


@dataclass(frozen=True)
class LSTM:
    """An LSTM; `bias` is the forget bias, or a delay with `open_for` for chrono biases."""

    bias: float = 0.0
    open_for: int = 0

    def init(self, rng: np.random.Generator) -> Params:
        params = init_lstm_params(horizon.D, LSTM_UNITS, rng)
        params["b"] = (
            chrono(params["b"], self.open_for, rng)
            if self.open_for
            else forget_bias(params["b"], self.bias)
        )
        return params | readout_params(LSTM_UNITS, rng)

    def forward(self, params: Params, x: Array) -> tuple[Array, Any]:
        zero = np.zeros((x.shape[1], LSTM_UNITS), x.dtype)
        h, c, gates = lstm_forward(x, zero, zero, params["W_x"], params["W_h"], params["b"])
        return h[-1], (zero, h, c, gates)

    def backward(self, params: Params, x: Array, cache: Any, dh_last: Array) -> Params:
        zero, h, c, gates = cache
        dh = np.zeros_like(h)
        dh[-1] = dh_last
        *_, dW_x, dW_h, db = lstm_backward(
            dh, x, zero, zero, h, c, gates, params["W_x"], params["W_h"]
        )
        return {"W_x": dW_x, "W_h": dW_h, "b": db}


@dataclass(frozen=True)
class GRU:
    """A GRU; with `open_for` its update gate gets chrono biases."""

    open_for: int = 0

    def init(self, rng: np.random.Generator) -> Params:
        params = init_gru_params(horizon.D, GRU_UNITS, rng)
        if self.open_for:
            params["b_x"] = chrono_gru(params["b_x"], self.open_for, rng)
        return params | readout_params(GRU_UNITS, rng)

    def forward(self, params: Params, x: Array) -> tuple[Array, Any]:
        zero = np.zeros((x.shape[1], GRU_UNITS), x.dtype)
        weights = (params[name] for name in ("W_x", "W_h", "b_x", "b_h"))
        h, gates = gru_forward(x, zero, *weights)
        return h[-1], (zero, h, gates)

    def backward(self, params: Params, x: Array, cache: Any, dh_last: Array) -> Params:
        zero, h, gates = cache
        dh = np.zeros_like(h)
        dh[-1] = dh_last
        *_, dW_x, dW_h, db_x, db_h = gru_backward(
            dh, x, zero, h, gates, params["W_x"], params["W_h"]
        )
        return {"W_x": dW_x, "W_h": dW_h, "b_x": db_x, "b_h": db_h}


horizon.CELLS |= {"lstm": LSTM, "gru": GRU}


def run(seed: int, **parameters: Any) -> dict[str, Any]:
    """Train one gated network and say whether and when it solved the task."""
    result: dict[str, Any] = horizon.run(seed, **parameters)
    return result


ADAM = {"optimizer": "adam", "lr": 3e-3, "updates": 800}
RECIPES: dict[str, tuple[dict[str, Any], list[int]]] = {
    "lstm-bias-0": ({"cell": "lstm", "bias": 0.0}, [10, 20, 50]),
    "lstm-bias-1": ({"cell": "lstm", "bias": 1.0}, [10, 20, 50, 100]),
    "lstm-bias-3": ({"cell": "lstm", "bias": 3.0}, [20, 50, 100, 200]),
    "lstm-chrono": ({"cell": "lstm", "open_for": True}, [20, 50, 100, 200]),
    "gru": ({"cell": "gru"}, [10, 20, 50]),
    "gru-chrono": ({"cell": "gru", "open_for": True}, [20, 50, 100, 200]),
}


def _config(parameters: dict[str, Any], delay: int) -> dict[str, Any]:
    opened = {"open_for": delay} if parameters.get("open_for") else {}
    return {"delay": delay, **ADAM, **parameters, **opened}


EXPERIMENT = Experiment(
    run,
    configs={
        f"{name}-{delay}": _config(parameters, delay)
        for name, (parameters, delays) in RECIPES.items()
        for delay in delays
    },
    seeds=range(10),
    reduced={"updates": 10},
    tolerance=5e-3,
)
