"""Tumours: their place and shape in a stack of slices, and their look under contrast agent.

Meningiomas are bright and smooth and sit broadly on the skull or the falx; gliomas are irregular, with an enhancing
ring around a dark core and dark oedema about them; pituitary tumours are small and sit at the sella.
"""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from unet_jax.data.phantom.draw import SIDE, Picture, Points, Pose, ellipse, grow, normals, paint, zoom
from unet_jax.data.phantom.heads import View

MENINGIOMA, GLIOMA, PITUITARY = 1, 2, 3
CORNERS = 48
"""Corners of a tumour's outline."""


class Tumor:
    """Tumour with all that stays the same through a stack of slices.

    Methods take the pose of a slice, and the tumour's extent in it: its radius in parts of the largest one.

    Args:
        view: plane and level of the stack.
        label: 1 meningioma, 2 glioma, 3 pituitary.
        rng: random numbers of the stack.
    """

    def __init__(self, view: View, label: int, rng: np.random.Generator) -> None:
        side = rng.choice([-1, 1]) if view.plane != "sagittal" else 1
        flat = 1.0  # the short axis in parts of the long one
        turn = 0.0  # direction of the long axis, in radians
        core = 0.0  # radius of a glioma's necrosis or of a pituitary tumour's cyst, in parts of the tumour's
        brightness = rng.uniform(115, 160)
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
                first, last = view.convexity
                i = int(rng.uniform(first, last) * len(view.cavity)) % len(view.cavity)
                x, y = grow(view.cavity, -0.4 * flat * radius)[i]
                nx, ny = normals(view.cavity)[i]
                place, turn = (float(x), float(y)), float(np.arctan2(nx, -ny))  # its long axis along the skull
        # Amplitude, phase, and drift along z of the outline's harmonics 2, 3, ...
        amplitude = rng.normal(0, rough, modes) / (1 + 0.25 * np.arange(modes))
        self._lobes = amplitude, rng.uniform(0, 6.3, modes), rng.normal(0, 0.6, modes)
        self._view, self._label, self._place, self._radius = view, label, np.array(place), radius
        self._flat, self._turn, self._core, self._brightness = flat, turn, core, brightness
        # A tumour at the falx ends there; the falx is too stiff to give way.
        self._falcine = label == MENINGIOMA and view.falx is not None and bool(abs(place[0]) < radius)

    def push(self, extent: float) -> tuple[float, float, float, float] | None:
        """Compute how the tumour presses soft tissue away, as `Pose` takes it."""
        if self._label == PITUITARY or self._falcine:
            return None
        return (*self._place, self._radius * extent, 0.28)

    def outline(self, pose: Pose, extent: float) -> Points:
        """Compute the tumour's `CORNERS` corners in pixels: its own shape, kept inside the dura."""
        points = self._around(CORNERS, pose, extent)
        if self._label != PITUITARY:
            room = grow(self._view.cavity, -0.012 if self._label == MENINGIOMA else -0.06)
            points = zoom(points, self._place, _fit(self._place, points, room)[:, None])
        if self._falcine:
            side = 1 if self._place[0] >= 0 else -1
            points[:, 0] = side * np.maximum(side * points[:, 0], 0.006)
        return pose.pixels(points)

    def swell(self, tissue: Picture, pose: Pose, extent: float) -> Picture:
        """Darken the brain by the oedema around a glioma; other tumours have none."""
        if self._label != GLIOMA:
            return tissue
        halo = paint([(pose.pixels(self._around(60, pose, 1.5 * extent, 0.9)), 255)])
        blurred = ndimage.gaussian_filter(halo[2::4, 2::4], 5) / 255
        at = np.linspace(0, SIDE // 4 - 1, SIDE)
        grid = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(SIDE // 4)[None])).astype(np.float32)
        return tissue + (grid @ blurred @ grid.T) * np.where(tissue > 90, 0, np.float32(0.55)) * (48 - tissue)

    def implant(self, picture: Picture, pose: Pose, corners: Points, texture: Picture) -> Picture:
        """Put the enhancing tumour into a picture."""
        centre = pose.pixels(self._place[None])[0]
        shapes = [(zoom(corners, centre, 1.4), self._brightness)]
        blur = 1.0
        if self._label == GLIOMA:
            a, seed = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False), self._core * 100
            rim = self._core * (1 + 0.1 * np.sin(2 * a + seed) + 0.07 * np.sin(5 * a + 3 * seed + pose.z))
            necrosis = zoom(corners, centre, np.clip(rim, 0.3, 0.93)[:, None])
            shapes += [(necrosis, 52), (zoom(necrosis, centre, 0.85), 36)]
            for angle in seed + np.array([0, 1.9, 4.1]):  # nodules on the inner side of the rim
                x, y = zoom(necrosis, centre, 0.95)[int(angle / (2 * np.pi) * CORNERS) % CORNERS]
                nodule = ellipse(x, y, 5 + 2 * np.sin(3 * angle + pose.z), 6, angle, 24)
                shapes.append((nodule, 0.92 * self._brightness))
            blur = 1.7
        elif self._label == PITUITARY and self._core > 0.15:
            (x, y), r = self._place, self._radius
            cyst = ellipse(x + 0.2 * r, y - 0.1 * r, self._core * r, 0.7 * self._core * r, 0.5)
            shapes.append((pose.pixels(cyst), self._brightness * 0.72))
        grain = {MENINGIOMA: 0.4, GLIOMA: 1.8, PITUITARY: 0.7}[self._label]
        flesh = ndimage.gaussian_filter(paint(shapes), blur) * (1 + grain * (texture - 1))
        alpha = paint([(corners, 255)]) / 255
        return picture + alpha * (flesh - picture)

    def _around(self, n: int, pose: Pose, factor: float, shift: float = 0.0) -> Points:
        """Compute `n` points of a wobbly closed curve around the tumour's place, in head coordinates."""
        angles = np.linspace(0, 2 * np.pi, n, endpoint=False)
        amplitude, phase, drift = self._lobes
        k = np.arange(2, 2 + len(amplitude))
        r = 1 + (amplitude * np.cos(np.outer(angles, k) + phase + drift * pose.z + shift * k)).sum(1)
        r = np.maximum(r, 0.3) * self._radius * factor
        u, v, c, s = r * np.cos(angles), r * np.sin(angles) * self._flat, np.cos(self._turn), np.sin(self._turn)
        return np.stack([u * c - v * s, u * s + v * c], 1) + self._place


def _fit(centre: Float[np.ndarray, "2"], points: Points, room: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, " n"]:
    """Compute the largest factors up to 1 that keep `zoom(points, centre, factors)` inside a polygon around centre."""
    a, b = room, np.roll(room, -1, 0)
    d, e = (points - centre)[:, None], (b - a)[None]
    w = (a - centre)[None]
    cross = d[..., 0] * e[..., 1] - d[..., 1] * e[..., 0]
    cross = np.where(np.abs(cross) < 1e-12, 1e-12, cross)
    along = (w[..., 0] * e[..., 1] - w[..., 1] * e[..., 0]) / cross
    across = (w[..., 0] * d[..., 1] - w[..., 1] * d[..., 0]) / cross
    hit = (across >= 0) & (across <= 1) & (along > 0)
    return np.minimum(1.0, np.where(hit, along, np.inf).min(1))
