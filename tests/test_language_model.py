"""The n-gram model against its definition written with dicts, and copying by brute force."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse.language_model import KneserNey, longest_copied_ngram, ngram_counts

few = settings(max_examples=25, deadline=None)
texts = st.lists(st.integers(0, 3), min_size=4, max_size=40)


def kneser_ney(tokens, n, V):
    """Return p(word | context) after the formula, one token at a time."""
    counts = {n: ngram_counts(tokens, n)}
    for k in range(n - 1, 0, -1):
        left = defaultdict(set)
        for before, *gram in ngram_counts(tokens, k + 1):
            left[tuple(gram)].add(before)
        counts[k] = {gram: len(before) for gram, before in left.items()}

    def p(word, context):
        if context is None:
            return 1 / V
        table = counts[len(context) + 1]
        shorter = p(word, context[1:] if context else None)
        after = {g[-1]: c for g, c in table.items() if g[:-1] == context}
        if not after:
            return shorter
        once = sum(c == 1 for c in table.values())
        twice = sum(c == 2 for c in table.values())
        d = once / (once + 2 * twice) if once and twice else 0.5
        kept = max(after.get(word, 0) - d, 0)
        return (kept + d * len(after) * shorter) / sum(after.values())

    return p


@few
@given(texts, st.integers(1, 4))
def test_kneser_ney_by_definition(tokens, n):
    model = KneserNey(np.array(tokens), n, V=5)
    p = kneser_ney(tokens, n, V=5)
    text = np.random.default_rng(len(tokens)).integers(5, size=12)
    expected = [
        np.log(p(int(w), tuple(text[max(i - n + 1, 0) : i].tolist()))) for i, w in enumerate(text)
    ]
    np.testing.assert_allclose(model.log_probs(text), expected, rtol=1e-10)


@few
@given(texts, st.integers(1, 4), st.lists(st.integers(0, 4), max_size=6))
def test_probabilities_are_positive_and_sum_to_one_after_any_context(tokens, n, context):
    p = KneserNey(np.array(tokens), n, V=5).distribution(context)
    assert p.shape == (5,)
    assert (p > 0).all()
    assert p.sum() == pytest.approx(1.0)


@few
@given(texts, st.integers(1, 4))
def test_log_probs_are_those_of_the_distributions(tokens, n):
    model = KneserNey(np.array(tokens), n, V=4)
    text = np.array(tokens[::-1])
    each = [np.log(model.distribution(text[:i])[w]) for i, w in enumerate(text)]
    np.testing.assert_allclose(model.log_probs(text), each, rtol=1e-12)


def test_log_probs_are_causal():
    rng = np.random.default_rng(0)
    model = KneserNey(rng.integers(6, size=300), 3, V=6)
    text = rng.integers(6, size=20)
    changed = text.copy()
    changed[12] = (text[12] + 1) % 6
    same = model.log_probs(text) == model.log_probs(changed)
    assert same[:12].all()
    assert same[15:].all()  # three tokens see the change: itself and the two after it
    assert not same[12]


def test_higher_orders_help_on_a_markov_chain_and_the_model_approaches_its_entropy():
    rng = np.random.default_rng(1)
    P = rng.dirichlet(0.3 * np.ones(5), size=(5, 5))
    tokens = [0, 1]
    for u in rng.random(30_000):
        tokens.append(int((P[tokens[-2], tokens[-1]].cumsum() < u).sum()))
    tokens = np.array(tokens).clip(max=4)
    train, test = tokens[:25_000], tokens[25_000:]
    loss = {n: -KneserNey(train, n, V=5).log_probs(test).mean() for n in (1, 2, 3, 4)}
    true = -np.log(P[test[:-2], test[1:-1], test[2:]]).mean()
    assert loss[1] > loss[2] + 0.05 > loss[3] + 0.1
    assert loss[3] == pytest.approx(true, abs=0.01)
    assert loss[4] == pytest.approx(true, abs=0.03)


def test_a_continuation_counts_once_per_context():
    # 'francisco' (2) is frequent but follows only 'san' (1); 'the' (3) follows three tokens
    tokens = np.array([1, 2, 1, 2, 1, 2, 1, 2, 0, 3, 4, 3, 1, 3, 0])
    p = KneserNey(tokens, 2, V=6).distribution([5])  # a context never seen
    assert p[3] > p[2]


def test_ngram_counts_by_brute_force():
    tokens = np.array([0, 1, 0, 1, 1])
    assert ngram_counts(tokens, 1) == {(0,): 2, (1,): 3}
    assert ngram_counts(tokens, 2) == {(0, 1): 2, (1, 0): 1, (1, 1): 1}
    assert ngram_counts(tokens.tolist(), 5) == {(0, 1, 0, 1, 1): 1}
    assert ngram_counts(tokens, 6) == {}
    assert ngram_counts([], 1) == {}
    assert ngram_counts(["a", "b", "a"], 1) == {("a",): 2, ("b",): 1}
    assert all(type(t) is int for gram in ngram_counts(tokens, 2) for t in gram)


@few
@given(st.text("abc", max_size=15), st.text("abc", max_size=15))
def test_longest_copied_ngram_by_brute_force(sample, train):
    runs = {sample[i:j] for i in range(len(sample) + 1) for j in range(i, len(sample) + 1)}
    expected = max(len(run) for run in runs if run in train)
    assert longest_copied_ngram(sample, train) == expected
    codes = {c: i for i, c in enumerate("abc")}
    as_arrays = [np.array([codes[c] for c in s], int) for s in (sample, train)]
    assert longest_copied_ngram(*as_arrays) == expected


def test_arguments_are_not_modified():
    tokens, text = np.array([0, 1, 2, 1]), np.array([2, 1])
    KneserNey(tokens, 2, 3).log_probs(text)
    longest_copied_ngram(text, tokens)
    np.testing.assert_array_equal(tokens, [0, 1, 2, 1])
    np.testing.assert_array_equal(text, [2, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ngram_counts("abc", 0), "n must be at least 1"),
        (lambda: KneserNey(np.array([0, 1]), 0, 2), "n must be at least 1"),
        (lambda: KneserNey(np.array([0, 1]), 3, 2), "N at least 3"),
        (lambda: KneserNey(np.array([0, 2]), 1, 2), "tokens holds 2"),
        (lambda: KneserNey(np.arange(99), 20, 100), "does not fit into 63 bits"),
        (lambda: KneserNey(np.array([0, 1]), 1, 2).log_probs([2]), "tokens holds 2"),
        (lambda: KneserNey(np.array([0, 1]), 2, 2).distribution([-1]), "context holds -1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
