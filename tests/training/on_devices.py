"""Trains small networks on one, two and four devices; run by test_mesh.py in a process that has four.

    on_devices.py DATA OUT

writes to OUT/results.npz, and OUT/checkpoints/NUMBER with the state of the run on so many devices.
"""

import itertools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from unet_jax.config import AugmentConfig, Config, ModelConfig
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.training.batches import Batch, Order, Source, eval_batches, feed
from unet_jax.training.checkpoints.store import Checkpoints
from unet_jax.training.loop import compile_steps, run_steps
from unet_jax.training.losses import loss_value
from unet_jax.training.mesh import data_mesh, replicated
from unet_jax.training.state import TrainState, init_state
from unet_jax.training.steps import make_eval_step, make_train_steps

CONFIG = Config(
    model=ModelConfig(width=2, levels=2, dropout=0.1),
    augment=AugmentConfig(rotation=20.0, elastic=0.03, blur=1.0, contrast=0.2, noise=0.02),
)
PLAIN = Config(model=ModelConfig(width=2, levels=1, dropout=0.0), augment=AugmentConfig(horizontal_flip=False))
TX = optax.sgd(0.1)  # Adam makes a whole step of a gradient that is zero but for rounding
BATCH, STEPS = 8, 9


def mesh_of(devices: int) -> Mesh:
    return Mesh(np.array(jax.devices()[:devices]), ("data",), axis_types=(AxisType.Auto,))


def begun(config: Config, size: int, mesh: Mesh) -> tuple[TrainState, Any]:
    return jax.device_put((init_state(config, size, TX), jax.random.key(3)), replicated(mesh))


def trained(data: Path, devices: int, pipeline: str, most: int) -> tuple[TrainState, dict[str, Any]]:
    arrays, mesh = open_arrays(data), mesh_of(devices)
    order = Order(np.arange(24), BATCH, seed=1)
    state, key = begun(CONFIG, arrays.size, mesh)
    pieces = feed(arrays, order, 0, STEPS, pipeline, mesh, most)
    piece = next(pieces)
    steps = make_train_steps(CONFIG, TX, mesh)
    compiled = compile_steps(steps, state, piece[0], key, 0, order.steps_per_epoch, most)
    losses: list[float] = []
    pieces = itertools.chain([piece], pieces)
    state = run_steps(compiled, state, pieces, STEPS, key, lambda _, new: losses.extend(new.tolist()))
    evaluate, scores = make_eval_step(CONFIG, mesh), []
    for batch in eval_batches(arrays, np.arange(21), 6, mesh):
        scores.append(evaluate(state.params, state.batch_stats, batch))
    sums, counts = (jax.tree.map(lambda *x: sum(x), *part) for part in zip(*scores, strict=True))
    assert len(state.params["output"]["kernel"].devices()) == devices
    return state, {
        "losses": losses,
        "params": np.concatenate([np.ravel(x) for x in jax.tree.leaves(state.params)]),
        "batch_stats": np.concatenate([np.ravel(x) for x in jax.tree.leaves(state.batch_stats)]),
        "counts": np.array(jax.tree.leaves(state.sums.counts)),
        "val_loss": loss_value(sums, CONFIG.loss),
        "val_counts": np.array(jax.tree.leaves(counts)),
    }


def variance_after_a_step(batch: Batch, devices: int) -> np.ndarray:
    """Running variance of the first normalisation; the batch is divided among the devices."""
    mesh = mesh_of(devices)
    state, key = begun(PLAIN, 8, mesh)
    slices = jax.tree.map(lambda x: x[None], batch)
    slices = jax.device_put(slices, NamedSharding(mesh, PartitionSpec(None, "data")))
    source = Source(slices, np.zeros(1, np.int32), np.int32(0))
    state, _ = make_train_steps(PLAIN, TX, mesh)(state, source, key, count=1)
    return np.asarray(state.batch_stats["norm0"]["var"])


def unequal_batch() -> Batch:
    """Four slices, each of another contrast."""
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 200, (4, 8, 8)) * np.arange(1, 5).reshape(4, 1, 1)).astype(np.int16)
    low, high = np.zeros(4, np.float32), np.full(4, 800, np.float32)
    masks, labels = (images > 300).astype(np.uint8), np.ones(4, np.int32)
    return Batch(images, masks, labels, low, high, np.ones(4, bool), np.zeros(4, np.float32))


def main() -> None:
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    found: dict[str, Any] = {}
    for devices, pipeline, most in [(1, "device", 1), (1, "device", 3), (2, "device", 1), (4, "device", 2)]:
        state, results = trained(data, devices, pipeline, most)
        found |= {f"{devices} {pipeline} {most} {name}": value for name, value in results.items()}
        with Checkpoints(out / "checkpoints" / str(devices)) as checkpoints:
            checkpoints.save(STEPS, state, None)
    found |= {f"4 tfdata 1 {name}": value for name, value in trained(data, 4, "tfdata", 1)[1].items()}

    for saved_on, devices in ((1, 4), (4, 2)):
        with Checkpoints(out / "checkpoints" / str(saved_on), read_only=True) as checkpoints:
            like = begun(CONFIG, open_arrays(data).size, mesh_of(devices))[0]
            restored = checkpoints.restore(STEPS, like)
        assert all(x.sharding == replicated(mesh_of(devices)) for x in jax.tree.leaves(restored))
        values = [np.ravel(x) for x in jax.tree.leaves(restored.params)]
        found[f"{saved_on} restored on {devices}"] = np.concatenate(values)

    batch = unequal_batch()
    alone = [variance_after_a_step(Batch(*(x[i : i + 1] for x in batch)), 1) for i in range(4)]
    found |= {f"variance {n}": variance_after_a_step(batch, n) for n in (1, 2, 4)}
    found["variance of each"] = np.mean(alone, axis=0)

    chosen = {n: data_mesh(n) for n in (8, 6, 5)}
    found["devices"] = [mesh.size for mesh, _ in chosen.values()]
    found["notes"] = [note or "" for _, note in chosen.values()]
    np.savez(out / "results.npz", **found)


if __name__ == "__main__":
    main()
