from itertools import pairwise

import pytest
import torch

from spikewise.models import build_model
from spikewise.models.probe import firing_rates


def batches(number=3):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(4, 3, 8, 8, generator=generator) for _ in range(number)]


@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_resnet20", "plain_resnet20"])
def test_rates_are_the_means_of_what_blocks_fire(name):
    net = build_model(name, num_classes=5)
    rates = firing_rates(net, batches())
    assert list(rates) == list(net.blocks)
    outputs = []
    net.layer1[0].register_forward_hook(lambda _m, _a, out: outputs.append(out.detach()))
    net.eval()
    for batch in batches():
        net(batch)
    assert rates["layer1.0"].output == pytest.approx(float(torch.cat(outputs, 1).mean()), rel=1e-6)
    assert rates["layer1.0"].most == float(torch.cat(outputs, 1).max())


def test_add_puts_the_branch_on_top_of_the_shortcut():
    net = build_model("sew_resnet20", num_classes=5)
    rates = list(firing_rates(net, batches()).values())
    for before, after in pairwise(rates[:3]):
        assert after.output == pytest.approx(before.output + after.branch, rel=1e-6)


def test_silent_branches_have_rate_zero():
    net = build_model("sew_resnet20", num_classes=5, zero_init=True)
    assert {rate.branch for rate in firing_rates(net, batches()).values()} == {0}


def test_observation_changes_nothing_and_leaves_nothing_behind():
    net = build_model("sew_resnet20", num_classes=5, connect="IAND")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    expected = net.eval()(batches()[0])
    net.train()
    firing_rates(net, batches())
    assert net.training
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())
    assert all(block.last.observe is None and not block._forward_hooks for block in net.blocks.values())
    assert torch.equal(net.eval()(batches()[0]), expected)


def test_a_relu_network_has_no_firing_rates():
    with pytest.raises(ValueError, match="does not spike"):
        firing_rates(build_model("resnet20", num_classes=5), batches())
