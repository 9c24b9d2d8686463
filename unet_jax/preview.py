"""`python -m unet_jax.preview --output sheet.png`: draw slices as training sees them, augmented."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from unet_jax.config import Config, UserError
from unet_jax.shared import cli


def main(argv: Sequence[str] | None = None) -> int:
    import tyro

    argv = sys.argv[1:] if argv is None else argv
    start = cli.starting_config(argv, lambda workdir: workdir / "config.json")

    def options(
        output: Path, slices: int = 4, versions: int = 7, config: Annotated[Config, tyro.conf.arg(name="")] = start
    ) -> tuple[Path, int, int, Config]:
        """Draw a contact sheet: a row a slice, the original and then several versions as augmentation makes them.

        Args:
            output: File to write, a PNG.
            slices: Number of slices, spread over the tumour types.
            versions: Number of augmented versions of each.
            config: The options of `train`; those of data, preprocess, augment and the seed count here.
        """
        return output, slices, versions, config

    output, slices, versions, config = cli.parse(options, "preview", argv)
    config.check()
    for name, number in (("slices", slices), ("versions", versions)):
        if not 1 <= number <= 32:
            raise UserError(f"--{name} is {number}; it must be 1 to 32.")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise UserError(f"--output is {output}; it must be a file in a folder that exists.")

    from unet_jax.models import compile_cache
    from unet_jax.reporting.sheet import sheet_png
    from unet_jax.runs.opening import open_data
    from unet_jax.runs.preview import preview
    from unet_jax.runs.workdir import Workdir

    compile_cache.enable()
    with TemporaryDirectory(prefix="unet-jax-preview-") as folder:  # for data that are made on first use
        arrays = open_data(Workdir(Path(folder)), config, print)
        rows = preview(arrays, config, slices, versions)
    sheet_png(rows, output)
    print(f"{len(rows)} slices of {arrays.size}x{arrays.size}, each unchanged and augmented {versions} times: {output}")
    return 0


if __name__ == "__main__":
    cli.run(main)
