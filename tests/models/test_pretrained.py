"""Weights that the encoder starts from: read, compared, and put into a new run, not into one that goes on."""

import dataclasses
import hashlib
import re
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from safetensors.numpy import save_file

from tests.helpers.lite0 import timm_weights
from unet_jax.config import Config, ModelConfig, UserError
from unet_jax.models.network import abstract_variables
from unet_jax.models.pretrained import check_pretrained, read_pretrained, with_pretrained
from unet_jax.runs.opening import store_absolute
from unet_jax.training.state import init_state

LITE0 = ModelConfig(levels=5, encoder="efficientnet_lite0", decoder_widths=(2, 2, 2, 2, 2))
HEAD = {
    "conv_head.weight": np.ones((4, 3, 1, 1), np.float32),
    "bn2.running_var": np.ones(4, np.float32),
    "classifier.bias": np.ones(7, np.float32),
    "bn1.num_batches_tracked": np.array(3),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    save_file(timm_weights() | HEAD, path)
    return path


@pytest.mark.slow
def test_a_new_run_starts_from_the_file_and_a_resumed_one_does_not_need_it(file):
    tx = optax.sgd(0.1)
    started = init_state(Config(model=with_file(file)), 32, tx)
    resumed = init_state(Config(model=with_file(file.with_name("gone.safetensors"))), 32, tx, resumed=True)
    weights = timm_weights()
    stem = started.params["encoder_stem"]["conv_stem"]["kernel"]
    np.testing.assert_allclose(stem[1, 2, 0, 9], weights["conv_stem.weight"][9, :, 1, 2].sum(), rtol=1e-6)
    block, name = started.params["encoder_block4_2"], "blocks.4.2."
    assert block["conv_dw"]["kernel"][3, 1, 0, 8] == weights[f"{name}conv_dw.weight"][8, 0, 3, 1]
    assert block["conv_pwl"]["kernel"][0, 0, 70, 8] == weights[f"{name}conv_pwl.weight"][8, 70, 0, 0]
    np.testing.assert_array_equal(block["bn3"]["scale"], weights[f"{name}bn3.weight"])
    np.testing.assert_array_equal(block["bn3"]["bias"], weights[f"{name}bn3.bias"])
    stats = started.batch_stats["encoder_block4_2"]["bn3"]
    np.testing.assert_array_equal(stats["mean"], weights[f"{name}bn3.running_mean"])
    np.testing.assert_array_equal(stats["var"], weights[f"{name}bn3.running_var"])
    # The decoder is drawn as ever, and of a resumed run all is.
    for part in ("up3", "transpose0", "output"):
        jax.tree.map(np.testing.assert_array_equal, started.params[part], resumed.params[part])
    assert float(np.abs(resumed.params["encoder_stem"]["conv_stem"]["kernel"] - stem).max()) > 0.1


def with_file(path: Path) -> ModelConfig:
    return dataclasses.replace(LITE0, encoder_weights=str(path))


def test_the_digest_is_that_of_the_file(file):
    weights = check_pretrained(with_file(file))
    assert weights is not None
    assert weights.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights.arrays.keys() == timm_weights().keys()
    assert check_pretrained(LITE0) is None


def without(name):
    return {k: v for k, v in timm_weights().items() if k != name}


WRONG = {
    "lacks blocks.2.1.bn1.weight;": without("blocks.2.1.bn1.weight"),
    "has blocks.7.0.conv_pw.weight;": timm_weights() | {"blocks.7.0.conv_pw.weight": np.ones((1, 1, 1, 1))},
    ": conv_stem.weight has the shape (32, 1, 3, 3) instead of (32, 3, 3, 3);": without("conv_stem.weight")
    | {"conv_stem.weight": np.ones((32, 1, 3, 3), np.float32)},
    ": blocks.0.0.conv_dw.weight has the shape (32, 1, 5, 5) instead of (32, 1, 3, 3);": timm_weights()
    | {"blocks.0.0.conv_dw.weight": np.ones((32, 1, 5, 5), np.float32)},
    ": bn1.bias has the shape (1, 32) instead of (32,);": timm_weights() | {"bn1.bias": np.ones((1, 32), np.float32)},
    ": bn1.bias has values that are no finite numbers;": timm_weights() | {"bn1.bias": np.full(32, np.nan)},
}


@pytest.mark.parametrize("message", WRONG)
def test_weights_that_do_not_fit_are_named(tmp_path, message):
    path = tmp_path / "w.safetensors"
    save_file(WRONG[message], path)
    expected = re.escape(f"{path}{'' if message[0] == ':' else ' '}{message} expected the weights of timm's")
    with pytest.raises(UserError, match=f"^{expected}"):
        with_pretrained(abstract_variables(LITE0), read_pretrained(str(path)))


@pytest.mark.parametrize("content", [b"", b"no such file", b"\xff" * 100])
def test_a_file_of_something_else(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"w\.safetensors is no file of safetensors"):
        read_pretrained(str(path))


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "w.safetensors", tmp_path):
        with pytest.raises(UserError, match=r"cannot be read \(.*\); expected the weights"):
            read_pretrained(str(path))


def test_the_path_is_stored_as_an_absolute_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored = store_absolute(Config(model=with_file(Path("w.safetensors")))).model.encoder_weights
    assert stored == str(tmp_path.resolve() / "w.safetensors")
    of_hub = Config(model=ModelConfig(encoder="efficientnet_lite0", levels=5, encoder_weights="hf:a/b"))
    assert store_absolute(of_hub) == of_hub
