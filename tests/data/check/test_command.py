"""The door: what it prints and writes, and its exit codes; and the line that `convert` prints."""

import json

import pytest

from tests.helpers.commands import exit_code
from tests.helpers.folders import contents
from tests.helpers.mat import raw_folder
from unet_jax import check, convert


def run(*argv, door=check):
    return exit_code(door.main, *argv)


def test_the_phantom_is_clean_raw_and_converted(raw_phantom, tiny_data, capsys):
    for data in (raw_phantom, tiny_data):
        assert run(data) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"{data}: ") and "NOTE: the published dataset" in printed
        assert printed.endswith("Check: no errors, no warnings.\n")


def test_the_folders_of_the_archives_are_the_same_dataset(raw_phantom, tmp_path, capsys):
    """By check and convert, to the byte."""
    files = sorted((raw_phantom / "data").iterdir())
    for part in range(4):
        folder = tmp_path / "raw" / f"brainTumorDataPublic_{part}"
        folder.mkdir(parents=True)
        for file in files[part::4]:
            (folder / file.name).symlink_to(file)
    (tmp_path / "raw" / "cvind.mat").symlink_to(raw_phantom / "cvind.mat")
    assert run(tmp_path / "raw") == 0
    assert f"{len(files)} slices of 12 patients" in capsys.readouterr().out
    for raw, out in ((raw_phantom, "a"), (tmp_path / "raw", "b")):
        assert run("--raw", raw, "--out", tmp_path / out, "--size", 16, door=convert) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_warnings_leave_with_0_and_errors_with_2(tmp_path, capsys):
    raw_folder(tmp_path, {1: {}, 2: {}})
    assert run(tmp_path, "--json", tmp_path / "report.json", "--workers", 1) == 0
    assert "fold-missing" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["warnings"] == 1
    (tmp_path / "data" / "2.mat").write_bytes(b"")
    assert run(tmp_path, "--json", tmp_path / "report.json", "--workers", 1) == 2
    assert "unreadable-file" in capsys.readouterr().out
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["errors"] == 1 and content["findings"][0]["detail"] == "an empty file"


@pytest.mark.parametrize("wrong", [["absent"], [], ["absent", "--workers", "x"], [".", "--json", "absent/report.json"]])
def test_wrong_usage_leaves_with_2(tmp_path, monkeypatch, capsys, wrong):
    monkeypatch.chdir(tmp_path)
    assert run(*wrong) == 2
    assert capsys.readouterr().out == "" and list(tmp_path.iterdir()) == []


def test_convert_says_what_check_would(raw_phantom, tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    for number in (1, 2):
        (tmp_path / "raw" / f"{number}.mat").write_bytes((raw_phantom / "data" / "1.mat").read_bytes())
    assert run("--raw", tmp_path / "raw", "--out", tmp_path / "d", "--size", 16, door=convert) == 0
    line = (
        "Check: 1 error (duplicate-image 1), 1 warning (fold-missing 1). "
        f"They are shown by python -m unet_jax.check {tmp_path / 'raw'}\n"
    )
    assert line in capsys.readouterr().out
