"""The student's side: runs the submitted cells and answers calls.

Everything here shares a process with the submitted code, so nothing it says is believed, except as
"this is what the submitted code returned".
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import operator
import os
import site
import socket
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import PosixPath
from typing import Any

from . import wire

OUTPUT_LIMIT = 64 << 10
IMAGE_LIMIT = 2 << 20
DISPLAY_LIMIT = 40
DISPLAYED_LIMIT = 4 << 20
_IMAGES = ("image/png", "image/jpeg")

_shell: Any = None
_record: _Recorder


class _Recorder:
    """What the code printed and displayed since it was last emptied."""

    def __init__(self) -> None:
        self.empty()

    def empty(self) -> None:
        self.outputs: list[list[Any]] = []
        self.size = 0
        self.displayed = 0

    def stream(self, name: str, text: str) -> None:
        text = text[: OUTPUT_LIMIT - self.size]
        if not text:
            return
        self.size += len(text)
        if self.outputs and self.outputs[-1][0] == "stream" and self.outputs[-1][1] == name:
            self.outputs[-1][2].append(text)
        else:
            self.outputs.append(["stream", name, [text]])

    def display(self, data: dict[str, Any], kind: str = "display") -> None:
        kept: dict[str, str] = {}
        text = data.get("text/plain")
        if isinstance(text, str):
            kept["text/plain"] = text[:OUTPUT_LIMIT]
        for mime in _IMAGES:
            image = data.get(mime)
            if isinstance(image, bytes):
                import base64

                image = base64.b64encode(image).decode()
            if isinstance(image, str) and len(image) <= IMAGE_LIMIT:
                kept[mime] = image
        self.displayed += sum(map(len, kept.values()))
        if kept and len(self.outputs) < DISPLAY_LIMIT and self.displayed <= DISPLAYED_LIMIT:
            self.outputs.append([kind, kept])

    def taken(self) -> list[list[Any]]:
        outputs = [
            [item[0], item[1], "".join(item[2])] if item[0] == "stream" else item
            for item in self.outputs
        ]
        self.empty()
        return outputs


class _Stream(io.TextIOBase):
    encoding = "utf-8"

    def __init__(self, name: str, number: int) -> None:
        self._name, self._number = name, number

    def fileno(self) -> int:
        return self._number

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        _record.stream(self._name, str(text))
        return len(text)


def warm() -> None:
    """Start IPython once, before anything is forked."""
    global _shell, _record
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    _record = _Recorder()

    class Publisher(DisplayPublisher):  # type: ignore[misc, unused-ignore]
        def publish(self, data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            _record.display(data)

        def clear_output(self, wait: bool = False) -> None:
            _record.empty()

    class Hook(DisplayHook):  # type: ignore[misc, unused-ignore]
        def write_output_prompt(self) -> None:
            pass

        def write_format_data(self, format_dict: dict[str, Any], *args: Any) -> None:
            _record.display(format_dict, "result")

        def finish_displayhook(self) -> None:
            pass

    class Shell(InteractiveShell):  # type: ignore[misc, unused-ignore]
        def enable_gui(self, gui: str | None = None) -> None:
            pass

        def ask_exit(self) -> None:
            pass

        def enable_matplotlib(self, gui: str | None = None) -> Any:
            return super().enable_matplotlib("inline")

        def run_line_magic(self, magic_name: str, line: str, _stack_depth: int = 1) -> Any:
            # A tool of the student's own notebook may be missing here; the answer beside it counts.
            try:
                return super().run_line_magic(magic_name, line, _stack_depth + 1)
            except Exception as error:
                print(f"%{magic_name}: {type(error).__name__}: {error}", file=sys.stderr)

    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.history_length = 0
    _shell = Shell.instance(config=config, display_pub_class=Publisher, displayhook_class=Hook)
    _shell.showtraceback = lambda *args, **kwargs: None
    _shell.showsyntaxerror = lambda *args, **kwargs: None
    site.sethelper()  # `help`, which an isolated interpreter lacks
    # As a kernel does: `__main__` is the student's namespace.
    sys.modules["__main__"] = _shell.user_module
    _shell.run_cell("pass", store_history=False)
    _shell.run_cell("1", store_history=False)
    _record.empty()


def serve(sock: socket.socket) -> None:
    """Answer the trusted side until it hangs up."""
    _reseed()
    sys.stdout, sys.stderr = _Stream("stdout", 1), _Stream("stderr", 2)
    sys.path.insert(0, "")  # as in a notebook: what lies beside it can be imported
    _Runner(wire.Connection(sock)).run()


def _reseed() -> None:
    """Children of one parent would share the state of the global generators."""
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(int.from_bytes(os.urandom(4)))
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(int.from_bytes(os.urandom(4)))


class _Callback:
    """A function that lives on the trusted side."""

    def __init__(self, runner: _Runner, number: int, name: str = "", text: str = "") -> None:
        self._runner, self._number = runner, number
        self.__name__ = self.__qualname__ = name or "function"
        self.__doc__ = text or None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the test's function can only be called here; it has no {name!r}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._runner.call_back(self._number, args, kwargs)


def _items(following: _Callback) -> Iterator[Any]:
    """What an iterator of the test's gives."""
    while True:
        try:
            item = following()
        except StopIteration:
            return
        yield item


def _lent(method: Any) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return call


class _Encoder(wire.Encoder):
    """Keeps the graph of a tensor here, and says under which number."""

    def __init__(self, runner: _Runner, leaves: list[Any]) -> None:
        super().__init__(runner.keep)
        self._runner, self._graphs, self._leaves = runner, runner.graphs, leaves

    def _value(self, kind: type, value: Any, depth: int) -> wire.Node:
        if kind is PosixPath and os.path.lexists(value):
            return self._fallback(value)  # what lies there can be read here only
        return super()._value(kind, value, depth)

    def _methods(self, value: Any) -> dict[str, Any] | None:
        known = self._runner.is_instructors(type(value)) and hasattr(value, "__dict__")
        return {} if known and not isinstance(value, BaseException) else None

    def _tensor(self, torch: Any, value: Any) -> wire.Node:
        node = super()._tensor(torch, value)
        if node[0] != "tensor" or not value.requires_grad:
            return node
        leaf = value.is_leaf and not any(value is leaf for leaf in self._leaves)
        grad = None
        if leaf and value.grad is not None:
            grad = super()._tensor(torch, value.grad.detach())
        number = len(self._graphs)
        self._graphs.append((value, self._leaves))
        return ["graph", number, leaf, node, grad]


class _Decoder(wire.Decoder):
    """Notes the tensors through which gradients go back to the test."""

    def __init__(self, buffers: list[bytes], resolve: wire.Resolver) -> None:
        super().__init__(buffers, resolve)
        self.leaves: list[Any] = []

    def _class_of(self, name: str) -> Any:
        found = _shell.user_ns.get(name)
        return found if isinstance(found, type) else type(name, (), {})

    def _lend(self, made: Any, methods: Any) -> None:
        kind = type(made)
        if kind.__module__ == "__main__":
            return  # it has methods of its own
        for name, method in methods.items():
            setattr(kind, name, _lent(method))

    def _tensor(self, name: Any, listed: Any, index: Any, gradient: Any) -> Any:
        tensor = super()._tensor(name, listed, index, gradient)
        if tensor.requires_grad:
            self.leaves.append(tensor)
        return tensor


class _Stays:
    """Wraps a result that is to stay here although it could be copied."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Runner:
    def __init__(self, connection: wire.Connection) -> None:
        self._connection = connection
        self._replaced: dict[str, Any] = {}
        self._classes: frozenset[str] = frozenset()
        self.graphs: list[tuple[Any, list[Any]]] = []
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}

    def run(self) -> None:
        while True:
            try:
                header, buffers = self._connection.receive()
            except (EOFError, OSError):
                os._exit(0)
            self._answer(header, buffers)

    def _answer(self, header: Any, buffers: list[bytes]) -> None:
        reply: dict[str, Any]
        decoder = _Decoder(buffers, self._resolve)
        encoder: wire.Encoder = _Encoder(self, decoder.leaves)
        warned: list[Any] = []
        try:
            arguments = decoder.decode(header["arguments"])
            operation = getattr(self, "do_" + header["op"])
            with _noted(warned) if "warnings" in header else contextlib.nullcontext():
                value = operation(*arguments)
            reply = {"value": encoder.encode(value)}
        except BaseException as error:
            encoder = wire.Encoder(self.keep)
            reply = {"error": _describe(error)}
            if isinstance(error, Exception) and type(error).__module__ == "__main__":
                reply["error"]["own"] = [self.keep(type(error)), self.keep(error)]
        reply["warnings"] = [
            [[base.__name__ for base in item.category.__mro__], str(item.message)[:2000]]
            for item in warned[:100]
        ]
        reply["outputs"] = _record.taken()
        try:
            self._connection.send(reply, encoder.buffers)
        except wire.NotSendableError as error:
            self._connection.send({"error": _describe(error), "outputs": []})

    def call_back(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        encoder = _Encoder(self, [])
        node = encoder.encode((args, kwargs))
        self._connection.send({"callback": number, "arguments": node}, encoder.buffers)
        header, buffers = self._connection.receive()
        while "op" in header:  # the test's function itself calls the submitted code
            self._answer(header, buffers)
            header, buffers = self._connection.receive()
        if type(header.get("raise")) is list:
            own = self._resolve(header["raise"])
            raise own.__new__(own)
        if "raise" in header:
            kind = getattr(__import__("builtins"), str(header["raise"]), RuntimeError)
            raise kind(header.get("text", ""))
        return _Decoder(buffers, self._resolve).decode(header["value"])

    def keep(self, value: Any) -> list[Any]:
        """Give a number to something that stays here, and say what it is."""
        value = value.value if type(value) is _Stays else value
        number = self._numbers.get(id(value))
        if number is None:
            number = len(self._objects)
            self._objects.append(value)
            self._numbers[id(value)] = number
        if isinstance(value, type):
            kind = "class"
        elif isinstance(value, types.ModuleType):
            kind = "module"
        else:
            kind = "function" if callable(value) and hasattr(value, "__name__") else "instance"
        name = getattr(value, "__name__", "")
        lineage = value.__mro__ if kind == "class" else type(value).__mro__
        bases = [f"{base.__module__}.{base.__qualname__}" for base in lineage]
        return [
            "remote",
            number,
            kind,
            callable(value),
            type(value).__name__[:80],
            name[:80] if isinstance(name, str) else "",
            [base[:120] for base in bases[:20]],
        ]

    def _resolve(self, node: list[Any]) -> Any:
        if node[0] == "remote":
            return self._objects[node[1]]
        if node[0] == "callback":
            return _Callback(self, *node[1:])
        if node[0] == "iterator":
            return _items(_Callback(self, node[1]))
        raise wire.ProtocolError("unknown value")

    def do_run(self, source: str) -> None:
        result = _shell.run_cell(source, store_history=False, silent=False)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            raise error

    def do_files(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            path = os.path.join(os.getcwd(), name)
            with contextlib.suppress(OSError):  # too many, too long a name: the others count
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(data)

    def do_names(self, names: list[str]) -> dict[str, Any]:
        namespace = _shell.user_ns
        return {name: namespace[name] for name in names if name in namespace}

    def do_call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = target(*args, **kwargs)
        own = isinstance(target, type) and target.__module__ == "__main__"
        if own and type(value) is target and not hasattr(value, "_fields"):
            return _Stays(value)  # even where it is a kind of list: its methods are the point
        return value

    def do_call_back_arguments(
        self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return target(*args, **kwargs), args, kwargs

    def do_patch(self, changes: dict[str, list[Any]]) -> None:
        """Replace what the test has replaced, and put back what it no longer replaces."""
        namespace = _shell.user_ns
        for name, before in self._replaced.items():
            _bind(namespace, name, before)
        self._replaced = {name: [namespace[name]] if name in namespace else [] for name in changes}
        for name, after in changes.items():
            _bind(namespace, name, after)

    def do_classes(self, names: list[str]) -> None:
        """Note which classes the test has, too."""
        self._classes = frozenset(names)

    def is_instructors(self, kind: type) -> bool:
        name = kind.__name__
        return name in self._classes and _shell.user_ns.get(name) is kind

    def do_refill(self, target: Any, name: str, value: Any) -> None:
        """Give a container of the submission's the content that the test has given its copy."""
        there = _shell.user_ns.get(name) if target is None else getattr(target, name)
        if isinstance(there, list):
            there[:] = value
        elif isinstance(there, dict | set):
            there.clear()
            there.update(value)
        elif getattr(there, "shape", None) == getattr(value, "shape", ()):
            there[...] = value

    def do_pyplot(self, name: str) -> Any:
        import matplotlib.pyplot as plt

        return getattr(plt, name)

    def do_belongs(self, target: Any, question: str, value: Any) -> bool:
        return (isinstance if question == "isinstance" else issubclass)(value, target)

    def do_dir(self, target: Any) -> list[str]:
        return dir(target)

    def do_leave(self, target: Any, name: str | None) -> bool:
        if name is None:
            return bool(type(target).__exit__(target, None, None, None))
        kind = getattr(__import__("builtins"), name, RuntimeError)
        error = kind.__new__(kind)
        try:
            return bool(type(target).__exit__(target, kind, error, None))
        except BaseException as other:
            if other is error:
                return False
            raise

    def do_delete_item(self, target: Any, key: Any) -> None:
        del target[key]

    def do_seed(self, states: dict[str, Any]) -> None:
        import random

        if "numpy" in states:
            sys.modules["numpy"].random.set_state(states["numpy"])
        if "random" in states:
            random.setstate(states["random"])
        if "torch" in states and "torch" in sys.modules:
            sys.modules["torch"].set_rng_state(states["torch"])

    def do_backward(
        self, number: int, gradient: Any, copied: list[int], cleared: list[int]
    ) -> list[list[Any]]:
        value, leaves = self.graphs[number]
        parameters = [self.graphs[index][0] for index in copied]
        for tensor in (*leaves, *(self.graphs[index][0] for index in cleared)):
            tensor.grad = None
        value.backward(gradient, retain_graph=True)
        return [
            [None if tensor.grad is None else tensor.grad.detach() for tensor in tensors]
            for tensors in (leaves, parameters)
        ]

    def do_assign(self, changes: list[list[Any]]) -> None:
        for number, value in changes:
            self.graphs[number][0].data.copy_(value)

    def do_get(self, target: Any, name: str) -> Any:
        return getattr(target, name)

    def do_set(self, target: Any, name: str, value: Any) -> None:
        setattr(target, name, value)

    def do_delete(self, target: Any, name: str) -> None:
        delattr(target, name)

    def do_item(self, target: Any, key: Any) -> Any:
        return target[key]

    def do_set_item(self, target: Any, key: Any, value: Any) -> None:
        target[key] = value

    def do_operator(self, name: str, *operands: Any) -> Any:
        return _OPERATORS[name](*operands)

    def do_next(self, target: Iterator[Any]) -> Any:
        try:
            return [True, next(target)]
        except StopIteration:
            return [False, None]

    def do_method(self, target: Any, name: str, args: tuple[Any, ...]) -> Any:
        return getattr(type(target), name)(target, *args)

    def do_signature(self, target: Any) -> list[list[Any]]:
        parameters = inspect.signature(target).parameters.values()
        return [
            [p.name, int(p.kind), [] if p.default is p.empty else [p.default]] for p in parameters
        ]

    def do_source(self, target: Any) -> str:
        return inspect.getsource(target)


_OPERATORS: dict[str, Callable[..., Any]] = {
    name: getattr(operator, name)
    for name in (
        *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and_", "or_"),
        *("xor", "lshift", "rshift", "eq", "ne", "lt", "le", "gt", "ge", "neg", "pos", "abs"),
        "invert",
    )
} | {
    "bool": bool,
    "copy": copy.copy,
    "complex": complex,
    "deepcopy": copy.deepcopy,
    "float": float,
    "hash": hash,
    "index": operator.index,
    "int": int,
    "iter": iter,
    "len": len,
    "repr": repr,
    "str": str,
}


def _bind(namespace: dict[str, Any], name: str, value: list[Any]) -> None:
    if value:
        namespace[name] = value[0]
    else:
        namespace.pop(name, None)


@contextlib.contextmanager
def _noted(warned: list[Any]) -> Iterator[None]:
    """Collect every warning, as the test has a filter of its own for them."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            warned += found or []


def _describe(error: BaseException) -> dict[str, Any]:
    """The types, the text and the student's own lines of an exception; each may be hostile."""
    described: dict[str, Any] = {"types": ["Exception"], "text": "", "trace": ""}
    try:
        described["types"] = [base.__name__[:80] for base in type(error).__mro__][:12]
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        described["text"] = str(text)[:2000]
        arguments = error.args
        if isinstance(error, OSError) and error.errno is not None:
            arguments = (error.errno, error.strerror, error.filename)
        described["args"] = [v[:2000] if type(v) is str else v for v in arguments[:20]]
        if not all(type(v) in wire.SIMPLE for v in described["args"]):
            del described["args"]
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__, limit=200)
            if "/inside/" not in frame.filename and "/IPython/core/" not in frame.filename
        ]
        if isinstance(error, SyntaxError):
            lines = traceback.format_exception_only(error)
        else:
            lines = traceback.format_list(frames[-8:])
        described["trace"] = "".join(lines)[-4000:]
    except BaseException as second:
        described["text"] += f" (describing it failed with {type(second).__name__})"
    return described
