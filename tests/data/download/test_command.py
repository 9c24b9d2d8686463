"""The command: from an address to files that `convert` reads, and one line for whatever keeps it from that."""

import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import exit_code
from tests.helpers.disk import files_of_at_most
from tests.helpers.figshare import answer, zipped
from tests.helpers.folders import contents
from unet_jax.config import UserError
from unet_jax.data.phantom import write_phantom
from unet_jax.data.raw import find_folds, find_slices
from unet_jax.download import main
from unet_jax.imaging.formats.mat import read_slice
from unet_jax.shared import cli


def run(figshare: Any, out: Path, *more: str) -> int:
    return main(["--out", str(out), "--api", figshare.api, *more])


def asked(figshare: Any) -> list[str]:
    return [path for path, _ in figshare.asked]


def assert_complete(figshare: Any, out: Path) -> None:
    wanted = figshare.others | {f"data/{name}": content for name, content in figshare.slices.items()}
    found = contents(out)
    assert found.pop("MD5SUMS")
    assert found == wanted


class TestDownload:
    def test_article_of_several_files(self, figshare, tmp_path, capsys):
        assert run(figshare, tmp_path / "raw") == 0
        assert_complete(figshare, tmp_path / "raw")
        shown = capsys.readouterr()
        # Slice n is of type 1 + n mod 3 and patient n // 2.
        counts = "7 slices of 4 patients (2 meningioma, 3 glioma, 2 pituitary)"
        assert f"{counts} in {tmp_path / 'raw/data'}; beside it README.txt, cvind.mat.\n" in shown.out
        assert f"python -m unet_jax.convert --raw {tmp_path / 'raw'} --out" in shown.out
        assert shown.err == ""
        lines = (tmp_path / "raw/MD5SUMS").read_text().splitlines()
        assert f"{hashlib.md5(figshare.slices['3.mat']).hexdigest()}  data/3.mat" in lines  # as md5sum writes it
        assert len(lines) == 9

    def test_slices_that_cannot_be_read_are_named(self, figshare, tmp_path, capsys):
        figshare.files["brainTumorDataPublic_8.zip"] = zipped({"8.mat": b"MATLAB 5.0", "9.mat": b""})
        assert run(figshare, tmp_path) == 0
        shown = capsys.readouterr()
        assert "7 slices of 4 patients" in shown.out
        first = f"{tmp_path / 'data/8.mat'}: a MATLAB 5 file; expected MATLAB 7.3"
        assert shown.err.startswith(f"warning: 2 more cannot be read; the first is {first}")

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
            (tmp_path / "data/3.mat").write_bytes(b"x" * len(figshare.slices["3.mat"]))
        assert run(figshare, tmp_path) == 0
        assert_complete(figshare, tmp_path)
        assert "1 of 9 files are missing or damaged, data/3.mat among them" in capsys.readouterr().out

    def test_slices_that_the_article_no_longer_has_are_removed(self, figshare, tmp_path):
        run(figshare, tmp_path)
        (tmp_path / "data/3.mat").unlink()
        del figshare.files["brainTumorDataPublic_1-4.zip"]
        assert run(figshare, tmp_path) == 0
        assert list(contents(tmp_path / "data")) == ["5.mat", "6.mat", "7.mat"]

    def test_archives_are_kept_on_demand(self, figshare, tmp_path):
        assert run(figshare, tmp_path, "--keep-archives") == 0
        assert list(contents(tmp_path / "archives")) == sorted(figshare.files)

    def test_what_was_fetched_before_is_used_again(self, figshare, tmp_path):
        (tmp_path / "archives").mkdir()
        good, bad = sorted(figshare.inner_archives())
        (tmp_path / "archives" / good).write_bytes(figshare.files[good])
        (tmp_path / "archives" / bad).write_bytes(b"half")
        assert run(figshare, tmp_path) == 0
        assert f"/files/{good}" not in asked(figshare) and f"/files/{bad}" in asked(figshare)
        assert_complete(figshare, tmp_path)

    def test_other_files_beside_the_archives_stay(self, figshare, tmp_path):
        (tmp_path / "archives").mkdir()
        (tmp_path / "archives/mine.txt").write_text("")
        assert run(figshare, tmp_path) == 0
        assert list(contents(tmp_path / "archives")) == ["mine.txt"]

    @pytest.mark.parametrize("reply", [(202, b""), (503, b"busy"), (200, b"<html>Are you human?</html>")])
    def test_api_s_own_download_is_the_second_source(self, figshare, tmp_path, reply):
        name, content = next(iter(figshare.files.items()))
        figshare.replies = {f"/files/{name}": reply, "/v2/file/download/100": (200, content)}
        assert run(figshare, tmp_path) == 0
        assert_complete(figshare, tmp_path)

    def test_files_that_are_no_part_of_the_dataset_are_left_out(self, figshare, tmp_path, capsys):
        figshare.files |= {"poster.pdf": b"%PDF", "../evil.zip": b"PK", ".zip": b"PK"}
        assert run(figshare, tmp_path / "raw") == 0
        assert_complete(figshare, tmp_path / "raw")
        assert "left out: 'poster.pdf'" in capsys.readouterr().out
        assert [p.name for p in tmp_path.iterdir()] == ["raw"]

    def test_the_phantom_s_archive(self, figshare, tmp_path):
        n = write_phantom(tmp_path / "phantom", 3, 0, zip=True)
        wanted = contents(tmp_path / "phantom")
        figshare.files = {"figshare.zip": wanted.pop("figshare.zip")}
        assert run(figshare, tmp_path / "raw") == 0
        found = contents(tmp_path / "raw")
        assert found.pop("MD5SUMS") and found == wanted
        assert [read_slice(p).slice for p in find_slices(tmp_path / "raw")] == list(range(1, n + 1))
        assert find_folds(tmp_path / "raw") == tmp_path / "raw/cvind.mat"


def refused(figshare: Any, out: Path, message: str, error: type[Exception] = UserError) -> None:
    with pytest.raises(error, match=message) as e:
        run(figshare, out)
    assert "\n" not in str(e.value)
    assert not (out / "data").exists() and not (out / "MD5SUMS").exists() and not (out / ".unpacking").exists()


class TestRefused:
    def test_wrong_digest(self, figshare, tmp_path):
        name, content = next(iter(figshare.files.items()))
        for wrong in (b"something else", bytes(len(content))):
            figshare.replies = {f"/files/{name}": (200, wrong)}
            message = rf"{name} came with {len(wrong)} bytes that have another MD5 than .* they were removed"
            refused(figshare, tmp_path, message)
            assert list(contents(tmp_path)) == []

    @pytest.mark.parametrize(
        "reply",
        [b"<html>", b"[]", b"{}", b'{"files": [{"name": "a.zip"}]}', b'{"files": 3}', b'{"files": []}', b"[" * 200_000],
    )
    def test_answer_that_is_no_article(self, figshare, tmp_path, reply):
        figshare.replies = {"/v2/articles/1512427": (200, reply)}
        refused(figshare, tmp_path, "did not answer with a Figshare article|lists no zip archive")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"download_url": "file:///etc/passwd"}, "is at file:///etc/passwd"),
            ({"computed_md5": "", "supplied_md5": ""}, "has no MD5"),
            ({"computed_md5": "sha256:00"}, "has no MD5"),
            ({"size": -1}, "has -1 bytes"),
            ({"size": 10**13}, "lists 4 files of 1000000"),
            ({"size": "9" * 5000}, "ValueError"),
            ({"name": "BRAINTUMORDATAPUBLIC_5-7.zip"}, "lists two files of one name"),
        ],
    )
    def test_odd_entries(self, figshare, tmp_path, change, message):
        article = figshare.article()
        article[0] |= change
        figshare.replies = {"/v2/articles/1512427": (200, json.dumps({"files": article}).encode())}
        refused(figshare, tmp_path, message)

    def test_address(self, figshare, tmp_path):
        figshare.api = "ftp://example.org"
        refused(figshare, tmp_path, "--api is ftp://example.org")

    def test_archive_with_something_else_in_it(self, figshare, tmp_path):
        name = list(figshare.inner_archives())[-1]
        figshare.files[name] = zipped({"7.mat": b"", "../8.mat": b""})
        refused(figshare, tmp_path / "raw", rf"{name}: '\.\./8\.mat' leads out of")
        assert list(contents(tmp_path)) == sorted(f"raw/archives/{n}" for n in figshare.files)

    @pytest.mark.parametrize("name", ["data/9.mat", "README.txt", "cvind.mat"])
    def test_somebody_else_s_files(self, figshare, tmp_path, name):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
        with pytest.raises(UserError, match="is there already"):
            run(figshare, tmp_path)
        assert list(contents(tmp_path)) == [name] and (tmp_path / name).read_text() == "mine"
        assert figshare.asked == []

    @pytest.mark.parametrize(
        ("name", "message"),
        [("raw", "is a file"), ("raw/x", r"cannot be written to \(Not a directory\). Give another --out")],
    )
    def test_no_place_to_write_to(self, figshare, tmp_path, name, message):
        (tmp_path / "raw").write_text("")
        with pytest.raises(UserError, match=message):
            run(figshare, tmp_path / name)
        assert figshare.asked == []

    @pytest.mark.parametrize("content", [b"", b"hello\n", b"\xff\xfe", b"0" * 32 + b"  ../../x\n"])
    def test_digests_that_are_none(self, figshare, tmp_path, content):
        (tmp_path / "MD5SUMS").write_bytes(content)
        with pytest.raises(UserError, match="MD5SUMS is not as this command writes it"):
            run(figshare, tmp_path)


class TestNetwork:
    """Exit code 1 by `cli.run`, with one line that says what to do."""

    @pytest.mark.parametrize(
        ("path", "reply", "message"),
        [
            ("/v2/articles/1512427", (404, b""), "/v2/articles/1512427 answered with HTTP 404"),
            ("/files/cvind.mat", (500, b""), r"cvind\.mat could not be fetched: .*HTTP 500. Try again later, or .*"),
            ("/files/cvind.mat", (200, b""), "answered with an empty page"),
        ],
    )
    def test_what_is_asked_for_is_not_there(self, figshare, tmp_path, path, reply, message):
        figshare.replies = {path: reply}
        refused(figshare, tmp_path, message, ConnectionError)

    def test_cut_connections_and_a_busy_server(self, figshare, tmp_path, capsys, pauses):
        name, content = next(iter(figshare.files.items()))
        figshare.replies = {"/v2/file/download/100": (200, content)}
        figshare.script = {
            "/v2/articles/1512427": [answer(503), answer(200, send=100)],
            f"/files/{name}": [answer(200, send=2000), *[answer(503)] * 4],
            "/v2/file/download/100": [answer(429), answer(503)],
        }
        assert run(figshare, tmp_path) == 0
        assert_complete(figshare, tmp_path)
        assert pauses == [0, 4, 0, 4, 8, 16, 0, 4]
        shown = capsys.readouterr().out
        assert shown.count("trying again in") == 2 + 4 + 2
        assert shown.count(f"; trying {figshare.api}/file/download/100") == 1

    def test_a_stopped_download_goes_on_where_it_was(self, figshare, tmp_path, monkeypatch):
        name, content = next(iter(figshare.files.items()))
        figshare.files[name] = content = content + bytes(200_000)  # as a comment that nobody reads
        figshare.script = {f"/files/{name}": [answer(200, send=150_000)]}

        def stopped(seconds: float) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
            m.setattr(time, "sleep", stopped)
            run(figshare, tmp_path)
        assert list(contents(tmp_path)) == [f"archives/.{name}.part"]
        figshare.asked.clear()
        with pytest.raises(UserError, match="damaged archive"):
            run(figshare, tmp_path)
        starts = [start for path, start in figshare.asked if path == f"/files/{name}"]
        assert len(starts) == 1 and 65536 <= starts[0] <= 150_000
        assert (tmp_path / "archives" / name).read_bytes() == content

    def test_what_was_fetched_stays_for_the_next_run(self, figshare, tmp_path):
        figshare.replies = {"/files/cvind.mat": (500, b"")}
        refused(figshare, tmp_path, "cvind.mat", ConnectionError)
        assert list(contents(tmp_path / "archives")) == sorted(figshare.inner_archives())
        figshare.replies.clear()
        figshare.asked.clear()
        assert run(figshare, tmp_path) == 0
        assert not [path for path in asked(figshare) if path.endswith(".zip")]
        assert_complete(figshare, tmp_path)

    def test_nobody_there(self, figshare, tmp_path, capsys, pauses):
        figshare.close()
        assert exit_code(lambda argv: run(figshare, tmp_path)) == cli.EXIT_FAILURE
        (line,) = capsys.readouterr().err.splitlines()
        assert pauses == [0, 4, 8, 16]
        assert re.search("cannot be reached .*refused.*check the network and its proxy", line)


class TestDisk:
    def fails(self, figshare, out, room):
        with files_of_at_most(room), pytest.raises(OSError, match="too large") as e:
            run(figshare, out)
        return e.value.filename

    def test_full_while_fetching(self, figshare, tmp_path):
        name = next(iter(figshare.files))
        assert self.fails(figshare, tmp_path, 500) == str(tmp_path / f"archives/.{name}.part")
        assert list(contents(tmp_path)) == [f"archives/.{name}.part"]
        assert run(figshare, tmp_path) == 0
        assert_complete(figshare, tmp_path)

    def test_full_while_unpacking(self, figshare, tmp_path):
        members = {"1.mat": figshare.slices["1.mat"], "README.txt": b"read me " * 10_000}
        figshare.files = {"a.zip": zipped(members)}
        assert self.fails(figshare, tmp_path, 20_000) == str(tmp_path / ".unpacking/README.txt")
        assert list(contents(tmp_path)) == ["archives/a.zip"]
        figshare.asked.clear()
        assert run(figshare, tmp_path) == 0
        assert "/files/a.zip" not in asked(figshare)
        assert list(contents(tmp_path)) == ["MD5SUMS", "README.txt", "data/1.mat"]

    def test_full_while_writing_the_digests(self, figshare, tmp_path):
        names = [f"{n}.mat" for n in range(1, 200)]
        figshare.files = {f"{i}.zip": zipped(dict.fromkeys(names[i::8], b"")) for i in range(8)}
        assert self.fails(figshare, tmp_path, 6000) == str(tmp_path / "MD5SUMS")
        assert list(contents(tmp_path)) == sorted(f"archives/{name}" for name in figshare.files)
