import hashlib
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from unet_jax import cli
from unet_jax.config import UserError
from unet_jax.data.figshare import find_folds, find_slices, read_slice
from unet_jax.data.phantom import write_phantom
from unet_jax.download import main

SLICES = {f"{n}.mat": f"slice {n} ".encode() * n for n in range(1, 8)}
OTHERS = {"cvind.mat": b"folds", "README.txt": b"read me\n"}


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def inner_archives() -> dict[str, bytes]:
    names = list(SLICES)
    return {
        "brainTumorDataPublic_1-4.zip": zipped({n: SLICES[n] for n in names[:4]}),
        "brainTumorDataPublic_5-7.zip": zipped({n: SLICES[n] for n in names[4:]}),
    }


class Figshare:
    """The part of Figshare's API that matters, on this machine."""

    def __init__(self, files: dict[str, bytes]):
        figshare = self
        self.files, self.replies, self.asked = files, {}, []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                figshare.asked.append(self.path)
                status, body = figshare.reply(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server.server_port}"
        self.api = f"{self.root}/v2"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

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


@pytest.fixture
def figshare(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Figshare({**inner_archives(), **OTHERS})
    yield server
    server.close()


def run(figshare: Figshare, out: Path, *more: str) -> int:
    return main(["--out", str(out), "--api", figshare.api, *more])


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def assert_complete(out: Path) -> None:
    assert files(out) == ["MD5SUMS", "README.txt", "cvind.mat", *(f"data/{n}" for n in SLICES)]
    for name, content in SLICES.items():
        assert (out / "data" / name).read_bytes() == content
    for name, content in OTHERS.items():
        assert (out / name).read_bytes() == content


class TestDownload:
    def test_article_of_several_files(self, figshare, tmp_path, capsys):
        assert run(figshare, tmp_path / "raw") == 0
        assert_complete(tmp_path / "raw")
        shown = capsys.readouterr()
        assert "7 slices" in shown.out and "README.txt, cvind.mat" in shown.out
        assert f"python -m unet_jax.convert --raw {tmp_path / 'raw'} --out" in shown.out
        assert shown.err == ""

    def test_article_of_one_archive(self, figshare, tmp_path):
        figshare.files = {"figshare.zip": zipped({**inner_archives(), **OTHERS})}
        assert run(figshare, tmp_path / "raw") == 0
        assert_complete(tmp_path / "raw")

    def test_digests_are_md5sum_s(self, figshare, tmp_path):
        run(figshare, tmp_path)
        lines = (tmp_path / "MD5SUMS").read_text().splitlines()
        assert f"{hashlib.md5(SLICES['3.mat']).hexdigest()}  data/3.mat" in lines
        assert len(lines) == 9

    def test_second_run_does_nothing(self, figshare, tmp_path, capsys):
        run(figshare, tmp_path)
        before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
        figshare.asked.clear()
        assert run(figshare, tmp_path) == 0
        assert figshare.asked == []
        assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
        assert "is complete; the digests of its 9 files are right" in capsys.readouterr().out

    @pytest.mark.parametrize("damage", ["missing", "other bytes"])
    def test_damaged_target_is_mended(self, figshare, tmp_path, capsys, damage):
        run(figshare, tmp_path)
        (tmp_path / "data/3.mat").unlink()
        if damage == "other bytes":
            (tmp_path / "data/3.mat").write_bytes(b"x" * len(SLICES["3.mat"]))
        assert run(figshare, tmp_path) == 0
        assert_complete(tmp_path)
        assert "1 of 9 files are missing or damaged, data/3.mat among them" in capsys.readouterr().out

    def test_slices_that_the_article_no_longer_has_are_removed(self, figshare, tmp_path):
        run(figshare, tmp_path)
        (tmp_path / "data/3.mat").unlink()
        del figshare.files["brainTumorDataPublic_1-4.zip"]
        assert run(figshare, tmp_path) == 0
        assert files(tmp_path / "data") == ["5.mat", "6.mat", "7.mat"]

    def test_archives_are_kept_on_demand(self, figshare, tmp_path):
        assert run(figshare, tmp_path, "--keep-archives") == 0
        assert files(tmp_path / "archives") == sorted(figshare.files)

    def test_what_was_fetched_before_is_used_again(self, figshare, tmp_path):
        (tmp_path / "archives").mkdir()
        good, bad = sorted(inner_archives())
        (tmp_path / "archives" / good).write_bytes(figshare.files[good])
        (tmp_path / "archives" / bad).write_bytes(b"half")
        assert run(figshare, tmp_path) == 0
        assert f"/files/{good}" not in figshare.asked and f"/files/{bad}" in figshare.asked
        assert_complete(tmp_path)

    def test_other_files_beside_the_archives_stay(self, figshare, tmp_path):
        (tmp_path / "archives").mkdir()
        (tmp_path / "archives/mine.txt").write_text("")
        assert run(figshare, tmp_path) == 0
        assert files(tmp_path / "archives") == ["mine.txt"]

    @pytest.mark.parametrize("reply", [(202, b""), (503, b"busy"), (200, b"<html>Are you human?</html>")])
    def test_api_s_own_download_is_the_second_source(self, figshare, tmp_path, reply):
        name, content = next(iter(figshare.files.items()))
        figshare.replies = {f"/files/{name}": reply, "/v2/file/download/100": (200, content)}
        assert run(figshare, tmp_path) == 0
        assert_complete(tmp_path)

    def test_files_that_are_no_part_of_the_dataset_are_left_out(self, figshare, tmp_path, capsys):
        figshare.files |= {"poster.pdf": b"%PDF", "../evil.zip": b"PK", ".zip": b"PK"}
        assert run(figshare, tmp_path / "raw") == 0
        assert_complete(tmp_path / "raw")
        assert "left out: 'poster.pdf'" in capsys.readouterr().out
        assert [p.name for p in tmp_path.iterdir()] == ["raw"]

    def test_the_phantom_s_archive(self, figshare, tmp_path):
        n = write_phantom(tmp_path / "phantom", 3, 0, zip=True)
        figshare.files = {"figshare.zip": (tmp_path / "phantom/figshare.zip").read_bytes()}
        assert run(figshare, tmp_path / "raw") == 0
        slices = find_slices(tmp_path / "raw")
        assert [p.name for p in slices] == [f"{i}.mat" for i in range(1, n + 1)]
        for path in slices:
            assert path.read_bytes() == (tmp_path / "phantom/data" / path.name).read_bytes()
        assert read_slice(slices[-1]).slice == n
        assert find_folds(tmp_path / "raw") == tmp_path / "raw/cvind.mat"


class TestRefused:
    def refused(self, figshare, out, message):
        with pytest.raises(UserError, match=message) as e:
            run(figshare, out)
        assert "\n" not in str(e.value)
        assert not (out / "data").exists() and not (out / "MD5SUMS").exists() and not (out / ".unpacking").exists()

    def test_wrong_digest(self, figshare, tmp_path):
        name = next(iter(figshare.files))
        figshare.replies = {f"/files/{name}": (200, b"something else")}
        self.refused(
            figshare, tmp_path, rf"{name} came with 14 bytes that have another MD5 than the article's \d+ bytes"
        )
        assert not (tmp_path / "archives" / name).exists()

    @pytest.mark.parametrize(
        "reply",
        [b"<html>", b"[]", b"{}", b'{"files": [{"name": "a.zip"}]}', b'{"files": 3}', b'{"files": []}'],
    )
    def test_answer_that_is_no_article(self, figshare, tmp_path, reply):
        figshare.replies = {"/v2/articles/1512427": (200, reply)}
        self.refused(figshare, tmp_path, "did not answer with a Figshare article|lists no zip archive")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"download_url": "file:///etc/passwd"}, "is at file:///etc/passwd"),
            ({"computed_md5": "", "supplied_md5": ""}, "has no MD5"),
            ({"computed_md5": "sha256:00"}, "has no MD5"),
        ],
    )
    def test_odd_entries(self, figshare, tmp_path, change, message):
        article = figshare.article()
        article[0] |= change
        figshare.replies = {"/v2/articles/1512427": (200, json.dumps({"files": article}).encode())}
        self.refused(figshare, tmp_path, message)

    def test_address(self, figshare, tmp_path):
        figshare.api = "ftp://example.org"
        self.refused(figshare, tmp_path, "--api is ftp://example.org")

    def test_archive_with_something_else_in_it(self, figshare, tmp_path):
        name = list(inner_archives())[-1]
        figshare.files[name] = zipped({"7.mat": b"", "../8.mat": b""})
        self.refused(figshare, tmp_path / "raw", rf"{name}: '\.\./8\.mat' leads out of")
        assert files(tmp_path) == sorted(f"raw/archives/{n}" for n in figshare.files)

    @pytest.mark.parametrize("name", ["data/9.mat", "README.txt", "cvind.mat"])
    def test_somebody_else_s_files(self, figshare, tmp_path, name):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
        with pytest.raises(UserError, match="is there already"):
            run(figshare, tmp_path)
        assert files(tmp_path) == [name] and (tmp_path / name).read_text() == "mine"
        assert figshare.asked == []

    def test_target_is_a_file(self, figshare, tmp_path):
        (tmp_path / "raw").write_text("")
        with pytest.raises(UserError, match="is a file"):
            run(figshare, tmp_path / "raw")

    @pytest.mark.parametrize("content", [b"", b"hello\n", b"\xff\xfe", b"0" * 32 + b"  ../../x\n"])
    def test_digests_that_are_none(self, figshare, tmp_path, content):
        (tmp_path / "MD5SUMS").write_bytes(content)
        with pytest.raises(UserError, match="MD5SUMS is not as this command writes it"):
            run(figshare, tmp_path)


class TestNetwork:
    """Exit code 1 by `cli.run`, with one line that says what to do."""

    def fails(self, figshare, out, message):
        with pytest.raises(ConnectionError, match=message) as e:
            run(figshare, out)
        assert "\n" not in str(e.value)
        assert not (out / "data").exists()

    def test_nobody_there(self, figshare, tmp_path):
        figshare.close()
        self.fails(figshare, tmp_path, "cannot be reached .*refused.*check the network and its proxy")

    def test_no_such_article(self, figshare, tmp_path):
        figshare.replies = {"/v2/articles/1512427": (404, b"")}
        self.fails(figshare, tmp_path, "/v2/articles/1512427 answered with HTTP 404")

    def test_file_is_gone(self, figshare, tmp_path):
        name = next(iter(figshare.files))
        figshare.replies = {f"/files/{name}": (500, b"")}
        self.fails(figshare, tmp_path, f"{name} could not be fetched: .*HTTP 500. Try again later, or .* in a browser")

    def test_empty_page(self, figshare, tmp_path):
        name = next(iter(figshare.files))
        figshare.replies = {f"/files/{name}": (202, b"")}
        self.fails(figshare, tmp_path, "answered with an empty page")

    def test_what_was_fetched_stays_for_the_next_run(self, figshare, tmp_path):
        figshare.replies = {"/files/cvind.mat": (500, b"")}
        self.fails(figshare, tmp_path, "cvind.mat")
        assert files(tmp_path / "archives") == sorted(inner_archives())
        figshare.replies.clear()
        figshare.asked.clear()
        assert run(figshare, tmp_path) == 0
        assert not [path for path in figshare.asked if path.endswith(".zip")]
        assert_complete(tmp_path)

    def test_exit_code(self, figshare, tmp_path, capsys):
        figshare.close()
        with pytest.raises(SystemExit) as e:
            cli.run(lambda: run(figshare, tmp_path))
        assert e.value.code == cli.EXIT_FAILURE
        assert capsys.readouterr().err.count("\n") == 1
