"""Does clipping at 5 do anything in a standard character model?

A vanilla RNN of 128 units predicts the next character of Moby-Dick: 32 parallel streams, chunks of
64 characters, the state carried over, Adam with learning rate 0.002, the default start. This is the
recipe of many tutorials, and most of them clip at 5. Every chunk is read once, so the loss of a
chunk before its update is a loss on text that the network has not seen.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from rnncourse.bptt import cross_entropy_backward, readout_backward, rnn_backward
from rnncourse.data import moby_dick
from rnncourse.experiments import Experiment
from rnncourse.rnn import cross_entropy, init_params, readout, rnn_forward
from rnncourse.sequences import stream_batches
from rnncourse.training import Adam, train

HIDDEN, BATCH, STEPS = 128, 32, 64


def run(
    seed: int, *, max_norm: float | None, updates: int = 300, lr: float = 2e-3
) -> dict[str, Any]:
    """Train one model and return its loss and its gradient norms before clipping."""
    alphabet, tokens = np.unique(list(moby_dick()), return_inverse=True)
    V = len(alphabet)
    rng = np.random.default_rng(seed)
    start = int(rng.integers(len(tokens)))  # every seed reads the book from another place
    chunks = stream_batches(np.roll(tokens, -start), BATCH, STEPS)
    params = init_params(V, HIDDEN, V, rng, dtype=np.float32)
    one_hot = np.eye(V, dtype=np.float32)
    state = np.zeros((BATCH, HIDDEN), np.float32)

    def loss_and_grads(params: dict[str, Any], batch: Any) -> tuple[float, dict[str, Any]]:
        nonlocal state
        inputs, targets = batch
        x, h0 = one_hot[inputs], state
        h = rnn_forward(x, h0, params["W_xh"], params["W_hh"], params["b_h"])
        state = h[-1]
        logits = readout(h, params["W_hy"], params["b_y"])
        dlogits = cross_entropy_backward(logits, targets)
        dh, dW_hy, db_y = readout_backward(dlogits, h, params["W_hy"])
        _, _, dW_xh, dW_hh, db_h = rnn_backward(dh, x, h0, h, params["W_xh"], params["W_hh"])
        grads = {"W_xh": dW_xh, "W_hh": dW_hh, "b_h": db_h, "W_hy": dW_hy, "b_y": db_y}
        return float(cross_entropy(logits, targets)), grads

    _, history = train(
        loss_and_grads, params, islice(chunks, updates), Adam(lr), max_norm=max_norm, progress=False
    )
    return {
        "loss": float(np.mean(history.loss[-50:])),
        "norms": [round(norm, 3) for norm in history.norm[::4]],
        "norm_max": max(history.norm),
        "norm_median": float(np.median(history.norm)),
        "clipped_share": history.clipped_share,
    }


CONFIGS = {"free": {"max_norm": None}, "clip-5": {"max_norm": 5.0}, "clip-0.25": {"max_norm": 0.25}}

EXPERIMENT = Experiment(
    run, configs=CONFIGS, seeds=range(5), reduced={"updates": 4}, tolerance=5e-3
)
