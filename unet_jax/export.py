"""`python -m unet_jax.export --workdir W --out DIR`: a trained network in a folder to pass on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unet_jax.config import UserError
from unet_jax.shared import cli


@dataclass(frozen=True, kw_only=True)
class Options:
    """Write a trained network to a folder: weights, what was chosen for it, its training slices' keys, a model card."""

    workdir: Path
    """Folder of the trained run."""
    out: Path
    """Folder to make; an earlier export there is replaced."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type to store parameters in; float16 halves the file. Statistics of normalisation are float32 in both cases."""
    checkpoint: str = "best"
    """Checkpoint to use: best, latest, or the number of a step."""
    data: Path | None = None
    """Converted dataset that the network was trained on; default: the one of the run."""
    choices_of: Path | None = None
    """Folder of a run with the same options on another split. Threshold and cleaning are those of its best checkpoint;
    for a network that was trained on all slices (--split.kind whole), which can choose neither."""
    summary: Path | None = None
    """The summary.json of an evaluation of the network, or of that of --choices-of, for the model card's scores."""


def main(argv: Sequence[str] | None = None) -> int:
    options = cli.parse(Options, "export", argv)
    if options.out.suffix in (".onnx", ".stablehlo"):
        raise UserError(f"--out is {options.out}, but {options.out.suffix} is not written yet. Give a folder.")

    from unet_jax.runs.export import export

    export(
        options.workdir,
        options.out,
        dtype=options.dtype,
        checkpoint=options.checkpoint,
        data=options.data,
        choices_of=options.choices_of,
        summary=options.summary,
    )
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(
        f"Model: {options.out} ({size / 1e6:.1f} MB)   Model card, to be read over before it is passed on: "
        f"{options.out / 'README.md'}\n"
        f"Next: python -m unet_jax.predict --model {options.out} --input scans --output masks"
    )
    return 0


if __name__ == "__main__":
    cli.run(main)
