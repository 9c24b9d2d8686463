"""`python -m unet_jax.eval --workdir W`: score a trained network, or the average of several."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unet_jax.config import SplitName, UserError
from unet_jax.shared import cli

RUNS = Path("runs")
"""Folder, by custom, of workdirs."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Score a trained network, or the average of several; write W/eval/SPLIT/ or --output."""

    workdir: tuple[Path, ...] | None = None
    """Folder of the run; several, or a cross-validation's, are averaged. Default, without --model: the newest finished
    run in runs/."""
    model: str | None = None
    """Instead of a workdir: a model of the package by its name, or a folder that `unet_jax.export` wrote. Needs --data
    and --output."""
    data: Path | None = None
    """Converted dataset; default: the one of the run. Another one can only be scored whole, with --split all."""
    split: SplitName | None = None
    """Slices to score; default: test, and all with --model."""
    threshold: float | None = None
    """Lowest probability of a pixel that is tumour; default: the one with the best IoU on validation (of several runs
    their mean)."""
    checkpoint: str = "best"
    """Checkpoint to use: best, latest, or the number of a step."""
    output: Path | None = None
    """Folder for the results; default: W/eval/SPLIT. Needed with several workdirs."""
    tta: bool = False
    """Average the probabilities of a slice and of its mirror image."""
    postprocess: bool = False
    """Remove small components and fill holes of native masks, in the way that was best on validation."""
    spacing: float | None = None
    """Millimetres a native pixel, so that distances are in mm; 0.49 for the Figshare dataset. Default: pixels."""
    tolerance: float = 2.0
    """Tolerance of the normalised surface Dice: mm with --spacing, else pixels."""


def main(argv: Sequence[str] | None = None) -> int:
    options = cli.parse(Options, "eval", argv)
    cli.check_distances(options.spacing, options.tolerance)
    cli.check_networks(options.workdir, options.model)
    if options.model is not None:
        return _score_model(options, options.model)
    return _score_runs(options, options.workdir or (_newest(),))


def _newest() -> Path:
    from unet_jax.runs.newest import newest_finished

    newest = newest_finished(RUNS)
    if newest is None:
        raise UserError(
            f"neither --workdir nor --model was given, and {RUNS}/ holds no finished run. Give the folder of one, or a "
            "model."
        )
    print(f"Scoring {newest}, the newest finished run in {RUNS}/, since neither --workdir nor --model was given.")
    return newest


def _score_model(options: Options, model: str) -> int:
    """Score a model on a dataset, of which nothing says but its slices' keys whether it was trained on them."""
    if options.data is None or options.output is None or options.split not in (None, "all"):
        raise UserError(
            "--model needs --data and --output, and scores all slices: --split test and the like are a run's."
        )

    import numpy as np

    from unet_jax.data.converted.arrays import open_arrays
    from unet_jax.data.recognise import keys_of, recognise
    from unet_jax.models import compile_cache
    from unet_jax.reporting.terminal import summary_table
    from unet_jax.runs.evaluate import Part, score, write_evaluation
    from unet_jax.runs.load import load
    from unet_jax.runs.model_folder import model_path, read_info, read_training_slices
    from unet_jax.runs.predicted import predict_rows
    from unet_jax.shared.files import check_writable

    compile_cache.enable()
    # Also refuses an exported file, which has no keys of slices.
    folder = model_path(model)
    check_writable(options.output, "--output")
    predictor = load(
        model=model,
        checkpoint=options.checkpoint,
        threshold=options.threshold,
        tta=options.tta,
        postprocess=options.postprocess,
    )
    arrays = open_arrays(options.data)
    _check_size(arrays, predictor)
    rows = np.arange(len(arrays))
    found = recognise(keys_of(arrays, rows), among=read_training_slices(folder))
    part = Part(predictor, predict_rows(predictor, arrays, rows, "predicting"))
    summary = write_evaluation(
        score([part], spacing=options.spacing, tolerance=options.tolerance),
        options.output,
        split="all",
        title=predictor.name,
        curve=None,
        trained_on=found,
    )
    print(summary_table(summary))
    before = read_info(folder).init_from
    if before is not None:
        print(f"Its weights started from others (SHA-256 {before}), of whose training slices nothing is known here.")
    _report(options.output)
    return 0


def _score_runs(options: Options, workdirs: tuple[Path, ...]) -> int:
    """Score the network of a run, or the average of several, on a split."""
    from unet_jax.data.converted.arrays import open_arrays
    from unet_jax.inference.predictor import Predictor, average_thresholds
    from unet_jax.models import compile_cache
    from unet_jax.reporting.terminal import summary_table
    from unet_jax.runs.evaluate import Part, ensure_choices, score, write_evaluation
    from unet_jax.runs.initial import started_from
    from unet_jax.runs.networks import least_postprocess, open_runs
    from unet_jax.runs.predicted import predict_rows
    from unet_jax.runs.records import read_records
    from unet_jax.scoring.components import Postprocess
    from unet_jax.shared.files import check_writable, is_writable

    compile_cache.enable()
    split = options.split or "test"
    runs = open_runs(workdirs, options.checkpoint)
    networks = [run.network() for run in runs]
    threshold, note = average_thresholds(networks) if options.threshold is None else (options.threshold, None)
    predictor = Predictor(networks, threshold, note, tta=options.tta)
    first, single = runs[0], len(runs) == 1
    if options.output is None and not single:
        raise UserError(f"--output is needed for {len(runs)} runs averaged; give a folder.")
    out = options.output or first.workdir.path / "eval" / split
    check_writable(out, "--output")
    arrays = open_arrays(options.data or first.workdir.data(first.config))
    _check_size(arrays, predictor)
    rows = _rows(runs, arrays, split)
    chosen = None
    if single and arrays.digest == first.split.data_digest:
        # A look at another checkpoint must not take the threshold from the one that predict uses, and somebody else's
        # run is left as it is.
        store = options.checkpoint == "best" or not first.workdir.threshold.exists()
        chosen = ensure_choices(first, arrays, store=store and is_writable(first.workdir.path))
        if options.threshold is None:
            predictor = replace(predictor, threshold=chosen.threshold.threshold, threshold_note=None)
    if options.postprocess:
        found = chosen.postprocess if chosen else least_postprocess(runs)
        predictor = replace(predictor, postprocess=Postprocess(found.min_pixels, found.fill_holes))
    part = Part(predictor, predict_rows(predictor, arrays, rows, "predicting"))
    summary = write_evaluation(
        score([part], spacing=options.spacing, tolerance=options.tolerance),
        out,
        split=split,
        title=", ".join(network.name for network in networks),
        curve=chosen.threshold.curve if chosen else None,
        records=read_records(first.workdir) if single else (),
        initial=started_from(((run, rows) for run in runs), arrays),
    )
    print(summary_table(summary))
    straddling = max(run.split.patients_straddling for run in runs)
    if straddling and split in ("val", "test"):
        print(f"{straddling} patients have slices both in training and among these: the scores are too good.")
    if predictor.threshold_note:
        print(f"The threshold: {predictor.threshold_note}.")
    _report(out)
    return 0


def _check_size(arrays: Any, predictor: Any) -> None:
    if arrays.size != predictor.size:
        raise UserError(
            f"{arrays.path} is converted at {arrays.size}x{arrays.size}, the network was trained at "
            f"{predictor.size}x{predictor.size}. Convert it with --size {predictor.size}."
        )


def _report(out: Path) -> None:
    print(f"Written: {out}   Report: {out / 'report.html'}")


def _rows(runs: Any, arrays: Any, split: SplitName) -> Any:
    """Find the rows of the split, which all networks alike must have held out of training, or not."""
    if split == "all":
        return runs[0].split.rows(arrays, "all")
    for run in runs:
        if run.split.data_digest != arrays.digest:
            raise UserError(
                f"{arrays.path} is not the dataset that {run.workdir.path} was trained on, so --split "
                f"{split} means nothing for it. Use --split all."
            )
    rows = runs[0].split.rows(arrays, split)
    for run in runs[1:]:
        if list(run.split.rows(arrays, split)) != list(rows):
            raise UserError(
                f"{runs[0].workdir.path} and {run.workdir.path} have different slices in split "
                f"{split}: what one of them is scored on, another was trained on. Average runs of one split "
                "(a cross-validation's own scores are in its eval/oof), or score another dataset with --split all."
            )
    return rows


if __name__ == "__main__":
    cli.run(main)
