import io

import numpy as np
import pytest
from PIL import Image

from unet_jax.imaging.formats.untrusted import MAX_JPEG_SCANS, Clamped, picture_damage
from unet_jax.imaging.read import read_image
from unet_jax.imaging.scan import ImageError

GREY = np.random.default_rng(0).integers(0, 256, (24, 20), np.uint8)


class TestClamped:
    def test_asks_for_no_more_than_there_is(self, tmp_path):
        (tmp_path / "a").write_bytes(b"hello")
        with (tmp_path / "a").open("rb") as f:
            clamped = Clamped(f)
            assert clamped.read(2) == b"he"
            # 2**62 bytes are more than any machine has: reading the file itself would fail.
            with pytest.raises(MemoryError):
                f.read(2**62)
            assert clamped.read(2**62) == b"llo"
            clamped.seek(0)
            assert clamped.read() == clamped.read(-1) + b"hello" and clamped.tell() == 5

    def test_or_than_is_allowed(self):
        clamped = Clamped(io.BytesIO(b"hello"), 3)
        assert [clamped.read(), clamped.read(4)] == [b"hel", b"lo"]


class TestPng:
    @pytest.fixture
    def path(self, tmp_path):
        Image.fromarray(GREY).save(tmp_path / "a.png")
        return tmp_path / "a.png"

    def test_whole(self, path):
        assert picture_damage(path, "PNG") is None

    def test_every_bit_counts(self, path):
        # Pillow stops at the last row, and does not notice a change that left it with enough rows.
        whole = path.read_bytes()
        for at in range(64, 8 * len(whole)):
            changed = bytearray(whole)
            changed[at // 8] ^= 1 << at % 8
            path.write_bytes(changed)
            assert picture_damage(path, "PNG") is not None, at

    @pytest.mark.parametrize("length", [8, 20, 33, -20, -12, -4, -1])
    def test_cut_off(self, path, length):
        path.write_bytes(path.read_bytes()[:length])
        assert picture_damage(path, "PNG") is not None


class TestJpeg:
    @pytest.mark.parametrize("progressive", [False, True])
    def test_scans_of_any_jpeg(self, tmp_path, progressive):
        Image.fromarray(GREY).convert("RGB").save(tmp_path / "a.jpg", progressive=progressive)
        assert picture_damage(tmp_path / "a.jpg", "JPEG") is None

    def test_scans_without_end(self, tmp_path):
        Image.fromarray(GREY).save(tmp_path / "a.jpg", progressive=True)
        whole = (tmp_path / "a.jpg").read_bytes()
        at = whole.rindex(b"\xff\xda")
        scans = whole.count(b"\xff\xda") + MAX_JPEG_SCANS
        (tmp_path / "a.jpg").write_bytes(whole[:at] + whole[at:-2] * (MAX_JPEG_SCANS + 1) + whole[-2:])
        with pytest.raises(ImageError, match=f"has {scans} scans; expected at most 50"):
            read_image(tmp_path / "a.jpg")

    def test_scans_are_counted_across_the_pieces_that_are_read(self, tmp_path):
        (tmp_path / "a.jpg").write_bytes(b"x" * (2**20 - 1) + b"\xff\xda" * 60)
        assert picture_damage(tmp_path / "a.jpg", "JPEG") == "has 60 scans; expected at most 50"


def test_a_tiff_of_many_pages_is_refused_at_the_second(tmp_path, monkeypatch):
    pages = [Image.fromarray(GREY)] * 5
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    from PIL import TiffImagePlugin

    seen = []
    load = TiffImagePlugin.ImageFileDirectory_v2.load
    monkeypatch.setattr(
        TiffImagePlugin.ImageFileDirectory_v2, "load", lambda self, f: seen.append(f.tell()) or load(self, f)
    )
    with pytest.raises(ImageError, match="holds several pages; expected one slice a file"):
        read_image(tmp_path / "a.tif")
    assert len(set(seen)) == 1
