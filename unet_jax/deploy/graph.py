"""Nodes of an ONNX graph as they are built, and the layers of networks in them, channels first: (b, c, h, w).

Parameters are those of the network's variables. Their products are formed in float64 and rounded once.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from onnx import NodeProto, TensorProto, helper, numpy_helper

from unet_jax.models.batch_norm import EPSILON
from unet_jax.models.depthwise import same_padding

Arrays = Mapping[str, Any]
"""Parameters or statistics of one layer, by name."""


class Graph:
    """Nodes, and the weights that they take, in the order of their making. A value is known by its name."""

    def __init__(self, prefix: str = "") -> None:
        """Make an empty graph; `prefix` goes before all names in it, as those of a part of another one."""
        self._prefix = prefix
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._names: Counter[str] = Counter()
        self._constants: dict[str, str] = {}

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node of one output, called `name` or after its kind; give the output's name."""
        return self.several(kind, 1, *inputs, name=name, **attributes)[0]

    def several(self, kind: str, count: int, *inputs: str, name: str = "", **attributes: Any) -> list[str]:
        """Add a node of `count` outputs as `node` does; give their names."""
        outputs = [self._unique(name or kind.lower()) for _ in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))
        return outputs

    def weight(self, value: Any, name: str, dtype: type = np.float32) -> str:
        """Add a constant array; give its name."""
        name = self._unique(name)
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def number(self, value: float) -> str:
        """Add a constant float32, the same one where it is there already; give its name."""
        return self._constant(f"float_{value:g}", value, np.float32)

    def integers(self, *values: int) -> str:
        """Add a constant list of int64, the same one where it is there already; give its name."""
        return self._constant(f"int_{'_'.join(map(str, values))}", values, np.int64)

    def _constant(self, name: str, value: Any, dtype: type) -> str:
        if name not in self._constants:
            self._constants[name] = self.weight(value, name, dtype)
        return self._constants[name]

    def _unique(self, name: str) -> str:
        name = self._prefix + name
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"


class LayersOf:
    """Maker of the layers of one network in a graph, by the names of its variables."""

    def __init__(self, graph: Graph, variables: Mapping[str, Any], prefix: str) -> None:
        """Take `params` and `batch_stats` of a network; `prefix` goes before the names of its nodes."""
        self.graph = graph
        self._params, self._stats, self._prefix = variables["params"], variables["batch_stats"], prefix

    def params(self, layer: str) -> Arrays:
        """Find the parameters of a layer such as `up0/conv0`."""
        return _find(self._params, layer)

    def stats(self, layer: str) -> Arrays:
        """Find the running mean and variance of a layer."""
        return _find(self._stats, layer)

    def convolution(
        self, x: str, layer: str, *, stride: int = 1, norm: str | None = None, depthwise: bool = False
    ) -> str:
        """Convolve with padding SAME, sides being multiples of the stride, and normalise as the layer `norm` does."""
        params = self.params(layer)
        kernel, bias = _folded(params, None if norm is None else (self.params(norm), self.stats(norm)))
        size, _, _, features = kernel.shape
        low, high = same_padding(stride * size, size, stride)
        inputs = [x, self.weight(kernel.transpose(3, 2, 0, 1), f"{layer}/kernel")]
        if bias is not None:
            inputs.append(self.weight(bias, f"{layer}/bias"))
        return self.node(
            "Conv",
            *inputs,
            name=layer,
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[low, low, high, high],
            group=features if depthwise else 1,
        )

    def transposed(self, x: str, layer: str) -> str:
        """Convolve transposed, 3x3 with stride 2, as `models.layers.ConvTranspose`, whose kernel is mirrored."""
        params = self.params(layer)
        kernel = np.asarray(params["kernel"])[::-1, ::-1].transpose(2, 3, 0, 1)
        return self.node(
            "ConvTranspose",
            x,
            self.weight(kernel, f"{layer}/kernel"),
            self.weight(params["bias"], f"{layer}/bias"),
            name=layer,
            kernel_shape=[3, 3],
            strides=[2, 2],
            pads=[0, 0, 1, 1],
        )

    def normalised(self, x: str, layer: str) -> str:
        """Normalise by the running statistics, where no convolution stands before."""
        params, stats = self.params(layer), self.stats(layer)
        values = (params["scale"], params["bias"], stats["mean"], stats["var"])
        names = ("scale", "bias", "mean", "var")
        weights = [self.weight(value, f"{layer}/{name}") for name, value in zip(names, values, strict=True)]
        return self.node("BatchNormalization", x, *weights, name=layer, epsilon=EPSILON)

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node under the network's prefix."""
        return self.graph.node(kind, *inputs, name=self._prefix + (name or kind.lower()), **attributes)

    def weight(self, value: Any, name: str) -> str:
        """Add a float32 constant under the network's prefix."""
        return self.graph.weight(value, self._prefix + name)

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def relu6(self, x: str) -> str:
        return self.node("Clip", x, self.graph.number(0.0), self.graph.number(6.0), name="relu6")


def _find(tree: Mapping[str, Any], layer: str) -> Arrays:
    for part in layer.split("/"):
        tree = tree[part]
    return tree


def _folded(
    params: Arrays, norm: tuple[Arrays, Arrays] | None
) -> tuple[Float[np.ndarray, "k k i o"], Float[np.ndarray, " o"] | None]:
    """Give kernel and bias of a convolution that does the work of the normalisation behind it too."""
    kernel = np.asarray(params["kernel"], np.float64)
    bias = np.asarray(params["bias"], np.float64) if "bias" in params else None
    if norm is None:
        return kernel, bias
    scaling, stats = ({name: np.asarray(x, np.float64) for name, x in arrays.items()} for arrays in norm)
    factor = scaling["scale"] / np.sqrt(stats["var"] + EPSILON)
    before = 0.0 if bias is None else bias
    return kernel * factor, (before - stats["mean"]) * factor + scaling["bias"]
