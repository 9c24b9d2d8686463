"""Graphs of ONNX files, run by onnxruntime on the processor. The only onnxruntime; no jax."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from unet_jax.config import UserError
from unet_jax.imaging.scan import one_line
from unet_jax.inference.exported.metadata import Metadata, from_text
from unet_jax.inference.exported.tensors import has_external_data

_FATAL = 4
"""Level from which on onnxruntime writes to standard error by itself. What fails is raised besides."""
_FLOAT32 = "tensor(float)"


class _Value(NamedTuple):
    """Input or output of a graph."""

    type: str
    shape: list[int | str | None]


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
        # All that this process may use, as jax; by itself onnxruntime leaves out the second thread of each core.
        options.intra_op_num_threads = _processors()
        # Its second attempt, which it announces on standard output, would be the same.
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"], enable_fallback=0)
        # Here, because names may be no UTF-8.
        texts = session.get_modelmeta().custom_metadata_map
        inputs, outputs = _values(session.get_inputs()), _values(session.get_outputs())
    except UserError:
        raise
    except Exception as e:
        # Its exceptions have no base of their own.
        raise UserError(f"{path} is no ONNX file that onnxruntime runs, or damaged ({one_line(e)}).") from None
    metadata = from_text(texts, str(path))
    _check_values(path, "inputs", inputs, {"image": 3, "limits": 2})
    _check_values(path, "outputs", outputs, {"probs": 3})
    batch, *sides = inputs["image"].shape
    if isinstance(batch, int) or any(isinstance(side, int) and side != metadata.size for side in sides):
        raise UserError(
            f"{path} takes images of shape {(batch, *sides)}; expected any number of {metadata.size}x{metadata.size}. "
            "Export it again."
        )
    quiet = onnxruntime.RunOptions()
    quiet.log_severity_level = _FATAL
    return lambda image, limits: session.run(["probs"], {"image": image, "limits": limits}, quiet)[0], metadata


def _values(found: Any) -> dict[str, _Value]:
    return {value.name: _Value(value.type, value.shape) for value in found}


def _check_values(path: Path, kind: str, found: dict[str, _Value], expected: dict[str, int]) -> None:
    """Raise UserError unless a graph's inputs or outputs have those names, that many dimensions each, and float32."""
    there = {name: (value.type, len(value.shape)) for name, value in found.items()}
    wanted = {name: (_FLOAT32, dimensions) for name, dimensions in expected.items()}
    if there != wanted:
        raise UserError(f"{path} has {kind} {_listed(there)}; expected {_listed(wanted)}. Export it again.")


def _listed(values: dict[str, tuple[str, int]]) -> str:
    return ", ".join(f"{name}: {kind} of {n} dimensions" for name, (kind, n) in values.items()) or "none"


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
