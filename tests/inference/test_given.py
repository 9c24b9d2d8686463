"""Images as a notebook gives them: whatever one is given as, the same mask of the same size."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from unet_jax.config import UserError
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.runs.load import load


@pytest.fixture(scope="module")
def network(trained):
    return load(trained)


@pytest.fixture(scope="module")
def picture(tiny_data):
    """A slice of 32x32, in 8 bits."""
    image = open_arrays(tiny_data).images[3].astype(float)
    return np.rint(image * (250 / image.max())).astype(np.uint8)


def same(network, image, expected):
    """Check that an image is predicted as another one that is (h, w)."""
    mask, probs = network.predict(image)
    assert mask.shape == probs.shape == expected.shape and probs.dtype == np.float32
    np.testing.assert_array_equal(probs, network.predict(expected).probs)
    np.testing.assert_array_equal(mask, probs >= np.float32(network.threshold))


def stacked(*channels):
    return np.stack(channels, axis=-1)


# One picture


def test_three_equal_channels_are_one_picture_of_them(network, picture):
    same(network, stacked(picture, picture, picture), picture)
    same(network, picture[..., None], picture)
    same(network, stacked(*[picture.astype(np.uint16) * 257] * 3), picture.astype(np.uint16) * 257)
    same(network, stacked(*[picture / 250] * 3), picture / 250)


def test_unequal_colours_are_grey_as_in_a_file(network, picture, tmp_path):
    colours = stacked(picture, picture[::-1], picture[:, ::-1])
    Image.fromarray(colours).save(tmp_path / "a.png")
    expected = network.predict(tmp_path / "a.png").probs
    for given in (colours, Image.fromarray(colours), str(tmp_path / "a.png")):
        np.testing.assert_array_equal(network.predict(given).probs, expected)
    red, green, blue = np.moveaxis(colours.astype(np.float64), -1, 0)
    np.testing.assert_allclose(expected, network.predict(0.299 * red + 0.587 * green + 0.114 * blue).probs, atol=1e-4)


@pytest.mark.parametrize(("kind", "full"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_opacity_is_laid_over_black(network, picture, kind, full):
    """Half of the picture is opaque, a quarter is half so, and what is behind the rest is not seen."""
    value, opacity = picture.astype(kind), np.full(picture.shape, full, kind)
    opacity[16:], opacity[24:] = full / 2, 0
    behind = value.copy()
    behind[24:] = full
    expected = value.astype(float)
    expected[16:24] *= float(opacity[16, 0]) / full
    expected[24:] = 0
    probs = network.predict(stacked(behind, behind, behind, opacity)).probs
    rounded = np.floor(expected + 0.5).astype(kind) if kind != np.float32 else expected.astype(kind)
    # As a picture whose lower part is no tissue.
    np.testing.assert_array_equal(probs, network.predict(np.ma.array(rounded, mask=opacity == 0)).probs)
    whole = np.full_like(opacity, full)
    same(network, stacked(value, value, value, whole), value)


@pytest.mark.parametrize("mode", ["1", "L", "I", "F", "I;16", "I;16B", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"])
def test_pictures_of_pil(network, picture, mode):
    """Each as its own pixels, seen as grey."""
    if mode.startswith("I;16"):
        kind = ">u2" if mode == "I;16B" else "<u2"
        given, expected = Image.frombytes(mode, (32, 32), picture.astype(kind).tobytes()), picture.astype(np.uint16)
    else:
        given = Image.fromarray(picture).convert(mode)
        expected = np.asarray(given) if mode in ("I", "F") else np.asarray(given.convert("RGB"))[..., 0]
    assert given.mode == mode and expected.shape == (32, 32)
    same(network, given, expected)


def test_a_picture_of_pil_is_predicted_as_the_file_that_it_is_of(network, picture, tmp_path):
    palette = Image.fromarray(picture).quantize(17)
    for name, image in (("a.png", Image.fromarray(picture)), ("b.png", palette), ("c.bmp", Image.fromarray(picture))):
        image.save(tmp_path / name)
        with Image.open(tmp_path / name) as opened:
            got = network.predict([opened, tmp_path / name]).probs
        np.testing.assert_array_equal(got[0], got[1])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_value_that_is_transparent_is_not_seen(network, picture, tmp_path, kind):
    image = picture.astype(kind) * (np.iinfo(kind).max // 255)
    image[:5] = 77
    Image.fromarray(image).save(tmp_path / "a.png", transparency=77)
    expected = network.predict(np.ma.masked_equal(image, 77)).probs
    with Image.open(tmp_path / "a.png") as opened:
        for probs in network.predict([opened, tmp_path / "a.png"]).probs:
            np.testing.assert_allclose(probs, expected, atol=1e-6)


@pytest.mark.parametrize("orientation", [3, 6, 7])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_a_photograph_on_its_side_is_seen_upright_and_its_mask_fits_it(network, picture, tmp_path, name, orientation):
    exif, stored = Image.Exif(), picture[:, :24]
    exif[274] = orientation
    Image.fromarray(stored).save(tmp_path / name, exif=exif, **({"quality": 100} if name == "a.jpg" else {}))
    with Image.open(tmp_path / name) as opened:
        probs = network.predict(opened).probs
        assert probs.shape == np.asarray(opened).shape
        expected = network.predict(np.asarray(ImageOps.exif_transpose(opened))).probs
    if name != "a.tif":  # of which Pillow turns the pixels itself
        expected = undone(expected, orientation)
        np.testing.assert_array_equal(probs, network.predict(tmp_path / name).probs)
    np.testing.assert_array_equal(probs, expected)


def undone(shown, orientation):
    """The pixels as stored of a picture as viewers show it."""
    return {3: shown[::-1, ::-1], 6: np.rot90(shown), 7: shown[::-1, ::-1].T}[orientation]


def test_pixels_of_pil_that_are_not_square(network, picture, tmp_path):
    Image.fromarray(picture[::2]).save(tmp_path / "a.png", dpi=(200, 100))
    with Image.open(tmp_path / "a.png") as opened:
        probs = network.predict(opened).probs
    np.testing.assert_array_equal(probs, network.predict(tmp_path / "a.png").probs)
    assert np.abs(probs - network.predict(picture[::2]).probs).max() > 0.01


def test_a_picture_of_pil_is_as_large_as_a_file_may_be(network):
    with pytest.raises(UserError, match=r"^a picture of PIL is 15x16 pixels; expected sides of 16 to 8192\.$"):
        network.predict(Image.new("L", (16, 15)))


# Masked arrays


def test_what_is_masked_is_not_seen(network, picture):
    """Whatever stands there, and in whatever type; not masked, it would be."""
    image, mask = picture.astype(np.int16), np.zeros(picture.shape, bool)
    mask[:5] = True
    expected = network.predict(np.ma.array(image, mask=mask)).probs
    for junk in (-32768, 32767):
        with_junk = np.where(mask, junk, image).astype(np.int16)
        np.testing.assert_array_equal(network.predict(np.ma.array(with_junk, mask=mask)).probs, expected)
        assert np.abs(network.predict(with_junk).probs - expected).max() > 0.01
    unknown = np.ma.masked_invalid(np.where(mask, np.nan, image))
    np.testing.assert_allclose(network.predict(unknown).probs, expected, atol=0.02)  # floats are not rounded
    beyond = np.ma.array(np.where(mask, 1e300, image), mask=mask)
    np.testing.assert_allclose(network.predict(beyond).probs, expected, atol=0.02)
    same(network, np.ma.array(image, mask=False), image)
    same(network, np.ma.array(image, mask=True), np.zeros_like(image))


def test_masks_of_channels_and_of_slices(network, picture):
    mask = np.zeros(picture.shape, bool)
    mask[:5] = True
    one = np.ma.array(picture, mask=mask)
    expected = network.predict(one).probs
    colours = np.ma.array(stacked(picture, picture, picture), mask=stacked(mask, mask & False, mask & False))
    np.testing.assert_array_equal(network.predict(colours).probs, expected)
    several = np.ma.stack([one, one])
    for probs in network.predict(several).probs:
        np.testing.assert_allclose(probs, expected, atol=1e-6)


# Several


def test_an_array_of_slices_is_a_list_of_them(network, picture):
    slices = np.stack([picture, picture[::-1], picture[:, ::-1]])
    masks, probs = network.predict(slices)
    assert isinstance(masks, list) and [p.shape for p in probs] == [(32, 32)] * 3
    for got, expected in zip(probs, network.predict(list(slices)).probs, strict=True):
        np.testing.assert_array_equal(got, expected)
    masks, _ = network.predict(np.zeros((2, 16, 17), np.uint8))
    assert [mask.shape for mask in masks] == [(16, 17)] * 2
    assert network.predict(np.zeros((0, 32, 32), np.uint8)) == ([], [])


def test_pictures_with_channels_among_several(network, picture):
    colours, opaque = stacked(*[picture] * 3), stacked(*[picture] * 3, np.full_like(picture, 255))
    expected = network.predict([picture] * 4).probs
    for given in ((colours, picture, opaque, Image.fromarray(picture)), iter([colours] * 4), np.stack([colours] * 4)):
        for got, one in zip(network.predict(given).probs, expected, strict=True):
            np.testing.assert_array_equal(got, one)


@pytest.mark.parametrize("shape", [(16, 16, 3), (300, 20, 3), (17, 16, 4), (40, 40, 1)])
def test_a_last_axis_of_1_3_or_4_is_always_channels(network, shape):
    assert network.predict(np.zeros(shape, np.uint8)).masks.shape == shape[:2]


def test_other_arrays(network, picture):
    """Those of jax, of lists, of another byte order, and views that are not contiguous."""
    import jax.numpy as jnp

    colours = stacked(*[picture] * 3)
    same(network, jnp.asarray(colours), picture)
    same(network, picture.astype(">i2"), picture.astype(np.int16))
    same(network, np.asfortranarray(colours)[::-1], picture[::-1])
    same(network, np.broadcast_to(picture[..., None], (32, 32, 3)), picture)
    assert len(network.predict(jnp.zeros((2, 32, 32)))[0]) == 2


# Refused


@pytest.mark.parametrize(
    "shape",
    [
        (256, 256, 2),
        (3, 15, 64),
        (3, 64, 15),
        (3, 2, 2),
        (1, 8193, 16),
        (2, 3, 32, 32),
        (2, 15, 32, 3),
        (1, 2, 32, 32, 3),
        (64,),
        (),
    ],
)
def test_another_shape_is_named(network, shape):
    with pytest.raises(UserError) as e:
        network.predict(np.zeros(shape, np.uint8))
    assert str(e.value).startswith(f"an array has shape {shape}; expected (height, width) of real numbers, ")
    assert "slices (n, height, width), all with sides of 16 to 8192." in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(
    "shape", [(8, 8), (1, 1), (256, 3), (15, 16), (8193, 16), (15, 16, 3), (8, 16, 1), (16, 8193, 4), (0, 32)]
)
def test_an_array_is_as_large_as_a_file_may_be(network, shape):
    for images in (np.zeros(shape, np.uint8), [np.zeros(shape, np.uint8)]):
        with pytest.raises(UserError) as e:
            network.predict(images)
        assert str(e.value).startswith(f"an image is uint8 of shape {shape}; expected (height, width) of real ")
        assert str(e.value).endswith(", all with sides of 16 to 8192.") and "\n" not in str(e.value)
    assert network.predict(np.zeros((16, 17), np.uint8)).masks.shape == (16, 17)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((32, 32, 2)), r"an image is float64 of shape \(32, 32, 2\); expected \(height, width\)"),
        (np.zeros((3, 32, 32)), r"an image is float64 of shape \(3, 32, 32\); expected \(height, width\)"),
        (np.zeros((0, 32)), r"an image is float64 of shape \(0, 32\)"),
        (np.zeros((32, 32), complex), r"an image is complex128 of shape \(32, 32\)"),
        (np.full((32, 32), "a"), r"an image is <U1 of shape \(32, 32\)"),
        (None, r"an image is object of shape \(\)"),
        (np.full((32, 32, 3), np.nan), r"has values that are not a number, infinite or beyond 1e\+30\. Replace"),
        (np.full((32, 32), -1e300), r"has values that are not a number, infinite or beyond 1e\+30\. Replace or mask"),
        (np.full((32, 32, 1), np.float32(1e30)), r"infinite or beyond 1e\+30\. Replace or mask"),
        (np.full((32, 32, 4), 1e39), r"infinite or beyond 1e\+30\. Replace or mask"),
    ],
)
def test_what_is_no_image_is_named(network, image, message):
    with pytest.raises(UserError, match=message):
        network.predict([image])


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, 2.0, None, "2", float("nan")])
def test_no_number_of_slices_at_a_time(network, picture, batch_size):
    for images in (picture, [picture], []):
        with pytest.raises(UserError) as e:
            network.predict(images, batch_size=batch_size)
        assert str(e.value) == f"batch_size is {batch_size!r}; it must be a whole number of at least 1."


def test_a_number_of_slices_of_numpy(network, picture):
    assert len(network.predict([picture] * 3, batch_size=np.int64(2)).masks) == 3


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut off", r"a picture of PIL, of mode L, cannot be read \(.*truncated.*\)"),
        ("closed", r"a picture of PIL, of mode L, cannot be read \(.*closed image\)"),
        ("La", r"a picture of PIL, of mode La, cannot be read \(conversion from La to L not supported\)"),
    ],
)
def test_a_picture_of_pil_that_cannot_be_read_is_named(network, picture, tmp_path, kind, message):
    path = tmp_path / "a.bmp"
    Image.fromarray(picture).save(path)
    if kind == "cut off":
        path.write_bytes(path.read_bytes()[:-500])
    with Image.open(path) as opened:
        image = opened.convert("LA").convert("La") if kind == "La" else opened
        if kind == "closed":
            image.close()
        with pytest.raises(UserError, match=f"^{message}\\.$") as e:
            network.predict([image])
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["a\0b.png", "a\0b", "\ud800.png", "\ud800"])
def test_what_cannot_be_a_path_is_named(network, name):
    for path in (name, Path(name)):
        with pytest.raises(UserError) as e:
            network.predict(path)
        assert str(e.value).startswith(f"{path!r} cannot be a path (") and "\n" not in str(e.value)


def test_a_path_of_bytes(network, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    (entry,) = os.scandir(os.fsencode(tmp_path))
    same(network, entry, picture)


def test_rows_of_several_lengths_are_named(network):
    with pytest.raises(UserError, match="an image is of type list, of which NumPy makes no array ") as e:
        network.predict([[[1, 2], [3]]])
    assert "\n" not in str(e.value)


def test_what_holds_no_images(network):
    for images in (None, 3):
        with pytest.raises(UserError, match=r"images are of type \w+; expected an image, or a list of such"):
            network.predict(images)


def test_opacity_that_is_none_does_not_matter(network):
    """Numbers beyond 0 to 1 are no opacity, nor are those of wide types; as in `.npy` files."""
    image = np.random.default_rng(0).integers(0, 200, (32, 32))
    same(network, stacked(image, image, image, np.full_like(image, 7)), image)
