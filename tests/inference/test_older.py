"""Masks of another input set in the output folder: named at the end and in predictions.json, until they are gone."""

import json

import pytest

from unet_jax.imaging.read import read_image

pytestmark = pytest.mark.usefixtures("fake")


@pytest.fixture
def twice(job):
    """Five images predicted, of which another input has two and a new one."""
    for n in range(5):
        job.put(f"{n}.png", job.bright(n))
    assert job.run() == 0
    for name in ("1.png", "3.png", "new.png"):
        job.put(job.folder / "other" / name, job.bright(9))
    return job


def older(job):
    return json.loads((job.out / "predictions.json").read_text()).get("older_masks")


def noted(capsys):
    return [line.rpartition(": ")[2] for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]


def test_they_are_named_and_stay_named(twice, capsys):
    assert noted(capsys) == [] and older(twice) is None
    assert twice.run(source=twice.folder / "other") == 0
    assert noted(capsys) == ["0.png, 2.png, 4.png"]
    assert older(twice) == ["0.png", "2.png", "4.png"]
    assert [row["input"] for row in twice.table()] == ["1.png", "3.png", "new.png"]
    assert (read_image(twice.out / "1.png") > 0).sum() == 9 * 17
    (twice.out / "2.png").unlink()
    for _ in range(2):
        assert twice.run(source=twice.folder / "other") == 0
        assert noted(capsys) == ["0.png, 4.png"] and older(twice) == ["0.png", "4.png"]
    # The first input makes its own anew, and the second one's is old then.
    assert twice.run() == 0
    assert noted(capsys) == ["new.png"] and older(twice) == ["new.png"]


def test_many_are_counted(job, capsys):
    for n in range(9):
        job.put(f"{n}.png", job.bright(n))
    assert job.run() == 0
    job.put(job.folder / "other/0.png", job.bright(9))
    assert job.run(source=job.folder / "other") == 0
    assert noted(capsys) == ["1.png, 2.png, 3.png and 5 more"]


def test_those_not_reached_before_an_end_are_old(twice, fake, capsys):
    with fake.interrupted(2):
        assert twice.run("--batch-size", "1") == 1
    assert noted(capsys) == ["2.png, 3.png, 4.png"]
    # Going on makes them.
    assert twice.run("--skip-existing") == 0
    assert noted(capsys) == [] and older(twice) is None


def test_those_that_are_kept_are_not_old(twice, capsys):
    assert twice.run("--skip-existing", source=twice.source / "4.png") == 0
    assert noted(capsys) == [] and len(twice.table()) == 5


def test_those_of_other_parts_are_not_old(job, capsys):
    for n in range(5):
        job.put(f"{n}.png", job.bright(n))
    for _ in range(2):
        for part in range(2):
            assert job.run("--num-parts", "2", "--part-id", str(part)) == 0
    assert noted(capsys) == []
    # An image more, and each part has others than before.
    job.put("0a.png", job.bright(1))
    for part in range(2):
        assert job.run("--num-parts", "2", "--part-id", str(part)) == 0
    assert noted(capsys) == []


@pytest.mark.parametrize("content", ["[3]", '{"older_masks": 3}', '{"older_masks": [3, "nothing.png"]}', "{"])
def test_a_damaged_json_names_none(twice, capsys, content):
    (twice.out / "predictions.csv").unlink()
    (twice.out / ".predictions.csv.part").write_text("input\n")
    (twice.out / "predictions.json").write_text(content)
    assert twice.run() == 0
    assert noted(capsys) == [] and older(twice) is None
