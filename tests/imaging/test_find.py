"""Image files of a folder and its subfolders."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.images import RAMP, dicom_file
from unet_jax.config import UserError
from unet_jax.imaging.find import NO_PICTURE, NO_SUFFIX, find_files, find_images, listed
from unet_jax.imaging.read import suffix_of, suffixes


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
        # Links to nothing are listed, so that they are reported.
        (tmp_path / "in/b.png").symlink_to(tmp_path / "gone.png")
        assert find_images(tmp_path / "in")[1] == Path("b.png")

    def test_every_suffix(self, tmp_path):
        for suffix in suffixes():
            (tmp_path / f"a{suffix}").touch()
        assert {suffix_of(p) for p in find_images(tmp_path)} == set(suffixes())

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

    def test_dicom_of_any_name_in_a_folder(self, tmp_path):
        image = RAMP.astype(np.uint16)
        (tmp_path / "s").mkdir()
        names = ["s/IM1", "s/1.2.840.5", "a.dcm", "s/1.2.840.MR", "s/P.MR.0003.IMA", "s/IM.0001", "s/notes.txt"]
        for name in [*names, "s/DICOMDIR"]:
            dicom_file(tmp_path / name, image)
        (tmp_path / "s/README").write_text("no picture")
        (tmp_path / "s/short").write_text("")
        assert [p.as_posix() for p in find_images(tmp_path)] == sorted(names)
        assert find_files(tmp_path).left_out == {NO_SUFFIX: 2}
        # Known by its content, to the last.
        assert find_images(tmp_path / "s/notes.txt") == [Path("notes.txt")]

    def test_others_are_counted_by_suffix(self, tmp_path):
        for name in ("a.png", "b.TXT", "s/c.txt", "s/d.xlsx", "s/e", ".f.txt", "cvind.mat", "g.0001"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        report = "1.2.840.10008.5.1.4.1.1.88.11"
        for name in ("report.dcm", "s/report"):
            dicom_file(tmp_path / name, RAMP.astype(np.uint16), SOPClassUID=report, PixelData=None)
        images, left_out = find_files(tmp_path)
        assert images == [Path("a.png")]
        assert left_out == {".txt": 2, ".xlsx": 1, ".0001": 1, NO_SUFFIX: 1, NO_PICTURE: 2}
        assert listed(left_out) == ("7 files (2 .txt, 2 DICOM without a picture, 1 .0001, 1 .xlsx, 1 without a suffix)")
        # Kinds that are not known are looked into, those that are always pictures are not.
        for kind in ("1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.1.1.78.1", "1.2.840.10008.5.1.4.39.1"):
            elements = {"SOPClassUID": kind, "Rows": None, "Columns": None, "PixelData": None}
            dicom_file(tmp_path / f"s/{kind}", RAMP.astype(np.uint16), **elements)
        dicom_file(tmp_path / "s/pictures of a maker", RAMP.astype(np.uint16), SOPClassUID="1.3.12.2.1107.5.9.1")
        dicom_file(tmp_path / "s/emptied", RAMP.astype(np.uint16), Rows=None, Columns=None, PixelData=None)
        images, left_out = find_files(tmp_path)
        assert [path.name for path in images] == ["a.png", "emptied", "pictures of a maker"]
        assert left_out[NO_PICTURE] == 5
        # Given by itself, one is for its reader to refuse.
        assert find_files(tmp_path / "report.dcm") == ([Path("report.dcm")], {})

    def test_a_folder_of_others_alone_names_them(self, tmp_path):
        (tmp_path / "a.webq").touch()
        with pytest.raises(UserError, match=r"holds no image, but 1 file \(1 \.webq\); expected"):
            find_images(tmp_path)
