"""Every exercise, those added later too: right solutions pass, known mistakes are named."""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch  # before any time limit runs

from rnncourse.exercises.checking import judge
from rnncourse.exercises.outcome import run_case
from rnncourse.exercises.quality import generic_variants, model_namespace
from rnncourse.exercises.registry import ASSIGNMENTS, all_exercises, exercises_of, get_exercise
from rnncourse.exercises.spec import Exercise

ROOT = Path(__file__).resolve().parents[2]
EXERCISES = all_exercises()
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
BANK = [(e, m, i) for e in EXERCISES for m in e.mistakes for i in range(len(m.codes))]
every_mistake = pytest.mark.parametrize(
    ("exercise", "mistake", "form"), BANK, ids=[f"{e.name}-{m.id}-{i}" for e, m, i in BANK]
)
VARIANTS = [(e, v) for e in EXERCISES for v in e.variants]
every_variant = pytest.mark.parametrize(
    ("exercise", "variant"), VARIANTS, ids=[f"{e.name}-{v.id}" for e, v in VARIANTS]
)


@functools.cache
def namespace_of(assignment: str) -> dict[str, Any]:
    return model_namespace(assignment)[0]


@pytest.fixture
def model(exercise: Exercise) -> Any:
    """The model answer of the exercise's notebook."""
    return namespace_of(exercise.assignment)[exercise.name]


def test_every_assignment_has_a_notebook_and_every_notebook_specs() -> None:
    notebooks = {path.parent.name for path in ROOT.glob("solutions/*/*.ipynb")}
    assert notebooks == set(ASSIGNMENTS)


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_notebook_asks_for_the_functions_of_the_specs_in_order(assignment: str) -> None:
    _, functions = model_namespace(assignment)
    graded = [name for name in functions if name in exercises_of(assignment)]
    assert sorted(graded) == sorted(exercises_of(assignment))


def test_names_are_unique_over_the_course() -> None:
    names = [name for _, names in ASSIGNMENTS.values() for name in names]
    assert len(names) == len(set(names))


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(KeyError, match="did you mean 'rnn_step'"):
        get_exercise("rnn_stp")


@every_exercise
def test_reference_passes(exercise: Exercise) -> None:
    verdict = judge(exercise, exercise.reference)
    assert verdict.passed, verdict.text
    verdict = judge(exercise, exercise.reference, hidden=True)
    assert verdict.passed, verdict.text


@every_exercise
def test_model_answer_passes(exercise: Exercise, model: Any) -> None:
    for hidden in (False, True):
        verdict = judge(exercise, model, hidden=hidden)
        assert verdict.passed, verdict.text


@every_exercise
def test_visible_cases_are_always_the_same_and_hidden_ones_differ(exercise: Exercise) -> None:
    def inputs(seed: int) -> str:
        cases = exercise.cases(np.random.default_rng(seed), fresh_sizes=True)
        with np.printoptions(threshold=10**6, precision=17):
            return re.sub(r"0x[0-9a-fA-F]+", "", repr([case.args for case in cases]))

    assert inputs(1) == inputs(1)
    if any(exercise.axes):
        assert inputs(1) != inputs(2)


@every_exercise
def test_reference_accepts_every_case(exercise: Exercise) -> None:
    for seed in range(3):
        for case in exercise.cases(np.random.default_rng(seed), fresh_sizes=True):
            outcome, _ = run_case(exercise, exercise.reference, case)
            assert not outcome.problem, (outcome.problem, outcome.detail, case.note)
            assert not outcome.modified


@every_mistake
def test_known_mistake_is_rejected_and_named(exercise: Exercise, mistake: Any, form: int) -> None:
    for seed in (None, 11, 12):
        verdict = judge(exercise, mistake.codes[form], hidden=seed is not None, seed=seed)
        assert not verdict.passed
        assert verdict.mistake is mistake, verdict.text
        assert f"\nKnown mistake [{mistake.id}]: {mistake.title}\n" in verdict.text


@every_variant
def test_unusual_solution_passes(exercise: Exercise, variant: Any) -> None:
    for seed in (None, 21, 22):
        verdict = judge(exercise, variant.code, hidden=seed is not None, seed=seed)
        assert verdict.passed, verdict.text


@every_exercise
def test_unusual_forms_of_the_model_answer_pass(exercise: Exercise, model: Any) -> None:
    tried = len(exercise.variants)
    for name, code in generic_variants(exercise, model):
        verdict = judge(exercise, code, hidden=True, seed=31)
        assert verdict.passed, f"{name}: {verdict.text}"
        tried += 1
    assert tried >= 10


@every_exercise
def test_bank_is_large_enough_and_tidy(exercise: Exercise) -> None:
    _, functions = model_namespace(exercise.assignment)
    body = functions[exercise.name].body[1:]
    lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
    assert len(exercise.mistakes) >= (6 if lines > 2 else 4)
    for mistake in exercise.mistakes:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", mistake.id)
        assert mistake.codes
        assert mistake.title[0] == mistake.title[0].strip()
        assert not mistake.title.endswith(".")
        assert mistake.hint.endswith((".", "?"))


@every_exercise
def test_hints_do_not_give_the_answer_away(exercise: Exercise) -> None:
    import ast

    _, functions = model_namespace(exercise.assignment)
    body = functions[exercise.name].body[1:]
    lines = [line.strip() for line in ast.unparse(body).splitlines()]
    for mistake in exercise.mistakes:
        for line in lines:
            if len(line) > 20:
                assert line.removeprefix("return ") not in mistake.hint


@every_exercise
def test_sections_exist_in_the_book(exercise: Exercise) -> None:
    for section in {exercise.section, *(m.section for m in exercise.mistakes if m.section)}:
        chapter, _, heading = section.partition(": ")
        path = ROOT / "book" / f"{chapter}.md"
        assert path.exists(), f"there is no chapter {chapter}"
        headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
        assert heading in headings, f"{path.name} has no section {heading!r}; it has {headings}"


@every_exercise
def test_hidden_feedback_keeps_numbers_to_itself(exercise: Exercise) -> None:
    for mistake in exercise.mistakes:
        text = judge(exercise, mistake.codes[0], hidden=True, seed=41).text
        before_hint = text.partition("\nKnown mistake")[0]
        notes = [c.note for c in exercise.cases(np.random.default_rng(41), fresh_sizes=True)]
        for note in filter(None, notes):
            before_hint = before_hint.replace(note, "")
        assert not re.search(r"\d\.\d|\de-?\d|=-", before_hint), text
        assert "expected about" not in text
        assert "yours" not in before_hint


@pytest.mark.parametrize(
    "exercise", [e for e in EXERCISES if len(e.returns) > 1], ids=lambda e: e.name
)
def test_two_mistakes_in_two_outputs_are_not_named_as_one(exercise: Exercise) -> None:
    """Take one output from one mistake and one from another: that is neither of the two."""

    def wrong_outputs(code: Any) -> set[int] | None:
        wrong: set[int] = set()
        for case in exercise.cases(np.random.default_rng(51), fresh_sizes=True):
            want, _ = run_case(exercise, exercise.reference, case)
            got, _ = run_case(exercise, code, case, like=want.result)
            if got.leaves is None or got.modified:
                return None
            for i, name in enumerate(exercise.output_names):
                pairs = [(want.leaves[k], got.leaves[k]) for k in want.leaves if k.startswith(name)]
                if any(a.shape != b.shape or not np.allclose(a, b) for a, b in pairs):
                    wrong.add(i)
        return wrong

    simple = [(m, wrong_outputs(m.codes[0])) for m in exercise.mistakes]
    single = [(m, w) for m, w in simple if w is not None and len(w) == 1]
    for (first, one), (second, two) in itertools.combinations(single, 2):
        if one == two:
            continue

        def both(*args: Any, a: Any = first, b: Any = second, i: int = min(one)) -> Any:
            left, right = a.codes[0](*args), b.codes[0](*args)
            return tuple(left[k] if k == i else right[k] for k in range(len(left)))

        verdict = judge(exercise, both)
        assert not verdict.passed
        assert verdict.mistake is None, (first.id, second.id)


BAD_RESULTS: dict[str, tuple[Any, str]] = {
    "None": (lambda value: None, "returned None"),
    "generator": (lambda value: (v for v in [value]), "generator"),
    "set": (lambda value: {1, 2}, "returned a set"),
    "function": (lambda value: max, "a function or class"),
    "object": (lambda value: object(), "neither a number nor an array"),
    "object array": (
        lambda value: np.array([None, "a", 3], dtype=object),
        "array of Python objects",
    ),
    "complex": (lambda value: np.ones(3) * 1j, "complex numbers"),
    "text": (lambda value: "0.5", "text where numbers|where a dict|one value where|an array"),
    "ragged list": (lambda value: [[1.0], [2.0, 3.0]], "differ in length|expected|wrong"),
}


@every_exercise
@pytest.mark.parametrize("kind", BAD_RESULTS)
def test_bad_result_gets_its_own_sentence(exercise: Exercise, kind: str) -> None:
    if exercise.iterator and kind == "generator":
        pytest.skip("an iterator is asked for")
    make, sentence = BAD_RESULTS[kind]

    def solution(*args: Any) -> Any:
        return make(args)

    plain_array = len(exercise.returns) == 1 and not isinstance(
        exercise.reference(*next(iter(exercise.cases(np.random.default_rng(0)))).args),
        dict | list | str,
    )
    plain_array = plain_array and not exercise.iterator
    for hidden in (False, True):
        verdict = judge(exercise, solution, hidden=hidden)
        assert not verdict.passed
        assert exercise.name in verdict.text
        if plain_array or kind in ("None", "generator", "set", "function", "object"):
            assert re.search(sentence, verdict.text), verdict.text


@every_exercise
def test_tensor_gets_its_own_sentence(exercise: Exercise) -> None:
    verdict = judge(exercise, lambda *args: torch.ones(3))
    assert "a PyTorch tensor; return a NumPy array" in verdict.text


@every_exercise
def test_exceptions_get_their_own_sentences(exercise: Exercise) -> None:
    def recursive(*args: Any) -> Any:
        return recursive(*args)

    def raising(*args: Any) -> Any:
        raise ValueError("secret 1.2345")

    def blank(*args: Any) -> Any:
        raise NotImplementedError

    def leaving(*args: Any) -> Any:
        raise SystemExit

    assert "called itself until Python gave up" in judge(exercise, recursive).text
    assert "raised ValueError" in judge(exercise, raising).text
    assert "secret" in judge(exercise, raising).text
    assert "secret" not in judge(exercise, raising, hidden=True).text
    assert "is not written yet" in judge(exercise, blank).text
    assert "tried to end the program" in judge(exercise, leaving).text


@every_exercise
def test_changed_argument_is_seen(exercise: Exercise, model: Any) -> None:
    def clear(value: Any) -> bool:
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size:
            value[...] = 7.25
            return True
        if isinstance(value, dict):
            return max(map(clear, value.values()), default=False)
        return False

    touched = []

    def solution(*args: Any) -> Any:
        result = model(*args)
        touched.append(max(map(clear, args), default=False))
        return result

    verdict = judge(exercise, solution)
    if any(touched):
        assert not verdict.passed
        assert "changes its argument" in verdict.text
