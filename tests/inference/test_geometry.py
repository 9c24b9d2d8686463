"""One slice in pictures, DICOM files and volumes, lying and spaced in every way.

The network (`tests.helpers.corner`) finds at its own size what is bright above the diagonal, so that of a slice that
it is shown on its side, mirrored or squeezed it makes another mask.
"""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.orientations import axcodes2ornt, ornt_transform
from PIL import Image

from tests.helpers.corner import SIDE, dice, head, mask_of, wanted
from tests.helpers.images import dicom_file


def test_the_network_is_not_symmetric(job, corner):
    ways = {
        "a": lambda image: image,
        "side": np.transpose,
        "narrow": lambda image: image[:, ::4],
        "low": lambda image: image[::4],
    }
    for name, way in ways.items():
        job.put(f"{name}.npy", way(head()))
    assert job.run() == 0
    np.testing.assert_array_equal(mask_of(job, "a.png"), wanted())
    for name in ("side", "narrow", "low"):
        assert dice(mask_of(job, f"{name}.png"), ways[name](wanted())) < 0.9


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "RPI", "SAR", "ASL", "PLI"])
def test_volumes_however_they_are_stored(job, corner, axes):
    volume = np.stack([head() // 2, head(), head() // 3], axis=-1)  # rows to posterior, columns to the left, up
    known = nib.Nifti1Image(volume, np.array([[0, -0.5, 0, 9], [-0.5, 0, 0, 8], [0, 0, 3, 7], [0, 0, 0, 1]]))
    assert nib.aff2axcodes(known.affine) == ("P", "L", "S")
    turn = ornt_transform(axcodes2ornt("PLS"), axcodes2ornt(axes))
    job.source.mkdir()
    nib.save(known.as_reoriented(turn), job.source / "a.nii.gz")
    assert job.run() == 0
    mask = nib.load(job.out / "a.nii.gz")
    np.testing.assert_array_equal(mask.affine, nib.load(job.source / "a.nii.gz").affine)
    back = np.asarray(mask.as_reoriented(ornt_transform(axcodes2ornt(axes), axcodes2ornt("PLS"))).dataobj)
    np.testing.assert_array_equal(back > 0, np.repeat(wanted()[..., None], 3, axis=2))
    assert [row["reason"] for row in job.table()] == ["", "", ""]
    assert job.run("--no-upright") == 0
    assert dice(mask_of(job, "a.nii.gz"), np.asarray(known.as_reoriented(turn).dataobj) > 350) < 0.9


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "SAR", "PLI"])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_volumes_of_itk_however_they_are_stored(job, corner, suffix, axes):
    # In ITK's order of axes: up, to posterior, to the left; without directions those are LPS.
    known = sitk.GetImageFromArray(np.stack([head() // 2, head(), head() // 3]))
    known.SetSpacing((0.5, 0.5, 3.0))
    job.source.mkdir()
    sitk.WriteImage(sitk.DICOMOrient(known, axes), str(job.source / f"a{suffix}"))
    assert job.run() == 0
    mask = sitk.ReadImage(str(job.out / "a.nii.gz"))
    assert mask.GetDirection() == sitk.DICOMOrient(known, axes).GetDirection()
    back = sitk.GetArrayFromImage(sitk.DICOMOrient(mask, "LPS"))
    np.testing.assert_array_equal(back > 0, np.repeat(wanted()[None], 3, axis=0))
    assert [row["reason"] for row in job.table()] == ["", "", ""]


@pytest.mark.parametrize(
    ("cosines", "store"),
    [
        ([1, 0, 0, 0, 1, 0], lambda image: image),
        ([0, 1, 0, 1, 0, 0], lambda image: image.T),
        ([-1, 0, 0, 0, -1, 0], lambda image: image[::-1, ::-1]),
        ([0, -1, 0, 1, 0, 0], lambda image: image.T[:, ::-1]),
    ],
)
def test_dicom_files_however_they_are_stored(job, corner, cosines, store):
    dicom_file(job.source / "a.dcm", store(head()), ImageOrientationPatient=cosines, PixelSpacing=[0.5, 0.5])
    assert job.run("--overlays") == 0
    np.testing.assert_array_equal(mask_of(job, "a.png"), store(wanted()))
    # The overlay shows the slice as it is looked at, with the outline of the mask.
    overlay = np.asarray(Image.open(job.out / "a.overlay.png"))
    np.testing.assert_array_equal(overlay[..., 0] > 200, head() > 1000)
    assert (overlay[20, 34] == (230, 159, 0)).all()


@pytest.mark.parametrize("spacing", ["PixelSpacing", "ImagerPixelSpacing"])
@pytest.mark.parametrize(("step_y", "step_x"), [(1, 4), (4, 1), (1, 2)])
def test_pixels_that_are_not_square(job, corner, spacing, step_y, step_x):
    squeezed = head().reshape(SIDE // step_y, step_y, SIDE // step_x, step_x).mean((1, 3)).astype(np.int16)
    dicom_file(job.source / "a.dcm", squeezed, **{spacing: [0.5 * step_y, 0.5 * step_x]})
    assert job.run() == 0
    mask = mask_of(job, "a.png")
    assert mask.shape == squeezed.shape
    grown = np.kron(mask, np.ones((step_y, step_x), bool))
    assert dice(grown, wanted()) > {4: 0.9, 2: 0.95}[max(step_y, step_x)]
    (row,) = job.table()
    assert float(row["tumor_mm2"]) == mask.sum() * 0.25 * step_y * step_x
    np.testing.assert_array_equal(corner.predict(job.source / "a.dcm").masks, mask)


def test_a_volume_across_thick_slices(job, corner, capsys):
    # A coronal head of axial slices four times as thick as their pixels: axes to the right, anterior, up.
    volume = np.repeat(head()[::-4, None, ::-1].transpose(2, 1, 0), 3, axis=1)
    job.source.mkdir()
    nib.save(nib.Nifti1Image(volume, np.diag([0.5, 0.5, 2, 1])), job.source / "a.nii")
    assert job.run() == 0
    says = "was sliced along axis 1, across slices 4 times as thick as their pixels"
    assert [row["reason"] for row in job.table()] == ["", "", ""]
    assert says not in capsys.readouterr().err  # along axis 2 a slice would have 3 rows
    expected = wanted()[::-4, ::-1].T
    for i in range(3):
        assert dice(mask_of(job, "a.nii.gz")[:, i], expected) > 0.9
    nib.save(nib.Nifti1Image(np.repeat(volume, 8, axis=1), np.diag([0.5, 0.5, 2, 1])), job.source / "a.nii")
    assert job.run("--axis", "1") == 0
    assert f"warning: a.nii: {says}; --axis 2 takes those\n" in capsys.readouterr().err
    assert [row["reason"] for row in job.table()] == [f"{says}; --axis 2 takes those", *[""] * 23]


def test_a_picture_that_viewers_turn(job, corner, capsys):
    exif = Image.Exif()
    exif[274] = 6  # turned clockwise when shown, so stored counter-clockwise
    grey = (head() // 8).astype(np.uint8)
    job.source.mkdir()
    Image.fromarray(np.rot90(grey)).save(job.source / "a.png", exif=exif)
    assert job.run() == 0
    np.testing.assert_array_equal(mask_of(job, "a.png"), np.rot90(wanted()))
    says = "has orientation 6: predicted as viewers show it; the mask fits the pixels as stored"
    assert [row["reason"] for row in job.table()] == [says]
    assert f"warning: a.png: {says}\n" in capsys.readouterr().err
    masks, probs = corner.predict(job.source / "a.png")
    np.testing.assert_array_equal(masks, np.rot90(wanted()))
    assert probs.shape == (64, 64) and probs.flags.c_contiguous
    assert job.run("--no-upright") == 0
    assert dice(mask_of(job, "a.png"), np.rot90(wanted())) < 0.9
    assert [row["reason"] for row in job.table()] == [""]
