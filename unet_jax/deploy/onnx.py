"""Trained networks as one ONNX graph: from raw intensities to the probability of tumour, averaged over them."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

import unet_jax
from unet_jax.config import PreprocessConfig
from unet_jax.deploy.graph import Graph
from unet_jax.deploy.onnx_networks import probabilities
from unet_jax.inference.exported.metadata import Metadata, to_text
from unet_jax.runs.trained import TrainedNetwork
from unet_jax.shared.files import replacing

OPSET, IR_VERSION = 17, 8
"""Versions of ONNX that the file asks for; programs since 2022 know them."""


def write_onnx(path: Path, networks: Sequence[TrainedNetwork], metadata: Metadata) -> None:
    """Write networks to an ONNX file that `onnx.checker` passes; it appears whole or not at all.

    Args:
        path: to write; a file there is replaced.
        networks: at least one; their parameters stand in the file as float32.
        metadata: what the file says of them.
    """
    with replacing(path) as f:
        f.write(build(networks, metadata).SerializeToString())


def build(networks: Sequence[TrainedNetwork], metadata: Metadata) -> ModelProto:
    """Build the graph of networks, as `write_onnx`.

    Its inputs: `image` (b, h, w) float32, raw intensities, and `limits` (b, 2) float32, the 1st and 99th percentile of
    the slice at its native size; one that is NaN is that of the image. Its output: `probs` (b, h, w) float32.
    """
    graph = Graph()
    x = _preprocessed(graph, metadata.preprocess)
    each = []
    for number, network in enumerate(networks):
        prefix = f"network{number}/" if len(networks) > 1 else ""
        each.append(probabilities(graph, x, network.model, network.variables, prefix))
    graph.nodes.append(helper.make_node("Mean" if len(each) > 1 else "Identity", each, ["probs"], name="probs"))
    slices = ("batch", "height", "width")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            metadata.name,
            [_value("image", *slices), _value("limits", "batch", 2)],
            [_value("probs", *slices)],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="unet-jax",
        producer_version=unet_jax.__version__,
    )
    helper.set_model_props(model, to_text(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


def _value(name: str, *shape: str | int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _preprocessed(graph: Graph, config: PreprocessConfig) -> str:
    """Add what `models.preprocess` does; give the name of the network's input, (b, 1, h, w)."""
    if config.kind == "fixed":
        x = graph.node("Div", "image", graph.number(config.scale))
    else:
        limits = graph.node("Unsqueeze", _limits(graph), graph.integers(2))
        low, high = graph.several("Split", 2, limits, axis=1)
        span = graph.node("Sub", high, low)
        is_wide = graph.node("Greater", span, graph.number(0.0))
        x = graph.node("Div", graph.node("Sub", "image", low), graph.node("Where", is_wide, span, graph.number(1.0)))
        x = graph.node("Where", is_wide, x, graph.number(0.0))
    return graph.node("Unsqueeze", graph.node("Clip", x, graph.number(0.0), graph.number(1.0)), graph.integers(1))


def _limits(graph: Graph) -> str:
    """Add the choice of `limits`, or, where any is NaN, of the image's own percentiles in place of those."""
    missing = graph.node("IsNaN", "limits")
    number = graph.node("ReduceMax", graph.node("Cast", missing, to=TensorProto.INT32), keepdims=0)
    branches = {}
    for name, own in (("given", False), ("own", True)):
        branch = Graph(f"{name}/")
        given = ("Where", missing, _percentiles(branch), "limits") if own else ("Identity", "limits")
        limits = branch.node(*given)
        output = _value(limits, "batch", 2)
        branches[own] = helper.make_graph(branch.nodes, name, [], [output], branch.weights)
    any_missing = graph.node("Cast", number, to=TensorProto.BOOL)
    return graph.node("If", any_missing, name="limits_used", then_branch=branches[True], else_branch=branches[False])


def _percentiles(graph: Graph) -> str:
    """Add the 1st and 99th percentile of each image, (b, 2).

    The q-th lies at place (n - 1) q / 100 of the n sorted values, between two of them; the 99th as far from the end as
    the 1st from the beginning. So it takes a hundredth of the values, from either side.
    """
    pixels = graph.node("Reshape", "image", graph.integers(0, -1))
    last = graph.node("Sub", graph.node("Shape", pixels, start=1, end=2), graph.integers(1))
    hundred = graph.integers(100)
    place = graph.node("Div", last, hundred, name="place")
    rest = graph.node("Cast", graph.node("Mod", last, hundred), to=TensorProto.FLOAT)
    share = graph.node("Div", rest, graph.number(100.0))
    behind = graph.node("Add", place, graph.integers(2))
    found = []
    for largest in (0, 1):
        values, _ = graph.several("TopK", 2, pixels, behind, axis=1, largest=largest)
        around = graph.node("Slice", values, place, behind, graph.integers(1))
        near, far = graph.several("Split", 2, around, axis=1)
        found.append(graph.node("Add", near, graph.node("Mul", graph.node("Sub", far, near), share)))
    return graph.node("Concat", *found, axis=1)
