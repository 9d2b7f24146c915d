"""Gradient flow against torch's Jacobians, matrix powers and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rnncourse.gradient_flow import (
    growth_rate,
    influence_map,
    jacobian_product_norms,
    linear_gradient_norms,
    log_singular_values,
    lyapunov_exponents,
    memory_horizon,
    norm_bounds,
    saturation,
    spectral_norm,
    spectral_radius,
    step_jacobian,
)
from rnncourse.initialization import orthogonal
from rnncourse.rnn import init_params, rnn_forward, rnn_step

T, B, D, H = 7, 2, 3, 5


@pytest.fixture
def network(rng):
    params = init_params(D, H, 2, rng)
    weights = (params["W_xh"], 1.5 * params["W_hh"], params["b_h"])
    x, h0 = rng.normal(size=(T, 1, D)), rng.normal(size=(1, H))
    return x, h0, weights, rnn_forward(x, h0, *weights)


def torch_state(x, h0, weights, t):
    """State after step t as a differentiable function of inputs and initial state."""
    W_xh, W_hh, b_h = (torch.tensor(w) for w in weights)
    h = h0
    for x_t in x[: t + 1]:
        h = torch.tanh(x_t @ W_xh.T + h @ W_hh.T + b_h)
    return h


def test_step_jacobian_is_torch_jacobian(network):
    x, h0, weights, h = network
    expected = torch.autograd.functional.jacobian(
        lambda h_prev: torch_state(torch.tensor(x), h_prev, weights, 0), torch.tensor(h0)
    )[0, :, 0]
    np.testing.assert_allclose(step_jacobian(h[0, 0], weights[1]), expected, atol=1e-12)


def test_step_jacobian_takes_leading_axes(network):
    _, _, weights, h = network
    J = step_jacobian(h, weights[1])
    assert J.shape == (T, 1, H, H)
    np.testing.assert_array_equal(J[3, 0], step_jacobian(h[3, 0], weights[1]))


def test_jacobian_products_are_torch_jacobians(network):
    x, h0, weights, h = network
    norms = jacobian_product_norms(h[:, 0], weights[1])
    log_s = log_singular_values(h[:, 0], weights[1])
    assert norms.shape == (T + 1,)
    assert norms[0] == 1
    for k in range(1, T + 1):
        J = torch.autograd.functional.jacobian(
            lambda h_0, k=k: torch_state(torch.tensor(x), h_0, weights, k - 1), torch.tensor(h0)
        )[0, :, 0]
        s = torch.linalg.svdvals(J)
        np.testing.assert_allclose(norms[k], s[0], rtol=1e-10)
        np.testing.assert_allclose(np.exp(log_s[k]), s, rtol=1e-6)


def test_trajectories_of_a_batch_are_separate(rng):
    h, W = np.tanh(rng.normal(size=(T, B, H))), rng.normal(size=(H, H))
    together = jacobian_product_norms(h, W)
    for b in range(B):
        np.testing.assert_allclose(together[:, b], jacobian_product_norms(h[:, b], W), rtol=1e-12)


def test_influence_map_is_torch_jacobian_and_causal(network):
    x, h0, weights, h = network
    influence = influence_map(h[:, 0], *weights[:2])
    for t in range(T):
        J = torch.autograd.functional.jacobian(
            lambda x_, t=t: torch_state(x_, torch.tensor(h0), weights, t), torch.tensor(x)
        )[0, :, :, 0]
        np.testing.assert_allclose(influence[t], J.norm(dim=(0, 2)), atol=1e-12)
    assert not np.triu(influence, 1).any()
    assert np.tril(influence).any()


def test_linear_norms_are_norms_of_powers(rng):
    W = rng.normal(size=(H, H))
    expected = [np.linalg.norm(np.linalg.matrix_power(W, k), 2) for k in range(T + 1)]
    np.testing.assert_allclose(linear_gradient_norms(W, T), expected, rtol=1e-10)


def test_linear_growth_tends_to_spectral_radius(rng):
    W = rng.normal(size=(H, H))
    log_norms = log_singular_values(np.zeros((3000, H)), W)[:, 0]
    np.testing.assert_allclose(growth_rate(log_norms, 1000), spectral_radius(W), rtol=1e-3)


def test_products_do_not_overflow_or_underflow():
    for gain in (1e-3, 1e3):
        log_norms = log_singular_values(np.zeros((500, H)), gain * np.eye(H))[:, 0]
        np.testing.assert_allclose(log_norms, np.arange(501) * np.log(gain), rtol=1e-12)
    assert np.isinf(linear_gradient_norms(1e3 * np.eye(H), 500)[-1])


def test_nilpotent_matrix_reaches_exactly_zero():
    chain = 1.2 * np.eye(H, k=1)
    norms = linear_gradient_norms(chain, H + 1)
    np.testing.assert_allclose(norms[:H], 1.2 ** np.arange(H))
    assert not norms[H:].any()
    assert spectral_radius(chain) == 0


def test_norm_never_exceeds_bound(rng):
    for gain in (0.5, 1.0, 2.0):
        W = gain * rng.normal(size=(H, H)) / np.sqrt(H)
        h = rnn_forward(
            rng.normal(size=(T, B, D)), np.zeros((B, H)), np.ones((H, D)), W, np.ones(H)
        )
        assert (jacobian_product_norms(h, W) <= norm_bounds(W, T)[:, None] * (1 + 1e-12)).all()


def test_bound_is_reached_by_linear_orthogonal_network(rng):
    W = orthogonal(H, 1.1, rng)
    np.testing.assert_allclose(linear_gradient_norms(W, T), norm_bounds(W, T), rtol=1e-12)
    np.testing.assert_allclose(norm_bounds(W, T, gamma=0.25), (0.25 * 1.1) ** np.arange(T + 1))


def test_zero_radius_does_not_rule_out_explosion():
    """W @ W = 0, yet the tanh network is chaotic: its first Lyapunov exponent is near 0.57."""
    W = 5 * np.array([[1.0, 1.0], [-1.0, -1.0]])
    h = rnn_forward(np.zeros((2000, 1, 1)), [[0.3, 0.1]], np.zeros((2, 1)), W, [1.7, -2.5])[:, 0]
    first, second = lyapunov_exponents(h[500:], W)
    assert not (W @ W).any()
    assert 0.5 < first < 0.65
    assert second < -5
    np.testing.assert_allclose(
        np.log(growth_rate(log_singular_values(h[500:], W)[:, 0])), first, atol=0.02
    )


def test_lyapunov_exponents_of_constant_jacobian(rng):
    W = orthogonal(H, 1.0, rng) @ np.diag([2.0, 1.5, 1.0, 0.5, 0.1]) @ np.eye(H)
    exponents = lyapunov_exponents(np.zeros((4000, H)), W)
    assert (np.diff(exponents) <= 0).all()
    np.testing.assert_allclose(
        exponents, np.log(np.sort(np.abs(np.linalg.eigvals(W)))[::-1]), atol=5e-3
    )
    np.testing.assert_allclose(exponents.sum(), np.linalg.slogdet(W)[1], rtol=1e-9)


def test_lyapunov_exponents_of_a_trajectory_by_the_product_of_its_jacobians(rng):
    W_hh = rng.normal(size=(3, 3))
    h = np.tanh(rng.normal(size=(12, 3)))
    product = np.eye(3)
    for J in step_jacobian(h, W_hh):
        product = J @ product
    exponents = lyapunov_exponents(h, W_hh)
    # volumes: all directions together by the determinant, the leading ones as T grows
    np.testing.assert_allclose(exponents.sum(), np.linalg.slogdet(product)[1] / 12, atol=1e-12)
    long = np.tanh(rng.normal(size=(4000, 3)))
    top = log_singular_values(long, W_hh)[-1, 0] / 4000
    np.testing.assert_allclose(lyapunov_exponents(long, W_hh)[0], top, atol=2e-3)


def test_spectral_norm_and_radius_against_definition(rng):
    W = rng.normal(size=(H, H))
    directions = rng.normal(size=(H, 20000))
    stretch = np.linalg.norm(W @ directions, axis=0) / np.linalg.norm(directions, axis=0)
    assert 0.9 * spectral_norm(W) < stretch.max() <= spectral_norm(W) * (1 + 1e-12)
    assert spectral_radius(W) <= spectral_norm(W)
    rotation = np.array([[0.0, -0.7], [0.7, 0.0]])  # complex eigenvalues
    np.testing.assert_allclose(spectral_radius(rotation), 0.7)


def test_memory_horizon_takes_the_last_crossing():
    assert memory_horizon([1.0, 0.2, 2.0, 0.6, 0.1], threshold=0.5) == 3
    assert memory_horizon([1.0, 0.5], threshold=0.5) == 1
    assert memory_horizon([1.0, 0.1, 0.0]) == 0
    assert memory_horizon([0.1]) == 0
    assert memory_horizon(0.9 ** np.arange(100)) == 9  # 0.9**9 = 0.387, 0.9**10 = 0.349


def test_saturation_counts_both_signs():
    h = np.array([[0.95, -0.95], [0.9, 0.0]])
    assert saturation(h) == 0.5
    assert saturation(h, tol=0.01) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: step_jacobian(np.ones(3), np.eye(2)), r"h has shape \(3,\).*H = 2"),
        (lambda: step_jacobian(np.ones(2), np.ones((2, 3))), "W_hh has shape"),
        (lambda: jacobian_product_norms(np.ones(3), np.eye(3)), r"\(T, ..., H\)"),
        (lambda: linear_gradient_norms(np.ones((2, 3)), 2), "W has shape"),
        (lambda: linear_gradient_norms(np.eye(2), -1), "T must be at least 0"),
        (lambda: norm_bounds(np.eye(2), -1), "T must be at least 0"),
        (lambda: norm_bounds(np.eye(2), 1, gamma=0.0), "gamma must be positive"),
        (lambda: spectral_radius(np.ones((2, 3))), "W has shape"),
        (lambda: spectral_norm(np.ones(3)), "W has shape"),
        (lambda: memory_horizon(np.ones((2, 2))), "norms has shape"),
        (lambda: memory_horizon([1.0, np.nan]), "NaN at step 1"),
        (lambda: memory_horizon([1.0], threshold=0.0), "threshold must be positive"),
        (lambda: saturation(np.ones(0)), "must not be empty"),
        (lambda: saturation(np.ones(2), tol=1.5), "tol must lie in"),
        (lambda: growth_rate(np.zeros(3), start=2), "start must lie in"),
        (lambda: lyapunov_exponents(np.zeros((3, 2, 2)), np.eye(2)), "h has shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_float32_and_step_agree(rng):
    W = rng.normal(size=(H, H)).astype(np.float32)
    h = rnn_step(np.ones((1, D)), np.zeros((1, H)), np.ones((H, D)), W, np.zeros(H))
    assert step_jacobian(h[0].astype(np.float32), W).dtype == np.float32
