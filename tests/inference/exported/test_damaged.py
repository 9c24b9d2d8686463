"""Exported files that are damaged, hostile, or another program's: one line each that names the file."""

import json
import random
import shutil
from dataclasses import asdict

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import unet_jax
from tests.helpers.exported import GRAPH, METADATA, SIZE, write_beside, write_onnx
from unet_jax.config import UserError
from unet_jax.inference.exported.metadata import beside, to_text
from unet_jax.inference.exported.tensors import has_external_data


def graph(*changes: tuple[str, str]) -> str:
    text = GRAPH
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 bytes; expected a file of 1"),
        (b"\x89PNG\r\n\x1a\n", "is no ONNX file that onnxruntime runs, or damaged"),
        (b"hello, this is text", "is no ONNX file that onnxruntime runs, or damaged"),
        (bytes(1000), "is no ONNX file that onnxruntime runs, or damaged"),
    ],
)
def test_what_is_no_onnx(tmp_path, content, message):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.onnx {message}") as raised:
        unet_jax.load(tmp_path / "a.onnx")
    assert "\n" not in str(raised.value)


def test_a_folder_of_that_name_is_a_workdir(tmp_path):
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(UserError, match="expected a workdir"):
        unet_jax.load(tmp_path / "a.onnx")


def test_a_file_that_is_cut_off_anywhere(onnx_file, tmp_path):
    whole = onnx_file.read_bytes()
    path = tmp_path / "a.onnx"
    for length in range(1, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as raised:
            unet_jax.load(path)
        assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_with_other_bytes_ends_in_one_line_or_is_run(onnx_file, tmp_path, capfd):
    """Names that are no UTF-8, sides that are negative, nodes of other kinds: 400 files, one to four bytes changed."""
    whole, path, draw = onnx_file.read_bytes(), tmp_path / "a.onnx", random.Random(0)
    run = 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(draw.choice([1, 1, 2, 4])):
            content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
        path.write_bytes(content)
        try:
            probs = unet_jax.load(path).predict(np.eye(SIZE)).probs
        except UserError as e:
            assert str(path) in str(e) and "\n" not in str(e)
        else:
            assert probs.shape == (SIZE, SIZE) and 0 <= probs.min() <= probs.max() <= 1
            run += 1
    assert 5 < run < 100
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (graph(("] image,", "] picture,"), ("(image", "(picture")), "has inputs picture: .*; expected image: "),
        (graph(("2] limits)", "2] limits, float[1] extra)")), "has inputs .*extra: "),
        (graph(("width] probs)", "width] logits)")), "has outputs logits: .*; expected probs: "),
        (graph(("[batch, height, width] image", "[3, height, width] image")), r"of shape \(3, 'height', 'width'\)"),
        (
            graph(("[batch, height, width] image", "[batch, 16, 16] image")),
            r"of shape \('batch', 16, 16\); expected any number of 32x32",
        ),
        (
            graph(('["" : 17]', '["" : 17, "others" : 1]'), ("= Sigmoid", "= others.Sigmoid")),
            "is no ONNX file that onnxruntime runs",
        ),
    ],
)
def test_a_graph_that_is_another(tmp_path, text, message):
    path = write_onnx(tmp_path / "a.onnx", text)
    with pytest.raises(UserError, match=message) as raised:
        unet_jax.load(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (graph(("pads = [1, 1, 1, 1]", "pads = [0, 0, 0, 0]")), r"makes float32 \(1, 30, 30\) of .*\(1, 32, 32\)"),
        (graph(("probs = Sigmoid(logits)", "probs = Add(logits, half)")), "makes values that are no probabilities"),
        (graph(("probs = Sigmoid(logits)", "probs = Sqrt(logits)")), "makes values that are no probabilities"),
        (graph(("flat = {0, -1}", "flat = {7, -1}")), r"cannot be run on float32 \(1, 32, 32\) \("),
    ],
)
def test_a_graph_that_fails_at_work(tmp_path, capfd, text, message):
    predictor = unet_jax.load(write_onnx(tmp_path / "a.onnx", text))
    with pytest.raises(UserError, match=message) as raised:
        predictor.predict(np.eye(SIZE))
    assert "a.onnx" in str(raised.value) and "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": None}, "unknown or missing: size"),
        ({"format_version": None}, "has no metadata of this program"),
        ({"format_version": "2"}, "is of format version 2; this program reads 1"),
        ({"threshold": "1.5"}, "threshold is 1.5; it must be between 0 and 1"),
        ({"postprocess": "{"}, "postprocess is '{', no JSON"),
    ],
)
def test_metadata_that_are_not_as_written(tmp_path, changed, message):
    about = {key: text for key, text in (to_text(METADATA) | changed).items() if text is not None}
    with pytest.raises(UserError, match=message) as raised:
        unet_jax.load(write_onnx(tmp_path / "a.onnx", metadata=about))
    assert "a.onnx" in str(raised.value) and "\n" not in str(raised.value)


# Weights outside the file


def outside(tensor: TensorProto, location: str) -> None:
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def with_branch() -> onnx.ModelProto:
    """A graph with a tensor within a graph that is an attribute of a node."""
    value = numpy_helper.from_array(np.ones(3, np.float32), "value")
    node = helper.make_node("Constant", [], ["one"], value=value)
    output = helper.make_tensor_value_info("one", TensorProto.FLOAT, [3])
    branch = helper.make_graph([node], "branch", [], [output])
    choice = helper.make_node("If", ["yes"], ["one"], then_branch=branch, else_branch=branch)
    yes = helper.make_tensor_value_info("yes", TensorProto.BOOL, [])
    return helper.make_model(helper.make_graph([choice], "outer", [yes], [output]))


@pytest.mark.parametrize("location", ["weights.bin", "../secret", "*/_ORT_MEM_ADDR_/*"])
def test_weights_outside_the_file_are_refused(tmp_path, location):
    model = parser.parse_model(GRAPH)
    outside(next(tensor for tensor in model.graph.initializer if tensor.name == "kernel"), location)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "weights.bin").write_bytes(np.ones(9, np.float32).tobytes())
    with pytest.raises(UserError, match=r"a\.onnx has weights outside the file"):
        unet_jax.load(tmp_path / "a.onnx")


def test_weights_outside_the_file_are_found_wherever_they_are_named():
    model = with_branch()
    assert not has_external_data(model.SerializeToString())
    tensor = model.graph.node[0].attribute[1].g.node[0].attribute[0].t
    tensor.data_location = TensorProto.DEFAULT
    assert not has_external_data(model.SerializeToString())
    outside(tensor, "weights.bin")
    assert has_external_data(model.SerializeToString())

    model = with_branch()
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "few"))
    assert not has_external_data(model.SerializeToString())
    sparse.values.external_data.add(key="location", value="weights.bin")
    assert has_external_data(model.SerializeToString())

    model = with_branch()
    constant = model.graph.node[0].attribute[0].g.node[0]
    model.functions.append(helper.make_function("odd", "f", [], ["one"], [constant], [helper.make_opsetid("", 17)]))
    assert not has_external_data(model.SerializeToString())
    outside(model.functions[0].node[0].attribute[0].t, "weights.bin")
    assert has_external_data(model.SerializeToString())


# The file beside a StableHLO file


@pytest.fixture
def program(stablehlo_file, tmp_path):
    """A copy to be changed."""
    for path in (stablehlo_file, beside(stablehlo_file)):
        shutil.copy(path, tmp_path)
    return tmp_path / stablehlo_file.name


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: beside(p).unlink(), r"stablehlo\.json, which belongs to .*, cannot be read \(No such file"),
        (lambda p: beside(p).write_text("{"), r"stablehlo\.json is not JSON \("),
        (lambda p: beside(p).write_text("[" * 100_000), r"stablehlo\.json is not JSON \("),
        (lambda p: beside(p).write_text("[1]"), "is of another file than"),
        (lambda p: beside(p).write_text(json.dumps(asdict(METADATA))), "is of another file than"),
        (lambda p: p.write_bytes(p.read_bytes() + b"\0"), "is of another file than .*, or either is damaged"),
        (lambda p: write_beside(p, size=0), r"stablehlo\.json: --size is 0"),
        (lambda p: write_beside(p, format_version=2), r"stablehlo\.json is of format version 2"),
    ],
)
def test_what_lies_beside_is_verified(program, spoil, message):
    spoil(program)
    with pytest.raises(UserError, match=message) as raised:
        unet_jax.load(program)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no program", "is no StableHLO file that jax"), (bytes(100), "is no StableHLO file that jax")],
)
def test_what_is_no_program(program, content, message):
    program.write_bytes(content)
    write_beside(program)
    with pytest.raises(UserError, match=message) as raised:
        unet_jax.load(program)
    assert "\n" not in str(raised.value)
