"""Networks to be diagnosed, and the findings of a diagnosis by problem."""

import torch
import torch.nn.functional as F

import spikewise as sw
from spikewise.analysis.diagnosis.diagnose import diagnose, random_labels

BLOCK = "layer2.1"
IMAGENET = sw.RECIPES["imagenet/sew-resnet18"]()


def images(n=8, side=32):
    return torch.randn(n, 3, side, side)


def frames():
    return torch.randint(0, 3, (4, 4, 2, 32, 32)).float()


def network(name="sew_resnet18", **options):
    return sw.build_model(name, num_classes=10, **({"T": 4} | options))


def event_network(name="sew_7b", num_blocks=5):
    return sw.build_model(name, num_classes=11, num_blocks=num_blocks)


def trained(net, steps=25):
    """A few steps on noise with labels that can be learnt: enough for running statistics to settle."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    batches = [(images() + 0.1 * i, torch.arange(8)) for i in range(3)]
    for step in range(steps):
        x, labels = batches[step % 3]
        optimizer.zero_grad()
        F.cross_entropy(net.train()(x), labels).backward()
        optimizer.step()
    return net


def problems(net, x=None, labels=None, config=None, steps_of_run=0):
    """Findings by problem; the network is left as it was."""
    x = images() if x is None else x
    before = {key: value.clone() for key, value in net.state_dict().items()}
    labels = random_labels(net, x) if labels is None else labels
    findings = diagnose(net, x, labels, config, steps_of_run=steps_of_run)
    assert all(torch.equal(value, before[key]) or value.isnan().any() for key, value in net.state_dict().items())
    return {finding.problem: finding for finding in findings}


def conv1(net, block=BLOCK):
    return net.get_submodule(f"{block}.conv1")


def last_norm(net, block=BLOCK):
    return net.blocks[block].last_layer.norm


def norms(net):
    return [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
