"""Attention against torch autograd, and that masked steps never matter."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse import attention as att
from rnncourse.bptt import numerical_gradient, relative_error

few = settings(max_examples=25, deadline=None)
sizes = st.tuples(*[st.integers(1, 5)] * 4, st.integers(0, 2**32 - 1))


def problem(S, B, H, E, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((S, B)) < 0.7
    return rng.normal(size=(B, H)), rng.normal(size=(S, B, H)), rng.normal(size=(S, B, E)), mask


def tensors(*arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays]


@few
@given(sizes)
def test_dot_attention_agrees_with_torch_in_values_and_gradients(size):
    q, K, V, mask = problem(*size)
    mask[0] = True  # torch has no weights for an empty mask
    context, weights = att.dot_attention(q, K, V, mask)
    tq, tK, tV = tensors(q, K, V)
    scores = (tq * tK).sum(-1).masked_fill(torch.tensor(~mask), -torch.inf)
    their_weights = torch.softmax(scores, dim=0)
    their_context = (their_weights[..., None] * tV).sum(0)
    np.testing.assert_allclose(weights, their_weights.detach(), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(context, their_context.detach(), rtol=1e-10, atol=1e-13)

    G = np.random.default_rng(1).normal(size=context.shape)
    their_context.backward(torch.tensor(G))
    for ours, theirs in zip(att.attention_backward(G, q, K, V, weights), (tq, tK, tV), strict=True):
        np.testing.assert_allclose(ours, theirs.grad, rtol=1e-10, atol=1e-12)


@few
@given(sizes)
def test_scaled_queries_give_torchs_scaled_dot_product_attention(size):
    q, K, V, mask = problem(*size)
    mask[-1] = True
    context, _ = att.dot_attention(q / np.sqrt(q.shape[-1]), K, V, mask)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        torch.tensor(q)[:, None],
        torch.tensor(K).transpose(0, 1),
        torch.tensor(V).transpose(0, 1),
        attn_mask=torch.tensor(mask).T[:, None],
    )
    np.testing.assert_allclose(context, theirs[:, 0], rtol=1e-10, atol=1e-12)


@few
@given(sizes, st.integers(1, 4))
def test_additive_attention_agrees_with_torch_in_values_and_gradients(size, A):
    q, _, K, mask = problem(*size)
    mask[0] = True
    rng = np.random.default_rng(2)
    W_q, W_k, v = (
        rng.normal(size=(A, q.shape[1])),
        rng.normal(size=(A, K.shape[2])),
        rng.normal(size=A),
    )
    scores = att.additive_scores(q, K, W_q, W_k, v)
    context, weights = att.attend(scores, K, mask)
    tq, tK, tW_q, tW_k, tv = tensors(q, K, W_q, W_k, v)
    their_scores = torch.tanh(tq @ tW_q.T + tK @ tW_k.T) @ tv
    their_weights = torch.softmax(their_scores.masked_fill(torch.tensor(~mask), -torch.inf), 0)
    their_context = (their_weights[..., None] * tK).sum(0)
    np.testing.assert_allclose(scores, their_scores.detach(), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(context, their_context.detach(), rtol=1e-10, atol=1e-13)

    G = rng.normal(size=context.shape)
    their_context.backward(torch.tensor(G))
    dscores, dV = att.attend_backward(G, K, weights)
    dq, dK, dW_q, dW_k, dv = att.additive_scores_backward(dscores, q, K, W_q, W_k, v)
    for ours, theirs in ((dq, tq), (dK + dV, tK), (dW_q, tW_q), (dW_k, tW_k), (dv, tv)):
        np.testing.assert_allclose(ours, theirs.grad, rtol=1e-10, atol=1e-12)


def test_gradients_by_finite_differences():
    q, K, V, mask = problem(4, 2, 3, 5, seed=3)
    mask[0] = True
    G = np.random.default_rng(4).normal(size=(2, 5))
    _, weights = att.dot_attention(q, K, V, mask)
    dq, dK, dV = att.attention_backward(G, q, K, V, weights)

    def loss(q, K, V):
        return (att.dot_attention(q, K, V, mask)[0] * G).sum()

    assert relative_error(dq, numerical_gradient(lambda a: loss(a, K, V), q)) < 1e-8
    assert relative_error(dK, numerical_gradient(lambda a: loss(q, a, V), K)) < 1e-8
    assert relative_error(dV, numerical_gradient(lambda a: loss(q, K, a), V)) < 1e-8


@few
@given(sizes)
def test_weights_sum_to_one_over_real_steps_and_an_empty_mask_gives_zero(size):
    q, K, V, mask = problem(*size)
    context, weights = att.dot_attention(q, K, V, mask)
    np.testing.assert_allclose(weights.sum(axis=0), mask.any(axis=0), atol=1e-12)
    assert (weights[~mask] == 0).all()
    assert (context[~mask.any(axis=0)] == 0).all()
    for g in att.attention_backward(np.ones_like(context), q, K, V, weights):
        assert np.isfinite(g).all()


@few
@given(sizes)
def test_what_stands_at_masked_steps_does_not_matter(size):
    q, K, V, mask = problem(*size)
    context, weights = att.dot_attention(q, K, V, mask)
    K_bad, V_bad = K.copy(), V.copy()
    K_bad[~mask], V_bad[~mask] = np.nan, np.inf
    other_context, other_weights = att.dot_attention(q, K_bad, V_bad, mask)
    np.testing.assert_array_equal(context, other_context)
    np.testing.assert_array_equal(weights, other_weights)
    G = np.ones_like(context)
    for a, b in zip(
        att.attention_backward(G, q, K, V, weights),
        att.attention_backward(G, q, K_bad, V_bad, weights),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@few
@given(sizes)
def test_permuting_source_steps_or_batch_permutes_the_result(size):
    q, K, V, mask = problem(*size)
    context, weights = att.dot_attention(q, K, V, mask)
    rng = np.random.default_rng(0)
    steps, order = rng.permutation(len(K)), rng.permutation(len(q))
    other, other_weights = att.dot_attention(q, K[steps], V[steps], mask[steps])
    np.testing.assert_allclose(other, context, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(other_weights, weights[steps], rtol=1e-12, atol=1e-14)
    other, _ = att.dot_attention(q[order], K[:, order], V[:, order], mask[:, order])
    np.testing.assert_allclose(other, context[order], rtol=1e-12, atol=1e-14)


def test_large_scores_do_not_overflow():
    weights = att.masked_softmax(np.array([[1e4], [1e4 - 1], [-1e4]]))
    np.testing.assert_allclose(weights[:, 0], [1 / (1 + np.exp(-1)), 1 / (1 + np.e), 0])


def test_the_mask_may_be_left_out_or_hold_zeros_and_ones():
    q, K, V, mask = problem(4, 2, 3, 5, seed=0)
    all_true = att.dot_attention(q, K, V, np.ones((4, 2), bool))[0]
    np.testing.assert_array_equal(att.dot_attention(q, K, V)[0], all_true)
    np.testing.assert_array_equal(
        att.dot_attention(q, K, V, mask.astype(int))[0], att.dot_attention(q, K, V, mask)[0]
    )


def test_float32_is_kept_and_arguments_are_not_modified():
    q, K, V, mask = (
        a.astype(np.float32) if a.dtype == float else a for a in problem(4, 2, 3, 5, seed=0)
    )
    K = np.asfortranarray(K)
    before = [a.copy() for a in (q, K, V, mask)]
    context, weights = att.dot_attention(q, K, V, mask)
    W_q, W_k, v = np.ones((6, 3), np.float32), np.ones((6, 3), np.float32), np.ones(6, np.float32)
    scores = att.additive_scores(q, K, W_q, W_k, v)
    results = [
        context,
        weights,
        scores,
        *att.attention_backward(context, q, K, V, weights),
        *att.additive_scores_backward(scores, q, K, W_q, W_k, v),
    ]
    assert {r.dtype for r in results} == {np.dtype(np.float32)}
    for a, b in zip((q, K, V, mask), before, strict=True):
        np.testing.assert_array_equal(a, b)


q, K, V, _ = problem(4, 2, 3, 5, seed=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: att.dot_attention(q, K[..., :2], V), r"K has shape \(4, 2, 2\)"),
        (lambda: att.dot_attention(q[:1], K, V), r"K has shape \(4, 2, 3\)"),
        (lambda: att.dot_attention(q, K, V[:3]), r"V has shape \(3, 2, 5\)"),
        (lambda: att.dot_attention(q, K, V, np.ones((2, 4))), r"mask has shape \(2, 4\)"),
        (lambda: att.masked_softmax(np.ones(3)), r"scores has shape \(3,\)"),
        (lambda: att.attend_backward(np.ones((2, 4)), V, np.ones((4, 2))), "V has shape"),
        (
            lambda: att.additive_scores(q, V, np.ones((6, 4)), np.ones((6, 5)), np.ones(6)),
            r"W_q has shape \(6, 4\)",
        ),
        (
            lambda: att.additive_scores(q, V, np.ones((6, 3)), np.ones((7, 5)), np.ones(6)),
            r"W_k has shape \(7, 5\)",
        ),
        (
            lambda: att.additive_scores_backward(
                np.ones((3, 2)), q, V, np.ones((6, 3)), np.ones((6, 5)), np.ones(6)
            ),
            r"dscores has shape \(3, 2\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_mask_of_halves_is_a_type_error():
    with pytest.raises(TypeError, match="mask must be boolean"):
        att.dot_attention(q, K, V, np.full((4, 2), 0.5))
