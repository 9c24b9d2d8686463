"""Several training runs on one accelerator, each trained, scored and exported: `python -m experiments.gpu.jobs`.

**Hypothesis**: runs of this size leave an accelerator idle while they compile, read and score; a few at a time finish
sooner than one after the other.

**Command**: `python -m experiments.gpu.jobs --jobs jobs.json --data D --out runs/ranked --at-once 4`, where jobs.json
maps a name to the options of `unet_jax.train`; the options under "all" hold for each of them, where it does not give
them itself.

**Outcome**, preset `best` at 256 px and bfloat16 on an NVIDIA H100 with 16 cores: an epoch of 88 batches of 21 slices
takes 3.1 s, and what comes before it 230 s, nearly all of it the compiler trying out algorithms. So:

- Six runs begun together had not ended their first epoch after 350 s: they disturb each other's trials, which measure
  time. The first run here begins alone, and the others when it has ended an epoch; what it found is in the folder of
  compiled programs (`JAX_COMPILATION_CACHE_DIR`), which is worth keeping from one machine to the next.
- Without trials (`XLA_FLAGS=--xla_gpu_autotune_level=0`) compiling took 130 s, and an epoch 88 s.
"""

import argparse
import concurrent.futures
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

FIGURES = ("mean_dice", "micro_iou", "missed")
STOPPED = 75
"""Exit code of a training that saved and stopped."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Train, score and export several runs on one accelerator.")
    parser.add_argument("--jobs", type=Path, required=True, help="JSON: name to the options of unet_jax.train")
    parser.add_argument("--data", required=True, help="converted dataset")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the workdirs, OUT/results.json, OUT/NAME.model"
    )
    parser.add_argument("--split", default="val", help="side that is scored")
    parser.add_argument("--at-once", type=int, default=4, help="runs that share the accelerator")
    parser.add_argument("--start-before", type=float, default=math.inf, help="seconds after which none is begun")
    parser.add_argument(
        "--stop-after", type=float, default=math.inf, help="seconds after which trainings save and stop"
    )
    given = parser.parse_args()
    jobs: dict[str, list[str]] = json.loads(given.jobs.read_text())
    common = ["--data", given.data, *jobs.pop("all", [])]
    given.out.mkdir(parents=True, exist_ok=True)
    began, first, compiled = time.monotonic(), next(iter(jobs)), threading.Event()
    results: dict[str, Any] = {}

    def start(name: str) -> dict[str, Any]:
        if name != first:
            compiled.wait()
        if time.monotonic() - began > given.start_before:
            return {"error": ["not begun: too late"]}
        watch = compiled if name == first else threading.Event()
        return _run(given.out / name, merged(common, jobs[name]), given, began + given.stop_after, watch)

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


def _run(
    workdir: Path, options: list[str], given: argparse.Namespace, until: float, compiled: threading.Event
) -> dict[str, Any]:
    """Train, score and export one run; its scores, or the last lines of what went wrong."""
    began = time.monotonic()
    result: dict[str, Any] = {"options": options}
    log = workdir.with_suffix(".log")
    score = ["eval", "--workdir", str(workdir), "--split", given.split]
    export = ["export", "--workdir", str(workdir), "--out", str(workdir.with_suffix(".model")), "--dtype", "float16"]
    try:
        with _begin(log, ["train", "--workdir", str(workdir), *options]) as training:
            result["stopped"] = _watch(training, workdir / "metrics.jsonl", until, compiled) == STOPPED
        result["train_seconds"] = time.monotonic() - began
        for command in (score, [*score, "--tta", "--output", str(workdir / "tta")], export):
            with _begin(log, command) as process:
                process.wait()
            if process.returncode:
                raise ChildProcessError(command[0])
    except ChildProcessError as e:
        return {**result, "failed": str(e), "error": log.read_text().splitlines()[-3:]}
    finally:
        compiled.set()
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    result["epoch_seconds"] = sorted(record["seconds"] for record in records)[len(records) // 2]
    result["epochs"] = len(records)
    result["val_iou"] = [round(record["val"]["micro_iou"], 4) for record in records]
    for name, folder in (("plain", workdir / "eval" / given.split), ("tta", workdir / "tta")):
        native = json.loads((folder / "summary.json").read_text())["native"]
        result[name] = {figure: native[figure] for figure in FIGURES}
        result[name]["ci95"] = native["ci95"]["mean_dice"]
        result[name]["by_tumor"] = {tumor: part["mean_dice"] for tumor, part in native["by_tumor"].items()}
    result["seconds"] = time.monotonic() - began
    return result


def _begin(log: Path, command: list[str]) -> subprocess.Popen[bytes]:
    # Several processes share the memory of one device.
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    module, *options = command
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", f"unet_jax.{module}", *options], stdout=file, stderr=file, env=environment
        )


def _watch(training: subprocess.Popen[bytes], metrics: Path, until: float, compiled: threading.Event) -> int:
    """Wait for a training, stop it when its time is over, and tell when it has ended an epoch.

    Raises:
        ChildProcessError: it failed.
    """
    asked = False
    while training.poll() is None:
        time.sleep(1)
        if metrics.exists() and metrics.stat().st_size:
            compiled.set()
        if time.monotonic() > until and not asked:
            training.terminate()
            asked = True
    if training.returncode not in (0, STOPPED):
        raise ChildProcessError("train")
    return training.returncode


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
    ended = "stopped after" if result["stopped"] else "trained"
    cells.append(f"{ended} {result['epochs']} epochs of {result['epoch_seconds']:.2f} s, {result['seconds']:.0f} s")
    return "  ".join(cells)


if __name__ == "__main__":
    main()
