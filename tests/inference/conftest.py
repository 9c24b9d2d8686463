"""A predictor without a network for the command, and folders to predict from and to."""

import pytest

from tests.helpers.prediction import FakePredictor, Job


@pytest.fixture
def fake(monkeypatch):
    """The class that `unet_jax.predict` makes a predictor of."""

    class Fake(FakePredictor):
        pass

    monkeypatch.setattr("unet_jax.runs.networks.load", lambda *given, **named: Fake.open(*given, **named))
    return Fake


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)
