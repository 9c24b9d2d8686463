"""Smooth curves, and shapes painted at a pose, of which the phantom's slices are made.

Head coordinates run from -1 to 1 over the slice, x to the right and y down. Grey values run from 0 to 255.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image, ImageDraw

Points = Float[np.ndarray, "_ 2"]
Number = float | int | np.integer
Point = tuple[Number, Number] | Float[np.ndarray, "2"]
Corners = Points | Sequence[Sequence[Number]]
Shape = tuple[Points, Number]
"""A polygon and its grey value."""
Picture = Float32[np.ndarray, "h w"]

SIDE = 512
"""Pixels along a slice."""
_OVERSAMPLING = 2


def loop(corners: Corners, n: int = 240) -> Points:
    """Join corners by a smooth closed curve of `n` points (Catmull-Rom)."""
    p = np.asarray(corners, float)
    return _spline(len(p), n, True) @ np.concatenate([p[-1:], p, p[:2]])


def curve(corners: Corners, n: int = 40) -> Points:
    """Join corners by a smooth open curve of `n` points (Catmull-Rom)."""
    p = np.asarray(corners, float)
    return _spline(len(p) - 1, n, False) @ np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])


def symmetric(half: Corners) -> Points:
    """Join the right half's corners, top to bottom, and their mirror images by a smooth closed curve."""
    p = np.asarray(half, float)
    return loop(np.concatenate([p, p[-2:0:-1] * (-1, 1)]))


def ellipse(x: Number, y: Number, rx: Number, ry: Number, turn: Number = 0.0, n: int = 48) -> Points:
    """Compute `n` points of an ellipse around (x, y), turned clockwise by `turn` radians."""
    a, c, s = np.linspace(0, 2 * np.pi, n, endpoint=False), np.cos(turn), np.sin(turn)
    return np.stack([np.cos(a), np.sin(a)], 1) @ np.array([[rx * c, rx * s], [-ry * s, ry * c]]) + (x, y)


def zoom(points: Corners, centre: Point, factor: Number | Point | Float[np.ndarray, "n 1"]) -> Points:
    """Move points away from a centre, or towards it, by one factor, by one an axis, or by one a point."""
    middle = np.asarray(centre, float)
    return (np.asarray(points, float) - middle) * factor + middle


def normals(points: Points, closed: bool = True) -> Points:
    """Compute unit normals, outward for a closed curve that runs clockwise on the screen."""
    ends = (points[-1:], points[:1]) if closed else (points[:1], points[-1:])
    around = np.concatenate([ends[0], points, ends[1]])
    d = around[2:] - around[:-2]
    d /= np.maximum(np.hypot(d[:, 0], d[:, 1]), 1e-9)[:, None]
    return d[:, ::-1] * (1.0, -1.0)


def grow(points: Points, by: Number | Float[np.ndarray, " n"]) -> Points:
    """Move a closed clockwise curve outward by `by` (inward if negative), one value or one a point."""
    return points + normals(points) * np.broadcast_to(by, len(points))[:, None]


@dataclass(frozen=True)
class Pose:
    """Map from head coordinates to pixels: a patient's smooth distortion, then scale, rotation and shift."""

    scale: float
    turn: float
    """Rotation in radians."""
    shift: tuple[float, float]
    waves: Float[np.ndarray, "k 6"]
    """Rows (kx, ky, kz, phase, amplitude x, amplitude y) of the distortion's waves."""
    z: float = 0.0
    """Position of the slice in its stack; the distortion changes smoothly along it."""
    push: tuple[float, float, float, float] | None = None
    """(x, y, radius, strength): a mass at (x, y) presses its surroundings away."""

    def pixels(self, points: Points, soft: bool = False) -> Points:
        """Compute the pixel coordinates of points; only `soft` tissue gives way to the push."""
        p = np.asarray(points, float)
        if soft and self.push is not None:
            x, y, radius, strength = self.push
            d = p - (x, y)
            r = np.maximum(np.hypot(d[:, 0], d[:, 1]), 1e-6)
            move = strength * radius * np.exp(-((r / (1.7 * radius)) ** 2)) * np.minimum(1, r / radius * 2)
            p = p + d / r[:, None] * move[:, None]
        w = self.waves
        s = np.sin(p @ w[:, :2].T + w[:, 2] * self.z + w[:, 3])
        p = (p + s @ w[:, 4:]) * self.scale
        c, n = np.cos(self.turn), np.sin(self.turn)
        p = p @ np.array([[c, n], [-n, c]]) + self.shift
        return (p + 1) * (SIDE / 2) - 0.5


class Scene:
    """Drawing that changes smoothly through a stack of slices, from shapes at its first end to those at its last."""

    def __init__(self, first: Sequence[Shape], last: Sequence[Shape]) -> None:
        self._points = [np.concatenate([points for points, _ in shapes]) for shapes in (first, last)]
        ends = np.cumsum([len(points) for points, _ in first]).tolist()
        self._shapes = list(zip([0, *ends[:-1]], ends, (value for _, value in first), strict=True))

    def render(self, pose: Pose, background: Number, soft: bool = False) -> Picture:
        """Paint the slice at `pose.z`, grey values 0 to 255; `soft` tissue gives way to the pose's push."""
        first, last = self._points
        pixels = pose.pixels(first + (last - first) * ((pose.z + 1) / 2), soft)
        return paint(((pixels[i:j], value) for i, j, value in self._shapes), background)


def paint(shapes: Iterable[Shape], background: Number = 0) -> Picture:
    """Fill shapes that are given in pixels, later ones on top, with smooth edges.

    Returns:
        Grey values 0 to 255, those of `background` where no shape is, float32 (SIDE, SIDE).
    """
    image = Image.new("L", (SIDE * _OVERSAMPLING, SIDE * _OVERSAMPLING), round(background))
    draw = ImageDraw.Draw(image)
    for pixels, value in shapes:
        draw.polygon(((pixels + 0.5) * _OVERSAMPLING - 0.5).ravel().tolist(), round(value))
    return np.asarray(image.reduce(_OVERSAMPLING), np.float32)


@cache
def _spline(pieces: int, n: int, closed: bool) -> Float[np.ndarray, "n k"]:
    """Compute the weights of `pieces` + 3 control points in `n` points of a Catmull-Rom spline."""
    t = np.linspace(0, pieces, n, endpoint=not closed)
    i = np.minimum(t.astype(int), pieces - 1)
    u = t - i
    weights, rows = np.zeros((n, pieces + 3)), np.arange(n)
    weights[rows, i] = 0.5 * (-u + 2 * u**2 - u**3)
    weights[rows, i + 1] = 0.5 * (2 - 5 * u**2 + 3 * u**3)
    weights[rows, i + 2] = 0.5 * (u + 4 * u**2 - 3 * u**3)
    weights[rows, i + 3] = 0.5 * (-(u**2) + u**3)
    return weights
