"""Teacher forcing, sampling by distribution, and beam search against exhaustive search."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse import decoding as dec
from rnncourse.rnn import log_softmax

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def random_language(seed, V=3):
    """Return a step function whose distribution depends on the whole prefix, and its table."""
    table = {}

    def log_probs(prefix):
        if prefix not in table:
            rng = np.random.default_rng([seed, *prefix])
            table[prefix] = log_softmax(2 * rng.normal(size=V))
        return table[prefix]

    def step_fn(token, state):
        prefix = () if state is None else (*state, token)
        return log_probs(prefix), prefix

    return step_fn, log_probs


def exhaustive(log_probs, eos, V, max_len, alpha):
    """Return the best of all sequences that end in eos or have max_len tokens."""
    best, best_score = None, -math.inf
    for length in range(1, max_len + 1):
        for tokens in itertools.product(range(V), repeat=length):
            ends = tokens[-1] == eos or length == max_len
            if eos in tokens[:-1] or not ends:
                continue
            total = sum(log_probs(tokens[:i])[token] for i, token in enumerate(tokens))
            if total / length**alpha > best_score:
                best, best_score = list(tokens), total / length**alpha
    return best, best_score


@few
@given(seeds, st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.integers(1, 4))
def test_a_wide_beam_is_exhaustive_search(seed, alpha, max_len):
    step_fn, log_probs = random_language(seed)
    tokens, score = dec.beam_search(step_fn, 0, 2, width=3**max_len, max_len=max_len, alpha=alpha)
    best, best_score = exhaustive(log_probs, eos=2, V=3, max_len=max_len, alpha=alpha)
    assert tokens == best
    assert score == pytest.approx(best_score, rel=1e-12)


@few
@given(seeds, st.integers(1, 6))
def test_a_beam_of_one_is_greedy(seed, max_len):
    step_fn, _ = random_language(seed)
    tokens, log_prob = dec.greedy(step_fn, bos=0, eos=2, max_len=max_len)
    beam, score = dec.beam_search(step_fn, 0, 2, width=1, max_len=max_len, alpha=0.0)
    assert tokens == beam
    assert log_prob == pytest.approx(score, rel=1e-12)


@few
@given(seeds, st.integers(1, 5))
def test_the_score_belongs_to_the_tokens_and_eos_ends_them(seed, width):
    step_fn, log_probs = random_language(seed)
    tokens, score = dec.beam_search(step_fn, 0, 2, width=width, max_len=5, alpha=0.7)
    total = sum(log_probs(tuple(tokens[:i]))[token] for i, token in enumerate(tokens))
    assert score == pytest.approx(total / len(tokens) ** 0.7, rel=1e-12)
    assert 2 not in tokens[:-1]
    assert tokens[-1] == 2 or len(tokens) == 5
    assert all(isinstance(token, int) for token in tokens)


def test_length_normalisation_lengthens():
    # stop at once with probability 0.4, or say 1 three times with 0.7 each and then stop
    def step_fn(token, state):
        said = 0 if state is None else state + 1
        p = [0.0, 0.6, 0.4] if said == 0 else [0.0, 0.7, 0.3] if said < 3 else [0.0, 0.0, 1.0]
        with np.errstate(divide="ignore"):
            return np.log(p), said

    assert dec.beam_search(step_fn, 0, 2, width=4, max_len=9, alpha=0.0)[0] == [2]
    assert dec.beam_search(step_fn, 0, 2, width=4, max_len=9, alpha=1.0)[0] == [1, 1, 1, 2]


def test_ties_go_to_the_lower_token():
    flat = lambda token, state: (np.log(np.full(4, 0.25)), state)  # noqa: E731
    assert dec.greedy(flat, bos=0, eos=3, max_len=3)[0] == [0, 0, 0]
    assert dec.beam_search(flat, 0, 3, width=2, max_len=3, alpha=1.0)[0] == [0, 0, 0]


@few
@given(st.integers(1, 6), st.integers(1, 4), seeds)
def test_shift_right_delays_by_one(T, B, seed):
    y = np.random.default_rng(seed).integers(1, 9, size=(T, B))
    before = y.copy()
    inputs = dec.shift_right(y, bos=0)
    assert (inputs[0] == 0).all()
    np.testing.assert_array_equal(inputs[1:], y[:-1])
    assert inputs.dtype == y.dtype
    inputs[:] = 99
    np.testing.assert_array_equal(y, before)


def test_shift_right_takes_vectors_and_float32():
    inputs = dec.shift_right(np.ones((3, 2, 1), np.float32), bos=0.5)
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs[:, 0, 0], [0.5, 1, 1])


def test_mix_inputs_tosses_one_coin_per_entry():
    gold, predicted = np.zeros((60, 50), int), np.ones((60, 50), int)
    mixed = dec.mix_inputs(gold, predicted, 0.3, np.random.default_rng(0))
    n = mixed.size
    assert (mixed == 0).mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / n))
    assert np.ptp(mixed, axis=0).all()  # both sources occur inside every row ...
    assert np.ptp(mixed, axis=1).all()  # ... and every column
    assert (mixed[1:] != mixed[:-1]).mean() == pytest.approx(0.42, abs=0.04)  # independent


@few
@given(seeds)
def test_mix_inputs_at_the_ends_and_without_changing_arguments(seed):
    rng = np.random.default_rng(seed)
    gold, predicted = rng.normal(size=(4, 3, 2)), rng.normal(size=(4, 3, 2))
    before = gold.copy(), predicted.copy()
    np.testing.assert_array_equal(dec.mix_inputs(gold, predicted, 1.0, rng), gold)
    np.testing.assert_array_equal(dec.mix_inputs(gold, predicted, 0.0, rng), predicted)
    mixed = dec.mix_inputs(gold, predicted, 0.5, rng)
    assert ((mixed == gold) | (mixed == predicted)).all()
    mixed[:] = 0
    np.testing.assert_array_equal(gold, before[0])
    np.testing.assert_array_equal(predicted, before[1])


@few
@given(st.floats(1, 1e4), st.floats(0, 1e9), st.floats(0, 1e9))
def test_inverse_sigmoid_falls_from_almost_one_to_zero(k, a, b):
    early, late = sorted((a, b))
    assert 0 <= dec.inverse_sigmoid(late, k) <= dec.inverse_sigmoid(early, k) < 1
    assert dec.inverse_sigmoid(0, k) == pytest.approx(k / (k + 1))
    assert dec.inverse_sigmoid(k * math.log(k), k) == pytest.approx(0.5)


def test_schedules_by_definition():
    assert dec.inverse_sigmoid(20.0, 10.0) == pytest.approx(10 / (10 + math.exp(2)))
    assert [dec.linear_decay(s, total=4, floor=0.2) for s in (0, 2, 4, 9)] == pytest.approx(
        [1.0, 0.6, 0.2, 0.2]
    )
    assert [dec.exponential_decay(s, k=0.9) for s in (0, 1, 2)] == pytest.approx([1, 0.9, 0.81])


@few
@given(st.integers(1, 5), st.integers(1, 4), seeds)
def test_free_run_feeds_its_own_argmax_back(steps, B, seed):
    rng = np.random.default_rng(seed)
    E, W, W_hy = rng.normal(size=(5, 3)), rng.normal(size=(3, 3)), rng.normal(size=(5, 3))
    calls = []

    def step_fn(tokens, h):
        calls.append((tokens.copy(), h.copy()))
        h = np.tanh(E[tokens] + h @ W.T)
        return h @ W_hy.T, h

    h0 = rng.normal(size=(B, 3))
    tokens = dec.free_run(step_fn, h0, bos=4, steps=steps)
    assert tokens.shape == (steps, B)
    np.testing.assert_array_equal(calls[0][0], np.full(B, 4))
    np.testing.assert_array_equal(calls[0][1], h0)
    h = h0
    for t, (read, state) in enumerate(calls):
        np.testing.assert_array_equal(state, h)
        h = np.tanh(E[read] + h @ W.T)
        np.testing.assert_array_equal(tokens[t], (h @ W_hy.T).argmax(axis=-1))
        if t + 1 < steps:
            np.testing.assert_array_equal(calls[t + 1][0], tokens[t])


def test_free_run_takes_a_tuple_as_state():
    step_fn = lambda tokens, s: (np.eye(3)[(tokens + 1) % 3], s)  # noqa: E731
    assert dec.free_run(step_fn, (np.zeros((2, 4)), np.zeros((2, 4))), 0, 3).shape == (3, 2)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [None, 3, 99])
def test_sample_draws_from_the_tempered_truncated_softmax(temperature, top_k):
    logits = np.array([0.3, -1.0, 1.2, 0.9, -0.2])
    n = 20_000
    rng = np.random.default_rng(1)
    tokens = dec.sample(np.tile(logits, (n, 1)), temperature, top_k, rng)
    p = np.exp(logits / temperature)
    if top_k == 3:
        p[[1, 4]] = 0
    p /= p.sum()
    observed = np.bincount(tokens, minlength=5)
    assert (observed[p == 0] == 0).all()
    chi_squared = ((observed - n * p)[p > 0] ** 2 / (n * p[p > 0])).sum()
    assert chi_squared < 18.5  # 4 degrees of freedom, p = 0.001


def test_sample_from_one_row_is_an_int_and_a_low_temperature_is_greedy():
    rng = np.random.default_rng(0)
    token = dec.sample(np.array([0.0, 1.0, 0.5]), 1e-12, None, rng)
    assert token == 1
    assert isinstance(token, int)
    assert {dec.sample(np.array([5.0, 5.0, 0.0]), 1.0, 1, rng) for _ in range(50)} == {0, 1}
    assert dec.sample(np.array([-np.inf, 3.0]), 1.0, None, rng) == 1


def test_free_sample_follows_the_chain():
    # from token 0 always to 1; from 1 to 0 or 2; 2 stays
    P = np.array([[0, 1, 0], [0.5, 0, 0.5], [0, 0, 1]])
    with np.errstate(divide="ignore"):
        log_P = np.log(P)
    step_fn = lambda tokens, h: (log_P[tokens], h)  # noqa: E731
    rng = np.random.default_rng(0)
    tokens = dec.free_sample(step_fn, np.zeros((400, 1)), 0, 6, 1.0, None, rng)
    assert (tokens[0] == 1).all()
    assert (P[tokens[:-1], tokens[1:]] > 0).all()
    assert (tokens[1] == 0).mean() == pytest.approx(0.5, abs=0.1)


def test_batch_of_one_hands_the_state_on():
    seen = []

    def step_fn(tokens, h):
        seen.append(h.item())
        return np.array([[0.0, 1.0, 2.0]]), h + 1

    dec.greedy(dec.batch_of_one(step_fn, np.array([[5.0]])), bos=0, eos=0, max_len=3)
    assert seen == [5.0, 6.0, 7.0]


good = lambda token, state: (np.log([0.5, 0.5]), state)  # noqa: E731
rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dec.shift_right(np.ones((0, 2)), 0), r"y has shape \(0, 2\)"),
        (lambda: dec.mix_inputs(np.ones(2), np.ones(3), 0.5, rng), r"predicted has shape \(3,\)"),
        (lambda: dec.mix_inputs(np.ones(2), np.ones(2), 1.5, rng), r"eps must lie in \[0, 1\]"),
        (lambda: dec.inverse_sigmoid(-1, 3.0), "step must be at least 0"),
        (lambda: dec.inverse_sigmoid(1, 0.5), "k must be at least 1"),
        (lambda: dec.linear_decay(1, 0.0), "total must be positive"),
        (lambda: dec.linear_decay(1, 5.0, floor=2.0), "floor"),
        (lambda: dec.exponential_decay(1, 1.0), "k must lie"),
        (lambda: dec.free_run(good, np.zeros((1, 1)), 0, 0), "steps must be at least 1"),
        (lambda: dec.free_run(good, np.zeros((1, 1)), -1, 3), "bos must be at least 0"),
        (lambda: dec.sample(np.ones(3), 0.0, None, rng), "temperature must be positive"),
        (lambda: dec.sample(np.ones(3), 1.0, 0, rng), "top_k must be at least 1"),
        (lambda: dec.sample(np.array([np.nan, 1.0]), 1.0, None, rng), "logits holds NaN"),
        (lambda: dec.sample(np.ones((2, 2, 2)), 1.0, None, rng), "logits has shape"),
        (lambda: dec.greedy(good, 0, 1, 0), "max_len must be at least 1"),
        (lambda: dec.beam_search(good, 0, 1, 0, 3, 1.0), "width must be at least 1"),
        (lambda: dec.beam_search(good, 0, 1, 2, 3, -1.0), "alpha must be at least 0"),
        (
            lambda: dec.beam_search(lambda t, s: (np.array([2.0, 1.0]), s), 0, 1, 2, 3, 0.0),
            "must return log-probabilities",
        ),
        (
            lambda: dec.greedy(lambda t, s: (np.log([[0.5, 0.5]]), s), 0, 1, 2),
            "must return log-probabilities",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("bos", [0.5, 300, -1])
def test_a_first_token_that_the_dtype_cannot_hold_is_refused(bos):
    with pytest.raises(TypeError, match="bos must fit"):
        dec.shift_right(np.ones(2, np.uint8), bos)
