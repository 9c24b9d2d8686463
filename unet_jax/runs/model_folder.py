"""Model folders: a trained network in files that need no workdir and no Orbax, and the ones in the package.

DIR/model.safetensors       params and batch_stats, named as params/up0/conv0/kernel
DIR/config.json             `ModelInfo`
DIR/training_slices.npz     keys of the slices that it was trained on (`data.recognise`)
DIR/README.md               the model card
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from unet_jax.config import MaskRule, ModelConfig, PreprocessConfig, UserError, from_object
from unet_jax.config.checks import Checked, Rule, added
from unet_jax.data.recognise import SliceKeys, read_keys, write_keys
from unet_jax.inference.exported.opening import is_exported
from unet_jax.models.network import abstract_variables, check_size
from unet_jax.runs.trained import TrainedNetwork
from unet_jax.scoring.components import Postprocess
from unet_jax.shared.files import replace_folder, replacing, staged_folder, write_json, write_text
from unet_jax.training.checkpoints.trees import difference, flatten, nest

FORMAT_VERSION = 1

WEIGHTS, INFO, SLICES, CARD = "model.safetensors", "config.json", "training_slices.npz", "README.md"
"""Names of the files."""

SHIPPED = "best"
"""Name of the package's own model that is used where none is named."""

SHIPPED_FOLDER = Path(__file__).parent / "shipped"
"""Folder of the package's own models, each under its name."""

_MOST_HEADER = 2**20
"""Largest size of what stands before the weights in their file, and of config.json."""

Dtype = Literal["float32", "float16"]


@dataclass(frozen=True)
class ModelInfo(Checked):
    """The content of config.json: all that was chosen for a network, and where it comes from."""

    format_version: int
    unet_jax: str
    """Version of the program that wrote the folder."""
    dtype: Dtype
    """Type that `params` are stored in."""
    model: ModelConfig
    preprocess: PreprocessConfig
    classes: tuple[str, ...]
    """Names of the network's outputs."""
    size: int
    """Side of the input in pixels."""
    threshold: float
    """Probability from which on a pixel is tumour, chosen on validation."""
    postprocess: Postprocess
    """Cleaning of masks that was best on validation."""
    mask_rule: MaskRule
    """Rule by which the training masks were shrunk."""
    intensity_max: int
    """Largest intensity of the training slices at the network's size."""
    step: int
    """Training step of the weights."""
    seed: int
    """Seed of the run."""
    data_digest: str
    """Digest of the converted dataset that the network was trained on."""
    checkpoint_sha256: str
    """Digest of the checkpoint that the weights come from."""
    init_from: str | None = added(None, since="0.2.0")
    """Digest of the weights that the run started from, of a network as a whole; None where there were none."""

    def rules(self) -> Any:
        yield Rule("size", 1 <= self.size <= 2**14, "1 to 16384")
        yield Rule("threshold", 0 < self.threshold < 1, "between 0 and 1")
        yield Rule("classes", len(self.classes) == self.model.classes, f"{self.model.classes} names")


def model_path(model: str | Path) -> Path:
    """Find the folder of a model: one of the package's own by its name, or the folder itself.

    Raises:
        UserError: there is no such model or folder.
    """
    if isinstance(model, str) and is_shipped(model):
        return SHIPPED_FOLDER / model
    if (Path(model) / INFO).is_file():
        return Path(model)
    if is_exported(model):
        raise UserError(
            f"{model} is an exported file, which `unet_jax.predict` and `unet_jax.load` alone take. Give the workdir "
            "or model folder that it was made of."
        )
    names = sorted(path.parent.name for path in SHIPPED_FOLDER.glob(f"*/{INFO}"))
    there = f"the package has {', '.join(names)}" if names else "the package has none of its own"
    raise UserError(
        f"there is no model {model}: {there}, and {model} is no folder that `unet_jax.export` wrote. Give such a "
        "folder, or the workdir of a trained run."
    )


def is_shipped(name: str) -> bool:
    """Tell whether the package has a model of that name."""
    return Path(name).name == name and (SHIPPED_FOLDER / name / INFO).is_file()


def is_model(path: str | Path) -> bool:
    """Tell whether a path is a model folder, or a name that of a model of the package and of no file or folder."""
    if (Path(path) / WEIGHTS).is_file():
        return True
    return isinstance(path, str) and is_shipped(path) and not Path(path).exists()


def open_model(model: str | Path) -> TrainedNetwork:
    """Load the network of a model folder, every file of it verified.

    Args:
        model: the folder, or the name of a model that is part of the package, which goes first.

    Raises:
        UserError: there is none, or a file is missing, damaged or of another network.
    """
    path = model_path(model)
    info = read_info(path)
    variables, sha256 = _read_weights(path / WEIGHTS, info)
    return TrainedNetwork(
        path=path,
        model_name=path.resolve().name,
        model=info.model,
        preprocess=info.preprocess,
        size=info.size,
        intensity_max=info.intensity_max,
        step=info.step,
        seed=info.seed,
        data_digest=info.data_digest,
        sha256=sha256,
        variables=jax.device_put(variables),
        threshold=info.threshold,
        threshold_note=None,
        postprocess=info.postprocess,
    )


def read_info(folder: Path) -> ModelInfo:
    """Read config.json of a model folder; UserError if it is missing, damaged or of another version."""
    path = folder / INFO
    try:
        with path.open("rb") as f:
            raw = json.loads(f.read(_MOST_HEADER))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; expected a folder that `unet_jax.export` wrote.") from None
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path} is not JSON ({e}). Export the model again.") from None
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"{path} is of format version {version}; this program reads {FORMAT_VERSION}.")
    info = from_object(ModelInfo, raw, str(path))
    try:
        info.check("")
        check_size(info.size, info.size, info.model)
    except UserError as e:
        raise UserError(f"{path}: {e}") from None
    return info


def read_training_slices(folder: Path) -> SliceKeys:
    """Read the keys of the slices that a model was trained on."""
    return read_keys(folder / SLICES)


def write_model(folder: Path, info: ModelInfo, variables: Any, keys: SliceKeys, card: str) -> None:
    """Write a model folder; it appears whole, in the place of an earlier one, or not at all.

    Args:
        folder: absent, empty, or a model folder.
        info: the content of config.json; says the type that `params` are stored in. `batch_stats` stay float32.
        variables: `params` and `batch_stats`, float32.
        keys: of the training slices.
        card: the text of README.md.

    Raises:
        UserError: the folder is something else, or a value is too large for float16.
    """
    arrays = _stored(variables, info.dtype)
    others = {path.name for path in folder.iterdir()} - {WEIGHTS, INFO, SLICES, CARD} if folder.is_dir() else set()
    if folder.is_file() or others:
        what = f"holds {min(others)}" if others else "is a file"
        raise UserError(f"{folder} {what}; --out must be a new folder, or one of an earlier export.")
    target = Path(os.path.realpath(folder))
    with staged_folder(target) as new:
        # By bytes, so that the file gets the permissions that the person's umask gives.
        with replacing(new / WEIGHTS) as f:
            f.write(save(arrays))
        write_json(new / INFO, asdict(info))
        write_keys(new / SLICES, keys)
        write_text(new / CARD, card)
        replace_folder(target, new)


def _stored(variables: Any, dtype: Dtype) -> dict[str, np.ndarray]:
    """Name the arrays, `params` in the type that is asked for."""
    arrays = {}
    for name, value in flatten(jax.device_get(variables)).items():
        array = np.asarray(value, np.float32)
        largest = float(np.abs(array).max(initial=0))
        if name.startswith("params/") and dtype == "float16":
            if largest > float(np.finfo(np.float16).max):
                raise UserError(
                    f"{name} has a value of size {largest:g}, and float16 ends at 65504. Export with --dtype float32."
                )
            array = array.astype(np.float16)
        arrays[name] = np.ascontiguousarray(array)
    return arrays


def _read_weights(path: Path, info: ModelInfo) -> tuple[Any, str]:
    """Read `params` and `batch_stats` as float32, and the SHA-256 of the file; verify names, shapes, types, values."""
    try:
        expected = flatten(abstract_variables(info.model))
    except (OverflowError, TypeError, ValueError):  # of sizes beyond 64 bits
        raise UserError(
            f"{path.with_name(INFO)} describes a network beyond all sizes. Export the model again."
        ) from None
    stored = {name: _as_stored(name, x, info.dtype) for name, x in expected.items()}
    size = sum(x.size * x.dtype.itemsize for x in stored.values())
    try:
        found = path.stat().st_size
        if not size <= found <= size + _MOST_HEADER:
            raise UserError(f"{path} has {found} bytes; its {INFO} means {size} and a header. Export the model again.")
        with path.open("rb") as f:
            sha256 = hashlib.file_digest(f, "sha256").hexdigest()
        arrays = _load(path, stored)
    except FileNotFoundError:
        raise UserError(f"{path} is missing. Export the model again.") from None
    except SafetensorError as e:
        raise UserError(f"{path} is damaged ({e}). Export the model again.") from None
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {name} has values that are not finite. Export the model again.")
    return {"params": {}, "batch_stats": {}} | nest(arrays), sha256


def _load(path: Path, stored: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    """Read arrays as float32, once the header has been found to name these and no others."""
    types = {"F32": np.float32, "F16": np.float16}
    with safe_open(path, framework="numpy") as file:
        header = {}
        for name in file.keys():  # noqa: SIM118  it is no dict
            part = file.get_slice(name)
            if part.get_dtype() not in types:
                raise UserError(f"{path}: {name} is {part.get_dtype()}; expected F32 or F16. Export the model again.")
            header[name] = jax.ShapeDtypeStruct(tuple(part.get_shape()), types[part.get_dtype()])
        if wrong := difference(stored, header, path):
            raise UserError(f"{wrong} Export the model again.")
        return {name: file.get_tensor(name).astype(np.float32) for name in stored}


def _as_stored(name: str, x: Any, dtype: Dtype) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, np.dtype(dtype if name.startswith("params/") else np.float32))
