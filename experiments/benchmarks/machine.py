"""The machine and the versions that figures belong to."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = (
    "jax",
    "flax",
    "numpy",
    "tensorflow-cpu",
    "tensorflow",
    "keras",
    "torch",
    "timm",
    "segmentation-models-pytorch",
)


def describe() -> str:
    """Lines for a person: date, processor, cores, memory, versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return (
        f"{datetime.date.today()}: {_processor()}, {_cores()} cores, {memory:.0f} GiB of memory, {platform.system()}\n"
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
