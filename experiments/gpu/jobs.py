"""Several training runs side by side on one accelerator, each trained and evaluated: `python -m experiments.gpu.jobs`.

**Hypothesis**: runs of this size leave an accelerator idle while they compile, read and score; a few at a time finish
sooner than one after the other.

**Command**: `python -m experiments.gpu.jobs --jobs jobs.json --data D --out runs/ranked --at-once 4`, where jobs.json
maps a name to the options of `unet_jax.train`; the options under "all" hold for each of them. Each run is scored on its
validation side, or on that of `--split`. Results are printed and stand in `OUT/results.json`; a run that fails is
named, and the others go on. With `--start-before 300` no run is begun after 300 seconds, so that what a machine is lent
for is kept.
"""

import argparse
import concurrent.futures
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FIGURES = ("mean_dice", "micro_iou", "missed")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and evaluate several runs side by side on one accelerator.")
    parser.add_argument("--jobs", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--start-before", type=float, default=math.inf)
    given = parser.parse_args()
    jobs: dict[str, list[str]] = json.loads(given.jobs.read_text())
    common = jobs.pop("all", [])
    began = time.monotonic()
    given.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}

    def start(name: str) -> dict[str, Any]:
        if time.monotonic() - began > given.start_before:
            return {"error": ["not begun: too late"]}
        return _run(given.out / name, merged(common, jobs[name]), given.data, given.split)

    with concurrent.futures.ThreadPoolExecutor(given.at_once) as pool:
        todo = {pool.submit(start, name): name for name in jobs}
        for done in concurrent.futures.as_completed(todo):
            name = todo[done]
            results[name] = done.result()
            (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
            print(_line(name, results[name]), flush=True)


def merged(common: list[str], own: list[str]) -> list[str]:
    """Options with those of a run in the place of the common ones of the same name."""
    options: dict[str, list[str]] = {}
    values: list[str] = []
    for word in (*common, *own):
        if word.startswith("--"):
            values = options[word] = []
        else:
            values.append(word)
    return [word for name, values in options.items() for word in (name, *values)]


def _run(workdir: Path, options: list[str], data: str, split: str) -> dict[str, Any]:
    """Train and evaluate one run; its scores, or the last lines of what went wrong."""
    began = time.monotonic()
    # Several processes share the memory of one device.
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    train = ["-m", "unet_jax.train", "--workdir", str(workdir), "--data", data, *options]
    score = ["-m", "unet_jax.eval", "--workdir", str(workdir), "--split", split]
    result: dict[str, Any] = {"options": options}
    with workdir.with_suffix(".log").open("w") as log:
        for command in (train, score, [*score, "--tta", "--output", str(workdir / "tta")]):
            code = subprocess.run([sys.executable, *command], stdout=log, stderr=log, env=environment).returncode
            if code:
                lines = workdir.with_suffix(".log").read_text().splitlines()
                return {**result, "error": lines[-3:], "exit": code, "seconds": time.monotonic() - began}
            if command is train:
                result["train_seconds"] = time.monotonic() - began
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    result["epoch_seconds"] = sorted(record["seconds"] for record in records)[len(records) // 2]
    result["epochs"] = len(records)
    result["val_iou"] = [round(record["val"]["micro_iou"], 4) for record in records]
    for name, folder in (("plain", workdir / "eval" / split), ("tta", workdir / "tta")):
        native = json.loads((folder / "summary.json").read_text())["native"]
        result[name] = {figure: native[figure] for figure in FIGURES}
        result[name]["ci95"] = native["ci95"]["mean_dice"]
        result[name]["by_tumor"] = {tumor: part["mean_dice"] for tumor, part in native["by_tumor"].items()}
    result["seconds"] = time.monotonic() - began
    return result


def _line(name: str, result: dict[str, Any]) -> str:
    if "error" in result:
        return f"{name:20} failed: {' | '.join(result['error'])}"
    cells = [f"{name:20}"]
    for way in ("plain", "tta"):
        scores = result[way]
        tumors = "/".join(f"{dice:.2f}" for dice in scores["by_tumor"].values())
        cells.append(
            f"{way} {scores['mean_dice']:.4f} ({tumors}) iou {scores['micro_iou']:.4f} missed {scores['missed']:.3f}"
        )
    cells.append(f"{result['epoch_seconds']:.2f} s an epoch, {result['seconds']:.0f} s")
    return "  ".join(cells)


if __name__ == "__main__":
    main()
