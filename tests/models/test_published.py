"""The published networks, right to the last digit."""

import pytest
import torch
from published import NETWORKS, sample, write_checkpoint

from spikewise.models import build_model
from spikewise.models.key_maps import published_names
from spikewise.models.weights import load_pretrained

RELATIVE = 1e-7


def close(got, want):
    want = torch.as_tensor(want, dtype=torch.float64)
    torch.testing.assert_close(torch.as_tensor(got), want, rtol=0, atol=RELATIVE * float(want.abs().max()))


@pytest.mark.parametrize("entry", NETWORKS)
def test_networks_compute_what_the_published_classes_compute(entry, tmp_path):
    facts = NETWORKS[entry]
    write_checkpoint(tmp_path / "checkpoint.pth", entry)
    overrides = {"connect": "ADD"} if entry.startswith("c10") else {}
    net = load_pretrained(tmp_path / "checkpoint.pth", **overrides)
    x, labels = sample(entry)
    x.requires_grad_()
    net.eval()
    with torch.no_grad():
        close(net(x), facts["eval_logits"])
    rates = {}
    for name, layer in net.spiking_layers.items():
        layer.spikes.register_forward_hook(
            lambda _module, _args, spikes, name=name: rates.update({name: float(spikes.detach().mean())})
        )
    net.train()
    logits = net(x)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    loss.backward()
    close(logits.detach(), facts["train_logits"])
    close(loss.detach(), facts["train_loss"])
    close(x.grad.norm(), facts["input_grad_norm"])
    names = published_names(net)
    for name, parameter in net.named_parameters():
        close(parameter.grad.norm(), facts["grad_norm"][names[name]])
    # both lists stand in the order of depth, but for shortcuts: compare as multisets
    close(torch.tensor(sorted(rates.values()), dtype=torch.float64), sorted(facts["firing_rate"].values()))


def test_swapped_roles_in_iand_would_be_noticed(tmp_path):
    """Guards the comparison itself: a network with IAND's roles swapped does not come near."""
    write_checkpoint(tmp_path / "checkpoint.pth", "sew-50-IAND")
    net = load_pretrained(tmp_path / "checkpoint.pth", connect=lambda a, s: (1 - s) * a).eval()
    x, _ = sample("sew-50-IAND")
    with torch.no_grad(), pytest.raises(AssertionError):
        close(net(x), NETWORKS["sew-50-IAND"]["eval_logits"])


def test_build_model_starts_from_the_published_distributions():
    net = build_model("sew_resnet18", num_classes=10)
    weight = net.layer1[0].conv1.conv.weight
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)  # Kaiming, fan out
