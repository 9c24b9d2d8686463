"""The wheel: an editable install reads the tree, and so hides a file that the package lacks."""

import zipfile
from pathlib import Path

from tests.helpers.wheel import build_wheel, can_build, copy_tree


@can_build
def test_a_wheel_holds_all_of_the_package_and_nothing_else(tmp_path):
    tree = tmp_path / "tree"
    copy_tree(tree)
    model = tree / "unet_jax" / "runs" / "shipped" / "tiny"
    model.mkdir()
    for name in ("model.safetensors", "config.json", "training_slices.npz", "README.md"):
        (model / name).write_text("")
    wheel = build_wheel(tree, tmp_path)
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == {p.relative_to(tree).as_posix() for p in (tree / "unet_jax").rglob("*") if p.is_file()}
    assert {p.suffix for p in map(Path, packed)} == {
        ".py",
        ".html",
        ".css",
        ".js",
        ".md",
        ".bib",
        ".txt",
        ".tsv",
        ".toml",
        ".safetensors",
        ".json",
        ".npz",
    }
