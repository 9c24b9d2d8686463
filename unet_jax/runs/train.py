"""One training run from its configuration to what it leaves: network, threshold, pictures."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from unet_jax.config import Config
from unet_jax.data.converted.arrays import Arrays
from unet_jax.data.splits import Split
from unet_jax.inference.network import DEFAULT_THRESHOLD
from unet_jax.inference.predictor import Predictor
from unet_jax.models.network import check_size
from unet_jax.reporting.figures import history_png
from unet_jax.runs.choices import Threshold, read_postprocess
from unet_jax.runs.evaluate import Part, draw_gallery, ensure_choices, score
from unet_jax.runs.fit import fit
from unet_jax.runs.interrupts import Interrupts
from unet_jax.runs.networks import open_run
from unet_jax.runs.opening import Say, lock, open_data, open_split, settle_config, store_absolute
from unet_jax.runs.predicted import predict_rows
from unet_jax.runs.records import Record, best_record
from unet_jax.runs.workdir import Workdir
from unet_jax.training.processes import first_alone, is_first


@dataclass(frozen=True)
class Finished:
    """A run whose training is over."""

    records: list[Record]
    """All lines of metrics.jsonl."""
    best: Record
    """The epoch whose checkpoint is used."""
    threshold: Threshold
    """The threshold chosen on validation."""
    size: int
    """Side of the network's input in pixels."""
    was_finished: bool
    """There was nothing left to do."""


def train(
    path: Path, config: Config, interrupts: Interrupts, say: Say, *, split: Split | None = None
) -> Finished | None:
    """Train, or go on with, the run in a workdir; then choose threshold and post-processing and draw pictures.

    Args:
        path: the workdir.
        config: that of the run.
        interrupts: looked at between steps.
        say: told what happens.
        split: the split of a new run; None draws it.

    Returns:
        What came out; None where an interrupt stopped it, with a checkpoint saved.

    Raises:
        UserError: configuration, data or workdir do not allow it.
        RunError: the loss is not finite.
    """
    workdir, config, first = Workdir(path), store_absolute(config), is_first()
    say = say if first else _silent
    with contextlib.ExitStack() as held:
        with first_alone("workdir"):
            settle_config(workdir, config)
            if first:
                held.enter_context(lock(workdir))
            arrays = open_data(workdir, config, say)
            check_size(arrays.size, arrays.size, config.model)
            split = open_split(workdir, config, arrays, say, drawn=split)
        return _train(workdir, config, arrays, split, interrupts, say)


def _train(
    workdir: Workdir, config: Config, arrays: Arrays, split: Split, interrupts: Interrupts, say: Say
) -> Finished | None:
    fitted = fit(workdir, config, arrays, split, interrupts, say)
    if fitted.records and is_first():
        history_png(fitted.records, workdir.history)
    if interrupts.received:
        return None
    # Of several processes each does the rest by itself, which takes no longer, and the first one writes.
    run, predicted = open_run(workdir.path), None
    network = run.network()
    chosen_already = network.threshold is not None and read_postprocess(workdir) is not None
    if not (fitted.was_finished and chosen_already and workdir.gallery.exists()):
        predictor = Predictor([network], DEFAULT_THRESHOLD)
        predicted = predict_rows(predictor, arrays, split.rows(arrays, "val"), "validation")
    threshold = ensure_choices(run, arrays, predicted=predicted, store=is_first()).threshold
    if predicted is not None and is_first():
        part = Part(Predictor([network], threshold.threshold), predicted)
        draw_gallery(score([part], spacing=None, tolerance=1.0), workdir.gallery)
    best = best_record(fitted.records)
    assert best is not None, "a finished run has records"
    return Finished(fitted.records, best, threshold, arrays.size, fitted.was_finished)


def _silent(line: str) -> None:
    pass
