"""Metrics against well-kept implementations and their definitions."""

import functools
import itertools
import math

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse import metrics
from rnncourse.rnn import cross_entropy, log_softmax

few = settings(max_examples=40, deadline=None)
words = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=12)


# language models


@pytest.mark.parametrize("V", [1, 2, 50])
def test_the_perplexity_of_the_uniform_distribution_is_the_number_of_choices(V):
    assert metrics.perplexity(np.full((3, 4), -np.log(V))) == pytest.approx(V)


def test_perplexity_is_the_exponential_of_the_cross_entropy_of_what_counts():
    rng = np.random.default_rng(0)
    logits, targets, mask = (
        rng.normal(size=(6, 3, 5)),
        rng.integers(5, size=(6, 3)),
        np.ones((6, 3)),
    )
    mask[4:, 1] = 0
    log_p = np.take_along_axis(log_softmax(logits), targets[..., None], -1)[..., 0]
    log_p[4:, 1] = np.nan
    expected = np.exp(cross_entropy(logits, targets, mask))
    assert metrics.perplexity(log_p, mask) == pytest.approx(expected)
    assert metrics.perplexity(log_p, np.zeros((6, 3))) == 1.0


def test_a_token_held_impossible_makes_the_perplexity_infinite():
    assert metrics.perplexity(np.array([0.0, -np.inf])) == math.inf


def test_bits_per_character_of_a_fair_choice():
    assert metrics.bits_per_character(np.log(32)) == pytest.approx(5)
    assert metrics.bits_per_character(0.0) == 0.0


def test_accuracy_counts_valid_positions_only():
    logits = np.array([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 2.0], [0.0, 1.0]]])
    targets = np.array([[0, 0], [0, 1]])
    assert metrics.accuracy(logits, targets) == 0.75
    assert metrics.accuracy(logits, targets, [[1, 0], [1, 1]]) == 1.0
    assert metrics.accuracy(logits, targets, np.zeros((2, 2), bool)) == 0.0


# translation


@few
@given(st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_bleu_agrees_with_sacrebleu(corpus):
    candidates = [candidate for candidate, _ in corpus]
    references = [alternatives for _, alternatives in corpus]
    streams = [
        [" ".join(r[i]) if i < len(r) else None for r in references]
        for i in range(max(map(len, references)))
    ]
    for max_n in (2, 4):
        theirs = sacrebleu.metrics.BLEU(
            smooth_method="none", tokenize="none", force=True, max_ngram_order=max_n
        ).corpus_score([" ".join(c) for c in candidates], streams)
        ours = 100 * metrics.bleu(candidates, references, max_n)
        assert ours == pytest.approx(theirs.score, rel=1e-9, abs=1e-9)


def test_bleu_at_known_points():
    sentence = ["it", "is", "a", "guide", "to", "action"]
    assert metrics.bleu([sentence], [[sentence]]) == 1.0
    assert metrics.bleu([sentence], [[sentence[::-1]]]) == 0.0
    assert metrics.bleu([sentence[:5]], [[sentence]]) == pytest.approx(math.exp(1 - 6 / 5))
    assert metrics.bleu([sentence[:3]], [[sentence]]) == 0.0  # it has no 4-gram
    assert metrics.bleu([[]], [[sentence]]) == 0.0


def test_bleu_of_a_corpus_is_not_the_mean_over_sentences():
    a, b = ["a", "b", "c", "d", "e"], ["a", "b", "c", "d", "x", "y", "z", "w"]
    reference_b = ["a", "b", "c", "d", "e", "f", "g", "h"]
    corpus = metrics.bleu([a, b], [[a], [reference_b]])
    mean = (metrics.bleu([a], [[a]]) + metrics.bleu([b], [[reference_b]])) / 2
    assert abs(corpus - mean) > 0.01


# speech


@few
@given(words, words)
def test_edit_distance_by_recursion(a, b):
    @functools.cache
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        same = a[i - 1] == b[j - 1]
        return min(
            distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + 1 - same
        )

    assert metrics.edit_distance(a, b) == distance(len(a), len(b))


def test_word_error_rate_sums_before_it_divides_and_may_exceed_one():
    assert metrics.word_error_rate([["a"], ["b", "c"]], [["a"], ["b", "d", "e"]]) == 2 / 4
    assert metrics.word_error_rate([["a", "b", "c"]], [["d"]]) == 3.0
    assert metrics.word_error_rate([[]], [["a"]]) == 1.0


# forecasts


def test_mase_by_definition_and_of_the_naive_forecast_in_training():
    rng = np.random.default_rng(0)
    train, y, y_hat = rng.normal(size=30), rng.normal(size=8), rng.normal(size=8)
    for m in (1, 4):
        scale = np.mean([abs(train[t] - train[t - m]) for t in range(m, 30)])
        expected = np.mean([abs(a - b) for a, b in zip(y, y_hat, strict=True)]) / scale
        assert metrics.mase(y, y_hat, train, m) == pytest.approx(expected)
        assert metrics.mase(train[m:], train[:-m], train, m) == pytest.approx(1.0)


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.9])
def test_pinball_is_smallest_at_the_quantile(tau):
    y = np.random.default_rng(1).normal(size=4001)
    grid = np.sort(y)[::40]
    losses = [metrics.pinball(y, np.full_like(y, q), tau) for q in grid]
    assert abs(grid[np.argmin(losses)] - np.quantile(y, tau)) < 0.05


def test_pinball_at_the_median_is_half_the_absolute_error_and_its_sides_differ():
    y, q = np.array([1.0, 5.0]), np.array([3.0, 4.0])
    assert metrics.pinball(y, q, 0.5) == pytest.approx(np.abs(y - q).mean() / 2)
    assert metrics.pinball([1.0], [0.0], 0.9) == pytest.approx(0.9)  # the value was higher
    assert metrics.pinball([0.0], [1.0], 0.9) == pytest.approx(0.1)


def test_interval_coverage_counts_the_ends():
    y = np.array([[0.0, 1.0], [2.0, 3.0]])
    assert metrics.interval_coverage(y, np.full((2, 2), 1.0), np.full((2, 2), 2.0)) == 0.5
    assert metrics.interval_coverage([0.0], [0.0], [0.0]) == 1.0


def test_rmse_and_skill():
    assert metrics.rmse([0.0, 0.0], [3.0, 4.0]) == pytest.approx(math.sqrt(12.5))
    assert metrics.skill(1.0, 2.0) == 0.5
    assert metrics.skill(3.0, 2.0) < 0


def test_arguments_are_not_modified():
    rng = np.random.default_rng(0)
    y, other, train = rng.normal(size=6), rng.normal(size=6), rng.normal(size=9)
    before = y.copy(), other.copy(), train.copy()
    metrics.mase(y, other, train, 2)
    metrics.pinball(y, other, 0.3)
    metrics.rmse(y, other)
    metrics.interval_coverage(y, np.minimum(y, other), other.max() * np.ones(6) + 9)
    for a, b in zip((y, other, train), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.perplexity(np.array([0.5])), "not log-probabilities"),
        (lambda: metrics.perplexity(np.array([np.nan])), "NaN"),
        (lambda: metrics.perplexity(np.zeros(3), np.ones(2)), r"mask has shape \(2,\)"),
        (lambda: metrics.bits_per_character(-0.1), "loss must be at least 0"),
        (lambda: metrics.bleu([], []), "candidates has 0 entries"),
        (lambda: metrics.bleu([["a"]], [[["a"]], [["b"]]]), "references has 2"),
        (lambda: metrics.bleu([["a"]], [[]]), "at least one reference"),
        (lambda: metrics.bleu([["a"]], [[["a"]]], max_n=0), "max_n"),
        (lambda: metrics.word_error_rate([["a"]], []), "references has 0"),
        (lambda: metrics.word_error_rate([["a"]], [[]]), "at least one word"),
        (lambda: metrics.mase([1.0], [1.0, 2.0], np.arange(5.0), 1), r"y_hat has shape \(2,\)"),
        (lambda: metrics.mase([1.0], [1.0], np.arange(3.0), 3), "m is 3"),
        (lambda: metrics.mase([1.0], [1.0], np.arange(3.0), 0), "m must be at least 1"),
        (lambda: metrics.mase([1.0], [1.0], np.ones(5), 1), "repeats itself"),
        (lambda: metrics.pinball([1.0], [1.0], 1.0), "tau must lie in"),
        (lambda: metrics.pinball([], [], 0.5), "at least one entry"),
        (lambda: metrics.interval_coverage([1.0], [2.0], [0.0]), "lower is above upper"),
        (lambda: metrics.rmse([1.0], [[1.0]]), "y_hat has shape"),
        (lambda: metrics.skill(1.0, 0.0), "baseline_error must be positive"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_edit_distance_is_a_metric():
    strings = ["", "a", "ab", "ba", "abc"]
    for a, b, c in itertools.product(strings, repeat=3):
        d = metrics.edit_distance
        assert d(a, b) == d(b, a)
        assert (d(a, b) == 0) == (a == b)
        assert d(a, c) <= d(a, b) + d(b, c)
