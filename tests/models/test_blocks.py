"""The laws of residual blocks: what the paper proves, for every connect, neuron and kind of block."""

import math

import pytest
import torch

from spikewise.kernels.connect import CONNECT, add, and_, iand
from spikewise.models.residual import PlainBlock, ReLUBlock, SEWBlock, SpikingBlock
from spikewise.neurons import IF, LIF, PLIF

NEURONS = {
    "IF": IF,
    "IF_low": lambda: IF(v_th=0.6, v_reset=-0.2),
    "IF_soft": lambda: IF(v_reset=None),
    "LIF": LIF,
    "LIF_plain_input": lambda: LIF(3.0, decay_input=False),
    "LIF_slow": lambda: LIF(7.3, v_th=0.9),
    "PLIF": PLIF,
    "PLIF_soft": lambda: PLIF(2.7, v_reset=None),
}
every_connect = pytest.mark.parametrize("connect", [*CONNECT, "function"])
every_kind = pytest.mark.parametrize("bottleneck", [False, True], ids=["basic", "bottleneck"])
every_neuron = pytest.mark.parametrize("neuron", NEURONS)


def masked(a, s):
    """A connect of a user's own: AND of what the branch does not fire, written another way."""
    return torch.where(a > 0, torch.zeros_like(s), s)


def sew(connect, neuron="IF", bottleneck=False):
    g = masked if connect == "function" else connect
    return SEWBlock(8, 2 if bottleneck else 8, neuron=NEURONS[neuron], connect=g, bottleneck=bottleneck)


def zeroed(block):
    block.zero_init_()
    return block


def random_spikes(*shape, rate=0.3):
    return (torch.rand(shape) < rate).float()


def test_truth_table_of_the_connections():
    a, s = torch.tensor([0.0, 0, 1, 1]), torch.tensor([0.0, 1, 0, 1])  # a from the branch, s from the shortcut
    assert add(a, s).tolist() == [0, 1, 1, 2]
    assert and_(a, s).tolist() == [0, 0, 0, 1]
    assert iand(a, s).tolist() == [0, 1, 0, 0]


@every_kind
@every_connect
def test_branch_and_shortcut_keep_their_roles(connect, bottleneck):
    """A branch that fires everywhere, then nowhere: swapped roles give another output for IAND."""
    block, s = sew(connect, bottleneck=bottleneck), random_spikes(4, 2, 8, 5, 5)
    for always, expected in ((True, {"ADD": 1 + s, "AND": s, "IAND": 0 * s}), (False, {"ADD": s, "AND": 0 * s, "IAND": s})):
        block.last_layer.norm.weight.data.zero_()
        block.last_layer.norm.bias.data.fill_(1.0 if always else 0.0)
        assert torch.equal(block(s), expected["IAND" if connect == "function" else connect])


@every_neuron
@every_kind
@every_connect
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_zero_init_block_is_the_identity(connect, bottleneck, neuron, training):
    block, s = zeroed(sew(connect, neuron, bottleneck)).train(training), random_spikes(12, 2, 8, 5, 5)
    assert torch.equal(block(s), s)
    assert torch.equal(block.double()(s.double()), s.double())  # what was initialised in float32 holds there, too


@every_connect
def test_zero_init_of_a_block_that_changes_shape_passes_its_shortcut(connect):
    block = zeroed(SEWBlock(8, 16, 2, neuron=IF, connect=masked if connect == "function" else connect))
    s = random_spikes(4, 2, 8, 6, 6)
    assert torch.equal(block(s), block.shortcut(s))


@every_connect
@pytest.mark.parametrize("neuron", ["IF", "LIF", "PLIF"])
def test_gradient_through_zero_init_sew_blocks_is_exactly_one(neuron, connect):
    """Eq. 11."""
    blocks = torch.nn.Sequential(*(zeroed(sew(connect, neuron)) for _ in range(6)))
    s, upstream = random_spikes(4, 2, 8, 5, 5).requires_grad_(), torch.randn(4, 2, 8, 5, 5)
    assert torch.equal(torch.autograd.grad(blocks(s), s, upstream)[0], upstream)


@pytest.mark.parametrize(("v_th", "alpha"), [(1.0, 2.0), (0.5, 2.0), (1.0, 3.0)], ids=str)
@pytest.mark.parametrize("num_blocks", [1, 3, 10])
def test_gradient_through_spiking_identity_blocks_is_the_product_of_slopes(num_blocks, v_th, alpha):
    """Eq. 8, which holds at T = 1."""
    blocks = [zeroed(SpikingBlock(8, 8, neuron=lambda: IF(v_th=v_th, alpha=alpha)).double()) for _ in range(num_blocks)]
    s = random_spikes(1, 2, 8, 5, 5).double().requires_grad_()
    out = torch.nn.Sequential(*blocks)(s)
    assert torch.equal(out, s)
    (gradient,) = torch.autograd.grad(out.sum(), s)
    slope = (alpha / 2) / (1 + (math.pi / 2 * alpha * (s.detach() - v_th)) ** 2)
    torch.testing.assert_close(gradient, slope**num_blocks, rtol=1e-9, atol=0)


@every_kind
@pytest.mark.parametrize(("neuron", "passes"), [(IF, True), (LIF, False), (PLIF, False)])
def test_zero_init_spiking_block_is_the_identity_for_integrate_and_fire_alone(bottleneck, neuron, passes):
    """Sec. 3.2: at tau = 2 a lone spike charges the membrane to 1/2 only, and two in a row to 3/4."""
    s = random_spikes(6, 2, 8, 5, 5)
    block = zeroed(SpikingBlock(8, 2 if bottleneck else 8, neuron=neuron, bottleneck=bottleneck))
    assert torch.equal(block(s), s if passes else 0 * s)


@every_kind
@pytest.mark.parametrize("first_changes_shape", [True, False])
def test_add_stays_below_its_bound(bottleneck, first_changes_shape):
    """At most 2 after the first block, changed in shape or not, and one more with every block: k + 1 after k blocks."""
    width = 4 if bottleneck else 16
    blocks = [SEWBlock(8, width, 2, neuron=IF, bottleneck=bottleneck)] if first_changes_shape else []
    blocks += [SEWBlock(16, width, neuron=IF, bottleneck=bottleneck) for _ in range(5)]
    x = random_spikes(5, 3, 8 if first_changes_shape else 16, 12, 12)
    for number, block in enumerate(blocks, start=1):
        for layer in (block.last_layer, block.shortcut):  # all fire as much as they can
            if layer is not None:
                layer.norm.bias.data.fill_(1.0)
        x = block(x)
        assert torch.equal(x, x.round())
        assert x.max() == number + 1


@pytest.mark.parametrize("connect", ["AND", "IAND"])
def test_and_and_iand_stay_binary(connect):
    x = random_spikes(4, 2, 8, 6, 6, rate=0.8)
    for _ in range(4):
        x = sew(connect)(x)
        assert ((x == 0) | (x == 1)).all()


@pytest.mark.parametrize("kind", [SEWBlock, SpikingBlock, PlainBlock, ReLUBlock])
@pytest.mark.parametrize(("bottleneck", "channels"), [(False, 16), (True, 64)])
def test_shapes_of_all_kinds_of_block(kind, bottleneck, channels):
    block = kind(8, 16, 2, bottleneck=bottleneck, **({} if kind is ReLUBlock else {"neuron": IF}))
    assert block(random_spikes(3, 2, 8, 9, 9)).shape == (3, 2, channels, 5, 5)


def test_the_last_neuron_may_have_a_surrogate_of_its_own():
    for kind in (SEWBlock, SpikingBlock, PlainBlock):
        block = kind(8, 8, 2, neuron=IF, last_neuron=lambda: IF(surrogate="scaled_atan"))
        assert [layer.neuron.surrogate for layer in block.branch] == ["atan", "scaled_atan"]
        if kind is SEWBlock:
            assert block.shortcut.neuron.surrogate == "atan"


@pytest.mark.parametrize(
    ("connect", "message"),
    [
        ("OR", r"no connection named 'OR'; .*ADD, AND, IAND; .*a function of \(a, s\)"),
        (lambda a, s: a * 0 + s * 2, "makes this connect the identity"),
    ],
    ids=["unknown", "without an identity"],
)
def test_a_connect_that_is_unknown_or_has_no_identity_is_refused(connect, message):
    with pytest.raises(ValueError, match=message):
        zeroed(SEWBlock(8, 8, neuron=IF, connect=connect))
