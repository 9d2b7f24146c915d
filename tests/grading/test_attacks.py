"""No hostile submission gains a point, reaches anything, or harms another one."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from attacks import ATTACKS, HONEST, TESTS, Attack, course_cells, notebook_of, put
from courses import SmallCourse

from rnncourse.grading.launch import Cell, Profile, Task, close_parents, grade_task
from rnncourse.grading.staging import printable

# The batches are graded once; with pytest-xdist, by one worker.
pytestmark = pytest.mark.xdist_group("attacks")

LIMITS = """
c.SealedExecute.timeout = 3
c.SealedExecute.total_timeout = 12
c.SealedExecute.memory_mb = 400
c.SealedExecute.disk_mb = 32
c.SealedExecute.respawns = 2
"""
OFTEN = [attack for attack in ATTACKS if attack.often]
REST = [attack for attack in ATTACKS if not attack.often]


@dataclass
class Graded:
    """A batch after grading."""

    course: SmallCourse
    status: int
    report: str
    before: dict[str, str]
    reached: list[bytes]
    strays: list[str]


def fingerprint(folder: Path) -> dict[str, str]:
    """Every entry below a folder, with its kind, its permissions and its content."""
    entries = {}
    for base, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(base, name)
            facts = os.lstat(path)
            text = f"{facts.st_mode} {facts.st_size} {facts.st_nlink} {facts.st_mtime_ns}"
            if os.path.islink(path):
                text += os.readlink(path)
            elif os.path.isfile(path) and facts.st_size < 1 << 26:
                with open(path, "rb") as handle:
                    text += hashlib.sha256(handle.read()).hexdigest()
            entries[path] = text
    return entries


def stray_processes() -> list[str]:
    """Sandboxed processes that belong to this process or to nobody any more."""
    commands, parents = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                commands[int(entry.name)] = (entry / "cmdline").read_bytes()
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
            except OSError:
                continue
    sandboxed = {
        pid
        for pid, command in commands.items()
        if b"from inside import parent" in command or b"sleep\x00600" in command
    }
    found = []
    for pid in sandboxed:
        owner = pid
        while owner in sandboxed or commands.get(owner, b"").startswith(b"bwrap"):
            owner = parents.get(owner, 1)
        if owner in (1, os.getpid()):
            found.append(commands[pid].decode(errors="replace"))
    return found


def grade(tmp: Path, attacks: list[Attack]) -> Graded:
    """Grade the attacks together with honest work."""
    course = SmallCourse(tmp / "course", course_cells(), extra=LIMITS)
    (course.root / "source" / "ps" / "data").mkdir()
    (course.root / "source" / "ps" / "data" / "limits.txt").write_text("3 7\n")
    tools = "def agrees(a, b):\n    return abs(a - b) < 1e-9\n"
    (course.root / "source" / "ps" / "data" / "tools.py").write_text(tools)
    reached: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        course.port = server.getsockname()[1]
        local.bind(f"\0rnncourse-canary-{course.port}")
        local.listen()

        def listen(sock: socket.socket) -> None:
            try:
                while True:
                    reached.append(sock.accept()[0].recv(100))
            except OSError:
                return

        for sock in (server, local):
            threading.Thread(target=listen, args=(sock,), daemon=True).start()
        for number in range(1, 4):
            put(course.root / "submitted" / f"honest-{number}" / "ps", notebook_of(course, HONEST))
        for attack in attacks:
            attack.build(course, course.root / "submitted" / attack.name / "ps")
        before = fingerprint(course.root / "submitted")
        running = len(stray_processes())
        os.environ["RNNCOURSE_TOKEN"] = "canary-4711"
        result = course.grade("--jobs", "3", check=False)
        strays = stray_processes()[running:]
    return Graded(course, result.returncode, result.stdout + result.stderr, before, reached, strays)


@pytest.fixture(scope="module")
def often(tmp_path_factory: pytest.TempPathFactory) -> Graded:
    """The representative part."""
    return grade(tmp_path_factory.mktemp("often"), OFTEN)


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Graded:
    """All the others."""
    return grade(tmp_path_factory.mktemp("rest"), REST)


def outputs(graded: Graded, student: str) -> str:
    """All outputs in the graded notebook."""
    import nbformat

    path = graded.course.root / "autograded" / student / "ps" / "ps.ipynb"
    if not path.exists():
        return ""
    notebook = nbformat.read(path, as_version=4)
    return repr([cell.get("outputs") for cell in notebook.cells if cell.cell_type == "code"])


def judge_attack(graded: Graded, attack: Attack) -> None:
    expected = dict.fromkeys(TESTS, 0.0) | attack.earned
    assert graded.course.marks(attack.name) == expected, graded.report[-3000:]
    shown = outputs(graded, attack.name)
    assert not re.search(r"\bGOT\b", shown), shown
    assert "canary" not in shown
    for markup in ("text/html", "svg", "javascript", "7838.75", "saw_31337", "R0lHQUdJR0"):
        assert markup not in shown
    folder = graded.course.root / "autograded" / attack.name
    active = (".html", ".htm", ".xhtml", ".svg", ".js", ".rdf", ".wsdl", ".xpdl", ".shtml", ".eml")
    assert not [path for path in folder.rglob("*") if path.suffix.lower() in active]


def judge_batch(graded: Graded) -> None:
    assert graded.status == 0, graded.report
    assert printable(graded.report.replace("\n", " "), 10**9) == graded.report.replace("\n", " ")
    assert len(graded.report) < 100_000
    for number in range(1, 4):
        assert graded.course.marks(f"honest-{number}") == TESTS
    assert graded.reached == []
    assert graded.strays == []
    assert fingerprint(graded.course.root / "submitted") == graded.before
    graded_again = graded.course.grade(check=False)
    assert graded_again.returncode == 0, graded_again.stderr
    assert "Nothing to grade" in graded_again.stdout


@pytest.mark.parametrize("attack", OFTEN, ids=lambda attack: attack.name)
def test_attack_earns_and_reaches_nothing(often: Graded, attack: Attack) -> None:
    judge_attack(often, attack)


def test_batch_survives(often: Graded) -> None:
    judge_batch(often)


def test_rendering_ends_soon_and_keeps_long_paragraphs() -> None:
    from rnncourse.grading.rendering import highlight_code, markdown2html

    assert "<em>long</em>" in markdown2html("a *long* paragraph on one line " * 200)
    assert "<span" in highlight_code("def f(x):\n    return 2 * x")
    started = time.monotonic()
    for _ in range(5):
        assert "<span" not in highlight_code("x = '%" + "0" * 90_000)
    assert time.monotonic() - started < 30  # without an end, it would be an hour


def test_an_empty_tensor_agrees_with_nothing() -> None:
    cells = (
        Cell("student", "import torch\ndef f(x): return torch.zeros(x)"),
        Cell("test", "assert torch.allclose(f(0), torch.tensor(2.0))"),
        Cell("test", "assert ((f((0, 1)) - torch.ones(2)).abs() < 1e-6).all()"),
        Cell("test", "assert np.allclose(f((0, 1)), [1.0, 1.0])"),
        Cell("test", "assert torch.equal(f((0, 2)), torch.zeros(0, 2)) and f((0, 2)).sum() == 0"),
    )
    plain = "import numpy as np\fimport torch"
    results = grade_task(Task(cells, plain, ("f",), {}, Profile(("numpy", "torch"), True)))
    close_parents()
    assert [result["passed"] for result in results[1:]] == [False, False, False, True], results


def test_an_exception_of_the_courses_own_class_is_not_feedback() -> None:
    own = "class CheckFailed(AssertionError):\n    is_feedback = True"
    hidden = "### BEGIN HIDDEN TESTS\nassert f(31337) == 2\n### END HIDDEN TESTS"
    cells = (
        Cell("locked", own),
        Cell("student", "def f(x): raise CheckFailed(f'Known mistake [a]: {x}')"),
        Cell("test", "f(1)"),
        Cell("test", hidden, ((1, 3),)),
    )
    results = grade_task(Task(cells, answers=("f",)))
    close_parents()
    assert [result["error"]["name"] for result in results[2:]] == ["StudentError"] * 2
    assert "31337" not in str(results[3]["error"])


# What a submission puts on the wire by itself.
FORGE = """
import sys
student = sys.modules['inside.student']
class Node:
    def __init__(self, *parts): self.parts = list(parts)
encode = student._Encoder.encode
student._Encoder.encode = lambda self, v, d=0: v.parts if type(v) is Node else encode(self, v, d)
keep = student._Runner.keep
def lie(self, value):
    node = keep(self, value)
    return [*node[:6], value.claims] if hasattr(type(value), 'claims') else node
student._Runner.keep = lie
"""
COURSE = """
from enum import Enum, Flag
class Color(Enum):
    RED = 1
class Right(Flag):
    READ = 1
class Done(StopIteration): pass
"""
REFUSED = "try:\n    f(-1)\n    assert False, 'nothing was raised'\nexcept Negative:\n    pass"
FORGERIES = {
    "ends-in-the-message": (
        "class A:\n    def __str__(self): raise SystemExit(0)\ndef f(x): return A()",
        "assert f(2) == 4, f(2)",
    ),
    "ends-when-all-is-said": (
        "class L(list):\n    def __setitem__(self, *a): raise SystemExit(0)\n"
        "class A: items = L()\ndef f(x): return A()",
        "f(2).items.append(3)\nassert 2 == 4",
    ),
    "asks-the-test-when-all-is-said": (
        "class A:\n    def __str__(self): return str(A.ask(10**12))\n"
        "def f(ask):\n    A.ask = ask\n    return A()",
        "def ask(n):\n    for _ in range(n): pass\nassert 0, f(ask)",
    ),
    "ends-a-loop": (
        "def f(x): raise Done",
        "for got, want in zip(map(f, [2, 3]), [4, 6]):\n    assert got == want",
    ),
    "named-as-any-exception": ("Negative = Exception\ndef f(x): return 0", REFUSED),
    "named-as-a-failure": ("Negative = (AssertionError,)\ndef f(x): return 0", REFUSED),
    "member-that-is-none": (
        "def f(x): return Node('instance', 'Color', ['dict', [['_value_', 4]]], ['dict', []])",
        "assert f(2).value == 4",
    ),
    "member-of-everything": (
        "def f(x): return Node('instance', 'Right', ['dict', [['_value_', -1]]], ['dict', []])",
        "assert Right.READ in f(2)",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgery_passes_nothing(name: str) -> None:
    answer, test = FORGERIES[name]
    cells = (
        Cell("locked", COURSE),
        Cell("student", FORGE + answer),
        Cell("test", test),
        Cell("test", "assert 1 + 1 == 2"),
    )
    results = grade_task(Task(cells, answers=("f", "Negative")))
    close_parents()
    assert not results[2]["passed"]
    assert results[2]["error"]["name"] != "NotRun"  # the trusted process lived on
    assert results[3]["passed"]


def test_torch_takes_no_proxy_for_a_tensor() -> None:
    lies = (
        FORGE + "class A:\n    claims = ['torch.nn.parameter.UninitializedParameter', "
        "'torch._C.Generator']\ndef f(): return A()"
    )
    tests = ("assert isinstance(f(), torch.Tensor)", "torch.allclose(f(), torch.ones(2))")
    cells = (Cell("student", lies), *(Cell("test", test) for test in tests))
    profile = Profile(("numpy", "torch"), True)
    results = grade_task(Task(cells, "import torch", ("f",), {}, profile))
    close_parents()
    assert [result["error"]["name"] for result in results[1:]] == ["AssertionError", "TypeError"]


@pytest.mark.attacks
@pytest.mark.parametrize("attack", REST, ids=lambda attack: attack.name)
def test_further_attack_earns_and_reaches_nothing(rest: Graded, attack: Attack) -> None:
    judge_attack(rest, attack)


@pytest.mark.attacks
def test_batch_survives_further_attacks(rest: Graded) -> None:
    judge_batch(rest)


def test_feedback_tells_nothing_hidden(often: Graded) -> None:
    evil = ["html-in-markdown", "javascript-links", "mathjax-links", "html-by-entities"]
    telling = ["hidden-inputs-by-class-name", "hidden-inputs-in-next-test"]
    telling.append("hidden-inputs-printed-in-next-test")
    telling.append("hidden-inputs-in-class-name-of-ours")
    telling += ["hidden-inputs-below-hidden-lines", "hidden-inputs-printed-below-hidden-lines"]
    telling.append("hidden-inputs-printed-by-the-test")
    # One run for all of them; a handful of others match, too.
    often.course.nbgrader("generate_feedback", "ps", "--student=[hjm]*-[1bihlmo]*", "--force")
    pages: Any = {
        path.parent.parent.name: path.read_text()
        for path in (often.course.root / "feedback").glob("*/ps/ps.html")
    }
    assert "31337" not in pages["honest-1"]
    assert "HIDDEN TESTS" not in pages["honest-1"]
    assert "test_double" in pages["honest-1"]
    for student in evil:
        page = pages[student]
        assert "<script>alert" not in page and "<img src=x" not in page
        assert '<img src="http' not in page
        assert not re.search(r'(?i)href="\s*(?:javascript|vbscript|data):', page)
        assert not re.search(r"\\(?:href|style|csname|def|require)\b", page.split("<body")[1])
    assert "0" * 1900 in pages["hours-of-highlighting"]
    for student in telling:
        assert "31337" not in pages[student]
    assert "the text is withheld after hidden tests" in pages["hidden-inputs-in-next-test"]


@pytest.mark.attacks
@pytest.mark.parametrize(
    "name",
    [
        "hidden-inputs-later",
        "hidden-inputs-by-exception",
        "hidden-inputs-by-print",
        "hidden-inputs-in-source-lines",
        "hidden-inputs-in-next-class-name",
    ],
)
def test_feedback_does_not_carry_hidden_inputs(rest: Graded, name: str) -> None:
    rest.course.nbgrader("generate_feedback", "ps", f"--student={name}", "--force")
    page = (rest.course.root / "feedback" / name / "ps" / "ps.html").read_text()
    assert "31337" not in page
