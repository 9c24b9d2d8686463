"""From one workdir, or several averaged, to probabilities and masks."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Shaped

from unet_jax.config import UserError
from unet_jax.imaging.read import read_image
from unet_jax.imaging.resize import NetworkSlice, from_network, to_network
from unet_jax.inference.programs import make_dropout_spread, make_predict
from unet_jax.runs.networks import Member, _chosen_postprocess, _threshold
from unet_jax.runs.workdir import run_folders
from unet_jax.scoring.components import Postprocess, postprocess
from unet_jax.scoring.metrics import apply_threshold

DEFAULT_THRESHOLD = 0.5
"""Used where none was chosen on validation."""


class Probabilities(NamedTuple):
    """What is predicted of one slice."""

    probs: Float32[np.ndarray, "h w"]
    """Probability of tumour, 0 to 1."""
    spread: Float32[np.ndarray, "h w"] | None
    """Standard deviation of the probability, 0 to 0.5, among networks or passes with dropout; None if not asked for."""


class Prediction(NamedTuple):
    """What `Predictor.predict` returns: an array each for one image, a list of arrays each for a list of images."""

    masks: Any
    """bool (h, w)."""
    probs: Any
    """float32 (h, w), 0 to 1."""


class Predictor:
    """Trained networks ready for use, with the threshold that belongs to them. Probabilities are averaged over them.

    Attributes:
        members: the networks.
        threshold: the probability from which on a pixel is tumour.
        threshold_note: why `threshold` is neither the caller's nor the one chosen on validation; None where it is.
        size: side of the networks' input in pixels.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        threshold: float | None = None,
        tta: bool = False,
        postprocess: bool = False,
        uncertainty: bool = False,
        dropout_samples: int = 16,
    ):
        """As `open`, of networks that are loaded already."""
        self.members, self.tta = list(members), tta
        self.size = self.members[0].split.size
        for member in self.members[1:]:
            if member.split.size != self.size:
                raise UserError(
                    f"{self.members[0].workdir.path} was trained at {self.size}x{self.size} and {member.workdir.path} "
                    f"at {member.split.size}x{member.split.size}. Networks that are averaged must share their size."
                )
        self._programs = [make_predict(m.config.model, m.config.preprocess, tta=tta) for m in self.members]
        self.threshold, self.threshold_note = _threshold(self.members, threshold)
        self.cleaning: Postprocess | None = None
        if postprocess:
            self.clean_as_chosen()
        self._uncertainty, self._samples = uncertainty, dropout_samples
        if uncertainty and len(self.members) == 1 and self.members[0].config.model.dropout == 0:
            raise UserError(
                f"{self.members[0].workdir.path} was trained without dropout, so one network alone has no spread. "
                "Give several workdirs."
            )

    @classmethod
    def open(
        cls,
        workdirs: Path | Sequence[Path],
        *,
        checkpoint: str = "best",
        threshold: float | None = None,
        tta: bool = False,
        postprocess: bool = False,
        uncertainty: bool = False,
        dropout_samples: int = 16,
    ) -> "Predictor":
        """Load the network of a run, or those of several.

        Args:
            workdirs: what `unet_jax.train` wrote, one or several; one that `unet_jax.crossval` wrote stands for its
                folds.
            checkpoint: `best` (highest validation IoU), `latest`, or the number of a step.
            threshold: in (0, 1); None for the one that was chosen on validation for this checkpoint, else 0.5. Of
                several networks their mean.
            tta: average the probabilities of a slice and of its mirror image.
            postprocess: clean masks as was found best on validation (`Postprocess`).
            uncertainty: give the spread too: among the networks, or of a single one by Monte-Carlo dropout.
            dropout_samples: passes with dropout for each slice.

        Raises:
            UserError: no run, no such checkpoint, a damaged one, a threshold out of range, networks of different
                sizes, no post-processing chosen yet, or no dropout to sample.
        """
        if threshold is not None and not 0 < threshold < 1:
            raise UserError(f"--threshold is {threshold}; it must be between 0 and 1.")
        if dropout_samples < 2:
            raise UserError(f"--dropout-samples is {dropout_samples}; it must be at least 2.")
        given = [workdirs] if isinstance(workdirs, Path) else list(workdirs)
        members = [Member.open(folder, checkpoint) for path in given for folder in run_folders(Path(path))]
        return cls(
            members,
            threshold=threshold,
            tta=tta,
            postprocess=postprocess,
            uncertainty=uncertainty,
            dropout_samples=dropout_samples,
        )

    @property
    def only(self) -> Member:
        """The one network of a predictor of one."""
        (member,) = self.members
        return member

    def describe(self) -> dict[str, Any]:
        """What decides the output, for JSON: equal for equal networks and settings, wherever they lie."""
        cleaning = self.cleaning and {"min_pixels": self.cleaning.min_pixels, "fill_holes": self.cleaning.fill_holes}
        return {
            "networks": [{"step": m.step, "sha256": m.digest} for m in self.members],
            "threshold": self.threshold,
            "tta": self.tta,
            "postprocess": cleaning,
            "dropout_samples": self._samples if self._uncertainty and len(self.members) == 1 else None,
        }

    @property
    def name(self) -> str:
        """For a line of output."""
        steps = ", ".join(str(m.step) for m in self.members)
        return f"checkpoint of step {steps}" if len(self.members) == 1 else f"{len(self.members)} networks averaged"

    def clean_as_chosen(self, chosen: Mapping[str, Any] | None = None) -> None:
        """Clean masks from now on: as given, by a content of postprocess.json, or as the workdirs have it."""
        choices = [chosen] if chosen is not None else [_chosen_postprocess(member) for member in self.members]
        # Of several networks the least that any of them asks for.
        least = min(c["min_pixels"] for c in choices)
        self.cleaning = Postprocess(least, all(c["fill_holes"] for c in choices))

    def warn_about(self, image: Shaped[np.ndarray, "h w"]) -> str | None:
        """A warning where a slice's intensities cannot be in the training data's units; else None."""
        for member in self.members:
            largest = member.split.intensity_max
            if member.config.preprocess.kind == "fixed" and image.max() < largest / 4:
                return (
                    f"its largest intensity, {image.max():g}, is below a quarter of the training data's, {largest}, "
                    "and --preprocess.kind fixed takes intensities as they are"
                )
        return None

    def mask(self, probs: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        """The predicted tumour of a slice at its native size: by the threshold, then cleaned if that was asked for."""
        mask = np.asarray(apply_threshold(probs, self.threshold))
        return mask if self.cleaning is None else postprocess(mask, self.cleaning)

    def predict(self, images: Any, batch_size: int = 16) -> Prediction:
        """Masks and probabilities of one image or of a list of them, each at its own size.

        Args:
            images: raw intensities (h, w) of any real dtype, or the path of an image file; or a list of such.
            batch_size: slices computed at a time.

        Returns:
            `(masks, probs)`: for one image two arrays, for a list two lists.

        Raises:
            UserError: a file cannot be read, or an array is no slice.
        """
        if isinstance(images, str | Path) or getattr(images, "ndim", None) == 2:
            masks, probs = self.predict([images], batch_size)
            return Prediction(masks[0], probs[0])
        probs = [p.probs for p in self.stream([_as_slice(image) for image in images], batch_size)]
        return Prediction([self.mask(p) for p in probs], probs)

    def stream(self, images: Iterable[Shaped[np.ndarray, "_ _"]], batch_size: int = 16) -> Iterator[Probabilities]:
        """What is predicted of slices, each at its own size, in order.

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

        for probs, spread in self.stream_network(prepared(), batch_size):
            shape = shapes.popleft()
            yield Probabilities(from_network(probs, shape), None if spread is None else from_network(spread, shape))

    def stream_network(self, slices: Iterable[NetworkSlice], batch_size: int = 16) -> Iterator[Probabilities]:
        """As `stream`, from and to the network's size."""
        slices = iter(slices)
        under_way: deque[tuple[Any, Any, int]] = deque()
        part = list(islice(slices, batch_size))
        batch_size = min(batch_size, 1 << max(len(part) - 1, 0).bit_length())
        while part:
            filled = part + part[:1] * (batch_size - len(part))
            images = np.stack([s.image for s in filled])
            p1 = np.array([s.p1 for s in filled], np.float32)
            p99 = np.array([s.p99 for s in filled], np.float32)
            under_way.append((*self._compute(images, p1, p99, len(part)), len(part)))
            if len(under_way) > 1:
                yield from _fetched(*under_way.popleft())
            part = list(islice(slices, batch_size))
        while under_way:
            yield from _fetched(*under_way.popleft())

    def _compute(self, images: np.ndarray, p1: np.ndarray, p99: np.ndarray, count: int) -> tuple[Any, Any]:
        """Probabilities and spread of a batch, under way on the device; of the spread the first `count` slices."""
        each = [
            program(member.variables, images, p1, p99)
            for program, member in zip(self._programs, self.members, strict=True)
        ]
        if len(each) > 1:
            probs, spread = _mean_and_spread(each)
            return probs, spread if self._uncertainty else None
        if not self._uncertainty:
            return each[0], None
        member = self.only
        sample = make_dropout_spread(member.config.model, member.config.preprocess, self._samples)
        return each[0], [sample(member.variables, images[i], p1[i], p99[i]) for i in range(count)]


@jax.jit
def _mean_and_spread(each: list[Float[Array, "b h w"]]) -> tuple[Float[Array, "b h w"], Float[Array, "b h w"]]:
    stacked = jnp.stack(each)
    return stacked.mean(axis=0), stacked.std(axis=0)


def _as_slice(image: Any) -> Shaped[np.ndarray, "h w"]:
    if isinstance(image, str | Path):
        return read_image(Path(image))
    array = np.asarray(image)
    if array.ndim != 2 or array.dtype.kind not in "biuf" or 0 in array.shape:
        raise UserError(f"an image is {array.dtype} of shape {array.shape}; expected (height, width) of real numbers.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError("an image has values that are not finite. Replace them.")
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def _fetched(probs: Any, spread: Any, n: int) -> Iterator[Probabilities]:
    for i, p in enumerate(np.asarray(probs)[:n]):
        yield Probabilities(p, None if spread is None else np.asarray(spread[i]))
