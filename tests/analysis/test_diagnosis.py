"""Diagnosis names the problem of a damaged network and its place, and finds none in a healthy one."""

import copy

import pytest
import torch
from examined import BLOCK, IMAGENET, conv1, event_network, frames, images, last_norm, network, norms, problems, trained

import spikewise as sw

# Healthy networks --------------------------------------------------------------------------------------------------------


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
def test_healthy_networks_have_no_problem_before_training(name, options):
    assert not problems(network(name, **options), images(side=64))


@pytest.mark.parametrize("name", ["sew_7b", "spiking_7b", "plain_7b"])
def test_healthy_event_networks_have_no_problem(name):
    assert not problems(event_network(name), frames())


@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_resnet20", "sew_resnet18"])
def test_healthy_networks_have_no_problem_after_training(name):
    assert not problems(trained(network(name)))


def test_iand_that_thins_out_is_not_silent_where_later_blocks_fire():
    assert not problems(network("sew_resnet152", connect="IAND"), images(4, 64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_precisions(dtype):
    assert not problems(network("sew_resnet20").to(dtype), images().to(dtype))


# Untrained networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "location", "options", "damage"),
    [
        ("silent", "layer2.1", {"name": "plain_resnet18"}, lambda net: last_norm(net).bias.fill_(-20)),
        ("silent", "layer2.0.conv1", {}, lambda net: conv1(net, "layer2.0").norm.bias.fill_(-20)),
        ("silent", "layer3.1", {}, lambda net: last_norm(net, "layer3.1").bias.fill_(-20)),
        ("silent", "stem", {}, lambda net: net.stem.norm.bias.fill_(-50)),
        ("silent", "layer2.1.conv1", {}, lambda net: setattr(conv1(net).neuron, "v_th", 100.0)),
        ("v_th is not the checkpoint's", "layer2.1.conv1.neuron", {}, lambda net: setattr(conv1(net).neuron, "v_th", 100.0)),
        ("saturated", "layer1.1.conv1", {}, lambda net: conv1(net, "layer1.1").norm.bias.fill_(30)),
        ("saturated", "layer3.0", {}, lambda net: last_norm(net, "layer3.0").bias.fill_(30)),
        ("frozen weights", "layer2.0.conv1.conv", {}, lambda net: net.blocks["layer2.0"].requires_grad_(False)),
        ("no gradient", "head", {}, lambda net: net.head.weight.mul_(0)),
        ("exploding gradient", "head", {}, lambda net: net.head.weight.mul_(1e8)),
        ("state that never evolves", "layer1.0", {"neuron": "LIF", "tau": 1.00001}, None),
        ("batch statistics gone wrong", "layer2.1.conv2", {}, lambda net: last_norm(net).running_mean.sub_(20)),
        ("connect is not the checkpoint's", BLOCK, {}, lambda net: setattr(net.blocks[BLOCK], "connect", sw.CONNECT["IAND"])),
        ("silent", BLOCK, {"connect": "IAND"}, lambda net: last_norm(net).bias.fill_(30)),
        ("saturated", BLOCK, {"connect": "IAND"}, lambda net: last_norm(net).bias.fill_(30)),
    ],
)
def test_problems_of_untrained_networks(problem, location, options, damage):
    net = network(**options)
    with torch.no_grad():
        _ = damage and damage(net)
    assert problems(net)[problem].location == location


def test_evidence_of_silence_says_what_becomes_of_later_blocks():
    net = network("plain_resnet18")
    last_norm(net).bias.data.fill_(-20.0)
    assert ", 4 blocks behind it" in str(problems(net)["silent"])
    net = network("sew_resnet18")
    conv1(net).norm.bias.data.fill_(-20.0)
    assert "passes on what comes along its shortcut" in problems(net)["silent"].evidence


def test_and_falls_silent():
    silent = problems(network("sew_resnet34", connect="AND"), images(side=64))["silent"]
    assert silent.location.startswith(("layer1", "layer2"))
    assert "ADD or IAND in place of AND" in silent.advice


def test_leaky_spiking_blocks_with_zero_init():
    silent = problems(network("spiking_resnet20", neuron="LIF", zero_init=True))["silent"]
    assert silent.location == "layer1.0"
    assert silent.advice.startswith("leave zero_init out")


def test_vanishing_and_exploding_gradients():
    few = images(4)
    vanishing = problems(network("spiking_resnet110", v_th=0.5, zero_init=True), few)["vanishing gradient"]
    assert vanishing.location.startswith("layer3")
    exploding = problems(network("spiking_resnet110", alpha=4.0, zero_init=True), few)["exploding gradient"]
    assert exploding.location.startswith(("layer2", "layer3"))


def test_gradients_explode_where_neurons_hardly_fire():
    exploding = problems(network("sew_resnet20", v_th=8.0))["exploding gradient"]
    assert "hardly fires" in exploding.evidence
    assert "lower v_th" in exploding.advice


@pytest.mark.parametrize(("w", "effect"), [(-9.0, "hardly lets anything in"), (9.0, "remembers next to nothing")])
def test_time_constants_that_ran_away(w, effect):
    net = event_network()
    net.blocks["stage1.blocks.2"].last_layer.neuron.w.data.fill_(w)
    finding = problems(net, frames())["tau has run away"]
    assert finding.location == "stage1.blocks.2.conv2"
    assert effect in finding.evidence


def test_state_that_never_evolves_over_identical_frames():
    net = network("sew_resnet20", neuron="LIF", tau=1.00001)
    assert problems(net, images().repeat(4, 1, 1, 1, 1))["state that never evolves"].location == "layer1.0"


# Trained networks --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["sew_resnet20", "spiking_resnet20"])
def healthy(request):
    torch.manual_seed(0)
    net = trained(network(request.param)).eval()
    assert not problems(net)
    return net


@pytest.fixture
def net(healthy):
    return copy.deepcopy(healthy)


@pytest.mark.parametrize(
    ("problem", "location", "damage", "evidence"),
    [
        ("batch statistics gone wrong", f"{BLOCK}.conv2", lambda net: last_norm(net).running_var.fill_(1e-12), ""),
        (
            "batch statistics gone wrong",
            f"{BLOCK}.conv2",
            lambda net: last_norm(net).running_var.neg_(),
            "32 of 32 running variances are below 0",
        ),
        ("batch statistics gone wrong", f"{BLOCK}.conv2", lambda net: last_norm(net).running_var.mul_(3000), ""),
        (
            "batch statistics gone wrong",
            f"{BLOCK}.conv2",
            lambda net: last_norm(net).running_var[:5].fill_(1e6),
            "in 5 of 32 channels",
        ),
        (
            "batch statistics gone wrong",
            f"{BLOCK}.conv2",
            lambda net: last_norm(net).reset_running_stats(),
            "they have never moved",
        ),
        (
            "batch statistics gone wrong",
            f"{BLOCK}.conv2",
            lambda net: last_norm(net).num_batches_tracked.fill_(3),
            "it has seen 3 batches, others 25",
        ),
        (
            "batch statistics gone wrong",
            f"{BLOCK}.conv2",
            lambda net: last_norm(net.train()).eval(),
            "in evaluation mode while the network trains",
        ),
        ("batch statistics gone wrong", f"{BLOCK}.conv2", lambda net: setattr(last_norm(net), "momentum", 0), "momentum 0"),
        ("weights out of scale", f"{BLOCK}.conv1", lambda net: conv1(net).conv.weight[:16].mul_(1e4), "16 of 32 filters"),
        ("weights out of scale", f"{BLOCK}.conv1", lambda net: conv1(net).conv.weight[:1].mul_(1e6), "1 of 32 filters"),
        ("weights out of scale", f"{BLOCK}.conv1", lambda net: conv1(net).conv.weight.mul_(1e-6), "of the usual size"),
        ("weights out of scale", f"{BLOCK}.conv1", lambda net: conv1(net).conv.weight.zero_(), "all are 0"),
        (
            "weights of another layer",
            "layer3.2.conv1",
            lambda net: net.blocks["layer3.2"].load_state_dict(net.blocks["layer3.1"].state_dict()),
            "they are those of layer3.1.conv1",
        ),
        ("filters all the same", f"{BLOCK}.conv1", lambda net: conv1(net).conv.weight.fill_(0.1), ""),
        (
            "dead channels",
            f"{BLOCK}.conv1",
            lambda net: (conv1(net).norm.bias[:20].fill_(-30), conv1(net).norm.weight[:20].fill_(0.1)),
            "20 of 32 channels",
        ),
        (
            "saturated",
            f"{BLOCK}.conv1",
            lambda net: (conv1(net).norm.bias[:20].fill_(30), conv1(net).norm.weight[:20].fill_(0.1)),
            "20 of 32 channels nearly always",
        ),
        ("one class whatever is shown", "head", lambda net: net.head.bias[:1].fill_(1e3), ""),
        (
            "v_reset is not the checkpoint's",
            f"{BLOCK}.conv1.neuron",
            lambda net: setattr(conv1(net).neuron, "v_reset", -5.0),
            "",
        ),
        (
            "v_reset is not the checkpoint's",
            f"{BLOCK}.conv1.neuron",
            lambda net: setattr(conv1(net).neuron, "v_reset", None),
            "",
        ),
        (
            "detach_reset is not the checkpoint's",
            f"{BLOCK}.conv1.neuron",
            lambda net: setattr(conv1(net).neuron, "detach_reset", False),
            "",
        ),
    ],
)
def test_problems_of_trained_networks(problem, location, damage, evidence, net):
    with torch.no_grad():
        damage(net)
    modes = [module.training for module in net.modules()]
    finding = problems(net)[problem]
    assert [module.training for module in net.modules()] == modes
    assert finding.location == location
    assert evidence in finding.evidence


@pytest.mark.parametrize(
    ("problem", "location", "damage"),
    [
        ("weights that are no numbers", f"{BLOCK}.conv2.conv.weight", lambda conv: conv.weight[0, 0, 0, :1].fill_(torch.nan)),
        ("currents that overflow", f"{BLOCK}.conv2", lambda conv: conv.weight.mul_(1e38)),
    ],
)
def test_what_makes_all_else_meaningless_is_said_alone(problem, location, damage, net):
    with torch.no_grad():
        damage(net.blocks[BLOCK].last_layer.conv)
    assert [(key, finding.location) for key, finding in problems(net).items()] == [(problem, location)]


def test_running_statistics_that_are_all_initial_or_of_data_scaled_otherwise(net):
    assert problems(net, 255 * images())["batch statistics gone wrong"].location == "stem"
    for norm in norms(net):
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
    assert problems(net)["batch statistics gone wrong"].location == "stem"


def test_files_that_do_not_count_batches_are_trained_ones(net):
    for norm in norms(net):
        norm.num_batches_tracked.zero_()
    assert not problems(net)
    last_norm(net).running_var.mul_(3000)
    assert problems(net)["batch statistics gone wrong"].location == f"{BLOCK}.conv2"


@pytest.mark.parametrize("every", [False, True])
def test_branches_that_never_left_the_identity(every, net):
    for block in net.blocks.values() if every else [net.blocks[BLOCK]]:
        block.zero_init_()
    found = problems(net)
    assert found["never left the identity"].location == ("layer1.0" if every else BLOCK)
    assert f"{9 if every else 1} of 9 blocks" in found["never left the identity"].evidence
    assert every or list(found) == ["never left the identity"]


@pytest.mark.parametrize(("steps", "expected"), [(70, []), (5000, ["never left the identity"])])
def test_a_branch_on_its_way_from_zero_init_is_no_problem_yet(steps, expected):
    net = trained(network("sew_resnet20")).eval()
    net.blocks[BLOCK].zero_init_()
    last_norm(net).weight.data.fill_(0.05)
    for norm in norms(net):
        norm.num_batches_tracked.fill_(steps)
    assert list(problems(net)) == expected


@pytest.mark.parametrize("everywhere", [False, True])
def test_neurons_without_slopes(net, everywhere):
    for layer in [m for m in net.modules() if hasattr(m, "neuron")] if everywhere else net.blocks[BLOCK].branch:
        layer.neuron.surrogate, layer.neuron.alpha = "rectangular", 1e12
    found = problems(net)
    location = "layer3.2" if everywhere else BLOCK
    assert found["weights without gradient"].location == location, "where the gradient gets lost on its way from the loss"
    assert found["surrogate is not the checkpoint's"].advice == "use the network as it was trained"


def test_a_silent_network_is_not_said_to_explode_or_to_rest_at_the_identity():
    net = trained(network("spiking_resnet20")).eval()
    for layer in net.blocks[BLOCK].branch:
        layer.neuron.v_th = 50.0
    assert set(problems(net)) == {"v_th is not the checkpoint's", "silent"}


def test_classes_in_another_order():
    """A network sure of its answers, shown labels that are one off."""
    net = trained(network("sew_resnet20"), steps=60).eval()
    x = images() + 0.1
    answers = net(x).argmax(1).detach()
    net = copy.deepcopy(net)
    net.head.weight.data *= 500  # sure of them
    net.head.bias.data *= 500
    assert "classes in another order" not in problems(net, x, answers, IMAGENET)
    assert "classes in another order" in problems(net, x, (answers + 1) % 10, IMAGENET)
    assert "classes in another order" not in problems(net, x), "the labels are made up"


def test_a_run_whose_weights_were_never_trained(healthy):
    assert "weights of an untrained network" in problems(network("sew_resnet20"), steps_of_run=115)
    assert "weights of an untrained network" not in problems(healthy, steps_of_run=115)
