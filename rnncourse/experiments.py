"""Experiments too slow for the book's build: run once, store, re-check in small.

An experiment is a module in ``book/experiments`` that defines ``EXPERIMENT``. The command
``python -m rnncourse.experiments`` (``make experiments``) runs what is missing, seeds in parallel,
and stores one JSON file per experiment under ``book/data/results``, with its parameters.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

Result = dict[str, Any]
_BOOK = Path(os.environ.get("RNNCOURSE_BOOK", Path(__file__).resolve().parents[1] / "book"))
DEFINITIONS = _BOOK / "experiments"
RESULTS = _BOOK / "data" / "results"


@dataclass(frozen=True)
class Experiment:
    """What to run, with which parameters and seeds.

    Parameters
    ----------
    run : callable
        ``run(seed, **parameters)`` returns a dict of numbers, strings and nested lists of them. It
        must depend on its arguments alone.
    configs : dict
        Label of each configuration to its parameters.
    seeds : sequence of int
        Every configuration runs once with each seed.
    reduced : dict
        Parameters that make one run quick (a few seconds); they override those of the first
        configuration. The test suite repeats that run and compares it with the stored one.
    tolerance : float, optional
        Relative tolerance of that comparison.
    """

    run: Callable[..., Result]
    configs: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int]
    reduced: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-3

    def run_reduced(self) -> Result:
        """Return the result of the quick run that the tests repeat."""
        first = next(iter(self.configs.values()))
        return _plain(self.run(self.seeds[0], **{**first, **self.reduced}))


def experiment_names() -> list[str]:
    """Return the names of all experiments, sorted.

    Returns
    -------
    list of str

    Examples
    --------
    >>> experiment_names() == sorted(experiment_names())
    True
    """
    return sorted(p.stem for p in DEFINITIONS.glob("*.py") if not p.stem.startswith("_"))


def load_experiment(name: str) -> Experiment:
    """Import the definition of an experiment.

    Parameters
    ----------
    name : str
        Name of the module in ``book/experiments``.

    Returns
    -------
    Experiment

    Raises
    ------
    ValueError
        If there is no such experiment; the message lists those that exist.

    Examples
    --------
    >>> load_experiment("no-such-thing")
    Traceback (most recent call last):
        ...
    ValueError: no experiment is called 'no-such-thing'; there are:...
    """
    path = DEFINITIONS / f"{name}.py"
    if not path.is_file():
        raise ValueError(
            f"no experiment is called {name!r}; there are: {', '.join(experiment_names())}"
        )
    spec = importlib.util.spec_from_file_location(f"book_experiment_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    experiment: Experiment = module.EXPERIMENT
    return experiment


def load_results(name: str) -> dict[str, list[Result]]:
    """Return the stored results of an experiment.

    Parameters
    ----------
    name : str

    Returns
    -------
    dict
        Label of each configuration to one result per seed, in the order of the seeds.

    Raises
    ------
    FileNotFoundError
        If the results are not stored; the message says which command makes them.

    Examples
    --------
    >>> load_results("no-such-thing")
    Traceback (most recent call last):
        ...
    FileNotFoundError: there are no results of 'no-such-thing' ...
    """
    results: dict[str, list[Result]] = _read(name)["results"]
    return results


def stored_parameters(name: str) -> dict[str, dict[str, Any]]:
    """Return the parameters with which the stored results of an experiment were made.

    Parameters
    ----------
    name : str
        Name of the experiment.

    Returns
    -------
    dict
        For each configuration its parameters.

    Raises
    ------
    FileNotFoundError
        If the experiment has never run.

    Examples
    --------
    >>> stored_parameters("no-such-thing")
    Traceback (most recent call last):
        ...
    FileNotFoundError: there are no results of 'no-such-thing' ...
    """
    parameters: dict[str, dict[str, Any]] = _read(name)["parameters"]
    return parameters


def _read(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"there are no results of {name!r} at {path}: "
            f"run `python -m rnncourse.experiments {name}`"
        )
    stored: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return stored


def _plain(value: Any) -> Any:
    """Turn NumPy values into what JSON holds, floats rounded to seven digits."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if isinstance(value, float | np.floating):
        return float(f"{float(value):.7g}")
    return value


def _run_one(name: str, label: str, seed: int) -> Result:
    experiment = load_experiment(name)
    result: Result = _plain(experiment.run(seed, **experiment.configs[label]))
    return result


def _store(name: str, experiment: Experiment, done: Mapping[tuple[str, int], Result]) -> None:
    document = {
        "experiment": name,
        "parameters": _plain(experiment.configs),
        "seeds": list(experiment.seeds),
        "results": {
            label: [done[label, seed] for seed in experiment.seeds if (label, seed) in done]
            for label in experiment.configs
        },
        "complete": all((c, s) in done for c in experiment.configs for s in experiment.seeds),
        "finished": sorted([label, seed] for label, seed in done),
    }
    if document["complete"]:
        del document["finished"]
        document["reduced"] = experiment.run_reduced()
    RESULTS.mkdir(parents=True, exist_ok=True)
    partial = RESULTS / f"{name}.json.part"
    partial.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(RESULTS / f"{name}.json")


def _finished(name: str, experiment: Experiment) -> dict[tuple[str, int], Result]:
    """Return the stored runs whose parameters are still those of the definition."""
    try:
        stored = _read(name)
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    wanted = _plain(experiment.configs)
    done = {}
    for label, results in stored["results"].items():
        if stored["parameters"].get(label) != wanted.get(label):
            continue
        finished = {s for c, s in stored.get("finished", []) if c == label}
        seeds = [s for s in stored["seeds"] if stored["complete"] or s in finished]
        for seed, result in zip(seeds, results, strict=True):
            if seed in experiment.seeds:
                done[label, seed] = result
    return done


def run_experiment(name: str, jobs: int | None = None, fresh: bool = False) -> Iterator[str]:
    """Run what is missing of an experiment and store it after every run.

    Parameters
    ----------
    name : str
    jobs : int, optional
        Processes; the number of cores by default. Each uses one thread.
    fresh : bool, optional
        Forget stored runs first.

    Yields
    ------
    str
        One line of progress per finished run.

    Examples
    --------
    >>> next(run_experiment("no-such-thing"))
    Traceback (most recent call last):
        ...
    ValueError: no experiment is called 'no-such-thing'; there are:...
    """
    experiment = load_experiment(name)
    done = {} if fresh else _finished(name, experiment)
    total = [(c, s) for c in experiment.configs for s in experiment.seeds]
    missing = [key for key in total if key not in done]
    if not missing:
        stored = RESULTS / f"{name}.json"
        if not stored.is_file() or "reduced" not in _read(name):
            _store(name, experiment, done)
        yield f"{name}: all {len(total)} runs are stored"
        return
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # read by the worker processes when they import NumPy
    with ProcessPoolExecutor(jobs or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        futures = {
            pool.submit(_run_one, name, label, seed): (label, seed) for label, seed in missing
        }
        for future in as_completed(futures):
            label, seed = futures[future]
            done[label, seed] = future.result()
            _store(name, experiment, done)
            yield f"{name}: {len(done)}/{len(total)}  {label}, seed {seed}"


def main(arguments: Iterable[str] | None = None) -> int:
    """Run experiments from the command line.

    Parameters
    ----------
    arguments : iterable of str, optional
        Defaults to those of the process.

    Returns
    -------
    int
        Exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m rnncourse.experiments", description=__doc__)
    parser.add_argument("names", nargs="*", help="experiments to run; all of them by default")
    parser.add_argument("--jobs", type=int, help="processes (default: one per core)")
    parser.add_argument("--fresh", action="store_true", help="repeat runs that are stored already")
    options = parser.parse_args(None if arguments is None else list(arguments))
    for name in options.names or experiment_names():
        try:
            for line in run_experiment(name, options.jobs, options.fresh):
                print(line, flush=True)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
