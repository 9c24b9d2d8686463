"""The parts that heads have in common, whatever the plane: skull, cortex and its clefts, muscle, air cells, vessels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from unet_jax.data.phantom.draw import Drawing, Number, Points, curve, ellipse, grow, normals

Rng = np.random.Generator
Box = tuple[Number, Number, Number, Number]
"""x0, y0, x1, y1."""

AIR, BONE, CSF, GREY, WHITE = 4, 15, 25, 57, 77
MUSCLE, MARROW, MUCOSA, SKIN, FAT, VESSEL = 66, 95, 120, 110, 200, 165
"""Grey values of the tissues under contrast agent, 0 to 255."""


@dataclass(frozen=True)
class View:
    """One plane at one level."""

    plane: str
    cavity: Points
    """Inner table of the skull, clockwise."""
    draw: Callable[["View", Drawing, Drawing, Rng, float], None]
    """Draws on the head and on the brain, from the patient's generator, at one end (-1 or 1) of the stack. It draws the
    same shapes at both ends."""
    gliomas: Sequence[tuple[Number, Number]]
    """Places deep in white matter."""
    convexity: tuple[float, float]
    """Stretch of the cavity, in parts of its outline, where a meningioma may sit."""
    falx: Number | None = None
    """y of a meningioma on the falx."""
    sella: tuple[Number, Number] | None = None
    """Where a pituitary tumour grows."""


class Folds:
    """Sulci: clefts filled with fluid and lined by grey matter, that run inward from a surface."""

    def __init__(self, rng: np.random.Generator, z: float) -> None:
        self.rng, self.z = rng, z
        self.lines: list[tuple[Points, float]] = []

    def along(
        self, points: Points, inward: Points, spacing: float, depth: tuple[float, float], width: float = 0.018
    ) -> None:
        """Add clefts that start on a curve.

        Args:
            points: the curve.
            inward: unit directions into the tissue, one a point.
            spacing: mean distance of neighbours.
            depth: shortest and longest cleft.
            width: of the mouth.
        """
        rng = self.rng
        reach = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        n = max(int(reach[-1] / spacing), 1)
        starts = (np.arange(n) + 0.5 + rng.uniform(-0.32, 0.32, n)) * reach[-1] / n
        for at in np.interp(starts, reach, np.arange(len(points))).astype(int):
            angle = np.arctan2(inward[at, 1], inward[at, 0]) + rng.normal(0, 0.3)
            # The same draws at both ends of a stack; only z changes a cleft's length and course.
            length, sway = rng.uniform(*depth), rng.uniform(0, 2 * np.pi)
            length *= 1 + 0.35 * np.sin(sway) * self.z
            bends = rng.normal(0, 0.3, 9) + 0.1 * np.sin(sway + np.arange(9)) * self.z
            line = _walk(points[at] - inward[at] * 0.01, angle, bends, length)
            mouth = width * rng.uniform(0.5, 1.2)
            self.lines.append((line, mouth))
            side, fork, fork_bends = rng.choice([-1, 1]), rng.integers(3, 7), rng.normal(0, 0.3, 6)
            if rng.uniform() < 0.45:
                heading = angle + bends[:fork].sum() + side * rng.uniform(0.7, 1.2)
                self.lines.append((_walk(line[2 * fork], heading, fork_bends, length * 0.45), mouth * 0.6))

    def draw(self, drawing: Drawing, ribbon: float = 0.055, grey: float = GREY, fluid: float = CSF) -> None:
        """Draw the grey ribbons, then the clefts, then an enhancing vessel in some of them."""
        for line, _ in self.lines:
            drawing.stroke(line, grey, ribbon, ribbon * 0.7)
            drawing.polygon(ellipse(line[-1, 0], line[-1, 1], ribbon * 0.38, ribbon * 0.38, n=12), grey)
        for line, width in self.lines:
            drawing.stroke(line, fluid, width, 0.004)
        for line, _ in self.lines:
            if self.rng.uniform() < 0.12:
                first = self.rng.integers(0, 3)
                drawing.stroke(line[first : first + 4], VESSEL * self.rng.uniform(0.6, 1.1), 0.008, 0.005)


def _walk(start: Float[np.ndarray, "2"], angle: Number, bends: Float[np.ndarray, " n"], length: float) -> Points:
    headings = angle + np.concatenate([[0], np.cumsum(bends)])
    steps = np.stack([np.cos(headings), np.sin(headings)], 1) * length / len(headings)
    return curve(np.concatenate([start[None], start + np.cumsum(steps, 0)]), 2 * len(headings) + 1)


def scalp(head: Drawing, skin: Points, fat: Number) -> None:
    """Skin, and fat of the given thickness around muscle."""
    head.polygon(skin, SKIN)
    head.polygon(grow(skin, -0.012), FAT)
    a = np.linspace(0, 2 * np.pi, len(skin), endpoint=False)
    head.polygon(grow(skin, -0.012 - fat * (1 + 0.25 * np.sin(3 * a) + 0.15 * np.sin(8 * a))), MUSCLE)


def trim(head: Drawing, skin: Points) -> None:
    """Clear what was drawn outside the skin."""
    frame = np.array([(-3, -3), (3, -3), (3, 3), (-3, 3), (-3, -3)], float)
    head.polygon(np.concatenate([frame, skin, skin[:1]]), 0)


def skull(head: Drawing, cavity: Points, rng: Rng, thick: Number, closed: bool = True) -> None:
    """Outer table, marrow and inner table around a cavity; scalp as well where `closed`."""
    a = np.linspace(0, 2 * np.pi, len(cavity), endpoint=False)
    wave = 1 + 0.2 * np.sin(2 * a + rng.uniform(0, 6)) + 0.12 * np.sin(5 * a + rng.uniform(0, 6))
    fat = rng.uniform(0.03, 0.06) * (1 + 0.3 * np.sin(a + rng.uniform(0, 6))) * wave
    bone = thick * wave
    if closed:
        head.polygon(grow(cavity, bone + fat + 0.012), SKIN)
        head.polygon(grow(cavity, bone + fat), FAT)
        galea = grow(cavity, bone + fat * 0.3)
        for first in range(0, len(cavity), 30):
            head.stroke(galea[np.arange(first, first + rng.integers(8, 26)) % len(cavity)], FAT * 0.6, 0.01, 0.004)
    head.polygon(grow(cavity, bone), BONE)
    marrow = rng.uniform(0.5, 1.0)
    for first in range(0, len(cavity), 12):  # the marrow comes and goes along the skull
        part = np.arange(first, first + rng.integers(10, 18)) % len(cavity)
        line = grow(cavity, bone * 0.52)[part]
        head.stroke(line, BONE + (MARROW - BONE) * marrow * rng.uniform(0.45, 0.9), thick * 0.36, thick * 0.25)


def cortex(view: View, brain: Drawing, rng: Rng, folds: Folds, depth: tuple[float, float]) -> None:
    """Dura, fluid under it, the surface of the brain, and clefts along it."""
    brain.polygon(grow(view.cavity, 0.02), 85)
    brain.polygon(grow(view.cavity, -0.006), CSF)
    a = np.linspace(0, 2 * np.pi, len(view.cavity), endpoint=False)
    gap = rng.uniform(0.012, 0.022) * (1 + 0.35 * np.sin(4 * a + rng.uniform(0, 6)) + 0.25 * np.sin(9 * a))
    surface = grow(view.cavity, -0.006 - gap)
    brain.polygon(surface, GREY)
    brain.polygon(grow(surface, -0.034), WHITE)
    folds.along(surface, -normals(surface), 0.085, depth, 0.02)
    folds.along(surface, -normals(surface), 0.11, (depth[0] * 0.35, depth[0] * 0.75), 0.034)


def medial(brain: Drawing, folds: Folds, top: Number, bottom: Number, rng: Rng, depth: tuple[float, float]) -> Points:
    """Grey matter and clefts on both sides of the midline; returns the line of the falx."""
    line = curve([(0, top), (rng.normal(0, 0.008), (top + bottom) / 2), (0, bottom)])
    n = normals(line, closed=False)
    folds.along(line, n, 0.1, depth)
    folds.along(line, -n, 0.1, depth)
    brain.stroke(line, GREY, 0.08)
    return line


def falx(brain: Drawing, line: Points) -> None:
    """The fissure between the hemispheres, with the falx in it."""
    brain.stroke(line, CSF, 0.022, 0.018)
    brain.stroke(line, 95, 0.006)


def muscle(head: Drawing, x: Number, y: Number, rx: Number, ry: Number, turn: Number, rng: Rng) -> None:
    """A muscle in its fat: fibres run along its long axis, `ry`, turned clockwise by `turn`."""
    value = MUSCLE + rng.normal(0, 5)
    head.polygon(ellipse(x, y, rx + 0.007, ry + 0.009, turn), rng.uniform(78, 112))
    head.polygon(ellipse(x, y, rx, ry, turn), value)
    c, s = np.cos(turn), np.sin(turn)
    for u in np.arange(-0.85, 0.9, 0.022 / rx):
        half = ry * np.sqrt(1 - u * u) * 0.92
        at, lo, hi = u * rx, *np.sort(rng.uniform(-1, 1, 2) * half)
        line = np.array([(at, lo), (at + rng.normal(0, 0.006), (lo + hi) / 2), (at, hi)])
        fibre = np.stack([x + line[:, 0] * c - line[:, 1] * s, y + line[:, 0] * s + line[:, 1] * c], 1)
        head.stroke(
            curve(fibre, 9), value + rng.choice([-22, -12, 12, 22, 45], p=[0.2, 0.3, 0.25, 0.15, 0.1]), 0.012, 0.004
        )


def strands(head: Drawing, area: Box, angle: Number, n: int, rng: Rng) -> None:
    """Small muscles, fat planes and vessels around one direction, in a box."""
    (x0, x1), (y0, y1) = sorted(area[::2]), sorted(area[1::2])
    for _ in range(n):
        x, y = rng.uniform(x0, x1), rng.uniform(y0, y1)
        a, length = angle + rng.normal(0, 0.25), rng.uniform(0.06, 0.2)
        step = np.array([np.cos(a), np.sin(a)]) * length / 2
        bow = np.array([-step[1], step[0]]) * rng.normal(0, 0.25)
        line = curve([(x - step[0], y - step[1]), (x + bow[0], y + bow[1]), (x + step[0], y + step[1])], 9)
        value = rng.choice([28, 45, 56, 76, 90, 115, 150], p=[0.1, 0.18, 0.22, 0.22, 0.13, 0.1, 0.05])
        head.stroke(line, value, rng.uniform(0.012, 0.04), 0.004)


def air_cells(drawing: Drawing, area: Box, n: int, rng: Rng) -> None:
    """Air cells with mucosa between them, in a box."""
    (x0, x1), (y0, y1) = sorted(area[::2]), sorted(area[1::2])
    for _ in range(n):
        x, y, r, turn = rng.uniform(x0, x1), rng.uniform(y0, y1), rng.uniform(0.012, 0.034), rng.uniform(0, 3)
        wall = rng.uniform(0.003, 0.009)
        drawing.polygon(ellipse(x, y, r * 1.4 + wall, r + wall, turn, 20), MUCOSA * rng.uniform(0.5, 1.1))
        drawing.polygon(ellipse(x, y, r * 1.4, r, turn, 20), AIR + rng.uniform(0, 14))


def choroid(brain: Drawing, x: Number, y: Number, rng: Rng, n: int = 7, spread: Number = 0.02) -> None:
    """Enhancing choroid plexus in a ventricle."""
    for dx, dy in rng.normal(0, spread, (n, 2)):
        brain.polygon(ellipse(x + dx, y + dy, 0.012, 0.009, n=10), VESSEL * rng.uniform(0.5, 1.0))


def vessels(brain: Drawing, area: Box, n: int, rng: Rng) -> None:
    """Cut and running vessels, bright with contrast agent, in a box."""
    x0, y0, x1, y1 = area
    for _ in range(n):
        x, y, a = rng.uniform(x0, x1), rng.uniform(y0, y1), rng.uniform(0, np.pi)
        length, value = rng.choice([0.004, 0.03, 0.07]), VESSEL * rng.uniform(0.5, 0.95)
        dx, dy = np.cos(a) * length, np.sin(a) * length
        bend = rng.normal(0, 0.008, 2)
        brain.stroke(curve([(x, y), (x + dx / 2 + bend[0], y + dy / 2 + bend[1]), (x + dx, y + dy)], 8), value, 0.007)


def folia(brain: Drawing, centre: tuple[Number, Number], outline: Points, rng: Rng, n: int = 6) -> None:
    """Fine lines of the cerebellum, about parallel to its outline."""
    for part in np.linspace(0.55, 0.96, n):
        ring = (outline - centre) * part + centre
        start = rng.integers(0, len(ring))
        for piece in range(7):
            first = start + piece * len(ring) // 7 + rng.integers(0, 14)
            line = ring[np.arange(first, first + rng.integers(8, 26)) % len(ring)]
            tilt = np.linspace(-1, 1, len(line))[:, None] * rng.normal(0, 0.012, 2)
            brain.stroke(line + tilt + rng.normal(0, 0.008, 2), rng.uniform(30, 50), 0.008, 0.003)
