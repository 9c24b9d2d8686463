"""A network small enough to check by hand, in an exported file as `unet_jax.export` writes such.

Its input goes from 0 at the first limit to 1 at the second. The logit of a pixel is 8 (m - 1/2), where m is the mean of
the pixel and its left neighbour, 0 beyond the edge.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from onnx import helper, parser

from unet_jax.config import PreprocessConfig
from unet_jax.inference.exported.metadata import FORMAT_VERSION, Metadata, beside, to_text
from unet_jax.scoring.components import Postprocess

SIZE, STRIDE = 32, 4

METADATA = Metadata(
    format_version=FORMAT_VERSION,
    unet_jax="0.2.0",
    name="neighbours",
    size=SIZE,
    stride=STRIDE,
    classes=("tumor",),
    threshold=0.4,
    preprocess=PreprocessConfig(),
    intensity_max=4000,
    postprocess=Postprocess(min_pixels=10, fill_holes=False),
    step=7,
    digest="d" * 64,
    recipe="[]",
)

GRAPH = """
<ir_version: 8, opset_import: ["" : 17]>
neighbours (float[batch, height, width] image, float[batch, 2] limits) => (float[batch, height, width] probs)
<
  int64[2] flat = {0, -1}, int64[1] one = {1}, int64[1] two = {2}, float[2] percent = {0.01, 0.99},
  float zero = {0}, float full = {1}, float half = {0.5}, float eight = {8},
  float[1, 1, 3, 3] kernel = {0, 0, 0, 0.5, 0.5, 0, 0, 0, 0}
>
{
  pixels = Reshape(image, flat)
  count = Shape<start = 1, end = 2>(pixels)
  ordered, order = TopK<largest = 0>(pixels, count)
  last = Sub(count, one)
  length = Cast<to = 1>(last)
  place = Mul(length, percent)
  down = Floor(place)
  share = Sub(place, down)
  below = Cast<to = 7>(down)
  next = Add(below, one)
  above = Min(next, last)
  near = Gather<axis = 1>(ordered, below)
  far = Gather<axis = 1>(ordered, above)
  between = Sub(far, near)
  part = Mul(between, share)
  own = Add(near, part)
  lacking = IsNaN(limits)
  used = Where(lacking, own, limits)
  columns = Unsqueeze(used, two)
  low, high = Split<axis = 1>(columns)
  span = Sub(high, low)
  shifted = Sub(image, low)
  scaled = Div(shifted, span)
  x = Clip(scaled, zero, full)
  channel = Unsqueeze(x, one)
  means = Conv<pads = [1, 1, 1, 1]>(channel, kernel)
  mean = Squeeze(means, one)
  centred = Sub(mean, half)
  logits = Mul(centred, eight)
  probs = Sigmoid(logits)
}
"""


def write_onnx(path: Path, graph: str = GRAPH, metadata: Metadata | Mapping[str, str] = METADATA) -> Path:
    """Write a graph, in ONNX's own text, to an ONNX file."""
    model = parser.parse_model(graph)
    helper.set_model_props(model, to_text(metadata) if isinstance(metadata, Metadata) else dict(metadata))
    path.write_bytes(model.SerializeToString())
    return path


def write_stablehlo(path: Path) -> Path:
    """Write the same network to a StableHLO file, with its metadata beside it."""
    import jax
    import jax.numpy as jnp
    from jax import export

    def probs(image, limits):
        own = jnp.percentile(image.reshape(image.shape[0], -1), jnp.array([1.0, 99.0]), axis=1).T
        low, high = jnp.split(jnp.where(jnp.isnan(limits), own, limits)[:, :, None], 2, axis=1)
        x = jnp.clip((image - low) / (high - low), 0, 1)
        left = jnp.pad(x, ((0, 0), (0, 0), (1, 0)))[:, :, :-1]
        return jax.nn.sigmoid(8 * ((x + left) / 2 - 0.5))

    b, h, w = export.symbolic_shape(f"b, {STRIDE}*h, {STRIDE}*w")
    shapes = (jax.ShapeDtypeStruct((b, h, w), jnp.float32), jax.ShapeDtypeStruct((b, 2), jnp.float32))
    program = export.export(jax.jit(probs), platforms=("cpu", "cuda"))(*shapes).serialize()
    path.write_bytes(program)
    write_beside(path)
    return path


def write_beside(path: Path, **changed: object) -> None:
    """Write what belongs to a StableHLO file, with other values of some keys."""
    about = asdict(METADATA) | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    beside(path).write_text(json.dumps(about | changed))


def expected_probs(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Compute the network's probabilities of images (..., h, w), in float64."""
    x = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
    left = np.concatenate([np.zeros_like(x[..., :1]), x[..., :-1]], axis=-1)
    return 1 / (1 + np.exp(-8 * ((x + left) / 2 - 0.5)))
