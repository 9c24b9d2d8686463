"""Archives that somebody else has fetched, unpacked by the command without the network where they are whole."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.download.test_command import asked, assert_complete, run
from tests.helpers.commands import exit_code
from tests.helpers.figshare import zipped
from tests.helpers.folders import contents
from unet_jax.config import UserError
from unet_jax.data.raw import find_slices
from unet_jax.shared import cli


def put(figshare: Any, folder: Path, **changes: bytes | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (figshare.files | changes).items():
        if content is not None:
            (folder / name).write_bytes(content)


def test_in_the_folder_of_archives(figshare, tmp_path, capsys):
    put(figshare, tmp_path / "archives")
    assert run(figshare, tmp_path) == 0
    assert_complete(figshare, tmp_path)
    assert figshare.asked == []
    shown = capsys.readouterr().out
    assert f"unpacking what is in {tmp_path / 'archives'}, which nothing compares with the article's" in shown
    assert "7 slices of 4 patients" in shown


def test_in_the_target_itself(figshare, tmp_path):
    """There they are somebody's, and stay; a second run has nothing to do."""
    put(figshare, tmp_path)
    for _ in range(2):
        assert run(figshare, tmp_path) == 0
    assert figshare.asked == []
    found = contents(tmp_path)
    assert found.pop("MD5SUMS")
    slices = {f"data/{name}": content for name, content in figshare.slices.items()}
    assert found == figshare.files | slices


def test_all_files_in_one_archive(figshare, tmp_path):
    """As a browser gets the whole article."""
    (tmp_path / "1512427.zip").write_bytes(zipped(figshare.files))
    assert run(figshare, tmp_path) == 0
    assert figshare.asked == [] and len(find_slices(tmp_path)) == 7


def test_a_kept_archive_mends_what_is_missing(figshare, tmp_path):
    run(figshare, tmp_path, "--keep-archives")
    (tmp_path / "data/3.mat").unlink()
    figshare.asked.clear()
    assert run(figshare, tmp_path) == 0
    assert_complete(figshare, tmp_path)
    assert figshare.asked == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"brainTumorDataPublic_5-7.zip": None}, "holds 4 slices, cvind.mat names 7. Asking for the article."),
        ({"brainTumorDataPublic_5-7.zip": b"PK"}, "5-7.zip is a damaged archive ("),
        ({"cvind.mat": None}, "cvind.mat: "),
        ({"more.zip": zipped({"7.mat": b""})}, "'7.mat' is there twice; expected each file once. Asking for"),
    ],
)
def test_what_is_not_the_dataset_is_fetched(figshare, tmp_path, capsys, changes, message):
    put(figshare, tmp_path / "archives", **changes)
    assert run(figshare, tmp_path) == 0
    assert {f"data/{name}" for name in figshare.slices} <= set(contents(tmp_path))
    assert message in capsys.readouterr().out
    assert "/files/brainTumorDataPublic_1-4.zip" not in asked(figshare)


def test_an_unfinished_one_is_fetched_to_its_end(figshare, tmp_path, capsys):
    put(figshare, tmp_path / "archives", **{"brainTumorDataPublic_5-7.zip": None})
    name = "brainTumorDataPublic_5-7.zip"
    (tmp_path / f"archives/.{name}.part").write_bytes(figshare.files[name][:100])
    assert run(figshare, tmp_path) == 0
    assert (f"/files/{name}", 100) in figshare.asked
    assert "nothing compares" not in capsys.readouterr().out


def test_without_a_network_what_is_lacking_is_told(figshare, tmp_path, capsys):
    put(figshare, tmp_path / "archives", **{"brainTumorDataPublic_5-7.zip": None})
    figshare.close()
    assert exit_code(lambda argv: run(figshare, tmp_path)) == cli.EXIT_FAILURE
    shown = capsys.readouterr()
    assert "holds 4 slices, cvind.mat names 7" in shown.out and "cannot be reached" in shown.err


def test_files_beside_half_of_it_stay(figshare, tmp_path):
    put(figshare, tmp_path, **{"brainTumorDataPublic_5-7.zip": None})
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"cvind\.mat is there already, and not from this command"):
        run(figshare, tmp_path)
    assert contents(tmp_path) == before and figshare.asked == []
