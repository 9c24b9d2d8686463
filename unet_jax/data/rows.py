"""Raw slices to rows of the converted dataset, on several processes, in order, at constant memory."""

import functools
import hashlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int16, UInt8

from unet_jax.config import MaskRule
from unet_jax.data import figshare, resize
from unet_jax.data.disk import naming
from unet_jax.data.figshare import RawSlice, SliceError
from unet_jax.data.workers import start_pool

T = TypeVar("T")

MAX_WORKERS = 4
"""More would gain little, and each costs some 60 MB of memory."""
SLICES_WORTH_A_PROCESS = 64
"""Starting a process takes as long as converting about so many slices."""
WINDOW = 4
"""Slices under way for each process: read, but not yet written."""


@dataclass(frozen=True, eq=False)
class Row:
    """One converted slice."""

    slice: int
    label: int
    pid: str
    height: int
    width: int
    tumor_pixels: int
    p1: float
    p99: float
    source: str
    sha256: str
    image: Int16[np.ndarray, "size size"]
    mask: UInt8[np.ndarray, "size size"]
    native: UInt8[np.ndarray, "h bytes"]
    """The native mask, eight pixels of a row to a byte."""


def convert_slice(path: Path, *, size: int, mask_rule: MaskRule) -> Row | SliceError:
    """The row of one source file, or why there is none."""
    try:
        raw, sha256 = read_hashed(path)
    except SliceError as e:
        return e
    return convert_raw(raw, size=size, mask_rule=mask_rule, source=path.name, sha256=sha256)


def read_hashed(path: Path) -> tuple[RawSlice, str]:
    """A slice and the SHA-256 of its file; SliceError says what is wrong with it."""
    raw = figshare.read_slice(path)
    with naming(path), path.open("rb") as f:
        return raw, hashlib.file_digest(f, "sha256").hexdigest()


def convert_raw(raw: RawSlice, *, size: int, mask_rule: MaskRule, source: str, sha256: str) -> Row:
    """The row of a slice that was read from the file `source` with that SHA-256."""
    network = resize.to_network(raw.image, size)
    return Row(
        slice=raw.slice,
        label=raw.label,
        pid=raw.pid,
        height=raw.image.shape[0],
        width=raw.image.shape[1],
        tumor_pixels=int(raw.mask.sum()),
        p1=network.p1,
        p99=network.p99,
        source=source,
        sha256=sha256,
        image=network.image.astype(np.int16),
        mask=resize.resize_mask(raw.mask, size, mask_rule),
        native=np.packbits(raw.mask, axis=1),
    )


def convert_slices(
    paths: Sequence[Path], *, size: int, mask_rule: MaskRule, workers: int | None = None
) -> Generator[Row | SliceError, None, None]:
    """`convert_slice` of each path, in order.

    Args:
        paths: source files.
        size: see `convert_slice`.
        mask_rule: see `convert_slice`.
        workers: processes to start; 1 works in this one. By default one a core, fewer for few slices, 4 at most.
    """
    return work_on(paths, functools.partial(convert_slice, size=size, mask_rule=mask_rule), workers)


def work_on(
    paths: Sequence[Path], work: Callable[[Path], T | SliceError], workers: int | None = None
) -> Generator[T | SliceError, None, None]:
    """What `work` makes of each source file, in order, on several processes.

    Args:
        paths: source files.
        work: a function that another process can be sent. A file that crashes the process becomes a SliceError.
        workers: as in `convert_slices`.
    """
    workers = workers or min(os.cpu_count() or 1, MAX_WORKERS, 1 + len(paths) // SLICES_WORTH_A_PROCESS)
    if workers == 1:
        yield from map(work, paths)
        return
    waiting = deque(paths)
    running: deque[tuple[Path, Future[T | SliceError]]] = deque()
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
                yield _work_alone(work, running.popleft()[0])
        finally:
            pool.shutdown(cancel_futures=True)


def _work_alone(work: Callable[[Path], T | SliceError], path: Path) -> T | SliceError:
    with start_pool(1) as pool:
        pool.submit(os.getpid).result()  # a process that cannot even start is not the file's fault
        try:
            return pool.submit(work, path).result()
        except BrokenProcessPool:
            return SliceError(path, "reading it crashed the process that read it")


def reported(results: Iterable[T], total: int, progress: bool, name: str = "convert") -> Iterator[T]:
    """Pass `results` on, and tell of it on standard error: a bar on a terminal, else a line at each tenth."""
    if not progress:
        yield from results
    elif sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(results, total=total, desc=name, unit=" slices")
    else:
        start = time.perf_counter()
        for done, result in enumerate(results, 1):
            yield result
            if done * 10 // total > (done - 1) * 10 // total:
                rate = done / (time.perf_counter() - start)
                print(f"{name}: {done}/{total} slices, {rate:.0f} slices/s", file=sys.stderr, flush=True)
