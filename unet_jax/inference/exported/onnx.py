"""Graphs of ONNX files, run by onnxruntime on the processor. The only onnxruntime; no jax."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unet_jax.config import UserError
from unet_jax.imaging.scan import one_line
from unet_jax.inference.exported.metadata import Metadata, from_text
from unet_jax.inference.exported.tensors import has_external_data

_FATAL = 4
"""Level from which on onnxruntime writes to standard error by itself. What fails is raised besides."""
_IMAGES = ("tensor(float)", 3)
"""Type and number of dimensions of `image` and `probs`."""


def open_graph(path: Path, content: bytes) -> tuple[Callable[..., Any], Metadata]:
    """Load the graph `(image, limits) -> probs` in the content of an ONNX file, and what the file says of it.

    Raises:
        UserError: as `open_exported`.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as e:
        if e.name != "onnxruntime":
            raise
        raise UserError(
            f"{path} takes onnxruntime to run, which is not installed: pip install 'unet-jax[onnx]'"
        ) from None
    try:
        if has_external_data(content):
            raise UserError(f"{path} has weights outside the file, which are not read. Export it again.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        # As jax takes them; by itself onnxruntime leaves out the second thread of each core.
        options.intra_op_num_threads = os.cpu_count() or 1
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except UserError:
        raise
    except Exception as e:
        # Its exceptions have no base of their own.
        raise UserError(f"{path} is no ONNX file that onnxruntime runs, or damaged ({one_line(e)}).") from None
    metadata = from_text(session.get_modelmeta().custom_metadata_map, str(path))
    _check_values(path, "inputs", session.get_inputs(), {"image": _IMAGES, "limits": ("tensor(float)", 2)})
    _check_values(path, "outputs", session.get_outputs(), {"probs": _IMAGES})
    batch, *sides = session.get_inputs()[0].shape
    if isinstance(batch, int) or any(isinstance(side, int) and side != metadata.size for side in sides):
        raise UserError(
            f"{path} takes images of shape {(batch, *sides)}; expected any number of {metadata.size}x{metadata.size}. "
            "Export it again."
        )
    options = onnxruntime.RunOptions()
    options.log_severity_level = _FATAL
    return lambda image, limits: session.run(["probs"], {"image": image, "limits": limits}, options)[0], metadata


def _check_values(path: Path, kind: str, found: Any, expected: dict[str, tuple[str, int]]) -> None:
    """Raise UserError unless a graph's inputs or outputs have those names, types and numbers of dimensions."""
    there = {value.name: (value.type, len(value.shape)) for value in found}
    if there != expected:
        raise UserError(f"{path} has {kind} {_listed(there)}; expected {_listed(expected)}. Export it again.")


def _listed(values: dict[str, tuple[str, int]]) -> str:
    return ", ".join(f"{name}: {kind} of {n} dimensions" for name, (kind, n) in values.items()) or "none"
