"""NIfTI files that leave out what there should be."""

import struct

import nibabel as nib
import numpy as np
import pytest

from unet_jax.imaging import read
from unet_jax.imaging.scan import Reading


@pytest.mark.parametrize(
    ("form", "pixdim", "spacing"),
    [
        ("sform", (0, 0, 0), (0.5, 2.0)),
        ("sform", (np.nan, 2, 3), (0.5, 2.0)),
        ("sform", (0.25, 0, 3), (0.25, 2.0)),
        ("sform", (-0.5, 2, 0), (0.5, 2.0)),
        ("qform", (0.5, 0, 3), None),
        (None, (0, 0, 0), None),
        (None, (0.5, 2, 0), (0.5, 2.0)),
    ],
)
def test_sides_of_voxels_that_pixdim_does_not_tell(tmp_path, form, pixdim, spacing):
    image, affine = (
        nib.Nifti1Image(np.arange(16 * 18 * 20, dtype=np.int16).reshape(16, 18, 20), None),
        np.diag([0.5, 2, 3, 1]),
    )
    if form:
        getattr(image, f"set_{form}")(affine, 1)
    content = bytearray(image.to_bytes())
    struct.pack_into("<3f", content, 80, *pixdim)
    (tmp_path / "a.nii").write_bytes(content)
    with read.silent_readers():
        volume = read.open(tmp_path / "a.nii", Reading(axis=2))
    assert volume.spacing == spacing
    assert volume.stored_aspect == (spacing[0] / spacing[1] if spacing else 1)
