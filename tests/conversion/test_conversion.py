"""Conversion (E18): firing rates converge to the ReLU network's clipped activations, and what cannot be converted is named."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import spikewise as sw
from spikewise.conversion import METHODS, balance_thresholds, convert_ann, score_by_steps, with_thresholds
from spikewise.conversion.twin import relu_layers
from spikewise.models import build_model
from spikewise.models.residual import RBABlock

sys.path.append(str(Path(__file__).parents[1] / "models"))
from by_hand import drawn

X = torch.rand(6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def relu_net(name="resnet20", **how):
    torch.manual_seed(0)
    return drawn(build_model(name, num_classes=5, in_channels=1, **{"width": 0.25} | how)).double().eval()


def clipped_activations(net, thresholds, x):
    """The logits of a ReLU network whose activations stop at the thresholds, and these activations."""
    net, found = copy.deepcopy(net), {}

    def clip(name):
        def hook(_layer, _inputs, out):
            found[name] = out.clamp(max=thresholds[name])
            return found[name]

        return hook

    for name in thresholds:
        net.get_submodule(name).register_forward_hook(clip(name))
    with torch.no_grad():
        return net(x), found


def rates(net, x):
    found = {}
    for name, layer in net.spiking_layers.items():
        layer.spikes.register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out.mean(0)}))
    with torch.no_grad():
        return net(x), found


@pytest.mark.parametrize(
    ("name", "how", "bound"),
    [
        ("resnet20", {}, 14),
        ("resnet18", {"stem": "7x7", "pool": "avg", "width": 0.0625}, 14),
        ("resnet50", {"stem": "3x3", "width": 0.125}, 64),
    ],
    ids=["basic", "pooled", "bottleneck"],
)
@pytest.mark.parametrize("method", ["max", "percentile"])
def test_rates_converge_to_the_clipped_activations_as_one_over_t(name, how, bound, method):
    """A layer's error is at most a number of spikes, however long it runs; the first layer's, one."""
    net = relu_net(name, **how)
    x = X.repeat_interleave(4, -1).repeat_interleave(4, -2)[:2] if "pool" in how else X[:2]
    thresholds = balance_thresholds(net, x, method)
    logits, activations = clipped_activations(net, thresholds, x)
    for T in (80, 320):
        answer, found = rates(with_thresholds(net, thresholds, T=T), x)
        assert set(found) == set(activations) == set(relu_layers(net))
        errors = {layer: float((rate - activations[layer] / thresholds[layer]).abs().max()) for layer, rate in found.items()}
        assert errors["stem"] <= 1 / T + 1e-9
        assert max(errors.values()) <= bound / T, {layer: error * T for layer, error in errors.items()}
        assert ((answer - logits).abs() <= net.fc.weight.abs().sum(1) * list(thresholds.values())[-1] * bound / T).all()


def test_a_hard_reset_loses_what_is_above_the_threshold():
    """A constant current of 0.75: a spike every second step, not three in four."""
    net = relu_net()
    thresholds = balance_thresholds(net, X, "max")
    x = 0.9 * X  # the largest activation of X lies on its threshold, where rounding decides
    soft, hard = (rates(with_thresholds(net, thresholds, T=100, soft_reset=soft), x)[1]["stem"] for soft in (True, False))
    exact = clipped_activations(net, thresholds, x)[1]["stem"] / thresholds["stem"]
    assert (soft - exact).abs().max() <= 1.01 / 100
    expected = torch.where(exact > 0, 1 / torch.ceil(1 / exact - 1e-9), 0.0)
    assert (hard - expected).abs().max() <= 1.01 / 100


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_counts_in_thresholds_is_the_one_whose_spikes_stand_for_them(method):
    """Against a spiking network written in the units of the activations: thresholds as they are, spikes of their height."""
    net = relu_net()
    thresholds = balance_thresholds(net, X, method)
    plain = with_thresholds(net, dict.fromkeys(thresholds, 1.0), T=20)
    for name, threshold in thresholds.items():
        layer = plain.get_submodule(name)
        layer.neuron.v_th = threshold
        layer.spikes.register_forward_hook(lambda _m, _i, out, threshold=threshold: out * threshold)
    with torch.no_grad():
        torch.testing.assert_close(with_thresholds(net, thresholds, T=20)(0.9 * X), plain(0.9 * X), rtol=1e-9, atol=1e-9)


def test_thresholds_by_plain_definitions():
    net = relu_net()
    activations = clipped_activations(net, dict.fromkeys(relu_layers(net), float("inf")), X)[1]
    for name, threshold in balance_thresholds(net, X, "max").items():
        assert threshold == float(activations[name].max())
    for name, threshold in balance_thresholds(net, X, "percentile", percentile=90).items():
        values = sorted(activations[name].flatten().tolist())
        assert threshold == values[-(-len(values) * 90 // 100) - 1]
    assert balance_thresholds(net, X, "percentile", percentile=100) == balance_thresholds(net, X, "max")


def test_spike_norm_balances_each_layer_on_the_spikes_of_balanced_layers():
    """Layer after layer by a loop that runs the network anew for each, with the thresholds found so far."""
    net, steps = relu_net(), 12
    found = dict.fromkeys(relu_layers(net), 1.0)
    for name in found:
        twin, seen = with_thresholds(net, found, T=steps), []
        twin.get_submodule(name).neuron.register_forward_pre_hook(lambda _m, inputs, seen=seen: seen.append(inputs[0].max()))
        with torch.no_grad():
            twin(X)
        found[name] = float(seen[0])
    assert balance_thresholds(net, X, "spike-norm", steps=steps) == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_conversion_is_deterministic_saved_streamed_and_leaves_the_network_alone(method, tmp_path):
    net = relu_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.input_spec = sw.InputSpec(data="digits", kind="images", class_names=tuple("abcde"), shape=(1, 8, 8))
    twin = convert_ann(net, X, method, T=9)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    again = convert_ann(net, X, method, T=9)
    assert all(torch.equal(a, b) for a, b in zip(twin.state_dict().values(), again.state_dict().values(), strict=True))
    sw.save_pretrained(twin, tmp_path)
    loaded = sw.load_pretrained(tmp_path)
    assert (loaded.spec["name"], loaded.T, loaded.input_spec) == ("converted_resnet20", 9, net.input_spec)
    with torch.no_grad():
        expected, state = twin(X), None
        assert torch.equal(loaded(X), expected)
        for _ in range(9):
            logits, state = loaded.step(X, state)
    assert torch.equal(logits, expected)


class Digit(list):
    """Still images as a data set."""

    name, in_channels, class_names = "digits", 1, tuple("01234")

    def __init__(self, images, labels):
        super().__init__(images)
        self.labels = labels

    def sample(self, index):
        return self[index].numpy()


def test_the_curve_is_the_accuracy_of_each_number_of_steps():
    twin = convert_ann(relu_net().float(), X.float(), "max", T=50)
    with torch.no_grad():
        answers = {T: twin(X.float().expand(T, *X.shape)).argmax(1) for T in (1, 7, 33, 50)}
    labels = answers[50].numpy()
    scores = score_by_steps(twin, Digit(X.float(), labels), [50, 1, 33, 7], torch.device("cpu"), batch=4)
    curve = {T: score.accuracy for T, score in scores.items()}
    assert curve == {T: pytest.approx(float((answer.numpy() == labels).mean())) for T, answer in answers.items()}
    assert list(curve) == [1, 7, 33, 50]
    with pytest.raises(ValueError, match="a ReLU network answers at once"):
        score_by_steps(relu_net(), Digit(X, labels), [1], torch.device("cpu"))


def replaced(path, module):
    def change(net):
        parent, _, name = path.rpartition(".")
        net.get_submodule(parent)._modules[name] = module

    return change


@pytest.mark.parametrize(
    ("net", "change", "message"),
    [
        (lambda: build_model("sew_resnet20", num_classes=5, in_channels=1), None, "spikes already"),
        (lambda: relu_net("rba_resnet20"), None, "layer1.0: a RBABlock cannot be converted"),
        (lambda: relu_net("resnet18", width=0.0625), None, "pool: the maximum of spikes is not"),
        (relu_net, replaced("layer1.1", RBABlock(4, 4)), "layer1.1: a RBABlock"),
        (relu_net, replaced("layer1.0.conv1.norm", nn.GroupNorm(2, 4)), "layer1.0.conv1: a GroupNorm has no fixed scale"),
        (relu_net, replaced("layer2.0.conv1", nn.Identity()), "layer2.0.conv1: a Identity cannot be converted"),
        (relu_net, replaced("pool", nn.MaxPool2d(2)), "pool: the maximum of spikes"),
        (relu_net, replaced("fc", nn.Sequential(nn.Linear(16, 5))), "fc: a Sequential cannot be converted"),
        (relu_net, lambda net: net.layer1[0].conv1.register_forward_hook(print), "layer1.0.conv1: hooks hang on it"),
    ],
    ids=["spiking", "activation before addition", "max pooling", "block", "norm", "layer", "pool", "head", "hook"],
)
def test_what_cannot_be_converted_is_refused_by_name(net, change, message):
    net = net()
    if change:
        change(net)
    with pytest.raises(ValueError, match=message):
        convert_ann(net, X)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("maximum", {}, "no method named 'maximum'; did you mean 'max'"),
        ("max", {"percentile": 99}, "percentile=99 is for 'percentile' and 'spike-norm'"),
        ("percentile", {"percentile": 0}, "percentile=0 is out of range"),
        ("percentile", {"steps": 4}, "steps=4 is for 'spike-norm'"),
        ("spike-norm", {"steps": 0}, "steps=0"),
        ("percentile", {"percentile": 5}, "5th percentile of these samples is 0, which is no threshold"),
    ],
)
def test_options_that_do_not_fit_are_refused(method, options, message):
    with pytest.raises(ValueError, match=message):
        convert_ann(relu_net(), X, method, **options)


def test_a_layer_that_samples_leave_silent_is_named():
    net = relu_net()
    nn.init.constant_(net.layer2[1].conv1.norm.bias, -100.0)
    with pytest.raises(ValueError, match=r"layer2.1.conv1: the largest value of these samples is 0"):
        convert_ann(net, X, "max")
    with pytest.raises(ValueError, match=r"layer1.0.conv1: its threshold is 0"):
        with_thresholds(relu_net(), dict.fromkeys(relu_layers(net), 1.0) | {"layer1.0.conv1": 0.0})
