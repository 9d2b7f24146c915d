"""Who speaks? Nine speakers say the vowels /ae/; published split, utterances of unequal length.

A vanilla RNN of 64 units reads the twelve cepstral coefficients of every frame. It is read out at
the end of the padded batch, at the last real frame, by the mean over real frames, or at every frame
(trained with the speaker as each frame's label; the log-probabilities of an utterance's frames are
added). It trains on 270 utterances for 400 updates of Adam with noise added to the inputs; its
amount was chosen by three-fold cross-validation on the training part. The score is the share of the
370 test utterances that are attributed to the right speaker, also with their frames shuffled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rnncourse import fused
from rnncourse.bptt import cross_entropy_backward, readout_backward
from rnncourse.data import japanese_vowels
from rnncourse.decoding import linear_decay
from rnncourse.experiments import Experiment
from rnncourse.rnn import cross_entropy, init_params, log_softmax, readout
from rnncourse.sequences import length_mask, pad, summary, summary_backward
from rnncourse.training import Adam, train

UNITS, BATCH, RATE, SPEAKERS = 64, 30, 3e-3, 9

Array = np.ndarray[Any, Any]
Params = dict[str, Array]

_DATA = japanese_vowels()
FRAMES, LABELS = _DATA.frames, _DATA.speaker
TRAIN, TEST = np.flatnonzero(_DATA.split == "train"), np.flatnonzero(_DATA.split == "test")


def standardise(rows: Array) -> list[Array]:
    """Return all utterances, each coefficient scaled by mean and spread over the given ones."""
    known = np.concatenate([FRAMES[i] for i in rows])
    mean, spread = known.mean(axis=0), known.std(axis=0)
    return [(frames - mean) / spread for frames in FRAMES]


def states(p: Params, x: Array) -> Array:
    """Return the states of a batch that starts from zeros."""
    h0 = np.zeros((x.shape[1], len(p["W_hh"])))
    return fused.rnn_forward(x, h0, p["W_xh"], p["W_hh"], p["b_h"])


def loss_and_grads(
    p: Params, x: Array, lengths: Array, speakers: Array, how: str
) -> tuple[float, Params]:
    """Return loss and gradients of a padded batch."""
    h = states(p, x)
    if how == "frames":
        mask = length_mask(lengths, len(x))
        logits = readout(h, p["W_hy"], p["b_y"])
        targets = np.broadcast_to(speakers, mask.shape)
        loss = float(cross_entropy(logits, targets, mask))
        dlogits = cross_entropy_backward(logits, targets, mask)
        dh, dW_hy, db_y = readout_backward(dlogits, h, p["W_hy"])
    else:
        steps = np.full_like(lengths, len(x)) if how == "padded" else lengths
        pooling = "last" if how == "padded" else how
        s = summary(h, steps, pooling)
        logits = readout(s, p["W_hy"], p["b_y"])
        loss = float(cross_entropy(logits, speakers))
        ds, dW_hy, db_y = readout_backward(cross_entropy_backward(logits, speakers), s, p["W_hy"])
        dh = summary_backward(ds, h, steps, pooling)
    h0 = np.zeros_like(h[0])
    *_, dW_xh, dW_hh, db_h = fused.rnn_backward(dh, x, h0, h, p["W_xh"], p["W_hh"], need_dx=False)
    return loss, {"W_xh": dW_xh, "W_hh": dW_hh, "b_h": db_h, "W_hy": dW_hy, "b_y": db_y}


def fit(
    how: str, seed: int, rows: Array, *, noise: float = 0.8, updates: int = 400
) -> tuple[Params, list[Array]]:
    """Train on the given utterances; return the parameters and all utterances, standardised."""
    rng = np.random.default_rng(seed)
    utterances, adam = standardise(rows), Adam(RATE)

    def batches() -> Iterator[Array]:
        per_pass = len(rows) // BATCH
        for update in range(updates):
            if update % per_pass == 0:
                order = rng.permutation(rows)
            start = update % per_pass * BATCH
            adam.lr = RATE * linear_decay(update, updates, floor=0.01)
            yield order[start : start + BATCH]

    def step(p: Params, chosen: Array) -> tuple[float, Params]:
        x, lengths = pad([utterances[i] for i in chosen])
        real = length_mask(lengths, len(x))[..., None]
        x = x + noise * rng.normal(size=x.shape) * real
        return loss_and_grads(p, x, lengths, LABELS[chosen], how)

    start = init_params(FRAMES[0].shape[1], UNITS, SPEAKERS, rng)
    params, _ = train(step, start, batches(), adam, max_norm=1.0, progress=False)
    return params, utterances


def log_probs(p: Params, utterances: list[Array], how: str) -> Array:
    """Return log-probabilities (B, 9); for "frames" up to a constant."""
    x, lengths = pad(utterances)
    h = states(p, x)
    if how == "frames":
        each = log_softmax(readout(h, p["W_hy"], p["b_y"]))
        real = length_mask(lengths, len(x))[..., None]
        return np.where(real, each, 0).sum(axis=0)
    steps = np.full_like(lengths, len(x)) if how == "padded" else lengths
    s = summary(h, steps, "last" if how == "padded" else how)
    return log_softmax(readout(s, p["W_hy"], p["b_y"]))


def accuracy(p: Params, utterances: list[Array], rows: Array, how: str) -> float:
    """Return the share of the utterances, in order of `rows`, with the right speaker."""
    return float(np.mean(log_probs(p, utterances, how).argmax(axis=1) == LABELS[rows]))


def run(seed: int, *, how: str, noise: float = 0.8, updates: int = 400) -> dict[str, Any]:
    """Cross-validate on the training part; then train on all of it and test."""
    folds = []
    for k in range(3):
        held_out = TRAIN[k::3]
        params, scaled = fit(how, seed, np.setdiff1d(TRAIN, held_out), noise=noise, updates=updates)
        folds.append(accuracy(params, [scaled[i] for i in held_out], held_out, how))
    params, scaled = fit(how, seed, TRAIN, noise=noise, updates=updates)
    rng, test = np.random.default_rng(1000 + seed), [scaled[i] for i in TEST]
    mixed = [
        accuracy(params, [rng.permutation(frames) for frames in test], TEST, how) for _ in range(5)
    ]
    return {
        "accuracy": accuracy(params, test, TEST, how),
        "accuracy_shuffled": np.mean(mixed),
        "accuracy_reversed": accuracy(params, [frames[::-1] for frames in test], TEST, how),
        "cross_validated": np.mean(folds),
    }


EXPERIMENT = Experiment(
    run,
    configs={
        "last": {"how": "last"},
        "padded": {"how": "padded"},
        "mean": {"how": "mean"},
        "frames": {"how": "frames"},
        "last-less-noise": {"how": "last", "noise": 0.4},
        "last-no-noise": {"how": "last", "noise": 0.0},
    },
    seeds=range(10),
    reduced={"updates": 5},
    tolerance=2e-2,
)
