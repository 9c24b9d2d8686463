"""Defaults, presets, validation, and the configuration's way through the command line and through JSON."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.config.test_ranges import STRENGTHS
from tests.helpers.commands import asked_of_train
from unet_jax import train
from unet_jax.config import (
    AugmentConfig,
    Config,
    DistributedConfig,
    LoaderConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PreprocessConfig,
    PresetName,
    SplitConfig,
    UserError,
    flatten,
    fold_configs,
    from_json,
    preset,
    read_config,
    to_json,
    to_options,
)

ALTERED = Config(
    preset="demo",
    data="some where",
    seed=5,
    model=ModelConfig(
        width=3,
        levels=5,
        classes=3,
        norm="none",
        norm_momentum=0.25,
        dropout=0.5,
        precision="bfloat16",
        remat=True,
        encoder="efficientnet_lite0",
        encoder_weights="a.safetensors",
        decoder_widths=(2, 3, 4, 5, 6),
    ),
    preprocess=PreprocessConfig(kind="fixed", scale=255.0),
    augment=AugmentConfig(
        horizontal_flip=False,
        healthy=0.25,
        vertical_flip=True,
        rotation=15.0,
        rotation_p=0.1,
        zoom=0.25,
        zoom_p=0.15,
        stretch=0.1,
        stretch_p=0.2,
        shear=8.0,
        shear_p=0.25,
        shift=0.05,
        shift_p=0.3,
        elastic=0.03,
        elastic_p=0.35,
        blur=1.5,
        blur_p=0.4,
        low_resolution=1.0,
        low_resolution_p=0.45,
        noise=0.05,
        noise_p=0.55,
        contrast=0.2,
        contrast_p=0.6,
        brightness=0.1,
        brightness_p=0.65,
        gamma=0.4,
        gamma_p=0.7,
        bias_field=0.3,
        bias_field_p=0.9,
    ),
    loss=LossConfig(
        bce=0.5,
        dice=2.0,
        smoothing=3.0,
        lovasz=0.25,
        slice_dice=0.75,
        jaccard=1.25,
        tversky=1.5,
        tversky_alpha=0.4,
        tversky_beta=0.6,
        focal=1.75,
        focal_gamma=1.0,
    ),
    optim=OptimConfig(
        epochs=7,
        learning_rate=0.02,
        schedule="cosine",
        final_learning_rate=1e-6,
        warmup_epochs=1.5,
        clip_norm=1.0,
        early_stopping=4,
        weight_decay=0.125,
        encoder_lr_scale=0.5,
        freeze_encoder_epochs=1.25,
        ema_decay=0.75,
        stretches=((3, 0.5), (5, 0.25)),
    ),
    loader=LoaderConfig(batch_size=9, pipeline="device"),
    split=SplitConfig(kind="official", seed=8, val_fraction=0.2, test_fraction=0.3, folds=6, fold=4),
)
"""No option has its default but `init_from`, which excludes weights for the encoder."""
STARTED = dataclasses.replace(
    ALTERED, init_from="runs/a", model=dataclasses.replace(ALTERED.model, encoder_weights="none")
)

# Presets


def test_preset_original_is_the_notebooks_recipe():
    assert flatten(preset("original", "d")) == {
        "preset": "original",
        "data": "d",
        "seed": 0,
        "init-from": None,
        "model.width": 64,
        "model.levels": 4,
        "model.classes": 1,
        "model.norm": "pool",
        "model.norm-momentum": 0.8,
        "model.dropout": 0.1,
        "model.precision": "auto",
        "model.remat": False,
        "model.encoder": "plain",
        "model.encoder-weights": "none",
        "model.decoder-widths": (),
        "preprocess.kind": "percentile",
        "preprocess.scale": 12728.0,
        "augment.horizontal-flip": True,
        "augment.healthy": 0.0,
        "augment.vertical-flip": False,
        **{f"augment.{name}": 0.0 for name in STRENGTHS},
        **{f"augment.{name}-p": 0.5 for name in STRENGTHS},
        "loss.bce": 1.0,
        "loss.dice": 1.0,
        "loss.smoothing": 1.0,
        "loss.lovasz": 0.0,
        "loss.slice-dice": 0.0,
        "loss.jaccard": 0.0,
        "loss.tversky": 0.0,
        "loss.tversky-alpha": 0.3,
        "loss.tversky-beta": 0.7,
        "loss.focal": 0.0,
        "loss.focal-gamma": 2.0,
        "optim.epochs": 50,
        "optim.learning-rate": 1e-3,
        "optim.schedule": "exponential",
        "optim.final-learning-rate": 1e-4,
        "optim.warmup-epochs": 0.0,
        "optim.clip-norm": 0.0,
        "optim.early-stopping": 0,
        "optim.weight-decay": 0.0,
        "optim.encoder-lr-scale": 1.0,
        "optim.freeze-encoder-epochs": 0.0,
        "optim.ema-decay": 0.0,
        "optim.stretches": (),
        "loader.batch-size": 32,
        "loader.pipeline": "auto",
        "split.kind": "patient",
        "split.seed": 0,
        "split.val-fraction": 0.1,
        "split.test-fraction": 0.2,
        "split.folds": 5,
        "split.fold": 1,
    }


def test_preset_demo_is_smaller_and_otherwise_the_same():
    original, demo = flatten(preset("original")), flatten(preset("demo"))
    differ = {name for name in original if original[name] != demo[name]}
    training = {"optim.epochs", "optim.learning-rate", "optim.final-learning-rate", "loader.batch-size"}
    assert differ == {"preset", "model.width", "model.norm"} | training
    assert demo["preset"] == "demo" and demo["split.kind"] == "patient"
    assert preset("demo").model.stride == 16 and ModelConfig(levels=1).stride == 2  # of image sides


@pytest.mark.parametrize("name", get_args(PresetName))
def test_every_preset_is_in_its_ranges_and_its_own_name(name):
    config = preset(name, "d")
    assert config.check() is config
    assert config.preset == name and config.data == "d"


# Command line


def test_flat_names_are_the_options_of_train(capsys):
    with pytest.raises(SystemExit) as left:
        train.main(["--help"])
    assert left.value.code == 0
    # Each option stands behind the frame, which is ASCII or not.
    lines = re.findall(r"^..(?:-h, )?(--[a-z].*)$", capsys.readouterr().out, re.MULTILINE)
    shown = {name for line in lines for name in re.findall(r"(?:^|, )--([\w.-]+)", line.split("  ")[0])}
    of_flags = {"augment.no-horizontal-flip", "augment.no-vertical-flip", "model.no-remat"}
    of_processes = {f"distributed.{name}" for name in flatten(DistributedConfig())}
    assert shown - of_flags == set(flatten(Config())) | {"workdir", "help"} | of_processes
    assert of_flags <= shown


@pytest.mark.parametrize(("altered", "default"), [(ALTERED, "init-from"), (STARTED, "model.encoder-weights")])
def test_every_option_sets_its_own_value(altered, default, monkeypatch):
    argv, defaults = ["--workdir", "w"], flatten(Config())
    for name, value in flatten(altered).items():
        assert (value != defaults[name]) == (name != default)
        if name == default:
            continue
        if isinstance(value, bool):
            group, option = name.split(".")
            argv.append(f"--{name}" if value else f"--{group}.no-{option}")
        else:
            argv += [f"--{name}", *(re.findall(r"[\d.]+", str(value)) if isinstance(value, tuple) else [str(value)])]
    assert asked_of_train(monkeypatch, argv) == (DistributedConfig(), Path("w"), altered)
    of_processes = ["--distributed.coordinator", "a:1", "--distributed.num-processes", "3"]
    asked = asked_of_train(monkeypatch, [*argv, *of_processes, "--distributed.process-id", "2"])
    assert asked == (DistributedConfig("a:1", 3, 2), Path("w"), altered)


def test_options_make_the_configuration_again(monkeypatch):
    argv = ["--workdir", "w", "--preset", ALTERED.preset, *to_options(ALTERED, preset(ALTERED.preset))]
    assert asked_of_train(monkeypatch, argv)[2] == ALTERED


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a:1", 2, None), "belong together"),
        ((None, 2, 0), "belong together"),
        (("a", 2, 0), "coordinator is 'a'; it must be HOST:PORT, with a port of 1 to 65535"),
        ((":1", 2, 0), "coordinator is ':1'; it must be HOST:PORT"),
        (("a:0", 2, 0), "coordinator is 'a:0'; it must be HOST:PORT, with a port of 1 to 65535"),
        (("a:65536", 2, 1), "coordinator is 'a:65536'; it must be HOST:PORT, with a port of 1 to 65535"),
        (("a:" + "9" * 5000, 2, 1), "it must be HOST:PORT"),
        (("a:1", 0, 0), "num-processes is 0; it must be at least 1"),
        (("a:1", 2, 2), "process-id is 2; it must be 0 to 1"),
        (("a:1", 2, -1), "process-id is -1; it must be 0 to 1"),
        ((None, None, None, 0), "timeout is 0; it must be 1 to 86400, a day"),
        ((None, None, None, 99999999999), "timeout is 99999999999; it must be 1 to 86400, a day"),
    ],
)
def test_processes_that_do_not_fit_are_named(given, message):
    with pytest.raises(UserError, match=message):
        DistributedConfig(*given).check()


@pytest.mark.parametrize("given", [(None, None, None, 86400), ("a:1", 1, 0), ("[::1]:65535", 2, 1)])
def test_processes_that_fit(given):
    assert DistributedConfig(*given).check() == DistributedConfig(*given)


# JSON


@pytest.mark.parametrize("config", [preset("demo"), preset("original", "d"), ALTERED, STARTED])
def test_json_round_trip(config):
    assert from_json(to_json(config), "c") == config
    assert json.loads(to_json(config))["model"]["norm_momentum"] == config.model.norm_momentum


def stored(name: str, value: Any) -> str:
    """JSON of the defaults with another value at a dotted name; `...` takes the name out."""
    raw = dataclasses.asdict(Config())
    *groups, field = name.split(".")
    inner = raw
    for group in groups:
        inner = inner[group]
    if value is ...:
        del inner[field]
    else:
        inner[field] = value
    return json.dumps(raw)


def test_an_integer_is_a_float():
    config = from_json(stored("loss.bce", 2), "c")
    assert config.loss.bce == 2.0 and type(config.loss.bce) is float


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.width", True),
        ("model.width", 16.0),
        ("model.width", "16"),
        ("model.width", None),
        ("model.classes", True),
        ("model.classes", 1.0),
        ("model.classes", 2),
        ("model.norm", "batch"),
        ("model.norm", ["pool"]),
        ("model.dropout", False),
        ("model.encoder", "toy"),
        ("model.decoder_widths", 16),
        ("model.decoder_widths", [16, 32.0]),
        ("optim.stretches", [2, 0.1]),
        ("optim.stretches", [[2]]),
        ("optim.stretches", [[2, 0.1, 3]]),
        ("optim.stretches", [[2.0, 0.1]]),
        ("augment.horizontal_flip", 1),
        ("data", 3),
        ("preset", "finest"),
        ("model", 3),
        ("model", ["width"]),
    ],
)
def test_value_of_a_wrong_type_is_named(name, value):
    with pytest.raises(UserError, match=rf"^c\.json: {re.escape(name)} is {re.escape(repr(value))}; expected \S"):
        from_json(stored(name, value), "c.json")


@pytest.mark.parametrize(
    ("name", "value"), [("seed", ...), ("optim", ...), ("optim.epochs", ...), ("tempo", 1), ("optim.tempo", 1)]
)
def test_missing_and_unknown_names_are_named(name, value):
    with pytest.raises(UserError, match=rf"^c\.json does not fit .*\(unknown or missing: {re.escape(name)}\)"):
        from_json(stored(name, value), "c.json")


def test_a_configuration_of_an_earlier_version_can_be_read():
    model = ("precision", "remat", "encoder", "encoder_weights", "decoder_widths")
    more = ("split.folds", "loss.lovasz", "loss.tversky_alpha", "augment.vertical_flip", "augment.blur_p")
    for name in (*(f"model.{field}" for field in model), *more):
        assert from_json(stored(name, ...), "c.json") == Config()


def test_folds_are_counted_by_their_kind():
    split = SplitConfig(kind="folds", folds=7, fold=7)
    assert Config(split=split).check().split.last_fold == 7
    with pytest.raises(UserError, match=r"--split\.fold is 7; it must be 1 to 5"):
        Config(split=dataclasses.replace(split, kind="official")).check()


def test_configurations_of_a_cross_validation():
    config = Config(seed=3, split=SplitConfig(seed=9, fold=2))
    configs = fold_configs(config, 3)
    assert [c.split for c in configs] == [SplitConfig(kind="folds", seed=9, folds=3, fold=k) for k in (1, 2, 3)]
    assert {dataclasses.replace(c, split=SplitConfig()) for c in configs} == {Config(seed=3)}
    assert [c.split.kind for c in fold_configs(Config(split=SplitConfig(kind="official")), 5)] == ["official"] * 5
    with pytest.raises(UserError, match="--folds is 4; the dataset's official folds are 5"):
        fold_configs(Config(split=SplitConfig(kind="official")), 4)
    with pytest.raises(UserError, match=r"--split\.folds is 2; it must be 3 to 100"):
        fold_configs(config, 2)
    for kind in ("slice", "whole"):
        with pytest.raises(UserError, match=rf"--split\.kind {kind} has no folds"):
            fold_configs(Config(split=SplitConfig(kind=kind)), 5)


def test_stored_value_out_of_range_is_named():
    with pytest.raises(UserError, match=r"--optim\.epochs is 0"):
        from_json(stored("optim.epochs", 0), "c.json")
    with pytest.raises(UserError, match=r"--loss\.bce is nan"):
        from_json(stored("loss.bce", math.nan), "c.json")


@pytest.mark.parametrize("text", ["", "{", b"\xff\x00", "nonsense", "[]", "3", "null"])
def test_what_is_no_configuration_is_named(text):
    with pytest.raises(UserError, match=r"^c\.json(: the top level is .*; expected an object| is not JSON \()"):
        from_json(text, "c.json")


def test_read_config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(to_json(ALTERED))
    assert read_config(path) == ALTERED
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match=r"config\.json is not JSON"):
        read_config(path)
    for absent in (tmp_path / "none" / "config.json", path / "config.json"):
        with pytest.raises(UserError, match=r"config\.json does not exist; expected a workdir"):
            read_config(absent)
