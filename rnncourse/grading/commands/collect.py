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

    folder = arguments.folder.resolve()
    roster = read_roster(arguments.roster.resolve() if arguments.roster else None)
    stamps_file = arguments.timestamps.resolve() if arguments.timestamps else None
    app = load_course(arguments.course)
    course = Course(app.coursedir, app.coursedir.db_url)
    expected = expected_notebooks(course.sources(arguments.assignment))
    if not expected:
        print(f"There is no assignment {arguments.assignment}.", file=sys.stderr)
        return 2
    if not folder.is_dir():
        print(f"There is no folder {folder}.", file=sys.stderr)
        return 2
    pattern = re.compile(arguments.pattern) if arguments.pattern else None
    new = 0
    stamps = read_stamps(stamps_file)
    received_all = collect(folder, expected, roster=roster, pattern=pattern, stamps=stamps)
    for received, files in received_all:
        target = course.folder("submitted", received.student, arguments.assignment)
        written = write_submission(target, received, files)
        new += written
        notes = [*(["late according to the LMS"] if received.late else []), *received.notes]
        if notes:
            print(f"  {received.student}: {'; '.join(notes)}")
    print(f"{len(received_all)} submissions, {new} of them new or newer than before.")
    return 0
