"""Exported files of the network of `tests.helpers.exported`."""

import onnx
import pytest

from tests.helpers.exported import write_onnx, write_stablehlo


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory):
    """An ONNX file, not to be changed."""
    path = write_onnx(tmp_path_factory.mktemp("onnx") / "neighbours.onnx")
    onnx.checker.check_model(path, full_check=True)
    return path


@pytest.fixture(scope="session")
def stablehlo_file(tmp_path_factory):
    """A StableHLO file, not to be changed."""
    return write_stablehlo(tmp_path_factory.mktemp("stablehlo") / "neighbours.stablehlo")


@pytest.fixture(params=["onnx", "stablehlo"])
def exported_file(request):
    """Each of the two."""
    return request.getfixturevalue(f"{request.param}_file")
