"""Speed and memory of the library beside PyTorch: ``python -m benchmarks.library``.

Each part runs in a process of its own, because the number of threads is fixed when NumPy is loaded
and a peak of memory cannot be taken back. With one thread, processor time is measured, so that
other processes disturb as little as possible; with two threads it is wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.measure import (
    Times,
    describe_machine,
    interleaved,
    markdown_table,
    peak_growth,
    text_table,
)

SHAPES = [(1, 25, 64, 100), (32, 35, 128, 256), (64, 100, 128, 128), (128, 200, 64, 512)]
MEMORY_SHAPE = (128, 200, 64, 512)
LONG_SHAPE = (256, 4096, 16, 64)
HEADER = ["what", "shape", "this library", "compared with", "min", "median", "n", "goal", "met"]
Row = list[str]


def random_case(B: int, T: int, D: int, H: int) -> dict[str, np.ndarray]:
    """Inputs, start and upstream gradient in float32."""
    rng = np.random.default_rng(0)
    sizes = {"x": (T, B, D), "h0": (B, H), "dh": (T, B, H)}
    return {name: rng.standard_normal(s, dtype=np.float32) for name, s in sizes.items()}


def training_step(cell: str, shape: tuple[int, int, int, int], dx: bool) -> Callable[[], object]:
    """Return forward and backward pass of this library's fast functions."""
    from rnncourse import fused, gates, rnn

    _, _, D, H = shape
    case, rng = random_case(*shape), np.random.default_rng(1)
    x, h0, dh = case["x"], case["h0"], case["dh"]
    if cell == "RNN":
        params = rnn.init_params(D, H, 1, rng, np.float32)
        W_xh, W_hh, b_h = params["W_xh"], params["W_hh"], params["b_h"]

        def step() -> object:
            h = fused.rnn_forward(x, h0, W_xh, W_hh, b_h)
            return fused.rnn_backward(dh, x, h0, h, W_xh, W_hh, need_dx=dx)

        return step
    init = gates.init_lstm_params if cell == "LSTM" else gates.init_gru_params
    params = init(D, H, rng, np.float32)
    W_x, W_h = params["W_x"], params["W_h"]
    if cell == "LSTM":
        return lambda: fused.lstm_backward(
            dh, x, h0, h0, *fused.lstm_forward(x, h0, h0, **params), W_x, W_h, need_dx=dx
        )
    return lambda: fused.gru_backward(
        dh, x, h0, *fused.gru_forward(x, h0, **params), W_x, W_h, need_dx=dx
    )


def torch_step(cell: str, shape: tuple[int, int, int, int], dx: bool) -> Callable[[], object]:
    """Return the same in PyTorch: ``output.backward(G)`` of the module."""
    import torch

    _, _, D, H = shape
    case = {name: torch.from_numpy(a) for name, a in random_case(*shape).items()}
    net = getattr(torch.nn, cell)(D, H)
    h0 = case["h0"][None]
    start = (h0, h0) if cell == "LSTM" else h0
    x = case["x"].requires_grad_(dx)

    def step() -> object:
        net.zero_grad(set_to_none=True)
        x.grad = None
        output, _ = net(x, start)
        return output.backward(case["dh"])

    return step


def floor_step(shape: tuple[int, int, int, int]) -> Callable[[], object]:
    """Return the matrix products and the tanh of a vanilla RNN's training step, nothing else.

    The products are plain calls of BLAS through ``ndarray.dot``, its cheapest way from Python.
    """
    B, T, D, H = shape
    case, rng = random_case(*shape), np.random.default_rng(1)
    x = case["x"].reshape(T * B, D)
    W_xh, W_hh = (rng.normal(size=s).astype(np.float32) for s in ((D, H), (H, H)))
    h, h_t = case["dh"], np.empty((B, H), np.float32)
    rows = h.reshape(T * B, H)

    def step() -> object:
        x.dot(W_xh)
        for t in range(T):
            h[t].dot(W_hh, h_t)
            np.tanh(h_t, h_t)
        for t in range(T):
            h[t].dot(W_hh, h_t)
        return rows.T.dot(rows), rows.T.dot(x)

    return step


def compare(ours: Times, other: Times) -> tuple[str, str]:
    """Return the ratios of minima and of medians."""
    return f"{other.minimum / ours.minimum:.2f} ×", f"{other.median / ours.median:.2f} ×"


def milliseconds(times: Times) -> str:
    return f"{1e3 * times.minimum:.3g} ms"


def speed(threads: int, budget: float) -> Iterator[Row]:
    """Time a training step of each cell beside torch's."""
    import torch

    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    label = "1 thread" if threads == 1 else f"{threads} threads"
    for cell in ("RNN", "LSTM", "GRU"):
        for shape in SHAPES:
            functions = {
                "ours": training_step(cell, shape, dx=False),
                "torch": torch_step(cell, shape, dx=False),
            }
            if threads == 1:
                functions |= {
                    "ours with dx": training_step(cell, shape, dx=True),
                    "torch with dx": torch_step(cell, shape, dx=True),
                }
            if cell == "RNN" and threads == 1:
                functions["floor"] = floor_step(shape)
            times = interleaved(functions, budget, clock)
            n = str(len(times["ours"].seconds))
            goal = "" if threads > 1 else "> 1 ×"
            if cell == "RNN" and threads == 1:
                goal = "≥ 8 ×" if shape == SHAPES[0] else "≥ 1.2 ×"
            what = f"{cell} forward + BPTT, {label}"
            for suffix in ("", " with dx"):
                if "ours" + suffix in times:
                    ours, other = times["ours" + suffix], times["torch" + suffix]
                    cells = [milliseconds(ours), f"torch {milliseconds(other)}"]
                    yield [what + suffix, str(shape), *cells, *compare(ours, other), n, goal]
            if "floor" in times:
                ours, floor = times["ours"], times["floor"]
                cells = [milliseconds(ours), f"floor {milliseconds(floor)}"]
                ratios = [
                    f"{ours.minimum / floor.minimum:.2f}",
                    f"{ours.median / floor.median:.2f}",
                ]
                yield ["RNN against its own products", str(shape), *cells, *ratios, n, "≤ 1.3"]


def memory(which: str) -> Iterator[Row]:
    """Print the growth of peak memory of one way to do full BPTT."""
    shape = LONG_SHAPE if which.startswith("long") else MEMORY_SHAPE
    small = (2, 3, 4, 5)
    if which == "torch":
        torch_step("RNN", small, dx=False)()
        step = torch_step("RNN", shape, dx=False)
    elif which == "long checkpointed":
        checkpointed_step(small)()
        step = checkpointed_step(shape)
    else:
        training_step("RNN", small, dx=False)()
        step = training_step("RNN", shape, dx=False)
    yield [str(peak_growth(step))]


def checkpointed_step(shape: tuple[int, int, int, int]) -> Callable[[], object]:
    """Return checkpointed BPTT on the same case; the upstream gradient is given."""
    from rnncourse import bptt, rnn

    _, _, D, H = shape
    case = random_case(*shape)
    params = rnn.init_params(D, H, 1, np.random.default_rng(1), np.float32)
    weights = params["W_xh"], params["W_hh"], params["b_h"]
    return lambda: bptt.checkpointed_bptt(case["dh"], case["x"], case["h0"], *weights)


def checkpointing(budget: float) -> Iterator[Row]:
    """Time checkpointed beside full BPTT and compare their gradients."""
    full, checkpointed = training_step("RNN", LONG_SHAPE, dx=False), checkpointed_step(LONG_SHAPE)
    expected, found = full(), checkpointed()
    assert isinstance(expected, tuple)
    assert isinstance(found, tuple)
    error = max(
        float(np.linalg.norm(a - b) / np.linalg.norm(a))
        for a, b in zip(expected[1:], found, strict=True)
    )
    times = interleaved({"full": full, "checkpointed": checkpointed}, budget, time.process_time)
    ours, other = times["checkpointed"], times["full"]
    ratios = [f"{ours.minimum / other.minimum:.2f}", f"{ours.median / other.median:.2f}"]
    n, label = str(len(ours.seconds)), str(LONG_SHAPE)
    cells = [milliseconds(ours), f"full {milliseconds(other)}"]
    yield ["Checkpointed BPTT, time", label, *cells, *ratios, n, "≤ 1.3"]
    yield [
        "Checkpointed BPTT, relative error of gradients",
        label,
        f"{error:.1e}",
        "full",
        "",
        "",
        "",
        "≤ 1e-6",
    ]


def growth(budget: float) -> Iterator[Row]:
    """Time forward and full BPTT for growing T; linear growth means the same time per step."""
    lengths = (64, 256, 1024, 4096, 16384)
    functions = {str(T): training_step("RNN", (16, T, 32, 128), dx=False) for T in lengths}
    times = interleaved(functions, budget, time.process_time)
    first = times[str(lengths[0])]
    for T in lengths:
        per_step, reference = times[str(T)].minimum / T, first.minimum / lengths[0]
        median = times[str(T)].median / T / (first.median / lengths[0])
        yield [
            "Time per step against T = 64",
            f"(16, {T}, 32, 128)",
            f"{1e6 * per_step:.3g} µs",
            f"{1e6 * reference:.3g} µs",
            f"{per_step / reference:.2f}",
            f"{median:.2f}",
            str(len(first.seconds)),
            "0.9 … 1.1",
        ]


def scan(budget: float) -> Iterator[Row]:
    """Time the parallel scan beside the loop in the library and one without temporary arrays."""
    from rnncourse.scan import linear_recurrence, parallel_scan

    rng = np.random.default_rng(0)
    a, b, h0 = rng.uniform(size=(65536, 16)), rng.normal(size=(65536, 16)), np.zeros(16)

    def in_place() -> object:
        h, h_prev, product = b.copy(), h0, np.empty_like(h0)
        for a_t, h_t in zip(a, h, strict=True):
            np.multiply(a_t, h_prev, product)
            h_t += product
            h_prev = h_t
        return h

    error = float(np.abs(parallel_scan(a, b, h0) - linear_recurrence(a, b, h0)).max())
    times = interleaved(
        {
            "scan": lambda: parallel_scan(a, b, h0),
            "loop": lambda: linear_recurrence(a, b, h0),
            "loop in place": in_place,
        },
        budget,
        time.process_time,
    )
    ours, n = times["scan"], str(len(times["scan"].seconds))
    for name in ("loop", "loop in place"):
        cells = [milliseconds(ours), f"{name} {milliseconds(times[name])}"]
        yield ["Linear scan", "(65536, 16)", *cells, *compare(ours, times[name]), n, "≥ 3 ×"]
    yield [
        "Linear scan, largest error",
        "(65536, 16)",
        f"{error:.1e}",
        "loop",
        "",
        "",
        "",
        "≤ 1e-10",
    ]


def import_time(rounds: int) -> Row:
    """Time ``import rnncourse`` in fresh processes, less the start of the interpreter."""

    def run(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    pairs = [(run("import rnncourse"), run("pass")) for _ in range(rounds)]
    least = min(a for a, _ in pairs) - min(b for _, b in pairs)
    median = float(np.median([a - b for a, b in pairs]))
    cells = ["", "", "", f"{least:.3f} s", f"{median:.3f} s"]
    return ["import rnncourse", *cells, str(rounds), "< 0.2 s"]


PARTS: dict[str, Callable[[float], Iterator[Row]]] = {
    "speed1": lambda budget: speed(1, budget),
    "speed2": lambda budget: speed(2, budget),
    "memory numpy": lambda budget: memory("numpy"),
    "memory torch": lambda budget: memory("torch"),
    "memory long full": lambda budget: memory("long full"),
    "memory long checkpointed": lambda budget: memory("long checkpointed"),
    "checkpointing": checkpointing,
    "growth": growth,
    "scan": scan,
}


def run_part(part: str, threads: int, budget: float) -> list[Row]:
    """Run one part in a process of its own, showing its progress."""
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | {name: str(threads) for name in variables}
    command = [sys.executable, "-m", "benchmarks.library", "--part", part, "--budget", str(budget)]
    rows = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            rows.append(json.loads(line))
            print(".", end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise SystemExit(f"benchmark part {part!r} failed with status {process.returncode}")
    return rows


def memory_rows() -> list[Row]:
    """Measure peak memory of full BPTT, torch's and the checkpointed one."""

    def grown(which: str) -> int:
        return int(run_part(f"memory {which}", 1, 0)[0][0])

    B, T, _, H = MEMORY_SHAPE
    states = 4 * T * B * H
    ours, torch = grown("numpy"), grown("torch")
    full, checkpointed = grown("long full"), grown("long checkpointed")
    mb = "{:.3g} MB".format
    shape, long = str(MEMORY_SHAPE), str(LONG_SHAPE)
    return [
        ["Peak memory of full BPTT", shape, mb(ours / 1e6), f"states {mb(states / 1e6)}",
         f"{ours / states:.2f}", "", "1", "≤ 2"],
        ["Peak memory of full BPTT", shape, mb(ours / 1e6), f"torch {mb(torch / 1e6)}",
         f"{ours / torch:.2f}", "", "1", "< 0.5"],
        ["Peak memory of checkpointed BPTT", long, mb(checkpointed / 1e6), f"full {mb(full / 1e6)}",
         f"{checkpointed / full:.3f}", "", "1", "≤ 0.04"],
    ]  # fmt: skip


def verdict(row: Row) -> str:
    """Return whether a row reaches its goal: in the median where there is one."""
    _, _, ours, _, minimum, median, _, goal = row
    if not goal:
        return ""
    value = float((median or minimum or ours).split()[0])
    sign, *bounds = re.findall(r"[<>≤≥…]|[\d.e-]+", goal)
    if bounds and bounds[0] == "…":
        return "yes" if float(sign) <= value <= float(bounds[1]) else "**no**"
    holds = {"<": operator.lt, ">": operator.gt, "≤": operator.le, "≥": operator.ge}[sign]
    return "yes" if holds(value, float(bounds[0])) else "**no**"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the time per case")
    parser.add_argument("--markdown", type=Path, default=Path("benchmarks/library.md"))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=float, default=8.0, help="seconds for each case")
    options = parser.parse_args()
    if options.part:
        for row in PARTS[options.part](options.budget):
            print(json.dumps(row), flush=True)
        return
    budget = options.budget / 20 if options.quick else options.budget
    machine = describe_machine()
    rows = run_part("speed1", 1, budget)
    rows += memory_rows()
    for part in ("checkpointing", "growth", "scan"):
        rows += run_part(part, 1, budget)
    rows.append(import_time(3 if options.quick else 10))
    if (os.cpu_count() or 1) > 1:
        rows += run_part("speed2", 2, budget)
    print(file=sys.stderr)
    rows = [[*row, verdict(row)] for row in rows]
    print(machine, text_table(HEADER, rows), sep="\n\n")
    note = (
        "Written by `python -m benchmarks.library`; do not edit. Shapes are (B, T, D, H), float32. "
        "The columns min and median compare minima and medians over n interleaved rounds; a goal "
        "is met if the median reaches it. One thread is timed by processor time, two by wall clock."
    )
    page = ["# Speed and memory of the library", note, machine, markdown_table(HEADER, rows)]
    options.markdown.write_text("\n\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
