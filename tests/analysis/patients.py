"""Networks, input, and what is found in them, for tests of `diagnose`."""

import torch
import torch.nn.functional as F

import spikewise as sw
from spikewise.analysis.diagnosis.diagnose import diagnose, random_labels


def images(n=8, side=32):
    return torch.randn(n, 3, side, side)


def frames():
    return torch.randint(0, 3, (4, 4, 2, 32, 32)).float()


def network(name="sew_resnet18", **options):
    return sw.build_model(name, num_classes=10, **({"T": 4} | options))


def trained(net, steps=25):
    """A few steps on noise with labels that can be learnt: enough for estimates to settle."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    batches = [(images() + 0.1 * i, torch.arange(8)) for i in range(3)]
    for step in range(steps):
        x, labels = batches[step % 3]
        optimizer.zero_grad()
        F.cross_entropy(net.train()(x), labels).backward()
        optimizer.step()
    return net


def found(net, x=None, config=None):
    x = images() if x is None else x
    before = {key: value.clone() for key, value in net.state_dict().items()}
    findings = diagnose(net, x, random_labels(net, x), config)
    assert all(torch.equal(value, before[key]) or value.isnan().any() for key, value in net.state_dict().items())
    return {finding.disease: finding for finding in findings}
