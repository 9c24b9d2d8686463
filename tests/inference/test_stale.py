"""Overlays, probabilities and uncertainty of an earlier prediction, beside masks that are made anew without them."""

import nibabel as nib
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("fake")

ALL = ("--overlays", "--probabilities", "--uncertainty")


@pytest.fixture
def two(job):
    """Two images predicted with all that can be written of them."""
    for n, name in enumerate(("a.png", "p/b.png")):
        job.put(name, job.bright(n + 1))
    assert job.run(*ALL) == 0
    assert len(job.files()) == 9
    return job


def kinds(*stems: str) -> list[str]:
    return [f"{stem}.{kind}" for stem in stems for kind in ("overlay.png", "png", "probs.npy", "uncertainty.png")]


@pytest.mark.parametrize("more", [(), ("--threshold", "0.9")])
def test_what_is_not_wanted_now_is_removed(two, more):
    assert two.run(*more) == 0
    assert two.files() == ["a.png", "p/b.png", "predictions.csv"]


def test_what_is_wanted_is_made_anew_and_the_rest_removed(two):
    before = (two.out / "a.probs.npy").read_bytes()
    two.put("a.png", two.bright(9))
    assert two.run("--probabilities") == 0
    assert two.files() == ["a.png", "a.probs.npy", "p/b.png", "p/b.probs.npy", "predictions.csv"]
    assert (two.out / "a.probs.npy").read_bytes() != before


def test_other_images_keep_theirs(two, capsys):
    """Those of an image that this prediction does not make, whose mask is named as older."""
    assert two.run(source=two.source / "a.png") == 0
    assert two.files() == ["a.png", *kinds("p/b"), "predictions.csv"]
    assert "masks of an earlier prediction that were not made now: p/b.png\n" in capsys.readouterr().err
    # Though no table lists it, the mask is known.
    assert two.run() == 0
    assert two.files() == ["a.png", "p/b.png", "predictions.csv"]


def test_skip_existing_keeps_what_was_made_in_the_same_way(two):
    assert two.run("--skip-existing") == 0
    (two.out / "a.overlay.png").unlink()
    assert two.run("--skip-existing", "--overlays") == 0
    assert two.files() == [*kinds("a", "p/b"), "predictions.csv"]
    # Without its mask it is made anew, perhaps of another picture.
    (two.out / "a.png").unlink()
    assert two.run("--skip-existing", "--overlays") == 0
    assert two.files() == ["a.overlay.png", "a.png", *kinds("p/b"), "predictions.csv"]


def test_parts_remove_what_the_whole_left(two):
    for part in range(2):
        assert two.run("--num-parts", "2", "--part-id", str(part)) == 0
    names = ["a.png", "p/b.png", "predictions.0-of-2.csv", "predictions.1-of-2.csv", "predictions.csv"]
    assert [name for name in two.files() if not name.endswith(".json")] == names


def test_what_a_killed_one_made_last_is_removed_though_no_table_lists_it(two):
    header = (two.out / "predictions.csv").read_text().splitlines(keepends=True)[0]
    (two.out / "predictions.csv").unlink()
    (two.out / ".predictions.csv.part").write_text(header)
    assert two.run() == 0
    assert two.files() == ["a.png", "p/b.png", "predictions.csv"]


def test_what_nobody_predicted_stays(job):
    """In a folder, and beside a mask, that no prediction made before."""
    job.put("a.png", job.bright(1))
    job.out.mkdir()
    for name in ("a.probs.npy", "a.overlay.png", "b.probs.npy"):
        (job.out / name).write_text("somebody's")
    assert job.run() == 0
    assert job.files() == ["a.overlay.png", "a.png", "a.probs.npy", "b.probs.npy", "predictions.csv"]


def test_masks_that_are_called_as_another_image_s_overlay_stay(job):
    for n, name in enumerate(("a.png", "a.overlay.png", "a.uncertainty.png")):
        job.put(name, job.bright(n))
    for _ in range(2):
        assert job.run() == 0
        assert job.files() == ["a.overlay.png", "a.png", "a.uncertainty.png", "predictions.csv"]
    # Older ones, too.
    assert job.run(source=job.source / "a.png") == 0
    assert job.files() == ["a.overlay.png", "a.png", "a.uncertainty.png", "predictions.csv"]


def test_of_a_volume(job):
    volume = np.stack([job.bright(n) for n in range(5)], axis=-1)
    job.put("v.nii.gz", volume)
    assert job.run(*ALL) == 0
    assert len(job.files()) == 3 + 5 + 1
    (job.out / "v.overlay/notes.txt").write_text("somebody's")
    assert job.run() == 0
    assert job.files() == ["predictions.csv", "v.nii.gz", "v.overlay/notes.txt"]
    (job.out / "v.overlay/notes.txt").unlink()
    assert job.run(*ALL) == job.run() == 0
    assert not (job.out / "v.overlay").exists()
    assert [int(np.asarray(nib.load(job.out / "v.nii.gz").dataobj)[..., n].sum()) for n in (1, 4)] == [17, 68]


def test_masks_in_a_folder_that_is_called_as_a_volume_s_overlays_stay(job):
    job.put("v.nii.gz", np.stack([job.bright(n) for n in range(5)], axis=-1))
    job.put("v.overlay/3.png", job.bright(3))
    for _ in range(2):
        assert job.run() == 0
        assert job.files() == ["predictions.csv", "v.nii.gz", "v.overlay/3.png"]


def test_a_folder_in_the_place_of_a_file_stays(two):
    (two.out / "a.probs.npy").unlink()
    (two.out / "a.probs.npy").mkdir()
    assert two.run() == 0
    assert (two.out / "a.probs.npy").is_dir() and two.files() == ["a.png", "p/b.png", "predictions.csv"]


def test_a_name_too_long_for_what_is_not_wanted(job):
    job.put("L" * 250 + ".png", job.bright(2))
    assert job.run() == job.run() == 0
