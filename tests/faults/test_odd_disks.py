"""Disks that sync no folders or grant no locks, by a C library that refuses it; and paths that are no text."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.runs import options
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.training.checkpoints.store import Checkpoints


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Function that runs a command on such a disk and gives its exit code and what it said."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and LD_PRELOAD")
    library = tmp_path_factory.mktemp("odd") / "odd_disk.so"
    source = Path(__file__).with_name("odd_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)

    def run(*argv: object, **wrong: int) -> tuple[int, str, str]:
        env = os.environ | {"LD_PRELOAD": str(library)} | {name: str(number) for name, number in wrong.items()}
        command = [sys.executable, *map(str, argv)]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=240)
        return done.returncode, done.stdout, done.stderr

    return run


def plain(*argv: object) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, *map(str, argv)], capture_output=True, text=True, timeout=240)
    return done.returncode, done.stdout, done.stderr


CONVERT = ("-m", "unet_jax.convert", "--size", "16", "--workers", "1")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_dataset_is_made_where_folders_cannot_be_synced(odd, raw_phantom, tmp_path, number):
    code, _, errors = odd(*CONVERT, "--raw", raw_phantom, "--out", tmp_path / "d", NO_DIR_FSYNC=number)
    assert code == 0, errors
    assert len(open_arrays(tmp_path / "d")) > 0


def test_a_disk_that_fails_otherwise_is_an_error_still(odd, raw_phantom, tmp_path):
    for wrong in ({"NO_DIR_FSYNC": errno.EIO}, {"NO_FILE_FSYNC": errno.EINVAL}):
        code, _, errors = odd(*CONVERT, "--raw", raw_phantom, "--out", tmp_path / "d", **wrong)
        assert code == 1 and errors.splitlines()[-1].startswith("error: [Errno"), errors
        assert not (tmp_path / "d").exists()


@pytest.mark.slow
def test_training_where_folders_cannot_be_synced_and_nothing_be_locked(odd, tiny_data, tmp_path):
    workdir = tmp_path / "run"
    argv = ("-m", "unet_jax.train", *options(workdir, tiny_data, epochs=2))
    code, said, errors = odd(*argv, NO_DIR_FSYNC=errno.EINVAL, NO_FLOCK=errno.ENOLCK)
    assert code == 0 and "Finished: 2 epochs" in said, errors
    assert said.startswith(f"note: the disk of {workdir / 'train.lock'} grants no locks (No locks available), so ")
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        assert len(checkpoints.steps()) == 2
    # What was saved so is read anywhere.
    code, said, errors = plain("-m", "unet_jax.eval", "--workdir", workdir)
    assert code == 0, errors


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOLCK, 0), (errno.EOPNOTSUPP, 0), (errno.ENOSYS, 0), (errno.EIO, 1)]
)
def test_a_lock_that_cannot_be_had(odd, tmp_path, number, code):
    """Without the warning of filelock, nor the file that it leaves in a killed process's place."""
    lock = (
        "import sys; from pathlib import Path\n"
        "from unet_jax.runs.opening import lock\n"
        "from unet_jax.runs.workdir import Workdir\n"
        "with lock(Workdir(Path(sys.argv[1])), print):\n"
        "    print('inside')"
    )
    left, said, errors = odd("-W", "error", "-c", lock, tmp_path, NO_FLOCK=number)
    assert left == code
    if code == 0:
        note, inside = said.splitlines()
        assert os.strerror(number) in note and "keeps a second training out" in note and inside == "inside"
        assert errors == ""


def test_a_prediction_where_nothing_can_be_locked(odd, tmp_path):
    table = (
        "import sys; from pathlib import Path\n"
        "from unet_jax.inference.output import Output\n"
        "from unet_jax.inference.table import Table\n"
        "with Table(Output(Path(sys.argv[1])), {}) as table:\n"
        "    print(*table.notes, sep='\\n')"
    )
    code, said, errors = odd("-W", "error", "-c", table, tmp_path, NO_FLOCK=errno.ENOLCK)
    assert (code, errors) == (0, "")
    assert said == (
        f"note: the disk of {tmp_path}/.predictions.csv.lock grants no locks (No locks available), so nothing but you "
        "keeps a second prediction out of this folder.\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.csv", "predictions.json"}


@pytest.mark.parametrize("where", ["workdir", "folder above"])
@pytest.mark.parametrize("command", ["train", "crossval", "eval", "predict", "export"])
def test_a_workdir_whose_path_is_not_utf_8_is_refused_before_any_step(tiny_data, tmp_path, command, where):
    """Its name, or that of a folder that the command was started in."""
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    workdir, start = (odd, tmp_path) if where == "workdir" else (Path("run"), odd)
    whole = start / workdir
    whole.mkdir(parents=True)
    (tmp_path / "in").mkdir()
    shutil.copy(next(Path(__file__).parents[2].glob("docs/*.png")), tmp_path / "in/a.png")
    if command in ("train", "crossval"):
        argv = options(workdir, tiny_data, epochs=1)
        before = set()
    else:
        (whole / "config.json").write_text("{")  # is not even read
        more = {
            "predict": ["--input", tmp_path / "in", "--output", tmp_path / "out"],
            "export": ["--out", tmp_path / "m"],
        }
        argv = ["--workdir", workdir, *more.get(command, [])]
        before = {"config.json"}
    done = subprocess.run(
        [sys.executable, "-m", f"unet_jax.{command}", *map(str, argv)],
        capture_output=True,
        text=True,
        cwd=start,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}/caf\\udce9") and line.endswith("Rename the folder.")
    assert {path.name for path in whole.iterdir()} == before and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_dataset_and_an_output_whose_paths_are_not_utf_8_are_taken(tiny_data, tmp_path):
    data, out = tmp_path / os.fsdecode(b"d\xe9"), tmp_path / os.fsdecode(b"out\xe9")
    shutil.copytree(tiny_data, data)
    code, _, errors = plain("-m", "unet_jax.train", *options(tmp_path / "run", data, epochs=1))
    assert code == 0, errors
    code, said, errors = plain("-m", "unet_jax.eval", "--workdir", tmp_path / "run", "--output", out)
    assert code == 0 and "out\\udce9/report.html" in said, errors
    assert (out / "report.html").is_file()
