"""`--data tfds:NAME`: the same content as `convert` makes of the raw folder, and what is said where there is none."""

import functools
import importlib.util

import pytest

from tests.helpers.commands import exit_code
from tests.helpers.disk import full
from tests.helpers.folders import contents
from unet_jax import tfds as door
from unet_jax.config import Config, ConvertConfig, UserError
from unet_jax.data.converted.build import build
from unet_jax.data.tfds import source as tfds_source
from unet_jax.data.tfds.source import build_from_tfds, find_prepared, prepare
from unet_jax.runs.opening import open_data, store_absolute
from unet_jax.runs.workdir import Workdir

AT_16 = ConvertConfig(size=16)


@pytest.fixture(scope="module")
def tfds():
    """TensorFlow Datasets, with TensorFlow."""
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed, as on Python 3.14 and newer")
    return pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def builder(tfds):
    """The builder's class."""
    from unet_jax.data.tfds.brain_tumor_figshare.brain_tumor_figshare_dataset_builder import Builder

    return Builder


@pytest.fixture(scope="module")
def raw(raw_phantom, tmp_path_factory):
    """Slices 5 to 14 of the phantom, with its folds."""
    raw = tmp_path_factory.mktemp("few")
    (raw / "data").mkdir()
    for number in range(5, 15):
        (raw / "data" / f"{number}.mat").symlink_to(raw_phantom / "data" / f"{number}.mat")
    (raw / "cvind.mat").symlink_to(raw_phantom / "cvind.mat")
    return raw


@pytest.fixture(scope="module")
def home(raw, tfds, tmp_path_factory):
    """A TFDS folder where they are prepared."""
    home = tmp_path_factory.mktemp("tensorflow_datasets")
    assert prepare(raw, home) == (home / "brain_tumor_figshare" / "1.0.0", 10, False)
    return home


def test_the_same_bytes_as_of_the_raw_folder(raw, home, tmp_path):
    for rule in ("area", "any"):
        how = ConvertConfig(size=40, mask_rule=rule)
        direct = build(raw, tmp_path / f"raw-{rule}", size=40, mask_rule=rule)
        got = build_from_tfds(str(home / "brain_tumor_figshare"), tmp_path / f"tfds-{rule}", how)
        assert got.digest == direct.digest and len(got) == 10
        assert contents(got.path) == contents(direct.path)


def test_the_same_from_array_records(raw, tfds, builder, tmp_path):
    made = builder(data_dir=tmp_path / "home", file_format="array_record")
    made.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw, try_download_gcs=False))
    got = build_from_tfds(made.data_dir, tmp_path / "d", AT_16)
    assert got.digest == build(raw, tmp_path / "e", size=16, mask_rule="area").digest


def test_a_run_converts_it_once_at_128(raw, home, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(home))
    config = store_absolute(Config(data="tfds:brain_tumor_figshare"))
    workdir, said = Workdir(tmp_path / "w"), []
    workdir.path.mkdir()
    opened = open_data(workdir, config, said.append)
    assert config.data == "tfds:brain_tumor_figshare" and said == ["Converting tfds:brain_tumor_figshare."]
    assert opened.path == workdir.data(config) == tmp_path / "w" / "data"
    assert (opened.size, opened.mask_rule) == (128, "area")
    assert opened.digest == build(raw, tmp_path / "d", size=128, mask_rule="area").digest
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "gone"))
    assert open_data(workdir, config, said.append).digest == opened.digest and len(said) == 1


def test_a_failure_leaves_nothing_behind(home, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_source.rows, "convert_raw", full)
    with pytest.raises(OSError, match="No space left"):
        build_from_tfds(str(home / "brain_tumor_figshare"), tmp_path / "d", AT_16)
    assert list(tmp_path.iterdir()) == []


class TestFind:
    def prepared(self, *versions, at):
        for version in versions:
            (at / version).mkdir(parents=True)
            (at / version / "dataset_info.json").touch()
        (at / "9.9.9").mkdir()  # one that was never finished
        return at

    def test_by_name_version_and_path(self, tmp_path, monkeypatch):
        at = self.prepared("1.0.0", "1.10.0", "1.9.0", at=tmp_path / "home" / "b")
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "home"))
        assert find_prepared("b") == at / "1.10.0"
        assert find_prepared("b/1.9.0") == find_prepared("b:1.9.0") == at / "1.9.0"
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "other"))
        assert find_prepared(str(at)) == at / "1.10.0" and find_prepared(str(at / "1.0.0")) == at / "1.0.0"
        monkeypatch.chdir(tmp_path)
        assert find_prepared("home/b").resolve() == at / "1.10.0"

    def test_by_default_in_the_home_folder(self, tmp_path, monkeypatch):
        at = self.prepared("1.0.0", at=tmp_path / "tensorflow_datasets" / "b")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
        assert find_prepared("b") == at / "1.0.0"

    def test_none(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
        with pytest.raises(UserError, match=r"/b holds no dataset .*`python -m unet_jax\.tfds --raw DIR` prepares one"):
            build_from_tfds("b", tmp_path / "d", AT_16)


@pytest.mark.parametrize("missing", ["tensorflow", "tensorflow_datasets"])
def test_where_it_is_not_installed(tmp_path, monkeypatch, missing):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(UserError, match=rf"^--data tfds:b needs {missing}, .*: pip install 'unet-jax\[tfds\]'\.$"):
        build_from_tfds("b", tmp_path / "d", AT_16)
    with pytest.raises(UserError, match=rf"^unet_jax\.tfds needs {missing}, .*unet-jax\[tfds\]"):
        prepare(tmp_path, tmp_path)


def test_of_another_builder(tfds, tmp_path):
    other = tfds.testing.DummyDataset(data_dir=tmp_path / "home")
    other.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    with pytest.raises(UserError, match=r"is of another builder: it lacks border, fold, image, label, mask,"):
        build_from_tfds(other.data_dir, tmp_path / "d", AT_16)
    assert not (tmp_path / "d").exists()


def test_not_in_the_order_of_the_slices(raw, tfds, builder, tmp_path):
    class Backwards(builder, skip_registration=True):
        pkg_dir_path = builder._get_pkg_dir_path()

        def _generate_examples(self, paths, folds):
            for number, example in super()._generate_examples(paths, folds):
                yield 100 - number, example

    made = Backwards(data_dir=tmp_path / "home")
    made.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw, try_download_gcs=False))
    with pytest.raises(UserError, match=r"has slice 13 after 14; expected rising numbers"):
        build_from_tfds(made.data_dir, tmp_path / "d", AT_16)


# The door


run = functools.partial(exit_code, door.main)


def test_the_door_prepares_and_says_what_next(raw, home, tmp_path, monkeypatch, capfd):
    assert run("--raw", raw, "--data-dir", tmp_path / "home") == 0
    at = tmp_path / "home" / "brain_tumor_figshare"
    printed = capfd.readouterr()
    assert printed.out.endswith(
        f"10 slices in {at / '1.0.0'}\nNext: python -m unet_jax.train --workdir runs/t --data tfds:{at}\n"
    )
    assert "WARNING" not in printed.err
    monkeypatch.setenv("TFDS_DATA_DIR", str(home))
    assert run("--raw", raw) == 0
    printed = capfd.readouterr().out
    assert "(prepared before; remove it to prepare it anew)" in printed
    assert printed.endswith("--data tfds:brain_tumor_figshare\n")


def test_a_bad_slice_is_one_line(tfds, tmp_path, capfd):
    assert run("--raw", tmp_path, "--data-dir", tmp_path / "home") == 2
    assert "holds no slice named" in capfd.readouterr().err
    (tmp_path / "7.mat").touch()
    assert run("--raw", tmp_path, "--data-dir", tmp_path / "home") == 2
    assert capfd.readouterr().err.splitlines()[-1].endswith(f"error: {tmp_path / '7.mat'}: an empty file")
    with pytest.raises(UserError):
        find_prepared(str(tmp_path / "home" / "brain_tumor_figshare"))
