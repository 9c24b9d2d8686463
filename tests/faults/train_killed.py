"""Trains, and kills its own process (SIGKILL) at the N-th of the moments at which something changes on the disk or a
step is done; run by test_training.py.

    train_killed.py N [train options]

With N 0 it trains to the end and prints the number of moments as its last line.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

from unet_jax import train
from unet_jax.runs.interrupts import Interrupts


class Moments:
    """Counts them in all threads, and does not return from the last."""

    def __init__(self, last: int):
        self.last, self.passed = last, 0

    def __call__(self, *_: object, **__: object) -> None:
        self.passed += 1
        if self.passed == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: object, name: str) -> None:
        """Moments before and after every call of a function."""
        plain = getattr(owner, name)

        def watched(*args: object, **kwargs: object) -> object:
            self()
            result = plain(*args, **kwargs)
            self()
            return result

        setattr(owner, name, watched)


def main() -> int:
    moments = Moments(int(sys.argv[1]))
    # Orbax renames and removes through these too.
    for owner, name in (
        (os, "fsync"),
        (os, "replace"),
        (os, "rename"),
        (Path, "replace"),
        (Path, "rename"),
        (Path, "unlink"),
        (Path, "mkdir"),
        (shutil, "rmtree"),
        (Interrupts, "stopping"),
    ):
        moments.around(owner, name)
    code = train.main(sys.argv[2:])
    print(moments.passed)
    return code


if __name__ == "__main__":
    sys.exit(main())
