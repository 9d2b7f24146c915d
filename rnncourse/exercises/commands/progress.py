"""``rnncourse progress``: how far one has come, over all assignments."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rnncourse.exercises.notebook import (
    NotebookError,
    find_notebook,
    missing_tests,
    points,
    run_notebook,
)

BAR = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("exercises"),
        help="folder that holds the assignments (default: exercises)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check all assignments of a folder; return 2 if there are none, else 0."""
    notebooks = arguments.folder.glob("*/*.ipynb")
    folders = sorted({path.parent for path in notebooks if not path.parent.name.startswith(".")})
    if not folders:
        print(f"{arguments.folder} holds no assignments; name their folder", file=sys.stderr)
        return 2
    width = max(len(folder.name) for folder in folders)
    total_earned = total_possible = 0.0
    with ThreadPoolExecutor(2) as pool:
        for folder, outcome in zip(folders, pool.map(_points, folders), strict=True):
            if isinstance(outcome, str):
                print(f"{folder.name:{width}}  {outcome}")
                continue
            earned, possible, by_hand, missing = outcome
            total_earned, total_possible = total_earned + earned, total_possible + possible
            manual = f"  + {by_hand:g} by hand" if by_hand else ""
            share = f"{bar(earned, possible)} {earned:g} / {possible:g}"
            print(f"{folder.name:{width}}  {share}{manual}{missing}", flush=True)
    total = bar(total_earned, total_possible)
    print(f"{'all':{width}}  {total} {total_earned:g} / {total_possible:g}")
    return 0


def _points(folder: Path) -> tuple[float, float, float, str] | str:
    try:
        results = run_notebook(find_notebook(folder))
    except NotebookError as error:
        return str(error)
    missing = missing_tests(results)
    return (*points(results), f"  without a test cell: {', '.join(missing)}" if missing else "")


def bar(earned: float, possible: float) -> str:
    """Return a share as a bar of characters.

    Examples
    --------
    >>> bar(1, 4)
    '#####...............'
    """
    filled = int(BAR * earned / possible) if possible else 0
    return "#" * filled + "." * (BAR - filled)
