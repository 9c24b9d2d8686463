"""Damaged files, failed writes, and processes that die in a save."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.checkpoints import assert_same_bits, make_state, variables, write
from tests.helpers.disk import files_of_at_most, full
from unet_jax.training.checkpoints import store as checkpoint
from unet_jax.training.checkpoints.store import CheckpointError, Checkpoints


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def whole(steps: list[int]) -> set[str]:
    """The names in a directory that has these checkpoints and nothing else."""
    return {f"{step}{end}" for step in steps for end in ("", ".json")}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {"flip": (flip, "SHA-256"), "truncate": (truncate, "bytes, expected"), "delete": (Path.unlink, "is missing")}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_is_named_and_never_loaded(copy: Path, damage: str):
    inflict, what = DAMAGES[damage]
    like = make_state()
    files = sorted(path for path in (copy / "20").rglob("*") if path.is_file())
    assert len(files) > 15
    with Checkpoints(copy, read_only=True) as checkpoints:
        for path in files:
            intact = path.read_bytes()
            inflict(path)
            with pytest.raises(CheckpointError) as caught:
                checkpoints.restore(20, like)
            message = str(caught.value)
            assert message.startswith(f"{path} ") and what in message and "\n" not in message
            assert f"--checkpoint 10), or remove {copy / '20'} to resume training from step 10." in message
            if copy / "20" / "train" not in path.parents:
                with pytest.raises(CheckpointError, match=what):
                    checkpoints.restore_variables(20, variables(like))
            path.write_bytes(intact)
        assert_same_bits(checkpoints.restore(20, like), make_state(20))


def test_inference_does_without_the_optimizer(copy: Path):
    shutil.rmtree(copy / "20" / "train")
    with Checkpoints(copy, read_only=True) as checkpoints:
        restored = checkpoints.restore_variables(20, variables(make_state()))
        assert_same_bits(restored, variables(make_state(20)))
        with pytest.raises(CheckpointError, match=r"20/train/\S+ is missing"):
            checkpoints.restore(20, make_state())


def test_a_file_too_many_is_named_but_hidden_ones_are_let_be(copy: Path):
    (copy / "10" / "variables" / ".DS_Store").write_text("")
    with Checkpoints(copy, read_only=True) as checkpoints:
        checkpoints.restore(10, make_state())
        (copy / "10" / "variables" / "d" / "more").write_text("")
        with pytest.raises(CheckpointError, match=r"10/variables/d/more is not part of the checkpoint"):
            checkpoints.restore(10, make_state())


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"sha256": 3}', "\xff"])
def test_a_damaged_manifest_is_named_and_its_step_not_removed(copy: Path, text: str | None):
    manifest = copy / "10.json"
    if text is None:
        manifest.write_text(manifest.read_text().replace('"metric": 0.5', '"metric": 0.1'))
    else:
        manifest.write_text(text, encoding="latin-1")
    with Checkpoints(copy) as checkpoints:
        for read in (checkpoints.variables_digest, lambda step: checkpoints.restore(step, make_state())):
            with pytest.raises(CheckpointError, match=r"10\.json is damaged.* \(--checkpoint 20\)\.$"):
                read(10)
        with pytest.raises(CheckpointError, match=r"10\.json is damaged"):
            checkpoints.best()
        assert checkpoints.latest() == 20
        checkpoints.save(30, make_state(), 0.1)
        checkpoints.save(40, make_state(), 0.2)
        checkpoints.wait()
        assert checkpoints.steps() == [10, 20, 30, 40]


def test_a_manifest_of_another_step_does_not_pass(copy: Path):
    shutil.copytree(copy / "20", copy / "30")
    shutil.copy(copy / "20.json", copy / "30.json")
    with Checkpoints(copy, read_only=True) as checkpoints, pytest.raises(CheckpointError, match="manifest of step 20"):
        checkpoints.restore(30, make_state())


def test_the_last_damaged_step_says_so(tmp_path: Path):
    write(tmp_path, {1: 0.5})
    truncate(tmp_path / "1" / "train" / "manifest.ocdbt")
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match=r"There is no other step"):
        checkpoints.restore(1, make_state())


def test_a_step_removed_while_it_is_read_is_not_called_damaged(copy: Path, monkeypatch: pytest.MonkeyPatch):
    verify = checkpoint.manifests.verify

    def remove_after_verifying(*args: Any) -> None:
        verify(*args)
        (copy / "10.json").unlink()
        shutil.rmtree(copy / "10")

    monkeypatch.setattr(checkpoint.manifests, "verify", remove_after_verifying)
    expected = r"no checkpoint of step 10 \(any more\); it has 20"
    with Checkpoints(copy, read_only=True) as checkpoints, pytest.raises(CheckpointError, match=expected):
        checkpoints.restore_variables(10, variables(make_state()))


def test_opening_removes_what_interrupted_saves_left_and_nothing_else(copy: Path):
    (copy / "20.json").unlink()
    (copy / "30.orbax-checkpoint-tmp" / "variables").mkdir(parents=True)
    (copy / f".{'0' * 32}.part").write_text("{")
    (copy / "5.json").write_text("{}")
    others = ["notes.txt", "007", "20.json.bak", "best"]
    for name in others:
        (copy / name).mkdir() if name in ("007", "best") else (copy / name).write_text("mine")
    with Checkpoints(copy) as checkpoints:
        assert names(copy) == {*whole([10]), *others}
        assert checkpoints.steps() == [10]
        checkpoints.save(20, make_state(21), 0.1)
        assert_same_bits(checkpoints.restore(20, make_state()), make_state(21))


def test_a_step_counts_only_when_all_of_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    held, go = threading.Event(), threading.Event()
    take = checkpoint.manifests.take

    def take_later(*args: Any) -> Any:
        held.set()
        assert go.wait(60)
        return take(*args)

    write(tmp_path, {1: 0.5})
    monkeypatch.setattr(checkpoint.manifests, "take", take_later)
    with Checkpoints(tmp_path) as checkpoints, Checkpoints(tmp_path, read_only=True) as reader:
        checkpoints.save(2, make_state(), 0.75)
        assert held.wait(60)
        try:
            assert (tmp_path / "2" / "variables").is_dir()
            for opened in (checkpoints, reader):
                assert (opened.steps(), opened.latest(), opened.best()) == ([1], 1, 1)
        finally:
            go.set()
        checkpoints.wait()
        assert (reader.steps(), reader.best()) == ([1, 2], 2)


def test_a_failed_write_is_raised_and_leaves_the_rest_usable(copy: Path):
    # One large array alone: with more, Orbax's event loop ends before TensorStore tells it of the others.
    w = jnp.asarray(np.random.default_rng(0).normal(size=200_000), jnp.float32)
    state = {"params": {"w": w}, "batch_stats": {}, "step": jnp.int32(1)}
    with Checkpoints(copy) as checkpoints:
        with files_of_at_most(100_000):
            checkpoints.save(30, state, 0.9)
            with pytest.raises(OSError, match=rf"^{copy / '30'} could not be written: File too large$"):
                checkpoints.wait()
        assert names(copy) == whole([10, 20])
        checkpoints.wait()
        assert_same_bits(checkpoints.restore(20, make_state()), make_state(20))
        checkpoints.save(30, state, 0.9)
        assert_same_bits(checkpoints.restore(30, state), state)


def test_a_disk_too_full_is_noticed_before_writing(copy: Path, monkeypatch: pytest.MonkeyPatch):
    state = {"params": {"w": jnp.zeros(500_000)}, "batch_stats": {}, "n": jnp.int32(1)}
    with Checkpoints(copy) as checkpoints:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1_900_000))
        with pytest.raises(OSError, match=rf"^{copy / '30'} takes 2\.0 MB, and only 1\.9 MB are free$"):
            checkpoints.save(30, state, 0.9)
        assert names(copy) == whole([10, 20])


def test_a_failed_write_surfaces_at_closing_behind_an_error_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint.manifests, "write", full)
    with pytest.raises(OSError, match=r"1 could not be written: .*No space left"), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(), None)
    with pytest.raises(KeyError) as caught, Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(), None)
        raise KeyError("first")
    assert ["1 could not be written" in note for note in caught.value.__notes__] == [True]
    assert names(tmp_path) == set()


class Killed(BaseException):
    """Ends the background work at a point as a kill would: nothing after it is done, not even cleaning up."""


@pytest.mark.parametrize(
    ("point", "left", "steps"),
    [
        ("take", {*whole([10, 20]), "30"}, [10, 20]),
        ("replace", {*whole([10, 20]), "30"}, [10, 20]),
        ("rmtree", {*whole([20, 30]), "10"}, [20, 30]),
    ],
)
def test_killed_at_any_point_of_a_save(copy: Path, monkeypatch: pytest.MonkeyPatch, point: str, left: set, steps):
    def kill(*args: Any, **kwargs: Any) -> None:
        raise Killed

    with pytest.raises(Killed), Checkpoints(copy) as checkpoints, monkeypatch.context() as patch:
        owner = {"take": checkpoint.manifests, "replace": os, "rmtree": checkpoint.shutil}[point]
        patch.setattr(owner, point, kill)
        checkpoints.save(30, make_state(30), 0.9)
        checkpoints.wait()
    assert names(copy) == left
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.steps() == steps
        assert names(copy) == whole(steps)
        checkpoints.save(30, make_state(30), 0.9)
        assert_same_bits(checkpoints.restore(30, make_state()), make_state(30))


PROGRAM = """
import os, sys
from pathlib import Path
import jax.numpy as jnp
from unet_jax.training.checkpoints.store import Checkpoints

state = {"params": {"w": jnp.arange(2_000_000.0)}, "batch_stats": {}, "step": jnp.int32(1)}
checkpoints = Checkpoints(Path(sys.argv[1]))
checkpoints.save(1, state, 0.5, wait=True)
checkpoints.save(2, state, 0.7)
os._exit(9)
"""


def test_a_process_that_dies_during_a_save_loses_that_step_at_most(tmp_path: Path):
    result = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (9, "", "")
    state = {"params": {"w": jnp.arange(2_000_000.0)}, "batch_stats": {}, "step": jnp.int32(1)}
    with Checkpoints(tmp_path) as checkpoints:
        steps = checkpoints.steps()
        assert steps in ([1], [1, 2])
        assert names(tmp_path) == whole(steps)
        checkpoints.save(2, state, 0.7)
        for step in (1, 2):
            assert_same_bits(checkpoints.restore(step, state), state)
