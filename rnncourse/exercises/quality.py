"""Measure the checks: do they catch wrong solutions, name known mistakes, and spare right ones?

``python -m rnncourse.exercises.quality [ASSIGNMENT or FUNCTION ...]`` prints a Markdown table.
Wrong solutions are the bank of known mistakes and the mutants of the model answers in solutions/;
right ones are the variants in the specs and generic ones made here. A mutant counts as equivalent,
and is left out, if it agrees with the reference on many random inputs, scaled and thinned at
random.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rnncourse.exercises.checking import judge
from rnncourse.exercises.diagnosis import compare
from rnncourse.exercises.mutants import mutants
from rnncourse.exercises.outcome import run_case
from rnncourse.exercises.registry import ASSIGNMENTS, exercises_of, get_exercise
from rnncourse.exercises.spec import Case, Exercise

ROOT = Path(__file__).resolve().parents[2]
HIDDEN_SEEDS = range(5)
MUTANT_LIMIT = 1.0  # seconds until a mutant that does not end counts as caught


@dataclass
class Quality:
    """What was measured for one function."""

    name: str
    mistakes: int = 0
    forms: int = 0
    rejected: int = 0
    named: int = 0
    misnamed: int = 0
    mutants: int = 0
    equivalent: int = 0
    killed: int = 0
    variants: int = 0
    false_rejects: int = 0
    milliseconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def kill_rate(self) -> float:
        """Share of the non-equivalent mutants that are rejected."""
        total = self.mutants - self.equivalent
        return self.killed / total if total else 1.0


def model_namespace(assignment: str) -> tuple[dict[str, Any], dict[str, ast.FunctionDef]]:
    """Run the solution notebook's definitions and return its names and its solution functions.

    Parameters
    ----------
    assignment : str

    Returns
    -------
    namespace : dict
    functions : dict of ast.FunctionDef
        Syntax trees of the functions in the solution cells.

    Raises
    ------
    FileNotFoundError
        If there is no such notebook.
    """
    path = ROOT / "solutions" / assignment / f"{assignment}.ipynb"
    notebook = json.loads(path.read_text())
    namespace: dict[str, Any] = {"__name__": "model_answers"}
    functions: dict[str, ast.FunctionDef] = {}
    for cell in notebook["cells"]:
        role = cell["metadata"].get("nbgrader", {})
        if cell["cell_type"] != "code" or not role or role["grade"]:
            continue
        source = "".join(cell["source"])
        exec(compile(source, f"<{assignment}>", "exec"), namespace)
        if role["solution"]:
            for node in ast.parse(source).body:
                if isinstance(node, ast.FunctionDef):
                    functions[node.name] = node
    return namespace, functions


def _map(value: Any, change: Callable[[Any], Any], outer: type = tuple) -> Any:
    """Apply `change` to every array or number of a result."""
    if isinstance(value, dict):
        return {key: _map(item, change) for key, item in value.items()}
    if isinstance(value, tuple):
        return outer(_map(item, change) for item in value)
    if isinstance(value, list):
        return [_map(item, change) for item in value]
    return change(value)


def _strided(a: Any) -> Any:
    a = np.asarray(a)
    if not a.ndim:
        return a
    big = np.zeros((*a.shape, 2), a.dtype)
    big[..., 1] = a
    return big[..., 1]


def _frozen(a: Any) -> Any:
    if isinstance(a, np.ndarray):
        a = a.copy()
        a.setflags(write=False)
    return a


class _Subclass(np.ndarray):
    """An array type of somebody's own."""


def _as_single(a: Any) -> Any:
    floating = isinstance(a, np.ndarray | np.floating) and a.dtype.kind == "f"
    return a.astype(np.float32) if floating else a


RESULTS: dict[str, Callable[[Any], Any]] = {
    "non-contiguous result": _strided,
    "Fortran-ordered result": lambda a: np.asfortranarray(a) if np.ndim(a) else a,
    "reversed view": lambda a: a[::-1].copy()[::-1] if isinstance(a, np.ndarray) and a.ndim else a,
    "read-only result": _frozen,
    "nested lists": lambda a: a.tolist() if isinstance(a, np.ndarray | np.generic) else a,
    "0-d arrays for numbers": lambda a: np.asarray(a) if isinstance(a, float | int) else a,
    "subclass of ndarray": lambda a: a.view(_Subclass) if isinstance(a, np.ndarray) else a,
}
ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    "read-only arguments": _frozen,
    "non-contiguous arguments": lambda a: _strided(a) if isinstance(a, np.ndarray) else a,
    "Fortran-ordered arguments": lambda a: np.asfortranarray(a) if isinstance(a, np.ndarray) else a,
}


def generic_variants(
    exercise: Exercise, model: Callable[..., Any]
) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield ways in which a right solution may look unusual without being wrong."""

    class Solution:
        def __call__(self, *args: Any) -> Any:
            return model(*args)

        def method(self, *args: Any) -> Any:
            return model(*args)

    def loud(*args: Any) -> Any:
        for i in range(300):
            print("step", i)
        return model(*args)

    def warning(*args: Any) -> Any:
        warnings.warn("this is deprecated", DeprecationWarning, stacklevel=2)
        np.log(np.zeros(1))
        return model(*args)

    def extra(*args: Any, verbose: bool = False, **options: Any) -> Any:
        return model(*args)

    yield "callable object", Solution()
    yield "bound method", Solution().method
    yield "partial", functools.partial(model)
    yield "lambda", lambda *args: model(*args)
    yield "prints", loud
    yield "warns", warning
    yield "extra keyword arguments", extra
    for name, change in ARGUMENTS.items():
        yield name, lambda *args, change=change: model(*(_map(a, change) for a in args))
    if exercise.iterator:
        return
    for name, change in RESULTS.items():
        yield name, lambda *args, change=change: _map(model(*args), change)
    if len(exercise.returns) > 1:
        yield "list of outputs", lambda *args: _map(model(*args), lambda a: a, outer=list)
    if exercise.float32:
        yield "single precision result", lambda *args: _map(model(*args), _as_single)
        yield (
            "single precision inside",
            lambda *args: _map(model(*(_map(a, _as_single) for a in args)), _as_single),
        )


def measure(exercise: Exercise, with_mutants: bool = True) -> Quality:
    """Measure the checks of one exercise.

    Parameters
    ----------
    exercise : Exercise
    with_mutants : bool
        Whether to try mutants too, which takes longest.
    """
    report = Quality(exercise.name, mistakes=len(exercise.mistakes))
    namespace, functions = model_namespace(exercise.assignment)
    _measure_bank(exercise, report)
    _measure_variants(exercise, namespace[exercise.name], report)
    _measure_time(exercise, namespace[exercise.name], report)
    if with_mutants:
        _measure_mutants(exercise, functions[exercise.name], namespace, report)
    return report


def _measure_named(name: str) -> Quality:
    return measure(get_exercise(name))


def _measure_bank(exercise: Exercise, report: Quality) -> None:
    for mistake in exercise.mistakes:
        for i, code in enumerate(mistake.codes):
            verdicts = [judge(exercise, code)]
            verdicts += [judge(exercise, code, hidden=True, seed=s) for s in HIDDEN_SEEDS]
            report.forms += 1
            label = f"{mistake.id} (form {i + 1})"
            if any(v.passed for v in verdicts):
                report.notes.append(f"not rejected: {label}")
                continue
            report.rejected += 1
            names = {v.mistake.id if v.mistake else "" for v in verdicts}
            if names == {mistake.id}:
                report.named += 1
            elif names - {mistake.id, ""}:
                report.misnamed += 1
                report.notes.append(f"named wrongly: {label} as {sorted(names)}")
            else:
                report.notes.append(f"not named: {label}")


def _measure_variants(exercise: Exercise, model: Callable[..., Any], report: Quality) -> None:
    with suppress(ImportError):
        import torch  # noqa: F401 - before a time limit runs
    variants = [(v.id, v.code) for v in exercise.variants]
    variants += [("model answer", model), *generic_variants(exercise, model)]
    for name, code in variants:
        report.variants += 1
        verdicts = [judge(exercise, code)]
        verdicts += [judge(exercise, code, hidden=True, seed=s) for s in HIDDEN_SEEDS]
        wrong = [v.text for v in verdicts if not v.passed]
        if wrong:
            report.false_rejects += 1
            report.notes.append(f"rejected though right: {name}: {wrong[0]}")


def _measure_time(exercise: Exercise, model: Callable[..., Any], report: Quality) -> None:
    times = []
    for seed in range(7):
        start = time.perf_counter()
        judge(exercise, model)
        judge(exercise, model, hidden=True, seed=seed)
        times.append(time.perf_counter() - start)
    report.milliseconds = 1000 * statistics.median(times)


def _measure_mutants(
    exercise: Exercise, tree: ast.FunctionDef, namespace: dict[str, Any], report: Quality
) -> None:
    for words, mutant in mutants(tree):
        code = build(mutant, namespace)
        report.mutants += 1
        if is_killed(exercise, code):
            report.killed += 1
        elif is_equivalent(exercise, code):
            report.equivalent += 1
        else:
            report.notes.append(f"survives: {words}")


def build(function: ast.FunctionDef, namespace: dict[str, Any]) -> Callable[..., Any]:
    """Return the function that a syntax tree stands for; it sees its own copy of `namespace`."""
    names = dict(namespace)
    module = ast.Module([function], type_ignores=[])
    exec(compile(module, "<mutant>", "exec"), names)
    return names[function.name]


def is_killed(exercise: Exercise, code: Callable[..., Any]) -> bool:
    """Say whether the visible or the hidden check rejects a solution."""
    return (
        not judge(exercise, code, limit=MUTANT_LIMIT, explain=False).passed
        or not judge(exercise, code, hidden=True, seed=0, limit=MUTANT_LIMIT, explain=False).passed
    )


def is_equivalent(exercise: Exercise, code: Callable[..., Any], seeds: int = 40) -> bool:
    """Say whether a solution agrees with the reference on many random inputs.

    The inputs are the cases of fresh seeds and, besides, the same with arrays scaled by powers of
    ten and with entries set to zero. Inputs that the reference refuses are left out.
    """
    strict = Exercise(**{**vars(exercise), "rtol": 1e-6, "atol": 1e-9})
    for seed in range(1000, 1000 + seeds):
        rng = np.random.default_rng(seed)
        for case in exercise.cases(rng, fresh_sizes=True):
            for wild in (False, True) if exercise.verify is None else (False,):
                chosen = Case(tuple(_disturb(a, rng) for a in case.args)) if wild else case
                want, _ = run_case(exercise, exercise.reference, chosen)
                if want.problem or not _finite(want.leaves):
                    continue
                got, _ = run_case(exercise, code, chosen, like=want.result, limit=MUTANT_LIMIT)
                if compare(strict, chosen, want, got):
                    return False
    return True


def _finite(leaves: dict[str, Any] | None) -> bool:
    return all(a.dtype.kind not in "fc" or np.isfinite(a).all() for a in (leaves or {}).values())


def _disturb(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, dict):
        return {key: _disturb(item, rng) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        keep = rng.random(value.shape) < rng.choice([0.3, 0.8, 1.0])
        return value * keep * 10.0 ** rng.integers(-3, 2)
    return value


def table(reports: Sequence[Quality]) -> str:
    """Return the measurements as a Markdown table with a line of totals."""
    lines = [
        "| function | known mistakes (forms) | rejected | named | named wrongly | mutants "
        "| of them equivalent | killed | right variants | rejected | ms |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    total = Quality("**all**")
    for r in reports:
        lines.append(_row(r))
        for name in (
            "mistakes",
            "forms",
            "rejected",
            "named",
            "misnamed",
            "mutants",
            "equivalent",
            "killed",
            "variants",
            "false_rejects",
        ):
            setattr(total, name, getattr(total, name) + getattr(r, name))
    total.milliseconds = statistics.median(r.milliseconds for r in reports)
    return "\n".join([*lines, _row(total)])


def _row(r: Quality) -> str:
    return (
        f"| {r.name} | {r.mistakes} ({r.forms}) | {r.rejected / max(r.forms, 1):.0%} "
        f"| {r.named / max(r.rejected, 1):.0%} | {r.misnamed / max(r.rejected, 1):.0%} "
        f"| {r.mutants} | {r.equivalent} | {r.kill_rate:.1%} | {r.variants} | {r.false_rejects} "
        f"| {r.milliseconds:.0f} |"
    )


def misses(reports: Sequence[Quality]) -> list[str]:
    """Return a sentence for each target that is not reached."""
    found = []
    for r in reports:
        if r.kill_rate < 0.98:
            found.append(f"{r.name}: {r.kill_rate:.1%} of the mutants are killed, 98 % is the aim")
        if r.rejected < r.forms:
            found.append(f"{r.name}: {r.forms - r.rejected} known mistakes pass")
        if r.false_rejects:
            found.append(f"{r.name}: {r.false_rejects} right variants are rejected")
        if r.variants < 10:
            found.append(f"{r.name}: {r.variants} right variants are tried, 10 is the aim")
    rejected = max(sum(r.rejected for r in reports), 1)
    if sum(r.named for r in reports) < 0.9 * rejected:
        found.append("fewer than 90 % of the known mistakes are named")
    if sum(r.misnamed for r in reports) > 0.01 * rejected:
        found.append("more than 1 % of the known mistakes are named wrongly")
    alive = sum(r.mutants - r.equivalent for r in reports)
    if sum(r.killed for r in reports) < 0.99 * alive:
        found.append("fewer than 99 % of all mutants are killed")
    if statistics.median(r.milliseconds for r in reports) > 100:
        found.append("a check takes more than 100 ms in the median")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="assignments or functions; all without")
    parser.add_argument("--notes", action="store_true", help="list what is not as it should be")
    options = parser.parse_args(argv)
    chosen = [
        exercise
        for assignment in ASSIGNMENTS
        for exercise in exercises_of(assignment).values()
        if not options.names or {assignment, exercise.name} & set(options.names)
    ]
    if not chosen:
        print(f"nothing is called {' '.join(options.names)}", file=sys.stderr)
        return 2
    reports = []
    with ProcessPoolExecutor() as pool:
        for number, report in enumerate(pool.map(_measure_named, [e.name for e in chosen]), 1):
            print(f"[{number}/{len(chosen)}] {report.name}", file=sys.stderr, flush=True)
            reports.append(report)
    print(table(reports))
    for report in reports if options.notes else ():
        for note in report.notes:
            print(f"\n- {report.name}: {note}")
    wrong = misses(reports)
    print("\n" + ("\n".join(f"- {sentence}" for sentence in wrong) or "All targets are reached."))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
