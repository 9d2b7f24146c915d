"""Four-part chorales as one sequence of tokens: RNN, LSTM and GRU of equal size, in nats per step.

A chorale on a grid of eighths is read step by step, in each step soprano, alto, tenor, bass. A
token is a pitch, or a rest, with a flag that says whether the note begins here. The network also
reads a clock: whose turn it is, and whether the step lies on the beat. Each model reads the 249
training chorales as parallel streams with a carried state; the score is the negative
log-likelihood of the held-out chorales, summed over the four voices of a step. The parameters of
one run per cell are kept in half precision, so that the chapter can compose with them. "original"
keeps each chorale in its own key.
"""

from __future__ import annotations

import base64
import functools
import sys
from itertools import chain, repeat
from typing import Any

import numpy as np

from rnncourse.bptt import cross_entropy_backward, readout_backward
from rnncourse.data import Chorale, bach_chorales
from rnncourse.decoding import linear_decay, sample
from rnncourse.experiments import Experiment, load_experiment
from rnncourse.gates import init_gru_params, init_lstm_params
from rnncourse.rnn import cross_entropy, init_params, log_softmax, readout
from rnncourse.sequences import stream_batches
from rnncourse.tasks import one_hot
from rnncourse.training import Adam, train

# The cells are those of chapter 11: forward and backward of an RNN, an LSTM or a GRU by name.
cells: Any = sys.modules[load_experiment("language_model").run.__module__]

VOICES, LOWEST, PITCHES = 4, 28, 62  # MIDI 28 to 89 holds every voice in every key of the corpus
REST = PITCHES
V = 2 * (PITCHES + 1)  # a pitch or a rest, begun or held
START = V
CLOCK = 2 * VOICES
D = V + 1 + CLOCK
BATCH, STEPS = 32, 64

Array = np.ndarray[Any, Any]
Params = dict[str, Array]


def to_tokens(pitch: Array, onset: Array) -> Array:
    """Return twice each pitch's place in the range, plus one where a note begins."""
    return 2 * np.where(pitch > 0, pitch - LOWEST, REST) + onset


def to_notes(tokens: Array) -> tuple[Array, Array]:
    """Return the pitches (0 is a rest) and onsets of tokens."""
    place, onset = np.divmod(tokens, 2)
    return np.where(place == REST, 0, place + LOWEST), onset.astype(bool)


def flatten(chorale: Chorale, original: bool = False) -> tuple[Array, Array]:
    """Return tokens of shape (4 T + 4,), the first four being START, and their clock."""
    pitch = np.where(chorale.pitch > 0, chorale.pitch - original * chorale.shift, 0)
    tokens = to_tokens(pitch, chorale.onset).ravel()
    steps = np.arange(-1, len(pitch)) + chorale.pickup
    return np.concatenate([np.full(VOICES, START), tokens]), clock(steps)


def clock(steps: Array) -> Array:
    """Return for each voice at each step whose turn it is and whether the step is off the beat."""
    return (steps[:, None] % 2 * VOICES + np.arange(VOICES)).ravel()


@functools.cache
def chorales(split: str) -> list[Chorale]:
    """Return the chorales of a split on a grid of eighths."""
    return [c for c in bach_chorales(2) if c.split == split]


def features(tokens: Array, now: Array) -> Array:
    """Return the network's input: the token before, and the clock of the token to predict."""
    x = np.concatenate([one_hot(tokens, V + 1), one_hot(now, CLOCK)], axis=-1)
    return x.astype(np.float32)


def init(cell: str, units: int, rng: np.random.Generator) -> Params:
    """Draw the parameters of a cell and its read-out in single precision."""
    params = init_params(D, units, V, rng)
    if cell != "rnn":
        draw = init_lstm_params if cell == "lstm" else init_gru_params
        params = draw(D, units, rng) | {name: params[name] for name in ("W_hy", "b_y")}
    return {name: p.astype(np.float32) for name, p in params.items()}


def fit(
    cell: str, units: int, rate: float, seed: int, updates: int, original: bool = False
) -> Params:
    """Train on the training chorales, in a new order every time, with a carried state."""
    rng = np.random.default_rng(seed)
    pieces = [flatten(c, original) for c in chorales("train")]
    adam = Adam(rate)
    state = cells.start(cell, units, BATCH)

    def chunks(_: Any) -> Any:
        order = rng.permutation(len(pieces))
        tokens, clocks = (np.concatenate([pieces[i][k] for i in order]) for k in (0, 1))
        for here, there in stream_batches(np.arange(len(tokens)), BATCH, STEPS):
            yield features(tokens[here], clocks[there]), tokens[there]

    def loss_and_grads(p: Params, chunk: tuple[Array, Array]) -> tuple[float, Params]:
        nonlocal state
        x, targets = chunk
        scored = targets != START
        targets = np.where(scored, targets, 0)
        h, cache = cells.forward(cell, p, x, state)
        logits = readout(h, p["W_hy"], p["b_y"])
        dlogits = cross_entropy_backward(logits, targets, scored)
        dh, dW_hy, db_y = readout_backward(dlogits, h, p["W_hy"])
        grads = cells.backward(cell, p, x, state, h, cache, dh) | {"W_hy": dW_hy, "b_y": db_y}
        state = cache[0]
        return float(cross_entropy(logits, targets, scored)), grads

    def slower(step: int, _: Params) -> bool:
        adam.lr = rate * linear_decay(step, updates, floor=0.05)
        return step >= updates

    batches = chain.from_iterable(map(chunks, repeat(None)))
    params, _ = train(
        loss_and_grads,
        init(cell, units, rng),
        batches,
        adam,
        max_norm=1.0,
        callback=slower,
        progress=False,
    )
    return params


def log_likelihoods(cell: str, p: Params, pieces: list[tuple[Array, Array]]) -> list[Array]:
    """Return the log-probability of every token of each piece, shape (T, 4) each."""
    longest = max(len(tokens) for tokens, _ in pieces)
    tokens, clocks = (
        np.stack([np.pad(piece[k], (0, longest - len(piece[k]))) for piece in pieces], axis=1)
        for k in (0, 1)
    )
    state = cells.start(cell, p["W_hy"].shape[1], len(pieces))
    h, _ = cells.forward(cell, p, features(tokens[:-1], clocks[1:]), state)
    log_p = log_softmax(readout(h, p["W_hy"], p["b_y"]))
    targets = np.where(tokens[1:] == START, 0, tokens[1:])
    log_p = np.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    return [
        log_p[VOICES - 1 : len(piece) - 1, i].reshape(-1, VOICES)
        for i, (piece, _) in enumerate(pieces)
    ]


def nll(log_p: list[Array]) -> float:
    """Return the negative log-likelihood per step, in nats: the sum over the four voices."""
    return -float(np.concatenate(log_p).sum(axis=1).mean())


class Counts:
    """Interpolated absolute discounting with the contexts in a musician's order.

    They are the clock, the voice's own last note, the notes above it in this step from the nearest
    up, and the last notes below it. The first `depth` of these are used; :func:`context_rows`
    makes the rows.
    """

    DISCOUNT = 0.75

    def __init__(self, rows: Array, depth: int) -> None:
        self.levels = []
        for k in range(1, depth + 1):
            grams, counts = np.unique(encode(rows[:, : k + 1]), return_counts=True)
            contexts, first, kinds = np.unique(
                grams // (V + 1), return_index=True, return_counts=True
            )
            self.levels.append((grams, counts, contexts, np.add.reduceat(counts, first), kinds))

    def log_probs(self, rows: Array) -> Array:
        """Return the log-probability of the token in the first column, given the others."""
        p = np.full(len(rows), 1 / V)
        for k, (grams, counts, contexts, totals, kinds) in enumerate(self.levels, start=1):
            keys = encode(rows[:, : k + 1])
            total = look_up(contexts, totals, keys // (V + 1))
            count = look_up(grams, counts, keys)
            kind = look_up(contexts, kinds, keys // (V + 1))
            kept = np.maximum(count - self.DISCOUNT, 0) + self.DISCOUNT * kind * p
            p = np.where(total > 0, kept / np.maximum(total, 1), p)
        return np.log(p)

    def __call__(self, tokens: Array, clocks: Array) -> Array:
        """Return the next logits of a batch of unfinished pieces, see :func:`compose`."""
        rows = []
        for piece in tokens:
            row = context(piece, clocks, len(piece))
            rows += [[token, *row] for token in range(V)]
        return self.log_probs(np.array(rows)).reshape(len(tokens), V)


def context(tokens: Array, clocks: Array, i: int) -> list[int]:
    """Return what comes before token i in a musician's order of importance."""
    v = i % VOICES
    now, last = tokens[i - v : i], tokens[i - v - VOICES : i - v]
    return [clocks[i], last[v], *now[::-1], *last[v + 1 :]]


def context_rows(tokens: Array, clocks: Array) -> Array:
    """Return a row for every token of a piece but the first four: the token, then its context."""
    return np.array([[tokens[i], *context(tokens, clocks, i)] for i in range(VOICES, len(tokens))])


def encode(rows: Array) -> Array:
    """Return one integer per row, the first column as its last digit."""
    return rows @ (V + 1) ** np.arange(rows.shape[1], dtype=np.int64)


def look_up(keys: Array, values: Array, wanted: Array) -> Array:
    """Return the values of the wanted keys, 0 where there is none."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def player(cell: str, p: Params, batch: int) -> Any:
    """Return a function from unfinished pieces to the next logits; it remembers what it read."""
    state, read = cells.start(cell, p["W_hy"].shape[1], batch), 0

    def step(tokens: Array, clocks: Array) -> Array:
        nonlocal state, read
        now = np.tile(clocks[read + 1 :, None], batch)
        h, cache = cells.forward(cell, p, features(tokens[:, read:].T, now), state)
        state, read = cache[0], tokens.shape[1]
        return readout(h[-1], p["W_hy"], p["b_y"])

    return step


def compose(
    step: Any,
    steps: int,
    batch: int,
    rng: np.random.Generator,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    given: Array | None = None,
    allowed: Any = None,
) -> tuple[Array, Array]:
    """Write pieces token by token.

    `step` maps the tokens so far (B, n) and n + 1 clocks to logits (B, V). `given`, (T0, 4) or
    (T0, B, 4), holds tokens to take as they are, and -1 where the model is free. `allowed` maps the
    tokens so far to a mask (B, V). Returns the tokens and the log of the allowed probability, both
    of shape (B, steps, 4).
    """
    tokens = np.full((batch, VOICES), START)
    clocks, log_mass = clock(np.arange(-1, steps)), np.zeros((batch, steps * VOICES))
    for i in range(steps * VOICES):
        log_p = log_softmax(step(tokens, clocks[: VOICES + i + 1]))
        t, v = divmod(i, VOICES)
        fixed = np.full(batch, -1) if given is None or t >= len(given) else given[t, ..., v]
        if (fixed < 0).any():
            if allowed is not None:
                mask = allowed(tokens)
                mask |= ~mask.any(axis=1, keepdims=True)  # a dead end frees the voice
                log_p = np.where(mask, log_p, -np.inf)
                log_mass[:, i] = np.log(np.exp(log_p).sum(axis=1))
            fixed = np.where(fixed < 0, sample(log_p, temperature, top_k, rng), fixed)
        tokens = np.column_stack([tokens, np.broadcast_to(fixed, batch)])
    shape = (batch, steps, VOICES)
    return tokens[:, VOICES:].reshape(shape), log_mass.reshape(shape)


WHITE = np.isin(to_notes(np.arange(V))[0] % 12, [0, 2, 4, 5, 7, 9, 11])
"""Which tokens are rests or white keys: the notes of C major and of natural A minor."""


def white_keys(tokens: Array) -> Array:
    """Allow white keys and rests only."""
    return np.tile(WHITE, (len(tokens), 1))


def no_parallels(tokens: Array) -> Array:
    """Forbid what would make a parallel fifth or octave with a voice above."""
    v = tokens.shape[1] % VOICES
    pitch, _ = to_notes(tokens[:, tokens.shape[1] - v - VOICES :])
    here, _ = to_notes(np.arange(V))
    mask = np.ones((len(tokens), V), bool)
    if (tokens[:, -1 - v] != START).all():
        for above in range(v):
            other = np.stack([pitch[:, above], pitch[:, VOICES + above]])
            own = np.stack(np.broadcast_arrays(pitch[:, v, None], here))
            mask &= ~parallel(other[:, :, None], own)
    return mask


def parallel(above: Array, below: Array) -> Array:
    """Return where two voices, each (2, ...) before and now, move in parallel fifths or octaves."""
    move, other = above[1] - above[0], below[1] - below[0]
    sounding = (above[0] > 0) & (above[1] > 0) & (below[0] > 0) & (below[1] > 0)
    before, now = (above[0] - below[0]) % 12, (above[1] - below[1]) % 12
    return sounding & (move * other > 0) & (before == now) & np.isin(now, (0, 7))


def white_share(pitch: Array) -> float:
    """Return the share of sounding notes that are white keys."""
    return float(np.isin(pitch[pitch > 0] % 12, [0, 2, 4, 5, 7, 9, 11]).mean())


def parallels(pitch: Array) -> float:
    """Return the number of parallel fifths and octaves in a hundred steps."""
    pairs = np.stack([pitch[:-1], pitch[1:]])  # (2, T - 1, 4)
    found = [
        parallel(pairs[:, :, a], pairs[:, :, b]).sum() for b in range(VOICES) for a in range(b)
    ]
    return 100 * float(sum(found)) / (len(pitch) - 1)


def repetition(tokens: Array, steps: int = 4) -> float:
    """Return the share of the runs of four steps that stand earlier in the same piece."""
    runs = [tokens[t : t + steps].tobytes() for t in range(len(tokens) - steps + 1)]
    return 1 - len(set(runs)) / len(runs)


def pack(p: Params) -> dict[str, Any]:
    """Return parameters in half precision as text, 2.7 characters per number."""
    half = {name: a.astype("<f2") for name, a in p.items()}
    return {n: [list(a.shape), base64.b64encode(a.tobytes()).decode()] for n, a in half.items()}


def unpack(stored: dict[str, Any]) -> Params:
    """Return the parameters that :func:`pack` stored."""
    return {
        name: np.frombuffer(base64.b64decode(text), "<f2").reshape(shape).astype(np.float32)
        for name, (shape, text) in stored.items()
    }


def run(
    seed: int,
    *,
    cell: str,
    units: int,
    rate: float,
    original: bool = False,
    keep: bool = False,
    updates: int = 1200,
) -> dict[str, Any]:
    """Train one model and score it on all three parts."""
    params = fit(cell, units, rate, seed, updates, original)
    result: dict[str, Any] = {"parameters": sum(p.size for p in params.values())}
    for split in ("train", "valid", "test"):
        pieces = [flatten(c, original) for c in chorales(split)][:70]
        log_p = log_likelihoods(cell, params, pieces)
        result[split] = nll(log_p)
    result["voices"] = (-np.concatenate(log_p).mean(axis=0)).tolist()
    if keep and seed == 0:
        result["weights"] = pack(params)
    return result


EXPERIMENT = Experiment(
    run,
    configs={
        "rnn": {"cell": "rnn", "units": 160, "rate": 4e-3, "keep": True},
        "lstm": {"cell": "lstm", "units": 71, "rate": 1.2e-2},
        "gru": {"cell": "gru", "units": 85, "rate": 6e-3},
        "rnn-original": {"cell": "rnn", "units": 160, "rate": 4e-3, "original": True},
    },
    seeds=range(5),
    reduced={"updates": 3, "keep": False},
    tolerance=5e-3,
)
