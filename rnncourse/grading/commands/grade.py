"""``rnncourse grade``: grade the submissions of an assignment."""

from __future__ import annotations

import argparse
import os
import sys
import types
from typing import Any, cast


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("assignment", help="name of the assignment, such as 02-bptt")
    parser.add_argument("--student", action="append", help="only this student (may be repeated)")
    parser.add_argument("--jobs", type=int, default=0, help="submissions at the same time")
    parser.add_argument(
        "--force", action="store_true", help="grade again what is graded; manual marks stay"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="grade only what is not graded yet or has changed (the default)",
    )
    parser.add_argument("--db", help="address of the gradebook, such as postgresql://host/grades")
    parser.add_argument("--scheduler", help="grade on the Dask cluster at this address")
    parser.add_argument(
        "--trust-submissions",
        action="store_true",
        help="run without a sandbox, as yourself: only for your own work",
    )
    parser.add_argument("--course", default=".", help="folder with nbgrader_config.py")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def load_course(folder: str, db_url: str | None = None) -> Any:
    """Read a course's ``nbgrader_config.py`` and return nbgrader's app that holds it.

    Parameters
    ----------
    folder : str
        The course's folder.
    db_url : str, optional
        Replaces the configured gradebook.

    Returns
    -------
    nbgrader.apps.AutogradeApp
    """
    os.chdir(folder)
    if not os.path.exists("nbgrader_config.py"):
        sys.exit(f"There is no nbgrader_config.py in {os.getcwd()}: go to the course's folder.")
    # jsonschema loads this grammar, in more than a second, for a format that no notebook has.
    sys.modules.setdefault("rfc3987_syntax", cast(types.ModuleType, None))
    from nbgrader.apps.autogradeapp import AutogradeApp

    AutogradeApp.clear_instance()
    app = AutogradeApp.instance()
    app.initialize(["--log-level=WARN"])
    if db_url is not None:
        from rnncourse.grading.gradebook import database_url

        db_url = database_url(db_url)
        app.config.CourseDirectory.db_url = db_url
        app.coursedir.db_url = db_url
    return app


def run(arguments: argparse.Namespace) -> int:
    """Grade; the status is 0 unless something could not be graded."""
    app = load_course(arguments.course, arguments.db)
    from nbgrader.api import MissingEntry
    from nbgrader.converters.base import NbGraderException

    from rnncourse.grading.nbgrader_plug import SealedAutograde

    app.coursedir.assignment_id = arguments.assignment
    status = 0
    for student in arguments.student or ["*"]:
        app.coursedir.student_id = student
        converter = SealedAutograde(coursedir=app.coursedir, parent=app)
        converter.force = arguments.force
        converter.scheduler = arguments.scheduler
        converter.quiet = arguments.quiet
        converter.logs_summary = False
        converter.trust_submissions = arguments.trust_submissions
        if arguments.jobs:
            converter.config.SealedExecute.jobs = arguments.jobs
        try:
            converter.start()
        except MissingEntry as error:
            print(
                f"{error} in the gradebook\n"
                f"Release it first: nbgrader generate_assignment {arguments.assignment} --force",
                file=sys.stderr,
            )
            return 2
        except NbGraderException:  # the reason is in the log
            if converter.last_summary is None:
                return 2
            status = 1
        except OSError as error:
            print(
                f"{error}\nThe grader stopped, and what it had graded is kept: put this right and "
                "run the same command again.",
                file=sys.stderr,
            )
            return 2
        except KeyboardInterrupt:
            status = 130
        if converter.last_summary is not None:
            print(converter.last_summary.text())
        if status == 130:
            break
    return status
