"""What every command line shares: options from a dataclass, and errors to exit codes."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from unet_jax.config import RunError, UserError

T = TypeVar("T")

EXIT_FAILURE, EXIT_USAGE, EXIT_PREEMPTED = 1, 2, 75


def parse(options: Callable[..., T], door: str, argv: Sequence[str] | None = None) -> T:
    """What `options`, a dataclass or a function, makes of the options of the command `python -m unet_jax.<door>`.

    Exits 0 for --help and 2 for wrong usage, as tyro does.
    """
    import tyro

    return tyro.cli(options, prog=f"python -m unet_jax.{door}", args=argv)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a door's `main` and leave with its exit code.

    A UserError becomes one line and exit code 2; a RunError, an operating system's error (disk full, no permission)
    and Ctrl-C one line and exit code 1; anything else is a defect and keeps its traceback.
    """
    try:
        sys.exit(main() or 0)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except (OSError, RunError) as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(EXIT_FAILURE)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_FAILURE)
