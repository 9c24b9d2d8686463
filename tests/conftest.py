"""Settings that must stand before jax is imported, and the data that the tests of the whole path share."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # Many tests, and the processes that they start, compile the same small networks: once is enough.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="unet-jax-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def raw_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients of the phantom, in the Figshare layout."""
    from unet_jax.data.phantom import write_phantom

    raw = tmp_path_factory.mktemp("phantom") / "raw"
    write_phantom(raw, patients=12, seed=1)
    return raw


@pytest.fixture(scope="session")
def tiny_data(raw_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, converted at 32 pixels. Not to be changed."""
    from unet_jax.data.converted.build import build

    out = tmp_path_factory.mktemp("tiny") / "data"
    build(raw_phantom, out, size=32, mask_rule="area")
    return out


@pytest.fixture(scope="session")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a small network trained on `tiny_data`, for tests that leave it as it was."""
    from unet_jax import train

    workdir = tmp_path_factory.mktemp("trained") / "run"
    small = {
        "model.width": 8,
        "model.levels": 2,
        "model.precision": "float32",  # on any machine
        "loader.batch-size": 4,
        "optim.epochs": 30,
        "model.norm": "conv",
        "optim.learning-rate": 0.005,
        "loader.pipeline": "device",
    }
    options = [text for name, value in small.items() for text in (f"--{name}", str(value))]
    assert train.main(["--workdir", str(workdir), "--data", str(tiny_data), *options]) == 0
    return workdir
