"""However nbgrader is asked to grade, submissions run sealed, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from courses import ANSWERS, SmallCourse, cell, marked, solution

from rnncourse.grading import GradingUnavailableError, launch

pytestmark = pytest.mark.xdist_group("plug")
FULL = {"test_double": 5.0, "test_mean": 5.0}
ESCAPE = "import os\nos.system('touch {root}/escaped')"


@pytest.fixture
def course(tmp_path: Path) -> SmallCourse:
    course = SmallCourse(tmp_path / "course")
    course.submit("ann", first=ESCAPE.format(root=course.root))
    course.submit("bob", {"mean": ANSWERS["mean"]}, first=ESCAPE.format(root=course.root))
    return course


def judge(course: SmallCourse) -> None:
    assert course.marks("ann") == FULL
    assert course.marks("bob") == {"test_double": 0.0, "test_mean": 5.0}
    assert not (course.root / "escaped").exists()


@pytest.fixture
def app(course: SmallCourse) -> Any:
    from rnncourse.grading.commands.grade import load_course

    here = os.getcwd()
    app = load_course(str(course.root))
    app.coursedir.assignment_id = "ps"
    yield app
    os.chdir(here)


def test_nbgraders_own_loop_with_our_preprocessors(course: SmallCourse, app: Any) -> None:
    from nbgrader.converters.autograde import Autograde

    Autograde(coursedir=app.coursedir, parent=app).start()
    judge(course)


def test_the_formgraders_button(course: SmallCourse, app: Any) -> None:
    from nbgrader.apps.api import NbGraderAPI

    api = NbGraderAPI(coursedir=app.coursedir, parent=app)
    for student in ("ann", "bob"):
        result = api.autograde("ps", student)
        assert result["success"], result
    judge(course)
    submissions = {row["student"]: row["score"] for row in api.get_submissions("ps")}
    assert submissions == {"ann": 10.0, "bob": 5.0}


def test_nbgraders_command(course: SmallCourse) -> None:
    course.nbgrader("autograde", "ps")
    judge(course)
    refused = course.nbgrader("autograde", "ps", "--no-execute", "--force", check=False)
    assert refused.returncode != 0
    assert "nothing to grade" in refused.stderr


def test_refuses_without_a_sandbox(course: SmallCourse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.shutil, "which", lambda name: None)
    result = course.grade(check=False)
    assert result.returncode == 2
    assert "apt install bubblewrap" in result.stderr
    assert "--trust-submissions" in result.stderr
    assert not (course.root / "autograded").exists()
    monkeypatch.setattr(launch.sys, "platform", "darwin")
    with pytest.raises(GradingUnavailableError, match="needs Linux"):
        launch.ensure_available()


def test_a_sandbox_that_does_not_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = launch._command

    def broken(*args: Any) -> list[str]:
        return [*real(*args)[:1], "--ro-bind", "/no/such/folder", "/usr", "true"]

    monkeypatch.setattr(launch, "_command", broken)
    with pytest.raises(GradingUnavailableError, match="user namespaces"):
        launch.parents(launch.Profile(("json",)))


def test_trusting_is_explicit_and_loud(tmp_path: Path) -> None:
    course = SmallCourse(tmp_path / "course")
    course.submit("me")
    result = course.nbgrader("autograde", "ps", "--SealedAutograde.trust_submissions=True")
    assert "runs as you" in result.stderr
    assert course.marks("me") == FULL


def test_tests_import_what_students_must_not_see(tmp_path: Path) -> None:
    cells = [
        solution("def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION", "f"),
        marked("from reference import expected\nassert f(3) == expected(3)", "test_f"),
        cell("pass"),
    ]
    extra = 'c.SealedExecute.trusted_path = ["helpers"]'
    course = SmallCourse(tmp_path / "course", cells, extra=extra)
    (course.root / "helpers").mkdir()
    (course.root / "helpers" / "reference.py").write_text("def expected(x): return x * 7\n")
    course.submit("honest", {"f": "def f(x):\n    return 7 * x"})
    course.submit(
        "thief", {"f": "def f(x):\n    from reference import expected\n    return expected(x)"}
    )
    course.grade()
    assert course.marks("honest") == {"test_f": 1.0}
    assert course.marks("thief") == {"test_f": 0.0}


def test_torch_is_there_where_an_ordinary_cell_imports_it(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    stub = "def act(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION"
    cells = [
        cell("import numpy as np"),
        cell("import torch"),
        solution(stub, "act"),
        marked("x = torch.randn(3)\nassert torch.allclose(act(x), torch.tanh(x))", "test_act"),
    ]
    course = SmallCourse(tmp_path / "course", cells)
    course.submit("ann", {"act": "def act(x):\n    return torch.tanh(x)"})
    course.grade()
    assert course.marks("ann") == {"test_act": 1.0}


def test_late_work_is_penalised_by_nbgraders_plugin(tmp_path: Path) -> None:
    from nbgrader.api import Gradebook

    plugin = (
        "from nbgrader.plugins import LateSubmissionPlugin\n"
        "class Halve(LateSubmissionPlugin):\n"
        "    def late_submission_penalty(self, student_id, score, seconds):\n"
        "        return score / 2\n"
        "c.AssignLatePenalties.plugin_class = Halve\n"
    )
    course = SmallCourse(tmp_path / "course", extra=plugin)
    address = f"sqlite:///{course.root}/gradebook.db"
    with Gradebook(address, "small") as book:
        book.update_or_create_assignment("ps", duedate="2024-01-01 00:00:00 UTC")
    for student, stamp in {
        "early": "2023-12-31 10:00:00 UTC",
        "late": "2024-01-02 10:00:00 UTC",
    }.items():
        (course.submit(student).parent / "timestamp.txt").write_text(stamp)
    course.grade()
    with Gradebook(address, "small") as book:
        penalties = {
            student: book.find_submission("ps", student).late_submission_penalty
            for student in ("early", "late")
        }
    assert penalties == {"early": 0.0, "late": 5.0}
