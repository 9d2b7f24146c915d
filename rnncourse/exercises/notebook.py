"""Run a notebook's cells on the student's own machine and count the points; no grader is needed.

The cells run in a process of their own, one after the other. A cell that does not end is given up
after a time limit; a new process then runs the cells before it again and goes on with the next.
Nothing here is a sandbox: it runs one's own work.
"""

from __future__ import annotations

import difflib
import io
import json
import linecache
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rnncourse.exercises.registry import ASSIGNMENTS

CELL_LIMIT = 60.0  # seconds
EXPERIMENT = "# Experiment"
NOT_DEFINED = "is not defined"


class NotebookError(ValueError):
    """A file that cannot be checked; the text says why."""


@dataclass(frozen=True)
class Cell:
    """One cell that matters for the points.

    Attributes
    ----------
    name : str
        nbgrader's grade id, or the number of the cell.
    source : str
    role : str
        "test", "manual", "code" or "experiment".
    points : float
    """

    name: str
    source: str
    role: str
    points: float = 0.0


@dataclass(frozen=True)
class Result:
    """What became of a cell.

    Attributes
    ----------
    cell : Cell
    passed : bool
    feedback : str
        Why it failed; empty if it passed.
    """

    cell: Cell
    passed: bool
    feedback: str = ""

    @property
    def function(self) -> str:
        """What the cell is about, for a table."""
        return self.cell.name.removeprefix("test_")


def find_notebook(path: Path) -> Path:
    """Return the notebook at `path`, which may be its folder.

    Raises
    ------
    NotebookError
        If there is none, or more than one.
    """
    if path.is_dir():
        found = sorted(path.glob("*.ipynb"))
        named = path / f"{path.resolve().name}.ipynb"
        if len(found) > 1 and named in found:
            return named  # the others are copies, which nbgrader does not collect
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(other.name for other in found)
            raise NotebookError(f"{path} holds {len(found)} notebooks; name one of them: {names}")
        inside = sorted(path.glob("*/*.ipynb"))
        advice = f"; name an assignment, as in {inside[0].parent}" if inside else ""
        raise NotebookError(f"{path} holds no notebook{advice}")
    if not path.exists():
        known = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, known, n=1)
        advice = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise NotebookError(f"there is no file or folder {path}{advice}")
    if path.suffix != ".ipynb":
        raise NotebookError(f"{path} is not a notebook: its name does not end in .ipynb")
    return path


def read_cells(path: Path) -> list[Cell]:
    """Return the cells of a notebook that are run or worth points.

    Raises
    ------
    NotebookError
        If the file is not a notebook, or has no cell with points.
    """
    try:
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text) if text.strip() else None
    except OSError as error:
        raise NotebookError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise NotebookError(f"{path} is not a notebook: its text is damaged") from None
    if notebook is None:
        raise NotebookError(f"{path} is empty")
    try:
        cells = [_read_cell(number, cell) for number, cell in enumerate(notebook["cells"], start=1)]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise NotebookError(
            f"{path} is not a notebook of format 4: its cells are missing or damaged"
        ) from None
    kept = [cell for cell in cells if cell is not None]
    if any(cell.points for cell in kept):
        return kept
    if any("check(" in cell.source for cell in kept):
        raise NotebookError(
            f"{path} has tests but no points: the program that saved it dropped nbgrader's "
            "metadata. Copy your functions into a fresh copy of the notebook."
        )
    raise NotebookError(f"{path} has no cell that is worth points: is it an assignment?")


def missing_tests(results: Iterable[Result]) -> list[str]:
    """Return the functions of the assignment whose test cells are gone from the notebook.

    Examples
    --------
    >>> missing_tests([Result(Cell("test_cosine", "", "test", 3.0), True)])
    ['global_norm', 'clip_by_global_norm', 'clip_by_value', 'sgd_step']
    """
    present = {result.function for result in results}
    names = max((names for _, names in ASSIGNMENTS.values()), key=lambda n: len(present & {*n}))
    return [name for name in names if name not in present] if present & {*names} else []


def _read_cell(number: int, cell: dict[str, Any]) -> Cell | None:
    source = cell["source"]
    text = source if isinstance(source, str) else "".join(source)
    grading = cell.get("metadata", {}).get("nbgrader", {})
    name = str(grading.get("grade_id") or f"cell {number}")
    points = float(grading.get("points") or 0.0)
    if grading.get("grade") and grading.get("solution"):
        return Cell(name, text, "manual", points)
    if cell["cell_type"] != "code":
        return None
    if grading.get("grade"):
        return Cell(name, text, "test", points)
    return Cell(name, text, "experiment" if text.startswith(EXPERIMENT) else "code")


def run_notebook(
    path: Path,
    *,
    limit: float = CELL_LIMIT,
    progress: Callable[[Cell], None] = lambda cell: None,
) -> list[Result]:
    """Run a notebook and return what became of every cell that is worth points.

    Experiments are left out at first, which saves seconds. They run too where a name is missing
    that one of them may define: the grader runs every cell.

    Parameters
    ----------
    path : Path
        The notebook.
    limit : float
        Seconds per cell.
    progress : callable
        Called with every cell before it runs.

    Returns
    -------
    list of Result
        In the order of the notebook; manually graded cells count as not passed.

    Raises
    ------
    NotebookError
        If the file cannot be read.
    """
    cells = read_cells(path)
    without = [cell for cell in cells if cell.role != "experiment"]
    results = _run_cells(without, path.parent, limit, progress)
    if len(without) < len(cells) and any(NOT_DEFINED in r.feedback for r in results):
        results = _run_cells(cells, path.parent, limit, progress)
    return results


def _run_cells(
    cells: list[Cell], folder: Path, limit: float, progress: Callable[[Cell], None]
) -> list[Result]:
    outcomes: dict[int, str] = {}
    todo = [i for i, cell in enumerate(cells) if cell.role != "manual"]
    given_up: set[int] = set()
    while todo:
        done = [i for i in outcomes if i not in given_up and cells[i].role != "test"]
        with _Process(folder) as process:
            for i in done:
                process.run(cells[i], limit)
            while todo:
                i = todo.pop(0)
                progress(cells[i])
                feedback = process.run(cells[i], limit)
                if feedback is None:
                    given_up.add(i)
                    outcomes[i] = process.why
                    break
                outcomes[i] = feedback
    broken = {
        cells[i].name: text for i, text in outcomes.items() if text and cells[i].role == "code"
    }
    return [
        Result(
            cell, cell.role == "test" and not outcomes[i], _explain(cell, outcomes.get(i), broken)
        )
        for i, cell in enumerate(cells)
        if cell.points
    ]


def _explain(cell: Cell, feedback: str | None, broken: dict[str, str]) -> str:
    """Return the feedback of a cell, with the reason where the function's own cell failed."""
    if cell.role == "manual":
        return "graded by hand"
    reason = broken.get(cell.name.removeprefix("test_"))
    if feedback and reason:
        return f"The cell with the function failed: {reason}"
    if feedback and NOT_DEFINED in feedback and broken:
        name, reason = next(iter(broken.items()))
        return f"{feedback}\nThe cell {name!r} failed before: {reason}"
    return feedback or ""


class _Process:
    """A process that runs cells, one after the other, in one namespace."""

    def __init__(self, folder: Path) -> None:
        self.why = ""
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, str(folder)), daemon=True)
        self.process.start()
        other.close()

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()

    def run(self, cell: Cell, limit: float) -> str | None:
        """Run a cell and return its feedback, or None if the process is lost."""
        try:
            self.connection.send((cell.name, cell.source, cell.role))
            if self.connection.poll(limit):
                return str(self.connection.recv())
            self.why = f"This cell did not finish within {limit:.0f} s. Look for an endless loop."
        except (EOFError, OSError):
            self.why = "This cell ended the whole program: memory used up, or a call of exit."
        return None


def _serve(connection: Connection, folder: str) -> None:
    """Run the cells that arrive; the answer is '' or the text of what went wrong."""
    os.environ.setdefault("MPLBACKEND", "agg")
    os.chdir(folder)
    import rnncourse.exercises as exercises

    def check(name: str, function: Callable[..., Any], *, hidden: bool = False) -> None:
        # the released notebook holds the visible test only; the grade depends on both
        original(name, function, hidden=hidden)
        if not hidden:
            original(name, function, hidden=True)

    original, exercises.check = exercises.check, check
    namespace: dict[str, Any] = {"__name__": "__main__"}
    while True:
        try:
            name, source, role = connection.recv()
        except EOFError:
            return
        connection.send(_run(name, source, role, namespace))


def _run(name: str, source: str, role: str, namespace: dict[str, Any]) -> str:
    filename = f"<cell {name}>"
    code = without_magics(source)
    linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
    quiet = io.StringIO()
    try:
        with redirect_stdout(quiet), redirect_stderr(quiet):
            exec(compile(code, filename, "exec"), namespace)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        from rnncourse.exercises import CheckFailed

        if isinstance(error, CheckFailed):
            return str(error)
        if isinstance(error, NameError) and role == "test":
            return f"{error}: is the cell that defines it still there, and does it run?"
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == filename]
        where = f" in line {frames[-1].lineno}: {frames[-1].line}" if frames else ""
        if isinstance(error, SyntaxError):
            return f"SyntaxError: {error.msg} in line {error.lineno}: {(error.text or '').strip()}"
        return f"{type(error).__name__}: {str(error)[:500]}{where}"
    return ""


def without_magics(source: str) -> str:
    """Return a cell's code with IPython's magics commented out, so that plain Python can run it.

    Examples
    --------
    >>> without_magics("%matplotlib inline\\nx = 1")
    '# %matplotlib inline\\nx = 1'
    """
    lines = source.splitlines()
    return "\n".join(f"# {line}" if line[:1] in ("%", "!") else line for line in lines)


def points(results: Iterable[Result]) -> tuple[float, float, float]:
    """Return the points earned, those that tests give, and those that are given by hand."""
    results = list(results)
    tests = [r for r in results if r.cell.role == "test"]
    earned = sum(r.cell.points for r in tests if r.passed)
    by_hand = sum(r.cell.points for r in results if r.cell.role == "manual")
    return earned, sum(r.cell.points for r in tests), by_hand
