"""Workdirs of somebody else: what may not be written to is refused before any work, and named."""

import shutil

import pytest

from tests.helpers.disk import contents, only_readable
from tests.helpers.runs import options
from tests.helpers.users import as_nobody, open_folder


@pytest.fixture
def shared(trained, tiny_data):
    """A trained workdir and its data, which every user may read and only root, or nobody, may write to."""
    with open_folder() as folder:
        shutil.copytree(trained, folder / "run")
        shutil.copytree(tiny_data, folder / "data")
        (folder / "own").mkdir()
        (folder / "own").chmod(0o777)
        with only_readable(folder / "run"), only_readable(folder / "data"):
            yield folder


EVAL = ("-m", "unet_jax.eval", "--workdir")


@pytest.mark.slow
def test_eval_of_a_workdir_that_may_not_be_written_is_refused_first(shared):
    # The data are not there, and nobody has looked for them.
    done = as_nobody(*EVAL, shared / "run", "--data", shared / "nothing")
    assert (done.returncode, done.stdout) == (2, "")
    out = shared / "run/eval/test"
    assert done.stderr == f"error: {out} cannot be written to (Permission denied). Give another folder by --output.\n"
    # Neither is an --output that may not be written.
    done = as_nobody(*EVAL, shared / "run", "--data", shared / "nothing", "--output", shared / "run/x/y")
    assert done.returncode == 2 and done.stderr.startswith(f"error: {shared / 'run/x/y'} cannot be written to (")


@pytest.mark.slow
def test_eval_of_it_to_another_output_leaves_it_alone(trained, tiny_data):
    """Also where nothing was chosen yet, which would be stored in the workdir."""
    with open_folder() as folder:
        shutil.copytree(trained, folder / "run")
        shutil.copytree(tiny_data, folder / "data")
        (folder / "run/threshold.json").unlink()
        (folder / "own").mkdir()
        (folder / "own").chmod(0o777)
        with only_readable(folder / "run"), only_readable(folder / "data"):
            done = as_nobody(*EVAL, folder / "run", "--data", folder / "data", "--output", folder / "own/scores")
            assert done.returncode == 0, done.stderr
        assert (folder / "own/scores/summary.json").is_file() and not (folder / "run/threshold.json").exists()


@pytest.mark.slow
def test_training_where_one_may_not_write_is_refused_before_any_step(shared):
    for workdir in (shared / "new", shared / "run"):
        before = contents(shared)
        done = as_nobody("-m", "unet_jax.train", *options(workdir, shared / "data", epochs=1))
        assert done.returncode in (1, 2) and "epoch" not in done.stdout
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ") and "Permission denied" in line and str(workdir) in line
        assert contents(shared) == before


@pytest.mark.slow
def test_predict_with_somebody_else_s_run_and_a_folder_of_one_s_own(shared):
    (shared / "in").mkdir()
    shutil.copy(shared / "run/gallery.png", shared / "in/a.png")
    argv = ("-m", "unet_jax.predict", "--workdir", shared / "run", "--input", shared / "in", "--output")
    done = as_nobody(*argv, shared / "masks")
    assert done.returncode == 2 and done.stderr.startswith(f"error: {shared / 'masks'} cannot be written to (")
    done = as_nobody(*argv, shared / "own/masks")
    assert (done.returncode, done.stderr) == (0, "")
    assert (shared / "own/masks/a.png").is_file()
