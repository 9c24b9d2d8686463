"""Embedded data: MRI-like slices of invented patients, made from a seed alone.

The pictures imitate contrast-enhanced T1-weighted MRI: heads are drawn plane by plane in `axial` and its
neighbours, tumours grow here, and the scanner adds texture, an uneven coil, limited resolution and noise. Meningiomas
are bright and smooth and sit broadly on the skull or the falx; gliomas are irregular, with an enhancing ring around a
dark core and dark oedema about them; pituitary tumours are small and sit at the sella. Vessels, fat and choroid plexus
are as bright as tumours, as in a real slice.
"""

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int16
from scipy import ndimage
from tqdm import tqdm

from unet_jax.config import UserError
from unet_jax.data.phantom import axial, coronal, sagittal
from unet_jax.data.phantom.anatomy import CSF, View
from unet_jax.data.phantom.draw import SIDE, Drawing, Points, Pose, Scene, ellipse, grow, normals, paint
from unet_jax.data.phantom.files import folds_bytes, slice_bytes, write_archive
from unet_jax.data.polygon import fill_polygon
from unet_jax.data.workers import start_pool

MENINGIOMA, GLIOMA, PITUITARY = 1, 2, 3
FOLDS = 5
CORNERS = 48
"""Corners of a tumour's outline."""
SMALL_EVERY = 10
"""One patient in so many was scanned at half the resolution."""
PATIENTS_WORTH_A_PROCESS = 16

VIEWS = axial.VIEWS | coronal.VIEWS | sagittal.VIEWS
"""Planes and levels by name."""

_VIEWS_OF = {
    MENINGIOMA: ("axial-middle", "coronal-middle", "sagittal-side", "axial-high", "coronal-back", "axial-low",
                 "sagittal-middle"),
    GLIOMA: ("axial-middle", "sagittal-side", "coronal-middle", "axial-high", "axial-low", "coronal-back",
             "sagittal-middle"),
    PITUITARY: ("sagittal-middle", "coronal-middle", "axial-low"),
}  # fmt: skip

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
    """Plane and level, a name in `VIEWS`."""


@dataclass(frozen=True)
class _Tumor:
    """What stays the same through a stack of slices."""

    label: int
    place: tuple[float, float]
    radius: float
    flat: float
    """Its short axis in parts of the long one."""
    turn: float
    """Direction of the long axis, in radians."""
    lobes: Float[np.ndarray, "k 3"]
    """Rows (amplitude, phase, drift along z) of the outline's harmonics 2, 3, ..."""
    brightness: float
    core: float
    """Radius of a glioma's necrosis or of a pituitary tumour's cyst, in parts of the tumour's."""
    falcine: bool
    """It ends at the falx, which is too stiff to give way."""


class _Texture(NamedTuple):
    """Factors near 1, (h, w) each."""

    outside: Float32[np.ndarray, "h w"]
    inside: Float32[np.ndarray, "h w"]
    tumor: Float32[np.ndarray, "h w"]


@dataclass(frozen=True)
class _Scanner:
    """What is the same for all slices of a stack: texture of the tissues, uneven coil, noise level."""

    fine: Float32[np.ndarray, "h w"]
    coarse: Float32[np.ndarray, "h w"]
    patches: Float32[np.ndarray, "h w"]
    gain: Float32[np.ndarray, "h w"]
    sigma: np.float32
    seed: int

    @staticmethod
    def switch_on(rng: np.random.Generator) -> "_Scanner":
        gain = np.exp(0.16 * _field(rng, 5)) * rng.uniform(0.9, 1.0)
        sigma, seed = np.float32(rng.uniform(1.5, 3.5)), int(rng.integers(0, 2**32))
        return _Scanner(_field(rng, 110), _field(rng, 40), _field(rng, 12), gain.astype(np.float32), sigma, seed)

    def texture(self, i: int) -> _Texture:
        """Of slice i: the stack's own, shifted, for no tissue repeats itself from slice to slice."""
        fine, coarse = (np.roll(f, (61 * i, 37 * i), (0, 1)) for f in (self.fine, self.coarse))
        return _Texture(
            1 + 0.075 * fine + 0.035 * coarse,
            1 + 0.025 * fine + 0.02 * coarse + 0.03 * self.patches,
            1 + 0.07 * fine + 0.1 * coarse,
        )

    def scan(self, picture: Float32[np.ndarray, "h w"], i: int) -> Float32[np.ndarray, "h w"]:
        """Limited resolution, uneven coil, and Rician noise."""
        signal = ndimage.gaussian_filter(picture, 0.85, truncate=3) * self.gain
        noise = np.random.default_rng([self.seed, i]).standard_normal((SIDE, SIDE + 1), np.float32)
        real = (noise[:, 1:] + noise[:, :-1]) * (self.sigma / np.float32(2**0.5))
        imaginary = np.roll(real, (97, 171), (0, 1))  # far enough away to be independent to the eye, at half the cost
        return np.sqrt((signal + real) ** 2 + imaginary**2)


def write_phantom(out: Path, patients: int, seed: int, zip: bool = False) -> int:
    """Write the phantom as data/N.mat, cvind.mat and README.txt.

    Patient k depends on the seed and k alone, so more patients add slices and leave the others as they were. The same
    arguments give the same bytes on the same machine.

    Args:
        out: the folder to write in; made where absent.
        patients: how many, at least 1; tumour types take turns.
        seed: of everything, at least 0.
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
    others[1].write_text(README)
    if zip:
        write_archive(out / "figshare.zip", files, others)
    return len(files)


def _all_patients(seed: int, patients: int) -> Iterator[list[bytes]]:
    draw = functools.partial(_patient_files, seed)
    workers = min(os.cpu_count() or 1, 1 + patients // PATIENTS_WORTH_A_PROCESS)
    if workers == 1:
        yield from map(draw, range(patients))
        return
    with start_pool(workers) as pool:
        yield from pool.map(draw, range(patients))


def _patient_files(seed: int, patient: int) -> list[bytes]:
    slices = patient_slices(seed, patient)
    return [slice_bytes(s.image, s.mask, s.border, s.label, s.pid) for s in slices]


def patient_slices(seed: int, patient: int) -> Iterator[PhantomSlice]:
    """The slices of one patient, neighbours in order.

    Args:
        seed: of the dataset.
        patient: from 0.

    Returns:
        4 to 8 slices, of one view or two.
    """
    rng = np.random.default_rng([seed, patient])
    label = patient % 3 + 1
    number = 100_001 + patient
    pid = f"MR{number}B" if patient % 4 == 3 else str(number)
    names = _VIEWS_OF[label]
    first = patient // 3
    counts = [int(rng.integers(4, 8))] if rng.uniform() < 0.75 else [4, 4]
    ceiling, small = rng.uniform(1500, 12000), patient % SMALL_EVERY == SMALL_EVERY - 1
    for view, count in enumerate(counts):
        name = names[(first + view) % len(names)]
        for image, corners in _stack(VIEWS[name], label, count, np.random.default_rng([seed, patient, view])):
            raw = (np.clip(image / 255, 0, 1) * ceiling).astype(np.float32)
            if small:
                raw = raw.reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3))
                corners = (corners + 0.5) / 2 - 0.5
            border = np.round(corners + 1, 2)
            mask = fill_polygon(border - 1, (raw.shape[0], raw.shape[1]))
            yield PhantomSlice(np.round(raw).astype(np.int16), mask, border, label, pid, name)


def _stack(view: View, label: int, count: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, Points]]:
    """Neighbouring slices of one view: images on the 0 to 255 scale, and the tumour's corners in pixels."""
    tumor = _grow_tumor(view, label, rng)
    waves = np.column_stack([rng.normal(0, 3.0, (6, 2)), rng.normal(0, 0.5, 6), rng.uniform(0, 6.3, 6),
                             rng.normal(0, 0.0055, (6, 2))])  # fmt: skip
    scale, turn, shift = rng.uniform(0.88, 1.04), rng.normal(0, 0.05), tuple(rng.normal(0, 0.02, 2))
    if view.plane == "axial":
        scale *= rng.uniform(0.95, 1.15)
    side = rng.choice([-1, 1])
    head, brain, cavity = _anatomy(view, int(rng.integers(0, 2**32)))
    scanner = _Scanner.switch_on(rng)
    for i in range(count):
        z = 2 * (i + 0.5) / count - 1
        extent = np.sqrt(1 - 0.75 * (0.93 * z + 0.07 * side) ** 2)
        push = (*tumor.place, tumor.radius * extent, 0.28) if label != PITUITARY and not tumor.falcine else None
        pose = Pose(scale * (1 - 0.02 * z * side), turn, shift, waves, z, push)
        corners = _outline(tumor, view, pose, z, extent)
        inside = cavity.render(pose, 0) / 255
        texture = scanner.texture(i)
        picture = head.render(pose, 0) * texture.outside
        tissue = brain.render(pose, CSF, soft=True) * texture.inside
        if label == GLIOMA:
            tissue = _swell(tissue, tumor, pose, z, extent)
        picture += inside * (tissue - picture)
        yield scanner.scan(_implant(picture, tumor, pose, corners, z, texture), i), corners


def _anatomy(view: View, seed: int) -> tuple[Scene, Scene, Scene]:
    """Head, brain, and the cavity of the skull in white: one patient's, through a stack."""
    ends = []
    for z in (-1.0, 1.0):
        head, brain, cavity = Drawing(), Drawing(), Drawing()
        view.draw(view, head, brain, np.random.default_rng(seed), z)
        cavity.polygon(grow(view.cavity, 0.006), 255)
        ends.append((head, brain, cavity))
    a, b, c = (Scene(first, last) for first, last in zip(*ends, strict=True))
    return a, b, c


def _grow_tumor(view: View, label: int, rng: np.random.Generator) -> _Tumor:
    side = rng.choice([-1, 1]) if view.plane != "sagittal" else 1
    flat, turn, core, brightness = 1.0, 0.0, 0.0, rng.uniform(115, 160)
    if label == PITUITARY:
        assert view.sella is not None
        radius, rough, modes = rng.uniform(0.08, 0.13), 0.05, 4
        place = (view.sella[0] + rng.normal(0, 0.008), view.sella[1] - 0.4 * (radius - 0.07))
        flat, core = rng.uniform(0.85, 1.2), max(0.0, rng.uniform(-0.35, 0.35))
    elif label == GLIOMA:
        radius, rough, modes = rng.uniform(0.15, 0.25), 0.08, 8
        x, y = view.gliomas[int(rng.integers(len(view.gliomas)))]
        place = (side * x + rng.normal(0, 0.02), y + rng.normal(0, 0.03))
        flat, turn, core = rng.uniform(0.75, 1), rng.uniform(0, np.pi), rng.uniform(0.68, 0.86)
        brightness = rng.uniform(105, 165)
    else:
        radius, rough, modes, flat = rng.uniform(0.16, 0.26), 0.03, 5, rng.uniform(0.75, 1)
        if view.falx is not None and rng.uniform() < 0.25:
            turn = np.pi / 2
            place = (side * 0.45 * flat * radius, view.falx + rng.normal(0, 0.05))
        else:
            i = int(rng.uniform(*view.convexity) * len(view.cavity)) % len(view.cavity)
            x, y = grow(view.cavity, -0.4 * flat * radius)[i]
            nx, ny = normals(view.cavity)[i]
            place, turn = (float(x), float(y)), float(np.arctan2(nx, -ny))  # its long axis along the skull
    falcine = label == MENINGIOMA and view.falx is not None and bool(abs(place[0]) < radius)
    k = np.arange(modes)
    lobes = np.column_stack([rng.normal(0, rough, modes) / (1 + 0.25 * k), rng.uniform(0, 6.3, modes),
                             rng.normal(0, 0.6, modes)])  # fmt: skip
    return _Tumor(label, place, radius, flat, turn, lobes, brightness, core, falcine)


def _radial(tumor: _Tumor, angles: np.ndarray, z: float, factor: float, shift: float = 0.0) -> Points:
    """A wobbly closed curve around the tumour's place, in head coordinates."""
    k = np.arange(2, 2 + len(tumor.lobes))
    amplitude, phase, drift = tumor.lobes.T
    r = 1 + (amplitude * np.cos(np.outer(angles, k) + phase + drift * z + shift * k)).sum(1)
    r = np.maximum(r, 0.3) * tumor.radius * factor
    u, v, c, s = r * np.cos(angles), r * np.sin(angles) * tumor.flat, np.cos(tumor.turn), np.sin(tumor.turn)
    return np.stack([u * c - v * s, u * s + v * c], 1) + tumor.place


def _outline(tumor: _Tumor, view: View, pose: Pose, z: float, extent: float) -> Points:
    """The tumour's corners in pixels: its own shape, kept inside the dura."""
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    points = _radial(tumor, angles, z, extent)
    place = np.array(tumor.place)
    if tumor.label != PITUITARY:
        room = grow(view.cavity, -0.012 if tumor.label == MENINGIOMA else -0.06)
        points = place + (points - place) * _fit(place, points, room)[:, None]
    if tumor.falcine:
        side = 1 if place[0] >= 0 else -1
        points[:, 0] = side * np.maximum(side * points[:, 0], 0.006)
    return pose.pixels(points)


def _fit(centre: Float[np.ndarray, "2"], points: Points, room: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, " n"]:
    """The largest factors up to 1 that keep centre + factor * (point - centre) inside a polygon around centre."""
    a, b = room, np.roll(room, -1, 0)
    d, e = (points - centre)[:, None], (b - a)[None]
    w = (a - centre)[None]
    cross = d[..., 0] * e[..., 1] - d[..., 1] * e[..., 0]
    cross = np.where(np.abs(cross) < 1e-12, 1e-12, cross)
    along = (w[..., 0] * e[..., 1] - w[..., 1] * e[..., 0]) / cross
    across = (w[..., 0] * d[..., 1] - w[..., 1] * d[..., 0]) / cross
    hit = (across >= 0) & (across <= 1) & (along > 0)
    return np.minimum(1.0, np.where(hit, along, np.inf).min(1))


def _swell(
    tissue: Float32[np.ndarray, "h w"], tumor: _Tumor, pose: Pose, z: float, extent: float
) -> Float32[np.ndarray, "h w"]:
    """Brain with the dark oedema around a glioma."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    halo = paint([(pose.pixels(_radial(tumor, angles, z, 1.5 * extent, 0.9)), 255)])
    blurred = ndimage.gaussian_filter(halo[2::4, 2::4], 5) / 255
    grid = _linear_weights(SIDE // 4)
    return tissue + (grid @ blurred @ grid.T) * np.where(tissue > 90, 0, np.float32(0.55)) * (48 - tissue)


def _implant(
    picture: Float32[np.ndarray, "h w"],
    tumor: _Tumor,
    pose: Pose,
    corners: Points,
    z: float,
    texture: _Texture,
) -> Float32[np.ndarray, "h w"]:
    """The picture with the enhancing tumour in it."""
    centre = pose.pixels(np.array([tumor.place]))[0]
    shapes = [(centre + (corners - centre) * 1.4, tumor.brightness)]
    blur = 1.0
    if tumor.label == GLIOMA:
        a, seed = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False), tumor.core * 100
        rim = tumor.core * (1 + 0.1 * np.sin(2 * a + seed) + 0.07 * np.sin(5 * a + 3 * seed + z))
        necrosis = centre + (corners - centre) * np.clip(rim, 0.3, 0.93)[:, None]
        shapes += [(necrosis, 52), (centre + (necrosis - centre) * 0.85, 36)]
        for angle in seed + np.array([0, 1.9, 4.1]):  # nodules on the inner side of the rim
            x, y = centre + (necrosis[int(angle / (2 * np.pi) * CORNERS) % CORNERS] - centre) * 0.95
            shapes.append((ellipse(x, y, 5 + 2 * np.sin(3 * angle + z), 6, angle, 24), 0.92 * tumor.brightness))
        blur = 1.7
    elif tumor.label == PITUITARY and tumor.core > 0.15:
        (x, y), r = tumor.place, tumor.radius
        cyst = ellipse(x + 0.2 * r, y - 0.1 * r, tumor.core * r, 0.7 * tumor.core * r, 0.5)
        shapes.append((pose.pixels(cyst), tumor.brightness * 0.72))
    grain = {MENINGIOMA: 0.4, GLIOMA: 1.8, PITUITARY: 0.7}[tumor.label]
    flesh = ndimage.gaussian_filter(paint(shapes), blur) * (1 + grain * (texture.tumor - 1))
    alpha = paint([(corners, 255)]) / 255
    return picture + alpha * (flesh - picture)


def _field(rng: np.random.Generator, knots: int) -> Float32[np.ndarray, "h w"]:
    """Smooth noise of unit variance: `knots` random values a side, joined by cubic B-splines."""
    weights = _spline_weights(knots)
    grid = rng.standard_normal((weights.shape[1],) * 2, dtype=np.float32)
    return weights @ grid @ weights.T


@cache
def _linear_weights(knots: int) -> Float32[np.ndarray, "h k"]:
    at = np.linspace(0, knots - 1, SIDE)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(knots)[None])).astype(np.float32)


@cache
def _spline_weights(knots: int) -> Float32[np.ndarray, "h k"]:
    at = np.linspace(0, knots - 1, SIDE)
    d = np.abs(at[:, None] + 1 - np.arange(knots + 2)[None])
    w = np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, (2 - d) ** 3 / 6, 0))
    return (w / np.sqrt((w**2).sum(1, keepdims=True))).astype(np.float32)
