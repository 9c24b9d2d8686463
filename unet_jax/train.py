"""`python -m unet_jax.train --workdir W`: train, or resume, a network."""

import functools
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from unet_jax.config import Config, DistributedConfig
from unet_jax.shared import cli


def _stored(workdir: Path) -> Path:
    return workdir / "config.json"


def main(argv: Sequence[str] | None = None) -> int:
    import tyro

    argv = sys.argv[1:] if argv is None else argv
    start = cli.starting_config(argv, _stored)

    def command(
        workdir: Path,
        distributed: DistributedConfig = DistributedConfig(),  # noqa: B008  frozen
        config: Annotated[Config, tyro.conf.arg(name="")] = start,
    ) -> int:
        """Train a U-Net, or go on where the run in the workdir stopped; a finished one with a higher --optim.epochs.

        Args:
            workdir: Folder of the run: configuration, split, checkpoints, metrics, pictures. A run in it is resumed.
            config: All that decides the outcome.
        """
        distributed = distributed.check()
        # Fewer epochs than the run has are named as such, in `go_on`, and not what no longer fits to them.
        epochs = max(config.optim.epochs, start.optim.epochs) if _stored(workdir).exists() else config.optim.epochs
        replace(config, optim=replace(config.optim, epochs=epochs)).check()

        # The one import of jax and all that needs it, after --help and wrong usage have been answered.
        from unet_jax.models import compile_cache
        from unet_jax.runs.interrupts import Interrupts
        from unet_jax.runs.train import train
        from unet_jax.runs.workdir import Workdir
        from unet_jax.training import processes

        say = functools.partial(print, flush=True)  # a line is seen at once, also in a log file
        processes.connect(distributed)
        with processes.together(), Interrupts() as interrupts:
            compile_cache.enable()
            new_rate = cli.is_given(argv, "--optim.learning-rate")
            finished = train(workdir, config, interrupts, say, new_rate=new_rate)
        if not processes.is_first():
            return 0 if finished else cli.EXIT_PREEMPTED
        if finished is None:
            say(f"{interrupts.received}: saved. Run the same command again to go on.")
            return cli.EXIT_PREEMPTED
        files, best, threshold = Workdir(workdir), finished.best, finished.threshold
        say(
            f"{'This run was finished before' if finished.was_finished else 'Finished'}: "
            f"{finished.records[-1]['epoch']} epochs. Best validation micro-IoU {best['val']['micro_iou']:.4f} "
            f"(epoch {best['epoch']}, {finished.size}x{finished.size}, threshold 0.5); {threshold.micro_iou:.4f} at "
            f"native size with threshold {threshold.threshold:.2f}.\n"
            f"Curves: {files.history}   Predictions: {files.gallery}   Checkpoints: {files.checkpoints}\n"
            f"Next: {cli.started('eval')} --workdir {workdir}"
        )
        return 0

    return cli.parse(command, "train", argv)


if __name__ == "__main__":
    cli.run(main)
