"""Figures of the course: one style, readable in light and dark, on paper and by screen readers.

A chapter draws with Matplotlib as usual and ends the cell with :func:`show`::

    import matplotlib.pyplot as plt
    from rnncourse.plots import show, use_style

    use_style()
    fig, ax = plt.subplots()
    ax.plot(norms, label="orthogonal")
    show(fig, alt=f"The norm stays near {norms[-1]:.2f} for {len(norms)} steps.")

The web page then holds the figure as SVG whose axes and text take the page's colour, and everything
else (a PDF, a notebook viewer without SVG) finds a PNG beside it. :class:`SliderFigure` is a family
of curves with one curve per position of a slider; it needs no server.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncourse._extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLORS", "SliderFigure", "figure_svg", "show", "use_style"]

COLORS: dict[str, str] = {
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "green": "#009e73",
    "purple": "#cc79a7",
    "orange": "#e69f00",
    "sky": "#56b4e9",
    "grey": "#7f7f7f",
}
"""The colours of Okabe and Ito (2008) by name, so that text and code can speak of a colour. The
first three keep a contrast of 3:1 on white and on black; orange and sky belong on wide marks."""

_CYCLE = ["blue", "vermillion", "green", "purple", "grey", "orange", "sky"]
_LINES: list[Any] = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1))]
_MIN_ALT = 20
# CSS pixels per point: the widest a figure grows, and the least it shrinks. The book's stylesheet
# reads the points itself: on a phone it shrinks no figure below one pixel per point.
_ZOOM, _SHRINK = 1.45, 0.75
_LABEL = re.compile(r'<text style="([^"]*)"([^>]*)>([^<]+)(?=</text>)')


def use_style(*, line_styles: bool = True) -> None:
    """Apply the course's Matplotlib style to the running session.

    Parameters
    ----------
    line_styles : bool, default True
        Give each line of a plot its own dash pattern besides its own colour, so that the lines
        can be told apart without seeing colour.

    Raises
    ------
    ModuleNotFoundError
        If Matplotlib is not installed.

    Notes
    -----
    The colours are those of Okabe and Ito, *Color universal design* (2008). The typeface is the
    book's, so that a label is as wide in the page as Matplotlib has measured it.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> use_style()
    >>> matplotlib.rcParams["axes.spines.top"]
    False
    """
    require("matplotlib", extra="plots")
    import matplotlib
    from cycler import cycler
    from matplotlib import font_manager

    for path in sorted((Path(__file__).parent / "fonts").glob("*.ttf")):
        font_manager.fontManager.addfont(path)
    cycle = cycler(color=[COLORS[name] for name in _CYCLE])
    if line_styles:
        cycle += cycler(linestyle=_LINES)
    matplotlib.rcParams.update(
        {
            "axes.facecolor": "none",
            "axes.grid": True,
            "axes.prop_cycle": cycle,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": "medium",
            "axes.titleweight": "bold",
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "figure.figsize": (6.4, 3.6),
            "font.family": ["Source Sans 3", "DejaVu Sans"],
            "font.size": 11.5,
            "grid.alpha": 0.16,
            "image.cmap": "cividis",
            "legend.fontsize": "small",
            "legend.frameon": False,
            "lines.linewidth": 2,
            "mathtext.fallback": "stixsans",
            "mathtext.fontset": "custom",
            **{f"mathtext.{name}": "Source Sans 3" for name in ("rm", "sf", "tt")},
            **{f"mathtext.{name}": "Source Sans 3:italic" for name in ("it", "cal")},
            **{f"mathtext.{name}": "Source Sans 3:bold" for name in ("bf", "bfit")},
            "savefig.facecolor": "none",
            "svg.fonttype": "none",
            "svg.hashsalt": "rnncourse",
            "xtick.labelsize": "small",
            "ytick.labelsize": "small",
        }
    )


def _checked_alt(alt: str) -> str:
    alt = " ".join(alt.split())
    if len(alt) < _MIN_ALT:
        raise ValueError(
            f"alt has {len(alt)} characters: say in a sentence or two what the figure shows, "
            "for readers who cannot see it"
        )
    return alt


def _with_width(label: re.Match[str]) -> str:
    """Write down how wide Matplotlib has measured a label.

    A page without the course's typeface, such as JupyterLab, takes another one. It is often wider,
    and what leaves the figure is cut off, unless the browser knows the width to keep to.
    """
    from matplotlib.font_manager import FontProperties, fontManager
    from matplotlib.textpath import text_to_path

    style, place, text = label.groups()
    look = dict(part.split(": ", 1) for part in style.split("; "))
    asked = [name.strip("'") for name in look["font-family"].split(", ")]
    font = FontProperties(
        family=[name for name in asked if name in fontManager.get_font_names()],  # others warn
        style="italic" if "font-style" in look else "normal",
        weight=look.get("font-weight", "normal"),
        size=float(look["font-size"].removesuffix("px")),
    )
    shown = " ".join(html.unescape(text).split())  # as a browser shows it
    width, _, _ = text_to_path.get_text_width_height_descent(shown, font, False)
    fit = f'textLength="{width:.2f}" lengthAdjust="spacingAndGlyphs"'
    return f'<text style="{style}"{place} {fit}>{text}'


def figure_svg(fig: Figure, alt: str) -> str:
    """Return a figure as SVG markup that can stand inside an HTML page.

    Black becomes ``currentColor``, so the figure follows the page's theme; text stays text. Ids are
    made from the content, so two figures on a page cannot clash and equal builds give equal bytes.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        The figure, drawn under :func:`use_style`.
    alt : str
        What the figure shows, in words; numbers may be formatted in.

    Returns
    -------
    str
        A ``<div class="mpl-figure">`` with one ``<svg role="img">`` in it.

    Raises
    ------
    ValueError
        If `alt` is too short to say what the figure shows.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import matplotlib.pyplot as plt
    >>> use_style()
    >>> fig, ax = plt.subplots()
    >>> _ = ax.plot([1, 2], [3, 4])
    >>> markup = figure_svg(fig, "A straight line that rises from 3 to 4.")
    >>> 'role="img" aria-label="A straight line that rises from 3 to 4."' in markup
    True
    >>> plt.close(fig)
    """
    alt = html.escape(_checked_alt(alt))
    buffer = io.StringIO()
    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    fig.savefig(buffer, format="svg", bbox_inches="tight", metadata=none)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = _LABEL.sub(_with_width, svg)
    svg = re.sub(r"font-family: [^;\"]*(; )?", "", svg)
    svg = re.sub(r"(#000000|#b0b0b0)\b", "currentColor", svg)
    svg = re.sub(r"<text(?=[ >])", '<text fill="currentColor"', svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r">\s+<", "><", svg).strip()
    # Two decimals do for coordinates; a label such as 0.001 stands between tags and stays.
    svg = re.sub(
        r"<[^>]*>",
        lambda tag: re.sub(r"\b\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}", tag[0]),
        svg,
    )
    # Whitespace inside a path is one space for the renderer; base64 images need none at all.
    svg = re.sub(
        r"\s*\n\s*",
        lambda m: "" if "base64" in svg[max(0, m.start() - 30) : m.start()] else " ",
        svg,
    )

    prefix = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8]
    for name in set(re.findall(r'\bid="([^"]+)"', svg)):
        svg = re.sub(rf'(\bid="|#){re.escape(name)}(?=["\)])', rf"\g<1>{prefix}-{name}", svg)

    head, body = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)
    if box is None:
        raise RuntimeError("Matplotlib wrote an SVG without a viewBox")
    width = float(box[1].split()[2])
    size = (
        f"--points:{width:.0f};"
        f"width:{_ZOOM * width:.0f}px;max-width:100%;min-width:{_SHRINK * width:.0f}px"
    )
    head = f'<svg viewBox="{box[1]}" class="mpl" role="img" aria-label="{alt}" style="{size}"'
    return f'<div class="mpl-figure">{head}>{body}</div>'


def show(fig: Figure, *, alt: str) -> None:
    """Display a figure in a notebook cell and close it.

    The cell's output holds inline SVG for web pages, a PNG for everything else, and `alt` as text.
    Outside IPython the figure is only checked and closed.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        The figure.
    alt : str
        What the figure shows, in words, for readers who cannot see it. It should say the finding,
        not "a plot of". An f-string with computed numbers keeps it true.

    Raises
    ------
    ValueError
        If `alt` is too short to say what the figure shows.
    ModuleNotFoundError
        If Matplotlib is not installed.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import matplotlib.pyplot as plt
    >>> fig, ax = plt.subplots()
    >>> show(fig, alt="plot")
    Traceback (most recent call last):
        ...
    ValueError: alt has 4 characters: say in a sentence or two what the figure shows, ...
    """
    require("matplotlib", extra="plots")
    import matplotlib.pyplot as plt

    alt = _checked_alt(alt)
    if _in_ipython():
        from IPython.display import display

        display(_bundle(fig, figure_svg(fig, alt), alt), raw=True)
    plt.close(fig)


def _bundle(fig: Figure, markup: str, alt: str) -> dict[str, str]:
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=144, bbox_inches="tight", facecolor="white")
    return {
        "text/html": markup,
        "image/png": base64.b64encode(png.getvalue()).decode("ascii"),
        "text/plain": alt,
    }


def _in_ipython() -> bool:
    try:
        from IPython import get_ipython
    except ModuleNotFoundError:
        return False
    return get_ipython() is not None


@dataclass
class SliderFigure:
    """A family of curves with a slider that chooses the member; works in a static page.

    In the book the element ``<rnn-slider>`` draws it, moved by mouse, touch or the arrow keys. In a
    notebook, or without JavaScript, the member at `start` stands there as a plain figure.

    Parameters
    ----------
    x : array_like, shape (N,)
        The common abscissa.
    curves : array_like, shape (P, N) or (P, L, N)
        For each of the P positions one line, or L lines.
    values : array_like, shape (P,)
        The parameter's value at each position.
    parameter, xlabel, ylabel : str
        What the slider changes, and the axes' labels. Plain text; Unicode such as "ρ" is fine.
    alt : str
        What a reader learns by moving the slider, in words.
    names : sequence of str, optional
        Names of the L lines, for the legend; required when L > 1.
    notes : sequence of str, optional
        One sentence for each position, shown below the slider and read out when it moves.
    log_y : bool, default False
        Draw the ordinate on a logarithmic axis; every entry of `curves` must then be positive.
    start : int, default 0
        The position shown first.

    Raises
    ------
    ValueError
        If shapes or lengths do not fit together, a value is not finite, a value is not positive on
        a logarithmic axis, or `alt` is too short.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(30)
    >>> radii = np.array([0.9, 1.0, 1.1])
    >>> figure = SliderFigure(
    ...     t,
    ...     radii[:, None] ** t,
    ...     radii,
    ...     parameter="ρ",
    ...     xlabel="steps",
    ...     ylabel="factor",
    ...     alt="Below one the factor decays, above one it grows.",
    ...     log_y=True,
    ...     start=1,
    ... )
    >>> figure
    SliderFigure(ρ from 0.9 to 1.1 in 3 positions)
    """

    x: Any
    curves: Any
    values: Any
    parameter: str
    xlabel: str
    ylabel: str
    alt: str
    names: Sequence[str] = ()
    notes: Sequence[str] = ()
    log_y: bool = False
    start: int = 0

    def __post_init__(self) -> None:
        self.x = np.asarray(self.x, dtype=float)
        self.values = np.asarray(self.values, dtype=float)
        curves = np.asarray(self.curves, dtype=float)
        self.curves = curves[:, None, :] if curves.ndim == 2 else curves
        positions = len(self.values)
        if self.curves.ndim != 3 or self.curves.shape[::2] != (positions, len(self.x)):
            raise ValueError(
                f"curves has shape {curves.shape}, must be (P, N) or (P, L, N) "
                f"with P = {positions} values and N = {len(self.x)} abscissae"
            )
        lines = self.curves.shape[1]
        if (lines > 1 or self.names) and len(self.names) != lines:
            raise ValueError(f"names has {len(self.names)} entries for {lines} lines")
        if self.notes and len(self.notes) != positions:
            raise ValueError(f"notes has {len(self.notes)} entries for {positions} positions")
        if not all(np.isfinite(a).all() for a in (self.x, self.values, self.curves)):
            raise ValueError("x, values and curves must be finite")
        if self.log_y and (self.curves <= 0).any():
            raise ValueError("a logarithmic axis needs positive curves")
        if not 0 <= self.start < positions:
            raise ValueError(f"start is {self.start}, outside 0..{positions - 1}")
        self.alt = _checked_alt(self.alt)

    def __repr__(self) -> str:
        span = f"from {self.values[0]:g} to {self.values[-1]:g}"
        return f"SliderFigure({self.parameter} {span} in {len(self.values)} positions)"

    def _static(self) -> Figure:
        """Draw the member at `start` with Matplotlib."""
        import matplotlib.pyplot as plt

        fig, ax = plt.subplots()
        for i, line in enumerate(self.curves[self.start]):
            ax.plot(self.x, line, label=self.names[i] if self.names else None)
        if self.log_y:
            ax.set_yscale("log")
        ax.set_ylim(*self._limits())
        ax.set(xlabel=self.xlabel, ylabel=self.ylabel)
        ax.set_title(f"{self.parameter} = {self.values[self.start]:g}")
        if self.names:
            ax.legend()
        return fig

    def _limits(self) -> tuple[float, float]:
        low, high = float(self.curves.min()), float(self.curves.max())
        if self.log_y:
            low, high = float(10 ** np.floor(np.log10(low))), float(10 ** np.ceil(np.log10(high)))
            return (low, high) if low < high else (low / 10, high * 10)
        margin = 0.05 * (high - low) or 1.0
        return low - margin, high + margin

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        require("matplotlib", extra="plots")
        import matplotlib.pyplot as plt

        low, high = self._limits()
        data = {
            "x": [float(f"{v:.5g}") for v in self.x],
            "curves": [[[float(f"{v:.4g}") for v in line] for line in c] for c in self.curves],
            "values": [float(f"{v:.6g}") for v in self.values],
            "parameter": self.parameter,
            "xlabel": self.xlabel,
            "ylabel": self.ylabel,
            "names": list(self.names),
            "notes": list(self.notes),
            "log": self.log_y,
            "low": low,
            "high": high,
            "start": self.start,
            "alt": self.alt,
            "colors": [COLORS[name] for name in _CYCLE],
        }
        payload = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
        fig = self._static()
        bundle = _bundle(fig, figure_svg(fig, self.alt), self.alt)
        plt.close(fig)
        bundle["text/html"] = (
            f'<rnn-slider><script type="application/json">{payload}</script>'
            f"{bundle['text/html']}</rnn-slider>"
        )
        return bundle
