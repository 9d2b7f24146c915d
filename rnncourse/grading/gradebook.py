"""nbgrader's gradebook, read once and written one submission per transaction.

The rows are nbgrader's own, in nbgrader's own tables; only the way there is shorter: one
connection for the whole run instead of nine per submission, one commit instead of one per cell.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .notebooks import SourceCell, SourceNotebook, defined_names, imports_of

UNGRADED_PREFIX = "Not graded automatically: "
_PATIENCE_S = 60.0

T = TypeVar("T")


def is_locked_error(error: BaseException) -> bool:
    """Whether the database only asks to try again later."""
    text = str(error).lower()
    return "locked" in text or "deadlock" in text or "could not serialize" in text


def database_url(address: str) -> str:
    """Name the PostgreSQL driver that is installed, where an address leaves it open.

    Examples
    --------
    >>> database_url("sqlite:///gradebook.db")
    'sqlite:///gradebook.db'
    """
    found = importlib.util.find_spec
    if address.startswith("postgresql://") and found("psycopg") is None and found("psycopg2"):
        return "postgresql+psycopg2" + address.removeprefix("postgresql")
    return address


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

    return patiently(lambda: Gradebook(database_url(db_url), course_id))


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
        plain, order, defined = _instructors_cells(notebook.name, folders)
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
        sources[notebook.name] = SourceNotebook(notebook.name, cells, kernelspec, plain, defined)
    return sources


def _instructors_cells(
    name: str, folders: tuple[Path, ...]
) -> tuple[str, list[str], tuple[str, ...]]:
    """Sources of the ordinary code cells, the order of nbgrader's, names the answers define."""
    for folder in folders:
        path = folder / f"{name}.ipynb"
        try:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        except (OSError, ValueError, KeyError):
            continue
        plain, order, defined = ["import numpy as np"], [], set[str]()
        for cell in cells:
            data = cell.get("metadata", {}).get("nbgrader", {})
            if data.get("grade_id"):
                order.append(data["grade_id"])
            marked = data.get("grade") or data.get("solution") or data.get("locked")
            if cell.get("cell_type") != "code":
                continue
            if not marked:
                plain.append("".join(cell.get("source", "")))
            elif data.get("solution"):
                source = "".join(cell.get("source", ""))
                defined |= defined_names(source)
                plain.append(imports_of(source))
        return "\f".join(plain), order, tuple(sorted(defined))
    return "import numpy as np", [], ()


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


@dataclass(frozen=True)
class NotebookLayout:
    """Keys of a notebook's cells in the database.

    Attributes
    ----------
    key, name : str
    graded : dict of str to (str, float)
        Key and points of every graded cell and task.
    commented : dict of str to str
        Key of every solution cell and task.
    """

    key: str
    name: str
    graded: dict[str, tuple[str, float]]
    commented: dict[str, str]


@dataclass(frozen=True)
class Layout:
    """Keys of an assignment in the database, read once per run.

    Attributes
    ----------
    key : str
    due : datetime or None
    notebooks : tuple of NotebookLayout
    """

    key: str
    due: datetime.datetime | None
    notebooks: tuple[NotebookLayout, ...]


def load_layout(gradebook: Any, assignment: str) -> Layout:
    """Read the keys under which marks of an assignment are stored."""
    row = gradebook.find_assignment(assignment)
    notebooks = []
    for notebook in row.notebooks:
        graded = {
            cell.name: (cell.id, float(cell.max_score))
            for cell in (*notebook.grade_cells, *notebook.task_cells)
        }
        commented = {
            cell.name: cell.id for cell in (*notebook.solution_cells, *notebook.task_cells)
        }
        notebooks.append(NotebookLayout(notebook.id, notebook.name, graded, commented))
    return Layout(row.id, row.duedate, tuple(notebooks))


def save(
    session: Any,
    layout: Layout,
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
    layout : Layout
    student : str
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
        Score and maximum of each notebook.
    """
    from nbgrader import api

    submission, late = _submission(session, api, layout, student, timestamp, create_student)
    table = api.SubmittedNotebook.__table__
    known = {
        row.notebook_id: row
        for row in session.execute(table.select().where(table.c.assignment_id == submission))
    }
    totals = {}
    for notebook in layout.notebooks:
        row = known.get(notebook.key)
        key = row.id if row is not None else api.new_uuid()
        flagged = bool(row.flagged) if row is not None else False
        if row is None:
            facts = {"id": key, "notebook_id": notebook.key, "assignment_id": submission}
            session.execute(table.insert().values(flagged=False, **facts))
        marks = _marks(session, api, notebook, key)
        remarks = _remarks(session, api, notebook, key)
        ours = any((c["auto_comment"] or "").startswith(UNGRADED_PREFIX) for c in remarks.values())
        if notebook.name in notebooks:
            _judge(notebooks[notebook.name], marks, remarks)
            flagged = flagged and not ours  # take back only what this program itself once set
        elif notebook.name in unreadable:
            flagged = True
            for mark in marks.values():
                mark |= {"auto_score": 0.0, "needs_manual_grade": True}
            for remark in remarks.values():
                remark["auto_comment"] = UNGRADED_PREFIX + unreadable[notebook.name]
        _write(session, api.Grade.__table__, marks.values())
        _write(session, api.Comment.__table__, remarks.values())
        score = sum(_score(mark) for mark in marks.values())
        wanted = penalty(student, score, late) if late > 0 else None
        session.execute(
            table.update()
            .where(table.c.id == key)
            .values(
                flagged=flagged,
                late_submission_penalty=None if wanted is None else min(max(wanted, 0.0), score),
            )
        )
        totals[notebook.name] = (score, sum(points for _, points in notebook.graded.values()))
    return totals


def _submission(
    session: Any,
    api: Any,
    layout: Layout,
    student: str,
    timestamp: datetime.datetime | None,
    create_student: bool,
) -> tuple[str, float]:
    """Find or add the submission; return its key and how many seconds it is late."""
    table = api.SubmittedAssignment.__table__
    condition = (table.c.assignment_id == layout.key) & (table.c.student_id == student)
    row = session.execute(table.select().where(condition)).first()
    extension = None
    if row is None:
        students = api.Student.__table__
        if session.execute(students.select().where(students.c.id == student)).first() is None:
            if not create_student:
                raise api.MissingEntry(f"No student with ID '{student}' exists in the database")
            session.execute(students.insert().values(id=student))
        key = api.new_uuid()
        facts = {"assignment_id": layout.key, "student_id": student, "timestamp": timestamp}
        session.execute(table.insert().values(id=key, **facts))
    else:
        key, extension = row.id, row.extension
        if timestamp is None:
            timestamp = row.timestamp
        elif timestamp != row.timestamp:
            session.execute(table.update().where(table.c.id == key).values(timestamp=timestamp))
    if layout.due is None or timestamp is None:
        return key, 0.0
    due = layout.due if extension is None else layout.due + extension
    return key, max(0.0, (timestamp - due).total_seconds())


def _marks(session: Any, api: Any, notebook: NotebookLayout, key: str) -> dict[str, dict[str, Any]]:
    """Marks by cell, with new ones where a changed assignment made them necessary."""
    table = api.Grade.__table__
    rows = {
        row.cell_id: dict(row._mapping)
        for row in session.execute(table.select().where(table.c.notebook_id == key))
    }
    fresh = {"auto_score": None, "manual_score": None, "extra_credit": None}
    return {
        name: rows.get(cell)
        or fresh
        | {"new": True, "id": api.new_uuid(), "cell_id": cell, "notebook_id": key}
        | {"needs_manual_grade": True}
        for name, (cell, _) in notebook.graded.items()
    }


def _remarks(
    session: Any, api: Any, notebook: NotebookLayout, key: str
) -> dict[str, dict[str, Any]]:
    """Comments by cell, likewise."""
    table = api.Comment.__table__
    rows = {
        row.cell_id: dict(row._mapping)
        for row in session.execute(table.select().where(table.c.notebook_id == key))
    }
    fresh = {"auto_comment": None, "manual_comment": None}
    return {
        name: rows.get(cell)
        or fresh | {"new": True, "id": api.new_uuid(), "cell_id": cell, "notebook_id": key}
        for name, cell in notebook.commented.items()
    }


def _write(session: Any, table: Any, rows: Iterable[dict[str, Any]]) -> None:
    """Insert what is new and update what this program may change of the rest."""
    from sqlalchemy import bindparam

    new: list[dict[str, Any]] = []
    old: list[dict[str, Any]] = []
    for row in rows:
        (new if row.pop("new", False) else old).append(row)
    if new:
        session.execute(table.insert(), new)
    if old:
        ours = ("auto_score", "needs_manual_grade", "auto_comment")
        columns = [name for name in ours if name in table.c]
        statement = (
            table.update()
            .where(table.c.id == bindparam("key"))
            .values({name: bindparam(f"new_{name}") for name in columns})
        )
        values = [
            {"key": row["id"]} | {f"new_{name}": row[name] for name in columns} for row in old
        ]
        session.execute(statement, values)


def _judge(
    notebook: Any, marks: dict[str, dict[str, Any]], remarks: dict[str, dict[str, Any]]
) -> None:
    """What nbgrader's SaveAutoGrades does, without a query and a commit for every cell."""
    from nbgrader import utils

    for cell in notebook.cells:
        data = cell.metadata.get("nbgrader", {})
        name = data.get("grade_id")
        if utils.is_grade(cell) and name in marks:
            score = utils.determine_grade(cell)[0]
            by_hand = marks[name]["manual_score"] is not None or score is None
            marks[name] |= {"auto_score": score, "needs_manual_grade": by_hand}
        if name in remarks and (utils.is_solution(cell) or utils.is_task(cell)):
            same = data.get("checksum") == utils.compute_checksum(cell)
            empty = same and not utils.is_task(cell)
            remarks[name]["auto_comment"] = "No response." if empty else None


def _score(mark: Mapping[str, Any]) -> float:
    base = mark["manual_score"] if mark["manual_score"] is not None else mark["auto_score"]
    return float(base or 0.0) + float(mark["extra_credit"] or 0.0)
