"""Predictions in several goes: with --skip-existing after an end before its time, and in parts."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import prediction
from tests.helpers.folders import contents
from unet_jax.config import UserError
from unet_jax.imaging.read import read_image

pytestmark = pytest.mark.usefixtures("fake")

SIX = [f"{i}.png" for i in range(6)]


@pytest.fixture
def six(job):
    """Six images, of which the i-th has i rows of tumour."""
    for i, name in enumerate(SIX):
        job.put(name, job.bright(i))
    return job


@pytest.fixture
def done(six):
    """The same, predicted."""
    assert six.run() == 0
    return six


@pytest.fixture
def predicted(six, fake, monkeypatch):
    """Function that predicts and gives what went through the network, one number an image: its rows of tumour."""

    def run(*more):
        numbers = []
        monkeypatch.setattr(fake, "note", lambda self, image: numbers.append(int((image[:, 0] == 204).sum())))
        assert six.run(*more) == 0
        return numbers

    return run


class TestSkipExisting:
    def test_nothing_there_is_nothing_skipped_and_all_there_is_all_skipped(self, six, predicted, capsys):
        assert predicted("--skip-existing") == [0, 1, 2, 3, 4, 5]
        assert "6 of 6 images predicted, 0 files skipped as done before, 5 with tumour" in capsys.readouterr().out
        before = contents(six.out)
        assert predicted("--skip-existing") == [] and contents(six.out) == before
        assert "6 of 6 images predicted, 6 files skipped as done before, 5 with tumour" in capsys.readouterr().out

    def test_new_lost_and_wanted_files_are_made(self, six, predicted):
        assert six.run("--probabilities") == 0
        before = contents(six.out)
        (six.out / "1.png").unlink()
        (six.out / "3.probs.npy").unlink()
        six.put("2b.png", six.bright(7))
        assert predicted("--skip-existing", "--probabilities") == [1, 7, 3]
        assert [row["input"] for row in six.table()] == ["0.png", "1.png", "2.png", "2b.png", "3.png", "4.png", "5.png"]
        assert [row["tumor_pixels"] for row in six.table()] == [str(17 * n) for n in (0, 1, 2, 7, 3, 4, 5)]
        after = contents(six.out)
        del before["predictions.csv"]
        assert {name: after[name] for name in before} == before
        assert predicted("--skip-existing", "--overlays") == [0, 1, 2, 7, 3, 4, 5]

    def test_failed_images_are_tried_again(self, six, predicted):
        (six.source / "2.png").write_text("no picture")
        assert six.run() == 2
        six.put("2.png", six.bright(2))
        assert predicted("--skip-existing") == [2]
        assert [row["status"] for row in six.table()] == ["ok"] * 6

    def test_a_mask_without_a_row_is_made_again(self, done, predicted):
        before = contents(done.out)
        lines = before["predictions.csv"].splitlines(keepends=True)
        (done.out / "predictions.csv").write_bytes(b"".join(lines[:3] + lines[4:]))
        assert predicted("--skip-existing") == [2] and contents(done.out) == before

    @pytest.mark.parametrize("torn", [b"", b"4.png,4.pn", b'4.png,4.png,ok,20,17,0.5,68,0.2,0.8,"'])
    def test_rows_of_a_killed_process_are_found(self, done, predicted, torn):
        before = contents(done.out)
        # As a process leaves it that is killed after its fourth row: masks beyond it, and no table.
        lines = before["predictions.csv"].splitlines(keepends=True)
        (done.out / "predictions.csv").unlink()
        (done.out / ".predictions.csv.part").write_bytes(b"".join(lines[:5]) + torn)
        (done.out / "5.png").unlink()
        # The last row of the killed process might have been half of a volume's.
        assert predicted("--skip-existing") == [3, 4, 5]
        assert contents(done.out) == before

    def test_two_killed_runs_one_after_the_other(self, done, predicted, fake):
        before = contents(done.out)
        lines = before["predictions.csv"].splitlines(keepends=True)
        (done.out / "predictions.csv").write_bytes(lines[0] + b"".join(lines[5:]))
        (done.out / ".predictions.csv.part").write_bytes(b"".join(lines[:4]))
        with fake.interrupted(0), pytest.raises(KeyboardInterrupt):
            done.run("--skip-existing")
        assert predicted("--skip-existing") == [2, 3] and contents(done.out) == before

    def test_interrupted_while_it_skips_keeps_later_rows(self, done, predicted, fake):
        before = contents(done.out)
        (done.out / "1.png").unlink()
        (done.out / "3.png").unlink()
        with fake.interrupted(1):
            assert done.run("--skip-existing") == 1
        assert [row["input"] for row in done.table()] == ["0.png", "1.png", "2.png", "4.png", "5.png"]
        assert predicted("--skip-existing") == [3] and contents(done.out) == before

    def test_one_file_of_the_folder_keeps_the_rows_of_the_others(self, done, predicted):
        done.put("7.png", done.bright(7))
        assert done.run("--skip-existing", source=done.source / "7.png") == 0
        assert [row["input"] for row in done.table()] == ["7.png", *SIX]

    @pytest.mark.parametrize(
        ("more", "named"),
        [
            (["--threshold", "0.4"], "with threshold 0.5 instead of 0.4"),
            (["--spacing", "2"], "with spacing None instead of 2.0"),
        ],
    )
    def test_other_options_are_refused(self, done, more, named):
        before = contents(done.out)
        with pytest.raises(UserError, match=named) as e:
            done.run("--skip-existing", *more)
        assert "without --skip-existing" in str(e.value) and "\n" not in str(e.value)
        assert contents(done.out) == before
        assert done.run(*more) == 0

    def test_other_networks_and_inputs_are_refused(self, done, fake, monkeypatch):
        done.put(done.folder / "other/3.png", done.bright(9))
        with pytest.raises(UserError, match=r"with input .*/in instead of .*/other"):
            done.run("--skip-existing", source=done.folder / "other")
        monkeypatch.setattr(fake, "describe", lambda self: {"networks": [8], "threshold": 0.5})
        with pytest.raises(UserError, match="with other networks"):
            done.run("--skip-existing")

    def test_passes_with_dropout_decide_about_the_uncertainty_alone(self, done, predicted):
        assert predicted("--skip-existing", "--uncertainty", "--dropout-samples", "8") == [0, 1, 2, 3, 4, 5]
        assert predicted("--skip-existing") == []
        with pytest.raises(UserError, match="with dropout_samples 8 instead of 9"):
            done.run("--skip-existing", "--uncertainty", "--dropout-samples", "9")

    def test_the_library_stays_and_another_one_is_refused(self, six, predicted, fake, monkeypatch):
        """As on a machine that lacks it."""
        monkeypatch.setattr("unet_jax.inference.folder.MANY", 6)
        described = {"networks": [7], "threshold": 0.5, "library": "oneDNN", "precision": "bfloat16"}
        monkeypatch.setattr(fake, "describe", lambda self: described)
        assert six.run() == 0 and fake.given["onednn"]
        six.put("7.png", six.bright(7))
        assert six.run("--skip-existing", source=six.source / "7.png") == 0 and fake.given["onednn"]
        before = contents(six.out)
        other = described | {"library": "Eigen", "precision": "float32"}
        monkeypatch.setattr(fake, "describe", lambda self: other)
        named = r"with library oneDNN instead of Eigen and precision bfloat16 instead of float32\. Use"
        with pytest.raises(UserError, match=named) as e:
            six.run("--skip-existing")
        assert "\n" not in str(e.value) and contents(six.out) == before
        assert len(predicted()) == 7

    def test_a_table_that_does_not_say_how_it_was_made(self, done):
        (done.out / "predictions.json").unlink()
        with pytest.raises(UserError, match=r"no predictions\.json beside it"):
            done.run("--skip-existing")

    def test_a_killed_run_with_other_options_leaves_no_rows_of_the_old_ones(self, done, predicted, fake):
        with fake.interrupted(2):
            assert done.run("--threshold", "0.1") == 1
        with pytest.raises(UserError, match=r"with threshold 0\.1 instead of 0\.5"):
            done.run("--skip-existing")
        assert predicted("--threshold", "0.1", "--skip-existing") == [2, 3, 4, 5]
        assert all((read_image(done.out / name) == 255).all() for name in SIX)


class TestAtOnce:
    REFUSED = (
        r"out/predictions\.csv is being made by another prediction\. Wait for it to end, give another --output, or "
        r"share the images among processes by --num-parts and --part-id\.$"
    )

    @pytest.mark.parametrize("more", [(), ("--skip-existing",), ("--threshold", "0.1")])
    def test_a_second_prediction_into_a_folder_is_refused_before_any_work(self, six, fake, monkeypatch, more):
        seen = []

        def note(self, image):
            seen.append(image)
            if len(seen) == 3:
                before = (six.out / ".predictions.csv.part").read_bytes()
                with pytest.raises(UserError, match=TestAtOnce.REFUSED) as e:
                    six.run(*more)
                assert "\n" not in str(e.value)
                assert (six.out / ".predictions.csv.part").read_bytes() == before

        monkeypatch.setattr(fake, "note", note)
        assert six.run("--batch-size", "1") == 0
        assert len(seen) == 6 and [row["input"] for row in six.table()] == SIX
        assert six.files() == [*SIX, "predictions.csv"]
        # It is free again.
        assert six.run(*more) == 0

    def test_another_part_is_not_and_the_same_is(self, six, fake, monkeypatch):
        seen = []

        def note(self, image):
            seen.append(image)
            if len(seen) == 1:
                assert six.run("--num-parts", "2", "--part-id", "1") == 0
                with pytest.raises(UserError, match=r"predictions\.0-of-2\.csv is being made by another prediction"):
                    six.run("--num-parts", "2")

        monkeypatch.setattr(fake, "note", note)
        assert six.run("--num-parts", "2", "--batch-size", "1") == 0
        rows = [row["input"] for k in range(2) for row in six.table(f"predictions.{k}-of-2.csv")]
        assert len(seen) == 6 and sorted(rows) == SIX

    def test_a_killed_one_leaves_the_folder_free(self, six, predicted):
        code = (
            "import os, runpy, signal, sys, unet_jax.runs.load as p\n"
            "fake, seen = runpy.run_path(sys.argv.pop(1))['FakePredictor'], []\n"
            "def note(self, image):\n"
            "    seen.append(image)\n"
            "    if len(seen) == 5:\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "fake.note, p.load = note, fake.open\n"
            "from unet_jax.predict import main\n"
            "main()"
        )
        folders = ["--workdir", "w", "--input", str(six.source), "--output", str(six.out), "--batch-size", "1"]
        done = subprocess.run([sys.executable, "-c", code, prediction.__file__, *folders], timeout=120)
        assert done.returncode == -signal.SIGKILL and (six.out / ".predictions.csv.lock").exists()
        assert predicted("--skip-existing")[-2:] == [4, 5]
        assert [row["input"] for row in six.table()] == SIX
        assert [path.name for path in six.out.glob(".predictions*")] == []


class TestParts:
    def part(self, job, k, n, *more):
        return job.run("--num-parts", str(n), "--part-id", str(k), *more)

    def test_images_are_dealt_in_turn_and_no_two_parts_share_a_file(self, six):
        for k in range(4):
            assert self.part(six, k, 4) == 0
        for k, names in enumerate([["0.png", "4.png"], ["1.png", "5.png"], ["2.png"], ["3.png"]]):
            assert [row["input"] for row in six.table(f"predictions.{k}-of-4.csv")] == names
        tables = [f"predictions.{k}-of-4.{kind}" for k in range(4) for kind in ("csv", "json")]
        assert six.files() == [*SIX, *tables]
        masks = {name: content for name, content in contents(six.out).items() if name in SIX}
        assert six.run(out=six.folder / "whole") == 0
        assert masks == {name: (six.folder / "whole" / name).read_bytes() for name in SIX}

    def test_more_parts_than_images(self, six):
        assert self.part(six, 6, 7) == 0
        assert six.table("predictions.6-of-7.csv") == []

    def test_rows_of_any_part_count_for_the_whole(self, six, predicted):
        assert self.part(six, 1, 2) == 0
        assert predicted("--skip-existing") == [0, 2, 4]
        assert [row["input"] for row in six.table()] == SIX

    def test_a_part_with_other_options_is_refused(self, six):
        assert self.part(six, 0, 2) == 0
        before = contents(six.out)
        with pytest.raises(UserError, match=r"predictions\.0-of-2\.csv was made with threshold 0\.5 instead of 0\.3"):
            self.part(six, 1, 2, "--threshold", "0.3")
        assert contents(six.out) == before

    def test_a_part_on_another_kind_of_machine_goes_on_and_says_so(self, six, fake, monkeypatch, capsys):
        described = {"networks": [7], "threshold": 0.5, "library": "oneDNN", "precision": "float32"}
        monkeypatch.setattr(fake, "describe", lambda self: described)
        assert self.part(six, 0, 3) == self.part(six, 1, 3) == 0
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(fake, "describe", lambda self: described | {"library": "Eigen"})
        assert self.part(six, 2, 3) == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("note: ") and "1-of-3.csv was made with library oneDNN instead of Eigen;" in line
        made = [json.loads((six.out / f"predictions.{k}-of-3.json").read_text()) for k in range(3)]
        assert [one["library"] for one in made] == ["oneDNN", "oneDNN", "Eigen"]
        with pytest.raises(UserError, match=r"with threshold 0\.5 instead of 0\.3"):
            monkeypatch.setattr(fake, "describe", lambda self: described | {"threshold": 0.3})
            self.part(six, 2, 3)

    def test_names_clash_in_whatever_part_they_are(self, six):
        six.put("5.bmp", six.bright(1))
        with pytest.raises(UserError, match=r"would both write"):
            self.part(six, 0, 2)

    def test_parts_at_the_same_time(self, six):
        for i in range(6, 60):
            six.put(f"{i}.png", six.bright(i % 20))
        code = (
            "import runpy, sys, unet_jax.runs.load as p\n"
            "space = runpy.run_path(sys.argv.pop(1))\n"
            "p.load = space['FakePredictor'].open\n"
            "from unet_jax.predict import main\n"
            "sys.exit(main())"
        )
        folders = ["--workdir", "w", "--input", str(six.source), "--output", str(six.out)]
        fakes = prediction.__file__
        processes = [
            subprocess.Popen([sys.executable, "-c", code, fakes, *folders, "--num-parts", "3", "--part-id", str(k)])
            for k in range(3)
        ]
        assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
        rows = [row for k in range(3) for row in six.table(f"predictions.{k}-of-3.csv")]
        assert sorted(int(row["input"].removesuffix(".png")) for row in rows) == list(range(60))
        for i in range(60):
            expected = np.where(six.bright(i if i < 6 else i % 20) == 204, 255, 0)
            np.testing.assert_array_equal(read_image(six.out / f"{i}.png"), expected)
        assert len({json.dumps(json.loads(p.read_text())) for p in six.out.glob("*.json")}) == 1
