"""Call a student's function and turn whatever it does into something that can be compared."""

from __future__ import annotations

import builtins
import copy
import io
import itertools
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnncourse.exercises.spec import Case, Exercise

Leaves = dict[str, Any]
"""Name of each value inside a result, as in ``"clipped['W_hh']"``, and the value as an array."""

MAX_ITEMS = 100_000
PRINTED_LINES = 20
SHOWN_NAMES = 5
NO_ITERATORS = ("set", "frozenset", "dict", "str", "bytes", "ndarray", "tuple", "Tensor")
NOT_WRITTEN = "is not written yet"


class TimeLimitError(BaseException):
    """The function took too long; no Exception, so that ``except Exception`` does not stop it."""


@dataclass
class Outcome:
    """What one case came to.

    Attributes
    ----------
    leaves : dict or None
        The result taken apart like the reference's; None if that is impossible.
    raw : dict or None
        The result taken apart by its own structure, where that is another one.
    problem : str
        One sentence on why the result cannot be compared; empty if it can.
    problem_kind : str
        What identifies the problem, for the comparison with known mistakes.
    modified : tuple of str
        Arguments that the function changed.
    detail : str
        Text that must not be shown for hidden cases.
    result : object
        What the function returned.
    """

    leaves: Leaves | None = None
    raw: Leaves | None = None
    problem: str = ""
    problem_kind: str = ""
    modified: tuple[str, ...] = ()
    detail: str = ""
    result: Any = None
    slow: bool = False


class _Output(io.StringIO):
    """Keeps the first lines that a function prints and counts the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = 0

    def write(self, text: str) -> int:
        if self.lines < PRINTED_LINES and self.tell() < 4000:
            super().write(text)
        self.lines += text.count("\n")
        return len(text)


def is_remote(value: object) -> bool:
    """Say whether `value` stands for an object that stayed in another process."""
    return getattr(type(value), "is_remote_object", False) is True


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`TimeLimitError` after `seconds`, where the platform and the thread allow it."""
    usable = (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getitimer(signal.ITIMER_REAL)[0] == 0
    )
    if not usable:
        yield
        return

    def stop(*_: object) -> None:
        raise TimeLimitError

    previous = signal.signal(signal.SIGALRM, stop)
    # repeated, because a bare `except:` in a loop swallows the first
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@dataclass
class Recorder:
    """Calls a function with copies of the arguments and notes which of them it changed."""

    function: Callable[..., Any]
    names: tuple[str, ...]
    modified: list[str] = field(default_factory=list)

    def __call__(self, *args: Any) -> Any:
        given = tuple(_copy(a) for a in args)
        if is_remote(self.function) and hasattr(self.function, "call_and_return_arguments"):
            result, after, _ = self.function.call_and_return_arguments(*given)
        else:
            result, after = self.function(*given), given
        for i, (before, now) in enumerate(zip(args, after, strict=False)):
            name = self.names[i] if i < len(self.names) else f"argument {i + 1}"
            if name not in self.modified and not _same(before, now):
                self.modified.append(name)
        return result


def _copy(value: Any) -> Any:
    """Return a deep copy of data; functions are passed on as they are."""
    if isinstance(value, np.ndarray):
        return value.copy()
    return value if callable(value) else copy.deepcopy(value)


def _same(before: Any, now: Any) -> bool:
    """Say whether an argument is still what it was."""
    if callable(before) or isinstance(before, np.random.Generator):
        return True
    if isinstance(before, np.ndarray):
        return (
            isinstance(now, np.ndarray)
            and before.shape == now.shape
            and before.dtype == now.dtype
            # moved and moved back leaves a rounding error, which is no change
            and (
                np.array_equal(now, before)
                or np.allclose(now, before, rtol=1e-12, atol=1e-14, equal_nan=True)
            )
        )
    if isinstance(before, Mapping):
        return (
            isinstance(now, Mapping)
            and before.keys() == now.keys()
            and all(_same(before[k], now[k]) for k in before)
        )
    if isinstance(before, list | tuple):
        return (
            isinstance(now, list | tuple)
            and len(before) == len(now)
            and all(map(_same, before, now))
        )
    return type(before) is type(now) and bool(before == now or before != before)


def run_case(
    exercise: Exercise,
    function: Callable[..., Any],
    case: Case,
    *,
    like: Any = None,
    limit: float | None = None,
) -> tuple[Outcome, str]:
    """Call `function` on a case and return the outcome and what it printed.

    Parameters
    ----------
    exercise : Exercise
    function : callable
        The student's function, a proxy of it, the reference or a known mistake.
    case : Case
    like : object, optional
        The reference's result, whose nesting tells how to take the result apart. Without it the
        result is taken as its own model.
    limit : float, optional
        Time limit in seconds.

    Returns
    -------
    outcome : Outcome
    printed : str
        The first lines that the function printed.
    """
    recorder = Recorder(function, exercise.argument_names)
    printed = _Output()
    outcome = Outcome()
    local = not is_remote(function)
    try:
        with (
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
            redirect_stdout(printed) if local else nullcontext(),
            time_limit(limit) if limit and local else nullcontext(),
        ):
            warnings.simplefilter("ignore")
            if exercise.call is not None:
                result = exercise.call(recorder, *case.args)
            else:
                result = recorder(*case.args)
            result = collect_iterator(exercise, result)
    except (Exception, TimeLimitError, SystemExit) as error:
        # anything else, such as the end of the student's process, is the grader's to report
        _note_error(outcome, exercise.name, error)
    else:
        _take_apart(outcome, exercise, result, result if like is None else like)
    outcome.modified = tuple(recorder.modified)
    text = printed.getvalue()
    if printed.lines > PRINTED_LINES:
        text += f"… ({exercise.name} printed {printed.lines} lines; the first ones are shown)\n"
    return outcome, text


def collect_iterator(exercise: Exercise, result: Any) -> Any:
    """Return the items of an iterator as a list where the exercise asks for an iterator."""
    if not exercise.iterator or result is None or isinstance(result, list):
        return result
    kind = str(getattr(result, "remote_type_name", type(result).__name__))
    if kind in NO_ITERATORS or not hasattr(type(result), "__iter__"):
        return result
    items = list(itertools.islice(iter(result), MAX_ITEMS + 1))
    if len(items) > MAX_ITEMS:
        raise ValueError(f"the iterator does not end after {MAX_ITEMS} items")
    return items


def _note_error(outcome: Outcome, name: str, error: BaseException) -> None:
    kind = type(error).__name__
    outcome.problem_kind = f"raised {kind}"
    if isinstance(error, NotImplementedError):
        outcome.problem = f"{name} {NOT_WRITTEN}."
    elif isinstance(error, RecursionError):
        outcome.problem = (
            f"{name} called itself until Python gave up (RecursionError). "
            "It needs a case in which it stops, or a loop."
        )
    elif isinstance(error, TimeLimitError):
        outcome.slow = True
        outcome.problem_kind = "too slow"
        outcome.problem = f"{name} did not finish in time. Look for a loop that never ends."
    elif isinstance(error, MemoryError):
        outcome.problem = f"{name} asked for more memory than there is (MemoryError)."
    elif isinstance(error, SystemExit):
        outcome.problem = f"{name} tried to end the program (SystemExit); let it return a result."
    else:
        # the name of a student's own class could carry anything, so only Python's own are repeated
        shown = kind if getattr(builtins, kind, None) is type(error) else "an exception of its own"
        if isinstance(error, np.linalg.LinAlgError):
            shown = "LinAlgError"
        outcome.problem = f"{name} raised {shown}."
        # on one line, since a line of its own would pass for words of the check
        said = " ".join(str(error)[:500].split())
        outcome.detail = f"{kind}: {said}{_line_of(error)}"


def _line_of(error: BaseException) -> str:
    """Return the line of the student's code in which an exception arose, if it is known."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "ipykernel" in frame.filename or frame.filename.startswith(("<ipython", "<cell")):
            return f"\n  in line {frame.lineno} of the cell: {frame.line}" if frame.line else ""
    return ""


def _take_apart(outcome: Outcome, exercise: Exercise, result: Any, like: Any) -> None:
    """Fill in leaves, or the problem."""
    leaves: Leaves = {}
    try:
        outcome.result = _flatten(result, like, exercise.output_names, leaves)
    except _NotComparable as reason:
        outcome.problem_kind = reason.kind
        outcome.problem = f"{exercise.name} returned {reason}"
        outcome.detail = reason.detail
        with suppress(_NotComparable):  # a mistake in the structure is recognised by its content
            raw: Leaves = {}
            names = tuple(map(str, range(len(result)))) if isinstance(result, tuple) else ("",)
            _flatten(result, result, names, raw)
            outcome.raw = raw
        return
    outcome.leaves = leaves


class _NotComparable(Exception):
    def __init__(self, kind: str, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.detail = detail


def _flatten(value: Any, like: Any, names: tuple[str, ...], leaves: Leaves) -> Any:
    """Add the leaves of `value` to `leaves`, with the nesting of the reference's result `like`.

    Returns the same as plain data: nothing of a student's own type is left in it.
    """
    name = names[0]
    if value is None:
        inside = "" if like is None or len(leaves) == 0 else f" for {name}"
        raise _NotComparable("None", f"None{inside}; perhaps a `return` is missing.")
    if is_remote(value):
        raise _strange(str(getattr(value, "remote_type_name", "object")))
    if isinstance(like, Mapping):
        return _flatten_dict(value, like, name, leaves)
    if isinstance(like, tuple) or (isinstance(like, list) and not _is_numbers(like)):
        return _flatten_sequence(value, like, names, leaves)
    array = leaves[name] = _as_array(value, like)
    return array.item() if type(like) in (bool, int, float, str) and not array.ndim else array


def _flatten_dict(value: Any, like: Mapping[Any, Any], name: str, leaves: Leaves) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        if not isinstance(value, np.ndarray | np.generic | list | tuple | float | int | str):
            raise _strange(type(value).__name__, type(value).__module__)
        kind = "an array" if isinstance(value, np.ndarray) else f"a {_plain_type(value)}"
        raise _NotComparable("not a dict", f"{kind} where a dict is expected.")
    missing = [str(key) for key in like if key not in value]
    if missing:
        names = _listed([_key_text(key) for key in like if key not in value])
        text = f"a dict without the key{'s' if len(missing) > 1 else ''} {names}."
        raise _NotComparable(f"without {missing}", text)
    if len(value) > len(like):
        extra = [" ".join(_key_text(key)[:40].split()) for key in value if key not in like]
        count = "a key that does" if len(extra) == 1 else f"{len(extra)} keys that do"
        text = f"a dict with {count} not belong there."
        raise _NotComparable("extra keys", text, f"not expected: {_listed(extra)}")
    return {
        key: _flatten(value[key], like[key], (f"{name}[{_key_text(key)}]",), leaves) for key in like
    }


def _key_text(key: Any) -> str:
    """Return how a key is shown: NumPy's numbers as plain ones, which they equal."""
    if isinstance(key, tuple):
        return repr(tuple(part.item() if isinstance(part, np.generic) else part for part in key))
    return repr(key.item() if isinstance(key, np.generic) else key)


def _listed(names: list[str]) -> str:
    """Join names, and count those beyond the first few."""
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _flatten_sequence(
    value: Any, like: tuple[Any, ...] | list[Any], names: tuple[str, ...], leaves: Leaves
) -> tuple[Any, ...] | list[Any]:
    fixed = isinstance(like, tuple)
    array = ""
    if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind in "biuf":
        if fixed:
            wanted = f"{len(like)} values ({', '.join(names)})"
            array = f"one array of shape {value.shape} where {wanted} are expected."
        value = list(value)
    if not isinstance(value, list | tuple):
        wanted = f"{len(like)} values ({', '.join(names)})" if fixed else "a list"
        if isinstance(value, np.ndarray | np.generic | float | int | Mapping):
            kind = "a dict" if isinstance(value, Mapping) else "one value"
            raise _NotComparable("one value", f"{kind} where {wanted} are expected.")
        raise _strange(type(value).__name__, type(value).__module__)
    if len(value) != len(like):
        wanted = f"{len(like)} ({', '.join(names)})" if len(names) == len(like) else str(len(like))
        count = f"{len(value)} value{'s' if len(value) != 1 else ''}, but {wanted} are expected."
        raise _NotComparable(f"{len(value)} items", array or count)
    labels = (
        names if len(names) == len(like) else tuple(f"{names[0]}[{i}]" for i in range(len(like)))
    )
    items = [
        _flatten(item, template, (label,), leaves)
        for item, template, label in zip(value, like, labels, strict=True)
    ]
    return tuple(items) if fixed else items


def _is_numbers(items: list[Any]) -> bool:
    """Say whether a list is a row of numbers, which may as well be an array."""
    return all(isinstance(item, int | float | np.number) for item in items)


def _as_array(value: Any, like: Any) -> np.ndarray[Any, Any]:
    """Return a result as a plain array, or raise with the reason why it is none."""
    text_expected = np.asarray(like).dtype.kind in "US"
    if isinstance(value, str | bytes) and text_expected:
        return np.asarray(value)
    if isinstance(value, Mapping):
        raise _NotComparable("dict", "a dict where an array is expected.")
    if not isinstance(
        value, np.ndarray | np.generic | list | tuple | float | int | complex | str | bytes
    ):
        raise _strange(type(value).__name__, type(value).__module__)
    if isinstance(value, list | tuple):
        for item in value:
            if item is None or is_remote(item) or type(item).__module__.startswith("torch"):
                inner = _NotComparable("None", "None inside a list.") if item is None else None
                raise inner or _strange(
                    str(getattr(item, "remote_type_name", type(item).__name__)),
                    type(item).__module__,
                )
    try:
        array = np.array(value, subok=False)
    except Exception:
        if isinstance(value, tuple):
            raise _several(len(value)) from None
        text = "a list whose rows differ in length, so it is no array."
        raise _NotComparable("ragged", text) from None
    if isinstance(value, tuple) and array.shape != np.shape(like):
        raise _several(len(value))
    if array.dtype.kind in "US" and not text_expected:
        raise _NotComparable("text", "text where numbers are expected.")
    if array.dtype.kind == "O":
        raise _strange("ndarray")
    if array.dtype.kind == "c":
        text = "complex numbers; the answer is real, so complex numbers must not reach the result."
        raise _NotComparable("complex", text)
    if array.dtype.kind not in "biufU":
        raise _NotComparable("dtype", "an array that does not hold numbers.")
    return array


def _several(count: int) -> _NotComparable:
    return _NotComparable(f"{count} items", f"{count} values, but one is expected.")


def _plain_type(value: Any) -> str:
    kind = type(value).__name__
    return kind if getattr(builtins, kind, None) is type(value) else "value of another type"


def _strange(kind: str, module: str = "") -> _NotComparable:
    """Return the sentence for a result that is no number, array, tuple or dict."""
    if kind in ("generator", "map", "zip", "filter", "range", "list_iterator", "dict_values"):
        text = f"a {kind} object instead of the values themselves; collect them and use `return`."
        return _NotComparable("generator", text)
    if kind == "Tensor" or module.startswith("torch"):
        text = "a PyTorch tensor; return a NumPy array (`.detach().numpy()`)."
        return _NotComparable("tensor", text)
    if kind == "ndarray":
        text = "an array of Python objects (dtype object); return an array of numbers."
        return _NotComparable("object array", text)
    if kind in ("function", "method", "type", "builtin_function_or_method"):
        return _NotComparable("function", "a function or class; call it first.")
    if kind in ("set", "frozenset"):
        return _NotComparable("set", "a set, which has no order.")
    return _NotComparable("object", "an object that is neither a number nor an array.")
