"""PNG, JPEG, TIFF and BMP as other programs write them, and what is refused of them."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from tests.helpers.images import RAMP, chunk, png_bytes, png_file, refused, same
from unet_jax.imaging.formats.picture import MAX_JPEG_SCANS, check_jpeg
from unet_jax.imaging.read import read_image, silent_readers
from unet_jax.imaging.scan import Refused


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
    def test_equal_channels_are_grey_and_alpha_is_dropped(self, tmp_path, depth, colour, channels):
        grey = (RAMP * 190 if depth == 16 else RAMP % 256).astype(f"u{depth // 8}")
        samples = np.repeat(grey[..., None], channels, -1)
        if channels in (2, 4):
            samples[..., -1] = RAMP[::-1]
        same(png_file(tmp_path / "a.png", samples, depth, colour), grey)

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
        tifffile.imwrite(
            tmp_path / "a.tif",
            channels,
            photometric="rgb",
            extrasamples=[extra] if extra else None,
            compression=compression,
            byteorder=order,
        )
        same(tmp_path / "a.tif", grey)

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

    def test_a_tiff_of_many_pages_is_refused_at_the_second(self, tmp_path, monkeypatch):
        pages = [Image.fromarray(self.GREY)] * 5
        pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

        seen = []
        load = TiffImagePlugin.ImageFileDirectory_v2.load
        monkeypatch.setattr(
            TiffImagePlugin.ImageFileDirectory_v2, "load", lambda self, f: seen.append(f.tell()) or load(self, f)
        )
        refused(tmp_path / "a.tif", "holds several pages; expected one slice a file")
        assert len(set(seen)) == 1
