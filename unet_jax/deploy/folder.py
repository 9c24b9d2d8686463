"""A trained network as a model folder: that of a run, or another model anew."""

import json
from dataclasses import replace
from pathlib import Path

import unet_jax
from unet_jax.config import UserError, flatten
from unet_jax.data.converted.arrays import Arrays, open_arrays
from unet_jax.data.recognise import keys_of
from unet_jax.reporting.model_card import model_card
from unet_jax.runs.initial import read_initial
from unet_jax.runs.model_folder import (
    CARD,
    FORMAT_VERSION,
    Dtype,
    ModelInfo,
    model_path,
    open_model,
    read_info,
    read_training_slices,
    write_model,
)
from unet_jax.runs.networks import TrainedRun, least_postprocess, open_run
from unet_jax.runs.opening import check_digest

MAY_DIFFER = ("data", "loader.pipeline", "model.encoder-weights", "model.precision")
"""Options that the recipe of a network does not depend on: where things lie, and how it was computed."""


def export_run(
    workdir: Path,
    out: Path,
    *,
    dtype: Dtype,
    checkpoint: str,
    data: Path | None,
    choices_of: Path | None,
    summary: Path | None,
) -> ModelInfo:
    """Write the network of a run to a model folder.

    Args:
        workdir: of the run.
        out: folder to make, or one of an earlier export.
        dtype: type to store `params` in.
        checkpoint: as in `open_run`.
        data: the dataset that the network was trained on; None for the one that the run names.
        choices_of: a run of the same recipe on another split, whose threshold and post-processing are taken.
        summary: summary.json of an evaluation of this network, or of that of `choices_of`, for the model card.

    Returns:
        The content of config.json.

    Raises:
        UserError: no run, no such checkpoint, other data, no threshold or post-processing chosen for the checkpoint, a
            value too large for float16, another recipe in `choices_of`, or a summary that is none, or of another
            network.
    """
    run = open_run(workdir, checkpoint)
    chosen_by = run if choices_of is None else _open_twin(run, choices_of)
    arrays = open_arrays(data or run.workdir.data(run.config))
    check_digest(run.workdir, run.split, arrays)
    info = describe(run, arrays, dtype, chosen_by)
    card = model_card(
        name=out.resolve().name,
        workdir=workdir.resolve().name,
        config=replace(run.config, model=info.model),
        chosen=info,
        split=run.split,
        twin=None if choices_of is None else chosen_by.split,
        patients=len(set(arrays.pids)),
        summary=None if summary is None else _read_summary(summary, chosen_by),
    )
    write_model(out, info, run.variables, keys_of(arrays, run.split.rows(arrays, "train")), card)
    return info


def export_model(model: str, out: Path, *, dtype: Dtype | None) -> ModelInfo:
    """Write a model to a folder of its own, the same but for the type of its parameters.

    Args:
        model: as in `open_model`.
        out: folder to make, or one of an earlier export.
        dtype: type to store `params` in; None for that of the model.

    Returns:
        The content of config.json.
    """
    network, info = open_model(model), read_info(model_path(model))
    info = info if dtype is None else replace(info, dtype=dtype)
    card = (network.path / CARD).read_text("utf-8")
    write_model(out, info, network.variables, read_training_slices(network.path), card)
    return info


def describe(run: TrainedRun, arrays: Arrays, dtype: Dtype, chosen_by: TrainedRun) -> ModelInfo:
    """Describe a run's network as a model folder does.

    Args:
        run, arrays, dtype: the network, its data, and the type that it is stored in.
        chosen_by: the run whose threshold and post-processing are taken: itself, or one of the same recipe.

    Raises:
        UserError: no threshold or post-processing was chosen for the checkpoint of `chosen_by`.
    """
    initial = read_initial(run.workdir, run.config)
    return ModelInfo(
        format_version=FORMAT_VERSION,
        unet_jax=unet_jax.__version__,
        dtype=dtype,
        model=run.published_model,
        preprocess=run.preprocess,
        classes=run.classes,
        size=run.size,
        threshold=chosen_by.chosen_threshold(),
        postprocess=least_postprocess([chosen_by]),
        mask_rule=arrays.mask_rule,
        intensity_max=run.intensity_max,
        step=run.step,
        seed=run.seed,
        data_digest=run.data_digest,
        checkpoint_sha256=run.sha256,
        init_from=initial.init_from.sha256 if initial and initial.init_from else None,
    )


def _open_twin(run: TrainedRun, path: Path) -> TrainedRun:
    """Open a run at its best checkpoint; UserError unless its data and options are those of `run` but for the split."""
    twin = open_run(path)
    if twin.split.data_digest != run.split.data_digest:
        raise UserError(f"--choices-of {path} was trained on other data than {run.path}. Name a run on the same.")
    ours, theirs = flatten(run.config), flatten(twin.config)
    for option in ours.keys() | theirs.keys():
        same = ours.get(option) == theirs.get(option)
        if not same and not option.startswith("split.") and option not in MAY_DIFFER:
            raise UserError(
                f"--choices-of {path} has {option} {theirs.get(option)}, and {run.path} has {ours.get(option)}. "
                "Name a run that differs in its split alone."
            )
    return twin


def _read_summary(path: Path, scored: TrainedRun) -> dict:
    try:
        summary = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected the summary.json that `unet_jax.eval` wrote.") from None
    except (ValueError, RecursionError):
        summary = None
    if not isinstance(summary, dict) or "native" not in summary:
        raise UserError(f"{path} is no summary.json; expected the one that `unet_jax.eval` wrote.")
    # Written by 0.1, a summary does not name its networks.
    if summary.get("networks", [scored.sha256]) != [scored.sha256]:
        raise UserError(f"{path} is of another network than {scored.path} at step {scored.step}. Evaluate that one.")
    return summary
