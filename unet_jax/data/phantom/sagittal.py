"""Sagittal heads, facing left: the midline with brainstem and face in profile, and beside it through an orbit."""

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
    folia,
    muscle,
    scalp,
    skull,
    strands,
    trim,
    vessels,
)
from unet_jax.data.phantom.draw import Drawing, curve, ellipse, grow, loop, normals

_MIDDLE = loop([(-0.48, 0.02), (-0.58, -0.06), (-0.62, -0.22), (-0.58, -0.44), (-0.38, -0.66), (-0.05, -0.77),
                (0.3, -0.72), (0.56, -0.52), (0.69, -0.22), (0.66, 0.06), (0.52, 0.28), (0.36, 0.4), (0.24, 0.46),
                (0.13, 0.4), (0.05, 0.26), (-0.03, 0.12), (-0.12, 0.1), (-0.2, 0.06), (-0.34, 0.05)])  # fmt: skip
_PROFILE = loop([(-0.72, -0.05), (-0.73, -0.25), (-0.67, -0.52), (-0.44, -0.76), (-0.05, -0.88), (0.36, -0.83),
                 (0.66, -0.6), (0.81, -0.25), (0.8, 0.1), (0.72, 0.4), (0.74, 0.7), (0.84, 1.2), (-0.3, 1.3),
                 (-0.45, 1.05), (-0.7, 0.97), (-0.78, 0.85), (-0.73, 0.74), (-0.81, 0.67), (-0.77, 0.6), (-0.83, 0.53),
                 (-0.79, 0.45), (-0.92, 0.37), (-0.91, 0.3), (-0.8, 0.1)], 360)  # fmt: skip
_SIDE = loop([(-0.5, 0.0), (-0.58, -0.08), (-0.61, -0.24), (-0.54, -0.46), (-0.3, -0.68), (0.04, -0.74),
              (0.36, -0.66), (0.58, -0.42), (0.66, -0.14), (0.62, 0.14), (0.48, 0.34), (0.32, 0.38),
              (0.16, 0.3), (0.04, 0.2), (-0.12, 0.24), (-0.28, 0.2), (-0.34, 0.1), (-0.42, 0.03)])  # fmt: skip
_SIDE_SKIN = loop([(-0.7, -0.05), (-0.72, -0.27), (-0.64, -0.54), (-0.36, -0.78), (0.04, -0.85), (0.42, -0.77),
                   (0.68, -0.52), (0.78, -0.18), (0.76, 0.16), (0.68, 0.45), (0.7, 0.75), (0.78, 1.2), (-0.2, 1.3),
                   (-0.5, 0.98), (-0.62, 0.8), (-0.66, 0.6), (-0.7, 0.4), (-0.72, 0.14)])  # fmt: skip


def _neck(head: Drawing, rng: Rng) -> None:
    """Vertebrae and the muscles behind them."""
    strands(head, (0.42, 0.45, 0.72, 1.0), 1.3, 40, rng)
    muscle(head, 0.5, 0.52, 0.06, 0.16, 0.5, rng)
    muscle(head, 0.58, 0.72, 0.07, 0.26, -0.15, rng)
    muscle(head, 0.5, 0.9, 0.05, 0.2, -0.2, rng)
    corners = np.array([(-0.07, -0.045), (0.05, -0.045), (0.056, 0.045), (-0.064, 0.045)])
    for k in range(4):
        at = (0.16 + 0.035 * k, 0.58 + 0.12 * k)
        head.polygon(loop(corners * 1.18 + at), BONE + 8)
        head.polygon(loop(corners * 0.96 + at), MARROW * rng.uniform(0.85, 1.1))


def _face(head: Drawing, rng: Rng) -> None:
    """Nose, sinuses, palate, tongue, throat and chin, on the midline."""
    strands(head, (-0.75, 0.4, 0.0, 1.0), 0.5, 50, rng)
    cavity = loop(
        [(-0.74, 0.16), (-0.52, 0.06), (-0.25, 0.1), (-0.06, 0.24), (-0.03, 0.38), (-0.3, 0.385), (-0.8, 0.4)]
    )
    head.polygon(cavity, AIR + 8)
    air_cells(head, (-0.56, 0.09, -0.26, 0.16), 20, rng)
    for y, x0, x1 in ((0.235, -0.62, -0.2), (0.32, -0.68, -0.14)):
        top = [(x0, y + 0.03), (x0 + 0.12, y - 0.03), (x1 - 0.12, y - 0.025), (x1, y + 0.025)]
        low = [(x1 - 0.1, y + 0.03), ((x0 + x1) / 2, y + 0.045), (x0 + 0.08, y + 0.045)]
        head.polygon(loop(top + low), MUCOSA * rng.uniform(0.8, 1.1))
        head.stroke(curve(np.array(top[1:] + low[:1]) + (-0.02, 0.03)), MUCOSA * 0.55, 0.02, 0.008)
    sinus = loop([(-0.22, 0.14), (-0.1, 0.14), (-0.05, 0.2), (-0.09, 0.25), (-0.18, 0.25), (-0.24, 0.21)])
    head.polygon(grow(sinus, 0.01), MUCOSA * 0.8)
    head.polygon(sinus, AIR)
    head.polygon(ellipse(-0.655, -0.02, 0.02, 0.06, 0.15), AIR + 4)
    head.polygon(loop([(-0.02, 0.16), (0.1, 0.42), (0.05, 0.46), (-0.05, 0.3)]), MARROW + 15)
    head.stroke(curve([(-0.76, 0.43), (-0.4, 0.41), (-0.14, 0.43), (-0.06, 0.53)]), BONE + 10, 0.05, 0.03)
    head.stroke(curve([(-0.76, 0.43), (-0.4, 0.41), (-0.14, 0.43)]), MARROW + 20, 0.026, 0.018)
    mouth = [(-0.7, 0.5), (-0.5, 0.45), (-0.2, 0.48), (-0.1, 0.6), (-0.12, 0.82), (-0.36, 0.86), (-0.62, 0.72)]
    head.polygon(loop(mouth), 85)
    muscle(head, -0.38, 0.64, 0.165, 0.25, np.pi / 2 + 0.25, rng)
    for angle in np.linspace(0.2, 1.5, 9):  # the fan of the tongue's muscle, from the chin
        tip = (-0.6 + 0.42 * np.cos(angle), 0.76 - 0.26 * np.sin(angle))
        head.stroke(curve([(-0.58, 0.75), ((tip[0] - 0.58) / 2 + 0.01, (tip[1] + 0.75) / 2), tip]), 82, 0.008, 0.016)
    head.stroke(curve([(-0.03, 0.38), (-0.05, 0.6), (-0.02, 0.8), (0.03, 1.1)]), AIR, 0.035, 0.08)
    head.polygon(loop([(-0.73, 0.78), (-0.64, 0.76), (-0.62, 0.87), (-0.69, 0.91)]), BONE)
    head.polygon(loop([(-0.72, 0.8), (-0.65, 0.78), (-0.635, 0.86), (-0.69, 0.89)]), MARROW + 20)
    canal = curve([(0.19, 0.38), (0.27, 0.55), (0.33, 0.75), (0.44, 1.1)])
    head.stroke(canal, CSF, 0.13, 0.11)
    head.stroke(canal, WHITE - 4, 0.065, 0.055)


def _middle(view: View, head: Drawing, brain: Drawing, rng: Rng, z: float) -> None:
    scalp(head, _PROFILE, rng.uniform(0.04, 0.06))
    _neck(head, rng)
    skull(head, view.cavity, rng, 0.06, closed=False)
    _face(head, rng)
    trim(head, _PROFILE)

    folds = Folds(rng, z)
    cortex(view, brain, rng, folds, (0.1, 0.24))
    cingulate = curve([(-0.36, -0.02), (-0.45, -0.18), (-0.36, -0.36), (-0.1, -0.46), (0.15, -0.44), (0.33, -0.32)])
    folds.lines.append((cingulate, 0.016))
    folds.along(cingulate, normals(cingulate, closed=False), 0.16, (0.04, 0.12))
    folds.lines.append((curve([(0.62, 0.0), (0.48, -0.08), (0.38, -0.06), (0.3, -0.02)]), 0.02))
    folds.lines.append((curve([(0.56, -0.42), (0.45, -0.28), (0.36, -0.1)]), 0.02))
    folds.draw(brain)
    brain.polygon(loop([(-0.28, -0.16), (-0.2, -0.28), (-0.05, -0.32), (0.1, -0.3), (0.2, -0.2), (0.1, -0.2),
                        (-0.05, -0.18), (-0.18, -0.1)]), CSF)  # fmt: skip
    brain.stroke(curve([(-0.24, -0.08), (-0.33, -0.15), (-0.3, -0.26), (-0.12, -0.34), (0.08, -0.33), (0.23, -0.24),
                        (0.25, -0.14), (0.2, -0.13)]), WHITE + 10, 0.045, 0.04)  # fmt: skip
    brain.stroke(curve([(0.2, -0.18), (0.08, -0.25), (-0.06, -0.24), (-0.13, -0.12)]), WHITE, 0.022, 0.018)
    choroid(brain, 0.02, -0.25, rng, 8, 0.02)
    brain.polygon(loop([(-0.12, -0.08), (0.0, -0.1), (0.1, -0.06), (0.05, 0.02), (-0.08, 0.06), (-0.16, 0.04)]), CSF)
    brain.polygon(ellipse(0.02, -0.14, 0.09, 0.055), GREY + 6)
    brain.polygon(
        loop([(-0.2, 0.02), (0.0, 0.0), (0.02, 0.1), (0.1, 0.3), (0.2, 0.5), (0.1, 0.44), (-0.06, 0.14)]), CSF
    )
    _hindbrain(brain, rng)
    brain.stroke(curve([(0.27, -0.12), (0.38, 0.0), (0.56, 0.13)]), VESSEL * 0.75, 0.013)
    brain.stroke(curve([(0.18, -0.1), (0.24, -0.12), (0.28, -0.12)]), VESSEL, 0.014)
    brain.stroke(curve([(-0.1, 0.02), (-0.12, 0.1)]), 120, 0.012)
    brain.polygon(ellipse(-0.125, 0.115, 0.045, 0.03), 105)
    first = int(rng.integers(90, 110))
    brain.stroke(grow(view.cavity, -0.008)[first : first + 60], VESSEL * 0.8, 0.014)
    brain.polygon(loop([(0.56, 0.1), (0.66, 0.06), (0.64, 0.16)]), VESSEL)
    vessels(brain, (-0.5, -0.55, 0.5, -0.3), 5, rng)


def _hindbrain(brain: Drawing, rng: Rng) -> None:
    """Cerebellum with its tree, brainstem and fourth ventricle."""
    back = loop([(0.24, 0.02), (0.36, 0.0), (0.5, 0.07), (0.56, 0.16), (0.5, 0.28), (0.36, 0.35), (0.27, 0.3),
                 (0.25, 0.16)])  # fmt: skip
    brain.polygon(grow(back, 0.035), CSF)
    brain.polygon(back, GREY + 4)
    for a in np.linspace(-1.6, 1.7, 13):
        length = rng.uniform(0.11, 0.17)
        tip = (0.36 + 1.25 * length * np.cos(a), 0.17 + length * 1.1 * np.sin(a))
        brain.stroke(curve([(0.33, 0.17), tip], 8), WHITE, 0.012, 0.008)
        b, near = a + 0.12 + rng.normal(0, 0.03), rng.uniform(0.07, 0.12)
        cleft = [(0.35 + near * np.cos(b), 0.17 + near * np.sin(b)), (0.37 + 0.2 * np.cos(b), 0.17 + 0.17 * np.sin(b))]
        brain.stroke(curve(cleft, 8), CSF + 10, 0.003, 0.011)
    stem = loop([(0.04, -0.04), (0.13, -0.02), (0.2, 0.08), (0.23, 0.2), (0.25, 0.34), (0.28, 0.5), (0.19, 0.5),
                 (0.15, 0.36), (0.08, 0.28), (0.03, 0.17), (0.05, 0.08)])  # fmt: skip
    brain.polygon(stem, WHITE - 2)
    brain.polygon(loop([(0.22, 0.12), (0.29, 0.17), (0.235, 0.25)]), CSF)
    brain.stroke(curve([(0.14, -0.06), (0.21, 0.02), (0.22, 0.12)]), CSF, 0.014)


def _side(view: View, head: Drawing, brain: Drawing, rng: Rng, z: float) -> None:
    scalp(head, _SIDE_SKIN, rng.uniform(0.05, 0.075))
    strands(head, (-0.62, 0.25, 0.4, 0.95), 1.0, 70, rng)
    muscle(head, -0.12, 0.42, 0.09, 0.2, 0.5, rng)
    muscle(head, 0.05, 0.5, 0.06, 0.2, 0.1, rng)
    muscle(head, -0.3, 0.72, 0.09, 0.2, 1.2, rng)
    muscle(head, 0.12, 0.78, 0.07, 0.24, -0.2, rng)
    _neck(head, rng)
    head.polygon(loop([(-0.68, 0.04), (-0.46, 0.04), (-0.3, 0.16), (-0.46, 0.23), (-0.66, 0.23)]), FAT * 0.85)
    skull(head, view.cavity, rng, 0.055, closed=False)
    head.polygon(ellipse(-0.61, 0.13, 0.094, 0.09), 85)
    head.polygon(ellipse(-0.61, 0.13, 0.086, 0.082), 31)
    head.polygon(ellipse(-0.675, 0.13, 0.014, 0.04), 60)
    for y, bend in ((0.06, 0.08), (0.205, 0.19), (0.13, 0.135)):
        head.stroke(curve([(-0.54, y), (-0.42, bend), (-0.34, 0.145)]), 85, 0.026, 0.012)
    antrum = loop(
        [(-0.58, 0.3), (-0.45, 0.27), (-0.34, 0.29), (-0.3, 0.36), (-0.36, 0.47), (-0.46, 0.5), (-0.55, 0.44)]
    )
    head.polygon(grow(antrum, 0.012), MUCOSA * 0.8)
    head.polygon(antrum, AIR)
    head.stroke(curve([(-0.62, 0.56), (-0.4, 0.58), (-0.25, 0.5)]), BONE + 20, 0.04, 0.02)
    jaw = curve([(-0.58, 0.7), (-0.42, 0.79), (-0.24, 0.76)])
    head.stroke(jaw, BONE + 15, 0.075, 0.06)
    head.stroke(jaw, MARROW - 10, 0.045, 0.036)
    air_cells(head, (0.16, 0.34, 0.36, 0.46), 16, rng)
    trim(head, _SIDE_SKIN)

    folds = Folds(rng, z)
    cortex(view, brain, rng, folds, (0.08, 0.2))
    low = 0.03 * z
    folds.lines.append(
        (curve([(-0.36, 0.06), (-0.2, 0.0), (0.0, -0.06 + low), (0.2, -0.14 + low), (0.3, -0.2)]), 0.034)
    )
    folds.lines.append((curve([(-0.26, 0.16), (-0.05, 0.1), (0.2, 0.03 + low), (0.34, -0.04)]), 0.018))
    folds.lines.append((curve([(0.06, -0.72), (0.02, -0.55 - low), (-0.06, -0.4), (-0.04, -0.25)]), 0.022))
    folds.draw(brain)
    v = rng.uniform(0.7, 1.3) * (1 + 0.15 * z)  # size of the ventricle
    body = curve([(-0.26, -0.2), (-0.1, -0.29), (0.1, -0.28), (0.24, -0.18), (0.26, -0.06), (0.16, 0.02)])
    brain.stroke(body, CSF, 0.035 * v, 0.04 * v)
    brain.polygon(ellipse(0.25, -0.1, 0.04 * v, 0.06 * v, -0.4), CSF)
    choroid(brain, 0.22, -0.1, rng, 8, 0.018)
    brain.polygon(ellipse(-0.02, -0.16, 0.15, 0.07, -0.2), GREY + 6)
    brain.polygon(ellipse(0.0, -0.13, 0.07, 0.035, -0.2), WHITE - 3)
    back = loop([(0.14, 0.16), (0.3, 0.08), (0.48, 0.1), (0.57, 0.18), (0.48, 0.3), (0.32, 0.34), (0.2, 0.28)])
    brain.polygon(grow(back, 0.03), CSF)
    brain.stroke(curve([(0.1, 0.14), (0.3, 0.05), (0.6, 0.13)]), 115, 0.011)
    brain.polygon(back, GREY + 6)
    folia(brain, (0.34, 0.2), back, rng, 5)
    brain.polygon(ellipse(0.34, 0.2, 0.08, 0.045, 0.1), WHITE)
    brain.polygon(ellipse(0.6, 0.13, 0.026, 0.03), VESSEL)
    vessels(brain, (-0.45, -0.5, 0.5, 0.0), 5, rng)


VIEWS = {
    "sagittal-middle": View(
        "sagittal", _MIDDLE, _middle, [(-0.4, -0.35), (0.35, -0.45)], (0.1, 0.48), sella=(-0.125, 0.08)
    ),
    "sagittal-side": View("sagittal", _SIDE, _side, [(-0.35, -0.3), (0.3, -0.4), (0.4, -0.15)], (0.05, 0.5)),
}
