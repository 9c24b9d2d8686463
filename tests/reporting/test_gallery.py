"""The gallery: which slices it shows, and what is drawn of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from PIL import Image

from tests.helpers.scores import SCORES, glioma
from unet_jax.reporting.figures import write_png
from unet_jax.reporting.gallery import GalleryRow, choose_gallery, gallery_figure
from unet_jax.reporting.pictures import square_around

SKY, ORANGE = "#56b4e9", "#e69f00"


def test_the_gallery_shows_the_quartiles_of_each_type():
    # 99 slices of Dice 0.01 ... 0.99, in an order of their own: quartiles 0.25, 0.50, 0.75.
    scores = [glioma(1000 - d, d) for d in sorted(range(1, 100), key=lambda d: d * 37 % 100)]
    assert [s.slice for s in choose_gallery(scores)] == [1000 - 25, 1000 - 50, 1000 - 75]


def test_the_gallery_goes_by_type_and_takes_all_of_a_small_one():
    scores = [glioma(5, 90), glioma(4, 20), *SCORES[1:]]
    assert [(s.tumor, s.slice) for s in choose_gallery(scores)] == [
        ("meningioma", 3),
        ("meningioma", 7),
        ("glioma", 4),
        ("glioma", 5),
    ]
    assert [s.slice for s in choose_gallery(scores, per_tumor=1)] == [7, 5]
    assert choose_gallery([]) == []


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 6))
def test_the_gallery_never_shows_a_slice_twice(n, per_tumor):
    chosen = choose_gallery([glioma(i, 50) for i in range(n)], per_tumor)
    assert len({s.slice for s in chosen}) == len(chosen) == min(n, per_tumor)


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


def test_gallery_enlarges_the_square_around_all_tumor():
    mask, pred = np.zeros((64, 48), bool), np.zeros((64, 48), bool)
    mask[10, 12], pred[25, 30] = True, True
    axes = gallery_figure([row((64, 48), mask=mask, pred=pred)]).axes[3]
    left, top, side = square_around(mask | pred)
    assert axes.get_xlim() == (left - 0.5, left - 0.5 + side)  # pixel centres are whole numbers
    assert axes.get_ylim() == (top - 0.5 + side, top - 0.5)


@pytest.mark.parametrize("filled", [False, True])
def test_gallery_of_empty_or_full_masks_and_a_constant_image(filled, tmp_path):
    mask = np.full((32, 32), filled)
    one = row((32, 32), image=np.zeros((32, 32), np.int16), mask=mask, pred=mask)
    axes = gallery_figure([one]).axes[3]
    assert not axes.collections
    assert axes.get_xlim() == (-0.5, 31.5)
    write_png(gallery_figure([one]), tmp_path / "g.png", dpi=100)
    with Image.open(tmp_path / "g.png") as image:
        image.load()
        assert image.width > 900
