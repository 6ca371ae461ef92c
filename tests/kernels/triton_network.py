"""Whole networks on Triton's kernels, interpreted, against the kernels in C: test_triton.py runs this file.

The operators' CPU kernels are replaced by those of CUDA, which the interpreter runs on the CPU.
"""

import interpreter  # noqa: F401  mends the one of older versions
import torch
import torch.nn.functional as F

from spikewise import build_model
from spikewise.kernels import get_backend
from spikewise.kernels.ops import RECORDS, taking_records
from spikewise.kernels.triton import KERNELS

NETWORKS = (  # name, options, shape of the input, under autocast to bfloat16
    ("sew_resnet18", {"T": 2, "connect": "IAND"}, (2, 3, 32, 32), False),
    ("spiking_resnet20", {"T": 2}, (2, 3, 8, 8), False),
    ("sew_7b", {"num_blocks": 2}, (3, 2, 2, 8, 8), True),
)


def learned(name, options, shape, autocast, backend):
    torch.manual_seed(0)
    net = build_model(name, num_classes=5, backend=backend, **options).train().to(memory_format=torch.channels_last)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(module.bias, 0.5)  # so that deep layers fire
    x = torch.rand(shape) * 3
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = F.cross_entropy(net(x).float(), torch.tensor([1, 3]))
    loss.backward()
    return [loss.detach(), *(p.grad for p in net.parameters())], list(net.buffers())


expected = [learned(*network, "cpu") for network in NETWORKS]
library = torch.library.Library("spikewise", "FRAGMENT")
for operator, kernel in KERNELS.items():
    flat = taking_records(kernel, RECORDS[operator]) if operator in RECORDS else kernel
    library.impl(operator, flat, "CPU", allow_override=True)
assert get_backend("triton", torch.ones(1)).name == "triton"
for network, (theirs, others) in zip(NETWORKS, expected, strict=True):
    ours, statistics = learned(*network, "triton")
    apart = [float((a - b).norm() / b.norm().clamp(min=1e-6)) for a, b in zip(ours, theirs, strict=True)]
    moved = [float((a - b).float().norm() / b.float().norm().clamp(min=1e-6)) for a, b in zip(statistics, others, strict=True)]
    print(network[0], f"{max(apart):.3g} {max(moved):.3g}", flush=True)
    assert max(apart) < (0.1 if network[-1] else 1e-4), apart  # the interpreter cuts bfloat16 off, where GPUs round
    assert max(moved) < 1e-3, moved
