"""The network of the horizon experiment: its backward pass, and what its options mean."""

import sys

import numpy as np
import pytest

from rnncourse.bptt import numerical_gradient, relative_error, rnn_backward
from rnncourse.experiments import load_experiment
from rnncourse.rnn import rnn_forward


@pytest.fixture(scope="module")
def horizon():
    return sys.modules[load_experiment("horizon").run.__module__]


@pytest.mark.parametrize(
    "options",
    [{}, {"relu": True}, {"alpha": 0.3}, {"skip": 3}, {"alpha": 0.3, "skip": 2}],
    ids=str,
)
def test_backward_agrees_with_finite_differences(horizon, options, monkeypatch):
    monkeypatch.setattr(horizon, "HIDDEN", 5)
    rng = np.random.default_rng(0)
    cell = horizon.RNN(**options)
    params = cell.init(rng)
    x, dh = rng.standard_normal((7, 2, horizon.D)), rng.standard_normal((2, 5))
    _, cache = cell.forward(params, x)
    for name, grad in cell.backward(params, x, cache, dh).items():

        def loss(value, name=name):
            return (cell.forward(params | {name: value}, x)[0] * dh).sum()

        assert relative_error(grad, numerical_gradient(loss, params[name])) < 1e-7, name


def test_without_options_it_is_the_library_s_network(horizon):
    rng = np.random.default_rng(1)
    cell = horizon.RNN(start="orthogonal")
    params = cell.init(rng)
    x, h0 = rng.standard_normal((6, 3, horizon.D)), np.zeros((3, horizon.HIDDEN))
    h = rnn_forward(x, h0, params["W_xh"], params["W_hh"], params["b_h"])
    last, cache = cell.forward(params, x)
    np.testing.assert_allclose(last, h[-1], atol=1e-12)
    dh = np.zeros_like(h)
    dh[-1] = rng.standard_normal(last.shape)
    _, _, dW_xh, dW_hh, db_h = rnn_backward(dh, x, h0, h, params["W_xh"], params["W_hh"])
    grads = cell.backward(params, x, cache, dh[-1])
    for got, want in zip(grads.values(), (dW_xh, dW_hh, db_h), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_a_short_delay_is_solved_and_a_long_one_is_not(horizon):
    assert horizon.run(0, delay=5, updates=300)["solved"]
    assert not horizon.run(0, delay=60, updates=50)["solved"]
