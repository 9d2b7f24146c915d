"""Stored experiments: made by their definitions, complete, and reproduced at reduced size."""

import numpy as np
import pytest

from rnncourse import experiments
from rnncourse.experiments import experiment_names, load_experiment, load_results, stored_parameters


def flat(value):
    """Yield every number, string and None of a nested result, in order."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield key
            yield from flat(value[key])
    elif isinstance(value, list):
        for item in value:
            yield from flat(item)
    else:
        yield value


@pytest.mark.parametrize("name", experiment_names())
def test_stored_results_belong_to_the_definition(name):
    experiment = load_experiment(name)
    assert stored_parameters(name) == experiments._plain(experiment.configs)
    assert all(len(runs) == len(experiment.seeds) for runs in load_results(name).values())


@pytest.mark.parametrize("name", experiment_names())
def test_reduced_run_is_reproduced(name):
    experiment = load_experiment(name)
    stored, again = experiments._read(name)["reduced"], experiment.run_reduced()
    for left, right in zip(flat(stored), flat(again), strict=True):
        if isinstance(left, float):
            np.testing.assert_allclose(right, left, rtol=experiment.tolerance, atol=1e-9)
        else:
            assert left == right


DEFINITION = """
import numpy as np
from rnncourse.experiments import Experiment


def run(seed, scale):
    return {"value": scale * np.random.default_rng(seed).normal(size=2)}


EXPERIMENT = Experiment(run, {"one": {"scale": 1.0}, "two": {"scale": SCALE}}, seeds=[0, 1, 2])
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNCOURSE_BOOK", str(tmp_path))  # the worker processes read it
    monkeypatch.setattr(experiments, "DEFINITIONS", tmp_path / "experiments")
    monkeypatch.setattr(experiments, "RESULTS", tmp_path / "data" / "results")
    (tmp_path / "experiments").mkdir()
    path = tmp_path / "experiments" / "toy.py"
    path.write_text(DEFINITION.replace("SCALE", "2.0"))
    return path


def test_only_what_is_missing_runs(toy):
    assert len(list(experiments.run_experiment("toy", jobs=1))) == 6
    assert list(experiments.run_experiment("toy", jobs=1)) == ["toy: all 6 runs are stored"]
    before = load_results("toy")
    toy.write_text(DEFINITION.replace("SCALE", "3.0"))
    assert len(list(experiments.run_experiment("toy", jobs=1))) == 3
    after = load_results("toy")
    assert after["one"] == before["one"]
    np.testing.assert_allclose(
        [r["value"] for r in after["two"]],
        [np.multiply(r["value"], 1.5) for r in before["two"]],
        rtol=1e-6,
    )


def test_an_interrupted_run_is_resumed(toy):
    runs = experiments.run_experiment("toy", jobs=1)
    next(runs), next(runs)
    runs.close()
    assert len(list(experiments.run_experiment("toy", jobs=1))) <= 4
    assert all(len(r) == 3 for r in load_results("toy").values())
