"""Parts of Figshare's API that matter, served on this machine, and the ways in which they may fail."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from unet_jax.data.phantom.files import folds_bytes, slice_bytes

Action = Callable[[BaseHTTPRequestHandler, bytes], None]
"""Answers a request whose right content is given."""


def zipped(
    members: dict[str, bytes] | list[tuple[zipfile.ZipInfo | str, bytes]], compression: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """An archive, the same each time; members that bring their own entry are compressed as that says."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            if isinstance(name, str):
                archive.writestr(zipfile.ZipInfo(name), content, compression)
            else:
                archive.writestr(name, content)
    return buffer.getvalue()


def entry(kind: int, name: str = "1.mat", compression: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    """What an archive made on Unix says of a link, a pipe or another kind of file."""
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    info.create_system, info.compress_type = 3, compression
    return info


def a_slice(number: int) -> bytes:
    image = np.arange(20 * 17, dtype=np.int16).reshape(20, 17) * number
    border = np.array([[2.0, 2.0], [5.0, 2.0], [5.0, 5.0]])
    return slice_bytes(image, image % 7 == 0, border, 1 + number % 3, f"patient {number // 2}")


class Figshare:
    """Server of an article, with ranges.

    Attributes:
        files: the article's.
        slices, others: what is in them.
        replies: by path, what to answer instead.
        script: by path, how to answer the first requests, one after the other.
        asked: path, and first byte wanted, of each request.
    """

    def __init__(self) -> None:
        self.slices = {f"{n}.mat": a_slice(n) for n in range(1, 8)}
        self.others = {"cvind.mat": folds_bytes(np.arange(7) % 5 + 1), "README.txt": b"read me\n"}
        self.files = {**self.inner_archives(), **self.others}
        self.replies: dict[str, tuple[int, bytes]] = {}
        self.script: dict[str, list[Action]] = {}
        self.asked: list[tuple[str, int]] = []
        self.closing = threading.Event()
        figshare = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
                figshare.asked.append((self.path, start))
                status, body = figshare.reply(self.path)
                if figshare.script.get(self.path):
                    figshare.script[self.path].pop(0)(self, body)
                elif status == 200 and "Range" in self.headers:
                    content_range = f"bytes {start}-{len(body) - 1}/{len(body)}"
                    answer(206, **{"Content-Range": content_range})(self, body[start:])
                else:
                    answer(status)(self, body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                pass  # the client has gone away, as it should

        self.server = Server(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server.server_port}"
        self.api = f"{self.root}/v2"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def inner_archives(self) -> dict[str, bytes]:
        names = list(self.slices)
        return {
            "brainTumorDataPublic_1-4.zip": zipped({n: self.slices[n] for n in names[:4]}),
            "brainTumorDataPublic_5-7.zip": zipped({n: self.slices[n] for n in names[4:]}),
        }

    def article(self) -> list[dict]:
        return [
            {
                "id": 100 + i,
                "name": name,
                "size": len(content),
                "is_link_only": False,
                "download_url": f"{self.root}/files/{name}",
                "supplied_md5": "",
                "computed_md5": hashlib.md5(content).hexdigest(),
            }
            for i, (name, content) in enumerate(self.files.items())
        ]

    def reply(self, path: str) -> tuple[int, bytes]:
        if path in self.replies:
            return self.replies[path]
        if path == "/v2/articles/1512427":
            return 200, json.dumps({"id": 1512427, "files": self.article()}).encode()
        if path.startswith("/files/"):
            return 200, self.files[path.removeprefix("/files/")]
        return 404, b"{}"

    def dribble(self, start: bytes) -> Action:
        """Answer with `start`, then, if that is anything, a byte now and then, in time for a time-out of the socket."""

        def act(handler: BaseHTTPRequestHandler, body: bytes) -> None:
            handler.wfile.write(start)
            while not self.closing.wait(0.02):
                handler.wfile.write(b"0" if start else b"")

        return act


def answer(status: int, *, send: int | None = None, **headers: str) -> Action:
    """Answer with the status, these headers, and the body or its first `send` bytes; then close the connection."""

    def act(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body if send is None else body[:send])

    return act
