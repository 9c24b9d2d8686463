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
        (
            {"brainTumorDataPublic_5-7.zip": None},
            "holds 4 slices, cvind.mat names 7; 5.mat is the first of 3 that lack. Asking for the article.",
        ),
        ({"more.zip": zipped({"8.mat": b""})}, "holds 8 slices, cvind.mat names 7. Asking for the article."),
        ({"brainTumorDataPublic_5-7.zip": b"PK"}, "5-7.zip is a damaged archive ("),
        ({"cvind.mat": b"MATLAB 5.0"}, "\ncvind.mat: a MATLAB 5 file; expected"),
        (
            {"cvind.mat": None},
            "holds 7 slices, and no cvind.mat; the dataset has 3064; 8.mat is the first of 3057 that lack. Asking for",
        ),
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
    (line,) = shown.err.splitlines()
    assert f"fetch the archives in a browser from https://doi.org/10.6084/m9.figshare.1512427 into {tmp_path}/" in line
    assert line.endswith("unpacked already, give the folder above them to `unet_jax.convert --raw`.")


def test_all_slices_without_their_folds(figshare, tmp_path, capsys):
    """The dataset of 3,064 slices, of which none but the folds lacks."""
    one = figshare.slices["1.mat"]
    for first, last in ((1, 766), (767, 1532), (1533, 2298), (2299, 3064)):
        content = zipped({f"{n}.mat": one for n in range(first, last + 1)})
        (tmp_path / f"brainTumorDataPublic_{first}-{last}.zip").write_bytes(content)
    assert run(figshare, tmp_path) == 0
    assert figshare.asked == []
    assert [path.name for path in find_slices(tmp_path)] == [f"{n}.mat" for n in range(1, 3065)]
    lines = [line for line in capsys.readouterr().out.splitlines() if "cvind.mat" in line]
    assert lines == [
        "There is no cvind.mat, so that `--split.kind official` will lack its folds. Fetch it in a browser from "
        f"https://doi.org/10.6084/m9.figshare.1512427 into {tmp_path} to have them."
    ]


@pytest.mark.parametrize("number", [" (1)", "(1)", " (12)"])
def test_names_that_browsers_give_to_a_second_download(figshare, tmp_path, number):
    for name, content in figshare.files.items():
        stem, suffix = name.rsplit(".", 1)
        (tmp_path / f"{stem}{number}.{suffix}").write_bytes(content)
    assert run(figshare, tmp_path) == 0
    assert figshare.asked == []
    found = contents(tmp_path)
    assert {name: found[name] for name in figshare.others} == figshare.others
    assert [path.name for path in find_slices(tmp_path)] == list(figshare.slices)


def test_of_several_downloads_the_first_is_unpacked(figshare, tmp_path):
    put(figshare, tmp_path / "archives")
    for number in (1, 2, 10):
        (tmp_path / f"archives/brainTumorDataPublic_1-4 ({number}).zip").write_bytes(b"half")
    assert run(figshare, tmp_path) == 0
    assert figshare.asked == [] and len(find_slices(tmp_path)) == 7


def test_files_beside_half_of_it_stay(figshare, tmp_path):
    put(figshare, tmp_path, **{"brainTumorDataPublic_5-7.zip": None})
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"cvind\.mat is there already, and not from this command"):
        run(figshare, tmp_path)
    assert contents(tmp_path) == before and figshare.asked == []
