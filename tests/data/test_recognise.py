"""Keys of slices: what is known again after other programs have stored it anew, and what is not."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from unet_jax.config import UserError
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.data.recognise import (
    SIDE,
    SliceKeys,
    count,
    fingerprint,
    keys_of,
    nearest,
    read_keys,
    recognise,
    write_keys,
)
from unet_jax.imaging.formats.mat import read_slice
from unet_jax.imaging.resize import NetworkSlice, to_network


def made_up(n: int = 3) -> SliceKeys:
    """Keys of n slices that have nothing in common."""
    rng = np.random.default_rng(0)
    return SliceKeys(
        sha256=rng.integers(0, 256, (n, 32), np.uint8),
        slice=np.arange(1, n + 1),
        label=np.full(n, 2, np.uint8),
        pid=np.frombuffer(b"aab"[:n], np.uint8).reshape(n, 1),
        fingerprint=rng.integers(0, 256, (n, SIDE**2), np.uint8),
    )


def stored_anew(image: np.ndarray, how: str) -> np.ndarray:
    """A slice as another program would pass it on: 8 bits, other intensities, another size, JPEG."""
    low, high = int(image.min()), int(image.max())
    picture = Image.fromarray(np.rint((image - low) * (255.0 / (high - low))).astype(np.uint8))
    if how == "linear":
        return (image * 0.4 + 300).astype(np.int16)
    if how != "jpeg":
        picture = picture.resize((256, 256), Image.Resampling.LANCZOS)
    if how == "dim":
        picture = picture.point(lambda value: int(0.5 * value + 40))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=60 if how == "jpeg" else 75)
    return np.asarray(Image.open(file))


def test_a_fingerprint_by_hand():
    """Means of 2x2 pixels, from the percentiles as 0 and 255."""
    image = np.tile(np.float32([[100, 100, 300, 500], [100, 100, 300, 300]]), (16, 8))
    got = fingerprint(NetworkSlice(image, 100.0, 400.0)).reshape(SIDE, SIDE)
    # (100 - 100) / 300 = 0; (200 + 200 + 200 + 300) / 4 / 300 = 0.75, what is above the 99th percentile counting as 1.
    assert got[0, :2].tolist() == [0, 191] and (got == np.tile(got[:1, :2], (16, 8))).all()
    assert not fingerprint(NetworkSlice(image, 5.0, 5.0)).any()


def test_the_distance_is_one_less_the_correlation(monkeypatch):
    monkeypatch.setattr("unet_jax.data.recognise._BLOCK", 2)
    keys = made_up()
    one = (keys.fingerprint[:1] // 2 + 7).astype(np.uint8)
    other = np.random.default_rng(1).integers(0, 256, (2, SIDE**2), np.uint8)
    expected = [1 - max(np.corrcoef(x, y)[0, 1] for y in keys.fingerprint) for x in (one[0], *other)]
    np.testing.assert_allclose(nearest(np.concatenate([one, other]), keys.fingerprint), expected, atol=1e-12)
    flat = np.full((1, SIDE**2), 9, np.uint8)
    assert nearest(flat, keys.fingerprint) == np.inf == nearest(one, np.concatenate([flat, flat]))
    assert nearest(one, keys.fingerprint[:0]) == np.inf


@pytest.mark.parametrize(
    ("key", "fields"), [("file", ["sha256"]), ("identity", ["slice", "label", "pid"]), ("fingerprint", ["fingerprint"])]
)
def test_each_key_alone_is_enough(key, fields):
    keys, others = made_up(), made_up(1)
    others = replace(others, sha256=others.sha256 + 1, slice=others.slice + 10, fingerprint=255 - others.fingerprint)
    assert not recognise(others, keys).any()
    known = replace(others, **{field: getattr(keys, field)[:1] for field in fields})
    assert count(recognise(known, keys))["by_key"] == {"file": 0, "identity": 0, "fingerprint": 0} | {key: 1}
    if key == "identity":
        for field in fields:  # in part it is none: slice numbers are given anew, patients have several slices
            assert not recognise(replace(known, **{field: getattr(known, field) + 5}), keys).any()


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("how", ["linear", "jpeg", "small", "dim"])
def test_slices_stored_anew_are_recognised_and_other_patients_are_not(raw_phantom, tiny_data, how, size):
    arrays = open_arrays(tiny_data)
    patients = sorted(set(arrays.pids))
    images = [read_slice(raw_phantom / "data" / source).image for source in arrays.sources]
    prints = np.stack([fingerprint(to_network(image, size)) for image in images])
    anew = np.stack([fingerprint(to_network(stored_anew(image, how), size)) for image in images])
    trained = np.isin(arrays.pids, patients[::2])
    keys = keys_of(arrays, np.arange(len(arrays)))
    assert size != arrays.size or (keys.fingerprint == prints).all()
    among = SliceKeys(**{name: column[trained] for name, column in vars(replace(keys, fingerprint=prints)).items()})
    # Nothing is left of file, number and patient.
    unknown = replace(keys, sha256=255 - keys.sha256, slice=keys.slice + 1000, fingerprint=anew)
    np.testing.assert_array_equal(recognise(unknown, among), np.stack([0 * trained, 0 * trained, trained], axis=1))


def test_counts_are_of_slices():
    found = np.array([[1, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0]], bool)
    assert {name: value for name, value in count(found).items() if name != "tolerance"} == {
        "n": 3,
        "by_key": {"file": 2, "identity": 1, "fingerprint": 2},
        "not_recognised": 1,
    }


def test_keys_are_stored_compactly_and_come_back(tmp_path):
    keys = made_up()
    write_keys(tmp_path / "a.npz", keys)
    read = read_keys(tmp_path / "a.npz")
    for name, column in vars(keys).items():
        np.testing.assert_array_equal(getattr(read, name), column)
    assert read.identities() == [(1, 2, b"a"), (2, 2, b"a"), (3, 2, b"b")]
    n = 2600
    many = replace(keys, **{name: np.repeat(column[:1], n, axis=0) for name, column in vars(keys).items()})
    rng = np.random.default_rng(0)
    many = replace(many, fingerprint=rng.integers(0, 256, (n, SIDE**2), np.uint8))  # pictures pack better than noise
    write_keys(tmp_path / "b.npz", many)
    assert (tmp_path / "b.npz").stat().st_size < 10**6


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.unlink(), r"a\.npz is missing\. Export"),
        (lambda p: p.write_bytes(p.read_bytes()[:-40]), r"a\.npz cannot be read"),
        (lambda p: p.write_text("{}"), r"a\.npz cannot be read"),
        (
            lambda p: np.savez(p, **vars(made_up()) | {"label": np.array([1, 2], np.uint8)}),
            r"label is uint8 \(2,\); exp",
        ),
        (lambda p: np.savez(p, **vars(made_up()) | {"slice": np.zeros((3, 1), np.int64)}), r"int64 \(3, 1\); expected"),
        (
            lambda p: np.savez(p, **vars(made_up()) | {"sha256": np.zeros((3, 32))}),
            r"sha256 is float64 .*; expected uint8",
        ),
        (lambda p: np.savez(p, **vars(made_up()) | {"pid": np.array([{}], object)}), r"a\.npz cannot be read"),
        (lambda p: np.savez_compressed(p, **vars(made_up()) | {"pid": np.zeros(2**27, np.uint8)}), r"expected at most"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, spoil, message):
    path = tmp_path / "a.npz"
    write_keys(path, made_up())
    spoil(path)
    with pytest.raises(UserError, match=message) as raised:
        read_keys(path)
    assert "\n" not in str(raised.value)


def test_a_digest_that_is_none_is_named(tiny_data):
    arrays = open_arrays(tiny_data)
    wrong = replace(arrays, sha256=["abc", *arrays.sha256[1:]])
    with pytest.raises(UserError, match=r"slices\.csv: slice 1 has the sha256 'abc'; expected 64 hexadecimal digits"):
        keys_of(wrong, np.arange(2))
