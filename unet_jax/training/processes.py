"""Several processes that train one network together, on one computer or many: JAX's own `jax.distributed`.

All of them run the same program. The first one, of index 0, writes what a run leaves; all take part in computing and in
saving checkpoints. A folder that all of them reach holds the workdir.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from unet_jax.config import DistributedConfig, RunError

CONNECT_SECONDS = 120
"""Seconds that the processes wait for each other at the start."""
SILENCE_SECONDS = 30
"""Seconds without a sign of life after which a process counts as dead, and the others end."""
END_SECONDS = 3600
"""Seconds that those that are done wait for the last one to end; one of them draws the pictures."""


def connect(given: DistributedConfig) -> None:
    """Join the other processes, if there are any; before anything else is done with jax.

    Under SLURM (`srun` with several tasks) nothing need be given.

    Raises:
        RunError: the others did not come.
    """
    if given.coordinator is None and not under_slurm():
        return
    try:
        jax.distributed.initialize(
            given.coordinator,
            given.num_processes,
            given.process_id,
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=SILENCE_SECONDS,
            shutdown_timeout_seconds=END_SECONDS,
        )
    except (RuntimeError, ValueError) as e:
        raise RunError(
            f"The processes did not find each other within {CONNECT_SECONDS} s ({_first_line(e)}). Start all of them "
            "with the same --distributed.coordinator and --distributed.num-processes, each with its own "
            "--distributed.process-id."
        ) from e


def under_slurm() -> bool:
    """Tell whether `srun` started this process as one of several."""
    tasks = os.environ.get("SLURM_NTASKS", "1")
    return "SLURM_PROCID" in os.environ and tasks.isdecimal() and int(tasks) > 1


def is_distributed() -> bool:
    """Tell whether several processes train together."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Tell whether this process is the one that writes."""
    return jax.process_index() == 0


def of_first(value: bool) -> bool:
    """Give all processes what the first one has."""
    return bool(multihost_utils.broadcast_one_to_all(np.array(value))) if is_distributed() else value


def barrier(name: str) -> None:
    """Wait until every process is here."""
    if is_distributed():
        multihost_utils.sync_global_devices(name)


@contextmanager
def first_alone(name: str) -> Iterator[None]:
    """Let the first process go first: the others do what stands within after it, and find what it wrote."""
    if not is_first():
        barrier(name)
    try:
        yield
    finally:
        if is_first():
            barrier(name)


def stop_requested(step: int) -> bool:
    """Tell whether all processes are to stop before this step, because one of them got SIGTERM. All ask, every step."""
    return is_distributed() and multihost_utils.reached_preemption_sync_point(step)


@contextmanager
def together() -> Iterator[None]:
    """End this process with exit code 1 when another one has ended before its time: nothing can be computed any more.

    The end comes at once, and not by an exception: Python's own would wait for the other process.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as e:
        if not is_distributed():
            raise
        print(
            f"error: this process or another one of the run has failed ({_first_line(e)}). The checkpoints are kept; "
            "start all processes again to go on.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
