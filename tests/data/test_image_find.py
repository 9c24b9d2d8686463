from pathlib import Path

import numpy as np
import pytest

from unet_jax.config import UserError
from unet_jax.imaging.display import to_display
from unet_jax.imaging.find import IMAGE_SUFFIXES, find_images, stem_of, suffix_of

RAMP = np.arange(20 * 17).reshape(20, 17)


class TestFind:
    def test_subfolders_in_order_without_hidden_and_foreign_files(self, tmp_path):
        names = ["b/2.JPG", "b/10.png", "a.tif", "z.mat", "B/x.npy", "b.png", "b/c/d.bmp"]
        names += ["e.dcm", "f.DICOM", "g.nii", "b/h.NII.gz"]
        others = ["cvind.mat", ".hidden.png", ".cache/a.png", "b/notes.txt", "b/CVIND.MAT", "i.gz", "noSuffix", "1.2"]
        for name in names + others:
            (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / name).touch()
        expected = ["B/x.npy", "a.tif", "b/10.png", "b/2.JPG", "b/c/d.bmp", "b/h.NII.gz", "b.png"]
        expected += ["e.dcm", "f.DICOM", "g.nii", "z.mat"]
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
        assert {suffix_of(p) for p in find_images(tmp_path)} == set(IMAGE_SUFFIXES)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("gone", "does not exist"),
            ("a.txt", "unknown suffix"),
            ("1.2.3", "unknown suffix"),
            ("empty", "holds no image"),
        ],
    )
    def test_nothing_to_do_is_refused(self, tmp_path, name, message):
        (tmp_path / "a.txt").touch()
        (tmp_path / "1.2.3").touch()
        (tmp_path / "empty/.hidden").mkdir(parents=True)
        with pytest.raises(UserError, match=message):
            find_images(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "suffix", "stem"),
    [
        ("a.png", ".png", "a"),
        ("a.b.PNG", ".png", "a.b"),
        ("a.nii", ".nii", "a"),
        ("a.NII.GZ", ".nii.gz", "a"),
        ("a.gz", "", "a.gz"),
        ("1.2.840.5", "", "1.2.840.5"),
        ("IM1", "", "IM1"),
        (".png", "", ".png"),
    ],
)
def test_suffix_and_stem(name, suffix, stem):
    assert (suffix_of(Path("p/q.png") / name), stem_of(Path("p/q.png") / name)) == (suffix, stem)


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
