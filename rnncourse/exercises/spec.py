"""What an exercise is: a reference, inputs to compare it on, and the mistakes students make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

Args = tuple[Any, ...]
Function = Callable[..., Any]

AXES = ("T", "B", "D", "H", "V")
STANDARD_SIZES = (
    {"T": 5, "B": 3, "D": 2, "H": 4, "V": 6},
    {"T": 4, "B": 6, "D": 7, "H": 3, "V": 5},
    {"T": 3, "B": 1, "D": 4, "H": 2, "V": 5},
    {"T": 1, "B": 2, "D": 5, "H": 3, "V": 4},
    {"T": 3, "B": 3, "D": 3, "H": 3, "V": 3},
)


@dataclass(frozen=True)
class Case:
    """One call that a check makes.

    Attributes
    ----------
    args : tuple
        The arguments, by position. A check hands out copies.
    note : str
        What is special about the case, as in ``"one sequence is masked out"``; shown in feedback.
    sizes : dict
        Sizes of the axes, where they are known.
    drawn_for : dict
        All sizes for which the arguments were drawn; empty for a special case.
    """

    args: Args
    note: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    drawn_for: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Mistake:
    """A wrong solution that students write, and what a teacher would say about it.

    Attributes
    ----------
    id : str
        Short and stable, as in ``"only-last-step"``; unique within the exercise.
    title : str
        What the solution does wrong, in one line.
    hint : str
        Points to the idea without giving the code away.
    codes : list of callable
        The wrong function itself, in every form that gives other numbers for the same mistake.
    section : str
        Where to reread, as ``"chapter: heading"``; empty for the section of the exercise.
    """

    id: str
    title: str
    hint: str
    codes: list[Function]
    section: str = ""


@dataclass(frozen=True)
class Variant:
    """A correct solution that looks unusual; no check may reject it."""

    id: str
    code: Function


@dataclass(eq=False)
class Exercise:
    """One graded function.

    Attributes
    ----------
    name : str
        Name of the function.
    reference : callable
        The library's function.
    section : str
        Chapter file and heading to reread, as ``"03-bptt: The sum over time"``.
    axes : dict
        Axes of each argument in order, as in ``{"x": "T B D", "lr": ""}``; an empty string stands
        for anything that is not an array of known axes.
    returns : tuple of str
        Name and axes of each output, as in ``("dx: T B D", "dh0: B H")``; only the name for
        others.
    draw : callable, optional
        ``draw(rng, s)`` returns the arguments for sizes ``s.T, s.B, s.D, s.H, s.V``. Without it,
        every argument is a normal array of its axes.
    special : callable, optional
        ``special(rng, s)`` yields further :class:`Case` objects, or bare argument tuples.
    sizes : sequence of dict, optional
        Sizes for `draw`; the default covers different sizes, B = 1, T = 1 and square weights.
    rtol, atol : float
        Tolerance of the comparison in float64.
    verify : callable, optional
        ``verify(result, *args)`` returns None, or one sentence that says which property is hurt.
        It replaces the comparison with the reference where the right answer is not unique.
    fingerprint : callable, optional
        ``fingerprint(result, *args)`` returns what identifies a mistake where results are random.
    call : callable, optional
        ``call(function, *args)`` makes the calls of one case and returns what is compared, for
        example all items of an iterator or many samples.
    iterator : bool
        Whether the function returns an iterator, whose items are then collected.
    float32 : bool
        Whether a solution may compute in single precision.
    """

    name: str
    reference: Function
    section: str
    axes: Mapping[str, str]
    returns: tuple[str, ...]
    draw: Callable[[np.random.Generator, Any], Args] | None = None
    special: Callable[[np.random.Generator, Any], Iterable[Case | Args]] | None = None
    sizes: Sequence[Mapping[str, int]] = STANDARD_SIZES
    rtol: float = 1e-4
    atol: float = 1e-6
    verify: Callable[..., str | None] | None = None
    fingerprint: Callable[..., Any] | None = None
    call: Callable[..., Any] | None = None
    iterator: bool = False
    float32: bool = True
    mistakes: list[Mistake] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=list)
    assignment: str = ""

    def mistake(
        self, id: str, title: str, hint: str, section: str = ""
    ) -> Callable[[Function], Function]:
        """Return a decorator that adds a wrong function to the bank."""
        if any(known.id == id for known in self.mistakes):
            raise ValueError(f"{self.name} already has a mistake {id!r}")
        entry = Mistake(id, title, hint, [], section)
        self.mistakes.append(entry)
        return self._adder(entry)

    def form(self, id: str) -> Callable[[Function], Function]:
        """Return a decorator that adds another form of a mistake that is already in the bank."""
        return self._adder(next(known for known in self.mistakes if known.id == id))

    def _adder(self, entry: Mistake) -> Callable[[Function], Function]:
        def add(code: Function) -> Function:
            entry.codes.append(code)
            return code

        return add

    def variant(self, id: str) -> Callable[[Function], Function]:
        """Return a decorator that adds a correct but unusual solution."""
        if any(known.id == id for known in self.variants):
            raise ValueError(f"{self.name} already has a variant {id!r}")

        def add(code: Function) -> Function:
            self.variants.append(Variant(id, code))
            return code

        return add

    @property
    def argument_names(self) -> tuple[str, ...]:
        """Names of the arguments, in order."""
        return tuple(self.axes)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(text.split(":")[0].strip() for text in self.returns)

    @property
    def used_axes(self) -> tuple[str, ...]:
        """Axes of the course's notation that the arguments or outputs have."""
        outputs = (text.partition(":")[2] for text in self.returns)
        letters = {a for text in (*self.axes.values(), *outputs) for a in text.split()}
        return tuple(a for a in AXES if a in letters)

    def arguments(self, rng: np.random.Generator, sizes: Mapping[str, int]) -> Args:
        """Draw one set of arguments for the given sizes."""
        if self.draw is not None:
            return self.draw(rng, SimpleNamespace(**sizes))
        return tuple(
            (weights if name.startswith("W") else normal)(rng, *(sizes[a] for a in axes.split()))
            for name, axes in self.axes.items()
        )

    def cases(self, rng: np.random.Generator, fresh_sizes: bool = False) -> Iterator[Case]:
        """Yield the calls of one check.

        Parameters
        ----------
        rng : numpy.random.Generator
        fresh_sizes : bool
            Whether to draw the sizes too, keeping what is special about them.
        """
        used = self.used_axes
        seen = set()
        for template in self.sizes:
            sizes = redraw_sizes(rng, template) if fresh_sizes else dict(template)
            key = tuple(sizes.get(a) for a in used)
            if key in seen:
                continue
            seen.add(key)
            shown = {a: n for a, n in sizes.items() if a in used}
            yield Case(self.arguments(rng, sizes), sizes=shown, drawn_for=sizes)
        if self.special is not None:
            first = redraw_sizes(rng, self.sizes[0]) if fresh_sizes else dict(self.sizes[0])
            for case in self.special(rng, SimpleNamespace(**first)):
                yield case if isinstance(case, Case) else Case(tuple(case))

    def twin(self, case: Case, rng: np.random.Generator) -> Case:
        """Return a case with the sizes of `case` and other numbers."""
        args = self.arguments(rng, case.drawn_for) if case.drawn_for else case.args
        return Case(args, case.note, case.sizes, case.drawn_for)


def redraw_sizes(rng: np.random.Generator, template: Mapping[str, int]) -> dict[str, int]:
    """Draw new sizes: ones stay 1, equal ones stay equal, different ones stay different.

    Examples
    --------
    >>> redraw_sizes(np.random.default_rng(0), {"T": 1, "B": 3, "D": 4, "H": 3})["T"]
    1
    """
    values = sorted({n for n in template.values() if n > 1})
    pool = np.arange(2, max(9, 2 + len(values)))
    new = dict(zip(values, rng.permutation(pool)[: len(values)].tolist(), strict=True))
    sizes = {axis: 1 if n == 1 else new[n] for axis, n in template.items()}
    if sizes.get("T", 1) == 2:  # two steps hide mistakes that need a middle step
        swap = next((a for a, n in sizes.items() if n > 3), None)
        if swap is None:
            return {axis: 4 if n == 2 else n for axis, n in sizes.items()}
        other = sizes[swap]
        exchange = {2: other, other: 2}
        sizes = {axis: exchange.get(n, n) for axis, n in sizes.items()}
    return sizes


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a standard normal array.

    Examples
    --------
    >>> normal(np.random.default_rng(0), 4, 2).shape
    (4, 2)
    """
    return rng.standard_normal(shape)


def weights(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a normal array whose rows have a norm near 0.7, so that tanh does not saturate.

    Examples
    --------
    >>> weights(np.random.default_rng(0), 4, 2).shape
    (4, 2)
    """
    return rng.standard_normal(shape) * (0.7 * shape[-1] ** -0.5)
