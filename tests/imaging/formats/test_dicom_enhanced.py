"""Enhanced DICOM objects: several frames, and functional groups that say what the object itself does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from tests.helpers.images import BIG_ENDIAN, EXPLICIT, RAMP, dicom_file
from unet_jax.imaging import read
from unet_jax.imaging.scan import ImageError, Reading

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
IMPLICIT = "1.2.840.10008.1.2"
_GROUP_OF = {
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
}


def groups(**values: Any) -> Dataset:
    """Make the functional groups of a frame, each of one item."""
    made = Dataset()
    for name, value in values.items():
        if _GROUP_OF[name] not in made:
            setattr(made, _GROUP_OF[name], Sequence([Dataset()]))
        setattr(made[_GROUP_OF[name]].value[0], name, value)
    return made


def enhanced(path: Path, frames: np.ndarray, shared: Dataset | None, each: list[Dataset], **more: Any) -> Path:
    elements = {"SOPClassUID": ENHANCED_MR, "NumberOfFrames": len(frames), "PixelData": frames.tobytes()}
    elements |= {"SharedFunctionalGroupsSequence": None if shared is None else Sequence([shared])}
    elements |= {"PerFrameFunctionalGroupsSequence": Sequence(each) if each else None}
    syntax = more.pop("syntax", EXPLICIT)
    if syntax == BIG_ENDIAN:
        elements["PixelData"] = frames.byteswap().tobytes()
    return dicom_file(path, frames[0], syntax, **elements | more)


def stack(n: int) -> np.ndarray:
    return np.stack([RAMP + 1000 * i for i in range(n)]).astype(np.uint16)


class TestOneFrame:
    @pytest.mark.parametrize("by_frame", [False, True])
    def test_scaling_spacing_and_orientation_of_the_groups(self, tmp_path, by_frame):
        told = groups(
            PixelSpacing=[0.5, 2], RescaleSlope=-1, RescaleIntercept=1339, ImageOrientationPatient=[0, 1, 0, 1, 0, 0]
        )
        path = enhanced(tmp_path / "a.dcm", stack(1), None if by_frame else told, [told] if by_frame else [])
        picture = read.open(path, Reading(upright=True))
        assert len(picture) == 1 and picture.spacing == (0.5, 2) and picture.warnings == []
        np.testing.assert_array_equal(picture.read(0), 1339 - RAMP.T)
        assert picture.turn.transposed
        np.testing.assert_array_equal(read.read_image(path), 1339 - RAMP)

    def test_a_frame_s_own_groups_go_before_those_of_all_and_these_before_the_object(self, tmp_path):
        path = enhanced(
            tmp_path / "a.dcm",
            stack(1),
            groups(PixelSpacing=[3, 3], RescaleSlope=2, RescaleIntercept=0),
            [groups(PixelSpacing=[4, 4])],
            PixelSpacing=[9, 9],
            RescaleSlope=7,
            RescaleIntercept=5,
        )
        picture = read.open(path)
        assert picture.spacing == (4, 4)
        np.testing.assert_array_equal(picture.read(0), 2 * RAMP)

    @pytest.mark.parametrize("empty", [None, Dataset()])
    def test_groups_that_tell_nothing(self, tmp_path, empty):
        path = enhanced(tmp_path / "a.dcm", stack(1), empty, [Dataset()], PixelSpacing=[9, 9], RescaleSlope=3)
        picture = read.open(path)
        assert picture.spacing == (9, 9)
        np.testing.assert_array_equal(picture.read(0), 3 * RAMP)

    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
    def test_padding_and_white_of_the_object(self, tmp_path, syntax):
        frames = stack(1)
        frames[0, :2] = 63536
        path = enhanced(
            tmp_path / "a.dcm",
            frames,
            groups(RescaleSlope=2, RescaleIntercept=0),
            [],
            PixelPaddingValue=63536,
            PhotometricInterpretation="MONOCHROME1",
            syntax=syntax,
        )
        image = read.read_image(path)
        assert image.mask[:2].all() and not image.mask[2:].any()
        np.testing.assert_array_equal(image[2:], 2 * (65535 - RAMP[2:]))


class TestFrames:
    def test_each_with_what_its_own_groups_say(self, tmp_path):
        each = [
            groups(PixelSpacing=[1 + i, 2], RescaleSlope=1, RescaleIntercept=i, ImageOrientationPatient=cosines)
            for i, cosines in enumerate(([1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 0, 0], [-1, 0, 0, 0, -1, 0]))
        ]
        path = enhanced(tmp_path / "a.dcm", stack(3), None, each)
        slices = read.open(path, Reading(upright=True))
        assert len(slices) == 3 == read.count_slices(path)
        as_seen = (lambda a: a, lambda a: a.T, lambda a: a[::-1, ::-1])
        for i, seen in enumerate(as_seen):
            stored, frame = RAMP + 1000 * i + i, slices.frame(i)
            np.testing.assert_array_equal(slices.read(i), seen(stored))
            np.testing.assert_array_equal(frame.back(frame.read(0)), stored)
            assert frame.spacing == (1 + i, 2)
        assert slices.frame(1).aspect == 1

    def test_old_multi_frame_objects_have_no_groups(self, tmp_path):
        path = enhanced(
            tmp_path / "a.dcm", stack(2), None, [], SOPClassUID="1.2.840.10008.5.1.4.1.1.7.3", PixelSpacing=[1, 2]
        )
        slices = read.open(path)
        assert [slices.frame(i).spacing for i in range(2)] == [(1, 2)] * 2
        np.testing.assert_array_equal(slices.read(1), RAMP + 1000)

    def test_slices_that_lay_in_a_mosaic_before(self, tmp_path):
        path = enhanced(tmp_path / "a.dcm", stack(2), None, [], ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
        np.testing.assert_array_equal(read.open(path).read(1), RAMP + 1000)

    def test_spacing_is_given_where_a_frame_does_not_tell(self, tmp_path):
        path = enhanced(tmp_path / "a.dcm", stack(2), None, [groups(PixelSpacing=[3, 3]), Dataset()])
        slices = read.open(path, Reading(spacing=0.5))
        assert [slices.frame(i).spacing for i in range(2)] == [(3, 3), (0.5, 0.5)]

    @pytest.mark.parametrize("more", [0, 1])
    def test_compressed(self, tmp_path, more):
        path = enhanced(tmp_path / "a.dcm", stack(3), None, [groups(RescaleSlope=-1, RescaleIntercept=0)] * 3)
        data = dcmread(path)
        data.compress(RLELossless, encoding_plugin="pydicom")
        if more:  # than the header says
            data.NumberOfFrames = 2
        data.save_as(path)
        slices = read.open(path)
        assert len(slices) == 3 - more
        np.testing.assert_array_equal(slices.read(1), -(RAMP + 1000))

    def test_fewer_than_the_header_says(self, tmp_path):
        path = enhanced(tmp_path / "a.dcm", stack(3), None, [])
        data = dcmread(path)
        data.compress(RLELossless, encoding_plugin="pydicom")
        data.NumberOfFrames = 4
        data.save_as(path)
        with pytest.raises(ImageError, match="cannot be decoded as RLE Lossless"):
            read.open(path)
        with pytest.raises(ImageError, match="cannot be decoded as RLE Lossless"):
            read.open(enhanced(path, stack(1), None, [], syntax=RLELossless, PixelData=encapsulate([b"ab"])))

    def test_where_one_slice_is_expected_they_are_refused(self, tmp_path):
        with pytest.raises(ImageError, match=r"holds 2 frames; `unet_jax\.predict` takes it, frame by frame"):
            read.read_image(enhanced(tmp_path / "a.dcm", stack(2), None, []))
