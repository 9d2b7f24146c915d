"""The Makefile's rules read what they find, and stop with a message where they cannot go on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A bare course without an environment, under a path with a space."""
    folder = tmp_path / "my course"
    for name in ("solutions", "exercises", "rnncourse", "tests/sample_class", ".ci"):
        (folder / name).mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "nbgrader_config.py"):
        shutil.copy(ROOT / name, folder)
    shutil.copy(ROOT / ".ci/system-packages", folder / ".ci")
    return folder


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True)


def test_help_lists_what_the_readme_and_the_guides_name() -> None:
    listed = set(re.findall(r"^([\w-]+) ", make(ROOT, "help").stdout, re.MULTILINE))
    texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "book").glob("*.md"))]
    named = {
        name for path in texts for name in re.findall(r"`make ([a-z-]+)", path.read_text("utf-8"))
    }
    assert {"test", "serve", "lab"} <= named <= listed


def test_names_with_spaces_do_not_stop_a_rule(clone: Path) -> None:
    (clone / "exercises/Untitled Folder").mkdir()
    (clone / "exercises/Untitled Folder/a b.ipynb").touch()
    result = make(clone, "--dry-run", "exercises")
    assert result.returncode == 0, result.stderr


def test_old_python_is_refused_with_a_way_out(clone: Path, tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = make(clone, "setup", f"PYTHON={old}")
    assert result.returncode != 0
    assert "Python 3.11 or newer is needed; name one with PYTHON=" in result.stderr
    assert not (clone / ".venv").exists()
