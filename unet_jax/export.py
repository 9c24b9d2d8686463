"""`python -m unet_jax.export --workdir W --out FILE_OR_DIR`: a network to pass on, also as ONNX or StableHLO."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unet_jax.config import UserError
from unet_jax.shared import cli


@dataclass(frozen=True, kw_only=True)
class Options:
    """Write a trained network to a folder (weights, what was chosen for it, its training slices' keys, a model card),
    or to one file that holds all from raw intensities to probabilities: ONNX, or StableHLO with FILE.stablehlo.json."""

    workdir: tuple[Path, ...] | None = None
    """Folder of the trained run; a file may average several."""
    model: str | None = None
    """Instead of a workdir: a model of the package by its name, or a folder that `unet_jax.export` wrote."""
    out: Path
    """FILE.onnx, FILE.stablehlo, or a folder to make; an earlier export there is replaced."""
    dtype: Literal["float32", "float16"] | None = None
    """Type to store parameters in, in a folder; float16 halves it. Statistics of normalisation are float32 in both
    cases. Default: float32, or that of the model. Files have float32."""
    checkpoint: str = "best"
    """Checkpoint to use: best, latest, or the number of a step."""
    data: Path | None = None
    """Converted dataset that the network was trained on, for a folder; default: the one of the run."""
    choices_of: Path | None = None
    """Folder of a run with the same options on another split. Threshold and cleaning are those of its best checkpoint;
    for a network that was trained on all slices (--split.kind whole), which can choose neither."""
    summary: Path | None = None
    """The summary.json of an evaluation of the network, or of that of --choices-of, for the model card's scores."""


def main(argv: Sequence[str] | None = None) -> int:
    options = cli.parse(Options, "export", argv)
    cli.check_networks(options.workdir, options.model)
    if options.workdir is None and options.model is None:
        raise UserError("neither --workdir nor --model was given. Name the network to export, such as --model best.")

    from unet_jax.inference.exported.metadata import ONNX, STABLEHLO

    return _file(options) if options.out.suffix.lower() in (ONNX, STABLEHLO) else _folder(options)


def _file(options: Options) -> int:
    _refuse(options, ("dtype", "data", "choices_of", "summary"), f"--out is the file {options.out}", "a folder")
    if options.out.is_dir():
        raise UserError(f"--out is {options.out}, which is a folder. Name a file, or a folder without that suffix.")

    from unet_jax.deploy.files import export_file

    metadata = export_file(options.workdir or (), options.model, options.checkpoint, options.out)
    print(
        f"Network: {options.out} ({options.out.stat().st_size / 1e6:.1f} MB), {metadata.name} at "
        f"{metadata.size}x{metadata.size}, threshold {metadata.threshold:g}\n"
        f"Next: {cli.started('predict')} --model {options.out} --input scans --output masks"
    )
    return 0


def _folder(options: Options) -> int:
    from unet_jax.deploy.folder import export_model, export_run

    if options.model is not None:
        _refuse(options, ("data", "choices_of", "summary"), "--model was given", "a --workdir")
        if options.checkpoint != "best":
            raise UserError(f"--checkpoint is {options.checkpoint}, but a model has one set of weights.")
        export_model(options.model, options.out, dtype=options.dtype)
    else:
        workdirs = list(options.workdir or ())
        if len(workdirs) > 1:
            raise UserError(
                f"--workdir names {len(workdirs)} runs, and a folder takes one network. Name FILE.onnx or "
                "FILE.stablehlo as --out, which averages them."
            )
        export_run(
            workdirs[0],
            options.out,
            dtype=options.dtype or "float32",
            checkpoint=options.checkpoint,
            data=options.data,
            choices_of=options.choices_of,
            summary=options.summary,
        )
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(
        f"Model: {options.out} ({size / 1e6:.1f} MB)   Model card, to be read over before it is passed on: "
        f"{options.out / 'README.md'}\n"
        f"Next: {cli.started('predict')} --model {options.out} --input scans --output masks"
    )
    return 0


def _refuse(options: Options, names: Sequence[str], because: str, instead: str) -> None:
    """Raise UserError where one of these options was given."""
    for name in names:
        if getattr(options, name) is not None:
            option = name.replace("_", "-")
            raise UserError(f"{because}, and --{option} is for {instead}. Leave out --{option}, or give {instead}.")


if __name__ == "__main__":
    cli.run(main)
