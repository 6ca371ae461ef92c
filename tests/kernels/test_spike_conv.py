"""The convolution equals PyTorch's; so does the gradient of its weights, taken as a matrix product."""

import pytest
import torch
import torch.nn.functional as F

from spikewise.kernels import spike_conv as module
from spikewise.kernels.spike_conv import spike_conv
from spikewise.models.layers import SpikeConv

SHAPES = [
    # channels, out channels, height, width, size, stride
    (8, 5, 4, 4, 3, 1),
    (8, 5, 7, 5, 3, 2),
    (6, 3, 6, 8, 3, 2),
    (4, 7, 5, 5, 1, 1),
    (4, 7, 6, 5, 1, 2),
    (2, 3, 9, 9, 5, 3),
    (3, 2, 1, 1, 3, 1),
]


@pytest.fixture
def always_product(monkeypatch):
    """The matrix product whatever the processor and the shape."""
    calls = []
    monkeypatch.setattr(module, "prefer_matmul_weight_grad", lambda *_: True)
    taken = module.matmul_weight_grad
    monkeypatch.setattr(module, "matmul_weight_grad", lambda *given: (calls.append(1), taken(*given))[1])
    return calls


def tensors(shape, dtype=torch.float32, layout=torch.channels_last):
    """Spikes, weights and an incoming gradient of few binary digits: sums are exact in float32 in any order."""
    channels, out_channels, height, width, size, stride = shape
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randint(0, 3, (3, channels, height, width), generator=generator).to(dtype)
    weight = (torch.randint(-8, 9, (out_channels, channels, size, size), generator=generator) / 16).to(dtype)
    x, weight = (tensor.contiguous(memory_format=layout).requires_grad_() for tensor in (x, weight))
    shape = F.conv2d(x, weight, stride=stride, padding=size // 2).shape
    grad = (torch.randint(-8, 9, shape, generator=generator) / 8).to(dtype)
    return x, weight, grad


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_equal_to_the_convolution_of_pytorch(always_product, shape, layout):
    x, weight, grad = tensors(shape, layout=layout)
    *_, size, stride = shape
    out = spike_conv(x, weight, stride, size // 2)
    expected = F.conv2d(x, weight, stride=stride, padding=size // 2)
    assert torch.equal(out, expected)
    ours, theirs = (torch.autograd.grad(tensor, (x, weight), grad) for tensor in (out, expected))
    assert always_product
    assert all(map(torch.equal, ours, theirs))


def test_only_what_is_asked_for(always_product):
    x, weight, grad = tensors(SHAPES[0])
    (only_weight,) = torch.autograd.grad(spike_conv(x.detach(), weight, 1, 1), weight, grad)
    assert torch.equal(only_weight, torch.autograd.grad(F.conv2d(x, weight, padding=1), weight, grad)[0])
    always_product.clear()
    assert spike_conv(x, weight.detach(), 1, 1).requires_grad
    assert not spike_conv(x.detach(), weight.detach(), 1, 1).requires_grad
    with torch.no_grad():
        assert torch.equal(spike_conv(x, weight, 1, 1), F.conv2d(x, weight, padding=1))
    assert not always_product


def test_under_autocast_it_computes_in_its_type(always_product):
    x, weight, grad = tensors(SHAPES[0])
    with torch.autocast("cpu", torch.bfloat16):
        out, expected = spike_conv(x, weight, 1, 1), F.conv2d(x, weight, padding=1)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, expected)
    ours, theirs = (torch.autograd.grad(tensor, (x, weight), grad.bfloat16()) for tensor in (out, expected))
    assert {gradient.dtype for gradient in ours} == {torch.float32}
    assert all(map(torch.equal, ours, theirs))


def test_a_second_derivative_is_refused(always_product):
    x, weight, grad = tensors(SHAPES[0])
    (first,) = torch.autograd.grad(spike_conv(x, weight, 1, 1), weight, grad.requires_grad_(), create_graph=True)
    with pytest.raises((RuntimeError, NotImplementedError), match="no second derivative"):
        first.sum().backward()


def test_the_layer_is_an_ordinary_convolution(always_product):
    torch.manual_seed(0)
    ours = SpikeConv(4, 6, 3, stride=2, padding=1, bias=False)
    theirs = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
    theirs.load_state_dict(ours.state_dict())
    seen = []
    ours.register_forward_hook(lambda *_: seen.append(1))
    x = torch.randn(2, 4, 9, 9)
    assert torch.equal(ours(x), theirs(x))
    assert seen
    ours.bias = torch.nn.Parameter(torch.ones(6))
    assert torch.equal(ours(x), theirs(x) + 1)


@pytest.mark.parametrize(
    ("shape", "faster"),
    [
        ((512, 512, 7, 7, 3, 1), True),
        ((256, 256, 14, 14, 3, 1), False),
        ((256, 64, 56, 56, 1, 1), True),
        ((32, 32, 4, 4, 1, 1), False),
    ],
)
def test_taken_where_it_was_measured_to_pay(shape, faster, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    channels, out_channels, height, width, size, stride = shape
    x = torch.empty(1, channels, height, width, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    weight = torch.empty(out_channels, channels, size, size, dtype=torch.bfloat16)
    assert module.prefer_matmul_weight_grad(x, weight, torch.bfloat16, stride, size // 2) == faster
    assert not module.prefer_matmul_weight_grad(x.float(), weight.float(), torch.float32, stride, size // 2)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert not module.prefer_matmul_weight_grad(x, weight, torch.bfloat16, stride, size // 2)
