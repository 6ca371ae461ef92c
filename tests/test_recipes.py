"""Every recipe: its config, its network, its optimiser; and the published hyper-parameters."""

import dataclasses

import pytest
import torch

from spikewise.data import DATASETS
from spikewise.engine.build import build_network, load_data
from spikewise.engine.optim import build_optimizer, learning_rate
from spikewise.recipes import RECIPES


@dataclasses.dataclass
class Stand:
    """Stands for the data of a recipe: only classes and channels."""

    class_names: tuple
    in_channels: int


CLASSES = {"imagenet": 1000, "dvs-gesture": 11}


@pytest.mark.parametrize("name", RECIPES)
def test_the_network_and_the_optimizer_of_every_recipe_are_built(name):
    config = RECIPES[name]()
    events = DATASETS[config.data.name].events
    channels = 2 if events else 1 if config.data.name in ("digits", "fashion-mnist") else 3
    with torch.device("meta"):
        net = build_network(config, Stand(("c",) * CLASSES.get(config.data.name, 10), channels))
        optimizer = build_optimizer(config.optim, net)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(net.parameters()))
    assert config.recipe == name


@pytest.mark.parametrize("name", RECIPES)
def test_a_trial_of_one_epoch_warms_up_and_reaches_the_peak_of_its_learning_rate(name):
    optim = dataclasses.replace(RECIPES[name]().optim, epochs=1, schedule="constant")
    rates = [learning_rate(optim, step, 10) for step in range(10)]
    assert rates[5:] == pytest.approx([optim.peak_lr] * 5)
    assert max(rates) == pytest.approx(optim.peak_lr)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_whose_data_is_absent_says_what_brings_it(name, tmp_path):
    config = RECIPES[name]()
    if config.data.name in ("digits", "digits-events"):  # embedded
        assert len(load_data(config, "train")) == 1438
        return
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(tmp_path)))
    with pytest.raises(FileNotFoundError, match=r"spikewise data (download|prepare)|unpack N-MNIST|make the folders"):
        load_data(config, "train")


def test_the_published_hyper_parameters_of_imagenet():
    for depth in (18, 34, 50, 101, 152):
        for kind in ("sew", "spiking"):
            optim, model = RECIPES[f"imagenet/{kind}-resnet{depth}"]().optim, RECIPES[f"imagenet/{kind}-resnet{depth}"]().model
            assert (optim.lr, optim.lr_batch, optim.batch, optim.epochs, optim.momentum) == (0.1, 256, 256, 320, 0.9)
            assert (optim.weight_decay, optim.warmup_epochs, optim.label_smoothing) == (0, 0, 0)
            assert (optim.precision, optim.eval_precision) == ("float16", "float32")
            assert (model.T, model.connect, model.zero_init) == (4, "ADD", kind == "spiking")
            assert learning_rate(optim, 160 * 5005 + 7, 5005) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("variant", "lr"), [("sew-add", 0.001), ("sew-and", 0.03), ("sew-iand", 0.063), ("spiking", 0.1), ("plain", 0.005)]
)
def test_the_published_hyper_parameters_of_dvs_gesture(variant, lr):
    config = RECIPES[f"dvs-gesture/{variant}"]()
    assert (config.optim.lr, config.optim.lr_batch, config.optim.batch, config.optim.epochs) == (lr, 16, 16, 192)
    assert (config.data.num_frames, config.data.temporal_delete, config.data.temporal_delete_per) == (16, 12, "batch")
    drops = [learning_rate(config.optim, epoch * 74, 74) / lr for epoch in (0, 63, 64, 127, 128, 191)]
    assert drops == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_zero_init_of_7b_net_is_two_named_variants():
    plain, zero = RECIPES["dvs-gesture/sew-add"](), RECIPES["dvs-gesture/sew-add-zero-init"]()
    assert (plain.model.zero_init, zero.model.zero_init) == (False, True)
    assert dataclasses.replace(zero.model, zero_init=False) == plain.model


def test_the_published_hyper_parameters_of_cifar10_dvs():
    config = RECIPES["cifar10-dvs/sew-add"]()
    assert (config.optim.lr, config.optim.epochs, config.data.num_frames, config.data.temporal_delete) == (0.01, 64, 16, 0)
    assert config.model.name == "sew_wide7b"
