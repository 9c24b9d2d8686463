"""Splits: whole patients, drawn and official folds, the notebook's slices; and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.arrays import held
from unet_jax.config import SplitConfig, UserError
from unet_jax.data.converted.arrays import Arrays
from unet_jax.data.splits import Split, draw_folds, load_split, make_split

SIDES = ("train", "val", "test")


def many(slices=(10, 10), n=60) -> Arrays:
    """So many patients, a third of each tumour type, each with so many slices (from, to)."""
    counts = np.random.default_rng(0).integers(slices[0], slices[1] + 1, n)
    return held(np.repeat([f"p{i:03}" for i in range(n)], counts), np.repeat(np.arange(n) % 3 + 1, counts))


def patients(split: Split, arrays: Arrays) -> list[set[str]]:
    return [set(arrays.pids[split.rows(arrays, side)].tolist()) for side in SIDES]


# patient


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [({}, [140, 20, 40]), ({"val_fraction": 0.25, "test_fraction": 0.5}, [50, 50, 100])],
)
def test_equal_patients_are_divided_exactly(fractions, expected):
    arrays = many()
    split = make_split(arrays, SplitConfig(**fractions))
    for label in (1, 2, 3):
        of_type = arrays.slices[arrays.labels == label]
        assert [int(np.isin(getattr(split, side), of_type).sum()) for side in SIDES] == expected


def of_many_sizes(seed) -> Arrays:
    """Some two hundred patients like those of the Figshare dataset: most have 5 to 25 slices, few of them up to 60."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(180, 240))
    counts = np.clip(rng.lognormal(2.4, 0.6, n), 1, 60).astype(int)
    types = rng.choice([1, 2, 3], n, p=[0.35, 0.4, 0.25])
    return held(np.repeat([f"p{i:03}" for i in range(n)], counts), np.repeat(types, counts))


def off(arrays: Arrays, parts: list[list[int]], fractions: list[float]) -> float:
    """Most slices by which a part misses its fraction of a tumour type, counted in that type's largest patients."""
    worst = 0.0
    for label in (1, 2, 3):
        of_type = arrays.labels == label
        largest = np.unique(arrays.pids[of_type], return_counts=True)[1].max()
        for part, fraction in zip(parts, fractions, strict=True):
            got = int(np.isin(arrays.slices[of_type], part).sum())
            worst = max(worst, abs(got - fraction * of_type.sum()) / largest)
    return worst


@pytest.mark.parametrize("seed", range(10))
def test_every_tumor_type_is_divided_to_within_a_patient(seed):
    arrays = of_many_sizes(seed)
    for val, test in ((0.1, 0.2), (0.13, 0.27), (0.05, 0.15)):
        split = make_split(arrays, SplitConfig(seed=seed, val_fraction=val, test_fraction=test))
        assert off(arrays, [split.train, split.val, split.test], [1 - val - test, val, test]) < 1
    for folds in (3, 5, 10):
        drawn = draw_folds(arrays, SplitConfig(kind="folds", folds=folds, seed=seed))
        parts = [arrays.slices[drawn == fold].tolist() for fold in range(1, folds + 1)]
        assert off(arrays, parts, [1 / folds] * folds) < 0.5


@pytest.mark.parametrize("kind", ["patient", "folds", "slice"])
def test_a_seed_decides(kind):
    arrays = many()
    drawn = [make_split(arrays, SplitConfig(kind=kind, seed=seed)) for seed in (0, 0, 1, 2**64 + 7)]
    assert drawn[0] == drawn[1]
    assert len({tuple(split.test) for split in drawn}) == 3


def test_the_order_of_the_slices_does_not_decide():
    arrays = many((1, 20))
    mixed = np.random.default_rng(1).permutation(len(arrays))
    rows = ("slices", "labels", "pids", "images")
    other = replace(arrays, **{name: getattr(arrays, name)[mixed] for name in rows})
    for side in SIDES:
        one, two = (getattr(make_split(a, SplitConfig()), side) for a in (arrays, other))
        assert one == sorted(two)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 14), st.integers(1, 3)), min_size=1, max_size=80),
    seed=st.integers(0, 2**64),
    val=st.floats(0.05, 0.45),
    test=st.floats(0.05, 0.45),
)
def test_any_patients_and_types(rows, seed, val, test):
    arrays = held([f"p{p}" for p, _ in rows], [label for _, label in rows])
    config = SplitConfig(seed=seed, val_fraction=val, test_fraction=test)
    # A patient belongs to the type of its first slice.
    type_of = {pid: label for pid, label in reversed(list(zip(arrays.pids.tolist(), arrays.labels, strict=True)))}
    types = list(type_of.values())
    try:
        split = make_split(arrays, config)
    except UserError as e:
        # With three patients of one type there is one for every side.
        assert "leaves none for" in str(e) and max(types.count(label) for label in types) < 3
        return
    assert split == make_split(arrays, config)
    assert split.patients_straddling == 0
    assert sorted(split.train + split.val + split.test) == arrays.slices.tolist()
    train, val_patients, test_patients = patients(split, arrays)
    assert not (train & val_patients or train & test_patients or val_patients & test_patients)
    for label in set(types):
        group = [pid for pid in type_of if type_of[pid] == label]
        sizes = {pid: int((arrays.pids == pid).sum()) for pid in group}
        wanted = {"train": 1 - val - test, "val": val, "test": test}
        for side, on_side in zip(SIDES, (train, val_patients, test_patients), strict=True):
            got = sum(sizes[pid] for pid in group if pid in on_side)
            excess = (got - wanted[side] * sum(sizes.values())) / max(sizes.values())
            # Where a fraction is less than a patient, the two other sides can take two patients from this one.
            assert -2 < excess < 1 + 1e-6


# official


def five_folds() -> Arrays:
    """Ten patients of two slices; patients i and i + 5 in fold i + 1."""
    return held(
        [f"p{i}" for i in range(10) for _ in range(2)], [1, 2] * 10, [i % 5 + 1 for i in range(10) for _ in range(2)]
    )


@pytest.mark.parametrize(("fold", "val_fold"), [(1, 2), (2, 3), (3, 4), (4, 5), (5, 1)])
def test_a_fold_is_test_and_the_next_validation(fold, val_fold):
    arrays = five_folds()
    split = make_split(arrays, SplitConfig(kind="official", fold=fold))
    assert split.test == arrays.slices[arrays.folds == fold].tolist()
    assert split.val == arrays.slices[arrays.folds == val_fold].tolist()
    assert sorted(split.train + split.val + split.test) == arrays.slices.tolist()
    assert (len(split.train), split.patients_straddling) == (12, 0)


@pytest.mark.parametrize("fold", [0, 6, -1])
def test_slices_without_a_fold_are_counted(fold):
    arrays = five_folds()
    arrays.folds[[0, 3, 7]] = fold
    with pytest.raises(UserError, match=r"^3 of 20 slices have no fold from 1 to 5\. .* use --split\.kind patient\.$"):
        make_split(arrays, SplitConfig(kind="official"))


@pytest.mark.parametrize(("row", "fold"), [(0, 2), (2, 5), (4, 1)], ids=["test-val", "val-train", "train-test"])
def test_a_patient_in_several_folds_is_named(row, fold):
    arrays = five_folds()
    arrays.folds[row] = fold
    with pytest.raises(UserError, match=rf"^patient p{row // 2} is on two sides of split official .*kind patient\.$"):
        make_split(arrays, SplitConfig(kind="official", fold=1))


def test_a_patient_in_several_folds_of_training_is_on_one_side():
    arrays = five_folds()
    arrays.folds[4] = 4  # its other slice is in fold 3
    assert make_split(arrays, SplitConfig(kind="official", fold=1)).patients_straddling == 0


# folds


def test_drawn_folds_hold_out_every_slice_once_and_keep_patients_whole():
    arrays = many((1, 20))
    splits = [make_split(arrays, SplitConfig(kind="folds", folds=4, fold=k)) for k in (1, 2, 3, 4)]
    assert sorted(s for split in splits for s in split.test) == arrays.slices.tolist()
    for k, split in enumerate(splits):
        assert split.val == splits[(k + 1) % 4].test
        assert sorted(split.train + split.val + split.test) == arrays.slices.tolist()
        train, val, test = patients(split, arrays)
        assert not (train & val or train & test or val & test)


def test_folds_drawn_earlier_are_taken_as_they_are():
    arrays = five_folds()
    config = SplitConfig(kind="folds", folds=5, fold=2)
    split = make_split(arrays, config, folds=arrays.folds)
    assert split == replace(make_split(arrays, replace(config, kind="official")), kind="folds")


def test_a_rare_type_is_in_some_folds_only():
    arrays = held([f"p{i}" for i in range(14)], [1] * 6 + [2] * 6 + [3] * 2)
    drawn = draw_folds(arrays, SplitConfig(kind="folds", folds=4))
    assert set(drawn) == {1, 2, 3, 4} and len(set(drawn[-2:])) == 2


@pytest.mark.parametrize("folds", [11, 30])
def test_more_folds_than_patients_is_refused(folds):
    message = rf"^split folds of 20 slices of 10 patients leaves none for one of {folds} folds\. Use more data"
    with pytest.raises(UserError, match=message):
        make_split(five_folds(), SplitConfig(kind="folds", folds=folds))


# slice


def test_a_fifth_of_every_type_is_validation_and_test():
    labels = [1] * 40 + [2] * 25 + [3] * 10
    arrays = held([f"p{i}" for i in range(75)], labels)
    split = make_split(arrays, SplitConfig(kind="slice"))
    assert split.val == split.test
    assert sorted(split.train + split.test) == arrays.slices.tolist()
    assert np.bincount(arrays.labels[split.rows(arrays, "test")]).tolist() == [0, 8, 5, 2]
    assert split.patients_straddling == 0


def test_patients_on_both_sides_are_counted():
    # Of five slices of a type one is for test, whichever it is: a patient who has all five straddles, one of a single
    # slice cannot.
    arrays = held([*"aaaaa", *"cdefg", *"hijkl"], [1] * 5 + [2] * 5 + [3] * 5)
    for seed in range(5):
        assert make_split(arrays, SplitConfig(kind="slice", seed=seed)).patients_straddling == 1
    arrays = held([*"aaaaa", *"bbbbb", *"hijkl"], [1] * 5 + [2] * 5 + [3] * 5)
    for seed in range(5):
        assert make_split(arrays, SplitConfig(kind="slice", seed=seed)).patients_straddling == 2


# whole


def test_every_slice_is_for_training_and_a_tenth_stands_for_the_other_sides():
    arrays = held([f"p{i // 2}" for i in range(24)], [1, 2, 3] * 8)
    split = make_split(arrays, SplitConfig(kind="whole"))
    assert split.train == arrays.slices.tolist()
    assert split.val == split.test == [10, 20, 30]
    assert split.patients_straddling == 3


# all kinds


@pytest.mark.parametrize(
    ("arrays", "config", "side"),
    [
        (held("ab", [1, 1]), SplitConfig(), "test"),
        (held("abc", [1, 2, 3]), SplitConfig(), "val"),
        (held("abc", [1, 1, 1], [3, 3, 2]), SplitConfig(kind="official"), "test"),
        (held("abc", [1, 1, 1], [1, 1, 2]), SplitConfig(kind="official"), "train"),
        (held("abc", [1, 2, 3]), SplitConfig(kind="slice"), "val"),
    ],
)
def test_an_empty_side_is_named(arrays, config, side):
    n = len(arrays)
    message = f"^split {config.kind} of {n} slices of {n} patients leaves none for {side}\\. Use more data, or "
    with pytest.raises(UserError, match=message):
        make_split(arrays, config)


@pytest.mark.parametrize("kind", ["patient", "folds", "official", "slice"])
def test_a_split_says_what_it_was_drawn_from_and_is_stored(kind, tmp_path):
    split = make_split(five_folds(), SplitConfig(kind=kind, val_fraction=0.3, test_fraction=0.3))
    assert (split.kind, split.data_digest, split.size, split.mask_rule) == (kind, "0123456789abcdef", 4, "area")
    assert split.intensity_max == max(split.train)  # slice s has the largest intensity s
    (tmp_path / "split.json").write_text(split.to_json())
    assert load_split(tmp_path / "split.json") == split


def test_what_is_no_split_is_named(tmp_path):
    path = tmp_path / "split.json"
    with pytest.raises(UserError, match=r"split\.json does not exist; expected a workdir"):
        load_split(path)
    whole = json.loads(make_split(five_folds(), SplitConfig()).to_json())
    for text in ("", "{", "[1]", json.dumps({**whole, "tempo": 1}), json.dumps({"train": [1]})):
        path.write_text(text)
        with pytest.raises(UserError, match=r"split\.json is no split \("):
            load_split(path)
    path.write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match=r"split\.json is no split \("):
        load_split(path)


def test_rows_are_in_the_order_of_the_arrays():
    arrays = held("abcdef", [1] * 6)
    split = Split("patient", "d1", 2, "any", 9, 0, train=[15, 10, 12], val=[11], test=[14, 13])
    assert split.rows(arrays, "train").tolist() == [0, 2, 5]
    assert split.rows(arrays, "val").tolist() == [1]
    assert split.rows(arrays, "test").tolist() == [3, 4]
    assert split.rows(arrays, "all").tolist() == [0, 1, 2, 3, 4, 5]
