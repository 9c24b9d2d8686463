"""What a report is made of, made up."""

from unet_jax.reporting.html import write_report

TUMORS = ("meningioma", "glioma", "pituitary")
SCALARS = (
    *("micro_iou", "micro_dice", "mean_iou", "mean_dice", "pixel_accuracy", "hd95", "assd", "nsd", "precision"),
    *("sensitivity", "specificity", "volumetric_similarity", "missed"),
)
CALIBRATION = {
    "ece": 0.0123,
    "ece_candidates": 0.2345,
    "bins": [
        {"low": 0.0, "high": 0.5, "pixels": 1000, "mean_probability": 0.1, "fraction_tumor": 0.05},
        {"low": 0.5, "high": 1.0, "pixels": 0, "mean_probability": None, "fraction_tumor": None},
    ],
}


def make_summary(n, **changes):
    """A summary.json in which no two numbers are equal."""
    count = iter(range(1, 1000))

    def scores():
        values = {name: next(count) / 1009 for name in SCALARS}
        return values | {"ci95": {name: [v - 0.0011, v + 0.0013] for name, v in values.items()}}

    def part():
        return scores() | {"by_tumor": {t: scores() | {"n_slices": next(count)} for t in TUMORS}}

    summary = {"split": "test", "n_slices": n, "n_patients": (n + 1) // 2, "threshold": 0.25, "thresholds": [0.25]}
    summary |= {"mask_rule": "area", "distance_unit": "px", "spacing_mm": None, "nsd_tolerance": 2.0, "tta": False}
    summary |= {"postprocess": None, "empty_rule": "Two empty are one.", "network": part(), "native": part()}
    summary |= {"bootstrap": {"resamples": 1000, "seed": 0, "unit": "patient"}, "threshold_cost": None}
    found = {"tumors": 1234, "found": 0.875, "found_half": 0.625, "false_components_per_slice": 0.4375}
    free = {"n_slices": 0, "any": None, "over_0.1_percent": None, "mean_area": None}
    return summary | {"detection": found, "tumor_free": free} | changes


def make_records(val_iou, **changes):
    """Lines of metrics.jsonl with these validation IoUs; the other values tell epoch and metric apart."""
    lines = []
    for i, value in enumerate(val_iou, start=1):
        part = {"loss": 1 / i, "micro_iou": i / 10, "micro_dice": i / 9, "pixel_accuracy": 0.9 + i / 100}
        val = {"loss": 2 / i, "micro_iou": value, "micro_dice": 0.5, "pixel_accuracy": 0.8 + i / 100}
        lines.append(
            {"epoch": i, "step": 7 * i, "learning_rate": 1e-3 / i, "seconds": 1.0, "train": part, "val": val | changes}
        )
    return lines


def written(path, rows, pictures, **changes):
    """The text of a report, without learning curves and thresholds unless they are asked for."""
    values = {"title": "runs/a", "summary": make_summary(len(rows)), "records": [], "thresholds": None}
    values |= {"calibration": CALIBRATION}
    write_report(path, rows=rows, pictures=pictures, **(values | changes))
    return path.read_text("utf-8")
