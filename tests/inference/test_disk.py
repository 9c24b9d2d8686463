"""Predicting to a disk that is full, or that cannot be written to."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

import unet_jax.inference.folder  # noqa: F401  # before `fake` stands for the Predictor that it names
from unet_jax.config import UserError
from unet_jax.shared import cli


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def idle(fake, monkeypatch):
    """No work for the network."""

    def refuse(*args, **kwargs):
        raise AssertionError("work was done")

    monkeypatch.setattr(fake, "stream", refuse)


@pytest.fixture
def pictures(job, fake):
    """Three, of which the second has far larger probabilities."""
    rng = np.random.default_rng(0)
    for name, side in (("a.png", 20), ("b.png", 100), ("c.png", 20)):
        job.put(name, rng.integers(0, 256, (side, side), np.uint8))
    return job


def leave(job, *more: str) -> int:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: job.run(*more))
    return left.value.code


@pytest.mark.parametrize("kind", ["--probabilities", "--overlays", "--uncertainty"])
def test_full_disk(pictures, capsys, kind):
    suffix = {"--probabilities": "probs.npy", "--overlays": "overlay.png", "--uncertainty": "uncertainty.png"}[kind]
    assert leave(pictures, kind) == 0
    large = (pictures.out / f"b.{suffix}").stat().st_size
    small = max(p.stat().st_size for p in pictures.out.iterdir() if not p.name.startswith("b."))
    assert small < large - 1
    whole = {name: (pictures.out / name).read_bytes() for name in pictures.files()}
    capsys.readouterr()
    with files_of_at_most(large - 1):
        assert leave(pictures, kind) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors == [f"error: [Errno 27] File too large: '{pictures.out / f'b.{suffix}'}'"]
    # What was there before is there still, and nothing else; the table speaks of what was done.
    assert pictures.files() == sorted(whole)
    del whole["predictions.csv"]
    assert {name: (pictures.out / name).read_bytes() for name in whole} == whole
    done = pictures.table()
    assert done and {row["input"] for row in done} <= {"a.png", "c.png"}


def test_a_new_folder_on_a_full_disk_holds_no_half_made_file(pictures, capsys):
    with files_of_at_most(5000):
        assert leave(pictures, "--probabilities") == 1
    assert capsys.readouterr().err.endswith(f"'{pictures.out / 'b.probs.npy'}'\n")
    for name in pictures.files():
        assert not name.startswith((".", "b")), name
        if name.endswith(".png"):
            Image.open(pictures.out / name).load()
        elif name.endswith(".npy"):
            assert np.load(pictures.out / name).shape == (20, 20)


@pytest.mark.usefixtures("idle")
def test_no_room_for_a_table_is_noticed_before_the_network_is_asked(pictures, capsys):
    with files_of_at_most(0):
        assert leave(pictures) == 1
    assert capsys.readouterr().err == f"error: [Errno 27] File too large: '{pictures.out / 'predictions.csv'}'\n"
    assert pictures.files() == []


def test_no_room_for_the_whole_table(job, fake, capsys):
    names = [f"{n:03}.png" for n in range(30)]
    for name in names:
        job.put(name, np.full((20, 20), 200, np.uint8))
    with files_of_at_most(1000):
        assert leave(job) == 1
    assert capsys.readouterr().err == f"error: [Errno 27] File too large: '{job.out / 'predictions.csv'}'\n"
    assert "predictions.csv" not in job.files()
    # The next run finds what that one has done.
    assert job.run("--skip-existing") == 0
    assert [row["input"] for row in job.table()] == names and {row["status"] for row in job.table()} == {"ok"}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("where", ["unwritable", "file"])
def test_output_that_cannot_be_written_to(pictures, tmp_path, where):
    if where == "file":
        (tmp_path / "file").write_text("")
        out = tmp_path / "file" / "masks"
    elif os.geteuid() == 0:
        out = tmp_path.__class__("/proc/masks")  # where nobody makes anything, not even root
        if not out.parent.exists():
            pytest.skip("root can write anywhere but in /proc, which is not here")
    else:
        (tmp_path / "closed").mkdir(mode=0o555)
        out = tmp_path / "closed" / "masks"
    with pytest.raises(UserError, match="cannot be written to"):
        pictures.run(out=out)


def test_the_input_is_only_read(pictures):
    for path in (*pictures.source.iterdir(), pictures.source):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in pictures.source.iterdir()}
    try:
        assert pictures.run("--overlays") == 0
        assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in pictures.source.iterdir()} == before
    finally:
        pictures.source.chmod(0o755)
