"""Networks in the notation of the paper's Tab. 5, against chains written from the equations."""

import pytest
import torch
import torch.nn.functional as F
from by_hand import conv_norm, drawn, fire

from spikewise.models import build_model
from spikewise.models.chain import ChainNet, TimeDropout, Vote, parse_layers
from spikewise.neurons import IF

V_TH = 0.125


def framewise(function, x):
    return function(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def plif_net(weights, x):
    for place in range(0, 10, 2):
        named = {key.replace(f"layers.{place}.", "layer."): value for key, value in weights.items()}
        x = fire(conv_norm(named, "layer", x, 1, training=False), 0.5, V_TH)
        x = framewise(lambda frames: F.max_pool2d(frames, 2), x)
    x = x.flatten(2)
    for place in (11, 14):
        x = fire(x @ weights[f"layers.{place}.weight"].flatten(1).T, 0.5, V_TH)
    return x.mean(0).unflatten(1, (-1, 10)).mean(2)


def lif_net(weights, x):
    x = framewise(lambda frames: F.max_pool2d(frames, 4), x)
    for place in (1, 3, 6):
        x = fire(
            framewise(lambda frames, place=place: F.conv2d(frames, weights[f"layers.{place}.weight"], padding=1), x), 0.5, V_TH
        )
        x = x if place == 1 else framewise(lambda frames: F.avg_pool2d(frames, 2), x)
    x = fire(x.flatten(2) @ weights["layers.9.weight"].flatten(1).T, 0.5, V_TH)
    return (x @ weights["fc.weight"].T).mean(0)


@pytest.mark.parametrize(("name", "by_hand"), [("plif_net", plif_net), ("lif_net", lif_net)])
def test_a_network_is_what_its_notation_says_and_streams(name, by_hand):
    torch.manual_seed(0)
    net = drawn(build_model(name, num_classes=3, width=0.0625, v_th=V_TH)).double().eval()
    for weight in (layer.weight for layer in net.layers if isinstance(layer, torch.nn.Conv2d)):
        torch.nn.init.uniform_(weight, -0.3, 0.35)
    x = torch.rand(3, 2, 2, 128, 128, dtype=torch.float64).round() * 3
    logits, state = net(x), None
    assert logits.unique().numel() > 2
    torch.testing.assert_close(logits, by_hand(net.state_dict(), x), rtol=1e-10, atol=1e-12)
    for frame in x:
        last, state = net.step(frame, state)
    assert torch.equal(last, logits)


def test_dropout_drops_an_element_at_every_step_or_at_none():
    torch.manual_seed(0)
    drop = TimeDropout(0.25)
    out = drop(torch.ones(4, 5, 1000, 1, 1))
    assert torch.equal(out, out[:1].expand_as(out))
    assert set(out.unique().tolist()) == {0.0, out.max().item()}
    assert out.max().item() == pytest.approx(1 / 0.75)
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(out), out)
    with pytest.raises(ValueError, match="p=1 is out of range"):
        TimeDropout(1)


def test_a_vote_is_the_mean_of_a_class():
    torch.testing.assert_close(Vote(2, 3)(torch.tensor([[1.0, 0, 1, 1, 0, 0]])), torch.tensor([[0.5, 1.0, 0.0]]))


def test_the_notation():
    assert [word.kind for word in parse_layers("{c8k3s1-BN-IF-MPk2s2}*2-DP-FC10")] == ["c", "MP", "c", "MP", "DP", "FC"]
    net = ChainNet("c4k3s2-IF-APk4-FC9", num_classes=2, T=1, in_channels=1, neuron=IF, image_size=16)
    assert net(torch.rand(2, 3, 1, 16, 16)).shape == (3, 2)
    assert net.num_features == 16
    with pytest.raises(ValueError, match="layer 'c3x3' of 'c3x3-IF' is unknown"):
        parse_layers("c3x3-IF")


@pytest.mark.parametrize("shape", [(2, 1, 2, 64, 64), (1, 2, 128, 128)], ids=["size", "still"])
def test_frames_of_another_size_and_still_images_are_refused(shape):
    with pytest.raises(ValueError, match=r"this network takes frames \[T, N, 2, 128, 128\]|at least 128"):
        build_model("lif_net", num_classes=3, width=0.0625)(torch.rand(shape))
