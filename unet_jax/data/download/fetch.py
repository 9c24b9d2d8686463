"""Download over HTTP: resumed where it broke off, retried after pauses, held to a minimal rate, verified by MD5.

Only content is held to the rate: a server that sends the head of an answer byte by byte is waited for.
"""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from unet_jax import __version__
from unet_jax.data.download.digests import file_md5
from unet_jax.shared.progress import progress

Say = Callable[[str], object]

CHUNK = 1 << 16
LONGEST_PAUSE = 60
"""Most seconds between two requests, whatever the server asks for."""
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that may be others a little later."""


class WrongContent(Exception):
    """Other content than the one asked for: `length` bytes, as far as that is known."""

    def __init__(self, url: str, length: int):
        super().__init__(f"{url} has something else")
        self.length = length


class _Passing(ConnectionError):
    """Failure that may pass: a further request may succeed."""

    pause: float | None = None
    """Seconds that the server asks to wait."""


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """One file to be had over HTTP."""

    urls: Sequence[str]
    """Addresses of the same content, at least one; tried in turn."""
    target: io.BufferedRandom | io.BytesIO
    """Target of the content. The bytes in it are taken for the beginning, and the rest is asked for."""
    size: int | None = None
    """Length of the content in bytes, if known."""
    md5: str | None = None
    """Digest of the content, if known."""
    limit: int
    """Most bytes taken."""
    say: Say
    """Told of each further attempt."""
    name: str = "download"
    """Name on the progress bar."""
    attempts: int = 5
    """Requests to one address before the next address is tried, after 0, 4, 8, 16 ... seconds or as the server asks."""
    seconds: float = 60.0
    """Time for a connection, for any bytes to come, and for each CHUNK bytes of the content."""

    def run(self) -> None:
        """Write to the target the content of the first address that has the right one.

        Raises:
            WrongContent: an address has other content, and none has the right one.
            ConnectionError: no address answered with all bytes; the target holds what came.
        """
        failures: list[WrongContent | ConnectionError] = []
        for url in self.urls:
            if failures:
                self.say(f"{failures[-1]}; trying {url}")
            try:
                return self._try(url)
            except (WrongContent, ConnectionError) as e:
                failures.append(e)
        raise next((e for e in failures if isinstance(e, WrongContent)), failures[0])

    def _try(self, url: str) -> None:
        for attempt in range(1, self.attempts + 1):
            try:
                return self._attempt(url)
            except _Passing as e:
                if attempt == self.attempts:
                    raise
                pause = min(e.pause or (2**attempt if attempt > 1 else 0), LONGEST_PAUSE)
                self.say(f"{e}; trying again in {pause:g} s, from byte {self.target.seek(0, io.SEEK_END)} on")
                time.sleep(pause)

    def _attempt(self, url: str) -> None:
        """Make the target whole and right, or leave in it what may be resumed."""
        before = self.target.seek(0, io.SEEK_END)
        if self.size is not None and before > self.size:
            before = 0
        if before != self.size:
            with self._answer(url, before) as response:
                try:
                    self._receive(response, url, before)
                except (HTTPError, ValueError, OverflowError) as e:  # the last two from a Retry-After that is no time
                    raise _Passing(f"{url} broke off ({_root(e)})") from e
        self.target.seek(0)
        if self.md5 is None or file_md5(self.target) == self.md5:
            return
        length = self.target.seek(0, io.SEEK_END)
        self.target.truncate(0)
        if before:
            raise _Passing(f"{url} has content that does not fit to what was fetched before")
        raise WrongContent(url, length)

    def _answer(self, url: str, before: int) -> requests.Response:
        headers = {"User-Agent": f"unet-jax/{__version__}", "Accept-Encoding": "identity"}
        if before:
            headers["Range"] = f"bytes={before}-"
        hooks = {"response": _close_redirect}
        try:
            return requests.get(url, headers=headers, stream=True, timeout=self.seconds, hooks=hooks)
        except (OSError, ValueError, HTTPError) as e:
            lasting = isinstance(e, requests.exceptions.SSLError)
            passing = isinstance(e, requests.ConnectionError | requests.Timeout) and not lasting
            failure = _Passing if passing else ConnectionError
            raise failure(f"{url} cannot be reached ({_root(e)}); check the network and its proxy") from e

    def _receive(self, response: requests.Response, url: str, before: int) -> None:
        """Write the answer's content to the target, which holds the first `before` bytes already."""
        length = self._start(response, url, before)
        coming = response.raw.length_remaining
        whole = None if coming is None else length + coming
        if whole and (whole > self.limit or self.size not in (None, whole)):
            raise WrongContent(url, whole)
        if whole != 0:
            self.target.truncate(length)
            self.target.seek(length)
        begun, received = time.monotonic(), 0
        with progress((whole or self.limit) - length, self.name, "B") as advance:
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                length += len(chunk)
                if length > self.limit:
                    self.target.truncate(0)
                    raise WrongContent(url, length)
                self.target.write(chunk)
                advance(len(chunk))
                received += len(chunk)
                if received >= CHUNK:
                    begun, received = time.monotonic(), 0
                elif time.monotonic() - begun > self.seconds:
                    raise _Passing(f"{url} is too slow: less than {CHUNK} bytes in {self.seconds:g} s")
        if not length:
            raise ConnectionError(f"{url} answered with an empty page")
        if whole is None and not response.raw.chunked and self.size is not None and length < self.size:
            raise _Passing(f"{url} broke off ({length} of {self.size} bytes came)")

    def _start(self, response: requests.Response, url: str, before: int) -> int:
        """Find the position in the content of the answer's first byte."""
        status, content_range = response.status_code, response.headers.get("Content-Range", "")
        if status == 200:
            return 0
        if before and status == 206 and content_range.startswith(f"bytes {before}-"):
            return before
        if before and status in (206, 416):
            self.target.truncate(0)
            raise _Passing(f"{url} does not have the rest of what was fetched before")
        if status not in _RETRIED:
            raise ConnectionError(f"{url} answered with HTTP {status}")
        failure = _Passing(f"{url} answered with HTTP {status}")
        failure.pause = Retry().get_retry_after(response.raw)
        raise failure


def _close_redirect(response: requests.Response, **_options: Any) -> None:
    """Close a page that redirects, which requests would read, however long that page is."""
    if response.is_redirect:
        response.close()


def _root(error: BaseException) -> str:
    # The innermost error is the one that means something: "Connection refused", "Name or service not known".
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(error).split()) or type(error).__name__
