"""The networks of `models` as nodes of an ONNX graph: encoders by name, the decoder, and the head.

Dropout, and what is computed again for the gradient, are no part of them. What a layer is called there is the name of
its parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unet_jax.config import ModelConfig
from unet_jax.deploy.graph import Graph, LayersOf
from unet_jax.models.encoders.efficientnet_lite0 import LAST_OF_SIZE, PREFIX, STAGES, STEM


def probabilities(graph: Graph, x: str, model: ModelConfig, variables: Mapping[str, Any], prefix: str = "") -> str:
    """Add a network and the sigmoid of its largest output.

    Args:
        graph: the graph to add to.
        x: name of the network's input, float32 (b, 1, h, w).
        model, variables: the network.
        prefix: goes before the names of its nodes.

    Returns:
        Name of the probabilities of tumour, float32 (b, h, w).
    """
    layers = LayersOf(graph, variables, prefix)
    features = ENCODERS[model.encoder](x, model, layers)
    logits = layers.convolution(_decode(features, model, layers), "output")
    return layers.node("Sigmoid", layers.node("ReduceMax", logits, axes=[1], keepdims=0))


def _plain(x: str, model: ModelConfig, layers: LayersOf) -> list[str]:
    features = []
    for level in range(model.levels):
        x = _block(x, f"down{level}", model, layers)
        features.append(x)
        x = layers.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        if model.norm == "pool":
            x = layers.normalised(x, f"norm{level}")
    return [*features, _block(x, "bottom", model, layers)]


def _efficientnet_lite0(x: str, model: ModelConfig, layers: LayersOf) -> list[str]:
    features = [x]
    x = layers.node("Sub", layers.node("Mul", x, layers.graph.number(2.0)), layers.graph.number(1.0))
    stem = f"{PREFIX}stem"
    x = layers.relu6(layers.convolution(x, f"{stem}/conv_stem", stride=2, norm=f"{stem}/bn1"))
    channels = STEM
    for number, stage in enumerate(STAGES):
        for place in range(stage.repeats):
            stride = stage.stride if place == 0 else 1
            block = f"{PREFIX}block{number}_{place}"
            norms = iter(f"{block}/bn{n}" for n in (1, 2, 3))
            y, widens = x, stage.expansion > 1
            if widens:
                y = layers.relu6(layers.convolution(y, f"{block}/conv_pw", norm=next(norms)))
            y = layers.convolution(y, f"{block}/conv_dw", stride=stride, norm=next(norms), depthwise=True)
            narrow = f"{block}/{'conv_pwl' if widens else 'conv_pw'}"
            y = layers.convolution(layers.relu6(y), narrow, norm=next(norms))
            x = layers.node("Add", x, y) if stride == 1 and channels == stage.features else y
            channels = stage.features
        if number in LAST_OF_SIZE:
            features.append(x)
    return features


ENCODERS: dict[str, Callable[[str, ModelConfig, LayersOf], list[str]]] = {
    "plain": _plain,
    "efficientnet_lite0": _efficientnet_lite0,
}
"""Functions from the input's name to those of the features, which are as `models.encoders.table` says."""


def _decode(features: Sequence[str], model: ModelConfig, layers: LayersOf) -> str:
    *skips, x = features
    for level in reversed(range(len(skips))):
        x = layers.transposed(x, f"transpose{level}")
        x = _block(layers.node("Concat", x, skips[level], axis=1), f"up{level}", model, layers)
    return x


def _block(x: str, name: str, model: ModelConfig, layers: LayersOf) -> str:
    for i in range(2):
        norm = f"{name}/norm{i}" if model.norm == "conv" else None
        x = layers.relu(layers.convolution(x, f"{name}/conv{i}", norm=norm))
    return x
