"""Masks of one slice in pictures, DICOM files and volumes.

Hypothesis: a slice gives the same mask as a PNG, as DICOM with square pixels and as NIfTI, NRRD and MetaImage however
it is stored, and nearly the same with pixels of 0.5 x 2 mm, which leave a quarter of what there was along an axis.

Command: `python -m experiments.best.containers --workdir runs/best --raw figshare`

Time: 18 s for a network at 192 px, on two CPU cores beside other work.

Outcome, of the first ten validation slices of each tumour type, by number, whose own Dice is above 0.8: all 30 masks
agree bit for bit with those of the PNG, but for pixels that are not square: median Dice 0.971 with 0.5 x 2 mm, 0.964
with 2 x 0.5 mm. Of these 60 three are below 0.85: 0.819 (slice 922, whose 3,741 pixels become 5,284), and 0.845 and 0
(slice 1880, a glioma of 1,077 pixels: with a quarter of the rows its highest probability falls from 0.999 to 0.002).
Mean Dice with the truth is 0.896 as PNG, 0.887 and 0.860 with pixels not square.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Bool, Int16

from unet_jax.config import TUMORS, UserError
from unet_jax.shared import cli

VOLUMES = {"RAS": ".nii.gz", "LPS": ".nii.gz", "LAS": ".nii.gz", "RAS nrrd": ".nrrd", "LAS mha": ".mha"}
"""Directions of the axes of the volumes, and how each is stored."""
STEPS = {"0.5 x 0.5 mm": (1, 1), "0.5 x 2 mm": (1, 4), "2 x 0.5 mm": (4, 1)}
"""Rows and columns of the slice that make a pixel of the DICOM files."""
FAR = 0.85
"""Dice with the mask of the PNG below which a slice is named."""
_LOOKED_AT = "PLS"
"""Directions of rows and columns of an axial slice as it is looked at, and of the slices."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare the masks of validation slices in several containers."""

    workdir: Path
    """Folder of the run."""
    raw: Path
    """Folder of the raw dataset."""
    least: float = 0.8
    """Dice of a slice as PNG, which it must be above to be taken."""
    per_type: int = 10
    """Slices of each tumour type, the first by number."""


def main(argv: Sequence[str] | None = None) -> int:
    import tyro

    options = tyro.cli(Options, prog="python -m experiments.best.containers", args=argv)
    from unet_jax import predict

    chosen = list(choose(options))
    if not chosen:
        raise UserError(f"no validation slice of {options.raw} has a Dice above {options.least}.")
    for tumor in TUMORS:
        print(f"{tumor}: {sum(t == tumor for _, t, _, _ in chosen)} slices")
    agree, truth = dict[str, list[tuple[float, int]]](), dict[str, list[float]]()
    with TemporaryDirectory() as folder:
        source, out = Path(folder, "in"), Path(folder, "out")
        for number, _, image, _ in chosen:
            write_all(source / str(number), image)
        argv = ["--workdir", str(options.workdir), "--input", str(source), "--output", str(out)]
        if code := predict.main(argv):
            return code
        for number, _, _, mask in chosen:
            found = read_all(out / str(number))
            for name, one in found.items():
                agree.setdefault(name, []).append((dice(one, found["png"]), number))
                truth.setdefault(name, []).append(dice(one, mask))
    print(f"{'':14}{'agreement':>10}{'lowest':>9}{'of slice':>10}{'with truth':>12}")
    for name, pairs in agree.items():
        (least, number), median = min(pairs), np.median([d for d, _ in pairs])
        print(f"{name:14}{median:10.4f}{least:9.4f}{number:10}{np.mean(truth[name]):12.4f}")
    for name, pairs in agree.items():
        if low := [f"slice {number} {d:.3f}" for d, number in sorted(pairs) if d < FAR]:
            print(f"{name}: below {FAR}: {', '.join(low)}")
    return 0


def choose(options: Options) -> Iterator[tuple[int, str, Int16[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]]:
    """Give number, tumour type, image and true mask of the slices that are compared."""
    import unet_jax
    from unet_jax.data.raw import find_slices
    from unet_jax.data.splits import load_split
    from unet_jax.imaging.formats.mat import read_slice, slice_number
    from unet_jax.runs.workdir import Workdir

    predictor, validation = unet_jax.load(options.workdir), set(load_split(Workdir(options.workdir).split).val)
    left = dict.fromkeys(TUMORS, options.per_type)
    for path in sorted(find_slices(options.raw), key=lambda path: slice_number(path) or 0):
        if slice_number(path) not in validation or not any(left.values()):
            continue
        one = read_slice(path)
        tumor, mask = TUMORS[one.label - 1], one.mask > 0
        if left[tumor] and dice(predictor.predict(one.image).masks, mask) > options.least:
            left[tumor] -= 1
            yield one.slice, tumor, one.image, mask


def write_all(folder: Path, image: Int16[np.ndarray, "h w"]) -> None:
    """Write a slice of intensities from 0 on in every container."""
    import nibabel as nib
    from PIL import Image

    folder.mkdir(parents=True)
    Image.fromarray(image.astype(np.uint16)).save(folder / "png.png")
    for name, (down, across) in STEPS.items():
        h, w = image.shape[0] // down, image.shape[1] // across
        means = image[: h * down, : w * across].reshape(h, down, w, across).mean((1, 3))
        _write_dicom(folder / f"{name}.dcm", np.rint(means).astype(np.uint16), [0.5 * down, 0.5 * across])
    affine = np.array([[0, -0.5, 0, 0], [-0.5, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]])  # rows to posterior, ...
    known = nib.Nifti1Image(image[..., None], affine)
    for name, suffix in VOLUMES.items():
        save = nib.save if suffix == ".nii.gz" else _write_by_itk
        save(_reoriented(known, _LOOKED_AT, name[:3]), folder / f"{name}{suffix}")


def _reoriented(image: Any, before: str, after: str) -> Any:
    from nibabel.orientations import axcodes2ornt, ornt_transform

    return image.as_reoriented(ornt_transform(axcodes2ornt(before), axcodes2ornt(after)))


def _write_by_itk(volume: Any, path: Path) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.asarray(volume.dataobj).T)
    steps = np.diag([-1, -1, 1]) @ volume.affine[:3]  # ITK's axes point to the left and the back
    spacing = np.linalg.norm(steps[:, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((steps[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(steps[:, 3].tolist())
    sitk.WriteImage(image, str(path), True)


def _write_dicom(path: Path, image: np.ndarray, spacing: list[float]) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = MRImageStorage, generate_uid(), "MR"
    data.Rows, data.Columns = image.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelSpacing, data.ImageOrientationPatient = spacing, [1, 0, 0, 0, 1, 0]
    data.PixelData = image.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)


def read_all(folder: Path) -> dict[str, Bool[np.ndarray, "h w"]]:
    """Read the masks of a slice, each mapped back to its pixels as PNG."""
    import nibabel as nib
    from PIL import Image

    masks = {"png": np.asarray(Image.open(folder / "png.png")) > 0}
    for name, step in STEPS.items():
        small = np.asarray(Image.open(folder / f"{name}.png")) > 0
        masks[name] = np.zeros_like(masks["png"])
        grown = np.kron(small, np.ones(step, bool))
        masks[name][: grown.shape[0], : grown.shape[1]] = grown
    for name in VOLUMES:
        back = _reoriented(nib.load(folder / f"{name}.nii.gz"), name[:3], _LOOKED_AT)
        masks[name] = np.asarray(back.dataobj)[..., 0] > 0
    return masks


def dice(a: Bool[np.ndarray, "h w"], b: Bool[np.ndarray, "h w"]) -> float:
    """Compute the Dice coefficient of two masks; 1 where both are empty."""
    pixels = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / pixels if pixels else 1.0


if __name__ == "__main__":
    cli.run(main)
