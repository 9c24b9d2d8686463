"""Tissues that heads have in common, whatever the plane: skull, cortex and its clefts, muscle, air cells, vessels."""

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

from unet_jax.data.phantom.draw import Corners, Number, Point, Points, Shape, curve, ellipse, grow, loop, normals, zoom

Box = Sequence[Number]
"""x0, y0, x1, y1."""

AIR, BONE, CSF, GREY, WHITE = 4, 15, 25, 57, 77
MUSCLE, MARROW, MUCOSA, SKIN, FAT, VESSEL = 66, 95, 120, 110, 200, 165
"""Grey values of the tissues under contrast agent, 0 to 255."""

_linspace = cache(np.linspace)


class Anatomy:
    """Drawing of one patient's tissues at one end of a stack, in head coordinates, later shapes on top.

    The same calls take the same random numbers at both ends, and so draw the same shapes; only z changes their course.

    Args:
        outlines: closed curves by name, clockwise: the `cavity` of the skull, the `skin` where it is drawn, and others.
        atlas: shapes by name, which `add` draws.
        rng: random numbers of the patient, shared by all drawings of an end.
        z: -1 or 1, the end of the stack.
    """

    def __init__(self, outlines: dict[str, Points], atlas: dict[str, Any], rng: np.random.Generator, z: float) -> None:
        self.outlines, self.cavity, self._atlas, self.rng, self.z = outlines, outlines["cavity"], atlas, rng, z
        self.side, self._mirror, self._whole = 1, np.array([1.0, 1.0]), self
        self.shapes: list[Shape] = []
        self._clefts: list[tuple[Points, Number]] = []
        self._midlines: list[Points] = []

    def halves(self) -> tuple["Anatomy", "Anatomy"]:
        """Return this drawing, and one of side -1, which draws the mirror images of its shapes on this one.

        Tissues of random course are no mirror images: that one draws them anew, in the mirrored place.
        """
        mirrored = copy.copy(self)
        mirrored.side, mirrored._mirror = -1, np.array([-1.0, 1.0])
        return self, mirrored

    def polygon(self, points: Points, value: Number) -> None:
        """Fill a polygon."""
        self.shapes.append((points * self._mirror, value))

    def stroke(self, points: Points, value: Number, width: Number, end: Number | None = None) -> None:
        """Draw an open curve whose width goes from `width` to `end`."""
        line = points * self._mirror
        across = normals(line, closed=False)
        across *= (width + ((width if end is None else end) - width) * _linspace(0, 1, len(line))[:, None]) / 2
        self.shapes.append((np.concatenate([line + across, (line - across)[::-1]]), value))

    def add(self, *names: str) -> None:
        """Draw shapes of the atlas, paired ones on both sides."""
        for shape in (self._atlas[name] for name in names):
            for half in self.halves() if shape.get("paired") else (self,):
                match shape:
                    case {"fill": corners, "grey": grey}:
                        half.polygon(loop(corners), grey)
                    case {"line": corners, "grey": grey, "width": width}:
                        half.stroke(curve(corners), grey, *width)
                    case {"oval": numbers, "grey": grey}:
                        half.polygon(ellipse(*numbers), grey)
                    case {"outline": outline, "grey": grey}:
                        half.polygon(grow(self.outlines[outline], shape.get("grow", 0)), grey)
                    case _:  # a tissue of random course, under the name of the method that draws it
                        (tissue,) = shape.keys() - {"paired"}
                        getattr(half, tissue)(*shape[tissue])

    def scalp(self, thinnest: float, thickest: float) -> None:
        """Draw the skin, and fat of a random mean thickness around muscle."""
        skin, fat = self.outlines["skin"], self.rng.uniform(thinnest, thickest)
        a = np.linspace(0, 2 * np.pi, len(skin), endpoint=False)
        self.polygon(skin, SKIN)
        self.polygon(grow(skin, -0.012), FAT)
        self.polygon(grow(skin, -0.012 - fat * (1 + 0.25 * np.sin(3 * a) + 0.15 * np.sin(8 * a))), MUSCLE)

    def trim(self) -> None:
        """Clear all that was drawn outside the skin."""
        skin = self.outlines["skin"]
        frame = np.array([(-3, -3), (3, -3), (3, 3), (-3, 3), (-3, -3)], float)
        self.polygon(np.concatenate([frame, skin, skin[:1]]), 0)

    def skull(self, thickness: Number, scalp: bool = False) -> None:
        """Draw outer table, marrow and inner table around the cavity, and a scalp around them if asked for."""
        rng, cavity = self.rng, self.cavity
        a = np.linspace(0, 2 * np.pi, len(cavity), endpoint=False)
        wave = 1 + 0.2 * np.sin(2 * a + rng.uniform(0, 6)) + 0.12 * np.sin(5 * a + rng.uniform(0, 6))
        fat = rng.uniform(0.03, 0.06) * (1 + 0.3 * np.sin(a + rng.uniform(0, 6))) * wave
        bone = thickness * wave
        if scalp:
            self.polygon(grow(cavity, bone + fat + 0.012), SKIN)
            self.polygon(grow(cavity, bone + fat), FAT)
            galea = grow(cavity, bone + fat * 0.3)
            for first in range(0, len(cavity), 30):
                self.stroke(_stretch(galea, first, rng.integers(8, 26)), FAT * 0.6, 0.01, 0.004)
        self.polygon(grow(cavity, bone), BONE)
        marrow, line = rng.uniform(0.5, 1.0), grow(cavity, bone * 0.52)
        for first in range(0, len(cavity), 12):  # the marrow comes and goes along the skull
            piece = _stretch(line, first, rng.integers(10, 18))
            value = BONE + (MARROW - BONE) * marrow * rng.uniform(0.45, 0.9)
            self.stroke(piece, value, thickness * 0.36, thickness * 0.25)

    def cortex(self, depth: tuple[float, float]) -> None:
        """Draw dura, fluid under it and the surface of the brain; add clefts along it."""
        rng, cavity = self.rng, self.cavity
        a = np.linspace(0, 2 * np.pi, len(cavity), endpoint=False)
        self.polygon(grow(cavity, 0.02), 85)
        self.polygon(grow(cavity, -0.006), CSF)
        gap = rng.uniform(0.012, 0.022) * (1 + 0.35 * np.sin(4 * a + rng.uniform(0, 6)) + 0.25 * np.sin(9 * a))
        surface = grow(cavity, -0.006 - gap)
        self.polygon(surface, GREY)
        self.polygon(grow(surface, -0.034), WHITE)
        self.clefts_along(surface, -normals(surface), 0.085, depth, 0.02)
        self.clefts_along(surface, -normals(surface), 0.11, (depth[0] * 0.35, depth[0] * 0.75), 0.034)

    def medial(self, top: Number, bottom: Number, depth: tuple[float, float]) -> None:
        """Draw grey matter on both sides of the midline; add the falx, and clefts along it."""
        line = curve([(0, top), (self.rng.normal(0, 0.008), (top + bottom) / 2), (0, bottom)])
        n = normals(line, closed=False)
        self.clefts_along(line, n, 0.1, depth)
        self.clefts_along(line, -n, 0.1, depth)
        self.stroke(line, GREY, 0.08)
        self._midlines.append(line)

    def cleft(self, corners: Corners, width: Number) -> Points:
        """Add one cleft through corners, which `draw_clefts` draws, and return its course."""
        line = curve(corners) * self._mirror
        self._clefts.append((line, width))
        return line

    def clefts_along(
        self, points: Points, inward: Points, spacing: float, depth: tuple[float, float], width: float = 0.018
    ) -> None:
        """Add clefts that start on a curve, some of them forked.

        Args:
            points: the curve.
            inward: unit directions into the tissue, one a point.
            spacing: mean distance of neighbours.
            depth: lengths of the shortest and of the longest cleft.
            width: width of the mouth.
        """
        rng = self.rng
        reach = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        n = max(int(reach[-1] / spacing), 1)
        starts = (np.arange(n) + 0.5 + rng.uniform(-0.32, 0.32, n)) * reach[-1] / n
        for at in np.interp(starts, reach, np.arange(len(points))).astype(int):
            angle = np.arctan2(inward[at, 1], inward[at, 0]) + rng.normal(0, 0.3)
            length, sway = rng.uniform(*depth), rng.uniform(0, 2 * np.pi)
            length *= 1 + 0.35 * np.sin(sway) * self.z
            bends = rng.normal(0, 0.3, 9) + 0.1 * np.sin(sway + np.arange(9)) * self.z
            line = _walk(points[at] - inward[at] * 0.01, angle, bends, length)
            mouth = width * rng.uniform(0.5, 1.2)
            self._clefts.append((line, mouth))
            side, fork, fork_bends = rng.choice([-1, 1]), rng.integers(3, 7), rng.normal(0, 0.3, 6)
            if rng.uniform() < 0.45:
                heading = angle + bends[:fork].sum() + side * rng.uniform(0.7, 1.2)
                self._clefts.append((_walk(line[2 * fork], heading, fork_bends, length * 0.45), mouth * 0.6))

    def draw_clefts(self) -> None:
        """Draw the clefts: ribbons of grey matter, fluid, vessels in some; then the falx in its fissure."""
        ribbon, rng = 0.055, self.rng
        for line, _ in self._clefts:
            self.stroke(line, GREY, ribbon, ribbon * 0.7)
            self.polygon(ellipse(line[-1, 0], line[-1, 1], ribbon * 0.38, ribbon * 0.38, n=12), GREY)
        for line, width in self._clefts:
            self.stroke(line, CSF, width, 0.004)
        for line, _ in self._clefts:
            if rng.uniform() < 0.12:
                first = rng.integers(0, 3)
                self.stroke(line[first : first + 4], VESSEL * rng.uniform(0.6, 1.1), 0.008, 0.005)
        for line in self._midlines:
            self.stroke(line, CSF, 0.022, 0.018)
            self.stroke(line, 95, 0.006)

    def muscle(self, x: Number, y: Number, rx: Number, ry: Number, turn: Number) -> None:
        """Draw a muscle in its fat: fibres run along its long axis, `ry`, turned clockwise by `turn`."""
        whole, rng, x, turn = self._whole, self.rng, self.side * x, self.side * turn
        value = MUSCLE + rng.normal(0, 5)
        whole.polygon(ellipse(x, y, rx + 0.007, ry + 0.009, turn), rng.uniform(78, 112))
        whole.polygon(ellipse(x, y, rx, ry, turn), value)
        c, s = np.cos(turn), np.sin(turn)
        for u in np.arange(-0.85, 0.9, 0.022 / rx):
            half = ry * np.sqrt(1 - u * u) * 0.92
            at, lo, hi = u * rx, *np.sort(rng.uniform(-1, 1, 2) * half)
            line = np.array([(at, lo), (at + rng.normal(0, 0.006), (lo + hi) / 2), (at, hi)])
            fibre = np.stack([x + line[:, 0] * c - line[:, 1] * s, y + line[:, 0] * s + line[:, 1] * c], 1)
            contrast = rng.choice([-22, -12, 12, 22, 45], p=[0.2, 0.3, 0.25, 0.15, 0.1])
            whole.stroke(curve(fibre, 9), value + contrast, 0.012, 0.004)

    def strands(self, area: Box, angle: Number, n: int) -> None:
        """Draw small muscles, fat planes and vessels around one direction, in a box."""
        rng = self.rng
        for _ in range(n):
            x, y = self._point_in(area)
            a, length = angle + rng.normal(0, 0.25), rng.uniform(0.06, 0.2)
            dx, dy = np.array([np.cos(a), np.sin(a)]) * length / 2
            bow = rng.normal(0, 0.25)
            course = [(x - dx, y - dy), (x - dy * bow, y + dx * bow), (x + dx, y + dy)]
            value = rng.choice([28, 45, 56, 76, 90, 115, 150], p=[0.1, 0.18, 0.22, 0.22, 0.13, 0.1, 0.05])
            self._whole.stroke(curve(course, 9), value, rng.uniform(0.012, 0.04), 0.004)

    def air_cells(self, area: Box, n: int) -> None:
        """Draw air cells with mucosa between them, in a box."""
        rng = self.rng
        for _ in range(n):
            x, y = self._point_in(area)
            r, turn, wall = rng.uniform(0.012, 0.034), rng.uniform(0, 3), rng.uniform(0.003, 0.009)
            self._whole.polygon(ellipse(x, y, r * 1.4 + wall, r + wall, turn, 20), MUCOSA * rng.uniform(0.5, 1.1))
            self._whole.polygon(ellipse(x, y, r * 1.4, r, turn, 20), AIR + rng.uniform(0, 14))

    def choroid(self, x: Number, y: Number, n: int, spread: Number) -> None:
        """Draw enhancing choroid plexus in a ventricle."""
        for dx, dy in self.rng.normal(0, spread, (n, 2)):
            tuft = ellipse(self.side * x + dx, y + dy, 0.012, 0.009, n=10)
            self._whole.polygon(tuft, VESSEL * self.rng.uniform(0.5, 1.0))

    def vessels(self, area: Box, n: int) -> None:
        """Draw cut and running vessels, bright with contrast agent, in a box."""
        rng = self.rng
        for _ in range(n):
            (x, y), a = self._point_in(area), rng.uniform(0, np.pi)
            length, value = rng.choice([0.004, 0.03, 0.07]), VESSEL * rng.uniform(0.5, 0.95)
            dx, dy = np.cos(a) * length, np.sin(a) * length
            bend = rng.normal(0, 0.008, 2)
            course = [(x, y), (x + dx / 2 + bend[0], y + dy / 2 + bend[1]), (x + dx, y + dy)]
            self._whole.stroke(curve(course, 8), value, 0.007)

    def folia(self, centre: Point, n: int) -> None:
        """Draw fine lines in the cerebellum, about parallel to its outline."""
        rng = self.rng
        for factor in np.linspace(0.55, 0.96, n):
            ring = zoom(self.outlines["cerebellum"], centre, factor)
            start = rng.integers(0, len(ring))
            for piece in range(7):
                first = start + piece * len(ring) // 7 + rng.integers(0, 14)
                line = _stretch(ring, first, rng.integers(8, 26))
                tilt = np.linspace(-1, 1, len(line))[:, None] * rng.normal(0, 0.012, 2)
                self.stroke(line + tilt + rng.normal(0, 0.008, 2), rng.uniform(30, 50), 0.008, 0.003)

    def _point_in(self, area: Box) -> Point:
        """Choose a random point in a box, or in its mirror image if this drawing is mirrored."""
        left, right = sorted((self.side * area[0], self.side * area[2]))
        return self.rng.uniform(left, right), self.rng.uniform(area[1], area[3])


def _stretch(closed: Points, first: int | np.integer, length: int | np.integer) -> Points:
    """Take so many points of a closed curve, from index `first` on, round its end."""
    return closed[np.arange(first, first + length) % len(closed)]


def _walk(start: Float[np.ndarray, "2"], angle: Number, bends: Float[np.ndarray, " n"], length: float) -> Points:
    """Follow a heading for a length, with a bend after each step, along a smooth curve."""
    headings = angle + np.concatenate([[0], np.cumsum(bends)])
    steps = np.stack([np.cos(headings), np.sin(headings)], 1) * length / len(headings)
    return curve(np.concatenate([start[None], start + np.cumsum(steps, 0)]), 2 * len(headings) + 1)
