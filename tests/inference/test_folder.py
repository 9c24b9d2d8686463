"""From a folder of images to one of masks: what is written, what is refused, what an end before its time leaves."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet_jax.config import UserError
from unet_jax.imaging import read
from unet_jax.imaging import write as writing
from unet_jax.imaging.read import read_image
from unet_jax.inference import folder as prediction
from unet_jax.shared import cli

pytestmark = pytest.mark.usefixtures("fake")


class TestFolder:
    def test_subfolders_are_mirrored_at_every_size(self, tmp_path, job, capsys):
        images = {"a.png": job.bright(3), "p1/b.npy": job.bright(0, 30, 16), "p1/deep/c.bmp": job.bright(5, 16, 40)}
        for name, image in images.items():
            job.put(name, image)
        assert job.run() == 0
        assert job.files() == ["a.png", "p1/b.png", "p1/deep/c.png", "predictions.csv"]
        for name, image in images.items():
            name = Path(name).with_suffix(".png")
            np.testing.assert_array_equal(read_image(tmp_path / "out" / name), np.where(image > 200, 255, 0))
        shown = capsys.readouterr().out
        assert "3 of 3 images predicted, 2 with tumour; threshold 0.5 (chosen on validation), checkpoint of step 7" in (
            shown
        )
        assert str(tmp_path / "out") in shown

    def test_probabilities_and_overlays(self, tmp_path, job):
        job.put("a.png", job.bright(4))
        assert job.run("--probabilities", "--overlays") == 0
        assert job.files() == ["a.overlay.png", "a.png", "a.probs.npy", "predictions.csv"]
        probs = np.load(tmp_path / "out/a.probs.npy")
        assert probs.dtype == np.float16
        np.testing.assert_allclose(probs, job.bright(4) / 255, atol=5e-4)
        overlay = np.asarray(Image.open(tmp_path / "out/a.overlay.png"))
        assert overlay.shape == (20, 17, 3)
        assert (overlay[0] == (230, 159, 0)).all() and (overlay[4:] == 0).all()  # 51 is the 1st percentile: black

    def test_twice_gives_the_same_bytes(self, tmp_path, job):
        for i in range(9):
            job.put(f"{i}.png", job.bright(i))
        for out in ("out1", "out2", "out1"):
            assert job.run("--probabilities", "--overlays", out=tmp_path / out) == 0
        assert job.files(tmp_path / "out1") == job.files(tmp_path / "out2")
        for name in job.files(tmp_path / "out1"):
            assert (tmp_path / "out1" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()

    @pytest.mark.parametrize("bad", [{0}, {1, 2, 3}, {9}, {0, 4, 9}, set(range(10))])
    @pytest.mark.parametrize("batch_size", [1, 3, 16])
    def test_bad_files_anywhere_do_not_shift_the_others(self, tmp_path, job, capsys, bad, batch_size):
        for i in range(10):
            if i in bad:
                (tmp_path / "in").mkdir(exist_ok=True)
                (tmp_path / f"in/{i}.png").write_text("no picture")
            else:
                job.put(f"{i}.png", job.bright(i))
        assert job.run("--batch-size", str(batch_size)) == cli.EXIT_USAGE
        rows = job.table()
        assert [row["input"] for row in rows] == [f"{i}.png" for i in range(10)]
        assert {i for i in range(10) if rows[i]["status"] == "failed"} == bad
        assert [row["tumor_pixels"] for row in rows] == ["" if i in bad else str(17 * i) for i in range(10)]
        assert job.files() == [f"{i}.png" for i in range(10) if i not in bad] + ["predictions.csv"]
        errors = capsys.readouterr().err
        assert f"{len(bad)} of 10 images failed:" in errors
        assert all((f"{i}.png: is no PNG" in errors) == (i in bad) for i in range(10))

    def test_one_file(self, tmp_path, job):
        job.put("a.png", job.bright(2))
        job.put("b.png", job.bright(2))
        assert job.run(source=tmp_path / "in/a.png", out=tmp_path / "in/new/out") == 0
        assert job.files(tmp_path / "in/new/out") == ["a.png", "predictions.csv"]

    def test_options_reach_the_predictor(self, tmp_path, job, fake, capsys):
        fake.threshold_note = "none was chosen on validation"
        job.put("a.png", job.bright(2))
        job.run()
        assert "threshold 0.5 (none was chosen on validation)" in capsys.readouterr().out
        assert fake.opened == ((Path("runs/a"),), "best", None)
        fake.threshold_note = None
        more = ["--threshold", "0.1", "--checkpoint", "12", "--tta", "--postprocess"]
        assert job.run("--workdir", "runs/b", "runs/c", *more) == 0
        assert fake.opened == ((Path("runs/b"), Path("runs/c")), "12", 0.1)
        given = {"model": None, "tta": True, "postprocess": True, "uncertainty": False, "dropout_samples": 16}
        given |= {"onednn": False, "keep_programs": True}  # for one image
        assert fake.given == given
        assert job.table()[0]["tumor_pixels"] == "340"
        assert "threshold 0.1 (given by --threshold)" in capsys.readouterr().out

    def test_warnings_are_in_the_table_and_told_once(self, tmp_path, job, capsys):
        for i in range(3):
            job.put(f"{i}.png", job.bright(2) if i == 1 else np.full((16, 16), 9, np.uint8))
        assert job.run() == 0
        constant = "has the same value everywhere (9)"
        assert [row["reason"] for row in job.table()] == [f"{constant}; dark", "", f"{constant}; dark"]
        errors = capsys.readouterr().err
        assert f"warning: 0.png: {constant}; dark\n" in errors and "likewise 1 more" in errors and "2.png" not in errors

    def test_names_that_are_not_utf_8(self, tmp_path, job):
        (tmp_path / "in").mkdir()
        name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
        job.put("a.png", job.bright(2)).rename(tmp_path / "in" / name)
        assert job.run() == 0
        assert (tmp_path / "out" / name).exists()
        assert b"\ncaf\xe9.png,caf\xe9.png,ok," in (tmp_path / "out/predictions.csv").read_bytes()

    @pytest.mark.parametrize(
        ("suffix", "n", "depth", "least", "most"),
        [(".npy", 120, 1, 5, 4 + prediction.AHEAD + 1), (".nii", 9, 12, 1, 3)],
    )
    def test_reading_is_ahead_by_a_bounded_number(self, job, fake, monkeypatch, suffix, n, depth, least, most):
        picture = job.bright(1, 16, 16)
        for i in range(n):
            job.put(f"{i:03}{suffix}", picture if depth == 1 else np.stack([picture] * depth, axis=-1))
        opened, ahead, plain, original = [], [], fake.stream, read.open

        def counting(*given):
            opened.append(given)  # from several threads
            return original(*given)

        def stream(self, images, batch_size):
            for given, probs in enumerate(plain(self, images, batch_size)):
                ahead.append(len(opened) - given // depth)
                yield probs

        monkeypatch.setattr(read, "open", counting)
        monkeypatch.setattr(fake, "stream", stream)
        assert job.run("--batch-size", "4") == 0
        assert len(opened) == n
        assert least <= max(ahead) <= most


class TestRefused:
    """Before any work: the network is not opened and nothing is written."""

    @pytest.fixture(autouse=True)
    def untouched(self, tmp_path, job, fake):
        yield
        assert fake.opened is None
        assert not [p for p in tmp_path.rglob("predictions.csv") if p.is_file()]
        assert not list(tmp_path.rglob("*.part"))

    @pytest.mark.parametrize(
        ("names", "more", "named"),
        [
            (["a.png", "a.jpg"], [], ["a.jpg", "a.png"]),
            (["p/a.png", "p/a.tif", "q/a.png"], [], ["p/a.png", "p/a.tif"]),
            (["a.png", "A.jpg"], [], ["A.jpg", "a.png"]),
            (["a.png", "a.overlay.npy"], ["--overlays"], ["a.png", "a.overlay.npy"]),
            (["a.png/b.png", "a.jpg"], [], ["a.png/b.png", "a.jpg"]),
            (["predictions.csv/b.png"], [], ["predictions.csv/b.png"]),
        ],
    )
    def test_two_images_for_one_file(self, tmp_path, job, names, more, named):
        for name in names:
            job.put(name, job.bright(1))
        with pytest.raises(UserError) as e:
            job.run(*more)
        assert all(str(tmp_path / "in" / name) in str(e.value) for name in named)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("out", ["in", "in/out", "in/p/deep", "link"])
    def test_output_in_the_input_folder(self, tmp_path, job, out):
        job.put("p/a.png", job.bright(1))
        (tmp_path / "link").symlink_to(tmp_path / "in")
        with pytest.raises(UserError, match="lies in the folder of the input"):
            job.run(out=tmp_path / out)
        assert job.files(tmp_path / "in") == ["p/a.png"]

    @pytest.mark.parametrize("name", ["a.png", "a.jpg"])
    def test_output_in_the_folder_of_the_one_file(self, tmp_path, job, name):
        job.put(tmp_path / name, job.bright(1))
        with pytest.raises(UserError, match="folder of the input"):
            job.run(source=tmp_path / name, out=tmp_path)

    def test_input_in_the_output_folder_that_would_be_overwritten(self, tmp_path, job):
        job.put("in/a.png", job.bright(1))
        job.put("a.png", job.bright(2))
        before = {name: (tmp_path / name).read_bytes() for name in job.files(tmp_path)}
        with pytest.raises(UserError, match="would overwrite") as e:
            job.run(out=tmp_path)
        assert str(tmp_path / "in/a.png") in str(e.value) and str(tmp_path / "in/in/a.png") in str(e.value)
        assert before == {name: (tmp_path / name).read_bytes() for name in job.files(tmp_path)}

    def test_somebody_else_s_file(self, tmp_path, job):
        job.put("p/a.png", job.bright(1))
        other = job.put(tmp_path / "out/p/a.png", job.bright(7))
        before = other.read_bytes()
        with pytest.raises(UserError, match=r"out/p/a\.png exists"):
            job.run()
        assert other.read_bytes() == before

    def test_output_is_a_file_and_input_is_nothing(self, tmp_path, job):
        with pytest.raises(UserError, match="does not exist"):
            job.run()
        job.put("a.png", job.bright(1))
        (tmp_path / "out").write_text("")
        with pytest.raises(UserError, match="is a file"):
            job.run()


class TestAllowed:
    def test_overlay_name_without_overlays_and_other_files_in_the_output_folder(self, tmp_path, job):
        job.put("a.png", job.bright(1))
        job.put("a.overlay.png", job.bright(1))
        job.put(tmp_path / "out/b.png", job.bright(1))
        assert job.run() == 0
        assert job.files() == ["a.overlay.png", "a.png", "b.png", "predictions.csv"]

    def test_input_below_the_output(self, tmp_path, job):
        job.put("a.png", job.bright(1))
        assert job.run(out=tmp_path) == 0
        assert job.files(tmp_path) == ["a.png", "in/a.png", "predictions.csv"]

    def test_what_a_killed_run_left(self, tmp_path, job):
        job.put("a.png", job.bright(1))
        job.put(tmp_path / "out/a.png", job.bright(7))
        (tmp_path / "out/.predictions.csv.part").write_text("input")
        assert job.run() == 0
        assert job.files() == ["a.png", "predictions.csv"]


class TestBroken:
    def test_bad_workdir_leaves_nothing(self, tmp_path, job, fake, monkeypatch):
        def no_run(*_, **__):
            raise UserError("runs/a does not exist")

        monkeypatch.setattr(fake, "open", no_run)
        job.put("a.png", job.bright(1))
        with pytest.raises(UserError, match="runs/a"):
            job.run()
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("after", [1, 5])
    def test_interrupted_run_keeps_what_was_done(self, job, fake, capsys, after):
        for i in range(9):
            job.put(f"{i}.png", job.bright(i))
        with fake.interrupted(after):
            assert job.run("--batch-size", "2") == cli.EXIT_FAILURE
        assert [row["input"] for row in job.table()] == [f"{i}.png" for i in range(after)]
        assert job.files() == [f"{i}.png" for i in range(after)] + ["predictions.csv"]
        assert f"lists the {after} of 9 images done" in capsys.readouterr().err

    def test_failure_before_the_first_image_keeps_the_old_table(self, tmp_path, job, fake):
        job.put("a.png", job.bright(1))
        assert job.run() == 0
        before = (tmp_path / "out/predictions.csv").read_bytes()
        with fake.interrupted(0), pytest.raises(KeyboardInterrupt):
            job.run()
        assert job.files() == ["a.png", "predictions.csv"]
        assert (tmp_path / "out/predictions.csv").read_bytes() == before

    def test_full_disk_stops_with_a_table_of_what_was_done(self, tmp_path, job, monkeypatch):
        def full(path, mask):
            if path.name == "3.png":
                raise OSError(28, "No space left on device")
            write_mask(path, mask)

        write_mask = writing.write_mask
        monkeypatch.setattr(writing, "write_mask", full)
        for i in range(6):
            job.put(f"{i}.png", job.bright(i))
        with pytest.raises(OSError, match="No space"):
            job.run("--batch-size", "1")
        assert [row["input"] for row in job.table()] == ["0.png", "1.png", "2.png", "4.png", "5.png"]
        assert not list((tmp_path / "out").glob(".*"))
