"""``rnncourse collect``: sort downloaded submissions into folders."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("assignment", help="name of the assignment, such as 02-bptt")
    parser.add_argument("folder", type=Path, help="folder with one archive per student")
    parser.add_argument("--roster", type=Path, help="CSV with `id` and other columns")
    parser.add_argument("--timestamps", type=Path, help="CSV with `id` and `timestamp`")
    parser.add_argument("--pattern", help="regular expression with a group (?P<student>...)")
    parser.add_argument("--course", default=".", help="folder with nbgrader_config.py")


def run(arguments: argparse.Namespace) -> int:
    """Collect, and report what was odd."""
    from rnncourse.grading.batch import Course
    from rnncourse.grading.collect import (
        collect,
        expected_notebooks,
        read_roster,
        read_stamps,
        write_submission,
    )
    from rnncourse.grading.commands.grade import load_course
    from rnncourse.grading.staging import printable

    folder = arguments.folder.resolve()
    try:
        roster = read_roster(arguments.roster)
        stamps = read_stamps(arguments.timestamps)
        pattern = re.compile(arguments.pattern) if arguments.pattern else None
    except re.error as error:
        print(f"--pattern is not a regular expression: {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if pattern is not None and "student" not in pattern.groupindex:
        print("--pattern needs a group (?P<student>...).", file=sys.stderr)
        return 2
    app = load_course(arguments.course)
    course = Course(app.coursedir, app.coursedir.db_url)
    expected = expected_notebooks(course.sources(arguments.assignment))
    if not expected:
        where = " or ".join(map(str, course.sources(arguments.assignment)))
        print(f"There is no assignment {arguments.assignment}: no {where}.", file=sys.stderr)
        return 2
    if not folder.is_dir():
        what = "is not a folder: unpack it first" if folder.exists() else "is not there"
        print(f"{folder} {what}.", file=sys.stderr)
        return 2
    new = status = 0
    received_all = collect(folder, expected, roster=roster, pattern=pattern, stamps=stamps)
    for received, files in received_all:
        target = course.folder("submitted", received.student, arguments.assignment)
        try:
            new += write_submission(target, received, files)
        except OSError as error:
            received.notes.append(f"NOT collected: {error.strerror or error}")
            status = 1
        notes = [*(["late according to the LMS"] if received.late else []), *received.notes]
        if notes:
            print(printable(f"  {received.student}: {'; '.join(notes)}", 10_000))
    print(f"{len(received_all)} submissions, {new} of them new or newer than before.")
    return status
