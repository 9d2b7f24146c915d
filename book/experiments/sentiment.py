"""Good or bad? Single sentences from film reviews, with and without their order.

A network reads the words of a sentence and says whether its mean human rating is positive. A
vanilla RNN of 64 units is read out at the end of the padded batch, at the last real step, by the
mean or by the maximum over real steps; a GRU at the last real step; a bag of words adds one trained
pair of weights per word. All train for four passes of Adam with the same batches; the pass with the
best validation accuracy counts. Each is tested on the sentences as written and with their words
shuffled, two networks are also trained on shuffled words, and all judge pairs of sentences that
differ in the word "not".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from rnncourse import fused
from rnncourse.bptt import cross_entropy_backward, embedding_backward, readout_backward
from rnncourse.data import movie_reviews
from rnncourse.experiments import Experiment
from rnncourse.gates import init_gru_params
from rnncourse.rnn import cross_entropy, init_params, readout
from rnncourse.sequences import length_mask, pad, summary, summary_backward
from rnncourse.training import Adam, train

EMBEDDING, UNITS, BATCH, FORGOTTEN = 32, 64, 64, 0.1
UNKNOWN = "<unknown>"
# fmt: off
GOOD = [
    "good", "great", "funny", "beautiful", "smart", "clever", "moving", "enjoyable", "original",
    "charming", "entertaining", "fresh", "powerful", "interesting", "touching",
]
BAD = [
    "bad", "dull", "boring", "stupid", "silly", "predictable", "pointless", "weak", "slow",
    "lame", "awful", "tedious", "empty", "flat", "ugly",
]
# fmt: on
FRAMES = [
    ("the film is {}", "the film is not {}"),
    ("this is a {} movie", "this is not a {} movie"),
]

Array = np.ndarray[Any, Any]
Params = dict[str, Array]


def words(text: str) -> list[str]:
    """Split a sentence into lower-case words, question marks and exclamation marks."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?|[!?]", text.lower().replace("''", '"'))


def _prepare() -> tuple[list[Array], Array, dict[str, Array], dict[str, int]]:
    """Return token sequences, labels, the indices of each split, and the vocabulary."""
    reviews = movie_reviews()
    tokens = [words(text) for text in reviews.texts]
    usable = (reviews.ratings != 0) & np.array([len(t) > 0 for t in tokens])
    splits = {
        name: np.flatnonzero(usable & (reviews.split == name))
        for name in ("train", "valid", "test")
    }
    counts = Counter(word for i in splits["train"] for word in tokens[i])
    known = [UNKNOWN, *sorted(word for word, n in counts.items() if n >= 2)]
    vocabulary = {word: i for i, word in enumerate(known)}
    encoded = [np.array([vocabulary.get(word, 0) for word in t], np.intp) for t in tokens]
    return encoded, (reviews.ratings > 0).astype(np.intp), splits, vocabulary


TEXTS, LABELS, SPLITS, VOCABULARY = _prepare()


def encode(text: str) -> Array:
    """Return the tokens of a sentence; words that the training part does not have twice are 0."""
    return np.array([VOCABULARY.get(word, 0) for word in words(text)] or [0])


def init(model: str, rng: np.random.Generator) -> Params:
    """Draw the parameters; a bag of words has one pair of weights per word, zero at the start."""
    V = len(VOCABULARY)
    if model == "bag":
        return {"E": np.zeros((V, 2), np.float32), "b_y": np.zeros(2, np.float32)}
    params = init_params(EMBEDDING, UNITS, 2, rng)
    if model == "gru":
        output = {name: params[name] for name in ("W_hy", "b_y")}
        params = init_gru_params(EMBEDDING, UNITS, rng) | output
    params["E"] = rng.normal(0, 0.1, (V, EMBEDDING))
    return {name: p.astype(np.float32) for name, p in params.items()}


def forward(model: str, how: str, p: Params, tokens: Array, lengths: Array) -> tuple[Array, Any]:
    """Return the logits (B, 2) and what the backward pass needs."""
    e = p["E"][tokens]
    if model == "bag":
        real = length_mask(lengths, len(tokens))[..., None]
        return np.where(real, e, 0).sum(axis=0, dtype=e.dtype) + p["b_y"], real
    h0, gates = np.zeros((tokens.shape[1], UNITS), e.dtype), None
    if model == "rnn":
        h = fused.rnn_forward(e, h0, p["W_xh"], p["W_hh"], p["b_h"])
    else:
        h, gates = fused.gru_forward(e, h0, p["W_x"], p["W_h"], p["b_x"], p["b_h"])
    steps = np.full_like(lengths, len(tokens)) if how == "padded" else lengths
    s = summary(h, steps, "last" if how == "padded" else how)
    return readout(s, p["W_hy"], p["b_y"]), (e, h0, h, gates, steps, s)


def gradients(model: str, how: str, p: Params, tokens: Array, cache: Any, dlogits: Array) -> Params:
    """Return the gradients of all parameters."""
    V = len(p["E"])
    if model == "bag":
        de = np.where(cache, dlogits, np.zeros((), dlogits.dtype))
        return {"E": embedding_backward(de, tokens, V), "b_y": dlogits.sum(axis=0)}
    e, h0, h, gates, steps, s = cache
    ds, dW_hy, db_y = readout_backward(dlogits, s, p["W_hy"])
    dh = summary_backward(ds, h, steps, "last" if how == "padded" else how)
    grads = {"W_hy": dW_hy, "b_y": db_y}
    if model == "rnn":
        de, _, grads["W_xh"], grads["W_hh"], grads["b_h"] = fused.rnn_backward(
            dh, e, h0, h, p["W_xh"], p["W_hh"]
        )
    else:
        de, _, grads["W_x"], grads["W_h"], grads["b_x"], grads["b_h"] = fused.gru_backward(
            dh, e, h0, h, gates, p["W_x"], p["W_h"]
        )
    return grads | {"E": embedding_backward(de, tokens, V)}


def scores(model: str, how: str, p: Params, texts: list[Array]) -> Array:
    """Return the log-odds of "positive" for every sentence."""
    found = []
    for start in range(0, len(texts), 256):
        tokens, lengths = pad(texts[start : start + 256], 0)
        logits, _ = forward(model, how, p, tokens, lengths)
        found.append(logits[:, 1] - logits[:, 0])
    return np.concatenate(found)


def right(model: str, how: str, p: Params, rows: Array, texts: list[Array]) -> Array:
    """Say for which rows the sign of the score is that of the rating."""
    return np.equal(scores(model, how, p, texts) > 0, LABELS[rows])


def fit(
    model: str,
    how: str,
    seed: int,
    *,
    shuffled: bool = False,
    epochs: int = 4,
    batches: int | None = None,
) -> Params:
    """Train one classifier; return the parameters of the pass with the best validation accuracy."""
    rng = np.random.default_rng(seed)
    params, adam = init(model, rng), Adam(1e-2 if model == "bag" else 2e-3)

    def loss_and_grads(p: Params, rows: Array) -> tuple[float, Params]:
        texts = [rng.permutation(TEXTS[i]) if shuffled else TEXTS[i] for i in rows]
        tokens, lengths = pad(texts, 0)
        if model != "bag":  # some words become unknown, so that no network leans on a rare one
            tokens = np.where(rng.random(tokens.shape) < FORGOTTEN, 0, tokens)
        logits, cache = forward(model, how, p, tokens, lengths)
        dlogits = cross_entropy_backward(logits, LABELS[rows])
        loss = float(cross_entropy(logits, LABELS[rows]))
        return loss, gradients(model, how, p, tokens, cache, dlogits)

    def one_pass() -> Iterator[Array]:
        order = rng.permutation(SPLITS["train"])
        for i in range(min(len(order) // BATCH, batches or len(order))):
            yield order[i * BATCH : (i + 1) * BATCH]

    best, valid = (-1.0, params), SPLITS["valid"]
    texts = [TEXTS[i] for i in valid]
    for _ in range(epochs):
        params, _ = train(loss_and_grads, params, one_pass(), adam, max_norm=1.0, progress=False)
        score = float(right(model, how, params, valid, texts).mean())
        best = max(best, (score, params), key=lambda item: item[0])
    return best[1]


def negations() -> tuple[list[str], list[str], Array]:
    """Return sentences, the same with "not", and +1 where "not" should raise the score, else −1."""
    plain = [without.format(word) for word in GOOD + BAD for without, _ in FRAMES]
    negated = [with_not.format(word) for word in GOOD + BAD for _, with_not in FRAMES]
    return plain, negated, np.repeat([-1, 1], [len(GOOD) * len(FRAMES), len(BAD) * len(FRAMES)])


def run(
    seed: int,
    *,
    model: str,
    how: str = "",
    shuffled: bool = False,
    epochs: int = 4,
    batches: int | None = None,
) -> dict[str, Any]:
    """Train one classifier and test it in order, out of order, and on negations."""
    params = fit(model, how, seed, shuffled=shuffled, epochs=epochs, batches=batches)
    rng, rows = np.random.default_rng(1000 + seed), SPLITS["test"]
    texts = [TEXTS[i] for i in rows]
    in_order = right(model, how, params, rows, texts)
    mixed = np.array(
        [
            right(model, how, params, rows, [rng.permutation(text) for text in texts])
            for _ in range(5)
        ]
    )
    plain, negated, wanted = negations()
    before, after = (
        scores(model, how, params, [encode(text) for text in side]) for side in (plain, negated)
    )
    return {
        "accuracy": in_order.mean(),
        "accuracy_shuffled": mixed.mean(),
        "changed": (mixed != in_order).mean(),
        "plain_right": ((before > 0) == (wanted < 0)).mean(),
        "negation_moves_right": (np.sign(after - before) == wanted).mean(),
        "both_right": (((before > 0) == (wanted < 0)) & ((after > 0) == (wanted > 0))).mean(),
    }


EXPERIMENT = Experiment(
    run,
    configs={
        "rnn-last": {"model": "rnn", "how": "last"},
        "rnn-padded": {"model": "rnn", "how": "padded"},
        "rnn-mean": {"model": "rnn", "how": "mean"},
        "rnn-max": {"model": "rnn", "how": "max"},
        "gru-last": {"model": "gru", "how": "last"},
        "bag": {"model": "bag"},
        "rnn-last-shuffled": {"model": "rnn", "how": "last", "shuffled": True},
        "rnn-mean-shuffled": {"model": "rnn", "how": "mean", "shuffled": True},
    },
    seeds=range(5),
    reduced={"epochs": 1, "batches": 4},
    tolerance=2e-2,
)
