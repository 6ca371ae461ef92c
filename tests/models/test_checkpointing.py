"""Activation checkpointing: the same numbers to the bit, less kept, running estimates moved once."""

import pytest
import torch
import torch.nn.functional as F

from learning import learn
from spikewise.models import build_model
from spikewise.models.recorder import record_activity

NETWORKS = [
    ("sew_resnet18", {}),
    ("sew_resnet18", {"connect": "IAND"}),
    ("spiking_resnet20", {}),
    ("ms_resnet20", {}),
    ("resnet20", {}),
    ("sew_7b", {"num_blocks": 3}),
]
kinds = pytest.mark.parametrize("checkpointing", ["block", "stage"])
packings = pytest.mark.parametrize("packing", [True, False], ids=["packed", "whole"])
networks = pytest.mark.parametrize(("name", "options"), NETWORKS, ids=[f"{n} {o}" for n, o in NETWORKS])


def learned(name, options, change=lambda net: None, *, checkpointing="none", packing=True, autocast=False, side=32):
    """What a changed network learns, and the bytes that it keeps."""
    torch.manual_seed(0)
    net = build_model(name, num_classes=5, **options).train().to(memory_format=torch.channels_last)
    net.checkpointing, net.packing = checkpointing, packing
    change(net)
    x = torch.rand(2, 2, 2, side, side) * 3 if "7b" in name else torch.rand(2, 3, side, side)
    return learn(net, x, autocast=autocast)


@networks
@kinds
@packings
@pytest.mark.parametrize("autocast", [True, False], ids=["bfloat16", "float32"])
def test_the_same_numbers_and_less_kept(name, options, checkpointing, packing, autocast):
    again, less = learned(name, options, checkpointing=checkpointing, packing=packing, autocast=autocast)
    expected, more = learned(name, options, packing=packing, autocast=autocast)
    assert all(map(torch.equal, again, expected))
    assert less < 0.85 * more


@kinds
def test_a_watched_network_is_seen_once(checkpointing):
    found = []
    for word in ("none", checkpointing):
        torch.manual_seed(0)
        net = build_model("sew_resnet18", num_classes=5).train().to(memory_format=torch.channels_last)
        net.checkpointing = word
        with record_activity(net) as seen:
            found.append((*learn(net, torch.rand(2, 3, 32, 32)), seen))
    (once, _, one), (again, _, two) = found
    assert all(map(torch.equal, once, again))
    for name, watch in one.items():
        assert len(two[name].output) == len(two[name].branch) == 1
        assert torch.equal(two[name].output[0], watch.output[0])
        assert two[name].gradient_in == watch.gradient_in
        assert two[name].gradient_out == watch.gradient_out


def test_block_inputs_are_kept_as_planes():
    packed, whole = (learned("sew_resnet18", {}, checkpointing="block", packing=packing)[1] for packing in (True, False))
    assert packed < 0.6 * whole


@kinds
@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_resnet20", "resnet20"])
@pytest.mark.parametrize("every", [1, 2], ids=["all", "some"])
def test_frozen_norms_stay_frozen(name, checkpointing, every):
    """Norms in evaluation mode within a network in training: fine tuning."""

    def freeze(net):
        for norm in [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)][::every]:
            norm.eval()

    found = (learned(name, {}, freeze, checkpointing=word, side=16)[0] for word in ("none", checkpointing))
    assert all(map(torch.equal, *found))


@kinds
@packings
def test_random_numbers_are_drawn_again(checkpointing, packing):
    """A connection of the user's own may drop spikes."""
    drop = {"connect": lambda a, s: F.dropout(a, 0.5) + s}
    found = (learned("sew_resnet20", drop, checkpointing=word, packing=packing, side=16)[0] for word in ("none", checkpointing))
    assert all(map(torch.equal, *found))


class OwnBlock(torch.nn.Module):
    """A block that is none of ours, with a norm of its own."""

    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(channels, channels, 3, padding=1), torch.nn.BatchNorm3d(channels)

    def forward(self, x, states=None):
        y = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return x + self.norm(y.transpose(1, 2)).transpose(1, 2).relu()


@pytest.mark.parametrize("checkpointing", ["block", "stage"])
def test_norms_of_a_users_own_block_move_once(checkpointing):
    found = []
    for word in ("none", checkpointing):
        torch.manual_seed(0)
        net = build_model("sew_resnet20", num_classes=5).train()
        net.layer1[1] = OwnBlock(16)
        net.checkpointing = word
        loss = F.cross_entropy(net(torch.rand(2, 3, 16, 16)), torch.tensor([1, 3]))
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in net.parameters()), *net.buffers()])
    assert all(map(torch.equal, *found))


def test_an_unknown_word_is_refused():
    net = build_model("sew_resnet20", num_classes=5)
    with pytest.raises(ValueError, match="checkpointing='blocks' is unknown; use none, block, stage"):
        net.checkpointing = "blocks"
    assert net.checkpointing == "none"
