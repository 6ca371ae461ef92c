"""Norms folded into convolutions: the same network in evaluation."""

import pytest
import torch
from by_hand import drawn

from spikewise.models import build_model
from spikewise.models.folding import fold_norms
from spikewise.models.weights import load_pretrained, save_pretrained

NETWORKS = [
    *(
        ("sew_resnet20", {"connect": connect, "neuron": neuron})
        for connect in ("ADD", "AND", "IAND")
        for neuron in ("IF", "PLIF")
    ),
    ("spiking_resnet20", {}),
    ("plain_resnet20", {}),
    ("ms_resnet20", {}),
    ("resnet20", {}),
    ("rba_resnet20", {}),
    ("tdbn_resnet17", {"stem": "3x3", "v_th": 0.5, "width": 0.125}),
    ("sew_7b", {"num_blocks": 2}),
]


@pytest.mark.parametrize(("name", "how"), NETWORKS, ids=str)
def test_a_folded_network_computes_the_same_and_has_no_norm(name, how, tmp_path):
    torch.manual_seed(0)
    net = drawn(build_model(name, num_classes=3, **{"width": 0.5} | how)).double().eval()
    x = torch.rand(3, 2, net.in_channels, 8, 8, dtype=torch.float64) * 2
    folded = fold_norms(net)
    torch.testing.assert_close(folded(x), net(x), rtol=1e-10, atol=1e-10)
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(net.conv_layers) == len([layer for layer in folded.conv_layers.values() if layer.conv.bias is not None])
    if folded.spiking:
        state = None
        for frame in x:
            logits, state = folded.step(frame, state)
        assert torch.equal(logits, folded(x))
    save_pretrained(folded, tmp_path)
    assert torch.equal(load_pretrained(tmp_path)(x), folded(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda net: setattr(net.layer1[0].conv1, "norm", torch.nn.GroupNorm(2, 8)),
            r"layer1.0.conv1: a GroupNorm has no fixed",
        ),
        (lambda net: net.layer2[0].shortcut.norm.register_forward_hook(print), r"layer2.0.shortcut: hooks hang"),
    ],
    ids=["other norm", "hook"],
)
def test_what_cannot_be_folded_is_refused_by_name(change, message):
    net = build_model("sew_resnet20", num_classes=3, width=0.5)
    change(net)
    with pytest.raises(ValueError, match=message):
        fold_norms(net)
