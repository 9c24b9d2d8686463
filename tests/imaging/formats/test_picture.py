"""PNG, JPEG, TIFF and BMP as other programs write them, and what is refused of them."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps, TiffImagePlugin

from tests.helpers.images import RAMP, chunk, png_bytes, png_file, refused, same
from unet_jax.imaging import read
from unet_jax.imaging.formats.picture import MAX_JPEG_SCANS, check_jpeg
from unet_jax.imaging.read import read_image, silent_readers
from unet_jax.imaging.scan import Reading, Refused


class TestPng:
    def test_grey_of_every_depth(self, tmp_path):
        same(png_file(tmp_path / "a.png", RAMP % 256, 8, 0), (RAMP % 256).astype(np.uint8))
        same(png_file(tmp_path / "SUFFIX.PNG", RAMP % 256, 8, 0), (RAMP % 256).astype(np.uint8))
        same(png_file(tmp_path / "a.png", RAMP * 190, 16, 0), (RAMP * 190).astype(np.uint16))
        same(png_file(tmp_path / "a.png", RAMP % 3 == 0, 1, 0), np.where(RAMP % 3 == 0, 255, 0).astype(np.uint8))

    def test_palette_is_looked_up(self, tmp_path):
        palette = bytes(v for i in range(256) for v in (255 - i,) * 3)
        path = png_file(tmp_path / "a.png", RAMP % 256, 8, 3, chunk(b"PLTE", palette))
        same(path, (255 - RAMP % 256).astype(np.uint8))

    @pytest.mark.parametrize("depth", [8, 16])
    @pytest.mark.parametrize(("colour", "channels"), [(4, 2), (2, 3), (6, 4)])
    def test_equal_channels_are_grey(self, tmp_path, depth, colour, channels):
        grey = (RAMP * 190 if depth == 16 else RAMP % 256).astype(f"u{depth // 8}")
        samples = np.repeat(grey[..., None], channels, -1)
        if channels in (2, 4):
            samples[..., -1] = 2**depth - 1
        same(png_file(tmp_path / "a.png", samples, depth, colour), grey)

    @pytest.mark.parametrize("depth", [8, 16])
    @pytest.mark.parametrize(("colour", "channels"), [(4, 2), (6, 4)])
    def test_opacity_is_over_black_and_what_is_transparent_is_masked(self, tmp_path, depth, colour, channels):
        top = 2**depth - 1
        samples = np.full((20, 17, channels), top)
        samples[5:9, :, :-1] = 100
        samples[0, :4, -1] = [0, 1, top // 3, top - 1]
        samples[5, :3, -1] = [0, top // 5, top // 2]
        samples[1, 1, :-1], samples[1, 1, -1] = 7, 0
        expected = np.ma.MaskedArray(samples[..., 0].astype(f"u{depth // 8}"), samples[..., -1] == 0)
        expected[0, 1:4] = [1, top // 3, top - 1]
        expected[5, 1:3] = [20, 50]  # 49.8 and 49.999
        same(png_file(tmp_path / "a.png", samples, depth, colour), expected)

    @pytest.mark.parametrize("colour", [(200, 0, 0, 255), (250, 0, 0, 204)])
    def test_colour_with_opacity_becomes_luma_over_black(self, tmp_path, colour):
        samples = np.full((16, 16, 4), 255)
        samples[3, 3], samples[4, 4] = colour, (255, 0, 0, 0)
        image = read_image(png_file(tmp_path / "a.png", samples, 8, 6))
        assert image[3, 3] == pytest.approx(0.299 * 200, abs=1e-4) and image[0, 0] == 255
        np.testing.assert_array_equal(np.argwhere(image.mask), [[4, 4]])

    @pytest.mark.parametrize(("depth", "levels"), [(1, 2), (2, 4), (4, 16), (8, 256), (16, 65536)])
    def test_a_grey_that_is_called_transparent_is_masked(self, tmp_path, depth, levels):
        values, key = np.resize(np.arange(min(levels, 32)), (16, 16)), min(levels, 32) - 1
        bits = (values[..., None] >> np.arange(depth)[::-1]) & 1
        rows = np.packbits(bits.reshape(16, -1), axis=1)
        packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
        (tmp_path / "a.png").write_bytes(png_bytes(16, 16, depth, 0, packed, chunk(b"tRNS", struct.pack(">H", key))))
        grey = (values * (255 // (levels - 1) if depth < 8 else 1)).astype(f"u{max(1, depth // 8)}")
        same(tmp_path / "a.png", np.ma.MaskedArray(grey, values == key))

    @pytest.mark.parametrize("depth", [8, 16])
    def test_a_colour_that_is_called_transparent_is_masked(self, tmp_path, depth):
        samples = np.repeat((RAMP * 190 if depth == 16 else RAMP % 256)[..., None], 3, -1)
        key = samples[4, 5]
        path = png_file(tmp_path / "a.png", samples, depth, 2, chunk(b"tRNS", struct.pack(">3H", *key)))
        grey = samples[..., 0].astype(f"u{depth // 8}")
        same(path, np.ma.MaskedArray(grey, grey == key[0]))

    def test_colours_of_a_palette_that_are_transparent_are_masked(self, tmp_path):
        palette = bytes(v for i in range(256) for v in (i,) * 3)
        chunks = chunk(b"PLTE", palette), chunk(b"tRNS", bytes([255, 0, 51]))  # of the first three; 2 * 51 / 255 = 0.4
        grey = (RAMP % 256).astype(np.uint8)
        expected = np.ma.MaskedArray(np.where(grey == 2, 0, grey).astype(np.uint8), grey == 1)
        same(png_file(tmp_path / "a.png", RAMP % 256, 8, 3, *chunks), expected)

    @pytest.mark.parametrize("depth", [8, 16])
    def test_colours_become_luma(self, tmp_path, depth):
        samples = np.zeros((16, 16, 3), int)
        top = 2**depth - 1
        samples[0, :4] = [(top, 0, 0), (0, top, 0), (0, 0, top), (top, top, top)]
        samples[1, 0] = (30, 20, 10)
        image = read_image(png_file(tmp_path / "a.png", samples, depth, 2))
        assert image.dtype == np.float32
        np.testing.assert_allclose(image[0, :5], [0.299 * top, 0.587 * top, 0.114 * top, top, 0], rtol=1e-6)
        assert image[1, 0] == pytest.approx(0.299 * 30 + 0.587 * 20 + 0.114 * 10, abs=1e-5)  # 21.85

    @pytest.mark.parametrize(("h", "w"), [(15, 16), (16, 15), (16, 8193), (10_000, 10_000), (60_000, 60_000)])
    def test_sides_are_checked_before_decoding(self, tmp_path, h, w):
        (tmp_path / "a.png").write_bytes(png_bytes(h, w, 8, 0, b""))
        refused(tmp_path / "a.png", "expected sides of 16 to 8192")


class TestTiff:
    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "f4"])
    def test_every_type_in_both_byte_orders(self, tmp_path, dtype, compression, order):
        image = ((RAMP - 100) * (190 if np.dtype(dtype).itemsize > 1 else 1)).astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", image, byteorder=order, compression=compression)
        same(tmp_path / "a.tif", image)

    def test_unsigned_32_bit(self, tmp_path):
        image = (RAMP + 2**32 - 1000).astype(np.uint32)
        tifffile.imwrite(tmp_path / "a.tiff", image, byteorder="<")
        same(tmp_path / "a.tiff", image)

    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    def test_white_is_zero(self, tmp_path, dtype):
        image = RAMP.astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="miniswhite", byteorder="<")
        same(tmp_path / "a.tif", np.iinfo(dtype).max - image)

    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("extra", [None, "unassalpha", "assocalpha", "unspecified"])
    def test_16_bit_colour_keeps_its_low_bytes(self, tmp_path, extra, compression, order):
        grey = (RAMP * 190).astype(np.uint16)
        channels = np.repeat(grey[..., None], 4 if extra else 3, -1)
        if extra == "unassalpha":
            channels[..., 3] = 65535
        tifffile.imwrite(
            tmp_path / "a.tif",
            channels,
            photometric="rgb",
            extrasamples=[extra] if extra else None,
            compression=compression,
            byteorder=order,
        )
        # Opaque; over black already, and transparent where it is 0; or no opacity at all.
        same(tmp_path / "a.tif", np.ma.MaskedArray(grey, grey == 0) if extra == "assocalpha" else grey)

    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    @pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
    def test_opacity_with_and_without_the_colours_over_black(self, tmp_path, extra, dtype, compression):
        top = np.iinfo(dtype).max
        channels = np.full((16, 16, 4), [100, 100, 100, top], dtype)
        channels[2, :3, 3] = [0, top // 5, top]
        tifffile.imwrite(tmp_path / "a.tif", channels, photometric="rgb", extrasamples=[extra], compression=compression)
        expected = np.ma.MaskedArray(channels[..., 0], channels[..., 3] == 0)
        if extra == "unassalpha":
            expected[2, 1] = 20
        same(tmp_path / "a.tif", expected)

    def test_16_bit_colour_in_tiles(self, tmp_path):
        grey = np.arange(48 * 40).reshape(48, 40).astype(np.uint16) * 30
        tifffile.imwrite(tmp_path / "a.tif", np.repeat(grey[..., None], 3, -1), photometric="rgb", tile=(16, 16))
        same(tmp_path / "a.tif", grey)

    def test_16_bit_colour_in_planes_is_refused(self, tmp_path):
        planes = np.repeat((RAMP * 190).astype(np.uint16)[None], 3, 0)
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
        refused(tmp_path / "a.tif", "over 8 bits a colour")

    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_pixels_come_as_stored_whatever_the_orientation(self, tmp_path, orientation, dtype):
        image = RAMP.astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", image, extratags=[(274, 3, 1, orientation, True)])
        same(tmp_path / "a.tif", image)

    @pytest.mark.parametrize(
        ("unit", "x", "y", "aspect"), [(2, 300, 300, 1), (1, 2, 1, 2), (2, 204, 98, 204 / 98), (3, 10, 40, 0.25)]
    )
    def test_resolutions_tell_the_shape_of_pixels(self, tmp_path, unit, x, y, aspect):
        # In pixels a unit, whatever the unit; without one they tell nothing but this.
        tifffile.imwrite(tmp_path / "a.tif", RAMP.astype("u1"), resolution=(x, y), resolutionunit=unit)
        picture = read.open(tmp_path / "a.tif")
        assert picture.aspect == pytest.approx(aspect) and picture.spacing is None

    @pytest.mark.parametrize("resolution", [(0, 1), (1, 0), (0, 0)])
    def test_resolutions_that_are_none(self, tmp_path, resolution):
        tifffile.imwrite(
            tmp_path / "a.tif", RAMP.astype("u1"), byteorder="<", resolution=(1234, 4321), resolutionunit=2
        )
        raw, along_x = (tmp_path / "a.tif").read_bytes(), struct.pack("<II", 1234, 1)
        assert raw.count(along_x) == 1
        (tmp_path / "a.tif").write_bytes(raw.replace(along_x, struct.pack("<II", *resolution)))
        picture = read.open(tmp_path / "a.tif")
        assert picture.aspect == 1 and picture.warnings == []

    def test_a_spacing_that_is_given_goes_before_resolutions(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", RAMP.astype("u1"), resolution=(1, 4), resolutionunit=2)
        picture = read.open(tmp_path / "a.tif", Reading(spacing=0.5))
        assert picture.aspect == 1 and picture.spacing == (0.5, 0.5)

    def test_odd_metadata_is_silent(self, tmp_path):
        image = RAMP.astype("u1")
        tifffile.imwrite(tmp_path / "a.tif", image, extratags=[(271, 2, 4, b"abc\0", True)])
        raw = bytearray((tmp_path / "a.tif").read_bytes())
        entry = raw.index(struct.pack("<HHI", 271, 2, 4))
        raw[entry + 4 : entry + 8] = struct.pack("<I", 10**6)  # a count beyond the file's end
        (tmp_path / "a.tif").write_bytes(raw)
        with silent_readers():  # without it, Pillow's warning would be an error here
            same(tmp_path / "a.tif", image)


class TestOtherPictures:
    def test_jpeg(self, tmp_path):
        grey = np.add.outer(np.arange(32), np.arange(24)).astype(np.uint8) * 4
        Image.fromarray(grey).save(tmp_path / "a.jpg", quality=95)
        image = read_image(tmp_path / "a.jpg")
        assert image.dtype == np.uint8 and image.shape == (32, 24)
        assert np.abs(image.astype(int) - grey).max() <= 6

    def test_jpeg_orientation_is_not_applied(self, tmp_path):
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(np.zeros((32, 24), np.uint8)).save(tmp_path / "a.jpeg", exif=exif)
        assert read_image(tmp_path / "a.jpeg").shape == (32, 24)

    def test_bmp_and_that_content_counts_not_the_suffix(self, tmp_path):
        image = (RAMP % 256).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "a.bmp")
        same(tmp_path / "a.bmp", image)
        (tmp_path / "a.bmp").rename(tmp_path / "a.tif")
        same(tmp_path / "a.tif", image)

    @pytest.mark.parametrize(("suffix", "unit"), [("png", 1), ("jpg", 1), ("bmp", 1)])
    def test_dots_an_inch_tell_the_shape_of_pixels(self, tmp_path, suffix, unit):
        Image.fromarray((RAMP % 256).astype(np.uint8)).save(tmp_path / f"a.{suffix}", dpi=(200, 100))
        assert read.open(tmp_path / f"a.{suffix}").aspect == pytest.approx(2, rel=0.01)
        Image.fromarray((RAMP % 256).astype(np.uint8)).save(tmp_path / f"b.{suffix}", dpi=(96, 96))
        assert read.open(tmp_path / f"b.{suffix}").aspect == 1


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
    def test_the_network_sees_what_viewers_show(self, tmp_path, name, orientation):
        path, exif = tmp_path / name, Image.Exif()
        exif[274] = orientation
        if name == "a.tif":
            tifffile.imwrite(path, (RAMP % 256).astype("u1"), extratags=[(274, 3, 1, orientation, True)])
        else:
            Image.fromarray((RAMP % 256).astype(np.uint8)).save(path, exif=exif, dpi=(100, 100))
        with path.open("rb") as f, Image.open(f) as image:  # of a name, Pillow maps TIFF, and turns its rows wrongly
            shown = np.asarray(ImageOps.exif_transpose(image))
        stored = read_image(path)
        assert stored.shape == (20, 17)
        picture = read.open(path, Reading(upright=True))
        np.testing.assert_array_equal(picture.read(0), shown)
        np.testing.assert_array_equal(picture.back(shown), stored)
        says = f"has orientation {orientation}: predicted as viewers show it; the mask fits the pixels as stored"
        assert picture.warnings == ([] if orientation == 1 else [says])
        assert read.open(path).warnings == []

    def test_pixels_that_are_not_square_are_turned_too(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", RAMP.astype("u1"), resolution=(2, 1), extratags=[(274, 3, 1, 6, True)])
        assert read.open(tmp_path / "a.tif").aspect == 2
        assert read.open(tmp_path / "a.tif", Reading(upright=True)).aspect == 0.5

    @pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"nonsense", bytes(100)])
    def test_damaged_exif_tells_nothing(self, tmp_path, exif):
        Image.fromarray((RAMP % 256).astype(np.uint8)).save(tmp_path / "a.jpg", exif=exif)
        with silent_readers():
            picture = read.open(tmp_path / "a.jpg", Reading(upright=True))
        assert picture.read(0).shape == (20, 17) and picture.warnings == []

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_orientations_that_are_none(self, tmp_path, orientation):
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray((RAMP % 256).astype(np.uint8)).save(tmp_path / "a.png", exif=exif)
        picture = read.open(tmp_path / "a.png", Reading(upright=True))
        np.testing.assert_array_equal(picture.read(0), (RAMP % 256).astype(np.uint8))


class TestDamaged:
    GREY = np.random.default_rng(0).integers(0, 256, (24, 20), np.uint8)

    def test_every_bit_of_a_png_counts(self, tmp_path):
        # Pillow stops at the last row, and does not notice a change that left it with enough rows.
        Image.fromarray(self.GREY).save(tmp_path / "a.png")
        whole = (tmp_path / "a.png").read_bytes()
        for at in [*range(8 * 8, 8 * len(whole) - 500, 7), *range(8 * len(whole) - 500, 8 * len(whole))]:
            changed = bytearray(whole)
            changed[at // 8] ^= 1 << at % 8
            (tmp_path / "a.png").write_bytes(changed)
            refused(tmp_path / "a.png", "")
        for length in range(8, len(whole)):
            (tmp_path / "a.png").write_bytes(whole[:length])
            refused(tmp_path / "a.png", "")
        (tmp_path / "a.png").write_bytes(whole + b"more")
        same(tmp_path / "a.png", self.GREY)

    def test_scans_of_a_jpeg_without_end(self, tmp_path):
        Image.fromarray(self.GREY).save(tmp_path / "a.jpg", progressive=True)
        whole = (tmp_path / "a.jpg").read_bytes()
        assert read_image(tmp_path / "a.jpg").shape == (24, 20)
        at, scans = whole.rindex(b"\xff\xda"), whole.count(b"\xff\xda") + MAX_JPEG_SCANS
        (tmp_path / "a.jpg").write_bytes(whole[:at] + whole[at:-2] * (MAX_JPEG_SCANS + 1) + whole[-2:])
        refused(tmp_path / "a.jpg", f"has {scans} scans; expected at most 50")
        (tmp_path / "a.jpg").write_bytes(b"x" * (2**20 - 1) + b"\xff\xda" * 60)  # one lies across two pieces read
        with pytest.raises(Refused, match="has 60 scans"):
            check_jpeg(tmp_path / "a.jpg")

    def test_a_tiff_of_many_pages_is_refused_at_the_second_or_third(self, tmp_path, monkeypatch):
        pages = [Image.fromarray(self.GREY)] * 5
        pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

        seen = []
        load = TiffImagePlugin.ImageFileDirectory_v2.load
        monkeypatch.setattr(
            TiffImagePlugin.ImageFileDirectory_v2, "load", lambda self, f: seen.append(f.tell()) or load(self, f)
        )
        refused(tmp_path / "a.tif", "holds several pages; expected one slice a file")
        assert len(set(seen)) == 2
