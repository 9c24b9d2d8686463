import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet_jax.config import UserError
from unet_jax.data.image_io import IMAGE_SUFFIXES, find_images, to_display, write_mask, write_overlay, write_probs

RAMP = np.arange(20 * 17).reshape(20, 17)


class TestFind:
    def test_subfolders_in_order_without_hidden_and_foreign_files(self, tmp_path):
        names = ["b/2.JPG", "b/10.png", "a.tif", "z.mat", "B/x.npy", "b.png", "b/c/d.bmp"]
        others = ["cvind.mat", ".hidden.png", ".cache/a.png", "b/notes.txt", "b/CVIND.MAT", "e.dcm", "noSuffix"]
        for name in names + others:
            (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / name).touch()
        expected = ["B/x.npy", "a.tif", "b/10.png", "b/2.JPG", "b/c/d.bmp", "b.png", "z.mat"]
        assert [p.as_posix() for p in find_images(tmp_path)] == expected

    def test_one_file(self, tmp_path):
        (tmp_path / "a.PNG").touch()
        assert find_images(tmp_path / "a.PNG") == [Path("a.PNG")]

    def test_links_to_folders_are_followed_once(self, tmp_path):
        (tmp_path / "in/sub").mkdir(parents=True)
        (tmp_path / "far").mkdir()
        for name in ("in/a.png", "in/sub/b.png", "far/c.png"):
            (tmp_path / name).touch()
        (tmp_path / "in/sub/up").symlink_to(tmp_path / "in")
        (tmp_path / "in/far").symlink_to(tmp_path / "far")
        assert [p.as_posix() for p in find_images(tmp_path / "in")] == ["a.png", "far/c.png", "sub/b.png"]

    def test_links_to_nothing_are_listed_so_that_they_are_reported(self, tmp_path):
        (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
        assert find_images(tmp_path) == [Path("a.png")]

    def test_every_suffix(self, tmp_path):
        for suffix in IMAGE_SUFFIXES:
            (tmp_path / f"a{suffix}").touch()
        assert {p.suffix for p in find_images(tmp_path)} == set(IMAGE_SUFFIXES)

    @pytest.mark.parametrize(
        ("name", "message"),
        [("gone", "does not exist"), ("a.dcm", "unknown suffix"), ("empty", "holds no image")],
    )
    def test_nothing_to_do_is_refused(self, tmp_path, name, message):
        (tmp_path / "a.dcm").touch()
        (tmp_path / "empty/.hidden").mkdir(parents=True)
        with pytest.raises(UserError, match=message):
            find_images(tmp_path / name)


class TestDisplay:
    def test_percentiles_become_black_and_white(self):
        image = np.arange(10201).reshape(101, 101)  # 1st percentile 102, 99th 10098
        shown = to_display(image)
        assert shown.dtype == np.uint8
        for value, grey in ((0, 0), (102, 0), (5100, 128), (10098, 255), (10200, 255), (2601, 64)):
            assert shown.flat[value] == grey  # round((value - 102) / 9996 * 255)

    def test_constant_is_black(self):
        assert not to_display(np.full((16, 16), 7.5)).any()

    def test_few_bright_pixels_are_seen(self):
        image = np.zeros((32, 32), np.int16)
        image[3, 4] = 900
        assert to_display(image)[3, 4] == 255

    def test_large_offsets_keep_their_contrast(self):
        image = (RAMP + 2**31).astype(np.uint32)
        np.testing.assert_array_equal(to_display(image), to_display(RAMP.astype(np.uint16)))


class TestWrite:
    def test_mask(self, tmp_path):
        mask = RAMP % 3 == 0
        write_mask(tmp_path / "a.png", mask)
        with Image.open(tmp_path / "a.png") as picture:
            assert (picture.format, picture.mode) == ("PNG", "L")
            np.testing.assert_array_equal(np.asarray(picture), np.where(mask, 255, 0))

    def test_mask_of_zeros_and_ones_gives_the_same_bytes(self, tmp_path):
        write_mask(tmp_path / "a.png", RAMP % 3 == 0)
        write_mask(tmp_path / "b.png", (RAMP % 3 == 0).astype(np.uint8))
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    def test_probs(self, tmp_path):
        probs = np.linspace(0, 1, 340, dtype=np.float32).reshape(20, 17)
        write_probs(tmp_path / "a.npy", probs)
        loaded = np.load(tmp_path / "a.npy")
        assert loaded.dtype == np.float16
        np.testing.assert_array_equal(loaded, probs.astype(np.float16))

    def test_overlay_leaves_the_rest_tints_the_inside_and_draws_the_edge(self, tmp_path):
        grey = np.full((32, 40), 100, np.uint8)
        mask = np.zeros((32, 40), bool)
        mask[10:15, 20:26] = True
        write_overlay(tmp_path / "a.png", grey, mask)
        canvas = np.asarray(Image.open(tmp_path / "a.png"))
        assert (canvas[~mask] == 100).all()
        inside = np.zeros_like(mask)
        inside[11:14, 21:25] = True
        # 0.7 * 100 + 0.3 * (230, 159, 0)
        assert (canvas[inside] == (139, 118, 70)).all()
        assert (canvas[mask & ~inside] == (230, 159, 0)).all()

    def test_overlay_without_tumor_is_the_slice(self, tmp_path):
        grey = (RAMP % 256).astype(np.uint8)
        write_overlay(tmp_path / "a.png", grey, np.zeros(grey.shape, bool))
        canvas = np.asarray(Image.open(tmp_path / "a.png"))
        np.testing.assert_array_equal(canvas, np.repeat(grey[..., None], 3, -1))

    def test_overlay_edge_runs_along_the_picture_s_own(self, tmp_path):
        write_overlay(tmp_path / "a.png", np.zeros((32, 32), np.uint8), np.ones((32, 32), bool))
        canvas = np.asarray(Image.open(tmp_path / "a.png"))
        assert (canvas[0] == (230, 159, 0)).all() and (canvas[1:-1, 1:-1] != (230, 159, 0)).any(-1).all()

    def test_failure_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch):
        write_mask(tmp_path / "a.png", RAMP > 3)
        before = (tmp_path / "a.png").read_bytes()

        def broken(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", broken)
        with pytest.raises(OSError, match="No space"):
            write_mask(tmp_path / "a.png", RAMP > 5)
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
        assert (tmp_path / "a.png").read_bytes() == before
