"""The ``rnncourse`` command. Each subcommand is a module that is imported only when it is used.

A subcommand's module has two functions: ``add_arguments(parser)`` and ``run(arguments) -> int``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from rnncourse._extras import require

COMMANDS = {
    "check": ("rnncourse.exercises.commands.check", "run your notebook and show its points"),
    "progress": ("rnncourse.exercises.commands.progress", "show how far you are"),
    "grade": ("rnncourse.grading.commands.grade", "grade the submissions of an assignment"),
    "collect": ("rnncourse.grading.commands.collect", "sort downloaded submissions into folders"),
    "statistics": ("rnncourse.grading.commands.statistics", "show how an assignment went"),
    "export": ("rnncourse.grading.commands.export", "write marks for an LMS"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Defaults to those of the process.

    Returns
    -------
    int
        Exit status.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="rnncourse", description=__doc__.splitlines()[0])
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in words if not word.startswith("-")), None)
    runner = None
    for name, (module_name, summary) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary.capitalize())
        if name == chosen:
            module = importlib.import_module(module_name)
            module.add_arguments(subparser)
            runner = module.run
    parsed = parser.parse_args(words)
    assert runner is not None  # argparse has ended the program for any other word
    if COMMANDS[parsed.command][0].startswith("rnncourse.grading."):
        try:
            require("nbgrader", extra="grading")
        except ModuleNotFoundError as error:
            parser.exit(1, f"{error}\n")
    return int(runner(parsed))


if __name__ == "__main__":
    sys.exit(main())
