"""The lines of the README that run an ONNX file without this package, and those in JavaScript."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unet_jax
from tests.helpers.corner import dice
from tests.helpers.exported import SIZE
from unet_jax.data.raw import find_slices
from unet_jax.imaging.formats.mat import read_slice

ROOT = Path(unet_jax.__file__).parents[1]


def code() -> str:
    """The block of the README that imports onnxruntime."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if "import onnxruntime" in block]
    return block


@pytest.fixture
def folder(onnx_file, tmp_path):
    shutil.copy(onnx_file, tmp_path / "model.onnx")
    return tmp_path


def python(folder: Path, scan: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mask that the README's lines make of a scan, and that of `unet_jax.load`."""
    Image.fromarray(scan).save(folder / "scan.png")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code()], cwd=folder, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return masks(folder)


def masks(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The mask that was written, and that of `unet_jax.load`."""
    ours = unet_jax.load(folder / "model.onnx").predict(folder / "scan.png").masks
    return np.asarray(Image.open(folder / "mask.png")) > 0, ours


@pytest.fixture(scope="module")
def phantom(raw_phantom) -> np.ndarray:
    """A slice of the phantom, 512x512, 8 bit, as most pictures are."""
    image = read_slice(find_slices(raw_phantom)[0]).image
    return (image / image.max() * 255).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_python_of_a_scan_at_the_networks_size(folder, dtype):
    scan = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (SIZE, SIZE)).astype(dtype)
    written, mask = python(folder, scan)
    np.testing.assert_array_equal(written, mask)
    assert 0.3 < mask.mean() < 0.8


@pytest.mark.parametrize("cut", [np.s_[:, :], np.s_[:, 60:450], np.s_[40:400, :], np.s_[::8, ::8]])
def test_python_of_a_phantom_of_any_shape(folder, phantom, cut):
    scan = np.ascontiguousarray(phantom[cut])
    written, mask = python(folder, scan)
    assert written.shape == mask.shape == scan.shape and 0.05 < mask.mean() < 0.8
    assert dice(written, mask) > 0.99


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """The packages for Node that the example takes."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        pytest.skip("needs Node and npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").split(".")[0]) < 20:
        pytest.skip(f"needs Node 20 or newer, not {version.strip()}")
    folder = tmp_path_factory.mktemp("node")
    # Its script would fetch libraries for GPUs.
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1"]
    command = ["npm", "install", *options, "onnxruntime-node", "pngjs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot install: {done.stderr.strip().splitlines()[-1:]}")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("cut", [np.s_[:, :], np.s_[:, 60:450], np.s_[40:400, :], np.s_[::20, ::20]])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_javascript_of_a_phantom_of_any_shape(folder, packages, phantom, cut, dtype):
    scan = np.ascontiguousarray(phantom[cut]).astype(dtype) * (1 if dtype is np.uint8 else 200)
    Image.fromarray(scan).save(folder / "scan.png")
    shutil.copy(ROOT / "docs" / "onnx.mjs", packages)
    argv = [folder / "model.onnx", str(SIZE), "0.4", folder / "scan.png", folder / "mask.png"]
    command = ["node", "onnx.mjs", *argv]
    done = subprocess.run(command, cwd=packages, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    written, mask = masks(folder)
    assert written.shape == mask.shape == scan.shape
    # The one resampler works in whole numbers, this in floating-point ones.
    assert (written != mask).mean() < 1e-3
