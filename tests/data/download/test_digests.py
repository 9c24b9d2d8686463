"""The file of digests, read back and compared."""

from unet_jax.data.download.digests import find_damaged, read_digests, write_digests


def test_digests_are_read_back_and_compared(tmp_path):
    assert read_digests(tmp_path) is None
    (tmp_path / "data").mkdir()
    (tmp_path / "data/12.mat").write_bytes(b"abc")
    # RFC 1321's test suite: MD5 ("abc") and MD5 ("")
    digests = {
        "data/12.mat": "900150983cd24fb0d6963f7d28e17f72",
        "cvind.mat": "d41d8cd98f00b204e9800998ecf8427e",
    }
    write_digests(tmp_path, digests)
    assert read_digests(tmp_path) == digests
    assert find_damaged(tmp_path, digests) == ["cvind.mat"]
    (tmp_path / "cvind.mat").touch()
    assert find_damaged(tmp_path, digests) == []
