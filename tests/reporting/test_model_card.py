"""The model card: its front matter, the command in it, scores with intervals, and what it says of its data."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

from tests.helpers.commands import asked_of_train
from tests.helpers.report import make_summary
from unet_jax.config import AugmentConfig, Config, ModelConfig, UserError, preset
from unet_jax.reporting import model_card as card_module
from unet_jax.reporting.model_card import model_card
from unet_jax.scoring.components import Postprocess

CHOSEN = SimpleNamespace(
    size=64,
    threshold=0.35,
    postprocess=Postprocess(25, True),
    mask_rule="area",
    step=70,
    data_digest="d1",
    checkpoint_sha256="c1",
    dtype="float16",
    unet_jax="0.2.0",
)
CONFIG = replace(
    preset("original", "/some/where/figshare-64"),
    model=ModelConfig(width=8, levels=3, remat=True),
    augment=AugmentConfig(horizontal_flip=False),
    seed=3,
)


def split(kind="patient", patients_straddling=0) -> SimpleNamespace:
    """What a card says of a split: its kind, and numbers of slices."""
    sides = {"train": [*range(7)], "val": [7], "test": [8, 9]}
    return SimpleNamespace(kind=kind, patients_straddling=patients_straddling, **sides)


def card(config: Config = CONFIG, summary=None, of_run=None, twin=None) -> str:
    return model_card(
        name="best",
        workdir="a",
        config=config,
        chosen=CHOSEN,
        split=of_run or split(),
        twin=twin,
        patients=9,
        summary=summary,
    )


def summary(**changes):
    return make_summary(40, data_digest="d1", **changes)


def test_the_hub_reads_its_head():
    _, head, text = card().split("---\n", 2)
    said = yaml.safe_load(head)
    assert (said["license"], said["pipeline_tag"]) == ("mit", "image-segmentation")
    assert {"brain-tumor", "jax"} <= set(said["tags"])
    assert text.startswith("\n# best\n")
    assert all(word not in text for word in ("{{", "{%", "None\n", "/some/where"))


@pytest.mark.parametrize("config", [CONFIG, replace(preset("demo"), seed=5)])
def test_the_command_trains_that_configuration(config, monkeypatch):
    """As `train` itself reads it, but for the folder of the data."""
    (command,) = [line for line in card(config).splitlines() if line.startswith("python -m unet_jax.train ")]
    _, workdir, asked = asked_of_train(monkeypatch, command.split()[3:])
    assert (str(workdir), asked) == ("runs/a", replace(config, data=config.data and "figshare-64"))


def test_options_that_differ_stand_with_their_defaults():
    text = card()
    assert "| `model.width` | 8 | 64 |\n" in text and "| `augment.horizontal-flip` | False | True |\n" in text
    assert "`optim.epochs`" not in text and "`data`" not in text
    assert "All options are the defaults." in card(Config(data="d"))


def test_scores_stand_with_their_intervals():
    got = summary()
    native, text = got["native"], card(summary=got)
    dice, (low, high) = native["mean_dice"], native["ci95"]["mean_dice"]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    (everything,) = [row for row in rows if row[0] == "| All"]
    assert everything[1:3] == ["40", f"{dice:.3f} ({low:.3f} to {high:.3f})"]
    assert [row[0] for row in rows[-3:]] == ["| Meningioma", "| Glioma", "| Pituitary"]
    assert "Split `test`, 40 slices of 20 patients" in text and "threshold 0.25;" in text
    assert "None were given at export." in card()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data_digest": "d2", "split": "all"}, "Split `all` of another dataset, "),
        ({"split": "val"}, "These are not slices that were kept out of training and of all choices."),
        ({"tta": True, "postprocess": {}}, "averaged with the mirror image; "),
        ({"tta": True, "postprocess": {"min_pixels": 9}}, "averaged with the mirror image, masks cleaned; "),
        (
            {"training_slices": {"n": 4, "by_key": {"file": 4, "identity": 3, "fingerprint": 2}, "not_recognised": 36}},
            "Trained on 4 of these 40 slices (the same file: 4; the same number, tumour type and patient: 3; ",
        ),
    ],
)
def test_scores_that_are_not_of_held_out_slices_are_told(changes, said):
    assert said in card(summary=summary() | changes)
    assert said not in card(summary=summary())


@pytest.mark.parametrize("wrong", [{}, {"native": []}, {"native": {}, "n_slices": 1}, {"native": 1, "n_slices": 1}])
def test_a_summary_that_is_none_is_named(wrong):
    with pytest.raises(UserError, match=r"^--summary is no summary\.json of `unet_jax\.eval`"):
        card(summary=wrong)


def test_data_and_encoder_are_those_of_the_run(monkeypatch):
    real, phantom = card(), card(preset("demo"))
    assert "CC BY 4.0" in real and "drawn at random" in real and "No patient is on two sides." in real
    assert "CC BY 4.0" not in phantom and "Computer-made phantom slices" in phantom
    assert "3 patients have slices both in training and elsewhere" in card(of_run=split(patients_straddling=3))
    options = {"model.encoder": "efficientnet_lite0", "model.encoder-weights": "hf:a/b"}
    monkeypatch.setattr(card_module, "flatten", lambda config, flat=card_module.flatten: flat(config) | options)
    pretrained = card()
    assert "started from EfficientNet-Lite0, trained on ImageNet" in pretrained and "licence Apache 2.0" in pretrained
    assert yaml.safe_load(pretrained.split("---\n")[1])["license"] == "apache-2.0"


def test_a_network_of_all_slices_has_the_scores_of_its_twin():
    alone = card(summary=summary(), of_run=split("whole", patients_straddling=9))
    assert "trained on all 7 slices" in alone and "No patient is on two sides." not in alone
    assert "another network" not in alone
    both = " ".join(card(summary=summary(), of_run=split("whole"), twin=split()).split())
    assert "They are those of another network** with the same options, trained on the split `patient`: 7 slices" in both
    assert (
        "1 for validation, 2 for test, no patient on two sides. Threshold and cleaning were chosen by it too." in both
    )
