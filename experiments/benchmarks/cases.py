"""What is measured, and the rows that come out."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["train_step", "inference"]
KINDS: tuple[Kind, ...] = ("train_step", "inference")

SCALE = 1000
"""The largest raw intensity of a sample, which becomes 1."""


@dataclass(frozen=True)
class Case:
    """A network and the batch that it gets."""

    width: int
    batch: int
    size: int
    precision: Literal["float32", "bfloat16"] = "float32"
    levels: int = 4
    dropout: float = 0.1

    @property
    def shape(self) -> str:
        precision = "" if self.precision == "float32" else f", {self.precision}"
        return f"width {self.width}, batch {self.batch}, {self.size} px{precision}"


@dataclass(frozen=True)
class Row:
    """A line of the table, and an object of the JSON list."""

    name: str
    shape: str
    ours_ms: float
    peer_ms: float | None = None
    """Of the fastest peer; None where none was measured."""

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


def sample(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Raw images, int16 (b, size, size), 0 to SCALE, and masks, uint8 0/1; the same for every framework."""
    rng = np.random.default_rng(0)
    shape = (case.batch, case.size, case.size)
    masks = np.zeros(shape, np.uint8)
    masks[:, case.size // 4 : case.size // 2, case.size // 3 : case.size // 2] = 1
    return rng.integers(0, SCALE + 1, shape).astype(np.int16), masks


def network_input(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """`sample` as peers get it, ready for the network: images and targets, float32 (b, size, size, 1), 0 to 1."""
    images, masks = sample(case)
    return (images / np.float32(SCALE)).astype(np.float32)[..., None], masks.astype(np.float32)[..., None]
