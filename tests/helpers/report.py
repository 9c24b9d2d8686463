"""What a report is made of, made up."""

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
    summary |= {"bootstrap": {"resamples": 1000, "seed": 0, "unit": "patient"}}
    found = {"tumors": 1234, "found": 0.875, "found_half": 0.625, "false_components_per_slice": 0.4375}
    free = {"n_slices": 0, "any": None, "over_0.1_percent": None, "mean_area": None}
    return summary | {"detection": found, "tumor_free": free} | changes
