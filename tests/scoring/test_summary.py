"""Rows, summaries and the threshold, against values worked out by hand."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet_jax.scoring.metrics import Counts, apply_threshold, count_per_slice
from unet_jax.scoring.summary import (
    THRESHOLDS,
    SliceScore,
    best_threshold,
    choose_gallery,
    patient_rows,
    slice_rows,
    summarize,
    threshold_counts,
    threshold_ious,
    write_csv,
    write_json,
)

# Network resolution has 10 pixels, native 100.
SCORES = [
    SliceScore(12, "b", "glioma", Counts(0, 0, 0, 10), Counts(0, 0, 20, 80)),
    SliceScore(3, "a", "meningioma", Counts(1, 1, 2, 6), Counts(30, 10, 10, 50)),
    SliceScore(7, "a", "meningioma", Counts(4, 0, 0, 6), Counts(40, 0, 0, 60)),
]


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
    }
    # Too small for the network's resolution, missed at the native one: empty there, and so 1; 0 here.
    assert (rows[2]["network_iou"], rows[2]["native_iou"]) == (1, 0)
    assert (rows[2]["native_tumor_pixels"], rows[2]["native_predicted_pixels"]) == (20, 0)


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


def test_a_patient_of_two_tumor_types_names_both():
    scores = [
        SliceScore(1, "c", "pituitary", Counts(1, 0, 0, 0), Counts(1, 0, 0, 0)),
        SliceScore(2, "c", "glioma", Counts(1, 0, 0, 0), Counts(1, 0, 0, 0)),
    ]
    assert [r["tumor"] for r in patient_rows(scores)] == ["glioma+pituitary"]


def test_summary_by_hand():
    summary = summarize(SCORES, split="test", threshold=0.45, mask_rule="area")
    assert list(summary) == ["split", "n_slices", "n_patients", "threshold", "mask_rule", "network", "native"]
    assert (summary["split"], summary["threshold"], summary["mask_rule"]) == ("test", 0.45, "area")
    assert (summary["n_slices"], summary["n_patients"]) == (3, 2)

    native = summary["native"]
    assert native["micro_iou"] == 70 / (70 + 10 + 30)
    assert native["micro_dice"] == 140 / (140 + 10 + 30)
    assert native["mean_iou"] == pytest.approx((0.6 + 1 + 0) / 3)
    assert native["mean_dice"] == pytest.approx((0.75 + 1 + 0) / 3)
    assert native["pixel_accuracy"] == pytest.approx(260 / 300)

    network = summary["network"]
    assert network["micro_iou"] == 5 / 8
    assert network["mean_iou"] == pytest.approx((0.25 + 1 + 1) / 3)
    assert network["pixel_accuracy"] == 27 / 30

    assert list(native["by_tumor"]) == ["meningioma", "glioma", "pituitary"]
    assert native["by_tumor"]["meningioma"] == {
        "n_slices": 2,
        "micro_iou": 70 / 90,
        "micro_dice": 140 / 160,
        "mean_iou": pytest.approx(0.8),
        "mean_dice": pytest.approx(0.875),
        "pixel_accuracy": 0.9,
    }
    assert native["by_tumor"]["glioma"]["micro_iou"] == 0


def test_a_tumor_type_that_does_not_occur_has_no_scores():
    empty = {
        "n_slices": 0,
        "micro_iou": None,
        "micro_dice": None,
        "mean_iou": None,
        "mean_dice": None,
        "pixel_accuracy": None,
    }
    summary = summarize(SCORES, split="test", threshold=0.5, mask_rule="area")
    assert summary["network"]["by_tumor"]["pituitary"] == empty
    assert summary["native"]["by_tumor"]["pituitary"] == empty


def test_the_summary_does_not_depend_on_the_order_of_slices_or_the_kind_of_integers():
    turned = [
        SliceScore(s.slice, s.pid, s.tumor, *(Counts(*map(np.int64, (c.tp, c.fp, c.fn, c.tn))) for c in both))
        for s in reversed(SCORES)
        for both in [(s.network, s.native)]
    ]
    one = summarize(SCORES, split="val", threshold=0.5, mask_rule="any")
    other = summarize(turned, split="val", threshold=0.5, mask_rule="any")
    assert slice_rows(SCORES) == slice_rows(turned)
    assert patient_rows(SCORES) == patient_rows(turned)
    for resolution in ("network", "native"):
        assert one[resolution]["micro_iou"] == other[resolution]["micro_iou"]
        assert one[resolution]["mean_dice"] == pytest.approx(other[resolution]["mean_dice"], rel=1e-12)


def test_a_long_pooled_sum_does_not_overflow():
    counts = Counts(2**30, 0, 2**30, 2**30)
    scores = [SliceScore(i, str(i), "glioma", counts, counts) for i in range(8)]
    summary = summarize(scores, split="all", threshold=0.5, mask_rule="area")
    assert summary["native"]["micro_iou"] == 0.5
    assert summary["native"]["pixel_accuracy"] == 2 / 3


def test_thresholds_are_the_exact_decimals():
    assert THRESHOLDS[:3] == (0.05, 0.1, 0.15)
    assert [f"{t!r}" for t in THRESHOLDS] == [str(float(f"0.{n:02d}")) for n in range(5, 100, 5)]


# Probabilities on the thresholds, one float32 step beside them, and anywhere.
ON = [np.float32(t) for t in THRESHOLDS]
BESIDE = [np.nextafter(t, np.float32(side)) for t in ON for side in (0, 1)]
probability = st.one_of(st.sampled_from([*ON, *BESIDE]), st.floats(0, 1, width=32), st.just(np.float32(np.nan)))


@settings(deadline=None)
@given(hnp.arrays(np.float32, (5, 7), elements=probability), hnp.arrays(bool, (5, 7)))
def test_the_sweep_equals_counting_at_each_threshold(probs, mask):
    swept = threshold_counts(probs, mask)
    assert swept.shape == (len(THRESHOLDS), 4)
    assert swept.dtype == np.int64
    for row, threshold in zip(swept, THRESHOLDS, strict=True):
        c = count_per_slice(apply_threshold(probs, threshold), mask)
        assert row.tolist() == [c.tp, c.fp, c.fn, c.tn]


def test_the_sweep_by_hand():
    probs = np.array([[0.04, 0.5, 0.97], [0.2, 0.5, 0.6]], np.float32)
    mask = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    swept = threshold_counts(probs, mask)
    assert swept[THRESHOLDS.index(0.05)].tolist() == [3, 2, 0, 1]
    assert swept[THRESHOLDS.index(0.5)].tolist() == [2, 2, 1, 1]  # the two of exactly 0.5 are tumour
    assert swept[THRESHOLDS.index(0.55)].tolist() == [1, 1, 2, 2]
    assert swept[THRESHOLDS.index(0.95)].tolist() == [1, 0, 2, 3]
    np.testing.assert_allclose(threshold_ious(swept)[[0, 9, 10, 18]], [3 / 5, 2 / 5, 1 / 4, 1 / 3])


def counts_with_ious(ious):
    """Counts of 1,000 pixels of true tumour, that have these IoUs."""
    tp = np.round(np.array(ious) * 1000).astype(np.int64)
    return np.stack([tp, 0 * tp, 1000 - tp, 0 * tp], axis=1)


def test_the_best_threshold_has_the_highest_iou():
    ious = [0.3] * 19
    ious[THRESHOLDS.index(0.35)] = 0.7
    assert best_threshold(counts_with_ious(ious)) == (0.35, 0.7)


@pytest.mark.parametrize(
    ("tied", "expected"),
    [((0.1, 0.6, 0.95), 0.6), ((0.45, 0.55), 0.45), ((0.55, 0.65), 0.55), ((0.05, 0.95), 0.05), (THRESHOLDS, 0.5)],
)
def test_of_equal_thresholds_the_one_nearest_to_half_is_best(tied, expected):
    ious = [0.8 if t in tied else 0.2 for t in THRESHOLDS]
    assert best_threshold(counts_with_ious(ious)) == (expected, 0.8)


def test_the_best_threshold_where_nothing_is_found_is_half():
    assert best_threshold(counts_with_ious([0.0] * 19)) == (0.5, 0.0)


def glioma(slice, dice_percent):
    """A slice of that Dice: 2 TP / (2 TP + FP + FN) with TP + FN = TP + FP = 100."""
    counts = Counts(dice_percent, 100 - dice_percent, 100 - dice_percent, 0)
    return SliceScore(slice, "p", "glioma", Counts(0, 0, 0, 1), counts)


def test_the_gallery_shows_the_quartiles_of_each_type():
    # 99 slices of Dice 0.01 ... 0.99, in an order of their own: quartiles 0.25, 0.50, 0.75.
    scores = [glioma(1000 - d, d) for d in sorted(range(1, 100), key=lambda d: d * 37 % 100)]
    assert [s.slice for s in choose_gallery(scores)] == [1000 - 25, 1000 - 50, 1000 - 75]


def test_the_gallery_goes_by_type_and_takes_all_of_a_small_one():
    scores = [glioma(5, 90), glioma(4, 20), *SCORES[1:]]
    assert [(s.tumor, s.slice) for s in choose_gallery(scores)] == [
        ("meningioma", 3),
        ("meningioma", 7),
        ("glioma", 4),
        ("glioma", 5),
    ]
    assert [s.slice for s in choose_gallery(scores, per_tumor=1)] == [7, 5]
    assert choose_gallery([]) == []


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 6))
def test_the_gallery_never_shows_a_slice_twice(n, per_tumor):
    chosen = choose_gallery([glioma(i, 50) for i in range(n)], per_tumor)
    assert len({s.slice for s in chosen}) == len(chosen) == min(n, per_tumor)


def test_csv_is_exact_and_reads_back(tmp_path):
    path = tmp_path / "rows.csv"
    write_csv(path, [{"pid": "Ä,1", "dice": np.float64(1 / 3), "n": np.int64(2)}, {"pid": "b", "dice": None, "n": 1}])
    assert path.read_bytes() == 'pid,dice,n\n"Ä,1",0.3333333333333333,2\nb,,1\n'.encode()
    with path.open(newline="", encoding="utf-8") as file:
        assert float(next(csv.DictReader(file))["dice"]) == 1 / 3


def test_csv_of_slices_has_the_columns_in_order(tmp_path):
    write_csv(tmp_path / "slices.csv", slice_rows(SCORES))
    lines = (tmp_path / "slices.csv").read_text().splitlines()
    assert lines[0] == (
        "slice,pid,tumor,network_iou,network_dice,network_pixel_accuracy,"
        "native_iou,native_dice,native_pixel_accuracy,native_tumor_pixels,native_predicted_pixels"
    )
    assert lines[1] == "3,a,meningioma,0.25,0.4,0.7,0.6,0.75,0.8,40,40"
    assert len(lines) == 4


def test_csv_refuses_no_rows_and_odd_rows(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        write_csv(tmp_path / "a.csv", [])
    with pytest.raises(ValueError, match="extra"):
        write_csv(tmp_path / "b.csv", [{"n": 1}, {"n": 1, "extra": 2}])


def test_json_is_exact_and_refuses_nan(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": np.float64(1 / 3), "a": None, "n": np.int64(3), "t": np.float32(0.5)})
    assert path.read_bytes() == b'{\n  "b": 0.3333333333333333,\n  "a": null,\n  "n": 3,\n  "t": 0.5\n}\n'
    for bad in (float("nan"), float("inf"), np.float32("nan")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(path, {"x": bad})
    with pytest.raises(TypeError, match="Path"):
        write_json(path, {"x": path})
    assert path.read_bytes().startswith(b'{\n  "b"'), "what cannot be written leaves the file as it was"


def test_the_whole_summary_is_json(tmp_path):
    write_json(tmp_path / "s.json", summarize(SCORES, split="test", threshold=0.5, mask_rule="area"))
    assert json.loads((tmp_path / "s.json").read_text())["native"]["by_tumor"]["pituitary"]["micro_iou"] is None
