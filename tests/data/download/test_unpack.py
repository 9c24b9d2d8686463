"""Archives, and what else may be in them."""

import hashlib
import io
import stat
import zipfile
from pathlib import Path

import pytest

from unet_jax.config import UserError
from unet_jax.data.download import unpack as module
from unet_jax.data.download.article import find_damaged, read_digests
from unet_jax.data.download.unpack import MAX_READ_BYTES, unpack


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

    @pytest.mark.parametrize(
        ("offset", "value"),
        [
            (30, b"\xff"),  # the name, no UTF-8
            (42, b"\xff\xff\xff\x7f"),  # where the file begins: beyond the end
        ],
    )
    def test_damaged_list_of_contents(self, tmp_path, offset, value):
        content = bytearray(zipped({"\u00e9.mat": b"x"}))
        at = content.index(b"PK\1\2") + offset + 16 * (offset == 30)
        content[at : at + len(value)] = value
        with pytest.raises(UserError, match=r"a\.zip.* is a damaged archive"):
            self.unpacked(tmp_path, bytes(content))

    def test_list_of_contents_before_the_beginning(self, tmp_path):
        content = bytearray(zipped({"1.mat": b"x"}))
        at = content.index(b"PK\5\6")
        content[at + 12 : at + 20] = (500).to_bytes(4, "little") + (2**31).to_bytes(4, "little")
        with pytest.raises(UserError, match=r"a\.zip is a damaged archive"):
            self.unpacked(tmp_path, bytes(content))

    def test_a_list_of_contents_too_long_to_be_read_costs_no_memory(self, tmp_path):
        content = bytearray(zipped({"1.mat": b"x"}))
        start, at = content.index(b"PK\1\2"), content.index(b"PK\5\6")
        entry = bytes(content[start:at])
        many = entry * (MAX_READ_BYTES // len(entry) + 1)
        content[at + 12 : at + 16] = len(many).to_bytes(4, "little")
        with pytest.raises(UserError, match=r"a\.zip is a damaged archive \(Truncated central directory"):
            self.unpacked(tmp_path, bytes(content[:start]) + many + bytes(content[at:]))

    @pytest.mark.parametrize("nested", [False, True])
    def test_a_bomb(self, tmp_path, nested):
        bomb = zipped({"1.mat": bytes(30 << 20)})
        with pytest.raises(UserError, match=r"takes 3\d+ bytes and says that it unpacks to 31457280"):
            self.unpacked(tmp_path, zipped({"b.zip": bomb}) if nested else bomb)

    def test_cut_off_after_an_archive_within(self, tmp_path):
        inner = zipped({"1.mat": b"x"})
        with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("inner.zip", inner)
            archive.writestr("2.mat", b"y")
        content = (tmp_path / "b.zip").read_bytes()
        end = content.index(inner) + len(inner)
        for cut in (content[:end], content[: end + 10], content[:-22]):
            with pytest.raises(UserError, match=r"a\.zip is a damaged archive \(it is cut off"):
                self.unpacked(tmp_path, cut)

    def test_an_entry_that_hides_the_next(self, tmp_path):
        content = bytearray(zipped({"1.mat": b"x", "2.mat": b"y"}))
        at, second = content.index(b"PK\1\2"), content.rindex(b"PK\1\2")
        content[at + 32 : at + 34] = (second - at).to_bytes(2, "little")  # the length of its comment
        with pytest.raises(UserError, match=r"its list of contents has 1 of 2 entries"):
            self.unpacked(tmp_path, bytes(content))

    def test_a_file_without_a_name(self, tmp_path):
        content = zipped({"1.mat": b"x"}).replace(b"1.mat", b"\0.mat")
        with pytest.raises(UserError, match=r"'' has no name"):
            self.unpacked(tmp_path, content)

    def test_a_bomb_that_denies_it(self, tmp_path):
        content = bytearray(zipped({"1.mat": bytes(30 << 20)}))
        for at in (content.index(b"PK\3\4") + 22, content.index(b"PK\1\2") + 24):
            content[at : at + 4] = (1000).to_bytes(4, "little")
        with pytest.raises(UserError, match="damaged archive"):
            self.unpacked(tmp_path, bytes(content))
        assert all(p.stat().st_size <= 1000 for p in (tmp_path / "work/data").iterdir())

    @pytest.mark.parametrize("zeros", [slice(16, 24), slice(24, 28)])  # checksum and packed size; size
    def test_a_file_that_denies_it_is_there(self, tmp_path, zeros):
        content = bytearray(zipped({"1.mat": b"x" * 500}))
        at = content.index(b"PK\1\2")
        content[at + zeros.start : at + zeros.stop] = bytes(zeros.stop - zeros.start)
        with pytest.raises(UserError, match=r"has another size than it says|Bad CRC"):
            self.unpacked(tmp_path, bytes(content))

    def test_too_much(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "MAX_TOTAL_BYTES", 1000)
        with pytest.raises(UserError, match="is beyond"):
            self.unpacked(tmp_path, zipped({"1.mat": b"0" * 600, "2.mat": b"0" * 600}))

    def test_too_many(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "MAX_FILES", 3)
        with pytest.raises(UserError, match="has 4 files; expected at most 3"):
            self.unpacked(tmp_path, zipped({f"{n}.mat": b"" for n in range(1, 5)}))
        two = {f"{n}.zip": zipped({f"{2 * n + i}.mat": b"" for i in range(2)}) for n in (1, 2)}
        with pytest.raises(UserError, match="is beyond 3 files"):
            self.unpacked(tmp_path, zipped(two))


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
