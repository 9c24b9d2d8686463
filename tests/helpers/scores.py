"""Scored slices, made up: what their tables and summaries hold can be worked out by hand."""

from unet_jax.scoring.components import Detection
from unet_jax.scoring.metrics import Counts
from unet_jax.scoring.slices import SliceScore
from unet_jax.scoring.summary import summarize
from unet_jax.scoring.surface import SurfaceScore

EXACT, FOUND = SurfaceScore(0.0, 0.0, 1.0), Detection(1, 1, 1, 0)


def scored(slice, pid, tumor, network, native, near=EXACT, far=EXACT, found=FOUND):
    """A slice of these counts, surface scores at the network's and at the native size, and tumours."""
    return SliceScore(slice, pid, tumor, network, native, near, far, found)


def glioma(slice, dice_percent, pid="p"):
    """A slice of that Dice: 2 TP / (2 TP + FP + FN) with TP + FN = TP + FP = 100."""
    counts = Counts(dice_percent, 100 - dice_percent, 100 - dice_percent, 0)
    return scored(slice, pid, "glioma", Counts(0, 0, 0, 1), counts)


def summed_up(scores, **options):
    """The summary of slices of the split test, in pixels unless told otherwise."""
    settings = {"split": "test", "threshold": 0.45, "mask_rule": "area", "spacing": None, "tolerance": 2.0}
    return summarize(scores, **settings | options)


# Network resolution has 10 pixels, native 100.
SCORES = [
    scored(
        12,
        "b",
        "glioma",
        Counts(0, 0, 0, 10),
        Counts(0, 0, 20, 80),
        far=SurfaceScore(14.0, 14.0, 0.0),
        found=Detection(2, 0, 0, 0),
    ),
    scored(
        3,
        "a",
        "meningioma",
        Counts(1, 1, 2, 6),
        Counts(30, 10, 10, 50),
        near=SurfaceScore(2.0, 1.0, 0.5),
        far=SurfaceScore(4.0, 1.5, 0.25),
        found=Detection(3, 2, 1, 4),
    ),
    scored(7, "a", "meningioma", Counts(4, 0, 0, 6), Counts(40, 0, 0, 60)),
]
