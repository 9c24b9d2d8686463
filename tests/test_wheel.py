"""The wheel: an editable install reads the tree, and so hides a file that the package lacks."""

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import unet_jax

PACKAGE = Path(unet_jax.__file__).parent
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.mark.skipif(int(version("setuptools").split(".")[0]) < 77, reason="needs setuptools 77, of the extra test")
def test_a_wheel_holds_all_of_the_package_and_nothing_else(tmp_path):
    tree, root = tmp_path / "tree", PACKAGE.parent
    for folder in ("unet_jax", "tests", "experiments"):
        shutil.copytree(root / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tree)
    model = tree / "unet_jax" / "runs" / "shipped" / "tiny"
    model.mkdir()
    for name in ("model.safetensors", "config.json", "training_slices.npz", "README.md"):
        (model / name).write_text("")
    subprocess.run([sys.executable, "-c", BUILD, tmp_path], cwd=tree, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == {p.relative_to(tree).as_posix() for p in (tree / "unet_jax").rglob("*") if p.is_file()}
    assert {p.suffix for p in map(Path, packed)} == {
        ".py",
        ".html",
        ".css",
        ".js",
        ".md",
        ".bib",
        ".txt",
        ".tsv",
        ".toml",
        ".safetensors",
        ".json",
        ".npz",
    }
