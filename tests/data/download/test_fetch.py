"""One address or two, from which bytes come in pieces, late, wrong or not at all."""

import gzip
import io

import pytest

from unet_jax.data.download.fetch import MAX_REDIRECTS, Patience, WrongContent, fetch

BODY = bytes(range(256)) * 1000


@pytest.fixture
def server(figshare):
    figshare.files = {"a": BODY, "b": BODY}
    return figshare


class Fetching:
    """A call of `fetch` for BODY, and what it did."""

    def __init__(self, server, have=b"", names="a", seconds=30.0, **options):
        self.pauses, self.said = [], []
        self.target = io.BytesIO(have)
        patience = Patience(attempts=3, pause=2.0, longest_pause=60.0, seconds=seconds, sleep=self.pauses.append)
        self.options = {"size": len(BODY), "limit": len(BODY), **options}
        self.urls = [f"{server.root}/files/{name}" for name in names]
        self.server, self.patience = server, patience

    def run(self):
        fetch(
            self.urls,
            self.target,
            right=lambda f: f.read() == BODY,
            patience=self.patience,
            say=self.said.append,
            **self.options,
        )
        return self

    def fails(self, error, message=None):
        with pytest.raises(error, match=message) as e:
            self.run()
        assert "\n" not in str(e.value)
        return self

    @property
    def got(self):
        return self.target.getvalue()

    @property
    def asked(self):
        return [(path.removeprefix("/files/"), start) for path, start in self.server.asked]


def test_whole(server):
    one = Fetching(server).run()
    assert one.got == BODY and one.asked == [("a", 0)] and one.pauses == [] and one.said == []


def test_a_size_that_is_not_known(server):
    assert Fetching(server, size=None, limit=10**9).run().got == BODY


class TestResumed:
    def test_after_cut_connections(self, server, answers):
        server.script["/files/a"] = [answers(200, send=100_000), answers(200, send=0)]
        one = Fetching(server).run()
        assert one.got == BODY
        # The cut may lose what is less than a piece.
        starts = [start for _, start in one.asked]
        assert len(starts) == 3 and starts[0] == 0 and 65536 <= starts[1] <= 100_000
        assert one.pauses == [2, 4]
        assert "trying again in 2 s, from byte" in one.said[0]

    def test_from_what_an_earlier_call_left(self, server):
        one = Fetching(server, have=BODY[:1000]).run()
        assert one.got == BODY and one.asked == [("a", 1000)]

    def test_what_is_whole_is_not_asked_for(self, server):
        one = Fetching(server, have=BODY).run()
        assert one.got == BODY and one.asked == []

    def test_from_the_start_where_the_server_knows_no_ranges(self, server, answers):
        server.script["/files/a"] = [answers(200)]
        one = Fetching(server, have=BODY[:1000]).run()
        assert one.got == BODY and one.asked == [("a", 1000)]

    @pytest.mark.parametrize("have", [b"other" * 300, b"other" * 51_200, b"x" * 300_000])
    def test_from_the_start_where_it_does_not_fit(self, server, have):
        one = Fetching(server, have=have).run()
        assert one.got == BODY and one.asked[-1] == ("a", 0)

    @pytest.mark.parametrize(
        ("status", "content_range"),
        [(206, "bytes 0-9/256000"), (206, "bytes 1000-9/7"), (206, "nonsense"), (206, ""), (416, "bytes */256000")],
    )
    def test_from_the_start_where_the_server_answers_with_another_part(self, server, answers, status, content_range):
        server.script["/files/a"] = [answers(status, **{"Content-Range": content_range})]
        one = Fetching(server, have=BODY[:1000]).run()
        assert one.got == BODY and one.asked == [("a", 1000), ("a", 0)]

    def test_what_came_is_kept(self, server, answers):
        server.script["/files/a"] = [answers(200, send=200_000)] + [answers(503)] * 2
        one = Fetching(server).fails(ConnectionError, "HTTP 503")
        assert len(one.got) >= 65536 and BODY.startswith(one.got)


class TestTriedAgain:
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_busy(self, server, answers, status):
        server.script["/files/a"] = [answers(status)]
        one = Fetching(server).run()
        assert one.got == BODY and one.pauses == [2]

    def test_when_the_server_says_so_but_no_later_than_the_longest_pause(self, server, answers):
        server.script["/files/a"] = [answers(503, **{"Retry-After": "7"}), answers(503, **{"Retry-After": "9999"})]
        assert Fetching(server).run().pauses == [7, 60]

    def test_so_often_and_no_more(self, server, answers):
        server.script["/files/a"] = [answers(500)] * 5
        one = Fetching(server).fails(ConnectionError, "/files/a answered with HTTP 500")
        assert len(one.asked) == 3 and one.pauses == [2, 4]

    def test_nobody_there(self, server):
        server.close()
        one = Fetching(server).fails(ConnectionError, "cannot be reached .*refused.*check the network and its proxy")
        assert one.pauses == [2, 4]

    def test_the_second_address_is_next(self, server, answers):
        server.script["/files/a"] = [answers(200, send=100_000)]
        one = Fetching(server, names="ab").run()
        assert one.got == BODY and one.pauses == []
        assert [name for name, _ in one.asked] == ["a", "b"] and one.asked[1][1] > 0
        (said,) = one.said
        assert said.startswith(f"{server.root}/files/a broke off (")
        assert said.endswith(f"; trying {server.root}/files/b")


class TestGivenUp:
    @pytest.mark.parametrize("status", [202, 204, 301, 401, 403, 404, 410])
    def test_at_once_where_waiting_would_not_help(self, server, answers, status):
        server.script["/files/a"] = [answers(status, **{"Content-Length": "0"}, send=0)] * 5
        one = Fetching(server).fails(ConnectionError, f"HTTP {status}")
        assert len(one.asked) == 1 and one.pauses == []

    def test_empty_page(self, server, answers):
        server.replies["/files/a"] = (200, b"")
        Fetching(server, size=None).fails(ConnectionError, "answered with an empty page")

    @pytest.mark.parametrize("where", ["/files/a", "/files/b", "http://127.0.0.1:1/"])
    def test_redirect_loop(self, server, answers, where):
        server.script["/files/a"] = [answers(302, Location=where, send=0, **{"Content-Length": "0"})] * 50
        server.script["/files/b"] = [answers(302, Location="/files/a", send=0, **{"Content-Length": "0"})] * 50
        one = Fetching(server).fails(ConnectionError, "redirects more than 10 times|refused")
        assert len(one.asked) <= MAX_REDIRECTS

    def test_redirect_out_of_the_web(self, server, answers):
        server.script["/files/a"] = [answers(302, Location="file:///etc/passwd", send=0)]
        one = Fetching(server).fails(ConnectionError, "cannot be reached")
        assert one.got == b"" and one.pauses == []

    def test_redirect_that_leads_somewhere(self, server, answers):
        server.script["/files/a"] = [answers(302, Location="/files/b", send=0, **{"Content-Length": "0"})]
        assert Fetching(server).run().got == BODY

    @pytest.mark.parametrize("how", ["dribble", "dribble_headers", "silence"])
    def test_a_server_that_dribbles(self, server, how):
        server.script["/files/a"] = [getattr(server, how)] * 3
        one = Fetching(server, seconds=0.2).fails(ConnectionError, "too slow|timed out")
        assert one.pauses == [2, 4]


class TestWrong:
    def test_content(self, server):
        server.files["a"] = bytes(len(BODY))
        one = Fetching(server).fails(WrongContent)
        assert one.got == b"" and one.asked == [("a", 0)]

    def test_content_at_the_first_of_two_addresses(self, server):
        server.files["a"] = bytes(len(BODY))
        one = Fetching(server, names="ab").run()
        assert one.got == BODY
        assert one.said == [f"{server.root}/files/a has something else; trying {server.root}/files/b"]

    @pytest.mark.parametrize("length", [27, 10**15])
    def test_length_that_is_known_is_refused_without_the_content(self, server, answers, length):
        server.script["/files/a"] = [answers(200, **{"Content-Length": str(length)}, send=27)]
        with pytest.raises(WrongContent) as e:
            Fetching(server).run()
        assert e.value.length == length

    def test_length_that_is_not_known(self, server, answers):
        server.files["a"] = BODY * 9
        server.script["/files/a"] = [answers(200, **{"Content-Length": ""})]
        with pytest.raises(WrongContent) as e:
            Fetching(server).run()
        assert len(BODY) < e.value.length <= len(BODY) + 65536

    def test_length_that_promises_more_than_comes(self, server, answers):
        server.script["/files/a"] = [answers(200, **{"Content-Length": str(len(BODY) + 1)})]
        one = Fetching(server, size=None, limit=10**9).run()
        assert one.got == BODY and [start for _, start in one.asked] == [0, len(BODY)]

    def test_bytes_that_would_unpack_to_more(self, server, answers):
        bomb = gzip.compress(bytes(10**7))
        server.files["a"] = bomb
        server.script["/files/a"] = [answers(200, **{"Content-Encoding": "gzip"})]
        with pytest.raises(WrongContent) as e:
            Fetching(server, size=None, limit=10**5).run()
        assert e.value.length == len(bomb)
