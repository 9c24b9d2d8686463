"""Download over HTTP: resumed where it broke off, retried after pauses, held to a minimal rate, verified by MD5."""

import http.client
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, MaxRetryError, ProtocolError
from urllib3.util import Retry

from unet_jax import __version__
from unet_jax.data.download.digests import file_md5
from unet_jax.shared.progress import progress

Say = Callable[[str], object]

CHUNK = 1 << 16
MAX_REDIRECTS = 10
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that may be others a little later."""


class WrongContent(Exception):
    """Other content than the one asked for: `length` bytes, as far as that is known."""

    def __init__(self, url: str, length: int):
        super().__init__(f"{url} has something else")
        self.length = length


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """One file to be had over HTTP."""

    urls: Sequence[str]
    """Addresses of the same content, at least one; tried in turn."""
    target: io.BufferedRandom | io.BytesIO
    """Where the content goes. The bytes in it are taken for the beginning, and the rest is asked for."""
    size: int | None = None
    """Length of the content in bytes, if known."""
    md5: str | None = None
    """Digest of the content, if known."""
    limit: int
    """Most bytes taken."""
    say: Say
    """Told of each further attempt."""
    name: str = "download"
    """What to call it on the progress bar."""
    attempts: int = 5
    """Requests to one address before the next address is tried."""
    backoff: float = 2.0
    """Seconds; the pauses before further requests are 0, 2, 4, 8 ... times as long, or as long as the server asks."""
    longest_pause: int = 60
    """Most seconds of a pause."""
    seconds: float = 60.0
    """Time for a connection, for the head of an answer, and for each CHUNK bytes of the content."""

    def run(self) -> None:
        """Write to the target the content of the first address that has the right one.

        Raises:
            WrongContent: an address has other content, and none has the right one.
            ConnectionError: no address answered with all bytes; the target holds what came.
        """
        failures: list[WrongContent | ConnectionError] = []
        for url, following in zip(self.urls, [*self.urls[1:], None], strict=True):
            try:
                self._try(url)
                return
            except (WrongContent, ConnectionError) as e:
                failures.append(e)
                if following is not None:
                    self.say(f"{e}; trying {following}")
        raise next((e for e in failures if isinstance(e, WrongContent)), failures[0])

    def _try(self, url: str) -> None:
        retries = self._retries(url)
        with _Session(_Adapter(retries, self.seconds)) as session:
            while True:
                try:
                    return self._attempt(session, url)
                except HTTPError as e:
                    broken = ProtocolError(_root(e))
                try:
                    retries = retries.increment("GET", url, error=broken)
                except MaxRetryError:
                    raise ConnectionError(f"{url} broke off ({broken})") from broken
                retries.sleep()

    def _retries(self, url: str) -> Retry:
        say, target = self.say, self.target

        class AnnouncedRetry(Retry):
            def sleep(self, response: Any = None) -> None:
                history: Any = self.history
                last = history[-1]
                reason = f"answered with HTTP {last.status}" if last.status else f"failed ({_root(last.error)})"
                pause = (self.get_retry_after(response) if response else None) or self.get_backoff_time()
                say(f"{url} {reason}; trying again in {pause:g} s, from byte {target.seek(0, io.SEEK_END)} on")
                super().sleep(response)

        return AnnouncedRetry(
            total=self.attempts - 1,
            other=0,  # an error of TLS does not pass
            status_forcelist=_RETRIED,
            backoff_factor=self.backoff,
            backoff_max=self.longest_pause,
            retry_after_max=self.longest_pause,
            raise_on_status=False,
        )

    def _attempt(self, session: "_Session", url: str) -> None:
        """Make the target whole and right, or leave in it what may be resumed."""
        before = self.target.seek(0, io.SEEK_END)
        if self.size is not None and before > self.size:
            before = 0
        if before != self.size:
            headers = {"Range": f"bytes={before}-"} if before else {}
            try:
                response = session.get(url, headers=headers, stream=True, timeout=self.seconds)
            except (OSError, ValueError, HTTPError) as e:
                raise ConnectionError(f"{url} cannot be reached ({_root(e)}); check the network and its proxy") from e
            with response:
                self._receive(session, response, url, before)
        self.target.seek(0)
        if self.md5 is None or file_md5(self.target) == self.md5:
            return
        length = self.target.seek(0, io.SEEK_END)
        self.target.truncate(0)
        if before:
            raise ProtocolError("the content does not fit to what was fetched before")
        raise WrongContent(url, length)

    def _receive(self, session: "_Session", response: requests.Response, url: str, before: int) -> None:
        """Write the answer's content to the target, which holds the first `before` bytes already."""
        length = self._start(response, url, before)
        coming = response.raw.length_remaining
        whole = None if coming is None else length + coming
        if whole == 0:
            raise ConnectionError(f"{url} answered with an empty page")
        if whole is not None and (whole > self.limit or self.size not in (None, whole)):
            raise WrongContent(url, whole)
        self.target.seek(length)
        self.target.truncate()
        with progress((whole or self.limit) - length, self.name, "B") as advance:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                session.adapter.restart_clock()
                length += len(chunk)
                if length > self.limit:
                    self.target.truncate(0)
                    raise WrongContent(url, length)
                self.target.write(chunk)
                advance(len(chunk))
        if not length:
            raise ConnectionError(f"{url} answered with an empty page")
        if whole is None and not response.raw.chunked and self.size is not None and length < self.size:
            raise ProtocolError(f"{length} of {self.size} bytes came")

    def _start(self, response: requests.Response, url: str, before: int) -> int:
        """Position in the content of the answer's first byte."""
        status, content_range = response.status_code, response.headers.get("Content-Range", "")
        if status == 200:
            return 0
        if not before or status not in (206, 416):
            raise ConnectionError(f"{url} answered with HTTP {status}")
        if status == 206 and content_range.startswith(f"bytes {before}-"):
            return before
        self.target.truncate(0)
        raise ProtocolError("the rest of what was fetched before is not there")


class _Adapter(HTTPAdapter):
    """Transport that gives up an answer unless CHUNK bytes of it come in time.

    A socket's own time-out starts anew with each byte, so that a server that dribbles would never be left.
    """

    def __init__(self, retries: Retry, seconds: float):
        super().__init__(max_retries=retries)
        self._seconds = seconds

    def restart_clock(self) -> None:
        self._end = time.monotonic() + self._seconds

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)

        class TimedConnection(type(pool).ConnectionCls):
            response_class = staticmethod(self._answer)

        pool.ConnectionCls = TimedConnection
        return pool

    def _answer(self, sock: Any, **options: Any) -> http.client.HTTPResponse:
        answer: Any = http.client.HTTPResponse(sock, **options)
        receive = answer.fp.raw.readinto

        def receive_in_time(buffer: memoryview) -> int:
            left = self._end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"too slow: less than {CHUNK} bytes in {self._seconds:g} s")
            sock.settimeout(left)
            return receive(buffer)

        answer.fp.raw.readinto = receive_in_time
        self.restart_clock()
        return answer


class _Session(requests.Session):
    def __init__(self, adapter: _Adapter):
        super().__init__()
        self.adapter, self.max_redirects = adapter, MAX_REDIRECTS
        self.headers.update({"User-Agent": f"unet-jax/{__version__}", "Accept-Encoding": "identity"})
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            resp.close()  # else requests reads the page that redirects, however long it is
        return target


def _root(error: BaseException) -> str:
    # The innermost error is the one that means something: "Connection refused", "Name or service not known".
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(error).split()) or type(error).__name__
