"""What a student reads: where, which pattern, which mistake; and what must not matter."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rnncourse import bptt, clipping, decoding, gates, metrics, rnn, sequences
from rnncourse.exercises import CheckFailed, check
from rnncourse.exercises.checking import judge
from rnncourse.exercises.registry import get_exercise
from rnncourse.exercises.spec import STANDARD_SIZES


def feedback(name: str, function: Callable[..., Any], hidden: bool = False) -> str:
    with pytest.raises(CheckFailed) as caught:
        check(name, function, hidden=hidden)
    return str(caught.value)


def changed(reference: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *args: change(reference(*args))


def test_text_says_call_place_and_section() -> None:
    text = feedback("rnn_step", changed(rnn.rnn_step, lambda h: h + 0.1 * (h > 2) + 0.5 * (h < 0)))
    assert text.startswith("rnn_step is not right yet.\nCalled as rnn_step(x_t (B=3, D=2), ")
    assert "First at h[" in text
    assert "expected about" in text
    assert 'Reread: chapter 2, "One step"' in text


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda h: -h, "times -1, so the sign is wrong"),
        (lambda h: 2 * h, "times 2"),
        (lambda h: h * h.shape[1], "times B, the batch size"),
        (lambda h: h / len(h), "times 1/T with T the number of steps"),
        (lambda h: 1.37 * h, "times a constant factor"),
        (lambda h: h + 3.0, "plus a constant"),
        (lambda h: np.roll(h, 1, axis=0), "lags one step behind"),
        (lambda h: np.roll(h, -1, axis=0), "one step ahead"),
        (lambda h: h[::-1], "reverse order"),
        (lambda h: 0 * h, "every entry is 0"),
        (lambda h: h * (np.arange(len(h)) > 0)[:, None, None], "only the first step is wrong"),
        (lambda h: h * (np.arange(len(h)) < 1)[:, None, None], "only the first step is right"),
        (lambda h: np.abs(h), "except for signs"),
    ],
)
def test_pattern_is_recognised(change: Callable[[Any], Any], pattern: str) -> None:
    text = feedback("rnn_forward", changed(rnn.rnn_forward, change))
    assert any(line.startswith("Pattern:") and pattern in line for line in text.splitlines()), text


def test_transposed_output_is_recognised() -> None:
    def transposed(*args: Any) -> Any:
        dx, dh, dW_xh, dW_hh, db = bptt.rnn_step_backward(*args)
        return dx, dh, dW_xh.T, dW_hh, db

    text = feedback("rnn_step_backward", transposed)
    assert "dW_xh has shape (2, 4), expected (4, 2)" in text
    assert "Pattern: it is transposed" in text
    assert "Wrong: dW_xh. Right: dx, dh_prev, dW_hh, db_h." in text


def test_feedback_says_when_only_one_sequence_works() -> None:
    def only_first(*args: Any) -> Any:
        h = rnn.rnn_forward(*args)
        h[:, 1:] = 0.5
        return h

    assert "It is right only when there is one sequence (B = 1)." in feedback(
        "rnn_forward", only_first
    )


def test_missing_and_extra_keys_are_named() -> None:
    def without_b(*args: Any) -> Any:
        clipped = clipping.clip_by_value(*args)
        clipped.pop(next(iter(clipped)))
        return clipped

    def with_more(*args: Any) -> Any:
        return {**clipping.clip_by_value(*args), "extra": np.ones(2)}

    assert "without the key 'W_xh'" in feedback("clip_by_value", without_b)
    assert "extra" in feedback("clip_by_value", with_more)
    assert "extra" not in feedback("clip_by_value", with_more, hidden=True)


def test_wrong_number_of_values() -> None:
    text = feedback("rnn_step_backward", lambda *a: bptt.rnn_step_backward(*a)[:4])
    assert "returned 4 values, but 5 (dx, dh_prev, dW_xh, dW_hh, db_h) are expected" in text


def test_one_array_where_two_are_expected_is_not_counted_by_its_rows() -> None:
    text = feedback("lstm_step", lambda *a: gates.lstm_step(*a)[0])
    assert "returned one array of shape (3, 4) where 2 values (h, c) are expected." in text
    assert "3 values" not in text


def test_a_single_item_is_no_plural() -> None:
    text = feedback("stream_batches", lambda *a: list(sequences.stream_batches(*a))[:1])
    assert "returned 1 value, but " in text


def test_many_missing_keys_are_counted() -> None:
    text = feedback("ngram_counts", lambda tokens, n: {})
    assert re.search(r"without the keys (\(\d, \d, \d\), ){4}\(\d, \d, \d\) and \d+ more\.", text)


def test_a_mistake_is_recognised_by_numpy_keys_too() -> None:
    def last_missing(tokens: Any, n: int) -> dict[Any, int]:
        return dict(Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n)))

    def with_tails(tokens: Any, n: int) -> dict[Any, int]:
        return dict(Counter(tuple(tokens[i : i + n]) for i in range(len(tokens))))

    assert "[last-missing]" in feedback("ngram_counts", last_missing)
    text = feedback("ngram_counts", with_tails)
    assert "[short-tails]" in text
    assert "np.int64" not in text


def test_no_factor_is_read_into_a_count_or_into_the_wrong_dtype() -> None:
    def strictly_above(norms: Any, threshold: float) -> int:
        return max((k for k, norm in enumerate(norms) if norm > threshold), default=0)

    text = feedback("memory_horizon", strictly_above)
    assert "Yours is 1, expected 2." in text
    assert "Pattern" not in text
    floats = changed(decoding.shift_right, lambda inputs: inputs.astype(float))
    text = feedback("shift_right", floats)
    assert "an integer is expected" in text
    assert "Pattern" not in text


def test_one_value_where_five_are_expected() -> None:
    text = feedback("rnn_step_backward", lambda *a: 1.0)
    assert "one value where 5 values (dx, " in text


def test_nan_is_named() -> None:
    text = feedback("rnn_step", changed(rnn.rnn_step, lambda h: h * np.nan))
    assert "h holds NaN (12 of 12 entries are not finite)" in text


def test_floats_for_a_count_are_rejected() -> None:
    text = feedback("count_parameters", lambda *a: float(rnn.count_parameters(*a)))
    assert "an integer is expected" in text


def test_prints_and_warnings_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    def noisy(*args: Any) -> Any:
        for i in range(1000):
            print("line", i)
        warnings.warn("careful", stacklevel=1)
        np.log(np.zeros(2))
        return rnn.rnn_step(*args)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check("rnn_step", noisy)
    shown = capsys.readouterr().out
    assert "printed 1000 lines" in shown
    assert shown.count("line ") < 30
    check("rnn_step", noisy, hidden=True)
    assert capsys.readouterr().out == "rnn_step is right in all 8 hidden calls.\n"


def test_state_between_calls_is_noticed() -> None:
    calls = []

    def remembering(*args: Any) -> Any:
        calls.append(1)
        return rnn.rnn_step(*args) + (0.5 if len(calls) > 5 else 0.0)

    assert "another answer when it was called a second time" in feedback("rnn_step", remembering)


def test_result_stored_by_shape_is_noticed() -> None:
    stored: dict[Any, Any] = {}

    def storing(x_t: Any, h_prev: Any, W_xh: Any, W_hh: Any, b_h: Any) -> Any:
        transposed = stored.setdefault(W_hh.shape, W_hh.T.copy())
        return np.tanh(x_t @ W_xh.T + h_prev @ transposed + b_h)

    sizes = [{**size, "H": 10 + i} for i, size in enumerate(STANDARD_SIZES)]
    exercise = dataclasses.replace(get_exercise("rnn_step"), sizes=sizes)
    verdict = judge(exercise, storing)
    assert "has the shapes of an earlier call and other numbers" in verdict.text
    assert not judge(exercise, storing, hidden=True, seed=1).passed


def test_one_array_for_all_calls_is_noticed() -> None:
    buffers: dict[tuple[int, ...], Any] = {}

    def reusing(x_t: Any, h_prev: Any, *weights: Any) -> Any:
        h = buffers.setdefault(h_prev.shape, np.empty(h_prev.shape))
        h[...] = rnn.rnn_step(x_t, h_prev, *weights)
        return h

    assert "changed what an earlier call had returned" in feedback("rnn_step", reusing)


def test_result_stored_under_one_argument_is_noticed() -> None:
    stored: dict[bytes, Any] = {}

    def storing(x_t: Any, h_prev: Any, W_xh: Any, W_hh: Any, b_h: Any) -> Any:
        return stored.setdefault(x_t.tobytes(), rnn.rnn_step(x_t, h_prev, W_xh, W_hh, b_h))

    assert "but for the last one" in feedback("rnn_step", storing)
    assert not judge(get_exercise("rnn_step"), storing, hidden=True, seed=1).passed


def test_endless_loop_ends() -> None:
    def endless(*args: Any) -> Any:
        while True:
            with contextlib.suppress(Exception):
                time.sleep(0.01)

    start = time.monotonic()
    verdict = judge(get_exercise("rnn_step"), endless, limit=0.3)
    assert time.monotonic() - start < 5
    assert "did not finish in time" in verdict.text


def test_not_a_function() -> None:
    assert "rnn_step is not a function but a ndarray" in feedback("rnn_step", np.ones(3))  # type: ignore[arg-type]


def test_unknown_exercise() -> None:
    with pytest.raises(KeyError):
        check("no_such_function", max)


def test_stored_answers_fail_the_hidden_check() -> None:
    """A table of the visible answers passes the visible check and no hidden one."""
    exercise = get_exercise("rnn_step")
    stored: dict[bytes, Any] = {}

    def recording(*args: Any) -> Any:
        return stored.setdefault(b"".join(a.tobytes() for a in args), rnn.rnn_step(*args))

    assert judge(exercise, recording).passed

    def replaying(*args: Any) -> Any:
        return stored.get(b"".join(a.tobytes() for a in args), np.zeros(args[1].shape))

    assert judge(exercise, replaying).passed
    assert not judge(exercise, replaying, hidden=True).passed


class Remote:
    """A callable that works on copies and tells afterwards what became of them."""

    is_remote_object = True
    remote_type_name = "function"

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.call_and_return_arguments(*args)[0]

    def call_and_return_arguments(self, *args: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        copies = tuple(a.copy() if isinstance(a, np.ndarray) else a for a in args)
        return self.function(*copies), copies, {}


def test_proxies_are_judged_like_functions() -> None:
    exercise = get_exercise("rnn_step")
    assert judge(exercise, Remote(rnn.rnn_step)).passed
    for mistake in exercise.mistakes:
        verdict = judge(exercise, Remote(mistake.codes[0]), hidden=True)
        assert verdict.mistake is mistake


def test_remote_results_get_their_sentence() -> None:
    class Far:
        is_remote_object = True

        def __init__(self, kind: str) -> None:
            self.remote_type_name = kind

    exercise = get_exercise("rnn_step")
    for kind, sentence in (
        ("generator", "a generator object"),
        ("ndarray", "array of Python objects"),
        ("Tensor", "a PyTorch tensor"),
        ("Secret123", "neither a number nor an array"),
    ):
        text = judge(exercise, Remote(lambda *args, k=kind: Far(k)), hidden=True).text
        assert sentence in text
        assert "Secret" not in text


def test_feedback_replaces_the_traceback() -> None:
    try:
        check("rnn_step", lambda *args: None)
    except CheckFailed as error:
        (shown,) = error._render_traceback_()
        assert shown.startswith("CheckFailed: rnn_step is not right yet.\n")
        assert " ".join(shown.split()) == " ".join(f"CheckFailed: {error}".split())


def test_lines_fit_a_narrow_screen() -> None:
    with pytest.raises(CheckFailed) as caught:
        check("rnn_backward", lambda *args: None)
    (shown,) = caught.value._render_traceback_()
    assert max(map(len, str(caught.value).splitlines())) > 100
    assert max(map(len, shown.splitlines())) <= 78
    assert "h0 (B=3, H=4),\n  h (T=5, B=3, H=4)," in shown  # no shape is torn apart


def test_one_factor_in_all_calls_is_recognised() -> None:
    text = feedback("mase", changed(metrics.mase, lambda value: 7.3 * value))
    assert (
        "Pattern: it is the right one times the same factor in every call that fails: 7.3." in text
    )
    hidden = feedback("mase", changed(metrics.mase, lambda value: 7.3 * value), hidden=True)
    assert "the same factor in every call that fails." in hidden
    text = feedback("count_parameters", lambda *a: float(rnn.count_parameters(*a)))
    assert "Pattern" not in text


def test_feedback_shows_short_lists_and_what_is_special_only_if_visible() -> None:
    def first_crossing(norms: Any, threshold: float) -> int:
        below = np.flatnonzero(norms < threshold)
        return int(below[0] - 1) if below.size and below[0] else int(norms.size - 1)

    text = feedback("memory_horizon", first_crossing)
    assert "Called as memory_horizon(norms=[" in text
    assert "\nThis call is special: " in text
    assert "calls are right." in text
    assert "norms=[" not in feedback("memory_horizon", first_crossing, hidden=True)


def test_a_near_miss_is_told_by_its_distance() -> None:
    text = feedback("rnn_step", changed(rnn.rnn_step, lambda h: h + 1e-3))
    assert ", off by 0.001." in text


def test_words_are_quoted() -> None:
    text = feedback("diagnose", lambda norms, tolerance: "Healthy")
    assert "Yours is 'Healthy', expected '" in text
    assert "expected" not in feedback("diagnose", lambda n, t: "Healthy", hidden=True)


def test_values_of_a_wrong_kind_never_end_in_a_traceback() -> None:
    """Where a property is checked, the check itself must not stumble over odd values."""
    odd: list[Any] = ["text", True, [1], np.array(["a", "b"]), {}, [[1, 2], [3]], -1, 1e400]
    for value in odd:
        weights = {**rnn.parity_weights(), "b_h": value}
        text = feedback("parity_weights", lambda w=weights: w)
        assert "parity_weights is not right yet" in text
    for value in odd:
        text = feedback("rnn_step_backward", lambda *args, v=value: [v] * 5)
        assert "rnn_step_backward is not right yet" in text


def test_results_reach_a_property_check_as_plain_data() -> None:
    class Liar(np.ndarray):
        """Claims to be equal to everything."""

        def __eq__(self, other: object) -> Any:
            return np.ones(self.shape, bool)

        def argmax(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("the check used the student's own method")

    wrong = {name: np.zeros_like(w).view(Liar) for name, w in rnn.parity_weights().items()}
    assert "The parity is wrong for" in feedback("parity_weights", lambda: wrong)


def test_hidden_inputs_and_sizes_are_new_every_time() -> None:
    seen: list[list[Any]] = []

    def recording(*args: Any) -> Any:
        seen[-1].append(args[0])
        return rnn.rnn_forward(*args)

    for _ in range(4):
        seen.append([])
        check("rnn_forward", recording, hidden=True)
    firsts = [run[0] for run in seen]
    assert len({a.tobytes() for a in firsts}) == 4
    assert len({a.shape for a in firsts}) > 1
    seen.append([])
    check("rnn_forward", recording)
    seen.append([])
    check("rnn_forward", recording)
    for one, two in zip(*seen[-2:], strict=True):
        np.testing.assert_array_equal(one, two)
