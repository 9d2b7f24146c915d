"""The notebooks: well-formed, released in step, worth nothing when blank and all when solved."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest

from rnncourse.exercises.notebook import points, run_notebook
from rnncourse.exercises.registry import ASSIGNMENTS, exercises_of

ROOT = Path(__file__).resolve().parents[2]
BOOK_SERVED = "http://localhost:8000"  # by `make serve`
every_assignment = pytest.mark.parametrize("assignment", ASSIGNMENTS)


def path_of(assignment: str, kind: str = "solutions") -> Path:
    return ROOT / kind / assignment / f"{assignment}.ipynb"


def cells_of(assignment: str, kind: str = "solutions") -> list[dict[str, Any]]:
    cells = json.loads(path_of(assignment, kind).read_text())["cells"]
    for cell in cells:
        cell["text"] = "".join(cell["source"])
        cell["role"] = cell["metadata"].get("nbgrader", {})
    return cells


@every_assignment
@pytest.mark.parametrize("kind", ["solutions", "exercises"])
def test_notebook_is_valid_and_clean(assignment: str, kind: str) -> None:
    notebook = nbformat.read(path_of(assignment, kind), as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@every_assignment
def test_cells_have_the_right_form(assignment: str) -> None:
    names = list(exercises_of(assignment))
    tests, solutions = [], []
    for cell in cells_of(assignment):
        role, text = cell["role"], cell["text"]
        if role.get("solution") and not role["grade"]:
            name = role["grade_id"]
            solutions.append(name)
            assert text.count("### BEGIN SOLUTION") == text.count("### END SOLUTION") >= 1
            assert "rnncourse" not in text
            function = next(n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef))
            assert "Returns" in (ast.get_docstring(function) or ""), name
        elif role.get("grade") and not role["solution"]:
            name = role["grade_id"].removeprefix("test_")
            if name not in names:
                continue  # a test of behaviour, with asserts of its own
            tests.append(name)
            visible, hidden = text.split("### BEGIN HIDDEN TESTS")
            assert f'check("{name}", {name})' in visible
            assert f'check("{name}", {name}, hidden=True)' in hidden
            assert role["points"] > 0
    assert sorted(tests) == sorted(names)
    assert set(names) <= set(solutions)


@every_assignment
def test_last_part_is_graded_by_hand_with_a_rubric(assignment: str) -> None:
    cells = cells_of(assignment)
    manual = [cell for cell in cells if cell["role"].get("grade") and cell["role"]["solution"]]
    assert manual
    assert any("Rubric" in cell["text"] for cell in cells)
    assert any(cell["text"].startswith("# Experiment") for cell in cells)


@every_assignment
def test_links_lead_to_the_chapter_and_to_its_built_page(assignment: str) -> None:
    text = "".join(cell["text"] for cell in cells_of(assignment))
    pages = [
        link.removeprefix(BOOK_SERVED)
        for link in re.findall(r"\]\(([^)#]+)", text)
        if link.startswith(BOOK_SERVED) or (path_of(assignment).parent / link).is_file()
    ]
    assert len(pages) == len(re.findall(r"\]\(", text)), "a link leads nowhere"
    chapters = {Path(page).stem for page in pages if page.endswith(".md")}
    built = {Path(page).stem for page in pages if not page.endswith(".md")}
    assert built == {""} or built == chapters


@every_assignment
def test_released_notebook_holds_no_answer(assignment: str) -> None:
    text = path_of(assignment, "exercises").read_text()
    for word in ("BEGIN SOLUTION", "BEGIN HIDDEN TESTS", "hidden=True"):
        assert word not in text


def _build() -> Any:
    spec = importlib.util.spec_from_file_location("build", ROOT / "solutions" / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_exercises_are_what_solutions_make(tmp_path: Path) -> None:
    build = _build()
    build.release(build.assignments(), tmp_path / "exercises")
    assert build.differences(tmp_path / "exercises", ROOT / "exercises") == []


def test_differences_are_seen(tmp_path: Path) -> None:
    build = _build()
    for root, text in (("a", "one\n"), ("b", "two\n")):
        (tmp_path / root / "01").mkdir(parents=True)
        (tmp_path / root / "01" / "01.ipynb").write_text(text)
    (tmp_path / "a" / "02").mkdir()
    (tmp_path / "a" / "02" / "02.ipynb").write_text("")
    found = build.differences(tmp_path / "a", tmp_path / "b")
    assert [line.split(" is ")[0] for line in found] == [
        "exercises/01/01.ipynb",
        "exercises/02/02.ipynb",
    ]


@every_assignment
def test_blank_notebook_earns_nothing(assignment: str) -> None:
    earned, possible, by_hand = points(run_notebook(path_of(assignment, "exercises")))
    assert earned == 0
    assert possible > 0
    assert by_hand > 0


@every_assignment
def test_model_answers_earn_all_points(assignment: str) -> None:
    results = run_notebook(path_of(assignment))
    earned, possible, _ = points(results)
    assert earned == possible, [r.feedback for r in results if not r.passed]


@every_assignment
@pytest.mark.slow
def test_solved_notebook_runs_from_top_to_bottom(
    assignment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The experiments too, in under a minute, and without torch."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    cells = [cell for cell in cells_of(assignment) if cell["cell_type"] == "code"]
    if not any("import torch" in cell["text"] for cell in cells):
        monkeypatch.setitem(sys.modules, "torch", None)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    start = time.process_time()
    for cell in cells:
        exec(compile(cell["text"], cell["id"], "exec"), namespace)
        plt.close("all")
    assert time.process_time() - start < 60
