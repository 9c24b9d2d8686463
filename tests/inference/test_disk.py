"""Predicting to a disk that is full, or that cannot be written to."""

import numpy as np
import pytest
from PIL import Image

import unet_jax.inference.folder  # noqa: F401  # before `fake` stands for the Predictor that it names
from tests.helpers.commands import exit_code
from tests.helpers.disk import files_of_at_most, only_readable, unwritable, work_was_done
from unet_jax.config import UserError


@pytest.fixture
def pictures(job, fake):
    """Three, of which the second has far larger probabilities."""
    rng = np.random.default_rng(0)
    for name, side in (("a.png", 20), ("b.png", 100), ("c.png", 20)):
        job.put(name, rng.integers(0, 256, (side, side), np.uint8))
    return job


def leave(job, *more: str) -> int:
    return exit_code(lambda argv: job.run(*argv), *more)


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


def test_no_room_for_a_table_is_noticed_before_the_network_is_asked(pictures, fake, monkeypatch, capsys):
    monkeypatch.setattr(fake, "stream", work_was_done)
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


@pytest.mark.parametrize("where", ["unwritable", "file"])
def test_output_that_cannot_be_written_to(pictures, fake, tmp_path, monkeypatch, where):
    monkeypatch.setattr(fake, "stream", work_was_done)
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if where == "file" else unwritable(tmp_path)
    with pytest.raises(UserError, match="cannot be written to"):
        pictures.run(out=folder / "masks")


def test_the_input_is_only_read(pictures):
    with only_readable(pictures.source):
        assert pictures.run("--overlays") == 0
