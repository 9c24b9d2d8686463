"""Ctrl-C and SIGTERM as a flag."""

import signal
from types import FrameType
from typing import Any

from unet_jax.training.processes import several


class Interrupts:
    """Ctrl-C and SIGTERM as a flag; a second one ends the process as if there were no handler.

    Where several processes train together, SIGTERM is left to jax, which tells all of them (`stop_requested`), and
    Ctrl-C ends the process at once: a flag in one of them would make the others wait for it.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        for number in () if several() else (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        signal.signal(number, self._previous[number])
