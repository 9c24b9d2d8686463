"""The Figshare brain tumor dataset as a TensorFlow Datasets builder: `brain_tumor_figshare`."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from unet_jax.config import TUMORS
from unet_jax.data.converted.rows import file_sha256
from unet_jax.data.download.article import PAGE, download
from unet_jax.data.raw import find_slices, folds_by_slice
from unet_jax.imaging.formats.mat import read_slice
from unet_jax.shared.progress import track


class Builder(tfds.core.GeneratorBasedBuilder):
    """Slices in rising order of their numbers, in one split, `train`: whoever uses the dataset divides its patients."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Version 5 of the dataset."}  # noqa: RUF012, as TFDS declares it
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put what the article's archives unpack to there: data/1.mat, data/2.mat, ... and cvind.mat "
        "(`python -m unet_jax.download --out DIR` does). Without it, they are fetched from Figshare."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            # Not `Image`, which has no signed type: whatever slice `mat.read_slice` takes is kept as it is.
            "image": tfds.features.Tensor(shape=(None, None, 1), dtype=np.int16, encoding="zlib"),
            "mask": tfds.features.LabeledImage(shape=(None, None, 1), labels=["background", "tumor"]),
            "label": tfds.features.ClassLabel(names=list(TUMORS)),
            "pid": tfds.features.Text(doc="the patient"),
            "slice": tfds.features.Scalar(dtype=np.int64, doc="number of the slice"),
            "fold": tfds.features.Scalar(dtype=np.int64, doc="of the dataset's five folds; 0 where it names none"),
            "border": tfds.features.Tensor(shape=(None, 2), dtype=np.float64, doc="x, y, counted from 1"),
            "source": tfds.features.Text(doc="name of the file"),
            "sha256": tfds.features.Text(doc="of the file"),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "mask"),
            homepage=PAGE,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        try:
            raw = Path(dl_manager.manual_dir)
        except AssertionError:  # how TFDS says that there is no such folder, or nothing in it
            raw = Path(dl_manager.download_dir) / self.name
            download(raw, say=print)
        return {"train": self._generate_examples(find_slices(raw), folds_by_slice(raw))}

    def _generate_examples(
        self, paths: Sequence[Path], folds: Mapping[int, int]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        # On a terminal TFDS shows a bar of its own.
        for path in paths if sys.stderr.isatty() else track(paths, len(paths), "prepare"):
            raw = read_slice(path)
            yield (
                raw.slice,
                {
                    "image": raw.image[..., None],
                    "mask": raw.mask[..., None],
                    "label": raw.label - 1,
                    "pid": raw.pid,
                    "slice": raw.slice,
                    "fold": folds.get(raw.slice, 0),
                    "border": raw.border,
                    "source": path.name,
                    "sha256": file_sha256(path),
                },
            )
