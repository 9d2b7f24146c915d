"""A character model of Moby-Dick, trained until the curve is nearly flat, and kept.

A GRU of 144 units (about 110,000 parameters) reads the first 90 % of the book as 16 streams in
chunks of 48 characters, 16,000 times, which is more than eleven passes. Adam's rate falls linearly
from 0.008 to a fiftieth. The score is the cross-entropy on the last 10 % of the book, in bits per
character. The weights of the first seed are kept in half precision, so that a chapter can use the
model without training it.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

import numpy as np

from rnncourse.experiments import Experiment, load_experiment, load_results

model = sys.modules[load_experiment("language_model").run.__module__]
CELL, UNITS, STEPS, RATE, UPDATES = "gru", 144, 48, 8e-3, 16_000
CHECKPOINTS = (50, 100, 200, 400, 800, 1200, 1600, *range(2000, UPDATES, 1000))

Array = np.ndarray[Any, Any]
Params = dict[str, Array]


def packed(params: Params) -> dict[str, Any]:
    """Return the parameters in half precision as text, with their shapes."""
    return {
        name: {
            "shape": p.shape,
            "float16": base64.b64encode(p.astype("<f2").tobytes()).decode("ascii"),
        }
        for name, p in params.items()
    }


def trained() -> Params:
    """Return the parameters of the stored model in single precision."""
    return {
        name: np.frombuffer(base64.b64decode(stored["float16"]), "<f2")
        .reshape(stored["shape"])
        .astype(np.float32)
        for name, stored in load_results("language_model_long")["gru"][0]["weights"].items()
    }


def run(seed: int, *, updates: int, keep: bool = True) -> dict[str, Any]:
    """Train the model, score it on the last tenth of the book, and keep the first weights."""
    training, test, alphabet = model.text()
    V = len(alphabet)
    params, history, curve = model.fit(
        *(CELL, UNITS, training, V, seed, updates),
        steps=STEPS,
        rate=RATE,
        checkpoints=CHECKPOINTS,
        unseen=test,
    )
    thirds = np.array_split(np.array(history.norm), 3)
    return {
        "bits": model.bits(CELL, params, test, V),
        "training_bits": model.bits(CELL, params, training[-len(test) :], V),
        "curve": curve,
        "characters_per_update": model.BATCH * STEPS,
        "parameters": sum(p.size for p in params.values()),
        "norm_median": [float(np.median(third)) for third in thirds],
        "norm_max": [float(third.max()) for third in thirds],
        "clipped_share": history.clipped_share,
        "weights": packed(params) if keep and seed == 0 else {},
    }


EXPERIMENT = Experiment(
    run,
    configs={"gru": {"updates": UPDATES}},
    seeds=range(5),
    reduced={"updates": 3, "keep": False},
    tolerance=5e-3,
)
