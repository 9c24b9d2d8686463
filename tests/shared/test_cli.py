"""What a command leaves: its exit code, and a line for a person or a traceback for a developer."""

import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.helpers.commands import signals_kept
from unet_jax.config import RunError, UserError
from unet_jax.shared import cli


@pytest.fixture(autouse=True)
def kept():
    with signals_kept():
        yield


def raiser(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (75, 75), (2, 2)])
def test_what_main_returns_is_the_exit_code(result, code, capsys):
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: result)
    assert left.value.code == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("the width is 0; give another"), 2, "error: the width is 0; give another\n"),
        (type("SliceError", (UserError,), {})("1.mat: no image"), 2, "error: 1.mat: no image\n"),
        (RunError("the loss is nan"), 1, "error: the loss is nan\n"),
        (OSError(28, "No space left on device", "x"), 1, "error: [Errno 28] No space left on device: 'x'\n"),
        (PermissionError(13, "Permission denied"), 1, "error: [Errno 13] Permission denied\n"),
        (KeyboardInterrupt(), 1, "interrupted\n"),
        (SystemExit(75), 75, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_one_line_and_its_exit_code(error, code, line, capsys):
    with pytest.raises(SystemExit) as left:
        cli.run(raiser(error))
    assert left.value.code == code
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("error", [ValueError, AssertionError, KeyError, MemoryError])
def test_a_defect_is_not_swallowed(error):
    with pytest.raises(error):
        cli.run(raiser(error("a defect")))


@pytest.mark.parametrize(
    ("error", "code", "begin", "end"),
    [
        ("UserError('no')", 2, "error: no\n", "error: no\n"),
        ("ValueError('a defect')", 1, "Traceback", "ValueError: a defect\n"),
    ],
)
def test_in_a_process_of_its_own_only_a_defect_has_a_traceback(error, code, begin, end):
    imports = "from unet_jax.config import UserError\nfrom unet_jax.shared import cli\n"
    program = f"{imports}def main():\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        raise {error}\n"
    command = [sys.executable, "-c", f"{program}cli.run(main)\n"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(begin) and done.stderr.endswith(end)
    assert ("Traceback" in done.stderr) == (begin == "Traceback")


ENDING = (
    "import atexit, sys\n"
    "from unet_jax.shared import cli\n"
    "atexit.register(lambda: (print('ending', flush=True), sys.stdin.readline()))\n"
    "def main():\n"
    "    print('working', flush=True)\n"
    "    sys.stdin.readline()\n"
    "cli.run(main)"
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (None, 0)])
def test_a_process_that_ends_is_not_stopped_again(number, code):
    """Neither after a first signal nor after its work, when libraries' last functions are called."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", ENDING], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "working\n"
        if number is None:
            process.stdin.write("\n")
            process.stdin.flush()
        else:
            process.send_signal(number)
        assert process.stdout.readline() == "ending\n"
        for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(again)
        _, errors = process.communicate("\n", timeout=60)
    assert (process.returncode, errors) == (code, "interrupted\n" if code else "")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Do something."""

    width: int
    """How wide."""
    batch_size: int = 4


def test_parse(monkeypatch):
    assert cli.parse(Options, "door", ["--width", "3"]) == Options(width=3)
    assert cli.parse(Options, "door", ["--width=3", "--batch-size", "5"]) == Options(width=3, batch_size=5)
    monkeypatch.setattr(sys, "argv", ["door.py", "--width", "7"])
    assert cli.parse(Options, "door") == Options(width=7)


def test_parse_calls_a_function():
    def options(width: int, inner: Options = Options(width=9)) -> tuple[int, Options]:
        return width, inner

    argv = ["--width", "1", "--inner.batch-size", "5"]
    assert cli.parse(options, "door", argv) == (1, Options(width=9, batch_size=5))


@pytest.mark.parametrize(
    ("argv", "given"),
    [
        (["--width", "3", "--a.batch-size", "4"], True),
        (["--a.batch-size=4"], True),
        (["--a.batch_size", "4"], True),
        (["--a.batch_size=4"], True),
        (["--b.batch-size", "4", "--a.batch-sizes", "3", "a.batch-size"], False),
        ([], False),
    ],
)
def test_an_option_is_given(argv, given):
    assert cli.is_given(argv, "--a.batch-size") == given


def test_help_goes_to_standard_output_with_code_0(capsys):
    with pytest.raises(SystemExit) as left:
        cli.parse(Options, "door", ["--help"])
    assert left.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: python -m unet_jax.door ") and "How wide." in out and err == ""


@pytest.mark.parametrize("argv", [[], ["--width", "wide"], ["--width", "3", "--wdith", "3"], ["--width"]])
def test_wrong_usage_leaves_with_code_2(argv, capsys):
    with pytest.raises(SystemExit) as left:
        cli.parse(Options, "door", argv)
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and "width" in err and "python -m unet_jax.door --help" in err
