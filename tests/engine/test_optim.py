import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from tiny import TINY, with_optim

from spikewise.config import Optim
from spikewise.engine.build import build_network, load_data
from spikewise.engine.loss import cross_entropy
from spikewise.engine.optim import build_optimizer, learning_rate, set_learning_rate


def net_and_optimizer(**changes):
    config = dataclasses.replace(with_optim(**changes), model=dataclasses.replace(TINY.model, neuron="PLIF"))
    net = build_network(config, load_data(config, "test"))
    return net, build_optimizer(config.optim, net)


def test_weight_decay_spares_norms_biases_and_time_constants():
    net, optimizer = net_and_optimizer(weight_decay=0.1)
    groups = optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0, 0]
    assert {id(p) for p in groups[0]["params"]} == {id(p) for p in net.parameters() if p.dim() > 1}
    assert {id(p) for p in groups[2]["params"]} == {id(p) for name, p in net.named_parameters() if name.endswith(".w")}
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))


def test_time_constants_may_learn_at_a_rate_of_their_own():
    _, optimizer = net_and_optimizer(plif_lr_multiplier=0.1, momentum=0.7)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5, 0.05]
    assert {group["momentum"] for group in optimizer.param_groups} == {0.7}


def test_learning_rate_warms_up_and_ends_near_zero():
    optim = Optim(lr=0.2, lr_batch=64, batch=64, epochs=10, warmup_epochs=2)
    rates = [learning_rate(optim, step, 50) for step in range(500)]
    assert rates[0] == pytest.approx(0.2 / 100)
    assert all(a < b for a, b in pairwise(rates[:99]))
    assert 0.15 < max(rates) < 0.2
    assert all(a >= b for a, b in pairwise(rates[99:]))
    assert rates[-1] < 1e-5


@pytest.mark.parametrize(
    ("optim", "steps_per_epoch", "expected"),
    [
        (Optim(lr=0.2, lr_batch=64, batch=64, epochs=10, schedule="constant"), 50, {400: 0.2}),
        (
            Optim(lr=0.1, lr_batch=16, batch=16, epochs=192, schedule="step"),
            74,
            {0: 0.1, 63 * 74: 0.1, 64 * 74: 0.01, 128 * 74: 0.001},
        ),
        (Optim(epochs=320), 7, {160 * 7: 0.05, 80 * 7: 0.1 * (1 + math.cos(math.pi / 4)) / 2}),
        (Optim(epochs=10, schedule_every="epoch"), 7, {0: 0.1, 6: 0.1, 7: 0.05 * (1 + math.cos(math.pi / 10))}),
    ],
    ids=["constant", "step", "cosine", "cosine_by_epoch"],
)
def test_the_schedules_are_the_published_ones(optim, steps_per_epoch, expected):
    assert {step: learning_rate(optim, step, steps_per_epoch) for step in expected} == pytest.approx(expected)


def test_loss_is_computed_in_float32_at_least():
    logits = torch.randn(4, 5, dtype=torch.bfloat16)
    assert cross_entropy(logits, torch.tensor([0, 1, 2, 3])).dtype == torch.float32
