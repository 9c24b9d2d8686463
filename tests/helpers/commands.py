"""Commands as they are called: the code they leave with, and what a process of its own has loaded by its end."""

import contextlib
import importlib
import io
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from unet_jax import train
from unet_jax.config import Config, DistributedConfig
from unet_jax.runs import train as run
from unet_jax.shared import cli, signals
from unet_jax.training import processes


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Have signals heeded afterwards as before; `cli.run` sets them for the rest of a process's life."""
    before = {number: signal.getsignal(number) for number in signals.stopping()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(main: Callable[..., Any], *argv: object) -> int:
    """The exit code of a command, as `python -m` would leave with it."""
    with signals_kept(), pytest.raises(SystemExit) as left:
        cli.run(lambda: main([str(a) for a in argv]))
    assert isinstance(left.value.code, int)
    return left.value.code


def help_of(command: str) -> str:
    """What a command answers to --help."""
    with contextlib.redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit):
        importlib.import_module(f"unet_jax.{command}").main(["--help"])
    return said.getvalue()


def asked_of_train(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> tuple[DistributedConfig, Path, Config]:
    """What `train` is asked to do by these options; nothing is done."""
    given: list[Any] = []
    monkeypatch.setattr(processes, "connect", given.append)
    # A run that returns nothing was interrupted.
    monkeypatch.setattr(run, "train", lambda workdir, config, *_, **__: given.extend((workdir, config)))
    assert train.main(argv) == cli.EXIT_PREEMPTED
    distributed, workdir, config = given
    return distributed, workdir, config


def loaded_by(code: str, *argv: object) -> tuple[str, set[str]]:
    """What a process says that runs a line of code and leaves with 0, and the top-level modules it has then loaded."""
    guarded = f"import sys\ntry:\n    {code}\nexcept SystemExit as left:\n    assert not left.code, left.code\n"
    whole = f"{guarded}print('\\n' + ' '.join({{name.split('.')[0] for name in sys.modules}}))\n"
    command = [sys.executable, "-c", whole, *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    said, _, loaded = done.stdout.removesuffix("\n").rpartition("\n")
    return said, set(loaded.split())


def loaded_by_help(module: str) -> tuple[str, set[str]]:
    """The same of `python -m MODULE --help`."""
    return loaded_by(
        f"import runpy; sys.argv = ['command', '--help']; runpy.run_module('{module}', run_name='__main__')"
    )
