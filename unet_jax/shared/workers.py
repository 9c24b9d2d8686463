"""Worker processes, for modules that import neither jax nor TensorFlow."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def start_pool(workers: int) -> ProcessPoolExecutor:
    """Start processes that end when this one does, however it ends, and leave Ctrl-C to it."""
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


MAX_WORKERS = 4
"""More would gain little, and each costs some 60 MB of memory."""

WORTH_A_PROCESS = 64
"""Starting a process takes as long as converting about so many slices."""

WINDOW = 4
"""Items under way for each process: begun, but not yet handed out."""


def work_on(
    items: Sequence[Item], work: Callable[[Item], Result], workers: int | None, crashed: Callable[[Item], Result]
) -> Generator[Result, None, None]:
    """Do the same work on each item, on several processes, and yield the results in order.

    Args:
        items: what is worked on, such as paths.
        work: a function that another process can be sent.
        workers: processes to start; 1 works in this one. None: one a core, fewer for few items, 4 at most.
        crashed: makes the result of an item that crashes the process that works on it.
    """
    workers = workers or min(os.cpu_count() or 1, MAX_WORKERS, 1 + len(items) // WORTH_A_PROCESS)
    if workers == 1:
        yield from map(work, items)
        return
    waiting = deque(items)
    running: deque[tuple[Item, Future[Result]]] = deque()
    while waiting or running:
        pool = start_pool(workers)
        try:
            while waiting or running:
                while waiting and len(running) < WINDOW * workers:
                    running.append((waiting[0], pool.submit(work, waiting[0])))
                    waiting.popleft()
                result = running[0][1].result()
                running.popleft()
                yield result
        except BrokenProcessPool:
            # A file so broken that the HDF5 library crashes takes its process along; which one it was shows when each
            # of those under way is read by a process of its own.
            while running:
                yield _work_alone(work, running.popleft()[0], crashed)
        finally:
            pool.shutdown(cancel_futures=True)


def _work_alone(work: Callable[[Item], Result], item: Item, crashed: Callable[[Item], Result]) -> Result:
    with start_pool(1) as pool:
        pool.submit(os.getpid).result()  # a process that cannot even start is not the item's fault
        try:
            return pool.submit(work, item).result()
        except BrokenProcessPool:
            return crashed(item)
