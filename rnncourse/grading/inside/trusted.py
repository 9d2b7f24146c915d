"""The trusted side: runs the instructor's test cells, in which the student's names are proxies.

It has the reference and the hidden tests, no gradebook, no network and no place to write. A cell
counts as passed only because this process says that it ran to its end.
"""

from __future__ import annotations

import array
import ast
import builtins
import contextlib
import functools
import inspect
import io
import numbers
import random
import re
import signal
import socket
import sys
import time
import types
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import numpy as np

from . import wire
from .proxy import (
    OwnError,
    Remote,
    Session,
    SessionEnded,
    StudentError,
    guard_comparisons,
    kind_of,
)

_TEST_FILE = "<test cell>"
_TEXT_LIMIT = 64 << 10
OWN_NAMES = frozenset({"CellTimeout", "CheckFailed", "NoScore", "NotRun", "SubmissionEnded"})
ANY_NAME = "*"  # stands for the names that a star import or `exec` binds
WHOSE = ("it failed", "the submitted code raised it")
# Magics that bind names, and the Python that binds the same.
_BINDING_MAGICS = (
    (
        re.compile(r"^(\s*)%run +(?:-\w+ +)*([^\s'\"\\]+\.py)\b.*$", re.MULTILINE),
        r"\1exec(open('\2').read())",
    ),
    (re.compile(r"^(\s*)%pylab\b.*$", re.MULTILINE), r"\1from pylab import *"),
)
_MAGIC = re.compile(r"^(\s*)(?:[%!?].*|[\w.]+\?+ *)$", re.MULTILINE)
_MAGIC_VALUE = re.compile(r"^(\s*[\w, ]+=\s*)[%!].*$", re.MULTILINE)
_BINDS = re.compile(
    r"^\s*(?:(?:async +)?def +|class +|(?:from .*)?import +|(?=[\w, ]+=(?!=)))([\w, ]+)",
    re.MULTILINE,
)


_HARMLESS = frozenset(
    """
    __annotations__ __dataclass_fields__ __dataclass_params__ __dict__ __doc__ __getnewargs__
    __hash__ __init__ __match_args__ __module__ __new__ __orig_bases__ __post_init__ __qualname__
    __repr__ __slots__ __str__ __weakref__
    """.split()  # noqa: SIM905 - one word per method reads better than a quoted list
)
_REPLACEABLE = {"input": builtins.input, "print": builtins.print}
_KEYBOARD = sys.stdin


class CellTimeout(BaseException):
    """The test cell itself took too long."""


def hidden_failure(name: str, whose: str) -> str:
    """Say that a hidden test failed, and nothing more."""
    return (
        f"A hidden test did not pass ({name}; {whose}). Its inputs and expected values stay "
        "hidden: test your function on more cases of your own."
    )


def warm() -> None:
    """Import what every test is likely to use."""
    import tempfile

    guard_comparisons()
    tempfile.tempdir = "/tmp"  # else it would try to write there, which is not allowed later


def serve(sock: socket.socket) -> None:
    """Grade one submission and report every cell to the worker."""
    connection = wire.Connection(sock)
    task, buffers = connection.receive()
    _Grading(connection, task, buffers).run()


class _Grading:
    def __init__(self, connection: wire.Connection, task: Any, buffers: list[bytes]) -> None:
        self._connection = connection
        self._cells: list[dict[str, Any]] = task["cells"]
        self._limits: dict[str, float] = task["limits"]
        self._files = dict(zip(task["files"], buffers, strict=True))
        self._start = int(task["start"])
        self._plain: str = task["plain"]
        self._answers = frozenset(task["answers"])
        self._end = time.monotonic() + self._limits["total_s"]
        # As in a kernel: `unittest.main` and `mock.patch` look for the test's names there.
        sys.modules["__main__"] = types.ModuleType("__main__")
        self._namespace: dict[str, Any] = vars(sys.modules["__main__"])
        self._namespace["__builtins__"] = builtins
        self._borrowed: dict[str, Any] = {}
        self._bound: set[str] = set()
        self._rebound: set[str] = set()
        self._ours: set[str] = set()
        self._worked: list[str] = []
        self._respawns = 0
        self._session: Session | None = None
        signal.signal(signal.SIGALRM, self._on_alarm)

    @staticmethod
    def _on_alarm(number: int, frame: Any) -> None:
        raise CellTimeout

    def run(self) -> None:
        self._namespace["get_ipython"] = lambda: None
        for getter in (inspect.getsource, inspect.getsourcelines):
            setattr(inspect, getter.__name__, self._with_sources(getter))
        self._definitions = _Definitions(self._plain, self._answers)
        for index, cell in enumerate(self._cells):
            if index < self._start:
                if cell["kind"] != "test":
                    self._worked.append(cell["source"])
                if cell["kind"] == "locked":
                    self._run_locked_here(cell["source"])
                if cell["kind"] == "test":
                    self._keep_names(cell["source"])
                continue
            began = time.monotonic()
            result = self._one(cell)
            result |= {"cell": index, "seconds": round(time.monotonic() - began, 3)}
            self._connection.send(result)
        self._connection.send({"end": True})

    def _with_sources(self, original: Any) -> Any:
        """Let `inspect` find the submission's definitions in the text of its cells."""

        @functools.wraps(original)
        def find(value: Any) -> Any:
            if not isinstance(value, Remote):
                return original(value)
            path = str(value.__qualname__).split(".")
            for source in reversed(self._worked):
                lines = _lines_of(source, path)
                if lines:
                    whole = original is inspect.getsource.__wrapped__  # type: ignore[attr-defined]
                    return "".join(lines) if whole else (lines, 0)
            raise OSError("could not get source code")

        return find

    def _deadline(self) -> float:
        return float(min(time.monotonic() + self._limits["cell_s"], self._end))

    def _student(self) -> Session:
        """The live session; after a crash a new one that has replayed the cells that worked."""
        if self._session is not None and self._session.ended is None:
            return self._session
        if self._session is not None:
            self._respawns += 1
        if self._respawns > self._limits["respawns"] or time.monotonic() > self._end:
            text = "the submitted code used up its time or ended its process too often"
            raise SessionEnded("crash", text)
        self._connection.send({"student": self._respawns})
        _, ancillary, _, _ = self._connection.socket.recvmsg(1, socket.CMSG_LEN(4))
        received = array.array("i")
        received.frombytes(ancillary[0][2][:4])
        session = Session(socket.socket(fileno=received[0]), self._limits["cell_s"])
        self._session = session
        self._replaced: dict[str, list[Any]] = {}
        session.new_cell(self._deadline())
        session.request("files", self._files)
        for source in self._worked:
            session.new_cell(self._deadline())
            with contextlib.suppress(Exception, SystemExit):
                session.request("run", source)
        return session

    def _one(self, cell: dict[str, Any]) -> dict[str, Any]:
        try:
            session = self._student()
        except SessionEnded as ended:
            return _failure(ended.kind, str(ended))
        session.new_cell(self._deadline())
        if cell["kind"] == "test":
            result = self._test(cell, session)
            self._keep_names(cell["source"])
            return result
        return self._student_cell(cell, session)

    def _student_cell(self, cell: dict[str, Any], session: Session) -> dict[str, Any]:
        source = cell["source"]
        self._rebound -= _names_in(source)
        result: dict[str, Any] = {"passed": False, "error": None}
        try:
            session.request("run", source)
            self._worked.append(source)
        except SessionEnded as ended:
            result = _failure(ended.kind, str(ended))
        except (Exception, SystemExit) as error:
            self._worked.append(source)
            result = _failure("error", *_name_and_text(error), trace=session.trace)
        if cell["kind"] == "locked":
            self._run_locked_here(source)
        return result | {"outputs": session.outputs}

    def _run_locked_here(self, source: str) -> None:
        """Give the tests the definitions of a read-only cell, which is the instructor's own."""
        with contextlib.suppress(Exception), _captured():
            tree = ast.parse(_without_magics(source), "<locked cell>")
            for statement in tree.body:
                if _bound_names(statement) & self._answers:
                    continue
                self._definitions.execute(statement, "<locked cell>", self._namespace)

    def _keep_names(self, source: str) -> None:
        """Note what a test binds: from now on nobody else may give these names a meaning.

        A test that was to bind them may have failed before, and the next one may count on them.
        """
        with contextlib.suppress(SyntaxError):
            for statement in ast.parse(_without_magics(source)).body:
                bound = _bound_names(statement)
                self._ours |= bound - self._answers
                self._rebound |= bound & self._answers

    def _test(self, cell: dict[str, Any], session: Session) -> dict[str, Any]:
        source = cell["source"]
        hidden = [tuple(span) for span in cell["hidden"]]
        printed: list[list[Any]] = []
        score: float | None = None
        shown = ""
        statement: ast.stmt | None = None
        late = False
        assert session.deadline is not None
        signal.setitimer(signal.ITIMER_REAL, max(0.01, session.deadline - time.monotonic() + 1))
        try:
            with _captured() as buffer, _seeds_shared(session):
                tree = ast.parse(_without_magics(source), _TEST_FILE)
                self._give_back(tree)
                session.own_stdout = buffer
                self._share_classes(session)
                session.before_code = lambda: self._replace(session)
                for number, statement in enumerate(tree.body):
                    last = number == len(tree.body) - 1
                    self._borrow(statement, session)
                    self._replace_pyplot()
                    value = self._statement(statement, evaluate=last)
                    if last:
                        score, shown = self._value(statement, value)
                    if _within(statement, hidden):
                        late = True  # from here on, what is said may tell about hidden inputs
                    else:
                        _add_text(printed, "late" if late else "stdout", buffer.getvalue())
                        _add_text(printed, "late" if late else "submission", _streams(session))
                    buffer.seek(0)
                    buffer.truncate()
                    session.outputs = []
        except BaseException as error:
            signal.setitimer(signal.ITIMER_REAL, 0)
            session.forget_callbacks()
            return self._failed(error, session, source, hidden, printed)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._put_back(session)
        if session.ended is not None:
            return _failure(session.ended.kind, str(session.ended))
        outputs = printed
        if shown:
            kind = "late" if late else "display"
            outputs.append([kind, {"text/plain": shown[:10_000]}])
        return {"passed": True, "score": score, "error": None, "outputs": outputs}

    def _statement(self, statement: ast.stmt, *, evaluate: bool) -> Any:
        if evaluate and isinstance(statement, ast.Expr):
            expression = compile(ast.Expression(statement.value), _TEST_FILE, "eval")
            return eval(expression, self._namespace)
        exec(compile(ast.Module([statement], []), _TEST_FILE, "exec"), self._namespace)
        return None

    def _value(self, statement: ast.stmt, value: Any) -> tuple[float | None, str]:
        """Partial credit and text of the cell's last expression.

        A number that the submitted code hands over unchecked, as the value of its own function, is
        no verdict of the test and so no credit.
        """
        if value is None:
            return None, ""
        if isinstance(value, bool) or type(value).__name__ == "bool":
            if not value:
                raise AssertionError("the test's last line is False")
            return None, "True"
        assert isinstance(statement, ast.Expr)
        if isinstance(value, Remote) or self._is_borrowed(statement.value):
            return None, repr(value)[:10_000]
        shape = getattr(value, "shape", ())
        if len(shape) and shape != (1,):
            # Points computed from an answer of an unexpected shape end up here.
            raise AssertionError("the test's last line is an array, not a number of points")
        if isinstance(value, str | bytes):
            return None, repr(value)[:10_000]
        try:
            number = float(value)
        except (TypeError, ValueError):
            if isinstance(value, numbers.Number) or hasattr(value, "dtype"):
                # Points computed from an answer of an unexpected kind, such as a complex number.
                raise AssertionError("the test's last line is no real number of points") from None
            return None, repr(value)[:10_000]
        return number, ""

    def _is_borrowed(self, node: ast.expr) -> bool:
        while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
            node = node.func if isinstance(node, ast.Call) else node.value
        return isinstance(node, ast.Name) and node.id in self._borrowed.keys() - self._bound

    def _failed(
        self,
        error: BaseException,
        session: Session,
        source: str,
        hidden: list[Any],
        printed: list[list[Any]],
    ) -> dict[str, Any]:
        """Say what failed: all of it to the instructor, to the student what is not hidden."""
        if isinstance(error, wire.ProtocolError):
            session.abandon("protocol", f"the submitted code's answer is not usable: {error}")
            assert session.ended is not None
            error = session.ended
        name, text = _name_and_text(error)
        if isinstance(error, SessionEnded):
            name = "SubmissionEnded"
        elif name in OWN_NAMES and session.is_students(error):
            name = "StudentError"  # of a class that the course gave to both sides
        broken = self._definitions.broken
        if isinstance(error, NameError) and broken.keys() & {error.name, ANY_NAME}:
            reason = broken.get(str(error.name)) or broken[ANY_NAME]
            text += f": the course's own cell fails here ({reason})"
        if isinstance(error, CellTimeout):
            session.abandon("time", "the test was interrupted")
            name, text = "CellTimeout", f"the test took longer than {self._limits['cell_s']:g} s"
        lines = _test_lines(error)
        line = lines[-1] if lines else None
        code = source.split("\n")[line - 1].strip() if line else ""
        is_hidden = any(first <= n <= last for n in lines for first, last in hidden)
        if not lines and hidden:
            is_hidden = True
        full = f"{name}: {text}"
        own_words = _is_feedback(error) and not session.is_students(error)
        if isinstance(error, SessionEnded | CellTimeout) or (is_hidden and own_words):
            shown = text
        elif is_hidden:
            if isinstance(error, StudentError | OwnError):
                name = "StudentError"  # the name is the submission's to choose and could tell
            whose = WHOSE[session.is_students(error)]
            shown = hidden_failure(name, whose)
        else:
            shown = text
        kind = error.kind if isinstance(error, SessionEnded) else "failed"
        full += self._notes(source, error)
        where = "" if is_hidden or line is None else f"line {line}: {code}"
        trace = "" if is_hidden else session.trace if session.is_students(error) else ""
        return _failure(kind, name, shown, trace=trace, where=where) | {
            "outputs": printed,
            "detail": f"line {line}: {code}\n{full}\n{session.trace}".strip(),
        }

    def _notes(self, source: str, error: BaseException) -> str:
        """Remind the instructor of what a test here cannot see."""
        if not isinstance(error, AssertionError | OSError):
            return ""
        for node in ast.walk(ast.parse(_without_magics(source))):
            call = node.value if isinstance(node, ast.Expr) else None
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                passed = {part.id for part in call.args if isinstance(part, ast.Name)}
                if call.func.id in self._borrowed and passed & self._bound:
                    return (
                        f"\nnote: {call.func.id}() got copies of its arguments; what it made of "
                        "them is in the result of call_and_return_arguments()"
                    )
        if isinstance(error, OSError):
            return "\nnote: the test and the submitted code have no files in common"
        return ""

    def _give_back(self, tree: ast.Module) -> None:
        """Forget what the cell before has fetched from the submission."""
        for name, value in self._borrowed.items():
            if self._namespace.get(name) is value:
                del self._namespace[name]
        self._borrowed = {}
        self._bound = {name for statement in tree.body for name in _bound_names(statement)}
        sys.stdin = _KEYBOARD

    def _borrow(self, statement: ast.stmt, session: Session) -> None:
        """Fetch from the submitted code the names that the test uses and nobody else defines.

        Each is fetched once in a cell, where it is used first.
        """
        used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        texts = (node.value for node in ast.walk(statement) if isinstance(node, ast.Constant))
        # also as text, as in `mock.patch("__main__.f")`
        used |= {text.split(".")[-1] for text in texts if isinstance(text, str)} & self._answers
        if used & {"dir", "globals", "locals", "vars"}:
            used |= self._answers
        known = -1
        while known != len(used):
            known = len(used)
            with _captured():
                self._definitions.provide(used, self._namespace)
            used = _reached(used, self._namespace)
        used -= self._borrowed.keys()
        # What the test binds, as in an `except`, is its own even where it has not come to that.
        foreign = self._ours | self._bound | self._definitions.broken.keys()
        if ANY_NAME in foreign:
            foreign |= used
        wanted = sorted(
            name
            for name in used
            if (name in self._answers and not (name in self._rebound and name in self._namespace))
            or (name not in foreign and name not in self._namespace and not hasattr(builtins, name))
        )
        if not wanted:
            return
        found = session.request("names", wanted)
        if type(found) is not dict:
            raise wire.ProtocolError("not names")
        for name in wanted:
            if name not in found:
                continue
            if kind_of(found[name]) == "module":
                continue  # a test never computes with the submission's idea of a module
            self._namespace[name] = found[name]
            self._borrowed[name] = found[name]
            session.watch(found[name], None, name)

    def _replace(self, session: Session) -> None:
        """Let the submitted code see which of its functions, or of Python's, the test replaced."""
        replaced: dict[str, list[Any]] = {}
        for name, value in self._borrowed.items():
            if name in self._answers and kind_of(value) in ("function", "class"):
                now = [self._namespace[name]] if name in self._namespace else []
                if not now or (now[0] is not value and callable(now[0])):
                    replaced[name] = now
        for name, original in _REPLACEABLE.items():
            value = self._namespace.get(name, getattr(builtins, name))
            if name == "input" and value is original and sys.stdin is not _KEYBOARD:
                value = _read_line
            if value is not original and callable(value) and name not in self._borrowed:
                replaced[name] = [value]
        if not _same(replaced, self._replaced):
            self._replaced = replaced
            session.request("patch", replaced)

    def _share_classes(self, session: Session) -> None:
        """Let instances of the course's own classes cross by value."""
        found = {
            name: value
            for name, value in self._namespace.items()
            if name not in self._ours
            and isinstance(value, type)
            and not isinstance(value, Remote)
            and value.__module__ == "__main__"
            and _judges_nothing(value)
        }
        if found.keys() != session.classes.keys():
            session.request("classes", sorted(found))
        session.classes = found

    def _replace_pyplot(self) -> None:
        """Give the test the figures of the submission, which are in the other process."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        for name, value in list(self._namespace.items()) if pyplot is not None else ():
            if value is pyplot:
                self._namespace[name] = _Figures(self._student)

    def _put_back(self, session: Session) -> None:
        session.own_stdout = session.before_code = None
        session.forget_callbacks()
        if session.ended is None:
            with contextlib.suppress(BaseException):  # a SystemExit of the submission's, too
                session.refill_containers()
                if self._replaced:
                    session.request("patch", {})
        self._replaced = {}


class _Figures:
    """What a test's `plt` is: Matplotlib's, but in the submission's process."""

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._session().request("pyplot", name)


class _Definitions:
    """What the instructor's ordinary cells define, brought in only as far as a test needs it.

    A test may use a helper or an import of an ordinary, editable cell. The submission's copy of
    that cell may say anything, so the instructor's own is used: the statements that bind the
    name, and what those need in turn. Some bind names that only their run shows, such as
    ``from numpy import *``; these always run.

    Attributes
    ----------
    broken : dict of str to str
        Names whose definition fails here for a reason of its own, such as a missing file, with
        that reason. The submission may not step in for these.
    """

    def __init__(self, source: str, answers: frozenset[str]) -> None:
        self._answers = answers
        self.broken: dict[str, str] = {}
        self._statements: list[tuple[ast.stmt, set[str], set[str]]] = []
        self._done: set[int] = set()
        for block in source.split("\f"):
            try:
                tree = ast.parse(_without_magics(block), "<course cell>")
            except SyntaxError as error:
                reason = f"{type(error).__name__}: {error.msg}"
                bound = _names_in(" ".join(_BINDS.findall(block)))
                self.broken |= dict.fromkeys(bound - answers, reason)
                continue
            for statement in tree.body:
                used = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
                self._statements.append((statement, _bound_names(statement), used))

    def provide(self, names: set[str], namespace: dict[str, Any]) -> None:
        needed, size = {*names, ANY_NAME}, -1
        while size != len(needed):
            size = len(needed)
            for _, bound, used in self._statements:
                if bound & needed and not bound & self._answers:
                    needed |= used
        for index, (statement, bound, used) in enumerate(self._statements):
            if index in self._done or not bound & needed or bound & self._answers:
                continue
            if used & self._answers and not isinstance(
                statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef
            ):
                continue  # its value depends on the submission: it is fetched from there
            self._done.add(index)
            self.execute(statement, "<course cell>", namespace)

    def execute(self, statement: ast.stmt, origin: str, namespace: dict[str, Any]) -> None:
        """Run a statement of the instructor's.

        One that misses a name needs something that only the submission has; then so are its
        results fetched from there.
        """
        try:
            exec(compile(ast.Module([statement], []), origin, "exec"), namespace)
        except NameError as error:
            if error.name not in self.broken:
                return
            reason = self.broken[error.name]
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error)[:200]}"
        else:
            for name in _bound_names(statement):
                self.broken.pop(name, None)
            return
        for name in _bound_names(statement) - self._answers - namespace.keys():
            self.broken[name] = reason


def _bound_names(statement: ast.stmt) -> set[str]:
    """Names that a top-level statement binds."""
    names: set[str] = set()
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)  # what its body binds is its own, but for `global`
            inner = (part for part in ast.walk(node) if isinstance(part, ast.Global))
            names |= {name for part in inner for name in part.names}
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(a.asname or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("exec", "globals"):
            names.add(ANY_NAME)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
        waiting += ast.iter_child_nodes(node)
    return names


def _judges_nothing(kind: type) -> bool:
    """Whether an instance that the submission has filled cannot take part in a verdict.

    A class with an ``__eq__`` of its own, such as one with a tolerance, could. What the standard
    library generates for data classes only compares like with like.
    """
    if issubclass(kind, Enum | BaseException):
        return True
    own = {name for base in kind.__mro__ if base.__module__ == "__main__" for name in vars(base)}
    special = {name for name in own if name.startswith("__") and name.endswith("__")} - _HARMLESS
    codes = [getattr(getattr(kind, name, None), "__code__", None) for name in special]
    return all(code is not None and code.co_filename == "<string>" for code in codes)


def _reached(names: set[str], namespace: dict[str, Any]) -> set[str]:
    """Add the names that the test's own functions and classes among them use in turn."""
    found: set[str] = set()
    waiting = list(names)
    codes: list[types.CodeType] = []
    while waiting:
        if (name := waiting.pop()) in found:
            continue
        found.add(name)
        value = namespace.get(name)
        parts = list(vars(value).values()) if type(value) is type else [value]
        codes = [part.__code__ for part in parts if type(part) is types.FunctionType]
        codes = [code for code in codes if code.co_filename.startswith("<")]
        while codes:
            code = codes.pop()
            waiting += code.co_names
            codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return found


def _lines_of(source: str, path: list[str]) -> list[str]:
    """Lines of the definition with this path, such as ``["Stack", "push"]``."""
    try:
        body = ast.parse(_without_magics(source)).body
    except SyntaxError:
        return []
    found: ast.stmt | None = None
    for name in path:
        found = next((part for part in reversed(body) if name in _bound_names(part)), None)
        if found is None:
            return []
        body = getattr(found, "body", [])
    if not isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    first = min([found.lineno, *(part.lineno for part in found.decorator_list)])
    return [line + "\n" for line in source.split("\n")[first - 1 : found.end_lineno]]


def _read_line(prompt: object = "") -> str:
    """What `input` gives where the test has put text into `sys.stdin`."""
    line = sys.stdin.readline()
    if not line:
        raise EOFError("EOF when reading a line")
    return line.removesuffix("\n")


def _same(one: dict[str, list[Any]], two: dict[str, list[Any]]) -> bool:
    return {name: [id(part) for part in value] for name, value in one.items()} == {
        name: [id(part) for part in value] for name, value in two.items()
    }


def _names_in(source: str) -> set[str]:
    """All words of a cell, one of which it may bind."""
    return set(re.findall(r"\w+", source))


def _without_magics(source: str) -> str:
    if source.lstrip().startswith("%%"):
        source = "# " + source.lstrip()
    try:
        ast.parse(source)
    except SyntaxError:
        for magic, python in _BINDING_MAGICS:
            source = magic.sub(python, source)
        return _MAGIC_VALUE.sub(r"\1None", _MAGIC.sub(r"\1pass", source))
    return source


@contextlib.contextmanager
def _seeds_shared(session: Session) -> Iterator[None]:
    """Carry over what a test seeds: to it, the global generators are those of the submission."""
    places: list[tuple[Any, str, str, Any]] = [
        (random, "seed", "random", random.getstate),
        (np.random, "seed", "numpy", np.random.get_state),
    ]
    if (torch := sys.modules.get("torch")) is not None:
        places.append((torch, "manual_seed", "torch", torch.get_rng_state))
    originals = [(place, name, getattr(place, name)) for place, name, _, _ in places]

    def sharing(original: Any, generator: str, state: Any) -> Any:
        @functools.wraps(original)
        def seed(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            session.seed(generator, state)
            return result

        return seed

    for place, name, generator, state in places:
        setattr(place, name, sharing(getattr(place, name), generator, state))
    try:
        yield
    finally:
        for place, name, original in originals:
            setattr(place, name, original)


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    buffer = io.StringIO()
    with contextlib.redirect_stdout(buffer), contextlib.redirect_stderr(buffer):
        yield buffer


def _streams(session: Session) -> str:
    texts = [item[2] for item in session.outputs if item[0] == "stream" and len(item) > 2]
    return "".join(text for text in texts if type(text) is str)


def _add_text(outputs: list[list[Any]], origin: str, text: str) -> None:
    """Add what the test or, through it, the submission printed; up to a limit."""
    text = text[: max(0, _TEXT_LIMIT - sum(len(item[2]) for item in outputs))]
    if text and outputs and outputs[-1][1] == origin:
        outputs[-1][2] += text
    elif text:
        outputs.append(["stream", origin, text])


def _within(statement: ast.stmt, hidden: list[Any]) -> bool:
    last = statement.end_lineno or statement.lineno
    return any(statement.lineno <= end and last >= begin for begin, end in hidden)


def _test_lines(error: BaseException) -> list[int]:
    if isinstance(error, SyntaxError) and error.filename == _TEST_FILE and error.lineno:
        return [error.lineno]
    lines: list[int] = []
    trace: types.TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _TEST_FILE:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return lines


def _is_feedback(error: BaseException) -> bool:
    """Whether the text was written for students, as that of a failed ``check`` is."""
    return bool(getattr(type(error), "is_feedback", type(error).__name__ == "CheckFailed"))


def _name_and_text(error: BaseException) -> tuple[str, str]:
    try:
        text = str(error)[:8000]
    except BaseException:  # it may hold an object of the submission's, which says itself
        text = ""
    if isinstance(error, StudentError | OwnError):
        name, _, rest = text.partition(": ")
        if isinstance(error, OwnError):
            name, rest = type(error).__name__, text
        genuine = name.isascii() and name.isidentifier() and name not in OWN_NAMES
        return name if genuine else "StudentError", rest
    return type(error).__name__, text


def _failure(
    kind: str, name: str, text: str | None = None, *, trace: str = "", where: str = ""
) -> dict[str, Any]:
    if text is None:
        name, text = {"time": "CellTimeout"}.get(kind, "SubmissionEnded"), name
    error = {"kind": kind, "name": name, "text": text, "trace": trace, "where": where}
    return {"passed": False, "score": None, "error": error, "outputs": []}
