"""The resampler against values worked out by hand and against independent constructions."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.transform import resize as skimage_resize

from unet_jax.imaging.resize import from_network, percentiles, resize, resize_mask, square_shape, to_network


def row(*values):
    """An image of one row, doubled, so that only the second axis resamples."""
    return np.array([values, values], float)


def area_by_repetition(image, shape):
    """The exact area average: every pixel cut into so many parts that each output pixel holds whole ones."""
    (h, w), (h2, w2) = image.shape, shape
    parts = np.repeat(np.repeat(image.astype(np.int64), h2, 0), w2, 1)
    return parts.reshape(h2, h, w2, w).sum((1, 3)) / (h * w)


def test_shrinking_averages_over_area_by_hand():
    np.testing.assert_array_equal(resize(np.array([[1, 3], [5, 7]]), (1, 1)), [[4]])
    np.testing.assert_array_equal(resize(row(1, 3, 5, 9), (2, 2)), row(2, 7))
    # 3 to 2: each output holds one pixel and half of the middle one.
    np.testing.assert_allclose(resize(row(1, 2, 6), (2, 2)), row(4 / 3, 14 / 3), rtol=1e-6)
    # 5 to 2: two pixels and half of the middle one.
    np.testing.assert_allclose(resize(row(1, 2, 6, 4, 8), (2, 2)), row(6 / 2.5, 15 / 2.5), rtol=1e-6)


def test_growing_is_bilinear_with_half_pixel_centres_by_hand():
    np.testing.assert_array_equal(resize(row(0, 8), (2, 4)), row(0, 2, 6, 8))
    np.testing.assert_allclose(resize(row(0, 3), (2, 3)), row(0, 1.5, 3), rtol=1e-6)
    np.testing.assert_array_equal(resize(np.array([[5]]), (3, 2)), np.full((3, 2), 5))
    # One axis grows while the other shrinks.
    np.testing.assert_array_equal(resize(np.array([[0, 8], [4, 12], [1, 1], [3, 3]]), (2, 4)), [[2, 4, 8, 10], [2] * 4])


@pytest.mark.parametrize(
    ("shape", "to"),
    [
        ((12, 12), (5, 5)),
        ((20, 33), (16, 7)),
        ((31, 17), (30, 16)),
        ((9, 8), (3, 8)),
        ((200, 90), (130, 70)),
        ((256, 192), (96, 64)),
    ],
)
def test_shrinking_is_the_exact_area_average(shape, to):
    image = np.random.default_rng(0).integers(-3000, 12000, shape).astype(np.int16)
    np.testing.assert_array_equal(resize(image, to), area_by_repetition(image, to).astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "to"), [((5, 5), (12, 12)), ((20, 7), (23, 40)), ((2, 3), (64, 3)), ((11, 9), (150, 65))]
)
def test_growing_equals_jax(shape, to):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = jax.image.resize(image, to, "bilinear", antialias=False)
    np.testing.assert_allclose(resize(image, to), expected, atol=1e-5)  # jax's weights are float32


@pytest.mark.parametrize("to", [(7, 7), (16, 16), (23, 40), (128, 5)])
def test_a_constant_stays_what_it_is(to):
    for value in (12728, 0.1):
        got = resize(np.full((16, 16), value), to)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, np.full(to, value, np.float32))


def test_whole_intensities_come_out_the_same_whatever_the_order_of_summation():
    image = np.random.default_rng(0).integers(-32768, 32767, (48, 37)).astype(np.int16)
    for to in ((20, 11), (77, 64), (20, 64)):
        expected = resize(image, to)
        np.testing.assert_array_equal(resize(image[::-1, ::-1], to)[::-1, ::-1], expected)
        np.testing.assert_array_equal(resize(np.asfortranarray(image), to), expected)
        np.testing.assert_array_equal(resize(image.T, to[::-1]).T, expected)


def test_nothing_cannot_be_resized():
    with pytest.raises(ValueError, match="every side must be at least 1"):
        resize(np.zeros((0, 4)), (2, 2))
    with pytest.raises(ValueError, match="every side must be at least 1"):
        resize(np.zeros((4, 4)), (2, 0))


def test_percentiles_are_those_of_the_native_slice():
    got = to_network(np.arange(10_201, dtype=np.int16).reshape(101, 101), 16)
    assert (got.p1, got.p99) == (102.0, 10_098.0)  # 1 % and 99 % of the way from 0 to 10,200
    assert isinstance(got.p1, float)
    constant = to_network(np.full((20, 20), 7, np.uint8), 16)
    assert (constant.p1, constant.p99) == (7.0, 7.0)


def test_integers_wider_than_8_bits_stay_whole():
    blocks = np.array([[1, 2], [2, 2]])  # averages 1.75
    tiled = np.tile(blocks, (16, 16))
    for dtype in (np.int16, np.uint16, np.int32):
        np.testing.assert_array_equal(to_network(tiled.astype(dtype), 16).image, np.full((16, 16), 2, np.float32))
    for dtype in (np.uint8, np.float32, np.float64):
        np.testing.assert_array_equal(to_network(tiled.astype(dtype), 16).image, np.full((16, 16), 1.75, np.float32))


def test_one_slice_in_different_containers_reaches_the_network_the_same():
    grey = np.random.default_rng(0).integers(0, 256, (37, 50)).astype(np.uint8)
    a, b, c = (to_network(x, 16) for x in (grey, grey.astype(np.int16) * 16, grey.astype(np.uint16) * 16))
    np.testing.assert_array_equal(b.image, c.image)
    np.testing.assert_allclose(a.image * 16, b.image, atol=0.5)
    assert (a.p1 * 16, a.p99 * 16) == (b.p1, b.p99) == (c.p1, c.p99)


def test_a_slice_that_is_not_square_is_padded_in_the_middle_with_its_background():
    image = np.full((16, 32), 900, np.int16)
    image[0, :10] = 100  # just under 2 % of the pixels, so the 1st percentile is 100
    got = to_network(image, 32)
    assert got.p1 == 100
    np.testing.assert_array_equal(got.image[8:24], image)
    np.testing.assert_array_equal(got.image[:8], 100)
    np.testing.assert_array_equal(got.image[24:], 100)
    # An odd margin leaves the extra column on the right.
    tall = to_network(np.full((32, 29), 5, np.int16) + np.arange(29, dtype=np.int16), 32)
    np.testing.assert_array_equal(tall.image[3, 1:30], 5 + np.arange(29))


@pytest.mark.parametrize("shape", [(64, 64), (64, 40), (33, 64), (100, 37), (24, 20)])
def test_from_network_undoes_the_geometry(shape):
    """Linear images stay linear away from the edges: coordinates come back as they went, to a small part of a pixel.

    They would be off by half a pixel under another convention for where pixels stand. At odd factors the area average
    of a staircase is not quite linear.
    """
    for coordinate in np.mgrid[: shape[0], : shape[1]].astype(float):
        back = from_network(to_network(coordinate, 32).image, shape)
        assert back.shape == shape and back.dtype == np.float32 and back.flags.c_contiguous
        np.testing.assert_allclose(back[8:-8, 8:-8], coordinate[8:-8, 8:-8], atol=0.1)


def test_from_network_takes_a_block_back_to_its_place():
    probs = np.zeros((4, 4), np.float16)
    probs[1, 2] = 1
    # 8x4 stands in the columns 2 to 5 of its square; the network's pixel (1, 2) is rows 2-3, columns 4-5 of that.
    shrunk = from_network(np.kron(probs, np.ones((4, 4))), (8, 4))
    expected = np.zeros((8, 4))
    expected[2:4, 2:4] = 1
    np.testing.assert_array_equal(shrunk, expected)


@pytest.mark.parametrize(("masked", "p99"), [(0, 10_398), (1, 10_295.99), (2, 10_193.98), (5, 10_193.98)])
def test_what_is_masked_becomes_the_first_percentile_and_counts_as_dark(masked, p99):
    # With 10,201 pixels of background below as many of tissue it is at 0.99 * 20,401 - 10,201 of these from 300 on,
    # with twice as many at 0.99 * 30,602 - 20,402; more do not count.
    tissue = np.arange(10_201).reshape(101, 101) + 300
    image = np.ma.MaskedArray(np.full((101 * (masked + 1), 101), -32768, np.int16), True)
    image[:101] = tissue  # which is unmasked by it
    got = to_network(image, len(image))
    assert got.p1 == 402 and got.p99 == pytest.approx(p99, abs=1e-6)
    left = (len(image) - 101) // 2
    np.testing.assert_array_equal(got.image[:101, left : left + 101], tissue)
    np.testing.assert_array_equal(got.image[101:], 402)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_percentiles_of_what_is_not_masked(dtype):
    rng = np.random.default_rng(0)
    image = np.ma.MaskedArray(rng.integers(0, 100, (37, 20)).astype(dtype), rng.random((37, 20)) < 0.4)
    tissue = image.data[~image.mask].astype(np.float64)
    on_dark = np.where(image.mask, tissue.min(), image.data).astype(np.float64)
    assert percentiles(image) == (np.percentile(tissue, 1), np.percentile(on_dark, 99))
    if dtype is np.float32:
        image.data[image.mask] = np.nan
        assert np.isfinite(to_network(image, 16).image).all()


def test_nothing_but_background_is_nothing():
    for data in (np.full((20, 20), 9, np.int16), np.full((20, 20), np.nan)):
        got = to_network(np.ma.MaskedArray(data, True), 16)
        assert (got.p1, got.p99) == (0.0, 0.0) and not got.image.any()


@pytest.mark.parametrize(
    ("shape", "aspect", "square"),
    [
        ((256, 64), 0.25, (256, 256)),
        ((64, 256), 4.0, (256, 256)),
        ((100, 30), 0.5, (100, 60)),
        ((100, 30), 1.5, (150, 30)),
        ((100, 30), 1.01, (100, 30)),  # rounding in a header
        ((100, 30), 1 / 1.01, (100, 30)),
        ((100, 30), 1.02, (102, 30)),
        ((8192, 4096), 0.25, (4096, 8192)),  # no side is longer than a file's may be
        ((8192, 16), 100.0, (8192, 1)),
    ],
)
def test_square_pixels_are_as_fine_as_the_shorter_side(shape, aspect, square):
    assert square_shape(shape, aspect) == square


@pytest.mark.parametrize(("shape", "aspect", "square"), [((40, 12), 0.25, (40, 48)), ((12, 40), 3.0, (36, 40))])
def test_pixels_are_made_square_before_the_network_and_stay_what_they_were_in_the_percentiles(shape, aspect, square):
    image = np.random.default_rng(0).integers(0, 3000, shape).astype(np.float32)
    got, low, high = to_network(image, 16, aspect), *np.percentile(image.astype(np.float64), (1, 99))
    grown = np.asarray(jax.image.resize(image, square, "bilinear", antialias=False)).astype(np.float64)
    side = max(square)
    top, left = (side - square[0]) // 2, (side - square[1]) // 2
    padded = np.full((side, side), low)
    padded[top : top + square[0], left : left + square[1]] = grown
    parts = np.repeat(np.repeat(padded, 16, 0), 16, 1).reshape(16, side, 16, side)
    np.testing.assert_allclose(got.image, parts.mean((1, 3)), atol=0.01)
    assert (got.p1, got.p99) == (low, high)


@pytest.mark.parametrize("aspect", [1.0, 1.004, 1 / 1.004])
def test_square_pixels_change_no_bit(aspect):
    image = np.random.default_rng(0).integers(-3000, 12000, (48, 37)).astype(np.int16)
    as_before, got = to_network(image, 32), to_network(image, 32, aspect)
    np.testing.assert_array_equal(got.image, as_before.image)
    probs = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    np.testing.assert_array_equal(from_network(probs, (48, 37), aspect), from_network(probs, (48, 37)))


@pytest.mark.parametrize(("shape", "aspect"), [((64, 16), 0.25), ((24, 60), 2.0), ((48, 20), 0.4), ((16, 64), 4.0)])
def test_from_network_undoes_pixels_that_are_not_square(shape, aspect):
    for axis, coordinate in enumerate(np.mgrid[: shape[0], : shape[1]].astype(float)):
        back = from_network(to_network(coordinate, 64, aspect).image, shape, aspect)
        assert back.shape == shape and back.dtype == np.float32 and back.flags.c_contiguous
        inner = tuple(slice(2 + n // 8, -2 - n // 8) for n in shape)
        np.testing.assert_allclose(back[inner], coordinate[inner], atol=0.1, err_msg=str(axis))


def test_from_network_takes_a_block_back_to_pixels_that_are_not_square():
    probs = np.zeros((8, 8), np.float32)
    probs[2:4, 4:8] = 1
    # Of 8x2 pixels, each four times as wide as high, the square has 8x8; the block is two rows of the second column.
    expected = np.zeros((8, 2))
    expected[2:4, 1] = 1
    np.testing.assert_array_equal(from_network(probs, (8, 2), 0.25), expected)


def test_area_rule_is_strictly_more_than_half():
    mask = np.zeros((8, 8), np.uint8)
    mask[0, :4] = 1  # half of two pixels
    mask[2:4, 6] = 1
    mask[3, 7] = 1  # three quarters of one
    expected = np.zeros((4, 4), np.uint8)
    expected[1, 3] = 1
    got = resize_mask(mask, 4, "area")
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, expected)


def test_area_rule_at_odd_factors_and_sides():
    mask = np.random.default_rng(0).random((37, 37)) < 0.5
    np.testing.assert_array_equal(resize_mask(mask, 16, "area"), area_by_repetition(mask, (16, 16)) > 0.5)
    wide = np.zeros((3, 6), bool)
    wide[:, 2:4] = True  # stands in rows 1 to 3 of its square
    expected = np.zeros((6, 6), np.uint8)
    expected[1:4, 2:4] = 1
    np.testing.assert_array_equal(resize_mask(wide, 6, "area"), expected)


def test_a_mask_that_grows_keeps_its_outline():
    mask = np.zeros((4, 4), np.uint8)
    mask[1:3, 1:3] = 1
    expected = np.kron(mask, np.ones((3, 3)))
    expected[[3, 3, 8, 8], [3, 8, 3, 8]] = 0  # where bilinear interpolation is below a half
    np.testing.assert_array_equal(resize_mask(mask, 12, "area"), expected)
    assert resize_mask(np.ones((4, 4), np.uint8), 11, "area").all()


@pytest.mark.parametrize(("side", "size"), [(512, 128), (256, 128), (512, 96), (70, 16), (33, 20), (32, 32), (18, 16)])
def test_any_rule_is_the_original_notebooks(side, size):
    rng = np.random.default_rng(side + size)
    mask = (rng.random((side, side)) < 4 / side**2).astype(np.uint8)
    mask[0, side // 2] = mask[-1, -1] = 1
    mask[side // 3 : side // 2, side // 3 : side // 2] = 1
    np.testing.assert_array_equal(resize_mask(mask, size, "any"), skimage_resize(mask, (size, size)) > 0)


def test_any_rule_never_loses_a_pixel():
    for y, x in ((0, 0), (63, 63), (17, 42), (31, 32)):
        mask = np.zeros((64, 64), np.uint8)
        mask[y, x] = 1
        for size in (16, 24, 63, 64, 100):
            got = resize_mask(mask, size, "any")
            assert got[(2 * y + 1) * size // 128, (2 * x + 1) * size // 128]


@pytest.mark.parametrize("rule", ["area", "any"])
def test_no_tumour_stays_none(rule):
    for size in (16, 20, 33):
        assert not resize_mask(np.zeros((20, 20), np.uint8), size, rule).any()
        assert resize_mask(np.ones((20, 20), np.uint8), size, rule).all()


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
        elements=st.integers(0, 100),
    )
)
def test_percentiles_are_numpys_to_the_bit(image):
    assert percentiles(image) == tuple(np.percentile(image.astype(np.float64), (1, 99)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16])
def test_percentiles_over_the_whole_range_of_a_type(dtype):
    info, rng = np.iinfo(dtype), np.random.default_rng(0)
    for shape in ((1, 1), (1, 2), (10, 10), (11, 19), (100, 101), (50, 2)):
        image = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
        image[0, 0], image[-1, -1] = info.min, info.max
        expected = tuple(np.percentile(image.astype(np.float64), (1, 99)))
        assert percentiles(image) == expected
        assert percentiles(image.astype(image.dtype.newbyteorder())) == expected
        assert percentiles(np.asfortranarray(image)) == expected
