"""What `python -m unet_jax` says, whatever is asked of it."""

import subprocess
import sys

import pytest

from tests.test_imports import COMMANDS


def asked(*words):
    command = [sys.executable, "-m", "unet_jax", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_commands_are_listed(words):
    done = asked(*words)
    assert (done.returncode, done.stderr) == (0, "")
    first, blank, *lines = done.stdout.splitlines()
    assert first == "Commands, as in `python -m unet_jax.train --help`:" and blank == ""
    assert [line.split()[0] for line in lines] == COMMANDS
    assert all(len(line.split()) > 3 for line in lines)


def test_a_command_behind_a_blank_is_told_how_it_is_run():
    done = asked("train", "--workdir", "runs/a")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: train is run as `python -m unet_jax.train`, with a dot.\n"


def test_what_is_no_command_is_named_below_those_that_are():
    done = asked("trian")
    assert done.returncode == 2 and "  train " in done.stdout
    assert done.stderr == "error: trian is no command.\n"
