"""Which programs compute a network's own numbers from its NIR file: every importer, for each kind of shortcut and neuron.

    pip install nir==1.0.8 nirtorch==2.6 snntorch==1.0.0 norse==1.1.0 spikingjelly==2.0.0
    pip install --no-deps sinabs==3.1.3 && pip install samna     # it asks for nir 1.0.4
    python benchmarks/nir_importers.py >> benchmarks/results/nir-importers.jsonl
    python benchmarks/nir_importers.py --run RUN        # a trained network of images, on its whole test split

Weights and inputs are multiples of 1/32, so that sums are exact and membranes meet their thresholds: an importer is right only
where every score at every step is the same to the bit. An importer that is not installed is left out, and said.
"""

import argparse
import contextlib
import datetime
import importlib
import importlib.metadata
import io
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikewise.engine.build import load_data
from spikewise.engine.run.folder import read_config
from spikewise.export.nir import export_nir
from spikewise.export.nir_reader import import_nir
from spikewise.models import Network, build_model
from spikewise.models.residual import SEWBlock
from spikewise.models.resnet import ResNet
from spikewise.models.weights import load_pretrained
from spikewise.neurons import LIF, PLIF

SIDE, STEPS, BATCH = 8, 6, 2


def run_steps(module: nn.Module, frames: Tensor) -> Tensor:
    """Scores [T, N, classes] of a module that is given a frame and a state, and gives both."""
    state, scores = None, []
    for frame in frames:
        out, state = module(frame, state)
        scores.append(out.flatten(1))
    return torch.stack(scores)


def by_spikewise(path: Path, frames: Tensor) -> Tensor:
    return import_nir(path)(frames).flatten(2)


def by_spikingjelly(path: Path, frames: Tensor) -> Tensor:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return run_steps(import_from_nir(path), frames)


def by_snntorch(path: Path, frames: Tensor) -> Tensor:
    import nir
    from snntorch.import_nir import import_from_nir

    return run_steps(import_from_nir(nir.read(path)), frames)


def by_norse(path: Path, frames: Tensor, **how: float) -> Tensor:
    import nir
    import norse.torch

    return run_steps(norse.torch.from_nir(nir.read(path), **how), frames)


def by_norse_and_nirtorch(path: Path, frames: Tensor) -> Tensor:
    """Norse's neurons in the graph that nirtorch's newer function makes."""
    import nir
    import nirtorch
    from norse.torch.utils.import_nir import _import_norse_module

    neurons = dict.fromkeys((nir.IF, nir.LIF), partial(_import_norse_module, dt=1e-4))
    return run_steps(nirtorch.nir_to_torch(nir.read(path), neurons), frames)


def by_sinabs(path: Path, frames: Tensor) -> Tensor:
    import nir
    import sinabs.nir

    steps, batch = frames.shape[:2]
    out, _ = sinabs.nir.from_nir(nir.read(path), batch_size=batch)(frames.transpose(0, 1).flatten(0, 1))
    return out.flatten(1).unflatten(0, (batch, steps)).transpose(0, 1)


class Importer(NamedTuple):
    """A function of (file, frames [T, N, C, H, W]) that gives scores [T, N, classes], and the packages it needs."""

    function: Callable[[Path, Tensor], Tensor]
    packages: tuple[str, ...]


IMPORTERS = {
    "spikewise": Importer(by_spikewise, ("nir",)),
    "SpikingJelly": Importer(by_spikingjelly, ("spikingjelly", "nirtorch")),
    "snnTorch": Importer(by_snntorch, ("snntorch", "nirtorch")),
    "Norse, dt=1e-4": Importer(partial(by_norse, dt=1e-4), ("norse", "nirtorch")),
    "Norse, default dt": Importer(by_norse, ("norse", "nirtorch")),
    "Norse by nirtorch.nir_to_torch": Importer(by_norse_and_nirtorch, ("norse", "nirtorch")),
    "sinabs": Importer(by_sinabs, ("sinabs", "nirtorch")),
}


def one_stage(neuron: str) -> Network:
    """A SEW ResNet whose shortcuts all are the identity."""
    options = {"neuron": neuron, "connect": "ADD", "bottleneck": False}
    return ResNet(SEWBlock, (2,), (8,), num_classes=3, T=4, stem="3x3", neuron=neuron, block_options=options)


NETWORKS: dict[str, Callable[[str], Network]] = {
    "no shortcuts": lambda neuron: build_model("plain_resnet20", num_classes=3, width=0.25, neuron=neuron),
    "SEW ADD, identity shortcuts": one_stage,
    "SEW ADD, with projections": lambda neuron: build_model("sew_resnet20", num_classes=3, width=0.25, neuron=neuron),
    "SEW ADD, average pooling": lambda neuron: build_model(
        "sew_7b", num_classes=3, num_blocks=2, width=0.25, neuron=neuron, pool="avg"
    ),
    "Spiking": lambda neuron: build_model("spiking_resnet20", num_classes=3, width=0.25, neuron=neuron),
    "MS": lambda neuron: build_model("ms_resnet20", num_classes=3, width=0.25, neuron=neuron),
}
NEURONS = ("IF", "LIF", "PLIF")


@torch.no_grad()
def draw_dyadic(net: Network) -> Network:
    """Weights that are multiples of 1/32, and norms that only shift: sums are exact in any order.

    Neurons that leak at tau = 2 fire if their current is above the threshold 1 on average, those of IF if it is above 0.
    """
    generator = torch.Generator().manual_seed(0)
    leaks = any(isinstance(module, LIF | PLIF) for module in net.modules())
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
            module.bias.copy_((torch.randint(0, 9, module.bias.shape, generator=generator) + 5 * leaks) / 8)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.copy_(torch.randint(-6, 8, module.weight.shape, generator=generator) / 32)
            if module.bias is not None:
                module.bias.copy_(torch.randint(-8, 9, module.bias.shape, generator=generator) / 16)
    for block in net.blocks.values():
        if block.meets == "currents":  # else they would add up until all neurons fire
            block.last_norm.bias.zero_()
    return net.eval()


def draw_frames(net: Network) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 17, (STEPS, BATCH, net.in_channels, SIDE, SIDE), generator=generator) / 8


@torch.no_grad()
def scores_of(net: Network, frames: Tensor) -> Tensor:
    """The network's own scores at each step [T, N, classes], of which its logits are the mean.

    Raises:  AssertionError where a layer fires never or always: it would be the same in all importers
    """
    rates: dict[str, float] = {}

    def note(name: str, spikes: Tensor) -> None:
        rates[name] = spikes.mean().item()

    places = net.neurons.items()
    hooks = [place.register_forward_hook(lambda _, x, out, name=name: note(name, out)) for name, place in places]
    scores = torch.stack([net.head(features) for features in net.forward_features(frames, None, {})])
    for hook in hooks:
        hook.remove()
    assert all(0 < rate < 1 for rate in rates.values()), rates
    return scores


def missing_package(importer: Importer) -> str:
    """The first package that is not installed; "" where all are."""
    return next((name for name in importer.packages if importlib.util.find_spec(name) is None), "")


@torch.no_grad()
def quietly(function: Callable[[Path, Tensor], Tensor], path: Path, frames: Tensor) -> Tensor:
    """What an importer computes; they print and warn."""
    silent = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            return function(path, frames)
        finally:
            logging.disable(logging.NOTSET)


def compare(importer: Importer, path: Path, frames: Tensor, expected: Tensor) -> dict[str, Any]:
    try:
        found = quietly(importer.function, path, frames)
    except Exception as error:  # whatever another program stumbles over
        return {"result": "refused", "why": f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"}
    if found.shape == expected.shape and torch.equal(found, expected):
        return {"result": "the same bits"}
    if found.shape != expected.shape:
        return {"result": "other numbers", "why": f"scores {list(found.shape)}, not {list(expected.shape)}"}
    off = (found - expected).abs().max().item()
    return {"result": "other numbers", "largest difference": off, "standard deviation of the scores": expected.std().item()}


def compare_on_run(run: Path, importers: dict[str, Importer]) -> Iterator[dict[str, Any]]:
    """How a trained network's logits and answers come out: folding rounds, and a membrane at its threshold may miss it."""
    net, data = load_pretrained(run), load_data(read_config(run), "test")
    images = torch.stack([torch.from_numpy(data.sample(index)) for index in range(len(data))])
    labels = torch.from_numpy(data.labels)
    with torch.no_grad():
        logits = net(images)
    with tempfile.TemporaryDirectory() as folder:
        path = export_nir(net, Path(folder) / "net.nir", shape=tuple(images.shape[-2:]))
        for name, importer in importers.items():
            line = {"network": f"{net.spec['name']} trained on {data.name}", "importer": name, "images": len(images)}
            try:
                found = quietly(importer.function, path, images.expand(net.T, *images.shape)).mean(0)
            except Exception as error:  # whatever another program stumbles over
                yield line | {"result": "refused", "why": f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"}
                continue
            if found.shape != logits.shape:
                yield line | {"result": "other numbers", "why": f"scores {list(found.shape)}, not {list(logits.shape)}"}
                continue
            off = (found - logits).abs().amax(1)
            right, alike = (float((found.argmax(1) == other).float().mean()) for other in (labels, logits.argmax(1)))
            moved = int((off > 1e-4).sum())
            yield line | {"right": right, "answers alike": alike, "logits moved": moved, "largest difference": off.max().item()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run folder; default: networks whose sums are exact")
    run = parser.parse_args().run
    importers = {}
    for name, importer in IMPORTERS.items():
        if lacks := missing_package(importer):
            print(f"{name}: left out, as {lacks} is not installed", file=sys.stderr)
        else:
            importers[name] = importer
    if run is not None:
        for line in compare_on_run(run, importers):
            print(json.dumps(line), flush=True)
        return
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    with tempfile.TemporaryDirectory() as folder:
        for shape, build in NETWORKS.items():
            for neuron in NEURONS:
                net = draw_dyadic(build(neuron))
                frames = draw_frames(net)
                expected = scores_of(net, frames)
                path = export_nir(net, Path(folder) / "net.nir", shape=(SIDE, SIDE))
                for name, importer in importers.items():
                    versions = {
                        package: importlib.metadata.version(package) for package in {"nir", "torch", *importer.packages}
                    }
                    line = {"network": shape, "neuron": neuron, "importer": name}
                    line |= compare(importer, path, frames, expected)
                    print(json.dumps(line | {"versions": dict(sorted(versions.items())), "date": today}), flush=True)


if __name__ == "__main__":
    main()
