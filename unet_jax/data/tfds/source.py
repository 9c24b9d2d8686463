"""Datasets that TensorFlow Datasets prepares: preparing ours, and converting one for `--data tfds:NAME`."""

import importlib.util
import logging
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from unet_jax.config import ConvertConfig, UserError
from unet_jax.data.converted import rows
from unet_jax.data.converted.arrays import Arrays
from unet_jax.data.converted.build import write_dataset
from unet_jax.data.converted.rows import ConvertedSlice
from unet_jax.data.raw import find_slices
from unet_jax.imaging.formats.mat import RawSlice

PREFIX = "tfds:"
FEATURES = {"image", "mask", "label", "pid", "slice", "fold", "border", "source", "sha256"}
"""Features of the builder `brain_tumor_figshare`."""
NOT_INSTALLED = "which is not installed: pip install 'unet-jax[tfds]'"
HOW_TO_PREPARE = "`python -m unet_jax.tfds --raw DIR` prepares one of the slices in DIR."


def build_from_tfds(name: str, out: Path, config: ConvertConfig) -> Arrays:
    """Convert a prepared dataset, to the content that `build` makes of the raw folder that it was prepared from.

    Args:
        name: `brain_tumor_figshare`, or with a version (`brain_tumor_figshare/1.0.0`), under TFDS's own folder; or the
            path of a folder so named.
        out: folder to make.
        config: size and mask rule.

    Raises:
        UserError: TensorFlow Datasets is not installed, or there is no such prepared dataset, or one of other features.
    """
    _require_tfds(f"--data {PREFIX}{name}")
    folder, tfds = find_prepared(name), _import_tfds()
    with _errors_only():
        prepared = tfds.builder_from_directory(folder)
        lacking = FEATURES - set(cast(Any, prepared.info.features))
        if lacking or "train" not in prepared.info.splits:
            what = ", ".join(sorted(lacking)) or "the split train"
            raise UserError(f"{folder} is of another builder: it lacks {what}. {HOW_TO_PREPARE}")
        total = prepared.info.splits["train"].num_examples
        return write_dataset(out, _converted(_examples(tfds, prepared), folder, config), total, config)


def _examples(tfds: Any, prepared: Any) -> Iterator[dict[str, Any]]:
    """Read the examples in the order in which they were prepared, and never all into memory."""
    form = prepared.info.file_format
    if form is not None and form in form.with_random_access():
        return iter(prepared.as_data_source(split="train"))
    read = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
    return iter(tfds.as_numpy(prepared.as_dataset(split="train", read_config=read)))


def _converted(
    examples: Iterator[dict[str, Any]], folder: Path, config: ConvertConfig
) -> Generator[ConvertedSlice, None, None]:
    last = 0
    for example in examples:
        raw = RawSlice(
            slice=int(example["slice"]),
            image=np.ascontiguousarray(example["image"][..., 0]),
            mask=np.ascontiguousarray(example["mask"][..., 0]),
            label=int(example["label"]) + 1,
            pid=example["pid"].decode(),
            border=example["border"],
        )
        if raw.slice <= last:
            raise UserError(f"{folder} has slice {raw.slice} after {last}; expected rising numbers. {HOW_TO_PREPARE}")
        last = raw.slice
        source, sha256 = example["source"].decode(), example["sha256"].decode()
        yield rows.convert_raw(raw, config, source=source, sha256=sha256, fold=int(example["fold"]))


def prepare(raw: Path | None, data_dir: Path) -> tuple[Path, int, bool]:
    """Prepare the dataset for TensorFlow Datasets, unless it is prepared already.

    Args:
        raw: folder of the slices, or the one above its `data`; None fetches them from Figshare.
        data_dir: folder that holds TFDS's datasets.

    Returns:
        The folder of the prepared dataset, its number of slices, and whether it was prepared before.

    Raises:
        UserError: TensorFlow Datasets is not installed, there are no slices in `raw`, or one of them is bad.
    """
    _require_tfds("unet_jax.tfds")
    if raw is not None:
        find_slices(raw)
    tfds = _import_tfds()
    from unet_jax.data.tfds.brain_tumor_figshare.brain_tumor_figshare_dataset_builder import Builder

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with _errors_only():
        builder = Builder(data_dir=data_dir)
        before = builder.is_prepared()
        config = tfds.download.DownloadConfig(manual_dir=raw, try_download_gcs=False)
        builder.download_and_prepare(download_config=config)
    return Path(builder.data_dir), builder.info.splits["train"].num_examples, before


def data_dir() -> Path:
    """Give the folder in which TensorFlow Datasets keeps what it has prepared."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find_prepared(name: str) -> Path:
    """Find the folder of a prepared dataset, with dataset_info.json in it: the highest version where there are several.

    Raises:
        UserError: there is none; the message says how to prepare it.
    """
    places = (data_dir() / name.replace(":", "/"), Path(name).expanduser())
    for place in places:
        versions = sorted(place.glob("*/dataset_info.json"), key=lambda info: _version(info.parent.name))
        for info in (place / "dataset_info.json", *reversed(versions)):
            if info.is_file():
                return info.parent
    raise UserError(f"{places[0]} holds no dataset that TensorFlow Datasets has prepared. {HOW_TO_PREPARE}")


def _version(name: str) -> list[int]:
    return [int(part) if part.isdecimal() else -1 for part in name.split(".")]


def _require_tfds(what: str) -> None:
    for module in ("tensorflow", "tensorflow_datasets"):
        if importlib.util.find_spec(module) is None:
            raise UserError(f"{what} needs {module}, {NOT_INSTALLED}.")


def import_tensorflow() -> Any:
    """Import TensorFlow, told before its import to be silent, and to leave the accelerator alone."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # TensorFlow computes nothing here, and would say that it could
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # the accelerator's memory is JAX's
    return tf


def _import_tfds() -> Any:
    import_tensorflow()
    import tensorflow_datasets as tfds

    return tfds


@contextmanager
def _errors_only() -> Iterator[None]:
    """Silence TFDS's warnings about its own making, which come through the logger of all that is built on absl."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
