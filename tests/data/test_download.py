import hashlib
import io
import stat
import zipfile
from pathlib import Path

import pytest

from unet_jax.config import UserError
from unet_jax.data import download as module
from unet_jax.data.download import find_damaged, read_digests, unpack


def zipped(members: dict[str, bytes] | list[tuple[zipfile.ZipInfo | str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content)
    return buffer.getvalue()


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


class TestUnpack:
    def unpacked(self, tmp_path, content: bytes, name: str = "a.zip"):
        (tmp_path / name).write_bytes(content)
        return unpack([tmp_path / name], tmp_path / "work", progress=False)

    def test_folders_and_litter_in_the_archive_do_not_matter(self, tmp_path):
        members = {
            "brainTumorDataPublic_1-4/": b"",
            "brainTumorDataPublic_1-4/1.mat": b"one",
            "__MACOSX/brainTumorDataPublic_1-4/._1.mat": b"",
            "x/.DS_Store": b"",
            "2.mat": b"two",
            "readme.TXT": b"r",
        }
        digests = self.unpacked(tmp_path, zipped(members))
        assert digests == {
            "data/1.mat": hashlib.md5(b"one").hexdigest(),
            "data/2.mat": hashlib.md5(b"two").hexdigest(),
            "README.txt": hashlib.md5(b"r").hexdigest(),
        }
        assert files(tmp_path / "work") == ["README.txt", "data/1.mat", "data/2.mat"]

    @pytest.mark.parametrize("nested", [False, True])
    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ([("../1.mat", b"")], "leads out of"),
            ([("data/../../1.mat", b"")], "leads out of"),
            ([("/tmp/1.mat", b"")], "leads out of"),
            ([("..\\1.mat", b"")], "leads out of"),
            ([("C:/1.mat", b"")], "leads out of"),
            ([("__MACOSX/../../1.mat", b"")], "leads out of"),
            ([(link("1.mat"), b"/etc/passwd")], "is a link"),
            ([("1.mat", b""), ("setup.py", b"")], "no part of the dataset"),
            ([("0.mat", b"")], "no part of the dataset"),
            ([("1.mat ", b"")], "no part of the dataset"),
            ([("a/1.mat", b"x"), ("b/1.mat", b"y")], "is there twice"),
            ([("README.txt", b"x")], "no slice in there"),
        ],
    )
    def test_hostile_and_foreign_archives(self, tmp_path, members, message, nested):
        content = zipped(members)
        before = files(tmp_path)
        with pytest.raises(UserError, match=message):
            self.unpacked(tmp_path, zipped({"inner.zip": content}) if nested else content)
        assert set(files(tmp_path)) - set(before) <= {"a.zip", *(f"work/{n}" for n in files(tmp_path / "work"))}

    def test_two_levels_are_all(self, tmp_path):
        content = zipped({"b.zip": zipped({"c.zip": zipped({"1.mat": b""})})})
        with pytest.raises(UserError, match=r"'c\.zip' is no part of the dataset"):
            self.unpacked(tmp_path, content)

    def test_encrypted(self, tmp_path):
        content = bytearray(zipped({"1.mat": b"x"}))
        content[6] |= 1
        content[content.index(b"PK\1\2") + 8] |= 1
        with pytest.raises(UserError, match="encrypted"):
            self.unpacked(tmp_path, bytes(content))

    def test_odd_compression(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("1.mat", b"x")
        with pytest.raises(UserError, match="oddly compressed"):
            self.unpacked(tmp_path, (tmp_path / "b.zip").read_bytes())

    @pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
    def test_damaged(self, tmp_path, damage):
        content = bytearray(zipped({"1.mat": bytes(range(256)) * 20}))
        if damage == "cut":
            del content[len(content) // 2 :]
        elif damage == "flipped":
            content[60] ^= 0xFF
        else:
            content = bytearray(b"<html>")
        with pytest.raises(UserError, match=r"a\.zip is a damaged archive"):
            self.unpacked(tmp_path, bytes(content))

    def test_too_much(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "MAX_TOTAL_BYTES", 1000)
        with pytest.raises(UserError, match="is beyond"):
            self.unpacked(tmp_path, zipped({"1.mat": b"0" * 600, "2.mat": b"0" * 600}))

    def test_too_many(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "MAX_FILES", 3)
        with pytest.raises(UserError, match="is beyond"):
            self.unpacked(tmp_path, zipped({f"{n}.mat": b"" for n in range(1, 5)}))


def test_digests_are_read_back_and_compared(tmp_path):
    assert read_digests(tmp_path) is None
    (tmp_path / "data").mkdir()
    (tmp_path / "data/12.mat").write_bytes(b"abc")
    # RFC 1321's test suite: MD5 ("abc") and MD5 ("")
    text = "900150983cd24fb0d6963f7d28e17f72  data/12.mat\nd41d8cd98f00b204e9800998ecf8427e  cvind.mat\n"
    (tmp_path / "MD5SUMS").write_text(text)
    digests = read_digests(tmp_path)
    assert digests == {
        "data/12.mat": "900150983cd24fb0d6963f7d28e17f72",
        "cvind.mat": "d41d8cd98f00b204e9800998ecf8427e",
    }
    assert find_damaged(tmp_path, digests, progress=False) == ["cvind.mat"]
    (tmp_path / "cvind.mat").touch()
    assert find_damaged(tmp_path, digests, progress=False) == []
