"""The commands for students who work alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rnncourse.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def notebook(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A solved notebook in a folder of its own, and its content to change."""
    content = json.loads((ROOT / "solutions/04-clipping/04-clipping.ipynb").read_text())
    path = tmp_path / "04-clipping" / "04-clipping.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return path, content


def write(path: Path, content: dict[str, Any], **sources: str) -> None:
    for cell in content["cells"]:
        if cell["id"] in sources:
            cell["source"] = sources[cell["id"]]
    path.write_text(json.dumps(content))


def test_solved_notebook(
    notebook: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = notebook
    assert main(["check", str(path.parent)]) == 0
    shown = capsys.readouterr().out
    assert "global_norm           2 / 2  right" in shown
    assert "total                 14 / 14  (and up to 4 by hand)" in shown


def test_every_question_is_judged_on_its_own(
    notebook: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, content = notebook
    write(
        path,
        content,
        clip_by_value="%matplotlib inline\ndef clip_by_value(grads, limit):\n"
        "    return {k: np.minimum(g, limit) for k, g in grads.items()}",
        clip_by_global_norm="def clip_by_global_norm(grads, max_norm)\n    return 1",
        cosine="while True:\n    pass",
        sgd_step="def sgd_step(params, grads, lr, max_norm):\n    raise NotImplementedError()",
    )
    assert main(["check", str(path), "--cell-limit", "8"]) == 1
    shown = capsys.readouterr().out
    assert "global_norm           2 / 2  right" in shown
    assert "clip_by_value         0 / 2  Known mistake [only-from-above]" in shown
    assert "SyntaxError: expected ':' in line 1" in shown
    assert "did not finish within 8 s" in shown
    assert "sgd_step              0 / 3  not written yet" in shown
    assert "total                 2 / 14" in shown


def test_answer_that_knows_the_visible_cases_only_earns_nothing(
    notebook: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, content = notebook
    write(
        path,
        content,
        global_norm="from rnncourse.clipping import global_norm as right\ncalls = []\n"
        "def global_norm(grads):\n    calls.append(1)\n"
        "    return right(grads) if len(calls) <= 8 else 1.0",
    )
    assert main(["check", str(path)]) == 1
    assert "fails a hidden test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not a notebook"),
        ("{}", "cells are missing"),
        ('{"cells": []}', "no cell that is worth points"),
        ("[1]", "is not a notebook"),
    ],
)
def test_unreadable_notebook(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    path = tmp_path / "x.ipynb"
    path.write_text(text)
    assert main(["check", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_missing_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "nothing")]) == 2
    assert "there is no file or folder" in capsys.readouterr().err
    assert main(["check", str(tmp_path)]) == 2
    assert "no notebook" in capsys.readouterr().err
    assert main(["progress", str(tmp_path)]) == 2


def test_progress(
    notebook: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, content = notebook
    write(path, content, cosine="def cosine(a, b):\n    raise NotImplementedError()")
    assert main(["progress", str(path.parent.parent)]) == 0
    shown = capsys.readouterr().out
    assert "04-clipping  ###############..... 11 / 14  + 4 by hand" in shown
    assert "all          ###############..... 11 / 14" in shown


def test_changed_test_cell_cannot_end_the_checker(
    notebook: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, content = notebook
    write(path, content, cosine="import os\nos._exit(0)")
    assert main(["check", str(path)]) == 1
    assert "ended the whole program" in capsys.readouterr().out
