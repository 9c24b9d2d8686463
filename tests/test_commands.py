"""What `python -m unet_jax` says, whatever is asked of it, and how commands name themselves."""

import subprocess
import sys

import pytest

import unet_jax
from tests.helpers.commands import loaded_by
from tests.test_imports import COMMANDS, HEAVY
from unet_jax.shared import cli


def asked(*words):
    command = [sys.executable, "-m", "unet_jax", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_commands_are_listed(words):
    done = asked(*words)
    assert (done.returncode, done.stderr) == (0, "")
    first, blank, *lines = done.stdout.splitlines()
    assert first == f"Commands of unet-jax {unet_jax.__version__}, as in `python -m unet_jax train --help`:"
    assert blank == ""
    assert [line.split()[0] for line in lines] == COMMANDS
    assert all(len(line.split()) > 3 and "`" not in line.split()[1] for line in lines)


def test_the_version():
    done = asked("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"unet-jax {unet_jax.__version__}\n", "")


@pytest.mark.parametrize("words", [["trian"], ["trian", "--help"], ["--workdir", "runs/a"]])
def test_what_is_no_command_is_named_below_those_that_are(words):
    done = asked(*words)
    assert done.returncode == 2 and "  train " in done.stdout
    assert done.stderr == f"error: {words[0]} is no command.\n"


def test_a_command_behind_a_blank_is_run(raw_phantom):
    done = asked("check", str(raw_phantom))
    assert (done.returncode, done.stderr) == (0, "") and "12 patients" in done.stdout
    done = asked("check", str(raw_phantom / "none"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    done = asked("train", "--wrokdir", "runs/a")
    assert (done.returncode, done.stdout) == (2, "") and "python -m unet_jax train --help" in done.stderr


def test_the_program_answers_help_as_quickly_as_the_module():
    code = "from unet_jax.__main__ import start; sys.argv = ['/bin/unet-jax', 'predict', '--help']; start()"
    said, loaded = loaded_by(code)
    assert said.startswith("usage: unet-jax predict ") and "--overlays" in said
    assert "tyro" in loaded and loaded & set(HEAVY) == set()


@pytest.mark.parametrize(
    ("program", "called"),
    [
        ("/home/a/.venv/bin/unet-jax", "unet-jax train"),
        ("Scripts/unet-jax.exe", "unet-jax train"),
        ("/home/a/site-packages/unet_jax/__main__.py", "python -m unet_jax train"),
        ("/home/a/site-packages/unet_jax/train.py", "python -m unet_jax.train"),
        ("/home/a/site-packages/pytest/__main__.py", "python -m unet_jax.train"),
        ("", "python -m unet_jax.train"),
    ],
)
def test_a_command_is_named_as_this_process_was_started(program, called, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    assert cli.started("train") == called
