"""`python -m unet_jax.compare RUN_A RUN_B`: which of two runs is better, and whether that may be chance."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from unet_jax.config import OUT_OF_FOLD, SplitName, UserError
from unet_jax.shared import cli

Resolution = Literal["native", "network"]
Evaluated = SplitName | Literal["oof"]


def main(argv: Sequence[str] | None = None) -> int:
    import tyro

    def options(
        run_a: Annotated[Path, tyro.conf.arg(metavar="RUN_A"), tyro.conf.Positional],
        run_b: Annotated[Path, tyro.conf.arg(metavar="RUN_B"), tyro.conf.Positional],
        split: Evaluated = "test",
        resolution: Resolution = "native",
        report: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    ) -> tuple[Path, Path, Evaluated, Resolution, Path | None]:
        """Compare two evaluated runs slice by slice: differences, 95 % intervals over patients, Wilcoxon's test.

        Args:
            run_a: Folder of a run that was evaluated, or the folder of its slices.csv.
            run_b: The other.
            split: Which of their evaluations; oof is that of a cross-validation.
            resolution: native: the slice's own size. network: that of the network's input.
            report: File to write all of it to.
        """
        return run_a, run_b, split, resolution, report

    run_a, run_b, split, resolution, report = cli.parse(options, "compare", argv)

    from unet_jax.scoring.statistics import Evaluation, compare_evaluations

    a, b = (Evaluation(str(run), *_read(run, split)) for run in (run_a, run_b))
    result = compare_evaluations(a, b, resolution)
    thresholds = {"threshold_a": a.summary.get("threshold"), "threshold_b": b.summary.get("threshold")}
    split_name = a.summary.get("split", split)
    result = {"a": str(run_a), "b": str(run_b), "split": split_name, **thresholds, **result}
    _show(result)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
        print(f"Written: {report}")
    return 0


def _read(run: Path, split: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of slices.csv and the content of summary.json."""
    own = all((run / name).is_file() for name in ("slices.csv", "summary.json"))
    folder = run if own else run / "eval" / split
    command = "crossval --workdir" if split == OUT_OF_FOLD else f"eval --split {split} --workdir"
    mend = f"Run `python -m unet_jax.{command} {run}`"
    try:
        with (folder / "slices.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        summary = json.loads((folder / "summary.json").read_text("utf-8"))
        if not isinstance(summary, dict):
            raise ValueError("no object")
    except (FileNotFoundError, NotADirectoryError) as e:
        others = ", ".join(sorted(path.parent.name for path in run.glob("eval/*/slices.csv")))
        there = f", or choose one that is there: --split {others}" if others else ""
        raise UserError(f"{run} is not evaluated on {split}: there is no {e.filename}. {mend} first{there}.") from None
    except (ValueError, csv.Error):
        raise UserError(f"{folder} is damaged; expected the files that an evaluation writes. {mend} again.") from None
    return rows, summary


def _show(result: dict[str, Any]) -> None:
    unit = result["distance_unit"]
    print(f"A: {result['a']}\nB: {result['b']}")
    print(
        f"{result['split']}: {result['n_slices']} slices of {result['n_patients']} patients, {result['resolution']} "
        f"resolution, mask rule {result['mask_rule']}; distances in {unit}, NSD within "
        f"{result['nsd_tolerance']:g} {unit}"
    )
    heads = ("A", "B", "B - A", "95 % interval", "p patients", "p slices", "better/same/worse")
    widths = (10, 10, 10, 22, 12, 12, 19)
    print(f"{'':14}" + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))
    table = list(result["measures"].items())
    table[1:1] = [(f"  {tumor}", group["dice"]) for tumor, group in result["by_tumor"].items()]
    for name, figures in table:
        cells = (
            f"{figures['mean_a']:.4f}",
            f"{figures['mean_b']:.4f}",
            f"{figures['difference']:+.4f}",
            "-" if figures["ci95"] is None else "{:+.4f} to {:+.4f}".format(*figures["ci95"]),
            *(f"{p:.4f}" if p >= 0.0001 else "<0.0001" for p in (figures["p_patients"], figures["p_slices"])),
            f"{figures['wins']}/{figures['ties']}/{figures['losses']}",
        )
        print(f"{name:14}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    print(
        "Intervals resample patients. p patients is Wilcoxon's signed-rank test of the patients' mean differences: the "
        "one to go by.\n"
        "p slices takes slices for independent, which those of one patient are not, and so comes out too small.\n"
        "better/same/worse counts the slices on which B is so; hd95 and assd are better where they are smaller."
    )


if __name__ == "__main__":
    cli.run(main)
