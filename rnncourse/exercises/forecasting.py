"""Assignment 12: windows, scaling and origins without leakage, a baseline, and two scores."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import itertools
import math

import numpy as np

from rnncourse import forecasting, metrics
from rnncourse.exercises.spec import Case, Exercise, normal

ORIGIN = "15-forecasting: From many origins, and never from the future"
NETWORK = "15-forecasting: The network"
SCEPTIC = "15-forecasting: What a sceptic would try first"
QUANTILES = "15-forecasting: A loss that asks for quantiles"
DIRECT = "15-forecasting: Direct or recursive?"
LEAKAGE = "15-forecasting: Leakage, in numbers"
ONE = ({"T": 5, "B": 3, "D": 2, "H": 4, "V": 6},)


def _window_cases(rng, s):
    yield Case((normal(rng, 20 + s.B), 4, 3, 1), "stride 1")
    yield Case((normal(rng, 4 + 2 + 3 * 3), 4, 2, 3), "the last window just fits")
    yield Case((normal(rng, 4 + 2 + 3 * 3 - 1), 4, 2, 3), "one value too few for a last window")
    yield Case((normal(rng, 15, s.D), 3, 2, 2), "a series of vectors")
    yield Case((normal(rng, 13, 1), 3, 2, 2), "a series of vectors of length 1")
    yield Case((normal(rng, 6), 4, 2, 5), "a single window")
    yield Case((normal(rng, 30), 2, 1, 7), "windows that do not touch")


windows = Exercise(
    name="windows",
    reference=forecasting.windows,
    section=NETWORK,
    axes={"y": "", "n_in": "", "n_out": "", "stride": ""},
    returns=("inputs", "targets"),
    sizes=ONE,
    draw=lambda rng, s: (normal(rng, 24 + s.T), 5, 3, 2),
    special=_window_cases,
)


def _cut(y, starts, n_in, n_out, late=0):
    """Return windows at `starts`, the targets `late` steps after the end of the inputs."""
    inputs = np.stack([y[i : i + n_in] for i in starts], axis=1)
    begin = n_in + late
    return inputs, np.stack([y[i + begin : i + begin + n_out] for i in starts], axis=1)


@windows.mistake(
    "last-window-lost",
    "the last window is left out although it fits",
    "A series of length `n_in + n_out` holds exactly one window. How many starts does your range "
    "give there?",
)
def _(y, n_in, n_out, stride):
    inputs, targets = forecasting.windows(y, n_in, n_out, stride)
    if (len(y) - n_in - n_out) % stride == 0:
        return inputs[:, :-1], targets[:, :-1]
    return inputs, targets


@windows.mistake(
    "batch-first",
    "the windows are stacked along the first axis",
    "The course is time-major: axis 0 is time, axis 1 counts the windows.",
)
def _(y, n_in, n_out, stride):
    inputs, targets = forecasting.windows(y, n_in, n_out, stride)
    return inputs.swapaxes(0, 1), targets.swapaxes(0, 1)


@windows.mistake(
    "target-overlaps-input",
    "the targets begin one step too early, inside the inputs",
    "The first target is also the last input, so copying it is a perfect forecast. That is "
    "leakage.",
    section=LEAKAGE,
)
def _(y, n_in, n_out, stride):
    starts = range(0, len(y) - n_in - n_out + 1, stride)
    return _cut(y, starts, n_in, n_out, late=-1)


@windows.mistake(
    "gap",
    "one value between inputs and targets is left out",
    "Nothing lies between past and future: the first target follows the last input at once.",
)
def _(y, n_in, n_out, stride):
    starts = range(0, len(y) - n_in - n_out, stride)
    return _cut(y, starts, n_in, n_out, late=1)


@windows.mistake(
    "targets-are-shifted-inputs",
    "the targets are the inputs, moved by one step",
    "That suits a network that predicts at every step. Here the targets are the `n_out` values "
    "*after* the window.",
)
def _(y, n_in, n_out, stride):
    starts = range(0, len(y) - n_in - n_out + 1, stride)
    return _cut(y, starts, n_in, n_in, late=1 - n_in)


@windows.mistake(
    "stride-ignored",
    "a window begins at every step",
    "`stride` is the distance between the starts of two windows.",
)
def _(y, n_in, n_out, stride):
    return forecasting.windows(y, n_in, n_out, 1)


@windows.mistake(
    "stride-is-n-in",
    "windows begin where the one before ends",
    "Windows may overlap: `stride` alone sets the distance of their starts.",
)
def _(y, n_in, n_out, stride):
    return forecasting.windows(y, n_in, n_out, n_in)


@windows.form("stride-is-n-in")
def _(y, n_in, n_out, stride):
    return forecasting.windows(y, n_in, n_out, n_in + n_out)


@windows.mistake(
    "reaches-beyond-the-end",
    "windows that reach beyond the end are filled up with the last value",
    "Invented values are no data. Which starts leave room for a whole window?",
)
def _(y, n_in, n_out, stride):
    steps = np.arange(n_in + n_out)[:, None] + np.arange(0, len(y) - n_in, stride)
    both = y[np.minimum(steps, len(y) - 1)]
    return both[:n_in], both[n_in:]


@windows.mistake(
    "wraps-around",
    "windows that reach beyond the end go on at the beginning of the series",
    "After the last value comes the unknown, not the first value.",
)
def _(y, n_in, n_out, stride):
    steps = np.arange(n_in + n_out)[:, None] + np.arange(0, len(y), stride)
    both = y[steps % len(y)]
    return both[:n_in], both[n_in:]


@windows.mistake(
    "only-the-last-target",
    "only the value `n_out` steps ahead is a target",
    "All `n_out` values after the window are wanted, one row each.",
    section=DIRECT,
)
def _(y, n_in, n_out, stride):
    inputs, targets = forecasting.windows(y, n_in, n_out, stride)
    return inputs, targets[-1:]


@windows.mistake(
    "outputs-exchanged",
    "targets are returned first",
    "Inputs first, then targets.",
)
def _(y, n_in, n_out, stride):
    return forecasting.windows(y, n_in, n_out, stride)[::-1]


@windows.mistake(
    "inputs-reversed",
    "the latest value of the past comes first",
    "Row t of the inputs is the t-th step of the window, in the order of time.",
)
def _(y, n_in, n_out, stride):
    inputs, targets = forecasting.windows(y, n_in, n_out, stride)
    return inputs[::-1], targets


@windows.mistake(
    "reshaped",
    "the right values are filled into the shape row by row",
    "`reshape` of windows that lie one after the other mixes them. Exchange the axes instead.",
)
def _(y, n_in, n_out, stride):
    both = forecasting.windows(y, n_in, n_out, stride)
    return tuple(a.swapaxes(0, 1).reshape(a.shape) for a in both)


@windows.variant("stack of slices")
def _(y, n_in, n_out, stride):
    starts = [i for i in range(len(y)) if i % stride == 0 and i + n_in + n_out <= len(y)]
    return _cut(y, starts, n_in, n_out)


@windows.variant("sliding view")
def _(y, n_in, n_out, stride):
    view = np.lib.stride_tricks.sliding_window_view(y, n_in + n_out, axis=0)[::stride]
    both = np.moveaxis(view, -1, 0)
    return both[:n_in], both[n_in:]


@windows.variant("rows of time")
def _(y, n_in, n_out, stride):
    count = (len(y) - n_in - n_out) // stride + 1
    rows = [[y[i * stride + t] for i in range(count)] for t in range(n_in + n_out)]
    return np.array(rows[:n_in]), np.array(rows[n_in:])


@windows.variant("while loop")
def _(y, n_in, n_out, stride):
    inputs, targets, start = [], [], 0
    while start + n_in + n_out <= len(y):
        inputs.append(y[start : start + n_in])
        targets.append(y[start + n_in : start + n_in + n_out])
        start += stride
    return np.swapaxes(np.array(inputs), 0, 1), np.swapaxes(np.array(targets), 0, 1)


@windows.variant("torch inside")
def _(y, n_in, n_out, stride):
    import torch

    both = torch.tensor(np.array(y)).unfold(0, n_in + n_out, stride).movedim(-1, 0)
    return both[:n_in].numpy(), both[n_in:].numpy()


def _scaler_cases(rng, s):
    columns = 5 + normal(rng, 9, 3) * [0.1, 1.0, 10.0]
    yield Case((columns,), "three series side by side")
    columns = normal(rng, 7, 3)
    columns[:, 1] = 0.5 * rng.integers(1, 20)
    yield Case((columns,), "one of the series is constant")
    yield Case((np.full(6, 0.5 * float(rng.integers(1, 20))),), "a constant series")
    yield Case((np.array([0.5 * float(rng.integers(1, 20))]),), "a single value")
    yield Case((1000 + normal(rng, 12),), "a mean far from zero")


fit_scaler = Exercise(
    name="fit_scaler",
    reference=forecasting.fit_scaler,
    section=LEAKAGE,
    axes={"train": ""},
    returns=("mean", "std"),
    sizes=ONE,
    draw=lambda rng, s: (3 + 2 * normal(rng, 10 + s.T),),
    special=_scaler_cases,
)


def _safe(std):
    return np.where(std == 0, 1, std)


@fit_scaler.mistake(
    "divided-by-n-minus-one",
    "the standard deviation divides by N - 1",
    "pandas and NumPy differ here. By what does the docstring divide?",
)
def _(train):
    std = train.std(axis=0, ddof=1) if len(train) > 1 else np.zeros(train.shape[1:])
    return train.mean(axis=0), _safe(std)


@fit_scaler.mistake(
    "zero-deviation-kept",
    "the deviation of a constant series stays 0, or nearly",
    "Scaling will divide by it: the first value that differs becomes infinite, or 1e8 times "
    "itself if a tiny number was added. Which divisor does the docstring ask for?",
)
def _(train):
    return train.mean(axis=0), train.std(axis=0)


@fit_scaler.form("zero-deviation-kept")
def _(train):
    return train.mean(axis=0), train.std(axis=0) + 1e-8


@fit_scaler.form("zero-deviation-kept")
def _(train):
    return train.mean(axis=0), np.maximum(train.std(axis=0), 1e-8)


@fit_scaler.mistake(
    "one-scale-for-all-series",
    "mean and deviation are taken over all series together",
    "Series in different units need scales of their own. Which axis is time?",
)
def _(train):
    return train.mean(), _safe(train.std())


@fit_scaler.mistake(
    "wrong-axis",
    "mean and deviation run over the series, not over time",
    "Axis 0 is time. One mean *per series* is wanted.",
)
def _(train):
    return train.mean(axis=-1), _safe(train.std(axis=-1))


@fit_scaler.mistake(
    "variance",
    "the variance is returned in place of the standard deviation",
    "Scaled values shall have the deviation 1. The variance is in squared units.",
)
def _(train):
    return train.mean(axis=0), _safe(train.var(axis=0))


@fit_scaler.mistake(
    "minimum-and-range",
    "smallest value and range are returned",
    "That is another scaler, set by the two most extreme values. Mean and deviation are wanted.",
)
def _(train):
    return train.min(axis=0), _safe(np.ptp(train, axis=0))


@fit_scaler.mistake(
    "median",
    "the median is returned in place of the mean",
    "Half of the values lie below the median; the mean is their centre of mass.",
)
def _(train):
    return np.median(train, axis=0), _safe(train.std(axis=0))


@fit_scaler.mistake(
    "mean-not-subtracted",
    "the deviation is taken from zero, not from the mean",
    "Add 1000 to the series: its deviation must not change.",
)
def _(train):
    return train.mean(axis=0), _safe(np.sqrt((train**2).mean(axis=0)))


@fit_scaler.mistake(
    "mean-absolute-deviation",
    "absolute deviations are averaged",
    "The standard deviation averages *squares* and takes the root.",
)
def _(train):
    mean = train.mean(axis=0)
    return mean, _safe(np.abs(train - mean).mean(axis=0))


@fit_scaler.mistake(
    "time-axis-kept",
    "the time axis is kept with length 1",
    "One number per series: shape (D,), or () for a single series.",
)
def _(train):
    return train.mean(axis=0, keepdims=True), _safe(train.std(axis=0, keepdims=True))


@fit_scaler.mistake(
    "all-one-if-any-is-constant",
    "one constant series sets the deviation of all series to 1",
    "Decide for each series by itself.",
)
def _(train):
    std = train.std(axis=0)
    return train.mean(axis=0), np.ones_like(std) if np.any(std == 0) else std


@fit_scaler.mistake(
    "recent-values-only",
    "only the second half of the series is used",
    "Every value of the training part counts.",
)
def _(train):
    late = train[len(train) // 2 :]
    return late.mean(axis=0), _safe(late.std(axis=0))


@fit_scaler.variant("by hand")
def _(train):
    mean = sum(train) / len(train)
    std = np.sqrt(sum((row - mean) ** 2 for row in train) / len(train))
    return mean, np.where(std > 0, std, 1.0)


@fit_scaler.variant("range asked for")
def _(train):
    constant = np.all(train == train[0], axis=0)
    return np.average(train, axis=0), np.where(constant, 1, np.std(train, axis=0, ddof=0))


@fit_scaler.variant("column by column")
def _(train):
    columns = np.atleast_2d(train.T)
    mean, std = np.array([c.mean() for c in columns]), np.array([c.std() or 1 for c in columns])
    return (mean, std) if np.ndim(train) == 2 else (mean[0], std[0])


@fit_scaler.variant("zeros added")
def _(train):
    std = train.std(axis=0)
    return train.mean(axis=0), std + (std == 0)


@fit_scaler.variant("torch inside")
def _(train):
    import torch

    train = torch.tensor(np.array(train))
    std = train.std(dim=0, correction=0)
    return train.mean(dim=0).numpy(), torch.where(std == 0, torch.ones_like(std), std).numpy()


def _origin_cases(rng, s):
    yield Case((10, 4, 2, 2), "the last test part just fits")
    yield Case((11, 4, 2, 2), "one value is left over")
    yield Case((9, 3, 4, 1), "test parts overlap")
    yield Case((20, 5, 2, 4), "gaps between the test parts")
    yield Case((7, 5, 2, 3), "a single origin")
    yield Case((6, 1, 1, 1), "horizon and step are 1")


rolling_origin = Exercise(
    name="rolling_origin",
    reference=forecasting.rolling_origin,
    section=ORIGIN,
    axes={"n": "", "first": "", "horizon": "", "step": ""},
    returns=("splits",),
    sizes=ONE,
    draw=lambda rng, s: (int(rng.integers(20, 30)), int(rng.integers(6, 9)), 3, 2),
    special=_origin_cases,
)


def _splits(origins, horizon, shift=0):
    return [(np.arange(o), np.arange(o + shift, o + shift + horizon)) for o in origins]


@rolling_origin.mistake(
    "last-origin-lost",
    "the last origin is left out although its test part fits",
    "With n = first + horizon there is exactly one origin. How many does your range give?",
)
def _(n, first, horizon, step):
    return _splits(range(first, n - horizon, step), horizon)


@rolling_origin.mistake(
    "test-overlaps-training",
    "the test part begins with the last training value",
    "A model has seen that value: leakage. Indices up to origin - 1 are known.",
    section=LEAKAGE,
)
def _(n, first, horizon, step):
    return _splits(range(first, n - horizon + 1, step), horizon, shift=-1)


@rolling_origin.mistake(
    "gap",
    "one value between training and test part is left out",
    "The test begins right after the training part.",
)
def _(n, first, horizon, step):
    return _splits(range(first, n - horizon, step), horizon, shift=1)


@rolling_origin.mistake(
    "sliding-training-part",
    "the training part keeps its length and drops old values",
    "That is a sliding window. Here a model learns from *everything* up to the origin.",
)
def _(n, first, horizon, step):
    splits = forecasting.rolling_origin(n, first, horizon, step)
    return [(train[-first:], test) for train, test in splits]


@rolling_origin.mistake(
    "short-test-parts",
    "origins near the end get a shorter test part",
    "Errors at horizon h could then not be compared between origins. Keep an origin only if its "
    "whole test part fits.",
)
def _(n, first, horizon, step):
    return [(np.arange(o), np.arange(o, min(o + horizon, n))) for o in range(first, n, step)]


@rolling_origin.mistake(
    "beyond-the-end",
    "test parts reach beyond the end of the series",
    "The largest valid index is n - 1.",
)
def _(n, first, horizon, step):
    return _splits(range(first, n, step), horizon)


@rolling_origin.mistake(
    "future-in-training",
    "everything outside the test part is used for training",
    "That is cross-validation: the values after the test part are the future, and no forecaster "
    "has them.",
    section=LEAKAGE,
)
def _(n, first, horizon, step):
    splits = forecasting.rolling_origin(n, first, horizon, step)
    return [(np.setdiff1d(np.arange(n), test), test) for _, test in splits]


@rolling_origin.mistake(
    "test-in-training",
    "the test part belongs to the training part too",
    "The model has seen what it is tested on.",
    section=LEAKAGE,
)
def _(n, first, horizon, step):
    splits = forecasting.rolling_origin(n, first, horizon, step)
    return [(np.arange(test[-1] + 1), test) for _, test in splits]


@rolling_origin.mistake(
    "step-ignored",
    "the origin moves by 1 each time",
    "`step` is the distance between two origins.",
)
def _(n, first, horizon, step):
    return forecasting.rolling_origin(n, first, horizon, 1)


@rolling_origin.mistake(
    "step-is-horizon",
    "the origin moves by the horizon",
    "Test parts may overlap or leave gaps: `step` alone moves the origin.",
)
def _(n, first, horizon, step):
    return forecasting.rolling_origin(n, first, horizon, horizon)


@rolling_origin.mistake(
    "test-to-the-end",
    "each test part runs to the end of the series",
    "Each test part has `horizon` values.",
)
def _(n, first, horizon, step):
    return [(np.arange(o), np.arange(o, n)) for o in range(first, n - horizon + 1, step)]


@rolling_origin.mistake(
    "first-origin-too-late",
    "the first origin is one step further",
    "The first training part holds `first` values and ends where the first test part begins.",
)
def _(n, first, horizon, step):
    return _splits(range(first + step, n - horizon + 1, step), horizon)


@rolling_origin.mistake(
    "one-training-value-too-few",
    "the last value before the origin is not learned from",
    "`range` and `arange` leave their end out already: up to the origin means origin values.",
)
def _(n, first, horizon, step):
    splits = forecasting.rolling_origin(n, first, horizon, step)
    return [(train[:-1], test) for train, test in splits]


@rolling_origin.mistake(
    "parts-exchanged",
    "the test part is returned first",
    "Training part first, then test part.",
)
def _(n, first, horizon, step):
    return [split[::-1] for split in forecasting.rolling_origin(n, first, horizon, step)]


@rolling_origin.mistake(
    "one-origin",
    "only the first origin is used",
    "One origin is an anecdote. Roll it through the series.",
)
def _(n, first, horizon, step):
    return forecasting.rolling_origin(n, first, horizon, step)[:1]


@rolling_origin.variant("while loop")
def _(n, first, horizon, step):
    splits, origin = [], first
    while origin + horizon <= n:
        splits.append((np.arange(origin), origin + np.arange(horizon)))
        origin += step
    return splits


@rolling_origin.variant("slices of all indices")
def _(n, first, horizon, step):
    everything = np.arange(n)
    count = (n - horizon - first) // step + 1
    return [
        (everything[: first + i * step], everything[first + i * step :][:horizon])
        for i in range(count)
    ]


@rolling_origin.variant("lists")
def _(n, first, horizon, step):
    origins = [o for o in range(first, n) if (o - first) % step == 0 and o <= n - horizon]
    return [[list(range(o)), list(range(o, o + horizon))] for o in origins]


@rolling_origin.variant("recursion")
def _(n, first, horizon, step):
    if first + horizon > n:
        return []
    rest = rolling_origin.variants[3].code(n, first + step, horizon, step)
    return [(np.arange(first), np.arange(first, first + horizon)), *rest]


@rolling_origin.variant("tuple")
def _(n, first, horizon, step):
    origins = np.arange(first, n - horizon + 1, step)
    return tuple((np.r_[:o], np.r_[o : o + horizon]) for o in origins)


def _naive_cases(rng, s):
    yield Case((normal(rng, 11), 3, 4), "the horizon is shorter than a season")
    yield Case((normal(rng, 11), 9, 4), "more than two seasons ahead")
    yield Case((normal(rng, 11), 4, 4), "one season ahead")
    yield Case((normal(rng, 6), 3, 1), "m = 1")
    yield Case((normal(rng, 5), 7, 5), "the past is a single season")
    yield Case((normal(rng, 10, s.D), 5, 3), "a series of vectors")
    yield Case((normal(rng, 9), 1, 3), "one step ahead")


seasonal_naive = Exercise(
    name="seasonal_naive",
    reference=forecasting.seasonal_naive,
    section=SCEPTIC,
    axes={"y": "", "horizon": "", "m": ""},
    returns=("forecast",),
    sizes=ONE,
    draw=lambda rng, s: (normal(rng, 17), 8, 5),
    special=_naive_cases,
)


@seasonal_naive.mistake(
    "persistence",
    "the last value is repeated",
    "That is the forecast for m = 1. With a season, each step repeats the value one season ago.",
)
def _(y, horizon, m):
    return np.repeat(y[-1:], horizon, axis=0)


@seasonal_naive.mistake(
    "first-season",
    "the first season of the series is repeated, not the last",
    "The most recent season knows most. Where in the series does it begin?",
)
def _(y, horizon, m):
    return y[np.arange(horizon) % m]


@seasonal_naive.mistake(
    "one-phase-late",
    "the season is one step ahead of its time",
    "The first step of the forecast lies m steps after the *first* value of the last season.",
)
def _(y, horizon, m):
    return y[len(y) - m + (np.arange(horizon) + 1) % m]


@seasonal_naive.mistake(
    "one-phase-early",
    "the season begins with its last value",
    "The first step of the forecast lies m steps after the *first* value of the last season.",
)
def _(y, horizon, m):
    return y[len(y) - m + (np.arange(horizon) - 1) % m]


@seasonal_naive.mistake(
    "wraps-to-the-beginning",
    "after one season the forecast goes on with the beginning of the series",
    "An index that reaches 0 jumps to the oldest value. After a season the *same* season comes "
    "again.",
)
def _(y, horizon, m):
    return y[(np.arange(horizon) - m) % len(y)]


@seasonal_naive.mistake(
    "last-values",
    "the last values of the series are returned, as many as the horizon",
    "Only if horizon and season agree is that the last season.",
)
def _(y, horizon, m):
    return y[-horizon:].copy()


@seasonal_naive.mistake(
    "not-cut",
    "whole seasons are returned, more values than the horizon",
    "The forecast has `horizon` values.",
)
def _(y, horizon, m):
    return np.concatenate([y[len(y) - m :]] * math.ceil(horizon / m))


@seasonal_naive.mistake(
    "one-season-only",
    "the forecast ends after one season",
    "The season repeats until the horizon is reached.",
)
def _(y, horizon, m):
    return y[len(y) - m :][:horizon].copy()


@seasonal_naive.mistake(
    "season-reversed",
    "the last season is repeated backwards",
    "Counting back from the end turns the season around. Step h of the forecast moves forward in "
    "it.",
)
def _(y, horizon, m):
    return y[len(y) - 1 - np.arange(horizon) % m]


@seasonal_naive.mistake(
    "mean-of-the-season",
    "the mean of the last season is repeated",
    "A mean has no season. Each step repeats *its* value.",
)
def _(y, horizon, m):
    return np.repeat(y[len(y) - m :].mean(axis=0, keepdims=True), horizon, axis=0)


@seasonal_naive.mistake(
    "values-stretched",
    "each value of the season is repeated several times in a row",
    "`repeat` and `tile` differ: one repeats entries, the other the whole.",
)
def _(y, horizon, m):
    return np.repeat(y[len(y) - m :], math.ceil(horizon / m), axis=0)[:horizon]


@seasonal_naive.mistake(
    "mean-over-seasons",
    "all seasons are averaged",
    "That is another baseline, and a slow one after a change. Here the *last* season repeats.",
)
def _(y, horizon, m):
    phases = [y[(len(y) + h) % m :: m].mean(axis=0) for h in range(m)]
    return np.array([phases[h % m] for h in range(horizon)])


@seasonal_naive.variant("own forecasts")
def _(y, horizon, m):
    path = list(y)
    for _ in range(horizon):
        path.append(path[-m])
    return np.array(path[len(y) :])


@seasonal_naive.variant("tile")
def _(y, horizon, m):
    seasons = np.concatenate([y[-m:] for _ in range(horizon // m + 1)])
    return seasons[:horizon]


@seasonal_naive.variant("cycle")
def _(y, horizon, m):
    return list(itertools.islice(itertools.cycle(y[-m:]), horizon))


@seasonal_naive.variant("resize")
def _(y, horizon, m):
    return np.resize(y[len(y) - m :], (horizon, *y.shape[1:]))


@seasonal_naive.variant("take")
def _(y, horizon, m):
    return np.take(y[-m:], range(horizon), axis=0, mode="wrap")


def _mase_arguments(rng, n, m, shape):
    y = 3 + normal(rng, *shape)
    return y, y + 0.5 + normal(rng, *shape), 3 + np.cumsum(normal(rng, n)), m


def _mase_cases(rng, s):
    yield Case(_mase_arguments(rng, 14, 1, (6,)), "m = 1")
    yield Case(_mase_arguments(rng, 15, 4, (s.T, s.B)), "forecasts from several origins")
    yield Case(_mase_arguments(rng, 5, 4, (1,)), "a single forecast, a single difference")
    train = np.tile(np.arange(5.0), 3) + 0.1 * normal(rng, 15)
    yield Case((normal(rng, 6), normal(rng, 6), train, 5), "the training part is nearly periodic")


mase = Exercise(
    name="mase",
    reference=metrics.mase,
    section=ORIGIN,
    axes={"y": "", "y_hat": "", "train": "", "m": ""},
    returns=("mase",),
    sizes=ONE,
    draw=lambda rng, s: _mase_arguments(rng, 20, 3, (7,)),
    special=_mase_cases,
)


def _mae(a, b=0.0):
    return np.mean(np.abs(a - b))


@mase.mistake(
    "season-ignored",
    "the scale compares with the value one step before, whatever m is",
    "The baseline repeats the last *season*: which value of the training part forecasts train[t]?",
)
def _(y, y_hat, train, m):
    return _mae(y, y_hat) / _mae(np.diff(train))


@mase.mistake(
    "repeated-differences",
    "the m-th difference is taken in place of the difference over m steps",
    "`np.diff(train, m)` takes differences of differences. How far apart are the two values of a "
    "seasonal difference?",
)
def _(y, y_hat, train, m):
    return _mae(y, y_hat) / _mae(np.diff(train, m))


@mase.mistake(
    "squares",
    "squares are averaged in place of absolute values",
    "Both parts of the fraction are *absolute* errors.",
)
def _(y, y_hat, train, m):
    return np.mean((y - y_hat) ** 2) / np.mean((train[m:] - train[:-m]) ** 2)


@mase.mistake(
    "root-mean-squares",
    "both parts are root mean squared errors",
    "Both parts of the fraction are mean *absolute* errors.",
)
def _(y, y_hat, train, m):
    return np.sqrt(np.mean((y - y_hat) ** 2) / np.mean((train[m:] - train[:-m]) ** 2))


@mase.mistake(
    "errors-cancel",
    "the errors of the forecast are averaged with their signs",
    "Two large errors of opposite sign give 0 in your version.",
)
def _(y, y_hat, train, m):
    return abs(np.mean(y - y_hat)) / _mae(train[m:], train[:-m])


@mase.form("errors-cancel")
def _(y, y_hat, train, m):
    return np.mean(y - y_hat) / _mae(train[m:], train[:-m])


@mase.form("errors-cancel")
def _(y, y_hat, train, m):
    return np.mean(y_hat - y) / _mae(train[m:], train[:-m])


@mase.mistake(
    "scale-cancels",
    "the differences of the training part are averaged with their signs",
    "Ups and downs cancel in your scale. It is a mean *absolute* error.",
)
def _(y, y_hat, train, m):
    return _mae(y, y_hat) / abs(np.mean(train[m:] - train[:-m]))


@mase.form("scale-cancels")
def _(y, y_hat, train, m):
    return _mae(y, y_hat) / np.mean(train[m:] - train[:-m])


@mase.mistake(
    "sum-over-mean",
    "the errors of the forecast are summed, not averaged",
    "With twice as many forecasts your score doubles.",
)
def _(y, y_hat, train, m):
    return np.sum(np.abs(y - y_hat)) / _mae(train[m:], train[:-m])


@mase.mistake(
    "sum-over-sum",
    "both errors are summed, not averaged",
    "The training part has more values than the forecast, so the sums cannot be compared.",
)
def _(y, y_hat, train, m):
    return np.sum(np.abs(y - y_hat)) / np.sum(np.abs(train[m:] - train[:-m]))


@mase.mistake(
    "divided-by-all-training-values",
    "the sum of differences is divided by the length of the training part",
    "The first m values have no partner m steps before. How many differences are there?",
)
def _(y, y_hat, train, m):
    return _mae(y, y_hat) / (np.sum(np.abs(train[m:] - train[:-m])) / len(train))


@mase.mistake(
    "upside-down",
    "the fraction is upside down",
    "A smaller error must give a smaller score.",
)
def _(y, y_hat, train, m):
    return _mae(train[m:], train[:-m]) / _mae(y, y_hat)


@mase.mistake(
    "not-scaled",
    "the error is not scaled",
    "That is the mean absolute error, in the units of the series. Divide it by that of a baseline.",
)
def _(y, y_hat, train, m):
    return _mae(y, y_hat)


@mase.mistake(
    "scaled-by-level",
    "the error is divided by the size of the values",
    "That is a percentage error, which depends on where the zero lies. Divide by the *error of a "
    "baseline*.",
)
def _(y, y_hat, train, m):
    return _mae(y, y_hat) / _mae(train)


@mase.form("scaled-by-level")
def _(y, y_hat, train, m):
    return np.mean(np.abs((y - y_hat) / y))


@mase.form("scaled-by-level")
def _(y, y_hat, train, m):
    return _mae(y, y_hat) / _mae(y)


@mase.mistake(
    "scaled-by-deviation",
    "the error is divided by the standard deviation of the training part",
    "That compares with forecasting the mean. MASE compares with repeating the last season.",
)
def _(y, y_hat, train, m):
    return _mae(y, y_hat) / np.std(train)


@mase.mistake(
    "one-season-too-long",
    "the scale compares values m + 1 steps apart",
    "Value t is forecast by value t - m.",
)
def _(y, y_hat, train, m):
    k = min(m + 1, len(train) - 1)
    return _mae(y, y_hat) / _mae(train[k:], train[:-k])


@mase.mistake(
    "last-season-only",
    "the scale uses only the last season of the training part",
    "The scale is a mean over *all* values that have a partner m steps before.",
)
def _(y, y_hat, train, m):
    return _mae(y, y_hat) / np.mean(np.abs(train[m:] - train[:-m])[-m:])


@mase.mistake(
    "percent",
    "the score is returned in percent",
    "1 means as good as the baseline.",
)
def _(y, y_hat, train, m):
    return 100 * metrics.mase(y, y_hat, train, m)


@mase.variant("loops")
def _(y, y_hat, train, m):
    scale = sum(abs(train[t] - train[t - m]) for t in range(m, len(train))) / (len(train) - m)
    errors = [abs(a - b) for a, b in zip(np.ravel(y), np.ravel(y_hat), strict=True)]
    return sum(errors) / len(errors) / scale


@mase.variant("norms")
def _(y, y_hat, train, m):
    error = np.linalg.norm(np.ravel(y - y_hat), 1) / np.size(y)
    return error / (np.linalg.norm(train[:-m] - train[m:], 1) / (len(train) - m))


@mase.variant("scaled errors")
def _(y, y_hat, train, m):
    scale = np.abs(train[m:] - train[: len(train) - m]).mean()
    return (np.abs(y_hat - y) / scale).mean().item()


@mase.variant("roll")
def _(y, y_hat, train, m):
    return np.average(abs(y - y_hat)) / np.average(abs(train - np.roll(train, m))[m:])


@mase.variant("torch inside")
def _(y, y_hat, train, m):
    import torch

    y, y_hat, train = (torch.tensor(np.array(a)) for a in (y, y_hat, train))
    error = torch.nn.functional.l1_loss(y_hat, y)
    return (error / torch.nn.functional.l1_loss(train[:-m], train[m:])).item()


def _pinball_cases(rng, s):
    y = normal(rng, 8)
    yield Case((y, y - 0.5 - rng.random(8), 0.9), "all values lie above the forecast")
    yield Case((y, y + 0.5 + rng.random(8), 0.9), "all values lie below the forecast")
    yield Case((y, y + normal(rng, 8), 0.5), "tau = 0.5")
    yield Case((normal(rng, s.T, s.B), normal(rng, s.T, s.B), 0.05), "two axes, a small tau")
    yield Case((y, y.copy(), 0.3), "the forecast is exact")
    yield Case((y, y + 1e-3 * normal(rng, 8), 0.3), "the forecast is nearly exact")
    yield Case((np.array([2.0]), np.array([-1.5]), 0.7), "a single value")


pinball = Exercise(
    name="pinball",
    reference=metrics.pinball,
    section=QUANTILES,
    axes={"y": "", "q": "", "tau": ""},
    returns=("loss",),
    sizes=ONE,
    draw=lambda rng, s: (normal(rng, 9), normal(rng, 9), 0.75 + 0.1 * rng.random()),
    special=_pinball_cases,
)


@pinball.mistake(
    "sides-exchanged",
    "the two sides are exchanged",
    "For tau = 0.9 the forecast shall lie above 90 % of the values. Which error must then cost "
    "more, too low or too high?",
)
def _(y, q, tau):
    return metrics.pinball(y, q, 1 - tau)


@pinball.mistake(
    "symmetric",
    "both sides cost the same",
    "Then every tau gives the median. The asymmetry is what makes a quantile.",
)
def _(y, q, tau):
    return np.mean(np.abs(y - q))


@pinball.form("symmetric")
def _(y, q, tau):
    return tau * np.mean(np.abs(y - q))


@pinball.form("symmetric")
def _(y, q, tau):
    return np.mean(np.abs(y - q)) / 2


@pinball.mistake(
    "summed",
    "the losses are summed, not averaged",
    "With twice as many values your loss doubles.",
)
def _(y, q, tau):
    return metrics.pinball(y, q, tau) * np.size(y)


@pinball.mistake(
    "not-averaged",
    "one loss per value is returned",
    "The mean over all values is wanted, one number.",
)
def _(y, q, tau):
    return np.maximum(tau * (y - q), (tau - 1) * (y - q))


@pinball.mistake(
    "smaller-of-the-two",
    "the smaller of the two terms is taken",
    "A loss is never negative; yours is. Which of the two terms is positive on each side?",
)
def _(y, q, tau):
    return np.mean(np.minimum(tau * (y - q), (tau - 1) * (y - q)))


@pinball.mistake(
    "squares",
    "squared errors are weighted",
    "Squares lead to expectiles, not to quantiles. How does the loss grow with the distance?",
)
def _(y, q, tau):
    d = y - q
    return np.mean(np.where(d > 0, tau, 1 - tau) * d**2)


@pinball.mistake(
    "one-side-only",
    "values below the forecast cost nothing",
    "Then an infinitely high forecast is best. Both sides must cost something.",
)
def _(y, q, tau):
    return np.mean(tau * np.maximum(y - q, 0))


@pinball.mistake(
    "full-price-below",
    "the error below the forecast is not multiplied by 1 - tau",
    "The two sides have the weights tau and 1 - tau.",
)
def _(y, q, tau):
    return np.mean(np.where(y > q, tau * (y - q), q - y))


@pinball.mistake(
    "full-price-above",
    "the error above the forecast is not multiplied by tau",
    "The two sides have the weights tau and 1 - tau.",
)
def _(y, q, tau):
    return np.mean(np.where(y > q, y - q, (1 - tau) * (q - y)))


@pinball.mistake(
    "sign-lost-below",
    "below the forecast the loss is negative",
    "Below the forecast y - q is negative. A loss is never below 0.",
)
def _(y, q, tau):
    return np.mean(np.where(y > q, tau, 1 - tau) * (y - q))


@pinball.mistake(
    "doubled",
    "the loss is twice as large",
    "A factor of 2 makes tau = 0.5 the mean absolute error. The definition has none.",
)
def _(y, q, tau):
    return 2 * metrics.pinball(y, q, tau)


@pinball.mistake(
    "averaged-too-early",
    "the errors are averaged before they are weighted",
    "Errors of opposite sign cancel in your mean. Weight each error by its own side first.",
)
def _(y, q, tau):
    d = np.mean(y - q)
    return max(tau * d, (tau - 1) * d)


@pinball.mistake(
    "coverage",
    "the difference between the share of values below and tau is returned",
    "That says whether a quantile is calibrated. The loss also counts *how far* values lie off.",
)
def _(y, q, tau):
    return abs(np.mean(y <= q) - tau)


@pinball.variant("two sides")
def _(y, q, tau):
    above, below = np.clip(y - q, 0, None), np.clip(q - y, 0, None)
    return (tau * above + (1 - tau) * below).mean()


@pinball.variant("indicator")
def _(y, q, tau):
    return float(np.mean((y - q) * (tau - (y < q))))


@pinball.variant("absolute value")
def _(y, q, tau):
    d = np.subtract(y, q)
    return np.mean(0.5 * np.abs(d) + (tau - 0.5) * d)


@pinball.variant("loop")
def _(y, q, tau):
    losses = [
        tau * (a - b) if a >= b else (1 - tau) * (b - a)
        for a, b in zip(np.ravel(y), np.ravel(q), strict=True)
    ]
    return sum(losses) / len(losses)


@pinball.variant("indexing")
def _(y, q, tau):
    d = np.array(y - q)
    d[d > 0] *= tau
    d[d < 0] *= tau - 1
    return d.mean()


@pinball.variant("torch inside")
def _(y, q, tau):
    import torch

    d = torch.tensor(np.array(y)) - torch.tensor(np.array(q))
    return torch.maximum(tau * d, (tau - 1) * d).mean().item()
