"""`python -m unet_jax.eval --workdir W`: score a trained network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_jax import cli
from unet_jax.config import TUMORS, SplitName, UserError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Score a trained network; write W/eval/SPLIT/."""

    workdir: Path
    """Folder of the run."""
    data: Path | None = None
    """Converted dataset; default: the one of the run. Another one can only be scored whole, with --split all."""
    split: SplitName = "test"
    """Which slices."""
    threshold: float | None = None
    """Probability from which on a pixel is tumour; default: the one with the best IoU on validation."""
    checkpoint: str = "best"
    """best, latest, or a step."""


def main(argv: Sequence[str] | None = None) -> int:
    options = cli.parse(Options, "eval", argv)

    from unet_jax import compile_cache
    from unet_jax.data.arrays import open_arrays
    from unet_jax.evaluation import choose_threshold, draw_gallery, score_slices
    from unet_jax.predictor import Predictor, read_threshold, store_threshold
    from unet_jax.scoring.report import threshold_png
    from unet_jax.scoring.summary import patient_rows, slice_rows, summarize, write_csv, write_json

    compile_cache.enable()
    predictor = Predictor.open(options.workdir, checkpoint=options.checkpoint, threshold=options.threshold)
    arrays = open_arrays(options.data or predictor.workdir.data(predictor.config))
    if arrays.size != predictor.size:
        raise UserError(
            f"{arrays.path} is converted at {arrays.size}x{arrays.size}, the network was trained at "
            f"{predictor.size}x{predictor.size}. Convert it with --size {predictor.size}."
        )
    own_data = arrays.digest == predictor.split.data_digest
    if not own_data and options.split != "all":
        raise UserError(
            f"{arrays.path} is not the dataset that {options.workdir} was trained on, so --split {options.split} "
            "means nothing for it. Use --split all."
        )
    chosen = read_threshold(predictor.workdir)
    stored = chosen is not None
    if chosen is None or chosen["checkpoint_step"] != predictor.step:
        chosen = choose_threshold(predictor, arrays, predictor.split.rows(arrays, "val")) if own_data else None
        # A look at another checkpoint must not take the threshold from the one that predict uses.
        if chosen is not None and (options.checkpoint == "best" or not stored):
            store_threshold(predictor.workdir, chosen)
    if chosen is not None and options.threshold is None:
        predictor.threshold, predictor.threshold_note = chosen["threshold"], None

    scores = score_slices(predictor, arrays, predictor.split.rows(arrays, options.split))
    summary = summarize(scores, split=options.split, threshold=predictor.threshold, mask_rule=arrays.mask_rule)
    out = predictor.workdir.path / "eval" / options.split
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "summary.json", summary)
    write_csv(out / "slices.csv", slice_rows(scores))
    write_csv(out / "patients.csv", patient_rows(scores))
    if chosen is not None:
        thresholds = [float(t) for t in chosen["curve"]]
        threshold_png(thresholds, list(chosen["curve"].values()), predictor.threshold, out / "threshold.png")
    draw_gallery(predictor, arrays, scores, out / "gallery.png")
    _show(summary, predictor.threshold_note)
    print(f"Written: {out}")
    return 0


def _show(summary: dict, note: str | None) -> None:
    print(
        f"{summary['split']}: {summary['n_slices']} slices of {summary['n_patients']} patients, threshold "
        f"{summary['threshold']:.2f}{f' ({note})' if note else ''}, mask rule {summary['mask_rule']}"
    )
    print(f"{'':22}{'micro IoU':>11}{'micro Dice':>11}{'mean IoU':>11}{'mean Dice':>11}{'accuracy':>11}")
    for resolution in ("network", "native"):
        figures = summary[resolution]
        groups = [(resolution, figures)] + [(f"  {t}", figures["by_tumor"][t]) for t in TUMORS]
        for name, group in groups:
            values = (group[k] for k in ("micro_iou", "micro_dice", "mean_iou", "mean_dice", "pixel_accuracy"))
            print(f"{name:22}" + "".join(f"{'-' if v is None else f'{v:.4f}':>11}" for v in values))


if __name__ == "__main__":
    cli.run(main)
