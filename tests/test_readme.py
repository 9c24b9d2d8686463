"""Commands and options that the documents show, with their values: each is taken by the parser of its command."""

import functools
import re
import shlex
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tyro

import unet_jax
from tests.test_imports import COMMANDS
from unet_jax.config import UserError
from unet_jax.shared import cli

ROOT = Path(unet_jax.__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(rf"(?:python -m unet_jax[. ]|unet-jax )({'|'.join(COMMANDS)})\b(.*)")
NEEDED = {
    "train": "--workdir W",
    "crossval": "--workdir W",
    "predict": "--input I --output O",
    "convert": "--raw R --out D",
    "export": "--workdir W --out M",
    "preview": "--output P",
}
"""Options without which a command takes no others, for what is shown of it alone."""


class Parsed(Exception):
    """The options of a command were taken; it is not run."""


def parse_alone(options: Callable[..., Any], command: str, argv: Sequence[str] | None) -> None:
    """Take the place of `cli.parse`: the same parser, on the command's own options, without its work."""

    @functools.wraps(options)
    def taken(*values: Any, **named: Any) -> None:
        for value in named.values():
            if hasattr(value, "check"):
                value.check()

    tyro.cli(options if isinstance(options, type) else taken, prog=command, args=argv)
    raise Parsed


def refusal(command: str, argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """What a command's parser says of options that it does not take; None if it takes them.

    Raises:
        UserError: it takes them, but not their values.
    """
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(cli, "parse", parse_alone)
            import_module(f"unet_jax.{command}").main(list(argv))
    except Parsed:
        return None
    except SystemExit as left:
        said = capsys.readouterr().err
        return said if left.code else None
    raise AssertionError(f"{command} did not parse its options by cli.parse")


class Shown(NamedTuple):
    command: str
    argv: list[str]
    line: str


def shown_in_blocks(text: str) -> list[Shown]:
    """Commands in blocks of code."""
    found = []
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if match := COMMAND.search(line):
                argv = shlex.split(re.split(", all folds| && ", match[2])[0], comments=True)
                found.append(Shown(match[1], argv, line))
    return found


def shown_in_text(text: str) -> dict[str, list[Shown]]:
    """Commands and options in spans of code: to each span the commands of which one at least must take it."""
    found: dict[str, list[Shown]] = {}
    # The cells of a table are passages of their own; one may begin with the commands that it is about.
    passages = [cell for line in BLOCK.sub("", text).splitlines() for cell in line.split(" | ")]
    for passage in passages:
        about = re.match(r"(`\w+`, )*`\w+`: ", passage)
        named = SPAN.findall(about[0]) if about else []
        for span in SPAN.findall(passage):
            first, *rest = span.split()
            if match := COMMAND.search(span):
                found[span] = [Shown(match[1], shlex.split(match[2]), span)]
            elif first in COMMANDS and rest and rest[0].startswith("--"):
                found[span] = [Shown(first, rest, span)]
            elif first.startswith("--") and named:
                found |= {f"{name} {span}": [Shown(name, span.split(), span)] for name in named}
            elif first.startswith("--"):
                likely = ("train", "predict", "eval", *COMMANDS)
                found[span] = [Shown(name, span.split(), span) for name in likely]
    return found


def taken(shown: Shown, capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether a command takes options that are shown alone: without those that it needs, or the last one's value."""
    needed = shlex.split(NEEDED.get(shown.command, ""))
    pairs = [(name, value) for name, value in zip(needed[::2], needed[1::2], strict=True) if name not in shown.argv]
    with suppress(UserError):  # of values that need others
        said = refusal(shown.command, [word for pair in pairs for word in pair] + shown.argv, capsys)
        last_is_option = bool(shown.argv) and shown.argv[-1].startswith("--")
        return said is None or (last_is_option and "Unrecognized" not in said)
    return True


def not_taken(text: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Spans of a text that no command takes."""
    return [span for span, each in shown_in_text(text).items() if not any(taken(shown, capsys) for shown in each)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """In a folder where no run is found."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_blocks_are_taken(document, capsys):
    found = shown_in_blocks(document.read_text("utf-8"))
    assert {shown.line: said for shown in found if (said := refusal(shown.command, shown.argv, capsys))} == {}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_in_the_text_are_taken(document, capsys):
    assert not_taken(document.read_text("utf-8"), capsys) == []


def test_what_the_readme_shows_is_found():
    text = (ROOT / "README.md").read_text("utf-8")
    commands = {shown.command for shown in shown_in_blocks(text)}
    assert {"download", "check", "convert", "preview", "train", "eval", "predict", "export"} <= commands
    assert len(shown_in_text(text)) > 60


@pytest.mark.parametrize(
    "text",
    [
        "```sh\npython -m unet_jax.train --workdir runs/a --modle.width 3\n```",
        "```\n$ .venv/bin/python -m unet_jax train --workdir\n```",
        "```\nNext: unet-jax predict --workdir runs/a\n```",
    ],
)
def test_a_wrong_command_is_found(text, capsys):
    (shown,) = shown_in_blocks(text)
    assert refusal(shown.command, shown.argv, capsys)


def test_a_wrong_value_is_found(capsys):
    with pytest.raises(UserError, match="width"):
        refusal("train", ["--workdir", "runs/a", "--model.width", "0"], capsys)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("with `--dorpout 3`", ["--dorpout 3"]),
        ("| with mirror images | `eval`, `predict`: `--tta`, `--overlays` |", ["eval --overlays"]),
        ("| `crossval --split.kind oficial`, `eval --model` |", ["crossval --split.kind oficial"]),
        ("`--workdir`, `--checkpoint latest`, `train --seed 3`, `--strict`, `STEM.png`, `a --b`", []),
    ],
)
def test_wrong_options_are_found(text, wrong, capsys):
    assert not_taken(text, capsys) == wrong


def test_extras_and_targets_that_are_named_are_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    text = "".join(document.read_text("utf-8") for document in DOCUMENTS)
    extras = {e for names in re.findall(r"(?:\.|unet-jax|whl)\[([\w,]+)\]", text) for e in names.split(",")}
    extras |= {e for names in re.findall(r"EXTRAS=([\w,]+)", text) for e in names.split(",")}
    assert {"test", "medical", "cuda12"} <= extras <= set(project["optional-dependencies"])
    made = set(re.findall(r"`?\bmake (train|test|slow|lint|\w+)(?=[` ][^a-z]|`|$)", text, re.MULTILINE))
    assert {"train", "test", "lint"} <= made <= set(targets)
