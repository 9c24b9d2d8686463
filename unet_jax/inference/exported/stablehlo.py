"""Programs of StableHLO files, run by jax on whatever device it has."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax import export

from unet_jax.config import UserError
from unet_jax.imaging.scan import one_line
from unet_jax.inference.exported.metadata import Metadata, beside, from_text
from unet_jax.models.compiler import compiler_options

_MOST_BYTES = 2**20
"""Largest size of a file of metadata."""


def open_program(path: Path, content: bytes) -> tuple[Callable[..., Any], Metadata]:
    """Load the program `(image, limits) -> probs` in the content of a StableHLO file, and what is said beside it.

    Raises:
        UserError: as `open_exported`; or the file beside is missing, or another one's.
    """
    metadata = _read_metadata(path, hashlib.sha256(content).hexdigest())
    try:
        program = export.deserialize(bytearray(content))
    except Exception as e:
        # What a later or earlier jax wrote may fail anywhere.
        raise UserError(f"{path} is no StableHLO file that jax {jax.__version__} runs ({one_line(e)}).") from None
    ranks = [(str(x.dtype), len(x.shape)) for x in (*program.in_avals, *program.out_avals)]
    if ranks != [("float32", 3), ("float32", 2), ("float32", 3)] or len(program.out_avals) != 1:
        raise UserError(
            f"{path} is a program of {_listed(program.in_avals)} to {_listed(program.out_avals)}; expected one of "
            "float32 (b, h, w) and (b, 2) to float32 (b, h, w). Export it again."
        )
    if jax.default_backend() not in (*program.platforms, "gpu" if "cuda" in program.platforms else ""):
        raise UserError(
            f"{path} is for {', '.join(program.platforms)}, and jax computes on {jax.default_backend()} here. "
            "Set JAX_PLATFORMS=cpu."
        )
    return jax.jit(program.call, compiler_options=compiler_options(onednn=False)), metadata


def _read_metadata(path: Path, sha256: str) -> Metadata:
    source = beside(path)
    try:
        with source.open("rb") as f:
            raw = json.loads(f.read(_MOST_BYTES))
    except OSError as e:
        raise UserError(f"{source}, which belongs to {path}, cannot be read ({e.strerror}). Copy both.") from None
    except (ValueError, RecursionError) as e:
        raise UserError(f"{source} is not JSON ({one_line(e)}). Export {path.name} again.") from None
    if not isinstance(raw, dict) or raw.pop("sha256", None) != sha256:
        raise UserError(f"{source} is of another file than {path}, or either is damaged. Copy both again.")
    texts: dict[str, Any] = {k: v if isinstance(v, str) else json.dumps(v) for k, v in raw.items()}
    return from_text(texts, str(source))


def _listed(shapes: Any) -> str:
    return " and ".join(str(shape) for shape in shapes) or "nothing"
