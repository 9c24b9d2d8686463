"""Starting configurations by name, and those of a cross-validation's folds."""

import dataclasses

from unet_jax.config.errors import UserError
from unet_jax.config.optim import OptimConfig
from unet_jax.config.schema import (
    AugmentConfig,
    Config,
    ConvertConfig,
    LoaderConfig,
    LossConfig,
    ModelConfig,
    PresetName,
)

DEMO_CONVERT = ConvertConfig(size=64)
"""Conversion of the phantom by `train`."""


def preset(name: PresetName, data: str | None = None) -> Config:
    """The starting configuration of that name."""
    if name == "demo":
        return Config(
            preset="demo",
            data=data,
            model=ModelConfig(width=16, norm="conv", precision="auto"),
            optim=OptimConfig(epochs=14, learning_rate=5e-3, final_learning_rate=3e-4),
            loader=LoaderConfig(batch_size=8),
        )
    if name == "best":
        return Config(
            preset="best",
            data=data,
            model=ModelConfig(
                encoder="efficientnet_lite0",
                encoder_weights="hf:timm/tf_efficientnet_lite0.in1k",
                decoder_widths=(16, 32, 48, 64, 128),
                levels=5,
                norm="conv",
                norm_momentum=0.9,
                precision="auto",
            ),
            augment=AugmentConfig(
                vertical_flip=True,
                rotation=20.0,
                zoom=0.2,
                stretch=0.1,
                shear=6.0,
                shift=0.08,
                elastic=0.02,
                blur=1.0,
                blur_p=0.15,
                low_resolution=1.0,
                low_resolution_p=0.15,
                bias_field=0.3,
                bias_field_p=0.3,
                noise=0.04,
                noise_p=0.2,
                contrast=0.25,
                contrast_p=0.3,
                brightness=0.1,
                brightness_p=0.3,
                gamma=0.3,
                gamma_p=0.3,
                healthy=0.5,
            ),
            loss=LossConfig(dice=0.0, slice_dice=1.0, smoothing=100.0),
            optim=OptimConfig(
                epochs=16,
                final_learning_rate=1e-6,
                schedule="cosine",
                warmup_epochs=1.0,
                weight_decay=0.01,
                encoder_lr_scale=0.3,
                ema_decay=0.995,
            ),
            loader=LoaderConfig(batch_size=16),
        )
    return Config(preset="original", data=data, model=ModelConfig(precision="auto"))


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
