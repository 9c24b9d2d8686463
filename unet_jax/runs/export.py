"""Export of a run's network to a model folder."""

import json
from dataclasses import replace
from pathlib import Path

import unet_jax
from unet_jax.config import TUMORS, UserError
from unet_jax.data.converted.arrays import Arrays, open_arrays
from unet_jax.data.recognise import keys_of
from unet_jax.models.pretrained import HUB
from unet_jax.reporting.model_card import model_card
from unet_jax.runs.initial import read_initial
from unet_jax.runs.model_folder import FORMAT_VERSION, Dtype, ModelInfo, write_model
from unet_jax.runs.networks import TrainedRun, least_postprocess, open_run
from unet_jax.runs.opening import check_digest


def export(
    workdir: Path, out: Path, *, dtype: Dtype, checkpoint: str, data: Path | None, summary: Path | None
) -> ModelInfo:
    """Write the network of a run to a model folder.

    Args:
        workdir: of the run.
        out: folder to make, or one of an earlier export.
        dtype: type to store `params` in.
        checkpoint: as in `open_run`.
        data: the dataset that the network was trained on; None for the one that the run names.
        summary: summary.json of an evaluation of this network, for the model card.

    Returns:
        The content of config.json.

    Raises:
        UserError: no run, no such checkpoint, other data, no threshold or post-processing chosen for the checkpoint, a
            value too large for float16, or a summary that is none.
    """
    run = open_run(workdir, checkpoint)
    arrays = open_arrays(data or run.workdir.data(run.config))
    check_digest(run.workdir, run.split, arrays)
    info = describe(run, arrays, dtype)
    card = model_card(
        name=out.resolve().name,
        workdir=workdir.resolve().name,
        config=replace(run.config, model=info.model),
        chosen=info,
        sides={"train": len(run.split.train), "validation": len(run.split.val), "test": len(run.split.test)},
        straddling=run.split.patients_straddling,
        patients=len(set(arrays.pids)),
        summary=None if summary is None else _read_summary(summary),
    )
    write_model(out, info, run.variables, keys_of(arrays, run.split.rows(arrays, "train")), card)
    return info


def describe(run: TrainedRun, arrays: Arrays, dtype: Dtype) -> ModelInfo:
    """Describe a run's network as a model folder does; UserError if no threshold was chosen for its checkpoint."""
    if run.threshold is None:
        raise UserError(
            f"{run.path} has no threshold for step {run.step}: {run.threshold_note}. "
            f"Run `python -m unet_jax.eval --workdir {run.path} --split val` first."
        )
    weights = run.model.encoder_weights
    # Of a local file the name alone: its folder is nobody's business, and elsewhere another one.
    source = weights if weights.startswith(HUB) else Path(weights).name
    initial = read_initial(run.workdir, run.config)
    return ModelInfo(
        format_version=FORMAT_VERSION,
        unet_jax=unet_jax.__version__,
        dtype=dtype,
        model=replace(run.model, encoder_weights=source),
        preprocess=run.preprocess,
        classes=("tumor",) if run.model.classes == 1 else TUMORS,
        size=run.size,
        threshold=run.threshold,
        postprocess=least_postprocess([run]),
        mask_rule=arrays.mask_rule,
        intensity_max=run.intensity_max,
        step=run.step,
        seed=run.config.seed,
        data_digest=run.split.data_digest,
        checkpoint_sha256=run.sha256,
        init_from=initial.init_from.sha256 if initial and initial.init_from else None,
    )


def _read_summary(path: Path) -> dict:
    try:
        summary = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected the summary.json that `unet_jax.eval` wrote.") from None
    except (ValueError, RecursionError):
        summary = None
    if not isinstance(summary, dict) or "native" not in summary:
        raise UserError(f"{path} is no summary.json; expected the one that `unet_jax.eval` wrote.")
    return summary
