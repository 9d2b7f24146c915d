"""English number words to German parts, with and without attention.

A vanilla encoder reads the English words; a vanilla decoder, started from the encoder's last state,
writes the German parts under teacher forcing. With attention, each decoder state asks all encoder
states by a dot product, and the read-out sees state and context. Two sets of numbers are held out
always: every number from 50,000 to 59,999, and a random tenth of the others. The score is the share
that greedy decoding spells exactly. Adam's rate falls linearly from 0.004 to a twentieth.

`attention` and `bottleneck` have 48 units and train for 1,000 updates of 64 numbers. `reversed` is
the bottleneck with the source read backwards, `trained-longer` the bottleneck with 2,500 updates,
`wider` the bottleneck with 96 units. The two `short` ones train on numbers below 100,000 only; they
are asked for six-digit numbers longer than all of these.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from rnncourse import fused
from rnncourse.attention import attention_backward, dot_attention
from rnncourse.bptt import cross_entropy_backward, embedding_backward, readout_backward
from rnncourse.data import NumberPair, number_words
from rnncourse.decoding import batch_of_one, beam_search, linear_decay
from rnncourse.experiments import Experiment
from rnncourse.initialization import orthogonal
from rnncourse.rnn import cross_entropy, log_softmax, readout, rnn_step
from rnncourse.sequences import last_valid, last_valid_backward, length_mask, pad
from rnncourse.training import Adam, train

UNITS, BATCH, RATE, LONGEST = 48, 64, 4e-3, 13
EOS, BOS = 0, 1
CHECKPOINTS = (100, 200, 300, 400, 600, 800, 1000, 1500, 2000)
WIDTHS = (1, 2, 4, 8, 16)

Array = np.ndarray[Any, Any]
Params = dict[str, Array]
Batch = tuple[Array, Array, Array, Array]

PAIRS = number_words()
ENGLISH = sorted({word for pair in PAIRS for word in pair.english})
GERMAN = ["</s>", "<s>", *sorted({part for pair in PAIRS for part in pair.german})]
GRAMMAR = {"hundert", "tausend", "und"}


def split(largest: int = 10**6) -> dict[str, list[NumberPair]]:
    """Return the numbers for training and three kinds of unseen numbers.

    `random` is a tenth of the numbers up to `largest`, `range` has 50,000 to 59,999, and `longer`
    the numbers above `largest` with more German parts than any number for training.
    """
    order = np.random.default_rng(0).permutation(len(PAIRS))
    sets: dict[str, list[NumberPair]] = {"training": [], "random": [], "range": [], "longer": []}
    for i in order:
        number = PAIRS[i].number
        if 50_000 <= number < 60_000:
            sets["range"].append(PAIRS[i])
        elif number <= largest:
            sets["training" if i % 10 else "random"].append(PAIRS[i])
    longest = max(len(pair.german) for pair in sets["training"])
    sets["longer"] = [
        PAIRS[i] for i in order if PAIRS[i].number > largest and len(PAIRS[i].german) > longest
    ]
    return sets


def encode(pairs: list[NumberPair], backwards: bool = False) -> Batch:
    """Return source tokens and lengths, target tokens (with end sign) and lengths, time-major."""
    step = -1 if backwards else 1
    source, lengths = pad([[ENGLISH.index(w) for w in pair.english[::step]] for pair in pairs], EOS)
    target, target_lengths = pad(
        [[GERMAN.index(w) for w in pair.german] + [EOS] for pair in pairs], EOS
    )
    return source, lengths, target, target_lengths


def init(attention: bool, rng: np.random.Generator, units: int = UNITS) -> Params:
    """Draw the parameters."""
    scale = units**-0.5
    shapes = {
        "E_src": (len(ENGLISH), units),
        "E_tgt": (len(GERMAN), units),
        "enc_W_xh": (units, units),
        "dec_W_xh": (units, units),
        "W_hy": (len(GERMAN), units * (2 if attention else 1)),
    }
    params = {name: rng.normal(0, scale, shape) for name, shape in shapes.items()}
    for side in ("enc", "dec"):
        params[f"{side}_W_hh"] = orthogonal(units, 1.0, rng)
        params[f"{side}_b_h"] = np.zeros(units)
    return params | {"b_y": np.zeros(len(GERMAN))}


def has_attention(p: Params) -> bool:
    """Whether the read-out sees a context beside the state."""
    return bool(p["W_hy"].shape[1] > len(p["enc_b_h"]))


def weights(p: Params, side: str) -> tuple[Array, Array, Array]:
    """Return W_xh, W_hh and b_h of the encoder or the decoder."""
    return p[f"{side}_W_xh"], p[f"{side}_W_hh"], p[f"{side}_b_h"]


def gradients(p: Params, batch: Batch, step: int | None = None) -> tuple[float, Params, Array]:
    """Return the loss under teacher forcing, its gradients, and those at the embedded source.

    With `step`, only the German part at that step counts in the loss.
    """
    source, lengths, target, target_lengths = batch
    units = len(p["enc_b_h"])
    inputs = np.concatenate([np.full_like(target[:1], BOS), target[:-1]])
    x, y = p["E_src"][source], p["E_tgt"][inputs]
    zero = np.zeros((source.shape[1], units))
    h_enc = fused.rnn_forward(x, zero, *weights(p, "enc"))
    start = last_valid(h_enc, lengths)
    h_dec = fused.rnn_forward(y, start, *weights(p, "dec"))
    features, seen = h_dec, []
    if has_attention(p):
        mask = length_mask(lengths, len(source))
        seen = [dot_attention(q, h_enc, h_enc, mask) for q in h_dec]
        features = np.concatenate([h_dec, np.stack([context for context, _ in seen])], axis=-1)
    logits = readout(features, p["W_hy"], p["b_y"])
    valid = length_mask(target_lengths, len(target))
    if step is not None:
        valid &= np.arange(len(target))[:, None] == step

    grads: Params = {}
    dlogits = cross_entropy_backward(logits, target, valid)
    dfeatures, grads["W_hy"], grads["b_y"] = readout_backward(dlogits, features, p["W_hy"])
    dh_dec, dh_enc = dfeatures[..., :units].copy(), np.zeros_like(h_enc)
    for t, (_, attended) in enumerate(seen):
        dq, dK, dV = attention_backward(dfeatures[t, :, units:], h_dec[t], h_enc, h_enc, attended)
        dh_dec[t] += dq
        dh_enc += dK + dV
    dy, dstart, *decoder = fused.rnn_backward(dh_dec, y, start, h_dec, *weights(p, "dec")[:2])
    dh_enc += last_valid_backward(dstart, lengths, len(source))
    dx, _, *encoder = fused.rnn_backward(dh_enc, x, zero, h_enc, *weights(p, "enc")[:2])
    for side, found in (("enc", encoder), ("dec", decoder)):
        grads |= dict(zip((f"{side}_W_xh", f"{side}_W_hh", f"{side}_b_h"), found, strict=True))
    grads["E_src"] = embedding_backward(dx, source, len(ENGLISH))
    grads["E_tgt"] = embedding_backward(dy, inputs, len(GERMAN))
    return float(cross_entropy(logits, target, valid)), grads, dx


def fit(
    attention: bool,
    seed: int,
    updates: int,
    *,
    units: int = UNITS,
    backwards: bool = False,
    largest: int = 10**6,
    curve: dict[str, float] | None = None,
) -> Params:
    """Train one translator; fill `curve` with the exact share of 300 unseen numbers."""
    rng = np.random.default_rng(seed)
    sets = split(largest)
    source, lengths, target, target_lengths = encode(sets["training"], backwards)
    adam = Adam(RATE)

    def batch(step: int) -> Batch:
        adam.lr = RATE * linear_decay(step, updates, floor=0.05)
        rows = rng.choice(source.shape[1], BATCH, replace=False)
        return source[:, rows], lengths[rows], target[:, rows], target_lengths[rows]

    def watch(step: int, p: Params) -> None:
        if curve is not None and step in CHECKPOINTS:
            curve[str(step)] = float(np.mean(exact(p, sets["random"][:300], backwards)))

    params, _ = train(
        lambda p, chosen: gradients(p, chosen)[:2],
        init(attention, rng, units),
        map(batch, range(updates)),
        adam,
        max_norm=1.0,
        callback=watch,
        progress=False,
    )
    return params


def read(p: Params, source: Array, lengths: Array, last: bool = True) -> tuple[Array, Array]:
    """Return the encoder's states and the decoder's first one.

    With `last` false the decoder starts from the padded end.
    """
    zero = np.zeros((source.shape[1], len(p["enc_b_h"])))
    h_enc = fused.rnn_forward(p["E_src"][source], zero, *weights(p, "enc"))
    return h_enc, last_valid(h_enc, lengths) if last else h_enc[-1]


def decode_step(
    p: Params, h_enc: Array, mask: Array, token: Array, h: Array
) -> tuple[Array, Array, Array]:
    """Return logits, the new state and the attention weights of one decoder step."""
    h = rnn_step(p["E_tgt"][token], h, *weights(p, "dec"))
    features, attended = h, np.zeros(mask.shape)
    if has_attention(p):
        context, attended = dot_attention(h, h_enc, h_enc, mask)
        features = np.concatenate([h, context], axis=-1)
    return readout(features, p["W_hy"], p["b_y"]), h, attended


def translate(p: Params, source: Array, lengths: Array, last: bool = True) -> tuple[Array, Array]:
    """Decode greedily; return tokens (LONGEST, B) and attention weights (LONGEST, S, B)."""
    h_enc, h = read(p, source, lengths, last)
    token, mask = np.full(source.shape[1], BOS), length_mask(lengths, len(source))
    tokens, attended = [], []
    for _ in range(LONGEST):
        logits, h, row = decode_step(p, h_enc, mask, token, h)
        token = logits.argmax(axis=-1)
        tokens.append(token)
        attended.append(row)
    return np.array(tokens), np.array(attended)


def spelled(column: Array) -> tuple[str, ...]:
    """Return the German parts of one decoded column, up to the end sign."""
    end = int(np.argmax(column == EOS)) if (column == EOS).any() else len(column)
    return tuple(GERMAN[token] for token in column[:end])


def outputs(p: Params, pairs: list[NumberPair], backwards: bool = False) -> list[tuple[str, ...]]:
    """Return the greedy translations."""
    tokens, _ = translate(p, *encode(pairs, backwards)[:2])
    return [spelled(column) for column in tokens.T]


def exact(p: Params, pairs: list[NumberPair], backwards: bool = False) -> list[bool]:
    """Return for each number whether it is spelt without any error."""
    written = outputs(p, pairs, backwards) if pairs else []
    return [parts == pair.german for parts, pair in zip(written, pairs, strict=True)]


def kind_of_error(written: tuple[str, ...], right: tuple[str, ...]) -> str:
    """Return what is wrong: `order`, `words`, or `form` where even the pattern is another."""
    if sorted(written) == sorted(right):
        return "order"
    pattern = [[part if part in GRAMMAR else "" for part in parts] for parts in (written, right)]
    return "words" if pattern[0] == pattern[1] else "form"


def first_error(written: tuple[str, ...], right: tuple[str, ...]) -> int:
    """Return the first position at which two translations differ."""
    differs = [a != b for a, b in zip(written, right, strict=False)]
    return differs.index(True) if any(differs) else len(differs)


def log_probability(p: Params, pairs: list[NumberPair], written: list[tuple[str, ...]]) -> Array:
    """Return the model's log-probability of whole translations, end sign included."""
    source, lengths, *_ = encode(pairs)
    target, target_lengths = pad([[GERMAN.index(w) for w in parts] + [EOS] for parts in written], 0)
    h_enc, h = read(p, source, lengths)
    mask, token = length_mask(lengths, len(source)), np.full(len(pairs), BOS)
    total = np.zeros(len(pairs))
    for t, gold in enumerate(target):
        logits, h, _ = decode_step(p, h_enc, mask, token, h)
        total += np.where(t < target_lengths, log_softmax(logits)[np.arange(len(gold)), gold], 0)
        token = gold
    return total


def beam(p: Params, pair: NumberPair, width: int, alpha: float = 0.0) -> tuple[str, ...]:
    """Return the translation that a beam search finds."""
    source, lengths, *_ = encode([pair])
    h_enc, start = read(p, source, lengths)
    mask = length_mask(lengths, len(source))
    step = batch_of_one(lambda token, h: decode_step(p, h_enc, mask, token, h)[:2], start)
    tokens, _ = beam_search(step, BOS, EOS, width, LONGEST, alpha)
    return spelled(np.array(tokens))


def searched(p: Params, pairs: list[NumberPair]) -> dict[str, Any]:
    """Return exact share and mean log-probability for each beam width, and what greedy misses.

    A search error is a truth that the model itself finds more probable than the greedy output.
    """
    found: dict[str, Any] = {"exact": [], "log_p": []}
    for width in WIDTHS:
        written = [beam(p, pair, width) for pair in pairs]
        right = [parts == pair.german for parts, pair in zip(written, pairs, strict=True)]
        found["exact"].append(float(np.mean(right)))
        found["log_p"].append(float(log_probability(p, pairs, written).mean()))
        if width == 1:
            truth = log_probability(p, pairs, [pair.german for pair in pairs])
            missed = truth > log_probability(p, pairs, written) + 1e-9
            found["wrong"] = len(right) - sum(right)
            found["search_errors"] = int(missed.sum())
            found["truth_log_p"] = float(truth.mean())
    return found


def alignment_scores(p: Params, pairs: list[NumberPair]) -> dict[str, float]:
    """Return where the largest weight lies, on exactly translated numbers, in shares.

    `on` the counterpart, `next` to it, and the mean weight that the counterpart gets (`weight`).
    """
    tokens, attended = translate(p, *encode(pairs)[:2])
    on, beside, weight = [], [], []
    for i, pair in enumerate(pairs):
        if spelled(tokens[:, i]) == pair.german:
            rows = np.flatnonzero(np.array(pair.alignment) >= 0)
            columns = np.array(pair.alignment)[rows]
            away = attended[rows, :, i].argmax(axis=1) - columns
            on += list(away == 0)
            beside += list(abs(away) == 1)
            weight += list(attended[rows, columns, i])
    names = ("on", "next", "weight")
    return {
        name: float(np.mean(v)) if v else 0.0
        for name, v in zip(names, (on, beside, weight), strict=True)
    }


def run(
    seed: int,
    *,
    attention: bool,
    updates: int = 1000,
    units: int = UNITS,
    backwards: bool = False,
    largest: int = 10**6,
    beams: int = 0,
) -> dict[str, Any]:
    """Train one translator and score it on the numbers that it has not seen."""
    curve: dict[str, float] = {}
    params = fit(
        *(attention, seed, updates),
        units=units,
        backwards=backwards,
        largest=largest,
        curve=curve,
    )
    sets = split(largest)
    unseen = sets["random"]
    written = outputs(params, unseen, backwards)
    right = [parts == pair.german for parts, pair in zip(written, unseen, strict=True)]
    lengths = np.array([len(pair.german) for pair in unseen])
    wrong = [(w, pair.german) for w, pair, r in zip(written, unseen, right, strict=True) if not r]
    first = Counter(first_error(w, g) for w, g in wrong if len(g) == 7)
    return {
        "parameters": sum(p.size for p in params.values()),
        "exact": float(np.mean(right)),
        "exact_by_length": {
            str(n): float(np.mean(np.array(right)[lengths == n])) for n in np.unique(lengths)
        },
        "exact_range": float(np.mean(exact(params, sets["range"], backwards))),
        "exact_longer": float(np.mean(exact(params, sets["longer"], backwards) or [False])),
        "exact_training": float(np.mean(exact(params, sets["training"][:1000], backwards))),
        "errors": dict(Counter(kind_of_error(*pair) for pair in wrong)),
        "first_error": [first[t] for t in range(8)],
        "curve": curve,
        "aligned": alignment_scores(params, unseen) if attention else {},
        "beam": searched(params, unseen[:beams]) if beams else {},
    }


EXPERIMENT = Experiment(
    run,
    configs={
        "attention": {"attention": True, "beams": 60},
        "bottleneck": {"attention": False, "beams": 60},
        "reversed": {"attention": False, "backwards": True},
        "trained-longer": {"attention": False, "updates": 2500},
        "wider": {"attention": False, "units": 96},
        "short-attention": {"attention": True, "largest": 99_999},
        "short-bottleneck": {"attention": False, "largest": 99_999},
    },
    seeds=range(5),
    reduced={"updates": 2, "beams": 2},
    tolerance=5e-3,
)
