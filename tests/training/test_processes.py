"""Processes over loopback that train one network: with each other, stopped, left alone, and as tasks of SLURM."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import jax
import pytest
from filelock import FileLock

from tests.helpers.commands import exit_code
from tests.helpers.runs import assert_same_run, final_variables, options, wait_for
from unet_jax import train
from unet_jax.config import read_config
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


def ended(started):
    """The exit codes of processes that end by themselves, and the lines of each about an error."""
    said = [process.communicate(timeout=120)[0].splitlines() for process in started]
    assert not [line for lines in said for line in lines if line.startswith(("Traceback", "F1", "*** "))], said
    errors = [[line for line in lines if line.startswith(("error: ", "interrupted"))] for lines in said]
    return [process.returncode for process in started], errors


@pytest.mark.slow
def test_what_the_first_of_two_processes_refuses_ends_both(tiny_data, tmp_path):
    """It holds the service by which they know of each other."""
    with FileLock(tmp_path / "train.lock"), two_processes(options(tmp_path, tiny_data, epochs=1)) as started:
        codes, errors = ended(started)
    refused = f"{tmp_path} is being trained by another process. Wait for it to end, or use another --workdir."
    assert codes == [2, 1]
    assert errors == [[f"error: {refused}"], [f"error: process 0 of the run has ended ({refused})"]]


@pytest.mark.slow
def test_what_the_second_of_two_processes_refuses_ends_both(tiny_data, tmp_path):
    argv, seed = options(tmp_path / "run", tiny_data, epochs=1), "import sys; sys.argv += ['--seed', '3']"
    second = ("-c", f"{seed}\nfrom unet_jax import train\nfrom unet_jax.shared import cli\ncli.run(train.main)")
    with two_processes(argv, (MODULE, second)) as started:
        codes, errors = ended(started)
    refused = f"{tmp_path / 'run'} holds a run of another configuration: --seed 3 (it has 0). Use another --workdir."
    assert codes == [1, 2]
    assert errors == [[f"error: process 1 of the run has ended ({refused})"], [f"error: {refused}"]]


@pytest.mark.slow
def test_what_fails_at_the_very_end_of_the_first_process_ends_both(tiny_data, tmp_path):
    """The other one has nothing left to do by then."""
    (tmp_path / "gallery.png").mkdir()
    with two_processes(options(tmp_path, tiny_data, epochs=1)) as started:
        codes, ((failed,), (of_other,)) = ended(started)
    assert codes == [1, 1] and "Is a directory" in failed
    assert of_other == f"error: process 0 of the run has ended ({failed.removeprefix('error: ')})"


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_ctrl_c_for_one_of_two_processes_ends_both(tiny_data, tmp_path, number):
    with two_processes(options(tmp_path / "run", tiny_data, epochs=4000)) as started:
        wait_for(started[0], "epoch 2/")
        started[number].send_signal(signal.SIGINT)
        codes, errors = ended(started)
    assert codes == [1, 1]
    assert errors[number] == ["interrupted"]
    assert errors[1 - number] == [f"error: process {number} of the run has ended (interrupted)"]


@pytest.mark.slow
def test_a_process_that_vanishes_before_the_first_step_ends_the_other(tiny_data, tmp_path):
    code = (
        "import os, signal\n"
        "from unet_jax import train\n"
        "from unet_jax.runs import train as run\n"
        "run.fit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "train.main()"
    )
    with two_processes(options(tmp_path / "run", tiny_data, epochs=1), (MODULE, ("-c", code))) as started:
        codes, (lines, _) = ended(started)
    assert codes == [1, -signal.SIGKILL]
    (line,) = lines
    assert line.startswith("error: this process or another one of the run has failed (")


@pytest.mark.slow
def test_a_defect_of_one_of_two_processes_keeps_its_traceback_and_ends_both(tiny_data, tmp_path):
    code = (
        "from unet_jax import train\nfrom unet_jax.runs import train as run\nrun.fit = lambda *_: 1 / 0\ntrain.main()"
    )
    with two_processes(options(tmp_path / "run", tiny_data, epochs=1), (MODULE, ("-c", code))) as (first, second):
        said, of_second = (process.communicate(timeout=120)[0] for process in (first, second))
    assert (first.returncode, second.returncode) == (1, 1)
    assert "error: process 1 of the run has ended (ZeroDivisionError: division by zero)\n" in said
    assert "Traceback" in of_second and of_second.endswith("ZeroDivisionError: division by zero\n")
    assert "Traceback" not in said


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


def trained(argv, **slurm):
    """What `train` says in a process of its own that has these variables of SLURM and no other ones, and its code."""
    left = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    command = [sys.executable, *MODULE, *argv]
    done = subprocess.run(command, capture_output=True, text=True, env=left | slurm, timeout=240)
    return done.returncode, done.stdout, done.stderr


def who(port, count, number, timeout=5):
    words = {"coordinator": f"localhost:{port}", "num-processes": count, "process-id": number, "timeout": timeout}
    return [str(word) for name, value in words.items() for word in (f"--distributed.{name}", value)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_process_whose_peer_does_not_come_says_what_it_waits_for_and_ends(tiny_data, tmp_path, number):
    port = free_port()
    code, said, errors = trained([*options(tmp_path / "run", tiny_data, epochs=1), *who(port, 2, number)])
    assert (code, said) == (1, "")
    assert errors.splitlines() == [
        f"process {number} of 2 waits at localhost:{port} for the others, 5 s at most",
        "error: the processes did not find each other within 5 s. Start all of them with the same "
        "--distributed.coordinator and --distributed.num-processes, each with its own --distributed.process-id.",
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_of_three_two_come_and_the_one_that_waits_longer_ends_as_cleanly(tiny_data, tmp_path):
    """The first one gives up, and the address that the second one asks is gone."""
    port, argv = free_port(), options(tmp_path / "run", tiny_data, epochs=1)
    commands = [[sys.executable, *MODULE, *argv, *who(port, 3, i, 3 + 6 * i)] for i in (0, 1)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [process.communicate(timeout=120)[1].splitlines() for process in started]
    assert [process.returncode for process in started] == [1, 1]
    for lines, seconds in zip(errors, (3, 9), strict=True):
        assert len(lines) == 2 and f"did not find each other within {seconds} s." in lines[1], errors


def test_an_address_that_is_taken_is_named(tiny_data, tmp_path):
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, errors = trained([*options(tmp_path / "run", tiny_data, epochs=1), *who(port, 2, 0)])
    (line,) = errors.splitlines()
    assert code == 1 and line.startswith(f"error: the first process cannot listen at localhost:{port} (")
    assert "Address already in use" in line and line.endswith("with a port that is free on its host.")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_waits_can_be_stopped(tiny_data, tmp_path, number):
    argv = [*options(tmp_path / "run", tiny_data, epochs=1), *who(free_port(), 2, 0, 600)]
    with subprocess.Popen([sys.executable, *MODULE, *argv], stderr=subprocess.PIPE, text=True) as process:
        assert "600 s at most" in process.stderr.readline()
        process.send_signal(number)
        # XLA may have words of its own as its service ends.
        assert process.stderr.read().startswith("interrupted\n")
    assert process.returncode == 1


JOB = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        pytest.param({"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NODELIST": "localhost"}, id="a shell within salloc"),
        pytest.param({}, id="a batch script without srun"),
    ],
)
def test_a_process_of_a_job_of_several_tasks_trains_alone_and_says_so(tiny_data, tmp_path, step):
    code, said, errors = trained(options(tmp_path / "run", tiny_data, epochs=1), **JOB, **step)
    assert code == 0 and "Finished: 1 epochs" in said
    (line,) = errors.splitlines()
    assert line.startswith("note: this job of SLURM has 4 tasks, and this process trains alone")


@pytest.mark.slow
def test_a_task_whose_peer_does_not_come_ends(tiny_data, tmp_path):
    step = JOB | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost", "SLURM_PROCID": "1"}
    argv = [*options(tmp_path / "run", tiny_data, epochs=1), "--distributed.timeout", "5"]
    code, said, errors = trained(argv, **step)
    assert (code, said) == (1, "")
    assert errors.splitlines() == [
        "task 1 of 2 waits for the others, 5 s at most",
        "error: the processes did not find each other within 5 s. Start all of them by one srun.",
    ]


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("SLURM_JOB_ID", None, "is not set"),
        ("SLURM_JOB_ID", "x", "is 'x'"),
        ("SLURM_LOCALID", None, "is not set"),
        ("SLURM_STEP_NODELIST", None, "is not set"),
    ],
)
def test_a_variable_of_slurm_that_is_missing_is_named(tmp_path, monkeypatch, capfd, name, value, got):
    step = JOB | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NODELIST": "localhost", name: value}
    for variable, given in step.items():
        if given is None:
            monkeypatch.delenv(variable, raising=False)
        else:
            monkeypatch.setenv(variable, given)
    assert exit_code(train.main, "--workdir", tmp_path / "run") == 2
    assert capfd.readouterr() == (
        "",
        f"error: {name} {got}, though SLURM_STEP_NUM_TASKS says that srun started 4 tasks. Start all of them by one "
        "srun, or unset SLURM_STEP_NUM_TASKS to train alone.\n",
    )


def test_a_task_that_is_alone_on_its_node_takes_all_its_devices():
    """As the list of each node's tasks has it: one task a node, or several."""
    code = (
        "import jax, os, sys\n"
        "from unet_jax.config import DistributedConfig\n"
        "from unet_jax.training.processes import barrier, connect\n"
        "connect(DistributedConfig(timeout=60))\n"
        "print(jax.process_count(), jax.config.values['jax_cuda_visible_devices'], flush=True)\n"
        "barrier('seen')\n"  # not before the other one has seen it too
        "os._exit(0)"
    )
    for tasks, devices in (("1(x2)", "all"), ("2", "0")):
        # jax makes its port of the job's number.
        job = {"SLURM_JOB_ID": str(free_port() % 4096), "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}
        step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": tasks}
        command = [sys.executable, "-c", code]
        both = [os.environ | job | step | {"SLURM_PROCID": number} for number in "01"]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own) for own in both]
        said = [process.communicate(timeout=120)[0].splitlines()[0] for process in started]
        assert said == [f"2 {devices}"] * 2


def test_alone_nothing_is_waited_for():
    assert not processes.is_distributed() and processes.is_first() and not processes.stop_requested(3)
    with processes.first_alone("nothing"):
        processes.barrier("nobody")


def test_an_error_of_jax_alone_is_not_about_other_processes():
    with pytest.raises(jax.errors.JaxRuntimeError), processes.together():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")
