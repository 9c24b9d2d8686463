"""The package's wheel, built without a network from a copy of the tree, which building would leave files in, and
environments to install it in."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import unet_jax

BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"

can_build = pytest.mark.skipif(
    int(version("setuptools").split(".")[0]) < 77, reason="needs setuptools 77, of the extra test"
)


def copy_tree(tree: Path) -> None:
    """Copy what a wheel might be made of."""
    root = Path(unet_jax.__file__).parents[1]
    for folder in ("unet_jax", "tests", "experiments"):
        shutil.copytree(root / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tree)


def build_wheel(tree: Path, out: Path) -> Path:
    """Build the wheel of a tree into a folder."""
    subprocess.run([sys.executable, "-c", BUILD, out], cwd=tree, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return wheel


class Environment:
    """A virtual environment, which sees nothing of the one that the tests run in."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, capture_output=True)

    def run(self, *argv: object) -> subprocess.CompletedProcess[str]:
        """Run its Python with these words."""
        return self.call(self.python, *argv)

    def call(self, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a program in its folder."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        words = [str(word) for word in command]
        return subprocess.run(words, cwd=self.folder, env=env, capture_output=True, text=True, timeout=600)

    def pip(self, *argv: object) -> None:
        done = self.run("-m", "pip", "--disable-pip-version-check", *argv)
        assert done.returncode == 0, done.stderr
