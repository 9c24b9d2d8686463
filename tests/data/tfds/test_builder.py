"""The TensorFlow Datasets builder: TFDS's own test of it, and that the examples are the slices."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not installed, as on Python 3.14 and newer")

import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_metadata

from tests.helpers.mat import codes, raw_folder
from unet_jax.config import TUMORS
from unet_jax.data.phantom import write_phantom
from unet_jax.data.raw import find_folds, find_slices
from unet_jax.data.tfds.brain_tumor_figshare import brain_tumor_figshare_dataset_builder as module
from unet_jax.imaging.formats.mat import read_folds, read_slice


class TestAsTfdsDoes(tfds.testing.DatasetBuilderTestCase):
    """On a phantom that is made for it, where a dataset of TFDS has a folder of dummy data."""

    DATASET_CLASS = module.Builder
    SPLITS = {"train": 9}  # noqa: RUF012, as TFDS declares it

    def test_session(self, *args, **kwargs):
        """TensorFlow's, which is no test, whatever its name."""
        return super().test_session(*args, **kwargs)

    test_session.__test__ = False

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.EXAMPLE_DIR)
        raw = Path(cls.EXAMPLE_DIR)
        write_phantom(raw, patients=3, seed=0)
        for path in find_slices(raw)[9:]:
            path.unlink()
        super().setUpClass()


def prepare(tmp_path, **how):
    builder = module.Builder(data_dir=tmp_path / "prepared")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False, **how))
    return builder


def assert_same(examples, raw):
    folds = read_folds(find_folds(raw))
    for example, path in zip(examples, find_slices(raw), strict=True):
        one = read_slice(path)
        assert (example["slice"], example["source"].decode()) == (one.slice, path.name)
        assert example["image"].dtype == np.int16 and example["mask"].dtype == np.uint8
        np.testing.assert_array_equal(example["image"], one.image[..., None])
        np.testing.assert_array_equal(example["mask"], one.mask[..., None])
        np.testing.assert_array_equal(example["border"], one.border)
        assert TUMORS[example["label"]] == TUMORS[one.label - 1]
        assert (example["pid"].decode(), example["fold"]) == (one.pid, folds[one.slice - 1])


@pytest.fixture
def few(tmp_path):
    """Slices 2, 9 and 10, of two shapes, with negative intensities; folds for the first two."""
    rng = np.random.default_rng(0)
    slices = {
        10: {"image": rng.integers(-900, 900, (41, 17)).astype(np.int16), "label": [[3.0]]},
        9: {"label": [[1.0]], "PID": codes("a\u00e9")},
        2: {"tumorBorder": np.zeros((1, 0))},
    }
    return raw_folder(tmp_path / "raw", slices, {2: 4, 9: 5, 10: 0})


def test_examples_are_the_slices_in_their_order(few, tmp_path):
    builder = prepare(tmp_path, manual_dir=few)
    assert builder.info.splits["train"].num_examples == 3
    assert builder.info.features["label"].names == list(TUMORS)
    assert_same(tfds.as_numpy(builder.as_dataset(split="train")), few)
    pairs = list(tfds.as_numpy(builder.as_dataset(split="train", as_supervised=True)))
    assert [(image.shape, mask.shape) for image, mask in pairs] == [((20, 24, 1),) * 2] * 2 + [((41, 17, 1),) * 2]


def test_the_folders_of_the_archives_are_as_good(few, tmp_path):
    for number in (2, 9, 10):
        folder = tmp_path / "parts" / f"brainTumorDataPublic_{number}"
        folder.mkdir(parents=True)
        shutil.copy(few / "data" / f"{number}.mat", folder)
    shutil.copy(few / "cvind.mat", tmp_path / "parts")
    builder = prepare(tmp_path, manual_dir=tmp_path / "parts")
    assert_same(tfds.as_numpy(builder.as_dataset(split="train")), few)


def test_without_a_folder_they_are_fetched(few, tmp_path, monkeypatch):
    asked = []

    def download(out, *, say):
        asked.append(out)
        shutil.copytree(few, out)

    monkeypatch.setattr(module, "download", download)
    builder = prepare(tmp_path)
    assert asked == [tmp_path / "prepared" / "downloads" / "brain_tumor_figshare"]
    assert_same(tfds.as_numpy(builder.as_dataset(split="train")), few)


def test_what_stands_beside_the_builder():
    metadata = module.Builder.get_metadata()
    assert "3,064 slices of 233 patients" in metadata.description
    assert metadata.citation.count("doi") == 2
    assert metadata.tags and set(metadata.tags) <= set(dataset_metadata.valid_tags())
    assert module.Builder.url_infos == {}
