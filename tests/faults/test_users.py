"""Workdirs of somebody else: what may not be written to is refused before any work, and named."""

import functools
import shutil

import pytest

from tests.helpers.disk import contents, only_readable
from tests.helpers.runs import options
from tests.helpers.users import as_nobody, open_folder
from unet_jax import train

pytestmark = pytest.mark.slow

options = functools.partial(options, epochs=1)
EVAL = ("unet_jax.eval", "--workdir")


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory):
    """A run that has chosen no threshold."""
    workdir = tmp_path_factory.mktemp("run") / "run"
    assert train.main(options(workdir, tiny_data)) == 0
    for name in ("threshold.json", "postprocess.json"):
        (workdir / name).unlink()
    return workdir


@pytest.fixture
def shared(run, tiny_data):
    """The run and its data, which every user may read, and a folder `own` that every user may write to."""
    with open_folder() as folder:
        shutil.copytree(run, folder / "run")
        shutil.copytree(tiny_data, folder / "data")
        (folder / "own").mkdir()
        (folder / "own").chmod(0o777)
        with only_readable(folder / "run"), only_readable(folder / "data"):
            yield folder


def test_eval_of_a_workdir_that_may_not_be_written_is_refused_first(shared):
    # The data are not there, and nobody has looked for them.
    done = as_nobody(*EVAL, shared / "run", "--data", shared / "nothing")
    assert (done.returncode, done.stdout) == (2, "")
    out = shared / "run/eval/test"
    # Matplotlib has no folder of this user's for its list of fonts, and says so first.
    (last,) = done.stderr.splitlines()[-1:]
    assert last == f"error: {out} cannot be written to (Permission denied). Give another folder by --output."
    # Neither is an --output that may not be written.
    done = as_nobody(*EVAL, shared / "run", "--data", shared / "nothing", "--output", shared / "run/x/y")
    assert done.returncode == 2 and f"error: {shared / 'run/x/y'} cannot be written to (" in done.stderr


def test_eval_of_it_to_another_output_chooses_and_leaves_it_alone(shared):
    done = as_nobody(*EVAL, shared / "run", "--data", shared / "data", "--output", shared / "own/scores")
    assert done.returncode == 0, done.stderr
    assert (shared / "own/scores/summary.json").is_file()


def test_training_where_one_may_not_write_is_refused_before_any_step(shared):
    before = contents(shared)
    for workdir in (shared / "new", shared / "run"):
        done = as_nobody("unet_jax.train", *options(workdir, shared / "data"))
        assert done.returncode in (1, 2) and "epoch" not in done.stdout
        *_, line = done.stderr.splitlines()  # Matplotlib may say before that it can keep no fonts
        assert line.startswith("error: ") and "Permission denied" in line and str(workdir) in line
    assert contents(shared) == before


def test_predict_with_it_writes_where_one_may(shared):
    (shared / "in").mkdir()
    shutil.copy(shared / "run/gallery.png", shared / "in/a.png")
    argv = ("unet_jax.predict", "--workdir", shared / "run", "--input", shared / "in", "--output")
    done = as_nobody(*argv, shared / "masks")
    assert done.returncode == 2 and done.stderr.startswith(f"error: {shared / 'masks'} cannot be written to (")
    done = as_nobody(*argv, shared / "own/masks")
    assert (done.returncode, done.stderr) == (0, "")
    assert (shared / "own/masks/a.png").is_file()
