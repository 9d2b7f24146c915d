"""The parallel scan against the loop, and its gradient against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse.scan import combine, linear_recurrence, linear_recurrence_backward, parallel_scan


def problem(rng, shape, dtype=np.float64):
    a, b = rng.uniform(-1, 1, shape).astype(dtype), rng.normal(size=shape).astype(dtype)
    return a, b, rng.normal(size=shape[1:]).astype(dtype)


@given(T=st.integers(1, 70), width=st.integers(1, 4), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_scan_is_the_loop(T, width, seed):
    a, b, h0 = problem(np.random.default_rng(seed), (T, 2, width))
    expected = linear_recurrence(a, b, h0)
    np.testing.assert_allclose(parallel_scan(a, b, h0), expected, atol=1e-10)
    h_t = h0
    for t in range(T):
        h_t = a[t] * h_t + b[t]
        np.testing.assert_array_equal(expected[t], h_t)


def test_long_scan_is_the_loop(rng):
    a, b, h0 = problem(rng, (65536, 2))
    np.testing.assert_allclose(parallel_scan(a, b, h0), linear_recurrence(a, b, h0), atol=1e-10)


def test_combine_is_associative(rng):
    first, second, third = ((rng.normal(size=3), rng.normal(size=3)) for _ in range(3))
    left, right = combine(combine(first, second), third), combine(first, combine(second, third))
    np.testing.assert_allclose(left, right, rtol=1e-12)


@pytest.mark.parametrize("T", [1, 2, 3, 8, 13])
def test_backward_agrees_with_autograd(T, rng):
    a, b, h0 = problem(rng, (T, 3))
    dh = rng.normal(size=(T, 3))
    leaves = [torch.tensor(v, requires_grad=True) for v in (a, b, h0)]
    h_t, loss = leaves[2], 0.0
    for t in range(T):
        h_t = leaves[0][t] * h_t + leaves[1][t]
        loss = loss + (h_t * torch.tensor(dh[t])).sum()
    loss.backward()
    grads = linear_recurrence_backward(dh, a, h0, parallel_scan(a, b, h0))
    for ours, leaf in zip(grads, leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad, atol=1e-10)


def test_arguments_stay_and_float32_is_kept(rng):
    case = problem(rng, (13, 2), np.float32)
    before = [v.copy() for v in case]
    h = parallel_scan(*case)
    grads = linear_recurrence_backward(h, case[0], case[2], h)
    for a, b in zip(case, before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert {v.dtype for v in (h, *grads)} == {np.dtype(np.float32)}


def test_causal_and_non_contiguous(rng):
    a, b, h0 = problem(rng, (13, 4))
    h = parallel_scan(a, b, h0)
    np.testing.assert_array_equal(parallel_scan(*(np.asfortranarray(v) for v in (a, b, h0))), h)
    b[5] += 1
    changed = parallel_scan(a, b, h0)
    np.testing.assert_array_equal(changed[:5], h[:5])
    assert (changed[5] != h[5]).all()


@pytest.mark.parametrize(
    ("a", "b", "h0", "message"),
    [
        (np.ones((0, 2)), np.ones((0, 2)), np.ones(2), "at least one step"),
        (np.ones(()), np.ones(()), np.ones(()), "at least one step"),
        (np.ones((3, 2)), np.ones((3, 1)), np.ones(2), "b has shape"),
        (np.ones((3, 2)), np.ones((3, 2)), np.ones(3), "h0 has shape"),
    ],
)
def test_bad_shapes_are_named(a, b, h0, message):
    with pytest.raises(ValueError, match=message):
        parallel_scan(a, b, h0)
    with pytest.raises(ValueError, match=message):
        linear_recurrence(a, b, h0)


def test_bad_upstream_gradient_is_named():
    with pytest.raises(ValueError, match="dh has shape"):
        linear_recurrence_backward(np.ones((3, 1)), np.ones((3, 2)), np.ones(2), np.ones((3, 2)))
    with pytest.raises(ValueError, match="h has shape"):
        linear_recurrence_backward(np.ones((3, 2)), np.ones((3, 2)), np.ones(2), np.ones((2, 2)))
