import copy
import math
import pickle

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spikewise.models import CONNECT, MODELS, build_model
from spikewise.models.layers import MaxPool
from spikewise.models.registry import DEFAULTS
from spikewise.models.weights import load_pretrained, save_pretrained
from spikewise.neurons import IF, LIF, Neuron

SMALL = [
    "sew_resnet20",
    "spiking_resnet20",
    "plain_resnet20",
    "resnet20",
    "sew_7b",
    "spiking_7b",
    "plain_7b",
    "sew_wide7b",
    "ms_resnet20",
    "tdbn_resnet17",
    "rba_resnet20",
]


def small(name, **how):
    """A network of each family, small enough to run in a test, and frames that fit it."""
    how = {"num_blocks": 3} | how if name.endswith("_7b") else how
    how = {"width": 0.125, "stem": "3x3"} | how if name == "tdbn_resnet17" else how
    net = build_model(name, num_classes=5, **how)
    size = 128 if name == "sew_wide7b" else 16
    return net, torch.rand(4, 2, net.in_channels, size, size) * 2


def firing(net):
    """Norms that let every layer fire, so that tests compare something."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.6)
            torch.nn.init.uniform_(module.bias, -0.2, 0.6)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net


@pytest.mark.parametrize(
    ("count", "names", "options"),
    [
        (11_689_512, ["resnet18", "sew_resnet18", "spiking_resnet18"], {"num_classes": 1000}),
        (21_797_672, ["resnet34", "sew_resnet34", "spiking_resnet34", "tdbn_resnet34"], {"num_classes": 1000}),
        (86_110_824, ["tdbn_resnet34_large"], {"num_classes": 1000}),  # the paper says 85.5 M
        (1_698_311, ["plif_net"], {"num_classes": 11}),  # 1.70 M
        (2_322_304, ["lif_net"], {"num_classes": 11}),  # 23.23 M in the paper, a slip of the point
        (11_179_019, ["tdbn_resnet17"], {"num_classes": 11, "in_channels": 2}),  # 11.18 M
        (25_557_032, ["resnet50", "sew_resnet50", "spiking_resnet50", "tdbn_resnet50"], {"num_classes": 1000}),
        (44_549_160, ["resnet101", "sew_resnet101", "spiking_resnet101"], {"num_classes": 1000}),
        (60_192_808, ["resnet152", "sew_resnet152", "spiking_resnet152"], {"num_classes": 1000}),
        (130_426, ["sew_7b"], {"num_classes": 11}),
        (130_938, ["sew_7b"], {"num_classes": 11, "stem": "3x3"}),  # as the paper says
        (1_192_218, ["sew_wide7b"], {"num_classes": 10}),
    ],
)
def test_parameter_counts_of_the_paper(count, names, options):
    with torch.device("meta"):
        for name in names:
            assert sum(p.numel() for p in build_model(name, **options).parameters()) == count


def neurons_of(net):
    return [module for module in net.modules() if isinstance(module, Neuron)]


@pytest.mark.parametrize("name", MODELS)
def test_every_network_of_the_table_is_built_and_says_how(name):
    with torch.device("meta"):
        net = build_model(name, num_classes=7)
    assert net.head.out_features == 7
    assert net.spec["name"] == name
    assert len(net.blocks) == sum(n if isinstance(n, int) else n[1] for n in MODELS[name].stages)


@pytest.mark.parametrize("name", SMALL)
def test_frames_of_any_number_give_logits(name):
    net, frames = small(name)
    for steps in (1, 3, 4):
        assert net(frames[:steps]).shape == (2, 5)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_receives_a_gradient(name):
    net, frames = small(name)
    firing(net)(frames).square().sum().backward()
    idle = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_resnet20", "plain_resnet20", "ms_resnet20", "sew_7b"])
def test_a_still_image_equals_the_same_frame_at_every_step(name):
    net, frames = small(name, T=3, **({"in_channels": 3} if name == "sew_7b" else {}))
    net = firing(net).double()
    image = frames[0, :, [0, 0, 1]].double() if name == "sew_7b" else frames[0].double()
    for training in (False, True):
        net.train(training)
        torch.testing.assert_close(net(image), net(image.expand(3, *image.shape)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(("sew_resnet20", {"neuron": neuron, "connect": g}) for neuron in ("IF", "LIF", "PLIF") for g in CONNECT),
        *((name, {}) for name in SMALL[1:]),
    ],
    ids=str,
)
@pytest.mark.parametrize("still", [False, True], ids=["frames", "still"])
def test_a_stream_equals_the_sequence_after_every_frame(name, how, still):
    """To the last bit, in every family."""
    net, frames = small(name, **how)
    net, frames, state = firing(net).double().eval(), frames.double(), None
    for t in range(4):
        logits, state = net.step(frames[0] if still else frames[t], state)
        if not still:
            assert torch.equal(logits, net(frames[: t + 1]))
    assert torch.equal(logits, net(frames[:1].expand(frames.shape) if still else frames))
    assert state.num_steps == 4


def test_two_streams_do_not_mix():
    net, frames = small("sew_resnet20")
    net.eval()
    _, state = net.step(frames[0])
    once, _ = net.step(frames[1], state)
    net.step(frames[2], state)
    again, _ = net.step(frames[1], state)
    assert torch.equal(once, again)


@pytest.mark.parametrize("name", SMALL)
def test_forward_leaves_nothing_behind_and_copies_and_pickles_compute_the_same(name):
    net, frames = small(name)
    logits = net.eval()(frames)
    for again in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(again(frames), logits)


def test_running_estimates_are_those_of_torch_and_move_once_per_batch():
    net, frames = small("sew_resnet20")
    twin = torch.nn.BatchNorm2d(16)
    twin(net.stem.conv(frames.flatten(0, 1)))
    net(frames)
    torch.testing.assert_close(net.stem.norm.running_mean, twin.running_mean)
    torch.testing.assert_close(net.stem.norm.running_var, twin.running_var)
    assert {int(b) for key, b in net.named_buffers() if key.endswith("num_batches_tracked")} == {1}


@pytest.mark.parametrize("connect", CONNECT)
@pytest.mark.parametrize("name", ["sew_resnet18", "sew_resnet50", "sew_7b"])
def test_zero_init_makes_every_block_of_a_network_the_identity(name, connect):
    net = build_model(name, num_classes=3, connect=connect, zero_init=True)
    for block in net.blocks.values():
        channels = block.branch[0].conv.in_channels
        spikes = (torch.rand(4, 1, channels, 4, 4) < 0.3).float()
        with torch.no_grad():
            assert torch.equal(block(spikes), spikes if block.shortcut is None else block.shortcut(spikes))


def test_functions_and_classes_serve_as_connect_and_as_neuron():
    net = build_model("sew_resnet20", num_classes=5, connect=torch.maximum, neuron=lambda **how: LIF(3.0, **how))
    assert net(torch.rand(2, 3, 8, 8)).shape == (2, 5)
    assert {neuron.leak for neuron in neurons_of(net)} == {1 / 3}
    assert {type(neuron) for neuron in neurons_of(build_model("sew_7b", num_classes=5, neuron=IF, num_blocks=2))} == {IF}


def test_half_precision_networks_run():
    net, frames = small("sew_resnet20")
    assert net.bfloat16()(frames.bfloat16()).dtype == torch.bfloat16


def test_autocast_runs_convolutions_in_bfloat16():
    net, frames = small("sew_resnet20")
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(frames)
    logits.float().sum().backward()
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 16, 16), r"given \[3, 16, 16\]; this network takes images \[N, 3, H, W\] or frames \[T, N, 3, H, W\]"),
        (torch.zeros(2, 1, 16, 16), r"given \[2, 1, 16, 16\]"),
        (torch.zeros(4, 3, 2, 16, 16), r"given \[4, 3, 2, 16, 16\].*channels come after batch"),
        (torch.zeros(0, 2, 3, 16, 16), r"a sequence of no frames"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), r"given torch.uint8; this network takes torch.float32"),
        (torch.zeros(2, 3, 16, 16).double(), r"given torch.float64, but the weights are torch.float32; use x.to"),
        ([[1.0]], r"given list; this network takes a tensor"),
        (torch.zeros(1, 1, 3, 1, 1), "at least 2 values per channel"),
    ],
    ids=range(8),
)
def test_what_does_not_fit_is_refused_in_words(x, message):
    with pytest.raises(ValueError, match=message):
        small("sew_resnet20")[0](x)


def test_frames_too_small_for_the_blocks_are_refused():
    with pytest.raises(ValueError, match=r"needs at least 128 x 128 pixels, .* smaller 'num_blocks'"):
        build_model("sew_7b", num_classes=11)(torch.zeros(2, 1, 2, 64, 64))


def test_streams_refuse_training_mode_and_foreign_states():
    net, frames = small("sew_resnet20")
    with pytest.raises(RuntimeError, match=r"call net.eval\(\) first"):
        net.step(frames[0])
    deeper = build_model("sew_resnet32", num_classes=5).eval()
    state, of_deeper, of_pixels, of_half = (
        which.eval().step(x)[1]
        for which, x in ((net, frames[0]), (deeper, frames[0]), (net, frames[0, :, :, :1, :1]), (net, frames[0, :, :, :8, :8]))
    )
    needs = r"the state's membrane of 'stem' is .* this frame needs \[2, 16, 16, 16\]"
    for which, frame, given, message in (
        (net, frames[1, :1], state, r"the state is of 2 streams, the frame of 1"),
        (net, frames, state, r"this network takes one frame"),
        (deeper, frames[1], state, r"no membrane for 'layer1.3.conv1'"),
        (net, frames[1], of_deeper, r"membranes this network does not have"),
        (net, frames[1], 5, r"given a state of type int"),
        (net, frames[1], of_pixels, needs),
        (net, frames[1], of_half, needs),
    ):
        with pytest.raises(ValueError, match=message):
            which.step(frame, given)
    with pytest.raises(ValueError, match=r"torch.float32, this frame needs .* torch.float64"):
        net.double().step(frames[1].double(), state)


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("sew_resnet19", {}, r"no model named 'sew_resnet19'; did you mean 'sew_resnet\d+'\? known: .*plain_7b"),
        ("resnet18", {"T": 8}, r"resnet18 has no 'T', given 8; its options: in_channels, num_classes"),
        ("resnet18", {"neuron": "IF"}, r"resnet18 has no 'neuron'"),
        ("plain_7b", {"connect": "IAND"}, r"plain_7b has no 'connect', given 'IAND'"),
        ("plain_7b", {"zero_init": True}, r"plain_7b has no 'zero_init'"),
        ("sew_resnet20", {"stem": "7x7"}, r"sew_resnet20 has no 'stem'"),
        ("sew_resnet18", {"num_blocks": 3}, r"sew_resnet18 has no 'num_blocks'"),
        ("sew_wide7b", {"num_blocks": 3}, r"sew_wide7b has no 'num_blocks'"),
        ("sew_7b", {"num_blocks": 0}, r"num_blocks=0 must be a whole number of at least 1"),
        ("sew_7b", {"stem": "7x7"}, r"stem='7x7' is unknown; use '1x1' or '3x3'"),
        ("sew_resnet18", {"pool": "min"}, r"pool='min' is unknown; use 'max' or 'avg'"),
        ("sew_resnet18", {"connect": "or"}, r"no connection named 'or'"),
        ("sew_resnet18", {"neuron": "LIFF"}, r"no neuron named 'LIFF'; did you mean 'LIF'\? known: IF, LIF, PLIF, .*--import"),
        ("sew_resnet18", {"tau": 3.0, "neuron": "IF"}, r"IF has no 'tau'"),
        ("sew_resnet18", {"tau": 3.0}, r"IF has no 'tau'"),
        ("sew_resnet18", {"surrogate": "relu"}, r"no surrogate named 'relu'"),
        ("sew_resnet18", {"backend": "cupy"}, r"no backend named 'cupy'"),
        ("sew_resnet18", {"num_classes": 0}, r"num_classes=0 must be a whole number"),
        ("sew_resnet18", {"T": 2.5}, r"T=2.5 must be a whole number"),
        ("sew_resnet20", {"width": 0.01}, r"width=0.01 leaves no channel of 16"),
        ("sew_resnet20", {"width": float("nan")}, r"width=nan leaves no channel"),
    ],
)
def test_what_a_network_does_not_have_is_refused_by_name(name, how, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, **{"num_classes": 10, **how})


@pytest.mark.parametrize(
    ("option", "value"),
    [("v_th", 0.7), ("v_reset", -0.5), ("v_reset", None), ("surrogate", "erf"), ("alpha", 3.0), ("detach_reset", False)],
)
@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_resnet20", "plain_7b", "sew_7b"])
def test_an_option_of_neurons_reaches_every_neuron(name, option, value):
    net = build_model(name, num_classes=5, **{option: value})
    assert {getattr(neuron, option) for neuron in neurons_of(net)} == {value}


def test_tau_and_input_decay_reach_every_neuron():
    for kind in ("LIF", "PLIF"):
        net = build_model("sew_resnet20", num_classes=5, neuron=kind, tau=4.0, decay_input=False)
        assert {neuron.coefficients()[1] for neuron in neurons_of(net)} == {1.0}
        assert all(torch.as_tensor(neuron.coefficients()[0]).item() == pytest.approx(0.75) for neuron in neurons_of(net))


@pytest.mark.parametrize("name", ["sew_resnet18", "spiking_resnet50", "sew_7b"])
def test_the_last_surrogate_reaches_the_last_neurons_of_blocks_alone(name):
    net = build_model(name, num_classes=5, last_surrogate="scaled_atan")
    last = {id(block.last_layer.neuron) for block in net.blocks.values()}
    for neuron in neurons_of(net):
        assert neuron.surrogate == ("scaled_atan" if id(neuron) in last else "atan")


@pytest.mark.parametrize(("pool", "kind"), [("max", MaxPool), ("avg", torch.nn.AvgPool2d)])
@pytest.mark.parametrize(
    ("name", "options"),
    [("sew_resnet18", {"stem": "7x7"}), ("sew_resnet18", {"stem": "3x3"}), ("resnet18", {}), ("sew_7b", {"num_blocks": 3})],
    ids=str,
)
def test_stem_and_pool_are_those_asked_for(name, options, pool, kind):
    net = build_model(name, num_classes=3, pool=pool, **options)
    pools = {type(m) for m in net.modules() if isinstance(m, MaxPool | torch.nn.AvgPool2d)}
    assert pools == (set() if options.get("stem") == "3x3" else {kind})  # images for that stem are small already
    assert net(torch.rand(3, 2, net.in_channels, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "width", "channels"),
    [("ms_resnet20", 0.5, [8, 16, 32]), ("sew_resnet18", 1.5, [96, 192, 384, 768]), ("sew_wide7b", 0.3, [19, 38])],
)
def test_the_width_scales_the_channels_of_every_stage(name, width, channels, tmp_path):
    net = build_model(name, num_classes=3, width=width)
    assert [
        max(conv.out_channels for conv in stage.modules() if isinstance(conv, torch.nn.Conv2d)) for stage in net.stages
    ] == (channels)
    save_pretrained(net, tmp_path / "net.safetensors")
    assert load_pretrained(tmp_path / "net.safetensors").spec == net.spec


@pytest.mark.parametrize("option", [{"tau": 5.0}, {"decay_input": False}])
def test_options_that_would_not_reach_a_neuron_of_ones_own_are_refused(option):
    class Mine(LIF):
        pass

    with pytest.raises(ValueError, match=r"would not reach a neuron of your own; .*partial\(Mine, "):
        build_model("sew_resnet20", num_classes=5, neuron=Mine, **option)


def test_zero_init_works_without_memory():
    with torch.device("meta"):
        build_model("sew_resnet18", num_classes=5, connect="AND", zero_init=True)


def test_an_option_at_its_default_is_never_refused():
    with torch.device("meta"):
        for name in MODELS:
            build_model(name, num_classes=10, **DEFAULTS)


def test_features_of_stages():
    net = build_model("sew_resnet20", num_classes=5, T=3).eval()
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        found, means = net.features(x, stages=(1, 3)), net.features(x, mean=True)
        assert {number: list(out.shape) for number, out in found.items()} == {1: [3, 2, 16, 16, 16], 3: [3, 2, 64, 4, 4]}
        assert torch.equal(means[3], found[3].mean(0))
        assert torch.equal(net.head(sum(found[3].mean((-2, -1))) / 3), net(x))
    with pytest.raises(ValueError, match=r"no stage 4.*1 to 3"):
        net.features(x, stages=(4,))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("name", "shape"), [("sew_resnet20", (2, 3, 12, 12)), ("sew_7b", (3, 2, 2, 128, 128))])
def test_what_is_not_finite_gives_nan(name, shape, value):
    """Each sample for itself in evaluation, also as a stream; all together in training."""
    net = build_model(name, num_classes=5)
    x = torch.rand(shape)
    x[..., 1, 0, 3, 3] = value
    with torch.no_grad():
        assert net.train()(x).isnan().all()
        net = build_model(name, num_classes=5).eval()
        logits = net(x)
        assert logits[0].isfinite().all()
        assert logits[1].isnan().all()
        frames, state = x if x.dim() == 5 else x.expand(4, *x.shape), None
        for number, frame in enumerate(frames, start=1):
            streamed, state = net.step(frame, state)
            assert streamed.isnan().all(1).tolist() == [False, True], number
        x[..., 1, 0, 3, 3] = 0.5
        if x.dim() == 5:
            x[2, 0, 0, 0, 0] = value  # from there on
            assert net(x).isnan().all(1).tolist() == [True, False]


def test_recordings_of_events_are_not_taken_for_still_images():
    net = build_model("sew_7b", num_classes=5, num_blocks=2).eval()
    recording = torch.rand(6, 2, 16, 16)
    with pytest.raises(ValueError, match=r"one recording or a batch of still images.*x\[:, None\]"):
        net(recording)
    batch = torch.rand(3, 6, 2, 16, 16)
    with torch.no_grad():
        assert net(recording[:, None]).shape == (1, 5)
        assert torch.equal(net(batch, batch_first=True), net(batch.transpose(0, 1)))
    with pytest.raises(ValueError, match="takes frames"):
        net(recording, batch_first=True)


@pytest.mark.parametrize("trace", [torch.fx.symbolic_trace, torch.jit.script])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cannot_follow_the_network_says_what_can(trace):
    with pytest.raises((ValueError, TypeError), match=r"torch.export.export\(net, \(x,\)\)"):
        trace(build_model("sew_resnet20", num_classes=5))


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # PyTorch 2.11 reads its own file so
def test_an_exported_network_takes_any_batch(tmp_path):
    net = build_model("sew_resnet20", num_classes=5).eval()
    dynamic = {0: torch.export.Dim("batch", min=1, max=64)}
    torch.export.save(torch.export.export(net, (torch.rand(2, 3, 16, 16),), dynamic_shapes=(dynamic,)), tmp_path / "net.pt2")
    again = torch.export.load(tmp_path / "net.pt2").module()
    for size in (1, 5):
        x = torch.rand(size, 3, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(again(x), net(x))


@pytest.mark.parametrize("name", ["sew_resnet20", "resnet20"])
def test_pytorch_counts_the_operations_of_convolutions(name):
    net, x = build_model(name, num_classes=5), torch.rand(2, 3, 16, 16)
    expected = 2 * 2 * 64 * 5  # the head's
    for layer in net.conv_layers.values():
        layer.conv.register_forward_hook(lambda m, _, out: sizes.append(2 * out.numel() * m.weight[0].numel()))
    for training in (True, False):
        sizes = []
        with FlopCounterMode(display=False) as counter:
            net.train(training)(x)
        assert counter.get_total_flops() == expected + sum(sizes)
