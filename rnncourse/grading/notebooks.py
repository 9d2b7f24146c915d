"""From an untrusted notebook file to cells that may be run, and from results back to a notebook.

Of what a student hands in, only the text of cells is kept. Everything that decides about points
comes from the gradebook: which cells are tests, what they say, what they are worth.
"""

from __future__ import annotations

import ast
import base64
import binascii
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .launch import Cell, Result

MAX_CELLS = 2000
MAX_SOURCE = 1 << 20
MAX_CODE = 4 << 20
MAX_NOTEBOOK = 20 << 20
MAX_PARTS = 500_000
MAX_PIXELS = 40_000_000
TEXT_LIMIT = 64 << 10
LINE_LIMIT = 1000
BEGIN_HIDDEN = "BEGIN HIDDEN TESTS"
END_HIDDEN = "END HIDDEN TESTS"
# Marks what submitted code printed while a test ran, apart from what the test itself says.
FROM_SUBMISSION = {"printed_by": "submission"}
# Marks what a test said or showed after its hidden lines had run.
AFTER_HIDDEN = {"printed_by": "submission", "after": "hidden tests"}

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_IMAGE = re.compile(r"!(?=\[)")
_MAGIC_NUMBERS = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}
# After this character `<` no longer opens a tag; it is invisible in text, code and mathematics.
_WORD_JOINER = "\u2060"
# MathJax's ways to links, styles and identifiers, and to building such a command out of parts.
_MACRO = re.compile(
    r"\\(?=(?:href|url|style|class|cssId|data|require|unicode|mmlToken|includegraphics|texttip|"
    r"toggle|action|csname|let|futurelet|[gex]?def|(?:re|provide)?newcommand|renewcommand|"
    r"(?:re)?newenvironment|DeclareMathOperator|Newextarrow|bbox|enclose|html\w*)(?![a-z]))"
)
_SCHEME = re.compile(
    r"(?i)\b((?:j\s*a\s*v\s*a|v\s*b|l\s*i\s*v\s*e)\s*s\s*c\s*r\s*i\s*p\s*t|data|file|blob)"
    r"(?=\s*\\?:)"
)
_ENTITY = re.compile(r"&(?=#|\w+;)")


class UnreadableNotebookError(ValueError):
    """A file that is not a notebook; the text says why, in words for student and instructor."""


@dataclass(frozen=True)
class SourceCell:
    """A cell as the gradebook knows it.

    Attributes
    ----------
    name : str
        Its grade id.
    cell_type : str
    source : str
    checksum : str
    locked, grade, solution, task : bool
    points : float or None
    """

    name: str
    cell_type: str
    source: str
    checksum: str
    locked: bool
    grade: bool
    solution: bool
    task: bool
    points: float | None

    @property
    def is_test(self) -> bool:
        """Whether the cell's run decides about points."""
        return self.grade and not self.solution and self.cell_type == "code"

    def metadata(self) -> dict[str, Any]:
        """Return nbgrader's metadata of the cell, as it was released."""
        data: dict[str, Any] = {
            "grade_id": self.name,
            "grade": self.grade,
            "solution": self.solution,
            "task": self.task,
            "locked": self.locked,
            "schema_version": 3,
            "cell_type": self.cell_type,
            "checksum": self.checksum,
        }
        if self.points is not None:
            data["points"] = self.points
        return data


@dataclass(frozen=True)
class SourceNotebook:
    """A notebook of an assignment, as the gradebook and the course folder know it.

    Attributes
    ----------
    name : str
    cells : dict of str to SourceCell
        In the order of the notebook.
    kernelspec : dict
    plain : str
        Sources of the instructor's ordinary code cells, separated by form feeds.
    defined : tuple of str
        Names that the instructor's own answers define.
    """

    name: str
    cells: dict[str, SourceCell]
    kernelspec: dict[str, Any] = field(default_factory=dict)
    plain: str = "import numpy as np"
    defined: tuple[str, ...] = ()

    def answers(self) -> tuple[str, ...]:
        """Names that the solution cells define: always the student's in a test."""
        names = set(self.defined)
        for cell in self.cells.values():
            if cell.solution and cell.cell_type == "code":
                names |= defined_names(cell.source)
        return tuple(sorted(names))

    def text(self) -> str:
        """Everything that the instructor wrote in code cells."""
        cells = [cell.source for cell in self.cells.values() if cell.cell_type == "code"]
        return "\n".join([self.plain.replace("\f", "\n"), *cells])

    def uses_torch(self) -> bool:
        """Whether the instructor's cells import torch, so that submissions get it, too."""
        return re.search(r"^\s*(?:import|from)\s+torch\b", self.text(), re.MULTILINE) is not None


def defined_names(source: str) -> set[str]:
    """Names that code binds at top level.

    Examples
    --------
    >>> sorted(defined_names("def f(x):\\n    y = x\\na, b = 1, 2"))
    ['a', 'b', 'f']
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set(re.findall(r"^(?:async +def|def|class) +(\w+)", source, re.MULTILINE))
    names: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
            names |= {
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
    return names


def imports_of(source: str) -> str:
    """Return the imports at the top level of code, on which tests may count, too.

    Examples
    --------
    >>> imports_of("import math\\ndef f(x):\\n    return math.sqrt(x)")
    'import math'
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    return "\n".join(
        ast.unparse(statement)
        for statement in tree.body
        if isinstance(statement, ast.Import | ast.ImportFrom)
        and getattr(statement, "module", "") != "__future__"
    )


def hidden_spans(source: str) -> tuple[tuple[int, int], ...]:
    """First and last lines of the hidden regions of a test cell.

    Examples
    --------
    >>> hidden_spans("a\\n### BEGIN HIDDEN TESTS\\nb\\n### END HIDDEN TESTS\\nc")
    ((2, 4),)
    """
    spans, begin = [], None
    lines = source.split("\n")  # as Python counts them
    for number, line in enumerate(lines, start=1):
        if begin is None and BEGIN_HIDDEN in line:
            begin = number
        elif begin is not None and END_HIDDEN in line:
            spans.append((begin, number))
            begin = None
    if begin is not None:
        spans.append((begin, len(lines)))
    return tuple(spans)


def without_hidden(source: str) -> str:
    """Return the part of a test cell that students may read."""
    spans = hidden_spans(source)
    lines = source.split("\n")  # as Python counts them
    return "\n".join(
        line
        for number, line in enumerate(lines, start=1)
        if not any(first <= number <= last for first, last in spans)
    )


def parse(data: bytes) -> list[tuple[str, str, str | None]]:
    """Read a submitted notebook file.

    Parameters
    ----------
    data : bytes
        The file's content.

    Returns
    -------
    list of tuple
        Type, source and grade id of each cell; nothing else of the file is looked at.

    Raises
    ------
    UnreadableNotebookError
        If it is not a notebook.
    """
    if len(data) > MAX_NOTEBOOK:
        raise UnreadableNotebookError(f"the notebook is larger than {MAX_NOTEBOOK >> 20} MB")
    if data.count(b"[") + data.count(b"{") > MAX_PARTS:
        raise UnreadableNotebookError(f"the notebook has more than {MAX_PARTS:,} parts")
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UnreadableNotebookError("the notebook is not a text file in UTF-8") from None
    except RecursionError:
        raise UnreadableNotebookError("the notebook is nested too deeply") from None
    except ValueError:
        reason = "the notebook is empty" if not data.strip() else "the notebook is not JSON"
        raise UnreadableNotebookError(reason) from None
    if not isinstance(notebook, dict):
        raise UnreadableNotebookError("the file is JSON but not a notebook")
    cells = notebook.get("cells")
    if cells is None and isinstance(sheets := notebook.get("worksheets"), list):
        cells = [
            cell
            for sheet in sheets
            if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list)
            for cell in sheet["cells"]
        ]
    if not isinstance(cells, list):
        raise UnreadableNotebookError("the file is JSON but has no list of cells")
    if len(cells) > MAX_CELLS:
        raise UnreadableNotebookError(f"the notebook has more than {MAX_CELLS} cells")
    found = [read for cell in cells if (read := _read_cell(cell)) is not None]
    if sum(len(json.dumps(text)) for kind, text, _ in found if kind != "markdown") > MAX_CODE:
        raise UnreadableNotebookError(f"the notebook holds more than {MAX_CODE >> 20} MB of code")
    return found


def _read_cell(cell: Any) -> tuple[str, str, str | None] | None:
    if not isinstance(cell, dict):
        return None
    kind = cell.get("cell_type")
    kind = kind if kind in ("code", "markdown", "raw") else "markdown"
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    if not isinstance(source, str):
        return None
    if len(source) > MAX_SOURCE:
        raise UnreadableNotebookError(f"a cell is larger than {MAX_SOURCE >> 20} MB")
    source = source.encode("utf-8", "replace").decode().replace("\x00", "")
    metadata = cell.get("metadata")
    data = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    grade_id = data.get("grade_id") if isinstance(data, dict) else None
    return kind, source, grade_id if isinstance(grade_id, str) else None


def rebuild(cells: Sequence[tuple[str, str, str | None]], source: SourceNotebook) -> Any:
    """Build a clean notebook from the texts of a submission and the gradebook's facts.

    Parameters
    ----------
    cells : sequence of tuple
        What `parse` returned.
    source : SourceNotebook

    Returns
    -------
    NotebookNode
        Every test and every read-only cell says what the gradebook says; missing ones are added.
    """
    from nbformat import from_dict

    last = {name: index for index, (_, _, name) in enumerate(cells) if name in source.cells}
    placed: list[tuple[str, str, SourceCell | None]] = []
    for index, (kind, text, name) in enumerate(cells):
        known = source.cells[name] if name is not None and last.get(name) == index else None
        if known is None:
            placed.append((kind, _harmless(text) if kind == "markdown" else text, None))
            continue
        if known.locked:
            text = known.source
        elif known.cell_type == "markdown" and text != known.source:
            text = _harmless(text)
        placed.append((known.cell_type, text, known))
    _add_missing(placed, source)
    _in_order(placed, source)
    nodes = []
    for index, (kind, text, known) in enumerate(placed):
        metadata: dict[str, Any] = {}
        if known is not None:
            metadata["nbgrader"] = known.metadata()
            if known.locked:
                metadata |= {"editable": False, "deletable": False}
        node: dict[str, Any] = {
            "cell_type": kind,
            "id": f"cell-{index}",
            "metadata": metadata,
            "source": text,
        }
        if kind == "code":
            node |= {"execution_count": None, "outputs": []}
        nodes.append(node)
    return from_dict(
        {
            "cells": nodes,
            "metadata": {"kernelspec": dict(source.kernelspec)} if source.kernelspec else {},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


def _add_missing(placed: list[tuple[str, str, SourceCell | None]], source: SourceNotebook) -> None:
    """Put back deleted tests, read-only cells and tasks, each after the one that precedes it."""
    position = {cell.name: index for index, (_, _, cell) in enumerate(placed) if cell is not None}
    before: str | None = None
    for name, cell in source.cells.items():
        if name not in position and (cell.grade or cell.locked or cell.task):
            index = 0 if before is None else position[before] + 1
            placed.insert(index, (cell.cell_type, cell.source, cell))
            for other, at in position.items():
                position[other] = at + 1 if at >= index else at
            position[name] = index
        if name in position:
            before = name


def _in_order(placed: list[tuple[str, str, SourceCell | None]], source: SourceNotebook) -> None:
    """Bring the instructor's cells back into their order, as one may count on another before it."""
    rank = {name: number for number, name in enumerate(source.cells)}
    slots = [
        index
        for index, (_, _, cell) in enumerate(placed)
        if cell is not None and not cell.solution and (cell.locked or cell.grade)
    ]
    ordered = sorted((placed[index] for index in slots), key=lambda item: rank[_name_of(item)])
    for index, item in zip(slots, ordered, strict=True):
        placed[index] = item


def _name_of(item: tuple[str, str, SourceCell | None]) -> str:
    return "" if item[2] is None else item[2].name


def _harmless(markdown: str) -> str:
    """Keep a browser from taking a student's text for HTML or fetching its pictures."""
    text = _TAG.sub("<" + _WORD_JOINER, markdown)
    text = _IMAGE.sub("!" + _WORD_JOINER, text)
    text = _MACRO.sub("\\\\" + _WORD_JOINER, text)
    text = _ENTITY.sub("&" + _WORD_JOINER, text)
    return _SCHEME.sub(r"\1" + _WORD_JOINER, text)


def runnable(notebook: Any, source: SourceNotebook) -> tuple[tuple[Cell, ...], list[int]]:
    """List the code cells for the runners, with their positions in the notebook."""
    cells, positions = [], []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        known = source.cells.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if known is not None and known.is_test:
            cells.append(Cell("test", known.source, hidden_spans(known.source)))
        elif known is not None and known.locked:
            cells.append(Cell("locked", known.source))
        else:
            cells.append(Cell("student", cell.source))
        positions.append(index)
    return tuple(cells), positions


def clean_text(text: Any, limit: int = TEXT_LIMIT) -> str:
    """Return text that is safe to store, to print and to show.

    Examples
    --------
    >>> clean_text("a\\x1b[31mb\\x00c\\ud800")
    'abc?'
    """
    if not isinstance(text, str):
        return ""
    text = text[: 2 * limit].encode("utf-8", "replace").decode()
    text = _CONTROL.sub("", _ANSI.sub("", text.replace("\r\n", "\n")))
    lines = text[:limit].split("\n")
    if len(lines) > LINE_LIMIT:
        lines = [*lines[: LINE_LIMIT - 1], "... Output truncated ..."]
    return "\n".join(lines)


def _clean_image(mime: str, text: str) -> str | None:
    try:
        data = base64.b64decode(text.replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return None
    if not data.startswith(_MAGIC_NUMBERS[mime]) or _pixels(mime, data) > MAX_PIXELS:
        return None
    return base64.b64encode(data).decode()


def _pixels(mime: str, data: bytes) -> int:
    """Size of a picture by its header: a small file may stand for one that fills the memory."""
    if mime == "image/png":
        return int.from_bytes(data[16:20]) * int.from_bytes(data[20:24])
    at, largest = 2, 0
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC)):
            height, width = data[at + 5 : at + 7], data[at + 7 : at + 9]
            largest = max(largest, int.from_bytes(height) * int.from_bytes(width))
        if data[at + 1] == 0xDA:
            return largest or MAX_PIXELS + 1
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return MAX_PIXELS + 1


def _clean_bundle(bundle: Any) -> dict[str, str]:
    data: dict[str, str] = {}
    for mime, text in bundle.items() if isinstance(bundle, dict) else ():
        if mime == "text/plain":
            data[mime] = clean_text(text)
        elif mime in _MAGIC_NUMBERS and isinstance(text, str):
            image = _clean_image(mime, text)
            if image is not None:
                data[mime] = image
    return data


def clean_outputs(outputs: Any) -> list[Any]:
    """Turn a runner's outputs into notebook outputs: text and checked pictures, nothing else."""
    from nbformat import v4

    nodes: list[Any] = []
    for item in outputs if isinstance(outputs, list) else ():
        if not isinstance(item, list) or len(item) < 2:
            continue
        if item[0] == "stream" and len(item) > 2:
            # Always "stdout": nbgrader takes anything on stderr for a failure.
            text = clean_text(item[2])
            if text and item[1] in ("submission", "late"):
                data = {"text/plain": text}
                mark = AFTER_HIDDEN if item[1] == "late" else FROM_SUBMISSION
                nodes.append(v4.new_output("display_data", data=data, metadata=mark))
            elif text:
                nodes.append(v4.new_output("stream", name="stdout", text=text))
        elif item[0] in ("display", "result", "late") and (data := _clean_bundle(item[1])):
            mark = AFTER_HIDDEN if item[0] == "late" else {}
            nodes.append(v4.new_output("display_data", data=data, metadata=mark))
    return nodes


def fill_in(notebook: Any, positions: Sequence[int], results: Sequence[Result]) -> None:
    """Write the results of a run into the notebook's outputs, where nbgrader reads the marks.

    Parameters
    ----------
    notebook : NotebookNode
        Changed in place.
    positions : sequence of int
        Index of each result's cell.
    results : sequence of dict
    """
    from nbformat import v4

    for count, (index, result) in enumerate(zip(positions, results, strict=True), start=1):
        cell = notebook.cells[index]
        cell.execution_count = count
        cell.outputs = clean_outputs(result.get("outputs"))
        data = cell.metadata.get("nbgrader", {})
        is_test = data.get("grade", False) and not data.get("solution", False)
        error = result.get("error")
        score = result.get("score")
        if is_test and error is None and result.get("passed") is not True:
            error = {"name": "NotRun", "text": "the cell was not run"}
        if is_test and isinstance(score, float) and not math.isfinite(score):
            error = {"name": "NoScore", "text": f"the test gave {score} points"}
        if error is not None:
            cell.outputs.append(_error_output(error))
        elif is_test and score is not None:
            points = min(max(float(score), 0.0), float(data["points"]))
            text = {"text/plain": str(points)}
            cell.outputs.append(v4.new_output("execute_result", data=text, execution_count=count))


def _error_output(error: dict[str, Any]) -> Any:
    from nbformat import v4

    name = clean_text(error.get("name"), 80) or "Error"
    text = clean_text(error.get("text"), 8000)
    parts = [clean_text(error.get("trace"), 4000), clean_text(error.get("where"), 400)]
    lines = [line for part in parts if part for line in part.rstrip().split("\n")]
    lines += f"{name}: {text}".split("\n") if text else [name]
    return v4.new_output("error", ename=name, evalue=text, traceback=lines)
