"""Write a reference page for every public module of the library.

The pages lie in ``book/api`` and are made anew before each build: a new module appears without
anyone listing it, one that is gone disappears. ``api.md`` links them in a table that takes the
place of the line ``<!-- modules -->``.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).resolve().parents[2]
INDEX = "api"
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


def summary(name: str, root: Path = ROOT) -> str:
    """Return the first sentence of a module's docstring, without its full stop."""
    path = root / "rnncourse" / f"{name}.py"
    path = path if path.is_file() else root / "rnncourse" / name / "__init__.py"
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return " ".join(doc.split("\n\n")[0].split()).rstrip(".")


def page(name: str) -> str:
    """Return the source of a module's page."""
    return (
        f"(api-{name.replace('_', '-')})=\n# `rnncourse.{name}`\n\n"
        f"```{{eval-rst}}\n.. automodule:: rnncourse.{name}\n   :members:\n```\n"
    )


def table(root: Path = ROOT) -> str:
    """Return the table of the modules."""
    rows = [
        f"| {{ref}}`{name} <api-{name.replace('_', '-')}>` | {summary(name, root)} |"
        for name in modules(root)
    ]
    return "\n".join(["| module | holds |", "|:--|:--|", *rows])


def write_pages(app: Sphinx, config: Config) -> None:
    """Make the pages before the table of contents is read."""
    folder = Path(app.srcdir) / INDEX
    folder.mkdir(exist_ok=True)
    wanted = {folder / f"{name}.md": page(name) for name in modules()}
    for path, text in wanted.items():
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    for path in set(folder.glob("*.md")) - set(wanted):
        path.unlink()


def insert(app: Sphinx, docname: str, source: list[str]) -> None:
    """Write the table into the index page that is about to be read."""
    if docname == INDEX:
        app.env.course_modules = table()
        source[0] = source[0].replace(PLACE, table())


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Read the index again when its table has changed; autodoc sees to the modules' own pages."""
    stale = getattr(env, "course_modules", None) != table()
    return [INDEX] if stale and INDEX in env.found_docs else []


def plain_references(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Turn numpydoc's numbered references into a list.

    As reStructuredText they are footnotes, whose names would clash: every function has its own
    number one.
    """
    for i, line in enumerate(lines):
        line = re.sub(r"^\.\. \[(\d+)\] ", r"* [\1] ", line)
        lines[i] = re.sub(r" ?\[(\d+)\]_", r" [\1]", line)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("config-inited", write_pages, priority=100)
    app.connect("source-read", insert)
    app.connect("env-get-outdated", outdated)
    app.connect("autodoc-process-docstring", plain_references, priority=100)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
