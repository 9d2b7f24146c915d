"""Grading on a Dask cluster and into PostgreSQL gives the same marks."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from courses import ANSWERS, SmallCourse

pytestmark = pytest.mark.xdist_group("elsewhere")
STUDENTS = [f"s{number:02d}" for number in range(10)]


def make(root: Path) -> SmallCourse:
    course = SmallCourse(root)
    for number, student in enumerate(STUDENTS):
        answers = dict(ANSWERS)
        if number % 3 == 1:
            answers["double"] = "def double(x):\n    return x"
        course.submit(student, answers, first="import time; time.sleep(0.3)")
    return course


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def cluster() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    pytest.importorskip("distributed")
    address = f"tcp://127.0.0.1:{free_port()}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "distributed.cli"]
    scheduler = subprocess.Popen(
        [
            *dask[:2],
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            address.rpartition(":")[2],
            "--no-dashboard",
        ],
        **quiet,
    )
    workers = [
        subprocess.Popen(
            [
                *dask[:2],
                "distributed.cli.dask_worker",
                address,
                "--nthreads",
                "1",
                "--no-nanny",
                "--no-dashboard",
                "--local-directory",
                tempfile.mkdtemp(prefix="dask-"),
            ],
            **quiet,
        )
        for _ in range(2)
    ]
    yield address, workers
    for process in (*workers, scheduler):
        process.terminate()
    for process in (*workers, scheduler):
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def test_cluster_with_a_killed_worker(
    tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, workers = cluster
    course = make(tmp_path / "course")
    course.grade()
    local = {student: course.marks(student) for student in STUDENTS}
    shutil.rmtree(course.root / ".receipts")

    def kill_one_at_work() -> None:
        receipts = course.root / ".receipts" / "ps"
        end = time.monotonic() + 120
        while time.monotonic() < end and not (receipts.is_dir() and any(receipts.iterdir())):
            time.sleep(0.05)
        workers[0].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_one_at_work)
    killer.start()
    result = course.grade("--scheduler", address)
    killer.join()
    assert f"{len(STUDENTS)} graded" in result.stdout
    assert workers[0].wait(10) == -signal.SIGKILL
    assert {student: course.marks(student) for student in STUDENTS} == local


def test_no_scheduler_is_said_clearly(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    course = SmallCourse(tmp_path / "course")
    course.submit("s00")
    result = course.grade("--scheduler", f"tcp://127.0.0.1:{free_port()}", check=False)
    assert result.returncode == 2
    assert "No scheduler answers" in result.stderr


@pytest.fixture
def postgres() -> Iterator[str]:
    pytest.importorskip("psycopg2")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    programs = found[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    user: dict[str, int] = {}
    if os.getuid() == 0:  # the server refuses to run as root
        user = {"user": 65534, "group": 65534}
        os.chown(folder, 65534, 65534)
    port = free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run(
        [programs / "initdb", "-D", folder / "data", "-U", "grader", "-A", "trust", "-N"],
        check=True,
        **quiet,
        **user,
    )
    server = subprocess.Popen(
        [
            programs / "postgres",
            "-D",
            folder / "data",
            "-p",
            str(port),
            "-k",
            folder,
            "-h",
            "127.0.0.1",
        ],
        **quiet,
        **user,
    )
    try:
        import psycopg2

        for _ in range(200):
            try:
                psycopg2.connect(
                    host="127.0.0.1", port=port, user="grader", dbname="postgres"
                ).close()
                break
            except psycopg2.OperationalError:
                time.sleep(0.1)
        yield f"postgresql://grader@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def test_postgresql_gives_the_same_marks(tmp_path: Path, postgres: str) -> None:
    from nbgrader.api import Gradebook

    course = make(tmp_path / "course")
    course.grade()
    local = {student: course.marks(student) for student in STUDENTS}
    shutil.rmtree(course.root / ".receipts")
    with_driver = postgres.replace("postgresql:", "postgresql+psycopg2:")
    course.nbgrader("generate_assignment", "ps", "--force", "--db", with_driver)
    result = course.grade("--db", postgres)
    assert f"{len(STUDENTS)} graded" in result.stdout
    with Gradebook(with_driver) as book:
        remote = {
            student: {
                grade.name: grade.auto_score
                for notebook in book.find_submission("ps", student).notebooks
                for grade in notebook.grades
            }
            for student in STUDENTS
        }
    assert remote == local
    assert "Nothing to grade" in course.grade("--db", postgres).stdout
    assert "student,assignment" in course.command("export", "ps", "--db", postgres).stdout
