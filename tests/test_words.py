"""First lines of docstrings are understood alone: an imperative or a full noun phrase, never a dangling clause."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import unet_jax

ROOT = Path(unet_jax.__file__).parent
DANGLING = re.compile(r"(Of|As|By|What|Whether|Which|How|Where|When|Both|It|Its|Likewise)\b")


def first_lines(tree: ast.AST) -> Iterator[str]:
    """The first line of each docstring, those after fields and constants included."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value.strip().splitlines()[0]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_first_line_dangles(path):
    assert [line for line in first_lines(ast.parse(path.read_text())) if DANGLING.match(line)] == []


def test_dangling_lines_are_found():
    text = (
        '"""As x."""\nA = 1\n"""Whether."""\n\ndef f():\n    """Ask it."""\n\nclass C:\n    b: int\n    """Of b."""\n'
    )
    assert [line for line in first_lines(ast.parse(text)) if DANGLING.match(line)] == ["As x.", "Whether.", "Of b."]
