"""Compare the sealed grader with plain nbgrader: same submissions, same machine, side by side.

    python benchmarks/grading.py --sizes 30 100 --kinds numpy torch

Each round grades the same submissions with both, one after the other, from a cold start; the table
shows the fastest round of each, their ratio, and whether all marks agree. Plain nbgrader is given
at most ``--plain-limit`` submissions, and its time is scaled from there; the table says so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "grading"))

from courses import ANSWERS, SmallCourse, cell, marked, solution, two_questions

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


def timed(course: SmallCourse, command: list[str]) -> float:
    """Grade everything from the beginning and return the seconds."""
    for name in ("autograded", ".receipts"):
        shutil.rmtree(course.root / name, ignore_errors=True)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    started = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=course.root, env=environment, capture_output=True
    )
    seconds = time.perf_counter() - started
    if result.returncode != 0:
        raise SystemExit(result.stderr.decode()[-3000:])
    return seconds


def compare(kind: str, size: int, rounds: int, plain_limit: int) -> str:
    """Return one row of the table."""
    folder = Path(tempfile.mkdtemp(prefix="rnncourse-bench-"))
    try:
        few = min(size, plain_limit)
        sealed = SmallCourse(folder / "sealed", cells_of(kind))
        plain = SmallCourse(folder / "plain", cells_of(kind), plain=True)
        fill(sealed, size)
        fill(plain, few)
        sealed_s, plain_s = [], []
        for _ in range(rounds):
            sealed_s.append(timed(sealed, ["rnncourse.cli", "grade", "ps", "--quiet", "--force"]))
            plain_s.append(timed(plain, ["nbgrader", "autograde", "ps"]) * size / few)
        ours, theirs = marks(sealed), marks(plain)
        same = all(ours[student] == theirs[student] for student in theirs)
        note = "" if few == size else f" (from {few})"
        return (
            f"{kind:6} {size:5}  {min(plain_s):8.1f} s{note:12} {min(sealed_s):8.1f} s "
            f"{min(sealed_s) / size * 1000:6.0f} ms {min(plain_s) / min(sealed_s):6.1f} x  "
            f"{'same marks' if same else 'MARKS DIFFER'}"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 100, 1000])
    parser.add_argument("--kinds", nargs="+", default=["numpy", "torch"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--plain-limit", type=int, default=100)
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before the start")
    print("kind    size      plain nbgrader          sealed      each    ratio")
    for kind in options.kinds:
        for size in options.sizes:
            print(compare(kind, size, options.rounds, options.plain_limit), flush=True)


if __name__ == "__main__":
    main()
