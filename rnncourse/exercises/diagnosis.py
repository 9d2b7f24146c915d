"""Say what is wrong with an answer: where it differs, by which pattern, and which mistake it is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnncourse.exercises.outcome import Leaves, Outcome
from rnncourse.exercises.spec import Case, Exercise

AnyArray = np.ndarray[Any, np.dtype[Any]]

AXIS_NAMES = {
    "T": "the number of steps",
    "B": "the batch size",
    "D": "the input size",
    "H": "the hidden size",
    "V": "the number of classes",
}
A_FACTOR = "it is the right one times a constant factor"
ONE_FACTOR = "it is the right one times the same factor in every call that fails"
SHOWN_ENTRIES = 8  # short lists of numbers can be tried by hand
KIND_NAMES = {"f": "a floating-point number", "i": "an integer", "u": "an integer", "b": "a bool"}


@dataclass
class Finding:
    """What is wrong with the answer to one case."""

    case: Case
    text: str
    detail: str = ""
    output: str = ""
    expected: AnyArray | None = None
    got: AnyArray | None = None


def close(
    got: AnyArray, expected: AnyArray, rtol: float, atol: float, single: bool = False
) -> AnyArray:
    """Compare entry by entry; with `single`, allow for the rounding of single precision."""
    if got.dtype.kind == "U" or expected.dtype.kind == "U":
        return np.asarray(got == expected)
    if single and expected.size:
        finite = np.abs(expected[np.isfinite(expected)])
        atol *= max(1.0, float(finite.max(initial=0.0)))
        if got.dtype.kind == "f" and got.dtype.itemsize <= 4:
            atol *= 20
    with np.errstate(all="ignore"):
        return np.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)


def compare(exercise: Exercise, case: Case, expected: Outcome, got: Outcome) -> list[Finding]:
    """Return what is wrong with an outcome, worst first; an empty list means that it is right."""
    name = exercise.name
    if got.problem:
        return [Finding(case, got.problem, got.detail)]
    findings = []
    if exercise.verify is not None:
        try:
            sentence = exercise.verify(got.result, *case.args)
        except (TypeError, ValueError, IndexError, KeyError):
            sentence = f"{name} returned values of a kind that is not asked for."
        if sentence:
            findings.append(Finding(case, sentence))
    else:
        assert got.leaves is not None and expected.leaves is not None
        findings += _compare_leaves(exercise, case, expected.leaves, got.leaves)
    if got.modified:
        arguments = " and ".join(got.modified)
        findings.append(
            Finding(
                case,
                f"{name} changes its argument {arguments}: the caller's array is another one after "
                "the call. Work on a copy, or write the result into a new array.",
            )
        )
    return findings


def _compare_leaves(exercise: Exercise, case: Case, expected: Leaves, got: Leaves) -> list[Finding]:
    findings = []
    for output, want in expected.items():
        have = got[output]
        sentence = detail = ""
        if have.shape != want.shape:
            sentence = f"{output} has shape {have.shape}, expected {_expected_shape(want)}."
        elif not _same_kind(have, want):
            wanted = KIND_NAMES.get(want.dtype.kind, str(want.dtype))
            sentence = f"{output} has dtype {have.dtype}, but {wanted} is expected."
        else:
            right = close(have, want, exercise.rtol, exercise.atol, exercise.float32)
            if right.all():
                continue
            only = exercise.output_names == (output,) and not want.shape
            sentence, detail = _where("The result" if only else output, have, want, right)
        findings.append(Finding(case, sentence, detail, output, want, have))
    return findings


def _expected_shape(want: AnyArray) -> str:
    return f"{want.shape}" if want.shape else "a single number, shape ()"


def _same_kind(have: AnyArray, want: AnyArray) -> bool:
    allowed = {"f": "iuf", "i": "iu", "u": "iu", "b": "b", "U": "U"}
    return have.dtype.kind in allowed.get(want.dtype.kind, want.dtype.kind)


def _where(output: str, have: AnyArray, want: AnyArray, right: AnyArray) -> tuple[str, str]:
    """Return a sentence on how much differs, and one with values for visible tests."""
    first = tuple(int(i) for i in np.argwhere(~right)[0]) if right.ndim else ()
    bad = int(right.size - np.count_nonzero(right))
    if have.dtype.kind == "f" and not np.isfinite(have).all() and np.isfinite(want).all():
        what = "NaN" if np.isnan(have).any() else "infinity"
        if not have.ndim:
            return f"{output} is {what}.", ""
        count = int(np.count_nonzero(~np.isfinite(have)))
        sentence = f"{output} holds {what} ({count} of {have.size} entries are not finite)."
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(have))[0])
        return sentence, f"First at {output}[{', '.join(map(str, first))}]."
    if right.ndim == 0:
        sentence = f"{output} is wrong."
        where = "Yours"
    else:
        sentence = f"{output} differs in {bad} of {right.size} entries."
        where = f"First at {output}[{', '.join(map(str, first))}]: yours"
    if have.dtype.kind == "U":
        return sentence, f"{where} is {str(have[first])[:60]!r}, expected {str(want[first])!r}."
    yours, theirs = have[first].item(), want[first].item()
    if want.dtype.kind != "f":
        return sentence, f"{where} is {yours}, expected {theirs}."
    if f"{yours:.2g}" == f"{theirs:.2g}":
        return sentence, f"{where} is {yours:.4g}, off by {abs(yours - theirs):.1g}."
    return sentence, f"{where} is {yours:.4g}, expected about {theirs:.2g}."


def patterns(
    want: AnyArray, have: AnyArray, axes: Sequence[str], sizes: Mapping[str, int]
) -> dict[str, bool | None]:
    """Return which patterns turn the right output into the given one.

    Parameters
    ----------
    want, have : ndarray
        Right and given output.
    axes : sequence of str
        Names of the axes of `want`, empty if unknown.
    sizes : dict
        Sizes of the axes of the call.

    Returns
    -------
    dict
        Pattern in words, and whether it holds; None where the case cannot tell.
    """
    found: dict[str, bool | None] = {}
    if want.dtype.kind not in "iuf" or have.dtype.kind not in "iuf":
        return found
    with np.errstate(all="ignore"):
        if want.shape != have.shape:
            _shape_patterns(found, want, have)
            return found
        if not (np.isfinite(want).all() and np.isfinite(have).all()):
            return found
        counts = want.dtype.kind != "f" and want.size == 1  # 1 in place of 2 says nothing of halves
        want, have = want.astype(float), have.astype(float)
        if not counts:
            _factor_patterns(found, want, have, sizes)
        if want.ndim == 2 and want.shape[0] == want.shape[1]:
            found["it is transposed"] = _alike(have, want.T) if len(want) > 1 else None
        if want.ndim and axes and axes[0] == "T":
            _time_patterns(found, want, have)
        _value_patterns(found, want, have)
    return found


def _alike(a: AnyArray, b: AnyArray) -> bool:
    scale = float(np.abs(b).max(initial=0.0))
    return bool(np.allclose(a, b, rtol=1e-4, atol=1e-7 * max(scale, 1e-30)))


def _shape_patterns(found: dict[str, bool | None], want: AnyArray, have: AnyArray) -> None:
    for order in itertools.permutations(range(want.ndim)):
        if want.ndim <= 4 and want.transpose(order).shape == have.shape:
            same = _alike(have, want.transpose(order))
            label = "it is transposed" if want.ndim == 2 else "its axes are in another order"
            found[label] = found.get(label) or same
    if have.ndim == want.ndim + 1:
        for axis in range(have.ndim):
            summed = have.sum(axis=axis)
            if summed.shape == want.shape and _alike(summed, want):
                found["one axis is left that should be summed over"] = True
            if have.shape[axis] == 1 and summed.shape == want.shape and _alike(summed, want):
                found["it has one axis of length 1 too many"] = True
    if have.ndim + 1 == want.ndim:
        for axis in range(want.ndim):
            if want.sum(axis=axis).shape == have.shape and _alike(have, want.sum(axis=axis)):
                found["it is summed over one axis too many"] = True
    if want.shape == () and have.size > 1:
        for label, value in (("sum", have.sum()), ("mean", have.mean())):
            if _alike(np.asarray(value), want):
                found[f"the {label} over all entries is still to be taken"] = True


def _factor_patterns(
    found: dict[str, bool | None], want: AnyArray, have: AnyArray, sizes: Mapping[str, int]
) -> None:
    power = float((want * want).sum())
    if power == 0:
        return
    factor = float((have * want).sum()) / power
    if factor == 0 or not _alike(have, factor * want):
        return
    known: dict[str, float] = {"-1, so the sign is wrong": -1.0, "2": 2.0, "1/2": 0.5}
    for axis, n in sizes.items():
        if n > 1:
            known[f"{axis}, {AXIS_NAMES[axis]}"] = n
            known[f"1/{axis} with {axis} {AXIS_NAMES[axis]}"] = 1 / n
            known[f"√{axis}"] = n**0.5
            known[f"1/√{axis}"] = n**-0.5
    for a, b in itertools.combinations(sizes, 2):
        if sizes[a] > 1 and sizes[b] > 1:
            known[f"{a}·{b}"] = sizes[a] * sizes[b]
            known[f"1/({a}·{b})"] = 1 / (sizes[a] * sizes[b])
    for label, value in known.items():
        if abs(factor / value - 1) < 1e-3:
            found[f"it is the right one times {label}"] = True
    for axis in sizes:  # with one step or one sequence, a factor of its number cannot show
        if sizes[axis] == 1 and abs(factor - 1) < 1e-3:
            found[f"it is the right one times {axis}, {AXIS_NAMES[axis]}"] = None
    if want.size > 1 and abs(factor - 1) > 1e-3:  # else only the kind of number is wrong
        found[A_FACTOR] = True


def _time_patterns(found: dict[str, bool | None], want: AnyArray, have: AnyArray) -> None:
    steps = len(want)
    if steps < 3:
        for label in (
            "it lags one step behind",
            "it is one step ahead",
            "the steps are in reverse order",
            "only the first step is right",
            "only the last step is right",
            "only the first step is wrong",
            "only the last step is wrong",
        ):
            found[label] = None
        return
    found["it lags one step behind"] = _alike(have[1:], want[:-1])
    found["it is one step ahead"] = _alike(have[:-1], want[1:])
    found["the steps are in reverse order"] = _alike(have, want[::-1])
    right = [_alike(a, b) for a, b in zip(have, want, strict=True)]
    found["only the first step is right"] = right[0] and not any(right[1:])
    found["only the last step is right"] = right[-1] and not any(right[:-1])
    found["only the first step is wrong"] = not right[0] and all(right[1:])
    found["only the last step is wrong"] = not right[-1] and all(right[:-1])


def _value_patterns(found: dict[str, bool | None], want: AnyArray, have: AnyArray) -> None:
    if want.size < 2:
        return
    found["every entry is 0"] = bool((have == 0).all() and (want != 0).any())
    shift = float((have - want).mean())
    found["it is the right one plus a constant"] = abs(shift) > 1e-6 and _alike(have - shift, want)
    if (want > 0).all() and (have > 0).all():
        found["it is the square of the right one"] = _alike(have, want**2)
        found["it is the square root of the right one"] = _alike(have**2, want)
        found["it is 1 over the right one"] = _alike(have * want, np.ones_like(want))
    elif (want < 0).any():
        found["it is right except for signs"] = _alike(np.abs(have), np.abs(want))


def common_pattern(exercise: Exercise, findings: Sequence[Finding], sizes_of: Any) -> str:
    """Return the first pattern that holds in every failing call of one output, or ''."""
    axes = _axes_of(exercise, findings[0].output)
    if _one_factor(findings):
        return ONE_FACTOR
    alive: list[str] | None = None
    certain: set[str] = set()
    for finding in findings:
        if finding.expected is None or finding.got is None:
            return ""
        table = patterns(finding.expected, finding.got, axes, sizes_of(finding.case))
        certain |= {label for label, holds in table.items() if holds}
        possible = [label for label, holds in table.items() if holds is not False]
        alive = possible if alive is None else [label for label in alive if label in possible]
    return next((label for label in alive or [] if label in certain), "")


def _one_factor(findings: Sequence[Finding]) -> bool:
    """Say whether single numbers are wrong by the same factor in three calls or more."""
    if len(findings) < 3 or any(f.expected is None or f.expected.ndim for f in findings):
        return False
    factors = [factor_of(finding) or 1.0 for finding in findings]
    spread = max(factors) - min(factors)
    return abs(factors[0] - 1) > 1e-3 and spread <= 1e-4 * abs(factors[0])


def factor_of(finding: Finding) -> float | None:
    """Return the factor between what was given and what is right, or None if there is none."""
    want, have = finding.expected, finding.got
    if want is None or have is None or want.shape != have.shape:
        return None
    if want.dtype.kind not in "iuf" or have.dtype.kind not in "iuf":
        return None
    if not (np.isfinite(want).all() and np.isfinite(have).all() and want.any() and have.any()):
        return None
    want, have = want.astype(float), have.astype(float)
    return float((have * want).sum()) / float((want * want).sum()) or None


def _axes_of(exercise: Exercise, output: str) -> tuple[str, ...]:
    for text in exercise.returns:
        name, _, axes = text.partition(":")
        if name.strip() == output:
            return tuple(axes.split())
    return ()


def describe_call(exercise: Exercise, case: Case, hidden: bool) -> str:
    """Return the call with the shapes of its arguments; numbers and short lists only if visible."""
    parts = []
    for i, value in enumerate(case.args):
        name = exercise.argument_names[i]
        axes = exercise.axes[name].split()
        if isinstance(value, np.ndarray):
            shape = value.shape
            if len(axes) == len(shape):
                inner = ", ".join(f"{a}={n}" for a, n in zip(axes, shape, strict=True))
                parts.append(f"{name} ({inner})")
            elif value.ndim == 1 and value.size <= SHOWN_ENTRIES and not hidden:
                parts.append(f"{name}=[{', '.join(f'{v:.4g}' for v in value.tolist())}]")
            else:
                parts.append(f"{name} {shape}")
        elif isinstance(value, dict) and all(isinstance(v, np.ndarray) for v in value.values()):
            inner = ", ".join(f"{key}: {v.shape}" for key, v in value.items())
            parts.append(f"{name} {{{inner}}}")
        elif isinstance(value, list | tuple):
            parts.append(f"{name} ({len(value)} item{'s' if len(value) != 1 else ''})")
        elif value is None:
            parts.append(f"{name}=None")
        elif isinstance(value, int | float | np.number) and not hidden:
            parts.append(f"{name}={value:.4g}")
        else:
            parts.append(name)
    return f"{exercise.name}({', '.join(parts)})"


def only_when(exercise: Exercise, cases: Sequence[Case], wrong: Sequence[bool]) -> str:
    """Return a sentence on which calls fail: those with one sequence, one step and so on."""
    sizes = [sizes_of_case(exercise, case) for case in cases]
    tests = {
        "there is one sequence (B = 1)": [s.get("B") == 1 for s in sizes],
        "there is one step (T = 1)": [s.get("T") == 1 for s in sizes],
        "D = H": ["D" in s and s.get("D") == s.get("H") for s in sizes],
    }
    for words, holds in tests.items():
        if any(holds) and not all(holds):
            if [not w for w in wrong] == holds:
                return f"It is right only when {words}."
            if list(wrong) == holds:
                return f"It is wrong only when {words}."
    notes = {case.note for case, bad in zip(cases, wrong, strict=True) if bad}
    if len(notes) == 1 and "" not in notes and len(cases) > 1:
        return "All other calls are right."
    if not all(wrong):
        right = list(wrong).count(False)
        return f"{right} of {len(wrong)} calls {'is' if right == 1 else 'are'} right."
    return ""


def sizes_of_case(exercise: Exercise, case: Case) -> dict[str, int]:
    """Return the sizes of the named axes of a call, read off its arguments."""
    sizes = dict(case.sizes)
    for name, value in zip(exercise.argument_names, case.args, strict=False):
        axes = exercise.axes[name].split()
        if isinstance(value, np.ndarray) and value.ndim == len(axes):
            for axis, n in zip(axes, value.shape, strict=True):
                if axis in AXIS_NAMES:
                    sizes.setdefault(axis, n)
    return {axis: n for axis, n in sizes.items() if axis in AXIS_NAMES}


def same_answer(a: Outcome, b: Outcome) -> bool:
    """Say whether two outcomes are the same answer, right or wrong."""
    if a.modified != b.modified or a.problem_kind != b.problem_kind:
        return False
    mine, theirs = a.leaves or a.raw, b.leaves or b.raw
    if mine is None or theirs is None:
        return mine is None and theirs is None
    if mine.keys() != theirs.keys():
        return False
    for name, left in mine.items():
        right = theirs[name]
        if left.shape != right.shape:
            return False
        single = any(x.dtype.kind == "f" and x.dtype.itemsize <= 4 for x in (left, right))
        rtol, atol = (1e-3, 1e-5) if single else (1e-5, 1e-8)
        if not close(left, right, rtol, atol).all():
            return False
    return True


def same_kinds(a: Outcome, b: Outcome, expected: Outcome) -> bool:
    """Say whether two outcomes have numbers of an unexpected kind in the same places."""
    if a.leaves is None or b.leaves is None or expected.leaves is None:
        return True
    return all(
        _same_kind(a.leaves[name], want) == _same_kind(b.leaves[name], want)
        for name, want in expected.leaves.items()
        if name in a.leaves and name in b.leaves
    )
