"""torch.compile takes networks whole, forward and backward."""

import copy
import functools
import shutil

import pytest
import torch
import torch.nn.functional as F

from learning import learn
from spikewise.models import build_model
from spikewise.models.checkpointing import COMPILES
from spikewise.models.layers import ConvNormFire
from spikewise.neurons import IF

# what PyTorch itself says while it compiles
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def losses(net, x, autocast, steps=3):
    """Of some steps of learning."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    found = []
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(net(x).float(), torch.tensor([1, 3]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def pair(name, **options):
    torch.manual_seed(0)
    torch._dynamo.reset()
    net = build_model(name, num_classes=5, **options).train().to(memory_format=torch.channels_last)
    x = torch.rand(3, 2, 2, 16, 16) * 3 if "7b" in name else torch.rand(2, 3, 32, 32)
    return net, copy.deepcopy(net), x


@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles with g++, which is not here")
def test_two_blocks_compile_into_one_graph():
    net, eager, x = pair("sew_7b", num_blocks=2)
    compiled = torch.compile(net, fullgraph=True)
    assert losses(compiled, x, False) == pytest.approx(losses(eager, x, False), abs=1e-6)
    for name, buffer in net.named_buffers():
        torch.testing.assert_close(buffer, eager.get_buffer(name))


@pytest.mark.parametrize("autocast", [True, False], ids=["bfloat16", "float32"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sew_7b", {"num_blocks": 2, "connect": "IAND"}),
        ("spiking_7b", {"num_blocks": 2}),
        ("sew_resnet20", {"T": 3}),
        ("ms_resnet20", {"T": 3}),
        ("sew_resnet18", {"T": 2, "connect": "AND"}),
    ],
    ids=["sew_7b", "spiking_7b", "sew_resnet20", "ms_resnet20", "sew_resnet18"],
)
def test_others_are_traced_into_one_graph(name, options, autocast):
    """By AOTAutograd alone, which traces forward and backward and generates no code."""
    net, eager, x = pair(name, **options)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert losses(compiled, x, autocast, steps=2) == pytest.approx(losses(eager, x, autocast, steps=2), abs=1e-5)


@pytest.mark.skipif(COMPILES, reason="this PyTorch compiles checkpointed networks")
def test_a_checkpointed_network_is_refused_by_older_compilers():
    net, _, x = pair("sew_7b", num_blocks=2)
    net.checkpointing = "block"
    with pytest.raises(RuntimeError, match=r"compiled by PyTorch 2\.11"):
        torch.compile(net, fullgraph=True, backend="aot_eager")(x)


@pytest.mark.parametrize("checkpointing", ["block", "stage"])
def test_a_checkpointed_network_is_traced_into_one_graph(checkpointing):
    net, eager, x = pair("sew_7b", num_blocks=2)
    net.checkpointing = eager.checkpointing = checkpointing
    compiled = torch.compile(net, fullgraph=COMPILES, backend="aot_eager")  # older PyTorch: what is refused runs eagerly
    assert losses(compiled, x, False, steps=2) == pytest.approx(losses(eager, x, False, steps=2), abs=1e-5)
    for name, buffer in net.named_buffers():
        torch.testing.assert_close(buffer, eager.get_buffer(name))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sew_7b", {"num_blocks": 2, "connect": "IAND"}),
        ("spiking_7b", {"num_blocks": 2}),
        ("sew_resnet20", {}),
        ("ms_resnet20", {}),
    ],
)
def test_compiled_networks_keep_spikes_as_bits_too(name, options):
    net, eager, x = pair(name, **options)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager_decomp_partition")
    learn(compiled, x)  # compiles
    assert learn(compiled, x)[1] <= 1.02 * learn(eager, x)[1]


class ChangesInPlace(torch.nn.Module):
    """Two layers, and a change in place of what goes from one to the other."""

    def __init__(self, change):
        super().__init__()
        neuron = functools.partial(IF, v_th=0.5)
        self.first, self.second = (ConvNormFire(3, 3, 3, neuron=neuron) for _ in range(2))
        self.change = change

    def forward(self, x):
        spikes = self.first(x)
        self.change(spikes)
        return self.second(spikes)


@pytest.mark.parametrize(
    ("change", "is_integer"), [(lambda s: s.zero_(), True), (lambda s: s.neg_().add_(1), True), (lambda s: s.mul_(0.5), False)]
)
def test_changes_in_place_are_seen_by_compiled_networks_or_refused(change, is_integer):
    torch._dynamo.reset()
    torch.manual_seed(0)
    net, x = ChangesInPlace(change), torch.randn(3, 2, 3, 8, 8)
    eager = copy.deepcopy(net)
    eager(x).sum().backward()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    if not is_integer:
        with pytest.raises(RuntimeError, match="changed in place"):
            compiled(x)
        return
    compiled(x).sum().backward()
    for mine, theirs in zip(net.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
