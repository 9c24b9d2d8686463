"""Commands by a user who is not root, and so may not write everywhere."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import unet_jax
from tests.helpers import as_nobody as script


def as_nobody(module: str, *argv: object) -> subprocess.CompletedProcess[str]:
    """Run a module as a user who owns nothing, or as the one who runs the tests, if that is not root."""
    root = os.geteuid() == 0
    if root and sys.platform != "linux":
        pytest.skip("root gives up what it may do by Linux's own calls")
    own = {"PYTHONPATH": str(Path(unet_jax.__file__).parents[1]), "JAX_PLATFORMS": "cpu"}
    # Neither the tests' folder of compiled programs nor a home folder is this user's.
    off = {
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "MPLCONFIGDIR": os.devnull,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, *([script.__file__] if root else ["-m"]), module, *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, env=own | off, cwd="/", timeout=240)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that every user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="unet-jax-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
