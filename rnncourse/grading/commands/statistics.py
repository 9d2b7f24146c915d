"""``rnncourse statistics``: show how an assignment went."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("assignment", help="name of the assignment, such as 02-bptt")
    parser.add_argument("--out", type=Path, help="the page to write")
    parser.add_argument("--db", help="address of the gradebook")
    parser.add_argument("--course", default=".", help="folder with nbgrader_config.py")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from rnncourse.grading.batch import Course
    from rnncourse.grading.commands.grade import load_course
    from rnncourse.grading.gradebook import open_gradebook
    from rnncourse.grading.marks import find_mistakes, load_marks, statistics_page

    out = arguments.out.resolve() if arguments.out else None
    app = load_course(arguments.course, arguments.db)
    course = Course(app.coursedir, app.coursedir.db_url)
    with open_gradebook(course.db_url, app.coursedir.course_id) as gradebook:
        marks = load_marks(gradebook, arguments.assignment)
    if not marks:
        print(f"Nobody has marks in {arguments.assignment} yet.", file=sys.stderr)
        return 2
    notebooks = [
        path
        for mark in marks
        for path in course.folder("autograded", mark.student, arguments.assignment).glob("*.ipynb")
    ]
    page = statistics_page(arguments.assignment, marks, find_mistakes(notebooks))
    out = out or course.state() / "statistics" / f"{arguments.assignment}.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    print(out)
    return 0
