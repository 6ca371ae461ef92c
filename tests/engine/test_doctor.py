"""What `spikewise doctor` says of versions."""

import tomllib
from pathlib import Path

import pytest
import torch
from torch.torch_version import TorchVersion

from spikewise.engine import doctor

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("version", "is_old"), [("2.7.1+cu126", True), ("2.8.0", False), ("2.13.0+cpu", False), ("3.0", False)]
)
def test_a_pytorch_older_than_those_tested_is_named(monkeypatch, version, is_old):
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    assert ("older" in doctor.system_report()["torch"]) == is_old


def test_the_oldest_pytorch_is_that_of_the_package():
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"torch>={doctor.OLDEST_TORCH}" in requirements
