"""What needs a package that is no hard dependency says which one, and how to get it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rnncourse import gates, plots, rnn
from rnncourse._extras import require
from rnncourse.cli import main

ROOT = Path(__file__).resolve().parents[1]
SLIDER = plots.SliderFigure(
    x=np.arange(2.0),
    parameter="gain",
    values=np.array([1.0]),
    curves=np.ones((1, 1, 2)),
    xlabel="step",
    ylabel="norm",
    alt="The norm is one at both steps, whatever the gain.",
)


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("torch", "torch", lambda: rnn.to_torch({})),
        ("torch", "torch", lambda: gates.to_torch({})),
        ("matplotlib", "plots", plots.use_style),
        ("matplotlib", "plots", lambda: plots.show(None, alt=SLIDER.alt)),  # type: ignore[arg-type]
        ("matplotlib", "plots", SLIDER._repr_mimebundle_),
    ],
)
def test_missing_package_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, package: str, extra: str, call: Callable[[], object]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"needs {package}: .*'rnncourse\[{extra}\]'"):
        call()


@pytest.mark.parametrize("command", ["grade", "statistics", "export", "collect"])
def test_commands_of_the_instructor_ask_for_nbgrader(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(sys.modules, "nbgrader", None)
    words = [command, "02-bptt"] + (["exercises"] if command == "collect" else [])
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 1
    assert "needs nbgrader: pip install 'rnncourse[grading]'" in capsys.readouterr().err


def test_a_package_is_looked_for_and_not_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "slow_to_import.py").write_text("raise AssertionError('it was imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    require("slow_to_import", extra="plots")
    assert "slow_to_import" not in sys.modules
