"""Does training open the gates of an LSTM that starts with them half closed?

An LSTM of 30 units learns delayed recall over 20 distractors, from a forget bias of 0, 1 or 3, with
800 updates. Before and after, the mean over 64 sequences of three quantities is taken along the 20
distractors: the forget gate (mean over units and steps), the direct path of the most retentive unit
(the product of its forget gates) and the norm of the whole derivative of the last cell by the cell
after the first symbol.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from rnncourse.bptt import cross_entropy_backward, readout_backward
from rnncourse.experiments import Experiment, load_experiment
from rnncourse.gates import lstm_forward, lstm_gates, lstm_step_backward
from rnncourse.rnn import cross_entropy, readout
from rnncourse.tasks import delayed_recall
from rnncourse.training import Adam, train

gated = sys.modules[load_experiment("horizon_gates").run.__module__]
DELAY, SEQUENCES, UNITS = 20, 64, gated.LSTM_UNITS
Array = np.ndarray[Any, Any]


def gate_and_gradient(params: dict[str, Array], seed: int) -> dict[str, float]:
    """Measure gates and derivatives along the distractors."""
    p = {name: params[name].astype(np.float64) for name in ("W_x", "W_h", "b")}
    x, _ = delayed_recall(DELAY, SEQUENCES, np.random.default_rng(1000 + seed), 2, 4)
    zero = np.zeros((SEQUENCES, UNITS))
    h, c = lstm_forward(x, zero, zero, **p)
    f = lstm_gates(x[1:], h[:-1], **p)[1]
    shown = lstm_gates(x[0], zero, **p)[3] * (1 - np.tanh(c[0]) ** 2)  # dh/dc after the symbol
    norms = []
    for b in range(8):
        dh: Array = np.zeros((UNITS, UNITS))
        dc: Array = np.eye(UNITS)  # one row for each unit of the last cell
        for t in reversed(range(1, DELAY + 1)):
            before = (np.tile(a[b], (UNITS, 1)) for a in (x[t], h[t - 1], c[t - 1]))
            _, dh, dc, *_ = lstm_step_backward(dh, dc, *before, **p)
        norms.append(np.linalg.norm(dc + dh * shown[b], 2))
    return {
        "forget": round(float(f.mean()), 4),
        "path": round(float(np.log10(f.prod(axis=0).mean(axis=0).max())), 3),
        "total": round(float(np.log10(np.median(norms))), 3),
    }


def run(seed: int, *, bias: float, updates: int = 800) -> dict[str, Any]:
    """Train one LSTM; return the measures before and after, and its accuracy."""
    rng = np.random.default_rng(seed)
    model = gated.LSTM(bias=bias)
    params = {name: p.astype(np.float32) for name, p in model.init(rng).items()}
    before = gate_and_gradient(params, seed)

    def loss_and_grads(params: dict[str, Array], batch: Any) -> tuple[float, dict[str, Array]]:
        x, y = batch
        h, cache = model.forward(params, x)
        logits = readout(h, params["W_hy"], params["b_y"])
        dh, dW_hy, db_y = readout_backward(cross_entropy_backward(logits, y), h, params["W_hy"])
        grads = model.backward(params, x, cache, dh) | {"W_hy": dW_hy, "b_y": db_y}
        return float(cross_entropy(logits, y)), grads

    batches = (_batch(32, rng) for _ in range(updates))
    params, _ = train(loss_and_grads, params, batches, Adam(3e-3), max_norm=1.0, progress=False)
    x, y = _batch(256, np.random.default_rng(2000 + seed))
    guess = readout(model.forward(params, x)[0], params["W_hy"], params["b_y"]).argmax(-1)
    after = gate_and_gradient(params, seed)
    return {"before": before, "after": after, "accuracy": float(np.mean(guess == y))}


def _batch(size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    x, y = delayed_recall(DELAY, size, rng, 2, 4)
    return x.astype(np.float32), y


EXPERIMENT = Experiment(
    run,
    configs={f"bias-{bias}": {"bias": float(bias)} for bias in (0, 1, 3)},
    seeds=range(10),
    reduced={"updates": 10},
    tolerance=2e-2,
)
