"""Invented patients and their files: heads with tumours in them, scanned, in the layout of the Figshare dataset."""

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int16
from tqdm import tqdm

from unet_jax.config import UserError
from unet_jax.data.phantom.anatomy import CSF
from unet_jax.data.phantom.draw import SIDE, Points, Pose, grow, paint
from unet_jax.data.phantom.files import folds_bytes, slice_bytes, write_archive
from unet_jax.data.phantom.heads import View, views
from unet_jax.data.phantom.scanner import Scanner
from unet_jax.data.phantom.tumors import GLIOMA, MENINGIOMA, PITUITARY, Tumor
from unet_jax.data.polygon import fill_polygon
from unet_jax.shared.workers import start_pool

FOLDS = 5
SMALL_EVERY = 10
"""One patient in so many was scanned at half the resolution."""
PATIENTS_WORTH_A_PROCESS = 16

_VIEWS_OF = {
    MENINGIOMA: "axial-middle coronal-middle sagittal-side axial-high coronal-back axial-low sagittal-middle",
    GLIOMA: "axial-middle sagittal-side coronal-middle axial-high axial-low coronal-back sagittal-middle",
    PITUITARY: "sagittal-middle coronal-middle axial-low",
}
"""Views of each type's patients, who take turns."""

README = """\
Slices of invented patients in the layout of the brain tumor dataset, Figshare 1512427: data/N.mat with the struct
cjdata (image, label, PID, tumorBorder, tumorMask), and cvind.mat with a fold, 1 to 5, for each slice. Label 1 is
meningioma, 2 glioma, 3 pituitary tumor. Written by unet_jax.phantom; no person was scanned.
"""


@dataclass(frozen=True)
class PhantomSlice:
    """One slice as it goes into a file."""

    image: Int16[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"]
    border: Float[np.ndarray, "n 2"]
    """Corners (x, y) of the tumour's outline, counted from 1."""
    label: int
    pid: str
    view: str
    """Plane and level, a name in `views()`."""


def write_phantom(out: Path, patients: int, seed: int, zip: bool = False) -> int:
    """Write the phantom as data/N.mat, cvind.mat and README.txt.

    Patient k depends on the seed and k alone, so more patients add slices and leave the others as they were. The same
    arguments give the same bytes on the same machine.

    Args:
        out: folder to write in; made where absent.
        patients: number of patients, at least 1; tumour types take turns.
        seed: seed of all that is random, at least 0.
        zip: also write figshare.zip, an archive of archives as the article serves it.

    Returns:
        The number of slices.

    Raises:
        UserError: a number out of range.
    """
    if patients < 1:
        raise UserError(f"--patients is {patients}; it must be at least 1.")
    if seed < 0:
        raise UserError(f"--seed is {seed}; it must be at least 0.")
    data = out / "data"
    data.mkdir(parents=True, exist_ok=True)
    files, folds = [], []
    bar = tqdm(_all_patients(seed, patients), "phantom", patients, unit="patient", disable=None)
    for k, contents in enumerate(bar):
        for content in contents:
            files.append(data / f"{len(files) + 1}.mat")
            files[-1].write_bytes(content)
            folds.append(k // 3 % FOLDS + 1)  # a fold gets all three types
    others = [out / "cvind.mat", out / "README.txt"]
    others[0].write_bytes(folds_bytes(np.array(folds)))
    others[1].write_text(README, "utf-8")
    if zip:
        write_archive(out / "figshare.zip", files, others)
    return len(files)


def _all_patients(seed: int, patients: int) -> Iterator[list[bytes]]:
    """Yield the files of each patient, made by several processes where that is worth their start."""
    draw = functools.partial(_patient_files, seed)
    workers = min(os.cpu_count() or 1, 1 + patients // PATIENTS_WORTH_A_PROCESS)
    if workers == 1:
        yield from map(draw, range(patients))
        return
    with start_pool(workers) as pool:
        yield from pool.map(draw, range(patients))


def _patient_files(seed: int, patient: int) -> list[bytes]:
    """Make the files of one patient's slices."""
    slices = patient_slices(seed, patient)
    return [slice_bytes(s.image, s.mask, s.border, s.label, s.pid) for s in slices]


def patient_slices(seed: int, patient: int) -> Iterator[PhantomSlice]:
    """Yield the 4 to 8 slices of one patient, counted from 0, neighbours in order; they are of one view or two."""
    rng = np.random.default_rng([seed, patient])
    label = patient % 3 + 1
    number = 100_001 + patient
    pid = f"MR{number}B" if patient % 4 == 3 else str(number)
    names, first = _VIEWS_OF[label].split(), patient // 3
    counts = [int(rng.integers(4, 8))] if rng.uniform() < 0.75 else [4, 4]
    ceiling, small = rng.uniform(1500, 12000), patient % SMALL_EVERY == SMALL_EVERY - 1
    for i, count in enumerate(counts):
        name = names[(first + i) % len(names)]
        for image, corners in _stack(views()[name], label, count, np.random.default_rng([seed, patient, i])):
            raw = (np.clip(image / 255, 0, 1) * ceiling).astype(np.float32)
            if small:
                raw = raw.reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3))
                corners = (corners + 0.5) / 2 - 0.5
            border = np.round(corners + 1, 2)
            mask = fill_polygon(border - 1, (raw.shape[0], raw.shape[1]))
            yield PhantomSlice(np.round(raw).astype(np.int16), mask, border, label, pid, name)


def _stack(view: View, label: int, count: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, Points]]:
    """Yield neighbouring slices of one view: images on the 0 to 255 scale, and the tumour's corners in pixels."""
    tumor = Tumor(view, label, rng)
    waves = np.column_stack([rng.normal(0, 3.0, (6, 2)), rng.normal(0, 0.5, 6), rng.uniform(0, 6.3, 6),
                             rng.normal(0, 0.0055, (6, 2))])  # fmt: skip
    scale, turn, shift = rng.uniform(0.88, 1.04), rng.normal(0, 0.05), tuple(rng.normal(0, 0.02, 2))
    if view.plane == "axial":
        scale *= rng.uniform(0.95, 1.15)
    side = rng.choice([-1, 1])
    head, brain = view.scenes(int(rng.integers(0, 2**32)))
    scanner = Scanner(rng)
    for i in range(count):
        z = 2 * (i + 0.5) / count - 1
        extent = np.sqrt(1 - 0.75 * (0.93 * z + 0.07 * side) ** 2)
        pose = Pose(scale * (1 - 0.02 * z * side), turn, shift, waves, z, tumor.push(extent))
        corners = tumor.outline(pose, extent)
        outside, inside, grain = scanner.texture(i)
        picture = head.render(pose, 0) * outside
        tissue = tumor.swell(brain.render(pose, CSF, soft=True) * inside, pose, extent)
        cavity = paint([(pose.pixels(grow(view.cavity, 0.006)), 255)]) / 255
        picture += cavity * (tissue - picture)
        yield scanner.scan(tumor.implant(picture, pose, corners, grain), i), corners
