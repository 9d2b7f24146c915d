"""English number words to German parts, with and without attention.

A vanilla encoder reads the English words; a vanilla decoder, started from the encoder's last state,
writes the German parts under teacher forcing. With attention, each decoder state asks all encoder
states by a dot product, and the read-out sees state and context. Both have 48 units and train for
1,000 updates of Adam on 90 % of the numbers. The score is the share of held-out numbers that greedy
decoding spells exactly, by the number of German parts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncourse import fused
from rnncourse.attention import attention_backward, dot_attention
from rnncourse.bptt import cross_entropy_backward, embedding_backward, readout_backward
from rnncourse.data import NumberPair, number_words
from rnncourse.decoding import linear_decay
from rnncourse.experiments import Experiment
from rnncourse.initialization import orthogonal
from rnncourse.rnn import cross_entropy, readout, rnn_step
from rnncourse.sequences import last_valid, last_valid_backward, length_mask, pad
from rnncourse.training import Adam, train

UNITS, BATCH, RATE, LONGEST = 48, 64, 4e-3, 13
EOS, BOS = 0, 1

Array = np.ndarray[Any, Any]
Params = dict[str, Array]

PAIRS = number_words()
ENGLISH = sorted({word for pair in PAIRS for word in pair.english})
GERMAN = ["</s>", "<s>", *sorted({part for pair in PAIRS for part in pair.german})]


def split() -> tuple[list[NumberPair], list[NumberPair]]:
    """Return training and held-out numbers; every tenth number is held out."""
    order = np.random.default_rng(0).permutation(len(PAIRS))
    return [PAIRS[i] for i in order if i % 10], [PAIRS[i] for i in order if not i % 10]


def encode(pairs: list[NumberPair]) -> tuple[Array, Array, Array, Array]:
    """Return source tokens and lengths, target tokens (with end sign) and lengths, time-major."""
    source, lengths = pad([[ENGLISH.index(w) for w in pair.english] for pair in pairs], EOS)
    target, target_lengths = pad(
        [[GERMAN.index(w) for w in pair.german] + [EOS] for pair in pairs], EOS
    )
    return source, lengths, target, target_lengths


def init(attention: bool, rng: np.random.Generator) -> Params:
    """Draw the parameters."""
    wide = UNITS * (2 if attention else 1)
    scale = UNITS**-0.5
    shapes = {
        "E_src": (len(ENGLISH), UNITS),
        "E_tgt": (len(GERMAN), UNITS),
        "enc_W_xh": (UNITS, UNITS),
        "dec_W_xh": (UNITS, UNITS),
        "W_hy": (len(GERMAN), wide),
    }
    params = {name: rng.normal(0, scale, shape) for name, shape in shapes.items()}
    for side in ("enc", "dec"):
        params[f"{side}_W_hh"] = orthogonal(UNITS, 1.0, rng)
        params[f"{side}_b_h"] = np.zeros(UNITS)
    return params | {"b_y": np.zeros(len(GERMAN))}


def weights(p: Params, side: str) -> tuple[Array, Array, Array]:
    """Return W_xh, W_hh and b_h of the encoder or the decoder."""
    return p[f"{side}_W_xh"], p[f"{side}_W_hh"], p[f"{side}_b_h"]


def loss_and_grads(p: Params, batch: tuple[Array, Array, Array, Array]) -> tuple[float, Params]:
    """Return loss and gradients of a batch under teacher forcing."""
    source, lengths, target, target_lengths = batch
    attention = p["W_hy"].shape[1] > UNITS
    inputs = np.concatenate([np.full_like(target[:1], BOS), target[:-1]])
    x, y = p["E_src"][source], p["E_tgt"][inputs]
    zero = np.zeros((source.shape[1], UNITS))
    h_enc = fused.rnn_forward(x, zero, *weights(p, "enc"))
    start = last_valid(h_enc, lengths)
    h_dec = fused.rnn_forward(y, start, *weights(p, "dec"))
    features, seen = h_dec, []
    if attention:
        mask = length_mask(lengths, len(source))
        seen = [dot_attention(q, h_enc, h_enc, mask) for q in h_dec]
        features = np.concatenate([h_dec, np.stack([context for context, _ in seen])], axis=-1)
    logits = readout(features, p["W_hy"], p["b_y"])
    valid = length_mask(target_lengths, len(target))

    grads: Params = {}
    dlogits = cross_entropy_backward(logits, target, valid)
    dfeatures, grads["W_hy"], grads["b_y"] = readout_backward(dlogits, features, p["W_hy"])
    dh_dec, dh_enc = dfeatures[..., :UNITS].copy(), np.zeros_like(h_enc)
    for t, (_, attended) in enumerate(seen):
        dq, dK, dV = attention_backward(dfeatures[t, :, UNITS:], h_dec[t], h_enc, h_enc, attended)
        dh_dec[t] += dq
        dh_enc += dK + dV
    dy, dstart, *decoder = fused.rnn_backward(dh_dec, y, start, h_dec, *weights(p, "dec")[:2])
    dh_enc += last_valid_backward(dstart, lengths, len(source))
    dx, _, *encoder = fused.rnn_backward(dh_enc, x, zero, h_enc, *weights(p, "enc")[:2])
    for side, found in (("enc", encoder), ("dec", decoder)):
        grads |= dict(zip((f"{side}_W_xh", f"{side}_W_hh", f"{side}_b_h"), found, strict=True))
    grads["E_src"] = embedding_backward(dx, source, len(ENGLISH))
    grads["E_tgt"] = embedding_backward(dy, inputs, len(GERMAN))
    return float(cross_entropy(logits, target, valid)), grads


def fit(attention: bool, seed: int, updates: int) -> Params:
    """Train one translator."""
    rng = np.random.default_rng(seed)
    source, lengths, target, target_lengths = encode(split()[0])
    adam = Adam(RATE)

    def batch(step: int) -> tuple[Array, Array, Array, Array]:
        adam.lr = RATE * linear_decay(step, updates, floor=0.05)
        rows = rng.choice(source.shape[1], BATCH, replace=False)
        return source[:, rows], lengths[rows], target[:, rows], target_lengths[rows]

    batches = map(batch, range(updates))
    params, _ = train(
        loss_and_grads, init(attention, rng), batches, adam, max_norm=1.0, progress=False
    )
    return params


def translate(p: Params, source: Array, lengths: Array) -> tuple[Array, Array]:
    """Decode greedily; return tokens (LONGEST, B) and attention weights (LONGEST, S, B)."""
    attention = p["W_hy"].shape[1] > UNITS
    zero = np.zeros((source.shape[1], UNITS))
    h_enc = fused.rnn_forward(p["E_src"][source], zero, *weights(p, "enc"))
    h, token = last_valid(h_enc, lengths), np.full(source.shape[1], BOS)
    mask = length_mask(lengths, len(source))
    tokens, attended = [], np.zeros((LONGEST, *source.shape))
    for t in range(LONGEST):
        h = rnn_step(p["E_tgt"][token], h, *weights(p, "dec"))
        features = h
        if attention:
            context, attended[t] = dot_attention(h, h_enc, h_enc, mask)
            features = np.concatenate([h, context], axis=-1)
        token = readout(features, p["W_hy"], p["b_y"]).argmax(axis=-1)
        tokens.append(token)
    return np.array(tokens), attended


def spelled(column: Array) -> tuple[str, ...]:
    """Return the German parts of one decoded column, up to the end sign."""
    end = int(np.argmax(column == EOS)) if (column == EOS).any() else len(column)
    return tuple(GERMAN[token] for token in column[:end])


def run(seed: int, *, attention: bool, updates: int = 1000) -> dict[str, Any]:
    """Train one translator and score it on the held-out numbers."""
    params = fit(attention, seed, updates)
    held_out = split()[1]
    source, lengths, *_ = encode(held_out)
    tokens, attended = translate(params, source, lengths)
    exact, aligned = {}, []
    for i, pair in enumerate(held_out):
        right = spelled(tokens[:, i]) == pair.german
        exact.setdefault(len(pair.german), []).append(right)
        if right and attention:
            where = attended[: len(pair.german), :, i].argmax(axis=1)
            aligned += [w == a for w, a in zip(where, pair.alignment, strict=True) if a >= 0]
    return {
        "exact": float(np.mean([r for values in exact.values() for r in values])),
        "exact_by_length": {str(n): float(np.mean(exact[n])) for n in sorted(exact)},
        "aligned": float(np.mean(aligned)) if aligned else 0.0,
    }


EXPERIMENT = Experiment(
    run,
    configs={"attention": {"attention": True}, "bottleneck": {"attention": False}},
    seeds=range(5),
    reduced={"updates": 3},
    tolerance=5e-3,
)
