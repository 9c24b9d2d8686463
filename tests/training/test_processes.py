"""Two processes over loopback that train one network: with each other, stopped, and left alone."""

import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import jax
import pytest

from tests.helpers.runs import assert_same_run, final_variables, options, wait_for
from unet_jax import train
from unet_jax.config import DistributedConfig, RunError, read_config
from unet_jax.runs.records import read_records
from unet_jax.runs.workdir import Workdir
from unet_jax.training import processes

EPOCHS = 40


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


MODULE = ("-m", "unet_jax.train")


@contextmanager
def two_processes(argv, codes=(MODULE, MODULE)):
    """The command as two processes that train together; none is left behind. `codes` are Python's options."""
    port, started = free_port(), []
    for i in range(2):
        of_this = ["--distributed.coordinator", f"127.0.0.1:{port}", "--distributed.num-processes", "2"]
        command = [sys.executable, *codes[i], *argv, *of_this, "--distributed.process-id", str(i)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_two_processes_train_as_one_and_stop_together(tiny_data, tmp_path):
    """Stopped by SIGTERM to one of them; then one of them is killed; then one process alone trains to the end."""
    argv, workdir = options(tmp_path / "run", tiny_data, epochs=EPOCHS), Workdir(tmp_path / "run")
    with two_processes(argv) as (first, second):
        wait_for(first, f"epoch 2/{EPOCHS}")
        second.send_signal(signal.SIGTERM)
        said, others = first.communicate(timeout=120)[0], second.communicate(timeout=120)[0]
        assert (first.returncode, second.returncode) == (75, 75), said + others
        assert "SIGTERM: saved. Run the same command again to go on." in said
        assert "epoch" not in others  # one of them writes
    stopped_at, _ = final_variables(workdir.path)
    assert stopped_at is not None and len(read_records(workdir)) >= 2

    with two_processes(argv) as (first, second):
        wait_for(first, f"Resuming {workdir.path} at step {stopped_at}")
        wait_for(first, "epoch ")
        second.kill()
        said = first.communicate(timeout=120)[0]
        assert first.returncode == 1, said
        assert "error: this process or another one of the run has failed" in said
        assert "Traceback" not in said

    done = len(read_records(workdir))
    assert train.main(argv) == 0
    assert train.main(options(tmp_path / "alone", tiny_data, epochs=EPOCHS)) == 0
    records, alone = (read_records(w) for w in (workdir, Workdir(tmp_path / "alone")))
    assert [r["epoch"] for r in records] == list(range(1, EPOCHS + 1)) and done >= 2
    # Rounding differs, and Adam makes a step of it where a gradient is next to nothing; the first losses are as close.
    for one, other in zip(records[:3], alone[:3], strict=True):
        for side in ("train", "val"):
            assert one[side]["loss"] == pytest.approx(other[side]["loss"], rel=2e-3)


@pytest.mark.slow
def test_two_processes_stopped_and_resumed_end_as_two_that_were_not(tiny_data, tmp_path):
    """To the bit."""
    epochs, stopped = 12, options(tmp_path / "stopped", tiny_data, epochs=12)
    with two_processes(stopped) as (first, second):
        wait_for(first, f"epoch 2/{epochs}")
        first.send_signal(signal.SIGTERM)
        assert [p.wait(timeout=120) for p in (first, second)] == [75, 75]
    for argv in (stopped, options(tmp_path / "clean", tiny_data, epochs=epochs)):
        with two_processes(argv) as (first, second):
            said = first.communicate(timeout=240)[0]
            assert (first.returncode, second.wait(timeout=120)) == (0, 0), said
    assert_same_run(tmp_path / "stopped", tmp_path / "clean")
    assert len(read_records(Workdir(tmp_path / "clean"))) == epochs


@pytest.mark.slow
def test_the_first_of_two_processors_decides_about_the_precision(tiny_data, tmp_path):
    """One of them multiplies bfloat16."""
    code = (
        "import sys\n"
        "from unet_jax.models import compiler\n"
        "compiler.has_bfloat16 = lambda: {there}\n"
        "from unet_jax import train\n"
        "sys.exit(train.main())"
    )
    for asked, there in (("auto", True), ("bfloat16", False)):
        codes, workdir = [("-c", code.format(there=here)) for here in (there, not there)], Workdir(tmp_path / asked)
        with two_processes(options(workdir.path, tiny_data, "--model.precision", asked, epochs=1), codes) as started:
            said = started[0].communicate(timeout=240)[0]
            assert (started[0].returncode, started[1].wait(timeout=120)) == (0, 0), said
        expected = "bfloat16" if there else "float32"
        assert f"Computing in {expected}" in said
        assert [record["precision"] for record in read_records(workdir)] == [expected]
        assert read_config(workdir.config).model.precision == "bfloat16"


def test_processes_that_do_not_come_are_named(monkeypatch):
    def initialize(*args, **kwargs):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out.\nmore")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    with pytest.raises(RunError, match=r"did not find each other within 120 s \(DEADLINE_EXCEEDED: Barrier timed out"):
        processes.connect(DistributedConfig("127.0.0.1:1", 2, 1))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "4"}, False),  # a batch script, not a task of srun
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, False),
    ],
)
def test_slurm_is_seen_by_what_srun_sets(environment, expected, monkeypatch):
    for name in ("SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes.under_slurm() is expected
    asked = []
    monkeypatch.setattr("jax.distributed.initialize", lambda *given, **_: asked.append(given))
    processes.connect(DistributedConfig())
    assert asked == ([(None, None, None)] if expected else [])


def test_alone_nothing_is_waited_for():
    assert not processes.is_distributed() and processes.is_first() and not processes.stop_requested(3)
    with processes.first_alone("nothing"):
        processes.barrier("nobody")


def test_an_error_of_jax_alone_is_not_about_other_processes():
    with pytest.raises(jax.errors.JaxRuntimeError), processes.together():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")
