import copy
import itertools
import math
from itertools import pairwise

import pytest
import torch

from learning import learn
from spikewise.models import CONNECT, build_model
from spikewise.models.recorder import firing_rates, record_activity, step_summary


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
    assert rates["layer1.0"].max_value == float(torch.cat(outputs, 1).max())


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
    assert not any(block.last_layer.spikes._forward_hooks or block._forward_hooks for block in net.blocks.values())
    assert torch.equal(net.eval()(batches()[0]), expected)


def test_a_relu_network_has_no_firing_rates():
    with pytest.raises(ValueError, match="does not spike"):
        firing_rates(build_model("resnet20", num_classes=5), batches())


def test_rates_by_time_step_class_and_value_are_means_of_what_blocks_fire():
    net = build_model("sew_resnet20", num_classes=3, T=5).eval()
    samples = [(batch, torch.tensor([0, 2, 2, 0])) for batch in batches()]
    outputs, inputs = [], []
    net.layer1[1].register_forward_hook(lambda _m, given, out: inputs.append(given[0]) or outputs.append(out))
    at = firing_rates(net, samples)["layer1.1"]
    out, given = torch.cat(outputs, 1).detach().double(), torch.cat(inputs, 1).detach().double()
    assert at.output_by_time == pytest.approx(out.flatten(1).mean(1).tolist(), rel=1e-6)
    labels = torch.tensor([0, 2, 2, 0] * 3)
    for label in (0, 2):
        assert at.output_by_class[label] == pytest.approx(float(out[:, labels == label].mean()), rel=1e-6)
    assert math.isnan(at.output_by_class[1])
    assert at.branch_by_time == pytest.approx((out - given).flatten(1).mean(1).tolist(), rel=1e-6)  # ADD
    assert at.distance == pytest.approx(float((out - given).abs().mean()), rel=1e-6)
    assert at.values[:4] == pytest.approx([float((out == value).double().mean()) for value in range(4)])
    assert sum(at.values) == pytest.approx(1)
    assert firing_rates(net, batches())["layer1.1"].output_by_class == []


@pytest.mark.parametrize("connect", ["AND", "IAND"])
def test_distance_from_the_identity_is_the_share_of_values_that_differ(connect):
    net = build_model("sew_resnet20", num_classes=3, connect=connect)
    found = firing_rates(net, batches())
    assert found["layer2.0"].distance is None  # its shape changes
    at = found["layer1.1"]
    assert at.distance == pytest.approx(found["layer1.0"].output - at.output, abs=1e-7)  # both only take spikes away


@pytest.mark.parametrize(
    ("name", "connect"), [*itertools.product(["sew_resnet20", "sew_7b"], CONNECT), ("spiking_resnet20", "ADD")]
)
def test_a_watched_step_of_training_is_the_same_step(name, connect):
    """To the bit: so a run may be watched, and stays the run it was."""
    events = name == "sew_7b"
    x = torch.randint(0, 3, (4, 2, 2, 16, 16)).float() if events else torch.rand(2, 3, 12, 12)
    net = build_model(name, num_classes=5, connect=connect, **({"num_blocks": 3} if events else {})).train()
    other = copy.deepcopy(net)
    expected, _ = learn(net, x)
    with record_activity(other, details=True) as watches:
        again, _ = learn(other, x)
    assert all(map(torch.equal, again, expected))
    said = step_summary(other, watches)
    assert list(said["blocks"]) == list(net.blocks)
    assert all(block["gradient"] >= 0 for block in list(said["blocks"].values())[1:])
    assert (said["tau"] != {}) == events
