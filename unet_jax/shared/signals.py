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
    _handle(stopping(), signal.SIG_IGN)


def raise_stopping() -> None:
    """Let all of `stopping` raise KeyboardInterrupt from now on, as Ctrl-C does; so what is half-made is removed."""
    _handle([number for number in stopping() if number != signal.SIGINT], signal.default_int_handler)


@contextmanager
def held() -> Iterator[None]:
    """Hold the signals of `stopping` back until what stands within is done; then the first of them comes as ever."""
    received: list[int] = []
    previous = _handle(stopping(), lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
    for number in received[:1]:
        signal.raise_signal(number)


def _handle(numbers: Sequence[signal.Signals], handler: Any) -> dict[signal.Signals, Any]:
    """Set the handler of signals; give those before."""
    # Python handles signals in its first thread, and lets no other one choose how.
    first = threading.current_thread() is threading.main_thread()
    return {number: signal.signal(number, handler) for number in numbers if first}
