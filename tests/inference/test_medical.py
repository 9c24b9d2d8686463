"""DICOM files and NIfTI volumes among the images of a prediction, with a predictor that takes brightness for it."""

import subprocess
import sys
import weakref
from importlib.util import find_spec

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.helpers.images import dicom_file, same
from tests.helpers.prediction import AFFINE
from unet_jax.config import UserError
from unet_jax.imaging import read
from unet_jax.inference import folder
from unet_jax.shared import cli

pytestmark = pytest.mark.usefixtures("fake")


def stack(job, *rows):
    """A volume along its last axis; slice i has rows[i] rows of tumour."""
    return np.stack([job.bright(n) for n in rows], axis=-1)


def written(job, name):
    image = nib.load(job.out / name)
    return np.asarray(image.dataobj)


class TestDicom:
    def test_its_spacing_gives_areas(self, job):
        dicom_file(job.source / "s/IM1", job.bright(3), PixelSpacing=[0.5, 0.25])
        dicom_file(job.source / "s/1.2.3", job.bright(2))
        job.put("a.png", job.bright(1))
        assert job.run("--spacing", "2") == 0
        assert job.files() == ["a.png", "predictions.csv", "s/1.2.3.png", "s/IM1.png"]
        rows = job.table()
        assert [row["input"] for row in rows] == ["a.png", "s/1.2.3", "s/IM1"]
        assert [row["output"] for row in rows] == ["a.png", "s/1.2.3.png", "s/IM1.png"]
        assert [(row["spacing_y"], row["spacing_x"]) for row in rows] == [("2", "2"), ("2", "2"), ("0.5", "0.25")]
        assert [row["tumor_mm2"] for row in rows] == ["68.00", "136.00", "6.38"]  # 17 * 4, 34 * 4, 51 / 8 = 6.375

    def test_a_bad_one_is_named(self, job, capsys):
        dicom_file(job.source / "a.dcm", job.bright(3), NumberOfFrames=2)
        job.put("b.png", job.bright(1))
        assert job.run() == cli.EXIT_USAGE
        assert "a.dcm: holds 340 bytes of pixels; its header says 680" in capsys.readouterr().err
        assert [row["status"] for row in job.table()] == ["failed", "ok"]


def frames(job, name, *rows, **changes):
    """A DICOM file of frames; frame i has rows[i] rows of tumour."""
    pixels = b"".join(job.bright(n).tobytes() for n in rows)
    return dicom_file(job.source / name, job.bright(0), NumberOfFrames=len(rows), PixelData=pixels, **changes)


class TestFrames:
    def test_of_many_files_few_are_held(self, job, monkeypatch):
        for i in range(12):
            frames(job, f"{i:02}.dcm", 1, 2, 3)
        held, most, open_file = weakref.WeakSet(), 0, read.open

        def watched(*args):
            nonlocal most
            slices = open_file(*args)
            held.add(slices)
            most = max(most, len(held))
            return slices

        monkeypatch.setattr(read, "open", watched)
        monkeypatch.setattr(folder, "AHEAD", 8)
        monkeypatch.setattr(folder, "THREADS", 4)
        assert job.run("--batch-size", "1") == 0
        assert len(job.table()) == 36 and most <= 5

    def test_a_mask_and_a_row_each(self, job, capsys):
        frames(job, "s/a.dcm", 3, 0, 5, PixelSpacing=[0.5, 0.25])
        frames(job, "s/b.dcm", 2)
        frames(job, "s/IM.0001", 1, 2)
        assert job.run("--overlays", "--probabilities", "--uncertainty", "--batch-size", "2") == 0
        names = ["s/a-0001", "s/a-0002", "s/a-0003", "s/b", "s/IM.0001-0001", "s/IM.0001-0002"]
        kinds = (".overlay.png", ".png", ".probs.npy", ".uncertainty.png")
        assert job.files() == sorted(["predictions.csv", *(name + kind for name in names for kind in kinds)])
        rows = job.table()
        assert [row["output"] for row in rows] == [f"{name}.png" for name in [*names[4:], *names[:4]]]
        assert [row["slice_index"] for row in rows] == ["0", "1", "0", "1", "2", ""]
        assert [row["tumor_pixels"] for row in rows] == ["17", "34", "51", "0", "85", "34"]
        assert [row["tumor_mm2"] for row in rows] == ["", "", "6.38", "0.00", "10.62", ""]
        for name, n in zip(names, (3, 0, 5, 2, 1, 2), strict=True):
            same(job.out / f"{name}.png", np.where(job.bright(n) > 200, 255, 0).astype(np.uint8))
            overlay = np.asarray(Image.open(job.out / f"{name}.overlay.png"))
            assert ((overlay == (230, 159, 0)).all(axis=-1).any()) == (n > 0)
        assert "3 of 3 images predicted, 6 slices, 5 slices with tumour" in capsys.readouterr().out

    def test_skip_existing_wants_the_masks_of_all(self, job, capsys):
        frames(job, "a.dcm", 3, 1)
        job.put("b.png", job.bright(1))
        assert job.run() == 0
        table = job.table()
        assert job.run("--skip-existing") == 0
        assert "2 files skipped" in capsys.readouterr().out
        (job.out / "a-0002.png").unlink()
        assert job.run("--skip-existing") == 0
        assert "1 files skipped" in capsys.readouterr().out
        assert job.table() == table and (job.out / "a-0002.png").exists()

    def test_a_name_that_another_image_has_costs_that_file_alone(self, job, capsys):
        frames(job, "a.dcm", 3, 1)
        job.put("A-0002.tif", job.bright(1))
        job.put("a-0003.png", job.bright(1))
        assert job.run() == cli.EXIT_USAGE
        assert "a.dcm: would write a-0002.png, as A-0002.tif would. Rename one" in capsys.readouterr().err
        assert job.files() == ["A-0002.png", "a-0003.png", "predictions.csv"]

    def test_somebody_else_s_file(self, job):
        frames(job, "a.dcm", 3, 1)
        job.out.mkdir()
        (job.out / "a-0001.png").touch()
        with pytest.raises(UserError, match=r"a-0001\.png exists, and with no predictions\.csv"):
            job.run()

    def test_warnings_of_each(self, job):
        frames(job, "a.dcm", 3, 1, PixelSpacing=[0, 1])
        assert job.run() == 0
        told = "has a PixelSpacing of 0.0\\1.0, which is no two lengths, and was not used"
        assert [row["reason"] for row in job.table()] == [told, told]

    def test_progress_counts_them(self, job, capsys):
        frames(job, "a.dcm", *[1] * 99)
        job.put("b.png", job.bright(1))
        assert job.run() == 0
        assert "predict: 100/100 slices" in capsys.readouterr().err


class TestFound:
    def put_all(self, job):
        job.put("a.png", job.bright(1))
        dicom_file(job.source / "IM.0001", job.bright(2))
        dicom_file(job.source / "P.MR.0003.0007.IMA", job.bright(3))
        report = "1.2.840.10008.5.1.4.1.1.88.11"
        dicom_file(job.source / "report.dcm", job.bright(1), SOPClassUID=report, PixelData=None)
        (job.source / "notes.txt").write_text("mine")

    def test_dicom_of_any_name_is_predicted_and_the_rest_counted(self, job, capsys):
        self.put_all(job)
        assert job.run() == 0
        assert job.files() == ["IM.0001.png", "P.MR.0003.0007.IMA.png", "a.png", "predictions.csv"]
        assert [row["tumor_pixels"] for row in job.table()] == ["34", "51", "17"]
        assert "left out as no image: 2 files (1 .txt, 1 DICOM without a picture)\n" in capsys.readouterr().out

    def test_strict_takes_nothing_but_images(self, job, fake, capsys):
        self.put_all(job)
        with pytest.raises(UserError, match=r"holds 2 files \(1 \.txt, 1 DICOM without a picture\) that are no image"):
            job.run("--strict")
        assert fake.opened is None and not job.out.exists()
        for name in ("report.dcm", "notes.txt"):
            (job.source / name).unlink()
        assert job.run("--strict") == 0
        assert "left out" not in capsys.readouterr().out


class TestVolume:
    @pytest.mark.parametrize("batch_size", ["1", "2", "16"])
    def test_one_mask_and_a_row_a_slice(self, job, batch_size, capsys):
        job.put("p/a.nii", stack(job, 3, 0, 5))
        job.put("b.png", job.bright(1))
        job.put("p/c.nii.gz", stack(job, 0, 4))
        assert job.run("--batch-size", batch_size) == 0
        assert job.files() == ["b.png", "p/a.nii.gz", "p/c.nii.gz", "predictions.csv"]
        for name, rows in (("a", (3, 0, 5)), ("c", (0, 4))):
            image = nib.load(job.out / f"p/{name}.nii.gz")
            assert image.shape == (20, 17, len(rows)) and image.get_data_dtype() == np.uint8
            np.testing.assert_array_equal(image.affine, AFFINE)
            np.testing.assert_array_equal(np.asarray(image.dataobj), stack(job, *rows) > 200)
        rows = [row for row in job.table() if row["input"] == "p/a.nii"]
        assert [row["input"] for row in job.table()] == ["b.png", *["p/a.nii"] * 3, *["p/c.nii.gz"] * 2]
        assert {row["output"] for row in rows} == {"p/a.nii.gz"}
        assert [row["slice_index"] for row in job.table()] == ["", "0", "1", "2", "0", "1"]
        assert [row["tumor_pixels"] for row in rows] == ["51", "0", "85"]
        # Half a millimetre from row to row, three halves from column to column.
        assert [(row["height"], row["width"], row["tumor_mm2"]) for row in rows] == [
            ("20", "17", "38.25"),
            ("20", "17", "0.00"),
            ("20", "17", "63.75"),
        ]
        assert "3 of 3 images predicted, 6 slices, 4 slices with tumour; " in capsys.readouterr().out

    @pytest.mark.parametrize(("axis", "order"), [(0, (2, 0, 1)), (1, (0, 2, 1)), (2, (0, 1, 2))])
    def test_axis(self, job, axis, order):
        values = np.transpose(stack(job, *range(16)), order)
        job.put("a.nii", values)
        assert job.run("--axis", str(axis), "--threshold", "0.6") == 0
        np.testing.assert_array_equal(written(job, "a.nii.gz"), values > 200)
        assert [row["bbox_height"] for row in job.table()] == ["", *map(str, range(1, 16))]

    def test_upright_for_the_network_and_back_as_stored(self, job, fake, monkeypatch):
        values = stack(job, 3, 0, 5)
        values[7, 11, 2] = 255
        job.put("a.nii", values)
        seen = []
        monkeypatch.setattr(fake, "note", lambda self, image: seen.append(image))
        assert job.run("--probabilities", "--overlays", "--uncertainty") == 0
        # The affine's axes run right, anterior and superior.
        np.testing.assert_array_equal(seen[2], values[::-1, ::-1, 2].T)
        np.testing.assert_array_equal(written(job, "a.nii.gz"), values > 200)
        np.testing.assert_allclose(written(job, "a.probs.nii.gz"), values / np.float32(255))
        np.testing.assert_allclose(written(job, "a.uncertainty.nii.gz"), values / np.float32(1020))
        row = job.table()[2]
        assert [row[f"bbox_{name}"] for name in ("x", "y", "width", "height")] == ["0", "0", "17", "8"]
        overlay = np.asarray(Image.open(job.out / "a.overlay/2.png"))
        assert overlay.shape == (17, 20, 3)
        assert (overlay[17 - 1 - 11, 20 - 1 - 7] == (230, 159, 0)).all()

    def test_everything_wanted(self, job):
        job.put("a.nii.gz", stack(job, *[2] * 12))
        assert job.run("--probabilities", "--overlays", "--uncertainty") == 0
        names = [f"a.overlay/{i:02}.png" for i in range(12)]
        assert job.files() == ["a.nii.gz", *names, "a.probs.nii.gz", "a.uncertainty.nii.gz", "predictions.csv"]
        for kind, part in (("probs", 1), ("uncertainty", 4)):
            image = nib.load(job.out / f"a.{kind}.nii.gz")
            assert image.get_data_dtype() == np.float32 and image.shape == (20, 17, 12)
            np.testing.assert_allclose(np.asarray(image.dataobj), stack(job, *[2] * 12) / np.float32(255 * part))

    def test_overlays_of_fewer_slices_leave_none_of_the_others(self, job):
        job.put("a.nii", stack(job, *[2] * 16))
        assert job.run("--overlays", "--axis", "0") == 0
        (job.out / "a.overlay/note.txt").write_text("mine")
        assert job.run("--overlays", "--axis", "2") == 0
        assert job.files() == [
            "a.nii.gz",
            *[f"a.overlay/{i:02}.png" for i in range(16)],
            "a.overlay/note.txt",
            "predictions.csv",
        ]

    def test_a_bad_one_among_others(self, job, capsys):
        job.put("a.nii", stack(job, 1, 2))
        job.put("b.nii", np.zeros((20, 17, 2, 3), np.uint8))
        job.put("c.nii", stack(job, 3))
        assert job.run("--batch-size", "2") == cli.EXIT_USAGE
        assert [(row["input"], row["status"]) for row in job.table()] == [
            ("a.nii", "ok"),
            ("a.nii", "ok"),
            ("b.nii", "failed"),
            ("c.nii", "ok"),
        ]
        assert "b.nii: has shape (20, 17, 2, 3); expected one volume" in capsys.readouterr().err

    def test_names_that_would_clash(self, job):
        job.put("a.nii", stack(job, 1))
        job.put("a.nii.gz", stack(job, 1))
        with pytest.raises(UserError, match="would both write"):
            job.run()
        (job.source / "a.nii.gz").unlink()
        job.put("a.png", job.bright(1))
        job.put("a.overlay/b.png", job.bright(1))
        assert job.run() == 0
        with pytest.raises(UserError, match="Rename the folder"):
            job.run("--overlays")

    def test_skip_existing(self, job, capsys):
        job.put("a.nii", stack(job, 1, 2, 3))
        job.put("b.nii", stack(job, 4, 5))
        assert job.run("--overlays") == 0
        before = {name: (job.out / name).read_bytes() for name in job.files()}
        # Killed amid the rows of b.nii.
        lines = before["predictions.csv"].splitlines(keepends=True)
        (job.out / "predictions.csv").unlink()
        (job.out / ".predictions.csv.part").write_bytes(b"".join(lines[:5]))
        assert job.run("--overlays", "--skip-existing") == 0
        said = "2 of 2 images predicted, 5 slices, 1 files skipped as done before, 5 slices with tumour; "
        assert said in capsys.readouterr().out
        assert before == {name: (job.out / name).read_bytes() for name in job.files()}
        with pytest.raises(UserError, match="with axis None instead of 2"):
            job.run("--skip-existing", "--axis", "2")

    def test_volumes_that_cannot_be_read_are_counted_as_images(self, job, capsys):
        job.put("a.nii", stack(job, 1, 0, 3))
        for name in ("b.nii", "c.png"):
            (job.source / name).write_bytes(b"nothing")
        assert job.run() == cli.EXIT_USAGE
        shown = capsys.readouterr()
        assert shown.out.startswith("1 of 3 images predicted, 3 slices, 2 slices with tumour; ")
        assert "error: 2 of 3 images failed:\n" in shown.err

    def test_a_volume_of_one_slice_is_an_image(self, job, capsys):
        job.put("a.nii", stack(job, 1))
        assert job.run() == 0
        assert capsys.readouterr().out.startswith("1 of 1 images predicted, 1 with tumour; ")

    def test_an_interruption_leaves_no_half_volume(self, job, fake, capsys):
        job.put("a.nii", stack(job, 1, 2))
        job.put("b.nii", stack(job, 3, 4, 5))
        with fake.interrupted(4):
            assert job.run("--batch-size", "1") == cli.EXIT_FAILURE
        assert "lists the 1 of 2 images done" in capsys.readouterr().err
        assert [row["input"] for row in job.table()] == ["a.nii", "a.nii"]
        assert job.files() == ["a.nii.gz", "predictions.csv"]

    def test_progress_counts_slices(self, job, capsys):
        job.put("a.nii", np.repeat(stack(job, 1), 99, axis=2))
        job.put("b.png", job.bright(1))
        assert job.run("--axis", "2") == 0
        lines = capsys.readouterr().err.splitlines()
        assert [line.split(",")[0] for line in lines] == [f"predict: {n}/100 slices" for n in range(10, 101, 10)]


class TestPackages:
    @pytest.mark.parametrize(
        ("name", "package", "extra"),
        [
            ("a.dcm", "pydicom", "medical"),
            ("a.nii.gz", "nibabel", "medical"),
            ("IM1", "pydicom", "medical"),
            ("a.nrrd", "SimpleITK", "itk"),
            ("a.MHA", "nibabel", "itk"),
        ],
    )
    def test_without_them_one_line_says_what_to_install(self, job, fake, monkeypatch, name, package, extra):
        monkeypatch.setitem(sys.modules, package, None)
        job.put("b.png", job.bright(1))
        (job.source / name).write_bytes(bytes(128) + b"DICM")
        with pytest.raises(UserError) as e:
            job.run()
        assert str(e.value) == (
            f"{name} takes {package} to read, which is not installed: pip install 'unet-jax[{extra}]'"
        )
        assert fake.opened is None and not job.out.exists()

    def test_pictures_do_without_them(self, job, monkeypatch):
        for package in ("pydicom", "nibabel"):
            monkeypatch.setitem(sys.modules, package, None)
        job.put("b.png", job.bright(1))
        assert job.run() == 0

    def test_they_are_not_imported_before_such_a_file_is_read(self, job):
        assert find_spec("pydicom") and find_spec("nibabel")
        job.put("b.png", job.bright(1))
        dicom_file(job.source / "a.dcm", job.bright(1))
        code = (
            "import sys, pathlib\n"
            "from unet_jax.inference import folder, output, table\n"
            "from unet_jax.imaging import find, read\n"
            "source = pathlib.Path(sys.argv[1])\n"
            "read.check_packages(find.find_images(source))\n"
            "for name in ('b.png', 'a.dcm'):\n"
            "    read.open(source / name)\n"
            "    print([m in sys.modules for m in ('pydicom', 'nibabel')])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(job.source)], capture_output=True, text=True, check=True, timeout=120
        )
        assert done.stdout.splitlines() == ["[False, False]", "[True, False]"]
