"""`convert` as a command: options, what it prints, and exit codes."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import exit_code
from tests.helpers.mat import codes, raw_folder
from unet_jax import convert
from unet_jax.data.converted import arrays


@pytest.fixture
def raw(tmp_path):
    """Three slices of two patients, without folds."""
    types = {1: (1.0, "a"), 2: (2.0, "b"), 3: (2.0, "b")}
    return raw_folder(tmp_path / "raw", {n: {"label": label, "PID": codes(pid)} for n, (label, pid) in types.items()})


run = functools.partial(exit_code, convert.main)


def test_converts_and_says_what_next(raw, tmp_path, capsys):
    out = tmp_path / "d"
    assert run("--raw", raw, "--out", out, "--size", 16, "--mask-rule", "any") == 0
    printed = capsys.readouterr().out
    first = "3 slices of 2 patients (1 meningioma, 2 glioma, 0 pituitary), 16x16, mask rule any, in "
    assert printed.startswith(first)
    assert "No folds" in printed
    assert printed.endswith(f"Dataset: {out}\nNext:    python -m unet_jax.train --workdir runs/b --data {out}\n")
    opened = arrays.open_arrays(out)
    assert (opened.size, opened.mask_rule) == (16, "any")


def test_a_bad_file_and_skip_bad(raw, tmp_path, capsys):
    (raw / "data" / "2.mat").write_bytes(b"")
    out = tmp_path / "d"
    assert run("--raw", raw, "--out", out) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("convert: ")]
    assert len(error) == 1 and error[0].startswith("error: 1 of 3 files are bad")
    assert str(tmp_path / "d.rejected" / "rejected.csv") in error[0]
    assert not out.exists()
    assert run("--raw", raw, "--out", out, "--skip-bad") == 0
    assert f"1 bad files left out: {out / 'rejected.csv'}" in capsys.readouterr().out
    assert not (tmp_path / "d.rejected").exists()


def test_an_existing_dataset_needs_overwrite(raw, tmp_path, capsys):
    assert run("--raw", raw, "--out", tmp_path / "d") == 0
    opened = arrays.open_arrays(tmp_path / "d")
    assert (opened.size, opened.mask_rule) == (128, "area")  # by default
    assert run("--raw", raw, "--out", tmp_path / "d") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run("--raw", raw, "--out", tmp_path / "d", "--overwrite", "--size", 16) == 0
    assert arrays.open_arrays(tmp_path / "d").size == 16


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--size", "15"], "error: --size is 15; it must be 16 to 1024"),
        (["--size", "1025"], "error: --size is 1025; it must be 16 to 1024"),
        (["--workers", "0"], "error: --workers is 0; it must be at least 1"),
        (["--raw", "/absent"], "error: /absent is not a folder"),
        (["--size", "x"], "--size"),
        (["--mask-rule", "half"], "--mask-rule"),
        (["--x"], "--x"),
    ],
)
def test_wrong_usage_leaves_with_2(raw, tmp_path, capsys, wrong, message):
    assert run("--raw", raw, "--out", tmp_path / "d", *wrong) == 2
    assert message in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


def test_ctrl_c_is_one_line(raw, tmp_path, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("unet_jax.data.converted.build.build", interrupted)
    assert run("--raw", raw, "--out", tmp_path / "d") == 1
    assert capsys.readouterr().err == f"interrupted; nothing was written to {tmp_path / 'd'}\n"


def test_as_a_command_from_any_folder(raw, tmp_path):
    """With a second process, which must import neither jax nor TensorFlow, nor this module's own main part."""
    command = [sys.executable, "-m", "unet_jax.convert", "--raw", "raw", "--out", "d", "--size", "16", "--workers", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "3 slices of 2 patients" in done.stdout
    assert Path(tmp_path / "d" / "dataset.json").is_file()
