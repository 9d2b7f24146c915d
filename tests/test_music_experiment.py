"""The music experiment counts what it says: rules by hand-made chords, models by their sums."""

import sys

import numpy as np
import pytest

from rnncourse.experiments import load_experiment

lab = sys.modules[load_experiment("music").run.__module__]


@pytest.fixture(scope="module")
def rows():
    return np.concatenate([lab.context_rows(*lab.flatten(c)) for c in lab.chorales("train")[:40]])


def test_tokens_keep_pitches_rests_and_onsets():
    for chorale in lab.chorales("test")[:5]:
        pitch, onset = lab.to_notes(lab.to_tokens(chorale.pitch, chorale.onset))
        np.testing.assert_array_equal(pitch, chorale.pitch)
        np.testing.assert_array_equal(onset, chorale.onset)
        tokens, clock = lab.flatten(chorale)
        assert len(tokens) == len(clock) == 4 * len(chorale.pitch) + 4
        assert tokens.max() == lab.START
        np.testing.assert_array_equal(clock % 4, np.arange(len(clock)) % 4)


def test_the_original_key_undoes_the_shift():
    chorale = next(c for c in lab.chorales("train") if c.shift)
    moved, original = (lab.to_notes(lab.flatten(chorale, key)[0][4:])[0] for key in (False, True))
    sounding = moved > 0
    assert (moved - original)[sounding].tolist() == [chorale.shift] * sounding.sum()
    assert (original[~sounding] == 0).all()


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        ((79, 72, 64, 60), (81, 72, 64, 62), 1),  # soprano and bass: a fifth over an octave
        ((72, 67, 64, 60), (74, 67, 64, 62), 1),  # soprano and bass: octaves
        ((67, 64, 60, 48), (67, 64, 60, 48), 0),  # nobody moves
        ((67, 64, 60, 48), (67, 64, 62, 48), 0),  # one voice moves
        ((79, 76, 72, 60), (77, 76, 72, 62), 0),  # contrary motion
        ((76, 72, 64, 60), (77, 72, 64, 62), 0),  # thirds
        ((67, 0, 0, 60), (69, 0, 0, 62), 1),  # rests take no part
        ((0, 0, 0, 60), (69, 0, 0, 62), 0),
        ((82, 77, 60, 53), (84, 79, 60, 53), 0),  # a fourth is no fifth
        ((84, 79, 72, 60), (86, 81, 74, 62), 5),  # all pairs but the fourth S-A
    ],
)
def test_parallels_are_counted(before, now, found):
    assert lab.parallels(np.array([before, now])) == 100 * found  # in one step


def test_the_mask_forbids_exactly_the_parallels():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, lab.V, (6, 8))
    tokens[:, :4] = lab.to_tokens(np.array([76, 72, 67, 60]), np.ones(4, int))
    for v in range(4):
        so_far = tokens[:, : 4 + v]
        allowed = lab.no_parallels(so_far)
        for row, mask in zip(so_far, allowed, strict=True):
            for token in range(lab.V):
                rest = np.full(3 - v, 2 * lab.REST)
                pitch, _ = lab.to_notes(np.concatenate([row, [token], rest]).reshape(2, 4))
                others, _ = lab.to_notes(np.concatenate([row, [2 * lab.REST], rest]).reshape(2, 4))
                assert mask[token] == (lab.parallels(pitch) == lab.parallels(others))


def test_nothing_is_forbidden_after_the_start():
    tokens = np.column_stack([np.full((2, 4), lab.START), [[80, 70], [60, 50]]])
    assert lab.no_parallels(tokens).all()


def test_repetition_and_white_keys():
    loop = np.tile([[60, 55, 52, 48], [62, 57, 53, 50]], (10, 1))
    assert lab.repetition(loop) == pytest.approx(1 - 2 / 17)
    assert lab.repetition(np.arange(80).reshape(20, 4)) == 0
    assert lab.white_share(np.array([60, 61, 0, 64])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_counted_probabilities_sum_to_one(rows, depth):
    counts = lab.Counts(rows, depth)
    contexts = rows[:: len(rows) // 20].copy()
    contexts[-1, 1:] = lab.REST  # a context that never occurs
    for context in contexts:
        every = np.column_stack([np.arange(lab.V), np.tile(context[1:], (lab.V, 1))])
        p = np.exp(counts.log_probs(every))
        assert p.sum() == pytest.approx(1)
        assert p.min() > 0


def test_counts_say_the_same_note_by_note(rows):
    counts = lab.Counts(rows, 4)
    tokens, clock = lab.flatten(lab.chorales("test")[0])
    all_at_once = counts.log_probs(lab.context_rows(tokens, clock))
    for i in (4, 5, 11, 30):
        one = counts(tokens[None, :i], clock[: i + 1])
        assert one[0, tokens[i]] == pytest.approx(all_at_once[i - 4])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_network_says_the_same_note_by_note(cell):
    params = lab.init(cell, 7, np.random.default_rng(0))
    pieces = [lab.flatten(c) for c in lab.chorales("test")[:3]]
    whole = lab.log_likelihoods(cell, params, pieces)
    assert [w.shape for w in whole] == [(len(t) // 4 - 1, 4) for t, _ in pieces]
    tokens, clock = pieces[1]
    step = lab.player(cell, params, 1)
    for i in range(4, 20):
        logits = step(tokens[None, :i], clock[: i + 1])[0]
        log_p = logits - np.log(np.exp(logits).sum())
        assert log_p[tokens[i]] == pytest.approx(whole[1].ravel()[i - 4], abs=1e-5)


def test_composing_keeps_what_is_given_and_what_is_forbidden():
    params = lab.init("gru", 7, np.random.default_rng(0))
    given = np.full((3, 4), -1)
    given[:, 0] = lab.to_tokens(np.array([72, 74, 76]), np.ones(3, int))
    tokens, mass = lab.compose(
        lab.player("gru", params, 5),
        8,
        5,
        np.random.default_rng(0),
        given=given,
        allowed=lab.white_keys,
    )
    assert tokens.shape == mass.shape == (5, 8, 4)
    assert (tokens[:, :3, 0] == given[:, 0]).all()
    assert lab.white_share(lab.to_notes(tokens)[0]) == 1
    assert (mass[:, 3:] < 0).all()
    assert (mass[:, :3, 0] == 0).all()


def test_weights_survive_storage():
    params = lab.init("lstm", 5, np.random.default_rng(0))
    for name, array in lab.unpack(lab.pack(params)).items():
        np.testing.assert_allclose(array, params[name], atol=1e-3)


def test_contexts_stand_in_a_musicians_order():
    tokens, clock = np.arange(12), lab.clock(np.arange(3))
    assert lab.context(tokens, clock, 11) == [clock[11], 7, 10, 9, 8]  # own last, nearest above
    assert lab.context(tokens, clock, 9) == [clock[9], 5, 8, 6, 7]  # own last, above, last below
