"""The wheel in an environment without jax, made as the README says: an ONNX file is predicted there."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unet_jax
from tests.helpers.wheel import Environment, build_wheel, can_build, copy_tree
from unet_jax.data.raw import find_slices
from unet_jax.imaging.formats.mat import read_slice

ROOT = Path(unet_jax.__file__).parents[1]


def named_packages() -> list[str]:
    """The packages that the README names."""
    (names,) = re.findall(r"^pip install (numpy onnxruntime [^#]*)#", (ROOT / "README.md").read_text(), re.MULTILINE)
    return names.split()


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Environment:
    folder = tmp_path_factory.mktemp("without_jax")
    copy_tree(folder / "tree")
    environment = Environment(folder)
    environment.pip("install", "--no-deps", build_wheel(folder / "tree", folder))
    environment.pip("install", *named_packages())
    return environment


def predicted(environment: Environment, out: str, *more: object) -> tuple[int, str]:
    """The exit code of a prediction there, and what it says on standard error."""
    done = environment.run("-m", "unet_jax.predict", "--input", "scans", "--output", out, *more)
    return done.returncode, done.stderr


@pytest.fixture
def scans(raw_phantom, environment) -> Path:
    folder = environment.folder / "scans"
    folder.mkdir(exist_ok=True)
    for i, path in enumerate(find_slices(raw_phantom)[:3]):
        Image.fromarray(read_slice(path).image[: 512 - 30 * i].astype(np.uint16)).save(folder / f"{i}.png")
    return folder


@pytest.mark.slow
@can_build
def test_an_onnx_file_is_predicted_without_jax(environment, onnx_file, scans):
    there = environment.run("-c", "import importlib.util as u; print(*map(u.find_spec, ('jax', 'flax', 'scipy')))")
    assert there.stdout == "None None None\n"
    here = unet_jax.load(onnx_file, tta=True)

    # The command
    assert predicted(environment, "masks", "--model", onnx_file, "--tta", "--overlays") == (0, "")
    for i in range(3):
        mask = here.predict(scans / f"{i}.png").masks
        written = np.asarray(Image.open(environment.folder / "masks" / f"{i}.png"))
        np.testing.assert_array_equal(written, np.where(mask, 255, 0))
        assert 0.02 < mask.mean() < 0.9

    # A program
    code = (
        "import sys, numpy, unet_jax; network = unet_jax.load(sys.argv[1]); "
        "mask, probs = network.predict(sys.argv[2]); numpy.savez('predicted.npz', mask=mask, probs=probs)"
    )
    done = environment.run("-W", "error", "-c", code, onnx_file, scans / "1.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    theirs, ours = np.load(environment.folder / "predicted.npz"), unet_jax.load(onnx_file).predict(scans / "1.png")
    np.testing.assert_array_equal(theirs["mask"], ours.masks)
    np.testing.assert_allclose(theirs["probs"], ours.probs, atol=1e-6)


@pytest.mark.slow
@can_build
def test_what_lacks_is_told_in_one_line(environment, onnx_file, stablehlo_file, scans):
    lacks_jax = "takes jax, which is not installed: pip install unet-jax. An ONNX file takes no jax.\n"
    assert predicted(environment, "a", "--model", "best") == (2, f"error: best {lacks_jax}")
    assert predicted(environment, "a") == (2, f"error: the package's own model {lacks_jax}")
    assert predicted(environment, "a", "--workdir", "runs/a") == (2, f"error: runs/a {lacks_jax}")
    assert predicted(environment, "a", "--model", stablehlo_file) == (2, f"error: {stablehlo_file} {lacks_jax}")
    wants_scipy = "--postprocess takes scipy, which is not installed: pip install scipy"
    assert predicted(environment, "a", "--model", onnx_file, "--postprocess") == (2, f"error: {wants_scipy}\n")
    environment.pip("uninstall", "--yes", "onnxruntime")
    try:
        wants_runtime = "takes onnxruntime to run, which is not installed: pip install 'unet-jax[onnx]'"
        assert predicted(environment, "a", "--model", onnx_file) == (2, f"error: {onnx_file} {wants_runtime}\n")
    finally:
        environment.pip("install", "onnxruntime")
    assert not (environment.folder / "a").exists()
