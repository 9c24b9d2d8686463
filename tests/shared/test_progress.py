"""Progress of long work: lines where there is no terminal, a bar where there is one."""

import sys

import pytest

from unet_jax.shared.progress import progress, track


def test_items_pass_and_every_tenth_has_a_line(capsys):
    assert list(track(iter(range(250)), 250, "count")) == list(range(250))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"count: {n}/250 slices" for n in range(25, 251, 25)]
    assert all(line.endswith(" slices/s") for line in lines)


@pytest.mark.parametrize(("total", "unit", "said"), [(99, "slice", 0), (100, "slice", 10), (9_999_999, "B", 0)])
def test_little_work_is_done_without_a_word(total, unit, said, capsys):
    with progress(total, "work", unit) as advance:
        for _ in range(100):
            advance(total // 100)
        advance(total % 100)
    assert len(capsys.readouterr().err.splitlines()) == said


def test_bytes_are_told_in_megabytes(capsys):
    with progress(20_000_000, "a.zip", "B") as advance:
        advance(5_000_000)
    assert capsys.readouterr().err.startswith("a.zip: 5.0/20.0 MB, ")


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(track("abc", 3, "letters", "letter")) == ["a", "b", "c"]
    assert "letters" in capsys.readouterr().err
