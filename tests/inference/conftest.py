"""A predictor without a network for the command, and folders to predict from and to."""

import pytest

from tests.helpers.corner import corner_predictor
from tests.helpers.prediction import FakePredictor, Job


@pytest.fixture
def fake(monkeypatch):
    """The class that `unet_jax.predict` makes a predictor of."""

    class Fake(FakePredictor):
        pass

    monkeypatch.setattr("unet_jax.runs.load.load", lambda *given, **named: Fake.open(*given, **named))
    return Fake


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


@pytest.fixture
def corner(monkeypatch):
    """The network of `tests.helpers.corner`, which `predict` loads."""
    one = corner_predictor()
    monkeypatch.setattr("unet_jax.runs.load.load", lambda *given, **named: one)
    return one
