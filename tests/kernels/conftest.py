"""What every test of kernels runs under, Triton's too."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch):
    """Memory that a kernel is to fill holds NaN or 255 before: what it leaves out is seen."""

    def poisoned(make):
        def made(*args, **options):
            tensor = make(*args, **options)
            with torch.no_grad():  # PyTorch's own may ask for gradients
                return tensor.fill_(torch.nan if tensor.is_floating_point() else 255)

        return made

    monkeypatch.setattr(torch, "empty", poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_strided", poisoned(torch.empty_strided))
