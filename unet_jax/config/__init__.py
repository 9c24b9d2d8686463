"""Configuration of a run: defaults, presets, ranges, JSON, and errors a person can mend. Standard library only."""

from unet_jax.config.errors import RunError, UserError
from unet_jax.config.optim import OptimConfig
from unet_jax.config.presets import DEMO_CONVERT, fold_configs, preset
from unet_jax.config.schema import (
    FIGSHARE_API,
    OUT_OF_FOLD,
    SPLITS,
    TUMORS,
    AugmentConfig,
    Config,
    ConvertConfig,
    DistributedConfig,
    LoaderConfig,
    LossConfig,
    MaskRule,
    ModelConfig,
    PhantomConfig,
    Precision,
    PreprocessConfig,
    PresetName,
    SplitConfig,
    SplitKind,
    SplitName,
)
from unet_jax.config.stored import flatten, from_json, from_object, read_config, to_json, to_options
