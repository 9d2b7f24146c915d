"""The vanilla RNN against torch in float64, and the properties that every recurrence has."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse import fused, rnn

shapes = st.tuples(*[st.integers(1, 6)] * 4)
MODULES = pytest.mark.parametrize("module", [rnn, fused], ids=["plain", "fused"])


def problem(rng, T=7, B=2, D=3, H=5, dtype=np.float64):
    params = rnn.init_params(D, H, 1, rng)
    weights = [2 * params[name] for name in ("W_xh", "W_hh", "b_h")]
    return [
        np.asarray(a, dtype)
        for a in (rng.normal(size=(T, B, D)), rng.normal(size=(B, H)), *weights)
    ]


@MODULES
@given(sizes=shapes, seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_agrees_with_torch(module, sizes, seed):
    x, h0, W_xh, W_hh, b_h = problem(np.random.default_rng(seed), *sizes)
    net = rnn.to_torch({"W_xh": W_xh, "W_hh": W_hh, "b_h": b_h})
    expected = net(torch.tensor(x), torch.tensor(h0[None]))[0].detach()
    h = module.rnn_forward(x, h0, W_xh, W_hh, b_h)
    np.testing.assert_allclose(h, expected, atol=1e-10)
    np.testing.assert_allclose(rnn.rnn_step(x[0], h0, W_xh, W_hh, b_h), h[0], atol=1e-12)


@MODULES
@given(sizes=shapes, seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=40, deadline=None)
def test_causality(module, sizes, seed, data):
    x, h0, *weights = problem(np.random.default_rng(seed), *sizes)
    s = data.draw(st.integers(0, len(x) - 1))
    changed = x.copy()
    changed[s] += 0.5
    before, after = (module.rnn_forward(a, h0, *weights) for a in (x, changed))
    np.testing.assert_array_equal(after[:s], before[:s])
    assert (after[s] != before[s]).any()


@MODULES
@given(sizes=shapes, seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_permuting_the_batch_permutes_the_states(module, sizes, seed):
    rng = np.random.default_rng(seed)
    x, h0, *weights = problem(rng, *sizes)
    order = rng.permutation(x.shape[1])
    h = module.rnn_forward(x, h0, *weights)
    np.testing.assert_allclose(
        module.rnn_forward(x[:, order], h0[order], *weights), h[:, order], atol=1e-13
    )


@MODULES
@given(sizes=shapes, seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_sequence_may_be_read_in_two_parts(module, sizes, seed, data):
    x, h0, *weights = problem(np.random.default_rng(seed), *sizes)
    h = module.rnn_forward(x, h0, *weights)
    cut = data.draw(st.integers(1, len(x)))
    first = module.rnn_forward(x[:cut], h0, *weights)
    np.testing.assert_allclose(first, h[:cut], atol=1e-13)
    if cut < len(x):
        np.testing.assert_allclose(
            module.rnn_forward(x[cut:], first[-1], *weights), h[cut:], atol=1e-12
        )


@MODULES
def test_arguments_stay_and_float32_is_kept(module, rng):
    case = problem(rng, dtype=np.float32)
    before = [a.copy() for a in case]
    h = module.rnn_forward(*case)
    for a, b in zip(case, before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert h.dtype == np.float32
    assert not any(np.shares_memory(h, a) for a in case)
    np.testing.assert_allclose(h, module.rnn_forward(*(a.astype(float) for a in case)), atol=1e-5)


@MODULES
def test_non_contiguous_integers_and_mixed_dtypes(module, rng):
    x, h0, W_xh, W_hh, b_h = problem(rng)
    h = module.rnn_forward(x, h0, W_xh, W_hh, b_h)
    strided = module.rnn_forward(
        np.asfortranarray(x),
        np.repeat(h0, 2, axis=1)[:, ::2],
        np.asfortranarray(W_xh),
        W_hh.T.copy().T,
        b_h[::-1].copy()[::-1],
    )
    np.testing.assert_allclose(strided, h, atol=1e-13)
    assert module.rnn_forward(x.astype(np.float32), h0, W_xh, W_hh, b_h).dtype == np.float64
    tokens = np.eye(3, dtype=int)[rng.integers(3, size=(7, 2))]
    np.testing.assert_allclose(
        module.rnn_forward(tokens, h0, W_xh, W_hh, b_h),
        module.rnn_forward(tokens.astype(float), h0, W_xh, W_hh, b_h),
        atol=1e-13,
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [("x", (7, 2)), ("x", (7, 0, 3)), ("x", (0, 2, 3)), ("x", (7, 2, 4)), ("h0", (3, 5)),
     ("h0", (2, 4)), ("W_xh", (3, 5)), ("W_hh", (5, 4)), ("b_h", (4,)), ("b_h", (5, 1))],
)  # fmt: skip
@MODULES
def test_bad_shapes_are_named(module, name, shape, rng):
    arguments = dict(zip(("x", "h0", "W_xh", "W_hh", "b_h"), problem(rng), strict=True))
    arguments[name] = np.ones(shape)
    with pytest.raises(ValueError, match=r"has shape \("):
        module.rnn_forward(**arguments)


@MODULES
def test_bad_dtype_is_named(module, rng):
    x, h0, W_xh, W_hh, b_h = problem(rng)
    with pytest.raises(TypeError, match="h0 must hold float32"):
        module.rnn_forward(x, h0.astype(complex), W_xh, W_hh, b_h)


def test_readout_is_a_linear_layer(rng):
    h, W_hy, b_y = rng.normal(size=(5, 2, 4)), rng.normal(size=(3, 4)), rng.normal(size=3)
    expected = torch.nn.functional.linear(*(torch.tensor(a) for a in (h, W_hy, b_y)))
    np.testing.assert_allclose(rnn.readout(h, W_hy, b_y), expected, atol=1e-12)
    with pytest.raises(ValueError, match="h has shape"):
        rnn.readout(h[..., :3], W_hy, b_y)
    with pytest.raises(ValueError, match="b_y has shape"):
        rnn.readout(h, W_hy, b_y[:2])


def test_cross_entropy_agrees_with_torch(rng):
    logits, targets = 5 * rng.normal(size=(6, 2, 4)), rng.integers(4, size=(6, 2))
    mask = rng.random((6, 2)) < 0.5
    flat, labels = torch.tensor(logits), torch.tensor(targets)
    expected = torch.nn.functional.cross_entropy(flat.reshape(-1, 4), labels.reshape(-1))
    np.testing.assert_allclose(rnn.cross_entropy(logits, targets), expected, atol=1e-12)
    masked = torch.nn.functional.cross_entropy(flat[mask], labels[mask])
    np.testing.assert_allclose(rnn.cross_entropy(logits, targets, mask), masked, atol=1e-12)
    padded = np.where(mask, targets, -100)
    np.testing.assert_allclose(rnn.cross_entropy(logits, padded, mask), masked, atol=1e-12)


def test_cross_entropy_at_its_extremes(rng):
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]])
    assert rnn.cross_entropy(logits, np.array([0, 1])) == 0
    assert rnn.cross_entropy(logits, np.array([1, 0])) == 2e4
    assert rnn.cross_entropy(logits, np.array([1, 0]), np.zeros(2, bool)) == 0
    uniform = np.zeros((3, 7))
    np.testing.assert_allclose(rnn.cross_entropy(uniform, np.array([0, 3, 6])), np.log(7))


@pytest.mark.parametrize(
    ("targets", "mask", "error", "message"),
    [
        ([0, 1, 2], None, ValueError, "targets has shape"),
        ([0, 3], None, ValueError, "targets holds 3"),
        ([0, -1], None, ValueError, "targets holds -1"),
        ([0.0, 1.0], None, TypeError, "targets must hold integers"),
        ([0, 1], [True], ValueError, "mask has shape"),
        ([0, 1], [0.5, 1.0], TypeError, "mask must be boolean"),
    ],
)
def test_cross_entropy_names_bad_input(targets, mask, error, message):
    with pytest.raises(error, match=message):
        rnn.cross_entropy(
            np.zeros((2, 3)), np.array(targets), None if mask is None else np.array(mask)
        )


def test_count_parameters_counts_what_init_makes(rng):
    for D, H, V in [(3, 4, 2), (1, 1, 1), (5, 7, 11)]:
        params = rnn.init_params(D, H, V, rng)
        assert rnn.count_parameters(D, H, V) == sum(p.size for p in params.values())
        assert max(np.abs(p).max() for p in params.values()) <= H**-0.5
    assert rnn.init_params(3, 4, 2, rng, np.float32)["W_hh"].dtype == np.float32
    with pytest.raises(ValueError, match="H must be at least 1"):
        rnn.count_parameters(3, 0, 2)


def test_parity_weights_compute_parity_at_any_length(rng):
    p = rnn.parity_weights()
    bits = rng.integers(2, size=(500, 20))
    h = rnn.rnn_forward(bits[..., None], np.zeros((20, 2)), p["W_xh"], p["W_hh"], p["b_h"])
    parity = rnn.readout(h, p["W_hy"], p["b_y"]).argmax(axis=-1)
    np.testing.assert_array_equal(parity, bits.cumsum(axis=0) % 2)


def test_torch_round_trip(rng):
    net = torch.nn.RNN(3, 4).double()
    x = torch.tensor(rng.normal(size=(5, 2, 3)))
    params = rnn.from_torch(net)
    h = rnn.rnn_forward(x.numpy(), np.zeros((2, 4)), *params.values())
    np.testing.assert_allclose(h, net(x)[0].detach(), atol=1e-12)
    params["W_hh"] += 1
    np.testing.assert_allclose(h, net(x)[0].detach(), atol=1e-12)  # copies, not views
    no_bias = rnn.from_torch(torch.nn.RNN(3, 4, bias=False))
    assert not no_bias["b_h"].any()


@pytest.mark.parametrize(
    "net",
    [
        torch.nn.RNN(3, 4, 2),
        torch.nn.RNN(3, 4, bidirectional=True),
        torch.nn.RNN(3, 4, nonlinearity="relu"),
    ],
)
def test_from_torch_refuses_what_it_cannot_hold(net):
    with pytest.raises(ValueError, match="one layer, one direction and tanh"):
        rnn.from_torch(net)


def test_import_is_light():
    code = (
        "import sys, rnncourse.rnn, rnncourse.bptt, rnncourse.clipping, rnncourse.gates, "
        "rnncourse.gradient_flow, rnncourse.initialization, rnncourse.skips, rnncourse.scan; "
        "print([m for m in ('torch', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("shape", [(), (2, 0)])
def test_logits_without_classes_are_refused(shape):
    with pytest.raises(ValueError, match="logits has shape"):
        rnn.cross_entropy(np.zeros(shape), np.zeros(shape[:-1], int))
