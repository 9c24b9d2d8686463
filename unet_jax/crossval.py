"""`python -m unet_jax.crossval --workdir W --folds 5`: train every fold; score each slice by the fold without it."""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from unet_jax.config import Config, fold_configs
from unet_jax.shared import cli


def main(argv: Sequence[str] | None = None) -> int:
    import tyro

    argv = sys.argv[1:] if argv is None else argv
    start = cli.starting_config(argv, lambda workdir: workdir / "fold-1" / "config.json")

    def command(
        workdir: Path,
        folds: int = start.split.folds,
        spacing: float | None = None,
        tolerance: float = 2.0,
        config: Annotated[Config, tyro.conf.arg(name="")] = start,
    ) -> int:
        """Train a network for each fold, or go on where a run stopped; pool the predictions of the slices left out.

        Args:
            workdir: Folder for the folds' workdirs (fold-1, fold-2, ...) and eval/oof/, the pooled scores.
            folds: Number of folds. Patients are kept whole; with --split.kind official the dataset's five are taken.
            spacing: Millimetres a native pixel, so that distances are in mm; 0.49 for the Figshare dataset.
            tolerance: Tolerance of the normalised surface Dice, in mm with --spacing, else in pixels.
            config: Configuration of every fold. Options of --split but seed and kind are set for each fold.
        """
        cli.check_distances(spacing, tolerance)
        configs = fold_configs(config, folds)

        from unet_jax.models import compile_cache
        from unet_jax.reporting.terminal import summary_table
        from unet_jax.runs.crossval import cross_validate
        from unet_jax.runs.interrupts import Interrupts

        say = functools.partial(print, flush=True)
        compile_cache.enable()
        with Interrupts() as interrupts:
            summary = cross_validate(workdir, configs, interrupts, say, spacing=spacing, tolerance=tolerance)
        if summary is None:
            say(f"{interrupts.received}: saved. Run the same command again to go on.")
            return cli.EXIT_PREEMPTED
        say(summary_table(summary))
        say(
            f"Written: {workdir / 'eval' / 'oof'}\n"
            f"Next: {cli.started('predict')} --workdir {workdir} --input FOLDER --output MASKS, all folds averaged"
        )
        return 0

    return cli.parse(command, "crossval", argv)


if __name__ == "__main__":
    cli.run(main)
