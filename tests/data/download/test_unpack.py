"""Archives, and what else may be in them; more of the hostile ones are in tests/faults/hostile_archives.py."""

import hashlib
import stat
import zipfile

import pytest

from tests.helpers.figshare import entry, zipped
from tests.helpers.folders import contents
from unet_jax.config import UserError
from unet_jax.data.download import unpack as module
from unet_jax.data.download.unpack import MAX_READ_BYTES, unpack


@pytest.fixture
def unpacked(tmp_path):
    """Function that unpacks the bytes of an archive `a.zip` and returns the digests."""

    def function(content: bytes) -> dict[str, str]:
        (tmp_path / "a.zip").write_bytes(content)
        return unpack([tmp_path / "a.zip"], tmp_path / "work")

    return function


def test_folders_and_litter_in_the_archive_do_not_matter(tmp_path, unpacked):
    members = {
        "brainTumorDataPublic_1-4/": b"",
        "brainTumorDataPublic_1-4/1.mat": b"one",
        "__MACOSX/brainTumorDataPublic_1-4/._1.mat": b"",
        "x/.DS_Store": b"",
        "2.mat": b"two",
        "readme.TXT": b"r",
    }
    assert unpacked(zipped(members)) == {
        "data/1.mat": hashlib.md5(b"one").hexdigest(),
        "data/2.mat": hashlib.md5(b"two").hexdigest(),
        "README.txt": hashlib.md5(b"r").hexdigest(),
    }
    assert list(contents(tmp_path / "work")) == ["README.txt", "data/1.mat", "data/2.mat"]


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
        ([(entry(stat.S_IFLNK), b"/etc/passwd")], "is a link"),
        ([(entry(stat.S_IFREG, compression=zipfile.ZIP_LZMA), b"x")], "oddly compressed"),
        ([("b.zip", zipped({"c.zip": zipped({"1.mat": b""})}))], r"'[bc]\.zip' is no part of the dataset"),
        ([("1.mat", b""), ("setup.py", b"")], "no part of the dataset"),
        ([("0.mat", b"")], "no part of the dataset"),
        ([("1.mat ", b"")], "no part of the dataset"),
        ([("a/1.mat", b"x"), ("b/1.mat", b"y")], "is there twice"),
        ([("README.txt", b"x")], "no slice in there"),
        ([("1.mat", bytes(30 << 20))], r"takes 3\d+ bytes and says that it unpacks to 31457280"),
    ],
)
def test_hostile_and_foreign_archives(tmp_path, unpacked, members, message, nested):
    content = zipped(members)
    with pytest.raises(UserError, match=rf"a\.zip.*{message}") as e:
        unpacked(zipped({"inner.zip": content}) if nested else content)
    assert "\n" not in str(e.value)
    assert all(name == "a.zip" or name.startswith("work/") for name in contents(tmp_path))


def test_a_file_without_a_name(unpacked):
    with pytest.raises(UserError, match="'' leads out of"):
        unpacked(zipped({"1.mat": b"x"}).replace(b"1.mat", b"\0.mat"))


def test_encrypted(unpacked):
    content = bytearray(zipped({"1.mat": b"x"}))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(UserError, match="encrypted"):
        unpacked(bytes(content))


@pytest.mark.parametrize(
    ("start", "offset", "value"),
    [
        (b"PK\3\4", 60, b"\xff\xff"),  # the packed bytes
        (b"PK\1\2", 46, b"\xff"),  # the name, no UTF-8
        (b"PK\1\2", 42, b"\xff\xff\xff\x7f"),  # where the member begins: beyond the end
        (b"PK\5\6", 12, (500).to_bytes(4, "little") + (2**31).to_bytes(4, "little")),  # the list: before the beginning
        (b"PK\5\6", 0, b"cut!"),
    ],
)
def test_damaged(unpacked, start, offset, value):
    content = bytearray(zipped({"\u00e9.mat" if offset == 46 else "1.mat": bytes(range(256)) * 20}))
    at = content.index(start) + offset
    content[at : at + len(value)] = value
    with pytest.raises(UserError, match=r"a\.zip.* is a damaged archive"):
        unpacked(bytes(content))


def test_a_list_of_contents_too_long_to_be_read_costs_no_memory(unpacked):
    content = zipped({"1.mat": b"x"})
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    many = content[start:end] * (MAX_READ_BYTES // (end - start) + 1)
    length = len(many).to_bytes(4, "little")
    with pytest.raises(UserError, match=r"a\.zip is a damaged archive \(Truncated central directory"):
        unpacked(content[:start] + many + content[end : end + 12] + length + content[end + 16 :])


def test_a_bomb_that_denies_it(tmp_path, unpacked):
    content = bytearray(zipped({"1.mat": bytes(30 << 20)}))
    for at in (content.index(b"PK\3\4") + 22, content.index(b"PK\1\2") + 24):
        content[at : at + 4] = (1000).to_bytes(4, "little")
    with pytest.raises(UserError, match="damaged archive"):
        unpacked(bytes(content))
    assert all(p.stat().st_size <= 1000 for p in (tmp_path / "work/data").iterdir())


def test_too_much(unpacked, monkeypatch):
    monkeypatch.setattr(module, "MAX_TOTAL_BYTES", 1000)
    with pytest.raises(UserError, match=r"a\.zip is beyond"):
        unpacked(zipped({"1.mat": b"0" * 600, "2.mat": b"0" * 600}))


def test_too_many(unpacked, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILES", 3)
    with pytest.raises(UserError, match=r"a\.zip is beyond 3 files"):
        unpacked(zipped({f"{n}.mat": b"" for n in range(1, 5)}))
    two = {f"{n}.zip": zipped({f"{2 * n + i}.mat": b"" for i in range(2)}) for n in (1, 2)}
    with pytest.raises(UserError, match=r"'1\.zip' is beyond 3 files"):
        unpacked(zipped(two))
