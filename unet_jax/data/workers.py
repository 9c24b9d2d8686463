"""Worker processes, for modules that import neither jax nor TensorFlow."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

from threadpoolctl import threadpool_limits


def start_pool(workers: int) -> ProcessPoolExecutor:
    """Processes that end when this one does, however it ends, and leave Ctrl-C to it."""
    # spawn: a process forked after jax has started its threads may hang.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    # Ctrl-C reaches every process of a terminal; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # As many processes as cores, each with as many threads in BLAS, would take twice as long.
    threadpool_limits(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """A parent that was killed cannot stop its workers, and they would wait for it for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a worker"
    parent.join()
    os._exit(1)
