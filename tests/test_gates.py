"""LSTM and GRU against torch's modules and autograd in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rnncourse import fused, gates
from rnncourse.bptt import numerical_gradient

CELLS = ("lstm", "gru")


def problem(cell, rng, T=7, B=2, D=3, H=5, dtype=np.float64):
    init = gates.init_lstm_params if cell == "lstm" else gates.init_gru_params
    params = {k: (2 * v).astype(dtype) for k, v in init(D, H, rng).items()}
    x = rng.normal(size=(T, B, D)).astype(dtype)
    states = [rng.normal(size=(B, H)).astype(dtype) for _ in range(2 if cell == "lstm" else 1)]
    dh = rng.normal(size=(T, B, H)).astype(dtype)
    return x, states, params, dh


def run(cell, x, states, params, dh, module=gates):
    """Return states and gradients of one implementation as two dicts."""
    if cell == "lstm" and module is fused:
        h, c, cache = fused.lstm_forward(x, *states, **params)
        grads = fused.lstm_backward(dh, x, *states, h, c, cache, params["W_x"], params["W_h"])
    elif cell == "lstm":
        h, c = gates.lstm_forward(x, *states, **params)
        grads = gates.lstm_backward(dh, x, *states, h, c, **params)
    elif module is fused:
        h, cache = fused.gru_forward(x, *states, **params)
        grads = fused.gru_backward(dh, x, *states, h, cache, params["W_x"], params["W_h"])
    else:
        h = gates.gru_forward(x, *states, **params)
        grads = gates.gru_backward(dh, x, *states, h, **params)
    names = (
        ("dx", "dh0", "dc0", "dW_x", "dW_h", "db")
        if cell == "lstm"
        else ("dx", "dh0", "dW_x", "dW_h", "db_x", "db_h")
    )
    outputs = {"h": h, "c_last": c[-1]} if cell == "lstm" else {"h": h}
    return outputs, dict(zip(names, grads, strict=True))


def run_torch(cell, x, states, params, dh):
    net = gates.to_torch(params)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, *states)]
    first = tuple(s[None] for s in leaves[1:])
    h, last = net(leaves[0], first if cell == "lstm" else first[0])
    h.backward(torch.tensor(dh))
    outputs = {"h": h.detach()}
    grads = {"dx": leaves[0].grad, "dh0": leaves[1].grad}
    grads |= {"dW_x": net.weight_ih_l0.grad, "dW_h": net.weight_hh_l0.grad}
    if cell == "lstm":
        outputs["c_last"] = last[1][0].detach()
        grads |= {"dc0": leaves[2].grad, "db": net.bias_ih_l0.grad}
    else:
        grads |= {"db_x": net.bias_ih_l0.grad, "db_h": net.bias_hh_l0.grad}
    return outputs, grads


@pytest.mark.parametrize("module", [gates, fused], ids=["plain", "fused"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("T", "B", "D", "H"), [(7, 2, 3, 5), (1, 4, 2, 3), (6, 1, 5, 2), (3, 2, 1, 1)]
)
def test_agrees_with_torch(cell, module, T, B, D, H, rng):
    case = problem(cell, rng, T, B, D, H)
    for ours, theirs in zip(run(cell, *case, module), run_torch(cell, *case), strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-10, err_msg=name)


@pytest.mark.parametrize("module", [gates, fused], ids=["plain", "fused"])
@pytest.mark.parametrize("cell", CELLS)
def test_arguments_stay_and_float32_is_kept(cell, module, rng):
    x, states, params, dh = problem(cell, rng, dtype=np.float32)
    before = [a.copy() for a in (x, *states, *params.values(), dh)]
    outputs, grads = run(cell, x, states, params, dh, module)
    for a, b in zip((x, *states, *params.values(), dh), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert {a.dtype for a in (*outputs.values(), *grads.values())} == {np.dtype(np.float32)}
    exact = run(cell, *(problem(cell, np.random.default_rng(20240613))), module)
    np.testing.assert_allclose(outputs["h"], exact[0]["h"], atol=1e-5)


@pytest.mark.parametrize("module", [gates, fused], ids=["plain", "fused"])
@pytest.mark.parametrize("cell", CELLS)
def test_non_contiguous_input(cell, module, rng):
    x, states, params, dh = problem(cell, rng)
    expected = run(cell, x, states, params, dh, module)
    strided = run(
        cell,
        np.asfortranarray(x),
        [np.repeat(s, 2, axis=1)[:, ::2] for s in states],
        {k: np.asfortranarray(v) for k, v in params.items()},
        np.repeat(dh, 2, axis=0)[::2],
        module,
    )
    for ours, theirs in zip(strided, expected, strict=True):
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("cell", CELLS)
def test_causality_and_batch_permutation(cell, rng):
    x, states, params, dh = problem(cell, rng)
    h = run(cell, x, states, params, dh)[0]["h"]
    changed = x.copy()
    changed[4] += 1
    h_changed = run(cell, changed, states, params, dh)[0]["h"]
    np.testing.assert_array_equal(h_changed[:4], h[:4])
    assert (np.abs(h_changed[4:] - h[4:]).max(axis=(1, 2)) > 1e-6).all()
    swapped = run(cell, x[:, ::-1], [s[::-1] for s in states], params, dh)[0]["h"]
    np.testing.assert_allclose(swapped[:, ::-1], h, atol=1e-14)


def test_lstm_step_backward_by_finite_differences(rng):
    B, D, H = 2, 3, 4
    params = gates.init_lstm_params(D, H, rng)
    x_t, h_prev, c_prev, dh, dc = (
        rng.normal(size=s) for s in ((B, D), (B, H), (B, H), (B, H), (B, H))
    )
    args = [x_t, h_prev, c_prev, params["W_x"], params["W_h"], params["b"]]
    grads = gates.lstm_step_backward(dh, dc, *args)
    for k, grad in enumerate(grads):

        def loss(a, k=k):
            h, c = gates.lstm_step(*args[:k], a, *args[k + 1 :])
            return (dh * h).sum() + (dc * c).sum()

        np.testing.assert_allclose(grad, numerical_gradient(loss, args[k]), atol=1e-8)


def test_gru_step_backward_by_finite_differences(rng):
    B, D, H = 2, 3, 4
    params = gates.init_gru_params(D, H, rng)
    x_t, h_prev, dh = (rng.normal(size=s) for s in ((B, D), (B, H), (B, H)))
    args = [x_t, h_prev, *params.values()]
    for k, grad in enumerate(gates.gru_step_backward(dh, *args)):

        def loss(a, k=k):
            return (dh * gates.gru_step(*args[:k], a, *args[k + 1 :])).sum()

        np.testing.assert_allclose(grad, numerical_gradient(loss, args[k]), atol=1e-8)


@pytest.mark.parametrize("module", [gates, fused], ids=["plain", "fused"])
def test_gradient_of_the_last_cell(module, rng):
    x, (h0, c0), params, dh = problem("lstm", rng)
    dc = rng.normal(size=c0.shape)
    net = gates.to_torch(params)
    out, (_, c_last) = net(torch.tensor(x), (torch.tensor(h0)[None], torch.tensor(c0)[None]))
    ((out * torch.tensor(dh)).sum() + (c_last[0] * torch.tensor(dc)).sum()).backward()
    if module is fused:
        h, c, cache = fused.lstm_forward(x, h0, c0, **params)
        grads = fused.lstm_backward(
            dh, x, h0, c0, h, c, cache, params["W_x"], params["W_h"], dc_last=dc
        )
    else:
        h, c = gates.lstm_forward(x, h0, c0, **params)
        grads = gates.lstm_backward(dh, x, h0, c0, h, c, **params, dc_last=dc)
    np.testing.assert_allclose(grads[3], net.weight_ih_l0.grad, atol=1e-10)
    np.testing.assert_allclose(grads[4], net.weight_hh_l0.grad, atol=1e-10)


def test_gates_take_a_whole_sequence(rng):
    x, (h0, c0), params, _ = problem("lstm", rng)
    h, c = gates.lstm_forward(x, h0, c0, **params)
    h_prev, c_prev = np.concatenate([h0[None], h[:-1]]), np.concatenate([c0[None], c[:-1]])
    i, f, g, o = gates.lstm_gates(x, h_prev, **params)
    np.testing.assert_allclose(f * c_prev + i * g, c, atol=1e-14)
    np.testing.assert_allclose(o * np.tanh(c), h, atol=1e-14)


def test_cell_gradient_is_the_direct_path(rng):
    """With no recurrent weights the cell has no other path, so autograd must find the product."""
    x, (h0, c0), params, _ = problem("lstm", rng)
    params["W_h"] = np.zeros_like(params["W_h"])
    f = gates.lstm_gates(x, np.zeros((*x.shape[:2], 5)), **params)[1]
    c_0 = torch.tensor(c0[None], requires_grad=True)
    _, (_, c_last) = gates.to_torch(params)(torch.tensor(x), (torch.tensor(h0)[None], c_0))
    c_last.sum().backward()
    np.testing.assert_allclose(gates.cell_gradient(f), c_0.grad[0], atol=1e-12)
    np.testing.assert_array_equal(gates.cell_gradient(f[:0]), np.ones_like(c0))


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU])
@pytest.mark.parametrize("bias", [True, False])
def test_round_trip_through_torch(kind, bias, rng):
    net = kind(3, 4, bias=bias).double()
    params = gates.from_torch(net)
    x = torch.tensor(rng.normal(size=(5, 2, 3)))
    expected = net(x)[0].detach()
    np.testing.assert_allclose(gates.to_torch(params)(x)[0].detach(), expected, atol=1e-12)
    params["W_h"] += 1
    np.testing.assert_array_equal(net(x)[0].detach(), expected)  # copies, not views


def test_sigmoid_does_not_overflow():
    a = np.array([-1e5, -30.0, 0.0, 2.0, 1e5])
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_allclose(
            gates.sigmoid(a), torch.sigmoid(torch.tensor(a)).numpy(), atol=1e-15
        )


@pytest.mark.parametrize(
    "kind",
    [
        torch.nn.LSTM(3, 4, 2),
        torch.nn.GRU(3, 4, bidirectional=True),
        torch.nn.RNN(3, 4),
        torch.nn.LSTM(3, 4, proj_size=2),
    ],
)
def test_from_torch_refuses_what_it_cannot_hold(kind):
    with pytest.raises(ValueError, match="one layer, one direction"):
        gates.from_torch(kind)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (7, 2, 4), "W_x has shape"),
        ("x", (7, 2), "x has shape"),
        ("x", (7, 0, 3), "must not be empty"),
        ("h0", (3, 5), "h0 has shape"),
        ("c0", (2, 4), "c0 has shape"),
        ("W_x", (15, 3), r"W_x has shape \(15, 3\), expected \(4H, D\) = \(20, 3\)"),
        ("W_h", (20, 4), "W_h has shape"),
        ("b", (20, 1), "b has shape"),
    ],
)
@pytest.mark.parametrize("module", [gates, fused], ids=["plain", "fused"])
def test_lstm_names_bad_shapes(module, name, shape, message, rng):
    x, (h0, c0), params, _ = problem("lstm", rng)
    arguments = {"x": x, "h0": h0, "c0": c0, **params, name: np.ones(shape)}
    with pytest.raises(ValueError, match=message):
        module.lstm_forward(**arguments)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (7, 2, 4), "W_x has shape"),
        ("h0", (3, 5), "h0 has shape"),
        ("W_h", (20, 5), r"W_h has shape \(20, 5\), expected \(3H, H\) = \(15, 5\)"),
        ("b_x", (5,), "b_x has shape"),
        ("b_h", (20,), "b_h has shape"),
    ],
)
@pytest.mark.parametrize("module", [gates, fused], ids=["plain", "fused"])
def test_gru_names_bad_shapes(module, name, shape, message, rng):
    x, (h0,), params, _ = problem("gru", rng)
    arguments = {"x": x, "h0": h0, **params, name: np.ones(shape)}
    with pytest.raises(ValueError, match=message):
        module.gru_forward(**arguments)


def test_to_torch_takes_lists_and_a_foreign_byte_order(rng):
    params = gates.init_lstm_params(3, 4, rng)
    expected = gates.from_torch(gates.to_torch(params))
    for other in (
        {key: p.tolist() for key, p in params.items()},
        {key: p.astype(">f8") for key, p in params.items()},
    ):
        found = gates.from_torch(gates.to_torch(other))
        assert all(np.array_equal(found[key], expected[key]) for key in expected)


def test_bad_arguments_are_named(rng):
    with pytest.raises(TypeError, match="x_t must hold float32"):
        gates.lstm_gates(np.array([["a"]]), np.zeros((1, 1)), np.eye(4), np.eye(4), np.zeros(4))
    with pytest.raises(ValueError, match="H must be at least 1"):
        gates.init_lstm_params(3, 0, rng)
    with pytest.raises(ValueError, match="D must be at least 1"):
        gates.init_gru_params(0, 3, rng)
    with pytest.raises(ValueError, match="f is a single number"):
        gates.cell_gradient(0.5)
    with pytest.raises(ValueError, match="params must hold"):
        gates.to_torch({"W_x": np.eye(4)})
    with pytest.raises(TypeError, match=r"params\['b'\] must hold"):
        gates.to_torch({"W_x": np.ones((4, 1)), "W_h": np.ones((4, 1)), "b": ["a"] * 4})
    with pytest.raises(ValueError, match="h_prev has shape"):
        gates.gru_step(np.ones((2, 3)), np.ones((3, 4)), *gates.init_gru_params(3, 4, rng).values())
