"""Weights that an encoder starts from: read from a file or a hub, compared with the encoder's, put into its place.

Only EfficientNet-Lite0 has such weights. They are named and laid out as timm's `tf_efficientnet_lite0` has them.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load

from unet_jax.config import ModelConfig, UserError
from unet_jax.models.encoders.efficientnet_lite0 import PREFIX
from unet_jax.models.network import Variables, abstract_variables

HUB, FILE_ON_HUB = "hf:", "model.safetensors"
EXPECTED = "expected the weights of timm's tf_efficientnet_lite0"
HEAD = ("conv_head.", "bn2.", "classifier.")
"""Beginnings of the names of what classifies, which the encoder has not."""
STEM = "conv_stem"
"""Name of the convolution that sees the input, of three channels in a file."""
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


@dataclass(frozen=True)
class Pretrained:
    """Weights as a file has them."""

    source: str
    """Their place, as errors name it."""
    sha256: str
    """Digest of the file."""
    arrays: dict[str, np.ndarray]
    """timm's names to values; kernels (output, input, height, width)."""


def read_pretrained(spec: str) -> Pretrained:
    """Read weights, those of a head and counters of batches left out.

    Args:
        spec: a .safetensors file, or hf:REPO[@REVISION] for its model.safetensors.

    Raises:
        UserError: it cannot be had, or is no such file.
    """
    path = _from_hub(spec) if spec.startswith(HUB) else Path(spec)
    try:
        content = path.read_bytes()
        arrays = load(content)
    except (SafetensorError, TypeError, ValueError, KeyError) as e:
        raise UserError(f"{spec} is no file of safetensors that numpy can hold ({e}); {EXPECTED}.") from None
    except OSError as e:
        raise UserError(f"{spec} cannot be read ({e.strerror}); {EXPECTED}, or none.") from None
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
            raise UserError(f"{spec}: {name} has values that are no finite numbers; {EXPECTED}.")
    kept = {n: a for n, a in arrays.items() if not n.startswith(HEAD) and not n.endswith(".num_batches_tracked")}
    return Pretrained(spec, hashlib.sha256(content).hexdigest(), kept)


def with_pretrained(variables: Variables, weights: Pretrained) -> Variables:
    """Give the network's variables with the encoder's values replaced: its parameters and running statistics.

    Of the stem's kernels for three channels the sum is taken, which sees a grey image as they see it thrice.

    Raises:
        UserError: a name or a shape is not the encoder's; the first one is named.
    """
    flat: dict[tuple[str, ...], Any] = dict(flatten_dict(variables))
    places = {_timm_name(path): path for path in flat if path[1].startswith(PREFIX)}
    for name in sorted(weights.arrays.keys() ^ places.keys()):
        raise UserError(f"{weights.source} {'lacks' if name in places else 'has'} {name}; {EXPECTED}.")
    for name, path in places.items():
        array, expected = weights.arrays[name], flat[path].shape
        if len(expected) == 4:  # height, width, input, output
            expected = (expected[3], 3 if path[2] == STEM else expected[2], *expected[:2])
        if array.shape != expected:
            raise UserError(f"{weights.source}: {name} has the shape {array.shape} instead of {expected}; {EXPECTED}.")
        value = array.astype(np.float32)
        if path[2] == STEM:
            value = value.sum(axis=1, keepdims=True)
        flat[path] = jnp.asarray(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)
    return unflatten_dict(flat)


def check_pretrained(model: ModelConfig) -> Pretrained | None:
    """Read the weights that the encoder starts from, if there are any; raise UserError if they do not fit."""
    if model.encoder_weights == "none":
        return None
    weights = read_pretrained(model.encoder_weights)
    with_pretrained(abstract_variables(model), weights)
    return weights


def _timm_name(path: tuple[str, ...]) -> str:
    """Name in timm of a variable at (collection, module, layer, leaf): encoder_block2_1 is blocks.2.1."""
    _, module, layer, leaf = path
    module = module.removeprefix(PREFIX)
    block = "" if module == "stem" else f"blocks.{module.removeprefix('block').replace('_', '.')}."
    return f"{block}{layer}.{_LEAVES[leaf]}"


def _from_hub(spec: str) -> Path:
    """Download the file of weights of hf:REPO[@REVISION], unless the hub's own cache has it."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise UserError(
            f"{spec} takes huggingface_hub to download, which is not installed: pip install 'unet-jax[hub]'. "
            f"Or give a {FILE_ON_HUB} as --model.encoder-weights."
        ) from None
    repo, _, revision = spec.removeprefix(HUB).partition("@")
    try:
        return Path(hf_hub_download(repo, FILE_ON_HUB, revision=revision or None))
    except (HfHubHTTPError, HFValidationError, OSError) as e:
        reason = " ".join(str(e).split())
        raise UserError(f"{spec}: its {FILE_ON_HUB} cannot be had ({reason}); expected hf:REPO[@REVISION].") from None
