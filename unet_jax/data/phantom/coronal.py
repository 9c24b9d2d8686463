"""Coronal heads: through the sella with the temporal lobes and the face, and behind it through the cerebellum."""

import numpy as np

from unet_jax.data.phantom.anatomy import (
    AIR,
    BONE,
    CSF,
    FAT,
    GREY,
    MARROW,
    MUCOSA,
    VESSEL,
    WHITE,
    Folds,
    Rng,
    View,
    air_cells,
    choroid,
    cortex,
    falx,
    medial,
    muscle,
    scalp,
    skull,
    strands,
    trim,
    vessels,
)
from unet_jax.data.phantom.draw import Drawing, curve, ellipse, grow, loop, mirror, symmetric

_CAVITY = symmetric([(0, -0.72), (0.24, -0.67), (0.42, -0.5), (0.51, -0.24), (0.5, 0.0), (0.42, 0.14), (0.27, 0.18),
                     (0.15, 0.13), (0.11, 0.07), (0, 0.05)])  # fmt: skip
_BACK = symmetric([(0, -0.7), (0.24, -0.65), (0.42, -0.48), (0.5, -0.24), (0.5, 0.0), (0.42, 0.2), (0.27, 0.34),
                   (0.1, 0.42), (0, 0.44)])  # fmt: skip
_SKIN = symmetric([(0, -0.84), (0.3, -0.78), (0.52, -0.58), (0.62, -0.28), (0.64, 0.02), (0.6, 0.3), (0.58, 0.6),
                   (0.48, 0.95), (0.4, 1.2), (0, 1.4)])  # fmt: skip


def _face(head: Drawing, rng: Rng) -> None:
    """Muscles of mastication, jaw, sinus, throat and tongue."""
    strands(head, (-0.5, 0.2, 0.5, 1.0), np.pi / 2, 60, rng)
    for side in (-1, 1):
        muscle(head, side * 0.555, -0.02, 0.03, 0.26, side * 0.1, rng)
        muscle(head, side * 0.5, 0.52, 0.045, 0.2, side * 0.12, rng)
        muscle(head, side * 0.3, 0.38, 0.09, 0.13, side * 0.5, rng)
        muscle(head, side * 0.32, 0.6, 0.055, 0.15, -side * 0.3, rng)
        jaw = curve([(side * 0.42, 0.32), (side * 0.44, 0.55), (side * 0.37, 0.9)])
        head.stroke(jaw, BONE, 0.07, 0.065)
        head.stroke(jaw, MARROW + 30, 0.034, 0.028)
        head.polygon(ellipse(side * 0.36, 0.24, 0.05, 0.03, -side * 0.3), FAT * 0.7)
    muscle(head, 0, 0.76, 0.14, 0.26, np.pi / 2, rng)
    strands(head, (-0.2, 0.9, 0.2, 1.05), 0, 12, rng)
    head.polygon(loop([(-0.16, 0.12), (0.16, 0.12), (0.17, 0.3), (0, 0.34), (-0.17, 0.3)]), MUCOSA * 0.7)


def _middle(view: View, head: Drawing, brain: Drawing, rng: Rng, z: float) -> None:
    scalp(head, _SKIN, rng.uniform(0.035, 0.06))
    _face(head, rng)
    skull(head, view.cavity, rng, 0.05, closed=False)
    sinus = [(-0.12, 0.17), (0, 0.155), (0.12, 0.17), (0.14, 0.26), (0.06, 0.31), (-0.06, 0.3), (-0.14, 0.26)]
    head.polygon(loop(sinus), AIR)
    head.stroke(curve([(0.012, 0.16), (-0.012, 0.3)]), MUCOSA * 0.7, 0.012)
    head.polygon(loop([(-0.06, 0.39), (0.0, 0.37), (0.06, 0.39), (0.045, 0.5), (-0.045, 0.5)]), AIR)
    head.stroke(curve([(-0.16, 0.565), (0, 0.545), (0.16, 0.565)]), AIR + 12, 0.016, 0.008)
    trim(head, _SKIN)

    folds = Folds(rng, z)
    cortex(view, brain, rng, folds, (0.05, 0.14))
    line = medial(brain, folds, -0.71, -0.34, rng, (0.04, 0.1))
    for m in (np.array, mirror):
        folds.lines.append((m(curve([(0.5, -0.09), (0.42, -0.12), (0.34, -0.12 + 0.02 * z)])), 0.034))
        folds.lines.append((m(curve([(0.3, -0.26), (0.335, -0.16), (0.325, -0.06), (0.27, 0.0), (0.14, 0.0)])), 0.02))
    folds.draw(brain)
    falx(brain, line)
    brain.stroke(curve([(-0.2, -0.26), (-0.08, -0.31), (0, -0.3), (0.08, -0.31), (0.2, -0.26)]), WHITE + 6, 0.035)
    v = rng.uniform(0.7, 1.3)  # size of the ventricles
    for m in (np.array, mirror):
        brain.polygon(m(loop([(0.17, -0.27), (0.2, -0.2), (0.14, -0.12), (0.1, -0.17)])), GREY + 5)
        brain.polygon(m(loop([(0.2, -0.17), (0.27, -0.14), (0.26, -0.04), (0.16, -0.05)])), GREY + 4)
        brain.polygon(m(ellipse(0.07, -0.1, 0.055, 0.06)), GREY + 6)
        horn = np.array([(0.01, -0.27), (0.09, -0.285), (0.15, -0.25), (0.1, -0.21), (0.045, -0.13), (0.012, -0.14)])
        brain.polygon(m(loop((horn - (0.02, -0.24)) * (v * (1 + 0.12 * z)) + (0.02, -0.24))), CSF)
        brain.polygon(m(ellipse(0.24, 0.06, 0.03 * v, 0.012, -0.5)), CSF)
        brain.polygon(m(ellipse(0.2, 0.075, 0.04, 0.025, -0.3)), GREY)
        x, y = m([(0.05, -0.2)])[0]
        choroid(brain, x, y, rng, 3, 0.01)
    brain.stroke(curve([(0, -0.15), (0, -0.02)]), CSF, 0.014 * v)
    brain.polygon(loop([(-0.15, -0.03), (0, -0.045), (0.15, -0.03), (0.11, 0.05), (-0.11, 0.05)]), CSF)
    brain.polygon(loop([(-0.07, -0.035), (0.07, -0.035), (0.05, -0.01), (-0.05, -0.01)]), WHITE)
    brain.stroke(curve([(0, -0.02), (0.003, 0.05)]), 120, 0.01)
    for m in (np.array, mirror):
        head.polygon(m(ellipse(0.095, 0.115, 0.04, 0.055)), VESSEL * 0.75)
        head.polygon(m(ellipse(0.09, 0.13, 0.017, 0.017)), AIR)
        brain.polygon(m(ellipse(0.12, 0.0, 0.016, 0.01)), VESSEL)
    head.polygon(ellipse(0, 0.1, 0.06, 0.032), 110)
    brain.polygon(loop([(0, -0.67), (0.03, -0.73), (-0.03, -0.73)]), VESSEL)
    vessels(brain, (-0.38, -0.5, 0.38, 0.1), 4, rng)


def _back(view: View, head: Drawing, brain: Drawing, rng: Rng, z: float) -> None:
    scalp(head, _SKIN, rng.uniform(0.05, 0.08))
    for side in (-1, 1):
        strands(head, (side * 0.06, 0.42, side * 0.5, 1.0), np.pi / 2 - side * 0.3, 40, rng)
        muscle(head, side * 0.12, 0.62, 0.07, 0.2, side * 0.15, rng)
        muscle(head, side * 0.3, 0.6, 0.06, 0.26, side * 0.35, rng)
        muscle(head, side * 0.42, 0.75, 0.05, 0.28, side * 0.1, rng)
        muscle(head, side * 0.2, 0.95, 0.07, 0.16, side * 0.1, rng)
        air_cells(head, (side * 0.49, 0.14, side * 0.55, 0.34), 12, rng)
    head.stroke(curve([(0, 0.5), (0.01, 0.75), (0, 1.05)]), FAT * 0.7, 0.026)
    skull(head, view.cavity, rng, 0.055, closed=False)
    trim(head, _SKIN)

    folds = Folds(rng, z)
    cortex(view, brain, rng, folds, (0.06, 0.17))
    line = medial(brain, folds, -0.69, -0.08, rng, (0.05, 0.13))
    folds.draw(brain)
    falx(brain, line)
    v = rng.uniform(0.6, 1.2)
    for m in (np.array, mirror):
        brain.polygon(m(ellipse(0.2, -0.2, 0.03 * v, 0.07 * v * (1 + 0.2 * z), -0.4)), CSF)
        x, y = m([(0.2, -0.18)])[0]
        choroid(brain, x, y, rng, 5, 0.012)
    hind = symmetric([(0, -0.06), (0.2, -0.01), (0.4, 0.07), (0.4, 0.18), (0.26, 0.31), (0.1, 0.38), (0, 0.36)])
    brain.polygon(grow(hind, 0.03), CSF)
    brain.stroke(curve([(-0.5, 0.07), (-0.25, -0.02), (0, -0.1), (0.25, -0.02), (0.5, 0.07)]), 110, 0.011)
    brain.polygon(hind, GREY + 6)
    for m in (np.array, mirror):
        brain.polygon(m(ellipse(0.17, 0.14, 0.08, 0.05, 0.4)), WHITE)
        for k in range(13):
            y, near = -0.02 + 0.028 * k, rng.uniform(0.04, 0.15)
            far = min(rng.uniform(near + 0.08, 0.4), 0.42 - 0.02 * max(k - 6, 0))
            bow = 0.03 * np.sin(k)
            course = [(x, y + 0.1 * x - 0.3 * x * x * (k > 6) + bow * x) for x in (near, (near + far) / 2, far)]
            brain.stroke(m(curve(course)), rng.uniform(28, 48), 0.008, 0.004)
        brain.polygon(m(ellipse(0.47, 0.1, 0.032, 0.028, 0.6)), VESSEL)
    brain.polygon(ellipse(0, 0.12, 0.05, 0.15), GREY)
    brain.polygon(ellipse(0, 0.12, 0.03, 0.02), CSF)
    brain.polygon(ellipse(0, -0.1, 0.022, 0.02), VESSEL)
    brain.polygon(loop([(0, -0.64), (0.032, -0.71), (-0.032, -0.71)]), VESSEL)
    vessels(brain, (-0.38, -0.5, 0.38, -0.1), 4, rng)


VIEWS = {
    "coronal-middle": View(
        "coronal", _CAVITY, _middle, [(0.27, -0.38), (0.36, 0.03), (0.25, -0.3)], (-0.28, 0.28), -0.5, (0, 0.07)
    ),
    "coronal-back": View("coronal", _BACK, _back, [(0.25, -0.4), (0.3, -0.25)], (-0.3, 0.3), -0.4),
}
