"""The command that draws augmented slices, and the sheet it draws."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from unet_jax import preview
from unet_jax.config import AugmentConfig, Config, UserError
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.reporting.sheet import SheetRow, sheet_figure
from unet_jax.runs import preview as of_runs


def test_preview_writes_a_sheet_of_a_converted_dataset(tiny_data, tmp_path, capsys):
    output = tmp_path / "sheet.png"
    options = ["--slices", "2", "--versions", "3", "--augment.rotation", "30", "--augment.noise", "0.05"]
    assert preview.main(["--data", str(tiny_data), "--output", str(output), *options]) == 0
    assert f"2 slices of 32x32, each unchanged and augmented 3 times: {output}" in capsys.readouterr().out
    with Image.open(output) as image:
        image.load()
        assert image.format == "PNG" and image.width > image.height > 300


def test_versions_are_those_of_a_training_step(tiny_data):
    arrays = open_arrays(tiny_data)
    config = Config(augment=AugmentConfig(vertical_flip=True))
    rows = of_runs.preview(arrays, config, count=3, versions=16)
    assert [row.label.split("\n")[0] for row in rows] == ["Meningioma", "Glioma", "Pituitary"]
    for row in rows:
        assert row.images.shape == row.masks.shape == (17, 32, 32)
        kinds = []
        for turned in (lambda a: a, lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a[::-1, ::-1]):
            same = [np.array_equal(image, turned(row.images[0])) for image in row.images[1:]]
            for i in np.flatnonzero(same) + 1:
                np.testing.assert_array_equal(row.masks[i], turned(row.masks[0]))
            kinds.append(sum(same))
        assert sum(kinds) == 16 and min(kinds) > 0
        place = np.flatnonzero(arrays.slices == int(row.label.split()[-1]))[0]
        np.testing.assert_array_equal(row.masks[0], arrays.masks[place])


def test_the_sheet_shows_images_with_outlines():
    images = np.random.default_rng(0).random((3, 20, 16), np.float32)
    masks = np.zeros((3, 20, 16), np.uint8)
    masks[:2, 5:9, 4:8] = 1
    figure = sheet_figure([SheetRow("Glioma\nslice 3", images, masks), SheetRow("Glioma\nslice 4", images, masks)])
    assert [axes.get_title() for axes in figure.axes] == ["Original", "Version 1", "Version 2", "", "", ""]
    assert [text.get_text() for text in figure.texts] == ["Glioma\nslice 3", "Glioma\nslice 4"]
    for axes, image, mask in zip(figure.axes[:3], images, masks, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
        assert len(axes.collections) == mask.any()
    assert to_hex(figure.axes[0].collections[0].get_edgecolor()[0]) == "#e69f00"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "{}"], r"--output is .*; it must be a file"),
        (["--output", "{}/none/sheet.png"], r"--output is .*; it must be a file"),
        (["--output", "{}/a.png", "--slices", "0"], r"--slices is 0; it must be 1 to 32"),
        (["--output", "{}/a.png", "--versions", "33"], r"--versions is 33; it must be 1 to 32"),
        (["--output", "{}/a.png", "--augment.rotation", "-1"], r"--augment\.rotation is -1\.0; it must be 0 to 180"),
        (["--output", "{}/a.png", "--data", "{}"], "is not a converted dataset"),
    ],
)
def test_what_is_wrong_is_named(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        preview.main([option.format(tmp_path) for option in options])
    assert list(tmp_path.iterdir()) == []
