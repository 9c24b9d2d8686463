"""Padding, transparent pixels and voxels that are no numbers: the masks are those of the slice on black."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.helpers.corner import corner_predictor, head, inside, mask_of, wanted
from tests.helpers.images import dicom_file
from unet_jax.config import UserError
from unet_jax.shared import cli


def test_the_padding_of_dicom_files(job, corner):
    for name, value in (("zero", 0), ("padded", -2000), ("lowest", -32768)):
        padded = np.where(inside(), head(), np.int16(value))
        dicom_file(job.source / f"{name}.dcm", padded, PixelPaddingValue=value)
    dicom_file(job.source / "unsaid.dcm", np.where(inside(), head(), np.int16(-32768)))
    assert job.run() == 0
    for name in ("zero", "padded", "lowest"):
        np.testing.assert_array_equal(mask_of(job, f"{name}.png"), wanted())
    # By the padding as 1st percentile, all of the head is bright.
    assert mask_of(job, "unsaid.png").sum() > 4 * wanted().sum()


def test_transparent_pixels(job, corner):
    grey = (head() >> 3).astype(np.uint8)
    opacity = np.where(inside(), 255, 0).astype(np.uint8)
    job.put("opaque.png", np.dstack([grey] * 3 + [np.full_like(grey, 255)]))
    white = np.where(inside(), grey, np.uint8(255))
    job.put("cut_out.png", np.dstack([white] * 3 + [opacity]))
    job.put("cut_out.npy", np.dstack([white] * 3 + [opacity]))
    (job.source / "cut_out.npy").rename(job.source / "array.npy")
    job.put("two.png", np.dstack([white, opacity]))
    assert job.run("--overlays") == 0
    for name in ("opaque", "cut_out", "array", "two"):
        np.testing.assert_array_equal(mask_of(job, f"{name}.png"), wanted())
        overlay = np.asarray(Image.open(job.out / f"{name}.overlay.png"))
        assert not overlay[~inside()].any()
    assert {row["reason"] for row in job.table()} == {""}


def test_voxels_that_are_no_numbers(job, corner, capsys):
    volume = np.stack([head(), head(), head() // 2], axis=-1).astype(np.float32)
    volume[~inside(), 0] = np.nan
    volume[:, :, 1] = np.nan
    job.source.mkdir()
    nib.save(nib.Nifti1Image(volume, np.diag([-1, -1, 1, 1])), job.source / "a.nii")
    nib.save(nib.Nifti1Image(np.full_like(volume, np.nan), np.eye(4)), job.source / "b.nii")
    assert job.run("--no-upright", "--overlays") == cli.EXIT_USAGE
    mask = mask_of(job, "a.nii.gz")
    np.testing.assert_array_equal(mask[..., 0], wanted())
    np.testing.assert_array_equal(mask[..., 2], wanted())
    assert not mask[..., 1].any()
    count = 64 * 64 + (~inside()).sum()
    says = f"has {count} of its 12288 voxels not a number (NaN), taken for background"
    assert [row["reason"] for row in job.table()] == [says, "", "", "has no voxel that is a number"]
    errors = capsys.readouterr().err
    assert f"warning: a.nii: {says}\n" in errors and "b.nii: has no voxel that is a number" in errors


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((64, 64), np.uint8), "has the same value everywhere (0)"),
        (np.full((64, 64), 37, np.uint16), "has the same value everywhere (37)"),
        (np.full((64, 64, 4), 0, np.uint8), "has nothing but background"),
    ],
)
def test_a_picture_of_nothing_is_predicted_and_warned_about(job, corner, capsys, image, says):
    job.put("a.png", image)
    job.put("b.png", head().astype(np.uint16))
    assert job.run("--overlays") == 0
    assert not mask_of(job, "a.png").any()
    assert [(row["status"], row["tumor_pixels"], row["reason"]) for row in job.table()] == [
        ("ok", "0", says),
        ("ok", str(wanted().sum()), ""),
    ]
    assert f"warning: a.png: {says}\n" in capsys.readouterr().err


class TestMaskedArrays:
    def test_what_is_masked_is_background(self):
        outside = np.where(inside(), head(), np.int16(-32768))
        corner = corner_predictor()
        masks, probs = corner.predict([np.ma.MaskedArray(outside, ~inside()), np.where(inside(), head(), 300)])
        np.testing.assert_array_equal(masks[0], wanted())
        # The first percentile of the head's pixels is 300.
        np.testing.assert_array_equal(probs[0], probs[1])
        assert type(probs[0]) is np.ndarray and type(masks[0]) is np.ndarray

    def test_one_alone_and_of_floats_with_anything_behind_the_mask(self):
        image = head().astype(np.float32)
        image[~inside()] = np.nan
        mask, _ = corner_predictor().predict(np.ma.masked_invalid(image))
        np.testing.assert_array_equal(mask, wanted())
        with pytest.raises(UserError, match=r"infinite or beyond 1e\+30\. Replace or mask them"):
            corner_predictor().predict(image)

    def test_nothing_masked_and_everything(self):
        (a, b, c), _ = corner_predictor().predict(
            [head(), np.ma.MaskedArray(head()), np.ma.MaskedArray(head(), np.ones((64, 64), bool))]
        )
        np.testing.assert_array_equal(a, b)
        assert a.any() and not c.any()
