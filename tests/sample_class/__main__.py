"""A sample class: nine students hand in one assignment, and are graded as any class would be.

``python -m tests.sample_class grade`` grades them, ``validate`` grades every assignment's model
answers and its blank release, ``summary`` says where everything is.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from nbgrader.api import Gradebook

ROOT = Path(__file__).resolve().parents[2]
SUBMISSIONS = Path(__file__).parent / "submissions"
ASSIGNMENT = "02-bptt"
CLASS = ROOT / "_build" / "sample-class"
VALIDATION = ROOT / "_build" / "validation"


def assignments() -> list[str]:
    """Return the names of all assignments, in the course's order."""
    return sorted(path.parent.name for path in ROOT.glob("solutions/*/*.ipynb"))


def handed_in(student: Path, released: Path) -> str:
    """Return the released notebook with a student's cells filled in.

    The student's file holds cells behind lines ``# %% NAME``; what has no such cell stays blank.
    """
    cells = dict(re.findall(r"# %% (\w+)\n(.*?)(?=\n# %% |\Z)", student.read_text(), re.DOTALL))
    notebook = json.loads(released.read_text())
    for cell in notebook["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if name in cells and cell["metadata"]["nbgrader"]["solution"]:
            cell["source"] = cells[name].strip().splitlines(keepends=True)
    return json.dumps(notebook, indent=1)


def new_course(folder: Path, names: list[str]) -> None:
    """Make a course folder of its own, so that nobody's gradebook is touched, and release."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    for name in names:
        shutil.copytree(ROOT / "solutions" / name, folder / "solutions" / name)
        run(folder, "nbgrader", "generate_assignment", name, "--log-level=ERROR")


def submit(folder: Path, student: str, assignment: str, notebook: str) -> None:
    """Put a notebook where nbgrader expects a student's submission."""
    target = folder / "grading" / "submitted" / student / assignment
    target.mkdir(parents=True)
    (target / f"{assignment}.ipynb").write_text(notebook)


def run(folder: Path, *command: str) -> None:
    """Run a command of this environment in a course's folder."""
    program = Path(sys.executable).with_name(command[0])
    subprocess.run([program, *command[1:]], cwd=folder, check=True)


def marks(folder: Path) -> dict[tuple[str, str], dict[str, tuple[float, float]]]:
    """Return the automatic marks of every (student, assignment): cell to (score, maximum)."""
    with Gradebook(f"sqlite:///{folder / 'grading' / 'gradebook.db'}", "vanilla-rnns") as gradebook:
        return {
            (submission.student.id, assignment.name): {
                grade.name: (grade.auto_score or 0.0, grade.max_score)
                for notebook in submission.notebooks
                for grade in notebook.grades
                if grade.cell.cell_type == "code"
            }
            for assignment in gradebook.assignments
            for submission in assignment.submissions
        }


def grade(folder: Path = CLASS) -> None:
    """Grade the sample class, write feedback and a table of marks."""
    new_course(folder, [ASSIGNMENT])
    released = folder / "exercises" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb"
    for student in sorted(SUBMISSIONS.glob("*.py")):
        submit(folder, student.stem, ASSIGNMENT, handed_in(student, released))
    run(folder, "rnncourse", "grade", ASSIGNMENT)
    run(folder, "nbgrader", "generate_feedback", ASSIGNMENT, "--log-level=ERROR")
    run(folder, "nbgrader", "export", "--to", "grading/marks.csv", "--log-level=ERROR")


def validate(folder: Path = VALIDATION) -> list[str]:
    """Grade model answers and blank releases; return what is not as it must be."""
    names = assignments()
    new_course(folder, names)
    for name in names:
        for student, source in (("model", "solutions"), ("blank", "exercises")):
            notebook = (folder / source / name / f"{name}.ipynb").read_text()
            submit(folder, student, name, notebook)
        run(folder, "rnncourse", "grade", name, "--quiet")
    problems = []
    for (student, name), cells in marks(folder).items():
        for cell, (score, maximum) in cells.items():
            expected = maximum if student == "model" else 0.0
            if score != expected:
                problems.append(f"{name}, {student}: {cell} got {score:g}, expected {expected:g}")
    return problems


def summary() -> None:
    """Say where the book, the marks and the feedback are."""
    print("\nMarks of the sample class")
    for (student, _), cells in sorted(marks(CLASS).items()):
        score, maximum = (sum(values) for values in zip(*cells.values(), strict=True))
        wrong = [name.removeprefix("test_") for name, (got, most) in cells.items() if got < most]
        print(
            f"  {student:8} {score:4g} / {maximum:g}   {'not ' + ', '.join(wrong) if wrong else ''}"
        )
    for what, path in (
        ("Book", "_build/html/index.html   (make serve shows it on http://localhost:8000)"),
        ("Exercises", "exercises/               (make lab opens them)"),
        ("Marks", (CLASS / "grading" / "marks.csv").relative_to(ROOT)),
        ("Feedback", f"{(CLASS / 'grading' / 'feedback').relative_to(ROOT)}/STUDENT/{ASSIGNMENT}/"),
    ):
        print(f"{what:10} {path}")


def main() -> int:
    """Run the command named on the command line."""
    if sys.argv[1] == "grade":
        grade()
    elif sys.argv[1] == "validate":
        problems = validate()
        print("\n".join(problems) or "All model answers get full marks, all blank releases none.")
        return bool(problems)
    else:
        summary()
    return 0


if __name__ == "__main__":
    sys.exit(main())
