"""A vanilla RNN forecasts three real series: how large are its errors and how wide its intervals?

The last 40 % of a series are test data in four folds. Before each fold the network is trained from
scratch on everything before it; inside the fold it forecasts from every third origin with fixed
weights and the true past. "direct" emits three quantiles of all horizons at once; "calibrated" then
widens its intervals by what they missed on the last fifth of the training part, which it was not
trained on; "recursive" is trained to predict one step and reads its own forecasts. The runs named
"leak" show on purpose what a leak does to the measured error. Returned are numbers per horizon.
"""

from __future__ import annotations

import numpy as np

from rnncourse import data
from rnncourse.bptt import readout_backward
from rnncourse.clipping import clip_by_global_norm
from rnncourse.experiments import Experiment
from rnncourse.forecasting import fit_scaler, rolling_origin, scale, unscale, windows
from rnncourse.fused import rnn_backward, rnn_forward
from rnncourse.initialization import orthogonal
from rnncourse.rnn import init_params, readout
from rnncourse.training import Adam

HORIZON = 24
FOLDS = 4
EVERY = 3  # steps between two origins
SHOWN = np.array([1, 3, 6, 12, 24])  # horizons whose error is kept for every origin
TAUS = np.array([0.1, 0.5, 0.9])
SERIES = {"sunspots": data.sunspots, "co2": data.co2, "el-nino": data.el_nino}
WITH_TREND = {"co2"}


def folds(n: int, horizon: int = HORIZON) -> list[tuple[int, np.ndarray]]:
    """Return (end of training, origins) of each fold over the last 40 % of n values."""
    first = int(0.6 * n)
    origins = np.array([len(train) for train, _ in rolling_origin(n, first, horizon, EVERY)])
    return [(int(part[0]), part) for part in np.array_split(origins, FOLDS)]


def calendar(y, end, trend):
    """Return what the month alone explains, estimated on the first `end` values; mean zero."""
    time = np.arange(len(y)) / end * trend
    design = np.column_stack([time, np.eye(12)[np.arange(len(y)) % 12]])
    effects = np.linalg.lstsq(design[:end], y[:end])[0][1:]
    return (effects - effects.mean())[np.arange(len(y)) % 12]


def autocorrelation(z, horizon):
    """Return the least-squares weight of the last value in a forecast 1 ... horizon steps ahead."""
    return np.array([z[:-h] @ z[h:] / (z[:-h] @ z[:-h]) for h in range(1, horizon + 1)])


def predict(params, x, decay):
    """Return q of shape (B, horizon, quantiles), and the states; x is (T, B, 1).

    The network corrects damped persistence: its read-out is added to decay times the last value.
    """
    h0 = np.zeros((x.shape[1], len(params["W_hh"])))
    h = rnn_forward(x, h0, params["W_xh"], params["W_hh"], params["b_h"])
    correction = readout(h[-1], params["W_hy"], params["b_y"])
    return correction.reshape(x.shape[1], len(decay), -1) + (x[-1] * decay)[:, :, None], h


def gradients(params, x, h, dq):
    """Return the gradients of all parameters, given the gradient dq of the loss."""
    dlast, dW_hy, db_y = readout_backward(dq.reshape(len(dq), -1), h[-1], params["W_hy"])
    dh = np.zeros_like(h)
    dh[-1] = dlast
    h0 = np.zeros_like(h[0])
    _, _, dW_xh, dW_hh, db_h = rnn_backward(dh, x, h0, h, params["W_xh"], params["W_hh"])
    return {"W_xh": dW_xh, "W_hh": dW_hh, "b_h": db_h, "W_hy": dW_hy, "b_y": db_y}


def fit(z, seed, *, n_in, taus, horizon, hidden, updates, lr, centred, batch=32):
    """Train on the windows of a scaled series; return parameters and decay."""
    rng = np.random.default_rng(seed)
    params = init_params(1, hidden, horizon * len(taus), rng)
    params["W_hh"] = orthogonal(hidden, 0.9, rng)
    params["W_hy"] *= 0.1
    decay = autocorrelation(z, horizon)
    inputs, targets = windows(z, n_in, horizon, 1)
    level = inputs[-1] * centred
    inputs, targets = inputs - level, targets - level
    adam = Adam(lr)
    for step in range(updates):
        pick = rng.integers(0, inputs.shape[1], batch)
        x, y = inputs[:, pick, None], targets[:, pick].T[:, :, None]  # (B, horizon, 1)
        q, h = predict(params, x, decay)
        dq = np.where(y > q, -taus, 1 - taus) / batch
        grads, _ = clip_by_global_norm(gradients(params, x, h, dq), 1.0)
        adam.lr = lr * (1 - step / updates)
        params = adam.step(params, grads)
    return params, decay


def forecast(params, decay, z, origins, *, n_in, centred, recursive):
    """Return forecasts of shape (origins, HORIZON, quantiles) of the scaled series."""
    x = np.stack([z[o - n_in : o] for o in origins], axis=1)[:, :, None]
    if not recursive:
        level = x[-1] * centred
        q, _ = predict(params, x - level, decay)
        return np.sort(q + level[:, :, None], axis=2)
    steps = []
    for _ in range(HORIZON):
        level = x[-1] * centred
        q, _ = predict(params, x - level, decay)
        steps.append(q[:, 0] + level)
        x = np.concatenate([x[1:], steps[-1][None]])
    return np.stack(steps, axis=1)


def run(seed, *, series, model="direct", n_in=36, hidden=24, updates=400, lr=5e-3):
    """Return mean squared and absolute error, coverage and width at every horizon."""
    if model in LEAKS:
        return leak(
            seed, series=series, n_in=n_in, hidden=hidden, updates=updates, lr=lr, **LEAKS[model]
        )
    record, centred = SERIES[series](), series in WITH_TREND
    y, recursive = record.values, model == "recursive"
    common = {"n_in": n_in, "centred": centred}
    recipe = {"hidden": hidden, "updates": updates, "lr": lr}
    recipe |= {"taus": TAUS[1:2], "horizon": 1} if recursive else {"taus": TAUS, "horizon": HORIZON}
    q, truth = [], []
    for end, origins in folds(len(y)):
        known = calendar(y, end, centred) if record.season == 12 else np.zeros(len(y))
        mean, std = fit_scaler((y - known)[:end])
        z = scale(y - known, mean, std)
        cut = int(0.8 * end) if model == "calibrated" else end
        params, decay = fit(z[:cut], seed, **common, **recipe)
        ahead = forecast(params, decay, z, origins, recursive=recursive, **common)
        if model == "calibrated":
            past = np.arange(cut, end - HORIZON + 1)
            seen = forecast(params, decay, z, past, recursive=False, **common)
            ahead = widen(ahead, missed(seen, z[past[:, None] + np.arange(HORIZON)]))
        future = origins[:, None] + np.arange(HORIZON)
        q.append(unscale(ahead, mean, std) + known[future][:, :, None])
        truth.append(y[future])
    q, truth = np.concatenate(q), np.concatenate(truth)
    middle = q[:, :, q.shape[2] // 2]
    result = {
        "mse": np.mean((truth - middle) ** 2, axis=0).round(6).tolist(),
        "mae": np.mean(np.abs(truth - middle), axis=0).round(6).tolist(),
        "errors": (truth - middle)[:, SHOWN - 1].round(3).tolist(),  # (origins, shown)
    }
    if not recursive:
        inside = (q[:, :, 0] <= truth) & (truth <= q[:, :, 2])
        result["coverage"] = inside.mean(axis=0).round(6).tolist()
        result["width"] = (q[:, :, 2] - q[:, :, 0]).mean(axis=0).round(6).tolist()
    return result


def missed(q, truth):
    """Return per horizon how far intervals must be widened to hold the nominal share of truth."""
    outside = np.maximum(q[:, :, 0] - truth, truth - q[:, :, 2])  # negative inside
    return np.quantile(outside, TAUS[2] - TAUS[0], axis=0, method="higher")


def widen(q, margin):
    """Move the outer quantiles apart by margin (horizon,), never past the median."""
    lower = np.minimum(q[:, :, 0] - margin, q[:, :, 1])
    upper = np.maximum(q[:, :, 2] + margin, q[:, :, 1])
    return np.stack([lower, q[:, :, 1], upper], axis=2)


LEAKS = {
    "leak-scaler-none": {"scaler": "train", "split": "time"},
    "leak-scaler": {"scaler": "all", "split": "time"},
    "leak-split-none": {"scaler": "train", "split": "time"},
    "leak-split": {"scaler": "train", "split": "random"},
}


def leak(seed, *, series, scaler, split, n_in, hidden, updates, lr):
    """Return the error on 40 % of all windows of a plain network, with or without a leak.

    The series is scaled to [-1, 1] by the extremes of the training part or of everything; the test
    windows are the last ones or a random choice.
    """
    y = SERIES[series]().values
    inputs, targets = windows(y, n_in, HORIZON, 1)
    number = inputs.shape[1]
    order = np.arange(number)
    if split == "random":
        order = np.random.default_rng(seed + 100).permutation(number)
    train, test = order[: int(0.6 * number)], order[int(0.6 * number) :]
    if split == "time":  # no training target reaches into the test part
        train = train[: len(train) - HORIZON]
    known = (
        np.unique(np.concatenate([inputs[:, train], targets[:, train]])) if scaler == "train" else y
    )
    middle, half = (known.max() + known.min()) / 2, (known.max() - known.min()) / 2
    inputs, targets = (inputs - middle) / half, (targets - middle) / half

    rng = np.random.default_rng(seed)
    params, adam, none = init_params(1, hidden, HORIZON, rng), Adam(lr), np.zeros(HORIZON)
    for step in range(updates):
        pick = train[rng.integers(0, len(train), 32)]
        x, wanted = inputs[:, pick, None], targets[:, pick].T[:, :, None]
        q, h = predict(params, x, none)
        grads, _ = clip_by_global_norm(gradients(params, x, h, (q - wanted) / 32), 1.0)
        adam.lr = lr * (1 - step / updates)
        params = adam.step(params, grads)
    q, _ = predict(params, inputs[:, test, None], none)
    return {
        "mse": np.mean(((q[:, :, 0] - targets[:, test].T) * half) ** 2, axis=0).round(6).tolist()
    }


EXPERIMENT = Experiment(
    run,
    configs={
        f"{series}-{model}": {"series": series, "model": model}
        for series in SERIES
        for model in ("direct", "recursive", "calibrated")
    }
    | {
        f"co2-{model}": {"series": "co2", "model": model}
        for model in ("leak-scaler-none", "leak-scaler")
    }
    | {
        f"sunspots-{model}": {"series": "sunspots", "model": model, "hidden": 48, "updates": 1500}
        for model in ("leak-split-none", "leak-split")
    },
    seeds=range(5),
    reduced={"updates": 20},
)
