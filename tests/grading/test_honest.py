"""Honest work never suffers, and the instructor's ordinary ways of testing work through proxies."""

# ruff: noqa: E501 - the lines are code in strings

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rnncourse.grading import Cell, Limits, Profile, Task, grade_task
from rnncourse.grading.launch import Result, close_parents
from rnncourse.grading.notebooks import defined_names, hidden_spans

pytestmark = pytest.mark.xdist_group("honest")

# For what never ends; all else has the time that courses give, however busy the machine is.
SHORT = Limits(cell_s=5, total_s=60)


@pytest.fixture(scope="module", autouse=True)
def parents_end() -> Iterator[None]:
    yield
    close_parents()


def run(
    *cells: Cell,
    plain: str = "import numpy as np",
    torch: bool = False,
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
) -> list[Result]:
    answers = set()
    for cell in cells:
        if cell.kind == "student":
            answers |= defined_names(cell.source)
    preload = ("numpy", "torch") if torch else ("numpy",)
    profile = Profile(preload, torch, limits=limits)
    return grade_task(Task(cells, plain, tuple(sorted(answers)), {}, profile))


def student(source: str) -> Cell:
    return Cell("student", source)


def check(source: str) -> Cell:
    return Cell("test", source, hidden_spans(source))


def verdict(answer: str, test: str, **options: object) -> Result:
    return run(student(answer), check(test), **options)[-1]  # type: ignore[arg-type]


GOOD = {
    "stderr": (
        "import sys, warnings\ndef f(x):\n    warnings.warn('careful')\n"
        "    print('debug', file=sys.stderr)\n    return 2 * x",
        "assert f(2) == 4",
    ),
    "numpy-warning": ("import numpy as np\ndef f(x): return np.log(x)", "assert f(0.0) == -np.inf"),
    "einsum": (
        "import numpy as np\ndef f(a, b): return np.einsum('ij,jk->ik', a, b)",
        "a, b = np.ones((2, 3)), np.ones((3, 4))\nassert np.allclose(f(a, b), a @ b)",
    ),
    "view": (
        "def f(x): return x[::-1].T",
        "x = np.arange(6.0).reshape(2, 3)\nnp.testing.assert_array_equal(f(x), x[::-1].T)",
    ),
    "float32": (
        "import numpy as np\ndef f(x): return x.astype(np.float32)",
        "r = f(np.ones(3))\nassert r.dtype == np.float32 and r.sum() == 3",
    ),
    "fortran-order": (
        "import numpy as np\ndef f(x): return np.asfortranarray(x)",
        "x = np.arange(6.0).reshape(2, 3)\nassert (f(x) == x).all()",
    ),
    "read-only": (
        "import numpy as np\ndef f(x): return np.broadcast_to(x, (2, 3))",
        "r = f(np.ones(3))\nr[0, 0] = 5\nassert r[0, 0] == 5",
    ),
    "keyword-arguments": (
        "def f(a, *, b=1, **more): return a + b + sum(more.values())",
        "assert f(1, b=2, c=3) == 6",
    ),
    "tuple": (
        "def f(): return 1, (2.5, [None, 'x']), {'k': {1, 2}}",
        "assert f() == (1, (2.5, [None, 'x']), {'k': {1, 2}})",
    ),
    "named-tuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
        "x, y = f()\nassert f().y == 2 and isinstance(f(), tuple)",
    ),
    "dict-of-arrays": (
        "def f(p): return {k: v * 2 for k, v in p.items()}",
        "r = f({'W': np.ones((2, 3)), 'b': np.zeros(2)})\n"
        "assert r['W'].sum() == 12 and set(r) == {'W', 'b'}",
    ),
    "generator": (
        "def f(n):\n    for i in range(n): yield i * i",
        "assert list(f(4)) == [0, 1, 4, 9]",
    ),
    "random-generator": (
        "def f(rng): return rng.normal(size=3)",
        "a = f(np.random.default_rng(7))\n"
        "assert np.array_equal(a, np.random.default_rng(7).normal(size=3))",
    ),
    "generator-by-value": (
        "def f(rng): return rng.normal(size=3)",
        "rng = np.random.default_rng(7)\na = f(rng)\nassert np.array_equal(a, f(rng))",
    ),
    "callback": (
        "def f(g, a, e): return (g(a + e) - g(a - e)) / (2 * e)",
        "assert abs(f(lambda v: v ** 3, 2.0, 1e-5) - 12) < 1e-6",
    ),
    "callback-raises": (
        "def f(g):\n    try: g()\n    except ZeroDivisionError: return 'caught'",
        "assert f(lambda: 1 / 0) == 'caught'",
    ),
    "callback-into-the-submission": (
        "def f(g, a): return g(a) + 1\ndef h(x): return 2 * x",
        "assert f(lambda v: f(lambda w: h(w) + 1, v), 3.0) == 9",
    ),
    "text-as-last-line": ("def f(x): return '0'", "got = f(1)\nassert got == '0'\ngot"),
    "length-and-items": (
        "class L:\n    def __init__(self): self.x = []\n    def __len__(self): return len(self.x)\n"
        "    def __iter__(self): return iter(self.x)\n    def add(self, v): self.x.append(v)",
        "s = L()\nassert len(s) == 0 and list(s) == []\ns.add(3)\nassert list(s) == [3]\n"
        "s.add(4)\nassert len(s) == 2 and list(s) == [3, 4] and list(s) == [3, 4]",
    ),
    "processes-and-sockets": (
        "import asyncio, multiprocessing, subprocess\ndef f():\n"
        "    with multiprocessing.get_context('fork').Pool(4) as p: a = p.map(abs, [-1, 2])\n"
        "    b = subprocess.run(['echo', 'x'], capture_output=True).stdout\n"
        "    return a, b, asyncio.new_event_loop().run_until_complete(asyncio.sleep(0, 3))",
        "assert f() == ([1, 2], b'x\\n', 3)",
    ),
    "returned-function": ("def f(n): return lambda x: x + n", "assert f(3)(4) == 7"),
    "class": (
        "class Stack:\n    def __init__(self): self.items = []\n"
        "    def push(self, x): self.items.append(x)\n    def pop(self): return self.items.pop()\n"
        "    def __len__(self): return len(self.items)",
        "s = Stack()\ns.push(3)\ns.push([4])\nassert len(s) == 2 and s.pop() == [4]\n"
        "assert s.items == [3]",
    ),
    "class-operators": (
        "class V:\n    def __init__(self, x): self.x = x\n"
        "    def __add__(self, o): return V(self.x + o.x)\n"
        "    def __eq__(self, o): return self.x == o.x\n"
        "    def __repr__(self): return f'V({self.x})'\n    __str__ = __repr__",
        "assert V(1) + V(2) == V(3)\nassert V(1) != V(2)\nassert str(V(1)) == 'V(1)'",
    ),
    "class-iterates": (
        "class C:\n    def __init__(self, n): self.n = n\n"
        "    def __iter__(self): return iter(range(self.n))\n"
        "    def __getitem__(self, i): return i * 10\n"
        "    def __contains__(self, x): return False",
        "c = C(3)\nassert list(c) == [0, 1, 2] and c[2] == 20 and 2 in c",
    ),
    "class-context": (
        "class C:\n    def __enter__(self): return 5\n    def __exit__(self, *a): pass",
        "with C() as v:\n    assert v == 5",
    ),
    "class-attribute": (
        "class C: pass",
        "c = C()\nc.a = 3\nassert c.a == 3 and hasattr(c, 'a')\nassert not hasattr(c, 'b')",
    ),
    "exceptions": (
        "def f(x):\n    if x < 0: raise ValueError('negative')\n    return x",
        "try:\n    f(-1)\nexcept ValueError as e:\n    assert 'negative' in str(e)\n"
        "else:\n    raise AssertionError",
    ),
    "own-exception": (
        "class Mine(KeyError): pass\ndef f(): raise Mine('k')",
        "try:\n    f()\nexcept KeyError as e:\n    assert e.args == ('k',)",
    ),
    "signature": (
        "def f(x, y=3, *args, k): pass",
        "import inspect\np = inspect.signature(f).parameters\nassert list(p) == ['x', 'y', 'args', 'k']\n"
        "assert callable(f) and f.__name__ == 'f'",
    ),
    "docstring": ("def f():\n    'Says.'", "assert f.__doc__ == 'Says.'"),
    "variable": (
        "answer = np.arange(3)\ntext = 'abc'",
        "assert (answer == [0, 1, 2]).all() and text == 'abc'",
    ),
    "shadows-builtin": ("def filter(x): return x + 1", "assert filter(1) == 2"),
    "big-integer": (
        "def f(n): return 1 if n == 0 else n * f(n - 1)",
        "import math\nassert f(100) == math.factorial(100)",
    ),
    "complex": ("def f(x): return x * 1j", "assert f(2) == 2j"),
    "strings-array": (
        "def f(): return np.array(['a', 'bc'])",
        "assert f().tolist() == ['a', 'bc']",
    ),
    "last-line-number": ("def f(x): return x", "score = 0.75 * f(1)\nscore"),
    "helper-of-the-course": ("def f(x): return x + 1e-9", "assert near(f(1.0), 1.0)"),
    "import-of-the-course": ("def f(x): return math.sqrt(x)", "assert f(4) == math.sqrt(4)"),
    "printing-in-the-test": (
        "def f(x):\n    print('working')\n    return x",
        "print(f(3))\nassert f(3) == 3",
    ),
    "magic-in-the-test": ("def f(x): return x", "%matplotlib inline\nassert f(1) == 1"),
    "instance-passed-back": (
        "class A: pass\ndef f(a, b): return a is b",
        "a = A()\nassert f(a, a) is True",
    ),
    "default-arguments": (
        "def f(x, axis=-1): return np.sum(x, axis=axis)",
        "assert np.allclose(f(np.ones((2, 3))), [3, 3])",
    ),
    "no-arguments-to-return": (
        "def f(*xs): return [len(xs)]",
        "assert f.call_and_return_arguments() == ([0], (), {})\n"
        "r, (a,), _ = f.call_and_return_arguments(np.zeros((0, 2)))\nassert a.shape == (0, 2)",
    ),
    "empty-arrays": ("def f(x): return x[:0]", "assert f(np.ones((2, 3))).shape == (0, 3)"),
    "numpy-scalar": (
        "def f(x): return np.float64(x)",
        "assert f(2.0) == 2.0 and isinstance(f(2.0), float)",
    ),
    "datetime": (
        "def f(): return np.array(['2020-01-01'], dtype='datetime64[D]')",
        "assert f()[0] == np.datetime64('2020-01-01')",
    ),
    "recursion": ("def f(n): return n if n < 2 else f(n - 1) + f(n - 2)", "assert f(10) == 55"),
    "many-calls": ("def f(x): return x + 1", "for i in range(500):\n    assert f(i) == i + 1"),
    "replaced-function": (
        "def g(x): return x + 1\ndef f(x): return 2 * g(x)",
        "kept = g\ndel g\ntry:\n    f(1)\nexcept NameError:\n    pass\nelse:\n    assert False\n"
        "finally:\n    g = kept\nassert f(1) == 4\nfrom unittest.mock import patch\n"
        "with patch('__main__.g', return_value=10) as fake:\n    assert f(1) == 20\n"
        "fake.assert_called_once_with(1)\nassert f(1) == 4",
    ),
    "keyboard": (
        "def f(): return int(input('Age? ')) + int(input())",
        "import io, sys\nfrom unittest.mock import patch\n"
        "with patch('builtins.input', side_effect=['1', '2']) as fake:\n    assert f() == 3\n"
        "assert fake.call_count == 2\nsys.stdin = io.StringIO('3\\n4\\n')\nassert f() == 7",
    ),
    "stdout": (
        "def f(x): print('got', x)",
        "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as out:\n    f(3)\n"
        "assert out.getvalue() == 'got 3\\n'\nfrom unittest.mock import patch\n"
        "with patch('builtins.print') as fake:\n    f(4)\nfake.assert_called_once_with('got', 4)",
    ),
    "unittest": (
        "def f(x):\n    if x < 0: raise ValueError('neg')\n    return 2 * x",
        "import unittest\nclass T(unittest.TestCase):\n"
        "    def test_value(self): self.assertEqual(f(2), 4)\n"
        "    def test_error(self): self.assertRaisesRegex(ValueError, 'neg', f, -1)\n"
        "run = unittest.main(argv=[''], exit=False)\n"
        "assert run.result.wasSuccessful() and run.result.testsRun == 2",
    ),
    "source": (
        "import functools\n@functools.cache\ndef f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\n"
        "class C:\n    def go(self):\n        return 1",
        "import ast, inspect\ntree = ast.parse(inspect.getsource(f))\n"
        "assert sum(getattr(n, 'id', '') == 'f' for n in ast.walk(tree)) == 2\n"
        "assert inspect.getsource(C.go).strip().startswith('def go')",
    ),
    "reflection": (
        "def f(x: int, y: str = 'a') -> float: return 1.0\ndef g(): yield 1",
        "import inspect\nassert inspect.isfunction(f) and inspect.isgeneratorfunction(g)\n"
        "assert f.__annotations__ == {'x': int, 'y': str, 'return': float}\n"
        "assert f.__defaults__ == ('a',) and f.__code__.co_argcount == 2\n"
        "assert inspect.signature(f).parameters['y'].default == 'a'",
    ),
    "instances": (
        "class A:\n    kind = 'a'\n    def __init__(self, x): self.x = x\n    def get(self): return self.x\n"
        "    def __repr__(self): return f'A({self.x})'\n    def __hash__(self): return hash(self.x)\n"
        "    def __eq__(self, o): return self.x == o.x\n    def __neg__(self): return A(-self.x)\n"
        "class B(A):\n    @property\n    def double(self): return 2 * self.x\n"
        "class L(list):\n    def total(self): return sum(self)",
        "import inspect\nb = B(3)\nassert isinstance(b, A) and not isinstance(A(1), B) and issubclass(B, A)\n"
        "assert vars(b) == {'x': 3} and 'get' in dir(b) and type(b).__name__ == 'B'\n"
        "assert repr(b) == 'A(3)' and f'{b}' == 'A(3)' and str([b]) == '[A(3)]'\n"
        "assert len({A(1), A(1)}) == 1 and -A(2) == A(-2) and A in B.__mro__\n"
        "assert inspect.isclass(B) and isinstance(B.double, property) and L([1, 2]).total() == 3",
    ),
    "attributes-changed-by-the-test": (
        "import numpy as np\nclass C:\n    def __init__(self): self.items, self.grid = [], np.zeros(2)\n"
        "    def total(self): return sum(self.items) + self.grid.sum()",
        "c = C()\nc.items.append(3)\nc.items.append(4)\nc.grid[1] = 5\nassert c.total() == 12",
    ),
    "own-exceptions": (
        "class Bank(Exception): pass\nclass Short(Bank):\n    def __init__(self, need):\n"
        "        super().__init__(f'need {need}')\n        self.need, self.kind = need, 'short'\n"
        "def f(x):\n    if x > 3: raise Short(x - 3)\ndef g(call):\n    try: call()\n"
        "    except Bank: return 'bank'\ndef h(): raise ValueError('code', 3)",
        "try:\n    f(5)\nexcept Bank as e:\n    assert e.need == 2 and str(e) == 'need 2' and e.kind == 'short'\n"
        "    assert isinstance(e, Short)\nelse:\n    assert False\nassert issubclass(Short, Bank)\n"
        "def fails(): raise Bank('x')\nassert g(fails) == 'bank'\n"
        "try:\n    h()\nexcept ValueError as e:\n    assert e.args == ('code', 3)",
    ),
    "exit": (
        "import sys\ndef f(): sys.exit(3)",
        "try:\n    f()\nexcept SystemExit as e:\n    assert e.code == 3\nelse:\n    assert False",
    ),
    "leaves-with": (
        "from contextlib import contextmanager\nlog = []\n@contextmanager\ndef f():\n    log.append('in')\n"
        "    try: yield 5\n    finally: log.append('out')",
        "try:\n    with f() as v:\n        assert v == 5\n        raise KeyError('k')\n"
        "except KeyError:\n    pass\nassert log == ['in', 'out']",
    ),
    "values-of-the-library": (
        "from collections import Counter, defaultdict, deque\nfrom datetime import timedelta\n"
        "from decimal import Decimal\ndef f(w): return Counter(w)\ndef g(d): return d + timedelta(days=1)\n"
        "def h(x): return Decimal(x) * 2\ndef k(x): return deque(x, maxlen=2)\ndef p(x): return x / 'a'",
        "from collections import deque\nfrom datetime import date\nfrom decimal import Decimal\n"
        "from pathlib import Path\nassert f('aab').most_common(1) == [('a', 2)] and f('a')['z'] == 0\n"
        "assert g(date(2024, 2, 28)) == date(2024, 2, 29) and h('1.1') == Decimal('2.2')\n"
        "assert k([1, 2, 3]) == deque([2, 3]) and p(Path('/x')) == Path('/x/a')",
    ),
    "types-and-iterators": (
        "def f(xs, kind): return [kind(x) for x in xs]\ndef g(x, kind): return isinstance(x, kind)\n"
        "def h(n, dtype): return np.zeros(n, dtype)",
        "assert f('12', int) == [1, 2] and f((x for x in '3'), float) == [3.0]\n"
        "assert f({'a': 1}.items(), list) == [['a', 1]] and g(1, int) and not g('a', (int, float))\n"
        "assert h(2, np.float32).dtype == np.float32",
    ),
    "figures": (
        "import matplotlib.pyplot as plt\ndef f(y):\n    plt.plot(y, color='red')\n    plt.title('T')\n"
        "def g(ax): ax.set_xlabel('x')\ndef h(): return plt.figure(figsize=(3, 2))",
        "import matplotlib.figure\nimport matplotlib.pyplot as plt\nf([1, 2])\nax = plt.gca()\n"
        "assert ax.get_title() == 'T' and list(ax.lines[0].get_ydata()) == [1, 2]\n"
        "fig, new = plt.subplots()\ng(new)\nassert new.get_xlabel() == 'x'\n"
        "assert isinstance(h(), matplotlib.figure.Figure)",
    ),
    "warnings": (
        "import warnings\ndef f(): warnings.warn('old', DeprecationWarning)",
        "import warnings\nwith warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n    f()\n"
        "assert len(caught) == 1 and issubclass(caught[0].category, DeprecationWarning)",
    ),
    "names-as-text": (
        "count = 0\ndef f():\n    global count\n    count += 1",
        "f()\nf()\nassert eval('count') == 2 and 'count' in globals() and 'f' in dir()",
    ),
    "large-array": (
        "def f(x): return x * 2",
        "x = np.ones((1000, 1000))\nassert np.allclose(f(x), 2)",
    ),
}
PLAIN = "import numpy as np\fimport math\n\ndef near(a, b):\n    return abs(a - b) < TOLERANCE\n\fTOLERANCE = 1e-6"


@pytest.mark.parametrize("name", GOOD)
def test_good_answer_passes(name: str) -> None:
    answer, test = GOOD[name]
    answer = "import numpy as np, math\n" + answer
    result = verdict(answer, test, plain=PLAIN)
    assert result["passed"], result["error"]
    assert result["score"] == (0.75 if name == "last-line-number" else None)


BAD = {
    "unittest": (
        "def f(x): return x",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(2), 4)\n"
        "assert unittest.main(argv=[''], exit=False).result.wasSuccessful()",
        "AssertionError",
    ),
    "rows-are-one": (
        "def f(n): return [[0] * n] * n",
        "m = f(2)\nm[0][0] = 1\nassert m == [[1, 0], [0, 0]]",
        "AssertionError",
    ),
    "warns": (
        "import numpy as np\ndef f(x): return np.log(x)",
        "import warnings\nwith warnings.catch_warnings():\n    warnings.simplefilter('error')\n"
        "    f(np.zeros(1))",
        "RuntimeWarning",
    ),
    "hides-an-error": (
        "class C:\n    def __enter__(self): return 1\n    def __exit__(self, *a): return True",
        "with C() as c:\n    assert c == 2",
        "TypeError",
    ),
    "named-as-feedback": (
        "class CheckFailed(AssertionError): is_feedback = True\ndef f(): raise CheckFailed('x')",
        "f()",
        "StudentError",
    ),
    "wrong": ("def f(x): return x", "assert f(2) == 4", "AssertionError"),
    "missing": ("g = 1", "assert f(2) == 4", "NameError"),
    "numpy-message": (
        "def f(x): return x",
        "np.testing.assert_allclose(f(np.ones(2)), 2)",
        "AssertionError",
    ),
    "false-last-line": ("def f(x): return x", "f(2) == 4", "AssertionError"),
    "own-error": ("def f(x): return 1 / 0", "assert f(2) == 4", "ZeroDivisionError"),
    "syntax": ("def f(x) return x", "assert f(2) == 4", "NameError"),
    "arguments-changed": (
        "def f(x):\n    x += 1\n    return x",
        "a = np.zeros(2)\nr, (b,), _ = f.call_and_return_arguments(a)\n"
        "assert (a == 0).all()\nassert (b == a).all()",
        "AssertionError",
    ),
    "expected-exception": (
        "import os\ndef f(): os._exit(1)",
        "try:\n    f()\nexcept Exception:\n    pass",
        "SubmissionEnded",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_answer_fails(name: str) -> None:
    answer, test, error = BAD[name]
    result = verdict(answer, test)
    assert not result["passed"]
    assert result["error"]["name"] == error, result["error"]


def test_instances_of_the_courses_own_classes_cross() -> None:
    classes = (
        "from collections import namedtuple\nfrom dataclasses import dataclass\nfrom enum import Enum, Flag\n"
        "class Short(Exception):\n    def __init__(self, need): self.need = need\n"
        "    def __str__(self): return f'{self.need} too little'\n"
        "class Right(Flag):\n    READ = 1\n    WRITE = 2\n"
        "P = namedtuple('P', 'x y')\nclass Color(Enum):\n    RED = 1\n@dataclass\nclass Mark:\n"
        "    name: str\n    points: list\nclass Node:\n    def __init__(self, v, next=None):\n"
        "        self.v, self.next = v, next\n    def size(self): return 1"
    )
    answers = (
        "def push(node, v): return Node(v, node)\n"
        "def total(node): return node.v + total(node.next) if node else 0\n"
        "def best(marks): return max(marks, key=lambda m: sum(m.points))\n"
        "def mid(a, b): return P(a.x + b.x, a.y)\ndef area(shape): return 2 * shape.area()\n"
        "def other(c): return Color.RED if c is Color.RED else None\n"
        "def spend(x): raise Short(x)\ndef rights(): return Right.READ | Right.WRITE"
    )
    test = (
        "try:\n    spend(3)\nexcept Short as e:\n    assert e.need == 3 and str(e) == '3 too little'\n"
        "else:\n    assert False\nassert rights() == Right.READ | Right.WRITE\n"
        "n = push(Node(2), 1)\nassert isinstance(n, Node) and n.next.v == 2 and total(n) == 3\n"
        "a, b = Mark('a', [1]), Mark('b', [5])\nassert best([a, b]) == b\n"
        "assert isinstance(mid(P(1, 2), P(3, 4)), P) and other(Color.RED) is Color.RED\n"
        "class Square:\n    def area(self): return 9\nassert area(Square()) == 18"
    )
    results = run(Cell("locked", classes), student(answers), check(test))
    assert results[-1]["passed"], results[-1]["error"]
    forged = (
        answers + "\nreal = push\ndef push(n, v):\n    x = real(n, v)\n    x.{} = 1\n    return x"
    )
    for word in ("__init__", "size"):
        results = run(Cell("locked", classes), student(forged.format(word)), check(test))
        assert not results[-1]["passed"]


@pytest.mark.parametrize("kind", ["locked", "test"])
def test_no_instance_of_a_class_that_judges_comes_from_the_submission(kind: str) -> None:
    close = (
        "class Close:\n    def __init__(self, v, tolerance=0.1): self.v, self.tolerance = v, tolerance\n"
        "    def __eq__(self, other): return abs(self.v - other) < self.tolerance"
    )
    forger = student(f"{close}\ndef f(x): return Close(0, 1e9)")
    results = run(Cell(kind, close), forger, check("assert f(2) == 4"))  # type: ignore[arg-type]
    assert not results[-1]["passed"]
    results = run(
        Cell(kind, close), student("def f(x): return 4.05"), check("assert f(2) == Close(4)")
    )  # type: ignore[arg-type]
    assert results[-1]["passed"], results[-1]["error"]


def test_a_helper_of_the_test_may_call_the_submission() -> None:
    results = run(
        Cell("locked", "def twice_ok(x):\n    assert f(x) == 2 * x"),
        student("def f(x): return 2 * x"),
        check("def all_ok(xs):\n    for x in xs: twice_ok(x)\nall_ok([1])"),
        check("all_ok([2, 3])"),
    )
    assert [result["passed"] for result in results[2:]] == [True, True], results


def test_a_helper_may_use_what_an_ordinary_cell_imports() -> None:
    results = run(
        Cell("locked", "def close(a, b): return np.allclose(a, b)"),
        student("import numpy as np\ndef f(x): return 2 * x"),
        check("assert close(f(2), 4)"),
    )
    assert results[-1]["passed"], results[-1]["error"]


def test_the_instructor_is_told_that_arguments_are_copies() -> None:
    result = verdict("def f(xs): xs.sort()", "xs = [2, 1]\nf(xs)\nassert xs == [1, 2]")
    assert not result["passed"] and "call_and_return_arguments" in result["detail"]


def test_value_of_the_submission_is_no_partial_credit() -> None:
    result = verdict("def f(x): return 10.0", "assert f(1)\nf(3)")
    assert result["passed"] and result["score"] is None


def test_one_crash_does_not_cost_the_next_question() -> None:
    results = run(
        student("def f(x): return 2 * x"),
        check("assert f(2) == 4"),
        student("import os\ndef g(x): os._exit(1)"),
        check("assert g(2) == 4"),
        student("def h(x):\n    while True: pass"),
        check("h(1)"),
        student("def k(x): return f(x) + 1"),
        check("assert k(2) == 5"),
        limits=SHORT,
    )
    assert [r["passed"] for r in results if r["cell"] in (1, 3, 5, 7)] == [True, False, False, True]
    assert "ended" in results[3]["error"]["text"]
    assert "5 s" in results[5]["error"]["text"]


def test_a_hanging_test_does_not_cost_the_next_question() -> None:
    results = run(
        student("def f(x): return 10 ** 15\ndef g(x): return x"),
        check("total = 0\nfor _ in range(f(1)):\n    total += 1"),
        check("assert g(1) == 1"),
        limits=SHORT,
    )
    assert [r["passed"] for r in results[1:]] == [False, True]


def test_ungraded_cells_may_do_anything_and_fail() -> None:
    results = run(
        student(
            "from rnncourse.exercises import check\nfrom rnncourse.plots import show, use_style\n"
            "import rnncourse.tasks as tasks\nimport numpy as np"
        ),
        student("check('f', None)\nshow(None, alt='x')\nuse_style()\nwith use_style(): pass"),
        student("x, y = tasks.adding(3)"),
        student("1 / 0"),
        student("%%bash\necho hello"),
        student("!echo shell\n%timeit -n1 -r1 1+1\n%matplotlib inline"),
        student("def f(x): return np.tanh(x)"),
        check("assert f(0.0) == 0"),
        student("input()"),
        student("%pip install nothing"),
        student("await __import__('asyncio').sleep(0)\n'done'"),
        check("assert np.isclose(f(1.0), np.tanh(1.0))"),
    )
    assert results[7]["passed"] and results[11]["passed"]
    assert results[0]["error"] is None and results[1]["error"] is None, results[:2]
    assert results[3]["error"]["name"] == "ZeroDivisionError"
    assert "done" in str(results[10]["outputs"])


@pytest.mark.parametrize(
    "line",
    [
        "%matplotlib inline",
        "%matplotlib",
        "%matplotlib widget",
        "%pylab inline",
        "%load_ext nothing",
        "%nothing at all",
        "%run nothing.py",
        "%pip install nothing",
        "get_ipython().run_line_magic('matplotlib', 'notebook')",
        "help(len)",
        "exit()",
        "import faulthandler\nfaulthandler.enable()",
        "import subprocess, sys\nsubprocess.run(['echo', 'x'], stdout=sys.stdout, check=True)",
    ],
)
def test_tools_of_a_notebook_do_not_cost_the_answer_beside_them(line: str) -> None:
    results = run(student(f"{line}\ndef f(x): return 2 * x"), check("assert f(2) == 4"))
    assert results[1]["passed"], results
    assert "Retrying" not in str(results[0]["outputs"])  # nothing waits for a network


def test_a_magic_that_fails_says_so_and_sees_the_names() -> None:
    results = run(
        student("n = 3\n%timeit -n1 -r1 n / 0\n%time m = n + 1\nm"),
        student("print('gone')\nfrom IPython.display import clear_output\nclear_output()\n7"),
    )
    told = [str(result["outputs"]) for result in results]
    assert "%timeit: ZeroDivisionError: division by zero" in told[0] and "'4'" in told[0]
    assert "gone" not in told[1] and "'7'" in told[1]


def test_plots_arrive_as_pictures() -> None:
    results = run(
        student("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"),
        student("fig, ax = plt.subplots()\nax.plot([3, 1])"),
    )
    for result in results:
        assert result["error"] is None, result["error"]
        assert "image/png" in str(result["outputs"])


def test_hidden_test_reveals_nothing() -> None:
    test = (
        "assert f(1) == 1, 'the visible one'\n### BEGIN HIDDEN TESTS\n"
        "assert f(4711) == 4712, 'value 4712 expected'\n### END HIDDEN TESTS"
    )
    result = verdict("def f(x):\n    print('called with', x)\n    return x", test)
    assert not result["passed"]
    told = str({key: result[key] for key in ("error", "outputs")})
    assert "4711" not in told and "4712" not in told and "assert" not in result["error"]["where"]
    assert "hidden test" in result["error"]["text"]
    assert "4712" in result["detail"]
    shown = verdict("def f(x): return 0", test)
    assert "the visible one" in shown["error"]["text"]
    assert shown["error"]["where"].startswith("line 1: assert f(1) == 1")


def test_hidden_test_hides_the_submissions_own_words() -> None:
    test = "### BEGIN HIDDEN TESTS\nassert f(4711) == 1\n### END HIDDEN TESTS"
    result = verdict("def f(x): raise ValueError(f'I saw {x}')", test)
    assert "4711" not in str(result["error"])
    assert result["error"]["name"] == "ValueError"


def test_a_name_that_a_test_binds_anywhere_is_never_the_submissions() -> None:
    for defining in (
        "if True:\n    def near(a, b): return a == b",
        "with open('/dev/null') as _:\n    from operator import eq as near",
        "def make():\n    global near\n    def near(a, b): return a == b\nmake()",
        "try:\n    1 / 0\nexcept ZeroDivisionError as near:\n    pass",
    ):
        results = grade_task(
            Task(
                (
                    student("def near(a, b): return True\ndef f(x): return 0"),
                    check(f"assert f(1) == 1\n{defining}"),
                    check("assert near(f(2), 2)"),
                ),
                answers=("f",),
            )
        )
        assert not results[-1]["passed"], defining


def test_a_cell_of_the_course_that_cannot_be_read_is_nobodys() -> None:
    task = Task(
        (student("def near(a, b): return True\ndef f(x): return 0"), check("assert near(f(2), 2)")),
        plain="import numpy as np\fdef near(a, b): return a == b\nthis is no Python",
        answers=("f",),
    )
    error = grade_task(task)[-1]["error"]
    assert error["name"] == "NameError" and "the course's own cell fails here" in error["text"]


def test_feedback_exceptions_speak_even_from_hidden_tests() -> None:
    test = (
        "### BEGIN HIDDEN TESTS\nclass CheckFailed(AssertionError):\n    is_feedback = True\n"
        "raise CheckFailed('Known mistake [no-tanh]: the tanh is missing')\n### END HIDDEN TESTS"
    )
    result = verdict("def f(x): return x", test)
    assert result["error"]["text"] == "Known mistake [no-tanh]: the tanh is missing"


def test_tensors_modules_and_state() -> None:
    pytest.importorskip("torch")
    results = run(
        student(
            "import torch\nfrom torch import nn\nclass Net(nn.Module):\n"
            "    def __init__(self):\n        super().__init__()\n        self.a = nn.Linear(3, 2)\n"
            "    def forward(self, x): return torch.tanh(self.a(x))"
        ),
        check(
            "net = Net()\nstate = net.state_dict()\nx = torch.randn(4, 3)\n"
            "want = torch.tanh(x @ state['a.weight'].T + state['a.bias'])\n"
            "assert net(x).shape == (4, 2)\nassert torch.allclose(net(x), want)\n"
            "assert sum(p.numel() for p in net.parameters()) == 8"
        ),
        student("def act(x): return torch.relu(x).to(torch.bfloat16)"),
        check("assert act(torch.tensor([-1.0, 2.0])).dtype == torch.bfloat16"),
        student(
            "class Liar:\n    def allclose(self, *a, **k): return True\ndef lie(x): return Liar()"
        ),
        check("assert lie(1).allclose(torch.ones(1))"),
        plain="import torch",
        torch=True,
    )
    assert [results[i]["passed"] for i in (1, 3, 5)] == [True, True, False], results


def test_torch_is_not_there_for_numpy_assignments() -> None:
    results = run(student("import torch"), student("f = 1"), check("assert f == 1"))
    assert results[0]["error"]["name"] == "ModuleNotFoundError"
    assert results[2]["passed"]


def test_random_numbers_differ_between_runs() -> None:
    def draw() -> str:
        cells = student("import numpy as np, random\nprint(np.random.rand(), random.random())")
        return str(run(cells)[0]["outputs"])

    assert draw() != draw()


NET = (
    "import torch\nfrom torch import nn\nclass Net(nn.Module):\n"
    "    def __init__(self):\n        super().__init__()\n        self.a = nn.Linear(3, 2)\n"
    "    def forward(self, x): return torch.tanh(self.a(x))\n"
    "def act(x): return torch.tanh(x)\n"
    "def noise(n): return torch.randn(n)"
)
GRADIENTS = {
    "of-parameters": "net = Net()\nnet(torch.ones(4, 3)).pow(2).mean().backward()\n"
    "want = net.state_dict()['a.weight'].clone().requires_grad_()\n"
    "torch.tanh(torch.ones(4, 3) @ want.T + net.a.bias).pow(2).mean().backward()\n"
    "assert torch.allclose(net.a.weight.grad, want.grad)",
    "of-arguments": "x = torch.randn(3, requires_grad=True)\nact(x).sum().backward()\n"
    "assert torch.allclose(x.grad, 1 - torch.tanh(x) ** 2)",
    "checked": "x = torch.randn(3, dtype=torch.float64, requires_grad=True)\n"
    "assert torch.autograd.gradcheck(act, x)",
    "with-optimiser": "net = Net()\noptimiser = torch.optim.SGD(net.parameters(), lr=0.5)\n"
    "losses = []\nfor _ in range(20):\n    optimiser.zero_grad()\n"
    "    loss = (net(torch.ones(4, 3)) - 0.5).pow(2).mean()\n    loss.backward()\n"
    "    optimiser.step()\n    losses.append(loss.item())\nassert losses[-1] < 0.1 * losses[0]",
    "through-two-functions": "x = torch.ones(3, requires_grad=True)\nact(act(x)).sum().backward()\n"
    "y = torch.tanh(torch.ones(3))\nwant = (1 - torch.tanh(y) ** 2) * (1 - y ** 2)\n"
    "assert torch.allclose(x.grad, want)",
    "changed-in-place": "net = Net()\nnn.init.constant_(net.a.weight, 0.0)\n"
    "net.a.bias.data.fill_(1.0)\nassert torch.allclose(net(torch.ones(1, 3)), torch.tanh(torch.ones(1)))",
    "loaded": "net = Net()\nnet.load_state_dict({k: v * 0 for k, v in net.state_dict().items()})\n"
    "assert net(torch.ones(1, 3)).abs().sum() == 0 and isinstance(net, nn.Module)",
    "seeded": "torch.manual_seed(0)\na = noise(3)\ntorch.manual_seed(0)\nassert torch.equal(a, torch.randn(3))",
}


def test_gradients_cross() -> None:
    pytest.importorskip("torch")
    cells = [student(NET), *map(check, GRADIENTS.values())]
    results = run(*cells, plain="import torch\nfrom torch import nn", torch=True)
    failed = {
        name: result["error"]
        for name, result in zip(GRADIENTS, results[1:], strict=True)
        if not result["passed"]
    }
    assert not failed


def test_an_optimiser_of_the_test_stays_there_and_says_so() -> None:
    pytest.importorskip("torch")
    answer = NET + "\ndef train(optimiser): optimiser.step()"
    test = "train(torch.optim.SGD(Net().parameters(), lr=1.0))"
    result = verdict(answer, test, plain="import torch", torch=True)
    assert "a SGD of the test cannot be passed" in result["error"]["text"]


def test_global_generators_are_seeded_by_the_test() -> None:
    answer = (
        "import random, numpy as np\ndef f(n): return np.random.randn(n)\n"
        "def g(): return random.random()"
    )
    test = (
        "import random\nnp.random.seed(3)\na, b = f(4), f(4)\nnp.random.seed(3)\n"
        "assert np.allclose(np.r_[a, b], np.random.randn(8))\n"
        "random.seed(1)\nu = g()\nrandom.seed(1)\nassert u == random.random()"
    )
    assert verdict(answer, test)["passed"]


def test_files_beside_the_notebook_can_be_read_and_imported() -> None:
    files = {"helper.py": b"def twice(x):\n    return 2 * x\n", "data/x.txt": b"1 2 3\n"}
    cells = (
        student(
            "from helper import twice\nX = np.loadtxt('data/x.txt')\ndef f(x): return twice(x)"
        ),
        check("from helper import twice\nassert f(4) == twice(4)\nassert (f(X) == 2 * X).all()"),
    )
    plain = "import numpy as np\fX = np.loadtxt('data/x.txt')"
    profile = Profile(("numpy",), files=tuple(files.items()))
    result = grade_task(
        Task((student("import numpy as np"), *cells), plain, ("f",), files, profile)
    )
    assert result[-1]["passed"], result


def test_what_the_course_defines_is_never_fetched_from_the_submission() -> None:
    plain = "import numpy as np\fX = np.loadtxt('missing.txt')"
    forged = student("X = [1.0]\nh = 3.0\ndef f(x): return 1 / 0")
    profile = Profile(("numpy",))
    results = grade_task(
        Task(
            (forged, *map(check, ("assert len(X) == 1", "h = f(2)", "assert h == 3.0"))),
            plain,
            ("f",),
            {},
            profile,
        )
    )
    assert [result["passed"] for result in results] == [False] * 4
    assert "the course's own cell fails here (FileNotFoundError" in results[1]["error"]["text"]


def test_a_test_may_bind_a_name_of_the_submission_anew() -> None:
    results = run(
        student("alpha = [1, 2]"),
        check("alpha = np.asarray(alpha)\nassert alpha.sum() == 3"),
        check("assert alpha.shape == (2,)"),
    )
    assert [result["passed"] for result in results[1:]] == [True, True], results


def test_a_crowd_steps_back() -> None:
    source = (
        "import os, threading, time\nstop = threading.Event()\n"
        "threads = [threading.Thread(target=stop.wait) for _ in range(20)]\n"
        "for t in threads: t.start()\ntime.sleep(0.5)\n"
        "print('nice', os.getpriority(os.PRIO_PROCESS, 0))\nstop.set()"
    )
    assert "nice 19" in str(run(student(source))[0]["outputs"])


def test_an_empty_answer_is_what_it_is() -> None:
    answers = student(
        "import numpy as np\nfrom collections import deque\n"
        "def f(x): return []\ndef g(x): return np.zeros((0, 3))\ndef p(x): return [], np.zeros(0)\n"
        "def d(x): return deque()\ndef r(x): return range(0)\n"
        "class Stack:\n    def __init__(self): self.items = []\n"
        "    def total(self): return sum(self.items)"
    )
    results = run(
        answers,
        check("assert f(1) == [] and np.allclose(f(1), []) and f(1) + [1] == [1]"),
        check("assert g(1).shape == (0, 3) and np.allclose(g(1), np.zeros((0, 3)))"),
        check("assert (g(1) @ np.ones((3, 2)) + np.ones(2)).shape == (0, 2) and (g(1) >= 0).all()"),
        check("a, b = p(1)\nassert a == [] and b.sum() == 0 and len(np.append(b, 1.0)) == 1"),
        check("assert d(1) is not None and len(d(1)) == 0 and r(1) == range(0)"),
        check("s = Stack()\ns.items.append(3)\nassert s.total() == 3"),
        check("x = Stack().items\nx.append(2.0)\nassert (x - np.array([2.0]) == 0).all()"),
        check("assert type(f(1)) is list and type(p(1)) is tuple and type(r(1)) is range"),
        check("import copy, pickle\nassert pickle.loads(pickle.dumps(copy.deepcopy(f(1)))) == []"),
        check("x = g(1)\nx += 1\nx *= 2\nassert repr(x[:, 0]) == 'array([], dtype=float64)'"),
    )
    assert [r["passed"] for r in results[1:]] == [True] * (len(results) - 1), results
