"""One address or two, from which bytes come in pieces, late, wrong or not at all."""

import gzip
import hashlib
import io
import time

import pytest
from requests.models import DEFAULT_REDIRECT_LIMIT

from tests.helpers.figshare import answer
from unet_jax.data.download.fetch import CHUNK, Fetch, WrongContent

BODY = bytes(range(256)) * 1000


@pytest.fixture
def server(figshare):
    figshare.files = {"a": BODY, "b": BODY}
    return figshare


class Fetching:
    """A fetch of BODY, and what it did."""

    def __init__(self, server, have=b"", names="a", **options):
        self.server, self.target, self.said = server, io.BytesIO(have), []
        options = {
            "urls": [f"{server.root}/files/{name}" for name in names],
            "size": len(BODY),
            "limit": len(BODY),
            "md5": hashlib.md5(BODY).hexdigest(),
            "attempts": 3,
            "seconds": 30.0,
            **options,
        }
        self.fetch = Fetch(target=self.target, say=self.said.append, **options)

    def succeeds(self):
        self.fetch.run()
        assert self.target.getvalue() == BODY
        return self

    def fails(self, error, message=None):
        with pytest.raises(error, match=message) as e:
            self.fetch.run()
        assert "\n" not in str(e.value)
        self.error = e.value
        return self

    @property
    def asked(self):
        return [(path.removeprefix("/files/"), start) for path, start in self.server.asked]


class TestResumed:
    def test_after_cut_connections(self, server, pauses):
        server.script["/files/a"] = [answer(200, send=100_000), answer(200, send=0)]
        one = Fetching(server).succeeds()
        # The cut may lose what is less than a chunk.
        starts = [start for _, start in one.asked]
        assert len(starts) == 3 and starts[0] == 0 and CHUNK <= starts[1] <= 100_000
        assert pauses == [0, 4]
        assert "broke off (" in one.said[0] and f"trying again in 0 s, from byte {starts[1]} on" in one.said[0]

    def test_after_a_cut_that_only_the_size_tells(self, server):
        server.script["/files/a"] = [answer(200, send=100_000, **{"Content-Length": ""})]
        assert Fetching(server).succeeds().asked == [("a", 0), ("a", 100_000)]

    @pytest.mark.parametrize(("have", "asked"), [(b"", [("a", 0)]), (BODY[:1000], [("a", 1000)]), (BODY, [])])
    def test_from_what_an_earlier_call_left(self, server, pauses, have, asked):
        one = Fetching(server, have=have).succeeds()
        assert one.asked == asked and pauses == [] and one.said == []

    def test_from_the_start_where_the_server_knows_no_ranges(self, server):
        server.script["/files/a"] = [answer(200)]
        assert Fetching(server, have=BODY[:1000]).succeeds().asked == [("a", 1000)]

    @pytest.mark.parametrize("have", [b"other" * 300, b"other" * 51_200, b"x" * 300_000])
    def test_from_the_start_where_it_does_not_fit(self, server, have):
        assert Fetching(server, have=have).succeeds().asked[-1] == ("a", 0)

    @pytest.mark.parametrize(
        ("status", "content_range"),
        [(206, "bytes 0-9/256000"), (206, "nonsense"), (206, ""), (416, "bytes */256000"), (416, "bytes 1000-9/9")],
    )
    def test_from_the_start_where_the_server_answers_with_another_part(self, server, status, content_range):
        server.script["/files/a"] = [answer(status, **{"Content-Range": content_range})]
        assert Fetching(server, have=BODY[:1000]).succeeds().asked == [("a", 1000), ("a", 0)]

    def test_so_often_and_no_more_and_what_came_is_kept(self, server, pauses):
        server.script["/files/a"] = [answer(200, send=200_000)] + [answer(503)] * 3
        one = Fetching(server).fails(ConnectionError, "/files/a answered with HTTP 503")
        assert len(one.asked) == 3 and pauses == [0, 4]
        got = one.target.getvalue()
        assert len(got) >= CHUNK and BODY.startswith(got)

    def test_at_the_second_address(self, server):
        server.script["/files/a"] = [answer(200, send=100_000)] * 3
        one = Fetching(server, names="ab").succeeds()
        assert [name for name, _ in one.asked] == ["a", "a", "a", "b"] and one.asked[-1][1] > 0
        assert one.said[-1].startswith(f"{server.root}/files/a broke off (")
        assert one.said[-1].endswith(f"; trying {server.root}/files/b")


class TestTriedAgain:
    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    def test_busy(self, server, pauses, status):
        server.script["/files/a"] = [answer(status)] * 2
        one = Fetching(server).succeeds()
        assert pauses == [0, 4] and f"/files/a answered with HTTP {status}; trying again in 4 s" in one.said[1]

    def test_when_the_server_says_so_but_no_later_than_the_longest_pause(self, server, pauses):
        server.script["/files/a"] = [answer(503, **{"Retry-After": "7"}), answer(500, **{"Retry-After": "9999"})]
        Fetching(server).succeeds()
        assert pauses == [7, 60]

    @pytest.mark.parametrize("when", ["soon", "9" * 5000])
    def test_when_the_server_names_no_time(self, server, pauses, when):
        server.script["/files/a"] = [answer(503, **{"Retry-After": when})]
        Fetching(server).succeeds()
        assert pauses == [0]


class TestGivenUp:
    @pytest.mark.parametrize("status", [202, 204, 301, 401, 403, 404, 410])
    def test_at_once_where_waiting_would_not_help(self, server, status):
        server.script["/files/a"] = [answer(status, **{"Content-Length": "0"}, send=0)] * 5
        one = Fetching(server).fails(ConnectionError, f"HTTP {status}")
        assert len(one.asked) == 1 and one.said == []

    @pytest.mark.parametrize("url", ["https{}", "http://", "http://[", "ftp{}"])
    def test_an_address_that_cannot_be_right(self, server, url):
        url = url.format(server.root.removeprefix("http"))  # "https" speaks TLS, which the server does not
        assert Fetching(server, urls=[url]).fails(ConnectionError, "cannot be reached").said == []

    @pytest.mark.parametrize("size", [None, len(BODY)])
    def test_empty_page(self, server, size):
        server.replies["/files/a"] = (200, b"")
        server.script["/files/a"] = [answer(200)]
        one = Fetching(server, have=BODY[:1000], size=size).fails(ConnectionError, "answered with an empty page")
        assert one.target.getvalue() == BODY[:1000]

    @pytest.mark.parametrize("where", ["/files/a", "/files/b", "http://127.0.0.1:1/"])
    def test_redirect_loop(self, server, where):
        server.script["/files/a"] = [answer(302, Location=where, send=0, **{"Content-Length": "0"})] * 50
        server.script["/files/b"] = [answer(302, Location="/files/a", send=0, **{"Content-Length": "0"})] * 50
        one = Fetching(server).fails(ConnectionError, f"Exceeded {DEFAULT_REDIRECT_LIMIT} redirects|refused")
        assert len(one.asked) <= DEFAULT_REDIRECT_LIMIT + 1

    def test_redirect_out_of_the_web(self, server):
        server.script["/files/a"] = [answer(302, Location="file:///etc/passwd", send=0)]
        one = Fetching(server).fails(ConnectionError, "cannot be reached")
        assert one.target.getvalue() == b"" and one.said == []

    def test_redirect_that_leads_somewhere(self, server):
        head = b"HTTP/1.1 302 Found\r\nLocation: /files/b\r\nContent-Length: 1000000\r\n\r\n"
        server.script["/files/a"] = [server.dribble(head)]
        start = time.monotonic()
        Fetching(server).succeeds()
        assert time.monotonic() - start < 10  # the page that redirects is not waited for

    @pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 256000\r\n\r\n"])
    def test_a_server_that_is_silent_or_dribbles(self, server, pauses, start):
        server.script["/files/a"] = [server.dribble(start)] * 3
        Fetching(server, seconds=0.2).fails(ConnectionError, "too slow|timed out")
        assert pauses == [0, 4]

    def test_a_slow_server_is_waited_for_while_it_is_fast_enough(self, server):
        def slow(handler, body):
            handler.send_response(200)
            handler.end_headers()
            for start in range(0, len(body), CHUNK):
                server.closing.wait(0.15)
                handler.wfile.write(body[start : start + CHUNK])

        server.script["/files/a"] = [slow]
        assert Fetching(server, seconds=0.4).succeeds().said == []


class TestWrong:
    def test_content_at_the_only_or_first_address(self, server):
        server.files["a"] = bytes(len(BODY))
        one = Fetching(server).fails(WrongContent)
        assert one.target.getvalue() == b"" and one.asked == [("a", 0)]
        one = Fetching(server, names="ab").succeeds()
        assert one.said == [f"{server.root}/files/a has something else; trying {server.root}/files/b"]

    @pytest.mark.parametrize("length", [27, 10**15])
    def test_length_that_is_known_is_refused_without_the_content(self, server, length):
        server.script["/files/a"] = [answer(200, **{"Content-Length": str(length)}, send=27)]
        assert Fetching(server).fails(WrongContent).error.length == length

    def test_length_that_is_not_known(self, server):
        server.files["a"] = BODY * 9
        server.script["/files/a"] = [answer(200, **{"Content-Length": ""})]
        one = Fetching(server).fails(WrongContent)
        assert len(BODY) < one.error.length <= len(BODY) + CHUNK

    def test_length_that_promises_more_than_comes(self, server):
        server.script["/files/a"] = [answer(200, **{"Content-Length": str(len(BODY) + 1)})]
        one = Fetching(server, size=None, limit=10**9).succeeds()
        assert [start for _, start in one.asked] == [0, len(BODY)]

    def test_a_page_in_chunks_that_ends_early(self, server):
        def page(handler, body):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n<html>\r\n0\r\n\r\n")

        server.script["/files/a"] = [page]
        one = Fetching(server).fails(WrongContent)
        assert one.error.length == 6 and one.said == []

    def test_bytes_that_would_unpack_to_more(self, server):
        bomb = gzip.compress(bytes(10**7))
        server.files["a"] = bomb
        server.script["/files/a"] = [answer(200, **{"Content-Encoding": "gzip"})]
        assert Fetching(server, size=None, limit=10**5).fails(WrongContent).error.length == len(bomb)
