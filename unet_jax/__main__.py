"""`unet-jax` and `python -m unet_jax`: run a command by its name, or list them all."""

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import unet_jax
from unet_jax.shared import cli


def main(argv: Sequence[str]) -> int:
    """Run the command that the first word names; without one, print a line for each command.

    A line has the command's name, and the first line of what its file says of it.

    Args:
        argv: words after `unet-jax` or `python -m unet_jax`.

    Returns:
        The exit code.
    """
    commands = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem[0] != "_"}
    first, *rest = argv or ["--help"]
    if first in commands:
        return importlib.import_module(f"unet_jax.{first}").main(rest) or 0
    if first == "--version":
        print(f"unet-jax {unet_jax.__version__}")
        return 0
    print(f"Commands of unet-jax {unet_jax.__version__}, as in `{cli.started('train')} --help`:\n")
    for name, path in commands.items():
        said = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]
        print(f"  {name:10} {said.rpartition('`: ')[2]}")
    if first in ("-h", "--help"):
        return 0
    print(f"error: {first} is no command.", file=sys.stderr)
    return cli.EXIT_USAGE


def start() -> NoReturn:
    """Run `main` by the words of the command line, and leave with its exit code."""
    cli.run(lambda: main(sys.argv[1:]))


if __name__ == "__main__":
    start()
