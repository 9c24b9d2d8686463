"""Commands by a user who is not root, and so may not do everything."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import unet_jax

NOBODY = 65534


def as_nobody(*argv: object) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments as a user who owns nothing, as the one who runs the tests if that is not root."""
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": ()} if os.geteuid() == 0 else {}
    own = {"PYTHONPATH": str(Path(unet_jax.__file__).parents[1]), "PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu"}
    # Neither the tests' folder of compiled programs nor a home folder is this user's.
    off = {"JAX_ENABLE_COMPILATION_CACHE": "false", "MPLCONFIGDIR": os.devnull}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=own | off, cwd="/", timeout=240, **user)

    if run("-c", "import unet_jax, jax").returncode:
        pytest.skip("the user nobody may not read where Python and its packages are")
    return run(*argv)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that every user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="unet-jax-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
