"""`python -m unet_jax`: the commands, and how to ask one for its options."""

import ast
from pathlib import Path

from unet_jax.shared.streams import drop_unread


def main() -> None:
    """Print a line for each command: its name, and the first line of what its file says of it."""
    print("Commands, as in `python -m unet_jax.train --help`:\n")
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.stem.startswith("__"):
            continue
        first = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
        print(f"  {path.stem:10} {first.rpartition('`: ')[2]}")


if __name__ == "__main__":
    drop_unread()
    main()
