"""Axial heads: above the ventricles, through them, and at the base of the skull with orbits and cerebellum."""

import numpy as np

from unet_jax.data.phantom.anatomy import (
    AIR,
    BONE,
    CSF,
    FAT,
    GREY,
    MUCOSA,
    SKIN,
    VESSEL,
    WHITE,
    Folds,
    Rng,
    View,
    air_cells,
    choroid,
    cortex,
    falx,
    folia,
    medial,
    muscle,
    scalp,
    skull,
    strands,
    trim,
    vessels,
)
from unet_jax.data.phantom.draw import Drawing, curve, ellipse, grow, loop, mirror, symmetric

_CAVITY = symmetric([(0, -0.63), (0.2, -0.6), (0.37, -0.44), (0.46, -0.2), (0.51, 0.08), (0.47, 0.32), (0.3, 0.54),
                     (0, 0.61)])  # fmt: skip
_BASE = symmetric([(0, -0.13), (0.08, -0.16), (0.14, -0.3), (0.24, -0.37), (0.38, -0.33), (0.47, -0.16),
                   (0.5, 0.1), (0.44, 0.36), (0.26, 0.55), (0, 0.6)])  # fmt: skip
_BASE_SKIN = symmetric([(0, -0.84), (0.06, -0.78), (0.1, -0.69), (0.26, -0.7), (0.4, -0.62), (0.52, -0.44),
                        (0.6, -0.2), (0.62, 0.05), (0.58, 0.36), (0.36, 0.65), (0, 0.73)])  # fmt: skip


def _high(view: View, head: Drawing, brain: Drawing, rng: Rng, z: float) -> None:
    skull(head, view.cavity, rng, 0.055)
    folds = Folds(rng, z)
    cortex(view, brain, rng, folds, (0.08, 0.21))
    line = medial(brain, folds, -0.62, 0.6, rng, (0.05, 0.14))
    for m in (np.array, mirror):
        a, b = rng.normal(0, 0.03, 2)
        folds.lines.append((m(curve([(0.5, a), (0.38, 0.03 + a), (0.3, a), (0.2, 0.05 + a), (0.1, 0.03)])), 0.024))
        folds.lines.append((m(curve([(0.48, 0.18 + b), (0.36, 0.2), (0.25, 0.16 + b), (0.17, 0.2)])), 0.02))
        folds.lines.append((m(curve([(0.36, -0.42), (0.3, -0.28 + b), (0.22, -0.2), (0.2, -0.1 + a)])), 0.02))
    folds.draw(brain)
    falx(brain, line)
    brain.polygon(loop([(0, 0.54), (0.035, 0.61), (-0.035, 0.61)]), VESSEL)
    brain.polygon(loop([(0, -0.595), (0.02, -0.635), (-0.02, -0.635)]), VESSEL * 0.9)
    vessels(brain, (-0.4, -0.45, 0.4, 0.45), 5, rng)


def _middle(view: View, head: Drawing, brain: Drawing, rng: Rng, z: float) -> None:
    skull(head, view.cavity, rng, 0.055)
    folds = Folds(rng, z)
    cortex(view, brain, rng, folds, (0.05, 0.15))
    front = medial(brain, folds, -0.62, -0.27, rng, (0.03, 0.08))
    back = medial(brain, folds, 0.24, 0.6, rng, (0.03, 0.1))
    v = rng.uniform(0.6, 1.25)  # size of the ventricles
    for m in (np.array, mirror):
        folds.lines.append((m(curve([(0.5, -0.12), (0.42, -0.09), (0.35, -0.06 + 0.06 * z)])), 0.038))
        folds.lines.append((m(curve([(0.3, -0.19), (0.335, -0.08), (0.325, 0.04), (0.27, 0.13)])), 0.018))
    folds.draw(brain)
    falx(brain, front)
    falx(brain, back)
    for m in (np.array, mirror):
        brain.polygon(m(loop([(0.2, -0.14), (0.255, -0.07), (0.25, 0.04), (0.17, 0.07), (0.19, -0.04)])), GREY + 4)
        brain.polygon(m(loop([(0.1, -0.27), (0.17, -0.22), (0.15, -0.1), (0.07, -0.05)])), GREY + 5)
        brain.polygon(m(ellipse(0.085, 0.08, 0.075, 0.11, -0.3)), GREY + 5)
        horn = np.array([(0.012, -0.05), (0.02, -0.15), (0.05, -0.25), (0.105, -0.3), (0.12, -0.24), (0.085, -0.14),
                         (0.04, -0.05)])  # fmt: skip
        brain.polygon(m(loop((horn - (0.04, -0.15)) * (v, 0.8 + 0.2 * v) + (0.04, -0.15))), CSF)
        tail = np.array([(0.14, 0.19), (0.2, 0.17), (0.25, 0.25), (0.235, 0.37), (0.19, 0.43), (0.2, 0.32)])
        brain.polygon(m(loop((tail - (0.2, 0.28)) * (v * (1 + 0.1 * z)) + (0.2, 0.28))), CSF)
        x, y = m([(0.19, 0.24)])[0]
        choroid(brain, x, y, rng, spread=0.016)
    brain.stroke(curve([(0.003, -0.03), (0, 0.06), (-0.003, 0.16)]), CSF, 0.024 * v, 0.014)
    brain.polygon(loop([(0, 0.16), (0.07, 0.19), (0.02, 0.22), (0, 0.27), (-0.02, 0.22), (-0.07, 0.19)]), CSF)
    brain.polygon(ellipse(0, 0.205, 0.013, 0.018), VESSEL)
    brain.stroke(curve([(0, 0.22), (0.004, 0.4), (0, 0.58)]), VESSEL * rng.uniform(0.4, 0.8), 0.009)
    brain.polygon(loop([(0, 0.555), (0.035, 0.61), (-0.035, 0.61)]), VESSEL)
    brain.polygon(loop([(0, -0.605), (0.018, -0.635), (-0.018, -0.635)]), VESSEL * 0.9)
    vessels(brain, (-0.4, -0.45, 0.4, 0.45), 4, rng)


def _low(view: View, head: Drawing, brain: Drawing, rng: Rng, z: float) -> None:
    scalp(head, _BASE_SKIN, rng.uniform(0.04, 0.06))
    head.polygon(ellipse(0, -0.5, 0.36, 0.22), FAT * 0.75)
    for side in (-1, 1):
        muscle(head, side * 0.49, -0.32, 0.05, 0.17, -side * 0.35, rng)
        strands(head, (side * 0.4, -0.55, side * 0.5, -0.45), np.pi / 2 - side * 0.4, 14, rng)
    skull(head, view.cavity, rng, 0.05, closed=False)
    for m in (np.array, mirror):
        head.polygon(m(loop([(0.1, -0.62), (0.3, -0.62), (0.3, -0.45), (0.12, -0.24), (0.09, -0.4)])), FAT * 0.8)
        for ends in ([(0.12, -0.55), (0.11, -0.4), (0.1, -0.26)], [(0.29, -0.55), (0.24, -0.4), (0.12, -0.26)]):
            head.stroke(m(curve(ends)), 85, 0.03, 0.014)
        head.stroke(m(curve([(0.2, -0.5), (0.17, -0.4), (0.11, -0.26)])), 75, 0.02)
        head.stroke(m(curve([(0.33, -0.6), (0.34, -0.48), (0.3, -0.4)])), BONE, 0.045)
        head.polygon(m(ellipse(0.2, -0.58, 0.094, 0.092)), 80)
        head.polygon(m(ellipse(0.2, -0.58, 0.086, 0.084)), 31)
        head.polygon(m(ellipse(0.2, -0.64, 0.04, 0.016)), 62)
    head.polygon(loop([(-0.085, -0.7), (0.085, -0.7), (0.09, -0.2), (-0.09, -0.2)]), MUCOSA * 0.6)
    air_cells(head, (-0.06, -0.64, 0.06, -0.3), 24, rng)
    head.polygon(loop([(-0.09, -0.27), (0, -0.29), (0.09, -0.27), (0.08, -0.2), (-0.08, -0.2)]), AIR)
    head.stroke(curve([(0.0, -0.74), (0.006, -0.5), (0, -0.22)]), MUCOSA * 0.8, 0.01)
    trim(head, _BASE_SKIN)
    for side in (-1, 1):
        ear = np.array([(0.6, -0.01), (0.67, -0.05), (0.705, 0.03), (0.665, 0.13), (0.6, 0.15)]) * (side, 1)
        head.stroke(curve(ear), SKIN + 30, 0.034, 0.02)
        head.stroke(curve(ear * (0.97, 0.8) + (0, 0.01)), SKIN, 0.016, 0.01)

    folds = Folds(rng, z)
    cortex(view, brain, rng, folds, (0.04, 0.1))
    folds.draw(brain)
    back = loop([(-0.42, 0.12), (-0.2, 0.02), (0, 0.06), (0.2, 0.02), (0.42, 0.12), (0.38, 0.36), (0.2, 0.53),
                 (0, 0.57), (-0.2, 0.53), (-0.38, 0.36)])  # fmt: skip
    brain.polygon(grow(back, 0.03), CSF)
    brain.polygon(back, GREY + 5)
    folia(brain, (0, 0.12), back, rng)
    for m in (np.array, mirror):
        brain.polygon(m(loop([(0.14, 0.2), (0.28, 0.16), (0.33, 0.26), (0.2, 0.34)])), WHITE - 6)
        brain.polygon(
            m(loop([(0.5, 0.06), (0.36, -0.02), (0.19, -0.04), (0.2, 0.02), (0.34, 0.08), (0.5, 0.16)])), BONE
        )
        (x0, y0), (x1, y1) = m([(0.36, 0.03), (0.47, 0.1)])
        air_cells(brain, (x0, y0, x1, y1), 5, rng)
        brain.polygon(m(ellipse(0.44, 0.2, 0.02, 0.038, 0.3)), VESSEL * 0.9)
        brain.polygon(m(loop([(0.18, -0.06), (0.25, -0.14), (0.28, -0.1), (0.24, -0.03)])), CSF)
        brain.polygon(m(ellipse(0.085, -0.13, 0.035, 0.05, 0.2)), VESSEL * 0.75)
        brain.polygon(m(ellipse(0.08, -0.135, 0.018, 0.02)), AIR)
    brain.polygon(ellipse(0, -0.005, 0.17, 0.15), CSF)
    brain.polygon(loop([(0, -0.09), (0.09, -0.07), (0.13, 0.02), (0.09, 0.12), (0, 0.14), (-0.09, 0.12), (-0.13, 0.02),
                        (-0.09, -0.07)]), WHITE - 3)  # fmt: skip
    brain.polygon(loop([(0.12, 0.06), (0.2, 0.16), (0, 0.13), (-0.2, 0.16), (-0.12, 0.06)]), WHITE - 3)
    brain.polygon(loop([(0, 0.14), (0.05, 0.165), (0.02, 0.2), (-0.02, 0.2), (-0.05, 0.165)]), CSF)
    brain.polygon(ellipse(0, -0.105, 0.012, 0.014), VESSEL)
    brain.polygon(ellipse(0, -0.155, 0.045, 0.03), 105)
    brain.polygon(loop([(0, 0.53), (0.035, 0.6), (-0.035, 0.6)]), VESSEL)
    vessels(brain, (-0.4, -0.3, 0.4, 0.0), 4, rng)


VIEWS = {
    "axial-high": View("axial", _CAVITY, _high, [(0.24, -0.25), (0.25, 0.25), (0.24, 0.0)], (0.0, 1.0), falx=-0.3),
    "axial-middle": View("axial", _CAVITY, _middle, [(0.27, -0.3), (0.32, 0.25), (0.26, 0.05)], (0.0, 1.0), falx=-0.45),
    "axial-low": View("axial", _BASE, _low, [(0.34, -0.14), (0.22, 0.3)], (0.22, 0.78), sella=(0, -0.16)),
}
