"""Opening of a run: lock, configuration, data, split."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from unet_jax.config import (
    DEMO_CONVERT,
    Config,
    ConvertConfig,
    PhantomConfig,
    Precision,
    UserError,
    flatten,
    read_config,
    to_json,
)
from unet_jax.data.converted.arrays import Arrays, open_arrays
from unet_jax.data.converted.build import build
from unet_jax.data.phantom import write_phantom
from unet_jax.data.splits import Split, load_split, make_split
from unet_jax.data.tfds.source import PREFIX as TFDS
from unet_jax.data.tfds.source import build_from_tfds
from unet_jax.models.compiler import computed_precision
from unet_jax.models.pretrained import HUB
from unet_jax.runs.model_folder import is_shipped
from unet_jax.runs.records import is_over, read_records
from unet_jax.runs.workdir import Workdir, check_name
from unet_jax.shared import locks
from unet_jax.shared.files import write_text

Say = Callable[[str], None]

MAY_CHANGE = ("data", "loader.pipeline", "model.precision")
"""Options that may change when a run is resumed: data are compared by digest, pipelines give the same batches, and each
line of metrics.jsonl has its precision."""


def lock(workdir: Workdir, say: Say) -> AbstractContextManager[object]:
    """Keep other trainings out of a workdir, by `locks.lock`.

    Raises:
        UserError: another training is in the workdir.
    """
    return locks.lock(
        workdir.path / "train.lock",
        taken=f"{workdir.path} is being trained by another process. Wait for it to end, or use another --workdir.",
        no_locks="a second training out of this workdir",
        say=say,
    )


def check_config(workdir: Workdir, config: Config) -> None:
    """Make the workdir of a new run, or make sure that a resumed one has the same configuration.

    The configuration is stored later, by `open_split`: options that the data do not allow must not be left behind as
    those of a run that never began, which would then refuse the mended ones.

    Raises:
        UserError: the workdir holds a run of another configuration; the options that differ are named. Or `check_name`.
    """
    check_name(workdir.path)
    if workdir.path.exists() and not workdir.path.is_dir():
        raise UserError(f"{workdir.path} is a file; --workdir must be a folder, or a name for a new one.")
    if workdir.config.exists():
        stored, given = flatten(read_config(workdir.config)), flatten(config)
        differ = [n for n in stored if stored[n] != given[n] and n not in MAY_CHANGE]
        if differ:
            named = ", ".join(f"--{n} {given[n]} (it has {stored[n]})" for n in differ)
            raise UserError(f"{workdir.path} holds a run of another configuration: {named}. Use another --workdir.")
    workdir.path.mkdir(parents=True, exist_ok=True)


def go_on(workdir: Workdir, config: Config, say: Say, *, new_rate: bool = False) -> Config:
    """Give the configuration to train with, checked by `check_config`: a finished run's epochs may be raised.

    The new epochs are a stretch of their own, whose learning rate is the last one, or one that is given. The first
    rate, given again before any other was, is taken for the command of the beginning with more epochs, which asks for
    no other rate; but under cosine. As any other configuration the stretch is stored by `open_split`.

    Args:
        workdir: of the run.
        config: as asked for; its learning rate may be that of any stretch.
        say: told of a new stretch.
        new_rate: a learning rate was given, though it may be that of the run.

    Raises:
        UserError: as `check_config`; fewer epochs; more of a run that is not finished or was stopped early, or without
            a learning rate under cosine, which ends in next to none.
    """
    if not workdir.config.exists():
        check_config(workdir, config)
        return config
    had, asked = read_config(workdir.config).optim, config.optim
    more = asked.epochs - had.epochs
    another = asked.learning_rate not in (had.learning_rate, *(rate for _, rate in had.stretches))
    begun = replace(asked, epochs=had.epochs)
    if more or not another:
        begun = replace(begun, learning_rate=had.learning_rate)
    if asked.stretches == had.stretches[: len(asked.stretches)]:
        # Of several processes the first one may have stored one more since this one read them.
        begun = replace(begun, stretches=had.stretches)
    config = replace(config, optim=begun)
    check_config(workdir, config)
    if not more:
        return config
    if more < 0:
        raise UserError(
            f"{workdir.path} has {had.epochs} epochs; --optim.epochs {asked.epochs} would be fewer. Leave it out, or "
            "use another --workdir."
        )
    raised = replace(had, epochs=asked.epochs)
    records = read_records(workdir)
    if not is_over(records, had):
        raise UserError(
            f"{workdir.path} has done {len(records)} of {had.epochs} epochs; --optim.epochs may be raised when it is "
            "finished. Leave it out to go on."
        )
    if is_over(records, raised):
        raise UserError(
            f"{workdir.path} was stopped early, after epoch {len(records)}, so that more epochs would not be trained. "
            f"Use another --workdir with --init-from {workdir.path}, which starts from its weights."
        )
    rate = had.courses[-1][1]
    if another or (new_rate and (had.schedule == "cosine" or had.jumps)):
        rate = asked.learning_rate
    elif had.schedule == "cosine":
        raise UserError(
            f"{workdir.path} is at the end of its cosine, a learning rate of {rate:g}. Give --optim.learning-rate for "
            f"the {more} epochs from {had.epochs} to {asked.epochs}."
        )
    say(f"Going on for {more} epochs, from {had.epochs} to {asked.epochs}, at a learning rate of {rate:g}.")
    return replace(config, optim=replace(raised, stretches=(*had.stretches, (had.epochs, rate))))


def choose_precision(workdir: Workdir, config: Config) -> Config:
    """Put in the place of the precision `auto` that of the run in the workdir; of a new run the one for this machine.

    Of several processes the first one, whose configuration the others find, so chooses for all.
    """
    asked = config.model.precision
    if asked == "auto" and workdir.config.exists():
        asked = read_config(workdir.config).model.precision
    if asked == "auto":
        asked = computed_precision(asked)
    return with_precision(config, asked)


def with_precision(config: Config, precision: Precision) -> Config:
    return replace(config, model=replace(config.model, precision=precision))


def open_data(workdir: Workdir, config: Config, say: Say) -> Arrays:
    """Open the run's converted dataset; the phantom (no `--data`) and `tfds:NAME` are converted on first use."""
    folder = workdir.data(config)
    if config.data is None and not folder.exists():
        phantom = PhantomConfig()
        say(f"Making the phantom: {phantom.patients} patients.")
        # All under one name, so that what a killed process left is found and removed.
        making = workdir.path / "phantom.tmp"
        shutil.rmtree(making, ignore_errors=True)
        write_phantom(making / "raw", phantom.patients, phantom.seed)
        build(making / "raw", making / "data", size=DEMO_CONVERT.size, mask_rule=DEMO_CONVERT.mask_rule)
        (making / "data").rename(folder)
        shutil.rmtree(making)
    elif config.data is not None and config.data.startswith(TFDS) and not folder.exists():
        say(f"Converting {config.data}.")
        build_from_tfds(config.data.removeprefix(TFDS), folder, ConvertConfig())
    return open_arrays(folder)


def open_split(workdir: Workdir, config: Config, arrays: Arrays, say: Say, *, drawn: Split | None = None) -> Split:
    """Open the run's split and store it with the configuration; on first use it is `drawn`, or drawn now.

    Raises:
        UserError: the data cannot be divided so, or the stored split was drawn from other data.
    """
    # The configuration is stored last, so a split without one was left by a process that stopped in between.
    if not (workdir.config.exists() and workdir.split.exists()):
        new = make_split(arrays, config.split) if drawn is None else drawn
        write_text(workdir.split, new.to_json(), durable=True)
    split = load_split(workdir.split)
    check_digest(workdir, split, arrays)
    write_text(workdir.config, to_json(config), durable=True)
    say(
        f"{len(arrays)} slices of {arrays.size}x{arrays.size} (mask rule {arrays.mask_rule}); split {split.kind}: "
        f"{len(split.train)} train, {len(split.val)} validation, {len(split.test)} test."
    )
    if split.patients_straddling:
        say(f"{split.patients_straddling} patients have slices both in training and in validation, which is also test.")
    return split


def store_absolute(config: Config) -> Config:
    """Make the paths of the data and of the weights to start from absolute, so that they hold from any folder."""
    start = config.init_from
    # A bare name that is no folder stays one: a model of the package, which goes before a folder.
    if start is not None and (Path(start).name != start or (Path(start).is_dir() and not is_shipped(start))):
        config = replace(config, init_from=str(Path(start).resolve()))
    weights = config.model.encoder_weights
    if weights != "none" and not weights.startswith(HUB):
        config = replace(config, model=replace(config.model, encoder_weights=str(Path(weights).resolve())))
    if config.data is None or config.data.startswith(TFDS):
        return config
    return replace(config, data=str(Path(config.data).resolve()))


def check_digest(workdir: Workdir, split: Split, arrays: Arrays) -> None:
    """Raise UserError unless `arrays` is the dataset that the run was trained on."""
    if split.data_digest != arrays.digest:
        raise UserError(
            f"{workdir.path} was trained on data with digest {split.data_digest[:12]}, {arrays.path} has "
            f"{arrays.digest[:12]}. Give the folder it was trained on as --data."
        )
