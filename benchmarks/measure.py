"""Timing that survives a noisy machine, and tables of what came out."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Times:
    """Seconds per call, one entry for each round."""

    seconds: tuple[float, ...]

    @property
    def minimum(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    budget: float,
    clock: Callable[[], float] = time.perf_counter,
    least: int = 3,
) -> dict[str, Times]:
    """Time functions round by round, so that a slow moment of the machine hits all of them.

    Short functions are called several times in a row per round: what counts is the state of the
    caches that a training loop would find, not the one that the competitor left behind.

    Parameters
    ----------
    functions : dict of callable
    budget : float
        Seconds of wall-clock time to spend in all.
    clock : callable, optional
        ``time.process_time`` counts the processor time of this process alone and so ignores what
        other processes take; use it only where one thread runs.
    least : int, optional
        Fewest rounds, whatever the budget.

    Returns
    -------
    dict of Times
    """
    calls = {}
    for name, f in functions.items():
        start = time.perf_counter()
        f()
        calls[name] = max(1, round(0.01 / (time.perf_counter() - start)))
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(seconds[next(iter(seconds))]) < least:
        for name, f in functions.items():
            if calls[name] > 1:
                f()  # outside the measurement: brings its data back into the cache
            start = clock()
            for _ in range(calls[name]):
                f()
            seconds[name].append((clock() - start) / calls[name])
    return {name: Times(tuple(s)) for name, s in seconds.items()}


def peak_growth(f: Callable[[], object]) -> int:
    """Return by how many bytes the peak memory of this process grows during a call."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    f()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def describe_machine() -> str:
    """Return processor, cores and load, without which no number means anything."""
    model = "unknown processor"
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            ]
        model = names[0] if names else model
    cores, load = os.cpu_count(), os.getloadavg()[0]
    versions = f"Python {sys.version.split()[0]}, NumPy {np.__version__}"
    return f"{model}, {cores} cores, load {load:.1f}, {versions}"


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Align columns for a terminal."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write the same table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
