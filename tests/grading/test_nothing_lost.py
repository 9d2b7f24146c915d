"""Killed, starved or locked out at any moment, the grader ends with the same gradebook."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from courses import ANSWERS, SmallCourse, two_questions, written
from test_attacks import fingerprint, stray_processes

pytestmark = pytest.mark.xdist_group("nothing-lost")

STUDENTS = [f"s{number:02d}" for number in range(12)]


def make(root: Path, students: list[str] = STUDENTS, seconds: float = 0.1) -> SmallCourse:
    """Return a course whose submissions take some time each."""
    slow = f"import time; time.sleep({seconds})"
    course = SmallCourse(root, [*two_questions(), written("Say why.", "why")])
    for number, student in enumerate(students):
        answers = dict(ANSWERS)
        if number % 3 == 1:
            answers["double"] = "def double(x):\n    return x"
        if number % 3 == 2:
            answers["why"] = "Because."
        course.submit(student, answers, first=slow)
    (course.root / "submitted" / students[-1] / "ps" / "ps.ipynb").write_text("broken")
    return course


def gradebook(course: SmallCourse) -> list[Any]:
    """Everything that marks and comments consist of, without random keys."""
    database = sqlite3.connect(f"file:{course.root}/gradebook.db?mode=ro", uri=True)
    query = """
        select s.student_id, n.name, c.name, g.auto_score, g.manual_score, g.extra_credit,
               g.needs_manual_grade, k.auto_comment, k.manual_comment, sn.flagged
        from submitted_assignment s join submitted_notebook sn on sn.assignment_id = s.id
        join notebook n on n.id = sn.notebook_id join base_cell c on c.notebook_id = n.id
        left join grade g on g.cell_id = c.id and g.notebook_id = sn.id
        left join comment k on k.cell_id = c.id and k.notebook_id = sn.id
        order by 1, 2, 3, c.type"""
    rows = database.execute(query).fetchall()
    database.close()
    return rows


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    course = make(tmp_path_factory.mktemp("undisturbed") / "course")
    course.grade()
    return gradebook(course)


def start(course: SmallCourse) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rnncourse.cli", "grade", "ps", "--quiet"]
    return subprocess.Popen(
        command,
        cwd=course.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts background jobs, and so these tests, with Ctrl-C switched off
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found = [pid]
    for parent in found:
        found += [child for child, above in parents.items() if above == parent]
    return found[1:]


def wait_until_grading(process: subprocess.Popen[str], course: SmallCourse) -> None:
    """Wait for the first receipts, or for the end of the process."""
    receipts = course.root / ".receipts" / "ps"
    while process.poll() is None and not (receipts.is_dir() and any(receipts.iterdir())):
        time.sleep(0.02)


def kill_once(course: SmallCourse, whom: str, rng: random.Random) -> None:
    """Kill somebody at a random moment of a run."""
    process = start(course)
    time.sleep(rng.uniform(0.0, 0.3)) if rng.random() < 0.3 else wait_until_grading(process, course)
    time.sleep(rng.uniform(0.0, 0.4))
    if whom == "coordinator":
        process.kill()
        process.wait()
        return
    victims = children(process.pid)
    if victims:
        victim = victims[0] if whom == "parent" else rng.choice(victims)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    process.wait()


def finish_and_compare(course: SmallCourse, undisturbed: list[Any], before: dict[str, str]) -> None:
    for _ in range(3):
        result = course.grade(check=False)
        if result.returncode == 0:
            break
    assert result.returncode == 0, result.stdout + result.stderr
    assert gradebook(course) == undisturbed
    assert fingerprint(course.root / "submitted") == before
    assert sorted(path.name for path in (course.root / "autograded").iterdir()) == STUDENTS
    assert not list(course.root.glob(".half-*"))


def kill_and_compare(tmp: Path, undisturbed: list[Any], times: int, seed: int) -> None:
    rng = random.Random(seed)
    running = len(stray_processes())
    course = make(tmp / "course")
    before = fingerprint(course.root / "submitted")
    for number in range(times):
        if number % 5 == 0:  # begin anew, so that there is something left to grade
            for student in rng.sample(STUDENTS, 8):
                (course.root / ".receipts" / "ps" / f"{student}.json").unlink(missing_ok=True)
        kill_once(course, ("coordinator", "worker", "parent")[number % 3], rng)
    finish_and_compare(course, undisturbed, before)
    deadline = time.monotonic() + 10
    while len(stray_processes()) > running and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(stray_processes()) <= running


def test_a_few_kills(tmp_path: Path, undisturbed: list[Any]) -> None:
    kill_and_compare(tmp_path, undisturbed, 3, 1)


@pytest.mark.attacks
def test_a_hundred_kills(tmp_path: Path, undisturbed: list[Any]) -> None:
    kill_and_compare(tmp_path, undisturbed, 100, 2)


def test_interrupt_stops_cleanly_and_resumes(tmp_path: Path, undisturbed: list[Any]) -> None:
    course = make(tmp_path / "course", seconds=1.0)
    before = fingerprint(course.root / "submitted")
    process = start(course)
    wait_until_grading(process, course)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Run the same command again" in output
    assert "Traceback" not in errors
    finish_and_compare(course, undisturbed, before)


def test_two_coordinators(tmp_path: Path) -> None:
    course = make(tmp_path / "course", STUDENTS[:2])
    with open(course.root / ".grading.lock", "w") as lock:
        lock.write("process 1 on here")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = course.grade(check=False)
        assert second.returncode == 2
        assert "Another grader is at work" in second.stderr
        button = course.nbgrader("autograde", "ps", check=False)
        assert button.returncode != 0
        assert not (course.root / "autograded").exists()
    course.grade()


def test_locked_database_is_waited_for(tmp_path: Path) -> None:
    course = make(tmp_path / "course", STUDENTS[:2])
    database = sqlite3.connect(course.root / "gradebook.db", isolation_level=None)
    database.execute("begin exclusive")
    process = start(course)
    time.sleep(8)  # longer than SQLite itself waits
    assert process.poll() is None
    database.execute("rollback")
    database.close()
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    assert course.marks("s00")["test_mean"] == 5


def test_full_disk(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("mounting a small disk needs root")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)])
    if mounted.returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    try:
        course = SmallCourse(small / "course")
        for student in STUDENTS[:3]:
            course.submit(student)
        before = fingerprint(course.root / "submitted")
        filler = small / "filler"
        with filler.open("wb", buffering=0) as handle:
            try:
                while True:
                    handle.write(b"x" * 4096)
            except OSError:
                pass
        result = course.grade(check=False)
        assert result.returncode != 0
        assert "No space left" in result.stdout + result.stderr or "full" in result.stdout
        filler.unlink()
        course.grade()
        for student in STUDENTS[:3]:
            assert course.marks(student) == {"test_double": 5, "test_mean": 5}
        assert fingerprint(course.root / "submitted") == before
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_notebook_that_cannot_be_replaced_is_graded_again(tmp_path: Path) -> None:
    course = make(tmp_path / "course", STUDENTS[:2])
    course.grade()
    folder = str(course.root / "autograded" / "s00" / "ps")
    if subprocess.run(["mount", "--bind", folder, folder]).returncode != 0:
        pytest.skip("a folder cannot be held in its place without root")
    try:
        stuck = course.grade("--force", check=False)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    assert stuck.returncode != 0
    assert "s00" in stuck.stdout
    assert "1 graded" in course.grade().stdout


def test_files_removed_under_it(tmp_path: Path) -> None:
    import shutil

    course = make(tmp_path / "course", STUDENTS[:3])
    course.grade()
    whole = gradebook(course)
    (course.root / "autograded" / "s00" / "ps" / "ps.ipynb").unlink()
    shutil.rmtree(course.root / "autograded" / "s01")
    (course.root / ".receipts" / "ps" / "s02.json").write_text("{")
    result = course.grade()
    assert "3 graded" in result.stdout
    assert gradebook(course) == whole
    (course.root / "gradebook.db").unlink()
    missing = course.grade(check=False)
    assert missing.returncode == 2
    assert "generate_assignment" in missing.stderr
    course.nbgrader("generate_assignment", "ps", "--force")
    course.grade()
    assert gradebook(course) == whole


def test_manual_marks_survive(tmp_path: Path) -> None:
    from nbgrader.api import Gradebook

    course = make(tmp_path / "course", STUDENTS[:3])
    course.grade()
    with Gradebook(f"sqlite:///{course.root}/gradebook.db") as book:
        grade = book.find_grade("why", "ps", "ps", "s00")
        grade.manual_score, grade.extra_credit = 1.5, 0.5
        grade.needs_manual_grade = False
        book.find_grade("test_mean", "ps", "ps", "s00").manual_score = 2.0
        book.find_comment("why", "ps", "ps", "s00").manual_comment = "Well said."
        book.db.commit()
    course.grade("--force")
    rows = [row for row in gradebook(course) if row[0] == "s00"]
    assert [row[4:6] for row in rows if row[2] == "why" and row[6] is not None] == [(1.5, 0.5)]
    assert "Well said." in [row[8] for row in rows]
    assert [row[3:5] for row in rows if row[2] == "test_mean"] == [(5.0, 2.0)]


def test_one_student_again(tmp_path: Path) -> None:
    course = make(tmp_path / "course", STUDENTS[:3])
    course.grade()
    course.submit("s01", ANSWERS)
    result = course.grade("--student", "s01")
    assert "1 graded" in result.stdout
    assert course.marks("s01")["test_double"] == 5
    assert "Nothing to grade" in course.grade().stdout


def test_broken_notebook_is_for_review_until_it_is_not(tmp_path: Path) -> None:
    course = make(tmp_path / "course", STUDENTS[:2])
    result = course.grade()
    assert "to review  s01: ps.ipynb: the notebook is not JSON" in result.stdout
    rows = [row for row in gradebook(course) if row[0] == "s01" and row[3] is not None]
    assert rows and all(row[3] == 0 and row[6] and row[9] for row in rows)
    course.submit("s01")
    course.grade()
    rows = [row for row in gradebook(course) if row[0] == "s01"]
    assert not any(row[9] for row in rows)
    assert not any("Not graded" in (row[7] or "") for row in rows)


def test_folders_that_no_student_can_be_called_after(tmp_path: Path) -> None:
    course = make(tmp_path / "course", STUDENTS[:2])
    names = [b"zo\xeb", b"\x1b[2Jred", b"<script>alert(1)<", "\u202efdp".encode(), b"x" * 240]
    for name in names:
        folder = os.fsencode(course.root / "submitted") + b"/" + name + b"/ps"
        os.makedirs(folder)
        with open(folder + b"/ps.ipynb", "wb") as handle:
            handle.write(b"{}")
    result = course.grade(check=False)
    assert result.returncode == 1
    assert result.stdout.count("rename the folder") == len(names)
    assert "\x1b" not in result.stdout and "\u202e" not in result.stdout
    assert "2 graded" in result.stdout
    assert course.marks("s00")["test_mean"] == 5
