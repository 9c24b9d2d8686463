"""The plots of the HTML report: points, boxes and bars of the figures, and their SVG."""

import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest

from unet_jax.reporting.figures import threshold_figure
from unet_jax.reporting.plots import dice_figure, reliability_figure, svg

BINS = [
    {"low": 0.0, "high": 0.25, "pixels": 1000, "mean_probability": 0.1, "fraction_tumor": 0.05},
    {"low": 0.25, "high": 0.5, "pixels": 0, "mean_probability": None, "fraction_tumor": None},
    {"low": 0.5, "high": 1.0, "pixels": 50, "mean_probability": 0.75, "fraction_tumor": 0.5},
]
ROWS = [
    *({"tumor": "pituitary", "native_dice": d} for d in (0.8, 0.2, 0.4)),
    *({"tumor": "meningioma", "native_dice": d} for d in (0.5, None, 0.9)),
]


def test_reliability_draws_the_bins_that_hold_pixels():
    upper, lower = reliability_figure({"bins": BINS}).axes
    perfect, network = upper.get_lines()
    assert perfect.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert network.get_xydata().tolist() == [[0.1, 0.05], [0.75, 0.5]]
    bars = [(b.get_x(), b.get_width(), b.get_height()) for b in lower.patches]
    assert bars == [(0.0, 0.25, 1000), (0.25, 0.25, 0), (0.5, 0.5, 50)]
    assert lower.get_yscale() == "log"


def test_reliability_of_no_pixels_is_drawn():
    empty = [b | {"pixels": 0, "mean_probability": None, "fraction_tumor": None} for b in BINS]
    figure = reliability_figure({"bins": empty})
    assert b"<svg" in svg(figure) and len(figure.axes[0].get_lines()[1].get_xydata()) == 0


def test_dice_has_a_point_a_slice_and_the_median_of_each_type():
    (axes,) = dice_figure(ROWS).axes
    points = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert [np.asarray(p.get_xdata()).tolist() for p in points] == [[0.5, 0.9], [0.2, 0.4, 0.8]]
    for place, each in enumerate(points):  # on their own type's line, none on another's
        assert np.abs(np.asarray(each.get_ydata()) - place).max() < 0.31
    words = [t.get_text() for t in axes.get_yticklabels()]
    assert words == ["Meningioma\n2 slices\nmedian 0.700", "Pituitary\n3 slices\nmedian 0.400"]
    top, bottom = axes.get_ylim()
    assert top > bottom  # the first type is above
    medians = [line.get_xdata()[0] for line in axes.get_lines() if line.get_color() == "#D55E00"]
    assert medians == pytest.approx([0.7, 0.4])


def test_thresholds_without_one_in_use_mark_none():
    (axes,) = threshold_figure([0.25, 0.5], [0.4, 0.6], None).axes
    assert len(axes.get_lines()) == 1 and axes.get_title() == "Micro-IoU on validation"


def test_svg_is_the_same_again_and_asks_for_no_font_and_no_file():
    first = svg(dice_figure(ROWS))
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 20}):
        assert svg(dice_figure(ROWS)) == first
    root = ET.fromstring(first)
    for element in root.iter():
        assert not element.tag.endswith("}text") and not element.tag.endswith("}image")
        for name, value in element.attrib.items():
            assert not name.endswith("href") or value.startswith("#")
