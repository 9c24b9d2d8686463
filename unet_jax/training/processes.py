"""Several processes that train one network together, on one computer or many: JAX's own `jax.distributed`.

All of them run the same program. The first one, of index 0, writes what a run leaves; all take part in computing and in
saving checkpoints. A folder that all of them reach holds the workdir.
"""

import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from unet_jax.config import DistributedConfig, RunError, UserError
from unet_jax.shared import cli
from unet_jax.shared.signals import ignore_stopping

SILENCE_SECONDS = 30
"""Seconds without a sign of life after which a process counts as dead, and the others end."""
END_SECONDS = 3600
"""Seconds that those that are done wait for the last one to end; one of them draws the pictures."""
LEAVE_SECONDS = 5
"""Seconds that the first process, when it fails or another one does, waits for the others to have ended."""
_ASK_SECONDS = 0.5
"""Seconds between two questions whether another process has left."""
_LEFT, _GONE = "unet_jax/left", "unet_jax/gone"
"""Under these keys one process tells the others that it leaves, and why; and each one that it ends."""
_NEVER = 10**6
"""Seconds of XLA's own wait for the others, at whose end it would end the process by itself, with its stack."""


def connect(given: DistributedConfig) -> None:
    """Join the other processes, if there are any; before anything else is done with jax.

    Under SLURM (`srun` with several tasks) nothing need be given. Where the others do not come in time, or Ctrl-C or
    SIGTERM does, this process ends with exit code 1, at once: XLA cannot be called back from its wait.

    Raises:
        RunError: the address of the first process is taken.
        UserError: a variable of SLURM is missing.
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
        _check_slurm(tasks)
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
    except OSError as e:
        raise RunError(
            f"the first process cannot listen at {coordinator} ({_first_line(e)}). Give all of them a "
            "--distributed.coordinator with a port that is free on its host."
        ) from e


def _check_slurm(tasks: int) -> None:
    """Raise UserError unless srun's variables are there that jax reads."""
    odd = [
        name for name in ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_LOCALID") if not os.environ.get(name, "").isdecimal()
    ]
    if not os.environ.get("SLURM_STEP_NODELIST"):
        odd.append("SLURM_STEP_NODELIST")
    for name in odd[:1]:
        got = f"is {os.environ[name]!r}" if os.environ.get(name) else "is not set"
        raise UserError(
            f"{name} {got}, though SLURM_STEP_NUM_TASKS says that srun started {tasks} tasks. Start all of them by one "
            "srun, or unset SLURM_STEP_NUM_TASKS to train alone."
        )


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
    try:
        thread.start()
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


def is_connected() -> bool:
    """Tell the same as `is_distributed`, before jax looks for devices."""
    return distributed.global_state.num_processes > 1


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
    yield
    if is_first():
        barrier(name)


def stop_requested(step: int) -> bool:
    """Tell whether all processes are to stop before this step, because one of them got SIGTERM. All ask, every step."""
    return is_distributed() and multihost_utils.reached_preemption_sync_point(step)


@contextmanager
def together() -> Iterator[None]:
    """Let this process end at once where it fails or another one does; all stand here from `connect` to their end.

    Nothing can be computed without one of them. The end is none by an exception: Python's own would wait for the
    others, and they for this one.
    """
    if not is_connected():
        yield
        return
    peers = _Peers(distributed.global_state.client)
    try:
        yield
        peers.wait()
    except cli.FOR_A_PERSON as e:
        peers.leave(*cli.ending(e))
    except Exception as e:
        if _is_of_others(e):
            line = (
                f"error: this process or another one of the run has failed ({_first_line(e)}). The checkpoints are "
                "kept; start all processes again to go on."
            )
            peers.leave(peers.left() or line, cli.EXIT_FAILURE)
        peers.leave(traceback.format_exc().rstrip(), cli.EXIT_FAILURE)


class _Peers:
    """The processes of a run, which tell each other by the service of the first one when they end before their time.

    Without it some would learn of it from a computation that fails, others when nothing was heard for long, and XLA
    would end them with its stack where the service goes first.

    Args:
        client: jax's own, of its service.
    """

    def __init__(self, client: Any):
        self._client, self._over, self._leaving = client, threading.Event(), threading.Lock()
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()

    def wait(self) -> None:
        """Wait until all are here."""
        self._client.wait_at_barrier("ended", END_SECONDS * 1000)
        self._over.set()
        self._asking.join()

    def left(self) -> str | None:
        """Give the line about the process that has left, if one has."""
        try:
            return self._client.key_value_try_get(_LEFT)
        except jax.errors.JaxRuntimeError:  # none, or the service is gone
            return None

    def leave(self, line: str, code: int) -> NoReturn:
        """End this process with a line, and let the others end."""
        ignore_stopping()
        self._leaving.acquire()  # never given back: one of two threads leaves
        print(line, file=sys.stderr, flush=True)
        try:
            self._tell(line.splitlines()[-1].removeprefix("error: "))
        finally:
            os._exit(code)

    def _tell(self, reason: str) -> None:
        """Tell the others that this process leaves, and why."""
        number, shown = distributed.global_state.process_id, reason.encode("utf-8", "backslashreplace").decode()
        with suppress(jax.errors.JaxRuntimeError):  # another one was the first to leave
            self._client.key_value_set(_LEFT, f"error: process {number} of the run has ended ({shown})")
        with suppress(jax.errors.JaxRuntimeError):  # the service is gone
            self._client.key_value_set(f"{_GONE}/{number}", "ended")
        if number == 0:
            self._let_go()

    def _let_go(self) -> None:
        """Wait for the others to leave: the service ends with the first process."""
        end = time.monotonic() + LEAVE_SECONDS
        for number in range(1, distributed.global_state.num_processes):
            left = max(1, int(1000 * (end - time.monotonic())))
            with suppress(jax.errors.JaxRuntimeError):  # it does not answer
                self._client.blocking_key_value_get(f"{_GONE}/{number}", left)
        time.sleep(0.2)  # from their word to their end

    def _ask(self) -> None:
        while not self._over.wait(_ASK_SECONDS):
            line = self.left()
            if line:
                self.leave(line, cli.EXIT_FAILURE)


def _is_of_others(error: Exception) -> bool:
    """Tell whether an error may come from the end of another process; some of a CPU's collectives are ValueErrors."""
    status = r"(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): "
    of_collective = isinstance(error, ValueError) and re.match(status, str(error)) is not None
    return of_collective or isinstance(error, jax.errors.JaxRuntimeError)


def _leave(line: str) -> NoReturn:
    """End this process, whatever threads of XLA are waiting for."""
    print(line, file=sys.stderr, flush=True)
    os._exit(cli.EXIT_FAILURE)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
