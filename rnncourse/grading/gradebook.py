"""nbgrader's gradebook, read once and written one submission per transaction.

The rows are nbgrader's own, in nbgrader's own tables; only the way there is shorter: one
connection for the whole run instead of nine per submission, one commit instead of one per cell.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .notebooks import SourceCell, SourceNotebook

UNGRADED_PREFIX = "Not graded automatically: "
_PATIENCE_S = 60.0

T = TypeVar("T")


def is_locked_error(error: BaseException) -> bool:
    """Whether the database only asks to try again later."""
    text = str(error).lower()
    return "locked" in text or "deadlock" in text or "could not serialize" in text


def open_gradebook(db_url: str, course_id: str) -> Any:
    """Open a gradebook, waiting while another program holds it locked.

    Parameters
    ----------
    db_url : str
        SQLAlchemy address of the database.
    course_id : str

    Returns
    -------
    nbgrader.api.Gradebook
    """
    from nbgrader.api import Gradebook

    return patiently(lambda: Gradebook(db_url, course_id))


def patiently(action: Callable[[], T], patience_s: float = _PATIENCE_S) -> T:
    """Run `action`, again and again while the database is locked."""
    from sqlalchemy.exc import OperationalError

    end = time.monotonic() + patience_s
    while True:
        try:
            return action()
        except OperationalError as error:
            if not is_locked_error(error) or time.monotonic() > end:
                raise
            time.sleep(0.1)


def load_sources(
    gradebook: Any, assignment: str, folders: tuple[Path, ...] = ()
) -> dict[str, SourceNotebook]:
    """Read what the gradebook knows of an assignment.

    Parameters
    ----------
    gradebook : nbgrader.api.Gradebook
    assignment : str
    folders : tuple of Path
        Where the instructor's notebook files may lie, best first; their ordinary cells give the
        tests their imports and helpers.

    Returns
    -------
    dict of str to SourceNotebook

    Raises
    ------
    nbgrader.api.MissingEntry
        If the assignment was never generated.
    """
    sources = {}
    for notebook in gradebook.find_assignment(assignment).notebooks:
        points = {cell.name: cell.max_score for cell in notebook.grade_cells}
        task_points = {cell.name: cell.max_score for cell in notebook.task_cells}
        solutions = {cell.name for cell in notebook.solution_cells}
        rows = {cell.name: cell for cell in notebook.source_cells}
        plain, order = _instructors_cells(notebook.name, folders)
        names = [name for name in order if name in rows]
        names += [name for name in rows if name not in names]
        cells = {
            name: SourceCell(
                name=name,
                cell_type=rows[name].cell_type,
                source=rows[name].source or "",
                checksum=rows[name].checksum or "",
                locked=bool(rows[name].locked),
                grade=name in points,
                solution=name in solutions or name in task_points,
                task=name in task_points,
                points=points.get(name, task_points.get(name)),
            )
            for name in names
        }
        for name, cell in cells.items():
            if cell.task:
                cells[name] = SourceCell(**{**cell.__dict__, "solution": False})
        kernelspec = json.loads(notebook.kernelspec) if notebook.kernelspec else {}
        sources[notebook.name] = SourceNotebook(notebook.name, cells, kernelspec, plain)
    return sources


def _instructors_cells(name: str, folders: tuple[Path, ...]) -> tuple[str, list[str]]:
    """Sources of the ordinary code cells, and the order of nbgrader's."""
    for folder in folders:
        path = folder / f"{name}.ipynb"
        try:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        except (OSError, ValueError, KeyError):
            continue
        plain, order = ["import numpy as np"], []
        for cell in cells:
            data = cell.get("metadata", {}).get("nbgrader", {})
            if data.get("grade_id"):
                order.append(data["grade_id"])
            marked = data.get("grade") or data.get("solution") or data.get("locked")
            if cell.get("cell_type") == "code" and not marked:
                plain.append("".join(cell.get("source", "")))
        return "\f".join(plain), order
    return "import numpy as np", []


@contextlib.contextmanager
def transaction(gradebook: Any) -> Iterator[Any]:
    """One transaction: all of it is written, or nothing."""
    session = gradebook.db
    try:
        yield session
        session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        session.expunge_all()


def save(
    session: Any,
    assignment: str,
    student: str,
    notebooks: Mapping[str, Any],
    unreadable: Mapping[str, str],
    timestamp: datetime.datetime | None,
    penalty: Callable[[str, float, float], float | None],
    create_student: bool = True,
) -> dict[str, tuple[float, float]]:
    """Write the marks of one submission; the caller commits.

    What a person entered stays: manual scores, extra credit, comments, extensions.

    Parameters
    ----------
    session : sqlalchemy session
    assignment, student : str
    notebooks : mapping of str to NotebookNode
        The graded notebooks, whose outputs hold the marks.
    unreadable : mapping of str to str
        Reason by name of each notebook that could not be graded.
    timestamp : datetime or None
        When it was handed in, in UTC.
    penalty : callable
        Of student, score and seconds late.
    create_student : bool
        Whether to add a student who is not in the gradebook yet.

    Returns
    -------
    dict
        Automatic score and maximum of each notebook.
    """
    from nbgrader import api, utils

    if session.get(api.Student, student) is None:
        if not create_student:
            raise api.MissingEntry(f"No student with ID '{student}' exists in the database")
        session.add(api.Student(id=student))
        session.flush()
    row = session.query(api.Assignment).filter(api.Assignment.name == assignment).one()
    submission = (
        session.query(api.SubmittedAssignment)
        .filter_by(assignment_id=row.id, student_id=student)
        .one_or_none()
    )
    if submission is None:
        submission = api.SubmittedAssignment(
            id=api.new_uuid(), assignment_id=row.id, student_id=student
        )
        session.add(submission)
    if timestamp is not None:
        submission.timestamp = timestamp
    due = row.duedate
    if due is not None and submission.extension is not None:
        due += submission.extension
    late = 0.0
    if due is not None and submission.timestamp is not None:
        late = max(0.0, (submission.timestamp - due).total_seconds())
    session.flush()
    totals = {}
    for notebook in row.notebooks:
        submitted = (
            session.query(api.SubmittedNotebook)
            .filter_by(notebook_id=notebook.id, assignment_id=submission.id)
            .one_or_none()
        )
        if submitted is None:
            submitted = api.SubmittedNotebook(
                id=api.new_uuid(), notebook_id=notebook.id, assignment_id=submission.id
            )
            session.add(submitted)
            session.flush()
        marks, remarks = _rows(session, api, notebook, submitted)
        reason = unreadable.get(notebook.name)
        if notebook.name in notebooks:
            _fill(notebooks[notebook.name], marks, remarks, utils)
            # Take back only the flag that this program itself once set.
            if any((c.auto_comment or "").startswith(UNGRADED_PREFIX) for c in remarks.values()):
                submitted.flagged = False
            for name, comment in remarks.items():
                if (comment.auto_comment or "").startswith(UNGRADED_PREFIX):
                    comment.auto_comment = _no_response(notebooks[notebook.name], name, utils)
        elif reason is not None:
            submitted.flagged = True
            for grade in marks.values():
                grade.auto_score = 0.0
                grade.needs_manual_grade = True
            for comment in remarks.values():
                comment.auto_comment = UNGRADED_PREFIX + reason
        score = sum(_score(grade) for grade in marks.values())
        submitted.late_submission_penalty = None
        if late > 0:
            wanted = penalty(student, score, late)
            if wanted is not None:
                submitted.late_submission_penalty = min(max(wanted, 0.0), score)
        most = sum(cell.max_score for cell in (*notebook.grade_cells, *notebook.task_cells))
        totals[notebook.name] = (score, most)
    session.flush()
    return totals


def _rows(
    session: Any, api: Any, notebook: Any, submitted: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Marks and comments by cell, adding those that a changed assignment made necessary."""
    marks = {
        row.cell_id: row for row in session.query(api.Grade).filter_by(notebook_id=submitted.id)
    }
    remarks = {
        row.cell_id: row for row in session.query(api.Comment).filter_by(notebook_id=submitted.id)
    }
    graded = [*notebook.grade_cells, *notebook.task_cells]
    commented = [*notebook.solution_cells, *notebook.task_cells]
    for cell in graded:
        if cell.id not in marks:
            marks[cell.id] = api.Grade(
                id=api.new_uuid(), cell_id=cell.id, notebook_id=submitted.id
            )
            session.add(marks[cell.id])
    for cell in commented:
        if cell.id not in remarks:
            remarks[cell.id] = api.Comment(
                id=api.new_uuid(), cell_id=cell.id, notebook_id=submitted.id
            )
            session.add(remarks[cell.id])
    return (
        {cell.name: marks[cell.id] for cell in graded},
        {cell.name: remarks[cell.id] for cell in commented},
    )


def _fill(notebook: Any, marks: dict[str, Any], remarks: dict[str, Any], utils: Any) -> None:
    """What nbgrader's SaveAutoGrades does, without a query and a commit for every cell."""
    for cell in notebook.cells:
        data = cell.metadata.get("nbgrader", {})
        name = data.get("grade_id")
        if utils.is_grade(cell) and name in marks:
            grade = marks[name]
            grade.auto_score = utils.determine_grade(cell)[0]
            grade.needs_manual_grade = grade.manual_score is not None or grade.auto_score is None
        if (utils.is_solution(cell) or utils.is_task(cell)) and name in remarks:
            comment = remarks[name]
            if not (comment.auto_comment or "").startswith(UNGRADED_PREFIX):
                comment.auto_comment = _no_response(notebook, name, utils)


def _no_response(notebook: Any, name: str, utils: Any) -> str | None:
    for cell in notebook.cells:
        data = cell.metadata.get("nbgrader", {})
        if data.get("grade_id") == name and not utils.is_task(cell):
            same = data.get("checksum") == utils.compute_checksum(cell)
            return "No response." if same else None
    return None


def _score(grade: Any) -> float:
    base = grade.manual_score if grade.manual_score is not None else grade.auto_score
    return float(base or 0.0) + float(grade.extra_credit or 0.0)
