"""The measurement of the checks: mutants are killed, and a weak check is found out."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

import numpy as np
import pytest

from rnncourse.exercises.mutants import mutants
from rnncourse.exercises.quality import (
    Quality,
    build,
    is_equivalent,
    is_killed,
    misses,
    model_namespace,
    table,
)
from rnncourse.exercises.registry import all_exercises, get_exercise
from rnncourse.exercises.spec import Exercise

SAMPLE = 12


@pytest.mark.parametrize("exercise", all_exercises(), ids=lambda e: e.name)
def test_sampled_mutants_are_killed_or_equivalent(exercise: Exercise) -> None:
    namespace, functions = model_namespace(exercise.assignment)
    everything = list(mutants(functions[exercise.name]))
    chosen = np.random.default_rng(61).permutation(len(everything))[:SAMPLE]
    for i in chosen:
        words, tree = everything[i]
        code = build(tree, namespace)
        assert is_killed(exercise, code) or is_equivalent(exercise, code, seeds=10), (
            f"{exercise.name}, {words}:\n{ast.unparse(tree.body[1:])}"
        )


def test_mutants_change_one_thing_and_leave_the_original_alone() -> None:
    tree = ast.parse(
        'def f(a, n=2):\n    """Doc 1."""\n'
        "    for t in range(n):\n        a = a[t].T + 1\n    return a"
    ).body[0]
    assert isinstance(tree, ast.FunctionDef)
    before = ast.unparse(tree)
    texts = [ast.unparse(mutant) for _, mutant in mutants(tree)]
    assert ast.unparse(tree) == before
    assert len(texts) == len(set(texts)) > 15
    assert before not in texts
    assert all("Doc 1." in text and "n=2" in text for text in texts)
    for expected in ("a[t] + 1", "a[t].T - 1", "a[t].T + 2", "range(1, n)", "a[t + -1]", "break"):
        assert any(expected in text for text in texts), expected


def test_a_weak_check_lets_mutants_live() -> None:
    """With one call in which B = T = 1 and no memory, half of the mistakes cannot be seen."""
    exercise = get_exercise("rnn_forward")
    weak = dataclasses.replace(
        exercise,
        sizes=({"T": 1, "B": 1, "D": 2, "H": 3, "V": 4},),
        draw=lambda rng, s: (
            rng.standard_normal((1, 1, 2)),
            np.zeros((1, 3)),
            rng.standard_normal((3, 2)),
            rng.standard_normal((3, 3)),
            rng.standard_normal(3),
        ),
    )
    alive = [m.id for m in exercise.mistakes if not is_killed_by_visible(weak, m.codes[0])]
    assert "h0-ignored" in alive
    assert "state-not-carried" in alive


def is_killed_by_visible(exercise: Exercise, code: Any) -> bool:
    from rnncourse.exercises.checking import judge

    return not judge(exercise, code).passed


def test_equivalence_needs_agreement_everywhere() -> None:
    exercise = get_exercise("relative_error")
    assert is_equivalent(exercise, exercise.reference, seeds=2)

    def nearly(a: Any, b: Any) -> Any:
        scale = np.linalg.norm(a) + np.linalg.norm(b)
        return np.linalg.norm(a - b) / scale if scale > 1e-10 else 0.0

    assert is_equivalent(exercise, lambda a, b: 0.0, seeds=2) is False
    assert nearly(np.ones(2), np.ones(2)) == 0


def test_missed_targets_are_said() -> None:
    good = Quality("f", forms=10, rejected=10, named=10, mutants=100, killed=99, variants=12)
    assert misses([dataclasses.replace(good, equivalent=1)]) == []
    bad = Quality(
        "g", forms=10, rejected=9, named=5, misnamed=1, mutants=10, killed=5, variants=3,
        false_rejects=1, milliseconds=500,
    )  # fmt: skip
    assert len(misses([bad])) == 8
    assert "| g | 0 (10) | 90% | 56% | 11% | 10 | 0 | 50.0% | 3 | 1 | 500 |" in table([bad])
