"""Networks made sick on purpose are named with the block; healthy ones give no word."""

import json
from dataclasses import replace

import pytest
import torch
from patients import found, frames, images, network, trained

import spikewise as sw
from spikewise.cli.main import main


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sew_resnet18", {}),
        ("sew_resnet18", {"connect": "IAND"}),
        ("sew_resnet34", {"connect": "AND", "zero_init": True}),
        ("sew_resnet50", {"zero_init": True}),
        ("spiking_resnet18", {}),
        ("spiking_resnet34", {"zero_init": True}),
        ("plain_resnet18", {}),
        ("sew_resnet20", {}),
    ],
)
def test_healthy_networks_give_no_word_before_training(name, options):
    assert not found(network(name, **options), images(side=64))


@pytest.mark.parametrize("name", ["sew_7b", "spiking_7b", "plain_7b"])
def test_healthy_event_networks_give_no_word(name):
    assert not found(sw.build_model(name, num_classes=11, num_blocks=5), frames())


@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_resnet20", "sew_resnet18"])
def test_healthy_networks_give_no_word_after_training(name):
    assert not found(trained(network(name)))


def test_and_falls_silent():
    sick = found(network("sew_resnet34", connect="AND"), images(side=64))
    assert sick["silent"].where.startswith(("layer1", "layer2"))
    assert "ADD or IAND in place of AND" in sick["silent"].advice


def test_the_first_silent_block_is_named():
    net = network("plain_resnet18")
    net.blocks["layer2.1"].last.norm.bias.data.fill_(-20.0)
    assert found(net)["silent"].where == "layer2.1"
    assert "5 blocks behind it" not in str(found(net)["silent"])
    assert "4 blocks behind it" in str(found(net)["silent"])


def test_a_silent_layer_within_a_block_is_named():
    net = network("sew_resnet18")
    net.get_submodule("layer2.0.conv1").norm.bias.data.fill_(-20.0)
    assert found(net)["silent"].where == "layer2.0.conv1"
    assert "passes on what comes along its shortcut" in found(net)["silent"].evidence


def test_a_silent_branch_is_named_though_its_block_passes_spikes_on():
    net = network("sew_resnet18")
    net.get_submodule("layer3.1.conv2").norm.bias.data.fill_(-20.0)
    assert found(net)["silent"].where == "layer3.1"


def test_a_silent_stem():
    net = network("sew_resnet18")
    net.stem.norm.bias.data.fill_(-50.0)
    sick = found(net)
    assert sick["silent"].where == "stem"
    assert "8 blocks behind it" in sick["silent"].evidence


def test_a_threshold_out_of_reach():
    net = network("sew_resnet18")
    net.get_submodule("layer2.1.conv1").neuron.v_th = 100.0
    sick = found(net)
    assert sick["silent"].where == "layer2.1.conv1"
    assert sick["v_th is not the checkpoint's"].where == "layer2.1.conv1.neuron"


def test_saturated_neurons_within_a_block():
    net = network()
    net.get_submodule("layer1.1.conv1").norm.bias.data.fill_(30.0)
    assert found(net)["saturated"].where == "layer1.1.conv1"


def test_another_surrogate_and_T_than_the_networks_own():
    net = network()
    net.T = 2
    assert "here 2, checkpoint 4" in str(found(net)["T is not the checkpoint's"])
    net = network(last_surrogate="triangle")
    assert not any("checkpoint" in disease for disease in found(net))
    net.get_submodule("layer1.0.conv1").neuron.surrogate = "sigmoid"
    assert found(net)["surrogate is not the checkpoint's"].where == "layer1.0.conv1.neuron"


def test_weights_that_take_no_gradient():
    net = network()
    net.get_submodule("layer2.0").requires_grad_(False)
    assert found(net)["frozen weights"].where == "layer2.0.conv1.conv"


@pytest.mark.parametrize(("factor", "disease"), [(0.0, "no gradient"), (1e8, "exploding gradient")])
def test_a_head_at_fault(factor, disease):
    net = network()
    net.head.weight.data.mul_(factor)
    assert found(net)[disease].where == "head"


def test_input_without_contrast():
    assert list(found(network(), torch.full((4, 3, 32, 32), 0.5))) == ["input without contrast"]


def test_saturated_neurons():
    net = network()
    net.blocks["layer3.0"].last.norm.bias.data.fill_(30.0)
    assert found(net)["saturated"].where == "layer3.0"


def test_vanishing_and_exploding_gradients():
    few = images(4)
    vanishing = found(network("spiking_resnet110", v_th=0.5, zero_init=True), few)["vanishing gradient"]
    assert vanishing.where.startswith("layer3")
    exploding = found(network("spiking_resnet110", alpha=4.0, zero_init=True), few)["exploding gradient"]
    assert exploding.where.startswith(("layer2", "layer3"))


def test_branches_that_never_left_the_identity():
    net = trained(network("sew_resnet20", zero_init=True))
    for block in net.blocks.values():
        block.zero_init_()
    sick = found(net)
    assert sick["never left the identity"].where == "layer1.0"
    assert "9 of 9 blocks" in sick["never left the identity"].evidence


@pytest.mark.parametrize("w", [-9.0, 9.0])
def test_time_constants_that_ran_away(w):
    net = sw.build_model("sew_7b", num_classes=11, num_blocks=5)
    net.blocks["stage1.blocks.2"].last.neuron.w.data.fill_(w)
    sick = found(net, frames())
    assert sick["tau has run away"].where == "stage1.blocks.2.conv2"


def test_estimates_that_are_not_the_data_s():
    net = trained(network("sew_resnet20"))
    net.blocks["layer2.1"].last.norm.running_var.mul_(3000.0)
    assert found(net)["batch statistics gone wrong"].where == "layer2.1.conv2"
    assert found(trained(network("sew_resnet20")), 255 * images())["batch statistics gone wrong"].where == "stem"


def test_state_that_never_evolves():
    sick = found(network(neuron="LIF", tau=1.00001))
    assert sick["state that never evolves"].where == "layer1.0"


def test_weights_that_are_no_numbers():
    net = network()
    net.blocks["layer2.0"].last.conv.weight.data[0, 0, 0, 0] = torch.nan
    sick = found(net)
    assert list(sick) == ["weights that are no numbers"]
    assert sick["weights that are no numbers"].where == "layer2.0.conv2.conv.weight"


@pytest.mark.parametrize(
    ("change", "disease"),
    [
        ({"surrogate": "sigmoid"}, "surrogate is not the checkpoint's"),
        ({"T": 8}, "T is not the checkpoint's"),
        ({"connect": "IAND"}, "connect is not the checkpoint's"),
    ],
)
def test_settings_that_are_not_the_checkpoints(change, disease):
    config = sw.RECIPES["imagenet/sew-resnet18"]()
    net = network(zero_init=True)
    assert not found(net, config=config)
    assert disease in found(net, config=replace(config, model=replace(config.model, **change)))


def test_learning_rates_out_of_scale():
    config = sw.RECIPES["imagenet/sew-resnet18"]()
    fast = replace(config, optim=replace(config.optim, batch=8, lr=1.0, lr_batch=8))
    assert (
        "published 0.1 for SGD is for 256 samples"
        in found(network(zero_init=True), config=fast)["learning rate out of scale"].advice
    )
    slow = replace(config, optim=replace(config.optim, lr=1e-8))
    assert "nothing is learnt" in found(network(zero_init=True), config=slow)["learning rate out of scale"].advice
    for recipe in sw.RECIPES.values():
        how = recipe()
        assert not [f for f in diagnose_settings(how) if "learning rate" in f.disease], how.recipe


def diagnose_settings(config):
    from spikewise.analysis.diagnosis.diagnose import settings

    return settings(network(), config)


def test_on_the_command_line(tmp_path, capsys):
    sw.save_pretrained(network(), tmp_path / "well")
    assert main(["diagnose", str(tmp_path / "well"), "--device", "cpu"]) == 0
    assert "nothing found in 8 blocks" in capsys.readouterr().out
    net = network("plain_resnet18", v_th=40.0)
    sw.save_pretrained(net, tmp_path / "sick")
    assert main(["diagnose", str(tmp_path / "sick"), "--json", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["disease"] == "silent"
    assert main(["diagnose", str(tmp_path / "none")]) == 2
    assert main(["diagnose", str(tmp_path / "well"), "--samples", "1"]) == 2
    assert "samples=1; use 2 to 8" in capsys.readouterr().err
