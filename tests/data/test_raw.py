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
    (tmp_path / "data" / "9.mat").touch()
    assert find_slices(tmp_path) == [tmp_path / "data" / "9.mat"]


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
