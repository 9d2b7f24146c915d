"""Which exercises there are and where their specs live; specs are imported when asked for."""

from __future__ import annotations

import difflib
import importlib
from functools import cache

from rnncourse.exercises.spec import Exercise

# assignment: (module, functions in the order of the notebook)
ASSIGNMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "01-vanilla-rnn": (
        "vanilla_rnn",
        (
            "rnn_step",
            "rnn_forward",
            "readout",
            "cross_entropy",
            "count_parameters",
            "parity_weights",
        ),
    ),
    "02-bptt": (
        "bptt",
        (
            "rnn_step_backward",
            "rnn_backward",
            "cross_entropy_backward",
            "embedding_backward",
            "numerical_gradient",
            "relative_error",
        ),
    ),
    "03-gradient-flow": (
        "gradient_flow",
        (
            "step_jacobian",
            "jacobian_product_norms",
            "spectral_radius",
            "linear_gradient_norms",
            "norm_bounds",
            "memory_horizon",
            "saturation",
        ),
    ),
    "04-clipping": (
        "clipping",
        ("global_norm", "clip_by_global_norm", "clip_by_value", "cosine", "sgd_step"),
    ),
    "05-initialisation": (
        "initialisation",
        (
            "orthogonal",
            "scale_to_radius",
            "leaky_rnn_forward",
            "skip_rnn_forward",
            "learned_h0_gradient",
        ),
    ),
    "06-gates": (
        "gates",
        (
            "lstm_step",
            "lstm_forward",
            "lstm_step_backward",
            "gru_step",
            "forget_bias",
            "cell_gradient",
        ),
    ),
    "07-truncated-bptt": (
        "truncated_bptt",
        (
            "stream_batches",
            "truncated_bptt",
            "chunked_bptt",
            "gradient_cosine",
            "checkpointed_bptt",
        ),
    ),
    "08-variable-length": (
        "variable_length",
        ("pad", "length_mask", "last_valid", "masked_mean", "pack", "reverse_padded"),
    ),
    "09-teacher-forcing": (
        "teacher_forcing",
        ("shift_right", "mix_inputs", "inverse_sigmoid", "linear_decay", "free_run"),
    ),
    "10-language-model": (
        "language_model",
        ("perplexity", "bits_per_character", "sample", "ngram_counts", "longest_copied_ngram"),
    ),
    "11-attention": (
        "attention",
        ("dot_attention", "attention_backward", "additive_scores", "beam_search", "bleu"),
    ),
    "12-forecasting": (
        "forecasting",
        (
            "windows",
            "fit_scaler",
            "rolling_origin",
            "seasonal_naive",
            "mase",
            "pinball",
        ),
    ),
    "13-capstone": (
        "capstone",
        (
            "last_step_gradients",
            "training_step",
            "recall_accuracy",
            "state_gradient_norms",
            "diagnose",
            "repair_recurrent",
        ),
    ),
}


@cache
def exercises_of(assignment: str) -> dict[str, Exercise]:
    """Return the exercises of an assignment by name, in the order of its notebook.

    Raises
    ------
    KeyError
        If there is no such assignment.
    ImportError
        If the spec module lacks a function that the table promises.

    Examples
    --------
    >>> list(exercises_of("04-clipping"))[:2]
    ['global_norm', 'clip_by_global_norm']
    """
    if assignment not in ASSIGNMENTS:
        known = ", ".join(ASSIGNMENTS)
        raise KeyError(f"there is no assignment {assignment!r}; there are {known}")
    module_name, names = ASSIGNMENTS[assignment]
    module = importlib.import_module(f"rnncourse.exercises.{module_name}")
    specs = {e.name: e for e in vars(module).values() if isinstance(e, Exercise)}
    if specs.keys() != set(names):
        raise ImportError(f"{module.__name__} holds {sorted(specs)}, expected {sorted(names)}")
    for spec in specs.values():
        spec.assignment = assignment
    return {name: specs[name] for name in names}


def get_exercise(name: str) -> Exercise:
    """Return the exercise that asks for the function `name`.

    Raises
    ------
    KeyError
        If there is none; the message offers the nearest name.

    Examples
    --------
    >>> get_exercise("cosine").assignment
    '04-clipping'
    """
    for assignment, (_, names) in ASSIGNMENTS.items():
        if name in names:
            return exercises_of(assignment)[name]
    everything = [known for _, names in ASSIGNMENTS.values() for known in names]
    near = difflib.get_close_matches(name, everything, n=1)
    advice = f"; did you mean {near[0]!r}?" if near else ""
    raise KeyError(f"there is no exercise {name!r}{advice}")


def all_exercises() -> list[Exercise]:
    """Return all exercises in the order of the course.

    Examples
    --------
    >>> all_exercises()[0].name
    'rnn_step'
    """
    return [spec for assignment in ASSIGNMENTS for spec in exercises_of(assignment).values()]
