"""Trained networks as one StableHLO program, for whoever has jax, and flatbuffers to read it.

The file is what `jax.export` serialises, for CPUs and NVIDIA GPUs, with the weights inside; beside it lies
`FILE.stablehlo.json`, the metadata. A later jax reads it for half a year at least, so that the checkpoint stays the
truth.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, Float

from unet_jax.inference.exported.metadata import Metadata, beside
from unet_jax.models.heads import tumor_logits
from unet_jax.models.network import UNet
from unet_jax.models.preprocess import preprocess
from unet_jax.runs.trained import TrainedNetwork
from unet_jax.shared.files import replacing, write_json

PLATFORMS = ("cpu", "cuda")
"""Backends that the program is for."""


def write_stablehlo(path: Path, networks: Sequence[TrainedNetwork], metadata: Metadata) -> None:
    """Write networks to a StableHLO file, with the file of their metadata beside it.

    Args:
        path: to write; files there are replaced.
        networks: at least one; computed in float32.
        metadata: what the file beside says of them.
    """
    program = build(networks, metadata.stride).serialize()
    with replacing(path) as f:
        f.write(program)
    # Last, so that a program is never taken for the one of an earlier file.
    write_json(beside(path), asdict(metadata) | {"sha256": hashlib.sha256(program).hexdigest()})


def build(networks: Sequence[TrainedNetwork], stride: int) -> export.Exported:
    """Trace networks to a program `(image, limits) -> probs`, as the graph of `deploy.onnx.build`."""
    scope = export.SymbolicScope()
    b, h, w = export.symbolic_shape(f"b, {stride}*h, {stride}*w", scope=scope)

    def probs(image: Float[Array, "b h w"], limits: Float[Array, "b 2"]) -> Float[Array, "b h w"]:
        limits = _filled(limits, image)
        each = []
        for network in networks:
            x = preprocess(image, limits[:, 0], limits[:, 1], network.preprocess)
            net = UNet(replace(network.model, precision="float32", remat=False))
            each.append(jax.nn.sigmoid(tumor_logits(jnp.asarray(net.apply(network.variables, x, train=False)))))
        return sum(each[1:], each[0]) / len(each)

    shapes = (jax.ShapeDtypeStruct((b, h, w), jnp.float32), jax.ShapeDtypeStruct((b, 2), jnp.float32))
    return export.export(jax.jit(probs), platforms=PLATFORMS)(*shapes)


def _filled(limits: Float[Array, "b 2"], image: Float[Array, "b h w"]) -> Float[Array, "b 2"]:
    """Put the image's own 1st and 99th percentile where a limit is NaN."""
    missing = jnp.isnan(limits)

    def own(image: Float[Array, "b h w"]) -> Float[Array, "b 2"]:
        values = jnp.sort(image.reshape(image.shape[0], -1), axis=1)
        last = values.shape[1] - 1
        found = []
        # The 99th percentile lies as far from the end as the 1st from the beginning.
        for ordered in (values, values[:, ::-1]):
            near, far = (jax.lax.dynamic_index_in_dim(ordered, jnp.asarray(last // 100 + i), 1, False) for i in (0, 1))
            found.append(near + (far - near) * (jnp.asarray(last % 100) / 100))
        return jnp.where(missing, jnp.stack(found, axis=1), limits)

    return jax.lax.cond(missing.any(), own, lambda _: limits, image)
