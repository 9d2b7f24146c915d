"""Padding, packing and both directions against torch, and that padding never matters."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from rnncourse import sequences as sq
from rnncourse.bptt import numerical_gradient, relative_error, rnn_backward
from rnncourse.rnn import rnn_forward, to_torch

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
NAMES = ("W_xh", "W_hh", "b_h")


def rnn_params(rng, D=3, H=4):
    return {
        "W_xh": rng.normal(size=(H, D)),
        "W_hh": rng.normal(size=(H, H)) / H**0.5,
        "b_h": rng.normal(size=H),
    }


@st.composite
def batches(draw, smallest=1, descending=False):
    """Draw a padded batch whose padding is NaN, its lengths, and a generator."""
    lengths = np.array(draw(st.lists(st.integers(smallest, 6), min_size=1, max_size=5)))
    if descending:
        lengths = np.sort(lengths)[::-1]
    T = max(int(lengths.max()), 1) + draw(st.integers(0, 2))
    rng = np.random.default_rng(draw(seeds))
    x = rng.normal(size=(T, len(lengths), 3))
    x[np.arange(T)[:, None] >= lengths] = np.nan
    return x, lengths, rng


# padding and masks


@few
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), seeds)
def test_pad_agrees_with_torch(lengths, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(n, 2)) for n in lengths]
    padded, returned = sq.pad(arrays, value=-3.0)
    theirs = pad_sequence([torch.tensor(a) for a in arrays], padding_value=-3.0)
    np.testing.assert_array_equal(padded, theirs.numpy())
    np.testing.assert_array_equal(returned, lengths)


def test_pad_keeps_dtypes_and_takes_empty_sequences():
    padded, lengths = sq.pad([np.array([], int), np.array([4, 5])], value=0)
    assert padded.dtype.kind == "i"
    np.testing.assert_array_equal(padded, [[0, 4], [0, 5]])
    np.testing.assert_array_equal(lengths, [0, 2])
    assert sq.pad([np.ones(2, np.float32)])[0].dtype == np.float32
    assert sq.pad([[1, 2]], value=np.nan)[0].dtype == np.float64


def test_pad_returns_new_memory():
    a = np.ones((2, 1))
    sq.pad([a])[0][:] = 7
    np.testing.assert_array_equal(a, 1)


def test_length_mask_by_definition():
    mask = sq.length_mask(np.array([0, 3, 1]), T=3)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask.sum(axis=0), [0, 3, 1])
    for t in range(3):
        np.testing.assert_array_equal(mask[t], [False, t < 3, t < 1])


@few
@given(batches())
def test_last_valid_ignores_padding(batch):
    x, lengths, _ = batch
    last = sq.last_valid(x, lengths)
    for i, n in enumerate(lengths):
        np.testing.assert_array_equal(last[i], x[n - 1, i])


def test_last_valid_backward_by_finite_differences():
    rng = np.random.default_rng(0)
    h, lengths, dlast = rng.normal(size=(5, 3, 2)), np.array([5, 1, 3]), rng.normal(size=(3, 2))
    numerical = numerical_gradient(lambda a: (sq.last_valid(a, lengths) * dlast).sum(), h)
    np.testing.assert_allclose(sq.last_valid_backward(dlast, lengths, 5), numerical, atol=1e-9)


HOW = ("last", "mean", "max")


@pytest.mark.parametrize("how", HOW)
@few
@given(batches())
def test_summary_reads_real_steps_only(how, batch):
    x, lengths, rng = batch  # the padding is NaN
    by_hand = {"last": lambda s: s[-1], "mean": lambda s: s.mean(0), "max": lambda s: s.max(0)}
    found = sq.summary(x, lengths, how)
    for i, n in enumerate(lengths):
        np.testing.assert_allclose(found[i], by_hand[how](x[:n, i]), rtol=1e-12)
    dx = sq.summary_backward(rng.normal(size=found.shape), x, lengths, how)
    assert not dx[~sq.length_mask(lengths, len(x))].any()


@pytest.mark.parametrize("how", HOW)
def test_summary_backward_by_finite_differences(how):
    rng = np.random.default_rng(0)
    h, lengths, ds = rng.normal(size=(5, 3, 2)), np.array([5, 1, 3]), rng.normal(size=(3, 2))
    before = h.copy(), ds.copy()
    numerical = numerical_gradient(lambda a: (sq.summary(a, lengths, how) * ds).sum(), h)
    np.testing.assert_allclose(sq.summary_backward(ds, h, lengths, how), numerical, atol=1e-9)
    np.testing.assert_array_equal(before[0], h)
    np.testing.assert_array_equal(before[1], ds)


def test_summary_of_a_tie_sends_the_gradient_to_one_step_only():
    dh = sq.summary_backward(np.ones((1, 1)), np.full((3, 1, 1), 2.0), np.array([2]), "max")
    np.testing.assert_array_equal(dh.ravel(), [1.0, 0.0, 0.0])


@pytest.mark.parametrize("how", HOW)
def test_summary_keeps_single_precision(how):
    h, lengths = np.ones((4, 2, 3), np.float32), np.array([4, 2])
    s = sq.summary(h, lengths, how)
    assert s.dtype == sq.summary_backward(s, h, lengths, how).dtype == np.float32


def test_summary_names_what_is_wrong():
    with pytest.raises(ValueError, match="how must be"):
        sq.summary(np.ones((3, 1, 2)), np.array([2]), "first")
    with pytest.raises(ValueError, match="lie in"):
        sq.summary(np.ones((3, 1, 2)), np.array([0]), "mean")
    with pytest.raises(ValueError, match="dsummary has shape"):
        sq.summary_backward(np.ones((2, 2)), np.ones((3, 1, 2)), np.array([2]), "mean")


@few
@given(batches(smallest=0))
def test_masked_mean_is_the_mean_of_what_counts(batch):
    x, lengths, _ = batch
    loss, mask = x[..., 0], sq.length_mask(lengths, len(x))
    expected = loss[mask].mean() if mask.any() else 0.0
    assert sq.masked_mean(loss, mask) == pytest.approx(expected)
    assert sq.masked_mean(loss, mask.astype(int)) == pytest.approx(expected)
    assert isinstance(sq.masked_mean(loss, mask), float)


def test_masked_mean_does_not_divide_by_all_steps():
    loss, mask = np.array([[2.0, 4.0], [6.0, 100.0]]), np.array([[1, 1], [1, 0]])
    assert sq.masked_mean(loss, mask) == 4.0


# packing


@few
@given(batches(descending=True))
def test_pack_and_unpack_agree_with_torch(batch):
    x, lengths, _ = batch
    data, batch_sizes = sq.pack(x, lengths)
    theirs = pack_padded_sequence(torch.tensor(x), torch.tensor(lengths.copy()))
    np.testing.assert_array_equal(data, theirs.data.numpy())
    np.testing.assert_array_equal(batch_sizes, theirs.batch_sizes.numpy())
    assert not np.isnan(data).any()
    padded, returned = sq.unpack(data, batch_sizes, value=-1.0)
    unpacked, their_lengths = pad_packed_sequence(theirs, padding_value=-1.0)
    np.testing.assert_array_equal(padded, unpacked.numpy())
    np.testing.assert_array_equal(returned, their_lengths.numpy())


def test_pack_takes_tokens():
    data, batch_sizes = sq.pack(np.array([[7, 8], [9, 0]]), [2, 1])
    np.testing.assert_array_equal(data, [7, 8, 9])
    np.testing.assert_array_equal(batch_sizes, [2, 1])


@few
@given(batches(descending=True))
def test_packed_rnn_agrees_with_torch_in_values_and_gradients(batch):
    x, lengths, rng = batch
    params = rnn_params(rng)
    h0 = rng.normal(size=(len(lengths), 4))
    data, batch_sizes = sq.pack(x, lengths)
    h, h_last = sq.rnn_forward_packed(data, batch_sizes, h0, **params)

    rnn = to_torch(params)
    their_x = torch.tensor(np.nan_to_num(x), requires_grad=True)
    their_h0 = torch.tensor(h0[None], requires_grad=True)
    packed = pack_padded_sequence(their_x, torch.tensor(lengths.copy()))
    output, h_n = rnn(packed, their_h0)
    np.testing.assert_allclose(h, output.data.detach(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(h_last, h_n[0].detach(), rtol=1e-10, atol=1e-12)

    G = rng.normal(size=h.shape)
    output.data.backward(torch.tensor(G))
    padded_x, _ = sq.unpack(data, batch_sizes)
    padded_h, _ = sq.unpack(h, batch_sizes)
    dh, _ = sq.unpack(G, batch_sizes)  # no gradient at padded steps
    grads = rnn_backward(dh, padded_x, h0, padded_h, params["W_xh"], params["W_hh"])
    dx, dh0, dW_xh, dW_hh, db_h = grads
    for ours, theirs in (
        (dx, their_x.grad[: len(dx)]),
        (dh0, their_h0.grad[0]),
        (dW_xh, rnn.weight_ih_l0.grad),
        (dW_hh, rnn.weight_hh_l0.grad),
        (db_h, rnn.bias_ih_l0.grad),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@few
@given(batches())
def test_sorting_packing_and_unsorting_equals_one_sequence_at_a_time(batch):
    x, lengths, rng = batch
    params = rnn_params(rng)
    h0 = rng.normal(size=(len(lengths), 4))
    order, inverse = sq.sort_by_length(lengths)
    assert (np.diff(lengths[order]) <= 0).all()
    data, batch_sizes = sq.pack(x[:, order], lengths[order])
    _, h_last = sq.rnn_forward_packed(data, batch_sizes, h0[order], **params)
    for i, n in enumerate(lengths):
        alone = rnn_forward(x[:n, i : i + 1], h0[i : i + 1], **params)
        np.testing.assert_allclose(h_last[inverse][i], alone[-1, 0], rtol=1e-12)


def test_sorting_keeps_the_order_of_equal_lengths():
    lengths = np.tile([3, 5], 500)
    order, inverse = sq.sort_by_length(lengths)
    np.testing.assert_array_equal(order, [*range(1, 1000, 2), *range(0, 1000, 2)])
    np.testing.assert_array_equal(order[inverse], np.arange(1000))


# reversal and both directions


@few
@given(batches(smallest=0))
def test_reverse_padded_reverses_each_sequence_and_is_its_own_inverse(batch):
    x, lengths, _ = batch
    reversed_x = sq.reverse_padded(x, lengths)
    for i, n in enumerate(lengths):
        np.testing.assert_array_equal(reversed_x[:n, i], x[:n, i][::-1])
        np.testing.assert_array_equal(reversed_x[n:, i], x[n:, i])
    np.testing.assert_array_equal(sq.reverse_padded(reversed_x, lengths), x)


def bidirectional_torch(forward, backward):
    H, D = forward["W_xh"].shape
    rnn = torch.nn.RNN(D, H, bidirectional=True, dtype=torch.float64)
    with torch.no_grad():
        for suffix, params in (("l0", forward), ("l0_reverse", backward)):
            getattr(rnn, f"weight_ih_{suffix}").copy_(torch.tensor(params["W_xh"]))
            getattr(rnn, f"weight_hh_{suffix}").copy_(torch.tensor(params["W_hh"]))
            getattr(rnn, f"bias_ih_{suffix}").copy_(torch.tensor(params["b_h"]))
            getattr(rnn, f"bias_hh_{suffix}").zero_()
    return rnn


@few
@given(batches())
def test_bidirectional_agrees_with_torch_in_values_and_gradients(batch):
    x, lengths, rng = batch
    forward, backward = rnn_params(rng), rnn_params(rng)
    h = sq.bidirectional_forward(x, lengths, forward, backward)

    rnn = bidirectional_torch(forward, backward)
    their_x = torch.tensor(np.nan_to_num(x), requires_grad=True)
    packed = pack_padded_sequence(their_x, torch.tensor(lengths), enforce_sorted=False)
    packed_output, h_n = rnn(packed)
    output, _ = pad_packed_sequence(packed_output, total_length=len(x))
    np.testing.assert_allclose(h, output.detach(), rtol=1e-10, atol=1e-12)
    summary = np.concatenate([h_n[0].detach(), h_n[1].detach()], axis=-1)
    np.testing.assert_allclose(sq.bidirectional_summary(h, lengths), summary, atol=1e-12)

    G = rng.normal(size=h.shape)
    output.backward(torch.tensor(G))
    dx, dforward, dbackward = sq.bidirectional_backward(G, x, lengths, forward, backward)
    np.testing.assert_allclose(dx, their_x.grad, rtol=1e-10, atol=1e-12)
    for grads, suffix in ((dforward, "l0"), (dbackward, "l0_reverse")):
        for name, theirs in zip(NAMES, ("weight_ih", "weight_hh", "bias_ih"), strict=True):
            expected = getattr(rnn, f"{theirs}_{suffix}").grad
            np.testing.assert_allclose(grads[name], expected, rtol=1e-10, atol=1e-12)


@few
@given(batches(), st.integers(1, 3))
def test_more_padding_changes_nothing(batch, more):
    x, lengths, rng = batch
    forward, backward = rnn_params(rng), rnn_params(rng)
    padding = rng.normal(size=(more, *x.shape[1:]))
    longer = np.concatenate([np.nan_to_num(x), padding])
    h = sq.bidirectional_forward(x, lengths, forward, backward)
    h_longer = sq.bidirectional_forward(longer, lengths, forward, backward)
    np.testing.assert_array_equal(h_longer[: len(x)], h)
    assert (h_longer[len(x) :] == 0).all()
    np.testing.assert_array_equal(
        sq.bidirectional_summary(h_longer, lengths), sq.bidirectional_summary(h, lengths)
    )
    states = rnn_forward(longer, np.zeros((len(lengths), 4)), **forward)
    np.testing.assert_array_equal(
        sq.last_valid(states, lengths), sq.last_valid(states[: len(x)], lengths)
    )


@few
@given(batches())
def test_permuting_the_batch_permutes_the_result(batch):
    x, lengths, rng = batch
    forward, backward = rnn_params(rng), rnn_params(rng)
    order = rng.permutation(len(lengths))
    h = sq.bidirectional_forward(x, lengths, forward, backward)
    permuted = sq.bidirectional_forward(x[:, order], lengths[order], forward, backward)
    np.testing.assert_allclose(permuted, h[:, order], rtol=1e-12, atol=1e-14)


def test_the_halves_read_from_their_own_side():
    rng = np.random.default_rng(0)
    forward, backward = rnn_params(rng), rnn_params(rng)
    x, lengths = rng.normal(size=(6, 1, 3)), np.array([5])
    h = sq.bidirectional_forward(x, lengths, forward, backward)
    x[2] += 1
    changed = (sq.bidirectional_forward(x, lengths, forward, backward) != h)[:, 0]
    np.testing.assert_array_equal(changed[:, :4].any(axis=-1), [0, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(changed[:, 4:].any(axis=-1), [1, 1, 1, 0, 0, 0])


def test_bidirectional_gradient_by_finite_differences():
    rng = np.random.default_rng(1)
    forward, backward = rnn_params(rng), rnn_params(rng)
    x, lengths = rng.normal(size=(4, 2, 3)), np.array([2, 4])
    G = rng.normal(size=(4, 2, 8))
    dx, _, _ = sq.bidirectional_backward(G, x, lengths, forward, backward)
    numerical = numerical_gradient(
        lambda a: (sq.bidirectional_forward(a, lengths, forward, backward) * G).sum(), x
    )
    assert relative_error(dx, numerical) < 1e-8


# batches


@few
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 5))
def test_buckets_hold_every_sequence_once_and_sorted(lengths, batch):
    groups = sq.buckets(np.array(lengths), batch)
    joined = np.concatenate(groups)
    assert sorted(joined) == list(range(len(lengths)))
    assert (np.diff(np.array(lengths)[joined]) <= 0).all()
    assert all(len(g) == batch for g in groups[:-1])
    assert 1 <= len(groups[-1]) <= batch


@few
@given(st.integers(2, 60), st.integers(1, 7), st.integers(1, 9))
def test_streams_continue_and_targets_come_next(N, batch, steps):
    tokens = np.random.default_rng(N).integers(50, size=N)
    if batch >= N:
        with pytest.raises(ValueError, match="tokens has shape"):
            sq.stream_batches(tokens, batch, steps)
        return
    chunks = list(sq.stream_batches(tokens, batch, steps))
    length = (N - 1) // batch
    assert all(inputs.shape == (steps, batch) for inputs, _ in chunks[:-1])
    inputs, targets = (np.concatenate(part) for part in zip(*chunks, strict=True))
    assert inputs.shape == targets.shape == (length, batch)
    for i in range(batch):
        start = i * length
        np.testing.assert_array_equal(inputs[:, i], tokens[start : start + length])
        np.testing.assert_array_equal(targets[:, i], tokens[start + 1 : start + length + 1])


def test_streams_check_their_arguments_at_once():
    with pytest.raises(ValueError, match="steps must be at least 1"):
        sq.stream_batches(np.arange(9), batch=2, steps=0)


# arguments


def test_arguments_are_not_modified_and_float32_and_views_work():
    rng = np.random.default_rng(0)
    x = np.asfortranarray(rng.normal(size=(5, 3, 3))).astype(np.float32)[:, ::-1]
    lengths = np.array([5, 3, 1])
    before = x.copy(), lengths.copy()
    params = {name: p.astype(np.float32) for name, p in rnn_params(rng).items()}
    data, batch_sizes = sq.pack(x, lengths)
    h0 = np.zeros((3, 4), np.float32)
    results = [
        data,
        sq.unpack(data, batch_sizes)[0],
        *sq.rnn_forward_packed(data, batch_sizes, h0, **params),
        sq.reverse_padded(x, lengths),
        sq.bidirectional_forward(x, lengths, params, params),
        sq.last_valid(x, lengths),
        sq.last_valid_backward(x[0], lengths, 5),
        sq.bidirectional_backward(np.ones((5, 3, 8), np.float32), x, lengths, params, params)[0],
    ]
    assert {r.dtype for r in results} == {np.dtype(np.float32)}
    for r in results:
        r[:] = 0
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(lengths, before[1])


x = np.ones((4, 2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sq.pad([]), "at least one array"),
        (lambda: sq.pad([np.ones(0), np.ones(0)]), "only empty"),
        (lambda: sq.pad([np.ones((2, 3)), np.ones((2, 4))]), r"sequences\[1\] has shape \(2, 4\)"),
        (lambda: sq.length_mask([1, -1], 4), r"lengths must lie in \[0, T = 4\]"),
        (lambda: sq.length_mask([1, 5], 4), r"lengths must lie in \[0, T = 4\]"),
        (lambda: sq.length_mask([], 4), "at least 1|must hold integers"),
        (lambda: sq.last_valid(x, [0, 2]), r"lengths must lie in \[1, T = 4\]"),
        (lambda: sq.last_valid(x, [1, 2, 3]), r"h has shape \(4, 2, 3\)"),
        (lambda: sq.last_valid_backward(np.ones((3, 2)), [1, 2], 4), r"dlast has shape \(3, 2\)"),
        (lambda: sq.masked_mean(np.ones((2, 2)), np.ones((2, 1))), r"mask has shape \(2, 1\)"),
        (lambda: sq.pack(x, [2, 3]), "lengths must descend"),
        (lambda: sq.pack(x, [2, 0]), r"lengths must lie in \[1"),
        (lambda: sq.pack(x, [5, 1]), r"lengths must lie in \[1"),
        (lambda: sq.unpack(np.ones((4, 1)), [2, 1]), "data has shape"),
        (lambda: sq.unpack(np.ones((3, 1)), [1, 2]), "batch_sizes must be positive"),
        (
            lambda: sq.rnn_forward_packed(
                np.ones((3, 1)), [2, 1], np.ones((3, 1)), np.ones((1, 1)), np.ones((1, 1)), [0.0]
            ),
            "h0 has shape",
        ),
        (lambda: sq.reverse_padded(x, [5, 1]), "lengths must lie"),
        (lambda: sq.bidirectional_summary(x, [1, 1]), r"expected \(T, B, 2H\)"),
        (lambda: sq.buckets([1, 2], 0), "batch must be at least 1"),
        (lambda: sq.stream_batches([1, 2, -3], 1, 1), "tokens holds -3"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: sq.length_mask([1.0, 2.0], 4),
        lambda: sq.masked_mean(np.ones((2, 2)), np.full((2, 2), 0.5)),
        lambda: sq.stream_batches([1.0, 2.0, 3.0], 1, 1),
    ],
)
def test_wrong_dtypes_are_type_errors(call):
    with pytest.raises(TypeError):
        call()
