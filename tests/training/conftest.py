"""Checkpoints for the tests of reading, writing and damaging them."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.checkpoints import write


@pytest.fixture(scope="session")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps 10 and 20, the first the better; to be copied, not changed."""
    directory = tmp_path_factory.mktemp("two") / "checkpoints"
    write(directory, {10: 0.5, 20: 0.25})
    return directory


@pytest.fixture
def copy(two_steps: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two_steps, tmp_path / "copy"))
