"""`python -m unet_jax.check DATA`: tell whether a dataset is what it should be."""

from collections.abc import Sequence
from pathlib import Path

from unet_jax.config import UserError
from unet_jax.shared import cli


def main(argv: Sequence[str] | None = None) -> int:
    import tyro

    def command(data: tyro.conf.Positional[Path], json: Path | None = None, workers: int | None = None) -> int:
        """Check a dataset: its files, slices, patients and folds. Exit code 2 if there are errors.

        Args:
            data: Folder of the slices 1.mat, 2.mat, ... (or the folder above their `data` or the archives' four
                folders), or a converted dataset.
            json: File for the whole report, every finding with all its slices.
            workers: Number of processes that read a raw folder; by default one a core, 4 at most.
        """
        if json is not None and not json.absolute().parent.is_dir():
            raise UserError(f"--json is {json}; its folder does not exist.")

        from unet_jax.data.check.integrity import check
        from unet_jax.shared.files import write_json

        report = check(data, workers=workers)
        print("\n".join(report.lines()))
        if json is not None:
            write_json(json, report.content())
        return cli.EXIT_USAGE if report.errors else 0

    return cli.parse(command, "check", argv)


if __name__ == "__main__":
    cli.run(main)
