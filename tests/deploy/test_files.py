"""ONNX and StableHLO files against the networks that they are made of, computed in float32."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from jax import export as jax_export

from unet_jax import export
from unet_jax.config import ModelConfig, PreprocessConfig, UserError, preset
from unet_jax.deploy import onnx_networks
from unet_jax.deploy.files import describe
from unet_jax.deploy.onnx import write_onnx
from unet_jax.deploy.stablehlo import write_stablehlo
from unet_jax.inference.exported.metadata import Metadata, from_text, to_text
from unet_jax.inference.programs import make_predict
from unet_jax.models.encoders.table import ENCODERS
from unet_jax.models.network import abstract_variables
from unet_jax.runs.networks import open_networks
from unet_jax.runs.trained import TrainedNetwork
from unet_jax.scoring.components import Postprocess

PLAIN = ModelConfig(width=4, levels=2)
LITE = replace(preset("best").model, decoder_widths=(4, 4, 4, 8, 8), encoder_weights="none")

Function = Callable[[np.ndarray, np.ndarray], np.ndarray]


def network_of(model: ModelConfig, prep: PreprocessConfig = PreprocessConfig(), seed: int = 0) -> TrainedNetwork:  # noqa: B008
    """A network of drawn weights and statistics, whose probabilities are spread over 0 to 1."""
    rng = np.random.default_rng(seed)

    def drawn(path: Any, like: Any) -> np.ndarray:
        name = path[-1].key
        if name == "kernel":
            depthwise = like.shape[2] == 1 and path[-2].key == "conv_dw"
            inputs = np.prod(like.shape[:2]) if depthwise else np.prod(like.shape[:3])
            scale = 8 if path[-2].key == "output" else 1
            return rng.normal(0, scale * np.sqrt(2 / inputs), like.shape).astype(np.float32)
        low, high = (0.5, 1.5) if name in ("scale", "var") else (-0.3, 0.3)
        return rng.uniform(low, high, like.shape).astype(np.float32)

    return TrainedNetwork(
        path=Path(f"run{seed}"),
        model_name=None,
        model=model,
        preprocess=prep,
        size=64,
        intensity_max=4000,
        step=7 + seed,
        seed=seed,
        data_digest="d" * 64,
        sha256=f"{seed}" * 64,
        variables=jax.device_put(jax.tree_util.tree_map_with_path(drawn, abstract_variables(model))),
        threshold=0.25 + seed / 10,
        threshold_note=None,
        postprocess=Postprocess(8, fill_holes=seed == 0),
    )


def slices(b: int, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth raw intensities, and limits that are not the images' own."""
    rng = np.random.default_rng(b + h + w)
    images = np.cumsum(rng.normal(0, 300, (b, h, w)), axis=1) + np.cumsum(rng.normal(0, 300, (b, h, w)), axis=2)
    images = (images - images.min() + 100 * rng.integers(0, 9, (b, 1, 1))).astype(np.float32)
    low, high = np.quantile(images, 0.1, axis=(1, 2)), np.quantile(images, 0.85, axis=(1, 2))
    return images, np.stack([low, high], axis=1).astype(np.float32)


def checkpoint(network: TrainedNetwork, images: np.ndarray, limits: np.ndarray) -> np.ndarray:
    model = replace(network.model, precision="float32")
    predict = make_predict(model, network.preprocess, onednn=False)
    return np.asarray(predict(network.variables, images, limits[:, 0], limits[:, 1]))


def read(path: Path) -> Function:
    """Open an exported file with nothing of this program."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda image, limits: np.asarray(session.run(None, {"image": image, "limits": limits})[0])
    program = jax_export.deserialize(bytearray(path.read_bytes()))
    call = jax.jit(program.call)
    return lambda image, limits: np.asarray(call(image, limits))


def written(path: Path, *networks: TrainedNetwork) -> Function:
    write = write_onnx if path.suffix == ".onnx" else write_stablehlo
    write(path, networks, describe(networks))
    return read(path)


@pytest.fixture(params=["n.onnx", "n.stablehlo"])
def file(request, tmp_path) -> Path:
    return tmp_path / request.param


def test_every_encoder_can_be_exported():
    assert onnx_networks.ENCODERS.keys() == ENCODERS.keys()


@pytest.mark.parametrize(
    "model",
    [
        PLAIN,
        replace(PLAIN, norm="conv", levels=3, decoder_widths=(3, 5, 7)),
        replace(PLAIN, norm="none", classes=3),
        replace(PLAIN, precision="bfloat16", remat=True, dropout=0.5),
        LITE,
        pytest.param(replace(LITE, norm="pool", classes=3, remat=True), marks=pytest.mark.slow),
    ],
    ids=["pool", "conv", "classes", "bfloat16", "lite0", "lite0-classes"],
)
def test_probabilities_are_those_of_the_checkpoint(file, model):
    network = network_of(model)
    compute = written(file, network)
    for shape in ((1, 32, 32), (3, 64, 96)):
        images, limits = slices(*shape)
        expected = checkpoint(network, images, limits)
        assert expected.std() > 0.05 and expected.shape == shape
        got = compute(images, limits)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
        # A mask differs nowhere but where a probability is as near to the threshold as the two are to each other.
        differ = (got >= network.threshold) != (expected >= network.threshold)
        assert (np.abs(expected - network.threshold)[differ] <= 1e-5).all()


@pytest.mark.parametrize("name", ["demo", "best", pytest.param("original", marks=pytest.mark.slow)])
def test_every_preset_can_be_exported(file, name):
    network = network_of(replace(preset(name).model, encoder_weights="none"))
    images, limits = slices(1, 32, 32)
    expected = checkpoint(network, images, limits)
    np.testing.assert_allclose(written(file, network)(images, limits), expected, rtol=0, atol=1e-5)


def test_a_limit_that_is_missing_is_the_images_own(file):
    network = network_of(PLAIN)
    compute = written(file, network)
    for shape in ((2, 16, 24), (1, 4, 4), (2, 64, 64)):
        images, limits = slices(*shape)
        own = np.percentile(images.reshape(shape[0], -1).astype(np.float64), (1, 99), axis=1).T.astype(np.float32)
        nothing = np.full_like(limits, np.nan)
        np.testing.assert_allclose(compute(images, nothing), checkpoint(network, images, own), rtol=0, atol=1e-5)
        # Of the others each is as given: the first slice's upper one is missing alone.
        some, expected = limits.copy(), limits.copy()
        some[0, 1], expected[0, 1] = np.nan, own[0, 1]
        np.testing.assert_allclose(compute(images, some), checkpoint(network, images, expected), rtol=0, atol=1e-5)


def test_a_picture_of_one_value_is_zeros(file):
    network = network_of(PLAIN)
    compute = written(file, network)
    images = np.full((1, 16, 16), 700, np.float32)
    zeros, limits = np.zeros_like(images), np.array([[0, 1]], np.float32)
    got = compute(images, np.full((1, 2), np.nan, np.float32))
    np.testing.assert_allclose(got, checkpoint(network, zeros, limits), rtol=0, atol=1e-5)


def test_a_network_that_takes_intensities_as_they_are_ignores_limits(file):
    network = network_of(PLAIN, PreprocessConfig(kind="fixed", scale=5000.0))
    compute = written(file, network)
    images, limits = slices(2, 16, 24)
    expected = checkpoint(network, images, limits)
    assert expected.std() > 0.05
    for given in (limits, np.full_like(limits, np.nan), limits * 0):
        np.testing.assert_allclose(compute(images, given), expected, rtol=0, atol=1e-5)


def test_several_networks_are_averaged(file):
    networks = [network_of(PLAIN), network_of(replace(PLAIN, width=3, levels=3), seed=1)]
    compute = written(file, *networks)
    images, limits = slices(2, 16, 24)
    expected = np.mean([checkpoint(network, images, limits) for network in networks], axis=0)
    np.testing.assert_allclose(compute(images, limits), expected, rtol=0, atol=1e-5)
    metadata = describe(networks)
    assert (metadata.name, metadata.stride, metadata.step) == ("run0, run1", 8, 8)
    assert metadata.threshold == pytest.approx(0.3) and metadata.postprocess == Postprocess(8, False)
    assert metadata.digest == hashlib.sha256(f"{'0' * 64}\n{'1' * 64}".encode()).hexdigest()
    with pytest.raises(UserError, match=r"run0 has classes \('tumor',\) and run1 has \('meningioma'"):
        describe([networks[0], network_of(replace(PLAIN, classes=3), seed=1)])


def test_the_onnx_file_says_what_it_is(tmp_path):
    network = network_of(replace(LITE, encoder_weights="/home/me/lite0.safetensors"))
    write_onnx(tmp_path / "n.onnx", [network], describe([network]))
    model = onnx.load(tmp_path / "n.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [opset.version for opset in model.opset_import] == [17] and model.producer_name == "unet-jax"

    def signature(values: Any) -> list[tuple[str, list[str | int]]]:
        assert all(v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for v in values)
        return [(v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]) for v in values]

    assert signature(model.graph.input) == [("image", ["batch", "height", "width"]), ("limits", ["batch", 2])]
    assert signature(model.graph.output) == [("probs", ["batch", "height", "width"])]
    texts = {entry.key: entry.value for entry in model.metadata_props}
    assert {"size", "threshold", "classes", "stride", "preprocess", "postprocess", "recipe", "digest"} <= texts.keys()
    assert (texts["size"], texts["threshold"], texts["stride"], texts["digest"]) == ("64", "0.25", "32", "0" * 64)
    assert from_text(texts, "n.onnx") == describe([network])
    (recipe,) = json.loads(texts["recipe"])
    assert recipe["model"]["encoder_weights"] == "lite0.safetensors" and recipe["step"] == 7
    # A normalisation is part of the convolution before it, and channels convolved apart are one grouped convolution.
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds and kinds.count("ConvTranspose") == 5
    groups = [a.i for node in model.graph.node for a in node.attribute if a.name == "group" and a.i > 1]
    assert len(groups) == 16 and max(groups) == 1152


def test_the_stablehlo_file_has_its_metadata_beside_it(tmp_path):
    network = network_of(PLAIN)
    path = tmp_path / "n.stablehlo"
    write_stablehlo(path, [network], describe([network]))
    program = jax_export.deserialize(bytearray(path.read_bytes()))
    assert set(program.platforms) == {"cpu", "cuda"}
    found = json.loads((tmp_path / "n.stablehlo.json").read_text())
    assert found.pop("sha256") == hashlib.sha256(path.read_bytes()).hexdigest()
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items()}
    assert texts == to_text(describe([network]))


# The command


def test_the_command_exports_what_was_trained(trained, file, capsys):
    assert export.main(["--workdir", str(trained), "--out", str(file)]) == 0
    said = capsys.readouterr().out
    (network,) = open_networks([trained])
    assert f"{trained.name} at 32x32, threshold {network.threshold:g}" in said and f"--model {file}" in said
    images, limits = slices(2, 32, 32)
    np.testing.assert_allclose(read(file)(images, limits), checkpoint(network, images, limits), rtol=0, atol=1e-5)
    before = file.read_bytes()
    assert export.main(["--workdir", str(trained), "--out", str(file)]) == 0
    # A program of StableHLO also has the places in the source that its tracing went through.
    assert file.suffix == ".stablehlo" or file.read_bytes() == before
    assert export.main(["--workdir", str(trained), str(trained), "--out", str(file)]) == 0
    np.testing.assert_allclose(read(file)(images, limits), checkpoint(network, images, limits), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_packages_own_network_is_exported_to_all_forms(tmp_path):
    for name in ("best.onnx", "best.stablehlo", "best"):
        assert export.main(["--model", "best", "--out", str(tmp_path / name)]) == 0
    (network,) = open_networks((), model=tmp_path / "best")
    images, limits = slices(1, 64, 64)
    expected = checkpoint(network, images, limits)
    for name in ("best.onnx", "best.stablehlo"):
        np.testing.assert_allclose(read(tmp_path / name)(images, limits), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "neither --workdir nor --model was given"),
        (["--model", "best", "--workdir", "W"], "were both given"),
        (["--workdir", "W", "--dtype", "float16"], "--dtype is for a folder. Leave out --dtype, or give a folder."),
        (["--model", "best", "--summary", "s.json"], "--summary is for a folder"),
        (["--workdir", "nowhere"], "nowhere"),
        (["--model", "nothing"], "there is no model nothing"),
        (["--model", "best", "--checkpoint", "latest"], "a model has one set of weights"),
    ],
)
def test_what_cannot_be_a_file_is_named(tmp_path, options, message):
    with pytest.raises(UserError) as e:
        export.main([*options, "--out", str(tmp_path / "n.onnx")])
    assert message in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_one_network_and_is_no_file(trained, tmp_path):
    for options, message in (
        (["--workdir", str(trained), str(trained), "--out", str(tmp_path / "m")], "a folder takes one network"),
        (["--model", "best", "--out", str(tmp_path / "m"), "--data", "d"], "--data is for a --workdir"),
        (["--model", "best", "--out", str(tmp_path / "m"), "--checkpoint", "3"], "a model has one set of weights"),
    ):
        with pytest.raises(UserError) as e:
            export.main(options)
        assert message in str(e.value)
    (tmp_path / "n.onnx").mkdir()
    with pytest.raises(UserError, match=r"n\.onnx, which is a folder"):
        export.main(["--model", "best", "--out", str(tmp_path / "n.onnx")])


def test_a_suffix_in_capitals_means_the_same(trained, tmp_path):
    assert export.main(["--workdir", str(trained), "--out", str(tmp_path / "N.ONNX")]) == 0
    onnx.checker.check_model(onnx.load(tmp_path / "N.ONNX", format="protobuf"))


def test_a_file_that_cannot_be_written_leaves_the_one_that_was_there(trained, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="taken"):
        export.main(["--workdir", str(trained), "--out", str(tmp_path / "taken" / "n.onnx")])


def test_metadata_of_a_run_without_a_threshold_is_refused():
    network = replace(network_of(PLAIN), threshold=None, threshold_note="none was chosen on validation")
    with pytest.raises(UserError, match=r"run0 has no threshold for step 7: none was chosen"):
        describe([network])
    assert isinstance(describe([network_of(PLAIN)]), Metadata)
