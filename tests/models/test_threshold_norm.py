"""td-BN ResNets (E11) and ReLU before addition (E12), against networks written from the equations."""

import copy

import pytest
import torch
from by_hand import conv_norm, drawn, fire

from spikewise.kernels import BACKENDS
from spikewise.models import build_model
from spikewise.models.residual import RBABlock
from spikewise.models.threshold_norm import ThresholdNorm2d

available = [name for name, backend in BACKENDS.items() if not backend.unavailable_reason(None)]


def tdbn_resnet(weights, x, blocks, v_th, training):
    half = v_th / 2**0.5
    s = fire(conv_norm(weights, "stem", x, 1, training, v_th), 0.25, v_th)
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            hidden = fire(conv_norm(weights, f"{name}.conv1", s, stride, training, v_th), 0.25, v_th)
            current = conv_norm(weights, f"{name}.conv2", hidden, 1, training, half)
            if f"{name}.shortcut.conv.weight" in weights:
                s = conv_norm(weights, f"{name}.shortcut", s, stride, training, half)
            s = fire(current + s, 0.25, v_th)
    return s.mean((-2, -1)).mean(0) @ weights["fc.weight"].T + weights["fc.bias"]


def small(**how):
    options = {"neuron": "LIF", "tau": 4.0, "v_th": 0.5, "stem": "3x3", "width": 0.125}
    return drawn(build_model("tdbn_resnet17", num_classes=4, **options, **how))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_network_is_what_the_equations_say(training):
    net, v_th = small().double().train(training), 0.5
    x = torch.rand(3, 2, 3, 16, 16, dtype=torch.float64) * 2
    weights = {key: t.detach().clone().requires_grad_(t.is_floating_point()) for key, t in net.state_dict().items()}
    expected = tdbn_resnet(weights, x, (2, 2, 2, 2), v_th, training)
    logits = net(x)
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-12)
    probe = torch.randn(logits.shape, dtype=torch.float64)
    (logits * probe).sum().backward()
    (expected * probe).sum().backward()
    for key, p in net.named_parameters():
        torch.testing.assert_close(p.grad, weights[key].grad, rtol=1e-8, atol=1e-10, msg=key)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("backend", available)
def test_every_backend_computes_what_an_ordinary_norm_of_the_scaled_weight_would(backend, training):
    net = small(backend=backend).train(training)
    twin = copy.deepcopy(net)
    for layer in twin.conv_layers.values():
        layer.norm, scaled = torch.nn.BatchNorm2d(layer.norm.num_features), layer.norm
        layer.norm.load_state_dict(scaled.state_dict() | {"weight": scaled.scaled_weight.detach()})
    x = torch.rand(3, 2, 3, 16, 16) * 2
    assert torch.equal(net(x), twin.train(training)(x))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_the_norm_called_by_itself_is_that_inside_the_operator(momentum):
    """Statistics, and what is normalised; beside an ordinary norm of the scaled weight."""
    torch.manual_seed(0)
    norm, twin = ThresholdNorm2d(3, 0.5), torch.nn.BatchNorm2d(3)
    norm.momentum = twin.momentum = momentum
    torch.nn.init.uniform_(norm.weight)
    twin.weight.data = 0.5 * norm.weight.data
    for _ in range(3):
        y = torch.randn(4, 3, 5, 5)
        assert torch.equal(norm(y), twin(y))
    assert torch.equal(norm.eval()(y), twin.eval()(y))
    for key, value in twin.named_buffers():
        assert torch.equal(dict(norm.named_buffers())[key], value)


def test_a_scale_must_be_positive():
    with pytest.raises(ValueError, match="scale=0; use a number above 0"):
        ThresholdNorm2d(3, 0)


def test_outputs_of_relu_before_addition_never_fall_and_grow_with_depth():
    """E12: what the paper's Eq. 10 is criticised for."""
    block, x = RBABlock(8, 8), torch.rand(2, 8, 6, 6)
    torch.testing.assert_close(block(x), torch.relu(block.conv2.norm(block.conv2.conv(block.conv1(x)))) + x)
    assert (block(x) >= x).all()
    largest = []
    for depth in (20, 56, 110):
        torch.manual_seed(0)
        net = build_model(f"rba_resnet{depth}", num_classes=3)
        largest.append(float(net.features(torch.rand(4, 3, 16, 16))[3].detach().max()))
    assert largest[0] < largest[1] < largest[2]
