"""Small courses in a temporary folder, for the grader's own tests."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbformat import v4, write

CONFIG = """
from rnncourse.grading.nbgrader_plug import configure
c = get_config()
c.CourseDirectory.course_id = "small"
c.CourseDirectory.db_url = "sqlite:///{root}/gradebook.db"
c.Exchange.root = "{root}/exchange"
{extra}
configure(c, "{root}")
"""
PLAIN_CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "small"
c.CourseDirectory.root = "{root}"
c.CourseDirectory.db_url = "sqlite:///{root}/gradebook.db"
"""

TEMPLATES = Path(tempfile.mkdtemp(prefix="rnncourse-courses-"))
atexit.register(shutil.rmtree, TEMPLATES, ignore_errors=True)


def cell(source: str, grade_id: str | None = None, **facts: Any) -> Any:
    """A code cell, with nbgrader's metadata if it has a grade id."""
    node = v4.new_code_cell(source=source)
    if grade_id is not None:
        data = {
            "grade_id": grade_id,
            "grade": False,
            "solution": False,
            "locked": False,
            "task": False,
            "schema_version": 3,
            "cell_type": "code",
        }
        node.metadata["nbgrader"] = data | facts
    return node


def solution(source: str, grade_id: str) -> Any:
    """A cell for the student's answer."""
    return cell(source, grade_id, solution=True)


def marked(source: str, grade_id: str, points: float = 1.0) -> Any:
    """A test cell."""
    return cell(source, grade_id, grade=True, locked=True, points=points)


def locked(source: str, grade_id: str) -> Any:
    """A read-only cell of the instructor's."""
    return cell(source, grade_id, locked=True)


def written(source: str, grade_id: str, points: float = 2.0) -> Any:
    """A written answer, graded by hand."""
    node = v4.new_markdown_cell(source=source)
    node.metadata["nbgrader"] = {
        "grade_id": grade_id,
        "grade": True,
        "solution": True,
        "locked": False,
        "task": False,
        "schema_version": 3,
        "cell_type": "markdown",
        "points": points,
    }
    return node


def two_questions() -> list[Any]:
    """The cells of a small assignment with two functions and a written answer."""
    return [
        cell("import numpy as np"),
        solution(
            "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * np.asarray(x)\n"
            "    ### END SOLUTION",
            "double",
        ),
        marked(
            "assert np.allclose(double([1.0, 2.0]), [2.0, 4.0])\n"
            "### BEGIN HIDDEN TESTS\n"
            "secret = np.array([31337.25, -7.5])\n"
            "np.testing.assert_allclose(double(secret), 2 * secret)\n"
            "### END HIDDEN TESTS",
            "test_double",
            5,
        ),
        solution(
            "def mean(x):\n    ### BEGIN SOLUTION\n    return sum(x) / len(x)\n"
            "    ### END SOLUTION",
            "mean",
        ),
        marked(
            "assert mean([1, 2, 3]) == 2\n"
            "### BEGIN HIDDEN TESTS\n"
            "assert mean([4, 6, 8, 99]) == 29.25\n"
            "### END HIDDEN TESTS",
            "test_mean",
            5,
        ),
    ]


ANSWERS = {
    "double": "def double(x):\n    return 2 * np.asarray(x)",
    "mean": "def mean(x):\n    return sum(x) / len(x)",
}


class SmallCourse:
    """A course with one assignment named ``ps``.

    Parameters
    ----------
    root : Path
    cells : sequence of cells
        The instructor's notebook.
    plain : bool
        Plain nbgrader, without the sealed grader.
    """

    def __init__(
        self,
        root: Path,
        cells: Sequence[Any] | None = None,
        *,
        plain: bool = False,
        extra: str = "",
    ) -> None:
        self.root = root
        self.port = 9
        self.cells = list(two_questions() if cells is None else cells)
        key = hashlib.sha256(json.dumps(self.cells).encode()).hexdigest()[:16]
        template = TEMPLATES / key
        if not template.exists():
            self._generate(template)
        shutil.copytree(template, root)
        self._configure(PLAIN_CONFIG if plain else CONFIG, extra)

    def _configure(self, template: str, extra: str = "") -> None:
        text = template.format(root=self.root, extra=extra)
        (self.root / "nbgrader_config.py").write_text(text)

    def _generate(self, template: Path) -> None:
        """Release the assignment once; further courses with it are copies."""
        root, self.root = self.root, template.with_suffix(".half")
        self.write(self.root / "source" / "ps" / "ps.ipynb", self.cells)
        self._configure(PLAIN_CONFIG)
        self.nbgrader("generate_assignment", "ps")
        self.root.rename(template)
        self.root = root

    @staticmethod
    def write(path: Path, cells: Sequence[Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        notebook = v4.new_notebook(cells=list(cells))
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        write(notebook, path)

    def nbgrader(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run an nbgrader command in the course."""
        return self._run([sys.executable, "-m", "nbgrader", *words], check)

    def grade(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``rnncourse grade ps`` in this process, which saves the imports."""
        return self.command("grade", "ps", "--quiet", *words, check=check)

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a subcommand of ``rnncourse`` in the course."""
        from rnncourse.cli import main

        out, err = io.StringIO(), io.StringIO()
        here = os.getcwd()
        os.chdir(self.root)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main(list(words))
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
            err.write(str(end.code))
        finally:
            os.chdir(here)
        result = subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
        if check and status != 0:
            raise AssertionError(f"{words} failed:\n{result.stdout}\n{result.stderr}")
        return result

    def _run(self, command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        programs = str(Path(sys.executable).parent)
        environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
        result = subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, env=environment
        )
        if check and result.returncode != 0:
            raise AssertionError(f"{command} failed:\n{result.stdout}\n{result.stderr}")
        return result

    def release(self) -> Any:
        """The released notebook, as a student gets it."""
        import nbformat

        return nbformat.read(self.root / "release" / "ps" / "ps.ipynb", as_version=4)

    def submit(self, student: str, answers: dict[str, str] | None = None, **extra: str) -> Path:
        """Hand in the released notebook with these answers; ``extra`` adds cells by position."""
        notebook = self.release()
        for node in notebook.cells:
            name = node.metadata.get("nbgrader", {}).get("grade_id")
            if name in (ANSWERS if answers is None else answers):
                node.source = (ANSWERS if answers is None else answers)[name]
        if "first" in extra:
            notebook.cells.insert(0, v4.new_code_cell(source=extra["first"]))
        if "last" in extra:
            notebook.cells.append(v4.new_code_cell(source=extra["last"]))
        folder = self.root / "submitted" / student / "ps"
        self.write(folder / "ps.ipynb", notebook.cells)
        return folder / "ps.ipynb"

    def marks(self, student: str) -> dict[str, float | None]:
        """Automatic marks by cell."""
        from nbgrader.api import Gradebook

        with Gradebook(f"sqlite:///{self.root}/gradebook.db") as gradebook:
            submission = gradebook.find_submission("ps", student)
            return {
                grade.name: grade.auto_score
                for notebook in submission.notebooks
                for grade in notebook.grades
            }
