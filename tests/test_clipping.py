"""Clipping against torch.nn.utils, its invariants, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse.clipping import (
    clip_by_global_norm,
    clip_by_value,
    clip_per_tensor,
    cosine,
    global_norm,
    sgd_step,
)

numbers = st.floats(-1e3, 1e3).filter(lambda v: v == 0 or abs(v) > 1e-6)
gradients = st.lists(numbers, min_size=6, max_size=6).map(
    lambda v: {"W": np.array(v[:4]).reshape(2, 2), "b": np.array(v[4:])}
)
limits = st.floats(1e-3, 1e3)


def as_parameters(grads):
    """Wrap gradients for torch's functions, which read them from parameters."""
    parameters = [
        torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in grads.values()
    ]
    for p, g in zip(parameters, grads.values(), strict=True):
        p.grad = torch.tensor(g)
    return parameters


@given(grads=gradients, max_norm=limits)
@settings(max_examples=100, deadline=None)
def test_global_norm_agrees_with_torch(grads, max_norm):
    parameters = as_parameters(grads)
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    clipped, ours = clip_by_global_norm(grads, max_norm)
    np.testing.assert_allclose(ours, norm, rtol=1e-12)
    np.testing.assert_allclose(global_norm(grads), ours)
    for g, p in zip(clipped.values(), parameters, strict=True):
        # torch divides by norm + 1e-6
        np.testing.assert_allclose(g, p.grad, rtol=2e-6 / min(max(norm.item(), 1e-6), 1), atol=1e-9)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e154, 1e200, 1e307])
def test_entries_whose_squares_leave_the_range_are_clipped_right(size):
    grads = {"W": np.array([[3.0, 0.0]]) * size, "b": np.array([4.0]) * size}
    np.testing.assert_allclose(global_norm(grads), 5 * size, rtol=1e-15)
    clipped, norm = clip_by_global_norm(grads, 2.5 * size)
    np.testing.assert_allclose(norm, 5 * size, rtol=1e-15)
    np.testing.assert_allclose(clipped["W"], [[1.5 * size, 0.0]], rtol=1e-15)
    np.testing.assert_allclose(clipped["b"], [2 * size], rtol=1e-15)


def test_the_norm_of_what_is_not_finite_or_not_there():
    assert global_norm({"W": np.array([1.0, np.inf])}) == np.inf
    assert np.isnan(global_norm({"W": np.array([np.inf]), "b": np.array([np.nan])}))
    assert global_norm({}) == global_norm({"W": np.zeros((0, 2)), "b": np.zeros(1)}) == 0.0
    with pytest.raises(ValueError, match="exceeds the range"):
        clip_by_global_norm({"W": np.full(9, 1.7e308)}, 1.0)


@given(grads=gradients, max_norm=limits)
@settings(max_examples=100, deadline=None)
def test_clipping_by_global_norm_keeps_direction_and_limit(grads, max_norm):
    clipped, norm = clip_by_global_norm(grads, max_norm)
    assert global_norm(clipped) <= max_norm * (1 + 1e-12)
    if norm <= max_norm:
        for name in grads:
            np.testing.assert_array_equal(clipped[name], grads[name])
    else:
        np.testing.assert_allclose(global_norm(clipped), max_norm, rtol=1e-12)
    if norm > 0:
        np.testing.assert_allclose(cosine(grads, clipped), 1, rtol=1e-12)


@given(grads=gradients, limit=limits)
@settings(max_examples=100, deadline=None)
def test_by_value_agrees_with_torch(grads, limit):
    parameters = as_parameters(grads)
    torch.nn.utils.clip_grad_value_(parameters, limit)
    for g, p in zip(clip_by_value(grads, limit).values(), parameters, strict=True):
        np.testing.assert_array_equal(g, p.grad)


@given(grads=gradients, max_norm=limits)
@settings(max_examples=100, deadline=None)
def test_per_tensor_clips_each_on_its_own(grads, max_norm):
    clipped = clip_per_tensor(grads, max_norm)
    for name, g in grads.items():
        alone = clip_by_global_norm({name: g}, max_norm)[0][name]
        np.testing.assert_array_equal(clipped[name], alone)
    assert global_norm(clipped) <= np.sqrt(2) * max_norm * (1 + 1e-12)


def test_only_the_global_norm_keeps_the_direction():
    grads = {"W": np.array([30.0, 1.0]), "b": np.array([0.5])}
    assert cosine(grads, clip_by_global_norm(grads, 1.0)[0]) == pytest.approx(1, abs=1e-14)
    assert cosine(grads, clip_by_value(grads, 1.0)) < 0.8
    assert cosine(grads, clip_per_tensor(grads, 1.0)) < 0.95


def test_arguments_stay_and_float32_is_kept(rng):
    grads = {"W": rng.normal(size=(3, 4)).astype(np.float32), "b": np.ones(2, np.float32)}
    params = {name: np.zeros_like(g) for name, g in grads.items()}
    before = {name: g.copy() for name, g in grads.items()}
    results = [
        clip_by_global_norm(grads, 0.1)[0],
        clip_by_global_norm(grads, 1e3)[0],
        clip_by_value(grads, 0.1),
        clip_per_tensor(grads, 0.1),
        sgd_step(params, grads, 0.1, 0.1),
    ]
    for result in results:
        for name, array in result.items():
            assert array.dtype == np.float32
            assert not np.shares_memory(array, grads[name])
            assert not np.shares_memory(array, params[name])
    for name, g in grads.items():
        np.testing.assert_array_equal(g, before[name])
        assert not params[name].any()


def test_global_norm_of_float32_does_not_overflow():
    assert global_norm({"W": np.full(4, 1e30, np.float32)}) == pytest.approx(2e30, rel=1e-6)
    assert global_norm({}) == 0


def test_zero_gradient_stays_zero():
    clipped, norm = clip_by_global_norm({"W": np.zeros(3)}, 1.0)
    assert norm == 0
    assert not clipped["W"].any()


def test_sgd_step_clips_before_the_update(rng):
    params = {"W": rng.normal(size=(2, 3)), "b": rng.normal(size=2)}
    grads = {"W": rng.normal(size=(2, 3)), "b": rng.normal(size=2)}
    leaves = [torch.nn.Parameter(torch.tensor(p)) for p in params.values()]
    for leaf, g in zip(leaves, grads.values(), strict=True):
        leaf.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_norm_(leaves, 0.5)
    torch.optim.SGD(leaves, lr=0.3).step()
    for p, leaf in zip(sgd_step(params, grads, 0.3, 0.5).values(), leaves, strict=True):
        np.testing.assert_allclose(p, leaf.detach(), atol=1e-6)


def test_cosine_of_known_angles(rng):
    a = {"W": rng.normal(size=(2, 3)), "b": rng.normal(size=2)}
    assert cosine(a, {k: 5 * v for k, v in a.items()}) == pytest.approx(1)
    assert cosine(a, {k: -v for k, v in a.items()}) == pytest.approx(-1)
    tiny, huge = {"W": np.array([1e-100, 0])}, {"W": np.array([1e100, 1e100])}
    assert cosine(tiny, huge) == pytest.approx(0.5**0.5)
    assert (
        cosine({"W": np.array([1.0]), "b": np.zeros(1)}, {"W": np.zeros(1), "b": np.ones(1)}) == 0
    )


bad = {"W": np.array([1.0, np.nan]), "b": np.ones(2)}
good = {"W": np.ones(2), "b": np.ones(2)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clip_by_global_norm(bad, 1.0), r"grads\['W'\] holds NaN"),
        (lambda: clip_by_global_norm({"W": np.array([np.inf])}, 1.0), "holds NaN or infinity"),
        (lambda: clip_by_value(bad, 1.0), r"grads\['W'\] holds NaN"),
        (lambda: clip_per_tensor(bad, 1.0), "NaN"),
        (lambda: sgd_step(good, bad, 0.1, 1.0), "NaN"),
        (lambda: clip_by_global_norm(good, 0.0), "max_norm must be positive"),
        (lambda: clip_by_global_norm(good, np.nan), "max_norm must be positive"),
        (lambda: clip_by_value(good, -1.0), "limit must be positive"),
        (lambda: clip_per_tensor(good, 0.0), "max_norm must be positive"),
        (lambda: sgd_step(good, good, 0.0, 1.0), "lr must be positive"),
        (lambda: sgd_step(good, {"W": np.ones(2)}, 0.1, 1.0), "params has the keys"),
        (lambda: cosine(good, {"W": np.ones(2)}), "a has the keys"),
        (lambda: cosine(good, {"W": np.ones(3), "b": np.ones(2)}), "has shape"),
        (lambda: cosine(good, {"W": np.zeros(2), "b": np.zeros(2)}), "no direction"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
