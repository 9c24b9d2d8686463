"""Comparing two evaluated runs from the command line."""

import json

import pytest

from tests.helpers.commands import loaded_by
from tests.helpers.scores import summed_up
from unet_jax import compare
from unet_jax.config import UserError
from unet_jax.scoring.components import Detection
from unet_jax.scoring.metrics import Counts
from unet_jax.scoring.slices import SliceScore, slice_rows
from unet_jax.scoring.surface import SurfaceScore
from unet_jax.shared.files import write_csv, write_json

TUMORS = ("meningioma", "glioma", "pituitary")


def scores(better=0, slices=range(1, 25)):
    """Three slices each of eight patients; `better` more pixels of each tumour found."""
    result = []
    for number in slices:
        found = 40 + number + better
        counts = Counts(found, 10, 100 - found, 200)
        surface = SurfaceScore(20.0 - better - number / 10, 5.0 - better, 0.5 + better / 100)
        patient = (number - 1) // 3
        tumor = TUMORS[patient % 2]
        result.append(SliceScore(number, f"p{patient}", tumor, counts, counts, surface, surface, Detection(1, 1, 1, 0)))
    return result


def evaluated(folder, scores, split="test", **settings):
    out = folder / "eval" / split
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "slices.csv", slice_rows(scores))
    write_json(out / "summary.json", summed_up(scores, split=split, resamples=9, **settings))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return evaluated(folder / "a", scores()), evaluated(folder / "b", scores(better=2), threshold=0.35)


def run(*argv):
    return compare.main([str(a) for a in argv])


def test_two_runs(runs, tmp_path, capsys):
    a, b = runs
    assert run(a, b, "--json", tmp_path / "new" / "ab.json") == 0
    result = json.loads((tmp_path / "new" / "ab.json").read_text())
    assert (result["a"], result["b"], result["split"], result["resolution"]) == (str(a), str(b), "test", "native")
    assert (result["n_slices"], result["n_patients"]) == (24, 8)
    assert (result["threshold_a"], result["threshold_b"]) == (0.45, 0.35)
    sensitivity, hd95 = result["measures"]["sensitivity"], result["measures"]["hd95"]
    # Two pixels of a hundred more, everywhere: nothing varies, and 2 of the 2**8 signs are as extreme.
    assert sensitivity["difference"] == pytest.approx(0.02)
    assert sensitivity["ci95"] == pytest.approx([0.02, 0.02])
    assert sensitivity["p_patients"] == pytest.approx(2 / 2**8)
    assert sensitivity["p_slices"] < 1e-4
    assert (sensitivity["wins"], sensitivity["ties"], sensitivity["losses"]) == (24, 0, 0)
    assert (hd95["difference"], hd95["wins"]) == (pytest.approx(-2), 24)
    assert {name: group["n_slices"] for name, group in result["by_tumor"].items()} == {"meningioma": 12, "glioma": 12}

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"A: {a}" and lines[1] == f"B: {b}"
    assert lines[2] == (
        "test: 24 slices of 8 patients, native resolution, mask rule area; distances in px, NSD within 2 px"
    )
    first = [line.split()[0] for line in lines[4:13]]
    assert first == ["dice", "meningioma", "glioma", "iou", "hd95", "assd", "nsd", "precision", "sensitivity"]
    assert lines[12].split()[:7] == ["sensitivity", "0.5250", "0.5450", "+0.0200", "+0.0200", "to", "+0.0200"]
    assert lines[12].split()[7:] == ["0.0078", "<0.0001", "24/0/0"]
    assert lines[-1] == f"Written: {tmp_path / 'new' / 'ab.json'}"


def test_the_other_resolution_and_the_other_split(runs, tmp_path):
    a, b = runs
    evaluated(a, scores(better=1), split="oof")
    evaluated(b, scores(), split="oof")
    run(a, b, "--split", "oof", "--resolution", "network", "--json", tmp_path / "c.json")
    result = json.loads((tmp_path / "c.json").read_text())
    assert (result["split"], result["resolution"]) == ("oof", "network")
    assert result["measures"]["sensitivity"]["difference"] == pytest.approx(-0.01)


def test_folders_of_evaluations_serve_as_well_as_runs(runs, tmp_path):
    a, b = runs
    run(a / "eval" / "test", b, "--json", tmp_path / "c.json")
    result = json.loads((tmp_path / "c.json").read_text())
    assert result["measures"]["sensitivity"]["wins"] == 24


def test_a_run_against_itself(runs, capsys):
    a, _ = runs
    assert run(a, a) == 0
    assert "0/24/0" in capsys.readouterr().out


def test_what_cannot_be_compared_is_one_line(runs, tmp_path):
    a, b = runs
    nothing = tmp_path / "c"
    with pytest.raises(UserError, match=rf"{nothing} is not evaluated on test: there is no .*slices\.csv\. Run") as e:
        run(a, nothing)
    assert f"python -m unet_jax.eval --split test --workdir {nothing}" in str(e.value) and "\n" not in str(e.value)
    evaluated(a, scores(), split="train")
    with pytest.raises(UserError, match=r"first, or choose one that is there: --split .*test, train\."):
        run(a, b, "--split", "val")
    with pytest.raises(UserError, match=r"python -m unet_jax\.crossval --workdir"):
        run(a, nothing, "--split", "oof")
    with pytest.raises(UserError, match=r"mask_rule area and .* any"):
        run(a, evaluated(tmp_path / "any", scores(), mask_rule="any"))
    with pytest.raises(UserError, match="4 only in the first, 2 only in the second, 20 in both"):
        run(a, evaluated(tmp_path / "others", scores(slices=range(5, 27))))


@pytest.mark.parametrize(
    ("name", "content"), [("summary.json", b"{"), ("summary.json", b"[1]"), ("slices.csv", b"slice\xff\n")]
)
def test_damaged_files_are_one_line(runs, tmp_path, name, content):
    broken = evaluated(tmp_path / "broken", scores())
    (broken / "eval" / "test" / name).write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged; expected the files that an evaluation writes\. Run .* again"):
        run(runs[0], broken)


def test_both_files_are_needed(runs, tmp_path):
    broken = evaluated(tmp_path / "broken", scores())
    (broken / "eval" / "test" / "summary.json").unlink()
    with pytest.raises(UserError, match=r"there is no .*summary\.json"):
        run(runs[0], broken)


def test_it_needs_no_jax(runs):
    _, loaded = loaded_by("from unet_jax import compare; sys.exit(compare.main(sys.argv[1:]))", *runs)
    assert not {"jax", "flax", "matplotlib"} & loaded
