"""Masks of one slice in several containers."""

import re

import numpy as np
import pytest

from experiments.best import containers
from unet_jax.config import UserError


def test_what_is_written_comes_back_as_it_was(tmp_path):
    """Each container read without the project, as a mask of what is bright."""
    import nibabel as nib
    import pydicom
    import SimpleITK as sitk
    from PIL import Image

    image = np.zeros((64, 64), np.int16)
    image[8:20, 40:60] = 1000
    containers.write_all(tmp_path / "in", image)
    (tmp_path / "out").mkdir()
    for path in (tmp_path / "in").iterdir():
        if path.suffix == ".dcm":
            data = pydicom.dcmread(path)
            assert [2 * float(v) for v in data.PixelSpacing] == list(containers.STEPS[path.stem])
            Image.fromarray((data.pixel_array > 500).astype(np.uint8)).save(tmp_path / f"out/{path.stem}.png")
        elif path.suffix == ".gz":
            volume = nib.load(path)
            assert "".join(nib.aff2axcodes(volume.affine)) == path.name[:3]
            nib.save(
                nib.Nifti1Image((np.asarray(volume.dataobj) > 500).astype(np.uint8), volume.affine),
                tmp_path / "out" / path.name,
            )
        elif path.suffix in (".nrrd", ".mha"):
            volume = sitk.ReadImage(path)
            assert volume.GetSpacing() == (0.5, 0.5, 5)
            sitk.WriteImage(sitk.Cast(volume > 500, sitk.sitkUInt8), tmp_path / f"out/{path.stem}.nii.gz")
        else:
            Image.fromarray((np.asarray(Image.open(path)) > 500).astype(np.uint8)).save(tmp_path / "out/png.png")
    found = containers.read_all(tmp_path / "out")
    assert list(found) == ["png", *containers.STEPS, *containers.VOLUMES]
    for name, mask in found.items():
        np.testing.assert_array_equal(mask, image > 500, err_msg=name)


def test_the_command_compares_the_first_slices_of_each_type(trained, raw_phantom, capsys):
    options = ["--workdir", str(trained), "--raw", str(raw_phantom), "--per-type", "2"]
    assert containers.main([*options, "--least", "-1"]) == 0
    said = capsys.readouterr().out
    assert re.findall(r": (\d+) slices", said) == ["2", "2", "2"]
    for name in ("png", "0.5 x 0.5 mm", *containers.VOLUMES):
        assert re.search(rf"^{name} +1\.0000   1\.0000 ", said, re.M)
    assert len(re.findall(r"^(?:0\.5 x 2|2 x 0\.5) mm +[01]\.\d{4} +[01]\.\d{4} +\d+ ", said, re.M)) == 2
    with pytest.raises(UserError, match="no validation slice"):
        containers.main([*options, "--least", "1"])
