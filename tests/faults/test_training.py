"""Training that is killed, crowded out or misled: it loses nothing, and says what is wrong."""

import functools
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tests.helpers.runs as helpers
from tests.helpers.runs import assert_same_run, wait_for
from unet_jax import crossval, train
from unet_jax.config import UserError
from unet_jax.runs.opening import lock
from unet_jax.runs.records import read_records
from unet_jax.runs.workdir import Workdir
from unet_jax.training.checkpoints.store import Checkpoints

EPOCHS = 6
SEED = 5

options = functools.partial(helpers.options, epochs=EPOCHS)


def run(last_moment: int, argv: list[str]) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("train_killed.py")
    command = [sys.executable, str(script), str(last_moment), *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, 20])
def test_killed_and_resumed_equals_a_run_that_was_not(tiny_data: Path, tmp_path: Path, times: int):
    """Killed at random moments of a run, again and again in one workdir, and then left to end."""
    clean = run(0, options(tmp_path / "clean", tiny_data))
    assert clean.returncode == 0, clean.stderr
    moments = int(clean.stdout.splitlines()[-1])
    assert moments > 20 * EPOCHS  # several in every save
    rng, workdir, where = random.Random(SEED), tmp_path / "killed", []
    for _ in range(times):
        # Of what is left after a resume the first moments would come most often; each kill may come anywhere.
        last = rng.randint(1, moments)
        done = run(last, options(workdir, tiny_data))
        where.append((last, done.returncode))
        if done.returncode == 0:
            # It came to the end before that moment: begin again.
            assert_same_run(workdir, tmp_path / "clean")
            shutil.rmtree(workdir)
            continue
        assert done.returncode == -signal.SIGKILL, (where, done.stderr)
    last = run(0, options(workdir, tiny_data))
    assert last.returncode == 0, (where, last.stderr)
    assert sum(code == -signal.SIGKILL for _, code in where) >= times // 2, where
    assert_same_run(workdir, tmp_path / "clean")


# Two trainings on one workdir


def test_a_second_training_of_a_workdir_is_refused_at_once(tiny_data, tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.path.mkdir()
    with lock(workdir, print), pytest.raises(UserError, match=r"run is being trained by another process\. Wait for it"):
        train.main(options(workdir.path, tiny_data))
    # It left nothing behind that would bind the next one.
    assert {p.name for p in workdir.path.iterdir()} <= {"train.lock"}
    fold = Workdir(tmp_path / "cv" / "fold-1")
    fold.path.mkdir(parents=True)
    with lock(fold, print), pytest.raises(UserError, match=r"fold-1 is being trained by another process"):
        crossval.main([*options(tmp_path / "cv", tiny_data), "--folds", "3"])


def test_a_killed_training_leaves_the_workdir_free(tmp_path):
    """The operating system gives the lock free, though the file stays."""
    workdir = Workdir(tmp_path)
    code = (
        "import os, signal, sys; from pathlib import Path; from unet_jax.runs.opening import lock\n"
        "from unet_jax.runs.workdir import Workdir\n"
        "with lock(Workdir(Path(sys.argv[1])), print): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=120)
    assert done.returncode == -signal.SIGKILL and (tmp_path / "train.lock").exists()
    with lock(workdir, print):
        pass


# An output that nobody reads, a terminal that is closed


def started(argv: list[str], **given: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "unet_jax.train", *argv], text=True, **given)


@pytest.mark.slow
def test_a_pipe_that_closes_stops_no_training(tiny_data: Path, tmp_path: Path):
    """As that of `| head -n 1`, of both streams."""
    with started(options(tmp_path / "run", tiny_data), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=240) == 0
    assert len(read_records(Workdir(tmp_path / "run"))) == EPOCHS and (tmp_path / "run/gallery.png").exists()


@pytest.mark.slow
def test_a_terminal_that_is_closed_stops_it_with_a_checkpoint(tiny_data: Path, tmp_path: Path):
    """SIGHUP, and from then on an error for every line that is shown."""
    own = "import os, sys, fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    argv = [sys.executable, "-m", "unet_jax.train", *options(tmp_path / "run", tiny_data, "--seed", 1, epochs=500)]
    screen, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", own, *argv],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown = b""
    while b"epoch 2/500 " not in shown:
        shown += os.read(screen, 4096)
    os.close(screen)
    assert process.wait(timeout=240) == 75
    assert 2 <= len(read_records(Workdir(tmp_path / "run"))) < 500


@pytest.mark.slow
def test_nohup_keeps_a_training_from_a_closed_terminal(tiny_data: Path, tmp_path: Path):
    argv = options(tmp_path / "run", tiny_data)
    code = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", code, sys.executable, "-m", "unet_jax.train", *argv]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for(process, "epoch 1/")
        process.send_signal(signal.SIGHUP)
        assert f"Finished: {EPOCHS} epochs" in process.communicate(timeout=240)[0]
    assert process.returncode == 0


# What cannot be written to


@pytest.mark.slow
def test_a_disk_that_fills_up_during_training_is_named_and_the_run_goes_on_later(tiny_data, tmp_path, monkeypatch):
    """The second checkpoint does not fit: exit code 1 (an OSError), the first is kept, and with room it goes on."""
    from unet_jax.training.checkpoints import manifest

    plain, written = manifest.write, []

    def full(path, content):
        if path.parent.name == "checkpoints":
            written.append(path.name)
            if len(written) == 2:
                raise OSError(28, "No space left on device")
        return plain(path, content)

    monkeypatch.setattr(manifest, "write", full)
    with pytest.raises(OSError, match=rf"{tmp_path / 'run' / 'checkpoints'}/\d+ could not be written"):
        train.main(options(tmp_path / "run", tiny_data))
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        assert len(checkpoints.steps()) == 1
    monkeypatch.undo()
    assert train.main(options(tmp_path / "run", tiny_data)) == 0
    assert train.main(options(tmp_path / "clean", tiny_data)) == 0
    assert_same_run(tmp_path / "run", tmp_path / "clean")
