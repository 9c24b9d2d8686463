"""Several processes that train one network together, on one computer or many: JAX's own `jax.distributed`.

All of them run the same program. The first one, of index 0, writes what a run leaves; all take part in computing and in
saving checkpoints. A folder that all of them reach holds the workdir.
"""

import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from unet_jax.config import DistributedConfig, RunError

SILENCE_SECONDS = 30
"""Seconds without a sign of life after which a process counts as dead, and the others end."""
END_SECONDS = 3600
"""Seconds that those that are done wait for the last one to end; one of them draws the pictures."""
_NEVER = 10**6
"""Seconds of XLA's own wait for the others, at whose end it would end the process by itself, with its stack."""


def connect(given: DistributedConfig) -> None:
    """Join the other processes, if there are any; before anything else is done with jax.

    Under SLURM (`srun` with several tasks) nothing need be given. Where the others do not come in time, or Ctrl-C or
    SIGTERM does, this process ends with exit code 1, at once: XLA cannot be called back from its wait.

    Raises:
        RunError: the address of the first process is taken.
    """
    tasks, number = slurm_tasks(), given.process_id
    if given.coordinator is not None:
        # Without jax's look around: in a job of SLURM it would leave this process one of the host's devices.
        who: dict[str, Any] = {"cluster_detection_method": "deactivate", "coordinator_address": given.coordinator}
        who |= {"num_processes": given.num_processes, "process_id": number}
        said = f"process {number} of {given.num_processes} waits at {given.coordinator} for the others"
        remedy = (
            "Start all of them with the same --distributed.coordinator and --distributed.num-processes, each with its "
            "own --distributed.process-id"
        )
    elif tasks > 1:
        who = {"cluster_detection_method": "slurm", "num_processes": tasks}
        said = f"task {os.environ['SLURM_PROCID']} of {tasks} waits for the others"
        remedy = "Start all of them by one srun"
    else:
        _note_tasks_left_out()
        return
    if number == 0 and given.coordinator is not None:
        _check_port(given.coordinator)
    print(f"{said}, {given.timeout} s at most", file=sys.stderr, flush=True)
    _initialize(who, given.timeout, remedy)
    if given.coordinator is None and _alone_on_node():
        # jax gives each task one device.
        for name in ("jax_cuda_visible_devices", "jax_rocm_visible_devices"):
            jax.config.update(name, "all")


def _check_port(coordinator: str) -> None:
    """Raise RunError unless the first process can listen; XLA's own server crashes where it cannot."""
    port, both = int(coordinator.rpartition(":")[2]), socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
    except (OSError, OverflowError) as e:
        raise RunError(
            f"the first process cannot listen at {coordinator} ({_first_line(e)}). Give all of them a "
            "--distributed.coordinator with a port that is free on its host."
        ) from e


def _note_tasks_left_out() -> None:
    """Say so where a job of SLURM has more tasks than this process, which trains alone."""
    if _number("SLURM_NTASKS") > 1:
        print(
            f"note: this job of SLURM has {os.environ['SLURM_NTASKS']} tasks, and this process trains alone, since "
            "srun did not start it as one of several. Begin the command with srun to train with all.",
            file=sys.stderr,
            flush=True,
        )


def _initialize(who: dict[str, Any], seconds: int, remedy: str) -> None:
    """Call `jax.distributed.initialize` in a thread, which is left behind where it does not return in time."""
    failed: list[Exception] = []

    def join() -> None:
        try:
            jax.distributed.initialize(
                **who,
                initialization_timeout=_NEVER,
                heartbeat_timeout_seconds=SILENCE_SECONDS,
                shutdown_timeout_seconds=END_SECONDS,
            )
        except Exception as e:
            failed.append(e)

    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    except KeyboardInterrupt:
        _leave("interrupted")
    if thread.is_alive():
        _leave(f"error: the processes did not find each other within {seconds} s. {remedy}.")
    if failed:
        _leave(f"error: the processes cannot find each other ({_first_line(failed[0])}). {remedy}.")


def slurm_tasks() -> int:
    """Count the processes that `srun` started together with this one; 1 where it did not start this one.

    A batch script, and the shell of `salloc`, have the job's SLURM_NTASKS, and SLURM_PROCID too, but are no task of
    several: only a step's own count tells.
    """
    return _number("SLURM_STEP_NUM_TASKS") if "SLURM_PROCID" in os.environ else 1


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 1


def _alone_on_node() -> bool:
    """Tell whether srun started one task on each node; its list is as `1(x2)`."""
    return re.fullmatch(r"1(\(x\d+\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")) is not None


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
        _leave(
            f"error: this process or another one of the run has failed ({_first_line(e)}). The checkpoints are kept; "
            "start all processes again to go on."
        )


def _leave(line: str) -> NoReturn:
    """End this process, whatever threads of XLA are waiting for."""
    print(line, file=sys.stderr, flush=True)
    os._exit(1)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
