"""The phantom: its files, and what it shows."""

import itertools
import time
import zipfile
from collections import defaultdict
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import polygon

from tests.helpers.commands import exit_code
from tests.helpers.folders import contents
from unet_jax import phantom
from unet_jax.config import PhantomConfig, UserError
from unet_jax.data.phantom import write_phantom
from unet_jax.data.phantom.anatomy import Anatomy
from unet_jax.data.phantom.draw import ellipse, grow
from unet_jax.data.phantom.heads import views
from unet_jax.data.phantom.make import PhantomSlice, patient_slices

PATIENTS = 4
SEED = 7


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "raw"
    n = write_phantom(out, PATIENTS, SEED, zip=True)
    assert n == len(list((out / "data").iterdir()))
    return out


@pytest.fixture(scope="module")
def cases() -> list[list[PhantomSlice]]:
    """Patients 0 to 9: three and more of each type, the last of half the resolution."""
    return [list(patient_slices(SEED, k)) for k in range(10)]


def test_same_seed_same_bytes_another_seed_another_set(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time() + 86_400 * 400
    monkeypatch.setattr(time, "time", lambda: later)
    write_phantom(tmp_path, PATIENTS, SEED, zip=True)
    assert contents(tmp_path) == contents(raw)
    assert not np.array_equal(next(patient_slices(SEED, 0)).image, next(patient_slices(SEED + 1, 0)).image)


def test_no_time_is_stored(raw: Path) -> None:
    with h5py.File(raw / "data" / "1.mat") as f:
        for name in ("image", "tumorMask", "PID"):
            info = h5py.h5o.get_info(f[f"cjdata/{name}"].id)
            assert h5py.h5g.get_objinfo(f["cjdata"].id, name.encode()).mtime == 0, name
            assert info.type == h5py.h5o.TYPE_DATASET
    with zipfile.ZipFile(raw / "figshare.zip") as z:
        assert {i.date_time for i in z.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_fewer_patients_are_a_prefix(raw: Path, tmp_path: Path) -> None:
    n = write_phantom(tmp_path, 2, SEED)
    some, all_ = contents(tmp_path), contents(raw)
    assert not (tmp_path / "figshare.zip").exists()
    assert len([name for name in some if name.startswith("data/")]) == n < len(list((raw / "data").iterdir()))
    for name, content in some.items():
        assert name == "cvind.mat" or content == all_[name], name
    with h5py.File(tmp_path / "cvind.mat") as few, h5py.File(raw / "cvind.mat") as many:
        assert np.array_equal(few["cvind"][0], many["cvind"][0, :n])


def test_layout_of_a_slice(raw: Path, cases: list[list[PhantomSlice]]) -> None:
    expected = [s for slices in cases[:PATIENTS] for s in slices]
    names = sorted((raw / "data").iterdir(), key=lambda p: int(p.stem))
    assert [p.name for p in names] == [f"{i}.mat" for i in range(1, len(expected) + 1)]
    for path, s in zip(names, expected, strict=True):
        content = path.read_bytes()
        assert content.startswith(b"MATLAB 7.3") and content[124:128] == b"\x00\x02IM"
        with h5py.File(path) as f:
            assert f.userblock_size == 512
            g = f["cjdata"]
            assert set(g) == {"image", "label", "PID", "tumorBorder", "tumorMask"}
            assert g["image"].dtype == np.int16 and g["tumorMask"].dtype == np.uint8
            assert g["PID"].dtype == np.uint16 and g["PID"].shape == (len(s.pid), 1)
            assert g["label"].dtype == g["tumorBorder"].dtype == np.float64
            assert np.array_equal(g["image"][()].T, s.image)
            assert np.array_equal(g["tumorMask"][()].T, s.mask)
            assert "".join(chr(c) for c in g["PID"][:, 0]) == s.pid
            assert g["label"][()].tolist() == [[s.label]]
            assert g["tumorBorder"].shape == (1, 2 * len(s.border))
            assert np.array_equal(g["tumorBorder"][0, ::2], s.border[:, 0])
            assert np.array_equal(g["tumorBorder"][0, 1::2], s.border[:, 1])


def test_cvind(raw: Path) -> None:
    with h5py.File(raw / "cvind.mat") as f:
        cvind = f["cvind"][()]
    n = len(list((raw / "data").iterdir()))
    assert cvind.shape == (1, n) and (raw / "cvind.mat").read_bytes().startswith(b"MATLAB 7.3")
    folds_of = defaultdict(set)
    for i in range(n):
        with h5py.File(raw / "data" / f"{i + 1}.mat") as f:
            folds_of[f["cjdata/PID"][()].tobytes()].add(cvind[0, i])
    assert [sorted(folds) for folds in folds_of.values()] == [[1], [1], [1], [2]]


def test_archive_is_of_four_ranges(raw: Path) -> None:
    with zipfile.ZipFile(raw / "figshare.zip") as outer:
        names = outer.namelist()
    assert names[4:] == ["cvind.mat", "README.txt"] and len(names) == 6
    ranges = sorted(tuple(map(int, n[len("brainTumorDataPublic_") : -len(".zip")].split("-"))) for n in names[:4])
    assert ranges[0][0] == 1 and ranges[-1][1] == len(list((raw / "data").iterdir()))
    assert all(a[1] + 1 == b[0] for a, b in itertools.pairwise(ranges))


def test_patients(cases: list[list[PhantomSlice]]) -> None:
    assert [slices[0].label for slices in cases] == [1, 2, 3] * 3 + [1]
    assert len({slices[0].pid for slices in cases}) == len(cases)
    for slices in cases:
        assert 4 <= len(slices) <= 8
        assert len({(s.label, s.pid) for s in slices}) == 1
        names = [s.view for s in slices]
        assert len(set(names)) == (2 if len(names) == 8 else 1) and names == sorted(names, key=names.index)
    assert any(len({s.view for s in slices}) == 2 for slices in cases)
    assert {views()[s.view].plane for slices in cases for s in slices} == {"axial", "coronal", "sagittal"}


def test_sizes_and_intensities(cases: list[list[PhantomSlice]]) -> None:
    assert {s.image.shape for slices in cases[:9] for s in slices} == {(512, 512)}
    assert {s.image.shape for s in cases[9]} == {(256, 256)}
    for slices in cases:
        top = max(s.image.max() for s in slices)
        assert 1000 <= top <= 12_000
        for s in slices:
            assert s.image.dtype == np.int16 and s.image.min() >= 0
            corner = s.image[:16, :16]
            assert corner.std() > 0 and corner.mean() < 0.05 * top  # air: dark, with a little noise


def test_masks_lie_inside_the_head_and_follow_the_border(cases: list[list[PhantomSlice]]) -> None:
    for s in itertools.chain(*cases):
        head = ndimage.binary_fill_holes(ndimage.gaussian_filter(s.image.astype(float), 3) > 0.06 * s.image.max())
        assert s.mask.any() and not (s.mask & ~head).any()
        assert ndimage.label(s.mask)[1] == 1
        filled = np.zeros_like(s.mask)
        filled[polygon(s.border[:, 1] - 1, s.border[:, 0] - 1, filled.shape)] = True
        assert (filled & s.mask).sum() > 0.98 * (filled | s.mask).sum()
        assert 0.0015 < s.mask.mean() < 0.06


def test_tumors_change_smoothly_through_a_stack(cases: list[list[PhantomSlice]]) -> None:
    for slices in cases:
        for a, b in itertools.pairwise(slices):
            if a.view == b.view:
                assert (a.mask & b.mask).sum() > 0.4 * (a.mask | b.mask).sum()
                assert not np.array_equal(a.mask, b.mask)
        areas = [s.mask.sum() for s in slices if s.view == slices[0].view]
        assert 0 < int(np.argmax(areas)) < len(areas) - 1  # largest inside the stack


def surroundings(s: PhantomSlice) -> np.ndarray:
    near, far = len(s.mask) // 100, len(s.mask) // 20
    return ndimage.binary_dilation(s.mask, iterations=far) & ~ndimage.binary_dilation(s.mask, iterations=near)


def test_meningiomas_are_bright_and_smooth(cases: list[list[PhantomSlice]]) -> None:
    for s in (s for slices in cases for s in slices if s.label == 1):
        inside = s.image[s.mask]
        assert inside.mean() > 1.4 * np.median(s.image[surroundings(s)])
        assert inside.std() < 0.15 * inside.mean()


def test_gliomas_have_a_bright_ring_around_a_dark_core(cases: list[list[PhantomSlice]]) -> None:
    for s in (s for slices in cases for s in slices if s.label == 2):
        depth = ndimage.distance_transform_edt(s.mask)
        ring, core = (depth > 0) & (depth < 0.25 * depth.max()), depth > 0.6 * depth.max()
        assert s.image[core].mean() < 0.7 * s.image[ring].mean()
        assert s.image[ring].mean() > 1.1 * np.median(s.image[surroundings(s)])


def test_pituitary_tumors_are_small_and_on_the_midline(cases: list[list[PhantomSlice]]) -> None:
    area = {label: np.mean([s.mask.mean() for c in cases for s in c if s.label == label]) for label in (1, 2, 3)}
    assert area[3] < area[1] < area[2]
    for s in (s for slices in cases for s in slices if s.label == 3):
        side = len(s.mask)
        y, x = np.argwhere(s.mask).mean(0) / side
        assert 0.35 < y < 0.65
        if views()[s.view].plane != "sagittal":
            head = ndimage.binary_fill_holes(ndimage.gaussian_filter(s.image.astype(float), 3) > 0.06 * s.image.max())
            assert abs(x - (np.argwhere(head).mean(0)[1] / side)) < 0.04


def test_brightness_alone_does_not_find_the_tumors(cases: list[list[PhantomSlice]]) -> None:
    sums = defaultdict(lambda: np.zeros(2))
    for s in (slices[len(slices) // 2] for slices in cases):
        x = s.image / np.percentile(s.image, 99)
        for low in np.arange(0.2, 1.0, 0.1):
            for high in np.arange(low + 0.1, 1.6, 0.2):
                found = (x > low) & (x < high)
                sums[low, high] += (found & s.mask).sum(), (found | s.mask).sum()
    assert max(tp / union for tp, union in sums.values()) < 0.3


def test_every_shape_of_the_atlas_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, add = set[str](), Anatomy.add

    def recording(self: Anatomy, *names: str) -> None:
        for name in names:
            before = len(self.shapes)
            add(self, name)
            assert len(self.shapes) > before, name
        drawn.update(names)

    monkeypatch.setattr(Anatomy, "add", recording)
    for name, view in views().items():
        drawn.clear()
        view.scenes(seed=0)
        assert drawn == set(view.shapes), name


def test_halves_are_mirror_images_but_for_tissues_of_random_course() -> None:
    view = views()["axial-low"]
    drawing = Anatomy(view.outlines, view.shapes, np.random.default_rng(0), 1.0)
    drawing.add("sclera")
    (right, grey), (left, same) = drawing.shapes
    assert grey == same and np.array_equal(left, right * (-1, 1)) and (right[:, 0] > 0).all()
    drawn = []
    for half in drawing.halves():
        drawing.shapes.clear()
        half.add("temporalis")
        drawn.append([points * (half.side, 1) for points, _ in drawing.shapes])
    assert all((points[:, 0] > 0.3).all() for points in drawn[0] + drawn[1])
    assert not any(np.allclose(a, b) for a, b in zip(drawn[0][2:], drawn[1][2:], strict=True))  # the fibres


def test_grow_moves_a_circle_outward() -> None:
    circle = grow(ellipse(1, 2, 0.5, 0.5, n=720), 0.25)
    assert np.allclose(np.hypot(*(circle - (1, 2)).T), 0.75, atol=1e-6)


@pytest.mark.parametrize(("patients", "seed", "name"), [(0, 0, "--patients is 0"), (1, -1, "--seed is -1")])
def test_numbers_out_of_range(tmp_path: Path, patients: int, seed: int, name: str) -> None:
    with pytest.raises(UserError, match=name):
        write_phantom(tmp_path / "x", patients, seed)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("folder", ["new/raw", ""])
def test_door_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str) -> None:
    out = tmp_path / folder
    assert phantom.main(["--out", str(out), "--patients", "1", "--seed", "3"]) == 0
    n = len(list((out / "data").iterdir()))
    assert f"{n} slices of 1 patients" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == ["README.txt", "cvind.mat", "data"]


def test_door_refuses_a_folder_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert exit_code(phantom.main, "--out", tmp_path, "--patients", 1) == 2
    err = capsys.readouterr().err
    assert "not an empty folder" in err and len(err.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_door_needs_out_and_takes_its_defaults_from_config() -> None:
    assert exit_code(phantom.main, "--patients", 1) == 2
    options = phantom.PhantomOptions(out=Path("x"))
    assert (options.patients, options.seed) == (PhantomConfig().patients, PhantomConfig().seed)
