"""From a workdir to probabilities."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, Shaped

from unet_jax.config import Config, UserError, read_config
from unet_jax.data.resize import NetworkSlice, from_network, to_network
from unet_jax.data.splits import Split, load_split
from unet_jax.models.inference import abstract_variables, make_predict
from unet_jax.training.checkpoint import Checkpoints
from unet_jax.workdir import Workdir, write_text

DEFAULT_THRESHOLD = 0.5
"""Used where none was chosen on validation."""


class Predictor:
    """A trained network ready for use, with the threshold that belongs to it.

    Attributes:
        threshold: the probability from which on a pixel is tumour.
        threshold_note: why `threshold` is neither the caller's nor the one chosen on validation; None where it is.
        step: the training step of the checkpoint.
        size: side of the network's input in pixels.
    """

    def __init__(self, workdir: Workdir, config: Config, split: Split, step: int, variables: Any, given: float | None):
        self.workdir, self.config, self.split, self.step, self.size = workdir, config, split, step, split.size
        self.threshold, self.threshold_note = _threshold(workdir, step, given)
        self._variables = jax.device_put(variables)
        self._predict = make_predict(config.model, config.preprocess)

    @classmethod
    def open(cls, workdir: Path, *, checkpoint: str = "best", threshold: float | None = None) -> "Predictor":
        """Load a run's network.

        Args:
            workdir: what `unet_jax.train` wrote.
            checkpoint: `best` (highest validation IoU), `latest`, or the number of a step.
            threshold: in (0, 1); None for the one that was chosen on validation for this checkpoint, else 0.5.

        Raises:
            UserError: no run, no such checkpoint, a damaged one, or a threshold out of range.
        """
        files = Workdir(Path(workdir))
        config = read_config(files.config)
        if threshold is not None and not 0 < threshold < 1:
            raise UserError(f"--threshold is {threshold}; it must be between 0 and 1.")
        if not files.checkpoints.is_dir():
            raise UserError(f"{files.path} has no checkpoints; expected a run of at least one epoch. Train it first.")
        with Checkpoints(files.checkpoints, read_only=True) as checkpoints:
            step = _choose_step(checkpoints, checkpoint)
            variables = checkpoints.restore_variables(step, like=abstract_variables(config.model))
        return cls(files, config, load_split(files.split), step, variables, threshold)

    def warn_about(self, image: Shaped[np.ndarray, "h w"]) -> str | None:
        """A warning where a slice's intensities cannot be in the training data's units; else None."""
        largest = self.split.intensity_max
        if self.config.preprocess.kind == "fixed" and image.max() < largest / 4:
            return (
                f"its largest intensity, {image.max():g}, is below a quarter of the training data's, {largest}, and "
                "--preprocess.kind fixed takes intensities as they are"
            )
        return None

    def stream(
        self, images: Iterable[Shaped[np.ndarray, "_ _"]], batch_size: int = 16
    ) -> Iterator[Float32[np.ndarray, "_ _"]]:
        """Probabilities of slices, each at its own size, in order.

        While the device computes a batch, the next one is taken from `images` and prepared.

        Args:
            images: raw intensities, of any sizes and dtypes.
            batch_size: slices computed at a time; the last batch is padded to it. Where there are fewer slices, no
                more are computed than the next power of two, so that a few programs serve all numbers.
        """
        shapes: deque[tuple[int, int]] = deque()

        def prepared() -> Iterator[NetworkSlice]:
            for image in images:
                shapes.append((image.shape[0], image.shape[1]))
                yield to_network(image, self.size)

        for probs in self.stream_network(prepared(), batch_size):
            yield from_network(probs, shapes.popleft())

    def stream_network(
        self, slices: Iterable[NetworkSlice], batch_size: int = 16
    ) -> Iterator[Float32[np.ndarray, "size size"]]:
        """As `stream`, from and to the network's size."""
        slices = iter(slices)
        under_way: deque[tuple[Any, int]] = deque()
        part = list(islice(slices, batch_size))
        batch_size = min(batch_size, 1 << max(len(part) - 1, 0).bit_length())
        while part:
            filled = part + part[:1] * (batch_size - len(part))
            probs = self._predict(
                self._variables,
                np.stack([s.image for s in filled]),
                np.array([s.p1 for s in filled], np.float32),
                np.array([s.p99 for s in filled], np.float32),
            )
            under_way.append((probs, len(part)))
            if len(under_way) > 1:
                yield from _fetched(*under_way.popleft())
            part = list(islice(slices, batch_size))
        while under_way:
            yield from _fetched(*under_way.popleft())


def read_threshold(workdir: Workdir) -> dict[str, Any] | None:
    """threshold.json: `threshold`, `checkpoint_step`, `micro_iou`, `curve`; None if it is absent.

    Raises:
        UserError: it is something else.
    """
    try:
        content = json.loads(workdir.threshold.read_text())
        kinds = {"threshold": float, "checkpoint_step": int, "micro_iou": float, "curve": dict}
        if not all(type(content[name]) is kind for name, kind in kinds.items()):
            raise TypeError
        return content
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{workdir.threshold} is damaged. Delete it; `unet_jax.eval` makes it anew.") from None


def store_threshold(workdir: Workdir, chosen: dict[str, Any]) -> None:
    """Write threshold.json, as `read_threshold` reads it."""
    write_text(workdir.threshold, json.dumps(chosen, indent=2) + "\n")


def _threshold(workdir: Workdir, step: int, given: float | None) -> tuple[float, str | None]:
    chosen = read_threshold(workdir)
    if given is not None:
        return given, None
    if chosen is None:
        return DEFAULT_THRESHOLD, "none was chosen on validation"
    if chosen["checkpoint_step"] != step:
        return DEFAULT_THRESHOLD, f"the one chosen on validation is for step {chosen['checkpoint_step']}, not {step}"
    return chosen["threshold"], None


def _choose_step(checkpoints: Checkpoints, wanted: str) -> int:
    steps = checkpoints.steps()
    if not steps:
        raise UserError(f"{checkpoints.directory} holds no whole checkpoint; expected one of a trained run.")
    if wanted == "best":
        best = checkpoints.best()
        return steps[-1] if best is None else best
    if wanted == "latest":
        return steps[-1]
    if wanted.isdecimal() and int(wanted) in steps:
        return int(wanted)
    there = ", ".join(str(s) for s in steps)
    raise UserError(f"--checkpoint is {wanted}; expected best, latest or one of the steps {there}.")


def _fetched(probs: Any, n: int) -> Iterator[Float32[np.ndarray, "size size"]]:
    yield from np.asarray(probs)[:n]
