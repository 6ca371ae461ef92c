"""NIR files: read by our own importer, and by others where they are installed, they compute the network's numbers."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spikewise.data.input_spec import InputSpec
from spikewise.export.nir import export_nir, to_nir
from spikewise.export.nir_reader import import_nir
from spikewise.models import build_model, stream
from spikewise.models.weights import save_pretrained

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")
ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))
import nir_importers as bench  # noqa: E402  behind what it needs

SIDE = bench.SIDE


def drawn(name, **how):
    """With norms that let every layer fire."""
    net = build_model(name, num_classes=3, width=0.25, **how).eval()
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.8, 1.6)
        nn.init.uniform_(norm.bias, -0.2, 0.6)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return net


def small(**how):
    return build_model("sew_7b", num_classes=3, **{"num_blocks": 1, "width": 0.125, "pool": "avg"} | how).eval()


@pytest.mark.parametrize("neuron", bench.NEURONS)
@pytest.mark.parametrize("shape", bench.NETWORKS)
def test_a_file_computes_the_same_bits_where_sums_are_exact(shape, neuron, tmp_path):
    net = bench.draw_dyadic(bench.NETWORKS[shape](neuron))
    frames = bench.draw_frames(net)
    found = import_nir(export_nir(net, tmp_path / "net.nir", shape=(SIDE, SIDE)))(frames)
    assert torch.equal(found.flatten(2), bench.scores_of(net, frames))


@pytest.mark.parametrize("neuron", ["IF", "LIF"])
@pytest.mark.parametrize("name", ["SpikingJelly", "snnTorch", "Norse by nirtorch.nir_to_torch"])
def test_other_importers_compute_the_same_bits(name, neuron, tmp_path):
    importer = bench.IMPORTERS[name]
    for package in importer.packages:
        pytest.importorskip(package)
    if (name, neuron) == ("snnTorch", "IF"):
        pytest.skip("snnTorch has no IF")
    net = bench.draw_dyadic(bench.NETWORKS["SEW ADD, with projections"](neuron))
    frames = bench.draw_frames(net)
    path = export_nir(net, tmp_path / "net.nir", shape=(SIDE, SIDE))
    assert torch.equal(bench.quietly(importer.function, path, frames), bench.scores_of(net, frames))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("sew_resnet18", {"pool": "avg", "neuron": "LIF", "v_th": 0.5, "tau": 3.0}),
        ("sew_resnet20", {"neuron": "PLIF", "decay_input": False, "tau": 4.0}),
        ("tdbn_resnet17", {"pool": "avg", "v_reset": -0.5}),
        ("ms_resnet20", {"neuron": "LIF", "v_reset": -0.25}),
    ],
    ids=str,
)
def test_logits_are_the_mean_of_the_scores_in_float64(name, how, tmp_path):
    net = drawn(name, **how).double()
    graph = import_nir(export_nir(net, tmp_path / "net.nir", shape=(16, 24), dt=1e-3))
    frames = 2 * torch.rand(5, 2, 3, 16, 24, dtype=torch.float64)
    logits = net(frames)
    assert logits.std() > 1e-3
    torch.testing.assert_close(graph(frames).mean(0).flatten(1), logits, rtol=0, atol=1e-9)
    assert graph.dt == 1e-3


def test_thresholds_by_channel_are_kept(tmp_path):
    net = small()
    for layer in net.spiking_layers.values():
        layer.neuron.v_th = torch.linspace(0.25, 1.0, layer.conv.out_channels)
    frames = torch.rand(4, 2, 2, 4, 4)
    graph = import_nir(export_nir(net, tmp_path / "net.nir", shape=(4, 4)))
    torch.testing.assert_close(graph(frames).mean(0).flatten(1), net(frames), rtol=0, atol=1e-6)


def test_a_stream_is_the_sequence(tmp_path):
    net = bench.draw_dyadic(bench.NETWORKS["SEW ADD, with projections"]("LIF"))
    graph, frames = import_nir(export_nir(net, tmp_path / "net.nir", shape=(SIDE, SIDE))), bench.draw_frames(net)
    pieces, states = [], None
    for piece in frames.split([1, 3, 2]):
        out, states = stream(graph, piece, states)
        pieces.append(out)
    assert torch.equal(torch.cat(pieces), graph(frames))


def test_a_file_says_what_the_network_is(tmp_path):
    net = small()
    net.input_spec = InputSpec("mine", "events", ("a", "b", "c"), (2, 8, 8), num_frames=5)
    facts = import_nir(export_nir(net, tmp_path / "net.nir", shape=(8, 8))).facts
    assert (facts["model"], facts["class_names"], facts["shape"]) == ("sew_7b", ["a", "b", "c"], [2, 8, 8])
    assert facts["input"]["num_frames"] == 5


def test_the_pages_program_runs(tmp_path, monkeypatch):
    """The Python of docs/nir.md, as it stands."""
    monkeypatch.chdir(tmp_path)
    exec((ROOT / "docs" / "nir.md").read_text().split("```python\n")[1].split("```")[0], {})


# What cannot be written -------------------------------------------------------------------------------------------------------


def hooked():
    net = small()
    net.spiking_layers["stage1.widen"].spikes.register_forward_hook(lambda *_: None)
    return net


def with_part(path, part):
    net = small()
    net.set_submodule(path, part)
    return net


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(connect="IAND"), r"stage1.blocks.0: .* connect='IAND' cannot.*--model.connect ADD"),
        (lambda: small(connect="AND"), r"stage1.blocks.0: .* connect='AND' cannot"),
        (lambda: small(connect=lambda a, s: a + s), r"stage1.blocks.0: .*one of your own"),
        (lambda: small(pool="max"), r"stage1.pool: NIR has no max pooling.*--model.pool avg"),
        (lambda: small(v_reset=None), r"stage1.widen: .*soft reset.*--model.v-reset 0"),
        (lambda: small(neuron="ALIF"), "stage1.widen: NIR export knows IF, LIF and PLIF, not ALIF"),
        (lambda: build_model("resnet20", num_classes=3), "knows spiking ResNets and event networks, not resnet20"),
        (lambda: build_model("lif_net", num_classes=3), "not lif_net"),
        (lambda: with_part("out", nn.Identity()), "the head is a Identity"),
        (lambda: with_part("stage1.widen.norm", nn.GroupNorm(1, 4)), "stage1.widen: a GroupNorm"),
        (lambda: with_part("stage1.widen.conv", nn.Conv2d(2, 4, 1, padding_mode="reflect")), "stage1.widen: .*zeros"),
        (lambda: with_part("stage1.pool", nn.AdaptiveAvgPool2d(2)), "stage1.pool: .*AdaptiveAvgPool2d"),
        (lambda: with_part("stage1.blocks.0", nn.Identity()), "block 0 of stage 1: .*no Identity"),
        (lambda: with_part("stage1.widen.spikes", nn.Dropout()), "stage1.widen.spikes: .*no Dropout"),
        (hooked, "stage1.widen.spikes: hooks"),
    ],
)
def test_what_nir_cannot_say_is_refused_by_the_layers_name(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_nir(make(), tmp_path / "net.nir", shape=(8, 8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("how", "message"), [({"shape": (0, 8)}, "at least"), ({"dt": 0.0}, "dt=0.0"), ({"dt": float("nan")}, "dt=nan")]
)
def test_other_sizes_and_steps_are_refused(how, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_nir(small(), tmp_path / "net.nir", **{"shape": (8, 8)} | how)
    with pytest.raises(ValueError, match=r"does not end in \.nir"):
        export_nir(small(), tmp_path / "net.onnx", shape=(8, 8))


# Files of others --------------------------------------------------------------------------------------------------------------


def write_graph(path, nodes, edges, **metadata):
    nir.write(path, nir.NIRGraph(nodes, edges, metadata=metadata, type_check=False))
    return path


def chain(*middle):
    """Input [3], the nodes, and an output."""
    nodes = {"input": nir.Input({"input": np.array([3])}), **{f"n{k}": node for k, node in enumerate(middle)}}
    nodes["output"] = nir.Output({"output": np.array([3])})
    return nodes, list(pairwise(nodes))


def lif(size=3, **how):
    fields = {"tau": 4e-4, "r": 1.5, "v_leak": 0.25, "v_threshold": 0.75, "v_reset": -0.5} | how
    return nir.LIF(**{key: np.broadcast_to(np.float64(value), (size,)).copy() for key, value in fields.items()})


def test_a_graph_made_by_hand_follows_its_equations(tmp_path):
    """Euler's method in plain Python: v + dt (v_leak - v + r x) / tau, fired above the threshold."""
    rng = np.random.default_rng(0)
    weight, bias, tau = rng.normal(size=(3, 3)), rng.normal(size=3), np.array([4e-4, 2e-4, 1e-3])
    path = write_graph(tmp_path / "net.nir", *chain(nir.Affine(weight, bias), lif(tau=tau)), dt=1e-4)
    frames = rng.normal(size=(20, 1, 3)) * 2
    v, expected = np.full(3, -0.5), []
    for frame in frames[:, 0]:
        v = v + 1e-4 / tau * (0.25 - v + 1.5 * (weight @ frame + bias))
        expected.append((v > 0.75).astype(float))
        v = np.where(v > 0.75, -0.5, v)
    found = import_nir(path)(torch.from_numpy(frames))
    assert 0 < found.mean() < 1
    assert torch.equal(found[:, 0], torch.from_numpy(np.array(expected)))


def test_a_neuron_on_its_threshold_does_not_fire(tmp_path):
    neuron = nir.IF(r=np.ones(3), v_threshold=np.ones(3))
    graph = import_nir(write_graph(tmp_path / "net.nir", *chain(nir.Linear(np.eye(3, dtype=np.float32)), neuron)), dt=1)
    next_number = np.nextafter(np.float32(1), np.float32(2)).item()
    assert graph(torch.tensor([[[0.0, 1.0, next_number]]])).tolist() == [[[0, 0, 1]]]


def test_sums_and_windows_are_nirs(tmp_path):
    window = {"kernel_size": np.array([2, 2]), "stride": np.array([2, 2]), "padding": np.array([0, 0])}
    nodes = {
        "input": nir.Input({"input": np.array([1, 4, 4])}),
        "sum": nir.SumPool2d(**window),
        "mean": nir.AvgPool2d(**window),
    }
    nodes |= {"flat": nir.Flatten({"input": np.array([1, 2, 2])}, 0, -1), "output": nir.Output({"output": np.array([4])})}
    edges = [("input", "sum"), ("input", "mean"), ("sum", "flat"), ("mean", "flat"), ("flat", "output")]
    x = torch.arange(16.0).view(1, 1, 1, 4, 4)
    found = import_nir(write_graph(tmp_path / "net.nir", nodes, edges), dt=1e-4)(x)
    assert found.flatten().tolist() == [
        1.25 * sum(corner) for corner in ((0, 1, 4, 5), (2, 3, 6, 7), (8, 9, 12, 13), (10, 11, 14, 15))
    ]


def linear(rows=3, columns=3):
    return nir.Linear(np.ones((rows, columns), np.float32))


def cuba():
    return nir.CubaLIF(*(np.ones(3) for _ in range(5)))


FOREIGN = {
    "a node that is not known": (chain(cuba()), "node 'n0' is a CubaLIF; known are Conv2d"),
    "a circle": ((chain(linear(), linear())[0], [*chain(linear(), linear())[1], ("n1", "n0")]), "it is recurrent"),
    "a shape": (chain(linear(2, 4)), r"node 'n0' \(Linear\) does not fit its input \(3,\)"),
    "shapes without a sum": (
        (chain(linear(2), linear(2))[0], [("input", "n0"), ("input", "n1"), ("n0", "n1"), ("n1", "output")]),
        r"node 'n1' \(Linear\) is given the shapes \(2,\), \(3,\)",
    ),
    "an edge to nowhere": ((chain(linear())[0], [*chain(linear())[1], ("n0", "gone")]), "a node that is not there"),
    "an edge twice": ((chain(linear())[0], chain(linear())[1] * 2), "is there twice"),
    "a node that leads nowhere": (
        (chain(linear(), linear())[0], [("input", "n0"), ("n0", "output"), ("input", "n1")]),
        r"node 'n1' .*one side",
    ),
    "two inputs": (
        (chain(linear())[0] | {"more": nir.Input({"input": np.array([3])})}, chain(linear())[1]),
        "2 nodes of kind Input",
    ),
    "a time constant below the step": (chain(lif(tau=5e-5)), "tau must be"),
    "resets that differ": (chain(lif(v_reset=[0, 0, 0.5])), "v_reset differs"),
    "a threshold below rest": (chain(lif(v_threshold=-1.0)), r"node 'n0' \(LIF\).*resting potential"),
    "weights that are not finite": (chain(nir.Linear(np.full((3, 3), np.nan))), "NaN"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_not_known_of_a_foreign_graph_is_said(what, tmp_path):
    graph, message = FOREIGN[what]
    with pytest.raises(ValueError, match=message):
        import_nir(write_graph(tmp_path / "net.nir", *graph, dt=1e-4))


def test_a_file_that_does_not_say_its_time_step_asks_for_it(tmp_path):
    path = write_graph(tmp_path / "net.nir", *chain(linear()))
    with pytest.raises(ValueError, match="does not say its time step; pass dt="):
        import_nir(path)
    assert import_nir(path, dt=1e-4).dt == 1e-4


def test_frames_that_do_not_fit_are_refused(tmp_path):
    graph = import_nir(export_nir(small(), tmp_path / "net.nir", shape=(8, 8)))
    with pytest.raises(ValueError, match=r"takes frames \[T, N, 2, 8, 8\]"):
        graph(torch.rand(1, 1, 2, 8, 9))
    with pytest.raises(ValueError, match="NaN"):
        graph(torch.full((1, 1, 2, 8, 8), torch.nan))


# Damaged and hostile files ----------------------------------------------------------------------------------------------------


def link_elsewhere(file):
    del file["node/nodes/head_conv/weight"]
    file["node/nodes/head_conv/weight"] = h5py.ExternalLink("/etc/hostname", "/")


def circle_of_groups(file):
    file["node/nodes/self"] = file["node/nodes"]


def claim_terabytes(file):
    del file["node/nodes/head_conv/weight"]
    file["node/nodes/head_conv"].create_dataset("weight", (10**6, 10**6), np.float32, chunks=(1000, 1000))


def data_in_another_file(file):
    del file["node/nodes/head_conv/weight"]
    source = h5py.VirtualSource("/etc/hostname", "x", shape=(3, 4, 1, 1))
    layout = h5py.VirtualLayout((3, 4, 1, 1), np.float32)
    layout[:] = source
    file["node/nodes/head_conv"].create_virtual_dataset("weight", layout)


def a_name_that_paints_the_terminal(file):
    file["node/nodes/\x1b[31m"] = file["node/nodes/head_conv"]


def facts_that_are_none(file):
    del file["node/metadata/spikewise"]
    file["node/metadata/spikewise"] = "[" * 10_000


def a_step_that_is_none(file):
    del file["node/metadata/dt"]
    file["node/metadata/dt"] = "soon"


def no_graph(file):
    del file["node"]


CHANGES = [
    link_elsewhere,
    circle_of_groups,
    claim_terabytes,
    data_in_another_file,
    a_name_that_paints_the_terminal,
    facts_that_are_none,
    a_step_that_is_none,
    no_graph,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_hostile_file_is_refused_in_a_line(change, tmp_path):
    path = export_nir(small(), tmp_path / "net.nir", shape=(8, 8))
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=r"net\.nir[^\n\x1b]*\Z"):
        import_nir(path)


def test_damaged_files_are_refused_or_read_and_never_hang(tmp_path):
    """Bytes of all kinds changed, and files cut; words in a heap that has no end had HDF5 look for it forever."""
    raw = export_nir(small(width=0.0625), tmp_path / "net.nir", shape=(2, 2)).read_bytes()
    path, rng, refused = tmp_path / "damaged.nir", np.random.default_rng(0), 0
    heap = raw.index(b"GCOL")
    damages = [(heap + 8, 255), (heap + 14, 255), *((int(rng.integers(len(raw))), int(rng.integers(256))) for _ in range(60))]
    contents = [raw[:at] + bytes([value]) + raw[at + 1 :] for at, value in damages]
    contents += [raw[: int(rng.integers(len(raw)))] for _ in range(10)] + [b"", b"none", raw[: heap + 20]]
    for content in contents:
        path.write_bytes(content)
        try:
            import_nir(path)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017  others may be read
    assert refused > 12


def test_what_is_no_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        import_nir(tmp_path / "gone.nir")
    with pytest.raises(ValueError, match="is not a NIR file"):
        import_nir(save_pretrained(small(), tmp_path))


def test_without_the_package_an_export_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ValueError, match=r"pip install 'spikewise\[nir\]'"):
        to_nir(small(), shape=(8, 8))
