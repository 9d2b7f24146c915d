"""Figures follow the theme, speak, and never clash."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("agg")

import matplotlib.pyplot as plt

from rnncourse.plots import SliderFigure, figure_svg, show, use_style

ALT = "A line that rises from one to two."


@pytest.fixture(autouse=True)
def style() -> None:
    mpl.rcdefaults()
    use_style()


def drawn(slope: float = 1.0) -> str:
    fig, ax = plt.subplots()
    ax.plot([0, 1], [1, 1 + slope], label=r"$\rho^T$")
    ax.scatter([0], [1])
    ax.set(xlabel="time", ylabel="norm")
    ax.legend()
    markup = figure_svg(fig, ALT)
    plt.close(fig)
    return markup


def test_the_markup_is_well_formed_and_described() -> None:
    root = ElementTree.fromstring(drawn())
    (svg,) = root
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == ALT
    assert float(svg.get("viewBox", "").split()[2]) > 100


def test_axes_and_text_take_the_colour_of_the_page() -> None:
    markup = drawn()
    assert "#000000" not in markup
    assert "currentColor" in markup
    assert "#ffffff" not in markup
    assert ">time</text>" in markup


def test_equal_figures_are_equal_and_others_share_no_id() -> None:
    def ids(markup: str) -> set[str]:
        return set(re.findall(r'\bid="([^"]+)"', markup))

    assert drawn() == drawn()
    assert ids(drawn())
    assert not ids(drawn()) & ids(drawn(2.0))


def test_every_reference_inside_a_figure_has_its_target() -> None:
    markup = drawn()
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', markup))
    assert used
    assert used <= set(re.findall(r'\bid="([^"]+)"', markup))


def test_an_image_keeps_its_pixels() -> None:
    fig, ax = plt.subplots()
    ax.imshow(np.arange(12).reshape(3, 4))
    markup = figure_svg(fig, ALT)
    plt.close(fig)
    data = re.search(r'href="data:image/png;base64,([^"]+)"', markup)
    assert data is not None
    assert not re.search(r"\s", data[1])


def test_a_figure_must_be_described() -> None:
    fig, _ = plt.subplots()
    for alt in ("", "   ", "plot", "a figure"):
        with pytest.raises(ValueError, match="what the figure shows"):
            show(fig, alt=alt)
    plt.close(fig)


def test_a_description_is_escaped() -> None:
    fig, _ = plt.subplots()
    markup = figure_svg(fig, 'It says "a < b" and nothing else at all.')
    plt.close(fig)
    assert "&quot;a &lt; b&quot;" in markup


def test_show_closes_the_figure() -> None:
    before = plt.get_fignums()
    fig, _ = plt.subplots()
    show(fig, alt=ALT)
    assert plt.get_fignums() == before


def test_lines_differ_without_colour() -> None:
    styles = [entry["linestyle"] for entry in mpl.rcParams["axes.prop_cycle"]]
    assert len({str(style) for style in styles}) == len(styles)


def slider(**changes: object) -> SliderFigure:
    arguments: dict[str, object] = {
        "x": np.arange(4),
        "curves": np.array([[1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]),
        "values": [0.1, 0.2, 0.3],
        "parameter": "ρ",
        "xlabel": "steps",
        "ylabel": "norm",
        "alt": "The line moves up as the parameter grows.",
    }
    return SliderFigure(**(arguments | changes))  # type: ignore[arg-type]


def test_a_slider_carries_its_curves_and_a_plain_figure() -> None:
    bundle = slider(notes=["low </script>", "middle", "high"])._repr_mimebundle_()
    markup = bundle["text/html"]
    (payload,) = re.findall(r'<script type="application/json">(.*?)</script>', markup)
    data = json.loads(payload)
    assert np.shape(data["curves"]) == (3, 1, 4)
    assert data["notes"][0] == "low </script>"
    assert 'class="mpl"' in markup
    assert bundle["image/png"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"curves": np.ones((2, 4))}, "curves has shape"),
        ({"curves": np.ones((3, 2, 4))}, "names has 0 entries for 2 lines"),
        ({"notes": ["one"]}, "notes has 1 entries"),
        ({"curves": np.full((3, 4), np.nan)}, "finite"),
        ({"curves": np.zeros((3, 4)), "log_y": True}, "positive"),
        ({"start": 3}, "start is 3"),
        ({"alt": "short"}, "what the figure shows"),
    ],
)
def test_a_slider_refuses_what_it_cannot_draw(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        slider(**changes)
