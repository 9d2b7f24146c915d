"""The locked packages fit the Python that the README promises; the wheel works with NumPy alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name: str) -> dict[str, str]:
    """Return what a requirements file pins: package to version."""
    found = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def test_lock_holds_every_direct_dependency() -> None:
    locked = pins("requirements.lock")
    direct = pins("requirements.txt")
    assert direct
    assert {name: locked.get(name) for name in direct} == direct


@pytest.mark.parametrize(("package", "version"), pins("requirements.lock").items())
def test_locked_package_runs_on_the_oldest_python(package: str, version: str) -> None:
    installed = distribution(package)
    assert installed.version.split("+")[0] == version, "run `make setup`"
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert SpecifierSet(installed.metadata.get("Requires-Python") or "").contains(f"{oldest}.0")


WITHOUT_EXTRAS = """
import importlib, os, pkgutil, sys

OPTIONAL = {"torch", "matplotlib", "nbgrader", "nbformat", "tqdm", "IPython", "distributed"}

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
sys.path.insert(0, sys.argv[1])
import rnncourse
assert rnncourse.__file__.startswith(sys.argv[1]), rnncourse.__file__
names = [m.name for m in pkgutil.iter_modules(rnncourse.__path__)]
for name in names:
    importlib.import_module(f"rnncourse.{name}")
from rnncourse.cli import main
from rnncourse.data import DataError, sunspots
os.environ.pop("RNNCOURSE_DATA", None)
try:
    sunspots()
except DataError as error:
    assert "RNNCOURSE_DATA" in str(error)
else:
    raise AssertionError("data outside the repository")
print(len(names))
"""


def test_wheel_needs_numpy_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(
        ROOT / "rnncourse", source / "rnncourse", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", tmp_path, source],
        check=True,
        capture_output=True,
    )
    assert len(list(tmp_path.glob("rnncourse-*.tar.gz"))) == 1
    (wheel,) = tmp_path.glob("rnncourse-*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path / "installed")
        names = content.namelist()
    assert {"rnncourse/py.typed", "rnncourse/fonts/LICENSE"} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"rnncourse"}
    metadata = next((tmp_path / "installed").glob("*.dist-info/METADATA")).read_text()
    assert len(re.findall(r"^License-File: ", metadata, re.M)) == 2, "the fonts' licence is missing"
    needed = [Requirement(line) for line in re.findall(r"^Requires-Dist: (.*)$", metadata, re.M)]
    assert [r.name for r in needed if r.marker is None] == ["numpy"]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, tmp_path / "installed"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(result.stdout) > 20
