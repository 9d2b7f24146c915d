"""Vectors and arrows of the graphs in the book."""

from collections.abc import Iterator

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Annotation

matplotlib.use("agg")
import matplotlib.pyplot as plt

from rnncourse.diagrams import draw_arrow, draw_vector


@pytest.fixture
def ax() -> Iterator[Axes]:
    fig, axes = plt.subplots()
    yield axes
    plt.close(fig)


def test_first_entry_is_on_top(ax: Axes) -> None:
    assert draw_vector(ax, [3.0, 1.0, 2.0], x=0, y=1, cell=0.5) == 2.5
    (mesh,) = ax.collections
    assert np.ravel(np.asarray(mesh.get_array())).tolist() == [
        2.0,
        1.0,
        3.0,
    ]  # a mesh is filled from below


def test_colours_are_symmetric_about_zero(ax: Axes) -> None:
    draw_vector(ax, [0.5], x=0, y=0, limit=2.0)
    assert ax.collections[0].get_clim() == (-2.0, 2.0)


@pytest.mark.parametrize(
    "arguments", [{"values": np.zeros((2, 2))}, {"limit": 0.0}, {"cell": -1.0}]
)
def test_bad_vectors_are_refused(ax: Axes, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        draw_vector(ax, **{"values": [1.0], "x": 0, "y": 0} | arguments)  # type: ignore[arg-type]


def test_arrow_points_from_start_to_end(ax: Axes) -> None:
    draw_arrow(ax, (0, 1), (2, 3), "black", width=4)
    (arrow,) = ax.texts
    assert isinstance(arrow, Annotation)
    assert arrow.xy == (2, 3)
    assert arrow.arrow_patch is not None
    assert arrow.arrow_patch.get_linewidth() == 4
