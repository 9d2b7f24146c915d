"""CTC against the enumeration of all paths, against torch and against finite differences."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse.bptt import numerical_gradient, relative_error
from rnncourse.ctc import collapse, ctc_gradient, ctc_greedy, ctc_log_likelihood, ctc_loss
from rnncourse.rnn import log_softmax

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def by_definition(path, blank):
    merged = [label for label, _ in itertools.groupby(path)]
    return [label for label in merged if label != blank]


def enumerate_paths(log_probs, blank):
    """Return the probability of every label sequence, as a sum over all V ** T paths."""
    T, V = log_probs.shape
    total = {}
    for path in itertools.product(range(V), repeat=T):
        labels = tuple(by_definition(path, blank))
        p = np.exp(log_probs[np.arange(T), list(path)].sum())
        total[labels] = total.get(labels, 0.0) + p
    return total


@few
@given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 3))
def test_collapse_merges_first_and_removes_blanks_then(path, blank):
    assert collapse(path, blank) == by_definition(path, blank)


def test_collapse_keeps_equal_labels_that_a_blank_parts():
    assert collapse([1, 0, 1, 1, 0, 0, 2]) == [1, 1, 2]
    assert collapse(np.array([2, 2, 1]), blank=2) == [1]
    assert collapse([]) == []


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(2, 3), seeds)
def test_likelihoods_are_sums_over_paths_and_sum_to_one(T, V, seed):
    rng = np.random.default_rng(seed)
    blank = int(rng.integers(V))
    log_probs = log_softmax(rng.normal(size=(T, V)))
    totals = enumerate_paths(log_probs, blank)
    for labels, p in totals.items():
        assert np.exp(ctc_log_likelihood(log_probs, labels, blank)) == pytest.approx(p, rel=1e-10)
    assert sum(totals.values()) == pytest.approx(1.0)
    symbols = [v for v in range(V) if v != blank]
    too_long = [symbols[0]] * (T + 1)
    assert ctc_log_likelihood(log_probs, too_long, blank) == -np.inf


@few
@given(st.integers(2, 9), st.integers(2, 5), st.integers(0, 4), seeds)
def test_loss_and_gradient_agree_with_torch(T, V, L, seed):
    rng = np.random.default_rng(seed)
    blank = int(rng.integers(V))
    labels = rng.choice([v for v in range(V) if v != blank], size=L)
    logits = rng.normal(size=(T, V))
    loss, dlogits = ctc_gradient(logits, labels, blank)
    theirs = torch.tensor(logits, requires_grad=True)
    their_loss = torch.nn.functional.ctc_loss(
        torch.log_softmax(theirs, -1),
        torch.tensor(labels),
        (T,),
        (L,),
        blank=blank,
        reduction="sum",
        zero_infinity=True,
    )
    if np.isinf(loss):
        assert their_loss.item() == 0
        assert (dlogits == 0).all()
        return
    their_loss.backward()
    assert loss == pytest.approx(their_loss.item(), rel=1e-10)
    np.testing.assert_allclose(dlogits, theirs.grad, rtol=1e-10, atol=1e-12)


def test_gradient_by_finite_differences():
    logits, labels = np.random.default_rng(0).normal(size=(7, 4)), [1, 1, 3]
    _, dlogits = ctc_gradient(logits, labels)
    numerical = numerical_gradient(lambda a: ctc_gradient(a, labels)[0], logits)
    assert relative_error(dlogits, numerical) < 1e-8


def test_batch_agrees_with_torch_and_ignores_padding():
    rng = np.random.default_rng(3)
    logits, lengths = rng.normal(size=(8, 4, 5)), np.array([8, 3, 5, 2])
    labels = [[1, 2, 2, 4], [3], [], [1, 1]]  # the last needs three steps and has two
    loss, dlogits = ctc_loss(logits, lengths, labels)
    theirs = torch.tensor(logits, requires_grad=True)
    each = torch.nn.functional.ctc_loss(
        torch.log_softmax(theirs, -1),
        torch.tensor([1, 2, 2, 4, 3, 1, 1]),
        torch.tensor(lengths),
        torch.tensor([4, 1, 0, 2]),
        reduction="none",
        zero_infinity=True,
    )
    (each.sum() / 3).backward()
    assert loss == pytest.approx(each.sum().item() / 3, rel=1e-10)
    np.testing.assert_allclose(dlogits, theirs.grad, rtol=1e-10, atol=1e-12)
    for i, n in enumerate(lengths):
        logits[n:, i] = np.nan
    assert ctc_loss(logits, lengths, labels)[0] == loss


def test_long_sequences_do_not_underflow():
    logits = np.zeros((2000, 3))
    loss, dlogits = ctc_gradient(logits, [1, 2] * 50)
    assert np.isfinite(loss)
    np.testing.assert_allclose(dlogits.sum(axis=-1), 0, atol=1e-9)


def test_the_most_probable_path_need_not_be_the_most_probable_labelling():
    # the classic example: the best path says nothing, but the label is more probable
    log_probs = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert ctc_greedy(log_probs) == []
    assert ctc_log_likelihood(log_probs, [1]) > ctc_log_likelihood(log_probs, [])


def test_zero_probabilities_are_allowed_in_the_likelihood():
    with np.errstate(divide="ignore"):
        log_probs = np.log([[0.0, 1.0], [1.0, 0.0]])
    assert ctc_log_likelihood(log_probs, [1]) == pytest.approx(0.0)
    assert ctc_log_likelihood(log_probs, []) == -np.inf


def test_float32_is_kept_and_arguments_are_not_modified():
    logits = np.random.default_rng(0).normal(size=(5, 2, 4)).astype(np.float32)
    before = logits.copy()
    _, dlogits = ctc_loss(logits, [5, 4], [[1], [2, 3]])
    assert dlogits.dtype == np.float32
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ctc_log_likelihood(np.zeros(3), [1]), r"log_probs has shape \(3,\)"),
        (lambda: ctc_log_likelihood(np.zeros((3, 2)), [0, 1]), "without the blank 0"),
        (lambda: ctc_log_likelihood(np.zeros((3, 2)), [2]), "labels holds 2"),
        (lambda: ctc_log_likelihood(np.full((3, 2), np.nan), [1]), "log_probs holds NaN"),
        (lambda: ctc_log_likelihood(np.zeros((3, 2)), [1], blank=2), "blank holds 2"),
        (lambda: ctc_gradient(np.full((3, 2), np.inf), [1]), "logits holds NaN or infinity"),
        (lambda: ctc_greedy(np.zeros((2, 2, 2))), r"log_probs has shape \(2, 2, 2\)"),
        (lambda: ctc_loss(np.zeros((3, 2, 2)), [3, 4], [[1], [1]]), "lengths must lie in"),
        (lambda: ctc_loss(np.zeros((3, 2, 2)), [3, 0], [[1], [1]]), "lengths must lie in"),
        (lambda: ctc_loss(np.zeros((3, 2, 2)), [3, 3], [[1]]), "labels has 1 entries"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
