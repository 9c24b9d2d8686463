"""Heads plane by plane: the shapes of the atlas, and among them those that vary from patient to patient."""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from unet_jax.data.phantom.anatomy import BONE, CSF, FAT, MARROW, MUCOSA, VESSEL, WHITE, Anatomy
from unet_jax.data.phantom.draw import Number, Points, Scene, curve, ellipse, grow, loop, normals, symmetric, zoom


@dataclass(frozen=True)
class View:
    """One plane at one level."""

    plane: str
    outlines: dict[str, Points]
    """Closed curves of the atlas by name, clockwise."""
    shapes: dict[str, Any]
    """Shapes of the atlas by name."""
    draw: Callable[[Anatomy, Anatomy], None]
    """Function that draws the head on one drawing, and the inside of the cavity on another."""
    gliomas: Sequence[Sequence[Number]]
    """Places (x, y) deep in white matter."""
    convexity: Sequence[Number]
    """Stretch of the cavity, in parts of its outline, where a meningioma may sit."""
    falx: Number | None = None
    """y of a meningioma on the falx."""
    sella: Sequence[Number] | None = None
    """Place (x, y) of a pituitary tumour."""

    @property
    def cavity(self) -> Points:
        """Inner table of the skull, clockwise."""
        return self.outlines["cavity"]

    def scenes(self, seed: int) -> tuple[Scene, Scene]:
        """Draw one patient's head and brain through a stack."""
        heads, brains = [], []
        for z in (-1.0, 1.0):
            rng = np.random.default_rng(seed)
            head, brain = (Anatomy(self.outlines, self.shapes, rng, z) for _ in range(2))
            self.draw(head, brain)
            heads.append(head.shapes)
            brains.append(brain.shapes)
        return Scene(*heads), Scene(*brains)


@cache
def views() -> dict[str, View]:
    """Read the atlas's views, by plane and level: "axial-high", ..."""
    atlas = tomllib.loads((resources.files("unet_jax.data.phantom") / "atlas.toml").read_text("utf-8"))
    outlines = {
        name: symmetric(shape["half"]) if "half" in shape else loop(shape["loop"], shape.get("n", 240))
        for name, shape in atlas.pop("outlines").items()
    }
    for name, facts in atlas.items():
        facts["outlines"] = {part: outlines[outline] for part, outline in facts["outlines"].items()}
        facts["draw"] = _DRAW[name]
    return {name: View(**facts) for name, facts in atlas.items()}


def _axial_high(head: Anatomy, brain: Anatomy) -> None:
    head.skull(0.055, scalp=True)

    brain.cortex((0.08, 0.21))
    brain.medial(-0.62, 0.6, (0.05, 0.14))
    for half in brain.halves():
        a, b = brain.rng.normal(0, 0.03, 2)
        half.cleft([(0.5, a), (0.38, 0.03 + a), (0.3, a), (0.2, 0.05 + a), (0.1, 0.03)], 0.024)
        half.cleft([(0.48, 0.18 + b), (0.36, 0.2), (0.25, 0.16 + b), (0.17, 0.2)], 0.02)
        half.cleft([(0.36, -0.42), (0.3, -0.28 + b), (0.22, -0.2), (0.2, -0.1 + a)], 0.02)
    brain.draw_clefts()
    brain.add("posterior-sinus", "anterior-sinus", "vessels")


def _axial_middle(head: Anatomy, brain: Anatomy) -> None:
    head.skull(0.055, scalp=True)

    brain.cortex((0.05, 0.15))
    brain.medial(-0.62, -0.27, (0.03, 0.08))
    brain.medial(0.24, 0.6, (0.03, 0.1))
    v = brain.rng.uniform(0.6, 1.25)  # size of the ventricles
    for half in brain.halves():
        half.cleft([(0.5, -0.12), (0.42, -0.09), (0.35, -0.06 + 0.06 * brain.z)], 0.038)
        half.cleft([(0.3, -0.19), (0.335, -0.08), (0.325, 0.04), (0.27, 0.13)], 0.018)
    brain.draw_clefts()
    brain.add("lentiform", "caudate", "thalamus")
    horn = [(0.012, -0.05), (0.02, -0.15), (0.05, -0.25), (0.105, -0.3), (0.12, -0.24), (0.085, -0.14), (0.04, -0.05)]
    tail = [(0.14, 0.19), (0.2, 0.17), (0.25, 0.25), (0.235, 0.37), (0.19, 0.43), (0.2, 0.32)]
    for half in brain.halves():
        half.polygon(loop(zoom(horn, (0.04, -0.15), (v, 0.8 + 0.2 * v))), CSF)
        half.polygon(loop(zoom(tail, (0.2, 0.28), v * (1 + 0.1 * brain.z))), CSF)
        half.add("choroid")
    brain.stroke(curve([(0.003, -0.03), (0, 0.06), (-0.003, 0.16)]), CSF, 0.024 * v, 0.014)
    brain.add("cistern", "pineal")
    brain.stroke(curve([(0, 0.22), (0.004, 0.4), (0, 0.58)]), VESSEL * brain.rng.uniform(0.4, 0.8), 0.009)
    brain.add("posterior-sinus", "anterior-sinus", "vessels")


def _axial_low(head: Anatomy, brain: Anatomy) -> None:
    head.scalp(0.04, 0.06)
    head.add("facial-fat")
    for half in reversed(head.halves()):
        half.add("temporalis")
        half.strands((0.4, -0.55, 0.5, -0.45), np.pi / 2 - half.side * 0.4, 14)
    head.skull(0.05)
    head.add("orbital-fat", "medial-muscle", "lateral-muscle", "optic-nerve", "lateral-wall")
    head.add("sclera", "vitreous", "lens", "nasal-mucosa", "ethmoid-cells", "sphenoid-sinus", "nasal-septum")
    head.trim()
    head.add("ear", "ear-fold")

    brain.cortex((0.04, 0.1))
    brain.draw_clefts()
    brain.add("cerebellar-cistern", "cerebellum")
    brain.folia((0, 0.12), 6)
    brain.add("cerebellar-white", "petrous-bone", "mastoid-cells", "sigmoid-sinus", "ambient-cistern")
    brain.add("cavernous-sinus", "carotid", "prepontine-cistern", "pons", "peduncles", "fourth-ventricle")
    brain.add("basilar-artery", "pituitary", "posterior-sinus", "vessels")


def _coronal_middle(head: Anatomy, brain: Anatomy) -> None:
    head.scalp(0.035, 0.06)
    head.add("chewing-strands")
    for half in reversed(head.halves()):
        half.add("temporalis", "masseter", "lateral-pterygoid", "medial-pterygoid")
        head.polygon(ellipse(half.side * 0.36, 0.24, 0.05, 0.03, -half.side * 0.3), FAT * 0.7)
    head.add("jaw", "jaw-marrow", "tongue", "tongue-strands", "nasal-mucosa")
    head.skull(0.05)
    head.add("sphenoid-sinus", "sphenoid-septum", "throat", "mouth", "cavernous-sinus", "carotid", "pituitary")
    head.trim()

    brain.cortex((0.05, 0.14))
    brain.medial(-0.71, -0.34, (0.04, 0.1))
    for half in brain.halves():
        half.cleft([(0.5, -0.09), (0.42, -0.12), (0.34, -0.12 + 0.02 * brain.z)], 0.034)
        half.cleft([(0.3, -0.26), (0.335, -0.16), (0.325, -0.06), (0.27, 0.0), (0.14, 0.0)], 0.02)
    brain.draw_clefts()
    brain.add("corpus-callosum", "caudate", "lentiform", "thalamus")
    v = brain.rng.uniform(0.7, 1.3)  # size of the ventricles
    horn = [(0.01, -0.27), (0.09, -0.285), (0.15, -0.25), (0.1, -0.21), (0.045, -0.13), (0.012, -0.14)]
    for half in brain.halves():
        half.polygon(loop(zoom(horn, (0.02, -0.24), v * (1 + 0.12 * brain.z))), CSF)
        half.polygon(ellipse(0.24, 0.06, 0.03 * v, 0.012, -0.5), CSF)
        half.add("choroid")
    brain.stroke(curve([(0, -0.15), (0, -0.02)]), CSF, 0.014 * v)
    brain.add("hippocampus", "suprasellar-cistern", "optic-chiasm", "pituitary-stalk", "cerebral-artery")
    brain.add("sagittal-sinus", "vessels")


def _coronal_back(head: Anatomy, brain: Anatomy) -> None:
    head.scalp(0.05, 0.08)
    for half in reversed(head.halves()):
        half.strands((0.06, 0.42, 0.5, 1.0), np.pi / 2 - half.side * 0.3, 40)
        half.add("rectus", "splenius", "sternomastoid", "semispinalis", "mastoid-cells")
    head.add("nuchal-ligament")
    head.skull(0.055)
    head.trim()

    brain.cortex((0.06, 0.17))
    brain.medial(-0.69, -0.08, (0.05, 0.13))
    brain.draw_clefts()
    v = brain.rng.uniform(0.6, 1.2)  # size of the ventricles
    for half in brain.halves():
        half.polygon(ellipse(0.2, -0.2, 0.03 * v, 0.07 * v * (1 + 0.2 * brain.z), -0.4), CSF)
        half.add("choroid")
    brain.add("cerebellar-cistern", "tentorium", "cerebellum", "cerebellar-white")
    for half in brain.halves():
        for k in range(13):  # folia, from top to bottom
            y, near = -0.02 + 0.028 * k, brain.rng.uniform(0.04, 0.15)
            far = min(brain.rng.uniform(near + 0.08, 0.4), 0.42 - 0.02 * max(k - 6, 0))
            bow = 0.03 * np.sin(k)
            course = [(x, y + 0.1 * x - 0.3 * x * x * (k > 6) + bow * x) for x in (near, (near + far) / 2, far)]
            half.stroke(curve(course), brain.rng.uniform(28, 48), 0.008, 0.004)
    brain.add("sigmoid-sinus", "vermis", "fourth-ventricle", "straight-sinus", "sagittal-sinus", "vessels")


def _sagittal_middle(head: Anatomy, brain: Anatomy) -> None:
    head.scalp(0.04, 0.06)
    _sagittal_neck(head)
    head.skull(0.06)
    head.add("facial-strands", "nasal-cavity", "ethmoid-cells")
    for y, x0, x1 in ((0.235, -0.62, -0.2), (0.32, -0.68, -0.14)):  # turbinates
        top = [(x0, y + 0.03), (x0 + 0.12, y - 0.03), (x1 - 0.12, y - 0.025), (x1, y + 0.025)]
        low = [(x1 - 0.1, y + 0.03), ((x0 + x1) / 2, y + 0.045), (x0 + 0.08, y + 0.045)]
        head.polygon(loop(top + low), MUCOSA * head.rng.uniform(0.8, 1.1))
        head.stroke(curve(np.array(top[1:] + low[:1]) + (-0.02, 0.03)), MUCOSA * 0.55, 0.02, 0.008)
    head.add("sphenoid-mucosa", "sphenoid-sinus", "frontal-sinus", "clivus")
    head.add("palate", "palate-marrow", "mouth", "tongue")
    for angle in np.linspace(0.2, 1.5, 9):  # the fan of the tongue's muscle, from the chin
        x, y = -0.6 + 0.42 * np.cos(angle), 0.76 - 0.26 * np.sin(angle)
        fibre = [(-0.58, 0.75), ((x - 0.58) / 2 + 0.01, (y + 0.75) / 2), (x, y)]
        head.stroke(curve(fibre), 82, 0.008, 0.016)
    head.add("airway", "chin", "chin-marrow", "spinal-canal", "spinal-cord")
    head.trim()

    brain.cortex((0.1, 0.24))
    cingulate = [(-0.36, -0.02), (-0.45, -0.18), (-0.36, -0.36), (-0.1, -0.46), (0.15, -0.44), (0.33, -0.32)]
    course = brain.cleft(cingulate, 0.016)
    brain.clefts_along(course, normals(course, closed=False), 0.16, (0.04, 0.12))
    brain.cleft([(0.62, 0.0), (0.48, -0.08), (0.38, -0.06), (0.3, -0.02)], 0.02)
    brain.cleft([(0.56, -0.42), (0.45, -0.28), (0.36, -0.1)], 0.02)
    brain.draw_clefts()
    brain.add("lateral-ventricle", "corpus-callosum", "fornix", "choroid", "third-ventricle", "thalamus")
    brain.add("prepontine-cistern", "cerebellar-cistern", "cerebellum")
    for a in np.linspace(-1.6, 1.7, 13):  # the tree of the cerebellum's white matter, and clefts between its branches
        length = brain.rng.uniform(0.11, 0.17)
        tip = (0.36 + 1.25 * length * np.cos(a), 0.17 + length * 1.1 * np.sin(a))
        brain.stroke(curve([(0.33, 0.17), tip], 8), WHITE, 0.012, 0.008)
        b, near = a + 0.12 + brain.rng.normal(0, 0.03), brain.rng.uniform(0.07, 0.12)
        cleft = [(0.35 + near * np.cos(b), 0.17 + near * np.sin(b)), (0.37 + 0.2 * np.cos(b), 0.17 + 0.17 * np.sin(b))]
        brain.stroke(curve(cleft, 8), CSF + 10, 0.003, 0.011)
    brain.add("brainstem", "fourth-ventricle", "aqueduct")
    brain.add("straight-sinus", "great-vein", "pituitary-stalk", "pituitary")
    first = int(brain.rng.integers(90, 110))
    brain.stroke(grow(brain.cavity, -0.008)[first : first + 60], VESSEL * 0.8, 0.014)  # superior sagittal sinus
    brain.add("confluence", "vessels")


def _sagittal_side(head: Anatomy, brain: Anatomy) -> None:
    head.scalp(0.05, 0.075)
    head.add("facial-strands", "lateral-pterygoid", "digastric", "masseter", "sternomastoid")
    _sagittal_neck(head)
    head.add("orbital-fat")
    head.skull(0.055)
    head.add("sclera", "vitreous", "lens", "upper-muscle", "lower-muscle", "optic-nerve")
    head.add("antrum-mucosa", "antrum", "upper-jaw", "lower-jaw", "jaw-marrow", "mastoid-cells")
    head.trim()

    brain.cortex((0.08, 0.2))
    low = 0.03 * brain.z
    brain.cleft([(-0.36, 0.06), (-0.2, 0.0), (0.0, -0.06 + low), (0.2, -0.14 + low), (0.3, -0.2)], 0.034)
    brain.cleft([(-0.26, 0.16), (-0.05, 0.1), (0.2, 0.03 + low), (0.34, -0.04)], 0.018)
    brain.cleft([(0.06, -0.72), (0.02, -0.55 - low), (-0.06, -0.4), (-0.04, -0.25)], 0.022)
    brain.draw_clefts()
    v = brain.rng.uniform(0.7, 1.3) * (1 + 0.15 * brain.z)  # size of the ventricle
    body = [(-0.26, -0.2), (-0.1, -0.29), (0.1, -0.28), (0.24, -0.18), (0.26, -0.06), (0.16, 0.02)]
    brain.stroke(curve(body), CSF, 0.035 * v, 0.04 * v)
    brain.polygon(ellipse(0.25, -0.1, 0.04 * v, 0.06 * v, -0.4), CSF)
    brain.add("choroid", "thalamus", "internal-capsule", "cerebellar-cistern", "tentorium", "cerebellum")
    brain.folia((0.34, 0.2), 5)
    brain.add("cerebellar-white", "transverse-sinus", "vessels")


def _sagittal_neck(head: Anatomy) -> None:
    """Draw vertebrae and the muscles behind them."""
    head.strands((0.42, 0.45, 0.72, 1.0), 1.3, 40)
    head.muscle(0.5, 0.52, 0.06, 0.16, 0.5)
    head.muscle(0.58, 0.72, 0.07, 0.26, -0.15)
    head.muscle(0.5, 0.9, 0.05, 0.2, -0.2)
    corners = np.array([(-0.07, -0.045), (0.05, -0.045), (0.056, 0.045), (-0.064, 0.045)])
    for k in range(4):
        at = (0.16 + 0.035 * k, 0.58 + 0.12 * k)
        head.polygon(loop(corners * 1.18 + at), BONE + 8)
        head.polygon(loop(corners * 0.96 + at), MARROW * head.rng.uniform(0.85, 1.1))


_DRAW = {
    "axial-high": _axial_high,
    "axial-middle": _axial_middle,
    "axial-low": _axial_low,
    "coronal-middle": _coronal_middle,
    "coronal-back": _coronal_back,
    "sagittal-middle": _sagittal_middle,
    "sagittal-side": _sagittal_side,
}
"""Functions that draw the views."""
