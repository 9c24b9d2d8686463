"""Ranges of the options: what is out of them is named, what is at their edge is taken."""

import dataclasses
import math
import re
from typing import Any

import pytest

from unet_jax.config import Config, LossConfig, ModelConfig, UserError, flatten

STRENGTHS = {
    "rotation": 180.0,
    "zoom": 3.0,
    "stretch": 3.0,
    "shear": 60.0,
    "shift": 1.0,
    "elastic": 0.25,
    "blur": 5.0,
    "low-resolution": 7.0,
    "bias-field": 1.0,
    "noise": 1.0,
    "contrast": 3.0,
    "brightness": 1.0,
    "gamma": 3.0,
}
"""Augmentations, and the greatest strength of each."""


def changed(name: str, value: Any) -> Config:
    """The defaults but for the option of that command-line name."""
    group, _, field = name.replace("-", "_").rpartition(".")
    if not group:
        return dataclasses.replace(Config(), **{field: value})
    return dataclasses.replace(Config(), **{group: dataclasses.replace(getattr(Config(), group), **{field: value})})


RANGES: dict[str, tuple[list, list]] = {
    "data": ([""], [None]),
    "seed": ([-1, 2**32], [2**32 - 1]),
    "model.width": ([0], [1]),
    "model.levels": ([0, 9], [1, 8]),
    "model.norm-momentum": ([-0.1, 1.0], [0.0]),
    "model.dropout": ([-0.1, 1.0], [0.0]),
    "preprocess.scale": ([0.0], []),
    "augment.healthy": ([-0.1, 1.1], [0.0, 1.0]),
    **{f"augment.{name}": ([-0.01, most + 0.01], [0.0, most]) for name, most in STRENGTHS.items()},
    **{f"augment.{name}-p": ([-0.01, 1.01], [0.0, 1.0]) for name in STRENGTHS},
    "loss.bce": ([-1.0], [0.0]),
    "loss.dice": ([-1.0], [0.0]),
    "loss.smoothing": ([0.0], []),
    "loss.lovasz": ([-1.0], [0.0]),
    "loss.slice-dice": ([-1.0], [0.0]),
    "loss.jaccard": ([-1.0], [0.0]),
    "loss.tversky": ([-1.0], [0.0]),
    "loss.tversky-alpha": ([0.0], []),
    "loss.tversky-beta": ([0.0], []),
    "loss.focal": ([-1.0], [0.0]),
    "loss.focal-gamma": ([-1.0], [0.0]),
    "optim.epochs": ([0], [1]),
    "optim.learning-rate": ([0.0], []),
    "optim.final-learning-rate": ([0.0], []),
    "optim.warmup-epochs": ([-1.0, 50.0], [49.5]),
    "optim.clip-norm": ([-1.0], []),
    "optim.early-stopping": ([-1], []),
    "optim.weight-decay": ([-0.1], [0.0]),
    "optim.encoder-lr-scale": ([-0.1], [0.0]),
    "optim.freeze-encoder-epochs": ([-1.0], [0.0]),
    "optim.ema-decay": ([-0.1, 1.0], [0.0]),
    "loader.batch-size": ([0], [1]),
    "split.seed": ([-1], []),
    "split.val-fraction": ([0.0, 1.0], []),
    "split.test-fraction": ([0.0, 0.9], [0.85]),
    "split.folds": ([2, 101], [3, 100]),
    "split.fold": ([0, 6], [5]),
}
"""By option: values that are just outside, and those at the edge that are still right."""
WRONG = [(name, value) for name, (wrong, _) in RANGES.items() for value in wrong]
FLOATS = [name for name, value in flatten(Config()).items() if type(value) is float]


def test_every_number_has_a_wrong_value_above():
    numbers = {name for name, value in flatten(Config()).items() if type(value) in (int, float)}
    assert {name for name, _ in WRONG} == numbers - {"model.classes"} | {"data"}


@pytest.mark.parametrize(
    ("name", "value"), [*WRONG, *((name, value) for name in FLOATS for value in (math.nan, math.inf, -math.inf))]
)
def test_value_out_of_range_is_named(name, value):
    message = re.escape(f"--{name} is {value!r}; it must be ")
    with pytest.raises(UserError, match=rf"^{message}\S.*\.$"):
        changed(name, value).check()


def test_a_loss_of_nothing_is_refused():
    nothing = LossConfig(bce=0.0, dice=0.0)
    message = "--loss.bce is 0.0; it must be above 0 unless another weight of the loss is: dice, lovasz, slice-dice, "
    with pytest.raises(UserError, match=re.escape(message)):
        dataclasses.replace(Config(), loss=nothing).check()
    for name in nothing.weights:  # any one will do
        loss = dataclasses.replace(nothing, **{name: 0.5})
        assert loss.check() is loss


LITE0 = {"encoder": "efficientnet_lite0", "levels": 5}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LITE0 | {"levels": 4}, "levels is 4; it must be 5 under --model.encoder efficientnet_lite0."),
        ({"decoder_widths": (8, 8, 8)}, "decoder-widths is (8, 8, 8); it must be 4 numbers of at least 1"),
        ({"decoder_widths": (8, 8, 0, 8)}, "decoder-widths is (8, 8, 0, 8); it must be 4 numbers of at least 1"),
        (LITE0 | {"encoder_weights": "a.pth"}, "encoder-weights is 'a.pth'; it must be none, a .safetensors file, or"),
        ({"encoder_weights": "hf:a/b"}, "encoder-weights is 'hf:a/b'; it must be none under --model.encoder plain."),
    ],
)
def test_an_encoder_and_a_decoder_that_do_not_fit_are_named(model, message):
    with pytest.raises(UserError, match=f"^--model.{re.escape(message)}"):
        Config(model=ModelConfig(**model)).check()


def test_a_start_excludes_weights_for_the_encoder():
    config = Config(init_from="best", model=ModelConfig(**LITE0))
    assert config.check() is config
    both = dataclasses.replace(config, model=ModelConfig(**LITE0, encoder_weights="hf:a/b"))
    with pytest.raises(
        UserError, match=r"^--init-from is 'best'; it must be given with --model\.encoder-weights none,"
    ):
        both.check()
    with pytest.raises(UserError, match=r"^--init-from is ''; it must be a workdir"):
        dataclasses.replace(config, init_from="").check()


@pytest.mark.parametrize(
    "model",
    [LITE0 | {"encoder_weights": "hf:a/b@c"}, LITE0 | {"decoder_widths": (1,) * 5}, {"decoder_widths": (9,) * 4}],
)
def test_an_encoder_and_a_decoder_that_fit(model):
    config = Config(model=ModelConfig(**model))
    assert config.check() is config


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, right) in RANGES.items() for value in right])
def test_value_at_the_edge_of_its_range_is_valid(name, value):
    config = changed(name, value)
    assert config.check() is config
