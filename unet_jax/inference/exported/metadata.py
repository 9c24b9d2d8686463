"""Metadata of exported files: in ONNX a part of the file, beside StableHLO a file of JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from unet_jax.config import PreprocessConfig, UserError, from_object
from unet_jax.config.checks import Checked, Rule
from unet_jax.scoring.components import Postprocess

FORMAT_VERSION = 1

ONNX, STABLEHLO = ".onnx", ".stablehlo"
"""Suffixes of exported files."""

BESIDE = ".json"
"""Suffix that the metadata of a StableHLO file have after that file's whole name."""


@dataclass(frozen=True)
class Metadata(Checked):
    """All that a program needs to know of an exported network to use it, and where it comes from.

    In ONNX each field is a key whose value is JSON, but that of a string the string itself.
    """

    format_version: int
    unet_jax: str
    """Version of the program that wrote the file."""
    name: str
    """Name of the run or model, of several joined by ", "."""
    size: int
    """Side in pixels that the network was trained at."""
    stride: int
    """Number that both sides of an image must be multiples of."""
    classes: tuple[str, ...]
    """Names of the network's outputs, of which `probs` is the largest."""
    threshold: float
    """Probability from which on a pixel is tumour, chosen on validation."""
    preprocess: PreprocessConfig
    """Part of the graph: from raw intensities to the network's input."""
    intensity_max: int
    """Largest intensity of the training slices at the network's size."""
    postprocess: Postprocess
    """Cleaning of masks that was best on validation. No part of the graph."""
    step: int
    """Training step of the weights; of several networks the largest."""
    digest: str
    """SHA-256 of the weights' file; of several networks that of their digests, a line each."""
    recipe: str
    """JSON: for each network its `model`, `seed`, `step`, `data_digest` and `sha256`."""

    def rules(self) -> Any:
        yield Rule("size", 1 <= self.size <= 2**14, "1 to 16384")
        yield Rule("stride", 1 <= self.stride <= self.size, f"1 to {self.size}")
        yield Rule("threshold", 0 < self.threshold < 1, "between 0 and 1")


def to_text(metadata: Metadata) -> dict[str, str]:
    """Write metadata as text by key, in the order of the fields."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in asdict(metadata).items()}


def from_text(texts: Mapping[str, str], source: str) -> Metadata:
    """Read what `to_text` wrote; keys of others are left alone.

    Raises:
        UserError: a key is missing, its value none that it may have, or another version wrote it; `source` names the
            file.
    """
    version = texts.get("format_version")
    if version is None:
        raise UserError(f"{source} has no metadata of this program; expected a file that `unet_jax.export` wrote.")
    if version != str(FORMAT_VERSION):
        raise UserError(f"{source} is of format version {version}; this program reads {FORMAT_VERSION}.")
    values = {}
    for field in fields(Metadata):
        text = texts.get(field.name)
        try:
            values[field.name] = text if text is None or field.type is str else json.loads(text)
        except (ValueError, RecursionError):
            raise UserError(f"{source}: {field.name} is {text!r}, no JSON. Export it again.") from None
    metadata = from_object(Metadata, {k: v for k, v in values.items() if v is not None}, source)
    try:
        return metadata.check("")
    except UserError as e:
        raise UserError(f"{source}: {e}") from None


def beside(path: Path) -> Path:
    """Name the file of metadata that belongs to a StableHLO file."""
    return path.with_name(path.name + BESIDE)
