"""Weights of EfficientNet-Lite0 that PyTorch stored, as a file of safetensors, which is read without it."""

import importlib
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from unet_jax.config import ModelConfig, UserError
from unet_jax.models.encoders.efficientnet_lite0 import LEVELS, STAGES
from unet_jax.models.network import abstract_variables
from unet_jax.models.pretrained import EXPECTED, HEAD, Pretrained, read_pretrained, with_pretrained
from unet_jax.shared.files import replacing

TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
"""Layers outside the blocks: EfficientNet-PyTorch's names to timm's."""
WIDENING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""Layers of a block that widens its input first."""
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Layers of a block that does not."""


def convert(source: Path, out: Path) -> Pretrained:
    """Write the encoder's weights in a file of PyTorch's under timm's names.

    Args:
        source: a dictionary of tensors under timm's names or those of the package EfficientNet-PyTorch. Code in it is
            not run.
        out: replaced if it exists.

    Returns:
        The weights written, as they are read again.

    Raises:
        UserError: `source` cannot be read, or is something else; nothing is written.
    """
    arrays = {timm_name(name): array for name, array in _read(source).items()}
    kept = {n: a for n, a in arrays.items() if not n.startswith(HEAD) and not n.endswith(".num_batches_tracked")}
    model = ModelConfig(encoder="efficientnet_lite0", levels=LEVELS)
    with_pretrained(abstract_variables(model), Pretrained(str(source), "", kept))
    with replacing(out) as f:
        f.write(save(kept))
    return read_pretrained(str(out))


def timm_name(name: str) -> str:
    """Give timm's name for one of EfficientNet-PyTorch's; another name stays as it is."""
    blocks = [(stage, place) for stage in range(len(STAGES)) for place in range(STAGES[stage].repeats)]
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if found is None:
        layer, dot, leaf = name.partition(".")
        return f"{TOP.get(layer, layer)}{dot}{leaf}"
    number, layer, leaf = int(found[1]), found[2], found[3]
    if number >= len(blocks):
        return name
    stage, place = blocks[number]
    layers = WIDENING if STAGES[stage].expansion > 1 else PLAIN
    return f"blocks.{stage}.{place}.{layers.get(layer, layer)}.{leaf}"


def _read(source: Path) -> dict[str, np.ndarray]:
    try:
        # Through importlib because the program does not depend on it, and a type checker need not find it.
        torch: Any = importlib.import_module("torch")
    except ImportError:
        raise UserError(
            f"{source} takes torch to read, which is not installed: pip install 'unet-jax[peers]'."
        ) from None
    try:
        content: Any = torch.load(source, map_location="cpu", weights_only=True)
    except OSError as e:
        raise UserError(f"{source} cannot be read ({e.strerror}); {EXPECTED}.") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as e:
        first, *_ = str(e).splitlines() or ["damaged"]
        raise UserError(f"{source} is no file of tensors that torch stored ({first}); {EXPECTED}.") from None
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(f"{source} holds something else than a dictionary of tensors; {EXPECTED}.")
    return {str(name): value.float().contiguous().numpy() for name, value in content.items()}
