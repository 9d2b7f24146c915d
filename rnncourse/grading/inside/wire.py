"""The strict wire between the trusted and the student's process.

A frame is a JSON header followed by raw buffers. Nothing on it is ever unpickled, imported or
evaluated: the decoder knows a fixed set of node kinds, copies every array into memory of its own,
and refuses what is too large, too deep, too many or not what it says it is.

Nodes are JSON scalars, or a list whose first item names the kind::

    null true 1 2.5 "text"            themselves
    ["int", "hex digits"]             an integer beyond 64 bits
    ["list", [...]]  ["tuple", [...]]  ["set", [...]]  ["dict", [[key, value], ...]]
    ["array", dtype, shape, buffer]   a numeric array; ["scalar", dtype, buffer] a NumPy scalar
    ["same", n]                       the n-th list, dict or set of the message once more
    ["type", name]                    a built-in or NumPy type
    ["value", name, parts]            a date, a decimal number, a Counter, ...
    ["instance", class, attributes, methods]  of a class that the instructor gave to both sides
    ["member", class, name]           of an enumeration that the instructor gave to both sides
    ["remote", ...]  ["callback", n]  things that stay where they are, left to the two runners
    ["graph", ...]                    a tensor whose gradients lead back into the other process
"""

from __future__ import annotations

import builtins
import datetime
import json
import keyword
import re
import socket
import struct
import sys
import time
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath
from typing import Any

import numpy as np

MAX_HEADER = 8 << 20
MAX_BUFFERS = 64 << 20
MAX_NODES = 200_000
MAX_DEPTH = 100
MAX_DIMENSIONS = 32
MAX_BUFFER_COUNT = 20_000
MAX_INTEGER_DIGITS = 20_000

_NUMERIC = re.compile(
    r"[<>|=]?(?:b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[mM]8(?:\[\w+\])?)"
)
_IDENTIFIER = re.compile(r"[A-Za-z]\w{0,60}")
_TORCH_DTYPES = {
    "bool": "uint8",
    "uint8": "uint8",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "float16": "float16",
    "bfloat16": "int16",
    "float32": "float32",
    "float64": "float64",
    "complex64": "complex64",
    "complex128": "complex128",
}

# Types that mean the same on both sides; the trusted side never gets another one.
_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset),
        *(range, slice, object, type(None)),
        *(
            value
            for value in vars(builtins).values()
            if isinstance(value, type) and issubclass(value, Exception)
        ),
    )
} | {
    f"numpy.{np.dtype(code).type.__name__}": np.dtype(code).type
    for code in ("?", "b", "B", "h", "H", "i", "I", "l", "L", "e", "f", "d", "g", "F", "D", "G")
}
# The arguments of an exception cross if they are of these types, which JSON itself has.
SIMPLE = (bool, int, float, str, type(None))
_VIEWS = frozenset({type({}.keys()), type({}.values()), type({}.items())})
_TYPE_NAMES = {kind: name for name, kind in _TYPES.items()}


def _decimal(text: str) -> Decimal:
    value = Decimal(text)
    if len(text) > MAX_INTEGER_DIGITS or abs(value.adjusted()) > MAX_INTEGER_DIGITS:
        raise ProtocolError("the number is too large")
    return value


def _defaultdict(factory: type | None, items: dict[Any, Any]) -> defaultdict[Any, Any]:
    return defaultdict(factory, items)


def _deque(items: list[Any], longest: int | None) -> deque[Any]:
    return deque(items, longest)


# What the standard library counts as a value: how to take it apart, and from which types of parts
# it is put together.
_VALUES: dict[str, tuple[type, Callable[[Any], tuple[Any, ...]], Callable[..., Any], Any]] = {
    "date": (datetime.date, lambda v: (v.year, v.month, v.day), datetime.date, (int,) * 3),
    "datetime": (
        datetime.datetime,
        lambda v: (v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond),
        datetime.datetime,
        (int,) * 7,
    ),
    "time": (
        datetime.time,
        lambda v: (v.hour, v.minute, v.second, v.microsecond),
        datetime.time,
        (int,) * 4,
    ),
    "timedelta": (
        datetime.timedelta,
        lambda v: (v.days, v.seconds, v.microseconds),
        datetime.timedelta,
        (int,) * 3,
    ),
    "Decimal": (Decimal, lambda v: (str(v),), _decimal, (str,)),
    "Fraction": (Fraction, lambda v: (v.numerator, v.denominator), Fraction, (int, int)),
    "PosixPath": (PosixPath, lambda v: (str(v),), PosixPath, (str,)),
    "PurePosixPath": (PurePosixPath, lambda v: (str(v),), PurePosixPath, (str,)),
    "Counter": (Counter, lambda v: (dict(v),), Counter, (dict,)),
    "OrderedDict": (OrderedDict, lambda v: (dict(v),), OrderedDict, (dict,)),
    "defaultdict": (
        defaultdict,
        lambda v: (v.default_factory, dict(v)),
        _defaultdict,
        ((type, type(None)), dict),
    ),
    "deque": (deque, lambda v: (list(v), v.maxlen), _deque, (list, (int, type(None)))),
    "bytearray": (bytearray, lambda v: (bytes(v),), bytearray, (bytes,)),
}
_VALUE_NAMES = {kind: name for name, (kind, *_) in _VALUES.items()}

Node = Any
Fallback = Callable[[Any], Node]
Resolver = Callable[[list[Any]], Any]


class ProtocolError(Exception):
    """A frame that is not what the protocol allows."""


class NotSendableError(TypeError):
    """A value that cannot cross by value and has no other way to cross."""


def _torch() -> Any:
    return sys.modules.get("torch")


class Encoder:
    """Turn a value into a node and a list of buffers.

    Parameters
    ----------
    fallback : callable
        Called with every object that cannot be copied; returns the node that stands for it.
    """

    def __init__(self, fallback: Fallback) -> None:
        self.buffers: list[bytes] = []
        self._fallback = fallback
        self._nodes = 0
        self._bytes = 0
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []

    def _buffer(self, data: bytes) -> int:
        self._bytes += len(data)
        if self._bytes > MAX_BUFFERS or len(self.buffers) >= MAX_BUFFER_COUNT:
            raise NotSendableError(f"the value is larger than {MAX_BUFFERS >> 20} MB")
        self.buffers.append(data)
        return len(self.buffers) - 1

    def encode(self, value: Any, depth: int = 0) -> Node:
        """Return the node of `value`.

        Raises
        ------
        NotSendableError
            If the value is too large or too deep.
        """
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise NotSendableError(f"the value is nested more than {MAX_DEPTH} levels deep")
        if self._nodes > MAX_NODES:
            raise NotSendableError(f"the value has more than {MAX_NODES:,} parts")
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        if isinstance(value, np.generic | np.ndarray | np.dtype | np.random.Generator):
            return self._numpy(value, depth)
        if isinstance(value, str):
            return str.__str__(value) if kind is str else "".join(str.__iter__(value))
        if isinstance(value, bool):
            return bool(value)
        if isinstance(value, int):
            number = int.__add__(value, 0)
            small = -(2**63) <= number < 2**63
            return number if small else ["int", self._digits(number)]
        if isinstance(value, float):
            return float.__add__(value, 0.0)
        if isinstance(value, complex):
            plain = complex.__add__(value, 0j)
            return ["complex", plain.real, plain.imag]
        if kind in _VALUE_NAMES and not getattr(value, "tzinfo", None):
            return self._value(kind, value, depth)
        if isinstance(value, bytes | bytearray):
            return ["bytes", self._buffer(bytes(value))]
        if isinstance(value, tuple):
            items = [self.encode(item, depth + 1) for item in tuple.__iter__(value)]
            fields = getattr(kind, "_fields", None)
            words = list(fields) if kind is not tuple and isinstance(fields, tuple) else []
            if words and len(words) == len(items) and all(isinstance(w, str) for w in words):
                return ["namedtuple", str(kind.__name__).lstrip("_") or "T", words, items]
            return ["tuple", items]
        if isinstance(value, list | dict | set):
            if id(value) in self._seen:
                return ["same", self._seen[id(value)]]
            self._seen[id(value)] = len(self._seen)
            self._alive.append(value)  # else another one could get its id
        if isinstance(value, list):
            return ["list", [self.encode(item, depth + 1) for item in list.__iter__(value)]]
        if isinstance(value, dict):
            pairs = list(dict.items(value))
            return [
                "dict",
                [[self.encode(k, depth + 1), self.encode(v, depth + 1)] for k, v in pairs],
            ]
        if isinstance(value, set):
            return ["set", [self.encode(item, depth + 1) for item in set.__iter__(value)]]
        if isinstance(value, frozenset):
            members = [self.encode(item, depth + 1) for item in frozenset.__iter__(value)]
            return ["frozenset", members]
        if kind in _VIEWS:
            return ["list", [self.encode(item, depth + 1) for item in value]]
        if kind is slice or kind is range:
            parts = (value.start, value.stop, value.step)
            return [kind.__name__, [self.encode(part, depth + 1) for part in parts]]
        if value is Ellipsis:
            return ["ellipsis"]
        if kind is type and value in _TYPE_NAMES:
            return ["type", _TYPE_NAMES[value]]
        if (torch := _torch()) is not None:
            if isinstance(value, torch.Tensor):
                return self._tensor(torch, value)
            if isinstance(value, torch.dtype):
                return ["torch_dtype", str(value).removeprefix("torch.")]
        if (methods := self._methods(value)) is not None:
            if isinstance(value, Enum):
                key = value.value if isinstance(value, Flag) else value.name
                return ["member", kind.__name__, key]  # a combination of flags has no name
            if id(value) in self._seen:
                return ["same", self._seen[id(value)]]
            self._seen[id(value)] = len(self._seen)
            self._alive.append(value)
            state = self.encode(dict(vars(value)), depth + 1)
            return ["instance", kind.__name__, state, self.encode(methods, depth + 1)]
        return self._fallback(value)

    def _methods(self, value: Any) -> dict[str, Any] | None:
        """For an instance that crosses by value: methods that the other side may lack."""
        return None

    def _value(self, kind: type, value: Any, depth: int) -> Node:
        parts = _VALUES[_VALUE_NAMES[kind]][1](value)
        if kind is defaultdict and parts[0] not in _TYPE_NAMES and parts[0] is not None:
            parts = (None, parts[1])
        return ["value", _VALUE_NAMES[kind], [self.encode(part, depth + 1) for part in parts]]

    @staticmethod
    def _digits(number: int) -> str:
        digits = format(number, "x")
        if len(digits) > MAX_INTEGER_DIGITS:
            raise NotSendableError("the integer is too large")
        return digits

    def _numpy(self, value: Any, depth: int) -> Node:
        if isinstance(value, np.random.Generator):
            bits = value.bit_generator
            return ["generator", type(bits).__name__, self.encode(dict(bits.state), depth + 1)]
        if isinstance(value, np.dtype):
            return ["dtype", value.str] if _NUMERIC.fullmatch(value.str) else self._fallback(value)
        # NumPy imports `ma` when it is named first: not in every child for a plain array.
        subclass = isinstance(value, np.ndarray) and type(value) is not np.ndarray
        if subclass and isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
            return self._fallback(value)  # without its mask it would be another value
        plain = np.asarray(value).view(np.ndarray) if isinstance(value, np.ndarray) else value
        code = plain.dtype.str
        if isinstance(plain, np.generic):
            if isinstance(plain, np.str_):
                return str(plain)
            if isinstance(plain, np.bytes_):
                return ["bytes", self._buffer(bytes(plain))]
            if _NUMERIC.fullmatch(code):
                return ["scalar", code, self._buffer(plain.tobytes())]
            return self._fallback(value)
        if plain.dtype.kind == "U":
            texts = plain.ravel().tolist()
            self._nodes += len(texts)
            if self._nodes > MAX_NODES:
                raise NotSendableError(f"the value has more than {MAX_NODES:,} parts")
            return ["texts", list(plain.shape), texts]
        if not _NUMERIC.fullmatch(code):
            return self._fallback(value)
        if plain.nbytes > MAX_BUFFERS:
            raise NotSendableError(f"the array is larger than {MAX_BUFFERS >> 20} MB")
        return ["array", code, list(plain.shape), self._buffer(plain.tobytes())]

    def _tensor(self, torch: Any, value: Any) -> Node:
        name = str(value.dtype).removeprefix("torch.")
        if name not in _TORCH_DTYPES or value.layout is not torch.strided:
            return self._fallback(value)
        if value.numel() * value.element_size() > MAX_BUFFERS:
            raise NotSendableError(f"the tensor is larger than {MAX_BUFFERS >> 20} MB")
        plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        raw = plain.view(torch.int16) if name == "bfloat16" else plain
        data = self._buffer(raw.numpy().tobytes())
        return ["tensor", name, list(plain.shape), data, bool(value.requires_grad)]


class Decoder:
    """Turn a node and its buffers back into a value; everything is checked, nothing is trusted.

    Parameters
    ----------
    buffers : sequence of bytes
        Buffers of the frame. Each may be used once, so a small frame cannot grow when decoded.
    resolve : callable
        Called with every node of a kind that this class does not know.
    """

    def __init__(self, buffers: Sequence[bytes], resolve: Resolver) -> None:
        self._buffers: list[bytes | None] = list(buffers)
        self._resolve = resolve
        self._nodes = 0
        self._made: list[Any] = []

    def decode(self, node: Node) -> Any:
        """Return the value of `node`.

        Raises
        ------
        ProtocolError
            If the node is malformed.
        """
        try:
            return self._decode(node, 0)
        except ProtocolError:
            raise
        except (
            TypeError,
            ValueError,
            KeyError,
            IndexError,
            AttributeError,
            OverflowError,
            ArithmeticError,
            RecursionError,
            SyntaxError,
        ) as error:
            raise ProtocolError(f"malformed value ({type(error).__name__})") from None

    def _take(self, index: Any) -> bytes:
        if type(index) is not int or not 0 <= index < len(self._buffers):
            raise ProtocolError("no such buffer")
        data = self._buffers[index]
        if data is None:
            raise ProtocolError("a buffer was used twice")
        self._buffers[index] = None
        return data

    def _items(self, items: Any, depth: int) -> list[Any]:
        if type(items) is not list:
            raise ProtocolError("a list was expected")
        return [self._decode(item, depth) for item in items]

    def _decode(self, node: Node, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ProtocolError("too many or too deeply nested parts")
        if node is None or type(node) in (bool, int, float, str):
            return node
        if type(node) is not list or not node or type(node[0]) is not str:
            raise ProtocolError("not a value")
        kind, rest, deeper = node[0], node[1:], depth + 1
        if kind in ("list", "dict", "set"):
            return self._container(kind, rest, deeper)
        if kind == "same":
            number = self._only(rest)
            if type(number) is not int or not 0 <= number < len(self._made):
                raise ProtocolError("nothing was there before")
            return self._made[number]
        if kind == "tuple":
            return tuple(self._items(self._only(rest), deeper))
        if kind == "frozenset":
            return frozenset(self._items(self._only(rest), deeper))
        if kind == "type":
            if type(name := self._only(rest)) is not str or name not in _TYPES:
                raise ProtocolError("not a type")
            return _TYPES[name]
        if kind == "member":
            name, member = self._exactly(rest, 2)
            known = self._class_of(name)
            if not (isinstance(known, type) and issubclass(known, Enum)):
                raise ProtocolError("not a member")
            return known(member) if type(member) is int else known[member]
        if kind == "instance":
            name, state, methods = self._exactly(rest, 3)
            return self._instance(name, state, methods, deeper)
        if kind == "value":
            name, items = self._exactly(rest, 2)
            return self._value(name, items, deeper)
        if kind in ("array", "scalar"):
            return self._array(kind, rest)
        if kind == "texts":
            return self._texts(*self._exactly(rest, 2))
        if kind == "int":
            (digits,) = self._exactly(rest, 1)
            if type(digits) is not str or not re.fullmatch(r"-?[0-9a-f]{1,20000}", digits):
                raise ProtocolError("not an integer")
            return int(digits, 16)
        if kind == "complex":
            real, imaginary = self._exactly(rest, 2)
            if type(real) is not float or type(imaginary) is not float:
                raise ProtocolError("not a complex number")
            return complex(real, imaginary)
        if kind == "bytes":
            return self._take(self._only(rest))
        if kind in ("slice", "range"):
            parts = self._items(self._only(rest), deeper)
            whole = [part for part in parts if part is not None]
            if len(parts) != 3 or any(type(part) is not int for part in whole):
                raise ProtocolError(f"not a {kind}")
            return slice(*parts) if kind == "slice" else range(*parts)
        if kind == "ellipsis":
            return Ellipsis
        if kind == "namedtuple":
            name, fields, items = self._exactly(rest, 3)
            return self._namedtuple(name, fields, items, deeper)
        if kind == "dtype":
            return self._dtype(self._only(rest))
        if kind == "generator":
            name, state = self._exactly(rest, 2)
            return self._generator(name, state, deeper)
        if kind == "tensor":
            return self._tensor(*self._exactly(rest, 4))
        if kind == "torch_dtype":
            (name,) = self._exactly(rest, 1)
            if name not in _TORCH_DTYPES or _torch() is None:
                raise ProtocolError("not a torch dtype")
            return getattr(_torch(), name)
        return self._resolve(node)

    def _container(self, kind: str, rest: list[Any], depth: int) -> Any:
        """A list, dict or set, which later nodes may mean again: what is one object stays one."""
        made: Any = {"list": list, "dict": dict, "set": set}[kind]()
        self._made.append(made)
        items = self._only(rest)
        if kind == "list":
            made.extend(self._items(items, depth))
        elif kind == "set":
            made.update(self._items(items, depth))
        else:
            if type(items) is not list or any(type(p) is not list or len(p) != 2 for p in items):
                raise ProtocolError("a list of pairs was expected")
            made.update((self._decode(k, depth), self._decode(v, depth)) for k, v in items)
        return made

    def _instance(self, name: Any, state: Any, methods: Any, depth: int) -> Any:
        kind = self._class_of(name) if type(name) is str else None
        if kind is None or issubclass(kind, Enum):  # of which no instance is new
            raise ProtocolError("not a class of the instructor's")
        made = object.__new__(kind)
        self._made.append(made)
        attributes, more = self._decode(state, depth), self._decode(methods, depth)
        self.fill(made, attributes)
        self._lend(made, more)
        return made

    def fill(self, made: Any, attributes: dict[str, Any]) -> None:
        """Give an instance of the instructor's class its attributes."""
        kind = type(made)
        for word, value in attributes.items():
            if not _IDENTIFIER.fullmatch(word.lstrip("_")) or word.startswith("__"):
                raise ProtocolError("not an attribute")
            there = getattr(kind, word, None)
            if callable(there):
                raise ProtocolError("an attribute that would hide a method")
            if hasattr(there, "__get__"):
                continue  # such as a cached property, which is computed anew
            vars(made)[word] = self._member(word, value)

    def _class_of(self, name: str) -> Any:
        """Return the class that both sides have under this name, or ``None``."""
        return None

    def _lend(self, made: Any, methods: Any) -> None:
        """Let an instance call the methods of the one that it is a copy of."""

    def _tuple_class(self, name: str, fields: list[str]) -> Any:
        known = self._class_of(name)
        if known is not None and getattr(known, "_fields", None) == tuple(fields):
            return known
        return namedtuple(name, fields)

    def _value(self, name: Any, items: Any, depth: int) -> Any:
        if type(name) is not str or name not in _VALUES:
            raise ProtocolError("not a value")
        parts, kinds = self._items(items, depth), _VALUES[name][3]
        if len(parts) != len(kinds) or not all(map(isinstance, parts, kinds)):
            raise ProtocolError(f"not a {name}")
        return _VALUES[name][2](*parts)

    @staticmethod
    def _exactly(parts: list[Any], count: int) -> list[Any]:
        if len(parts) != count:
            raise ProtocolError("wrong number of parts")
        return parts

    def _only(self, parts: list[Any]) -> Any:
        return self._exactly(parts, 1)[0]

    @staticmethod
    def _shape(shape: Any) -> tuple[int, ...]:
        if type(shape) is not list or len(shape) > MAX_DIMENSIONS:
            raise ProtocolError("not a shape")
        if any(type(size) is not int or not 0 <= size < 2**48 for size in shape):
            raise ProtocolError("not a shape")
        return tuple(shape)

    @staticmethod
    def _dtype(code: Any) -> np.dtype[Any]:
        if type(code) is not str or not _NUMERIC.fullmatch(code):
            raise ProtocolError("not a numeric dtype")
        return np.dtype(code)

    @staticmethod
    def _count(shape: tuple[int, ...]) -> int:
        count = 1
        for size in shape:
            count *= size
        return count

    def _array(self, kind: str, rest: list[Any]) -> Any:
        if kind == "scalar":
            code, index = self._exactly(rest, 2)
            shape: tuple[int, ...] = ()
        else:
            code, listed, index = self._exactly(rest, 3)
            shape = self._shape(listed)
        dtype, data = self._dtype(code), self._take(index)
        if self._count(shape) * dtype.itemsize != len(data):
            raise ProtocolError("size and shape do not agree")
        if dtype.kind == "b":  # a forged boolean may hold any byte; counting it would miscount
            array = np.frombuffer(data, np.uint8).reshape(shape) != 0
        else:
            array = np.frombuffer(data, dtype).reshape(shape).copy()
        return np.asarray(array)[()] if kind == "scalar" else np.asarray(array)

    def _texts(self, listed: Any, texts: Any) -> Any:
        shape = self._shape(listed)
        if type(texts) is not list or any(type(text) is not str for text in texts):
            raise ProtocolError("not texts")
        self._nodes += len(texts)
        longest = max(map(len, texts), default=1)
        if len(texts) != self._count(shape) or 4 * max(longest, 1) * len(texts) > MAX_BUFFERS:
            raise ProtocolError("size and shape do not agree")
        return np.array(texts, dtype=f"<U{max(longest, 1)}").reshape(shape)

    def _namedtuple(self, name: Any, fields: Any, items: Any, depth: int) -> Any:
        if type(fields) is not list or not 0 < len(fields) <= 64 or len(set(fields)) != len(fields):
            raise ProtocolError("not a named tuple")
        for word in (name, *fields):
            if type(word) is not str or not _IDENTIFIER.fullmatch(word) or keyword.iskeyword(word):
                raise ProtocolError("not a named tuple")
        values = self._items(items, depth)
        if len(values) != len(fields):
            raise ProtocolError("not a named tuple")
        return self._tuple_class(name, fields)(*map(self._member, fields, values))

    def _member(self, name: str, value: Any) -> Any:
        """Return what a field or an attribute holds; a subclass may replace it."""
        return value

    def _generator(self, name: Any, node: Any, depth: int) -> np.random.Generator:
        if name not in ("PCG64", "PCG64DXSM", "Philox", "SFC64", "MT19937"):
            raise ProtocolError("not a bit generator")
        bits = getattr(np.random, name)(0)
        state = self._decode(node, depth)
        # NumPy takes these positions in its arrays of random bits as they are.
        position = state["state"].get("pos", 0), state.get("buffer_pos", 0)
        if not (0 <= position[0] <= 624 and 0 <= position[1] <= 4):
            raise ProtocolError("not a state of a bit generator")
        bits.state = state
        return np.random.Generator(bits)

    def _tensor(self, name: Any, listed: Any, index: Any, gradient: Any) -> Any:
        torch = _torch()
        if torch is None or type(name) is not str or name not in _TORCH_DTYPES:
            raise ProtocolError("not a tensor")
        shape, data = self._shape(listed), self._take(index)
        dtype = np.dtype(_TORCH_DTYPES[name])
        if self._count(shape) * dtype.itemsize != len(data):
            raise ProtocolError("size and shape do not agree")
        tensor = torch.from_numpy(np.frombuffer(data, dtype).reshape(shape).copy())
        if name == "bool":
            tensor = tensor != 0
        elif name == "bfloat16":
            tensor = tensor.view(torch.bfloat16)
        if gradient is True and (tensor.is_floating_point() or tensor.is_complex()):
            tensor.requires_grad_()
        return tensor


class Connection:
    """Frames over a stream socket, with absolute deadlines.

    Parameters
    ----------
    sock : socket.socket
        A connected stream socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    def send(
        self, header: Any, buffers: Sequence[bytes] = (), deadline: float | None = None
    ) -> None:
        """Send one frame before `deadline` (of `time.monotonic`).

        Raises
        ------
        TimeoutError
            If the other side does not take it in time.
        """
        text = json.dumps([header, [len(data) for data in buffers]]).encode()
        if len(text) > MAX_HEADER:
            raise NotSendableError("the value is too large")
        for part in (struct.pack(">I", len(text)) + text, *buffers):
            self._set_timeout(deadline)
            self.socket.sendall(part)

    def receive(self, deadline: float | None = None) -> tuple[Any, list[bytes]]:
        """Receive one frame.

        Returns
        -------
        tuple
            The header and its buffers.

        Raises
        ------
        ProtocolError
            If the frame is malformed or too large.
        EOFError
            If the other side closed the connection.
        TimeoutError
            If the frame is not complete at `deadline`.
        """
        (size,) = struct.unpack(">I", self._read(4, deadline))
        if size > MAX_HEADER:
            raise ProtocolError("the header of a frame is too large")
        text = self._read(size, deadline)
        try:
            frame = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"not JSON ({type(error).__name__})") from None
        if type(frame) is not list or len(frame) != 2 or type(frame[1]) is not list:
            raise ProtocolError("not a frame")
        header, sizes = frame
        if len(sizes) > MAX_BUFFER_COUNT or any(type(n) is not int or n < 0 for n in sizes):
            raise ProtocolError("not a frame")
        if sum(sizes) > MAX_BUFFERS:
            raise ProtocolError("the buffers of a frame are too large")
        return header, [self._read(n, deadline) for n in sizes]

    def _set_timeout(self, deadline: float | None) -> None:
        if deadline is None:
            self.socket.settimeout(None)
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)

    def _read(self, size: int, deadline: float | None) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._set_timeout(deadline)
            part = self.socket.recv(min(1 << 20, size - len(data)))
            if not part:
                raise EOFError("the other process ended")
            data += part
        return bytes(data)
