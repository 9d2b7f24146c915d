"""Marks out of the gradebook, for a page of statistics and for an LMS."""

from __future__ import annotations

import csv
import html
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MISTAKE = re.compile(r"^Known mistake \[([\w.-]{1,80})\]: ([^\n]{1,200})", re.MULTILINE)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_SEPARATED_FORMULA = re.compile(r"[;|\t](?=\s*[=+\-@])")


@dataclass
class Mark:
    """One student's marks in an assignment.

    Attributes
    ----------
    student, first_name, last_name, email, lms_id : str
    score, most : float
    questions : dict of str to (float, float)
        Score and maximum by test or answer.
    review : bool
        Whether something waits for a person.
    timestamp : str
    """

    student: str
    score: float
    most: float
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    lms_id: str = ""
    questions: dict[str, tuple[float, float]] = field(default_factory=dict)
    review: bool = False
    timestamp: str = ""


def load_marks(gradebook: Any, assignment: str) -> list[Mark]:
    """Read the marks of everybody who handed in.

    Parameters
    ----------
    gradebook : nbgrader.api.Gradebook
    assignment : str

    Returns
    -------
    list of Mark
        By student.
    """
    marks = []
    for submission in gradebook.assignment_submissions(assignment):
        student = submission.student
        mark = Mark(
            student=student.id,
            score=0.0,
            most=0.0,
            first_name=student.first_name or "",
            last_name=student.last_name or "",
            email=student.email or "",
            lms_id=student.lms_user_id or "",
            timestamp=submission.timestamp.isoformat() if submission.timestamp else "",
        )
        for notebook in submission.notebooks:
            mark.score -= notebook.late_submission_penalty or 0.0
            mark.review |= bool(notebook.flagged)
            for grade in notebook.grades:
                most = float(grade.cell.max_score)
                mark.questions[grade.cell.name] = (float(grade.score), most)
                mark.score += float(grade.score)
                mark.most += most
                mark.review |= bool(grade.needs_manual_grade)
        marks.append(mark)
    return sorted(marks, key=lambda mark: mark.student)


def find_mistakes(notebooks: Sequence[Path]) -> dict[str, Counter[tuple[str, str]]]:
    """Count the named mistakes by question.

    Only what a failed check of the course says counts; what a submission prints does not.

    Parameters
    ----------
    notebooks : sequence of Path
        Graded notebooks.

    Returns
    -------
    dict of str to Counter
        Students by mistake and title, for each test.
    """
    import nbformat

    found: dict[str, Counter[tuple[str, str]]] = {}
    for path in notebooks:
        for cell in nbformat.read(path, as_version=4).cells:
            data = cell.metadata.get("nbgrader", {})
            if not data.get("grade") or cell.cell_type != "code":
                continue
            texts = [
                o.evalue
                for o in cell.outputs
                if o.output_type == "error" and o.ename == "CheckFailed"
            ]
            named = set(_MISTAKE.findall("\n".join(texts)))
            for mistake, title in named:
                found.setdefault(data["grade_id"], Counter())[mistake, title.strip()] += 1
    return found


_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0 2rem; width: 100%; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8886; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
svg { width: 11rem; height: 2.4rem; display: block; }
svg rect { fill: #2f6fb3; } svg line { stroke: currentColor; }
@media (prefers-color-scheme: dark) { svg rect { fill: #7fb2e5; } }
"""


def _histogram(shares: Sequence[float]) -> str:
    """Ten bars, from no points to all of them, with the same in words."""
    counts = [0] * 10
    for share in shares:
        counts[min(int(share * 10), 9)] += 1
    tallest = max(counts) or 1
    bars = "".join(
        f'<rect x="{12 * i + 1}" y="{30 - 28 * n / tallest:.1f}" width="10" '
        f'height="{28 * n / tallest:.1f}"/>'
        for i, n in enumerate(counts)
    )
    words = ", ".join(f"{10 * i}–{10 * i + 10} %: {n}" for i, n in enumerate(counts) if n)
    return (
        f'<svg viewBox="0 0 122 32" role="img" aria-label="Students by share of points. {words}">'
        f'{bars}<line x1="0" y1="31" x2="122" y2="31"/></svg>'
    )


def statistics_page(
    assignment: str,
    marks: Sequence[Mark],
    mistakes: Mapping[str, Counter[tuple[str, str]]],
) -> str:
    """Write a page on how an assignment went.

    Parameters
    ----------
    assignment : str
    marks : sequence of Mark
    mistakes : mapping
        As `find_mistakes` returns.

    Returns
    -------
    str
        A complete HTML page that loads nothing.
    """
    safe = html.escape
    total = [max(mark.score, 0) / mark.most for mark in marks if mark.most]
    questions: dict[str, list[float]] = {}
    for mark in marks:
        for name, (score, most) in mark.questions.items():
            if most:
                questions.setdefault(name, []).append(min(max(score / most, 0), 1))
    rows = "".join(
        f'<tr><th scope="row">{safe(name)}</th><td class="n">{sum(shares) / len(shares):.0%}</td>'
        f'<td class="n">{sum(s == 0 for s in shares)}</td>'
        f'<td class="n">{sum(s == 1 for s in shares)}</td><td>{_histogram(shares)}</td></tr>'
        for name, shares in questions.items()
    )
    counted = [
        (count, name, mistake, title)
        for name, counter in mistakes.items()
        for (mistake, title), count in counter.items()
    ]
    counted.sort(key=lambda row: (-row[0], row[1:]))
    mistake_rows = "".join(
        f'<tr><td class="n">{count}</td><th scope="row">{safe(title)}</th>'
        f"<td><code>{safe(mistake)}</code></td><td>{safe(name)}</td></tr>"
        for count, name, mistake, title in counted
    )
    waiting = [mark.student for mark in marks if mark.review]
    mean = sum(total) / len(total) if total else 0.0
    none = "<p>No failed check named a known mistake.</p>"
    table = (
        '<table><caption>Most frequent named mistakes</caption><thead><tr><th scope="col">Students'
        '</th><th scope="col">Mistake</th><th scope="col">Id</th><th scope="col">Question</th></tr>'
        f"</thead><tbody>{mistake_rows}</tbody></table>"
    )
    review = ""
    if waiting:
        review = f"<h2>Waiting for a person</h2><p>{safe(', '.join(waiting))}</p>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{safe(assignment)}: statistics</title><style>{_STYLE}</style></head><body>"
        f"<h1>{safe(assignment)}</h1><p>{len(marks)} submissions, on average {mean:.0%} of the "
        f"points.</p>{_histogram([min(share, 1) for share in total])}"
        "<h2>Questions</h2>"
        "<table><caption>Share of points by question</caption><thead><tr>"
        '<th scope="col">Question</th><th scope="col">Mean</th><th scope="col">No points</th>'
        '<th scope="col">All points</th>'
        '<th scope="col">From none to all</th></tr></thead>'
        f"<tbody>{rows}</tbody></table><h2>For the next lecture</h2>"
        f"{table if counted else none}{review}</body></html>\n"
    )


def _cell(text: str) -> str:
    """Keep a spreadsheet from taking a name, or a part of one, for a formula."""
    text = _SEPARATED_FORMULA.sub(",", text)  # some split at other signs than the comma
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def export_marks(kind: str, marks: Mapping[str, Sequence[Mark]]) -> str:
    """Write marks in the form that an LMS reads.

    Parameters
    ----------
    kind : {"canvas", "moodle", "csv"}
    marks : mapping of str to sequence of Mark
        By assignment.

    Returns
    -------
    str
        The text of a CSV file.

    Examples
    --------
    >>> print(export_marks("moodle", {"ps": [Mark("ann", 3.0, 4.0, email="a@b.org")]}), end="")
    ID number,First name,Surname,Email address,ps
    ann,,,a@b.org,3
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if kind == "csv":
        writer.writerow(["student", "assignment", "score", "max_score", "review", "timestamp"])
        for assignment, rows in marks.items():
            for mark in rows:
                score = f"{mark.score:g}"
                facts = ["yes" if mark.review else "", mark.timestamp]
                writer.writerow([_cell(mark.student), assignment, score, f"{mark.most:g}", *facts])
        return out.getvalue()
    students: dict[str, Mark] = {}
    for rows in marks.values():
        students |= {mark.student: mark for mark in rows}
    scores = {
        assignment: {mark.student: f"{mark.score:g}" for mark in rows}
        for assignment, rows in marks.items()
    }
    most = {name: max((m.most for m in rows), default=0.0) for name, rows in marks.items()}
    if kind == "canvas":
        writer.writerow(["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *marks])
        writer.writerow(["    Points Possible", "", "", "", "", *[f"{most[n]:g}" for n in marks]])
        for student, mark in sorted(students.items()):
            name = f"{mark.last_name}, {mark.first_name}".strip(", ") or student
            row = [name, mark.lms_id, student, mark.email or student, ""]
            writer.writerow(
                [_cell(text) for text in row] + [scores[n].get(student, "") for n in marks]
            )
    elif kind == "moodle":
        writer.writerow(["ID number", "First name", "Surname", "Email address", *marks])
        for student, mark in sorted(students.items()):
            row = [student, mark.first_name, mark.last_name, mark.email]
            writer.writerow(
                [_cell(text) for text in row] + [scores[n].get(student, "") for n in marks]
            )
    else:
        raise ValueError(f"the format must be canvas, moodle or csv, not {kind!r}")
    return out.getvalue()
