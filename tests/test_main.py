"""`python -m unet_jax` lists the commands."""

import subprocess
import sys
from pathlib import Path

import unet_jax


def test_every_command_has_a_line():
    done = subprocess.run([sys.executable, "-m", "unet_jax"], capture_output=True, text=True, check=True, timeout=60)
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()[2:]]
    folder = Path(unet_jax.__file__).parent
    assert [name for name, _ in lines] == sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))
    assert all(len(said) > 10 and "`" not in said.split()[0] for _, said in lines)
