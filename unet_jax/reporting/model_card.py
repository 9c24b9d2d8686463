"""The model card of an exported network: what it is, how it was trained, what it scored. Markdown from a template."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from unet_jax.config import TUMORS, Config, UserError, flatten, preset, to_options
from unet_jax.reporting.templates import Kind, number, templates
from unet_jax.reporting.terminal import seen_before, training_slices


class Origin(NamedTuple):
    """Origin of the weights that an encoder started from."""

    name: str
    licence: str
    source: str


ORIGINS = {
    "efficientnet_lite0": Origin(
        "EfficientNet-Lite0, trained on ImageNet",
        "Apache 2.0",
        "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
    )
}
"""Origins of pretrained encoders, by `model.encoder`."""

_SCORES: dict[str, tuple[str, Kind]] = {
    "mean_dice": ("Mean Dice", "score"),
    "mean_iou": ("Mean IoU", "score"),
    "micro_iou": ("Micro IoU", "score"),
    "hd95": ("HD95, {unit}", "distance"),
    "missed": ("Missed", "fraction"),
}
"""Scores of the card: heading, and kind of number."""


def model_card(
    *,
    name: str,
    workdir: str,
    config: Config,
    chosen: Any,
    split: Any,
    twin: Any,
    patients: int,
    summary: Mapping[str, Any] | None,
) -> str:
    """Write the card, in the form that the Hugging Face hub reads: YAML between dashes, then Markdown.

    Args:
        name: of the model.
        workdir: name of the run's folder.
        config: of the run.
        chosen: has `size`, `threshold`, `postprocess`, `mask_rule`, `step`, `data_digest`, `checkpoint_sha256`,
            `dtype`, `unet_jax` and `init_from`.
        split: the run's `data.splits.Split`.
        twin: that of the run of the same recipe by which threshold and cleaning were chosen and which has the scores;
            None for the run itself.
        patients: number of all patients of the dataset.
        summary: content of an evaluation's summary.json; without one the card says that there are no scores.

    Raises:
        UserError: the summary lacks what an evaluation writes.
    """
    # Of the folder that the run started from the name alone.
    start = None if config.init_from is None else Path(config.init_from).name
    config = replace(config, init_from=start)
    options, defaults = flatten(config), flatten(Config())
    return (
        templates(escape=False)
        .get_template("model_card.md")
        .render(
            name=name,
            chosen=chosen,
            options=options,
            recipe={
                option: (value, defaults[option])
                for option, value in options.items()
                if value != defaults[option] and option not in ("data", "preset")
            },
            command=shlex.join(_command(config, workdir)),
            phantom=config.data is None,
            encoder=_origin(options),
            start=start,
            split=split,
            twin=twin,
            patients=patients,
            scores=None if summary is None else _scores(summary, chosen.data_digest),
        )
    )


def _command(config: Config, workdir: str) -> list[str]:
    """Give the command that trains such a network; of folders the names alone."""
    command = ["python", "-m", "unet_jax.train", "--workdir", f"runs/{workdir}"]
    if config.data is not None:
        command += ["--data", config.data if config.data.startswith("tfds:") else Path(config.data).name]
    return command + ["--preset", config.preset] + to_options(config, preset(config.preset, config.data))


def _origin(options: Mapping[str, Any]) -> Origin | None:
    """Tell where the encoder's first weights come from; None where they were drawn at random.

    Those of a run that started from another network may go back to the same origin.
    """
    weights, start = options.get("model.encoder-weights", "none"), options.get("init-from")
    if weights == "none" and (start is None or options["model.encoder"] not in ORIGINS):
        return None
    encoder = str(options["model.encoder"])
    return ORIGINS.get(encoder, Origin(encoder, "unknown", str(options["model.encoder-weights"])))


def _score(group: Mapping[str, Any], key: str) -> str:
    """Print a figure, and its interval where it has one."""
    kind, interval = _SCORES[key][1], group["ci95"][key]
    text = number(group[key], kind)
    return text if interval is None else f"{text} ({number(interval[0], kind)} to {number(interval[1], kind)})"


def _scores(summary: Mapping[str, Any], data_digest: str) -> dict[str, Any]:
    """Pick what the card shows of an evaluation, native resolution."""
    try:
        native = summary["native"]
        groups = {"All": native | {"n_slices": summary["n_slices"]}}
        groups |= {tumor.capitalize(): native["by_tumor"][tumor] for tumor in TUMORS}
        rows = {
            label: [number(group["n_slices"], "count"), *(_score(group, key) for key in _SCORES)]
            for label, group in groups.items()
            if group["n_slices"]
        }
        return {
            "split": summary["split"],
            "n_slices": summary["n_slices"],
            "n_patients": summary["n_patients"],
            "threshold": summary["threshold"],
            "tta": summary["tta"],
            "postprocess": summary["postprocess"],
            "empty_rule": summary["empty_rule"],
            "same_data": summary["data_digest"] == data_digest,
            "started": seen_before(summary),
            "trained_on": training_slices(summary["training_slices"]) if "training_slices" in summary else None,
            "headings": ["Slices", *(heading.format(unit=summary["distance_unit"]) for heading, _ in _SCORES.values())],
            "rows": rows,
        }
    except (KeyError, TypeError, AttributeError) as e:
        raise UserError(f"--summary is no summary.json of `unet_jax.eval`: it lacks {e}.") from None
