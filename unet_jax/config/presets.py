"""Starting configurations by name, and those of a cross-validation's folds."""

import dataclasses

from unet_jax.config.errors import UserError
from unet_jax.config.schema import Config, ConvertConfig, LoaderConfig, ModelConfig, OptimConfig, PresetName

DEMO_CONVERT = ConvertConfig(size=64)
"""Conversion of the phantom by `train`."""


def preset(name: PresetName, data: str | None = None) -> Config:
    """The starting configuration of that name."""
    if name == "demo":
        return Config(
            preset="demo",
            data=data,
            model=ModelConfig(width=16, norm="conv"),
            optim=OptimConfig(epochs=14, learning_rate=5e-3, final_learning_rate=3e-4),
            loader=LoaderConfig(batch_size=8),
        )
    return Config(preset="original", data=data)


def fold_configs(config: Config, folds: int) -> list[Config]:
    """The configurations of a cross-validation's runs: equal but for `split.fold`, of official folds or drawn ones.

    Raises:
        UserError: the official folds are five, or a value is out of range.
    """
    split = config.split
    if split.kind == "official" and folds != 5:
        raise UserError(f"--folds is {folds}; the dataset's official folds are 5.")
    if split.kind in ("slice", "whole"):
        raise UserError(f"--split.kind {split.kind} has no folds. Use patient, folds or official.")
    kind = "official" if split.kind == "official" else "folds"
    splits = [dataclasses.replace(split, kind=kind, folds=folds, fold=fold) for fold in range(1, folds + 1)]
    return [dataclasses.replace(config, split=s).check() for s in splits]
