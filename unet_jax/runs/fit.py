"""The training loop: steps, validation, checkpoints, logs, resume."""

import contextlib
import itertools
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from unet_jax.config import Config, RunError, UserError
from unet_jax.data.converted.arrays import Arrays
from unet_jax.data.splits import Split
from unet_jax.runs.interrupts import Interrupts
from unet_jax.runs.opening import Say
from unet_jax.runs.records import Record, append_record, cut_records
from unet_jax.runs.workdir import Workdir
from unet_jax.scoring.metrics import Counts, dice, iou, pixel_accuracy
from unet_jax.training.batches import Order, Source, choose_pipeline, eval_batches, feed
from unet_jax.training.checkpoints.store import Checkpoints
from unet_jax.training.loop import compile_steps, run_steps, steps_per_dispatch
from unet_jax.training.losses.terms import loss_value
from unet_jax.training.mesh import data_mesh, everywhere
from unet_jax.training.optimizer import learning_rate, make_optimizer
from unet_jax.training.processes import is_first, stop_requested
from unet_jax.training.state import Sums, TrainState, all_finite, base_key, init_state
from unet_jax.training.steps import make_eval_step, make_train_steps


@dataclass(frozen=True)
class Fitted:
    """How training ended."""

    records: list[Record]
    """All lines of metrics.jsonl."""
    was_finished: bool
    """There was nothing left to train."""


def fit(workdir: Workdir, config: Config, arrays: Arrays, split: Split, interrupts: Interrupts, say: Say) -> Fitted:
    """Train, or go on from the newest checkpoint, until the last epoch, early stopping or an interrupt.

    Raises:
        RunError: the loss or a parameter is not finite; the last good checkpoint stays.
        UserError: a checkpoint or metrics.jsonl is damaged, or a checkpoint is of another network.
    """
    pipeline, note = choose_pipeline(config.loader)
    if note:
        say(note)
    order = Order(split.rows(arrays, "train"), config.loader.batch_size, config.seed)
    mesh, note = data_mesh(order.batch_size)
    if note:
        say(note)
    state = init_state(config, arrays.size, make_optimizer(config.optim, order.steps_per_epoch))
    state = everywhere(state, mesh)
    with Checkpoints(workdir.checkpoints) as checkpoints:
        newest = checkpoints.latest()
        if newest is not None:
            state = checkpoints.restore(newest, like=state)
        records = cut_records(workdir, newest or 0, write=is_first())
        if len(records) < (newest or 0) // order.steps_per_epoch:
            raise UserError(
                f"{workdir.metrics} lacks epochs that the checkpoint of step {newest} has behind it. "
                "Restore it, or train in another --workdir."
            )
        if _is_over(config, records):
            return Fitted(records, was_finished=True)
        if newest is not None:
            say(f"Resuming {workdir.path} at step {newest}, epoch {newest // order.steps_per_epoch + 1}.")
        run = _Run(workdir, config, arrays, split, order, mesh, checkpoints, interrupts, say)
        return run.train(state, records, pipeline)


def _is_over(config: Config, records: list[Record]) -> bool:
    """Whether the last epoch is done, or as many as `early_stopping` have gone by without a better IoU."""
    if not records:
        return False
    done, patience = records[-1]["epoch"], config.optim.early_stopping
    first_best = max(records, key=lambda r: r["val"]["micro_iou"])  # an equal IoU is not a better one
    return done >= config.optim.epochs or bool(patience and done - first_best["epoch"] >= patience)


class _Run:
    """One process's share of a training run: what stays the same from step to step."""

    def __init__(
        self,
        workdir: Workdir,
        config: Config,
        arrays: Arrays,
        split: Split,
        order: Order,
        mesh: Mesh,
        checkpoints: Checkpoints,
        interrupts: Interrupts,
        say: Say,
    ) -> None:
        self.workdir, self.config, self.arrays, self.order, self.mesh = workdir, config, arrays, order, mesh
        self.checkpoints, self.interrupts, self.say = checkpoints, interrupts, say
        self.val_rows = split.rows(arrays, "val")
        self.schedule = learning_rate(config.optim, order.steps_per_epoch)
        self.train_steps = make_train_steps(config, make_optimizer(config.optim, order.steps_per_epoch), mesh)
        self.eval_step = make_eval_step(config, mesh)
        self.key = everywhere(base_key(config.seed), mesh)

    def train(self, state: TrainState, records: list[Record], pipeline: str) -> Fitted:
        from tensorboardX import SummaryWriter

        epochs, length = self.config.optim.epochs, self.order.steps_per_epoch
        start, most = int(state.step), steps_per_dispatch()
        pieces = feed(self.arrays, self.order, start, epochs * length, pipeline, self.mesh, most)
        # What is done once, compiling and TensorFlow's import, comes before the clock.
        piece = next(pieces)
        pieces = itertools.chain([piece], pieces)
        compiled = compile_steps(self.train_steps, state, piece[0], self.key, start, length, most)
        began = time.monotonic()
        board = SummaryWriter(str(self.workdir.path), purge_step=len(records) + 1) if is_first() else None
        with board or contextlib.nullcontext():
            for epoch in range(start // length + 1, epochs + 1):
                epoch_began = time.monotonic()
                state = self._epoch(state, epoch, pieces, compiled)
                if self.interrupts.received and int(state.step) < epoch * length:
                    self._check_finite(state)
                    self.checkpoints.save(int(state.step), state, None)
                    return Fitted(records, was_finished=False)
                record = self._record(state, epoch, time.monotonic() - epoch_began)
                self._check_finite(state, record["val"]["loss"])
                if is_first():
                    append_record(self.workdir, record)
                records = records + [record]
                state = replace(state, sums=everywhere(Sums.zeros(), self.mesh))
                self.checkpoints.save(int(state.step), state, record["val"]["micro_iou"])
                self._show(record, began, start, board)
                if _is_over(self.config, records):
                    break
                if self.interrupts.received:
                    return Fitted(records, was_finished=False)
        return Fitted(records, was_finished=False)

    def _epoch(
        self, state: TrainState, epoch: int, pieces: Iterator[tuple[Source, int]], compiled: Mapping[int, Any]
    ) -> TrainState:
        """Steps until the epoch's end or an interrupt; on return all of them are done."""
        length, start = self.order.steps_per_epoch, int(state.step)
        bar = tqdm(
            total=length,
            initial=start % length,
            desc=f"epoch {epoch}/{self.config.optim.epochs}",
            unit="step",
            disable=not (sys.stderr.isatty() and is_first()),
            leave=False,
        )

        def settled(step: int, losses: np.ndarray) -> None:
            self._check_losses(step, losses)
            bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
            bar.update(len(losses))

        def stopped(step: int) -> bool:
            if stop_requested(step):
                self.interrupts.received = "SIGTERM"
            return self.interrupts.received is not None

        with bar:
            return run_steps(compiled, state, pieces, start, epoch * length, self.key, settled, stopped)

    def _check_losses(self, step: int, losses: np.ndarray) -> None:
        """RunError naming the first step whose loss is not finite; `step` is that of the first loss."""
        for number, loss in enumerate(losses.tolist(), step):
            if not math.isfinite(loss):
                raise self._not_finite(f"the loss is {loss} at step {number}")

    def _not_finite(self, what: str) -> RunError:
        with contextlib.suppress(OSError):
            self.checkpoints.wait()  # one that is being written is kept too
        newest = self.checkpoints.latest()
        kept = "No checkpoint was saved yet" if newest is None else f"The checkpoint of step {newest} is kept"
        return RunError(
            f"{what}. {kept}. Try a smaller --optim.learning-rate or --optim.clip-norm 1, in another --workdir."
        )

    def _check_finite(self, state: TrainState, val_loss: float = 0.0) -> None:
        """Raise RunError rather than let a spoilt state be saved."""
        if not (math.isfinite(val_loss) and bool(all_finite((state.params, state.batch_stats)))):
            raise self._not_finite(f"a weight or the validation loss is not finite after step {int(state.step)}")

    def _record(self, state: TrainState, epoch: int, seconds: float) -> Record:
        losses, counts = None, None
        # Divided as training batches are, since the weights lie on every device already.
        for batch in eval_batches(self.arrays, self.val_rows, self.config.loader.batch_size, self.mesh):
            batch_losses, batch_counts = self.eval_step(state.params, state.batch_stats, batch)
            losses = batch_losses if losses is None else losses + batch_losses
            counts = batch_counts if counts is None else counts + batch_counts
        assert losses is not None and counts is not None, "a split has no empty side"
        sums = jax.device_get(state.sums)
        step = int(state.step)
        return {
            "epoch": epoch,
            "step": step,
            "learning_rate": float(jax.device_get(self.schedule(step - 1))),
            "seconds": round(seconds, 3),
            "train": _scores(float(sums.loss) / int(sums.steps), sums.counts),
            "val": _scores(float(loss_value(losses, self.config.loss)), jax.device_get(counts)),
        }

    def _show(self, record: Record, began: float, start: int, board: Any) -> None:
        epoch, epochs = record["epoch"], self.config.optim.epochs
        rate = (time.monotonic() - began) / (record["step"] - start)
        left = rate * (epochs * self.order.steps_per_epoch - record["step"])
        train, val = record["train"], record["val"]
        self.say(
            f"epoch {epoch}/{epochs}  loss {train['loss']:.4f}  IoU {train['micro_iou']:.4f}  "
            f"val loss {val['loss']:.4f}  val IoU {val['micro_iou']:.4f}  "
            f"{record['seconds']:.1f} s, about {_duration(left)} left"
        )
        if board is None:
            return
        for side in ("train", "val"):
            for name, value in record[side].items():
                board.add_scalar(f"{name}/{side}", value, epoch)
        board.add_scalar("learning_rate", record["learning_rate"], epoch)


def _scores(loss: float, counts: Counts) -> dict[str, float]:
    return {
        "loss": loss,
        "micro_iou": float(iou(counts)),
        "micro_dice": float(dice(counts)),
        "pixel_accuracy": float(pixel_accuracy(counts)),
    }


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
