"""A trained network as a predictor sees one: functions, a size, and what was chosen for it on validation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DEFAULT_THRESHOLD = 0.5
"""Threshold where none was chosen on validation."""


@dataclass(frozen=True, eq=False)
class Network:
    """One trained network.

    What computes it does not matter: the functions take NumPy arrays and return arrays of NumPy or of a device.
    """

    name: str
    """Name of the network in an error or a note, such as its workdir."""
    model_name: str | None
    """Name of the model, where the network is one; None for the checkpoint of a run."""
    size: int
    """Side of the input in pixels."""
    probabilities: Callable[..., Any]
    """`(images, p1, p99, *, tta)` with images (b, size, size), raw intensities, and their percentiles (b,) to the
    probability of tumour, float32 (b, size, size) in [0, 1]; `tta` averages it with that of the mirror image."""
    spread: Callable[..., Any] | None
    """`(image, p1, p99, *, samples)` with one slice (size, size) to the standard deviation of the probability over
    passes with dropout, float32 (size, size) in [0, 0.5]; None for a network without dropout."""
    step: int
    """Training step of the weights."""
    sha256: str
    """Digest of the weights."""
    threshold: float | None
    """Probability from which on a pixel is tumour, chosen on validation; None where none was chosen for these
    weights."""
    threshold_note: str | None
    """Why there is no threshold; None where there is one."""
    library: str
    """Name of what computes its convolutions: oneDNN, Eigen, or a backend such as gpu."""
    precision: str
    """Type that they are computed in: float32 or bfloat16."""
    fixed_max: int | None
    """Largest training intensity of a network that takes intensities as they are; None for one that normalises."""
