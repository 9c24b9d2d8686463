"""Plots: lines, marks, points and words of the figures, and the files made of them."""

import io
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tests.helpers.report import make_records
from unet_jax.reporting.figures import (
    dice_figure,
    history_figure,
    history_png,
    reliability_figure,
    svg,
    threshold_figure,
    write_png,
)
from unet_jax.reporting.gallery import GalleryRow, gallery_figure

BLUE, VERMILLION, SKY, ORANGE = "#0072b2", "#d55e00", "#56b4e9", "#e69f00"
BINS = [
    {"low": 0.0, "high": 0.25, "pixels": 1000, "mean_probability": 0.1, "fraction_tumor": 0.05},
    {"low": 0.25, "high": 0.5, "pixels": 0, "mean_probability": None, "fraction_tumor": None},
    {"low": 0.5, "high": 1.0, "pixels": 50, "mean_probability": 0.75, "fraction_tumor": 0.5},
]
ROWS = [
    *({"tumor": "pituitary", "native_dice": d} for d in (0.8, 0.2, 0.4)),
    *({"tumor": "meningioma", "native_dice": d} for d in (0.5, 0.9)),
]


def line(axes, label):
    """The data of the one line whose label starts so."""
    (found,) = [x for x in axes.get_lines() if str(x.get_label()).startswith(label)]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


def test_history_draws_each_metric_of_train_and_validation():
    loss, accuracy, iou, rate = history_figure(make_records([0.2, 0.5, 0.4])).axes
    expected = {
        loss: ([1, 1 / 2, 1 / 3], [2, 1, 2 / 3]),
        accuracy: ([0.91, 0.92, 0.93], [0.81, 0.82, 0.83]),
        iou: ([0.1, 0.2, 0.3], [0.2, 0.5, 0.4]),
    }
    for axes, (train, val) in expected.items():
        for label, y in (("train", train), ("validation", val)):
            epochs, values = line(axes, label)
            assert epochs.tolist() == [1, 2, 3]
            np.testing.assert_allclose(values, y)
        assert axes.get_xlabel() == "Epoch"
    np.testing.assert_allclose(line(rate, "learning rate")[1], [1e-3, 5e-4, 1e-3 / 3])
    assert iou.get_ylim() == (0, 1)


def test_history_marks_the_epoch_of_the_best_validation_iou_in_each_panel():
    figure = history_figure(make_records([0.2, 0.5, 0.4]))
    loss, accuracy, iou, _ = figure.axes
    for axes, value in ((loss, 1.0), (accuracy, 0.82), (iou, 0.5)):
        x, y = line(axes, "highest validation micro-IoU: epoch 2")
        assert (x.tolist(), y.tolist()) == ([2], [pytest.approx(value)])
        assert f"(best epoch: {value:.3f})" in axes.get_title()
    words = [t.get_text() for t in figure.legends[0].get_texts()]
    assert words == ["train", "validation", "highest validation micro-IoU: epoch 2", "learning rate"]
    # Of equal epochs the latest, and one without a loss all the same.
    assert line(history_figure(make_records([0.1, 0.6, 0.6])).axes[2], "highest")[0].tolist() == [3]
    loss, _, iou, _ = history_figure(make_records([0.2], loss=None)).axes
    assert (loss.get_title(), iou.get_title()) == ("Loss", "Micro-IoU (best epoch: 0.200)")


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_history_leaves_a_gap_for_a_value_that_is_not_finite(missing):
    iou = history_figure(make_records([0.2, missing, 0.4, 0.3])).axes[2]
    np.testing.assert_array_equal(line(iou, "validation")[1], [0.2, np.nan, 0.4, 0.3])
    assert line(iou, "highest")[0].tolist() == [3]


def test_history_without_any_validation_iou_marks_nothing(tmp_path):
    lines = make_records([None, None])
    for axes in history_figure(lines).axes:
        assert not [x for x in axes.get_lines() if "highest" in str(x.get_label())]
    history_png(lines, tmp_path / "h.png")
    assert size(tmp_path / "h.png") == (1560, 540)


def test_history_of_one_epoch_shows_points():
    for axes in history_figure(make_records([0.3])).axes:
        assert all(x.get_marker() not in ("", "None") for x in axes.get_lines() if not x.get_label().startswith("_"))
        assert axes.get_xlim() == (0, 2)


def test_threshold_marks_the_one_in_use_with_its_value_if_it_was_tried():
    (axes,) = threshold_figure([0.25, 0.5, 0.75], [0.4, 0.625, 0.5], 0.5).axes
    assert [v.tolist() for v in line(axes, "validation")] == [[0.25, 0.5, 0.75], [0.4, 0.625, 0.5]]
    assert [v.tolist() for v in line(axes, "chosen")] == [[0.5], [0.625]]
    assert axes.get_title() == "Threshold 0.5 gives micro-IoU 0.625 on validation"
    (axes,) = threshold_figure([0.25, 0.5, 0.75], [0.4, 0.625, 0.5], 0.33).axes
    assert np.isnan(line(axes, "chosen")[1]).all()
    assert [x.get_xdata()[0] for x in axes.get_lines() if x.get_linestyle() == "--"] == [0.33]
    assert axes.get_title() == "Threshold 0.33 was not tried on validation"


def test_reliability_draws_the_bins_that_hold_pixels():
    upper, lower = reliability_figure({"bins": BINS}).axes
    perfect, network = upper.get_lines()
    assert perfect.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert network.get_xydata().tolist() == [[0.1, 0.05], [0.75, 0.5]]
    bars = [(b.get_x(), b.get_width(), b.get_height()) for b in lower.patches]
    assert bars == [(0.0, 0.25, 1000), (0.25, 0.25, 0), (0.5, 0.5, 50)]
    assert lower.get_yscale() == "log"
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


def test_svg_is_the_same_again_and_asks_for_no_font_and_no_file():
    first = svg(dice_figure(ROWS))
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 20}):
        assert svg(dice_figure(ROWS)) == first
    root = ET.fromstring(first)
    for element in root.iter():
        assert not element.tag.endswith("}text") and not element.tag.endswith("}image")
        for name, value in element.attrib.items():
            assert not name.endswith("href") or value.startswith("#")


def size(path):
    with Image.open(path) as image:
        image.load()
        return image.size


def draw_all(folder):
    history_png(make_records([0.2, 0.5, 0.4]), folder / "history.png")
    write_png(threshold_figure([0.25, 0.5, 0.75], [0.4, 0.625, 0.5], 0.5), folder / "threshold.png", dpi=120)
    ys, xs = np.mgrid[:64, :64]
    disc = (ys - 20) ** 2 + (xs - 30) ** 2 <= 36
    row = GalleryRow(ys * xs, disc, np.roll(disc, 4, axis=(0, 1)), "glioma", slice=12, dice=0.5)
    write_png(gallery_figure([row]), folder / "gallery.png", dpi=100)
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_pictures_are_the_same_bytes_again_and_name_no_software(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    first = draw_all(tmp_path / "a")
    # Nor do a person's own settings of matplotlib change them.
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "lines.linewidth": 9}):
        second = draw_all(tmp_path / "b")
    assert list(first) == ["gallery.png", "history.png", "threshold.png"]
    assert first == second
    for content in first.values():
        with Image.open(io.BytesIO(content)) as image:
            assert set(image.info) == {"dpi"}


def test_pictures_hold_the_colors_of_their_lines(tmp_path):
    draw_all(tmp_path)
    wanted = {"history.png": (BLUE, VERMILLION), "threshold.png": (BLUE, VERMILLION), "gallery.png": (SKY, ORANGE)}
    for name, colors in wanted.items():
        with Image.open(tmp_path / name) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        for color in colors:
            rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
            assert (pixels == rgb).all(axis=1).sum() > 50, (name, color)
