"""The benchmarks compare like with like: the same function, and operations counted as they are by hand."""

import importlib.util
import json
from contextlib import contextmanager
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import __main__ as benchmarks
from experiments.benchmarks import network, ours, phantom
from experiments.benchmarks.cases import BestCase, Case, Row, network_input, sample
from experiments.benchmarks.flops import convolutions, forward_flops, train_flops, xla_flops
from experiments.benchmarks.scaling import ENVIRONMENT, count_all_reduced
from experiments.benchmarks.variants import fastest
from experiments.benchmarks.workers import Worker, alone
from tests.helpers.commands import loaded_by_help
from unet_jax.config import ModelConfig, RunError, UserError, preset
from unet_jax.models.network import abstract_variables


@contextmanager
def process_of(name):
    """A peer in a process of its own; not even imported here, since TensorFlow and PyTorch together crash a process."""
    for module in network.NEEDED[name]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: {network.REMEDY[name]}")
    with Worker(f"experiments.benchmarks.{name}_peer", network.ENVIRONMENT[name]) as peer:
        yield peer


@pytest.mark.parametrize("name", [pytest.param("keras", marks=pytest.mark.slow), "torch"])
def test_the_network_of_a_peer_is_ours(name):
    case = Case(width=4, batch=3, size=16, levels=2, dropout=0.0)
    here = ours.Side()
    with process_of(name) as peer:
        peer.call("build", case, here.build(case, flip=False))
        (logits, loss), (peer_logits, peer_loss) = here.evaluate(), peer.call("evaluate")
        assert logits.shape == (3, 16, 16, 1) and np.ptp(logits) > 0.1
        np.testing.assert_allclose(peer_logits, logits, atol=1e-5)
        assert peer_loss == pytest.approx(loss, abs=1e-5)
        # Batch statistics, gradients and the optimizer too: a step lowers the loss by about a hundredth.
        losses = here.train_losses(4)
        assert losses[3] < losses[0] - 0.02
        peer_losses = peer.call("train_losses", 4)
        assert peer_losses == pytest.approx(losses, abs=5e-4)

        rough = replace(case, precision="bfloat16")
        peer.call("build", rough, here.build(rough, flip=False))
        # Verified in float32, whatever is timed.
        np.testing.assert_allclose(peer.call("evaluate")[0], logits, atol=1e-5)
        rough_losses = peer.call("train_losses", 4)
        assert rough_losses == pytest.approx(here.train_losses(4), abs=1e-2)
        assert rough_losses[0] != pytest.approx(peer_losses[0], abs=1e-6)


@pytest.mark.slow
def test_the_preset_best_is_measured_as_it_is_trained():
    case = BestCase(batch=2, size=32, precision="bfloat16")
    model, optim = case.config.model, case.config.optim
    assert model == replace(preset("best").model, encoder_weights="none", precision="bfloat16")
    assert optim == preset("best").optim and optim.weight_decay > 0
    side = ours.Side()
    weights = side.build(case)
    assert "params/encoder_block6_0/conv_pwl/kernel" in weights
    first, second = side.train_losses(2)
    assert np.isfinite([first, second]).all() and first != second
    assert side.prepare("inference")[0] == "jit"


def test_a_network_of_the_same_kind_in_smp():
    case = BestCase(batch=2, size=64)
    # Its encoder is ours; each level of its decoder joins the skip connection, but at full size, to repeated pixels.
    encoder = list(convolutions(case))[:48]
    decoder, channels = 0, 320
    for side, skip, width in [(4, 112, 128), (8, 40, 64), (16, 24, 48), (32, 16, 32), (64, 0, 16)]:
        decoder += 2 * 9 * side**2 * ((channels + skip) * width + width * width)
        channels = width
    with process_of("smp") as peer:
        assert peer.call("build", case) == (3_831_633, sum(encoder) + decoder + 2 * 9 * 64**2 * 16)
        losses = peer.call("train_losses", 3)
        assert losses[2] < losses[0]
        for kind in ("train_step", "inference"):
            assert peer.call("prepare", kind, False)[0] == "eager"
            assert peer.call("block", 1) > 0
        peer.call("build", replace(case, precision="bfloat16"))
        rough = peer.call("train_losses", 1)
        assert rough == pytest.approx(losses[:1], abs=0.05)
        assert rough != pytest.approx(losses[:1], abs=1e-6)


@pytest.mark.parametrize(
    "case",
    [Case(width=4, batch=3, size=16, levels=2), pytest.param(BestCase(batch=2, size=32), marks=pytest.mark.slow)],
    ids=["plain", "best"],
)
def test_an_exported_network_in_onnxruntime_is_ours(case):
    here = ours.Side()
    with process_of("onnxruntime") as peer:
        network.build({"ours": InProcess(here), "onnxruntime": peer}, case)
        np.testing.assert_allclose(peer.call("evaluate")[0], here.evaluate()[0], atol=1e-4)
        assert peer.call("prepare", "inference")[1] > 0
        with pytest.raises(RunError, match="kind is train_step"):
            peer.call("prepare", "train_step")


class InProcess:
    """Calls to the side that is here."""

    def __init__(self, side: ours.Side):
        self.side = side

    def call(self, method, *args):
        return getattr(self.side, method)(*args)


class Fake:
    """A framework that gives these logits."""

    def __init__(self, logits: float):
        self.logits = logits

    def call(self, method, *args):
        return {
            "build": {"params/output/bias": np.zeros(1)},
            "evaluate": (np.full((1, 2, 2, 1), self.logits), 1.0),
            "describe": {"accelerator": False},
        }[method]


class FakeAlike(Fake):
    """One whose network has so many values and operations, and which gives no logits."""

    def call(self, method, *args):
        return {"build": (3_831_633, 240_000_000)}[method]


def test_a_peer_that_computes_something_else_is_not_timed():
    case = Case(4, 1, 32)
    network.build({"ours": Fake(0.5), "keras": Fake(0.5004)}, case)
    for wrong in (0.502, np.nan):
        with pytest.raises(RunError, match="keras does not compute our network at width 4, batch 1, 32 px"):
            network.build({"ours": Fake(0.5), "keras": Fake(wrong)}, case)


def test_a_peer_of_the_same_kind_is_named_as_such(capsys):
    network.build({"ours": Fake(0.5), "smp": FakeAlike(0.0)}, BestCase(2, 64))
    said = capsys.readouterr().out
    assert "not the same function" in said and "3,831,633 values (ours 1), 0.24 GFLOP" in said


def test_each_network_meets_the_peers_that_have_it(monkeypatch):
    met, begun = [], []

    @contextmanager
    def started(against):
        begun.append(list(against))
        yield {name: Fake(0.5) for name in ("ours", *against)}

    def timed(sides, kind, case):
        met.append((kind, case.shape, list(sides)))
        return {name: float(i + 2) for i, name in enumerate(sides)}

    monkeypatch.setattr(network, "started", started)
    monkeypatch.setattr(network, "build", lambda sides, case: None)
    monkeypatch.setattr(network, "timed", timed)
    monkeypatch.setattr(network, "_report_share", lambda *_: None)
    monkeypatch.setattr(network, "ANYWHERE", (Case(4, 1, 32), BestCase(2, 64)))

    rows = network.compare(["inference", "best_inference"], ["smp", "keras"], ["float32", "bfloat16"])
    assert met == [
        ("inference", "width 4, batch 1, 32 px", ["ours", "keras"]),
        ("inference", "batch 2, 64 px", ["ours", "smp"]),
        ("inference", "width 4, batch 1, 32 px, bfloat16", ["ours", "keras"]),
        ("inference", "batch 2, 64 px, bfloat16", ["ours", "smp"]),
    ]
    assert [(row.name, row.shape, row.ours_ms, row.peer_ms) for row in rows] == [
        ("inference", "width 4, batch 1, 32 px", 2.0, 3.0),
        ("inference", "width 4, batch 1, 32 px, bfloat16", 2.0, 3.0),
        ("best_inference", "batch 2, 64 px", 2.0, 3.0),
        ("best_inference", "batch 2, 64 px, bfloat16", 2.0, 3.0),
    ]
    (row,) = network.compare(["best_train_step"], ["torch"])
    assert (row.name, row.peer_ms) == ("best_train_step", None)
    assert begun == [["smp", "keras"], []]
    met.clear()
    network.compare(["train_step", "inference", "best_inference"], ["keras", "onnxruntime"], ["float32", "bfloat16"])
    assert [sides for kind, shape, sides in met if kind == "train_step"] == [["ours", "keras"]] * 2
    assert [(shape, sides[1:]) for kind, shape, sides in met if kind == "inference"] == [
        ("width 4, batch 1, 32 px", ["keras", "onnxruntime"]),
        ("batch 2, 64 px", ["onnxruntime"]),
        ("width 4, batch 1, 32 px, bfloat16", ["keras"]),
        ("batch 2, 64 px, bfloat16", []),
    ]


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


def test_operations_of_the_preset_best_by_hand():
    case = BestCase(batch=3, size=32)
    counts = list(convolutions(case))
    # The stem; the first block, which does not widen; the second block's widening, and the rest of it at half the side.
    assert counts[:3] == [2 * 9 * 256 * 32, 2 * 9 * 256 * 32, 2 * 256 * 32 * 16]
    assert counts[3:6] == [2 * 256 * 16 * 96, 2 * 9 * 64 * 96, 2 * 64 * 96 * 24]
    # From one pixel of 320 channels to four of 128; at full size 16 channels and the image itself; 1x1 output.
    assert counts[-16:-13] == [2 * 9 * 1 * 320 * 128, 2 * 9 * 4 * (128 + 112) * 128, 2 * 9 * 4 * 128 * 128]
    assert counts[-4:] == [2 * 9 * 256 * 32 * 16, 2 * 9 * 1024 * 17 * 16, 2 * 9 * 1024 * 16 * 16, 2 * 1024 * 16]
    # A stem, 2 convolutions in the first block, 3 in each of 15, 3 a level of the decoder, and the output.
    assert len(counts) == 1 + 2 + 3 * 15 + 3 * 5 + 1


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


@pytest.mark.parametrize(("peer", "module"), [("torch", "torch"), ("smp", "segmentation_models_pytorch")])
def test_a_missing_peer_is_named_with_the_command_that_installs_it(peer, module, monkeypatch):
    monkeypatch.setattr(network.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"--against {peer} needs {module}, .* `pip install -e '\.\[peers\]'`"):
        benchmarks.main(["--against", peer])


def test_json_of_what_was_measured(tmp_path, monkeypatch, capsys):
    measured = [Row("train_step", "s", 3.0, 2.0), Row("inference", "s", 1.0)]
    asked = []

    def compare(names, against, precisions):
        asked.append((names, against, precisions))
        return measured

    monkeypatch.setattr(network, "compare", compare)
    out = tmp_path / "timings.json"
    assert benchmarks.main(["--only", "inference", "train_step", "--json", str(out)]) == 0
    assert asked == [(["train_step", "inference"], (), ("float32",))]
    assert json.loads(out.read_text()) == [row.as_json() for row in measured]
    said = capsys.readouterr().out
    assert "| train_step | s     |" in said and "not the same function" not in said
    monkeypatch.setattr(network, "check_installed", lambda against: None)
    measured[:] = [Row("best_inference", "s", 3.0, 2.0)]
    assert benchmarks.main(["--only", "best_inference", "--against", "smp", "--precision", "float32", "bfloat16"]) == 0
    assert asked[1:] == [(["best_inference"], ("smp",), ("float32", "bfloat16"))]
    assert "not the same function" in capsys.readouterr().out
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


def test_data_that_two_measurements_need_are_made_once(tmp_path):
    first, again = (phantom.converted(tmp_path, 3, 16) for _ in range(2))
    assert first.path == again.path and len(first) == len(again) > 3


def test_bytes_of_all_reduces():
    program = """
  %all-reduce.1 = f32[3,3,1,64]{3,2,1,0} all-reduce(%a), channel_id=1, to_apply=%add
  %b = f32[8]{0} add(%x, %y)
  ROOT %c = (bf16[10]{0}, f32[]) all-reduce(%d, %e), channel_id=2
  %f = pred[7]{0} all-reduce-start(%g)
"""
    assert count_all_reduced(program) == (3, 4 * 576 + 2 * 10 + 4 + 7)


@pytest.mark.slow
def test_devices_add_up_the_gradients(tmp_path):
    """Each float32 gradient, and little else: the sums of batch normalisation, and what the metrics count."""
    data = phantom.converted(tmp_path, 6, 64).path
    count, size = alone("experiments.benchmarks.scaling", "all_reduced", data, 2, environment=ENVIRONMENT)
    variables = abstract_variables(ModelConfig(width=2))
    gradients = 4 * sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count >= 1 and gradients <= size < 1.2 * gradients + 4096
