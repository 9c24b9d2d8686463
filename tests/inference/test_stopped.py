"""Ctrl-C, SIGTERM and SIGHUP at any moment of a prediction: no half-made file, and a table of what is there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import prediction
from tests.helpers.commands import exit_code
from unet_jax.inference import folder
from unet_jax.inference.table import Table

IMAGES = [f"{n}.png" for n in range(6)]


class Moments:
    """Moments at which something changes on the disk or goes to the network, in all threads; at one comes a signal."""

    def __init__(self, monkeypatch, fake):
        self.passed, self.last, self.number = 0, 0, signal.SIGTERM
        for owner, name in (
            (os, "replace"),
            (Path, "unlink"),
            (Path, "open"),
            (Table, "begin"),
            (Table, "add"),
            (folder._ImageFile, "write"),
            (fake, "note"),
        ):
            self._around(monkeypatch, owner, name)

    def _around(self, monkeypatch, owner, name):
        plain = getattr(owner, name)

        def watched(*args, **kwargs):
            self.come()
            result = plain(*args, **kwargs)
            self.come()
            return result

        monkeypatch.setattr(owner, name, watched)

    def come(self):
        self.passed += 1
        if self.passed == self.last:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def heeded(number):
    """The signal as at the start of a process, though the tests may run where it is ignored, as behind `nohup`."""
    before = signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    signal.signal(number, before)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_at_every_moment(job, fake, monkeypatch, capsys, number):
    for n, name in enumerate(IMAGES):
        job.put(name, job.bright(n))
    moments = Moments(monkeypatch, fake)
    moments.number = number

    def leave(out: str, *more: str) -> int:
        moments.passed, job.out = 0, job.folder / out
        return exit_code(lambda argv: job.run("--batch-size", "2", *argv), *more)

    assert leave("whole") == 0
    count = moments.passed
    assert count > 50
    listed = []
    for last in range(1, count, 3):
        moments.last = last
        code = leave(f"out{last}")
        # What the last moments stop is the end of the process, not its work.
        assert code == 1, last
        said = capsys.readouterr().err
        masks = [name for name in job.files() if name.endswith(".png")]
        assert not [path.name for path in job.out.rglob(".*")], last
        table = job.out / "predictions.csv"
        assert not masks or table.exists(), last
        rows = [row["output"] for row in job.table()] if table.exists() else []
        assert rows == masks, last
        if said != "interrupted\n":
            assert said == f"interrupted: {table} lists the {len(rows)} of 6 images done\n", last
        listed.append(len(rows))
        moments.last = 0
        assert leave(f"out{last}", "--skip-existing") == 0
        assert [row["input"] for row in job.table()] == IMAGES, last
        capsys.readouterr()
    assert listed[0] == 0 and max(listed) == 6 and len(set(listed)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_in_a_process_of_its_own(job, number):
    """It waits within the network, at the 40th of 60 images, for a line that does not come."""
    for n in range(60):
        job.put(f"{n:02}.png", job.bright(n % 20))
    code = (
        "import runpy, sys, unet_jax.runs.load as module\n"
        "fake, seen = runpy.run_path(sys.argv.pop(1))['FakePredictor'], []\n"
        "def note(self, image):\n"
        "    seen.append(image)\n"
        "    if len(seen) == 40:\n"
        "        print('here', flush=True)\n"
        "        sys.stdin.readline()\n"
        "fake.note, module.load = note, fake.open\n"
        "from unet_jax import predict\n"
        "from unet_jax.shared import cli\n"
        "cli.run(predict.main)"
    )
    argv = ["--workdir", "w", "--input", str(job.source), "--output", str(job.out), "--batch-size", "1"]
    command = [sys.executable, "-c", code, prediction.__file__, *argv]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        assert process.wait(timeout=120) == 1
        lists = f"interrupted: {job.out / 'predictions.csv'} lists the 39 of 60 images done\n"
        assert process.stderr.read() == lists
    assert [row["input"] for row in job.table()] == [f"{n:02}.png" for n in range(39)]
    assert job.files() == [*[f"{n:02}.png" for n in range(39)], "predictions.csv"]
