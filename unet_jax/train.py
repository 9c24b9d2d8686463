"""`python -m unet_jax.train --workdir W`: train, or resume, a network."""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

from unet_jax import cli
from unet_jax.config import Config, PresetName, preset, read_config, validate


def main(argv: Sequence[str] | None = None) -> int:
    import tyro

    argv = sys.argv[1:] if argv is None else argv
    start = _starting_config(argv)

    def options(workdir: Path, config: Annotated[Config, tyro.conf.arg(name="")] = start) -> tuple[Path, Config]:
        """Train a U-Net, or go on where the run in the workdir stopped.

        Args:
            workdir: Folder of the run: configuration, split, checkpoints, metrics, pictures. A run in it is resumed.
            config: All that decides the outcome.
        """
        return workdir, config

    workdir, config = cli.parse(options, "train", argv)
    return _train(workdir, validate(config))


def _starting_config(argv: Sequence[str]) -> Config:
    """What the options override: the configuration of the run in the workdir, else the preset's."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--workdir", "--data", "--preset"):
        first.add_argument(name, nargs="?")
    given, _ = first.parse_known_args(argv)
    if given.workdir and (stored := Path(given.workdir) / "config.json").exists():
        return read_config(stored)
    if given.preset in get_args(PresetName):
        return preset(given.preset)
    return preset("original" if given.data else "demo")


def _train(path: Path, config: Config) -> int:
    # The one import of jax and all that needs it, after --help and wrong usage have been answered.
    from unet_jax import compile_cache
    from unet_jax.evaluation import choose_threshold, draw_gallery, score_slices
    from unet_jax.fit import Interrupts, best_record, fit
    from unet_jax.models.unet import check_size
    from unet_jax.predictor import Predictor, read_threshold, store_threshold
    from unet_jax.scoring.report import history_png
    from unet_jax.workdir import Workdir, open_data, open_split, settle_config, store_absolute

    say = functools.partial(print, flush=True)  # a line is seen at once, also in a log file
    workdir, config = Workdir(path), store_absolute(config)
    settle_config(workdir, config)
    compile_cache.enable()
    arrays = open_data(workdir, config, say)
    check_size(arrays.size, arrays.size, config.model)
    split = open_split(workdir, config, arrays, say)
    with Interrupts() as interrupts:
        fitted = fit(workdir, config, arrays, split, interrupts, say)
        if fitted.records:
            history_png(fitted.records, workdir.history)
        if interrupts.received:
            say(f"{interrupts.received}: saved. Run the same command again to go on.")
            return cli.EXIT_PREEMPTED
        predictor = Predictor.open(path)
        rows = split.rows(arrays, "val")
        if not (fitted.was_finished and predictor.threshold_note is None and workdir.gallery.exists()):
            chosen = choose_threshold(predictor, arrays, rows)
            store_threshold(workdir, chosen)
            predictor.threshold = chosen["threshold"]
            draw_gallery(predictor, arrays, score_slices(predictor, arrays, rows), workdir.gallery)
    best, chosen = best_record(fitted.records), read_threshold(workdir)
    assert best is not None and chosen is not None, "a finished run has records and a threshold"
    done = "This run was finished before" if fitted.was_finished else "Finished"
    say(
        f"{done}: {fitted.records[-1]['epoch']} epochs. Best validation micro-IoU {best['val']['micro_iou']:.4f} "
        f"(epoch {best['epoch']}, {arrays.size}x{arrays.size}, threshold 0.5); "
        f"{chosen['micro_iou']:.4f} at native size with threshold {chosen['threshold']:.2f}.\n"
        f"Curves: {workdir.history}   Predictions: {workdir.gallery}   Checkpoints: {workdir.checkpoints}\n"
        f"Next: python -m unet_jax.eval --workdir {path}"
    )
    return 0


if __name__ == "__main__":
    cli.run(main)
