"""Can truncated BPTT learn what lies beyond its window?

Echo: at every step, repeat the bit that came `lag` steps ago. A vanilla RNN reads streams in chunks
of `k` steps; the gradient stops at each chunk's start, and the state is carried on ("carry"), set
to zero ("reset"), or carried while the chunks of the streams come in random order ("shuffle"). With
`frozen` the recurrent part keeps its start values and only the read-out learns. The score is the
accuracy on a fresh stream that is read from start to end.
"""

import numpy as np

from rnncourse import fused
from rnncourse.bptt import cross_entropy_backward, readout_backward
from rnncourse.clipping import clip_by_global_norm
from rnncourse.experiments import Experiment
from rnncourse.initialization import orthogonal
from rnncourse.rnn import init_params, readout
from rnncourse.tasks import echo
from rnncourse.training import Adam

H, B = 48, 16


def run(seed, *, lag, k, init="orthogonal", state="carry", frozen=False, lr=3e-4, updates=4000):
    """Train on one long stream per sequence and return the accuracy on a fresh one."""
    rng = np.random.default_rng(seed)
    params = init_params(D=1, H=H, V=2, rng=rng, dtype=np.float32)
    if init == "orthogonal":
        params["W_hh"] = orthogonal(H, 1.0, rng).astype(np.float32)
        params["W_xh"] *= 0.5
    x, targets, mask = echo(k * updates, lag, B, rng)
    x = x.astype(np.float32)
    chunks = range(0, len(x), k)
    if state == "shuffle":
        chunks = rng.permutation(chunks)
    adam, zeros = Adam(lr=lr), np.zeros((B, H), np.float32)
    h0 = zeros
    for start in chunks:
        part = slice(start, start + k)
        h = fused.rnn_forward(x[part], h0, params["W_xh"], params["W_hh"], params["b_h"])
        logits = readout(h, params["W_hy"], params["b_y"])
        dlogits = cross_entropy_backward(logits, targets[part], mask[part])
        dh, dW_hy, db_y = readout_backward(dlogits, h, params["W_hy"])
        grads = {name: np.zeros_like(p) for name, p in params.items()}
        grads |= {"W_hy": dW_hy, "b_y": db_y}
        if not frozen:
            back = fused.rnn_backward(dh, x[part], h0, h, params["W_xh"], params["W_hh"])
            grads |= dict(zip(("W_xh", "W_hh", "b_h"), back[2:], strict=True))
        params = adam.step(params, clip_by_global_norm(grads, 1.0)[0])
        h0 = zeros if state == "reset" else h[-1].copy()
    x, targets, mask = echo(400, lag, B, rng)
    h = fused.rnn_forward(
        x.astype(np.float32), zeros, params["W_xh"], params["W_hh"], params["b_h"]
    )
    answers = readout(h, params["W_hy"], params["b_y"]).argmax(axis=-1)
    return {"accuracy": float((answers == targets)[mask].mean())}


RECIPES = {
    "orthogonal": {"init": "orthogonal"},
    "default": {"init": "default"},
    "fast": {"init": "orthogonal", "lr": 3e-3},
}
CONFIGS = {
    f"lag8-{name}-k{k}": {"lag": 8, "k": k, **recipe}
    for name, recipe in RECIPES.items()
    for k in (1, 2, 4, 8, 12, 16, 24)
}
CONFIGS |= {
    f"lag20-{name}-k{k}": {"lag": 20, "k": k, **RECIPES[name]}
    for name in ("orthogonal", "default")
    for k in (5, 10, 20, 30, 40)
}
CONFIGS |= {
    f"lag8-{state}-k{k}": {"lag": 8, "k": k, "state": state}
    for state in ("reset", "shuffle")
    for k in (4, 8, 16)
}
CONFIGS["lag8-frozen"] = {"lag": 8, "k": 8, "frozen": True}
CONFIGS["lag20-frozen"] = {"lag": 20, "k": 20, "frozen": True}

EXPERIMENT = Experiment(
    run, configs=CONFIGS, seeds=range(5), reduced={"updates": 20, "k": 4}, tolerance=5e-3
)
