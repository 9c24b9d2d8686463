"""What the measurements of whole commands work on, made of the embedded phantom."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from unet_jax.config import Config, ModelConfig
from unet_jax.data.converted.arrays import Arrays, open_arrays
from unet_jax.data.converted.build import build
from unet_jax.data.phantom import write_phantom
from unet_jax.data.phantom.make import patient_slices
from unet_jax.imaging.display import to_display
from unet_jax.runs.opening import check_config, open_split
from unet_jax.runs.workdir import Workdir
from unet_jax.training.checkpoints.store import Checkpoints
from unet_jax.training.optimizer import make_optimizer
from unet_jax.training.state import init_state

SEED = 0


def raw_folder(folder: Path, patients: int) -> Path:
    """The phantom in the dataset's layout, made on first use."""
    raw = folder / f"raw-{patients}"
    if not raw.exists():
        making = raw.with_name(raw.name + ".tmp")
        write_phantom(making, patients, SEED)
        making.rename(raw)
    return raw


def converted(folder: Path, patients: int, size: int) -> Arrays:
    """The phantom as arrays, made on first use."""
    out = folder / f"data-{patients}-{size}"
    if out.exists():
        return open_arrays(out)
    return build(raw_folder(folder, patients), out, size=size, mask_rule="area")


def pngs(folder: Path, count: int) -> Path:
    """A folder of so many slices of 512x512 as 8-bit grey PNG."""
    folder.mkdir()
    done = patient = 0
    while done < count:
        for piece in patient_slices(SEED, patient):
            if done < count:
                Image.fromarray(to_display(piece.image)).save(folder / f"{done:04}.png")
                done += 1
        patient += 1
    return folder


def untrained_run(path: Path, arrays: Arrays, width: int) -> Config:
    """A workdir with the checkpoint of fresh weights, which compute as fast as trained ones.

    Masks are empty, by the bias of the output: the noise that fresh weights give takes six times as long to write as a
    tumour does.
    """
    config = replace(Config(data=str(arrays.path)), model=ModelConfig(width=width))
    workdir, silent = Workdir(path), _silent
    check_config(workdir, config)
    open_split(workdir, config, arrays, silent)
    state: Any = init_state(config, arrays.size, make_optimizer(config.optim, 1))
    state.params["output"]["bias"] -= 100.0
    with Checkpoints(workdir.checkpoints) as checkpoints:
        checkpoints.save(1, state, 0.5, wait=True)
    return config


def _silent(line: str) -> None:
    pass
