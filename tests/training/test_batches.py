"""Batches: the same for the same seed and step, whichever pipeline and wherever it starts."""

import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.mat import slice_file
from unet_jax.config import LoaderConfig, UserError
from unet_jax.data.converted.arrays import Arrays
from unet_jax.data.converted.build import build
from unet_jax.training.batches import Batch, Order, Source, _chunk_size, choose_pipeline, eval_batches, feed, gather
from unet_jax.training.mesh import data_mesh

NO_TENSORFLOW = "TensorFlow is not installed, as on Python 3.14 and newer"


@pytest.fixture
def arrays(tmp_path) -> Arrays:
    """Seven slices that all differ, 16x16, on disk."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for i in range(1, 8):
        mask = np.zeros((16, 16), np.uint8)
        mask[i : i + 3, 2:9] = 1
        image = np.random.default_rng(i).integers(0, 1000 * i, (16, 16)).astype(np.int16)
        slice_file(raw / f"{i}.mat", image=image, tumorMask=mask, label=np.array([[1.0 + i % 3]]))
    return build(raw, tmp_path / "d", size=16, mask_rule="area", workers=1)


def assert_same(one: Batch, other: Batch) -> None:
    for name in Batch._fields:
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b, err_msg=name)


# Order


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    seed=st.integers(-(2**40), 2**40),
    epoch=st.integers(0, 5),
)
def test_an_epoch_is_a_permutation_without_its_rest_and_knows_no_other_epoch(n, batch_size, seed, epoch):
    rows = np.arange(100, 100 + n)
    order = Order(rows, batch_size, seed)
    assert order.batch_size == min(batch_size, n) and order.steps_per_epoch == n // order.batch_size
    steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
    taken = np.concatenate([order(step) for step in steps])
    assert len(taken) == order.steps_per_epoch * order.batch_size
    assert len(set(taken.tolist())) == len(taken) and set(taken.tolist()) <= set(rows.tolist())
    assert rows.tolist() == list(range(100, 100 + n))
    # A resumed run, which asks for this epoch first, gets the same.
    resumed = Order(rows, batch_size, seed)
    np.testing.assert_array_equal(np.concatenate([resumed(step) for step in steps]), taken)


def test_a_step_is_the_same_in_whatever_order_it_is_asked_for():
    rows = np.arange(20)
    in_turn = Order(rows, 3, seed=1)
    expected = [in_turn(step).tolist() for step in range(30)]
    asked = Order(rows, 3, seed=1)
    for step in np.random.default_rng(0).integers(0, 30, 100).tolist():
        assert asked(step).tolist() == expected[step]


def test_the_permutation_is_that_of_seed_and_epoch():
    # Resumed runs rely on it across versions of the program. What is left out is the permutation's rest.
    rows = np.arange(50, 61)
    for seed, sign, epoch in ((7, 0, 0), (7, 0, 1), (7, 0, 4), (-7, 1, 4), (0, 0, 4)):
        expected = np.random.default_rng([abs(seed), sign, epoch]).permutation(rows)[:10]
        order = Order(rows, 5, seed)
        assert np.concatenate([order(2 * epoch), order(2 * epoch + 1)]).tolist() == expected.tolist()


# Batches of training


@pytest.fixture(params=["device", "tfdata"])
def pipeline(request) -> str:
    if request.param == "tfdata":
        pytest.importorskip("tensorflow", reason=NO_TENSORFLOW)
    return request.param


def fed(arrays, order, start, stop, pipeline, portion=1, mesh=None) -> Iterator[tuple[Source, int]]:
    return feed(arrays, order, start, stop, pipeline, mesh or data_mesh(1)[0], portion)


def unpacked(pieces, start) -> list[Batch]:
    """The batch of each step, as the training step takes it."""
    batches = []
    for source, count in pieces:
        for step in range(start, start + count):
            index = np.asarray(source.rows)[step - int(source.first)]
            batches.append(Batch(*(np.asarray(x)[index] for x in source.slices)))
        start += count
    return batches


@pytest.mark.parametrize("portion", [1, 3])
@pytest.mark.parametrize("start", [0, 4])
def test_batches_are_the_rows_of_their_step(arrays, pipeline, start, portion):
    rows = np.array([0, 2, 3, 5, 6])
    batches = unpacked(fed(arrays, Order(rows, 2, seed=5), start, 9, pipeline, portion), start)
    assert len(batches) == 9 - start
    for step, batch in enumerate(batches, start):
        chosen = Order(rows, 2, seed=5)(step)
        assert_same(batch, gather(arrays, chosen))
        np.testing.assert_array_equal(batch.images, arrays.images[chosen])
        np.testing.assert_array_equal(batch.labels, arrays.labels[chosen])


def test_slices_are_raw_and_on_the_mesh(arrays, pipeline):
    source, count = next(fed(arrays, Order(np.arange(7), 3, seed=0), 0, 2, pipeline))
    assert count == 2
    slices = (7,) if pipeline == "device" else (2, 3)  # an epoch has two steps
    assert [(name, str(x.dtype), x.shape) for name, x in source.slices._asdict().items()] == [
        ("images", "int16", (*slices, 16, 16)),
        ("masks", "uint8", (*slices, 16, 16)),
        ("labels", "int32", slices),
        ("p1", "float32", slices),
        ("p99", "float32", slices),
        ("valid", "bool", slices),
        ("midline", "float32", slices),
    ]
    assert source.rows.dtype == source.first.dtype == np.int32
    for x in jax.tree.leaves(source):
        assert isinstance(x, jax.Array) and x.sharding.mesh == data_mesh(1)[0]
    assert source.slices.valid.all()


def test_midlines_come_with_their_slices(arrays, pipeline):
    midlines = np.arange(1, 8, dtype=np.float32) / 2
    order = Order(np.arange(7), 3, seed=2)
    batches = unpacked(feed(arrays, order, 0, 4, pipeline, data_mesh(1)[0], 1, midlines), 0)
    assert [batch.midline.tolist() for batch in batches] == [((order(step) + 1) / 2).tolist() for step in range(4)]


def test_pieces_end_with_the_epoch_and_keep_their_shapes(arrays, pipeline, monkeypatch):
    """An epoch has seven steps, training starts with the third; a piece of a stream has at most four."""
    monkeypatch.setattr("unet_jax.training.batches.CHUNK_STEPS", 5)
    order = Order(np.arange(7), 1, seed=0)
    pieces = list(fed(arrays, order, 2, 21, pipeline, portion=2))
    assert [count for _, count in pieces] == ([5, 7, 7] if pipeline == "device" else [4, 1, 4, 3, 4, 3])
    assert len({tuple(x.shape for x in jax.tree.leaves(source)) for source, _ in pieces}) == 1


@pytest.mark.parametrize(
    ("step_bytes", "portion", "length", "expected"),
    [
        *((1, 1, 999, 64), (1, 8, 999, 64), (1, 3, 999, 63), (1, 100, 999, 100)),
        *((2**20, 1, 999, 4), (2**20, 3, 999, 3), (2**20, 8, 999, 8), (2**30, 1, 999, 1)),
        # An epoch is one piece, though it may end within a portion.
        *((1, 1, 18, 18), (1, 8, 18, 24), (1, 8, 3, 8), (2**20, 1, 3, 3)),
    ],
)
def test_a_piece_is_whole_portions_within_its_bounds(step_bytes, portion, length, expected):
    assert _chunk_size(step_bytes, portion, length) == expected


def test_no_step_is_no_piece(arrays, pipeline):
    assert list(fed(arrays, Order(np.arange(7), 3, seed=0), 4, 4, pipeline)) == []


def test_pieces_that_are_not_taken_do_no_harm(arrays, pipeline):
    order = Order(np.arange(7), 2, seed=0)
    stopped = fed(arrays, order, 0, 1000, pipeline)
    taken = list(itertools.islice(stopped, 2))
    stopped.close()
    for step, batch in enumerate(unpacked(taken, 0)):
        assert_same(batch, gather(arrays, order(step)))


def test_both_pipelines_give_the_same_batches(arrays):
    pytest.importorskip("tensorflow", reason=NO_TENSORFLOW)
    # One order for both, as two threads ask it.
    order = Order(np.arange(7), 3, seed=11)
    streams = (unpacked(fed(arrays, order, 3, 12, pipeline), 3) for pipeline in ("tfdata", "device"))
    compared = 0
    for one, other in zip(*streams, strict=True):
        assert_same(one, other)
        compared += 1
    assert compared == 9


def test_a_piece_on_the_device_is_prefetched(arrays, monkeypatch):
    from unet_jax.training import batches as pipeline

    made = []

    def streamed(arrays, order, start, stop, mesh, portion, midlines):
        for step in range(start, stop):
            made.append(step)
            yield Source(gather(arrays, order(step)), np.int32([0]), np.int32(step)), 1

    monkeypatch.setattr(pipeline, "_tfdata_chunks", streamed)
    seen = []
    for _ in fed(arrays, Order(np.arange(7), 2, seed=0), 0, 4, "tfdata"):
        seen.append(made[-1])
    assert seen == [1, 2, 3, 3]


# TensorFlow


def test_tensorflow_leaves_the_accelerator_alone(arrays, monkeypatch):
    tf = pytest.importorskip("tensorflow", reason=NO_TENSORFLOW)
    hidden, streams = [], []
    from_slices = tf.data.Dataset.from_tensor_slices
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: hidden.append((devices, kind)))

    def watched(*args):
        streams.append(list(hidden))
        return from_slices(*args)

    monkeypatch.setattr(tf.data.Dataset, "from_tensor_slices", watched)
    next(fed(arrays, Order(np.arange(7), 3, seed=0), 0, 1, "tfdata"))
    assert streams == [[([], "GPU")]]


def test_the_device_pipeline_needs_no_tensorflow(arrays):
    code = """
import sys
import numpy as np
from unet_jax.config import LoaderConfig
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.training.batches import Order, choose_pipeline, eval_batches, feed
from unet_jax.training.mesh import data_mesh
arrays, rows = open_arrays(sys.argv[1]), np.arange(7)
choose_pipeline(LoaderConfig())
assert [n for _, n in feed(arrays, Order(rows, 3, 0), 0, 3, "device", data_mesh(3)[0], 1)] == [2, 1]
assert len(list(eval_batches(arrays, rows, 3, data_mesh(3)[0]))) == 3
print([name for name in sys.modules if name.split(".")[0] == "tensorflow"])
"""
    done = subprocess.run([sys.executable, "-c", code, str(arrays.path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("asked", ["auto", "tfdata", "device"])
def test_choice_of_the_pipeline(asked, installed, monkeypatch):
    def find_spec(name):
        assert name == "tensorflow"
        return object() if installed else None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    loader = LoaderConfig(pipeline=asked)
    if asked == "tfdata" and not installed:
        with pytest.raises(UserError, match=r"needs TensorFlow, .*: pip install 'unet-jax\[tfds\]'; or use device\.$"):
            choose_pipeline(loader)
        return
    pipeline, note = choose_pipeline(loader)
    assert pipeline == ("device" if asked == "device" or not installed else "tfdata")
    if asked == "auto" and not installed:
        assert note is not None and "TensorFlow is not installed" in note and "\n" not in note
    else:
        assert note is None


# Batches of evaluation


def evaluated(arrays, rows, batch_size) -> list[Batch]:
    """On the host again."""
    return [jax.device_get(batch) for batch in eval_batches(arrays, rows, batch_size, data_mesh(1)[0])]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7])
def test_every_row_comes_once_and_in_order(arrays, batch_size):
    rows = np.array([6, 0, 3, 2, 5])
    batches = evaluated(arrays, rows, batch_size)
    assert {len(b.valid) for b in batches} == {min(batch_size, 5)}
    assert_same(
        Batch(*(np.concatenate([getattr(b, name)[b.valid] for b in batches]) for name in Batch._fields)),
        gather(arrays, rows),
    )
    # The last one is padded with its first slice.
    assert all(b.valid.all() for b in batches[:-1])
    last = batches[-1]
    assert last.valid.sum() == (len(rows) - 1) % min(batch_size, 5) + 1
    assert (last.images[~last.valid] == last.images[0]).all() and (last.masks[~last.valid] == last.masks[0]).all()
