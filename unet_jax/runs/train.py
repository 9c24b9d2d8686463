"""One training run from its configuration to what it leaves: network, threshold, pictures."""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

from unet_jax.config import Config, RunError, UserError
from unet_jax.data.converted.arrays import Arrays
from unet_jax.data.splits import Split, make_split
from unet_jax.inference.network import DEFAULT_THRESHOLD
from unet_jax.inference.predictor import Predictor
from unet_jax.models.compiler import computed_precision
from unet_jax.models.network import check_size
from unet_jax.models.pretrained import check_pretrained
from unet_jax.reporting.figures import history_png
from unet_jax.runs.choices import Threshold
from unet_jax.runs.evaluate import Part, draw_gallery, ensure_choices, score
from unet_jax.runs.initial import initial_arrays, open_source, store_initial
from unet_jax.runs.interrupts import Interrupts
from unet_jax.runs.journal import Journal, NotFiniteError, check_finite
from unet_jax.runs.networks import open_run
from unet_jax.runs.opening import (
    Say,
    choose_precision,
    go_on,
    lock,
    open_data,
    open_split,
    store_absolute,
    with_precision,
)
from unet_jax.runs.predicted import predict_rows
from unet_jax.runs.records import Record, best_record, cut_records, is_over
from unet_jax.runs.workdir import Workdir
from unet_jax.training.checkpoints.store import Checkpoints
from unet_jax.training.processes import first_alone, is_first, of_first
from unet_jax.training.state import TrainState
from unet_jax.training.steps import Trainer


@dataclass(frozen=True)
class Finished:
    """A run whose training is over."""

    records: list[Record]
    """All lines of metrics.jsonl."""
    best: Record
    """The line of the epoch whose checkpoint is used."""
    threshold: Threshold
    size: int
    """Side of the network's input in pixels."""
    was_finished: bool
    """True where there was nothing left to do."""


def train(
    path: Path,
    config: Config,
    interrupts: Interrupts,
    say: Say,
    *,
    split: Split | None = None,
    new_rate: bool = False,
) -> Finished | None:
    """Train, or go on with, the run in a workdir; then choose threshold and post-processing and draw pictures.

    Args:
        path: the workdir.
        config: that of the run.
        interrupts: looked at between steps.
        say: told what happens.
        split: the split of a new run; None draws it.
        new_rate: as in `go_on`.

    Returns:
        The finished run; None where an interrupt stopped it, with a checkpoint saved.

    Raises:
        UserError: configuration, data or workdir do not allow it, or are damaged.
        RunError: the loss or a weight is not finite; the last good checkpoint stays.
    """
    workdir, config, first = Workdir(path), store_absolute(config), is_first()
    say = say if first else lambda line: None
    with contextlib.ExitStack() as held:
        with first_alone("workdir"):
            config = go_on(workdir, choose_precision(workdir, config), say, new_rate=new_rate)
            if first:
                held.enter_context(lock(workdir, say))
            arrays = open_data(workdir, config, say)
            check_size(arrays.size, arrays.size, config.model)
            if not workdir.config.exists():
                split = _begin(workdir, config, arrays, split, say)
            split = open_split(workdir, config, arrays, say, drawn=split)
        records, was_finished = fit(workdir, config, arrays, split, interrupts, say)
        if records and first:
            history_png(records, workdir.history)
        if interrupts.received:
            return None
        threshold = _choose(workdir, arrays, split, chosen_before=was_finished)
        best = best_record(records)
        assert best is not None, "a finished run has records"
        return Finished(records, best, threshold, arrays.size, was_finished)


def _begin(workdir: Workdir, config: Config, arrays: Arrays, split: Split | None, say: Say) -> Split:
    """Read the weights that a new run starts from, before the configuration is stored, which names them for good.

    Returns:
        The run's split: the one given, or drawn now.
    """
    weights = check_pretrained(config.model)
    if weights is not None:
        say(f"The encoder starts from {weights.source} (SHA-256 {weights.sha256}).")
    source = None if config.init_from is None else open_source(config.init_from, config.model)
    if source is not None:
        say(source.describe())
    split = make_split(arrays, config.split) if split is None else split
    store_initial(workdir, arrays, split, weights, source, say)
    return split


def fit(
    workdir: Workdir, config: Config, arrays: Arrays, split: Split, interrupts: Interrupts, say: Say
) -> tuple[list[Record], bool]:
    """Train, or go on from the newest checkpoint, until the last epoch, early stopping or an interrupt.

    Errors are those of `train`.

    Returns:
        All lines of metrics.jsonl, and True if there was nothing left to train.
    """
    with Checkpoints(workdir.checkpoints) as checkpoints:
        resumed = checkpoints.latest() is not None
        train_rows, val_rows = split.rows(arrays, "train"), split.rows(arrays, "val")
        initial = None if resumed else initial_arrays(workdir, config)
        asked = config.model.precision
        # Of several processes all compute the same program.
        precision = "bfloat16" if of_first(computed_precision(asked) == "bfloat16") else "float32"
        config = with_precision(config, precision)
        trainer = Trainer(config, arrays, train_rows, val_rows, resumed=resumed, initial=initial)
        for note in trainer.notes:
            say(note)
        state, records = _resume(workdir, trainer, checkpoints)
        if is_over(records, config.optim):
            return records, True
        slower = "" if precision == asked else f", since {asked} would be no faster on this processor"
        say(f"Computing in {precision}{slower}.")
        step = int(state.step)
        if step:
            say(f"Resuming {workdir.path} at step {step}, epoch {step // trainer.steps_per_epoch + 1}.")
        with Journal(workdir, trainer, records, say) as journal:
            try:
                _train_epochs(trainer, state, checkpoints, journal, interrupts)
            except NotFiniteError as e:
                with contextlib.suppress(OSError):
                    checkpoints.wait()  # one that is being written is kept too
                newest = checkpoints.latest()
                kept = "No checkpoint was saved yet" if newest is None else f"The checkpoint of step {newest} is kept"
                raise RunError(
                    f"{e}. {kept}. Try a smaller --optim.learning-rate or --optim.clip-norm 1, in another --workdir."
                ) from None
            return journal.records, False


def _train_epochs(
    trainer: Trainer, state: TrainState, checkpoints: Checkpoints, journal: Journal, interrupts: Interrupts
) -> None:
    """Do the epochs that are left: steps, validation, a record, a checkpoint."""
    optim, length, start = trainer.config.optim, trainer.steps_per_epoch, int(state.step)
    # Compiling, and TensorFlow's import, come before the clock.
    advance = trainer.start(state)
    journal.start(start)
    for epoch in range(start // length + 1, optim.epochs + 1):
        with journal.epoch(epoch, int(state.step)) as on_losses:
            state = advance(state, epoch * length, on_losses, interrupts.stopping)
        if interrupts.received and int(state.step) < epoch * length:
            check_finite(state)
            checkpoints.save(int(state.step), state, None)
            return
        record = journal.record(epoch, state, *trainer.evaluate(state))
        state = trainer.without_sums(state)
        checkpoints.save(int(state.step), state, record["val"]["micro_iou"])
        journal.show(record)
        if is_over(journal.records, optim) or interrupts.received:
            return


def _resume(workdir: Workdir, trainer: Trainer, checkpoints: Checkpoints) -> tuple[TrainState, list[Record]]:
    """Restore the newest checkpoint, and cut metrics.jsonl back to it; fresh weights where there is none."""
    newest, state = checkpoints.latest(), trainer.state
    if newest is not None:
        state = checkpoints.restore(newest, like=state)
    records = cut_records(workdir, newest or 0, write=is_first())
    if len(records) < (newest or 0) // trainer.steps_per_epoch:
        raise UserError(
            f"{workdir.metrics} lacks epochs that the checkpoint of step {newest} has behind it. "
            "Restore it, or train in another --workdir."
        )
    return state, records


def _choose(workdir: Workdir, arrays: Arrays, split: Split, *, chosen_before: bool) -> Threshold:
    """Choose threshold and post-processing on validation and draw the gallery, unless that was done before."""
    # Of several processes each does this by itself, which takes no longer, and the first one writes.
    run = open_run(workdir.path)
    if chosen_before and workdir.gallery.exists():
        return ensure_choices(run, arrays, store=is_first()).threshold
    predictor = Predictor([run.network()], DEFAULT_THRESHOLD)
    predicted = predict_rows(predictor, arrays, split.rows(arrays, "val"), "validation")
    threshold = ensure_choices(run, arrays, predicted=predicted, store=is_first()).threshold
    if is_first():
        part = Part(replace(predictor, threshold=threshold.threshold), predicted)
        draw_gallery(score([part], spacing=None, tolerance=1.0), workdir.gallery)
    return threshold
