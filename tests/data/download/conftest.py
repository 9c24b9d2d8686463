"""A server of the article, and a clock that stands still while a download pauses."""

import time
from collections.abc import Iterator

import pytest

from tests.helpers.figshare import Figshare


@pytest.fixture
def figshare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Figshare]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Figshare()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited before further attempts, had time not been stopped."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited
