"""Optimisers against torch, and what the training loop logs, clips and refuses."""

import sys

import numpy as np
import pytest
import torch

from rnncourse.bptt import cross_entropy_backward, readout_backward, rnn_backward
from rnncourse.clipping import global_norm
from rnncourse.rnn import cross_entropy, init_params, readout, rnn_forward
from rnncourse.tasks import delayed_recall
from rnncourse.training import SGD, Adam, History, PlainProgress, progress_bar, train

SHAPES = {"W_xh": (4, 3), "W_hh": (4, 4), "b_h": (4,)}


def random_dict(rng, dtype=np.float64):
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        (SGD(0.05, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        (Adam(0.01), lambda p: torch.optim.Adam(p, lr=0.01)),
        (
            Adam(0.1, beta1=0.5, beta2=0.9, eps=1e-3),
            lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.5, 0.9), eps=1e-3),
        ),
    ],
)
def test_optimisers_agree_with_torch_over_many_steps(ours, theirs):
    rng = np.random.default_rng(0)
    params = random_dict(rng)
    tensors = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    other = theirs(tensors.values())
    for _ in range(12):
        grads = random_dict(rng)
        params = ours.step(params, grads)
        for name, g in grads.items():
            tensors[name].grad = torch.tensor(g)
        other.step()
    for name in SHAPES:
        np.testing.assert_allclose(params[name], tensors[name].detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [lambda: SGD(0.1, momentum=0.5), lambda: Adam(0.1)])
def test_optimisers_keep_float32_and_leave_their_arguments_alone(make):
    rng = np.random.default_rng(1)
    params, grads = random_dict(rng, np.float32), random_dict(rng, np.float32)
    before = {name: (params[name].copy(), grads[name].copy()) for name in SHAPES}
    optimizer = make()
    new = optimizer.step(optimizer.step(params, grads), grads)
    for name, (p, g) in before.items():
        assert new[name].dtype == np.float32
        np.testing.assert_array_equal(params[name], p)
        np.testing.assert_array_equal(grads[name], g)


def test_two_optimisers_do_not_share_their_state():
    grads = {"w": np.ones(2)}
    first, second = SGD(1.0, momentum=0.5), SGD(1.0, momentum=0.5)
    first.step({"w": np.zeros(2)}, grads)
    np.testing.assert_array_equal(second.step({"w": np.zeros(2)}, grads)["w"], [-1, -1])


def quadratic(params, scale):
    return float(scale * (params["w"] ** 2).sum() / 2), {"w": scale * params["w"]}


def test_the_norm_is_logged_before_clipping_and_the_update_is_clipped():
    start = {"w": np.array([3.0, 4.0])}
    params, history = train(quadratic, start, [1.0], SGD(0.5), max_norm=2.0, progress=False)
    assert history.loss == [12.5]
    assert history.norm == [5.0]
    assert history.clipped == [True]
    np.testing.assert_allclose(params["w"] - start["w"], -0.5 * 2.0 * start["w"] / 5)
    np.testing.assert_array_equal(start["w"], [3.0, 4.0])


def test_the_share_of_clipped_steps():
    _, history = train(
        lambda params, g: (0.0, {"w": np.array([g])}),
        {"w": np.zeros(1)},
        [0.5, 1.0, 1.5, 7.0],
        SGD(0.1),
        max_norm=1.0,
        progress=False,
    )
    assert history.clipped == [False, False, True, True]  # a norm at the limit is not clipped
    assert history.clipped_share == 0.5
    assert History().clipped_share == 0.0


def test_without_a_limit_nothing_is_clipped():
    params, history = train(quadratic, {"w": np.ones(1)}, [100.0], SGD(0.01), progress=False)
    assert history.norm == [100.0]
    assert history.clipped_share == 0.0
    np.testing.assert_allclose(params["w"], 0, atol=1e-12)


def test_the_callback_sees_every_step_and_ends_the_training():
    seen = []

    def callback(step, params):
        seen.append((step, params["w"].item()))
        return step == 3

    _, history = train(
        quadratic, {"w": np.ones(1)}, [1.0] * 9, SGD(0.5), callback=callback, progress=False
    )
    assert seen == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert len(history.loss) == 3


def test_a_gradient_that_is_not_finite_is_refused_with_its_name():
    with pytest.raises(ValueError, match=r"grads\['w'\] holds NaN"):
        train(
            lambda params, batch: (0.0, {"w": np.array([np.nan])}),
            {"w": np.zeros(1)},
            [0],
            SGD(0.1),
            progress=False,
        )


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_progress_changes_nothing_and_shows_the_numbers(with_tqdm, monkeypatch, capsys):
    if not with_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
        assert isinstance(progress_bar([]), PlainProgress)
    quiet, quiet_history = train(
        quadratic, {"w": np.ones(2)}, [1.0] * 25, SGD(0.1), max_norm=1.0, progress=False
    )
    assert capsys.readouterr().err == ""
    shown, shown_history = train(
        quadratic, {"w": np.ones(2)}, [1.0] * 25, SGD(0.1), max_norm=1.0, progress=True
    )
    np.testing.assert_array_equal(quiet["w"], shown["w"])
    assert quiet_history == shown_history
    output = capsys.readouterr().err
    assert "25/25" in output
    for word in ("loss", "norm", "clipped"):
        assert word in output


def test_plain_progress_prints_about_ten_lines_and_knows_endless_streams(capsys):
    bar = PlainProgress(range(1000))
    for _ in bar:
        bar.set_postfix(loss=1.0)
    bar.close()
    assert len(capsys.readouterr().err.splitlines()) == 10
    endless = PlainProgress(iter(int, 1))
    for i, _ in enumerate(endless):
        if i == 4:
            break
    endless.close()
    assert capsys.readouterr().err == "step 5\n"


def test_a_small_network_learns_to_recall():
    rng = np.random.default_rng(0)

    def loss_and_grads(params, batch):
        x, targets = batch
        h0 = np.zeros((x.shape[1], 16))
        h = rnn_forward(x, h0, params["W_xh"], params["W_hh"], params["b_h"])
        logits = readout(h[-1], params["W_hy"], params["b_y"])
        dh = np.zeros_like(h)
        dlogits = cross_entropy_backward(logits, targets)
        dh[-1], dW_hy, db_y = readout_backward(dlogits, h[-1], params["W_hy"])
        _, _, dW_xh, dW_hh, db_h = rnn_backward(dh, x, h0, h, params["W_xh"], params["W_hh"])
        grads = {"W_xh": dW_xh, "W_hh": dW_hh, "b_h": db_h, "W_hy": dW_hy, "b_y": db_y}
        return cross_entropy(logits, targets), grads

    _, history = train(
        loss_and_grads,
        init_params(D=6, H=16, V=2, rng=rng),
        (delayed_recall(delay=4, batch=32, rng=rng) for _ in range(150)),
        Adam(0.01),
        max_norm=1.0,
        progress=False,
    )
    assert np.mean(history.loss[:5]) > 0.6
    assert np.mean(history.loss[-5:]) < 0.1
    assert all(isinstance(loss, float) for loss in history.loss)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0.0), "lr must be positive"),
        (lambda: SGD(float("nan")), "lr must be positive"),
        (lambda: SGD(0.1, momentum=1.0), r"momentum must lie in \[0, 1\)"),
        (lambda: Adam(-1.0), "lr must be positive"),
        (lambda: Adam(0.1, eps=0.0), "eps must be positive"),
        (lambda: Adam(0.1, beta1=-0.1), "beta1 must lie"),
        (lambda: Adam(0.1, beta2=1.0), "beta2 must lie"),
        (lambda: SGD(0.1).step({"w": np.ones(2)}, {"v": np.ones(2)}), "keys"),
        (lambda: Adam(0.1).step({"w": np.ones(2)}, {"w": np.ones(3)}), r"shape \(3,\)"),
        (
            lambda: train(quadratic, {"w": np.ones(1)}, [1.0], SGD(0.1), max_norm=0.0),
            "max_norm must be positive",
        ),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_global_norm_of_the_history_is_that_of_the_gradients():
    rng = np.random.default_rng(2)
    grads = random_dict(rng)
    _, history = train(lambda p, b: (0.0, grads), random_dict(rng), [0], SGD(0.1), progress=False)
    assert history.norm == [global_norm(grads)]
