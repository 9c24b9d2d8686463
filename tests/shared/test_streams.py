"""Standard output and error whose reader is gone, or that were never there: every command ends as it would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import unet_jax

ROOT = Path(unet_jax.__file__).parent
COMMANDS = ["unet_jax", *(f"unet_jax.{p.stem}" for p in sorted(ROOT.glob("*.py")) if "cli.run(main)" in p.read_text())]


@pytest.fixture
def closed():
    """The end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_pipe_ends_quietly(command, closed):
    argv = [sys.executable, "-m", command, "--help"]
    done = subprocess.run(argv, stdout=closed, stderr=subprocess.PIPE, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")


def test_head_gets_its_line_and_the_command_its_own_exit_code():
    shell = 'set -o pipefail; "$0" -m unet_jax.train --help | head -n 1'
    done = subprocess.run(["bash", "-c", shell, sys.executable], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("usage: python -m unet_jax.train") and done.stdout.count("\n") == 1
    assert (done.returncode, done.stderr) == (0, "")


SPEAK = (
    "import os, sys\n"
    "from unet_jax.shared import cli\n"
    "def main():\n"
    "    for n in range(3):\n"
    "        print('caf\\udce9', n, flush=True)\n"
    "        print('error', n, file=sys.stderr)\n"
    "    with open(sys.argv[1], 'w') as f:\n"
    "        os.write(2, b'from C')\n"
    "        f.write('done')\n"
    "    return 7\n"
    "cli.run(main)"
)
"""Python that says three lines on both streams, one of a name that is no text, does its work, and returns 7."""


def test_work_goes_on_when_nobody_reads(closed, tmp_path):
    for unbuffered in ((), ("-u",)):
        argv = [sys.executable, *unbuffered, "-c", SPEAK, str(tmp_path / "file")]
        assert subprocess.run(argv, stdout=closed, stderr=closed, timeout=120).returncode == 7
        assert (tmp_path / "file").read_text() == "done"


@pytest.mark.parametrize("shut", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_streams_that_were_closed_before_the_start(shut, tmp_path):
    """Whatever is opened first would take their numbers, and get what C writes there."""
    argv = ["bash", "-c", f'"$0" -c "$1" "$2" {shut}', sys.executable, SPEAK, str(tmp_path / "file")]
    assert subprocess.run(argv, capture_output=True, timeout=120).returncode == 7
    assert (tmp_path / "file").read_text() == "done"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_name_that_is_no_text_ends_nothing(encoding, tmp_path):
    argv = [sys.executable, "-c", SPEAK, str(tmp_path / "file")]
    done = subprocess.run(argv, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, timeout=120)
    assert done.stdout.splitlines() == [b"caf\\udce9 %d" % n for n in range(3)]


def test_a_console_that_takes_text_alone_is_left_as_it_is():
    """As that of Windows, whose raw stream is no file: bytes of UTF-8 would be shown in another encoding."""
    code = (
        "import io, sys\n"
        "from unet_jax.shared.streams import drop_unread\n"
        "class Console(io.RawIOBase):\n"
        "    writable = lambda self: True\n"
        "    def write(self, data):\n"
        "        sys.stderr.write(f'shown: {bytes(data).decode()}')\n"
        "        return len(data)\n"
        "sys.stdout = sys.__stdout__ = io.TextIOWrapper(io.BufferedWriter(Console()), 'utf-8')\n"
        "drop_unread()\n"
        "print('caf\u00e9', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "shown: café\n")


def test_an_output_that_is_full_is_an_error():
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", SPEAK, "x"], stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert (done.returncode, done.stderr) == (1, b"error: [Errno 28] No space left on device\n")
