"""``rnncourse check``: run one's own notebook and get a table of points with feedback."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from rnncourse.exercises.checking import wrapped
from rnncourse.exercises.notebook import (
    CELL_LIMIT,
    Cell,
    NotebookError,
    Result,
    find_notebook,
    missing_tests,
    points,
    run_notebook,
)
from rnncourse.exercises.outcome import NOT_WRITTEN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument("path", type=Path, help="a notebook, or its folder: exercises/02-bptt")
    parser.add_argument(
        "--cell-limit", type=float, default=CELL_LIMIT, metavar="SECONDS", help="time for one cell"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check the notebook; return 0 if all tests pass, 1 if some fail, 2 if it cannot be read."""
    try:
        path = find_notebook(arguments.path)
        results = run_notebook(path, limit=arguments.cell_limit, progress=_show_progress)
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        _clear_progress()
    print(report(path.stem, results))
    earned, possible, _ = points(results)
    return 0 if earned == possible and not missing_tests(results) else 1


def _show_progress(cell: Cell) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{cell.name} …", end="", file=sys.stderr, flush=True)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def report(title: str, results: Sequence[Result]) -> str:
    """Return the table of points, and below it the feedback of every test that fails.

    Examples
    --------
    >>> cell = Cell("test_f", "", "test", 2.0)
    >>> print(report("00-demo", [Result(cell, True)]))
    00-demo
    -------
    f       2 / 2  right
    total   2 / 2
    """
    names = [r.function for r in results]
    width = max(map(len, [*names, "total"])) + 2
    lines = [title, "-" * len(title)]
    for name, result in zip(names, results, strict=True):
        if result.cell.role == "manual":
            lines.append(f"{name:{width}} – / {result.cell.points:g}  {result.feedback}")
        else:
            earned = result.cell.points if result.passed else 0
            lines.append(f"{name:{width}} {earned:g} / {result.cell.points:g}  {verdict(result)}")
    earned, possible, by_hand = points(results)
    manual = f"  (and up to {by_hand:g} by hand)" if by_hand else ""
    lines.append(f"{'total':{width}} {earned:g} / {possible:g}{manual}")
    missing = missing_tests(results)
    if missing:
        lines += ["", f"Without a test cell: {', '.join(missing)}."]
        lines.append("Copy the missing cells back from a fresh copy of the notebook.")
    for name, result in zip(names, results, strict=True):
        if result.cell.role == "test" and not result.passed and not _is_blank(result):
            lines += ["", name, textwrap.indent(wrapped(result.feedback), "  ")]
    return "\n".join(lines)


def verdict(result: Result) -> str:
    """Return the outcome of a test in a few words."""
    if result.passed:
        return "right"
    if _is_blank(result):
        return "not written yet"
    named = [line for line in result.feedback.splitlines() if line.startswith("Known mistake")]
    return named[0] if named else "wrong"


def _is_blank(result: Result) -> bool:
    return NOT_WRITTEN in result.feedback
