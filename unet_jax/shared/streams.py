"""Standard output and error that end no work: what nobody reads any more is dropped."""

import errno
import io
import os
import stat
import sys
from typing import Any


class _Descriptor(io.FileIO):
    """A descriptor that leads nowhere once its reader is gone, also for what libraries in C write to it."""

    def write(self, data: Any) -> int | None:
        try:
            return super().write(data)
        except OSError as e:
            # A pipe whose reader has closed it, as `| head` does, or a terminal that is gone.
            terminal = e.errno == errno.EIO and stat.S_ISCHR(os.fstat(self.fileno()).st_mode)
            if not (terminal or e.errno == errno.EPIPE):
                raise
        _lead_nowhere(self.fileno())
        return super().write(data)


def drop_unread() -> None:
    """Let standard output and error drop what nobody reads, and escape what their encoding has not.

    One that was closed before the start (`2>&-`) leads nowhere, lest a file that is opened later take its number, and
    get what libraries write there. Streams that somebody has put in the place of these are left alone.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            _lead_nowhere(number)
        if name == "stdin" or stream is not getattr(sys, f"__{name}__"):
            continue
        if stream is not None and not isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO):
            continue  # a console of Windows, which takes text and no bytes
        raw = _Descriptor(number, "wb", closefd=False)
        if stream is None:
            stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
        stream.flush()
        # Names of files need not be text, and a line about one must not end the command.
        at_once, lines = stream.write_through, stream.line_buffering
        buffer: Any = raw if at_once else io.BufferedWriter(raw)
        new = io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=lines, write_through=at_once)
        setattr(sys, name, new)


def _lead_nowhere(number: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)
