"""Leaky and skip recurrences against autograd in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse.bptt import rnn_backward
from rnncourse.rnn import rnn_forward
from rnncourse.skips import (
    leaky_rnn_backward,
    leaky_rnn_forward,
    learned_h0_gradient,
    skip_rnn_backward,
    skip_rnn_forward,
)

shapes = st.tuples(*[st.integers(1, 6)] * 4)


def problem(rng, T=7, B=2, D=3, H=5, dtype=np.float64):
    sizes = {
        "dh": (T, B, H),
        "x": (T, B, D),
        "h0": (B, H),
        "W_xh": (H, D),
        "W_hh": (H, H),
        "W_skip": (H, H),
        "b_h": (H,),
    }
    return {name: rng.normal(size=s).astype(dtype) for name, s in sizes.items()}


def torch_gradients(case, step):
    """Gradients of ``(dh * h).sum()`` where `step(t, leaves, states)` returns the next state."""
    leaves = {k: torch.tensor(v, requires_grad=True) for k, v in case.items() if k != "dh"}
    states = [leaves["h0"]]
    for t in range(1, len(case["x"]) + 1):
        states.append(step(t, leaves, states))
    h = torch.stack(states[1:])
    (h * torch.tensor(case["dh"])).sum().backward()
    zero = {k: np.zeros(v.shape) for k, v in case.items()}
    grads = {k: zero[k] if v.grad is None else v.grad.numpy() for k, v in leaves.items()}
    return h.detach().numpy(), grads


def leaky(case, alpha):
    weights = [case[k] for k in ("W_xh", "W_hh", "b_h")]
    h = leaky_rnn_forward(case["x"], case["h0"], *weights, alpha)
    grads = leaky_rnn_backward(case["dh"], case["x"], case["h0"], h, *weights, alpha)
    return h, dict(zip(("x", "h0", "W_xh", "W_hh", "b_h"), grads, strict=True))


def skipping(case, skip):
    weights = [case[k] for k in ("W_xh", "W_hh", "W_skip")]
    h = skip_rnn_forward(case["x"], case["h0"], *weights, case["b_h"], skip)
    grads = skip_rnn_backward(case["dh"], case["x"], case["h0"], h, *weights, skip)
    return h, dict(zip(("x", "h0", "W_xh", "W_hh", "W_skip", "b_h"), grads, strict=True))


@given(sizes=shapes, seed=st.integers(0, 2**32), alpha=st.floats(0.05, 1))
@settings(max_examples=30, deadline=None)
def test_leaky_agrees_with_autograd(sizes, seed, alpha):
    case = problem(np.random.default_rng(seed), *sizes)

    def step(t, p, states):
        a = p["x"][t - 1] @ p["W_xh"].T + states[-1] @ p["W_hh"].T + p["b_h"]
        return (1 - alpha) * states[-1] + alpha * torch.tanh(a)

    h, grads = leaky(case, alpha)
    expected_h, expected = torch_gradients(case, step)
    np.testing.assert_allclose(h, expected_h, atol=1e-10)
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, expected[name], atol=1e-10, err_msg=name)


@given(sizes=shapes, seed=st.integers(0, 2**32), skip=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_skip_agrees_with_autograd(sizes, seed, skip):
    case = problem(np.random.default_rng(seed), *sizes)

    def step(t, p, states):
        a = p["x"][t - 1] @ p["W_xh"].T + states[-1] @ p["W_hh"].T + p["b_h"]
        if t - skip >= 0:
            a = a + states[t - skip] @ p["W_skip"].T
        return torch.tanh(a)

    h, grads = skipping(case, skip)
    expected_h, expected = torch_gradients(case, step)
    np.testing.assert_allclose(h, expected_h, atol=1e-10)
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, expected[name], atol=1e-9, err_msg=name)


def test_limits_are_the_vanilla_rnn(rng):
    case = problem(rng)
    weights = [case[k] for k in ("W_xh", "W_hh", "b_h")]
    h = rnn_forward(case["x"], case["h0"], *weights)
    expected = rnn_backward(case["dh"], case["x"], case["h0"], h, *weights[:2])
    leaky_h, leaky_grads = leaky(case, 1.0)
    no_skip_h, no_skip_grads = skipping({**case, "W_skip": np.zeros((5, 5))}, 3)
    np.testing.assert_allclose(leaky_h, h, atol=1e-14)
    np.testing.assert_allclose(no_skip_h, h, atol=1e-14)
    for name, grad in zip(("x", "h0", "W_xh", "W_hh", "b_h"), expected, strict=True):
        np.testing.assert_allclose(leaky_grads[name], grad, atol=1e-12)
        np.testing.assert_allclose(no_skip_grads[name], grad, atol=1e-12)
    both = {**case, "W_hh": case["W_hh"] / 2, "W_skip": case["W_hh"] / 2}
    np.testing.assert_allclose(skipping(both, 1)[0], h, atol=1e-12)


@pytest.mark.parametrize("run", [lambda c: leaky(c, 0.3), lambda c: skipping(c, 2)])
def test_arguments_stay_and_float32_is_kept(run, rng):
    case = problem(rng, dtype=np.float32)
    before = {k: v.copy() for k, v in case.items()}
    h, grads = run(case)
    for name in case:
        np.testing.assert_array_equal(case[name], before[name])
    assert {a.dtype for a in (h, *grads.values())} == {np.dtype(np.float32)}


@pytest.mark.parametrize("run", [lambda c: leaky(c, 0.3)[0], lambda c: skipping(c, 2)[0]])
def test_causal(run, rng):
    case = problem(rng)
    h = run(case)
    case["x"][3] += 1
    changed = run(case)
    np.testing.assert_array_equal(changed[:3], h[:3])
    assert (np.abs(changed[3:] - h[3:]).max(axis=(1, 2)) > 0).all()


def test_learned_h0_gradient_sums_over_the_batch(rng):
    case = problem(rng)
    start = torch.tensor(rng.normal(size=5), requires_grad=True)
    weights = [torch.tensor(case[k]) for k in ("W_xh", "W_hh", "b_h")]
    h = start.expand(2, 5)
    for x_t in torch.tensor(case["x"]):
        h = torch.tanh(x_t @ weights[0].T + h @ weights[1].T + weights[2])
    h.sum().backward()
    h0 = np.broadcast_to(start.detach().numpy(), (2, 5))
    states = rnn_forward(case["x"], h0, *[w.numpy() for w in weights])
    dh = np.zeros_like(states)
    dh[-1] = 1
    dh0 = rnn_backward(dh, case["x"], h0, states, case["W_xh"], case["W_hh"])[1]
    np.testing.assert_allclose(learned_h0_gradient(dh0), start.grad, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: leaky(c, 0.0), ValueError, "alpha must lie in"),
        (lambda c: leaky(c, 1.5), ValueError, "alpha must lie in"),
        (lambda c: leaky({**c, "h0": np.ones((3, 5))}, 0.5), ValueError, "h0 has shape"),
        (lambda c: leaky({**c, "dh": np.ones((7, 2, 4))}, 0.5), ValueError, "dh has shape"),
        (lambda c: skipping(c, 0), ValueError, "skip must be at least 1"),
        (lambda c: skipping(c, 1.5), TypeError, "skip must be an integer"),
        (lambda c: skipping({**c, "W_skip": np.ones((5, 4))}, 2), ValueError, "W_skip has shape"),
        (lambda c: skipping({**c, "x": np.ones((7, 2))}, 2), ValueError, "x has shape"),
        (lambda c: learned_h0_gradient(np.ones(5)), ValueError, "dh0 has shape"),
        (lambda c: learned_h0_gradient(np.ones((0, 5))), ValueError, "must not be empty"),
    ],
)
def test_bad_input_is_named(call, error, message, rng):
    with pytest.raises(error, match=message):
        call(problem(rng))
