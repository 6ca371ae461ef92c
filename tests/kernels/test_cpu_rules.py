"""The rules that the fused CPU kernels keep: PyTorch's, those of processes and threads, and what they refuse."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from functorch.compile import make_boxed_func
from given import LAYOUTS, given_norm, laid, leaves, relative
from torch._dynamo.backends.common import aot_autograd
from torch.utils.checkpoint import checkpoint

from spikewise import build_model
from spikewise.kernels import BACKENDS, CONNECT, NeuronParams, NormParams, get_backend
from spikewise.kernels.spec import Connect, FireGrads, FireSpec, FireTensors, GradSpec, PoolWindow, numbers
from spikewise.native import build
from spikewise.native import load as native
from spikewise.neurons import LIF, PLIF

cpu, reference = BACKENDS["cpu"], BACKENDS["reference"]

pytestmark = pytest.mark.skipif(
    bool(cpu.unavailable_reason(None)), reason=f"no CPU kernels here: {cpu.unavailable_reason(None)}"
)

IF = NeuronParams(1.0, 1.0, 0.0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_result_does_not_depend_on_the_number_of_threads(layout):
    y, shortcut = (laid(torch.randn(4, 5, 48, 23, 21), layout) for _ in range(2))
    weight, bias = torch.rand(48) + 0.5, torch.randn(48)
    upstream = laid(torch.randn(4, 5, 48, 23, 21), layout)
    found = []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        try:
            *tensors, w = leaves(torch.float32, y, weight, bias, shortcut, torch.tensor([0.1]))
            leak = torch.sigmoid(w)
            options = {"shortcut": tensors[3], "connect": CONNECT["IAND"]}
            norm, dynamics = NormParams(*tensors[1:3]), NeuronParams(1 - leak, leak, leak * 0)
            out, _, mean, variance = cpu.norm_fire(tensors[0], norm, dynamics, **options)
            found.append([out.detach(), mean, variance, *torch.autograd.grad(out, [*tensors, w], upstream)])
        finally:
            torch.set_num_threads(1)
    assert all(torch.equal(one, other) for other in found[1:] for one, other in zip(found[0], other, strict=True))


VARIANT_SCRIPT = """
import torch
from spikewise.kernels import BACKENDS, CONNECT, SURROGATES, NeuronParams, NormParams
cpu = BACKENDS["cpu"]
torch.manual_seed(0)
for shape in ((4, 2, 16, 5, 3), (3, 2, 7, 3, 5), (18, 2, 33, 4, 4)):
    for dtype in (torch.float32, torch.bfloat16):
        for surrogate in SURROGATES:
            y = torch.randn(shape).flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, shape[:2]).to(dtype)
            y, weight, s = (t.requires_grad_() for t in (y, torch.rand(shape[2]), (torch.randn(shape) > 0).to(dtype)))
            mean, variance = cpu.norm_stats(y.detach(), 2)
            zero, one = torch.zeros(shape[2]), torch.ones(shape[2])
            norm = NormParams(weight, one / 8, 0.0, zero, one)
            neuron = NeuronParams(0.75, 1.0, 0.0, surrogate=surrogate)
            out, v, _, _ = cpu.norm_fire(y, norm, neuron, shortcut=s, connect=CONNECT["AND"])
            got = torch.autograd.grad(out, [y, weight, s], torch.randn(out.shape).to(dtype))
            print(*(x.double().flatten()[::7].tolist() for x in (out, v, mean, variance, *got)), sep=";")
x = (torch.randn(2, 33, 9, 7) > 0).float().contiguous(memory_format=torch.channels_last).requires_grad_()
out = cpu.max_pool(x, 3, 2, 1)
print(out.flatten().tolist(), torch.autograd.grad(out, x, torch.randn(out.shape))[0].flatten().tolist(), sep=";")
"""


def test_every_variant_gives_the_same_spikes_and_gradients():
    able = [variant for variant in build.VARIANTS if variant in native.supported_variants()]
    assert able
    found = {}
    for variant in able:
        script = f"from spikewise.native import load; assert load.selected_variant() == {variant!r}\n" + VARIANT_SCRIPT
        run = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"SPIKEWISE_CPU_VARIANT": variant},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        found[variant] = [[torch.tensor(eval(part)) for part in line.split(";")] for line in run.stdout.splitlines()]
    first, *others = found.values()
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert torch.equal(one[0], two[0])  # spikes
            assert torch.equal(one[1], two[1]) or one is first[-1]  # membranes
            # gradients in bfloat16 are rounded to 8 bits
            assert all(relative(a, b) < 5e-3 for a, b in zip(one[1:], two[1:], strict=True))


def examples():
    y = laid(torch.randn(3, 2, 4, 3, 5), "last")
    shortcut, current, v = torch.rand(3, 2, 4, 3, 5).round(), torch.randn(3, 2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    per_channel = torch.rand(4), torch.rand(4)
    whole, spec = (
        FireTensors(y, *per_channel, torch.tensor([0.5, 0.5, 0.0]), shortcut, current, v),
        FireSpec(v_reset=None, connect=Connect.AND),
    )
    still = FireTensors(y[0], *per_channel)
    grads = FireGrads(torch.randn(3, 2, 4, 3, 5), None, *torch.rand(2, 4))
    return [
        ("norm_stats", (y, 2)),
        ("batch_norm_affine", (y, *per_channel, 1e-5)),
        ("norm_fire", (*whole, numbers(spec._replace(return_membrane=True, num_planes=2)))),
        ("norm_fire", (*FireTensors(y, *per_channel), numbers(FireSpec(num_planes=1)))),
        ("norm_fire", (*still, numbers(FireSpec(repeat_steps=5, return_membrane=True)))),
        ("norm_fire", (*still, numbers(FireSpec(repeat_steps=5, pool=PoolWindow(3, 2, 1), num_planes=1)))),
        ("norm_fire_backward", (*grads, *whole, numbers(spec, GradSpec(True, True, True, True)))),
        ("batch_norm_backward_", (laid(torch.randn(3, 2, 4, 3, 5), "last"), y, *torch.rand(3, 4), 90)),
        ("max_pool", (laid(torch.randn(2, 4, 6, 6), "last"), 3, 2, 1)),
    ]


@pytest.mark.parametrize("number", range(9))
def test_operators_keep_pytorchs_rules(number):
    name, args = examples()[number]
    torch.library.opcheck(getattr(torch.ops.spikewise, name).default, args)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # by torch.func itself
def test_double_backward_and_vmap_refuse_in_words():
    x = torch.randn(3, 2, 4, requires_grad=True)
    (g,) = torch.autograd.grad(cpu.fire(x, IF)[0].sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative; build the network with backend='reference'"):
        torch.autograd.grad(g.sum(), x)
    for transform in (
        lambda f: torch.vmap(f)(torch.randn(5, 3, 2, 4)),
        lambda f: torch.func.jvp(f, (torch.randn(3, 2, 4),), (torch.randn(3, 2, 4),)),
        lambda f: torch.func.grad(lambda x: f(x).sum())(torch.randn(3, 2, 4)),
    ):
        with pytest.raises(NotImplementedError, match=r"do not run under vmap, .*; build the network with backend='reference'"):
            transform(lambda x: cpu.fire(x, IF)[0])


def test_a_backend_asked_for_by_name_runs_or_says_why_not():
    x = torch.randn(3, 2, 4)
    assert get_backend("cpu", x) is cpu
    assert get_backend("auto", x) is cpu
    assert get_backend("auto", x.double()) is reference
    with pytest.raises(ValueError, match=r"'cpu' cannot run: they take float32 and bfloat16, given torch.float64"):
        get_backend("cpu", x.double())


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_activations_move_the_running_estimates_once(reentrant):
    images = torch.randn(2, 1, 8, 8)
    found = []
    for again in (False, True):
        torch.manual_seed(1)
        net = build_model("spiking_resnet20", num_classes=3, in_channels=1, T=2)
        hidden = net.stem(images, repeat_steps=2).detach().requires_grad_()
        block = net.layer2[0]
        out = checkpoint(block, hidden, use_reentrant=reentrant) if again else block(hidden)
        out.sum().backward()
        found.append([hidden.grad, *(p.grad for p in block.parameters()), *block.buffers()])
    assert all(map(torch.equal, *found))


def test_a_forked_process_computes_too():
    """Of OpenMP's threads a fork has only one; waiting for the others would take for ever."""
    script = """
import os, torch
from spikewise.kernels import BACKENDS, NeuronParams
cpu = BACKENDS["cpu"]
torch.set_num_threads(2)
x = torch.randn(4, 64, 1000)
expected = cpu.fire(x, NeuronParams(1.0, 1.0, 0.0))[0]
child = os.fork()
if not child:
    spikes = cpu.fire(x, NeuronParams(1.0, 1.0, 0.0))[0]
    os._exit(not (spikes.numpy() == expected.numpy()).all())  # torch.equal itself would hang
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=60, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr


def test_what_does_not_fit_is_refused_and_never_read():
    y, norm = torch.randn(4, 2, 8, 5, 5), given_norm(torch.ones(8), torch.zeros(8))
    narrow = given_norm(torch.ones(1), torch.zeros(1))
    for compute, message in (
        (lambda: cpu.norm_fire(y, norm, IF, current=y[:3]), r"current is .*3, 2, 8, 5, 5.*4, 2, 8, 5, 5.* would fit"),
        (lambda: cpu.norm_fire(y, norm, IF, v=y[0, :1]), r"v is .*1, 8, 5, 5.* would fit"),
        (lambda: cpu.norm_fire(y, narrow, IF), r"scale is .*1.*8.* would fit"),
        (lambda: cpu.fire(torch.randn(4, 3, 6), IF, v=torch.zeros(2)), "does not fit currents of"),
        (lambda: cpu.norm_fire(y[0], norm, IF, current=y[0], repeat_steps=4), "give only one of them"),
        (lambda: reference.norm_fire(y[0], norm, IF, current=y[0], repeat_steps=4), "give only one of them"),
    ):
        with pytest.raises(ValueError, match=message):
            compute()


def test_an_empty_batch_gives_empty_spikes():
    y = torch.randn(4, 0, 8, 5, 5)
    for kernels in (cpu, reference):
        assert kernels.fire(y, IF)[0].shape == y.shape
        assert kernels.norm_fire(y, given_norm(torch.ones(8), torch.ones(8)), IF)[0].shape == y.shape
    assert cpu.norm_stats(y, 2)[0].isnan().all()


def test_outputs_may_be_changed_in_place():
    x, norm = torch.randn(3, 2, 4, 5, 5, requires_grad=True), given_norm(torch.ones(4), torch.zeros(4))
    for kernels in (cpu, reference):
        (grad,) = torch.autograd.grad(kernels.fire(x, IF)[0].mul_(2).sum(), x)
        own = kernels.norm_fire(x, norm, IF, shortcut=x.detach(), connect=lambda a, s: a.mul_(s))
        assert grad.shape == own[0].shape


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # by the compiler itself
@pytest.mark.parametrize("kind", [LIF, partial(PLIF, decay_input=False)], ids=["LIF", "PLIF"])
def test_compiled_coefficients_are_no_copies_from_the_host(kind):
    """Of numbers there is no tensor; beside learned ones they are filled in where those lie."""
    called, neuron, norm = [], kind(3.0), NormParams(torch.ones(3), torch.zeros(3))

    def record(graph, _):
        called.extend(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph)

    def run(y):
        return cpu.norm_fire(y, norm, neuron.params())[0]

    torch._dynamo.reset()
    torch.compile(run, backend=aot_autograd(fw_compiler=record), fullgraph=True)(torch.randn(2, 2, 3, 4, 4))
    assert "spikewise.norm_fire.default" in called
    assert not any("lift_fresh" in name or "_to_copy" in name for name in called)
