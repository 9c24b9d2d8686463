"""What the plots show: lines, marks, words and pictures of the figures, and the files made of them."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from unet_jax.reporting.figures import history_figure, history_png, threshold_figure, threshold_png
from unet_jax.reporting.gallery import GalleryRow, gallery_figure, gallery_png

BLUE, VERMILLION, SKY, ORANGE = "#0072b2", "#d55e00", "#56b4e9", "#e69f00"


def records(val_iou, **changes):
    """Lines of metrics.jsonl with these validation IoUs; the other values tell epoch and metric apart."""
    lines = []
    for i, value in enumerate(val_iou, start=1):
        part = {"loss": 1 / i, "micro_iou": i / 10, "micro_dice": i / 9, "pixel_accuracy": 0.9 + i / 100}
        val = {"loss": 2 / i, "micro_iou": value, "micro_dice": 0.5, "pixel_accuracy": 0.8 + i / 100}
        lines.append(
            {"epoch": i, "step": 7 * i, "learning_rate": 1e-3 / i, "seconds": 1.0, "train": part, "val": val | changes}
        )
    return lines


def line(axes, label):
    """The data of the one line whose label starts so."""
    (found,) = [x for x in axes.get_lines() if str(x.get_label()).startswith(label)]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


def test_history_draws_each_metric_of_train_and_validation():
    loss, accuracy, iou, rate = history_figure(records([0.2, 0.5, 0.4])).axes
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
    figure = history_figure(records([0.2, 0.5, 0.4]))
    loss, accuracy, iou, _ = figure.axes
    for axes, value in ((loss, 1.0), (accuracy, 0.82), (iou, 0.5)):
        x, y = line(axes, "highest validation micro-IoU: epoch 2")
        assert (x.tolist(), y.tolist()) == ([2], [pytest.approx(value)])
        assert f"(best epoch: {value:.3f})" in axes.get_title()
    words = [t.get_text() for t in figure.legends[0].get_texts()]
    assert words == ["train", "validation", "highest validation micro-IoU: epoch 2", "learning rate"]


def test_history_marks_the_latest_of_equal_epochs():
    assert line(history_figure(records([0.1, 0.6, 0.6])).axes[2], "highest")[0].tolist() == [3]


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_history_leaves_a_gap_for_a_value_that_is_not_finite(missing):
    iou = history_figure(records([0.2, missing, 0.4, 0.3])).axes[2]
    np.testing.assert_array_equal(line(iou, "validation")[1], [0.2, np.nan, 0.4, 0.3])
    assert line(iou, "highest")[0].tolist() == [3]


def test_history_without_any_validation_iou_marks_nothing(tmp_path):
    lines = records([None, None])
    for axes in history_figure(lines).axes:
        assert not [x for x in axes.get_lines() if "highest" in str(x.get_label())]
    history_png(lines, tmp_path / "h.png")
    assert size(tmp_path / "h.png") == (1560, 540)


def test_history_of_a_best_epoch_without_a_loss_still_marks_the_epoch():
    loss, _, iou, _ = history_figure(records([0.2], loss=None)).axes
    assert loss.get_title() == "Loss"
    assert iou.get_title() == "Micro-IoU (best epoch: 0.200)"


def test_history_of_one_epoch_shows_points():
    for axes in history_figure(records([0.3])).axes:
        assert all(x.get_marker() not in ("", "None") for x in axes.get_lines() if not x.get_label().startswith("_"))
        assert axes.get_xlim() == (0, 2)


def test_threshold_marks_the_one_in_use_with_its_value():
    (axes,) = threshold_figure([0.25, 0.5, 0.75], np.array([0.4, 0.625, 0.5]), 0.5).axes
    assert [v.tolist() for v in line(axes, "validation")] == [[0.25, 0.5, 0.75], [0.4, 0.625, 0.5]]
    assert [v.tolist() for v in line(axes, "chosen")] == [[0.5], [0.625]]
    assert axes.get_title() == "Threshold 0.5 gives micro-IoU 0.625 on validation"


def test_threshold_that_was_not_tried_has_no_value():
    (axes,) = threshold_figure([0.25, 0.5, 0.75], [0.4, 0.625, 0.5], 0.33).axes
    assert np.isnan(line(axes, "chosen")[1]).all()
    assert [x.get_xdata()[0] for x in axes.get_lines() if x.get_linestyle() == "--"] == [0.33]
    assert axes.get_title() == "Threshold 0.33 was not tried on validation"


def disc(shape, y, x, radius):
    ys, xs = np.mgrid[: shape[0], : shape[1]]
    return (ys - y) ** 2 + (xs - x) ** 2 <= radius**2


def row(shape=(64, 64), **changes):
    image = (np.arange(shape[0] * shape[1]).reshape(shape) % 1000).astype(np.int16)
    values = {
        "image": image,
        "mask": disc(shape, 20, 30, 6).astype(np.uint8),
        "pred": disc(shape, 24, 34, 6),
        "tumor": "glioma",
        "slice": 12,
        "dice": 0.456,
    }
    return GalleryRow(**(values | changes))


def test_gallery_shows_image_masks_and_outlines():
    one, two = row(), row(tumor="pituitary", slice=7, dice=1.0)
    figure = gallery_figure([one, two])
    assert [t.get_text() for t in figure.texts] == ["Glioma\nslice 12\nDice 0.46", "Pituitary\nslice 7\nDice 1.00"]
    assert [a.get_title() for a in figure.axes] == [
        *("Image", "True mask", "Predicted mask", "Outlines, enlarged"),
        *[""] * 4,
    ]
    pictures = [a.images[0].get_array() for a in figure.axes[:4]]
    for picture, expected in zip(pictures, (one.image, one.mask, one.pred, one.image), strict=True):
        np.testing.assert_array_equal(picture, expected)
    assert figure.axes[1].images[0].get_clim() == (0, 1)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["true outline", "predicted outline"]


def test_gallery_is_in_reading_order_without_overlaps():
    figure = gallery_figure([row(tumor="meningioma", slice=3064), row(), row()])  # the longest words there are
    figure.canvas.draw()
    boxes = [a.get_window_extent() for a in figure.axes]
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert b.y1 < a.y0 or b.x0 > a.x1
    things = [*figure.texts, *figure.legends, *[a.title for a in figure.axes[:4]]]
    words = [t.get_window_extent(figure.canvas.get_renderer()) for t in things]
    for i, a in enumerate(words):
        assert a.x0 >= 0 and a.x1 <= figure.bbox.width and a.y0 >= 0 and a.y1 <= figure.bbox.height
        assert not any(a.overlaps(b) for b in [*words[i + 1 :], *boxes])


def test_gallery_windows_the_image_by_its_percentiles():
    image = np.arange(10_000, dtype=np.int16).reshape(100, 100)
    image[0, 0] = 32_000  # one bright pixel must not darken all others
    low, high = gallery_figure([row((100, 100), image=image)]).axes[0].images[0].get_clim()
    assert (low, high) == tuple(np.percentile(image, (1, 99)))
    assert high < 10_000


def test_gallery_outlines_follow_the_masks():
    one = row()
    outlines = gallery_figure([one]).axes[3]
    true, predicted = outlines.collections
    assert [to_hex(c.get_edgecolor()[0]) for c in (true, predicted)] == [SKY, ORANGE]
    for contour, (y, x) in ((true, (20, 30)), (predicted, (24, 34))):
        vertices = np.concatenate([p.vertices for p in contour.get_paths()])
        distance = np.hypot(vertices[:, 0] - x, vertices[:, 1] - y)
        assert distance.min() > 5 and distance.max() < 7.2


@pytest.mark.parametrize("shape", [(64, 64), (64, 48), (40, 90)])
def test_gallery_enlarges_a_square_around_all_tumor(shape):
    mask, pred = np.zeros(shape, bool), np.zeros(shape, bool)
    mask[10, 12], pred[25, 30] = True, True
    axes = gallery_figure([row(shape, mask=mask, pred=pred)]).axes[3]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert right - left == pytest.approx(bottom - top) == pytest.approx(2 * 19)
    assert left < 12 and right > 30 and top < 10 and bottom > 25
    assert left >= -0.5 and right <= shape[1] - 0.5 and top >= -0.5 and bottom <= shape[0] - 0.5


def test_gallery_shows_a_tumor_larger_than_the_short_side_whole():
    mask = np.zeros((20, 60), bool)
    mask[5:15, 2:58] = True
    axes = gallery_figure([row((20, 60), mask=mask, pred=mask)]).axes[3]
    assert axes.get_xlim() == (-0.5, 59.5)
    assert axes.get_ylim() == (39.5, -20.5)  # the middle of 20 rows is the middle of 60


def test_gallery_of_one_tiny_tumor_keeps_some_surroundings():
    mask = np.zeros((64, 64), bool)
    mask[3, 60] = True
    axes = gallery_figure([row(mask=mask, pred=mask)]).axes[3]
    assert axes.get_xlim() == (47.5, 63.5)  # a quarter of the side, inside the picture
    assert axes.get_ylim() == (15.5, -0.5)


@pytest.mark.parametrize("filled", [False, True])
def test_gallery_of_empty_or_full_masks_and_a_constant_image(filled, tmp_path):
    mask = np.full((32, 32), filled)
    one = row((32, 32), image=np.zeros((32, 32), np.int16), mask=mask, pred=mask)
    axes = gallery_figure([one]).axes[3]
    assert not axes.collections
    assert axes.get_xlim() == (-0.5, 31.5)
    gallery_png([one], tmp_path / "g.png")
    assert size(tmp_path / "g.png")[0] > 900


def size(path):
    with Image.open(path) as image:
        image.load()
        return image.size


def draw_all(folder):
    history_png(records([0.2, 0.5, 0.4]), folder / "history.png")
    threshold_png([0.25, 0.5, 0.75], [0.4, 0.625, 0.5], 0.5, folder / "threshold.png")
    gallery_png([row()], folder / "gallery.png")
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
