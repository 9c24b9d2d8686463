"""`python -m unet_jax.eval --workdir W`: score a trained network, or the average of several."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_jax.config import SplitName, UserError
from unet_jax.shared import cli


@dataclass(frozen=True, kw_only=True)
class Options:
    """Score a trained network, or the average of several; write W/eval/SPLIT/ or --output."""

    workdir: tuple[Path, ...]
    """Folder of the run; several, or a cross-validation's, are averaged."""
    data: Path | None = None
    """Converted dataset; default: the one of the run. Another one can only be scored whole, with --split all."""
    split: SplitName = "test"
    """Which slices."""
    threshold: float | None = None
    """Probability from which on a pixel is tumour; default: the one with the best IoU on validation (of several runs
    their mean)."""
    checkpoint: str = "best"
    """best, latest, or a step."""
    output: Path | None = None
    """Folder for the results; default: W/eval/SPLIT. Needed with several workdirs."""
    tta: bool = False
    """Average the probabilities of a slice and of its mirror image."""
    postprocess: bool = False
    """Remove small components and fill holes of native masks, as was found best on validation."""
    spacing: float | None = None
    """Millimetres a native pixel, so that distances are in mm; 0.49 for the Figshare dataset. Default: pixels."""
    tolerance: float = 2.0
    """Of the normalised surface Dice: mm with --spacing, else pixels."""


def main(argv: Sequence[str] | None = None) -> int:
    options = cli.parse(Options, "eval", argv)
    cli.check_distances(options.spacing, options.tolerance)

    if not options.workdir:
        raise UserError("--workdir names no folder; expected at least one that `unet_jax.train` wrote.")

    from unet_jax.data.converted.arrays import open_arrays
    from unet_jax.inference.predictor import Predictor
    from unet_jax.models import compile_cache
    from unet_jax.reporting.terminal import summary_table
    from unet_jax.runs.choices import settle_choices
    from unet_jax.runs.evaluate import score, write_evaluation
    from unet_jax.runs.predicted import predict_rows
    from unet_jax.runs.records import read_records

    compile_cache.enable()
    predictor = Predictor.open(
        options.workdir, checkpoint=options.checkpoint, threshold=options.threshold, tta=options.tta
    )
    first, single = predictor.members[0], len(predictor.members) == 1
    if options.output is None and not single:
        raise UserError(f"--output is needed for {len(predictor.members)} runs averaged; give a folder.")
    arrays = open_arrays(options.data or first.workdir.data(first.config))
    if arrays.size != predictor.size:
        raise UserError(
            f"{arrays.path} is converted at {arrays.size}x{arrays.size}, the network was trained at "
            f"{predictor.size}x{predictor.size}. Convert it with --size {predictor.size}."
        )
    rows = _rows(predictor, arrays, options)
    chosen = None
    if single and arrays.digest == first.split.data_digest:
        # A look at another checkpoint must not take the threshold from the one that predict uses.
        store = options.checkpoint == "best" or not first.workdir.threshold.exists()
        given = options.threshold is not None
        chosen = settle_choices(predictor, arrays, keep_threshold=given, store=store)
    if options.postprocess:
        predictor.clean_as_chosen(None if chosen is None else chosen["postprocess"])
    predicted = predict_rows(predictor, arrays, rows, "predicting")
    summary = write_evaluation(
        score([predicted], spacing=options.spacing, tolerance=options.tolerance),
        out := options.output or first.workdir.path / "eval" / options.split,
        split=options.split,
        title=", ".join(str(m.workdir.path) for m in predictor.members),
        curve=None if chosen is None else chosen["curve"],
        records=read_records(first.workdir) if single else (),
    )
    print(summary_table(summary))
    if predictor.threshold_note:
        print(f"The threshold: {predictor.threshold_note}.")
    print(f"Written: {out}   Report: {out / 'report.html'}")
    return 0


def _rows(predictor: Any, arrays: Any, options: Options) -> Any:
    """The rows of the split, which must be held out of training, or not, by all networks alike."""
    if options.split == "all":
        return predictor.members[0].split.rows(arrays, "all")
    for member in predictor.members:
        if member.split.data_digest != arrays.digest:
            raise UserError(
                f"{arrays.path} is not the dataset that {member.workdir.path} was trained on, so --split "
                f"{options.split} means nothing for it. Use --split all."
            )
    rows = [member.split.rows(arrays, options.split) for member in predictor.members]
    for member, others in zip(predictor.members, rows, strict=True):
        if list(others) != list(rows[0]):
            raise UserError(
                f"{predictor.members[0].workdir.path} and {member.workdir.path} have different slices in split "
                f"{options.split}: what one of them is scored on, another was trained on. Average runs of one split "
                "(a cross-validation's own scores are in its eval/oof), or score another dataset with --split all."
            )
    return rows[0]


if __name__ == "__main__":
    cli.run(main)
