"""Put every public module of the library into the reference page.

The page ``api.md`` holds the line ``<!-- modules -->``; before it is read, a section per module
takes that line's place. A new module so appears without anyone listing it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).resolve().parents[2]
PAGE = "api"
PLACE = "<!-- modules -->"
FIRST = ("rnn", "bptt", "gradient_flow", "clipping", "initialization", "gates")
HIDDEN = ("cli",)


def modules(root: Path = ROOT) -> list[str]:
    """Return the public modules and packages, the course's first ones first."""
    folder = root / "rnncourse"
    names = {path.stem for path in folder.glob("[a-z]*.py")}
    names |= {path.parent.name for path in folder.glob("[a-z]*/__init__.py")}
    names -= set(HIDDEN)
    return [n for n in FIRST if n in names] + sorted(names - set(FIRST))


def section(name: str, root: Path = ROOT) -> str:
    """Return the source of a module's section, with its docstring's first line as the title."""
    path = root / "rnncourse" / f"{name}.py"
    path = path if path.is_file() else root / "rnncourse" / name / "__init__.py"
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or name
    title = doc.splitlines()[0].rstrip(".")
    return (
        f"(api-{name.replace('_', '-')})=\n## `{name}`: {title[0].lower() + title[1:]}\n\n"
        f"```{{eval-rst}}\n.. automodule:: rnncourse.{name}\n   :members:\n```\n\n"
    )


def insert(app: Sphinx, docname: str, source: list[str]) -> None:
    """Write the sections into the page that is about to be read."""
    if docname == PAGE:
        app.env.course_modules = modules()
        source[0] = source[0].replace(PLACE, "".join(section(name) for name in modules()))


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Read the page again when a module has come or gone; autodoc sees to changes inside."""
    stale = getattr(env, "course_modules", None) != modules()
    return [PAGE] if stale and PAGE in env.found_docs else []


def plain_references(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Turn numpydoc's numbered references into a list.

    As reStructuredText they are footnotes, whose names would clash: every function has its own
    number one.
    """
    for i, line in enumerate(lines):
        line = re.sub(r"^\.\. \[(\d+)\] ", r"\1. ", line)
        lines[i] = re.sub(r" ?\[(\d+)\]_", r" [\1]", line)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("source-read", insert)
    app.connect("env-get-outdated", outdated)
    app.connect("autodoc-process-docstring", plain_references, priority=100)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
