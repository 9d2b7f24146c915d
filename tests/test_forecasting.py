"""Windows and splits by index, autoregressions against their recursion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse import forecasting as fc

few = settings(max_examples=40, deadline=None)


@few
@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6))
def test_windows_by_index(N, n_in, n_out, stride):
    y = np.random.default_rng(N).normal(size=N)
    if n_in + n_out > N:
        with pytest.raises(ValueError, match="y has shape"):
            fc.windows(y, n_in, n_out, stride)
        return
    inputs, targets = fc.windows(y, n_in, n_out, stride)
    starts = [s for s in range(0, N, stride) if s + n_in + n_out <= N]
    assert inputs.shape == (n_in, len(starts))
    assert targets.shape == (n_out, len(starts))
    for i, s in enumerate(starts):
        np.testing.assert_array_equal(inputs[:, i], y[s : s + n_in])
        np.testing.assert_array_equal(targets[:, i], y[s + n_in : s + n_in + n_out])


def test_windows_of_several_series_are_time_major_copies_in_their_dtype():
    y = np.arange(24, dtype=np.float32).reshape(12, 2)
    inputs, targets = fc.windows(y, n_in=4, n_out=2, stride=3)
    assert inputs.shape == (4, 3, 2)
    assert targets.shape == (2, 3, 2)
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs[:, 1], y[3:7])
    inputs[:] = 0
    assert y[5, 0] == 10


@few
@given(st.integers(1, 12), st.integers(1, 3), st.floats(-1e6, 1e6))
def test_the_scaler_standardises_and_survives_constants(N, D, constant):
    train = np.random.default_rng(N).normal(5, 3, size=(N, D))
    train[:, 0] = constant
    mean, std = fc.fit_scaler(train)
    assert mean.shape == std.shape == (D,)
    assert std[0] == 1
    z = fc.scale(train, mean, std)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-8)
    if N > 1:
        np.testing.assert_allclose(z[:, 1:].std(axis=0), 1, atol=1e-9)
    np.testing.assert_allclose(fc.unscale(z, mean, std), train, rtol=1e-12, atol=1e-9)


def test_the_scaler_of_one_series_is_a_pair_of_scalars():
    mean, std = fc.fit_scaler(np.array([1.0, 2.0, 6.0]))
    assert mean.shape == std.shape == ()
    assert float(mean) == 3.0
    assert float(std) == pytest.approx(np.sqrt(14 / 3))
    assert fc.fit_scaler(np.ones(3, np.float32))[1].dtype == np.float32


@few
@given(st.integers(2, 40), st.integers(1, 10), st.integers(1, 6), st.integers(1, 7))
def test_rolling_origin_never_looks_ahead_and_leaves_no_origin_out(n, first, horizon, step):
    if first + horizon > n:
        with pytest.raises(ValueError, match="n must be at least"):
            fc.rolling_origin(n, first, horizon, step)
        return
    splits = fc.rolling_origin(n, first, horizon, step)
    origins = [o for o in range(first, n, step) if o + horizon <= n]
    assert len(splits) == len(origins)
    for (train, test), origin in zip(splits, origins, strict=True):
        np.testing.assert_array_equal(train, np.arange(origin))
        np.testing.assert_array_equal(test, np.arange(origin, origin + horizon))


@few
@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 8))
def test_seasonal_naive_repeats_the_last_season(N, horizon, m):
    y = np.random.default_rng(N).normal(size=N)
    if m > N:
        with pytest.raises(ValueError, match="y has shape"):
            fc.seasonal_naive(y, horizon, m)
        return
    known = list(y)
    for _ in range(horizon):
        known.append(known[-m])
    np.testing.assert_array_equal(fc.seasonal_naive(y, horizon, m), known[N:])
    np.testing.assert_array_equal(fc.persistence(y, horizon), np.full(horizon, y[-1]))


def test_baselines_of_several_series():
    y = np.arange(8.0).reshape(4, 2)
    np.testing.assert_array_equal(fc.persistence(y, 2), [[6, 7], [6, 7]])
    np.testing.assert_array_equal(fc.seasonal_naive(y, 3, 2), [[4, 5], [6, 7], [4, 5]])


def simulate(intercept, phi, N, noise, seed):
    rng = np.random.default_rng(seed)
    y = list(rng.normal(size=len(phi)))
    for _ in range(N):
        past = y[::-1][: len(phi)]
        y.append(intercept + np.dot(phi, past) + noise * rng.normal())
    return np.array(y)


@pytest.mark.parametrize("phi", [[0.8], [1.2, -0.5], [0.3, 0.0, 0.4]])
def test_a_noiseless_autoregression_is_recovered(phi):
    y = simulate(0.7, phi, 25, noise=0.0, seed=0)
    intercept, fitted = fc.fit_ar(y, len(phi))
    assert intercept == pytest.approx(0.7, rel=1e-6)
    np.testing.assert_allclose(fitted, phi, atol=1e-6)
    np.testing.assert_allclose(fc.forecast_ar(y[:10], intercept, fitted, 15), y[10:25], rtol=1e-5)


def test_the_fit_is_the_least_squares_solution():
    y, p = simulate(0.2, [0.5, 0.2], 60, noise=1.0, seed=1), 3
    intercept, phi = fc.fit_ar(y, p)

    def loss(parameters):
        errors = [
            y[t] - parameters[0] - sum(parameters[k] * y[t - k] for k in range(1, p + 1))
            for t in range(p, len(y))
        ]
        return np.sum(np.square(errors))

    best = np.array([intercept, *phi])
    for direction in np.eye(p + 1):
        assert loss(best) < min(loss(best + 1e-3 * direction), loss(best - 1e-3 * direction))


def test_order_zero_forecasts_the_mean():
    intercept, phi = fc.fit_ar(np.array([1.0, 2.0, 6.0]), 0)
    assert phi.shape == (0,)
    np.testing.assert_allclose(fc.forecast_ar(np.array([9.0]), intercept, phi, 2), [3.0, 3.0])


@few
@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_companion_matrix_advances_the_recursion(p, seed):
    rng = np.random.default_rng(seed)
    phi, y = rng.normal(size=p), rng.normal(size=p)
    state, forecast = y[::-1], fc.forecast_ar(y, 0.0, phi, 4)
    for value in forecast:
        state = fc.companion_matrix(phi) @ state
        assert state[0] == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_the_radius_is_the_rate_at_which_forecasts_decay():
    phi = np.array([1.6, -0.81])  # a damped oscillation: both roots have modulus 0.9
    assert fc.companion_radius(phi) == pytest.approx(0.9)
    forecast = np.abs(fc.forecast_ar(np.array([1.0, 1.0]), 0.0, phi, 400))
    rate = (forecast[350:400].max() / forecast[50:100].max()) ** (1 / 300)
    assert rate == pytest.approx(0.9, abs=1e-3)
    assert fc.companion_radius(np.array([2.0])) == 2.0


def test_arguments_are_not_modified():
    y, phi = np.arange(9.0), np.array([0.5, 0.2])
    for result in (
        *fc.windows(y, 2, 1, 1),
        fc.persistence(y, 2),
        fc.seasonal_naive(y, 2, 3),
        fc.forecast_ar(y, 0.0, phi, 3),
        fc.companion_matrix(phi),
        fc.scale(y, 0.0, 1.0),
    ):
        result[:] = -1
    np.testing.assert_array_equal(y, np.arange(9.0))
    np.testing.assert_array_equal(phi, [0.5, 0.2])


y = np.arange(9.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fc.windows(y, 0, 1, 1), "n_in must be at least 1"),
        (lambda: fc.windows(y, 1, 0, 1), "n_out must be at least 1"),
        (lambda: fc.windows(y, 1, 1, 0), "stride must be at least 1"),
        (lambda: fc.windows(np.array([1.0, np.nan, 2.0]), 1, 1, 1), "y holds NaN"),
        (lambda: fc.windows(np.ones((2, 2, 2)), 1, 1, 1), "y has shape"),
        (lambda: fc.fit_scaler([]), r"train has shape \(0,\)"),
        (lambda: fc.fit_scaler([1.0, np.inf]), "train holds NaN or infinity"),
        (lambda: fc.rolling_origin(9, 0, 1, 1), "first must be at least 1"),
        (lambda: fc.rolling_origin(9, 1, 0, 1), "horizon must be at least 1"),
        (lambda: fc.rolling_origin(9, 1, 1, 0), "step must be at least 1"),
        (lambda: fc.persistence(y, 0), "horizon must be at least 1"),
        (lambda: fc.seasonal_naive(y, 1, 0), "m must be at least 1"),
        (lambda: fc.fit_ar(y, -1), "p must be at least 0"),
        (lambda: fc.fit_ar(y, 5), "N at least 11"),
        (lambda: fc.fit_ar(np.ones((9, 2)), 1), "y has shape"),
        (lambda: fc.companion_matrix([]), "phi has shape"),
        (lambda: fc.forecast_ar(y[:1], 0.0, [0.5, 0.5], 2), "N at least 2"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
