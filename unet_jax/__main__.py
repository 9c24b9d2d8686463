"""`python -m unet_jax`: the commands, and how to ask one for its options."""

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from unet_jax.shared.streams import drop_unread


def main(argv: Sequence[str]) -> int:
    """Print a line for each command: its name, and the first line of what its file says of it.

    Args:
        argv: words after `python -m unet_jax`; a command among them is an error, told with how it is run.

    Returns:
        The exit code.
    """
    commands = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem[0] != "_"}
    words = [word for word in argv if word not in ("-h", "--help")]
    if words and words[0] in commands:
        print(f"error: {words[0]} is run as `python -m unet_jax.{words[0]}`, with a dot.", file=sys.stderr)
        return 2
    print("Commands, as in `python -m unet_jax.train --help`:\n")
    for name, path in commands.items():
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]
        print(f"  {name:10} {first.rpartition('`: ')[2]}")
    if words:
        print(f"error: {words[0]} is no command.", file=sys.stderr)
    return 2 if words else 0


if __name__ == "__main__":
    drop_unread()
    sys.exit(main(sys.argv[1:]))
