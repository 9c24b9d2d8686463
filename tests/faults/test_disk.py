"""Conversion to a disk that is full, and from or to one that cannot be written to."""

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.commands import exit_code
from tests.helpers.disk import contents, files_of_at_most, only_readable, unwritable, work_was_done
from unet_jax import convert
from unet_jax.data.converted import arrays, rows
from unet_jax.data.phantom.files import slice_bytes

SLICES = 12


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Slices of 40x36, of which a conversion at 16 makes some 6 kB of images, 3 kB of masks, and 5 kB of the rest."""
    folder = tmp_path / "raw" / "data"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(1, SLICES + 1):
        image = rng.integers(0, 4000, (40, 36)).astype(np.int16)
        content = slice_bytes(image, rng.random(image.shape) > 0.5, np.zeros((0, 2)), 1 + n % 3, f"p{n}")
        (folder / f"{n}.mat").write_bytes(content)
    return folder.parent


run = functools.partial(exit_code, convert.main, "--size", 16, "--workers", 1)


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if not line.startswith("convert: ")]


# The first fails at the header of the images, the last one at the last write of the largest file.
@pytest.mark.parametrize("room", [0, 100, 500, 1000, 2000, 3000, 4000, 6000])
def test_full_disk(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], room: int):
    out, new = tmp_path / "d", tmp_path / "new"
    assert run("--raw", raw, "--out", out) == 0
    largest = max(path.stat().st_size for path in out.iterdir())
    before = contents(tmp_path)
    digest = arrays.open_arrays(out).digest
    assert room < largest, "nothing would fail"
    capsys.readouterr()
    for target in (out, new):
        with files_of_at_most(room):
            assert run("--raw", raw, "--out", target, "--overwrite") == 1
        assert errors(capsys) == [f"error: [Errno 27] File too large: '{target}'"]
        assert contents(tmp_path) == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "raw"]
    assert arrays.open_arrays(out).digest == digest


def test_full_disk_when_the_bad_files_are_listed(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for n in range(100, 200):
        (raw / "data" / f"{n}.mat").write_bytes(b"")
    # The list takes over 2 kB; images and masks of no good slice take none.
    for n in range(1, SLICES + 1):
        (raw / "data" / f"{n}.mat").unlink()
    with files_of_at_most(1500):
        assert run("--raw", raw, "--out", tmp_path / "d") == 1
    assert errors(capsys) == [f"error: [Errno 27] File too large: '{tmp_path / 'd.rejected/rejected.csv'}'"]
    assert not list((tmp_path / "d.rejected").iterdir()) and not (tmp_path / "d").exists()


def test_full_disk_in_a_process_of_its_own(raw: Path, tmp_path: Path):
    """With another process that converts, and what the interpreter does at its end."""
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from unet_jax import convert\nfrom unet_jax.shared import cli\n"
        "cli.run(lambda: convert.main(sys.argv[1:]))\n"
    )
    argv = ["--raw", str(raw), "--out", str(tmp_path / "d"), "--size", "16", "--workers", "2"]
    command = [sys.executable, "-c", code, *argv]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("convert: ")]
    assert (done.returncode, lines) == (1, [f"error: [Errno 27] File too large: '{tmp_path / 'd'}'"])
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_output_that_cannot_be_written_to_is_refused_before_any_work(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(rows, "convert_slice", work_was_done)
    closed = unwritable(tmp_path)
    for target in (closed / "d", closed / "new" / "d", tmp_path / "file" / "d"):
        assert run("--raw", raw, "--out", target) == 2
        (error,) = errors(capsys)
        assert error.startswith(f"error: {target} cannot be written to (") and error.endswith("Give another folder.")


def test_raw_data_and_a_converted_dataset_are_only_read(raw: Path, tmp_path: Path):
    out = tmp_path / "d"
    with only_readable(raw):
        assert run("--raw", raw, "--out", out) == 0
    with only_readable(out):
        opened = arrays.open_arrays(out)
        assert opened.images.sum() > 0 and opened.native_mask(0).shape == (40, 36)
