"""Does a network that was trained at one length work at another?

The task is delayed recall, as in the experiment `horizon`: name the first symbol, A or B, after
some distractors. Each network sees 600 batches. The delays of its training are always 20, or drawn
per batch from an interval. Afterwards it reads one long sequence, and its answer is asked for at
every step: since the state after t distractors does not know how many will follow, one pass gives
the accuracy at all delays. Besides the accuracy the mean margin is kept: the logit of the right
symbol minus that of the wrong one; and, at the delays 20, 40, 60 and 640, the logarithm of the
largest entry of a state.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from rnncourse.bptt import cross_entropy_backward, readout_backward
from rnncourse.experiments import Experiment, load_experiment
from rnncourse.rnn import cross_entropy, init_params, readout
from rnncourse.tasks import delayed_recall
from rnncourse.training import Adam, train

load_experiment("horizon_gates")  # enters the gated cells into the table of cells
horizon = sys.modules[load_experiment("horizon").run.__module__]
gates = sys.modules[load_experiment("horizon_gates").run.__module__]

Array = np.ndarray[Any, Any]
DENSE, FAR, TEST = range(1, 61), (80, 160, 320, 640), 256


def run(
    seed: int,
    *,
    delays: tuple[int, int],
    cell: str = "rnn",
    lr: float = 1e-3,
    updates: int = 600,
    **options: Any,
) -> dict[str, Any]:
    """Train on delays from a closed interval, then score at all delays from 1 to 60 and beyond."""
    rng = np.random.default_rng(seed)
    model = (horizon.CELLS | gates.horizon.CELLS)[cell](**options)
    params = model.init(rng)
    if "W_hy" not in params:
        drawn = init_params(horizon.D, horizon.HIDDEN, horizon.CLASSES, rng)
        params |= {name: p for name, p in drawn.items() if "y" in name}
    params = {name: p.astype(np.float32) for name, p in params.items()}

    def batches() -> Iterator[tuple[Array, Array]]:
        for _ in range(updates):
            yield _batch(int(rng.integers(delays[0], delays[1] + 1)), horizon.BATCH, rng)

    def loss_and_grads(params: dict[str, Array], batch: Any) -> tuple[float, dict[str, Array]]:
        x, y = batch
        h, cache = model.forward(params, x)
        logits = readout(h, params["W_hy"], params["b_y"])
        dh, dW_hy, db_y = readout_backward(cross_entropy_backward(logits, y), h, params["W_hy"])
        grads = model.backward(params, x, cache, dh) | {"W_hy": dW_hy, "b_y": db_y}
        return float(cross_entropy(logits, y)), grads

    params, history = train(
        loss_and_grads, params, batches(), Adam(lr), max_norm=1.0, progress=False
    )
    params = {name: p.astype(np.float64) for name, p in params.items()}  # a ReLU's states may grow
    x, y = delayed_recall(
        max(FAR), TEST, np.random.default_rng(1000 + seed), horizon.CLASSES, horizon.DISTRACTORS
    )
    _, cache = model.forward(params, x)
    h = cache[0][1:] if cell == "rnn" else cache[1]  # (T, B, H)
    logits = readout(h, params["W_hy"], params["b_y"])
    right = np.take_along_axis(logits, np.broadcast_to(y[:, None], (*h.shape[:2], 1)), -1)[..., 0]
    margin = 2 * right - logits.sum(axis=-1)  # of two classes: right minus wrong
    largest = np.log10(np.abs(h).max(axis=(1, 2)))
    asked = [*DENSE, *FAR]
    return {
        "accuracy": [round(float(a), 3) for a in (margin > 0).mean(axis=1)[asked]],
        "margin": [round(float(m), 2) for m in margin.mean(axis=1)[list(DENSE)]],
        "largest": [round(float(m), 2) for m in largest[[20, 40, 60, 640]]],
        "final_loss": float(np.mean(history.loss[-50:])),
    }


def _batch(delay: int, size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    x, y = delayed_recall(delay, size, rng, horizon.CLASSES, horizon.DISTRACTORS)
    return x.astype(np.float32), y


CELLS: dict[str, dict[str, Any]] = {
    "orthogonal": {"start": "orthogonal"},
    "irnn": {"start": "identity", "relu": True},
    "lstm": {"cell": "lstm", "bias": 3.0, "lr": 3e-3},
}
TRAINING = {"fixed": (20, 20), "near": (18, 22), "wide": (10, 30), "range": (1, 40)}

EXPERIMENT = Experiment(
    run,
    configs={
        f"{cell}-{training}": {"delays": delays, **options}
        for cell, options in CELLS.items()
        for training, delays in TRAINING.items()
    },
    seeds=range(10),
    reduced={"updates": 10},
    tolerance=2e-2,
)
