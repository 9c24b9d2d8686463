"""Slices and folds of a raw folder, known by their names."""

import pytest

from unet_jax.config import UserError
from unet_jax.data.raw import find_folds, find_slices


def test_finds_slices_in_numeric_order(tmp_path):
    for name in ("10.mat", "9.mat", "100.mat", "cvind.mat", "README.txt", "1.mat.part", "x1.mat", "8.MAT"):
        (tmp_path / name).touch()
    assert [p.name for p in find_slices(tmp_path)] == ["9.mat", "10.mat", "100.mat"]
    (tmp_path / "data").mkdir()
    assert len(find_slices(tmp_path)) == 3
    (tmp_path / "data" / "11.mat").touch()
    assert [str(p.relative_to(tmp_path)) for p in find_slices(tmp_path)] == [
        "9.mat",
        "10.mat",
        "data/11.mat",
        "100.mat",
    ]


ARCHIVES = ("brainTumorDataPublic_1-766", "brainTumorDataPublic_767-1532", "brainTumorDataPublic_1533-2298")


@pytest.mark.parametrize("place", ["", "data"])
@pytest.mark.parametrize("nested", [False, True])
def test_finds_slices_in_the_folders_of_the_archives(tmp_path, place, nested):
    """Also where a program unpacks to a folder of that name in another one; and what macOS puts beside them."""
    expected = []
    for folder, numbers in zip(ARCHIVES, ((1, 10, 2), (767, 800), (1533,)), strict=True):
        folder = tmp_path / place / folder / (folder if nested else "")
        folder.mkdir(parents=True)
        for number in numbers:
            (folder / f"{number}.mat").touch()
        expected += [folder / f"{number}.mat" for number in sorted(numbers)]
    (tmp_path / "__MACOSX" / ARCHIVES[0]).mkdir(parents=True)
    (tmp_path / "__MACOSX" / ARCHIVES[0] / "1.mat").touch()
    (expected[0].parent / "._3.mat").touch()
    (tmp_path / place / f"{ARCHIVES[0]}.zip").touch()
    assert find_slices(tmp_path) == expected
    (tmp_path / "cvind.mat").touch()
    assert find_folds(tmp_path) == tmp_path / "cvind.mat"
    (expected[0].parent.parent / "cvind.mat").touch()
    assert find_folds(tmp_path) == expected[0].parent.parent / "cvind.mat"


@pytest.mark.parametrize("place", ["", "data", "data/brainTumorDataPublic_767-1532"])
def test_slices_beside_the_folders_of_the_archives_are_taken_with_those_in_them(tmp_path, place):
    """As when somebody moves one of them up to look at it."""
    moved, folder = tmp_path / place / "2.mat", tmp_path / ARCHIVES[0]
    for path in (moved, folder / "1.mat", folder / "3.mat"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert find_slices(tmp_path) == [folder / "1.mat", moved, folder / "3.mat"]
    (folder / "2.mat").touch()
    with pytest.raises(UserError) as e:
        find_slices(tmp_path)
    assert str(e.value) == f"{moved} and {folder / '2.mat'} are the same slice 2; remove one of them."


def test_numbers_that_clash_in_the_folders_of_the_archives(tmp_path):
    for folder, name in ((ARCHIVES[0], "7.mat"), (ARCHIVES[1], "007.mat")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    one, other = tmp_path / ARCHIVES[0] / "7.mat", tmp_path / ARCHIVES[1] / "007.mat"
    with pytest.raises(UserError) as e:
        find_slices(tmp_path)
    assert str(e.value) == f"{one} and {other} are the same slice 7; remove one of them."


def test_other_folders_are_no_part_of_the_dataset(tmp_path):
    (tmp_path / "rejected").mkdir()
    (tmp_path / "rejected" / "1.mat").touch()
    with pytest.raises(UserError, match=r"holds no slice named <number>\.mat"):
        find_slices(tmp_path)


def test_finding_no_slices_or_one_twice_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"holds no slice named <number>\.mat"):
        find_slices(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        find_slices(tmp_path / "absent")
    (tmp_path / "7.mat").touch()
    (tmp_path / "007.mat").touch()
    with pytest.raises(UserError, match=r"007\.mat and 7\.mat are the same slice 7"):
        find_slices(tmp_path)


def test_finds_folds_beside_the_slices_or_above(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "1.mat").touch()
    assert find_folds(tmp_path) is None and find_folds(data) is None
    (tmp_path / "cvind.mat").touch()
    assert find_folds(tmp_path) == find_folds(data) == tmp_path / "cvind.mat"
    (data / "cvind.mat").touch()
    assert find_folds(tmp_path) == find_folds(data) == data / "cvind.mat"
    # Also where the first slice is in another folder.
    (tmp_path / "cvind.mat").unlink()
    (tmp_path / "0.mat").touch()
    assert find_folds(tmp_path) == data / "cvind.mat"
