"""Processes that measure: one a framework, so that none computes with another's threads beside its own.

Only one of them computes at a time; the others wait for a message, asleep.
"""

import importlib
import multiprocessing
import os
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any

from unet_jax.config import RunError

THREAD_SETTINGS = ("OPENBLAS_", "OMP_", "MKL_", "KMP_", "GOTO_")
"""Variables that begin so set the number of threads of some frameworks and not of others."""


class Worker:
    """A process that holds the `Side` of a module and calls its methods.

    Args:
        module: where the class is.
        environment: variables that the process has besides ours.
    """

    def __init__(self, module: str, environment: Mapping[str, str]):
        context = multiprocessing.get_context("spawn")
        self.module = module
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, module), daemon=True)
        with _environment(environment):
            self._process.start()
        theirs.close()

    def call(self, method: str, *args: Any) -> Any:
        """What the method returns there; its exception is raised here."""
        try:
            self._connection.send((method, args))
            ok, result = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise RunError(
                f"The process of {self.module} ended in `{method}` with exit code {self._process.exitcode}; its "
                "message stands above. -9 means that the memory did not suffice."
            ) from None
        if not ok:
            raise result
        return result

    def close(self) -> None:
        self._connection.close()
        self._process.join()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def alone(module: str, function: str, *args: Any, environment: Mapping[str, str] = MappingProxyType({})) -> Any:
    """What a function returns in a process of its own, which has neither computed nor imported anything before.

    Args:
        module, function, args: what is called with what.
        environment: variables that the process has besides ours.
    """
    with (
        _environment(environment),
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
    ):
        return pool.submit(_call, module, function, args).result()


def _call(module: str, function: str, args: tuple[Any, ...]) -> Any:
    return getattr(importlib.import_module(module), function)(*args)


def _serve(connection: Connection, module: str) -> None:
    side = importlib.import_module(module).Side()
    while True:
        try:
            method, args = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer = True, getattr(side, method)(*args)
        except Exception as e:
            traceback.print_exc()
            answer = False, RunError(f"{module}.{method}: {type(e).__name__}: {e}")
        connection.send(answer)


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Processes started within have these variables, and none of THREAD_SETTINGS."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(THREAD_SETTINGS):
            del os.environ[name]
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
