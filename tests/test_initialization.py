"""Initialisations against the moments of their distributions and torch's gate layout."""

from __future__ import annotations

import numpy as np
import pytest

from rnncourse.gradient_flow import spectral_norm, spectral_radius
from rnncourse.initialization import (
    chrono,
    chrono_gru,
    forget_bias,
    identity,
    orthogonal,
    orthogonal_gates,
    scale_to_radius,
    scaled_gaussian,
)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_orthogonal_has_equal_singular_values(n, rng):
    np.testing.assert_allclose(
        np.linalg.svd(orthogonal(n, 1.3, rng), compute_uv=False), np.full(n, 1.3), rtol=1e-12
    )


def haar_moments(draw, n, rng, samples=4000):
    """Mean of the trace and of its square: 0 and 1 for Haar-distributed orthogonal matrices."""
    traces = np.array([np.trace(draw(n, 1.0, rng)) for _ in range(samples)])
    return traces.mean(), (traces**2).mean()


def test_orthogonal_has_the_moments_of_haar(rng):
    first, second = haar_moments(orthogonal, 5, rng)
    assert abs(first) < 4 / np.sqrt(4000)
    assert abs(second - 1) < 4 * np.sqrt(2 / 4000)


def test_qr_without_sign_fix_is_not_haar(rng):
    def without_sign_fix(n, gain, rng):
        return gain * np.linalg.qr(rng.standard_normal((n, n)))[0]

    first, _ = haar_moments(without_sign_fix, 5, rng)
    assert abs(first) > 0.5


def test_orthogonal_is_invariant_under_rotation(rng):
    """Under Haar, an entry has the same distribution as any other: mean 0, variance 1/n."""
    draws = np.stack([orthogonal(4, 1.0, rng) for _ in range(4000)])
    np.testing.assert_allclose(draws.mean(axis=0), 0, atol=5 * 0.5 / np.sqrt(4000))
    np.testing.assert_allclose(draws.var(axis=0), 1 / 4, atol=0.025)


def test_same_seed_same_draw():
    first, second = (orthogonal(6, 1.0, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_identity_keeps_every_unit():
    np.testing.assert_array_equal(identity(3, 2.0), np.diag([2.0, 2.0, 2.0]))


def test_scaled_gaussian_radius_and_norm(rng):
    W = scaled_gaussian(500, 1.5, rng)
    np.testing.assert_allclose(spectral_radius(W), 1.5, rtol=0.08)
    np.testing.assert_allclose(spectral_norm(W), 3.0, rtol=0.05)
    np.testing.assert_allclose(W.std(), 1.5 / np.sqrt(500), rtol=0.02)


def test_scale_to_radius(rng):
    W = rng.normal(size=(6, 6))
    before = W.copy()
    scaled = scale_to_radius(W, 0.95)
    np.testing.assert_allclose(spectral_radius(scaled), 0.95, rtol=1e-12)
    np.testing.assert_allclose(scaled / W, scaled[0, 0] / W[0, 0])
    np.testing.assert_array_equal(W, before)
    assert scale_to_radius(W.astype(np.float32), 0.95).dtype == np.float32


def test_orthogonal_gates_are_separate_draws(rng):
    W = orthogonal_gates(5, 4, 1.2, rng)
    assert W.shape == (20, 5)
    blocks = np.split(W, 4)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, 1.44 * np.eye(5), atol=1e-12)
    assert not np.allclose(blocks[0], blocks[1])


def test_forget_bias_opens_torch_forget_gate(rng):
    torch = pytest.importorskip("torch")
    H, lstm = 3, torch.nn.LSTM(2, 3).double()
    b = forget_bias(np.zeros(4 * H), 20.0)
    with torch.no_grad():
        for name, p in lstm.named_parameters():
            p.copy_(torch.from_numpy(b) if name == "bias_ih_l0" else torch.zeros_like(p))
    c0 = torch.tensor(rng.normal(size=(1, 1, H)))
    _, (_, c) = lstm(torch.zeros(1, 1, 2, dtype=torch.float64), (torch.zeros_like(c0), c0))
    np.testing.assert_allclose(
        c.detach(), c0, atol=1e-7
    )  # f ≈ 1 keeps the cell, g = 0 adds nothing


def test_biases_are_copies(rng):
    b = rng.normal(size=12)
    before = b.copy()
    for new in (forget_bias(b, 1.0), chrono(b, 50, rng), chrono_gru(b, 50, rng)):
        assert not np.shares_memory(new, b)
    np.testing.assert_array_equal(b, before)
    np.testing.assert_array_equal(
        forget_bias(b, 1.0)[[0, 1, 2, 6, 7, 8, 9, 10, 11]], b[[0, 1, 2, *range(6, 12)]]
    )


def test_chrono_draws_time_constants_uniformly(rng):
    H, T_max = 20000, 101
    b = chrono(np.full(4 * H, 7.0), T_max, rng)
    tau = np.exp(b[H : 2 * H])
    assert tau.min() >= 1
    assert tau.max() <= T_max - 1
    np.testing.assert_allclose(tau.mean(), 50.5, atol=4 * 28.6 / np.sqrt(H))
    np.testing.assert_array_equal(b[:H], -b[H : 2 * H])
    assert (b[2 * H :] == 7.0).all()
    z = np.exp(chrono_gru(np.full(3 * H, 7.0), T_max, rng))
    assert (z[:H] == np.exp(7.0)).all()
    assert (z[2 * H :] == np.exp(7.0)).all()
    np.testing.assert_allclose(z[H : 2 * H].mean(), 50.5, atol=4 * 28.6 / np.sqrt(H))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: orthogonal(0, 1.0, rng), "n must be at least 1"),
        (lambda rng: orthogonal(3, -1.0, rng), "gain must be positive"),
        (lambda rng: identity(0), "n must be at least 1"),
        (lambda rng: scaled_gaussian(3, np.nan, rng), "gain must be positive"),
        (lambda rng: scale_to_radius(np.eye(3, k=1), 1.0), "spectral radius 0"),
        (lambda rng: scale_to_radius(np.ones((2, 3)), 1.0), "W has shape"),
        (lambda rng: scale_to_radius(np.eye(2), 0.0), "radius must be positive"),
        (lambda rng: orthogonal_gates(3, 0, 1.0, rng), "gates must be at least 1"),
        (lambda rng: forget_bias(np.zeros(6), 1.0), "multiple of 4"),
        (lambda rng: forget_bias(np.zeros((2, 4)), 1.0), "b has shape"),
        (lambda rng: forget_bias(np.zeros(4), np.inf), "value must be finite"),
        (lambda rng: chrono(np.zeros(8), 1.0, rng), "T_max must be at least 2"),
        (lambda rng: chrono_gru(np.zeros(8), 10, rng), "multiple of 3"),
    ],
)
def test_bad_input_is_named(call, message, rng):
    with pytest.raises(ValueError, match=message):
        call(rng)
