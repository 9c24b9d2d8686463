"""Model folders: written by `export`, read again, and refused where they are not as they were written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import unet_jax
from unet_jax import eval as evaluate
from unet_jax import export, predict, train
from unet_jax.config import UserError, preset, read_config, to_options
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.data.splits import load_split
from unet_jax.deploy.folder import describe
from unet_jax.imaging.formats.mat import read_slice
from unet_jax.imaging.write import write_mask
from unet_jax.runs import model_folder
from unet_jax.runs.model_folder import open_model, read_info, read_training_slices, write_model
from unet_jax.runs.networks import open_run
from unet_jax.training.checkpoints.trees import flatten


def exported(workdir: Path, out: Path, *more: str) -> Path:
    assert export.main(["--workdir", str(workdir), "--out", str(out), *more]) == 0
    return out


@pytest.fixture(scope="module")
def model(trained, tmp_path_factory) -> Path:
    """The network of `trained` in a folder, not to be changed."""
    return exported(trained, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def half(trained, tmp_path_factory) -> Path:
    """The same in float16."""
    return exported(trained, tmp_path_factory.mktemp("models") / "half", "--dtype", "float16")


@pytest.fixture
def copy(model, tmp_path) -> Path:
    shutil.copytree(model, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def images(raw_phantom) -> list[np.ndarray]:
    return [read_slice(raw_phantom / "data" / f"{i}.mat").image for i in (1, 2)]


@pytest.fixture
def shipped(model, tmp_path, monkeypatch) -> Path:
    """A folder of the package's own models with `best` in it."""
    folder = tmp_path / "shipped"
    shutil.copytree(model, folder / "best")
    monkeypatch.setattr(model_folder, "SHIPPED_FOLDER", folder)
    return folder


# What is written


def test_weights_are_stored_under_their_names_in_the_type_asked_for(trained, model, half):
    expected = {name: np.asarray(x) for name, x in flatten(open_run(trained).variables).items()}
    whole, halved = (load_file(folder / "model.safetensors") for folder in (model, half))
    assert whole.keys() == halved.keys() == expected.keys()
    assert {"params/output/kernel", "batch_stats/down0/norm0/mean"} <= whole.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(whole[name], value)
        stored = value.astype(np.float16) if name.startswith("params/") else value
        np.testing.assert_array_equal(halved[name], stored)
        assert halved[name].dtype == stored.dtype


def test_the_configuration_has_what_was_chosen_and_no_place_of_this_computer(trained, model):
    run, info = open_run(trained), read_info(model)
    assert (info.model, info.preprocess, info.size) == (run.config.model, run.config.preprocess, 32)
    assert (info.threshold, info.postprocess) == (run.threshold, run.postprocess)
    assert (info.step, info.checkpoint_sha256, info.data_digest) == (run.step, run.sha256, run.split.data_digest)
    assert (info.classes, info.mask_rule, info.intensity_max) == (("tumor",), "area", run.split.intensity_max)
    for name in ("config.json", "README.md"):
        assert str(trained.parent) not in (model / name).read_text()


@pytest.mark.parametrize(
    ("weights", "named"),
    [("/home/me/lite0.safetensors", "lite0.safetensors"), ("hf:a/b@c", "hf:a/b@c"), ("none", "none")],
)
def test_of_the_encoders_file_the_name_alone_is_kept(trained, tiny_data, weights, named):
    run = open_run(trained)
    run = replace(run, model=replace(run.model, encoder_weights=weights))
    assert describe(run, open_arrays(tiny_data), "float32", run).model == replace(run.model, encoder_weights=named)


def test_the_training_slices_are_those_of_the_split(trained, model, tiny_data):
    arrays, split, keys = open_arrays(tiny_data), load_split(trained / "split.json"), read_training_slices(model)
    rows = split.rows(arrays, "train")
    assert keys.slice.tolist() == sorted(split.train)
    assert [(label, pid.decode()) for _, label, pid in keys.identities()] == [
        (int(arrays.labels[row]), str(arrays.pids[row])) for row in rows
    ]
    assert [bytes(digest).hex() for digest in keys.sha256] == [arrays.sha256[row] for row in rows]


def test_equal_exports_are_equal_bytes_and_an_earlier_one_is_replaced(trained, model, half, tmp_path):
    again = exported(trained, tmp_path / "tiny", "--dtype", "float16")
    files = ("model.safetensors", "config.json", "training_slices.npz")
    assert all((again / name).read_bytes() == (half / name).read_bytes() for name in files)
    exported(trained, again)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in model.iterdir()}


def test_what_cannot_be_exported_is_named(trained, model, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("")
    with pytest.raises(UserError, match=r"other holds a\.txt; --out must be a new folder"):
        exported(trained, tmp_path / "other")
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "threshold.json").unlink()
    with pytest.raises(UserError, match=r"has no threshold for step \d+: none was chosen on validation\. Run"):
        exported(run, tmp_path / "new")
    variables = jax.device_get(open_run(trained).variables)
    variables["params"]["output"]["bias"] = np.array([7e4], np.float32)
    info, keys = read_info(model), read_training_slices(model)
    with pytest.raises(UserError, match=r"params/output/bias has a value of size 70000, and float16 ends at 65504"):
        write_model(tmp_path / "new", replace(info, dtype="float16"), variables, keys, "")
    assert not (tmp_path / "new").exists()


# What is read


def test_a_model_predicts_as_its_workdir(trained, model, half, images):
    run = unet_jax.load(trained, postprocess=True)
    for folder, error in ((model, 0), (half, 2e-3)):
        network = unet_jax.load(model=folder, postprocess=True)
        assert (network.threshold, network.postprocess) == (run.threshold, run.postprocess)
        for ours, theirs in zip(network.predict(images).probs, run.predict(images).probs, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=error, rtol=0)
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(open_model(half).variables))
    assert open_model(half).sha256 != open_model(model).sha256


def spoil_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def spoil_weights(folder, **changes):
    path = folder / "model.safetensors"
    save_file({name: x for name, x in (load_file(path) | changes).items() if x is not None}, path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


WIDE = {"width": 9, "levels": 2, "classes": 1, "norm": "conv", "norm_momentum": 0.8, "dropout": 0.1}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "model.safetensors").unlink(), r"model\.safetensors is missing\. Export"),
        (lambda d: cut(d / "model.safetensors"), r"model\.safetensors (is damaged|has \d+ bytes)"),
        (lambda d: flip(d / "model.safetensors", 6), r"model\.safetensors is damaged"),
        (lambda d: (d / "model.safetensors").write_bytes(b"\0" * 10**7), r"has 10000000 bytes; its config\.json means"),
        (lambda d: spoil_config(d, dtype="float16"), r"has \d+ bytes; its config\.json means|checkpoint has float32"),
        (lambda d: spoil_config(d, model=WIDE), r"has \d+ bytes|checkpoint has"),
        (lambda d: spoil_config(d, model=WIDE | {"width": -1}), r"config\.json: --model\.width is -1; it must be"),
        (lambda d: spoil_config(d, model=WIDE | {"width": 10**12}), r"has \d+ bytes; its config\.json means \d+ and"),
        (
            lambda d: spoil_config(d, model=WIDE | {"width": 10**30}),
            r"config\.json describes a network beyond all sizes",
        ),
        (lambda d: spoil_config(d, size=33), r"config\.json: image is 33x33; both sides must be multiples of 4"),
        (lambda d: spoil_config(d, threshold=1.5), r"config\.json: --threshold is 1\.5; it must be between 0 and 1"),
        (lambda d: spoil_config(d, classes=["a", "b"]), r"config\.json: --classes is .*; it must be 1 names"),
        (lambda d: spoil_config(d, classes=[1]), r"config\.json: classes is \[1\]; expected"),
        (lambda d: spoil_config(d, more=1), r"config\.json does not fit this version .*: more"),
        (lambda d: spoil_config(d, format_version=2), r"is of format version 2; this program reads 1"),
        (lambda d: (d / "config.json").write_text("{"), r"config\.json is not JSON"),
        (lambda d: (d / "config.json").write_text("[" * 10**5), r"config\.json is not JSON"),
        (
            lambda d: (d / "config.json").unlink(),
            r"there is no model .*copy is no folder that",
        ),
        (
            lambda d: spoil_weights(d, **{"params/output/bias": None}),
            r"lacks 1 of \d+ arrays \(first params/output/bias\)\. Export",
        ),
        (
            lambda d: spoil_weights(d, **{"params/extra": np.zeros(1, np.float32)}),
            r"has 1 that are not expected \(first params/extra\)",
        ),
        (
            lambda d: spoil_weights(d, **{"params/output/bias": np.zeros((1, 1), np.float32)}),
            r"params/output/bias: checkpoint has \(1, 1\), this configuration expects \(1,\)",
        ),
        (
            lambda d: spoil_weights(d, **{"params/output/bias": np.zeros(1, np.int32)}),
            r"params/output/bias is I32; expected F32 or F16",
        ),
        (
            lambda d: spoil_weights(d, **{"params/output/bias": np.full(1, np.nan, np.float32)}),
            r"params/output/bias has values that are not finite",
        ),
    ],
)
def test_a_folder_that_is_not_as_written_ends_in_one_line(copy, spoil, message):
    spoil(copy)
    with pytest.raises(UserError, match=message) as raised:
        open_model(copy)
    assert "\n" not in str(raised.value)


# Names and commands


def test_the_package_has_a_model_of_its_own_or_says_that_it_has_none(shipped, images, tmp_path, monkeypatch):
    both = [unet_jax.load(), unet_jax.load(model="best")]
    assert all(network.name == "model best" for network in both)
    with pytest.raises(UserError, match=r"there is no model worst: the package has best, and worst is no folder"):
        unet_jax.load(model="worst")
    with pytest.raises(UserError, match=r"a model \(best\) and workdirs \(runs/a\) were both given"):
        unet_jax.load("runs/a", model="best")
    with pytest.raises(UserError, match="--checkpoint is latest, but a model has one set of weights"):
        unet_jax.load(checkpoint="latest")
    monkeypatch.setattr(model_folder, "SHIPPED_FOLDER", tmp_path / "none")
    with pytest.raises(UserError, match="there is no model best: the package has none of its own"):
        unet_jax.load()


def test_predict_takes_a_model_and_without_anything_the_packages_own(shipped, model, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    write_mask(tmp_path / "in" / "a.png", np.eye(40) > 0)
    argv = ["--input", str(tmp_path / "in"), "--output"]
    assert predict.main([*argv, str(tmp_path / "own")]) == 0
    assert "model best (neither --model nor --workdir was given)." in capsys.readouterr().out
    assert predict.main([*argv, str(tmp_path / "named"), "--model", str(model)]) == 0
    assert "(chosen on validation), model tiny.\n" in capsys.readouterr().out
    made = [json.loads((tmp_path / name / "predictions.json").read_text())["networks"] for name in ("own", "named")]
    network = {"step": open_model(model).step, "sha256": open_model(model).sha256}
    assert made == [[{"model": "best"} | network], [{"model": "tiny"} | network]]
    assert (tmp_path / "own" / "a.png").read_bytes() == (tmp_path / "named" / "a.png").read_bytes()
    with pytest.raises(UserError, match="--workdir runs/a and --model best were both given"):
        predict.main([*argv, str(tmp_path / "no"), "--workdir", "runs/a", "--model", "best"])
    with pytest.raises(UserError, match="--workdir names no folder"):
        predict.main([*argv, str(tmp_path / "no"), "--workdir"])


@pytest.fixture(scope="module")
def whole(trained, tiny_data, tmp_path_factory) -> Path:
    """A run with the options of `trained`, on all slices: stopped after an epoch, since it is only to be exported."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    config = read_config(trained / "config.json")
    given = [*to_options(config, preset(config.preset, config.data)), "--split.kind", "whole", "--optim.epochs", "1"]
    assert train.main(["--workdir", str(workdir), "--data", str(tiny_data), "--preset", config.preset, *given]) == 0
    return workdir


def with_epochs(workdir: Path, epochs: int) -> None:
    stored = json.loads((workdir / "config.json").read_text())
    stored["optim"]["epochs"] = epochs
    (workdir / "config.json").write_text(json.dumps(stored))


def test_choices_and_scores_of_a_network_of_all_slices_are_its_twins(whole, trained, tmp_path, capsys):
    with pytest.raises(UserError, match=r"--choices-of .* has optim\.epochs 30, and .* has 1\."):
        exported(whole, tmp_path / "a", "--choices-of", str(trained))
    with_epochs(whole, 30)  # as if it had run to the end
    assert evaluate.main(["--workdir", str(trained), "--split", "test", "--output", str(tmp_path / "scores")]) == 0
    scores = ["--summary", str(tmp_path / "scores" / "summary.json")]
    folder = exported(whole, tmp_path / "b", "--choices-of", str(trained), *scores, "--checkpoint", "latest")
    ours, twins = read_info(folder), open_run(trained)
    assert (ours.threshold, ours.postprocess) == (twins.threshold, twins.postprocess)
    assert ours.checkpoint_sha256 == open_run(whole, "latest").sha256 != twins.sha256
    assert "those of another network" in (folder / "README.md").read_text()

    # Scores are of the network that they are said to be of.
    assert evaluate.main(["--workdir", str(whole), "--split", "test", "--output", str(tmp_path / "own")]) == 0
    with pytest.raises(UserError, match="is of another network than"):
        exported(whole, tmp_path / "c", "--choices-of", str(trained), "--summary", str(tmp_path / "own/summary.json"))
