"""One bad item costs one item: it is failed, the others are done, the table is written, the folder is good again."""

import nibabel as nib
import numpy as np
import pytest

from tests.helpers.commands import exit_code
from unet_jax.inference.output import TABLE

pytestmark = pytest.mark.usefixtures("fake")

LONG = "L" * 250


def leave(job, *more: str) -> int:
    return exit_code(lambda argv: job.run(*argv), *more)


def states(job) -> dict[str, str]:
    return {row["input"]: row["status"] for row in job.table()}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("--overlays",), "its overlay could not be written (File name too long)"),
        (("--probabilities",), "its probs could not be written (File name too long)"),
        (("--uncertainty",), "its uncertainty could not be written (File name too long)"),
    ],
)
def test_a_name_too_long_for_one_of_its_files(job, capsys, more, reason):
    """A name has at most 255 bytes: STEM.png fits, STEM.overlay.png does not."""
    for name in (LONG, "ok", "zz"):
        job.put(f"{name}.png", job.bright(3))
    assert leave(job, *more) == 2
    assert states(job) == {f"{LONG}.png": "failed", "ok.png": "ok", "zz.png": "ok"}
    assert capsys.readouterr().err == f"error: 1 of 3 images failed:\n  {LONG}.png: {reason}\n"
    assert not list(job.out.glob(".*")) and (job.out / "zz.png").is_file()
    # The folder is not refused, and without those files all is well.
    assert leave(job, *more, "--skip-existing") == 2
    assert leave(job) == 0
    assert set(states(job).values()) == {"ok"}


def test_a_name_of_accents_that_is_too_long_in_bytes(job):
    """150 letters of two bytes each, which a disk that counts letters would take."""
    job.put("ok.png", job.bright(1))
    name = "\u00e9" * 122 + ".png"  # 248 bytes
    job.put(name, job.bright(1))
    assert leave(job, "--overlays") == 2
    assert states(job) == {"ok.png": "ok", name: "failed"}


@pytest.mark.parametrize("kind", ["folder", "link to nowhere", "link to itself"])
def test_a_single_output_that_cannot_be_written(job, kind):
    for name in ("a", "b", "c"):
        job.put(f"{name}.png", job.bright(2))
    assert leave(job) == 0
    (job.out / "b.png").unlink()
    if kind == "folder":
        (job.out / "b.png").mkdir()
    else:
        # A link is replaced by the file, wherever it leads.
        (job.out / "b.png").symlink_to("b.png" if "itself" in kind else "nothing")
    assert leave(job) == (2 if kind == "folder" else 0)
    assert states(job) == {"a.png": "ok", "b.png": "failed" if kind == "folder" else "ok", "c.png": "ok"}
    if kind == "folder":
        assert job.table()[1]["reason"] == "its mask could not be written (Is a directory)"
        (job.out / "b.png").rmdir()
    assert leave(job, "--skip-existing") == 0
    assert set(states(job).values()) == {"ok"} and (job.out / "b.png").is_file()


def test_a_file_in_the_place_of_a_mirrored_folder(job):
    job.put("a.png", job.bright(2))
    job.put("p/b.png", job.bright(2))
    assert leave(job) == 0
    (job.out / "p/b.png").unlink()
    (job.out / "p").rmdir()
    (job.out / "p").write_text("somebody's")
    assert leave(job) == 2
    assert [row["reason"] for row in job.table()] == ["", "its mask could not be written (Not a directory)"] or (
        [row["reason"] for row in job.table()] == ["", "its mask could not be written (File exists)"]
    )
    assert (job.out / "p").read_text() == "somebody's"


def test_a_volume_of_which_one_overlay_cannot_be_written_is_one_failed_item(job):
    job.put("a.png", job.bright(2))
    job.put("v.nii.gz", np.stack([job.bright(n) for n in range(5)], axis=-1))
    job.put("w.nii.gz", np.stack([job.bright(n) for n in range(5)], axis=-1))
    (job.out / "v.overlay/2.png").mkdir(parents=True)
    (job.out / f"{TABLE}.csv").write_text("input\n")  # an earlier prediction's folder
    assert leave(job, "--overlays") == 2
    rows = job.table()
    assert [(row["input"], row["status"]) for row in rows] == [
        ("a.png", "ok"),
        ("v.nii.gz", "failed"),
        *[("w.nii.gz", "ok")] * 5,
    ]
    assert rows[1]["reason"] == "its overlay could not be written (Is a directory)"
    assert not (job.out / "v.nii.gz").exists()
    mask = np.asarray(nib.load(job.out / "w.nii.gz").dataobj)
    assert [int(mask[..., n].sum()) for n in range(5)] == [0, 17, 34, 51, 68]


def test_files_that_vanish_once_they_are_listed(job, fake, monkeypatch):
    """The first image that the network is given takes the others' files away."""
    names = [f"{n:02}.png" for n in range(40)]
    for name in names:
        job.put(name, job.bright(2))

    def note(self, image):
        for name in names[-3:]:
            (job.source / name).unlink(missing_ok=True)

    monkeypatch.setattr(fake, "note", note)
    assert leave(job, "--batch-size", "1") == 2
    assert states(job) == {name: "failed" if name in names[-3:] else "ok" for name in names}
    assert {row["reason"] for row in job.table()[-3:]} == {"No such file or directory"}
    assert leave(job) == 0 and list(states(job)) == names[:-3]


def test_a_failed_item_leaves_no_mask_of_it_that_looks_current(job, capsys):
    job.put("a.png", job.bright(2))
    job.put("b.png", job.bright(2))
    assert leave(job) == 0
    (job.source / "b.png").write_text("no picture any more")
    capsys.readouterr()
    assert leave(job) == 2
    (note, *_) = capsys.readouterr().err.splitlines()
    assert note == f"note: {job.out} also holds masks of an earlier prediction that were not made now: b.png"
