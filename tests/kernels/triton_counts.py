"""What a training step of a network asks of a GPU, counted without one: test_triton.py runs this file.

The operators' CPU kernels are replaced by those of CUDA, which start nothing here and leave their outputs as they are. Prints
per network: launches of our kernels, operations of PyTorch that start something, and copies between host and device. With -v,
which: TRITON_INTERPRET=1 python tests/kernels/triton_counts.py sew_resnet18 -v
"""

import sys
from collections import Counter
from functools import partial

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from spikewise import build_model
from spikewise.kernels import get_backend
from spikewise.kernels.ops import RECORDS, taking_records
from spikewise.kernels.triton import KERNELS, max_pool, norm_fire, packing
from spikewise.neurons import PLIF

NO_LAUNCH = {
    "empty",
    "empty_strided",
    "empty_like",
    "new_empty",
    "new_empty_strided",
    "detach",
    "_unsafe_view",
    "promote_types",
}
WAITS = {"_local_scalar_dense", "item", "is_nonzero", "lift_fresh", "lift_fresh_copy", "equal", "nonzero"}


class Count(TorchDispatchMode):
    """Counts operations by name, but for those that start nothing on a GPU."""

    def __init__(self):
        super().__init__()
        self.found, self.waits = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, returns = func._schema.name.split("::")[1], func._schema.returns
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        if name in WAITS:
            self.waits[name] += 1
        elif func.namespace != "spikewise" and not view and name not in NO_LAUNCH:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def counted(kernel, name, mode):
    flat = taking_records(kernel, RECORDS[name]) if name in RECORDS else kernel

    def run(*args):
        with mode:  # an operator is called with the mode switched off
            return flat(*args)

    return run


def step(net, optimizer, x, labels):
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(x)
    F.cross_entropy(logits.float(), labels).backward()
    optimizer.step()


def main(names, verbose):
    mode = Count()

    def start(kernel, programs, device, *args, **constants):
        mode.found[kernel.__name__] += 1

    for module in (norm_fire, max_pool, packing):
        module.launch = start
    library = torch.library.Library("spikewise", "FRAGMENT")
    for name, kernel in KERNELS.items():
        library.impl(name, counted(kernel, name, mode), "CPU", allow_override=True)
    assert get_backend("triton", torch.ones(1)).name == "triton"
    for name in names:
        options = {"neuron": partial(PLIF, decay_input=False)} if name == "sew_resnet20" else {}
        net = build_model(name, num_classes=10, T=4, backend="triton", **options).train().to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, foreach=True)
        x, labels = torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last), torch.tensor([1, 3])
        step(net, optimizer, x, labels)  # makes the optimiser's buffers
        optimizer.zero_grad()
        mode.found.clear()
        mode.waits.clear()
        with mode:
            step(net, optimizer, x, labels)
        ours = sum(count for kernel, count in mode.found.items() if kernel.endswith("_kernel"))
        print(name, ours, mode.found.total() - ours, mode.waits.total(), flush=True)
        if verbose:
            print(dict(mode.found.most_common()), dict(mode.waits))


if __name__ == "__main__":
    main([word for word in sys.argv[1:] if word != "-v"], verbose="-v" in sys.argv)
