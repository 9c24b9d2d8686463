"""Slices as a training step sees them: normalised and augmented by the step's own function."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int64, Shaped

from unet_jax.config import TUMORS, AugmentConfig, Config
from unet_jax.data.converted.arrays import Arrays
from unet_jax.reporting.sheet import SheetRow
from unet_jax.training.batches import gather
from unet_jax.training.steps import train_input


def preview(arrays: Arrays, config: Config, count: int, versions: int) -> list[SheetRow]:
    """Augment some slices of a dataset several times each.

    Args:
        arrays: the converted dataset.
        config: of the training; `seed`, `preprocess` and `augment` count here.
        count: slices, at least 1, spread over the tumour types.
        versions: of each slice, at least 1.
    """
    rows = spread(arrays.labels, min(count, len(arrays)))
    originals = _input(arrays, rows, replace(config, augment=AugmentConfig(horizontal_flip=False)))
    augmented = _input(arrays, np.repeat(rows, versions), config)
    sheet = []
    for i, row in enumerate(rows):
        own = slice(i * versions, (i + 1) * versions)
        images, masks = (
            np.concatenate([before[i : i + 1], after[own]]) for before, after in zip(originals, augmented, strict=True)
        )
        label = f"{TUMORS[arrays.labels[row] - 1].capitalize()}\nslice {arrays.slices[row]}"
        sheet.append(SheetRow(label, images[..., 0], masks))
    return sheet


def spread(labels: Shaped[np.ndarray, " n"], count: int) -> Int64[np.ndarray, " count"]:
    """Choose rows at even distances in the order of their tumour types."""
    by_label = np.argsort(labels, kind="stable")
    return by_label[(2 * np.arange(count) + 1) * len(labels) // (2 * count)]


def _input(arrays: Arrays, rows: Int64[np.ndarray, " b"], config: Config) -> tuple[np.ndarray, np.ndarray]:
    def compute(key: Array, batch: Any) -> tuple[Array, Array]:
        return train_input(key, batch, config)

    return jax.device_get(jax.jit(compute)(jax.random.key(config.seed), gather(arrays, rows)))
