"""Compare a student's function with the reference and put the verdict into words."""

from __future__ import annotations

import dataclasses
import os
import re
import textwrap
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnncourse.exercises.diagnosis import (
    A_FACTOR,
    ONE_FACTOR,
    Finding,
    common_pattern,
    compare,
    describe_call,
    factor_of,
    only_when,
    same_answer,
    same_kinds,
    sizes_of_case,
)
from rnncourse.exercises.outcome import NOT_WRITTEN, Outcome, is_remote, run_case
from rnncourse.exercises.spec import Case, Exercise, Mistake

_SHAPE = re.compile(r"\w+:? \([^()]*\)")  # of an argument, as in x (T=5, B=3)
_SUM = re.compile(r"(?<=\w) ([-+]) (?=\w)")  # as in t - 1
_NO_BREAK = "\N{NO-BREAK SPACE}"
TIME_LIMIT = 30.0  # generous, since a first import of torch may stand in the function


@dataclass
class Verdict:
    """Result of a check.

    Attributes
    ----------
    passed : bool
    text : str
        Feedback for the student.
    mistake : Mistake or None
        The known mistake that the answer equals.
    calls : int
        Number of calls compared.
    printed : str
        What the function printed, shortened.
    """

    passed: bool
    text: str
    mistake: Mistake | None = None
    calls: int = 0
    printed: str = ""


def judge(
    exercise: Exercise,
    function: Callable[..., Any],
    *,
    hidden: bool = False,
    seed: int | None = None,
    limit: float = TIME_LIMIT,
    explain: bool = True,
) -> Verdict:
    """Check `function` and return the verdict.

    Parameters
    ----------
    exercise : Exercise
    function : callable
    hidden : bool
        Draw cases from fresh randomness, and keep inputs and expected values out of the text.
    seed : int, optional
        Seed of the cases, for tests. Visible checks always use the same cases without it.
    limit : float
        Seconds after which a call is stopped, where that is possible.
    explain : bool
        Whether to look for the known mistake and write the feedback; it costs time.
    """
    if not callable(function):
        return Verdict(False, f"{exercise.name} is not a function but a {_kind(function)}.")
    if seed is None:
        seed = int.from_bytes(os.urandom(16)) if hidden else zlib.crc32(exercise.name.encode())
    cases = list(exercise.cases(np.random.default_rng(seed), fresh_sizes=hidden))
    expected = [run_case(exercise, exercise.reference, case)[0] for case in cases]
    got: list[Outcome] = []
    printed = ""
    for case, want in zip(cases, expected, strict=True):
        outcome, text = run_case(exercise, function, case, like=want.result, limit=limit)
        got.append(outcome)
        printed = printed or text
        if outcome.slow:
            break
    findings = [compare(exercise, *triple) for triple in zip(cases, expected, got, strict=False)]
    if not any(findings):
        sentence = _what_survives(exercise, function, cases[0], expected[0], seed, limit)
        calls = len(cases) + (3 if _independent(exercise) else 2)
        if not sentence:
            return Verdict(True, "", calls=calls, printed=printed)
        lines = [_headline(exercise, hidden), sentence, _reread(exercise.section)]
        return Verdict(False, "\n".join(lines), calls=calls, printed=printed)
    if not explain:
        return Verdict(False, "", calls=len(cases))
    mistake = None
    if not got[-1].slow:
        mistake = recognise(exercise, cases, expected, got)
    text = _feedback(exercise, cases, findings, mistake, hidden)
    return Verdict(False, text, mistake, len(cases), printed)


def _what_survives(
    exercise: Exercise,
    function: Callable[..., Any],
    case: Case,
    expected: Outcome,
    seed: int,
    limit: float,
) -> str:
    """Call again, with the same arguments and with others of their sizes; return what is wrong."""
    returned: list[Any] = []

    def noted(*args: Any) -> Any:
        returned.append(function(*args))
        return returned[-1]

    again = function if is_remote(function) else noted
    got, _ = run_case(exercise, again, case, like=expected.result, limit=limit)
    if compare(exercise, case, expected, got):
        return (
            f"{exercise.name} gave another answer when it was called a second time with the same "
            "arguments: something survives between calls, such as a global variable or a mutable "
            "default argument."
        )
    arrays = [(array, array.copy()) for array in _arrays_in(returned)]
    twin = exercise.twin(case, np.random.default_rng([seed, 1]))
    twins = {"the shapes of an earlier call and other numbers": twin}
    if _independent(exercise):
        mixed = dataclasses.replace(case, args=(*case.args[:-1], twin.args[-1]))
        twins["the arguments of an earlier call but for the last one"] = mixed
    for words, other in twins.items():
        expected, _ = run_case(exercise, exercise.reference, other)
        got, _ = run_case(exercise, function, other, like=expected.result, limit=limit)
        if compare(exercise, other, expected, got):
            return (
                f"{exercise.name} is right in all calls but one, which has {words}: something "
                "survives between calls, such as a stored result or a global variable."
            )
    if any(not np.array_equal(now, before, equal_nan=True) for now, before in arrays):
        return (
            f"A later call of {exercise.name} changed what an earlier call had returned: both "
            "return the same array. Make a new one in every call."
        )
    return ""


def _arrays_in(value: Any) -> list[np.ndarray[Any, Any]]:
    """Return the arrays of numbers inside nested lists, tuples and dicts."""
    if isinstance(value, np.ndarray):
        return [value] if value.dtype.kind in "biufc" else []
    if isinstance(value, dict):
        return _arrays_in(list(value.values()))
    if isinstance(value, list | tuple):
        return [array for part in value for array in _arrays_in(part)]
    return []


def _independent(exercise: Exercise) -> bool:
    """Say whether there are arguments, each drawn for itself."""
    return exercise.draw is None and bool(exercise.axes)


def recognise(
    exercise: Exercise, cases: list[Case], expected: list[Outcome], got: list[Outcome]
) -> Mistake | None:
    """Return the one known mistake that gives these very answers in every case, or None."""
    answers = [
        fingerprint(exercise, case, outcome) for case, outcome in zip(cases, got, strict=True)
    ]
    if all(answer.leaves is None and answer.raw is None for answer in answers):
        return None  # an exception in every call fits too many mistakes
    matching = [
        mistake
        for mistake in exercise.mistakes
        if any(_gives(exercise, code, cases, expected, answers) for code in mistake.codes)
    ]
    return matching[0] if len(matching) == 1 else None


def _gives(
    exercise: Exercise,
    code: Callable[..., Any],
    cases: list[Case],
    expected: list[Outcome],
    answers: list[Outcome],
) -> bool:
    """Say whether `code` gives these answers in every case."""
    for case, want, answer in zip(cases, expected, answers, strict=True):
        wrong, _ = run_case(exercise, code, case, like=want.result)
        mark = fingerprint(exercise, case, wrong)
        if not (same_answer(answer, mark) and same_kinds(answer, mark, want)):
            return False
    return True


def fingerprint(exercise: Exercise, case: Case, outcome: Outcome) -> Outcome:
    """Return what identifies the answer to one case."""
    if exercise.fingerprint is None or outcome.leaves is None:
        return outcome
    try:
        marks = np.asarray(exercise.fingerprint(outcome.result, *case.args))
    except (TypeError, ValueError, IndexError, KeyError):
        return outcome
    return Outcome(leaves={"fingerprint": marks}, modified=outcome.modified)


def wrapped(text: str, width: int = 78) -> str:
    """Break long lines between words, or between the arguments of a call, for a narrow screen.

    Examples
    --------
    >>> print(wrapped("Called as f(x (T=5, B=3), h0 (B=3)).", width=26))
    Called as f(x (T=5, B=3),
      h0 (B=3)).
    """
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("Called as "):
            line = _SHAPE.sub(lambda match: match[0].replace(" ", _NO_BREAK), line)
        line = _SUM.sub(rf"{_NO_BREAK}\1{_NO_BREAK}", line)
        lines += textwrap.wrap(
            line, width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
        )
    return "\n".join(lines).replace(_NO_BREAK, " ")


def _kind(value: object) -> str:
    kind = type(value).__name__
    return kind if kind in ("int", "float", "str", "list", "tuple", "dict", "ndarray") else "value"


def _reread(section: str) -> str:
    """Return the last line of the feedback.

    Examples
    --------
    >>> _reread("03-bptt: The derivation")
    'Reread: chapter 3, "The derivation"'
    """
    chapter, _, heading = section.partition(": ")
    return f'Reread: chapter {int(chapter.partition("-")[0])}, "{heading}"'


def _headline(exercise: Exercise, hidden: bool) -> str:
    return f"{exercise.name} {'fails a hidden test' if hidden else 'is not right yet'}."


def _feedback(
    exercise: Exercise,
    cases: list[Case],
    findings: list[list[Finding]],
    mistake: Mistake | None,
    hidden: bool,
) -> str:
    failing = [found for found in findings if found]
    first = failing[0][0]
    if NOT_WRITTEN in first.text:
        return f"{first.text} Replace `raise NotImplementedError()` by your code."
    lines = [_headline(exercise, hidden)]
    lines.append(f"Called as {describe_call(exercise, first.case, hidden)}.")
    if first.case.note:
        lines.append(f"This call is special: {first.case.note}.")
    lines.append(first.text)
    if first.detail and not hidden:
        lines.append(first.detail)
    if first.output:
        same_output = [f for found in failing for f in found if f.output == first.output]
        pattern = common_pattern(exercise, same_output, lambda case: sizes_of_case(exercise, case))
        if pattern:
            factor = factor_of(first) if pattern in (A_FACTOR, ONE_FACTOR) else None
            number = "" if factor is None or hidden else f": {factor:.3g}"
            here = " in this call" if number and pattern == A_FACTOR else ""
            lines.append(f"Pattern: {pattern}{number}{here}.")
        lines += _other_outputs(exercise, failing)
    lines += [f.text for f in failing[0][1:] if not f.output]
    if len(findings) == len(cases):
        scope = only_when(exercise, cases, [bool(found) for found in findings])
        if scope:
            lines.append(scope)
    section = exercise.section
    if mistake is not None:
        lines += [f"Known mistake [{mistake.id}]: {mistake.title}", mistake.hint]
        section = mistake.section or section
    lines.append(_reread(section))
    return "\n".join(lines)


def _other_outputs(exercise: Exercise, failing: list[list[Finding]]) -> list[str]:
    """Return a line on which of several outputs are right and which are wrong."""
    if len(exercise.returns) < 2:
        return []
    wrong = {f.output.partition("[")[0] for found in failing for f in found if f.output}
    right = [name for name in exercise.output_names if name not in wrong]
    if not right:
        return ["All outputs are wrong."]
    bad = [name for name in exercise.output_names if name in wrong]
    return [f"Wrong: {', '.join(bad)}. Right: {', '.join(right)}."]
