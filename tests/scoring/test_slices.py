"""Scored slices and the rows of tables, against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.helpers.scores import SCORES, scored
from unet_jax.scoring.components import Detection
from unet_jax.scoring.metrics import Counts
from unet_jax.scoring.slices import (
    FIGURES,
    MEASURES,
    figures_of,
    patient_rows,
    score_slice,
    slice_columns,
    slice_rows,
)


def test_slice_rows_by_hand():
    rows = slice_rows(SCORES)
    assert [r["slice"] for r in rows] == [3, 7, 12]
    assert rows[0] == {
        "slice": 3,
        "pid": "a",
        "tumor": "meningioma",
        "network_iou": 1 / 4,
        "network_dice": 2 / 5,
        "network_pixel_accuracy": 7 / 10,
        "native_iou": 30 / 50,
        "native_dice": 60 / 80,
        "native_pixel_accuracy": 80 / 100,
        "native_tumor_pixels": 40,
        "native_predicted_pixels": 40,
        "network_precision": 1 / 2,
        "network_sensitivity": 1 / 3,
        "network_specificity": 6 / 7,
        "network_volumetric_similarity": 4 / 5,
        "network_hd95": 2,
        "network_assd": 1,
        "network_nsd": 0.5,
        "native_precision": 30 / 40,
        "native_sensitivity": 30 / 40,
        "native_specificity": 50 / 60,
        "native_volumetric_similarity": 1,
        "native_hd95": 4,
        "native_assd": 1.5,
        "native_nsd": 0.25,
        "missed": 0,
        "tumors": 3,
        "tumors_found": 2,
        "tumors_found_half": 1,
        "false_components": 4,
    }
    # Too small for the network's resolution, missed at the native one: empty there, and so 1; 0 here.
    assert (rows[2]["network_iou"], rows[2]["native_iou"]) == (1, 0)
    assert (rows[2]["native_tumor_pixels"], rows[2]["native_predicted_pixels"]) == (20, 0)
    assert (rows[2]["missed"], rows[2]["native_precision"], rows[2]["native_specificity"]) == (1, 0, 0)
    assert slice_rows([]) == []
    assert {type(value) for row in rows + patient_rows(SCORES) for value in row.values()} == {int, float, str}


def test_patient_rows_by_hand():
    rows = patient_rows(SCORES)
    assert [(r["pid"], r["tumor"], r["n_slices"]) for r in rows] == [("a", "meningioma", 2), ("b", "glioma", 1)]
    a, b = rows
    assert a["native_micro_iou"] == 70 / 90
    assert a["native_micro_dice"] == 140 / 160
    assert a["native_mean_iou"] == pytest.approx((30 / 50 + 1) / 2)
    assert a["native_mean_dice"] == pytest.approx((60 / 80 + 1) / 2)
    assert a["native_pixel_accuracy"] == 180 / 200
    assert a["network_micro_iou"] == 5 / 8
    assert (b["network_mean_dice"], b["native_mean_dice"]) == (1, 0)
    # Of what follows, the mean over the patient's slices.
    assert list(a)[3:15] == [
        *(f"network_{name}" for name in ("micro_iou", "micro_dice", "mean_iou", "mean_dice", "pixel_accuracy")),
        *(f"native_{name}" for name in ("micro_iou", "micro_dice", "mean_iou", "mean_dice", "pixel_accuracy")),
        "network_precision",
        "network_sensitivity",
    ]
    assert list(a)[13:] == list(slice_rows(SCORES)[0])[11:]
    assert (a["native_hd95"], a["native_nsd"], a["network_assd"]) == (2, 0.625, 0.5)
    assert a["native_sensitivity"] == pytest.approx((0.75 + 1) / 2)
    assert (a["missed"], b["missed"]) == (0, 1)
    assert (a["tumors"], a["tumors_found"], a["false_components"]) == (2, 1.5, 2)
    # A patient of two tumour types names both.
    one = Counts(1, 0, 0, 0)
    scores = [scored(1, "c", "pituitary", one, one), scored(2, "c", "glioma", one, one)]
    assert [r["tumor"] for r in patient_rows(scores)] == ["glioma+pituitary"]


def square(shape, top, left, side):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def score(spacing=None, tolerance=1.0, **masks):
    """A slice of 40x60 at a network's size of 15x15; there the prediction is one to the right, here four."""
    given = {
        "network_pred": square((15, 15), 5, 6, 3),
        "network_mask": square((15, 15), 5, 5, 3),
        "native_pred": square((40, 60), 10, 14, 12),
        "native_mask": square((40, 60), 10, 10, 12),
    }
    return score_slice(slice=5, pid="p", tumor="glioma", spacing=spacing, tolerance=tolerance, **given | masks)


def test_a_slice_is_scored_at_both_resolutions():
    s = score()
    assert (s.slice, s.pid, s.tumor) == (5, "p", "glioma")
    assert [int(n) for n in (s.network.tp, s.network.fp, s.network.fn, s.network.tn)] == [6, 3, 3, 213]
    assert [int(n) for n in (s.native.tp, s.native.fp, s.native.fn, s.native.tn)] == [96, 48, 48, 2208]
    assert (s.network_surface.hd95, s.native_surface.hd95) == (1, 4)
    assert (s.network_surface.nsd, s.detection) == (1, Detection(1, 1, 1, 0))


def test_distances_in_mm_are_those_of_the_slice_at_both_resolutions():
    s = score(spacing=0.5, tolerance=2.0)
    # A network pixel is 60 / 15 = 4 native ones, of 0.5 mm: both predictions are 2 mm off.
    assert (s.network_surface.hd95, s.native_surface.hd95) == (2, 2)
    assert (s.network_surface.nsd, s.native_surface.nsd) == (1, 1)
    assert score(spacing=0.5, tolerance=1.9).network_surface.nsd < 1
    missed = score(spacing=0.5, network_pred=np.zeros((15, 15), bool), native_pred=np.zeros((40, 60), bool))
    assert missed.network_surface.hd95 == pytest.approx(math.hypot(15, 15) * 2)
    assert missed.native_surface.hd95 == pytest.approx(math.hypot(40, 60) * 0.5)


masks = hnp.arrays(bool, (7, 7))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(masks, masks.filter(np.any)), min_size=1, max_size=3), st.data())
def test_missing_a_tumor_never_improves_a_figure(slices, data):
    """Of any predictions of slices with a tumour, none is worse than the empty one by any figure but pixel accuracy."""
    missed = data.draw(st.sampled_from(range(len(slices))))

    def figures(preds):
        scores = [
            score(spacing=0.5, network_pred=pred, network_mask=mask, native_pred=pred, native_mask=mask)
            for pred, (_, mask) in zip(preds, slices, strict=True)
        ]
        columns = slice_columns(scores, "native")
        assert columns["missed"].tolist() == [not (p & m).any() for p, (_, m) in zip(preds, slices, strict=True)]
        return figures_of({name: values.sum() for name, values in columns.items()})

    before = figures([pred for pred, _ in slices])
    after = figures([pred & (i != missed) for i, (pred, _) in enumerate(slices)])
    means = set(FIGURES) - {name for name in FIGURES if name.startswith("micro_")} - {"pixel_accuracy"}
    assert {name.removeprefix("mean_") for name in means} == {*MEASURES, "missed"}
    for name in means:
        sign = -1 if name in ("hd95", "assd", "missed") else 1
        assert sign * after[name] <= sign * before[name] + 1e-12
