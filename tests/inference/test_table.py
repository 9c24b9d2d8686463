"""predictions.csv and what else tells numbers: by hand, from pictures whose brightness is the probability."""

import json

import numpy as np
import pytest
from PIL import Image

from unet_jax.config import UserError
from unet_jax.shared import cli

pytestmark = pytest.mark.usefixtures("fake")

HEADER = (
    "input,output,status,height,width,threshold,tumor_pixels,tumor_fraction,max_probability,reason,slice_index,tumor_mm2,"
    "mean_probability,bbox_x,bbox_y,bbox_width,bbox_height,spacing_y,spacing_x\n"
)


def test_whole(job):
    job.put("p1/b,1.png", job.bright(5))
    job.put("a.png", job.bright(0))
    (job.source / "bad.jpg").write_text("no picture")
    assert job.run() == cli.EXIT_USAGE
    assert (job.out / "predictions.csv").read_text() == (
        HEADER + "a.png,a.png,ok,20,17,0.5,0,0.000000,0.200000,,,,,,,,,,\n"
        'bad.jpg,,failed,,,,,,,"is no PNG, JPEG, TIFF, BMP, WebP, GIF, PGM or JPEG 2000 picture, or one of an unknown '
        'kind",,,,,,,,,\n'
        '"p1/b,1.png","p1/b,1.png",ok,20,17,0.5,85,0.250000,0.800000,,,,0.800000,0,0,17,5,,\n'
    )


def test_box_and_mean_are_of_all_tumor(job):
    image = np.full((20, 17), 51, np.uint8)
    image[3, 5:9] = 255  # four pixels of 1.0
    image[11:13, 2] = 153  # two of 0.6
    job.put("a.png", image)
    assert job.run("--spacing", "0.5") == 0
    (row,) = job.table()
    assert row["tumor_pixels"] == "6" and row["mean_probability"] == "0.866667"  # 5.2 / 6
    assert [row[f"bbox_{name}"] for name in ("x", "y", "width", "height")] == ["2", "3", "7", "10"]
    assert (row["spacing_y"], row["spacing_x"], row["tumor_mm2"]) == ("0.5", "0.5", "1.50")


def test_how_it_was_made_lies_beside_it(job):
    job.put("a.png", job.bright(1))
    assert job.run("--threshold", "0.25") == 0
    assert json.loads((job.out / "predictions.json").read_text()) == {
        "input": str(job.source),
        "networks": [7],
        "threshold": 0.25,
        "axis": None,
        "upright": True,
        "spacing": None,
    }


def test_many_images_go_to_onednn_in_every_part_of_them(job, fake, monkeypatch):
    monkeypatch.setattr("unet_jax.inference.folder.MANY", 3)
    for number, expected in enumerate((False, False, True)):
        job.put(f"{number}.png", job.bright(1))
        assert job.run() == 0 and fake.given["onednn"] is expected
    assert job.run("--num-parts", "2", "--part-id", "1") == 0 and fake.given["onednn"]


def test_uncertainty_is_a_picture_of_the_spread(job, fake):
    image = job.bright(4)
    image[0, 0] = 0
    job.put("a.png", image)
    assert job.run("--uncertainty", "--dropout-samples", "9") == 0
    assert fake.given is not None and fake.given["uncertainty"] and fake.given["dropout_samples"] == 9
    assert job.files() == ["a.png", "a.uncertainty.png", "predictions.csv"]
    with Image.open(job.out / "a.uncertainty.png") as picture:
        assert picture.mode == "L"
        # Probabilities 0, 0.8 and 0.2 have spreads of 0, 0.2 and 0.05 here, of which 0.5 would be 255.
        np.testing.assert_array_equal(picture, np.choose(np.searchsorted([0, 50, 51, 204], image), [0, 25, 26, 102]))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--spacing", "0"], "--spacing is 0.0"),
        (["--spacing", "nan"], "--spacing is nan"),
        (["--num-parts", "0"], "--num-parts is 0"),
        (["--part-id", "1"], "--part-id is 1; it must be from 0 to 0"),
        (["--num-parts", "2", "--part-id", "2"], "from 0 to 1"),
        (["--num-parts", "2", "--part-id", "-1"], "from 0 to 1"),
    ],
)
def test_wrong_options(job, fake, more, reason):
    job.put("a.png", job.bright(1))
    with pytest.raises(UserError, match=reason):
        job.run(*more)
    assert fake.opened is None and not job.out.exists()


def test_a_bar_on_a_terminal(job, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for i in range(5):
        job.put(f"{i}.png", job.bright(1))
    assert job.run() == 0
    errors = capsys.readouterr().err
    assert "predict" in errors and "/5" in errors and "slice/s" in errors
