"""The trusted side's view of the submitted code: one session, and proxies for what stays there.

A proxy never lets the submitted code decide a comparison with a value of the test's. Comparing or
computing with a mixture of both raises, as do methods such as ``allclose`` that would hand the
expected value over and believe the answer.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import socket
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import PosixPath
from typing import Any, NoReturn

import numpy as np
import numpy.testing

from . import wire

OUTPUT_LIMIT = 128 << 10
MAX_ITEMS = 100_000
MAX_CALLBACKS = 1_000_000
MAX_COPIES = 200
# Methods that would be given the expected value and asked whether the answer is right.
_VERDICTS = frozenset(
    """
    all allclose any array_equal assert_allclose assert_equal compare difference dist endswith eq
    equal equals ge gt intersection isclose isdisjoint issubset issuperset le lt ne startswith
    symmetric_difference union
    """.split()  # noqa: SIM905 - one word per method reads better than a quoted list
)
_SUBMITTED = "came from the submission"
_NOTHING = "the submitted code's answer is empty: there is nothing to compare"
_COMPARING_TORCH = frozenset({"sub", "subtract", "rsub", "eq", "ne", "isclose", "allclose"})
_COMPARING = frozenset({np.subtract, np.equal, np.not_equal})
_COMPARISONS = {
    np: "allclose array_equiv isclose",
    np.testing: "assert_allclose assert_almost_equal assert_array_almost_equal "
    "assert_array_almost_equal_nulp assert_array_equal assert_array_less assert_array_max_ulp",
}
_ENDS_LOOPS = (StopIteration, StopAsyncIteration)
_LIBRARIES = ("torch.", "matplotlib.")
_MAX_WATCHED = 20_000
_KEEPS_LENGTHS = frozenset(
    {"get", "item", "next", "operator", "names", "signature", "seed", "patch", "belongs", "dir"}
)
_RUNS_CODE = frozenset({"call", "call_back_arguments", "get", "item", "method", "next", "operator"})
_NAMED = frozenset({"get", "names"})
# What a test may read of an object; NumPy and torch ask for others, which must not be answered.
_OPEN_DUNDERS = frozenset(
    """
    __abstractmethods__ __annotations__ __bases__ __closure__ __code__ __dataclass_fields__
    __defaults__ __delitem__ __dict__ __flags__ __init__ __kwdefaults__ __members__ __module__
    __mro__ __name__ __next__ __qualname__ __slots__ __wrapped__
    """.split()  # noqa: SIM905 - as above
)
# So that `isinstance` says of a proxy what it would say there.
_LANGUAGE_TYPES = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in (types.FunctionType, types.GeneratorType, property, staticmethod, classmethod)
}


class StudentError(Exception):
    """An exception of the submitted code whose type only that code knows."""


class OwnError:
    """Stands for an exception of a class that the submitted code defines, in an ``except``, too.

    A subclass derives from the built-in exception that it derives from there. Only the class and
    the text are here; attributes are asked for there.
    """

    is_feedback = False  # whatever the submitted code calls it
    _class_there: Remote  # names that no attribute there is likely to have
    _self_there: Remote | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self._self_there is None:
            raise AttributeError(name)
        return getattr(self._self_there, name)


class SessionEnded(BaseException):
    """The submitted code's process is gone; no test may take that for an answer.

    Parameters
    ----------
    kind : str
        ``"crash"``, ``"time"`` or ``"protocol"``.
    text : str
        What to say to the student.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Session:
    """One process that runs submitted code.

    Parameters
    ----------
    sock : socket.socket
        Connection to it.
    cell_s : float
        Seconds a cell may take, for the message.
    """

    def __init__(self, sock: socket.socket, cell_s: float) -> None:
        self.deadline: float | None = None
        self.ended: SessionEnded | None = None
        self.outputs: list[list[Any]] = []
        self.trace = ""
        self._connection = wire.Connection(sock)
        self._cell_s = cell_s
        self._callbacks: list[Callable[..., Any]] = []
        self._callback_calls = 0
        self._proxies: dict[int, Any] = {}
        self._output_size = 0
        self._copies: list[list[Any]] = []
        self._lengths: dict[int, int] = {}
        self._seeds: dict[str, Callable[[], Any]] = {}
        self.classes: dict[str, type] = {}
        self._watched: list[list[Any]] = []
        self.before_code: Callable[[], None] | None = None
        self.own_stdout: Any = None

    def seed(self, name: str, state: Callable[[], Any]) -> None:
        """Before the submitted code runs next, give its global generator `name` this state."""
        self._seeds[name] = state

    def new_cell(self, deadline: float) -> None:
        """Forget the outputs and callbacks of the cell before."""
        self.deadline = deadline
        self.outputs = []
        self.trace = ""
        self._output_size = 0
        self.forget_callbacks()
        self._callback_calls = 0
        self._copies = []
        self._watched = []

    def forget_callbacks(self) -> None:
        """Let the submitted code call the test's functions no more, as nobody times them now."""
        self._callbacks = []

    def agree(self, number: int, length: int) -> None:
        """Hold an object to its length: a test that counts first and compares then relies on it.

        Raises
        ------
        ValueError
            If it had another length before, and nothing has run since that may have changed it.
        """
        known = self._lengths.setdefault(number, length)
        if known != length:
            raise ValueError(f"the object gave {length} items where its length was {known}")

    def follow(self, tensor: Any, number: int) -> None:
        """Note the copy of a parameter: what the test makes of it, the parameter becomes."""
        del self._copies[:-MAX_COPIES]
        self._copies.append([tensor, number, tensor.detach().clone()])

    def _assign_parameters(self) -> None:
        changes = []
        for entry in self._copies:
            tensor, number, before = entry
            if not bool((tensor.detach() == before).all()):
                entry[2] = tensor.detach().clone()
                changes.append([number, entry[2]])
        if changes:
            self.request("assign", changes)

    def watch(self, value: Any, owner: Remote | None, name: str) -> None:
        """Note the copy of an attribute: what the test puts into it, the attribute gets, too.

        Without an owner it is a variable.
        """
        kept = isinstance(value, list | dict | set | np.ndarray)
        if kept and len(self._watched) < MAX_COPIES and (image := _image(value)) is not None:
            self._watched.append([value, image, owner, name])

    def refill_containers(self) -> None:
        """Carry over what the test has made of the containers that it looked at."""
        for entry in self._watched:
            value, before, owner, name = entry
            if (now := _image(value)) != before:
                entry[1] = now
                self.request("refill", owner, name, value)

    def differentiate(self, number: int, gradient: Any) -> Any:
        """Go backward through the submitted code, and give copies of parameters their gradients."""
        self._assign_parameters()
        copies = [(tensor, index) for tensor, index, _ in self._copies]
        cleared = [i for tensor, i in copies if tensor.grad is None or not tensor.grad.any()]
        answer = self.request("backward", number, gradient, [i for _, i in copies], cleared)
        if type(answer) is not list or [type(part) for part in answer] != [list, list]:
            raise wire.ProtocolError("not gradients")
        found, gradients = answer
        for (tensor, _), value in zip(copies, gradients, strict=False):
            if value is not None and getattr(value, "shape", None) != tensor.shape:
                raise wire.ProtocolError("not gradients")
            tensor.grad = value
        return found

    def close(self) -> None:
        """Hang up."""
        self._connection.socket.close()

    def request(self, op: str, *arguments: Any) -> Any:
        """Ask the submitted code's process for something and wait for the answer.

        Parameters
        ----------
        op : str
            Name of the operation.
        *arguments
            Values, proxies, or callables of this side.

        Returns
        -------
        object
            The answer, by value where it can be.

        Raises
        ------
        SessionEnded
            If the process ended, took too long or broke the protocol.
        Exception
            What the submitted code raised, as the nearest built-in type.
        """
        if self.ended is not None:
            raise self.ended
        if op not in _KEEPS_LENGTHS:
            self._lengths.clear()
        if op in _RUNS_CODE:
            self._bring_up_to_date()
        encoder = _Encoder(self._keep)
        message = {"op": op, "arguments": encoder.encode(list(arguments))}
        if warnings.filters is not _FILTERS or len(_FILTERS) != _FILTER_COUNT:
            message["warnings"] = True  # the test looks at them
        try:
            reply, buffers = self._exchange(message, encoder.buffers)
        except TimeoutError:
            self._end("time", f"no answer from the submitted code within {self._cell_s:g} s")
        except wire.ProtocolError as error:
            self._end("protocol", f"the submitted code's answer is not usable: {error}")
        except (EOFError, OSError):
            self._end("crash", "the submitted code ended its own process")
        try:
            return self._conclude(reply, _decoder_for(op)(buffers, self, encoder.leaves))
        except wire.ProtocolError as error:
            self._end("protocol", f"the submitted code's answer is not usable: {error}")

    def _bring_up_to_date(self) -> None:
        """Show the submitted code, which runs next, what the test has changed since it last ran."""
        if self._seeds:
            states = {name: state() for name, state in self._seeds.items()}
            self._seeds = {}
            self.request("seed", states)
        self._assign_parameters()
        self.refill_containers()
        if self.before_code is not None:
            self.before_code()

    def _exchange(self, message: Any, buffers: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        self._connection.send(message, buffers, self.deadline)
        while True:
            reply, received = self._connection.receive(self.deadline)
            if type(reply) is not dict:
                raise wire.ProtocolError("not a reply")
            if "callback" not in reply:
                return reply, received
            self._serve_callback(reply, received)

    def abandon(self, kind: str, text: str) -> None:
        """Give the process up: what comes next on the connection cannot be relied on."""
        if self.ended is None:
            self.ended = SessionEnded(kind, text)
            self._connection.socket.close()

    def _end(self, kind: str, text: str) -> NoReturn:
        self.ended = SessionEnded(kind, text)
        self._connection.socket.close()
        raise self.ended from None

    def _conclude(self, reply: dict[str, Any], decoder: _Decoder) -> Any:
        self._take_outputs(reply.get("outputs"))
        self._take_warnings(reply.get("warnings"))
        if "error" in reply:
            raise self._exception(reply["error"])
        if "value" not in reply:
            raise wire.ProtocolError("not a reply")
        return decoder.decode(reply["value"])

    def _take_outputs(self, outputs: Any) -> None:
        if type(outputs) is not list:
            raise wire.ProtocolError("not a reply")
        for item in outputs[:200]:
            if type(item) is not list or len(item) < 2:
                raise wire.ProtocolError("not an output")
            self._output_size += len(str(item))
            if self._print_here(item):
                continue
            if self._output_size <= OUTPUT_LIMIT + (5 << 20) * (item[0] != "stream"):
                self.outputs.append(item)

    def _print_here(self, item: list[Any]) -> bool:
        """Print what the submitted code printed, where the test has put a stdout of its own."""
        if item[0] != "stream" or item[1] not in ("stdout", "stderr"):
            return False
        stream = getattr(sys, item[1])
        if self.own_stdout in (None, stream):
            return False
        if self._output_size <= OUTPUT_LIMIT and len(item) > 2 and type(item[2]) is str:
            stream.write(item[2])
        return True

    @staticmethod
    def _take_warnings(rows: Any) -> None:
        for row in rows if type(rows) is list else []:
            if type(row) is not list or len(row) != 2 or type(row[0]) is not list:
                raise wire.ProtocolError("not a warning")
            found = [getattr(builtins, name, None) for name in row[0] if type(name) is str]
            kinds = [k for k in found if isinstance(k, type) and issubclass(k, Warning)]
            kind = kinds[0] if kinds else UserWarning
            warnings.warn_explicit(str(row[1])[:2000], kind, "<submission>", 1, registry={})

    def _exception(self, described: Any) -> BaseException:
        """Build the built-in exception nearest to what the submitted code raised."""
        if type(described) is not dict:
            raise wire.ProtocolError("not an exception")
        names, text = described.get("types"), str(described.get("text"))[:2000]
        self.trace = str(described.get("trace"))[:4000]
        arguments: Any = described.get("args")
        if type(arguments) is not list or any(type(v) not in wire.SIMPLE for v in arguments):
            arguments = [text]
        error: BaseException | None = self._own_exception(described.get("own"), text)
        for name in names if type(names) is list and error is None else []:
            if name == "SystemExit":
                error = SystemExit(*arguments)
                break
            kind = getattr(builtins, name, None) if type(name) is str else None
            if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
                if issubclass(kind, _ENDS_LOOPS):
                    # In the test it would end a loop early, and silently. Python itself turns it
                    # into this where it leaves a generator; `next` has a way of its own.
                    kind = RuntimeError
                    arguments = [f"the submitted code raised {name} {text}".strip()]
                try:
                    error = kind(*arguments)
                    break
                except TypeError:
                    continue
        if error is None:
            first = names[0] if type(names) is list and names else None
            error = StudentError(f"{first[:80]}: {text}" if type(first) is str else text)
        vars(error)[_SUBMITTED] = True
        return error

    def _own_exception(self, nodes: Any, text: str) -> BaseException | None:
        """Build the stand-in for an exception of a class that the submitted code defines."""
        if type(nodes) is not list or len(nodes) != 2:
            return None
        decoder = _Decoder([], self, [])
        kind, remote = decoder.decode(["list", nodes])
        if not isinstance(remote, Remote) or not isinstance(kind, type):
            return None
        if not issubclass(kind, OwnError) and kind not in self.classes.values():
            return None
        if not issubclass(kind, Exception) or issubclass(kind, _ENDS_LOOPS):
            return None  # see `_exception`
        try:
            error = kind.__new__(kind, text)
        except TypeError:  # such as a group, which needs its exceptions
            return None
        if isinstance(error, OwnError):
            error._self_there = remote
        elif type(there := _ask(remote, "get", "__dict__")) is dict:
            own = {k: v for k, v in there.items() if type(k) is str and not k.startswith("__")}
            decoder.fill(error, own)
        return error

    def is_students(self, error: BaseException) -> bool:
        """Whether `error` came from the submitted code."""
        theirs = StudentError | OwnError | SessionEnded
        return isinstance(error, theirs) or _SUBMITTED in vars(error)

    def _serve_callback(self, reply: dict[str, Any], buffers: list[bytes]) -> None:
        number = reply.get("callback")
        self._callback_calls += 1
        if type(number) is not int or not 0 <= number < len(self._callbacks):
            raise wire.ProtocolError("no such function")
        if self._callback_calls > MAX_CALLBACKS:
            raise wire.ProtocolError("too many calls of the test's function")
        arguments = _Decoder(buffers, self, []).decode(reply.get("arguments"))
        if type(arguments) is not tuple or len(arguments) != 2:
            raise wire.ProtocolError("not a call")
        args, kwargs = arguments
        if type(args) is not tuple or type(kwargs) is not dict:
            raise wire.ProtocolError("not a call")
        if any(type(key) is not str for key in kwargs):
            raise wire.ProtocolError("not a call")
        encoder: wire.Encoder = _Encoder(self._keep)
        answer: dict[str, Any]
        try:
            answer = {"value": encoder.encode(self._callbacks[number](*args, **kwargs))}
        except (Exception, SystemExit) as error:
            # The text may hold values of the test's: the type is enough to handle it.
            kind: Any = type(error).__name__ if hasattr(builtins, type(error).__name__) else ""
            if is_own_error(type(error)):
                kind = self._keep(type(error))
            answer, encoder = {"raise": kind, "text": ""}, wire.Encoder(self._keep)
        self._connection.send(answer, encoder.buffers, self.deadline)

    def _keep(self, value: Any) -> list[Any]:
        if isinstance(value, Remote):
            session, number = _inside(value)[:2]
            if session is not self:
                raise TypeError("this object belongs to a process of the submission that is gone")
            return ["remote", number]
        if is_own_error(value):
            return self._keep(value._class_there)
        if is_own_error(type(value)) and value._self_there is not None:
            return self._keep(value._self_there)
        if isinstance(value, Iterator) and not callable(value) and not hasattr(value, "read"):
            self._callbacks.append(value.__next__)
            return ["iterator", len(self._callbacks) - 1]
        if callable(value):
            self._callbacks.append(value)
            name, text = getattr(value, "__name__", ""), getattr(value, "__doc__", None)
            return ["callback", len(self._callbacks) - 1, str(name)[:80], str(text or "")[:2000]]
        name = type(value).__name__
        raise TypeError(f"a {name} of the test cannot be passed to the submitted code")

    def resolve(self, node: list[Any]) -> Any:
        """Return the proxy of something that stays there, or the test's own function."""
        own = node[0] == "callback" and len(node) == 2 and type(node[1]) is int
        if own and 0 <= node[1] < len(self._callbacks):
            return self._callbacks[node[1]]
        if node[0] != "remote" or len(node) != 7:
            raise wire.ProtocolError("unknown value")
        _, number, kind, is_callable, type_name, name, bases = node
        if type(number) is not int or type(is_callable) is not bool or type(bases) is not list:
            raise wire.ProtocolError("unknown value")
        if any(type(text) is not str for text in (kind, type_name, name, *bases)):
            raise wire.ProtocolError("unknown value")
        if number not in self._proxies:
            if len(self._proxies) >= wire.MAX_NODES:
                raise wire.ProtocolError("too many objects")
            facts = (self, number, kind, type_name[:80], name[:80], tuple(bases[:20]))
            self._proxies[number] = _stand_in(_remote_type(type_name[:80])(*facts))
        return self._proxies[number]


class _Encoder(wire.Encoder):
    """Notes the tensors for which the test may ask gradients."""

    def __init__(self, fallback: wire.Fallback) -> None:
        super().__init__(fallback)
        self.leaves: list[Any] = []

    def encode(self, value: Any, depth: int = 0) -> wire.Node:
        if type(value) is _PathThere:
            value = PosixPath(str(value))
        return super().encode(value, depth)

    def _methods(self, value: Any) -> dict[str, Any] | None:
        kind = type(value)
        if getattr(kind, "__module__", "") != "__main__" or is_own_error(kind):
            return None
        if not hasattr(value, "__dict__") or isinstance(value, Remote | BaseException):
            return None
        names = {name for base in kind.__mro__[:-1] for name in vars(base)}
        return {
            name: getattr(value, name)
            for name in sorted(names - _NOT_LENT)
            if type(getattr(kind, name, None)) is types.FunctionType
        }

    def _tensor(self, torch: Any, value: Any) -> wire.Node:
        node = super()._tensor(torch, value)
        if node[0] == "tensor" and value.requires_grad:
            self.leaves.append(value)
        return node


class _Decoder(wire.Decoder):
    """Makes proxies, and tensors whose gradients are computed in the other process.

    A field of a named tuple may not judge the test's values, as an attribute of a `Remote` may not.
    """

    def __init__(self, buffers: list[bytes], session: Session, leaves: list[Any]) -> None:
        super().__init__(buffers, self._resolve_here)
        self._session, self._leaves = session, leaves

    def _class_of(self, name: str) -> Any:
        return self._session.classes.get(name)

    def _resolve_here(self, node: list[Any]) -> Any:
        if node[0] != "graph":
            return self._session.resolve(node)
        torch = sys.modules.get("torch")
        _, number, leaf, plain, grad = self._exactly(node, 5)
        if torch is None or type(number) is not int or type(leaf) is not bool:
            raise wire.ProtocolError("not a tensor")
        tensor = self._plain_tensor(plain)
        if not leaf:
            anchor = torch.zeros((), requires_grad=True)
            facts = (self._session, number, tensor.detach(), anchor, *self._leaves)
            return _bridge(torch).apply(*facts)
        if grad is not None:
            tensor.grad = self._plain_tensor(grad).detach()
        self._session.follow(tensor, number)
        return tensor

    def _plain_tensor(self, node: Any) -> Any:
        if type(node) is not list or not node or node[0] != "tensor":
            raise wire.ProtocolError("not a tensor")
        return self._tensor(*self._exactly(node[1:], 4))

    def _member(self, name: str, value: Any) -> Any:
        return _Verdict(value, name) if name in _VERDICTS and isinstance(value, Remote) else value


class _EmptyArray(np.ndarray):
    """An empty answer: NumPy finds it equal to any number, since no entry differs."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [_unmarked(part) for part in inputs]
        if ufunc in _COMPARING and len({bool(np.size(part)) for part in plain}) > 1:
            # a ValueError would be wrapped by NumPy's own tests
            raise AssertionError(_NOTHING)
        if "out" in options:
            options["out"] = tuple(_unmarked(part) for part in options["out"])
        return _marked(getattr(ufunc, method)(*plain, **options))

    def __repr__(self) -> str:
        return repr(_unmarked(self))


def _marked(value: Any) -> Any:
    """Return the same value; an empty array or tensor as one that agrees with nothing else."""
    if type(value) is np.ndarray and not value.size:
        return value.view(_EmptyArray)
    torch = sys.modules.get("torch")
    if torch is not None and type(value) is torch.Tensor and not value.numel():
        return value.as_subclass(_empty_tensor(torch))
    return value


def _unmarked(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, _EmptyArray) else value


def guard_comparisons() -> None:
    """Let NumPy's own comparisons refuse an empty list, too, where the other side has entries."""
    for module, names in _COMPARISONS.items():
        for name in names.split():
            setattr(module, name, _guarded(getattr(module, name)))


def _guarded(comparison: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(comparison)

    @functools.wraps(comparison)
    def compare(*args: Any, **named: Any) -> Any:
        with contextlib.suppress(TypeError, ValueError):  # the comparison itself will say so
            sides = [*signature.bind(*args, **named).arguments.values()][:2]
            if len({bool(np.size(side)) for side in sides if not isinstance(side, Remote)}) > 1:
                raise AssertionError(_NOTHING)
        return comparison(*args, **named)

    return compare


@functools.cache
def _empty_tensor(torch: Any) -> Any:
    """The same for torch, which finds it equal to any number, too."""

    class Tensor(torch.Tensor):  # type: ignore[misc, unused-ignore]
        @classmethod
        def __torch_function__(
            cls, function: Any, types: Any, args: Any = (), named: Any = None
        ) -> Any:
            with torch._C.DisableTorchFunctionSubclass():
                sizes = {bool(getattr(part, "numel", lambda: 1)()) for part in args[:2]}
                if function.__name__.strip("_") in _COMPARING_TORCH and len(sizes) > 1:
                    raise AssertionError(_NOTHING)
                result = function(*args, **(named or {}))
            return _marked(result)

    return Tensor


class _PathThere(PosixPath):
    """A path of the submission's: to open it here would show what lies on this side."""

    def __fspath__(self) -> str:
        raise TypeError("the file is in the submission's process: let the submitted code read it")


class _AnswerDecoder(_Decoder):
    """For what the test asked for, which it may compare next."""

    def _decode(self, node: Any, depth: int) -> Any:
        value = super()._decode(node, depth)
        return _PathThere(value) if type(value) is PosixPath else _marked(value)


class _NameDecoder(_AnswerDecoder):
    """For what the submission has under a name, which may stand in an ``except`` of the test."""

    def _decode(self, node: Any, depth: int) -> Any:
        value = super()._decode(node, depth)
        if value is Exception or value is AssertionError:
            # It would catch what the test itself raises to say that nothing was raised.
            return type(value.__name__, (value,), {})
        return value


def _decoder_for(op: str) -> type[_Decoder]:
    if op in _NAMED:
        return _NameDecoder
    return _AnswerDecoder if op in _RUNS_CODE else _Decoder


@functools.cache
def _bridge(torch: Any) -> Any:
    """The step of automatic differentiation that leads into the submitted code's process."""

    class Bridge(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
        @staticmethod
        def forward(ctx: Any, session: Session, number: int, value: Any, *leaves: Any) -> Any:
            ctx.session, ctx.number = session, number
            ctx.shapes = [leaf.shape for leaf in leaves[1:]]
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            found = ctx.session.differentiate(ctx.number, gradient.detach())
            if type(found) is not list or len(found) != len(ctx.shapes):
                raise wire.ProtocolError("not gradients")
            for value, shape in zip(found, ctx.shapes, strict=True):
                if value is not None and getattr(value, "shape", None) != shape:
                    raise wire.ProtocolError("not gradients")
            return (None, None, None, None, *found)

    return Bridge


def _inside(proxy: Remote) -> tuple[Session, int, str, str, str, tuple[str, ...]]:
    """The proxy's own facts, which its attributes would otherwise fetch from the other side."""
    facts: tuple[Session, int, str, str, str, tuple[str, ...]] = object.__getattribute__(
        proxy, "_facts"
    )
    return facts


def _is_empty(proxy: Remote) -> bool:
    try:
        return len(proxy) == 0
    except Exception:
        return False  # it has no length


def kind_of(value: Any) -> str:
    """``"module"``, ``"class"``, ``"function"`` or ``"instance"``; ``""`` for a plain value."""
    return _inside(value)[2] if isinstance(value, Remote) else ""


def _image(value: Any) -> Any:
    """What a small container holds, for a comparison; ``None`` if it is large or odd."""
    if isinstance(value, np.ndarray):
        return (value.shape, value.tobytes()) if value.nbytes <= _MAX_WATCHED else None
    encoder = wire.Encoder(_refuse)
    try:
        return encoder.encode(value) if len(value) <= _MAX_WATCHED // 20 else None
    except (wire.NotSendableError, TypeError, ValueError):
        return None


def _refuse(value: Any) -> Any:
    if isinstance(value, Remote):
        return ["remote", _inside(value)[1]]
    raise wire.NotSendableError


@functools.lru_cache(512)
def _remote_type(name: str) -> type[Remote]:
    """A class of proxies that is called as the type of what they stand for."""
    return type(name, (Remote,), {"__slots__": ()}) if name.isidentifier() else Remote


def _stand_in(proxy: Remote) -> Any:
    """Return a real exception class for one of the submission's, else the proxy itself."""
    _, _, kind, _, name, bases = _inside(proxy)
    known = _inside(proxy)[0].classes.get(name)
    if kind == "class" and known is not None and issubclass(known, Exception):
        return known  # the course's own, which the submission has, too
    for base in bases if kind == "class" else ():
        found = getattr(builtins, base.removeprefix("builtins."), None)
        if base.startswith("builtins.") and isinstance(found, type):
            if issubclass(found, _ENDS_LOOPS):
                return proxy  # raised in the test, it would end a loop there; see `_exception`
            if issubclass(found, Exception):
                name = name if name.isidentifier() else "StudentError"
                parents = [part for part in _parents(proxy) if is_own_error(part)]
                base_kinds = (*parents, found) if parents else (OwnError, found)
                return type(name, base_kinds, {"_class_there": proxy, "__init__": _start})
            return proxy
    return proxy


def _parents(proxy: Remote) -> tuple[Any, ...]:
    found = _ask(proxy, "get", "__bases__")
    return found if type(found) is tuple else ()


def _start(self: Any, *arguments: Any, **named: Any) -> None:
    """Make an exception of the submission's class, there and here."""
    remote = self._class_there(*arguments, **named)
    self._self_there = remote if isinstance(remote, Remote) else None
    self.args = arguments


def is_own_error(kind: Any) -> bool:
    """Whether `kind` is the stand-in for an exception class of the submission."""
    return type(kind) is type and issubclass(kind, OwnError)


def _ask(proxy: Remote, op: str, *arguments: Any) -> Any:
    return _inside(proxy)[0].request(op, proxy, *arguments)


def _operator(name: str, *, verdict: bool = False) -> Callable[[Any, Any], Any]:
    def apply(self: Remote, other: Any) -> Any:
        if isinstance(other, Remote):
            return _inside(self)[0].request("operator", name, self, other)
        if verdict:
            return NotImplemented
        raise TypeError(
            f"the submitted code returned a {_inside(self)[3]} object where the test computes "
            "with plain values"
        )

    return apply


def _unary(name: str) -> Callable[[Any], Any]:
    def apply(self: Remote) -> Any:
        return _inside(self)[0].request("operator", name, self)

    return apply


def _conversion(name: str, *kinds: type) -> Callable[[Any], Any]:
    def convert(self: Remote) -> Any:
        value = _inside(self)[0].request("operator", name, self)
        if type(value) not in kinds:
            raise TypeError(
                f"the {_inside(self)[3]} object's {name}() is not a {kinds[0].__name__}"
            )
        return value

    return convert


class Remote:
    """Something that stays in the submitted code's process: a function, class, instance, iterator.

    Calling it, its attributes, items and methods happen there; values come back as copies. A
    callable proxy also offers ``call_and_return_arguments``.

    Attributes
    ----------
    is_remote_object : bool
        Always true.
    remote_type_name : str
        Name of its type as the other process reports it, such as ``"generator"``.
    """

    __slots__ = ("_facts",)
    is_remote_object = True

    def __init__(self, *facts: Any) -> None:
        object.__setattr__(self, "_facts", facts)

    @property
    def remote_type_name(self) -> str:
        return _inside(self)[3]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _ask(self, "call", args, kwargs)

    def call_and_return_arguments(
        self, *args: Any, **kwargs: Any
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """Call it and also return what it made of its arguments.

        Returns
        -------
        tuple
            The result, the positional and the keyword arguments as they are after the call.
        """
        answer = _ask(self, "call_back_arguments", args, kwargs)
        if type(answer) is not tuple or len(answer) != 3:
            raise wire.ProtocolError("not a call's result")
        result, args_after, kwargs_after = answer
        if not isinstance(args_after, tuple) or type(kwargs_after) is not dict:
            raise wire.ProtocolError("not a call's result")
        return result, tuple(args_after), kwargs_after

    def __getattribute__(self, name: str) -> Any:
        if name == "__doc__":  # else this class's own
            return _ask(self, "get", name)
        if name == "__class__":
            return _class_of(self)
        return object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        if name == "__signature__":
            return _signature(_ask(self, "signature"))
        if name == "__array__" and _is_empty(self):
            raise AssertionError(_NOTHING)
        if name.startswith("__") and name.endswith("__"):
            _session, _, kind, type_name, own_name, _ = _inside(self)
            if name == "__name__" and own_name:
                return own_name
            if name not in _OPEN_DUNDERS or (kind == "instance" and name in _NAMES):
                raise AttributeError(f"{type_name!r} object has no attribute {name!r}")
        value = _ask(self, "get", name)
        if name in _VERDICTS and isinstance(value, Remote):
            return _Verdict(value, name)
        if not name.startswith("__"):
            _inside(self)[0].watch(value, self, name)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "set", name, value)

    def __dir__(self) -> list[str]:
        names = _ask(self, "dir")
        if type(names) is not list or any(type(name) is not str for name in names):
            raise wire.ProtocolError("not names")
        return names

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Remote) and _ask(self, "belongs", "isinstance", value) is True

    def __subclasscheck__(self, other: Any) -> bool:
        return isinstance(other, Remote) and _ask(self, "belongs", "issubclass", other) is True

    def __delattr__(self, name: str) -> None:
        _ask(self, "delete", name)

    def __getitem__(self, key: Any) -> Any:
        return _ask(self, "item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _ask(self, "set_item", key, value)

    def __delitem__(self, key: Any) -> None:
        _ask(self, "delete_item", key)

    def __iter__(self) -> Iterator[Any]:
        iterator = _inside(self)[0].request("operator", "iter", self)
        if not isinstance(iterator, Remote):
            raise TypeError(f"{_inside(self)[3]!r} object is not iterable")
        for count in range(MAX_ITEMS):
            answer = _ask(iterator, "next")
            if type(answer) is not list or len(answer) != 2 or type(answer[0]) is not bool:
                raise wire.ProtocolError("not an item")
            if not answer[0]:
                self._finish_iteration(count)
                return
            yield answer[1]
        raise ValueError(f"the iterator gives more than {MAX_ITEMS:,} items")

    def _finish_iteration(self, count: int) -> None:
        session, number = _inside(self)[:2]
        try:
            length = len(self)
        except SessionEnded:
            raise
        except Exception:
            return  # an iterator, which has no length
        if length != count:
            session.agree(number, count)

    def __next__(self) -> Any:
        answer = _ask(self, "next")
        if type(answer) is not list or len(answer) != 2 or type(answer[0]) is not bool:
            raise wire.ProtocolError("not an item")
        if not answer[0]:
            raise StopIteration
        return answer[1]

    def __contains__(self, item: Any) -> bool:
        return any(item is own or bool(item == own) for own in self)

    def __len__(self) -> int:
        value = _inside(self)[0].request("operator", "len", self)
        if type(value) is not int:
            raise TypeError("the length is not an integer")
        _inside(self)[0].agree(_inside(self)[1], value)
        return value

    def __bool__(self) -> bool:
        return _inside(self)[2] != "instance" or bool(_truth(self))

    def __enter__(self) -> Any:
        return _ask(self, "method", "__enter__", ())

    def __exit__(self, *exception: Any) -> None:
        # Its text may hold values of the test's.
        kind = exception[0].__name__ if exception[0] is not None else None
        if _ask(self, "leave", kind) and kind is not None:
            raise TypeError(
                f"the {_inside(self)[3]} object suppresses exceptions: what the test says inside "
                "`with` would not count"
            ) from exception[1]

    def __hash__(self) -> int:
        if _inside(self)[2] != "instance":
            return object.__hash__(self)
        value = _inside(self)[0].request("operator", "hash", self)
        if type(value) is not int:
            raise TypeError("the hash is not an integer")
        return value

    def __copy__(self) -> Any:
        return _inside(self)[0].request("operator", "copy", self)

    def __deepcopy__(self, memo: Any) -> Any:
        return _inside(self)[0].request("operator", "deepcopy", self)

    def __repr__(self) -> str:
        if _inside(self)[2] == "instance":
            return str(_text(self))
        return f"<the submission's {_inside(self)[3]} {_inside(self)[4]}>".replace(" >", ">")

    __str__ = _conversion("str", str)
    __float__ = _conversion("float", float)
    __int__ = _conversion("int", int)
    __index__ = _conversion("index", int)
    __complex__ = _conversion("complex", complex)
    __neg__ = _unary("neg")
    __pos__ = _unary("pos")
    __abs__ = _unary("abs")
    __invert__ = _unary("invert")
    __eq__ = _operator("eq", verdict=True)
    __ne__ = _operator("ne", verdict=True)
    __lt__ = _operator("lt", verdict=True)
    __le__ = _operator("le", verdict=True)
    __gt__ = _operator("gt", verdict=True)
    __ge__ = _operator("ge", verdict=True)
    __add__ = __radd__ = _operator("add")
    __sub__ = __rsub__ = _operator("sub")
    __mul__ = __rmul__ = _operator("mul")
    __matmul__ = __rmatmul__ = _operator("matmul")
    __truediv__ = __rtruediv__ = _operator("truediv")
    __floordiv__ = __rfloordiv__ = _operator("floordiv")
    __mod__ = __rmod__ = _operator("mod")
    __pow__ = __rpow__ = _operator("pow")
    __and__ = __rand__ = _operator("and_")
    __or__ = __ror__ = _operator("or_")
    __xor__ = __rxor__ = _operator("xor")

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        raise TypeError(
            f"the submitted class {_inside(self)[4]} stays in the other process: a test cannot "
            "derive a class from it"
        )

    # NumPy would otherwise hand operators and functions over to the object.
    __array_ufunc__ = None


class _Verdict:
    """A method such as ``allclose`` of a submitted object; it may not judge the test's values."""

    is_remote_object = True

    def __init__(self, method: Remote, name: str) -> None:
        self._method, self._name = method, name
        self.remote_type_name = "method"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if any(not isinstance(value, Remote) for value in (*args, *kwargs.values())):
            raise TypeError(
                f"the test asks the submitted object's own {self._name}() for a verdict"
            )
        return self._method(*args, **kwargs)


_truth = _conversion("bool", bool)
_text = _conversion("repr", str)
_NAMES = frozenset({"__name__", "__qualname__"})
# What an instance of its own class does in the other process without this side's method.
_NOT_LENT = frozenset(
    {"__init__", "__new__", "__getattribute__", "__getattr__", "__setattr__", "__reduce_ex__"}
)
_FILTERS = warnings.filters
_FILTER_COUNT = len(_FILTERS)


@functools.lru_cache(512)
def _is_python(kind: type) -> bool:
    """Whether only Python code looks at instances; C code that took a proxy for one would crash."""
    try:
        return object.__new__(kind) is not None
    except TypeError:
        return False


def _class_of(proxy: Remote) -> Any:
    """Return what `isinstance` is to take for its class."""
    kind, bases = _inside(proxy)[2], _inside(proxy)[5]
    if kind == "class":
        return type
    for base in bases:
        module, _, name = base.rpartition(".")
        found = getattr(sys.modules.get(module), name, None)
        if base.startswith(_LIBRARIES) and isinstance(found, type) and _is_python(found):
            return found
    for base in bases:
        if base in _LANGUAGE_TYPES:
            return _LANGUAGE_TYPES[base]
    return type(proxy)


def _signature(rows: Any) -> inspect.Signature:
    parameters = []
    for row in rows if type(rows) is list else []:
        if type(row) is not list or len(row) != 3 or type(row[0]) is not str:
            raise wire.ProtocolError("not a signature")
        kind = inspect._ParameterKind(row[1])
        default = row[2][0] if type(row[2]) is list and row[2] else inspect.Parameter.empty
        parameters.append(inspect.Parameter(row[0], kind, default=default))
    return inspect.Signature(parameters)
