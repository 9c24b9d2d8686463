"""Training on several devices gives what it gives on one."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from unet_jax.config import ModelConfig
from unet_jax.models.network import abstract_variables
from unet_jax.training.checkpoints.store import Checkpoints
from unet_jax.training.mesh import data_mesh

pytestmark = pytest.mark.slow
pytest.importorskip("tensorflow", reason="TensorFlow is not installed, as on Python 3.14 and newer")


@pytest.fixture(scope="module")
def out(tiny_data, tmp_path_factory) -> Path:
    """What on_devices.py writes."""
    out = tmp_path_factory.mktemp("devices")
    script = Path(__file__).with_name("on_devices.py")
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, str(script), str(tiny_data), str(out)], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def found(out) -> dict[str, np.ndarray]:
    with np.load(out / "results.npz") as file:
        return dict(file)


@pytest.mark.parametrize("how", ["1 device 3", "2 device 1", "4 device 2", "4 tfdata 1"])
def test_devices_pipelines_and_steps_a_dispatch_change_rounding_alone(found, how):
    """Nine steps with dropout and augmentation; an epoch has three, so of two a dispatch the second is one."""
    for name in ("losses", "params", "batch_stats", "val_loss"):
        np.testing.assert_allclose(found[f"{how} {name}"], found[f"1 device 1 {name}"], rtol=2e-4, atol=2e-6)
    assert len(found[f"{how} losses"]) == 9
    for name, slices in (("counts", 9 * 8), ("val_counts", 21)):
        counts = found[f"{how} {name}"].astype(int)
        assert counts.sum() == slices * 32 * 32
        assert np.abs(counts - found[f"1 device 1 {name}"].astype(int)).max() <= 2  # a pixel on the threshold


def test_training_moved_the_weights(found, out):
    """Else the comparison above would say little."""
    losses = found["1 device 1 losses"]
    assert losses[-1] < 0.98 * losses[0] and len(set(losses.tolist())) == 9


def test_statistics_are_those_of_the_whole_batch(found):
    for devices in (2, 4):
        np.testing.assert_allclose(found[f"variance {devices}"], found["variance 1"], rtol=1e-5)
    # They would be these, if each device normalised by its own slice.
    assert np.abs(found["variance of each"] / found["variance 1"] - 1).max() > 0.01


def test_a_checkpoint_of_four_devices_is_restored_on_one(found, out):
    """This process has one."""
    like = abstract_variables(ModelConfig(width=2, levels=2, dropout=0.1))
    with Checkpoints(out / "checkpoints" / "4", read_only=True) as checkpoints:
        params = checkpoints.restore_variables(9, like)["params"]
    assert {device for x in jax.tree.leaves(params) for device in x.devices()} == {jax.devices()[0]}
    restored = np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)])
    np.testing.assert_array_equal(restored, found["4 device 2 params"])


def test_a_checkpoint_is_restored_on_more_devices_or_fewer(found):
    np.testing.assert_array_equal(found["1 restored on 4"], found["1 device 1 params"])
    np.testing.assert_array_equal(found["4 restored on 2"], found["4 device 2 params"])


def test_the_largest_number_of_devices_that_divides_the_batch(found):
    assert found["devices"].tolist() == [4, 3, 1]
    notes = found["notes"].tolist()
    assert notes[0] == ""
    assert notes[1].startswith("Using 3 of 4 devices, among which 6 slices") and "multiple of 4" in notes[1]
    assert notes[2].startswith("Using 1 of 4 devices")


def test_one_device_needs_no_note():
    mesh, note = data_mesh(7)
    assert (mesh.size, mesh.axis_names, note) == (len(jax.devices()), ("data",), None)
