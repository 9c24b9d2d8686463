"""The wheel in an environment of its own, without any extra and so without TensorFlow: every command there."""

import csv

import pytest

import unet_jax
from tests.helpers.wheel import Environment, build_wheel, can_build, copy_tree
from tests.test_imports import COMMANDS

SMALL = ["--model.width", "4", "--model.levels", "2", "--optim.epochs", "1", "--loader.batch-size", "4"]


@pytest.mark.slow
@can_build
def test_every_command_of_the_installed_program(tmp_path):
    copy_tree(tmp_path / "tree")
    environment = Environment(tmp_path)
    environment.pip("install", build_wheel(tmp_path / "tree", tmp_path))
    program = environment.python.with_name("unet-jax")

    def said(*argv: object, code: int = 0) -> str:
        done = environment.call(program, *argv)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    assert said("--version") == f"unet-jax {unet_jax.__version__}\n"
    listed = said().splitlines()[2:]
    assert [line.split()[0] for line in listed] == COMMANDS
    assert "unet-jax convert --raw raw" in said("phantom", "--out", "raw", "--patients", "12")
    assert "no errors" in said("check", "raw")
    assert "unet-jax train" in said("convert", "--raw", "raw", "--out", "arrays", "--size", "32")
    said("preview", "--data", "arrays", "--output", "sheet.png")
    assert "TensorFlow is not installed" in said("train", "--workdir", "run", "--data", "arrays", *SMALL)
    said("crossval", "--workdir", "cv", "--data", "arrays", "--folds", "3", *SMALL)
    said("eval", "--workdir", "run")
    said("eval", "--workdir", "cv/fold-1", "--split", "all", "--data", "arrays", "--output", "scores")
    said("compare", "run", "run")
    said("export", "--workdir", "run", "--out", "model")
    said("export", "--workdir", "run", "--out", "model.stablehlo")
    for model in (["--model", "model.stablehlo"], ["--model", "model"], ["--workdir", "run"], []):
        assert "images predicted" in said("predict", *model, "--input", "raw/data/1.mat", "--output", "masks")
    with (tmp_path / "masks" / "predictions.csv").open(newline="") as f:
        (row,) = csv.DictReader(f)
    assert row["input"] == "1.mat"

    # What takes an extra names it.
    assert "pip install 'unet-jax[onnx]'" in said("export", "--model", "best", "--out", "model.onnx", code=2)
    assert "pip install 'unet-jax[tfds]'" in said("tfds", "--raw", "raw", code=2)
    tfdata = ["--loader.pipeline", "tfdata"]
    assert "pip install 'unet-jax[tfds]'" in said("train", "--workdir", "b", "--data", "arrays", *tfdata, code=2)
    assert "pip install 'unet-jax[peers]'" in said("weights", "lite0.pth", "lite0.safetensors", code=2)
    assert "Figshare" in said("download", "--help")
