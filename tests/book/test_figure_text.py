"""Numbers that a figure prints survive the shortening of its SVG."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt

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
