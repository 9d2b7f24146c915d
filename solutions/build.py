"""Make what students get, exercises/, out of the instructor's notebooks in solutions/.

``python solutions/build.py`` rewrites exercises/, ``python solutions/build.py 02-bptt`` one
assignment, and ``python solutions/build.py --check`` only says whether the committed files are what
would be written. nbgrader does the work; no gradebook is needed or touched.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def assignments() -> list[str]:
    """Return the names of all assignments that have a notebook in solutions/."""
    return sorted(path.parent.name for path in ROOT.glob("solutions/*/*.ipynb"))


def release(names: Sequence[str], target: Path) -> None:
    """Write the released version of assignments into `target`.

    Parameters
    ----------
    names : sequence of str
        Assignments.
    target : Path
        Folder that gets one folder per assignment.

    Raises
    ------
    RuntimeError
        If nbgrader refuses a notebook; its message says why.
    """
    from nbgrader.apps.api import NbGraderAPI
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import Config

    with tempfile.TemporaryDirectory() as scratch:
        config = Config()
        config.CourseDirectory.root = scratch
        config.CourseDirectory.source_directory = str(ROOT / "solutions")
        config.CourseDirectory.release_directory = str(target)
        config.GenerateAssignment.no_database = True
        config.SaveCells.enabled = False
        config.CourseDirectory.ignore = ["__pycache__", ".ipynb_checkpoints"]
        logging.getLogger("traitlets").setLevel(logging.ERROR)
        api = NbGraderAPI(CourseDirectory(config=config), config=config)
        for name in names:
            print(f"  {name}", flush=True)
            result = api.generate_assignment(name, force=True, create=True)
            if not result["success"]:
                raise RuntimeError(f"{name}: {result.get('log')}\n{result.get('error') or ''}")


def differences(released: Path, committed: Path) -> list[str]:
    """Return one line per file that differs between two folders of released assignments."""
    old, new = (
        {p.relative_to(root): p.read_text() for p in root.rglob("*.ipynb") if p.parent != root}
        for root in (committed, released)
    )
    lines = []
    for path in sorted(old.keys() | new.keys()):
        if path not in new:
            lines.append(f"exercises/{path} has no source in solutions/")
        elif path not in old:
            lines.append(f"exercises/{path} is missing")
        elif old[path] != new[path]:
            diff = difflib.ndiff(old[path].splitlines(), new[path].splitlines())
            first = next((line for line in diff if line[0] in "+-"), "")
            lines.append(f"exercises/{path} is not what solutions/ makes: {first[:90]}")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("assignments", nargs="*", help="names as in 02-bptt; all without")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args(argv)
    known = assignments()
    names = options.assignments or known
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no notebook in solutions/ for {', '.join(unknown)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "exercises"
        print(f"releasing {len(names)} assignment(s)")
        release(names, target)
        if options.check:
            wrong = differences(target, ROOT / "exercises")
            print("\n".join(wrong) or "exercises/ is in step with solutions/")
            if wrong:
                print("run `.venv/bin/python solutions/build.py` and commit exercises/")
            return 1 if wrong else 0
        for name in names:
            place = ROOT / "exercises" / name
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(target / name, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
