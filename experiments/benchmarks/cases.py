"""What is measured, and the rows that come out."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from unet_jax.config import AugmentConfig, Config, ModelConfig, preset

Kind = Literal["train_step", "inference"]
KINDS: tuple[Kind, ...] = ("train_step", "inference")

Name = Literal["train_step", "inference", "best_train_step", "best_inference"]
"""What the rows of networks are called: the kind, of the preset `best` after that word."""

Precision = Literal["float32", "bfloat16"]

SCALE = 1000
"""The largest raw intensity of a sample, which becomes 1."""


@dataclass(frozen=True)
class Case:
    """A plain network and the batch that it gets."""

    width: int
    batch: int
    size: int
    precision: Precision = "float32"
    levels: int = 4
    dropout: float = 0.1

    @property
    def shape(self) -> str:
        return f"width {self.width}, {_batch(self)}"

    @property
    def config(self) -> Config:
        """The run whose train step and network are measured."""
        return Config(
            model=ModelConfig(width=self.width, levels=self.levels, dropout=self.dropout, precision=self.precision)
        )

    def name(self, kind: Kind) -> Name:
        """The name of a row."""
        return kind


@dataclass(frozen=True)
class BestCase:
    """The network of the preset `best`, with weights drawn, and the batch that it gets."""

    batch: int
    size: int
    precision: Precision = "float32"

    @property
    def shape(self) -> str:
        return _batch(self)

    @property
    def config(self) -> Config:
        """As `Case.config`. The optimizer is the preset's, the augmentation is a flip, as of the plain network."""
        best = preset("best")
        model = replace(best.model, encoder_weights="none", precision=self.precision)
        return replace(best, model=model, augment=AugmentConfig())

    def name(self, kind: Kind) -> Name:
        """The name of a row."""
        return "best_train_step" if kind == "train_step" else "best_inference"


AnyCase = Case | BestCase


def _batch(case: AnyCase) -> str:
    precision = "" if case.precision == "float32" else f", {case.precision}"
    return f"batch {case.batch}, {case.size} px{precision}"


@dataclass(frozen=True)
class Row:
    """A line of the table, and an object of the JSON list."""

    name: str
    shape: str
    ours_ms: float
    peer_ms: float | None = None
    """Of the fastest peer; None where none was measured. In rows of the preset `best` peers are other networks."""

    @property
    def ratio(self) -> float | None:
        return None if self.peer_ms is None else self.ours_ms / self.peer_ms

    def as_json(self) -> dict[str, str | float | None]:
        return {
            "name": self.name,
            "shape": self.shape,
            "ours_ms": round(self.ours_ms, 4),
            "peer_ms": None if self.peer_ms is None else round(self.peer_ms, 4),
            "ratio": None if self.ratio is None else round(self.ratio, 4),
        }


def median_ms(seconds: Sequence[float]) -> float:
    return 1000 * statistics.median(seconds)


def sample(case: AnyCase) -> tuple[np.ndarray, np.ndarray]:
    """Raw images, int16 (b, size, size), 0 to SCALE, and masks, uint8 0/1; the same for every framework."""
    rng = np.random.default_rng(0)
    shape = (case.batch, case.size, case.size)
    masks = np.zeros(shape, np.uint8)
    masks[:, case.size // 4 : case.size // 2, case.size // 3 : case.size // 2] = 1
    return rng.integers(0, SCALE + 1, shape).astype(np.int16), masks


def network_input(case: AnyCase) -> tuple[np.ndarray, np.ndarray]:
    """`sample` as peers get it, ready for the network: images and targets, float32 (b, size, size, 1), 0 to 1."""
    images, masks = sample(case)
    return (images / np.float32(SCALE)).astype(np.float32)[..., None], masks.astype(np.float32)[..., None]
