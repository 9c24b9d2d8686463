"""Slices as the HTML report shows them: what the PNG decode to, outlines of masks by hand."""

import base64
import io
import re

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from unet_jax.reporting.pictures import Picture, colour_bar, outline_path, picture_record, probability_png


def decoded(text):
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        image.load()
        return image


def lines(path):
    """The lines (x, y, dx, dy) of an outline, those that `z` draws too."""
    found = []
    for loop in re.findall(r"M[^Mz]*z", path):
        x, y = start = tuple(int(v) for v in re.match(r"M(\d+) (\d+)", loop).groups())
        for kind, length in re.findall(r"([hv])(-?\d+)", loop):
            dx, dy = (int(length), 0) if kind == "h" else (0, int(length))
            found.append((x, y, dx, dy))
            x, y = x + dx, y + dy
        found.append((x, y, start[0] - x, start[1] - y))
    return found


def filled(path, shape):
    """The pixels inside an outline by the even-odd rule: an odd number of its vertical edges on their left."""
    crossings = np.zeros(shape, int)
    for x, y, dx, dy in lines(path):
        assert (dx == 0) != (dy == 0)
        crossings[min(y, y + dy) : max(y, y + dy), x:] += 1
    return crossings % 2 == 1


def test_a_record_holds_the_slice_without_loss():
    rng = np.random.default_rng(0)
    probs = rng.random((20, 30)).astype(np.float32)
    picture = Picture(
        slice=7,
        image=rng.integers(0, 256, (20, 30)).astype(np.uint8),
        mask=rng.random((20, 30)) < 0.4,
        pred=probs >= 0.5,
        probs=probs,
    )
    record = picture_record(picture)
    assert (record["slice"], record["width"], record["height"]) == (7, 30, 20)
    image = decoded(record["image"])
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), picture.image)
    coloured = decoded(record["probs"])
    indices = np.asarray(coloured)
    assert coloured.mode == "P" and np.abs(indices / 255 - probs).max() <= 0.5 / 255 + 1e-6
    inferno = matplotlib.colormaps["inferno"](indices, bytes=True)[..., :3]
    np.testing.assert_array_equal(np.asarray(coloured.convert("RGB")), inferno)
    for name in ("mask", "pred"):
        np.testing.assert_array_equal(filled(record[name], (20, 30)), getattr(picture, name))


def drawn(*lines):
    return np.array([[c == "#" for c in line] for line in lines])


@pytest.mark.parametrize(
    ("mask", "path"),
    [
        (drawn("...", "..."), ""),
        (drawn("...", ".#."), "M1 1h1v1h-1z"),
        (drawn("##", "##"), "M0 0h2v2h-2z"),
        (drawn("##.", ".##"), "M0 0h2v1h1v1h-2v-1h-1z"),
        (drawn("#.", ".#"), "M0 0h1v1h-1zM1 1h1v1h-1z"),  # they touch at a corner only
        (drawn("###", "#.#", "###"), "M0 0h3v3h-3zM1 2h1v-1h-1z"),  # a hole runs the other way
    ],
)
def test_outlines_by_hand(mask, path):
    assert outline_path(mask) == path


@settings(deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_an_outline_filled_is_the_mask_and_no_edge_is_drawn_twice(mask):
    path = outline_path(mask)
    np.testing.assert_array_equal(filled(path, mask.shape), mask)
    padded = np.pad(mask, 1)
    edges = (padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum()
    assert sum(abs(dx + dy) for _, _, dx, dy in lines(path)) == edges


def test_probabilities_span_the_colours_and_an_image_that_is_not_contiguous_keeps_its_pixels():
    image = decoded(base64.b64encode(probability_png(np.array([[0.0, 0.5, 1.0]], np.float32))))
    assert np.asarray(image).tolist() == [[0, 128, 255]]
    bar = decoded(colour_bar().partition(",")[2])
    assert np.asarray(bar).tolist() == [list(range(256))]
    image = np.arange(12, dtype=np.uint8).reshape(3, 4).T[::-1]
    nothing = np.zeros(image.shape, bool)
    record = picture_record(Picture(1, image, nothing, nothing, nothing.astype(np.float32)))
    np.testing.assert_array_equal(np.asarray(decoded(record["image"])), image)


@pytest.mark.parametrize(
    ("pixels", "shape", "box"),
    [
        ([], (8, 8), None),
        ([(20, 30)], (64, 64), [22.5, 12.5, 16, 16]),  # a quarter of the side around a single pixel
        ([(3, 60)], (64, 64), [48, 0, 16, 16]),
        ([(10, 12), (25, 30)], (40, 90), [2.5, 0, 38, 38]),  # as wide as 19 pixels, twice
        ([(0, 0), (9, 4)], (64, 64), [0, 0, 20, 20]),  # pushed back into the picture
        ([(2, 2), (57, 10)], (60, 20), [-20, 0, 60, 60]),  # never more than the picture's longer side
    ],
)
def test_the_square_around_the_tumor(pixels, shape, box):
    mask = np.zeros(shape, bool)
    for y, x in pixels:
        mask[y, x] = True
    zeros = np.zeros(shape, np.uint8)
    picture = Picture(1, zeros, mask, np.zeros(shape, bool), np.zeros(shape, np.float32))
    assert picture_record(picture)["box"] == box
