"""`python -m unet_jax.convert --raw DIR --out D`: convert raw slices to the arrays that training reads."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_jax.config import TUMORS, ConvertConfig
from unet_jax.shared import cli


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(ConvertConfig):
    """Convert slices in the Figshare dataset's layout to the arrays that training reads."""

    raw: Path
    """Folder of the slices 1.mat, 2.mat, ..., or the folder above their `data` or the archives' four folders."""
    out: Path
    """Folder of the converted dataset to make."""
    skip_bad: bool = False
    """Leave bad files out, and list them in OUT/rejected.csv, instead of stopping."""
    overwrite: bool = False
    """Replace a converted dataset at OUT."""
    workers: int | None = None
    """Number of processes; by default one a core, 4 at most."""


def main(argv: Sequence[str] | None = None) -> int:
    options = cli.parse(ConvertOptions, "convert", argv)
    from unet_jax.data.check.integrity import check_rows
    from unet_jax.data.converted.build import build

    start = time.perf_counter()
    try:
        dataset = build(
            options.raw,
            options.out,
            size=options.size,
            mask_rule=options.mask_rule,
            skip_bad=options.skip_bad,
            overwrite=options.overwrite,
            workers=options.workers,
        )
    except KeyboardInterrupt:
        print(f"interrupted; nothing was written to {options.out}", file=sys.stderr)
        return cli.EXIT_FAILURE
    counts = dataset.info["counts"]
    tumors = ", ".join(f"{counts[name]} {name}" for name in TUMORS)
    how = f"{dataset.size}x{dataset.size}, mask rule {dataset.mask_rule}, in {time.perf_counter() - start:.1f} s"
    print(f"{counts['slices']} slices of {counts['patients']} patients ({tumors}), {how}")
    if counts["rejected"]:
        print(f"{counts['rejected']} bad files left out: {options.out / 'rejected.csv'}")
    if not dataset.folds.any():
        print("No folds (no cvind.mat with the slices): --split.kind official will not work on this dataset.")
    report = check_rows(dataset)
    print(report.verdict() + (f" They are shown by {cli.started('check')} {options.raw}" if report.findings else ""))
    print(f"Dataset: {options.out}")
    print(f"Next:    {cli.started('train')} --workdir runs/b --data {options.out}")
    return 0


if __name__ == "__main__":
    cli.run(main)
