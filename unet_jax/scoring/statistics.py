"""Intervals and tests over patients, and the comparison of two evaluations.

Slices of one patient are alike, so patients are what is resampled and tested. NumPy and SciPy on the host.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.stats import wilcoxon

from unet_jax.config import TUMORS, UserError

RESAMPLES = 1000
"""Samples of patients that an interval is made of."""

SEED = 0

COMPARED = {
    "dice": True,
    "iou": True,
    "hd95": False,
    "assd": False,
    "nsd": True,
    "precision": True,
    "sensitivity": True,
}
"""The measures that `compare` reports; True where higher is better."""

_SETTINGS = {
    "mask_rule": "Convert the data with one --mask-rule.",
    "distance_unit": "Evaluate both in one unit.",
    "spacing_mm": "Evaluate both with one spacing.",
    "nsd_tolerance": "Evaluate both with one tolerance.",
}
"""Settings that two evaluations must share, by their names in summary.json, and what to do where they differ."""

_AGAIN = "Evaluate the run again with `python -m unet_jax.eval`."


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The files that `unet_jax.eval` wrote of a run and a split."""

    name: str
    """Name of the run in an error."""
    rows: Sequence[dict[str, Any]]
    """Rows of slices.csv, values as text or numbers."""
    summary: dict[str, Any]
    """Content of summary.json."""


def patient_sums(columns: Float64[np.ndarray, "n k"], pids: Sequence[str]) -> Float64[np.ndarray, "p k"]:
    """Sum columns over each patient's slices: a row a slice becomes a row a patient, by pid."""
    names, patient = np.unique(np.asarray(pids, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, patient, columns)
    return sums


def resampled_sums(
    sums: Float64[np.ndarray, "p k"], *, seed: int = SEED, resamples: int = RESAMPLES
) -> Float64[np.ndarray, "b k"]:
    """Sum over samples of as many patients, drawn with replacement (Efron's bootstrap, by clusters).

    Args:
        sums: what `patient_sums` gives.
        seed: the same seed draws the same patients, whatever the columns.
        resamples: how many samples.

    Returns:
        A row a sample. A ratio of two columns is that figure in the sample.
    """
    n = len(sums)
    # How often each patient is drawn is all that a sum needs to know.
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    return times @ sums


def interval(values: Float64[np.ndarray, " b"]) -> list[float] | None:
    """Find the middle 95 % of a figure over bootstrap samples: its 2.5th and 97.5th percentile.

    Returns:
        Low and high of the samples in which the figure is not NaN; None if there are none.
    """
    defined = values[~np.isnan(values)]
    if defined.size == 0:
        return None
    low, high = np.percentile(defined, (2.5, 97.5))
    return [float(low), float(high)]


def signed_rank_p(differences: Float64[np.ndarray, " n"]) -> float:
    """Compute the two-sided p of Wilcoxon's signed-rank test that differences are symmetric about zero.

    Args:
        differences: of pairs that are independent of each other. Zeros are left out, as Wilcoxon did.

    Returns:
        In [0, 1]; 1 where all differences are zero.
    """
    # Differences that are equal but for the rounding of their means must tie.
    differences = np.round(differences, 12)
    if not differences.any():
        return 1.0
    result: Any = wilcoxon(differences[differences != 0])  # SciPy's decorators hide the type
    return float(result.pvalue)


def compare_scores(
    a: Float64[np.ndarray, " n"],
    b: Float64[np.ndarray, " n"],
    pids: Sequence[str],
    *,
    higher_is_better: bool,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Compare one measure of two runs on the same slices.

    Args:
        a, b: of each run, a value a slice, in the same order.
        pids: the patient of each slice.
        higher_is_better: which difference is a win.
        resamples: samples of patients.

    Returns:
        mean_a, mean_b (over slices), difference (B - A), ci95 (of the difference, resampling patients; None for fewer
        than two), p_patients (over the patients' mean differences), p_slices (over slices, as if they were
        independent), and by slice wins (B is better), ties and losses.
    """
    difference = b - a
    sums = patient_sums(np.stack([difference, np.ones_like(difference)], axis=1), pids)
    total, slices = resampled_sums(sums, resamples=resamples).T
    better = difference if higher_is_better else -difference
    return {
        "mean_a": float(a.mean()),
        "mean_b": float(b.mean()),
        "difference": float(difference.mean()),
        "ci95": interval(total / slices) if len(sums) > 1 else None,
        "p_patients": signed_rank_p(sums[:, 0] / sums[:, 1]),
        "p_slices": signed_rank_p(difference),
        "wins": int((better > 0).sum()),
        "ties": int((better == 0).sum()),
        "losses": int((better < 0).sum()),
    }


def compare_evaluations(a: Evaluation, b: Evaluation, resolution: str, *, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Compare two runs, slice by slice, at the resolution network or native, with so many samples of patients.

    Returns:
        resolution, n_slices, n_patients, what both share (mask_rule, distance_unit, spacing_mm, nsd_tolerance),
        bootstrap, measures (of each of COMPARED what `compare_scores` gives) and by_tumor (of each tumour type that
        occurs n_slices, n_patients and dice).

    Raises:
        UserError: the runs are of different slices or of different settings, or lack a figure.
    """
    settings = {name: _shared(a, b, name) for name in _SETTINGS}
    pairs = _paired(a, b)
    pids = np.array([row["pid"] for row, _ in pairs])
    tumors = np.array([row["tumor"] for row, _ in pairs])

    def compared(measure: str, chosen: np.ndarray) -> dict[str, Any]:
        column = f"{resolution}_{measure}"
        values_a = np.array([_number(a, row, column) for row, _ in pairs])[chosen]
        values_b = np.array([_number(b, row, column) for _, row in pairs])[chosen]
        better = COMPARED[measure]
        return compare_scores(values_a, values_b, pids[chosen].tolist(), higher_is_better=better, resamples=resamples)

    by_tumor = {}
    for tumor in TUMORS:
        chosen = tumors == tumor
        if chosen.any():
            n_patients = len(set(pids[chosen]))
            dice = compared("dice", chosen)
            by_tumor[tumor] = {"n_slices": int(chosen.sum()), "n_patients": n_patients, "dice": dice}
    return {
        "resolution": resolution,
        "n_slices": len(pairs),
        "n_patients": len(set(pids)),
        **settings,
        "bootstrap": {"resamples": resamples, "seed": SEED, "unit": "patient"},
        "measures": {measure: compared(measure, np.ones(len(pairs), bool)) for measure in COMPARED},
        "by_tumor": by_tumor,
    }


def _shared(a: Evaluation, b: Evaluation, name: str) -> Any:
    """Read a setting that the two must share."""
    for evaluation in (a, b):
        if name not in evaluation.summary:
            raise UserError(f"{evaluation.name}: summary.json has no {name}; an earlier version wrote it. {_AGAIN}")
    if a.summary[name] != b.summary[name]:
        raise UserError(
            f"{a.name} has {name} {a.summary[name]} and {b.name} {b.summary[name]}: their scores cannot be compared. "
            f"{_SETTINGS[name]}"
        )
    return a.summary[name]


def _paired(a: Evaluation, b: Evaluation) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pair the two rows of each slice, by slice."""
    rows_a, rows_b = _by_slice(a), _by_slice(b)
    both = rows_a.keys() & rows_b.keys()
    if len(both) < len(rows_a) or len(both) < len(rows_b):
        raise UserError(
            f"{a.name} and {b.name} are scored on different slices: {len(rows_a) - len(both)} only in the first, "
            f"{len(rows_b) - len(both)} only in the second, {len(both)} in both. Evaluate both on one split of the "
            "same data."
        )
    if not both:
        raise UserError(f"{a.name} and {b.name} have no slices; expected at least one. {_AGAIN}")
    pairs = [(rows_a[number], rows_b[number]) for number in sorted(both)]
    for row_a, row_b in pairs:
        if (row_a["pid"], row_a["tumor"]) != (row_b["pid"], row_b["tumor"]):
            raise UserError(
                f"slice {row_a['slice']} is of patient {row_a['pid']} ({row_a['tumor']}) in {a.name} and of patient "
                f"{row_b['pid']} ({row_b['tumor']}) in {b.name}: they are not the same data."
            )
    return pairs


def _by_slice(evaluation: Evaluation) -> dict[int, dict[str, Any]]:
    """Key the rows by slice, and make sure that each has a patient and a tumour type."""
    rows = {}
    for row in evaluation.rows:
        number = int(_number(evaluation, row, "slice"))
        if number in rows:
            raise UserError(f"{evaluation.name}: slices.csv has slice {number} twice; expected each once. {_AGAIN}")
        if row.get("pid") is None or row.get("tumor") is None:
            raise UserError(f"{evaluation.name}: slices.csv has no pid or no tumor for slice {number}. {_AGAIN}")
        rows[number] = row
    return rows


def _number(evaluation: Evaluation, row: dict[str, Any], column: str) -> float:
    try:
        value = float(row[column])
    except (KeyError, TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"{evaluation.name}: slices.csv has no number in column {column}; it is damaged, or of an earlier version. "
            f"{_AGAIN}"
        )
    return value
