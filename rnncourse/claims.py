"""The claims ledger: no statement of the course without evidence that the build checks.

A chapter states a claim where the evidence has just been computed::

    from rnncourse.claims import cite, claim, number

    claim(
        "clip-keeps-direction",
        "Clipping by global norm leaves the gradient's direction unchanged",
        cosines,
        at_least=0.999999,
        seeds=20,
        fmt=".6f",
    )
    claim(
        "linear-rnn-bound",
        "The Jacobian product's norm never exceeds the product of norms",
        worst_ratio,
        at_most=1 + 1e-12,
        kind="proof",
    )
    cite(
        "vanishing-named",
        "Hochreiter analysed the vanishing gradient in 1991",
        source="hochreiter1991",
    )
    number("clip-threshold", threshold, ".2f")

A claim whose value misses its range raises :class:`ClaimFailed`, and with it the build fails. In
the book each claim becomes a small badge with the anchor ``claim-<id>`` and a row of the ledger
page, and the text takes its numbers from it: ``{glue:text}`clip-keeps-direction```.

What can be glued into the text:

``id``
    the value; for several values ``median (min to max)``
``id.min``, ``id.median``, ``id.max``
    of a claim with several values
``id.NAME``
    the entry NAME of a claim whose value is a mapping
``id.range``
    the range that the claim promises

The module needs neither IPython nor the book: in plain Python it checks and returns.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np

__all__ = ["Claim", "ClaimFailed", "cite", "claim", "format_number", "number"]

Kind = Literal["measured", "proof", "source"]

METADATA = "rnncourse_claim"
"""The key of an output's metadata under which the book's build finds claims in notebooks."""

_HIDDEN = "application/papermill.record/"  # myst-nb's prefix for values that are stored, not shown
_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PLAIN = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "−0123456789")
_registered: dict[str, str] = {}


class ClaimFailed(AssertionError):
    """A claim of the course does not hold, or is not stated as a claim must be."""


@dataclass(frozen=True)
class Claim:
    """A claim that has been checked.

    Attributes
    ----------
    id : str
        Its name, unique in the course.
    statement : str
        What is claimed, one line.
    value : float or list of float or dict of str to float, or None
        The evidence; None for a claim that rests on a source.
    text : str
        The value as the page prints it.
    range : str
        What the value had to satisfy, for example ``"≥ 0.99"``.
    seeds : int or None
        Over how many seeds the evidence was computed.
    source : str or None
        Key in the bibliography.
    kind : {"measured", "proof", "source"}
        Whether an experiment, a proof with a numerical check, or a primary source stands behind it.
    glued : dict of str to str
        The texts that a page can take over, by key.
    """

    id: str
    statement: str
    value: float | list[float] | dict[str, float] | None
    text: str
    range: str
    seeds: int | None
    source: str | None
    kind: Kind
    glued: dict[str, str] = field(repr=False)

    def _ipython_display_(self) -> None:
        """Show nothing: stating the claim has shown it, also at the end of a cell."""

    def to_html(self) -> str:
        """Return the badge that stands in the page."""
        facts = []
        if self.text:
            facts.append(f'<span class="claim-value">{_html(self.text)}</span>')
        if self.range:
            facts.append(f"checked: {_html(self.range)}")
        if self.seeds:
            facts.append(f"{self.seeds} seeds" if self.seeds > 1 else "1 seed")
        if self.kind == "proof":
            facts.append("proved")
        if self.source:
            facts.append(f'<span class="claim-source">{html.escape(self.source)}</span>')
        return (
            f'<p class="claim claim-{self.kind}" id="claim-{self.id}">'
            f'<span class="claim-mark" aria-hidden="true">✓</span> '
            f'<span class="claim-label">Claim</span> '
            f'<span class="claim-statement">{html.escape(self.statement)}.</span> '
            f'<span class="claim-facts">{" · ".join(facts)}</span></p>'
        )


def _html(text: str) -> str:
    """Return a text as HTML, with powers of ten as real superscripts."""
    return re.sub(
        "10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)",
        lambda power: f"10<sup>{power[1].translate(_PLAIN)}</sup>",
        html.escape(text),
    )


def format_number(value: float, fmt: str = ".3g") -> str:
    """Write a number as the text of the course prints numbers.

    A real minus sign, powers of ten instead of ``e`` notation, and no trailing ``e+00``.

    Parameters
    ----------
    value : float
        The number; an integer or boolean is fine.
    fmt : str, default ".3g"
        A format specification of Python, such as ``".2f"``, ``".1%"`` or ``",d"``.

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> format_number(-0.25, ".2f")
    '−0.25'
    >>> format_number(1.6e-12, ".1e")
    '1.6×10⁻¹²'
    >>> format_number(0.4372, ".0%")
    '44%'
    >>> format_number(1234567, ",d")
    '1,234,567'
    """
    text = format(int(value) if fmt.endswith("d") else float(value), fmt)
    if match := re.fullmatch(r"(-?)([\d.]+)e([+-]\d+)", text):
        sign, digits, exponent = match[1], match[2], int(match[3])
        power = f"10{str(exponent).translate(_SUPERSCRIPT)}"
        text = sign + (digits if exponent == 0 else f"{digits}×{power}")
    return "−" + text[1:] if text.startswith("-") else text


def claim(
    id: str,
    statement: str,
    value: Any,
    *,
    within: tuple[float, float] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    close_to: tuple[float, float] | None = None,
    seeds: int | None = None,
    source: str | None = None,
    kind: Kind = "measured",
    unit: str | None = None,
    fmt: str = ".3g",
) -> Claim:
    """State a claim, check its evidence, and show it.

    Parameters
    ----------
    id : str
        Lower-case words joined by hyphens; unique in the course, so begin it with the topic.
    statement : str
        What is claimed, one line, without a full stop.
    value : float, bool, array_like or mapping of str to float
        The evidence. Every entry of an array (one per seed, say) or of a mapping must satisfy the
        range; claim a mean or median if that is what is meant. A bool must be true and takes no
        range.
    within : (float, float), optional
        The value lies in this closed interval.
    at_least, at_most : float, optional
        The value is no less, no more than this. Both may be given.
    close_to : (float, float), optional
        A target and an absolute tolerance.
    seeds : int, optional
        Over how many seeds the evidence was computed; default for an array: none stated.
    source : str, optional
        Key in ``book/references.bib`` of a work that states the same.
    kind : {"measured", "proof"}, default "measured"
        "proof" when the text proves the statement and the value is a numerical check of it. For a
        claim that rests on a source alone use :func:`cite`.
    unit : str, optional
        Appended to the printed value.
    fmt : str, default ".3g"
        Format specification of the printed value, see :func:`format_number`.

    Returns
    -------
    Claim
        The checked claim; shown as a badge under IPython.

    Raises
    ------
    ClaimFailed
        If a value is outside the range or not finite, if there is nothing to check, or if the id is
        malformed or was used for another statement before.

    Examples
    --------
    >>> claim("tanh-slope", "The slope of tanh is never above one", [0.4, 1.0], at_most=1).text
    '0.7 (0.4 to 1)'
    >>> claim("tanh-positive", "The slope of tanh is positive", [0.4, -1.0], at_least=0)
    Traceback (most recent call last):
        ...
    rnncourse.claims.ClaimFailed: claim tanh-positive: entry 1 is -1, must be ≥ 0; ...
    """
    if kind not in ("measured", "proof"):
        raise ClaimFailed(
            f'claim {id}: kind is {kind!r}, must be "measured" or "proof"; see cite()'
        )
    promised = _promise(id, within, at_least, at_most, close_to, fmt)
    entries, plain = _entries(id, value)
    if isinstance(value, bool | np.bool_):
        if promised:
            raise ClaimFailed(f"claim {id}: a bool takes no range")
        if not value:
            raise ClaimFailed(f"claim {id}: {statement!r} does not hold")
        return _publish(Claim(id, statement, 1.0, "holds", "", seeds, source, kind, {id: "holds"}))
    if not promised:
        raise ClaimFailed(f"claim {id}: give within, at_least, at_most or close_to")
    for name, number_ in entries.items():
        label = "the value" if isinstance(plain, float) else f"entry {name}"
        if not math.isfinite(number_):
            raise ClaimFailed(f"claim {id}: {label} is {number_}, and {statement!r} needs a number")
        if not all(low <= number_ <= high for low, high, _ in promised):
            wanted = " and ".join(text for *_, text in promised)
            raise ClaimFailed(
                f"claim {id}: {label} is {number_:.6g}, must be {wanted}; {statement!r} fails"
            )

    suffix = f" {unit}" if unit else ""
    texts = {name: format_number(number_, fmt) + suffix for name, number_ in entries.items()}
    promise = " and ".join(text for *_, text in promised) + suffix
    glued = {f"{id}.range": promise}
    if isinstance(plain, float):
        text = texts["0"]
    elif isinstance(plain, dict):
        text = ", ".join(f"{name} {written}" for name, written in texts.items())
        glued |= {f"{id}.{name}": written for name, written in texts.items()}
    else:
        low, middle, high = (format_number(f(plain), fmt) for f in (np.min, np.median, np.max))
        text = f"{middle} ({low} to {high}){suffix}"
        glued |= {
            f"{id}.min": low + suffix,
            f"{id}.median": middle + suffix,
            f"{id}.max": high + suffix,
        }
    return _publish(
        Claim(id, statement, plain, text, promise, seeds, source, kind, {id: text} | glued)
    )


def cite(id: str, statement: str, *, source: str) -> Claim:
    """State a claim that rests on a primary source.

    Parameters
    ----------
    id, statement : str
        As for :func:`claim`.
    source : str
        Key in ``book/references.bib``; the build fails if it is not there.

    Returns
    -------
    Claim
        The claim; shown as a badge under IPython.

    Raises
    ------
    ClaimFailed
        If the id is malformed or was used for another statement before, or if `source` is empty.

    Examples
    --------
    >>> cite("elman-context", "Elman fed the hidden layer back as context", source="elman1990").kind
    'source'
    """
    if not source:
        raise ClaimFailed(f"claim {id}: name the source")
    return _publish(Claim(id, statement, None, "", "", None, source, "source", {}))


def number(key: str, value: float, fmt: str = ".3g", *, unit: str | None = None) -> None:
    """Make a computed number available to the text without claiming anything.

    Parameters
    ----------
    key : str
        The text refers to it as ``{glue:text}`key```; unique in the chapter.
    value : float
        The number.
    fmt : str, default ".3g"
        Format specification, see :func:`format_number`.
    unit : str, optional
        Appended to the printed value.

    Raises
    ------
    ClaimFailed
        If the key is malformed or the value is not finite.

    Examples
    --------
    >>> number("chapter-seconds", 12.345, ".1f", unit="s")
    """
    if not _ID.fullmatch(key):
        raise ClaimFailed(f"number {key!r}: a key is lower-case words joined by hyphens")
    if not math.isfinite(value):
        raise ClaimFailed(f"number {key}: the value is {value}")
    text = format_number(value, fmt) + (f" {unit}" if unit else "")
    _display({_HIDDEN + "text/plain": repr(text)}, key, _HIDDEN)


def _promise(
    id: str,
    within: tuple[float, float] | None,
    at_least: float | None,
    at_most: float | None,
    close_to: tuple[float, float] | None,
    fmt: str,
) -> list[tuple[float, float, str]]:
    """Return the intervals that the value must lie in, each with its text."""

    def write(bound: float) -> str:
        # The value's format may round a tight bound away; a bound is printed as it is checked.
        shown, exact = format_number(bound, fmt), format_number(bound, ".12g")
        faithful = math.isclose(_parse(bound, fmt), bound, rel_tol=1e-9)
        return shown if faithful and len(shown) <= len(exact) + 2 else exact

    promised: list[tuple[float, float, str]] = []
    if within is not None:
        promised.append((*within, f"in [{write(within[0])}, {write(within[1])}]"))
    if close_to is not None:
        target, tolerance = close_to
        text = f"{write(target)} ± {format_number(tolerance, '.3g')}"
        promised.append((target - tolerance, target + tolerance, text))
    if at_least is not None:
        promised.append((at_least, math.inf, f"≥ {write(at_least)}"))
    if at_most is not None:
        promised.append((-math.inf, at_most, f"≤ {write(at_most)}"))
    if any(math.isnan(bound) for low, high, _ in promised for bound in (low, high)):
        raise ClaimFailed(f"claim {id}: the range contains nan")
    return promised


def _parse(bound: float, fmt: str) -> float:
    text = format(int(bound) if fmt.endswith("d") else float(bound), fmt).replace(",", "")
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def _entries(
    id: str, value: Any
) -> tuple[dict[str, float], float | list[float] | dict[str, float]]:
    """Return the value's numbers by name, and the value as plain Python."""
    if isinstance(value, Mapping):
        named = {str(name): float(entry) for name, entry in value.items()}
        if not named:
            raise ClaimFailed(f"claim {id}: no value")
        return named, named
    array = np.asarray(value, dtype=float)
    if array.size == 0:
        raise ClaimFailed(f"claim {id}: no value")
    if array.ndim == 0:
        return {"0": float(array)}, float(array)
    flat = [float(entry) for entry in array.ravel()]
    return {str(i): entry for i, entry in enumerate(flat)}, flat


def _publish(claim: Claim) -> Claim:
    """Register a claim and show it."""
    if not _ID.fullmatch(claim.id):
        raise ClaimFailed(f"claim {claim.id!r}: an id is lower-case words joined by hyphens")
    if not claim.statement.strip() or claim.statement.rstrip().endswith("."):
        raise ClaimFailed(f"claim {claim.id}: the statement is one line without a full stop")
    if claim.kind not in get_args(Kind):
        raise ClaimFailed(f"claim {claim.id}: kind is {claim.kind!r}")
    # A reader who runs a cell twice states the same claim again; that is no clash.
    if _registered.setdefault(claim.id, claim.statement) != claim.statement:
        raise ClaimFailed(f"claim {claim.id}: the id already stands for {_registered[claim.id]!r}")
    record = {name: entry for name, entry in asdict(claim).items() if name != "glued"}
    bundle = {"text/html": claim.to_html(), "text/plain": repr(claim.text)}
    _display(bundle, claim.id, "", {METADATA: record})
    for key, text in claim.glued.items():
        if key != claim.id:
            _display({_HIDDEN + "text/plain": repr(text)}, key, _HIDDEN)
    return claim


def _display(
    bundle: dict[str, Any], key: str, prefix: str, metadata: dict[str, Any] | None = None
) -> None:
    """Put an output with a name into the notebook, if there is one.

    The name is written as myst-nb's ``glue`` writes it, without needing myst-nb to run.
    """
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ModuleNotFoundError:
        return
    if get_ipython() is not None:
        name = {"scrapbook": {"name": key, "mime_prefix": prefix}}
        display(bundle, raw=True, metadata=name | (metadata or {}))
