"""More diseases, each in a network made sick on purpose; and what must not be taken for one."""

import copy
from dataclasses import replace

import pytest
import torch
from patients import found, frames, images, network, trained

import spikewise as sw
from spikewise.analysis.diagnosis.diagnose import diagnose, random_labels

BLOCK = "layer2.1"


@pytest.fixture(scope="module", params=["sew_resnet20", "spiking_resnet20"])
def well(request):
    torch.manual_seed(0)
    return trained(network(request.param)).eval()


@pytest.fixture
def net(well):
    assert not found(well)
    return copy.deepcopy(well)


def test_variances_near_zero(net):
    net.blocks[BLOCK].last.norm.running_var.fill_(1e-12)
    assert found(net)["batch statistics gone wrong"].where == f"{BLOCK}.conv2"


def test_variances_below_zero(net):
    net.blocks[BLOCK].last.norm.running_var.neg_()
    sick = found(net)["batch statistics gone wrong"]
    assert (sick.where, sick.evidence) == (f"{BLOCK}.conv2", "32 of 32 running variances are below 0")


def test_estimates_of_a_few_channels(net):
    net.blocks[BLOCK].last.norm.running_var[:5].fill_(1e6)
    sick = found(net)["batch statistics gone wrong"]
    assert sick.where == f"{BLOCK}.conv2"
    assert "in 5 of 32 channels" in sick.evidence


@pytest.mark.parametrize("one", [True, False])
def test_estimates_that_never_moved(net, one):
    for norm in [net.blocks[BLOCK].last.norm] if one else [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
    sick = found(net)["batch statistics gone wrong"]
    assert sick.where == (f"{BLOCK}.conv2" if one else "stem")
    assert "they have never moved" in sick.evidence


def test_a_norm_that_was_frozen(net):
    net.blocks[BLOCK].last.norm.num_batches_tracked.fill_(3)
    assert found(net)["batch statistics gone wrong"].evidence == "it has seen 3 batches, others 25"
    net = copy.deepcopy(net).train()
    net.blocks[BLOCK].last.norm.num_batches_tracked.fill_(25)
    net.blocks[BLOCK].last.norm.eval()
    assert "in evaluation mode while the network trains" in found(net)["batch statistics gone wrong"].evidence
    assert net.training
    assert not net.blocks[BLOCK].last.norm.training, "it is left as it was"
    net.train()
    net.blocks[BLOCK].last.norm.momentum = 0
    assert "momentum 0" in found(net)["batch statistics gone wrong"].evidence


def test_estimates_moved_in_one_norm_of_an_untrained_network():
    net = network("sew_resnet20")
    net.blocks[BLOCK].last.norm.running_mean.sub_(20)
    assert found(net)["batch statistics gone wrong"].where == f"{BLOCK}.conv2"


def test_files_that_do_not_count_batches_are_trained_ones(net):
    for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.num_batches_tracked.zero_()
    assert not found(net)
    net.blocks[BLOCK].last.norm.running_var.mul_(3000)
    assert found(net)["batch statistics gone wrong"].where == f"{BLOCK}.conv2"


def test_a_branch_whose_norm_was_zeroed_in_a_trained_network(net):
    net.blocks[BLOCK].zero_init_()
    sick = found(net)
    assert list(sick) == ["never left the identity"]
    assert sick["never left the identity"].where == BLOCK


@pytest.mark.parametrize(("factor", "rows"), [(1e4, 16), (1e6, 1), (1e-6, 32), (0.0, 32)])
def test_weights_out_of_scale(net, factor, rows):
    net.get_submodule(f"{BLOCK}.conv1").conv.weight.data[:rows].mul_(factor)
    assert found(net)["weights out of scale"].where == f"{BLOCK}.conv1"


@pytest.mark.parametrize(("steps", "sick"), [(70, []), (5000, ["never left the identity"])])
def test_a_branch_on_its_way_from_zero_init_is_no_disease_yet(steps, sick):
    net = trained(network("sew_resnet20")).eval()
    net.blocks[BLOCK].zero_init_()
    net.blocks[BLOCK].last.norm.weight.data.fill_(0.05)
    for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.num_batches_tracked.fill_(steps)
    assert list(found(net)) == sick


def test_weights_copied_over(net):
    net.blocks["layer3.2"].load_state_dict(net.blocks["layer3.1"].state_dict())
    sick = found(net)["weights of another layer"]
    assert (sick.where, sick.evidence) == ("layer3.2.conv1", "they are those of layer3.1.conv1")
    net.get_submodule("layer1.1.conv1").conv.weight.data[:] = 0.1
    assert found(net)["filters all the same"].where == "layer1.1.conv1"


def test_half_of_the_channels_dead_or_always_on(net):
    norm = net.get_submodule(f"{BLOCK}.conv1").norm
    norm.bias.data[:20], norm.weight.data[:20] = -30.0, 0.1
    sick = found(net)["dead channels"]
    assert sick.where == f"{BLOCK}.conv1"
    assert "20 of 32 channels" in sick.evidence
    norm.bias.data[:20] = 30.0
    sick = found(net)["saturated"]
    assert sick.where == f"{BLOCK}.conv1"
    assert "20 of 32 channels nearly always" in sick.evidence


def test_currents_that_overflow(net):
    net.blocks[BLOCK].last.conv.weight.data.mul_(1e38)
    sick = found(net)
    assert list(sick) == ["currents that overflow"]
    assert sick["currents that overflow"].where == f"{BLOCK}.conv2"


def test_a_head_whose_bias_decides(net):
    net.head.bias.data[0] = 1e3
    assert found(net)["one class whatever is shown"].where == "head"


@pytest.mark.parametrize("surrogate", [None, "rectangle"])
def test_neurons_without_slopes(net, surrogate):
    for layer in net.blocks[BLOCK].branch if surrogate is None else [m for m in net.modules() if hasattr(m, "neuron")]:
        layer.neuron.surrogate, layer.neuron.alpha = "rectangle", 1e12
    sick = found(net)["weights without gradient"]
    assert sick.where == ("layer3.2" if surrogate else BLOCK), "where the gradient, on its way from the loss, gets lost"
    assert found(net)["surrogate is not the checkpoint's"].advice == "use the network as it was trained"


@pytest.mark.parametrize(("key", "value"), [("v_reset", -5.0), ("v_reset", None), ("detach_reset", False)])
def test_other_settings_than_the_checkpoints(net, key, value):
    setattr(net.get_submodule(f"{BLOCK}.conv1").neuron, key, value)
    assert found(net)[f"{key} is not the checkpoint's"].where == f"{BLOCK}.conv1.neuron"


def test_another_connection_than_the_checkpoints():
    net = network("sew_resnet20")
    net.blocks[BLOCK].connect = sw.CONNECT["IAND"]
    assert found(net)["connect is not the checkpoint's"].evidence == "here IAND, checkpoint ADD"


def test_a_silent_network_is_not_said_to_explode_or_to_rest_at_the_identity():
    torch.manual_seed(0)
    net = trained(network("spiking_resnet20")).eval()
    for layer in net.blocks[BLOCK].branch:
        layer.neuron.v_th = 50.0
    assert set(found(net)) == {"v_th is not the checkpoint's", "silent"}


def test_gradients_explode_where_neurons_hardly_fire():
    sick = found(network("sew_resnet20", v_th=8.0))["exploding gradient"]
    assert "hardly fires" in sick.evidence
    assert "lower v_th" in sick.advice


def test_iand_that_always_fires():
    net = network("sew_resnet20", connect="IAND")
    net.blocks[BLOCK].last.norm.bias.data.fill_(30.0)
    sick = found(net)
    assert sick["silent"].where == sick["saturated"].where == BLOCK


def test_iand_that_thins_out_is_not_silent_where_later_blocks_fire():
    torch.manual_seed(0)
    assert not found(network("sew_resnet152", connect="IAND"), images(4, 64))


def test_leaky_spiking_blocks_with_zero_init():
    sick = found(network("spiking_resnet20", neuron="LIF", zero_init=True))["silent"]
    assert sick.where == "layer1.0"
    assert sick.advice.startswith("leave zero_init out")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_input_that_is_no_numbers(bad):
    x = images()
    x[3, 1, 4, 5] = bad
    sick = found(network("sew_resnet20"), x)
    assert list(sick) == ["input that is no numbers"]
    assert "1 of 24,576 values" in sick["input that is no numbers"].evidence


def test_samples_all_the_same():
    assert list(found(network("sew_resnet20"), images()[:1].repeat(8, 1, 1, 1))) == ["samples all the same"]
    events = sw.build_model("sew_7b", num_classes=11, num_blocks=3)
    assert list(found(events, frames()[:, :1].repeat(1, 4, 1, 1, 1))) == ["samples all the same"]
    assert not found(events, frames())


def test_input_that_is_not_normalised():
    assert list(found(network("sew_resnet20"), 255 * torch.rand(8, 3, 32, 32))) == ["input out of scale"]


def test_state_that_never_evolves_over_frames_all_the_same():
    net = network("sew_resnet20", neuron="LIF", tau=1.00001)
    assert found(net, images().repeat(4, 1, 1, 1, 1))["state that never evolves"].where == "layer1.0"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_precisions(dtype):
    assert not found(network("sew_resnet20").to(dtype), images().to(dtype))


def test_learning_rates_are_held_against_the_recipes():
    config = sw.RECIPES["imagenet/sew-resnet18"]()
    for batch, sick in ((256, False), (64, False), (32, True), (4, True)):
        how = replace(config, optim=replace(config.optim, batch=batch, lr_batch=batch))
        assert ("learning rate out of scale" in found(network("sew_resnet20"), config=how)) == sick, batch
    advice = found(network("sew_resnet20"), config=how)["learning rate out of scale"].advice
    assert advice == "take about 0.0016: the published 0.1 for SGD is for 256 samples"


def test_classes_in_another_order():
    """A network sure of its answers, shown labels that are one off."""
    torch.manual_seed(0)
    net, config = trained(network("sew_resnet20"), steps=60).eval(), sw.RECIPES["imagenet/sew-resnet18"]()
    x = images() + 0.1
    answers = net(x).argmax(1).detach()
    net = copy.deepcopy(net)
    net.head.weight.data *= 500  # sure of them
    net.head.bias.data *= 500
    assert "classes in another order" not in {f.disease for f in diagnose(net, x, answers, config)}
    assert "classes in another order" in {f.disease for f in diagnose(net, x, (answers + 1) % 10, config)}
    assert "classes in another order" not in {f.disease for f in diagnose(net, x, random_labels(net, x))}, "they are made up"


def test_a_run_whose_weights_were_never_trained(well):
    for net, sick in ((network("sew_resnet20"), True), (well, False)):
        x = images()
        found_here = diagnose(net, x, random_labels(net, x), steps_of_run=115)
        assert ("weights of an untrained network" in {finding.disease for finding in found_here}) == sick
