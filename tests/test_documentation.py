"""Everything public in the library's modules is documented as CONTRIBUTING.md asks."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import FunctionType

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "rnncourse"
COMMANDS = {"main"}  # a command has its own help instead of a doctest
FUNCTIONS = {
    f"{path.stem}.{name}": function
    for path in sorted(LIBRARY.glob("[a-z]*.py"))
    for name, function in inspect.getmembers(
        importlib.import_module(f"rnncourse.{path.stem}"), inspect.isfunction
    )
    if function.__module__ == f"rnncourse.{path.stem}" and not name.startswith("_")
}


def section(doc: str, title: str) -> str:
    """Return the body of a numpydoc section, empty if there is none."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", doc, flags=re.M | re.S)
    return found[1] if found else ""


def test_the_library_was_found() -> None:
    assert len(FUNCTIONS) > 100


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstring_is_complete(name: str) -> None:
    function: FunctionType = FUNCTIONS[name]
    doc = inspect.getdoc(function) or ""
    named = set(
        re.findall(
            r"\*{0,2}\w+", "\n".join(re.findall(r"^\S.*$", section(doc, "Parameters"), re.M))
        )
    )
    signature = inspect.signature(function)
    missing = {p.name for p in signature.parameters.values()} - {n.strip("*") for n in named}
    assert not missing, f"{name}: the section Parameters lacks {sorted(missing)}"
    unannotated = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    assert not unannotated, f"{name}: no type hint for {unannotated}"
    if signature.return_annotation not in ("None", None):
        assert section(doc, "Returns") or section(doc, "Yields"), f"{name}: no section Returns"
    if function.__name__ not in COMMANDS:
        assert ">>>" in section(doc, "Examples"), f"{name}: no doctest"
