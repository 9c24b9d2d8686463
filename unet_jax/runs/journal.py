"""A run's journal: what is shown, written and checked of its steps and epochs."""

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from unet_jax.config import RunError
from unet_jax.runs.opening import Say
from unet_jax.runs.records import Record, append_record
from unet_jax.runs.workdir import Workdir
from unet_jax.scoring.metrics import Counts, dice, iou, pixel_accuracy
from unet_jax.training.loop import OnLosses
from unet_jax.training.processes import is_first
from unet_jax.training.state import TrainState, all_finite
from unet_jax.training.steps import Trainer


class NotFiniteError(RunError):
    """A loss or weight that is not finite."""


class Journal:
    """Progress bar, metrics.jsonl, TensorBoard events and a line of text for each epoch.

    Attributes:
        records: all lines of metrics.jsonl.
    """

    def __init__(self, workdir: Workdir, trainer: Trainer, records: list[Record], say: Say):
        self.records = list(records)
        self._workdir, self._trainer, self._say = workdir, trainer, say
        self._began, self._steps_before, self._seconds = time.monotonic(), 0, 0.0
        self._board: Any = None

    def __enter__(self) -> "Journal":
        if is_first():
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(self._workdir.path), purge_step=len(self.records) + 1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()

    def start(self, step: int) -> None:
        """Start the clock of the time left, with so many steps behind; compiling is over by then."""
        self._began, self._steps_before = time.monotonic(), step

    @contextlib.contextmanager
    def epoch(self, number: int, step: int) -> Iterator[OnLosses]:
        """Show the steps of an epoch, counted from 1, from `step` on while they are done, and measure their time.

        Yields:
            A function to be told of the losses, which raises NotFiniteError naming the first step without one.
        """
        length = self._trainer.steps_per_epoch
        bar = tqdm(
            total=length,
            initial=step % length,
            desc=f"epoch {number}/{self._trainer.config.optim.epochs}",
            unit="step",
            disable=not (sys.stderr.isatty() and is_first()),
            leave=False,
        )
        began = time.monotonic()
        with bar:

            def on_losses(step: int, losses: np.ndarray) -> None:
                for number, loss in enumerate(losses.tolist(), step):
                    if not math.isfinite(loss):
                        raise NotFiniteError(f"the loss is {loss} at step {number}")
                bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
                bar.update(len(losses))

            yield on_losses
        self._seconds = time.monotonic() - began

    def record(self, epoch: int, state: TrainState, val_loss: float, val_counts: Counts) -> Record:
        """Make the line of a finished epoch, and add it to metrics.jsonl.

        Raises:
            NotFiniteError: the validation loss or a weight is not finite; nothing is written.
        """
        step, sums = int(state.step), jax.device_get(state.sums)
        record = {
            "epoch": epoch,
            "step": step,
            "learning_rate": float(jax.device_get(self._trainer.schedule(step - 1))),
            "seconds": round(self._seconds, 3),
            "precision": self._trainer.config.model.precision,
            "train": _scores(float(sums.loss) / int(sums.steps), sums.counts),
            "val": _scores(val_loss, val_counts),
        }
        check_finite(state, val_loss)
        if is_first():
            append_record(self._workdir, record)
        self.records.append(record)
        return record

    def show(self, record: Record) -> None:
        """Say how the epoch went, in a line and to TensorBoard."""
        epoch, epochs = record["epoch"], self._trainer.config.optim.epochs
        rate = (time.monotonic() - self._began) / (record["step"] - self._steps_before)
        left = rate * (epochs * self._trainer.steps_per_epoch - record["step"])
        train, val = record["train"], record["val"]
        self._say(
            f"epoch {epoch}/{epochs}  loss {train['loss']:.4f}  IoU {train['micro_iou']:.4f}  "
            f"val loss {val['loss']:.4f}  val IoU {val['micro_iou']:.4f}  "
            f"{record['seconds']:.1f} s, about {_duration(left)} left"
        )
        if self._board is None:
            return
        for side in ("train", "val"):
            for name, value in record[side].items():
                self._board.add_scalar(f"{name}/{side}", value, epoch)
        self._board.add_scalar("learning_rate", record["learning_rate"], epoch)


def check_finite(state: TrainState, val_loss: float = 0.0) -> None:
    """Raise NotFiniteError rather than let a spoilt state be saved."""
    if not (math.isfinite(val_loss) and bool(all_finite((state.params, state.batch_stats)))):
        raise NotFiniteError(f"a weight or the validation loss is not finite after step {int(state.step)}")


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
