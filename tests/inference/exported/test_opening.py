"""Exported files as networks: probabilities by hand, what is told of them, and files that are not as written."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import unet_jax
from tests.helpers.commands import loaded_by
from tests.helpers.exported import METADATA, SIZE, expected_probs, write_onnx
from unet_jax import crossval, eval, predict, train
from unet_jax.config import UserError
from unet_jax.imaging.resize import percentiles
from unet_jax.inference.exported.metadata import to_text
from unet_jax.inference.exported.opening import is_exported, open_exported
from unet_jax.runs.model_folder import model_path


@pytest.fixture(scope="module")
def ramp():
    """A slice at the network's size whose columns brighten from 0 to 310; its rows are alike."""
    return np.tile(np.arange(SIZE, dtype=np.int16) * 10, (SIZE, 1))


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(3).integers(0, 4000, (5, SIZE, SIZE)).astype(np.float32)


# Probabilities


def test_probabilities_by_hand(exported_file, ramp):
    """Of 1024 pixels in steps of 32 the 1st and 99th percentile are the first and last column: 0 and 310."""
    assert percentiles(ramp) == (0, 310)
    mask, probs = unet_jax.load(exported_file).predict(ramp)
    # In column c > 0 the mean is (2c - 1) / 62 of full brightness; in column 0 it is 0.
    logits = 8 * ((2 * np.arange(SIZE) - 1) / 62 - 0.5)
    logits[0] = -4
    np.testing.assert_allclose(probs, np.tile(1 / (1 + np.exp(-logits)), (SIZE, 1)), atol=1e-6)
    # The threshold is 0.4, a logit of -0.405: (2c - 1) / 62 >= 0.4493, c >= 14.43.
    np.testing.assert_array_equal(mask, np.tile(np.arange(SIZE) >= 15, (SIZE, 1)))


def test_mirror_images_have_the_limits_of_the_slice(exported_file, noise):
    network = open_exported(exported_file).network
    p1, p99 = np.array([100.0, 50, 0, 7, 1]), np.array([3000.0, 3900, 3000, 3500, 2000])
    probs = network.probabilities(noise, p1, p99, tta=True)
    for i, image in enumerate(noise):
        own = expected_probs(image, p1[i], p99[i])
        mirrored = expected_probs(image[:, ::-1], p1[i], p99[i])[:, ::-1]
        np.testing.assert_allclose(probs[i], (own + mirrored) / 2, atol=1e-6)
        assert np.abs(own - mirrored).max() > 0.1
    assert probs.dtype == np.float32


def test_limits_that_are_not_given_are_the_images(exported_file, noise):
    network = open_exported(exported_file).network
    given = np.percentile(noise, (1, 99), axis=(1, 2))
    lacking = np.full((2, 5), np.nan, np.float32)
    one, other = (network.probabilities(noise, *limits, tta=False) for limits in (given, lacking))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_batches_of_any_size_give_the_same(exported_file, noise):
    """Slices of other sizes go to the network's and back, and the last batch is filled up."""
    predictor = unet_jax.load(exported_file)
    images = [np.kron(image, np.ones((2, 2))).astype(np.int16)[:, :50] for image in noise]
    whole = predictor.predict(images, batch_size=5).probs
    for batch_size in (1, 2, 4):
        for one, other in zip(predictor.predict(images, batch_size).probs, whole, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    assert whole[0].shape == (64, 50)


# What is told of them


def test_a_network_is_what_its_metadata_say(exported_file):
    network, postprocess = open_exported(exported_file)
    assert (network.model_name, network.size, network.threshold, network.step) == ("neighbours", SIZE, 0.4, 7)
    assert (network.sha256, network.precision, network.fixed_max) == ("d" * 64, "float32", None)
    assert network.library == {".onnx": "onnxruntime", ".stablehlo": "StableHLO"}[exported_file.suffix]
    assert postprocess == METADATA.postprocess


def test_a_network_that_takes_intensities_as_they_are_has_their_maximum(tmp_path):
    about = to_text(METADATA) | {"preprocess": '{"kind": "fixed", "scale": 1000.0}'}
    network = open_exported(write_onnx(tmp_path / "a.onnx", metadata=about)).network
    assert network.fixed_max == 4000


@pytest.mark.parametrize("given", ["a.onnx", "runs/b.ONNX", "c.stablehlo"])
def test_files_are_told_by_their_suffix(given, tmp_path):
    assert is_exported(given)
    (tmp_path / "run.onnx").mkdir()
    assert not is_exported(tmp_path / "run.onnx") and not is_exported("runs/a")


# The command and `load`


@pytest.fixture
def scans(tmp_path, ramp):
    folder = tmp_path / "scans"
    folder.mkdir()
    Image.fromarray(ramp.astype(np.uint16)).save(folder / "ramp.png")
    spot = np.zeros((SIZE, SIZE), np.uint16)
    spot[8:20, 8:20] = 3000
    spot[26:28, 26:28] = 3000
    Image.fromarray(spot).save(folder / "spot.png")
    return folder


def run(scans, out, *more):
    return predict.main(["--input", str(scans), "--output", str(out), *map(str, more)])


def test_predict_takes_an_exported_file(exported_file, scans, tmp_path, capsys):
    assert run(scans, tmp_path / "a", "--model", exported_file, "--postprocess") == 0
    assert "threshold 0.4 (chosen on validation), model neighbours.\n" in capsys.readouterr().out
    mask = np.asarray(Image.open(tmp_path / "a/ramp.png"))
    np.testing.assert_array_equal(mask, np.tile(np.where(np.arange(SIZE) >= 15, 255, 0), (SIZE, 1)))
    # A pixel with a dark left neighbour has a mean of one half, and so have dark ones with a bright one: 0.5 >= 0.4.
    spot = np.zeros((SIZE, SIZE))
    spot[8:20, 8:21] = 255
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a/spot.png")), spot)
    made = json.loads((tmp_path / "a/predictions.json").read_text())
    assert made["networks"] == [{"model": "neighbours", "step": 7, "sha256": "d" * 64}]
    assert made["precision"] == "float32"

    assert run(scans, tmp_path / "b", "--workdir", exported_file) == 0
    spot[26:28, 26:29] = 255
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b/spot.png")), spot)


def test_what_was_done_by_another_library_is_not_gone_on_with(onnx_file, stablehlo_file, scans, tmp_path, capsys):
    again = (scans, tmp_path / "out", "--skip-existing", "--model")
    assert run(*again, onnx_file) == run(*again, onnx_file) == 0
    assert "2 files skipped as done before" in capsys.readouterr().out
    with pytest.raises(UserError, match="made with library onnxruntime instead of StableHLO"):
        run(*again, stablehlo_file)


def test_onnx_is_predicted_without_jax(onnx_file, scans, tmp_path):
    said, loaded = loaded_by(
        "from unet_jax.predict import main; main(sys.argv[1:])",
        *("--model", onnx_file, "--input", scans, "--output", tmp_path / "out", "--tta"),
    )
    assert said.startswith("2 of 2 images predicted, 2 with tumour")
    assert {"onnxruntime", "numpy", "PIL"} <= loaded
    assert loaded & {"jax", "flax", "orbax", "optax", "safetensors", "scipy", "h5py", "onnx", "matplotlib"} == set()


def test_load_takes_models_in_the_place_of_a_workdir(onnx_file, tmp_path, monkeypatch):
    assert unet_jax.load(onnx_file).name == unet_jax.load(model=str(onnx_file)).name == "model neighbours"
    assert unet_jax.load("best").name == "model best"
    copy = tmp_path / "copy"
    shutil.copytree(model_path("best"), copy)
    assert unet_jax.load(copy).name == "model copy"
    # A folder of that name goes before the package's model, where a workdir is asked for.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best").mkdir()
    with pytest.raises(UserError, match=r"best/config\.json does not exist; expected a workdir"):
        unet_jax.load("best")


@pytest.mark.parametrize(
    ("given", "named", "message"),
    [
        (["FILE"], {"checkpoint": "latest"}, "--checkpoint is latest, but .* has one set of weights"),
        (["best"], {"checkpoint": "latest"}, "--checkpoint is latest, but a model has one set of weights"),
        (["FILE"], {"uncertainty": True}, "has no dropout in its graph"),
        (["runs/a", "FILE"], {}, "is an exported file, which is used alone"),
        (["runs/a"], {"model": "FILE"}, r"a model \(.*\) and workdirs \(runs/a\) were both given"),
        (["FILE"], {"model": "best"}, r"a model \(best\) and workdirs \(.*\) were both given"),
        (["none.onnx"], {}, r"none\.onnx cannot be read \(No such file"),
    ],
)
def test_what_an_exported_file_does_not_give(exported_file, given, named, message):
    def filled(x):
        return exported_file if x == "FILE" else x

    with pytest.raises(UserError, match=message) as raised:
        unet_jax.load(*map(filled, given), **{name: filled(value) for name, value in named.items()})
    assert "\n" not in str(raised.value)


def test_other_commands_say_what_they_take_instead(onnx_file, tiny_data, tmp_path):
    scored = ["--data", str(tiny_data), "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"is an exported file, which `unet_jax.predict` and .* Give the workdir or"):
        eval.main(["--model", str(onnx_file), *scored])
    with pytest.raises(UserError, match="expected a workdir"):
        eval.main(["--workdir", str(onnx_file)])
    for command in (train, crossval):
        with pytest.raises(UserError, match=r"--init-from is .*\.onnx; expected the workdir of a trained run"):
            command.main(["--workdir", str(tmp_path / "w"), "--data", str(tiny_data), "--init-from", str(onnx_file)])
