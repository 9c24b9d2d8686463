"""Trained networks, one or several averaged, to probabilities and masks of slices. Knows no workdir and no jax."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped

from unet_jax.config import UserError
from unet_jax.imaging.resize import NativeSlice, NetworkSlice, from_network, to_network
from unet_jax.inference.given import as_slice, is_one, several
from unet_jax.inference.network import DEFAULT_THRESHOLD, Network
from unet_jax.scoring.components import Postprocess, postprocess
from unet_jax.scoring.metrics import apply_threshold


class Probabilities(NamedTuple):
    """Prediction of one slice."""

    probs: Float32[np.ndarray, "h w"]
    """Probability of tumour, 0 to 1."""
    spread: Float32[np.ndarray, "h w"] | None
    """Standard deviation of the probability, 0 to 0.5, among networks or passes with dropout; None if not asked for."""


class Prediction(NamedTuple):
    """Result of `Predictor.predict`: for one image an array each, for a list of images a list of arrays each."""

    masks: Any
    """bool (h, w)."""
    probs: Any
    """float32 (h, w), 0 to 1."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """Trained networks ready for use, with the threshold that belongs to them. Probabilities are averaged over them."""

    networks: Sequence[Network]
    """At least one; all of one size."""
    threshold: float
    """Probability from which on a pixel is tumour."""
    threshold_note: str | None = None
    """Why `threshold` is neither the caller's nor the one chosen on validation; None where it is."""
    postprocess: Postprocess | None = None
    """Cleaning of masks at native size; None to leave them."""
    tta: bool = False
    """Average the probabilities of a slice and of its mirror image (test-time augmentation)."""
    uncertainty: bool = False
    """Give the spread too: among the networks, or of a single one by Monte-Carlo dropout."""
    dropout_samples: int = 16
    """Passes with dropout for each slice, where the spread of a single network is wanted."""

    def __post_init__(self) -> None:
        """Raise UserError unless the settings fit the networks."""
        if not 0 < self.threshold < 1:
            raise UserError(f"--threshold is {self.threshold}; it must be between 0 and 1.")
        if self.dropout_samples < 2:
            raise UserError(f"--dropout-samples is {self.dropout_samples}; it must be at least 2.")
        first = self.networks[0]
        for other in self.networks[1:]:
            if other.size != first.size:
                raise UserError(
                    f"{first.name} was trained at {first.size}x{first.size} and {other.name} at "
                    f"{other.size}x{other.size}. Networks that are averaged must share their size."
                )
        if self.uncertainty and len(self.networks) == 1 and first.spread is None:
            raise UserError(
                f"{first.name} was trained without dropout, so one network alone has no spread. Give several workdirs."
            )

    @property
    def size(self) -> int:
        """Side of the networks' input in pixels."""
        return self.networks[0].size

    def describe(self) -> dict[str, Any]:
        """Say for JSON what decides the output on one kind of processor, wherever the networks lie."""
        described = {
            "networks": [_described(network) for network in self.networks],
            "threshold": self.threshold,
            "tta": self.tta,
            "postprocess": self.postprocess and vars(self.postprocess),
            "library": _each(network.library for network in self.networks),
            "precision": _each(network.precision for network in self.networks),
        }
        if self.uncertainty:
            described["dropout_samples"] = self.dropout_samples if len(self.networks) == 1 else None
        return described

    @property
    def name(self) -> str:
        """Name of the networks for a line of output."""
        if len(self.networks) == 1:
            (network,) = self.networks
            return f"model {network.model_name}" if network.model_name else f"checkpoint of step {network.step}"
        return f"{len(self.networks)} networks averaged"

    def warn_about(self, image: Shaped[np.ndarray, "h w"]) -> str | None:
        """Warn where a slice's intensities cannot be in the training data's units; None where they can."""
        for network in self.networks:
            if network.fixed_max is not None and image.max() < network.fixed_max / 4:
                return (
                    f"its largest intensity, {image.max():g}, is below a quarter of the training data's, "
                    f"{network.fixed_max}, and --preprocess.kind fixed takes intensities as they are"
                )
        return None

    def mask(self, probs: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        """Predict the tumour of a slice at its native size: by the threshold, then cleaned if that was asked for."""
        mask = np.asarray(apply_threshold(probs, self.threshold))
        return mask if self.postprocess is None else postprocess(mask, self.postprocess)

    def predict(self, images: Any, batch_size: Any = 16) -> Prediction:
        """Predict masks and probabilities of one image or of a list of them, each at its own size.

        Args:
            images: an image, or several. One is the path of a file, a picture of PIL, or an array of any real dtype:
                raw intensities (h, w), or (h, w, 1), (h, w, 3) and (h, w, 4), which are grey, colours, and colours with
                opacity, laid over black. What is masked of a masked array, or transparent, is background and no tissue.
                Several are a list of such, or an array (n, h, w) of slices.
            batch_size: slices computed at a time, a whole number.

        Raises:
            UserError: a file or a picture cannot be read, an array is no image, or batch_size is no number of slices.
        """
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise UserError(f"batch_size is {batch_size!r}; it must be a whole number of at least 1.")
        if is_one(images):
            masks, probs = self.predict([images], batch_size)
            return Prediction(masks[0], probs[0])
        slices = [as_slice(image) for image in several(images)]
        seen = [p.probs for p in self.stream([native for native, _ in slices], int(batch_size))]
        masks = [back(self.mask(probs)) for probs, (_, back) in zip(seen, slices, strict=True)]
        return Prediction(masks, [back(probs) for probs, (_, back) in zip(seen, slices, strict=True)])

    def stream(
        self, images: Iterable[NativeSlice | Shaped[np.ndarray, "_ _"]], batch_size: int = 16
    ) -> Iterator[Probabilities]:
        """Predict slices in order, each at its own size.

        While the device computes a batch, the next one is taken from `images` and prepared.

        Args:
            images: slices, or the raw intensities of such with square pixels, of any sizes and dtypes.
            batch_size: slices computed at a time; the last batch is padded to it. Where there are fewer slices, no
                more are computed than the next power of two, so that a few programs serve all numbers.
        """
        ways: deque[tuple[tuple[int, int], float]] = deque()

        def prepared() -> Iterator[NetworkSlice]:
            for given in images:
                image, aspect = given if isinstance(given, NativeSlice) else NativeSlice(given)
                ways.append(((image.shape[0], image.shape[1]), aspect))
                yield to_network(image, self.size, aspect)

        for probs, spread in self.stream_network(prepared(), batch_size):
            way = ways.popleft()
            yield Probabilities(from_network(probs, *way), None if spread is None else from_network(spread, *way))

    def stream_network(self, slices: Iterable[NetworkSlice], batch_size: int = 16) -> Iterator[Probabilities]:
        """Predict slices as `stream` does, from and to the network's size."""
        slices = iter(slices)
        before: Iterator[Probabilities] = iter(())
        part = list(islice(slices, batch_size))
        batch_size = min(batch_size, 2 ** math.ceil(math.log2(len(part) or 1)))
        while part:
            filled = part + part[:1] * (batch_size - len(part))
            images = np.stack([s.image for s in filled])
            p1 = np.array([s.p1 for s in filled], np.float32)
            p99 = np.array([s.p99 for s in filled], np.float32)
            computing = _fetched(*self._compute(images, p1, p99, len(part)), len(part))
            yield from before
            before = computing
            part = list(islice(slices, batch_size))
        yield from before

    def _compute(self, images: np.ndarray, p1: np.ndarray, p99: np.ndarray, count: int) -> tuple[Any, Any]:
        """Start computing the probabilities of a batch on the device, and the spread of its first `count` slices."""
        each = [network.probabilities(images, p1, p99, tta=self.tta) for network in self.networks]
        if len(each) > 1:
            from unet_jax.inference.programs import mean_and_spread

            probs, spread = mean_and_spread(each)
            return probs, spread if self.uncertainty else None
        sample = self.networks[0].spread
        if not self.uncertainty or sample is None:
            return each[0], None
        return each[0], [sample(images[i], p1[i], p99[i], samples=self.dropout_samples) for i in range(count)]


def average_thresholds(networks: Sequence[Network]) -> tuple[float, str | None]:
    """Average the thresholds that were chosen on validation; 0.5 for a network without one.

    Returns:
        The threshold, and a note that names the networks without one, if there are any.
    """
    values = [DEFAULT_THRESHOLD if network.threshold is None else network.threshold for network in networks]
    if len(networks) == 1:
        return values[0], networks[0].threshold_note
    notes = [f"{network.name}: {network.threshold_note}" for network in networks if network.threshold is None]
    return float(np.mean(values)), "; ".join(notes) or None


def _each(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _described(network: Network) -> dict[str, Any]:
    named = {"model": network.model_name} if network.model_name else {}
    return named | {"step": network.step, "sha256": network.sha256}


def _fetched(probs: Any, spread: Any, n: int) -> Iterator[Probabilities]:
    # A generator: the device is waited for when the first of the slices is asked for.
    for i, p in enumerate(np.asarray(probs)[:n]):
        yield Probabilities(p, None if spread is None else np.asarray(spread[i]))
