"""Rates and gradients of blocks are those of a plain calculation; sample images come from a folder or the digits."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from spikewise.analysis.block_stats import identity_areas, measure_blocks
from spikewise.analysis.sample_images import load_sample_images
from spikewise.models import build_model


@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_resnet20"])
def test_rates_and_gradients_are_those_of_a_plain_calculation(name):
    """By the gradients of the blocks' inputs, and means of their outputs."""
    net = build_model(name, num_classes=10, in_channels=1, T=3)
    images, labels = torch.rand(6, 1, 12, 12), torch.arange(6)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    stats = measure_blocks(net.eval(), images, labels)
    assert not net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    inputs, outputs = [], []
    for block in net.blocks.values():
        block.register_forward_pre_hook(lambda _block, args: inputs.append(args[0]))
        block.register_forward_hook(lambda _block, _args, out: outputs.append(out))
    gradients = torch.autograd.grad(F.cross_entropy(net.train()(images), labels), inputs)
    assert [block.name for block in stats] == list(net.blocks)
    for block, gradient, output in zip(stats, gradients, outputs, strict=True):
        assert block.grad_input_norm == pytest.approx(float(gradient.norm()), rel=1e-5)
        assert block.output == pytest.approx(float(output.detach().mean()), rel=1e-6)
        assert block.branch == block.output or name.startswith("sew")
    assert [len(area) for area in identity_areas(stats)] == [3, 2, 2]


def test_a_relu_network_has_neither():
    net = build_model("resnet20", num_classes=10, in_channels=1)
    with pytest.raises(ValueError, match="a ReLU network does not spike"):
        measure_blocks(net, torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.long))


def test_sample_images(tmp_path):
    for i in range(3):
        Image.new("RGB", (60 + i, 50), (255, 128, 0)).save(tmp_path / f"{i}.jpg")
    images = load_sample_images(tmp_path, size=32, batch=3)
    assert images.shape == (3, 3, 32, 32)
    assert images[0, 0].mean() == pytest.approx((1 - 0.485) / 0.229, abs=0.05)
    with pytest.raises(ValueError, match="holds 3 photographs, 8 are needed"):
        load_sample_images(tmp_path, size=32, batch=8)
    assert load_sample_images(None, size=32, batch=2, in_channels=1).shape == (2, 1, 32, 32)
