"""What computes convolutions, and in which precision: on this machine, and on machines that are played."""

import jax
import jax.numpy as jnp
import pytest

from unet_jax.config import ModelConfig, PreprocessConfig
from unet_jax.inference.programs import make_dropout_spread, make_predict
from unet_jax.models import compiler
from unet_jax.models.compiler import computed_precision, has_bfloat16, has_onednn, library
from unet_jax.models.network import UNet

ONEDNN = "__onednn$convolution"
"""Target of oneDNN's calls in a compiled program."""


@pytest.fixture
def machine(monkeypatch):
    """Function that plays a machine: its backend, and whether it has oneDNN and bfloat16."""

    def play(backend, onednn=False, bfloat16=False):
        monkeypatch.setattr(jax, "default_backend", lambda: backend)
        monkeypatch.setattr(compiler, "has_onednn", lambda: onednn)
        monkeypatch.setattr(compiler, "has_bfloat16", lambda: bfloat16)

    return play


@pytest.mark.parametrize(
    ("backend", "bfloat16", "expected"),
    [
        ("cpu", False, {"auto": "float32", "float32": "float32", "bfloat16": "float32"}),
        ("cpu", True, {"auto": "bfloat16", "float32": "float32", "bfloat16": "bfloat16"}),
        ("gpu", False, {"auto": "float32", "float32": "float32", "bfloat16": "bfloat16"}),
    ],
)
def test_precision_by_machine_and_wish(machine, backend, bfloat16, expected):
    machine(backend, bfloat16, bfloat16)
    assert {asked: computed_precision(asked) for asked in expected} == expected


def test_eigen_computes_in_float32(machine):
    machine("cpu", onednn=True, bfloat16=True)
    assert [computed_precision(asked, onednn=False) for asked in ("auto", "bfloat16")] == ["float32"] * 2


def test_libraries_by_machine(machine):
    for has_it, expected in ((True, ["oneDNN", "Eigen"]), (False, ["Eigen", "Eigen"])):
        machine("cpu", onednn=has_it)
        assert [library(onednn=onednn) for onednn in (True, False)] == expected
    machine("gpu")
    assert [library(onednn=onednn) for onednn in (True, False)] == ["gpu", "gpu"]


def test_bfloat16_needs_onednn():
    assert has_onednn() or not has_bfloat16()


@pytest.mark.slow
@pytest.mark.parametrize("onednn", [True, False])
def test_inference_is_compiled_for_the_library_that_is_named(onednn):
    config, prep = ModelConfig(width=16, levels=1), PreprocessConfig()
    x, p = jnp.ones((1, 16, 16)), jnp.ones(1)
    variables = UNet(config).init(jax.random.key(0), x[..., None], train=False)
    probabilities = make_predict(config, prep, onednn=onednn).lower(variables, x, p, p)
    spread = make_dropout_spread(config, prep, 2, onednn=onednn).lower(variables, x[0], p[0], p[0])
    for program in (probabilities, spread):
        assert (ONEDNN in program.compile().as_text()) == (library(onednn=onednn) == "oneDNN")
