"""`python -m unet_jax.tfds --raw DIR`: prepare the dataset for TensorFlow Datasets."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_jax.shared import cli


@dataclass(frozen=True, kw_only=True)
class Options:
    """Prepare `brain_tumor_figshare` for TensorFlow Datasets (tfds.load, --data tfds:brain_tumor_figshare)."""

    raw: Path | None = None
    """Folder of the slices 1.mat, 2.mat, ..., or the folder above their `data` or the archives' four folders. By
    default the slices are fetched from Figshare."""
    data_dir: Path | None = None
    """Folder of TensorFlow Datasets' datasets; by default TFDS_DATA_DIR, or ~/tensorflow_datasets."""


def main(argv: Sequence[str] | None = None) -> int:
    options = cli.parse(Options, "tfds", argv)

    from unet_jax.data.tfds.source import data_dir, prepare

    folder, slices, before = prepare(options.raw, data_dir() if options.data_dir is None else options.data_dir)
    print(f"{slices} slices in {folder}" + (" (prepared before; remove it to prepare it anew)" if before else ""))
    name = folder.parent.name if options.data_dir is None else shlex.quote(str(folder.parent.absolute()))
    print(f"Next: {cli.started('train')} --workdir runs/t --data tfds:{name}")
    return 0


if __name__ == "__main__":
    cli.run(main)
