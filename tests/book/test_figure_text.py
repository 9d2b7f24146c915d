"""What a figure prints survives the shortening of its SVG, and fits in any typeface."""

import re

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pytest
from playwright.sync_api import sync_playwright

from rnncourse.plots import figure_svg, use_style


def test_labels_keep_their_decimals_and_coordinates_lose_them():
    use_style()
    fig, ax = plt.subplots()
    ax.plot([0, 1 / 3, 1])
    ax.set_title("Adam 0.001, limit 2.7183")
    markup = figure_svg(fig, "A line that rises from zero to one.")
    plt.close(fig)
    assert "Adam 0.001, limit 2.7183" in markup
    coordinates = markup.split(' d="M ', 1)[1].split('"', 1)[0].replace("L", " ").split()
    assert all(len(number.partition(".")[2]) <= 2 for number in coordinates if number != "z")


def test_spaces_that_a_browser_drops_stretch_no_label():
    use_style()
    widths = []
    for label in ("200", "  200 "):
        fig, ax = plt.subplots()
        ax.text(0.5, 0.5, label)
        markup = figure_svg(fig, "An empty frame with a number in its middle.")
        plt.close(fig)
        widths.append(re.findall(r'textLength="([\d.]+)"[^>]*> *200', markup))
    assert widths[0] == widths[1] != []


def test_a_label_in_a_face_of_its_own_warns_nobody(caplog):
    use_style()
    fig, ax = plt.subplots()
    ax.set_title("a b c", family="monospace")
    markup = figure_svg(fig, "An empty frame with a title in a fixed-width face.")
    plt.close(fig)
    assert "textLength" in markup
    assert not caplog.records


@pytest.mark.parametrize("typeface", ["DejaVu Sans", "monospace", "serif"])
def test_labels_stay_inside_the_figure_in_any_typeface(chromium, typeface):
    use_style()
    fig, ax = plt.subplots()
    ax.plot([1, 1], label="the answer < is in the input & nowhere else: iiiii")
    ax.set_ylabel("divergence from the truth in nats, as long as the axis is high", style="italic")
    ax.set_title("a title to the end of the line of sixty-four bold characters wide", weight="bold")
    ax.legend(loc="upper right")
    markup = figure_svg(fig, "A level line, with long labels around it.")
    plt.close(fig)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content(f'<div style="font-family: {typeface}; width: 700px">{markup}</div>')
        left, right, top, bottom = page.evaluate(
            """() => {
              const frame = document.querySelector("svg").getBoundingClientRect();
              const labels = [...document.querySelectorAll("text")].map(
                (label) => label.getBoundingClientRect());
              return [Math.min(...labels.map((r) => r.left - frame.left)),
                      Math.min(...labels.map((r) => frame.right - r.right)),
                      Math.min(...labels.map((r) => r.top - frame.top)),
                      Math.min(...labels.map((r) => frame.bottom - r.bottom))];
            }"""
        )
        browser.close()
    assert min(left, right) >= 0
    assert min(top, bottom) >= -3  # the box of a line of text is higher than its letters
