"""How slices of DICOM files lie, and how high their pixels are."""

import numpy as np
import pytest

from tests.helpers import images
from tests.helpers.images import RAMP, dicom_file
from unet_jax.imaging import read
from unet_jax.imaging.scan import Reading

R, L, A, P, H, F = ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, 1), (0, 0, -1))
"""Directions in the patient as DICOM counts them: towards left, posterior and head."""


class TestUpright:
    @pytest.mark.parametrize(
        ("across", "down", "wanted"),
        [
            (L, P, (L, P)),
            (P, L, (L, P)),
            (R, A, (L, P)),
            (A, L, (L, P)),
            (L, F, (L, F)),
            (H, R, (L, F)),
            (P, F, (P, F)),
            (F, A, (P, F)),
            (H, P, (P, F)),
        ],
    )
    @pytest.mark.parametrize("tilt", [0.0, 0.3])
    def test_however_it_is_stored(self, tmp_path, across, down, wanted, tilt):
        rows, columns = np.mgrid[:20, :17]
        place = rows[..., None] * down + columns[..., None] * across  # of each pixel in the patient, in pixels
        stored = (40 * (place @ wanted[0]) + place @ wanted[1] + 1000).astype(np.uint16)
        turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
        cosines = [float(f"{v:.6f}") for way in (across, down) for v in turn @ way]
        path = dicom_file(tmp_path / "a.dcm", stored, ImageOrientationPatient=cosines, PixelSpacing=[0.5, 2])
        picture = read.open(path, Reading(upright=True))
        seen = picture.read(0).astype(int)
        assert (np.diff(seen, axis=1) == 40).all() and (np.diff(seen, axis=0) == 1).all()
        np.testing.assert_array_equal(picture.back(seen), stored)
        turned = abs(np.dot(across, wanted[0])) == 0
        assert picture.aspect == (4 if turned else 0.25) and picture.spacing == (0.5, 2)
        assert picture.warnings == []
        images.same(path, stored)  # by itself it is read as stored

    @pytest.mark.parametrize(
        ("changes", "turned"),
        [
            ({}, False),
            ({"PatientOrientation": ["P", "L"]}, True),
            ({"PatientOrientation": ["PLF", "LAF"]}, True),
            ({"PatientOrientation": ["L", "P"]}, False),
            ({"PatientOrientation": ""}, False),
            ({"PatientOrientation": "L"}, False),
            ({"PatientOrientation": ["L", "L"]}, False),
            ({"PatientOrientation": ["X", "Y"]}, False),
            ({"ImageOrientationPatient": [0, 1, 0, 0, 0, 0]}, False),
            ({"ImageOrientationPatient": [0] * 6}, False),
            ({"ImageOrientationPatient": [0, 1, 0, 1, 0]}, False),
            ({"ImageOrientationPatient": ["1e300"] * 6}, False),
            ({"ImageOrientationPatient": [0, 9, 0, 9, 0, 0], "PatientOrientation": ["P", "L"]}, True),
            ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0], "PatientOrientation": ["L", "P"]}, True),
        ],
    )
    def test_what_tells_and_what_does_not(self, tmp_path, changes, turned):
        image = RAMP.astype(np.uint16)
        picture = read.open(dicom_file(tmp_path / "a.dcm", image, **changes), Reading(upright=True))
        np.testing.assert_array_equal(picture.read(0), image.T if turned else image)
