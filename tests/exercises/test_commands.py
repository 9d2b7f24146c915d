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
        "    return right(grads) if len(calls) <= 9 else 1.0",
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
        ("", "is empty"),
        ('{"cells": ["text"]}', "missing or damaged"),
        (
            '{"cells": [{"cell_type": "code", "source": "check(\'cosine\', cosine)"}]}',
            "dropped nbgrader's metadata",
        ),
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


def test_wrong_path_gets_advice(
    notebook: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = notebook
    assert main(["check", str(path.parent.parent / "04-cliping")]) == 2
    assert f"did you mean {path.parent}?" in capsys.readouterr().err
    assert main(["check", str(path.parent.parent)]) == 2
    assert f"name an assignment, as in {path.parent}" in capsys.readouterr().err
    text = path.with_suffix(".py")
    text.write_text("print(1)")
    assert main(["check", str(text)]) == 2
    assert "does not end in .ipynb" in capsys.readouterr().err


def test_copies_beside_the_notebook_are_left_out(
    notebook: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = notebook
    (path.parent / "04-clipping-Copy1.ipynb").write_text("{}")
    checkpoints = path.parent.parent / ".ipynb_checkpoints"
    checkpoints.mkdir()
    (checkpoints / "x-checkpoint.ipynb").write_text("{}")
    assert main(["progress", str(path.parent.parent)]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    path.rename(path.with_name("solution.ipynb"))
    assert main(["check", str(path.parent)]) == 2
    assert "04-clipping-Copy1.ipynb, solution.ipynb" in capsys.readouterr().err


def test_deleted_test_cell_is_missed(
    notebook: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, content = notebook
    content["cells"] = [cell for cell in content["cells"] if cell["id"] != "test_cosine"]
    write(path, content)
    assert main(["check", str(path)]) == 1
    assert "Without a test cell: cosine." in capsys.readouterr().out
    assert main(["progress", str(path.parent.parent)]) == 0
    assert "without a test cell: cosine" in capsys.readouterr().out


def test_first_broken_cell_is_named_where_a_name_is_missing(
    notebook: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, content = notebook
    write(path, content, imports="import numpy as np\nimport no_such_module")
    assert main(["check", str(path)]) == 1
    shown = capsys.readouterr().out
    assert "The cell 'imports' failed before: ModuleNotFoundError" in shown
    assert "Traceback" not in shown


def test_names_from_an_experiment_count_as_in_the_grader(
    notebook: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, content = notebook
    experiment = next(c for c in content["cells"] if c["source"][0].startswith("# Experiment"))
    helper = {**experiment, "id": "helper", "source": "# Experiment\ndef root(x): return x**0.5"}
    content["cells"].insert(0, helper)
    write(
        path,
        content,
        global_norm="def global_norm(grads):\n    return root(sum((g**2).sum() for g in "
        "grads.values()))",
    )
    assert main(["check", str(path)]) == 0
    assert "total                 14 / 14" in capsys.readouterr().out


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
