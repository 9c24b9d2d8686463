"""Conversion to a disk that is full, and from or to one that cannot be written to."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.folders import files_of_at_most
from unet_jax import convert
from unet_jax.data.converted import arrays, rows
from unet_jax.data.phantom.files import slice_bytes
from unet_jax.shared import cli

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


def run(*argv: object) -> int:
    """The exit code of the command, as `python -m` would leave with it."""
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: convert.main(["--size", "16", "--workers", "1", *map(str, argv)]))
    assert isinstance(left.value.code, int)
    return left.value.code


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {p.relative_to(folder).as_posix(): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if not line.startswith("convert: ")]


# The first fails at the header of the images, the last one at the last write of the largest file.
@pytest.mark.parametrize("room", [0, 100, 500, 1000, 2000, 3000, 4000, 6000])
def test_full_disk(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], room: int):
    out, new = tmp_path / "d", tmp_path / "new"
    assert run("--raw", raw, "--out", out) == 0
    largest = max(path.stat().st_size for path in out.iterdir())
    before = everything(tmp_path)
    digest = arrays.open_arrays(out).digest
    assert room < largest, "nothing would fail"
    capsys.readouterr()
    for target in (out, new):
        with files_of_at_most(room):
            assert run("--raw", raw, "--out", target, "--overwrite") == 1
        assert errors(capsys) == [f"error: [Errno 27] File too large: '{target}'"]
        assert everything(tmp_path) == before
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


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nobody makes anything, not even root."""
    if os.geteuid() == 0:
        if not Path("/proc/self").exists():
            pytest.skip("root can write anywhere but in /proc, which is not here")
        yield Path("/proc")
        return
    folder = tmp_path / "unwritable"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)


def test_output_that_cannot_be_written_to_is_refused_before_any_work(
    raw: Path, tmp_path: Path, unwritable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(rows, "convert_slice", refuse)
    for target in (unwritable / "d", unwritable / "new" / "d", tmp_path / "file" / "d"):
        assert run("--raw", raw, "--out", target) == 2
        (error,) = errors(capsys)
        assert error.startswith(f"error: {target} cannot be written to (") and error.endswith("Give another folder.")


def test_raw_data_are_only_read(raw: Path, tmp_path: Path):
    for path in (*raw.rglob("*"), raw):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = everything(raw)
    try:
        assert run("--raw", raw, "--out", tmp_path / "d") == 0
        assert everything(raw) == before
    finally:
        for path in (raw, *raw.rglob("*")):
            path.chmod(0o755)


def test_a_read_only_dataset_opens(raw: Path, tmp_path: Path):
    out = tmp_path / "d"
    assert run("--raw", raw, "--out", out) == 0
    for path in (*out.iterdir(), out):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        opened = arrays.open_arrays(out)
        assert opened.images.sum() > 0 and opened.native_mask(0).shape == (40, 36)
    finally:
        out.chmod(0o755)
