"""Run a chapter again when what it computes with has changed.

The execution cache of jupyter-cache knows a chapter's cells only. Here each executed page gets a
key: a hash of the library modules that its cells import (and what those import), of the data files
if it uses any, and of the locked versions. The key travels in the display name of the notebook's
kernel, because the kernel specification is the one part of the metadata that jupyter-cache hashes.
So a page runs again exactly when it must, whoever starts the build.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "rnncourse"
# What no chapter computes with: the grader and the exercises do not change a page's results.
IGNORED = ("exercises", "grading", "cli")
_CELL = re.compile(r"^```\{code-cell\}.*?$(.*?)^```\s*$", re.M | re.S)
_KERNEL = re.compile(r"(?ms)\A---\n.*?^kernelspec:\n(?:  [^\n]*\n)*?  display_name: *[^\n]*")


def module_file(name: str, root: Path = ROOT) -> Path | None:
    """Return the source file of a module of the library, None if there is none."""
    path = root.joinpath(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def imported(source: str, package: str, root: Path = ROOT) -> set[str]:
    """Return the library's modules that `source`, a module of `package`, imports by name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            parts = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    ours = {name for name in found if name.split(".")[0] == PACKAGE and module_file(name, root)}
    return {n for n in ours if not n.startswith(tuple(f"{PACKAGE}.{i}" for i in IGNORED))}


def closure(names: set[str], root: Path = ROOT) -> set[str]:
    """Return `names` and all that they import, directly or not."""
    done: set[str] = set()
    todo = set(names)
    while todo:
        name = todo.pop()
        done.add(name)
        path = module_file(name, root)
        if path is None:
            continue
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        parents = {name.rpartition(".")[0]} - {""}
        todo |= (_imported_by(path, package, root) | parents) - done
    return done


@cache
def _imported_by(path: Path, package: str, root: Path) -> set[str]:
    return imported(path.read_text("utf-8"), package, root)


@cache
def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def forget() -> None:
    """Forget what was read of the files: they may have changed since."""
    _digest.cache_clear()
    _imported_by.cache_clear()


def cells(text: str) -> str:
    """Return the code of a page's cells as one module, without magics and cell options."""
    code = "\n".join(_CELL.findall(text))
    lines = (re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in code.splitlines())
    kept = [line for line in lines if not re.match(r":\w[\w-]*:", line)]
    return re.sub(r"(?ms)^---\n.*?^---\n", "", "\n".join(kept) + "\n")


def key(text: str, root: Path = ROOT) -> str:
    """Return the key of a page: it changes when the page's results may change."""
    try:
        names = closure(imported(cells(text), "", root), root)
    except SyntaxError:
        names = closure({f"{PACKAGE}.{p.stem}" for p in (root / PACKAGE).glob("[a-z]*.py")}, root)
    files = [path for name in sorted(names) if (path := module_file(name, root))]
    files.append(root / "requirements.lock")
    data = root / "book" / "data"
    if f"{PACKAGE}.data" in names or "data/" in text:
        files += sorted(path for path in data.glob("*") if path.is_file())
    # A stored result counts for the pages that name it.
    files += sorted(p for p in data.glob("results/*.json") if re.search(rf"\b{p.stem}\b", text))
    total = hashlib.sha256()
    for path in files:
        if path.is_file():
            total.update(path.relative_to(root).as_posix().encode() + _digest(path))
    return total.hexdigest()[:16]


def _is_executed(text: str) -> bool:
    return bool(_KERNEL.match(text)) and "```{code-cell}" in text


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Return the pages whose key differs from the one they were read with."""
    forget()
    known: dict[str, str] = getattr(env, "course_keys", {})
    again = []
    for name in env.found_docs - added - changed:
        text = Path(env.doc2path(name)).read_text("utf-8")
        if _is_executed(text) and known.get(name) != key(text):
            again.append(name)
    return again


def with_key(text: str) -> str:
    """Return a page's source with the key in it, unchanged if the page is not executed."""
    if not _is_executed(text):
        return text
    # On an existing line, so that warnings keep their line numbers.
    return _KERNEL.sub(rf"\g<0> [{key(text)}]", text, count=1)


def add_key(app: Sphinx, docname: str, source: list[str]) -> None:
    """Write the key into the page that is about to be read, and remember it."""
    if _is_executed(source[0]):
        if not hasattr(app.env, "course_keys"):
            app.env.course_keys = {}
        app.env.course_keys[docname] = key(source[0])
        source[0] = with_key(source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("env-get-outdated", outdated)
    app.connect("source-read", add_key)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
