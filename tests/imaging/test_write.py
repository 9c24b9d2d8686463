import os

import numpy as np
import pytest
from PIL import Image

from tests.helpers.disk import full
from tests.helpers.images import RAMP
from unet_jax.imaging.write import write_mask, write_overlay, write_probs, write_spread


class TestWrite:
    def test_mask(self, tmp_path):
        mask = RAMP % 3 == 0
        write_mask(tmp_path / "a.png", mask)
        write_mask(tmp_path / "b.png", mask.astype(np.uint8))
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
        with Image.open(tmp_path / "a.png") as picture:
            assert (picture.format, picture.mode) == ("PNG", "L")
            np.testing.assert_array_equal(np.asarray(picture), np.where(mask, 255, 0))

    def test_probs(self, tmp_path):
        probs = np.linspace(0, 1, 340, dtype=np.float32).reshape(20, 17)
        write_probs(tmp_path / "a.npy", probs)
        loaded = np.load(tmp_path / "a.npy")
        assert loaded.dtype == np.float16
        np.testing.assert_array_equal(loaded, probs.astype(np.float16))

    def test_spread(self, tmp_path):
        spread = np.full((16, 16), 0.1, np.float32)
        spread[0, :4] = [0, 0.5, 0.25, 0.501]
        write_spread(tmp_path / "a.png", spread)
        with Image.open(tmp_path / "a.png") as picture:
            assert (picture.format, picture.mode) == ("PNG", "L")
            grey = np.asarray(picture)
        assert list(grey[0, :5]) == [0, 255, 128, 255, 51]  # of 255: 0, 1, 0.5 rounded to even, no more than 1, 0.2

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

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            write_mask(tmp_path / "a.png", RAMP > 5)
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
        assert (tmp_path / "a.png").read_bytes() == before
