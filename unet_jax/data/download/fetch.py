"""Bytes by HTTP: resumed where they broke off, asked for again after a while, and never waited for without end."""

import http.client
import io
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from unet_jax import __version__

Say = Callable[[str], object]
Target = io.BufferedRandom | io.BytesIO
"""Open for reading and writing."""

PIECE = 1 << 16
MAX_REDIRECTS = 10
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
"""Statuses that may be others a little later."""
_AHEAD = 8
"""Pieces received before they are written."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, and how often it is asked."""

    attempts: int = 5
    """Rounds through all addresses."""
    pause: float = 2.0
    """Seconds before the second round; before each further one twice as many, or as many as the server asks for."""
    longest_pause: float = 60.0
    seconds: float = 60.0
    """For the answer, redirects included, and for each PIECE bytes of it: slower is as good as nothing."""
    sleep: Callable[[float], object] = time.sleep


PATIENCE = Patience()


class WrongContent(Exception):
    """Something else than what was asked for: `length` bytes of it, as far as that is known."""

    def __init__(self, length: int):
        super().__init__(length)
        self.length = length


class _BrokenOff(ConnectionError):
    """May go better another time, after `pause` seconds if the server says so. What came until then is kept."""

    def __init__(self, message: str, pause: float = 0.0):
        super().__init__(message)
        self.pause = pause


class _Refused(ConnectionError):
    """Would go no better another time."""


def fetch(
    urls: Sequence[str],
    target: Target,
    *,
    size: int | None = None,
    limit: int,
    right: Callable[[Target], bool],
    patience: Patience,
    say: Say,
    progress: bool = False,
) -> None:
    """Write to `target` what one of several addresses has.

    Args:
        urls: at least one, where the same bytes can be had; tried in turn.
        target: open for reading and writing. What is in it is taken for the beginning, and the rest is asked for.
        size: how many bytes there are, if that is known.
        limit: more bytes are not taken.
        right: whether the whole content, which it gets at its beginning, is the one wanted.
        patience: how long and how often.
        say: told of each further attempt.
        progress: show a progress bar.

    Raises:
        WrongContent: an address has other bytes, and none has the right ones.
        ConnectionError: no address answered with all of them; `target` holds what came.
    """
    candidates = list(urls)
    failure: ConnectionError | None = None
    wrong: WrongContent | None = None
    for attempt in range(patience.attempts):
        pause = patience.pause * 2**attempt
        for url, following in zip(list(candidates), [*candidates[1:], None], strict=True):
            try:
                _complete(url, target, size, limit, right, patience, progress)
                return
            except _BrokenOff as e:
                failure, pause, reason = e, max(pause, e.pause), str(e)
            except _Refused as e:
                failure, reason = failure or e, str(e)
                candidates.remove(url)
            except WrongContent as e:
                wrong, reason = wrong or e, f"{url} has something else"
                candidates.remove(url)
            if following is not None:
                say(f"{reason}; trying {following}")
        if not candidates:
            break
        if attempt + 1 < patience.attempts:
            pause = min(pause, patience.longest_pause)
            say(f"{failure}; trying again in {pause:g} s, from byte {target.seek(0, 2)} on")
            patience.sleep(pause)
    if wrong is not None:
        raise wrong
    assert failure is not None, "each address failed somehow"
    raise failure


def _complete(
    url: str,
    target: Target,
    size: int | None,
    limit: int,
    right: Callable[[Target], bool],
    patience: Patience,
    progress: bool,
) -> None:
    """Make `target` whole and right, or leave in it what may be resumed."""
    before = target.seek(0, 2)
    if size is not None and before > size:
        _empty(target)
        before = 0
    if before != size:
        answer = _Answer(url, before, patience.seconds)
        try:
            _take(answer, target, before, size, limit, progress)
        finally:
            answer.leave()
    target.seek(0)
    if right(target):
        return
    length = target.seek(0, 2)
    _empty(target)
    if before:
        raise _BrokenOff(f"{url} does not fit to what was fetched before")
    raise WrongContent(length)


def _take(answer: "_Answer", target: Target, before: int, size: int | None, limit: int, progress: bool) -> None:
    start = _start(answer, target, before, size)
    said = answer.headers.get("Content-Length", "")
    known = start + int(said) if re.fullmatch("[0-9]{1,18}", said) else None
    if known == 0:
        raise _Refused(f"{answer.url} answered with an empty page")
    if known is not None and (known > limit or size not in (None, known)):
        raise WrongContent(known)
    target.seek(start)
    target.truncate()
    from tqdm import tqdm

    with tqdm(total=size or known, initial=start, unit="B", unit_scale=True, disable=not progress) as bar:
        for piece in answer:
            if target.tell() + len(piece) > limit:
                length = target.tell() + len(piece)
                _empty(target)
                raise WrongContent(length)
            target.write(piece)
            bar.update(len(piece))
    if not target.tell():
        raise _Refused(f"{answer.url} answered with an empty page")
    if size is not None and (length := target.tell()) < size:
        if "chunked" not in answer.headers.get("Transfer-Encoding", ""):
            raise _BrokenOff(f"{answer.url} broke off after {length} of {size} bytes")
        _empty(target)
        raise WrongContent(length)


def _start(answer: "_Answer", target: Target, before: int, size: int | None) -> int:
    """From which byte on the answer's are."""
    if answer.status in _RETRIED:
        after = answer.headers.get("Retry-After", "")
        pause = float(after) if re.fullmatch("[0-9]{1,9}", after) else 0.0
        raise _BrokenOff(f"{answer.url} answered with HTTP {answer.status}", pause)
    if answer.status == 200:
        return 0
    if before and answer.status in (206, 416):
        part = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)", answer.headers.get("Content-Range", ""))
        if answer.status == 206 and part and int(part[1]) == before and (size is None or part[2] in ("*", str(size))):
            return before
        _empty(target)
        raise _BrokenOff(f"{answer.url} does not have the rest of what was fetched before")
    raise _Refused(f"{answer.url} answered with HTTP {answer.status}")


def _empty(target: Target) -> None:
    target.seek(0)
    target.truncate()


class _Answer:
    """What a server answers, received by a thread of its own: one that keeps silent or dribbles can be left behind.

    A timeout of the socket alone would not do, for it starts anew with each byte.
    """

    def __init__(self, url: str, start: int, seconds: float):
        """Ask for `url` from byte `start` on, and wait for status and headers."""
        self.url, self._start, self._seconds = url, start, seconds
        self._received: queue.Queue[Any] = queue.Queue(_AHEAD)
        self._left = threading.Event()
        threading.Thread(target=self._receive, daemon=True).start()
        self.status: int
        self.headers: Mapping[str, str]
        self.status, self.headers = self._next("cannot be reached ({}); check the network and its proxy")

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._next("broke off ({})"):
            yield piece

    def leave(self) -> None:
        self._left.set()

    def _next(self, failed: str) -> Any:
        import requests
        import urllib3

        try:
            item = self._received.get(timeout=self._seconds)
        except queue.Empty:
            raise _BrokenOff(f"{self.url} {failed.format(f'too slow: nothing for {self._seconds:g} s')}") from None
        if not isinstance(item, Exception):
            return item
        if isinstance(item, _Refused):
            raise item
        hopeless = (requests.exceptions.SSLError, requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)
        passing = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
        if isinstance(item, hopeless):
            raise _Refused(f"{self.url} cannot be reached ({_root(item)})") from item
        if isinstance(item, passing):
            raise _BrokenOff(f"{self.url} {failed.format(_root(item))}") from item
        raise item

    def _receive(self) -> None:
        headers = {"User-Agent": f"unet-jax/{__version__}", "Accept-Encoding": "identity"}
        if self._start:
            headers["Range"] = f"bytes={self._start}-"
        url = self.url
        try:
            with _session() as session:
                for _ in range(MAX_REDIRECTS):
                    with session.get(url, headers=headers, stream=True, timeout=self._seconds) as response:
                        if response.is_redirect:
                            url = urljoin(url, response.headers["Location"])
                            continue
                        self._put((response.status_code, response.headers))
                        for piece in response.raw.stream(PIECE, decode_content=False):
                            if not self._put(piece):
                                return
                        self._put(b"")
                        return
            raise _Refused(f"{self.url} redirects more than {MAX_REDIRECTS} times")
        except Exception as e:
            self._put(e)

    def _put(self, item: object) -> bool:
        """Hand `item` over; False if nobody wants it any more."""
        while not self._left.is_set():
            try:
                self._received.put(item, timeout=1)
                return True
            except queue.Full:
                continue
        return False


def _session() -> Any:
    import requests

    class Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> str | None:
            """None: to follow one, requests would first read the page that redirects, however long it is."""
            return None

    return Session()


def _root(error: BaseException) -> str:
    # The innermost error is the one that means something: "Connection refused", "Name or service not known".
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(error).split()) or type(error).__name__
