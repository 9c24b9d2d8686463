"""Signals that stop a training between two steps."""

import signal
import time
from types import FrameType
from typing import Any

from unet_jax.shared.signals import stopping
from unet_jax.training.processes import is_distributed, stop_requested

SAME_SECONDS = 1.0
"""Seconds in which a second signal is the first one come twice, as from a terminal and a program that passes it on."""


class Interrupts:
    """Ctrl-C, SIGTERM and SIGHUP as a flag; a second one, SAME_SECONDS later, as if there were no handler.

    Where several processes train together, SIGTERM is left to jax, which tells all of them (`stop_requested`), and
    Ctrl-C ends the process at once: a flag in one of them would make the others wait for it.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._since = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        for number in () if is_distributed() else stopping():
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def stopping(self, step: int) -> bool:
        """Tell whether to stop before a step; all processes of a run ask, before every dispatch."""
        if stop_requested(step):
            self.received = "SIGTERM"
        return self.received is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._since = signal.Signals(number).name, now
        elif now - self._since >= SAME_SECONDS:
            signal.signal(number, self._previous[number])
            signal.raise_signal(number)
