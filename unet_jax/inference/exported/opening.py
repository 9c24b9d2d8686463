"""Exported files opened for inference: told by their suffix, read without trust."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from unet_jax.config import UserError
from unet_jax.imaging.scan import one_line
from unet_jax.inference.exported.metadata import ONNX, STABLEHLO, Metadata
from unet_jax.inference.network import Network
from unet_jax.scoring.components import Postprocess

MOST_BYTES = 2**31
"""Largest size of a file: what protocol buffers, of which ONNX is made, hold."""

Run = Callable[[Float32[np.ndarray, "b h w"], Float32[np.ndarray, "b 2"]], Any]
"""The graph of an exported file: `image` and `limits` to `probs`."""


class Exported(NamedTuple):
    """Network of an exported file, with all that was chosen for it."""

    network: Network
    postprocess: Postprocess


def is_exported(path: str | Path) -> bool:
    """Tell by the suffix whether a path is that of an exported file, whether there is one or not."""
    return Path(path).suffix.lower() in (ONNX, STABLEHLO) and not Path(path).is_dir()


def open_exported(path: Path) -> Exported:
    """Open an ONNX file, by onnxruntime and without jax, or a StableHLO file, by jax.

    Raises:
        UserError: the file is missing, damaged, not as `unet_jax.export` writes it, or what runs it is not installed.
    """
    try:
        size = path.stat().st_size
        if not path.is_file() or not 0 < size < MOST_BYTES:
            raise UserError(f"{path} has {size} bytes; expected a file of 1 to {MOST_BYTES - 1}.")
        content = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path} cannot be read ({e.strerror}). Give a file that `unet_jax.export` wrote.") from None
    if path.suffix.lower() == ONNX:
        from unet_jax.inference.exported.onnx import open_graph

        run, metadata, library = *open_graph(path, content), "onnxruntime"
    else:
        from unet_jax.inference.exported.stablehlo import open_program

        run, metadata, library = *open_program(path, content), "StableHLO"
    return Exported(_network(path, metadata, _checked(path, run), library), metadata.postprocess)


def _network(path: Path, metadata: Metadata, run: Run, library: str) -> Network:
    def probabilities(
        images: Float[np.ndarray, "b h w"], p1: Float[np.ndarray, " b"], p99: Float[np.ndarray, " b"], *, tta: bool
    ) -> Float32[np.ndarray, "b h w"]:
        images, limits = images.astype(np.float32, copy=False), np.stack([p1, p99], axis=1).astype(np.float32)
        probs = run(images, limits)
        if not tta:
            return probs
        return (probs + run(np.ascontiguousarray(images[:, :, ::-1]), limits)[:, :, ::-1]) / 2

    return Network(
        name=str(path),
        model_name=" ".join(metadata.name.split()) or path.name,
        size=metadata.size,
        probabilities=probabilities,
        spread=None,
        step=metadata.step,
        sha256=metadata.digest,
        threshold=metadata.threshold,
        threshold_note=None,
        library=library,
        precision="float32",
        fixed_max=metadata.intensity_max if metadata.preprocess.kind == "fixed" else None,
    )


def _checked(path: Path, run: Run) -> Run:
    """Have a graph that fails, or returns no probabilities, end in one line that names its file."""

    def checked(image: Float32[np.ndarray, "b h w"], limits: Float32[np.ndarray, "b 2"]) -> Any:
        try:
            probs = np.asarray(run(image, limits))
        except Exception as e:
            # Libraries raise nearly anything for a graph that does not do what its inputs and outputs say.
            raise UserError(f"{path} cannot be run on {_shown(image)} ({one_line(e)}). Export it again.") from e
        if probs.shape != image.shape or probs.dtype != np.float32:
            raise UserError(f"{path} makes {_shown(probs)} of {_shown(image)}; expected the same. Export it again.")
        # Also false for what is no number.
        if not (probs.min() >= -1e-5 and probs.max() <= 1 + 1e-5):
            raise UserError(f"{path} makes values that are no probabilities, 0 to 1. Export it again.")
        return probs.clip(0, 1)

    return checked


def _shown(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"
