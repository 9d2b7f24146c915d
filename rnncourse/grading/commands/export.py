"""``rnncourse export``: write marks for an LMS."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("assignments", nargs="+", help="names of assignments, or `all`")
    parser.add_argument("--format", choices=("canvas", "moodle", "csv"), default="csv")
    parser.add_argument("--out", type=Path, help="the file to write; standard output without it")
    parser.add_argument("--db", help="address of the gradebook")
    parser.add_argument("--course", default=".", help="folder with nbgrader_config.py")


def run(arguments: argparse.Namespace) -> int:
    """Write the marks."""
    from rnncourse.grading.commands.grade import load_course
    from rnncourse.grading.gradebook import open_gradebook
    from rnncourse.grading.marks import export_marks, load_marks

    out = arguments.out.resolve() if arguments.out else None
    app = load_course(arguments.course, arguments.db)
    with open_gradebook(app.coursedir.db_url, app.coursedir.course_id) as gradebook:
        known = [assignment.name for assignment in gradebook.assignments]
        names = known if arguments.assignments == ["all"] else arguments.assignments
        unknown = sorted(set(names) - set(known))
        if unknown:
            print(f"Not in the gradebook: {', '.join(unknown)}", file=sys.stderr)
            return 2
        marks = {name: load_marks(gradebook, name) for name in names}
    text = export_marks(arguments.format, marks)
    for name, rows in marks.items():
        if waiting := sum(mark.review for mark in rows):
            print(
                f"{name}: {waiting} of {len(rows)} submissions still wait for a person; their "
                "points are not final.",
                file=sys.stderr,
            )
    if out is None:
        print(text, end="")
        return 0
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"Nothing was exported: {error}", file=sys.stderr)
        return 2
    return 0
