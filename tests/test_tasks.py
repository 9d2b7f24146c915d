"""The synthetic tasks: every target recomputed from the inputs, and their baselines measured."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse import tasks
from rnncourse.rnn import parity_weights, readout, rnn_forward

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@few
@given(st.integers(0, 12), st.integers(1, 6), st.integers(1, 5), st.integers(0, 4), seeds)
def test_delayed_recall(delay, batch, classes, distractors, seed):
    rng = np.random.default_rng(seed)
    x, targets = tasks.delayed_recall(delay, batch, rng, classes, distractors)
    assert x.shape == (delay + 1, batch, classes + distractors)
    np.testing.assert_array_equal(x[0].argmax(axis=-1), targets)
    assert (x[0].sum(axis=-1) == 1).all()
    assert (x[1:, :, :classes] == 0).all()  # the symbol comes once
    assert (x[1:].sum(axis=-1) == (distractors > 0)).all()


@few
@given(st.integers(2, 15), st.integers(1, 6), seeds)
def test_adding(T, batch, seed):
    x, targets = tasks.adding(T, batch, np.random.default_rng(seed))
    assert x.shape == (T, batch, 2)
    assert set(np.unique(x[..., 1])) <= {0.0, 1.0}
    assert (x[: T // 2, :, 1].sum(axis=0) == 1).all()
    assert (x[T // 2 :, :, 1].sum(axis=0) == 1).all()
    for i in range(batch):
        marked = x[x[:, i, 1] == 1, i, 0]
        assert targets[i] == pytest.approx(marked.sum())


def test_the_baseline_of_adding_is_one_sixth():
    _, targets = tasks.adding(10, 200_000, np.random.default_rng(0))
    error = (targets - 1) ** 2
    assert error.mean() == pytest.approx(1 / 6, abs=4 * error.std() / np.sqrt(len(error)))


@few
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 6), st.integers(1, 5), seeds)
def test_copy(delay, batch, symbols, length, seed):
    x, targets = tasks.copy(delay, batch, np.random.default_rng(seed), symbols, length)
    T = delay + 2 * length
    assert x.shape == (T, batch, symbols + 2)
    assert targets.shape == (T, batch)
    tokens = x.argmax(axis=-1)
    blank, go = symbols, symbols + 1
    assert (x.sum(axis=-1) == 1).all()
    np.testing.assert_array_equal(targets[-length:], tokens[:length])
    assert (targets[:-length] == blank).all()
    assert (tokens[:length] < symbols).all()
    assert ((tokens == go).sum(axis=0) == 1).all()
    assert (tokens[T - length - 1] == go).all()  # answers start right after the go sign
    assert (tokens[-length:] == blank).all()


@few
@given(st.integers(10, 40), st.integers(1, 6), seeds)
def test_temporal_order(T, batch, seed):
    x, targets = tasks.temporal_order(T, batch, np.random.default_rng(seed))
    assert x.shape == (T, batch, 6)
    tokens = x.argmax(axis=-1)
    for i in range(batch):
        where = np.flatnonzero(tokens[:, i] < 2)
        assert len(where) == 2
        assert T // 10 <= where[0] < 2 * T // 10
        assert 5 * T // 10 <= where[1] < 6 * T // 10
        assert targets[i] == 2 * tokens[where[0], i] + tokens[where[1], i]


@few
@given(st.integers(1, 12), st.integers(1, 6), seeds)
def test_parity_is_what_the_hand_set_network_computes(T, batch, seed):
    x, targets = tasks.parity(T, batch, np.random.default_rng(seed))
    assert x.shape == (T, batch, 1)
    p = parity_weights()
    h = rnn_forward(x, np.zeros((batch, 2)), p["W_xh"], p["W_hh"], p["b_h"])
    np.testing.assert_array_equal(readout(h, p["W_hy"], p["b_y"]).argmax(axis=-1), targets)


@few
@given(st.integers(1, 12), st.integers(0, 14), st.integers(1, 4), seeds)
def test_echo(T, lag, batch, seed):
    x, targets, mask = tasks.echo(T, lag, batch, np.random.default_rng(seed))
    assert x.shape == (T, batch, 1)
    assert set(np.unique(x)) <= {-1.0, 1.0}
    for t in range(T):
        assert (mask[t] == (t >= lag)).all()
        expected = x[t - lag, :, 0] == 1 if t >= lag else np.zeros(batch)
        np.testing.assert_array_equal(targets[t], expected)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: tasks.delayed_recall(5, 400, rng, classes=4),
        lambda rng: tasks.temporal_order(20, 400, rng),
    ],
)
def test_classes_are_balanced(draw):
    _, targets = draw(np.random.default_rng(0))
    counts = np.bincount(targets, minlength=4)
    assert ((counts - 100) ** 2 / 100).sum() < 16.3  # chi-squared with 3 degrees, p = 0.001


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: tasks.delayed_recall(5, 3, rng),
        lambda rng: tasks.adding(7, 3, rng),
        lambda rng: tasks.copy(3, 2, rng),
        lambda rng: tasks.temporal_order(12, 3, rng),
        lambda rng: tasks.parity(6, 3, rng),
        lambda rng: tasks.echo(9, 2, 3, rng),
        lambda rng: (tasks.mackey_glass(5, 2, rng),),
    ],
)
def test_only_the_generator_decides(draw):
    rng = np.random.default_rng(7)
    first, again, later = draw(np.random.default_rng(7)), draw(rng), draw(rng)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(again, later, strict=True))


def test_mackey_glass_solves_its_equation():
    tau, dt = 17.0, 0.1
    y = tasks.mackey_glass(2000, 3, np.random.default_rng(1), tau, spacing=dt, substeps=1)[..., 0]
    lag = round(tau / dt)
    t = np.arange(lag + 1, len(y) - 1)
    derivative = (y[t + 1] - y[t - 1]) / (2 * dt)
    delayed = y[t - lag]
    np.testing.assert_allclose(
        derivative, 0.2 * delayed / (1 + delayed**10) - 0.1 * y[t], atol=1e-4
    )


def test_mackey_glass_series_differ_and_spacing_skips():
    fine = tasks.mackey_glass(9, 2, np.random.default_rng(3), spacing=1.0, substeps=10)
    coarse = tasks.mackey_glass(5, 2, np.random.default_rng(3), spacing=2.0, substeps=20)
    np.testing.assert_allclose(coarse, fine[::2])
    assert np.abs(fine[:, 0] - fine[:, 1]).max() > 1e-3


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda rng: tasks.delayed_recall(-1, 3, rng), "delay"),
        (lambda rng: tasks.delayed_recall(3, 0, rng), "batch"),
        (lambda rng: tasks.delayed_recall(3, 2, rng, classes=0), "classes"),
        (lambda rng: tasks.adding(1, 3, rng), "T must"),
        (lambda rng: tasks.copy(0, 3, rng), "delay"),
        (lambda rng: tasks.copy(2, 3, rng, length=0), "length"),
        (lambda rng: tasks.temporal_order(9, 3, rng), "T must"),
        (lambda rng: tasks.parity(0, 3, rng), "T must"),
        (lambda rng: tasks.echo(3, -1, 3, rng), "lag"),
        (lambda rng: tasks.mackey_glass(3, 2, rng, tau=17.03), "tau must be a whole number"),
        (lambda rng: tasks.mackey_glass(3, 2, rng, spacing=0.0), "spacing"),
        (lambda rng: tasks.one_hot(np.array([3]), 3), "tokens holds 3"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=name):
        call(np.random.default_rng(0))
