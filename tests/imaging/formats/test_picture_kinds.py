"""WebP, GIF, PGM, JPEG 2000, and TIFF of several pages or of 64-bit numbers."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.helpers.images import RAMP, refused, same
from unet_jax.imaging import read
from unet_jax.imaging.read import read_image
from unet_jax.imaging.scan import Reading


class TestOtherKinds:
    GREY = (RAMP % 256).astype(np.uint8)

    @pytest.mark.parametrize(
        ("name", "options"),
        [("a.webp", {"lossless": True}), ("a.gif", {}), ("a.pgm", {}), ("a.jp2", {"irreversible": False})],
    )
    def test_grey(self, tmp_path, name, options):
        Image.fromarray(self.GREY).save(tmp_path / name, **options)
        same(tmp_path / name, self.GREY)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 3])
        refused(tmp_path / name, "")

    def test_16_bits(self, tmp_path):
        image = (RAMP * 190).astype(np.uint16)
        Image.fromarray(image).save(tmp_path / "a.jp2", irreversible=False)
        same(tmp_path / "a.jp2", image)
        (tmp_path / "a.pgm").write_bytes(b"P5\n17 20\n65535\n" + image.astype(">u2").tobytes())
        np.testing.assert_array_equal(read_image(tmp_path / "a.pgm"), image)
        (tmp_path / "a.pgm").write_bytes(b"P2\n17 20\n65535\n" + b" ".join(b"%d" % v for v in image.ravel()))
        np.testing.assert_array_equal(read_image(tmp_path / "a.pgm"), image)

    def test_transparent_pixels_are_masked(self, tmp_path):
        rgba = np.dstack([self.GREY] * 3 + [np.full_like(self.GREY, 255)])
        rgba[:4, :, 3] = 0
        Image.fromarray(rgba).save(tmp_path / "a.webp", lossless=True, exact=True)
        image = read_image(tmp_path / "a.webp")
        assert image.mask[:4].all() and not image.mask[4:].any()
        np.testing.assert_array_equal(image[4:], self.GREY[4:])

    @pytest.mark.parametrize("name", ["a.gif", "a.webp"])
    def test_the_first_of_several_frames(self, tmp_path, name):
        more = {"save_all": True, "append_images": [Image.fromarray(255 - self.GREY)]}
        Image.fromarray(self.GREY).save(tmp_path / name, **more, **({"lossless": True} if name == "a.webp" else {}))
        same(tmp_path / name, self.GREY)
        assert read.open(tmp_path / name).warnings == ["has several frames, of which the first was predicted"]

    def test_the_first_of_a_photograph_of_several(self, tmp_path):
        first, second = Image.fromarray(self.GREY), Image.fromarray(255 - self.GREY)
        first.save(tmp_path / "one.jpg")
        first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
        same(tmp_path / "a.jpg", np.asarray(Image.open(tmp_path / "one.jpg")))
        assert read.open(tmp_path / "a.jpg").warnings == ["has several frames, of which the first was predicted"]


class TestTiffPages:
    IMAGE = (RAMP * 190).astype(np.uint16)
    SMALL = np.full((10, 8), 7, np.uint16)

    @pytest.mark.parametrize("flagged", [False, True])
    def test_a_second_page_that_is_a_thumbnail(self, tmp_path, flagged):
        with tifffile.TiffWriter(tmp_path / "a.tif") as f:
            f.write(self.IMAGE)
            f.write(self.SMALL if not flagged else self.IMAGE[1:] // 2, subfiletype=int(flagged))
        same(tmp_path / "a.tif", self.IMAGE)
        told = [] if flagged else ["has a second page of half its sides or less, taken for a thumbnail"]
        assert read.open(tmp_path / "a.tif").warnings == told

    @pytest.mark.parametrize("pages", [[IMAGE, IMAGE], [IMAGE, SMALL, SMALL], [IMAGE, IMAGE[1:]], [SMALL, IMAGE]])
    def test_other_pages(self, tmp_path, pages):
        pages = [np.kron(page, np.ones((2, 2), np.uint16)) for page in pages]
        with tifffile.TiffWriter(tmp_path / "a.tif") as f:
            for page in pages:
                f.write(page)
        refused(tmp_path / "a.tif", "holds several pages; expected one slice a file")


class TestTiff64:
    @pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"rowsperstrip": 3}])
    @pytest.mark.parametrize("kind", ["f8", "i8", "u8"])
    def test_64_bits(self, tmp_path, kind, options):
        image = (RAMP * 1.5 + 2**40).astype(kind)
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", **options)
        same(tmp_path / "a.tif", image)

    def test_orientation_and_resolution_are_as_of_others(self, tmp_path):
        tags = {"resolution": (2, 1), "extratags": [(274, 3, 1, 6, True)]}
        tifffile.imwrite(tmp_path / "a.tif", RAMP / 3, photometric="minisblack", **tags)
        picture = read.open(tmp_path / "a.tif", Reading(upright=True))
        assert picture.aspect == 0.5
        np.testing.assert_array_equal(picture.read(0), (RAMP / 3).T[:, ::-1])
        assert picture.warnings[0].startswith("has orientation 6")

    def test_what_is_refused(self, tmp_path):
        path = tmp_path / "a.tif"
        for options in ({"compression": "zlib"}, {"tile": (16, 16)}):
            tifffile.imwrite(path, RAMP / 3, photometric="minisblack", **options)
            refused(path, "has 64-bit values in an unusual layout; save it as float32, or as .npy")
        tifffile.imwrite(path, np.stack([RAMP / 3] * 3), photometric="minisblack")
        refused(path, "holds several pages")
        tifffile.imwrite(path, RAMP[:15] / 3, photometric="minisblack")
        refused(path, "is 15x17 pixels; expected sides of 16 to 8192")
        tifffile.imwrite(path, np.full((20, 17), np.nan), photometric="minisblack")
        refused(path, "has values that are not a number")
        tifffile.imwrite(path, RAMP / 3, photometric="minisblack")
        path.write_bytes(path.read_bytes()[:-8])
        refused(path, "cannot be decoded")
