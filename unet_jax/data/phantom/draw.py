"""Drawing with smooth curves: what the phantom's anatomy is made of.

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
Corners = Points | Sequence[tuple[Number, Number]]

SIDE = 512
"""Pixels along a slice."""
_OVERSAMPLING = 2


def loop(points: Corners, n: int = 240) -> Points:
    """A smooth closed curve of `n` points through `points` (Catmull-Rom)."""
    p = np.asarray(points, float)
    return _spline(len(p), n, True) @ np.concatenate([p[-1:], p, p[:2]])


def curve(points: Corners, n: int = 40) -> Points:
    """A smooth open curve of `n` points through `points` (Catmull-Rom)."""
    p = np.asarray(points, float)
    return _spline(len(p) - 1, n, False) @ np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])


def symmetric(half: Corners, n: int = 240) -> Points:
    """A smooth closed curve from its right half, top to bottom; the ends lie on the midline."""
    p = np.asarray(half, float)
    return loop(np.concatenate([p, mirror(p[-2:0:-1])]), n)


def mirror(points: Corners) -> Points:
    """The points on the other side of the midline."""
    return np.asarray(points, float) * (-1.0, 1.0)


def ellipse(x: Number, y: Number, rx: Number, ry: Number, turn: Number = 0.0, n: int = 48) -> Points:
    """An ellipse around (x, y), turned clockwise by `turn` radians."""
    c, s = np.cos(turn), np.sin(turn)
    return _circle(n) @ np.array([[rx * c, rx * s], [-ry * s, ry * c]]) + (x, y)


def normals(points: Points, closed: bool = True) -> Points:
    """Unit normals, outward for a closed curve that runs clockwise on the screen."""
    ends = (points[-1:], points[:1]) if closed else (points[:1], points[-1:])
    around = np.concatenate([ends[0], points, ends[1]])
    d = around[2:] - around[:-2]
    d /= np.maximum(np.hypot(d[:, 0], d[:, 1]), 1e-9)[:, None]
    return d[:, ::-1] * (1.0, -1.0)


def grow(points: Points, by: Number | Float[np.ndarray, " n"]) -> Points:
    """A closed clockwise curve moved outward by `by` (inward if negative), one value or one a point."""
    return points + normals(points) * np.broadcast_to(by, len(points))[:, None]


@dataclass(frozen=True)
class Pose:
    """From head coordinates to pixels: a patient's smooth distortion, then scale, rotation and shift."""

    scale: float
    turn: float
    """Rotation in radians."""
    shift: tuple[float, float]
    waves: Float[np.ndarray, "k 6"]
    """Rows (kx, ky, kz, phase, amplitude x, amplitude y) of the distortion's waves."""
    z: float = 0.0
    """Position of the slice in its stack; the distortion changes smoothly along it."""
    push: tuple[float, float, float, float] | None = None
    """(x, y, radius, strength): what grows at (x, y) presses its surroundings away."""

    def pixels(self, points: Points, soft: bool = False) -> Points:
        """Pixel coordinates of `points`; only `soft` tissue gives way to the push."""
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


class Drawing:
    """Filled shapes with a grey value each, in head coordinates, later ones on top."""

    def __init__(self) -> None:
        self.shapes: list[tuple[Points, Number]] = []

    def polygon(self, points: Points, value: Number) -> None:
        """Fill a closed curve."""
        self.shapes.append((points, value))

    def stroke(self, points: Points, value: Number, width: Number, end: Number | None = None) -> None:
        """Draw a curve whose width goes from `width` to `end`."""
        side = normals(points, closed=False)
        side *= (width + ((width if end is None else end) - width) * _unit(len(points))[:, None]) / 2
        self.polygon(np.concatenate([points + side, (points - side)[::-1]]), value)


class Scene:
    """What lies between two drawings of the same shapes, at the two ends of a stack of slices."""

    def __init__(self, first: Drawing, last: Drawing) -> None:
        self._points = [np.concatenate([points for points, _ in drawing.shapes]) for drawing in (first, last)]
        ends = np.cumsum([len(points) for points, _ in first.shapes]).tolist()
        values = [value for _, value in first.shapes]
        self._shapes = list(zip([0, *ends[:-1]], ends, values, strict=True))

    def render(self, pose: Pose, background: Number, soft: bool = False) -> Float32[np.ndarray, "h w"]:
        """The slice at `pose.z`, grey values 0 to 255; `soft` tissue gives way to the pose's push."""
        first, last = self._points
        pixels = pose.pixels(first + (last - first) * ((pose.z + 1) / 2), soft)
        return paint(((pixels[i:j], value) for i, j, value in self._shapes), background)


def paint(shapes: Iterable[tuple[Points, Number]], background: Number = 0) -> Float32[np.ndarray, "h w"]:
    """Fill shapes that are given in pixels, one after the other, with smooth edges.

    Args:
        shapes: corners (x, y) in pixels, and grey value, each.
        background: grey value elsewhere.

    Returns:
        Grey values 0 to 255, float32 (SIDE, SIDE).
    """
    image = Image.new("L", (SIDE * _OVERSAMPLING, SIDE * _OVERSAMPLING), round(background))
    draw = ImageDraw.Draw(image)
    for pixels, value in shapes:
        draw.polygon(((pixels + 0.5) * _OVERSAMPLING - 0.5).ravel().tolist(), round(value))
    return np.asarray(image.reduce(_OVERSAMPLING), np.float32)


@cache
def _unit(n: int) -> Float[np.ndarray, " n"]:
    return np.linspace(0, 1, n)


@cache
def _circle(n: int) -> Float[np.ndarray, "n 2"]:
    a = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([np.cos(a), np.sin(a)], 1)


@cache
def _spline(pieces: int, n: int, closed: bool) -> Float[np.ndarray, "n k"]:
    """Weights of `pieces` + 3 control points in `n` points of a Catmull-Rom spline."""
    t = np.linspace(0, pieces, n, endpoint=not closed)
    i = np.minimum(t.astype(int), pieces - 1)
    u = t - i
    weights, rows = np.zeros((n, pieces + 3)), np.arange(n)
    weights[rows, i] = 0.5 * (-u + 2 * u**2 - u**3)
    weights[rows, i + 1] = 0.5 * (2 - 5 * u**2 + 3 * u**3)
    weights[rows, i + 2] = 0.5 * (u + 4 * u**2 - 3 * u**3)
    weights[rows, i + 3] = 0.5 * (-(u**2) + u**3)
    return weights
