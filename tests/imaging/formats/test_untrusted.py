import io

import pytest

from unet_jax.imaging.formats.untrusted import Clamped


def test_asks_for_no_more_than_there_is_or_is_allowed(tmp_path):
    (tmp_path / "a").write_bytes(b"hello")
    with (tmp_path / "a").open("rb") as f:
        clamped = Clamped(f)
        assert clamped.read(2) == b"he"
        # 2**62 bytes are more than any machine has: reading the file itself would fail.
        with pytest.raises(MemoryError):
            f.read(2**62)
        assert clamped.read(2**62) == b"llo"
        clamped.seek(0)
        assert clamped.read() == clamped.read(-1) + b"hello" and clamped.tell() == 5
    clamped = Clamped(io.BytesIO(b"hello"), 3)
    assert [clamped.read(), clamped.read(4)] == [b"hel", b"lo"]
