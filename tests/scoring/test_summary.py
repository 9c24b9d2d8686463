"""Summaries and the files, against values worked out by hand."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.scores import SCORES, glioma, scored, summed_up
from unet_jax.reporting.terminal import summary_table
from unet_jax.scoring.components import Detection
from unet_jax.scoring.metrics import EMPTY_RULE, Counts
from unet_jax.scoring.slices import FIGURES, MEASURES, patient_rows, slice_rows
from unet_jax.scoring.surface import SurfaceScore
from unet_jax.shared.files import write_csv, write_json


def test_summary_by_hand():
    summary = summed_up(SCORES, resamples=300)
    assert list(summary) == [
        *("split", "n_slices", "n_patients", "threshold", "mask_rule", "distance_unit", "spacing_mm", "nsd_tolerance"),
        *("empty_rule", "bootstrap", "detection", "tumor_free", "network", "native"),
    ]
    assert (summary["split"], summary["threshold"], summary["mask_rule"]) == ("test", 0.45, "area")
    assert (summary["n_slices"], summary["n_patients"]) == (3, 2)
    assert (summary["distance_unit"], summary["spacing_mm"], summary["nsd_tolerance"]) == ("px", None, 2.0)
    assert summary["empty_rule"] == EMPTY_RULE
    assert summary["bootstrap"] == {"resamples": 300, "seed": 0, "unit": "patient"}
    found = {"found": 3 / 6, "found_half": 2 / 6}
    assert summary["detection"] == {"tumors": 6, "false_components_per_slice": 4 / 3} | found

    native = summary["native"]
    assert native["micro_iou"] == 70 / (70 + 10 + 30)
    assert native["micro_dice"] == 140 / (140 + 10 + 30)
    assert native["mean_iou"] == pytest.approx((0.6 + 1 + 0) / 3)
    assert native["mean_dice"] == pytest.approx((0.75 + 1 + 0) / 3)
    assert native["pixel_accuracy"] == pytest.approx(260 / 300)
    assert native["hd95"] == pytest.approx((14 + 4 + 0) / 3)
    assert native["assd"] == pytest.approx((14 + 1.5 + 0) / 3)
    assert native["nsd"] == pytest.approx((0 + 0.25 + 1) / 3)
    assert native["precision"] == pytest.approx((0 + 30 / 40 + 1) / 3)
    assert native["sensitivity"] == pytest.approx((0 + 30 / 40 + 1) / 3)
    assert native["specificity"] == pytest.approx((0 + 50 / 60 + 1) / 3)
    assert native["volumetric_similarity"] == pytest.approx((0 + 1 + 1) / 3)
    assert native["missed"] == pytest.approx(1 / 3)
    assert native["micro_precision"] == 70 / 80
    assert native["micro_sensitivity"] == 70 / 100
    assert native["micro_specificity"] == 190 / 200

    network = summary["network"]
    assert network["micro_iou"] == 5 / 8
    assert network["mean_iou"] == pytest.approx((0.25 + 1 + 1) / 3)
    assert network["pixel_accuracy"] == 27 / 30
    assert network["hd95"] == pytest.approx(2 / 3)
    assert network["missed"] == 0  # of the two slices that have a tumour there

    for resolution in ("network", "native"):
        figures = summary[resolution]
        assert list(figures) == [*FIGURES, "std", "median", "ci95", "patients", "by_tumor"]
        assert set(figures["ci95"]) == set(FIGURES)
        assert set(figures["std"]) == set(figures["median"]) == set(MEASURES)
        assert list(figures["by_tumor"]) == ["meningioma", "glioma", "pituitary"]


def test_spread_and_means_over_patients_by_hand():
    summary = summed_up(SCORES)
    native = summary["native"]
    assert native["median"]["dice"] == 0.75
    assert native["median"]["hd95"] == 4
    # Of 14, 4 and 0: the mean is 6, the squares of the distances from it are 64, 4 and 36.
    assert native["std"]["hd95"] == pytest.approx((104 / 3) ** 0.5)
    assert native["std"]["nsd"] == pytest.approx(np.std([0, 0.25, 1]))
    assert native["patients"] == {
        "mean_iou": pytest.approx((0.8 + 0) / 2),
        "mean_dice": pytest.approx((0.875 + 0) / 2),
        "hd95": pytest.approx((2 + 14) / 2),
        "assd": pytest.approx((0.75 + 14) / 2),
        "nsd": pytest.approx((0.625 + 0) / 2),
    }
    assert summary["network"]["patients"]["mean_iou"] == pytest.approx((0.625 + 1) / 2)


def test_scores_by_tumor_by_hand():
    native = summed_up(SCORES)["native"]
    meningioma, glioma = native["by_tumor"]["meningioma"], native["by_tumor"]["glioma"]
    assert list(meningioma) == ["n_slices", "n_patients", *FIGURES, "std", "median", "ci95"]
    assert (meningioma["n_slices"], meningioma["n_patients"]) == (2, 1)
    assert (meningioma["micro_iou"], meningioma["micro_dice"]) == (70 / 90, 140 / 160)
    assert meningioma["mean_iou"] == pytest.approx(0.8)
    assert meningioma["mean_dice"] == pytest.approx(0.875)
    assert (meningioma["pixel_accuracy"], meningioma["hd95"], meningioma["missed"]) == (0.9, 2, 0)
    assert (glioma["micro_iou"], glioma["missed"], glioma["hd95"]) == (0, 1, 14)
    # One patient each: nothing is known of others.
    assert set(meningioma["ci95"].values()) == set(glioma["ci95"].values()) == {None}


def test_intervals_of_two_patients_by_hand():
    # A sample is the one patient twice, both, or the other twice: the interval reaches from the one to the other.
    ci95 = summed_up(SCORES)["native"]["ci95"]
    assert ci95["micro_iou"] == [0, pytest.approx(70 / 90)]
    assert ci95["mean_dice"] == [0, pytest.approx(0.875)]
    assert ci95["hd95"] == [2, 14]
    assert ci95["missed"] == [0, 1]
    assert ci95["pixel_accuracy"] == [pytest.approx(0.8), pytest.approx(0.9)]
    # No patient but the first has a tumour at the network's resolution; samples without it have no fraction missed.
    assert summed_up(SCORES)["network"]["ci95"]["missed"] == [0, 0]


def test_intervals_equal_those_of_the_slices_drawn():
    rng = np.random.default_rng(5)
    scores = []
    for i in range(60):
        counts = [Counts(*(int(n) for n in rng.integers(0, 50, 4))) for _ in range(2)]
        surfaces = [SurfaceScore(*(float(x) for x in rng.random(3))) for _ in range(2)]
        tumor = ("meningioma", "glioma")[i % 2]
        scores.append(scored(i, f"p{rng.integers(9)}", tumor, *counts, *surfaces))
    summary = summed_up(scores, seed=7, resamples=200)
    for tumor, figures in [(None, summary["native"]), ("glioma", summary["native"]["by_tumor"]["glioma"])]:
        group = [s for s in scores if tumor in (None, s.tumor)]
        pids = sorted({s.pid for s in group})
        samples = []
        for times in np.random.default_rng(7).multinomial(len(pids), [1 / len(pids)] * len(pids), size=200):
            drawn = [s for pid, n in zip(pids, times, strict=True) for s in group * n if s.pid == pid]
            tp, fp, fn = (sum(getattr(s.native, kind) for s in drawn) for kind in ("tp", "fp", "fn"))
            dices = [2 * s.native.tp / (2 * s.native.tp + s.native.fp + s.native.fn) for s in drawn]
            samples.append(
                (tp / (tp + fp + fn), tp / (tp + fp), np.mean(dices), np.mean([s.native_surface.hd95 for s in drawn]))
            )
        expected = np.percentile(samples, (2.5, 97.5), axis=0).T
        got = [figures["ci95"][name] for name in ("micro_iou", "micro_precision", "mean_dice", "hd95")]
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_the_seed_decides_the_intervals_and_nothing_else():
    scores = [glioma(i, 11 * i, pid=f"p{i % 7}") for i in range(1, 10)]
    one, same, other = (summed_up(scores, seed=s) for s in (1, 1, 2))
    assert one == same
    assert one["native"]["ci95"] != other["native"]["ci95"]
    for summary in (one, other):
        del summary["bootstrap"]["seed"]
        for resolution in ("network", "native"):
            for group in (summary[resolution], *summary[resolution]["by_tumor"].values()):
                del group["ci95"]
    assert one == other


def test_a_tumor_type_that_does_not_occur_has_no_scores():
    summary = summed_up(SCORES)
    for resolution in ("network", "native"):
        empty = summary[resolution]["by_tumor"]["pituitary"]
        assert list(empty) == list(summary[resolution]["by_tumor"]["glioma"])
        assert (empty.pop("n_slices"), empty.pop("n_patients")) == (0, 0)
        for inner in ("std", "median", "ci95"):
            assert set(empty.pop(inner).values()) == {None}
        assert set(empty.values()) == {None}


def test_no_slices_have_no_scores(tmp_path):
    summary = summed_up([])
    native = summary["native"]
    assert (summary["n_slices"], native["mean_dice"], native["patients"]["hd95"]) == (0, None, None)
    nothing = dict.fromkeys(("found", "found_half", "false_components_per_slice"))
    assert summary["detection"] == {"tumors": 0} | nothing
    assert summary["tumor_free"] == {"n_slices": 0} | dict.fromkeys(("any", "over_0.1_percent", "mean_area"))
    write_json(tmp_path / "s.json", summary)


def test_slices_without_a_tumor_miss_none():
    native = summed_up([scored(1, "a", "glioma", Counts(0, 0, 0, 9), Counts(0, 0, 0, 9), found=Detection(0, 0, 0, 0))])
    assert (native["native"]["missed"], native["detection"]["found"]) == (None, None)
    assert (native["native"]["micro_precision"], native["native"]["mean_dice"]) == (1, 1)


def test_what_is_predicted_in_slices_without_a_tumor():
    """Of 2000 pixels none, one, two (0.1 % exactly) and 200; and a slice that has a tumour."""
    scores = [
        scored(i, "a", "glioma", Counts(0, 0, 0, 9), Counts(0, n, 0, 2000 - n), found=Detection(0, 0, 0, 0))
        for i, n in enumerate((0, 1, 2, 200))
    ]
    summary = summed_up([*scores, glioma(9, 50)])
    assert summary["tumor_free"] == {
        "n_slices": 4,
        "any": 0.75,
        "over_0.1_percent": 0.25,
        "mean_area": pytest.approx(203 / 8000),
    }
    line = "Slices without a tumour: 4, with anything predicted: 75.0%, with more than 0.1 % of the picture: 25.0%"
    assert line in summary_table(summary)
    assert "without a tumour" not in summary_table(summed_up(SCORES))


def test_distances_in_mm_are_said_to_be():
    summary = summed_up(SCORES, spacing=0.49, tolerance=1.0, threshold=None)
    assert (summary["distance_unit"], summary["spacing_mm"], summary["nsd_tolerance"]) == ("mm", 0.49, 1.0)
    assert summary["threshold"] is None


def test_the_summary_does_not_depend_on_the_order_of_slices_or_the_kind_of_integers():
    turned = [
        replace(s, network=Counts(*map(np.int64, s.network)), native=Counts(*map(np.int64, s.native)))
        for s in reversed(SCORES)
    ]
    assert summed_up(SCORES) == summed_up(turned)
    assert slice_rows(SCORES) == slice_rows(turned)
    assert patient_rows(SCORES) == patient_rows(turned)


def test_a_long_pooled_sum_does_not_overflow():
    counts = Counts(2**30, 0, 2**30, 2**30)
    summary = summed_up([scored(i, str(i), "glioma", counts, counts) for i in range(8)])
    assert summary["native"]["micro_iou"] == 0.5
    assert summary["native"]["pixel_accuracy"] == 2 / 3


def test_csv_is_exact_and_reads_back(tmp_path):
    path = tmp_path / "rows.csv"
    write_csv(path, [{"pid": "Ä,1", "dice": np.float64(1 / 3), "n": np.int64(2)}, {"pid": "b", "dice": None, "n": 1}])
    assert path.read_bytes() == 'pid,dice,n\n"Ä,1",0.3333333333333333,2\nb,,1\n'.encode()
    with path.open(newline="", encoding="utf-8") as file:
        assert float(next(csv.DictReader(file))["dice"]) == 1 / 3


def test_csv_of_slices_has_the_columns_in_order(tmp_path):
    write_csv(tmp_path / "slices.csv", slice_rows(SCORES))
    lines = (tmp_path / "slices.csv").read_text().splitlines()
    further = ["precision", "sensitivity", "specificity", "volumetric_similarity", "hd95", "assd", "nsd"]
    assert lines[0] == ",".join(
        [
            "slice,pid,tumor,network_iou,network_dice,network_pixel_accuracy",
            "native_iou,native_dice,native_pixel_accuracy,native_tumor_pixels,native_predicted_pixels",
            *(f"{resolution}_{name}" for resolution in ("network", "native") for name in further),
            "missed,tumors,tumors_found,tumors_found_half,false_components",
        ]
    )
    assert lines[1].startswith("3,a,meningioma,0.25,0.4,0.7,0.6,0.75,0.8,40,40,0.5,")
    assert lines[1].endswith(",4.0,1.5,0.25,0,3,2,1,4")
    assert len(lines) == 4


def test_csv_refuses_no_rows_and_odd_rows(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        write_csv(tmp_path / "a.csv", [])
    with pytest.raises(ValueError, match="extra"):
        write_csv(tmp_path / "b.csv", [{"n": 1}, {"n": 1, "extra": 2}])


def test_json_is_exact_and_refuses_nan_and_holds_a_whole_summary(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": np.float64(1 / 3), "a": None, "n": np.int64(3), "t": np.float32(0.5)})
    assert path.read_bytes() == b'{\n  "b": 0.3333333333333333,\n  "a": null,\n  "n": 3,\n  "t": 0.5\n}\n'
    for bad in (float("nan"), float("inf"), np.float32("nan")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(path, {"x": bad})
    with pytest.raises(TypeError, match="Path"):
        write_json(path, {"x": path})
    assert path.read_bytes().startswith(b'{\n  "b"'), "what cannot be written leaves the file as it was"
    write_json(tmp_path / "s.json", summed_up(SCORES))
    assert json.loads((tmp_path / "s.json").read_text())["native"]["by_tumor"]["pituitary"]["micro_iou"] is None
