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

    def command(
        run_a: Annotated[Path, tyro.conf.arg(metavar="RUN_A"), tyro.conf.Positional],
        run_b: Annotated[Path, tyro.conf.arg(metavar="RUN_B"), tyro.conf.Positional],
        split: Evaluated = "test",
        resolution: Resolution = "native",
        report: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    ) -> int:
        """Compare two evaluated runs slice by slice: differences, 95 % intervals over patients, Wilcoxon's test.

        Args:
            run_a: Folder of a run that was evaluated, or the folder of its slices.csv.
            run_b: Folder of the run to compare RUN_A with, likewise.
            split: Slices that both runs were evaluated on; oof are those of a cross-validation.
            resolution: Size at which masks are compared: native is a slice's own, network that of the network's input.
            report: File to write the whole comparison to, as JSON.
        """
        from unet_jax.reporting.terminal import comparison_table
        from unet_jax.scoring.statistics import Evaluation, compare_evaluations
        from unet_jax.shared.files import write_json

        a, b = (Evaluation(str(run), *_read(run, split)) for run in (run_a, run_b))
        result = {
            "a": str(run_a),
            "b": str(run_b),
            "split": a.summary.get("split", split),
            "threshold_a": a.summary.get("threshold"),
            "threshold_b": b.summary.get("threshold"),
            **compare_evaluations(a, b, resolution),
        }
        print(comparison_table(result))
        if report is not None:
            report.parent.mkdir(parents=True, exist_ok=True)
            write_json(report, result)
            print(f"Written: {report}")
        return 0

    return cli.parse(command, "compare", argv)


def _read(run: Path, split: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Read the rows of slices.csv and the content of summary.json."""
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


if __name__ == "__main__":
    cli.run(main)
