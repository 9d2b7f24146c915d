"""Every public function names a bad argument: wrong shape, dtype, range, size, generator or NaN.

A table holds one good call of every function. From it come the bad ones: each argument in turn is
replaced by values that its kind forbids, and the message must name the argument.
"""

from __future__ import annotations

import importlib
import inspect
import re

import numpy as np
import pytest

from rnncourse import (
    bptt,
    clipping,
    ctc,
    decoding,
    forecasting,
    fused,
    gates,
    metrics,
    rnn,
    sequences,
)
from rnncourse.training import SGD, Adam, train

T, B, D, H, S, V = 5, 2, 3, 4, 6, 7
RNG = np.random.default_rng(0)


def floats(*shape):
    return np.random.default_rng(sum(shape)).uniform(0.1, 0.9, shape)


RNN = {"W_xh": floats(H, D), "W_hh": floats(H, H), "b_h": floats(H)}
LSTM = {"W_x": floats(4 * H, D), "W_h": floats(4 * H, H), "b": floats(4 * H)}
GRU = {"W_x": floats(3 * H, D), "W_h": floats(3 * H, H), "b_x": floats(3 * H), "b_h": floats(3 * H)}
SEQUENCE = {"x": floats(T, B, D), "h0": floats(B, H)}
STEP = {"x_t": floats(B, D), "h_prev": floats(B, H)}
STATES = {"dh": floats(T, B, H), "h": floats(T, B, H)}
CELLS = {"c0": floats(B, H), "c": floats(T, B, H)}
SKIP = {"W_skip": floats(H, H), "skip": 2}
ADDITIVE = {
    "q": floats(B, H),
    "K": floats(S, B, D),
    "W_q": floats(V, H),
    "W_k": floats(V, D),
    "v": floats(V),
}
LENGTHS = np.array([5, 3])
LOG_P = np.log(np.full(V, 1 / V))


def without(mapping, *keys):
    return {k: v for k, v in mapping.items() if k not in keys}


WEIGHTS = without(RNN, "b_h")
READOUT = {"W_hy": floats(V, H), "b_y": floats(V)}
BACKWARD = {**STATES, **SEQUENCE, **WEIGHTS}
SCORED = {
    "logits": floats(T, B, V),
    "targets": np.ones((T, B), int),
    "mask": np.ones((T, B), bool),
}


def one_step(token, state):
    return LOG_P, state


def batch_step(tokens, h):
    return np.zeros((len(tokens), V)), h


GOOD = {
    "rnn": {
        "rnn_step": {**STEP, **RNN},
        "rnn_forward": {**SEQUENCE, **RNN},
        "readout": {"h": floats(T, B, H), **READOUT},
        "log_softmax": {"logits": floats(B, V)},
        "valid_tokens": SCORED,
        "cross_entropy": SCORED,
        "count_parameters": {"D": D, "H": H, "V": V},
        "init_params": {"D": D, "H": H, "V": V, "rng": RNG},
        "to_torch": {"params": RNN},
    },
    "bptt": {
        "rnn_step_backward": {
            "dh": floats(B, H),
            **STEP,
            "h": floats(B, H),
            **WEIGHTS,
        },
        "rnn_backward": BACKWARD,
        "truncated_bptt": {**BACKWARD, "k": 2},
        "chunked_bptt": {**BACKWARD, "k": 2},
        "checkpointed_bptt": {"dh": floats(T, B, H), **SEQUENCE, **RNN, "segment": 2},
        "readout_backward": {
            "dlogits": floats(T, B, V),
            "h": floats(T, B, H),
            "W_hy": READOUT["W_hy"],
        },
        "cross_entropy_backward": SCORED,
        "embedding_backward": {"dout": floats(T, B, D), "tokens": np.ones((T, B), int), "V": V},
        "loss_and_gradients": {
            "params": {**RNN, **READOUT},
            "x": floats(T, B, D),
            "targets": np.ones((T, B), int),
            "h0": floats(B, H),
            "mask": np.ones((T, B), bool),
        },
        "numerical_gradient": {"f": np.sum, "a": floats(3), "eps": 1e-5},
        "relative_error": {"a": floats(3), "b": floats(3)},
        "gradient_cosine": {"full": [floats(3), floats(2)], "truncated": [floats(3), floats(2)]},
    },
    "clipping": {
        "global_norm": {"grads": RNN},
        "clip_by_global_norm": {"grads": RNN, "max_norm": 1.0},
        "clip_by_value": {"grads": RNN, "limit": 1.0},
        "clip_per_tensor": {"grads": RNN, "max_norm": 1.0},
        "cosine": {"a": RNN, "b": RNN},
        "sgd_step": {"params": RNN, "grads": RNN, "lr": 0.1, "max_norm": 1.0},
    },
    "fused": {
        "rnn_forward": {**SEQUENCE, **RNN},
        "rnn_backward": BACKWARD,
        "lstm_forward": {**SEQUENCE, "c0": floats(B, H), **LSTM},
        "lstm_backward": {
            **STATES,
            **SEQUENCE,
            **CELLS,
            "gates": floats(T, B, 4, H),
            **without(LSTM, "b"),
        },
        "gru_forward": {**SEQUENCE, **GRU},
        "gru_backward": {
            **STATES,
            **SEQUENCE,
            "gates": (floats(T, B, 3, H), floats(T, B, H)),
            **without(GRU, "b_x", "b_h"),
        },
    },
    "ctc": {
        "collapse": {"path": [0, 1, 1], "blank": 0},
        "ctc_greedy": {"log_probs": floats(T, V), "blank": 0},
        "ctc_log_likelihood": {"log_probs": -floats(T, V), "labels": [1, 2], "blank": 0},
        "ctc_gradient": {"logits": floats(T, V), "labels": [1, 2], "blank": 0},
        "ctc_loss": {
            "logits": floats(T, B, V),
            "lengths": LENGTHS,
            "labels": [[1, 2], [3]],
            "blank": 0,
        },
    },
    "decoding": {
        "shift_right": {"y": np.ones((T, B), int), "bos": 0},
        "mix_inputs": {"gold": floats(T, B), "predicted": floats(T, B), "eps": 0.5, "rng": RNG},
        "inverse_sigmoid": {"step": 3, "k": 2.0},
        "linear_decay": {"step": 3, "total": 10, "floor": 0.1},
        "exponential_decay": {"step": 3, "k": 0.5},
        "free_run": {"step_fn": batch_step, "h0": floats(B, H), "bos": 0, "steps": 3},
        "sample": {"logits": floats(B, V), "temperature": 1.0, "top_k": 3, "rng": RNG},
        "free_sample": {
            "step_fn": batch_step,
            "h0": floats(B, H),
            "bos": 0,
            "steps": 3,
            "temperature": 1.0,
            "top_k": 3,
            "rng": RNG,
        },
        "greedy": {"step_fn": one_step, "bos": 0, "eos": 1, "max_len": 3},
        "beam_search": {
            "step_fn": one_step,
            "bos": 0,
            "eos": 1,
            "width": 2,
            "max_len": 3,
            "alpha": 0.5,
        },
    },
    "attention": {
        "masked_softmax": {"scores": floats(S, B), "mask": np.ones((S, B), bool)},
        "attend": {"scores": floats(S, B), "V": floats(S, B, D), "mask": np.ones((S, B), bool)},
        "attend_backward": {
            "dcontext": floats(B, D),
            "V": floats(S, B, D),
            "weights": floats(S, B),
        },
        "dot_attention": {
            "q": floats(B, H),
            "K": floats(S, B, H),
            "V": floats(S, B, D),
            "mask": np.ones((S, B), bool),
        },
        "attention_backward": {
            "dcontext": floats(B, D),
            "q": floats(B, H),
            "K": floats(S, B, H),
            "V": floats(S, B, D),
            "weights": floats(S, B),
        },
        "additive_scores": ADDITIVE,
        "additive_scores_backward": {"dscores": floats(S, B), **ADDITIVE},
    },
    "metrics": {
        "perplexity": {"log_probs": -floats(T, B), "mask": np.ones((T, B), bool)},
        "bits_per_character": {"loss": 1.0},
        "accuracy": {
            "logits": floats(T, B, V),
            "targets": np.ones((T, B), int),
            "mask": np.ones((T, B), bool),
        },
        "bleu": {"candidates": [["a", "b"]], "references": [[["a", "b"]]], "max_n": 2},
        "edit_distance": {"a": "abc", "b": [1, 2]},
        "word_error_rate": {"hypotheses": [["a"]], "references": [["b"]]},
        "rmse": {"y": floats(T), "y_hat": floats(T)},
        "skill": {"error": 0.5, "baseline_error": 1.0},
        "mase": {"y": floats(T), "y_hat": floats(T), "train": floats(9), "m": 2},
        "pinball": {"y": floats(T), "q": floats(T), "tau": 0.5},
        "interval_coverage": {"y": floats(T), "lower": floats(T), "upper": floats(T)},
    },
    "scan": {
        "linear_recurrence": {"a": floats(T, B), "b": floats(T, B), "h0": floats(B)},
        "parallel_scan": {"a": floats(T, B), "b": floats(T, B), "h0": floats(B)},
        "linear_recurrence_backward": {
            "dh": floats(T, B),
            "a": floats(T, B),
            "h0": floats(B),
            "h": floats(T, B),
        },
    },
    "skips": {
        "leaky_rnn_forward": {**SEQUENCE, **RNN, "alpha": 0.5},
        "leaky_rnn_backward": {**STATES, **SEQUENCE, **RNN, "alpha": 0.5},
        "skip_rnn_forward": {**SEQUENCE, **RNN, **SKIP},
        "skip_rnn_backward": {**STATES, **SEQUENCE, **without(RNN, "b_h"), **SKIP},
        "learned_h0_gradient": {"dh0": floats(B, H)},
    },
    "training": {
        "SGD": {"lr": 0.1, "momentum": 0.5},
        "Adam": {"lr": 0.1, "beta1": 0.9, "beta2": 0.9, "eps": 1e-8},
    },
    "initialization": {
        "orthogonal": {"n": 3, "gain": 1.0, "rng": RNG},
        "identity": {"n": 3, "gain": 1.0},
        "scaled_gaussian": {"n": 3, "gain": 1.0, "rng": RNG},
        "scale_to_radius": {"W": floats(H, H), "radius": 1.0},
        "orthogonal_gates": {"H": 3, "gates": 4, "gain": 1.0, "rng": RNG},
        "forget_bias": {"b": floats(4 * H), "value": 1.0},
        "chrono": {"b": floats(4 * H), "T_max": 10, "rng": RNG},
        "chrono_gru": {"b": floats(3 * H), "T_max": 10, "rng": RNG},
    },
    "gradient_flow": {
        "step_jacobian": {"h": floats(B, H), "W_hh": floats(H, H)},
        "log_singular_values": {"h": floats(T, B, H), "W_hh": floats(H, H)},
        "jacobian_product_norms": {"h": floats(T, B, H), "W_hh": floats(H, H)},
        "linear_gradient_norms": {"W": floats(H, H), "T": 3},
        "spectral_radius": {"W": floats(H, H)},
        "spectral_norm": {"W": floats(H, D)},
        "norm_bounds": {"W_hh": floats(H, H), "T": 3, "gamma": 1.0},
        "growth_rate": {"log_norms": floats(T), "start": 1},
        "lyapunov_exponents": {"h": floats(T, H), "W_hh": floats(H, H)},
        "memory_horizon": {"norms": floats(T), "threshold": 0.5},
        "saturation": {"h": floats(T, B, H), "tol": 0.1},
        "influence_map": {"h": floats(T, H), "W_xh": floats(H, D), "W_hh": floats(H, H)},
    },
    "sequences": {
        "pad": {"sequences": [floats(3, D), floats(2, D)], "value": 0.0},
        "length_mask": {"lengths": LENGTHS, "T": T},
        "last_valid": {"h": floats(T, B, H), "lengths": LENGTHS},
        "last_valid_backward": {"dlast": floats(B, H), "lengths": LENGTHS, "T": T},
        "summary": {"h": floats(T, B, H), "lengths": LENGTHS, "how": "mean"},
        "summary_backward": {
            "dsummary": floats(B, H),
            "h": floats(T, B, H),
            "lengths": LENGTHS,
            "how": "max",
        },
        "masked_mean": {"loss": floats(T, B), "mask": np.ones((T, B), bool)},
        "sort_by_length": {"lengths": LENGTHS},
        "pack": {"x": floats(T, B, D), "lengths": LENGTHS},
        "unpack": {"data": floats(4, D), "batch_sizes": np.array([2, 1, 1]), "value": 0.0},
        "rnn_forward_packed": {
            "data": floats(4, D),
            "batch_sizes": np.array([2, 1, 1]),
            "h0": floats(B, H),
            **RNN,
        },
        "reverse_padded": {"x": floats(T, B, D), "lengths": LENGTHS},
        "bidirectional_forward": {
            "x": floats(T, B, D),
            "lengths": LENGTHS,
            "forward": RNN,
            "backward": RNN,
        },
        "bidirectional_backward": {
            "dh": floats(T, B, 2 * H),
            "x": floats(T, B, D),
            "lengths": LENGTHS,
            "forward": RNN,
            "backward": RNN,
        },
        "bidirectional_summary": {"h": floats(T, B, 2 * H), "lengths": LENGTHS},
        "buckets": {"lengths": LENGTHS, "batch": 2},
        "stream_batches": {"tokens": np.arange(9), "batch": 2, "steps": 2},
    },
    "gates": {
        "lstm_gates": {**STEP, **LSTM},
        "lstm_step": {**STEP, "c_prev": floats(B, H), **LSTM},
        "lstm_step_backward": {
            "dh": floats(B, H),
            "dc": floats(B, H),
            **STEP,
            "c_prev": floats(B, H),
            **LSTM,
        },
        "lstm_forward": {**SEQUENCE, "c0": floats(B, H), **LSTM},
        "lstm_backward": {**STATES, **SEQUENCE, **CELLS, **LSTM, "dc_last": floats(B, H)},
        "gru_gates": {**STEP, **GRU},
        "gru_step": {**STEP, **GRU},
        "gru_step_backward": {"dh": floats(B, H), **STEP, **GRU},
        "gru_forward": {**SEQUENCE, **GRU},
        "gru_backward": {**STATES, **SEQUENCE, **GRU},
        "init_lstm_params": {"D": D, "H": H, "rng": RNG},
        "init_gru_params": {"D": D, "H": H, "rng": RNG},
        "to_torch": {"params": LSTM},
    },
    "tasks": {
        "one_hot": {"tokens": np.array([0, 1]), "size": 3},
        "delayed_recall": {"delay": 2, "batch": 3, "rng": RNG, "classes": 2, "distractors": 4},
        "adding": {"T": 5, "batch": 3, "rng": RNG},
        "copy": {"delay": 2, "batch": 3, "rng": RNG, "symbols": 4, "length": 2},
        "temporal_order": {"T": 20, "batch": 3, "rng": RNG},
        "parity": {"T": 5, "batch": 3, "rng": RNG},
        "echo": {"T": 5, "lag": 1, "batch": 3, "rng": RNG},
        "mackey_glass": {
            "T": 5,
            "batch": 2,
            "rng": RNG,
            "tau": 17.0,
            "spacing": 1.0,
            "substeps": 2,
        },
    },
    "language_model": {
        "ngram_counts": {"tokens": [1, 2, 1], "n": 2},
        "KneserNey": {"tokens": np.array([0, 1, 0, 2]), "n": 2, "V": 3},
        "longest_copied_ngram": {"sample": [1, 2], "train": [1, 2, 3]},
    },
    "forecasting": {
        "windows": {"y": floats(9, 2), "n_in": 3, "n_out": 2, "stride": 1},
        "fit_scaler": {"train": floats(9, 2)},
        "scale": {"y": floats(9, 2), "mean": floats(2), "std": floats(2)},
        "unscale": {"z": floats(9, 2), "mean": floats(2), "std": floats(2)},
        "rolling_origin": {"n": 9, "first": 3, "horizon": 2, "step": 1},
        "persistence": {"y": floats(9), "horizon": 2},
        "seasonal_naive": {"y": floats(9), "horizon": 2, "m": 3},
        "fit_ar": {"y": floats(19), "p": 2},
        "companion_matrix": {"phi": floats(2)},
        "companion_radius": {"phi": floats(2)},
        "forecast_ar": {"y": floats(9), "intercept": 0.1, "phi": floats(2), "horizon": 2},
    },
    "audio": {
        "synthesize": {
            "pitch": np.array([[60, 64], [62, 64]]),
            "onset": np.ones((2, 2), bool),
            "step_seconds": 0.1,
            "rate": 8000,
        },
        "wav_bytes": {"signal": floats(9), "rate": 8000, "bits": 8},
        "play": {"signal": floats(9), "label": "A chord", "rate": 8000, "bits": 16},
    },
}

ELSEWHERE = {
    "combine": "two pairs of numbers or arrays, multiplied and added as they come",
    "cell_gradient": "a product over the first axis of any array",
    "sigmoid": "of any array",
    "frequency": "of any array",
    "batch_of_one": "returns a step function, whose results the searches check",
    "from_torch": "takes a torch module",
    "train": "takes functions",
    "parity_weights": "takes nothing",
    "progress_bar": "takes any iterable",
}

# what looks bad to the general rules below but has a good meaning for one function
MEANINGFUL = {
    ("shift_right", "y"): {
        "complex numbers",
        "a number",
        "more axes",
        "floats",
        "a negative entry",
        "too large an entry",
    },
    ("shift_right", "bos"): {"a negative number"},
    ("greedy", "bos"): {"a negative number"},
    ("greedy", "eos"): {"a negative number"},
    ("beam_search", "bos"): {"a negative number"},
    ("beam_search", "eos"): {"a negative number"},
    ("mix_inputs", "gold"): {"texts", "complex numbers"},
    ("mix_inputs", "predicted"): {"texts", "complex numbers"},
    ("free_run", "h0"): {"texts", "complex numbers", "more axes"},
    ("free_sample", "h0"): {"texts", "complex numbers", "more axes"},
    ("inverse_sigmoid", "step"): {"a fraction", "infinity"},
    ("inverse_sigmoid", "k"): {"a fraction"},
    ("linear_decay", "step"): {"a fraction", "infinity"},
    ("linear_decay", "total"): {"a fraction"},
    ("exponential_decay", "step"): {"a fraction", "infinity"},
    ("saturation", "h"): {"a number", "more axes"},
    ("step_jacobian", "h"): {"no entry"},
    ("log_singular_values", "h"): {"no entry"},
    ("jacobian_product_norms", "h"): {"no entry"},
    ("growth_rate", "log_norms"): {"more axes"},
    ("pack", "x"): {"texts", "complex numbers"},
    ("unpack", "data"): {"texts", "complex numbers", "more axes"},
    ("reverse_padded", "x"): {"texts", "complex numbers", "more axes"},
    ("one_hot", "tokens"): {"a number", "more axes", "no entry"},
    ("ngram_counts", "tokens"): {"a text", "floats", "a negative entry"},
    ("edit_distance", "a"): {"a text"},
    ("edit_distance", "b"): {"a text"},
    ("skill", "error"): {"NaN"},
    ("pad", "value"): {"NaN"},
    ("unpack", "value"): {"NaN"},
    ("longest_copied_ngram", "sample"): {"a text"},
    ("longest_copied_ngram", "train"): {"a text"},
    ("play", "label"): {"a text"},
    ("scale", "y"): {"no entry"},
    ("scale", "mean"): {"a number"},
    ("scale", "std"): {"a number"},
    ("unscale", "z"): {"no entry"},
    ("unscale", "mean"): {"a number"},
    ("unscale", "std"): {"a number"},
    ("forecast_ar", "phi"): {"no entry"},
    ("forget_bias", "value"): {"NaN"},
    ("wav_bytes", "signal"): {"no entry"},
    ("play", "signal"): {"no entry"},
    ("sort_by_length", "lengths"): {"too large an entry"},
    ("buckets", "lengths"): {"too large an entry"},
    ("stream_batches", "tokens"): {"too large an entry"},
    ("chrono", "T_max"): {"a fraction"},
    ("chrono_gru", "T_max"): {"a fraction"},
    ("readout", "h"): {"no entry"},
    ("log_softmax", "logits"): {"more axes", "no entry"},
    ("checkpointed_bptt", "segment"): {"None"},
    ("numerical_gradient", "a"): {"a number", "more axes", "no entry"},
    ("global_norm", "grads"): {"no entry", "one entry too few"},
    ("clip_by_global_norm", "grads"): {"no entry", "one entry too few"},
    ("clip_by_value", "grads"): {"no entry", "one entry too few"},
    ("clip_per_tensor", "grads"): {"no entry", "one entry too few"},
}
for function, optional in (
    ("dot_attention", "mask"),
    ("attend", "mask"),
    ("masked_softmax", "mask"),
    ("perplexity", "mask"),
    ("accuracy", "mask"),
    ("synthesize", "onset"),
    ("lstm_backward", "dc_last"),
    ("valid_tokens", "mask"),
    ("cross_entropy", "mask"),
    ("cross_entropy_backward", "mask"),
    ("loss_and_gradients", "mask"),
    ("loss_and_gradients", "h0"),
    ("sample", "top_k"),
    ("free_sample", "top_k"),
):
    MEANINGFUL[function, optional] = {"None"}


def bad_values(name, value):
    """Yield values that the kind of an argument's good value forbids."""
    yield "None", None
    yield "a text", "text"
    yield "an object", object()
    if name == "rng":
        yield "a seed", 0
        yield "the old generator", np.random.RandomState(0)
    elif isinstance(value, np.ndarray):
        yield "texts", np.full(value.shape, "a")
        yield "uneven rows", [[1, 2], [3]]
        yield "complex numbers", value * 1j
        yield "a number", value.flat[0]
        yield "more axes", np.stack([value] * 2)[..., None]
        yield "no entry", value[:0]
        if value.dtype.kind == "i":
            yield "floats", value.astype(float)
            yield "a negative entry", value - 100
            yield "too large an entry", value + 1000
    elif isinstance(value, int):
        yield "a list", [value, value]
        yield "infinity", np.inf
        yield "a fraction", value + 0.5
        yield "a negative number", -1 - value
    elif isinstance(value, float):
        yield "a list", [value, value]
        yield "NaN", np.nan
    elif isinstance(value, dict):
        yield "a list", list(value.values())
        yield "no entry", {}
        yield "one entry too few", without(value, next(iter(value)))


CASES = [
    pytest.param(module, function, name, bad, id=f"{module}.{function}-{name}-{what}")
    for module, calls in GOOD.items()
    for function, arguments in calls.items()
    for name, value in arguments.items()
    for what, bad in bad_values(name, value)
    if what not in MEANINGFUL.get((function, name), ())
]

NAN = [
    ("ctc", "ctc_greedy", "log_probs"),
    ("ctc", "ctc_log_likelihood", "log_probs"),
    ("ctc", "ctc_gradient", "logits"),
    ("ctc", "ctc_loss", "logits"),
    ("decoding", "sample", "logits"),
    ("metrics", "perplexity", "log_probs"),
    ("metrics", "accuracy", "logits"),
    ("metrics", "interval_coverage", "y"),
    ("metrics", "interval_coverage", "upper"),
    ("initialization", "scale_to_radius", "W"),
    ("gradient_flow", "log_singular_values", "h"),
    ("gradient_flow", "log_singular_values", "W_hh"),
    ("gradient_flow", "lyapunov_exponents", "h"),
    ("gradient_flow", "linear_gradient_norms", "W"),
    ("gradient_flow", "spectral_radius", "W"),
    ("gradient_flow", "spectral_norm", "W"),
    ("gradient_flow", "norm_bounds", "W_hh"),
    ("gradient_flow", "memory_horizon", "norms"),
    ("gradient_flow", "saturation", "h"),
    ("forecasting", "windows", "y"),
    ("forecasting", "fit_scaler", "train"),
    ("forecasting", "scale", "std"),
    ("forecasting", "fit_ar", "y"),
    ("forecasting", "companion_matrix", "phi"),
    ("forecasting", "forecast_ar", "phi"),
    ("audio", "wav_bytes", "signal"),
]


@pytest.mark.parametrize(("module", "function", "name", "bad"), CASES)
def test_a_bad_argument_is_named(module, function, name, bad):
    call = getattr(importlib.import_module(f"rnncourse.{module}"), function)
    with pytest.raises((ValueError, TypeError)) as error:
        call(**{**GOOD[module][function], name: bad})
    assert re.search(rf"\b{name}\b", str(error.value))
    origin = error.traceback[-1].path
    assert "rnncourse" in str(origin), f"raised by {origin}, not by a check"


@pytest.mark.parametrize(("module", "function", "name"), NAN)
def test_nan_is_refused_where_it_would_hide(module, function, name):
    arguments = GOOD[module][function]
    call = getattr(importlib.import_module(f"rnncourse.{module}"), function)
    spoilt = arguments[name].copy()
    spoilt.flat[0] = np.nan
    with pytest.raises(ValueError, match=r"NaN|positive|finite"):
        call(**{**arguments, name: spoilt})


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam()], ids=["SGD", "Adam"])
@pytest.mark.parametrize(
    ("params", "grads", "message"),
    [
        ([1.0], {"w": np.ones(2)}, "params must be a dict"),
        ({"w": np.ones(2)}, None, "grads must be a dict"),
        ({"w": np.ones(2)}, {"v": np.ones(2)}, "keys"),
        ({"w": np.ones(2)}, {"w": np.ones(3)}, r"grads\['w'\] has shape \(3,\)"),
        ({"w": np.ones(2)}, {"w": ["a", "b"]}, r"grads\['w'\] must hold"),
        ({"w": np.ones(2)}, {"w": [1.0, np.nan]}, r"grads\['w'\] holds NaN"),
        ({"w": np.ones((2, 2))}, {"w": np.ones((2, 2))}, "make a new optimizer"),
    ],
)
def test_optimizers_refuse(optimizer, params, grads, message):
    optimizer.step({"w": np.ones(2)}, {"w": np.ones(2)})
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.step(params, grads)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.bleu([["a", "b"]], [["a b"]]), "list of references"),
        (lambda: metrics.bleu("ab", [["ab"]]), "candidates must hold sequences"),
        (lambda: metrics.bleu([["a"]], [[3]]), r"references\[0\] must hold"),
        (lambda: metrics.word_error_rate("ab", ["ab"]), "hypotheses must hold"),
        (
            lambda: decoding.free_run(lambda k, h: (np.zeros(V), h), np.zeros((B, H)), 0, 3),
            r"\(B, V\)",
        ),
        (
            lambda: decoding.free_run(
                lambda k, h: (np.full((B, V), np.nan), h), np.zeros((B, H)), 0, 3
            ),
            "NaN",
        ),
        (lambda: decoding.shift_right([1, 2], np.nan), "bos must fit"),
        (
            lambda: sequences.bidirectional_forward(
                floats(T, B, D), LENGTHS, {**RNN, "W_hh": floats(H)}, RNN
            ),
            r"forward\['W_hh'\] has shape \(4,\)",
        ),
        (
            lambda: sequences.bidirectional_backward(
                floats(T, B, H), floats(T, B, D), LENGTHS, RNN, RNN
            ),
            "2H",
        ),
        (lambda: sequences.length_mask([1, 2], 3.0), "T must be an integer"),
        (lambda: forecasting.scale(np.ones(5), np.ones(4), 1.0), r"mean has shape \(4,\)"),
        (lambda: forecasting.scale(np.ones((5, 2)), 0.0, [1.0, 0.0]), "std must be positive"),
        (lambda: gates.lstm_gates(np.ones((0, D)), np.ones((0, H)), **LSTM), "must not be empty"),
        (lambda: bptt.numerical_gradient(lambda a: a, np.ones(2)), r"f\(a\) must be a number"),
        (lambda: bptt.readout_backward(floats(3, 2, V), floats(2, 3, H), floats(V, H)), "dlogits"),
        (lambda: clipping.sgd_step({"w": np.ones((2, 3))}, {"w": np.ones(3)}, 0.1, 1.0), "grads"),
        (lambda: rnn.init_params(D, H, V, RNG, dtype=int), "dtype must be float32 or float64"),
        (lambda: gates.init_gru_params(D, H, RNG, dtype="x"), "dtype must be float32 or float64"),
        (
            lambda: train(
                lambda p, _: (np.nan, p), {"w": np.ones(2)}, [1], SGD(0.1), progress=False
            ),
            "loss of update 1 is NaN",
        ),
        (
            lambda: fused.gru_backward(
                **{**GOOD["fused"]["gru_backward"], "gates": (floats(T, B, 4, H), floats(T, B, H))}
            ),
            r"gates has shape \(5, 2, 4, 4\), expected \(T, B, 3, H\)",
        ),
        (lambda: rnn.from_torch(3), "rnn must be a torch.nn.RNN"),
        (lambda: gates.from_torch(3), "module must be a torch.nn.LSTM"),
        (lambda: ctc.ctc_loss(np.zeros((T, 2, 3)), [1, 2], [[1], [1.5]]), "labels must hold int"),
    ],
)
def test_particular_mistakes_are_named(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize("module", GOOD)
def test_the_calls_in_the_table_are_good(module):
    library = importlib.import_module(f"rnncourse.{module}")
    for function, arguments in GOOD[module].items():
        getattr(library, function)(**arguments)


@pytest.mark.parametrize("module", GOOD)
def test_every_docstring_names_the_errors(module):
    library = importlib.import_module(f"rnncourse.{module}")
    for function in GOOD[module]:
        assert "Raises\n    ------" in getattr(library, function).__doc__, function


@pytest.mark.parametrize("module", GOOD)
def test_the_table_holds_every_public_function(module):
    library = importlib.import_module(f"rnncourse.{module}")
    public = {
        name
        for name, item in vars(library).items()
        if inspect.isfunction(item) and item.__module__ == library.__name__ and name[0] != "_"
    }
    assert public - set(GOOD[module]) <= set(ELSEWHERE)
