"""Ctrl-C, SIGTERM and SIGHUP between two steps of work, never within one."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def stopping() -> list[signal.Signals]:
    """List the signals by which a person or a system stops a process; that of a closed terminal unless under nohup."""
    hang_up = getattr(signal, "SIGHUP", None)
    of_terminal = [] if hang_up is None or signal.getsignal(hang_up) == signal.SIG_IGN else [hang_up]
    return [signal.SIGINT, signal.SIGTERM, *of_terminal]


def ignore_stopping() -> None:
    """Ignore all of `stopping` from now on, since this process ends anyway: its end is not to be stopped half-way."""
    if threading.current_thread() is threading.main_thread():
        for number in stopping():
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def terminable() -> Iterator[None]:
    """Let all of `stopping` raise KeyboardInterrupt, as Ctrl-C does, so that what is half-made is removed."""
    with _handled([number for number in stopping() if number != signal.SIGINT], signal.default_int_handler):
        yield


@contextmanager
def held() -> Iterator[None]:
    """Hold the signals of `stopping` back until what stands within is done; then the first of them comes as ever."""
    received: list[int] = []
    with _handled(stopping(), lambda number, frame: received.append(number)):
        yield
    for number in received[:1]:
        signal.raise_signal(number)


@contextmanager
def _handled(numbers: Sequence[signal.Signals], handler: Any) -> Iterator[None]:
    # Python handles signals in its first thread, and lets no other one choose how.
    first = threading.current_thread() is threading.main_thread()
    previous = {number: signal.signal(number, handler) for number in numbers if first}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
