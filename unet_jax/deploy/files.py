"""Trained networks as one file, ONNX or StableHLO by its suffix."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

import unet_jax
from unet_jax.config import UserError
from unet_jax.inference.exported.metadata import FORMAT_VERSION, ONNX, Metadata
from unet_jax.runs.networks import least_postprocess, open_networks
from unet_jax.runs.trained import TrainedNetwork
from unet_jax.shared.files import naming


def export_file(workdirs: Sequence[Path], model: str | None, checkpoint: str, out: Path) -> Metadata:
    """Write networks, averaged where there are several, to a file that needs nothing else.

    Args:
        workdirs, model, checkpoint: as in `open_networks`.
        out: file to make; one that is there is replaced.

    Returns:
        What the file says of them.

    Raises:
        UserError: as `open_networks`, networks that cannot be averaged, no threshold or post-processing chosen for one,
            or no package to write ONNX with.
    """
    networks = open_networks(workdirs, checkpoint, model)
    metadata = describe(networks)
    with naming(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ONNX:
        try:
            from unet_jax.deploy.onnx import write_onnx
        except ModuleNotFoundError as e:
            if e.name != "onnx":
                raise
            raise UserError(
                f"{out} takes onnx to write, which is not installed: pip install 'unet-jax[onnx]'."
            ) from None
        write_onnx(out, networks, metadata)
    else:
        from unet_jax.deploy.stablehlo import write_stablehlo

        write_stablehlo(out, networks, metadata)
    return metadata


def describe(networks: Sequence[TrainedNetwork]) -> Metadata:
    """Describe networks, averaged where there are several, as an exported file does; raises as `export_file`."""
    first = networks[0]
    for other in networks[1:]:
        for what in ("size", "classes", "preprocess"):
            one, another = getattr(first, what), getattr(other, what)
            if one != another:
                raise UserError(
                    f"{first.path} has {what} {one} and {other.path} has {another}. Networks of one file must share it."
                )
    digests = [network.sha256 for network in networks]
    recipe = [
        {
            "model": asdict(network.published_model),
            "preprocess": asdict(network.preprocess),
            "seed": network.seed,
            "step": network.step,
            "data_digest": network.data_digest,
            "sha256": network.sha256,
        }
        for network in networks
    ]
    return Metadata(
        format_version=FORMAT_VERSION,
        unet_jax=unet_jax.__version__,
        name=", ".join(network.model_name or network.path.resolve().name for network in networks),
        size=first.size,
        stride=max(network.model.stride for network in networks),
        classes=first.classes,
        threshold=float(np.mean([network.chosen_threshold() for network in networks])),
        preprocess=first.preprocess,
        intensity_max=max(network.intensity_max for network in networks),
        postprocess=least_postprocess(networks),
        step=max(network.step for network in networks),
        digest=digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        recipe=json.dumps(recipe),
    )
