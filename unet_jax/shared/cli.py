"""Command lines: options from a dataclass, and errors to exit codes."""

import argparse
import gc
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar, get_args

from unet_jax.config import Config, PresetName, RunError, UserError, preset, read_config
from unet_jax.shared.signals import ignore_stopping, raise_stopping
from unet_jax.shared.streams import drop_unread

T = TypeVar("T")

COLLECT_EVERY = 50_000
"""Objects made since the last search for garbage that start the next. With Python's 700 or 2,000, going through all
that jax's modules and traces leave, again and again, takes a tenth of the start of a command."""

EXIT_FAILURE, EXIT_USAGE, EXIT_PREEMPTED = 1, 2, 75

FOR_A_PERSON = (UserError, RunError, OSError, KeyboardInterrupt)
"""Errors that are one line; any other one is a defect and keeps its traceback."""


def parse(options: Callable[..., T], command: str, argv: Sequence[str] | None = None) -> T:
    """Parse a command's options by a dataclass or a function.

    Exits 0 for --help and 2 for wrong usage, as tyro does.
    """
    import tyro

    return tyro.cli(options, prog=started(command), args=argv)


def started(command: str) -> str:
    """Write how a command is started, in the way in which this process was.

    That is `unet-jax train` for the installed program, `python -m unet_jax train` for the package, and
    `python -m unet_jax.train` for a command's own module or another program.
    """
    program = Path(sys.argv[0])
    if program.stem == "unet-jax":  # on Windows unet-jax.exe
        return f"unet-jax {command}"
    package = program.parts[-2:] == ("unet_jax", "__main__.py")
    return f"python -m unet_jax{' ' if package else '.'}{command}"


def starting_config(argv: Sequence[str], stored: Callable[[Path], Path]) -> Config:
    """Find the configuration that a training command's options override: the workdir's, else the preset's.

    Args:
        argv: the command line, as yet unchecked.
        stored: workdir to the file where its configuration would be.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--workdir", "--data", "--preset"):
        first.add_argument(name, nargs="?")
    given, _ = first.parse_known_args(argv)
    if given.workdir and (path := stored(Path(given.workdir))).exists():
        return read_config(path)
    if given.preset in get_args(PresetName):
        return preset(given.preset)
    return preset("original" if given.data else "demo")


def is_given(argv: Sequence[str], option: str) -> bool:
    """Tell whether a command line has an option, also with underscores or a value behind an equals sign."""
    return any(word.partition("=")[0].replace("_", "-") == option for word in argv)


def check_distances(spacing: float | None, tolerance: float) -> None:
    """Raise UserError unless --spacing and --tolerance are lengths."""
    if spacing is not None and not 0 < spacing < math.inf:
        raise UserError(f"--spacing is {spacing}; it must be millimetres a pixel, above 0.")
    if not 0 <= tolerance < math.inf:
        raise UserError(f"--tolerance is {tolerance}; it must be a length, at least 0.")


def check_networks(workdirs: Sequence[Path] | None, model: str | None) -> None:
    """Raise UserError where --workdir is given without a folder, or together with --model."""
    if workdirs is not None and not workdirs:
        raise UserError("--workdir names no folder; expected at least one that `unet_jax.train` wrote.")
    if workdirs and model is not None:
        raise UserError(f"--workdir {workdirs[0]} and --model {model} were both given. Use one of them.")


def ending(error: BaseException) -> tuple[str, int]:
    """Give the line and the exit code with which an error of FOR_A_PERSON ends a command."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", EXIT_FAILURE
    return f"error: {error}", EXIT_USAGE if isinstance(error, UserError) else EXIT_FAILURE


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main` and leave with its exit code.

    A UserError becomes one line and exit code 2; a RunError, an operating system's error (disk full, no permission)
    and Ctrl-C or SIGTERM one line and exit code 1; anything else is a defect. A pipe that closes ends nothing.
    Signals are ignored from then on, in libraries' own last work too.
    """
    gc.set_threshold(COLLECT_EVERY)
    drop_unread()
    raise_stopping()
    try:
        code = main() or 0
    except FOR_A_PERSON as e:
        ignore_stopping()
        line, code = ending(e)
        print(line, file=sys.stderr)
    ignore_stopping()
    sys.exit(code)
