"""Bootstrap and tests over patients, by hand, by brute force and against SciPy; and the comparison of evaluations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from unet_jax.config import UserError
from unet_jax.scoring.statistics import (
    COMPARED,
    Evaluation,
    compare_evaluations,
    compare_scores,
    interval,
    patient_sums,
    resampled_sums,
    signed_rank_p,
)


def test_patient_sums_by_hand():
    columns = np.array([[1.0, 10], [2, 20], [4, 40]])
    assert patient_sums(columns, ["b", "a", "b"]).tolist() == [[2, 20], [5, 50]]


def test_a_bootstrap_of_two_patients_by_hand():
    # Drawn are the first twice, each once, or the second twice, with probability 1/4, 1/2, 1/4.
    sums = np.array([[1.0, 2], [30, 3]])
    drawn = resampled_sums(sums, seed=0, resamples=4000)
    kinds, times = np.unique(drawn, axis=0, return_counts=True)
    assert kinds.tolist() == [[2, 4], [31, 5], [60, 6]]
    np.testing.assert_allclose(times / 4000, [0.25, 0.5, 0.25], atol=0.03)
    assert interval(drawn[:, 0] / drawn[:, 1]) == [0.5, 10]


def test_the_same_seed_draws_the_same_patients_whatever_the_columns():
    sums = np.random.default_rng(0).random((5, 3))
    np.testing.assert_allclose(resampled_sums(sums, seed=3)[:, :1], resampled_sums(sums[:, :1], seed=3), rtol=1e-12)
    assert not np.allclose(resampled_sums(sums, seed=3), resampled_sums(sums, seed=4))
    assert resampled_sums(sums).shape == (1000, 3)


def test_intervals_equal_scipys_bootstrap():
    rng = np.random.default_rng(2)
    sums = np.stack([rng.normal(5, 2, 30), rng.integers(1, 20, 30).astype(float)], axis=1)
    drawn = resampled_sums(sums, seed=0, resamples=20_000)
    ours = interval(drawn[:, 0] / drawn[:, 1])
    theirs = bootstrap(
        (sums[:, 0], sums[:, 1]),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="percentile",
        rng=0,
    ).confidence_interval
    assert ours is not None
    np.testing.assert_allclose(ours, theirs, rtol=0.02)


def test_an_interval_is_of_the_samples_that_have_the_figure():
    values = np.concatenate([np.arange(101.0), np.full(50, np.nan)])
    assert interval(values) == [2.5, 97.5]
    assert interval(np.full(3, np.nan)) is None


def test_signed_rank_by_hand():
    # Five of five in one direction: 2 of the 32 signs are as extreme.
    assert signed_rank_p(np.array([0.1, 0.2, 0.3, 0.4, 0.5])) == 2 / 32
    assert signed_rank_p(np.array([-0.1, 0.2, 0, 0.3, 0, 0.4, 0.5])) == pytest.approx(4 / 32)  # zeros are left out
    assert signed_rank_p(np.zeros(9)) == signed_rank_p(np.array([0.3])) == 1
    # But for rounding these tie and cancel: ranks 1.5 each of the two smaller ones.
    assert signed_rank_p(np.array([0.1 + 0.2, -0.3])) == signed_rank_p(np.array([0.3, -0.3])) == 1


def test_a_large_sample_has_a_small_p_and_no_warning():
    rng = np.random.default_rng(3)
    assert signed_rank_p(rng.normal(1, 1, 200)) < 1e-9
    assert signed_rank_p(np.round(rng.normal(0, 1, 400), 1)) > 1e-3  # with ties


def test_comparing_scores_by_hand():
    a = np.array([0.5, 0.5, 0.5, 1.0])
    b = np.array([0.75, 0.5, 0.25, 0.5])
    result = compare_scores(a, b, ["p", "p", "q", "q"], higher_is_better=True)
    ci = result.pop("ci95")
    assert result == {
        "mean_a": 0.625,
        "mean_b": 0.5,
        "difference": -0.125,
        "p_patients": 1.0,  # of +0.125 and -0.375
        "p_slices": pytest.approx(6 / 8),  # of +0.25, -0.25, -0.5: ranks 1.5, 1.5, 3; W+ = 1.5
        "wins": 1,
        "ties": 1,
        "losses": 2,
    }
    assert ci == [-0.375, 0.125]
    turned = compare_scores(a, b, ["p", "p", "q", "q"], higher_is_better=False)
    assert (turned["wins"], turned["ties"], turned["losses"]) == (2, 1, 1)
    assert turned["difference"] == -0.125
    single = compare_scores(np.array([0.1, 0.2]), np.array([0.3, 0.3]), ["p", "p"], higher_is_better=True)
    assert (single["ci95"], single["p_patients"]) == (None, 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_run_against_itself_differs_in_nothing(n, seed):
    rng = np.random.default_rng(seed)
    values, pids = rng.random(n), [str(p) for p in rng.integers(0, 4, n)]
    result = compare_scores(values, values, pids, higher_is_better=True)
    assert (result["difference"], result["p_patients"], result["p_slices"]) == (0, 1, 1)
    assert (result["wins"], result["ties"], result["losses"]) == (0, n, 0)
    assert result["ci95"] == ([0, 0] if len(set(pids)) > 1 else None)


SETTINGS = {"mask_rule": "area", "distance_unit": "px", "spacing_mm": None, "nsd_tolerance": 2.0}


def evaluation(name="A", rows=None, **summary):
    return Evaluation(name, evaluated({7: 0.5, 9: 0.75}) if rows is None else rows, SETTINGS | summary)


def evaluated(dices, **changes):
    """Rows as csv.DictReader gives them: slice 7 of a glioma, the others of a meningioma; each a patient."""
    rows = []
    for number, dice in dices.items():
        row = {"slice": number, "pid": f"p{number}", "tumor": "glioma" if number == 7 else "meningioma"}
        row |= {f"{resolution}_{m}": dice for resolution in ("native", "network") for m in COMPARED}
        rows.append({name: str(value) for name, value in (row | changes).items()})
    return rows


def test_evaluations_are_paired_by_slice():
    b = evaluation("B", evaluated({9: 0.5, 7: 0.625}))
    result = compare_evaluations(evaluation(), b, "native", resamples=500)
    assert {name: result[name] for name in SETTINGS} == SETTINGS
    assert (result["resolution"], result["n_slices"], result["n_patients"]) == ("native", 2, 2)
    assert result["bootstrap"] == {"resamples": 500, "seed": 0, "unit": "patient"}
    assert list(result["measures"]) == ["dice", "iou", "hd95", "assd", "nsd", "precision", "sensitivity"]
    dice, hd95 = result["measures"]["dice"], result["measures"]["hd95"]
    assert (dice["difference"], dice["wins"], dice["losses"]) == (-0.0625, 1, 1)
    assert dice["ci95"] == [-0.25, 0.125]
    assert (hd95["wins"], hd95["losses"]) == (1, 1)
    assert list(result["by_tumor"]) == ["meningioma", "glioma"]
    glioma = result["by_tumor"]["glioma"]
    assert (glioma["n_slices"], glioma["n_patients"]) == (1, 1)
    assert (glioma["dice"]["difference"], glioma["dice"]["ci95"], glioma["dice"]["wins"]) == (0.125, None, 1)
    assert result["by_tumor"]["meningioma"]["dice"]["difference"] == -0.25


def test_a_smaller_distance_wins():
    better = evaluated({7: 0.5, 9: 0.75}, native_hd95=0.25)
    result = compare_evaluations(evaluation(), evaluation("B", better), "native")
    assert (result["measures"]["hd95"]["wins"], result["measures"]["hd95"]["losses"]) == (2, 0)
    assert result["measures"]["dice"]["ties"] == 2
    network = compare_evaluations(evaluation(), evaluation("B", better), "network")
    assert network["measures"]["hd95"]["ties"] == 2


@pytest.mark.parametrize(
    ("b", "message"),
    [
        (evaluation("B", mask_rule="any"), r"^A has mask_rule area and B any: .* one --mask-rule"),
        (evaluation("B", distance_unit="mm", spacing_mm=0.49), "A has distance_unit px and B mm"),
        (evaluation("B", nsd_tolerance=1.0), r"A has nsd_tolerance 2\.0 and B 1\.0"),
        (evaluation("B", spacing_mm=0.5), r"A has spacing_mm None and B 0\.5"),
        (
            evaluation("B", evaluated({9: 1, 10: 1, 11: 1})),
            "A and B are scored on different slices: 1 only in the first, 2 only in the second, 1 in both",
        ),
        (
            evaluation("B", evaluated({7: 1, 9: 1}, pid="x")),
            r"slice 7 is of patient p7 \(glioma\) in A and of patient x",
        ),
        (evaluation("B", evaluated({7: 1, 9: 1}, native_nsd="")), "B: slices.csv has no number in column native_nsd"),
        (evaluation("B", [{"slice": "7", "pid": "p7"}]), "B: slices.csv has no pid or no tumor for slice 7"),
        (evaluation("B", [{"pid": "p7"}]), "B: slices.csv has no number in column slice"),
        (evaluation("B", evaluated({7: 1}) * 2), "B: slices.csv has slice 7 twice"),
        (Evaluation("B", [], {"mask_rule": "area"}), r"B: summary\.json has no distance_unit; an earlier version"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(b, message):
    with pytest.raises(UserError, match=message) as refused:
        compare_evaluations(evaluation(), b, "native")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="A and A have no slices"):
        compare_evaluations(evaluation(rows=[]), evaluation(rows=[]), "native")
