"""Our safetensors files are the bytes that the library writes."""

import pytest
import safetensors.torch
import torch

from spikewise.models.tensor_file import DTYPES, serialize


def tensors_of_every_kind():
    tensors = {f"{dtype}/{n}".removeprefix("torch."): torch.arange(n).to(dtype) for dtype in DTYPES for n in (0, 1, 7)}
    turned = torch.randn(2, 3, 4, 5)
    tensors |= {
        "scalar": torch.tensor(3.0),
        "channels last": turned.to(memory_format=torch.channels_last),
        "part": turned[:, 1:],
    }
    return tensors | {'ünïcode 脉冲 " \\ \n': torch.ones(3), "learned": torch.nn.Parameter(torch.ones(2, 2))}


@pytest.mark.parametrize("metadata", [None, {"spikewise": '{"a": "ü\\n\\u0001\x7f"}'}])
@pytest.mark.parametrize("which", ["all", "none", "one byte"])
def test_the_file_is_that_of_the_library(which, metadata):
    tensors = {"all": tensors_of_every_kind(), "none": {}, "one byte": {"x": torch.zeros(1, dtype=torch.bool)}}[which]
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    assert bytes(serialize(tensors, metadata)) == safetensors.torch.save(contiguous, metadata)


def test_the_content_is_a_copy():
    weight = torch.zeros(3)
    content = serialize({"weight": weight})
    weight.fill_(1)
    assert torch.equal(safetensors.torch.load(bytes(content))["weight"], torch.zeros(3))


def test_a_type_that_files_do_not_hold_is_refused():
    with pytest.raises(ValueError, match=r"odd is torch.complex128, which no weights file holds; use one of bool"):
        serialize({"odd": torch.zeros(1, dtype=torch.complex128)})
