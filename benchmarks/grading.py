"""Compare the sealed grader with plain nbgrader: same submissions, same machine, side by side.

    python -m benchmarks.grading --sizes 30 100 --kinds numpy torch

Both grade the same submissions from a cold start, one after the other: sealed, plain, sealed again.
The table shows plain nbgrader's time, the shorter one of the sealed grader's two, their ratio, and
whether all marks agree. Plain nbgrader grades one submission after the other, so that its time
grows in proportion; beyond ``--plain-limit`` submissions it is taken from that many, and the table
says so.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import describe_machine, markdown_table, text_table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "grading"))

from courses import ANSWERS, SmallCourse, cell, marked, solution, two_questions

NOTE = (
    "Written by `python -m benchmarks.grading`; do not edit. Both grade the same submissions from "
    "a cold start on the same machine; memory is the coordinator's peak."
)
HEADER = ["kind", "submissions", "plain nbgrader", "sealed", "each", "ratio", "memory", "marks"]
TORCH_ANSWERS = {"act": "def act(x):\n    return torch.tanh(x)", **ANSWERS}


def cells_of(kind: str) -> list[Any]:
    """Return the instructor's cells of an assignment with or without torch."""
    if kind == "numpy":
        return two_questions()
    return [
        cell("import torch"),
        *two_questions(),
        solution(
            "def act(x):\n    ### BEGIN SOLUTION\n    return torch.tanh(x)\n    ### END SOLUTION",
            "act",
        ),
        marked(
            "x = torch.randn(4, 3)\nassert torch.allclose(act(x), torch.tanh(x))", "test_act", 2
        ),
    ]


def fill(course: SmallCourse, count: int) -> None:
    """Hand in `count` submissions, every fifth with a wrong answer."""
    for number in range(count):
        answers = dict(TORCH_ANSWERS)
        if number % 5 == 4:
            answers["double"] = "def double(x):\n    return x"
        course.submit(f"student{number:04d}", answers)


def marks(course: SmallCourse) -> dict[str, list[Any]]:
    """Return all marks by student."""
    found: dict[str, list[Any]] = {}
    with sqlite3.connect(course.root / "gradebook.db") as database:
        rows = database.execute(
            "select s.student_id, c.name, g.auto_score from grade g "
            "join submitted_notebook n on g.notebook_id = n.id "
            "join submitted_assignment s on n.assignment_id = s.id "
            "join base_cell c on g.cell_id = c.id order by 1, 2"
        )
        for student, name, score in rows:
            found.setdefault(student, []).append((name, score))
    return found


def timed(course: SmallCourse, command: list[str]) -> tuple[float, float]:
    """Grade everything from the beginning; return the seconds and the peak memory in MB."""
    for name in ("autograded", ".receipts"):
        shutil.rmtree(course.root / name, ignore_errors=True)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=course.root,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(errors.decode(errors="replace")[-3000:])
    return seconds, peak_mb(usage)


def peak_mb(usage: resource.struct_rusage) -> float:
    """Return the largest resident memory of one process, in MB."""
    return usage.ru_maxrss / 1024


class Bench:
    """Measurements of one kind of assignment; plain nbgrader's longest is used again.

    Parameters
    ----------
    kind : {"numpy", "torch"}
    plain_limit : int
        The most submissions that plain nbgrader is given.
    """

    def __init__(self, kind: str, plain_limit: int) -> None:
        self._kind, self._limit = kind, plain_limit
        self._plain: dict[int, tuple[float, dict[str, list[Any]]]] = {}

    def row(self, size: int) -> list[str]:
        """Measure one size and return a row of the table."""
        folder = Path(tempfile.mkdtemp(prefix="rnncourse-bench-"))
        try:
            course = SmallCourse(folder / "sealed", cells_of(self._kind))
            fill(course, size)
            sealed = ["rnncourse.cli", "grade", "ps", "--quiet", "--force"]
            first = timed(course, sealed)
            few = min(size, self._limit)
            if few not in self._plain:
                self._plain[few] = self._grade_plainly(folder / "plain", few)
            plain_s, theirs = self._plain[few]
            plain_s *= size / few
            second = timed(course, sealed)
            ours = marks(course)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        seconds = min(first[0], second[0])
        same = len(ours) == size and all(ours[student] == theirs[student] for student in theirs)
        note = "" if few == size else f" (from {few})"
        return [
            self._kind,
            f"{size:,}",
            f"{plain_s:.1f} s{note}",
            f"{seconds:.1f} s",
            f"{seconds / size * 1000:.0f} ms",
            f"{plain_s / seconds:.1f} ×",
            f"{max(first[1], second[1]):.0f} MB",
            "the same" if same else "DIFFERENT",
        ]

    def _grade_plainly(self, root: Path, size: int) -> tuple[float, dict[str, list[Any]]]:
        course = SmallCourse(root, cells_of(self._kind), plain=True)
        fill(course, size)
        seconds, _ = timed(course, ["nbgrader", "autograde", "ps"])
        return seconds, marks(course)


def main() -> None:
    """Print the table, and write it in Markdown."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 100, 1000])
    parser.add_argument("--kinds", nargs="+", default=["numpy", "torch"])
    parser.add_argument("--plain-limit", type=int, default=100)
    parser.add_argument("--markdown", type=Path, default=Path("benchmarks/grading.md"))
    options = parser.parse_args()
    machine = describe_machine()
    print(machine, flush=True)
    rows = []
    for kind in options.kinds:
        bench = Bench(kind, options.plain_limit)
        for size in sorted(options.sizes):
            rows.append(bench.row(size))
            print("  ".join(rows[-1]), flush=True)
            page = ["# Speed of the grader", NOTE, machine, markdown_table(HEADER, rows)]
            options.markdown.write_text("\n\n".join(page) + "\n", encoding="utf-8")
    print(text_table(HEADER, rows))


if __name__ == "__main__":
    main()
