"""What stands beside the code: links, versions, names of options shown (their values are `test_readme.py`'s)."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import unet_jax
from tests.helpers.commands import help_of
from tests.test_imports import COMMANDS
from tests.test_readme import DOCUMENTS

ROOT = Path(unet_jax.__file__).parents[1]
PAPERS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in ("runs", "build", "dist") for part in path.relative_to(ROOT).parts[:-1])
    or "shipped" in path.parts
)
IDS = [str(path.relative_to(ROOT)) for path in PAPERS]


def links(text: str) -> list[str]:
    """Targets of links and pictures that are files, without the place inside the file."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [t.partition("#")[0] for t in targets if not re.match(r"[a-z]+:|#", t)]


def shown(text: str) -> Iterator[tuple[str, list[str]]]:
    """Commands of the program that are shown in a paper: the command's name, and the names of its options."""
    text = text.replace("\\\n", " ")
    for line in re.findall(r"(?:python -m unet_jax[. ]|unet-jax )([^`\n]*)", text):
        words = shlex.split(line.partition("#")[0].partition(" && ")[0].replace("'", ""))
        if words and words[0] in COMMANDS:
            yield words[0], [word.partition("=")[0] for word in words[1:] if word.startswith("--")]


def test_the_papers_are_found():
    assert {"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/onnx.md", "experiments/best/README.md"} <= set(IDS)
    assert "unet_jax/runs/shipped/best/README.md" in IDS


@pytest.mark.parametrize("path", PAPERS, ids=IDS)
def test_links_lead_to_files(path):
    assert [target for target in links(path.read_text("utf-8")) if not (path.parent / target).exists()] == []
    assert links("[a](b.md#c) ![d](e/f.png) [g](https://h.i) [j](#k)\n```\n[l](m)\n```\n") == ["b.md", "e/f.png"]


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """Every option of every command, as its --help names them."""
    return {command: set(re.findall(r"--[a-z0-9.-]+", help_of(command))) for command in COMMANDS}


# Here commands may have words in the place of values; `test_readme.py` has the papers where they have not.
@pytest.mark.parametrize("path", [path for path in PAPERS if path not in DOCUMENTS], ids=lambda path: str(path.parent))
def test_commands_are_shown_with_options_that_they_have(path, options):
    wrong = [
        (command, name)
        for command, names in shown(path.read_text("utf-8"))
        for name in names
        if name not in options[command]
    ]
    assert wrong == []


def test_what_is_shown_is_found(options):
    text = (
        "```sh\npython -m unet_jax.train --workdir runs/b \\\n  --optim.epochs 3   # --not here\n```\n"
        "run `unet-jax predict --nothing=1` or `python -m unet_jax eval`\n"
    )
    assert list(shown(text)) == [
        ("train", ["--workdir", "--optim.epochs"]),
        ("predict", ["--nothing"]),
        ("eval", []),
    ]
    assert "--nothing" not in options["predict"] and "--overlays" in options["predict"]
    assert len(list(shown((ROOT / "README.md").read_text("utf-8")))) >= 15


def test_the_version_is_one():
    (cited,) = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    told = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert told[0] == "Unreleased" and cited == told[1] == unet_jax.__version__
