"""Commands as they are called: the code they leave with, and what a process of its own has loaded by its end."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from unet_jax.shared import cli


def exit_code(main: Callable[..., Any], *argv: object) -> int:
    """The exit code of a command, as `python -m` would leave with it."""
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: main([str(a) for a in argv]))
    assert isinstance(left.value.code, int)
    return left.value.code


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
