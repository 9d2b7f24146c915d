"""Backpropagation through time against autograd, brute force and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse import bptt, fused, rnn

NAMES = ("dx", "dh0", "dW_xh", "dW_hh", "db_h")
shapes = st.tuples(*[st.integers(1, 6)] * 4)


def problem(rng, T=7, B=2, D=3, H=5, dtype=np.float64):
    """Inputs, initial state, weights and upstream gradients of a random network."""
    params = rnn.init_params(D, H, 1, rng)
    weights = [1.5 * params[name] for name in ("W_xh", "W_hh", "b_h")]
    x, h0, dh = (rng.normal(size=s) for s in ((T, B, D), (B, H), (T, B, H)))
    return tuple(np.asarray(a, dtype) for a in (x, h0, *weights, dh))


def torch_gradients(x, h0, W_xh, W_hh, b_h, dh):
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, h0, W_xh, W_hh, b_h)]
    x_, h, W_xh_, W_hh_, b_h_ = leaves
    loss = 0.0
    for t in range(len(x)):
        h = torch.tanh(x_[t] @ W_xh_.T + h @ W_hh_.T + b_h_)
        loss = loss + (torch.tensor(dh[t]) * h).sum()
    loss.backward()
    return [leaf.grad.numpy() for leaf in leaves]


def gradients(module, x, h0, W_xh, W_hh, b_h, dh):
    h = module.rnn_forward(x, h0, W_xh, W_hh, b_h)
    return module.rnn_backward(dh, x, h0, h, W_xh, W_hh)


@pytest.mark.parametrize("module", [bptt, fused], ids=["plain", "fused"])
@given(sizes=shapes, seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_agrees_with_autograd(module, sizes, seed):
    case = problem(np.random.default_rng(seed), *sizes)
    for name, ours, theirs in zip(
        NAMES, gradients(module, *case), torch_gradients(*case), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("module", [bptt, fused], ids=["plain", "fused"])
def test_agrees_with_torch_module(module, rng):
    x, h0, W_xh, W_hh, b_h, dh = problem(rng, T=11)
    net = rnn.to_torch({"W_xh": W_xh, "W_hh": W_hh, "b_h": b_h})
    X, H0 = torch.tensor(x, requires_grad=True), torch.tensor(h0[None], requires_grad=True)
    net(X, H0)[0].backward(torch.tensor(dh))
    dx, dh0, dW_xh, dW_hh, db_h = gradients(module, x, h0, W_xh, W_hh, b_h, dh)
    np.testing.assert_allclose(dx, X.grad, atol=1e-10)
    np.testing.assert_allclose(dh0, H0.grad[0], atol=1e-10)
    np.testing.assert_allclose(dW_xh, net.weight_ih_l0.grad, atol=1e-10)
    np.testing.assert_allclose(dW_hh, net.weight_hh_l0.grad, atol=1e-10)
    np.testing.assert_allclose(db_h, net.bias_hh_l0.grad, atol=1e-10)


def test_fused_blocks_join_without_a_seam(rng, monkeypatch):
    case = problem(rng, T=23, B=3)
    expected = gradients(bptt, *case)
    for rows in (1, 3, 7, 12, 69, 1000):
        monkeypatch.setattr(fused, "BLOCK_ROWS", rows)
        for ours, theirs in zip(gradients(fused, *case), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-11)


@pytest.mark.parametrize("B", [1, 4, 6, 7, 8], ids="B={}".format)
def test_products_in_pieces_are_the_same_products(rng, monkeypatch, B):
    K, N = 9, 48
    a, W, W_T = rng.normal(size=(5 * B, K)), rng.normal(size=(K, N)), rng.normal(size=(N, K)).T
    monkeypatch.setattr(fused, "_small_products_are_fast", lambda: True)
    for limit in (1, 4 * 48 * K, 10**6):
        monkeypatch.setattr(fused, "SMALL_PRODUCT", limit)
        for factor in (W, W_T):
            out = np.full((5 * B, N), np.nan)
            fused._product(factor, B)(a, out)
            np.testing.assert_allclose(out, a @ factor, atol=1e-13)


def test_a_network_computed_in_pieces_agrees_with_the_plain_one(rng, monkeypatch):
    case = problem(rng, T=5, B=8, D=6, H=32)
    expected = gradients(bptt, *case)
    monkeypatch.setattr(fused, "_small_products_are_fast", lambda: True)
    monkeypatch.setattr(fused, "SMALL_PRODUCT", 32 * 32 * 4)
    for ours, theirs in zip(gradients(fused, *case), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-11)


def test_step_backward_by_finite_differences(rng):
    x, h0, W_xh, W_hh, b_h, dh = problem(rng)
    args = [x[0], h0, W_xh, W_hh, b_h]
    h = rnn.rnn_step(*args)
    dx, dh_prev, dW_xh, dW_hh, db_h = bptt.rnn_step_backward(dh[0], x[0], h0, h, W_xh, W_hh)
    for k, grad in enumerate((dx, dh_prev, dW_xh, dW_hh, db_h)):
        numerical = bptt.numerical_gradient(
            lambda a, k=k: (dh[0] * rnn.rnn_step(*args[:k], a, *args[k + 1 :])).sum(), args[k]
        )
        np.testing.assert_allclose(grad, numerical, atol=1e-8)


@pytest.mark.parametrize("module", [bptt, fused], ids=["plain", "fused"])
def test_arguments_stay_and_float32_is_kept(module, rng):
    case = problem(rng, dtype=np.float32)
    before = [a.copy() for a in case]
    grads = gradients(module, *case)
    for a, b in zip(case, before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert {g.dtype for g in grads} == {np.dtype(np.float32)}
    for ours, theirs in zip(grads, torch_gradients(*case), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("module", [bptt, fused], ids=["plain", "fused"])
def test_non_contiguous_and_mixed_dtypes(module, rng):
    x, h0, W_xh, W_hh, b_h, dh = problem(rng)
    expected = gradients(module, x, h0, W_xh, W_hh, b_h, dh)
    strided = gradients(
        module,
        np.asfortranarray(x),
        np.repeat(h0, 2, axis=1)[:, ::2],
        np.asfortranarray(W_xh),
        np.asfortranarray(W_hh),
        np.repeat(b_h, 3)[::3],
        dh[::-1].copy()[::-1],
    )
    for ours, theirs in zip(strided, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    mixed = gradients(module, x.astype(np.float32), h0, W_xh, W_hh, b_h, dh)
    assert {g.dtype for g in mixed} == {np.dtype(np.float64)}


@pytest.mark.parametrize("module", [bptt, fused], ids=["plain", "fused"])
def test_results_do_not_share_memory_with_arguments(module, rng):
    x, h0, W_xh, W_hh, b_h, dh = problem(rng)
    h = module.rnn_forward(x, h0, W_xh, W_hh, b_h)
    for result in module.rnn_backward(dh, x, h0, h, W_xh, W_hh):
        assert not any(np.shares_memory(result, a) for a in (dh, x, h0, h, W_xh, W_hh))


def torch_truncated(x, h0, W_xh, W_hh, b_h, dh, k):
    """The definition: for each t, run k steps from the detached state before them."""
    states = [torch.tensor(h0)]
    for x_t in torch.tensor(x):
        states.append(
            torch.tanh(
                x_t @ torch.tensor(W_xh).T + states[-1] @ torch.tensor(W_hh).T + torch.tensor(b_h)
            )
        )
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, h0, W_xh, W_hh, b_h)]
    x_, h0_, W_xh_, W_hh_, b_h_ = leaves
    for t in range(len(x)):
        first = max(0, t - k + 1)
        h = h0_ if first == 0 else states[first]
        for s in range(first, t + 1):
            h = torch.tanh(x_[s] @ W_xh_.T + h @ W_hh_.T + b_h_)
        (h * torch.tensor(dh[t])).sum().backward()
    return [np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy() for leaf in leaves]


@given(sizes=shapes, seed=st.integers(0, 2**32), k=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_truncated_is_its_definition(sizes, seed, k):
    x, h0, W_xh, W_hh, b_h, dh = case = problem(np.random.default_rng(seed), *sizes)
    h = rnn.rnn_forward(x, h0, W_xh, W_hh, b_h)
    truncated = bptt.truncated_bptt(dh, x, h0, h, W_xh, W_hh, k)
    for name, ours, theirs in zip(NAMES, truncated, torch_truncated(*case, k), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10, err_msg=name)


def torch_chunked(x, h0, W_xh, W_hh, b_h, dh, k):
    """A training loop that carries the state and detaches it every k steps."""
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, h0, W_xh, W_hh, b_h)]
    x_, h, W_xh_, W_hh_, b_h_ = leaves
    for t in range(len(x)):
        if t % k == 0 and t > 0:
            h = h.detach()
        h = torch.tanh(x_[t] @ W_xh_.T + h @ W_hh_.T + b_h_)
        (h * torch.tensor(dh[t])).sum().backward(retain_graph=True)
    return [leaf.grad.numpy() for leaf in leaves]


@given(sizes=shapes, seed=st.integers(0, 2**32), k=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_chunked_is_a_detaching_loop(sizes, seed, k):
    x, h0, W_xh, W_hh, b_h, dh = case = problem(np.random.default_rng(seed), *sizes)
    h = rnn.rnn_forward(x, h0, W_xh, W_hh, b_h)
    chunked = bptt.chunked_bptt(dh, x, h0, h, W_xh, W_hh, k)
    for name, ours, theirs in zip(NAMES, chunked, torch_chunked(*case, k), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("function", [bptt.truncated_bptt, bptt.chunked_bptt])
def test_truncation_tends_to_full(function, rng):
    x, h0, W_xh, W_hh, b_h, dh = problem(rng, T=30)
    W_hh = 0.5 * W_hh
    h = rnn.rnn_forward(x, h0, W_xh, W_hh, b_h)
    full = bptt.rnn_backward(dh, x, h0, h, W_xh, W_hh)
    errors = [
        np.linalg.norm(function(dh, x, h0, h, W_xh, W_hh, k)[3] - full[3]) for k in (1, 4, 15, 30)
    ]
    assert errors[0] > 10 * errors[-1]
    assert errors[-1] < 1e-12
    assert function(dh, x, h0, h, W_xh, W_hh, 100)[3] == pytest.approx(full[3])


@given(
    sizes=st.tuples(st.integers(1, 20), *[st.integers(1, 4)] * 3),
    seed=st.integers(0, 2**32),
    segment=st.none() | st.integers(1, 25),
)
@settings(max_examples=40, deadline=None)
def test_checkpointed_is_full(sizes, seed, segment):
    x, h0, W_xh, W_hh, b_h, dh = problem(np.random.default_rng(seed), *sizes)
    before = dh.copy()
    full = gradients(bptt, x, h0, W_xh, W_hh, b_h, dh)[1:]
    for upstream in (dh, lambda start, h: dh[start : start + len(h)]):
        grads = bptt.checkpointed_bptt(upstream, x, h0, W_xh, W_hh, b_h, segment)
        for name, ours, theirs in zip(NAMES[1:], grads, full, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-10, err_msg=name)
    np.testing.assert_array_equal(dh, before)


def test_checkpointed_callback_sees_the_states_once(rng):
    x, h0, W_xh, W_hh, b_h, _ = problem(rng, T=10)
    h = rnn.rnn_forward(x, h0, W_xh, W_hh, b_h)
    seen = []

    def square_loss(start, states):
        seen.append((start, len(states)))
        np.testing.assert_allclose(states, h[start : start + len(states)], atol=1e-12)
        return 2 * states

    grads = bptt.checkpointed_bptt(square_loss, x, h0, W_xh, W_hh, b_h, segment=4)
    assert seen == [(8, 2), (4, 4), (0, 4)]
    full = bptt.rnn_backward(2 * h, x, h0, h, W_xh, W_hh)
    np.testing.assert_allclose(grads[2], full[3], atol=1e-10)


def test_checkpointed_keeps_float32(rng):
    x, h0, W_xh, W_hh, b_h, dh = problem(rng, T=10, dtype=np.float32)
    grads = bptt.checkpointed_bptt(dh, x, h0, W_xh, W_hh, b_h)
    assert {g.dtype for g in grads} == {np.dtype(np.float32)}


def test_gradient_cosine(rng):
    a, b = ([rng.normal(size=s) for s in ((2, 3), (4,))] for _ in range(2))
    flat_a, flat_b = (np.concatenate([g.ravel() for g in grads]) for grads in (a, b))
    expected = flat_a @ flat_b / np.linalg.norm(flat_a) / np.linalg.norm(flat_b)
    np.testing.assert_allclose(bptt.gradient_cosine(a, b), expected, rtol=1e-12)
    np.testing.assert_allclose(bptt.gradient_cosine(a, [-3 * g for g in a]), -1, rtol=1e-12)


def test_readout_and_cross_entropy_backward_agree_with_torch(rng):
    T, B, H, V = 5, 2, 4, 3
    h, W_hy, b_y = rng.normal(size=(T, B, H)), rng.normal(size=(V, H)), rng.normal(size=V)
    targets, mask = rng.integers(V, size=(T, B)), rng.random((T, B)) < 0.6
    leaves = [torch.tensor(a, requires_grad=True) for a in (h, W_hy, b_y)]
    logits = leaves[0] @ leaves[1].T + leaves[2]
    logits.retain_grad()
    torch.nn.functional.cross_entropy(
        logits[torch.tensor(mask)], torch.tensor(targets)[torch.tensor(mask)]
    ).backward()
    dlogits = bptt.cross_entropy_backward(rnn.readout(h, W_hy, b_y), targets, mask)
    np.testing.assert_allclose(dlogits, logits.grad, atol=1e-12)
    for ours, leaf in zip(bptt.readout_backward(dlogits, h, W_hy), leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad, atol=1e-12)


def test_empty_mask_gives_zero_loss_and_gradient(rng):
    logits, targets = rng.normal(size=(3, 2, 4)), np.full((3, 2), 99)
    mask = np.zeros((3, 2), bool)
    assert rnn.cross_entropy(logits, targets, mask) == 0
    assert not bptt.cross_entropy_backward(logits, targets, mask).any()


@pytest.mark.parametrize("padding", [np.nan, np.inf, [-np.inf, 0, 1, 2]])
def test_logits_at_padding_do_not_matter(rng, padding):
    logits, targets = rng.normal(size=(3, 2, 4)), rng.integers(4, size=(3, 2))
    mask = np.array([[True, True], [True, False], [False, False]])
    damaged = logits.copy()
    damaged[~mask] = padding
    with np.errstate(invalid="ignore"):
        loss = rnn.cross_entropy(damaged, targets, mask)
        gradient = bptt.cross_entropy_backward(damaged, targets, mask)
    np.testing.assert_array_equal(loss, rnn.cross_entropy(logits, targets, mask))
    np.testing.assert_array_equal(gradient, bptt.cross_entropy_backward(logits, targets, mask))


def test_embedding_backward_agrees_with_torch(rng):
    V, D = 5, 3
    tokens, dout = rng.integers(V, size=(7, 2)), rng.normal(size=(7, 2, D))
    E = torch.zeros(V, D, dtype=torch.float64, requires_grad=True)
    (E[torch.tensor(tokens)] * torch.tensor(dout)).sum().backward()
    np.testing.assert_allclose(bptt.embedding_backward(dout, tokens, V), E.grad, atol=1e-12)


def test_loss_and_gradients_by_finite_differences(rng):
    params = rnn.init_params(3, 4, 2, rng)
    x, targets, h0 = (
        rng.normal(size=(5, 2, 3)),
        rng.integers(2, size=(5, 2)),
        rng.normal(size=(2, 4)),
    )
    mask = np.array([[True, False]] * 5)
    loss, grads = bptt.loss_and_gradients(params, x, targets, h0, mask)
    for name, p in params.items():
        numerical = bptt.numerical_gradient(
            lambda a, name=name: bptt.loss_and_gradients({**params, name: a}, x, targets, h0, mask)[
                0
            ],
            p,
        )
        np.testing.assert_allclose(grads[name], numerical, atol=1e-8, err_msg=name)
    assert loss > 0
    zero_start = bptt.loss_and_gradients(params, x, targets, np.zeros((2, 4)), mask)[0]
    assert bptt.loss_and_gradients(params, x, targets, mask=mask)[0] == zero_start


def test_numerical_gradient_does_not_touch_its_argument():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    grad = bptt.numerical_gradient(lambda b: (b**3).sum(), a)
    np.testing.assert_allclose(grad, 3 * a**2, rtol=1e-8)
    np.testing.assert_array_equal(a, [[1.0, 2.0], [3.0, 4.0]])


def test_numerical_gradient_shields_against_a_function_that_writes():
    def overwrite(a):
        value = a.sum()
        a[:] = 99
        return value

    np.testing.assert_allclose(bptt.numerical_gradient(overwrite, np.zeros(3)), np.ones(3))


def test_relative_error_scale():
    assert bptt.relative_error([0.0, 0.0], [0.0, 0.0]) == 0
    assert bptt.relative_error([1.0], [-1.0]) == 1
    np.testing.assert_allclose(bptt.relative_error([1.0], [1.0 + 2e-6]), 1e-6, rtol=1e-3)


bad_shapes = {
    "dh": (7, 2, 4),
    "x": (6, 2, 3),
    "h0": (3, 5),
    "h": (7, 2),
    "W_xh": (3, 5),
    "W_hh": (5, 6),
}


@pytest.mark.parametrize("name", bad_shapes)
@pytest.mark.parametrize(
    "function",
    [bptt.rnn_backward, fused.rnn_backward, bptt.truncated_bptt, bptt.chunked_bptt],
    ids=["plain", "fused", "truncated", "chunked"],
)
def test_bad_shapes_are_named(function, name, rng):
    x, h0, W_xh, W_hh, b_h, dh = problem(rng)
    h = rnn.rnn_forward(x, h0, W_xh, W_hh, b_h)
    arguments = {"dh": dh, "x": x, "h0": h0, "h": h, "W_xh": W_xh, "W_hh": W_hh}
    arguments[name] = np.ones(bad_shapes[name])
    if function in (bptt.truncated_bptt, bptt.chunked_bptt):
        arguments["k"] = 2
    with pytest.raises(ValueError, match=r"has shape .* expected"):
        function(**arguments)


@pytest.mark.parametrize("function", [bptt.truncated_bptt, bptt.chunked_bptt])
@pytest.mark.parametrize(("k", "error"), [(0, ValueError), (-3, ValueError), (2.5, TypeError)])
def test_bad_window_is_named(function, k, error, rng):
    x, h0, W_xh, W_hh, _, dh = problem(rng)
    with pytest.raises(error, match="k must be"):
        function(dh, x, h0, dh, W_xh, W_hh, k)


def test_bad_arguments_are_named(rng):
    x, h0, W_xh, W_hh, b_h, dh = problem(rng)
    with pytest.raises(ValueError, match="segment must be at least 1"):
        bptt.checkpointed_bptt(dh, x, h0, W_xh, W_hh, b_h, segment=0)
    with pytest.raises(ValueError, match="dh has shape"):
        bptt.checkpointed_bptt(dh[1:], x, h0, W_xh, W_hh, b_h)
    with pytest.raises(ValueError, match="dh has shape"):
        bptt.checkpointed_bptt(lambda start, h: h[1:], x, h0, W_xh, W_hh, b_h, segment=3)
    with pytest.raises(ValueError, match=r"truncated\[0\] has shape"):
        bptt.gradient_cosine([np.ones(2)], [np.ones(3)])
    with pytest.raises(ValueError, match="full holds 1 arrays"):
        bptt.gradient_cosine([np.ones(2)], [])
    with pytest.raises(ValueError, match="no direction"):
        bptt.gradient_cosine([np.zeros(2)], [np.ones(2)])
    with pytest.raises(ValueError, match="eps must be positive"):
        bptt.numerical_gradient(np.sum, np.ones(2), eps=0.0)
    with pytest.raises(ValueError, match="they must agree"):
        bptt.relative_error(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="tokens holds 3"):
        bptt.embedding_backward(np.ones((1, 2)), np.array([3]), V=3)
    with pytest.raises(ValueError, match="dout has shape"):
        bptt.embedding_backward(np.ones((2, 2)), np.array([1]), V=3)
    with pytest.raises(ValueError, match="h has shape"):
        bptt.readout_backward(np.ones((5, 3)), np.ones((4, 2)), np.ones((3, 2)))
