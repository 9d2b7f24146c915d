"""Labels without their times: CTC on an alphabet of four sounds.

An utterance says two to five sounds of an alphabet of four. Each lasts three to six frames in which
a fixed direction of eight features is disturbed by noise. Pauses of one to three frames, noise
only, lie between the sounds, or, without pauses, only between two equal ones. A vanilla RNN of 32
units learns which sounds were said, by CTC from the labels alone or, for comparison, by
cross-entropy from the sound of every frame. The label error rate is measured on 100 utterances
after greedy decoding.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from rnncourse import fused
from rnncourse.bptt import cross_entropy_backward, readout_backward
from rnncourse.ctc import collapse, ctc_loss
from rnncourse.experiments import Experiment
from rnncourse.metrics import word_error_rate
from rnncourse.rnn import cross_entropy, init_params, log_softmax, readout
from rnncourse.sequences import length_mask, pad
from rnncourse.training import Adam, train

FEATURES, SOUNDS, UNITS, BATCH, RATE, NOISE, LOUDNESS = 8, 4, 32, 8, 4e-3, 0.5, 2.0
CHECKPOINTS = (0, 5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 125, 150, 200, 250, 300, 400)

Array = np.ndarray[Any, Any]
Params = dict[str, Array]

_directions = np.random.default_rng(12345).normal(size=(SOUNDS, FEATURES))
VOICE = LOUDNESS * _directions / np.linalg.norm(_directions, axis=1, keepdims=True)


def speak(labels: list[int], rng: np.random.Generator, *, pauses: bool) -> tuple[Array, Array]:
    """Return the frames (T, 8) of an utterance and the sound of each frame, 0 for a pause."""
    sounding: list[int] = []
    for k, label in enumerate(labels):
        if pauses or (k and labels[k - 1] == label):
            sounding += [0] * int(rng.integers(1, 4))
        sounding += [label] * int(rng.integers(3, 7))
    if pauses:
        sounding += [0] * int(rng.integers(1, 4))
    sound = np.array(sounding)
    clean = np.where(sound[:, None] > 0, VOICE[sound - 1], 0)
    return clean + NOISE * rng.normal(size=clean.shape), sound


def draw(
    batch: int, rng: np.random.Generator, *, pauses: bool
) -> tuple[Array, Array, list[list[int]], Array]:
    """Return padded frames, lengths, labels, and the padded sound of every frame."""
    labels = [rng.integers(1, SOUNDS + 1, rng.integers(2, 6)).tolist() for _ in range(batch)]
    frames, sounds = zip(*(speak(one, rng, pauses=pauses) for one in labels), strict=True)
    x, lengths = pad(frames)
    return x, lengths, labels, pad(sounds, 0)[0]


def logits_of(p: Params, x: Array) -> tuple[Array, Array]:
    """Return logits (T, B, 5) and states."""
    h = fused.rnn_forward(x, np.zeros((x.shape[1], UNITS)), p["W_xh"], p["W_hh"], p["b_h"])
    return readout(h, p["W_hy"], p["b_y"]), h


def fit(
    seed: int, *, pauses: bool = True, loss: str = "ctc", updates: int = 400, watch: Any = None
) -> Params:
    """Train one recogniser; `watch(update, params)` is called before the first and after each."""
    rng = np.random.default_rng(seed)

    def loss_and_grads(p: Params, batch: Any) -> tuple[float, Params]:
        x, lengths, labels, sounds = batch
        logits, h = logits_of(p, x)
        if loss == "ctc":
            value, dlogits = ctc_loss(logits, lengths, labels)
        else:
            mask = length_mask(lengths, len(x))
            value = float(cross_entropy(logits, sounds, mask))
            dlogits = cross_entropy_backward(logits, sounds, mask)
        dh, dW_hy, db_y = readout_backward(dlogits, h, p["W_hy"])
        *_, dW_xh, dW_hh, db_h = fused.rnn_backward(
            dh, x, np.zeros_like(h[0]), h, p["W_xh"], p["W_hh"], need_dx=False
        )
        return value, {"W_xh": dW_xh, "W_hh": dW_hh, "b_h": db_h, "W_hy": dW_hy, "b_y": db_y}

    params = init_params(FEATURES, UNITS, SOUNDS + 1, rng)
    if watch is not None:
        watch(0, params)
    batches = (draw(BATCH, rng, pauses=pauses) for _ in range(updates))
    params, _ = train(
        loss_and_grads, params, batches, Adam(RATE), max_norm=1.0, callback=watch, progress=False
    )
    return params


def best_paths(p: Params, x: Array, lengths: Array) -> list[Array]:
    """Return the most probable symbol of every frame."""
    chosen = log_softmax(logits_of(p, x)[0]).argmax(axis=-1)
    return [chosen[:n, i] for i, n in enumerate(lengths)]


def blanks_first(path: Array) -> list[int]:
    """Remove blanks and merge repeats afterwards: the wrong order."""
    return collapse(path[path != 0])


def runs(path: Array) -> list[tuple[int, int]]:
    """Return first frame and duration of every run of one symbol that is not 0."""
    edges = np.flatnonzero(np.diff(path, prepend=-1, append=-1))
    return [(int(a), int(b - a)) for a, b in pairwise(edges) if path[a] != 0]


def run(seed: int, *, pauses: bool, loss: str = "ctc", updates: int = 400) -> dict[str, Any]:
    """Train one recogniser, watching errors and blanks, and look at where its labels stand."""
    x, lengths, labels, sounds = draw(100, np.random.default_rng(1000 + seed), pauses=pauses)
    sound = np.concatenate([sounds[:n, i] for i, n in enumerate(lengths)])
    at, errors, blanks = [], [], []

    def watch(update: int, p: Params) -> None:
        if update in CHECKPOINTS:
            paths = best_paths(p, x, lengths)
            at.append(update)
            errors.append(word_error_rate([collapse(path) for path in paths], labels))
            blanks.append(np.mean(np.concatenate(paths) == 0))

    params = fit(seed, pauses=pauses, loss=loss, updates=updates, watch=watch)
    paths = best_paths(params, x, lengths)
    chosen = np.concatenate(paths)
    spoken = [runs(sounds[:n, i]) for i, n in enumerate(lengths)]
    emitted = [runs(path) for path in paths]
    same = [
        pair
        for path, reference, ours, theirs in zip(paths, labels, emitted, spoken, strict=True)
        if collapse(path) == reference and len(ours) == len(theirs)
        for pair in zip(ours, theirs, strict=True)
    ]
    return {
        "updates": at,
        "errors": errors,
        "blanks": blanks,
        "error": word_error_rate([collapse(path) for path in paths], labels),
        "error_blanks_first": word_error_rate([blanks_first(path) for path in paths], labels),
        "blank_in_sound": np.mean(chosen[sound > 0] == 0),
        "blank_in_pause": np.mean(chosen[sound == 0] == 0),
        "duration": np.mean([n for one in emitted for _, n in one]) if any(emitted) else 0.0,
        "duration_spoken": np.mean([n for one in spoken for _, n in one]),
        "delay": np.mean([a - b for (a, _), (b, _) in same]) if same else 0.0,
    }


EXPERIMENT = Experiment(
    run,
    configs={
        "pauses": {"pauses": True},
        "no-pauses": {"pauses": False},
        "frames": {"pauses": True, "loss": "frames"},
    },
    seeds=range(10),
    reduced={"updates": 20},
    tolerance=2e-2,
)
