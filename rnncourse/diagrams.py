"""Pieces of which chapters draw computation graphs: vectors as columns of cells, and arrows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnncourse._validation import check_positive

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["draw_arrow", "draw_vector"]


def draw_vector(
    ax: Axes, values: ArrayLike, x: float, y: float, *, cell: float = 0.24, limit: float = 1.0
) -> float:
    """Draw a vector as a column of coloured cells, its first entry on top.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    values : array_like, shape (N,)
        The entries.
    x, y : float
        Centre of the column, and its foot.
    cell : float, default 0.24
        Width and height of a cell, in data coordinates.
    limit : float, default 1
        The colours run from orange at ``-limit`` over white to violet at ``limit``.

    Returns
    -------
    float
        Ordinate of the column's top.

    Raises
    ------
    ValueError
        If `values` is not one-dimensional, or `cell` or `limit` is not positive.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import matplotlib.pyplot as plt
    >>> fig, ax = plt.subplots()
    >>> draw_vector(ax, [0.5, -0.5], x=0, y=1, cell=0.5)
    2.0
    >>> plt.close(fig)
    """
    check_positive("cell", cell)
    check_positive("limit", limit)
    column = np.asarray(values, dtype=float)
    if column.ndim != 1:
        raise ValueError(f"values has shape {column.shape}, must be (N,)")
    top = y + cell * len(column)
    ax.pcolormesh(
        [x - cell / 2, x + cell / 2],
        np.linspace(y, top, len(column) + 1),
        column[::-1, None],
        cmap="PuOr",
        vmin=-limit,
        vmax=limit,
        edgecolors="black",
        linewidth=0.6,
    )
    return float(top)


def draw_arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    color: str,
    *,
    width: float = 2.0,
) -> None:
    """Draw an arrow between two points.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    start, end : (float, float)
        In data coordinates.
    color : str
        Any colour that Matplotlib knows.
    width : float, default 2
        Width of the line in points; the head grows with it.

    Raises
    ------
    ValueError
        If `width` is not positive.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import matplotlib.pyplot as plt
    >>> fig, ax = plt.subplots()
    >>> draw_arrow(ax, (0, 0), (1, 1), "black", width=3)
    >>> plt.close(fig)
    """
    check_positive("width", width)
    style = {"arrowstyle": "-|>", "color": color, "lw": width, "mutation_scale": 8 + 3 * width}
    ax.annotate("", end, start, arrowprops=style | {"shrinkA": 1, "shrinkB": 1})
