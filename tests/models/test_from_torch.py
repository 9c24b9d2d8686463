"""Weights that torch stored, converted once: names of two packages, and files of something else."""

import os
import sys

import numpy as np
import pytest

from tests.helpers.lite0 import timm_weights
from unet_jax import weights
from unet_jax.config import UserError
from unet_jax.models.from_torch import convert, timm_name
from unet_jax.models.pretrained import read_pretrained

BLOCKS = (1, 2, 2, 3, 3, 4, 1)


def other_name(name: str) -> str:
    """What EfficientNet-PyTorch calls a weight of timm's."""
    if not name.startswith("blocks."):
        layer, leaf = name.split(".")
        return {"conv_stem": "_conv_stem", "bn1": "_bn0"}[layer] + f".{leaf}"
    _, stage, place, layer, leaf = name.split(".")
    widening = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    widening |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    layers = first if stage == "0" else widening
    return f"_blocks.{sum(BLOCKS[: int(stage)]) + int(place)}.{layers[layer]}.{leaf}"


def test_names_of_both_packages_are_understood():
    for name in timm_weights():
        assert timm_name(name) == timm_name(other_name(name)) == name
    assert [timm_name(n) for n in ("_fc.bias", "_bn1.weight", "_conv_head.weight")] == [
        "classifier.bias",
        "bn2.weight",
        "conv_head.weight",
    ]
    assert timm_name("_blocks.16._bn0.weight") == "_blocks.16._bn0.weight"  # one more than there are


def test_without_torch_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"a\.pth takes torch to read, .* pip install 'unet-jax\[peers\]'"):
        convert(tmp_path / "a.pth", tmp_path / "b.safetensors")


@pytest.mark.parametrize("out", ["b.pth", "none/b.safetensors"])
def test_the_result_has_a_name_and_a_folder(tmp_path, out):
    with pytest.raises(UserError, match=r"must be a name that ends so, in a folder that exists"):
        weights.main([str(tmp_path / "a.pth"), str(tmp_path / out)])


@pytest.mark.parametrize("named", [str, other_name])
def test_a_file_of_torch_becomes_one_of_safetensors(tmp_path, capsys, named):
    torch = pytest.importorskip("torch", reason="torch is not installed: the extra peers")
    stored = {named(name): torch.from_numpy(value) for name, value in timm_weights().items()}
    stored |= {named("bn1.num_batches_tracked"): torch.tensor(7), "classifier.bias": torch.ones(3)}
    torch.save(stored, tmp_path / "a.pth")
    assert weights.main([str(tmp_path / "a.pth"), str(tmp_path / "b.safetensors")]) == 0
    assert "Wrote 2,998,304 values" in capsys.readouterr().out
    converted = read_pretrained(str(tmp_path / "b.safetensors")).arrays
    assert converted.keys() == timm_weights().keys()
    for name, value in timm_weights().items():
        np.testing.assert_array_equal(converted[name], value)


def test_files_of_something_else(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: the extra peers")
    path, out = tmp_path / "a.pth", tmp_path / "b.safetensors"

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    for content, message in (
        ({"bn1.bias": torch.ones(32)}, "lacks blocks.0.0.bn1.bias;"),
        ([torch.ones(1)], "holds something else than a dictionary of tensors"),
        ({"bn1.bias": Harmful()}, "is no file of tensors that torch stored"),
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match=message):
            weights.main([str(path), str(out)])
    for content in (b"", b"nonsense"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is no file of tensors that torch stored"):
            weights.main([str(path), str(out)])
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        weights.main([str(path), str(out)])
    assert list(tmp_path.iterdir()) == []
