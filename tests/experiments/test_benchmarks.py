"""The benchmarks compare like with like: the same function, and operations counted as they are by hand."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import __main__ as benchmarks
from experiments.benchmarks import network, ours
from experiments.benchmarks.cases import Case, Row, network_input, sample
from experiments.benchmarks.flops import convolutions, forward_flops, train_flops, xla_flops
from experiments.benchmarks.variants import fastest
from experiments.benchmarks.workers import Worker
from tests.helpers.commands import loaded_by_help
from unet_jax.config import RunError, UserError


@pytest.mark.slow
def test_the_keras_network_is_ours():
    from experiments.benchmarks import keras_peer

    case = Case(width=4, batch=3, size=16, levels=2, dropout=0.0)
    here, peer = ours.Side(), keras_peer.Side()
    peer.build(case, here.build(case, flip=False))
    (logits, loss), (peer_logits, peer_loss) = here.evaluate(), peer.evaluate()
    assert logits.shape == (3, 16, 16, 1) and np.ptp(logits) > 0.1
    np.testing.assert_allclose(peer_logits, logits, atol=1e-5)
    assert peer_loss == pytest.approx(loss, abs=1e-5)
    # Batch statistics, gradients and the optimizer too: a step lowers the loss by about a hundredth.
    losses = here.train_losses(4)
    assert losses[3] < losses[0] - 0.02
    assert peer.train_losses(4) == pytest.approx(losses, abs=5e-4)


class Fake:
    """A framework that gives these logits."""

    def __init__(self, logits: float):
        self.logits = logits

    def call(self, method, *args):
        return {"build": {}, "evaluate": (np.full((1, 2, 2, 1), self.logits), 1.0)}[method]


def test_a_peer_that_computes_something_else_is_not_timed():
    case = Case(4, 1, 32)
    network.build({"ours": Fake(0.5), "keras": Fake(0.5004)}, case)
    for wrong in (0.502, np.nan):
        with pytest.raises(RunError, match="keras does not compute our network at width 4, batch 1, 32 px"):
            network.build({"ours": Fake(0.5), "keras": Fake(wrong)}, case)


def test_everyone_gets_the_same_sample():
    case = Case(4, 2, 16)
    images, masks = sample(case)
    x, target = network_input(case)
    assert x.shape == target.shape == (2, 16, 16, 1) and x.dtype == target.dtype == np.float32
    assert x.min() >= 0 and x.max() <= 1
    np.testing.assert_allclose(x[..., 0] * 1000, images, atol=1e-3)
    np.testing.assert_array_equal(target[..., 0], masks)
    assert 0 < masks.sum() < masks.size


def test_operations_by_hand():
    # One level of one channel, 4x4: 4x4, 4x4, 2x2, 2x2, the transposed one's 2x2 inputs, 4x4 of two channels, 4x4, 1x1.
    case = Case(width=1, batch=5, size=4, levels=1)
    assert list(convolutions(case)) == [288, 288, 72, 72, 72, 576, 288, 32]
    assert forward_flops(case) == 1688
    assert train_flops(case) == 3 * 1688 - 288


def test_xla_counts_a_convolution_as_one_does_by_hand():
    # A side of n pixels and three taps: 3 n products, two of them with padding, which XLA leaves out.
    b, n, i, o = 2, 16, 4, 8
    x, kernel = jnp.ones((b, n, n, i)), jnp.ones((3, 3, i, o))

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert xla_flops(jax.jit(convolve).lower(x, kernel).compile()) == 2 * b * (3 * n - 2) ** 2 * i * o


def test_rows():
    assert Row("train_step", "s", 3.0, 2.0).as_json() == {
        "name": "train_step",
        "shape": "s",
        "ours_ms": 3.0,
        "peer_ms": 2.0,
        "ratio": 1.5,
    }
    alone = Row("startup", "s", 3.0).as_json()
    assert alone["peer_ms"] is None and alone["ratio"] is None
    assert benchmarks.table([Row("train_step", "s", 3.0, 2.0), Row("startup", "long", 10.0)]).splitlines() == [
        "| what       | shape | ours, ms | peer, ms | ours / peer |",
        "| ---------- | ----- | -------: | -------: | ----------: |",
        "| train_step | s     |     3.00 |     2.00 |       1.500 |",
        "| startup    | long  |    10.00 |          |             |",
    ]


def test_the_fastest_way_is_taken_and_a_broken_one_left_out(capsys):
    def broken():
        raise OSError("no compiler")

    seconds = {"slow": 3.0, "quick": 1.0, "middling": 2.0}
    ways = {name: (lambda name=name: lambda: name) for name in seconds} | {"broken": broken}
    name, call, took = fastest(ways, lambda call, calls: seconds[call()])
    assert (name, call(), took) == ("quick", "quick", 1.0)
    assert "broken is left out: OSError: no compiler" in capsys.readouterr().err


def test_a_missing_peer_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(network.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--against torch needs torch, .* `pip install -e '\.\[peers\]'`"):
        benchmarks.main(["--against", "torch"])


def test_json_of_what_was_measured(tmp_path, monkeypatch, capsys):
    measured = [Row("train_step", "s", 3.0, 2.0), Row("inference", "s", 1.0)]
    asked = []

    def compare(kinds, against):
        asked.append((list(kinds), list(against)))
        return measured

    monkeypatch.setattr(network, "compare", compare)
    out = tmp_path / "timings.json"
    assert benchmarks.main(["--only", "inference", "train_step", "--json", str(out)]) == 0
    assert asked == [(["train_step", "inference"], [])]
    assert json.loads(out.read_text()) == [row.as_json() for row in measured]
    assert "| train_step | s     |" in capsys.readouterr().out
    with pytest.raises(UserError, match="is in no folder"):
        benchmarks.main(["--json", str(tmp_path / "absent" / "timings.json")])


SIDE = """
import os

class Side:
    def variable(self, name):
        return os.environ.get(name)

    def fail(self):
        raise ValueError("seven")

    def die(self):
        os._exit(3)
"""


def test_a_worker(tmp_path, monkeypatch):
    (tmp_path / "a_side.py").write_text(SIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("KEPT", "yes")
    with Worker("a_side", {"EXTRA": "1"}) as worker:
        assert [worker.call("variable", name) for name in ("OMP_NUM_THREADS", "KEPT", "EXTRA")] == [None, "yes", "1"]
        with pytest.raises(RunError, match=r"a_side\.fail: ValueError: seven"):
            worker.call("fail")
        assert worker.call("variable", "KEPT") == "yes"
        with pytest.raises(RunError, match="exit code 3"):
            worker.call("die")


def test_help_loads_nothing_heavy():
    said, loaded = loaded_by_help("experiments.benchmarks")
    assert "--against" in said
    assert not {"jax", "tensorflow", "torch", "matplotlib"} & loaded
