"""ONNX files: a network over whole sequences, or one step of a stream with its state going in and out."""

import copy
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from .. import disk
from ..models.layers import MaxPool
from ..models.network import Network, require_positive
from ..models.stream_state import NeuronStates
from ..neurons import Neuron
from .description import describe, require_size

OPSET = 20


class Sequence(nn.Module):
    """The whole network, unrolled over T steps."""

    def __init__(self, net: Network):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Step(nn.Module):
    """One step of a stream: `net.step` with its state as tensors, logits averaged over all frames so far.

    frame, frames_seen, feature_sum, states... -> logits, frames_seen, feature_sum, states...
    """

    def __init__(self, net: Network, names: list[str], specs: list[Any]):
        super().__init__()
        self.net, self.names, self.specs = net, names, specs

    def forward(self, frame: Tensor, frames_seen: Tensor, feature_sum: Tensor, states: list[Tensor]) -> tuple[Tensor, ...]:
        leaves, given = iter(states), {}
        for name, spec in zip(self.names, self.specs, strict=True):
            given[name] = tree_unflatten([next(leaves) for _ in range(spec.num_leaves)], spec)
        cells = NeuronStates(given)
        features = self.net.forward_features(frame[None], cells, {})
        features = self.net.nan_where_meaningless(features, frame[None], mixed=False)[0]
        count, total = frames_seen + 1, feature_sum + features
        behind = cells.collected()
        return self.net.head(total / count), count, total, *(t for name in self.names for t in tree_flatten(behind[name])[0])


def export_onnx(net: Network, path: str | Path, *, shape: tuple[int, int], T: int | None = None, step: bool = False) -> Path:
    """Write the network in evaluation mode as an ONNX file of any batch size.

    shape:    height and width of the input in pixels
    T:        frames of a sequence; None: the network's own T. Still images, where the network takes them, if `step` is not set
    step:     one step of a stream in place of a sequence: inputs `frame` [N, C, H, W], `frames_seen` [1], `feature_sum` [N, F]
              and the neurons' states; outputs `logits`, and the same behind the step. All states begin as the file's metadata
              says under `rest`, frames_seen and feature_sum as 0
    The file's metadata hold, as JSON under "spikewise": input, class names, steps, and names and rest of the states.
    Raises:   ValueError for what cannot be exported; ImportError where onnx or onnxscript are missing
    """
    path = Path(path)
    require_packages()
    if path.suffix != ".onnx":
        raise ValueError(f"{path} does not end in .onnx")
    require_size(net, shape)
    net = on_reference_kernels(net)
    steps = net.T if T is None else T
    require_positive(T=steps)
    net.T = steps  # of the copy: so often it sees a still image
    events = net.in_channels == 2
    frame = torch.zeros(2, net.in_channels, *shape, dtype=net.dtype)
    facts = describe(net, steps, shape)
    if step:
        program, more = export_step(net, frame)
        facts |= more
    else:
        x = frame.expand(steps, *frame.shape).contiguous() if events else frame
        batch = torch.export.Dim("batch", min=1)
        axes = ({1: batch} if events else {0: batch},)
        program = export_program(Sequence(net), (x,), axes, ["frames" if events else "images"], ["logits"])
    program.model.metadata_props["spikewise"] = json.dumps(facts)
    disk.atomic_write(path, program.model_proto.SerializeToString())
    return path


def require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f"ONNX files need the package {error.name}: pip install 'spikewise[onnx]'") from None


def on_reference_kernels(net: Network) -> Network:
    """A copy in evaluation mode, on the CPU, of operations that ONNX knows."""
    net = copy.deepcopy(net).cpu().eval()
    net.told_of_range = True  # the samples that it is traced with are not the user's
    for module in net.modules():
        if isinstance(module, Neuron | MaxPool):
            module.backend = "reference"
    return net


def export_step(net: Network, frame: Tensor) -> tuple[Any, dict[str, Any]]:
    """The program of one step, and what has to be known of its states."""
    _, state = net.step(frame)
    states = {name: tree_flatten(value) for name, value in state.membranes.items()}
    leaves = [leaf for parts, _ in states.values() for leaf in parts]
    names = [
        f"{name}.{number}" if len(parts) > 1 else name for name, (parts, _) in states.items() for number in range(len(parts))
    ]
    module = Step(net, list(states), [spec for _, spec in states.values()])
    given = (frame, torch.ones(1, dtype=frame.dtype), torch.zeros_like(state.feature_sum), leaves)
    batch = torch.export.Dim("batch", min=1)
    axes = ({0: batch}, None, {0: batch}, [{0: batch} for _ in leaves])
    ends = ["frames_seen", "feature_sum", *(f"state.{name}" for name in names)]
    program = export_program(module, given, axes, ["frame", *ends], ["logits", *(f"next.{name}" for name in ends)])
    rest = [rest_value(net, name, part) for name, (parts, _) in states.items() for part in range(len(parts))]
    told = [
        {"name": f"state.{name}", "shape": list(leaf.shape[1:]), "rest": value}
        for name, leaf, value in zip(names, leaves, rest, strict=True)
    ]
    return program, {"features": state.feature_sum.shape[1], "states": told}


def rest_value(net: Network, layer: str, part: int) -> float:
    """What a part of the state of a layer's neurons is before the first frame."""
    neuron = net.spiking_layers[layer].neuron
    assert isinstance(neuron, Neuron), "others do not stream"
    state = neuron.initial_state(torch.zeros(1, 1, 1, 1))
    values = torch.tensor(neuron.v_rest) if state is None else tree_flatten(state)[0][part]
    if values.numel() != 1 and not (values == values.flatten()[0]).all():
        raise ValueError(f"{layer}: the state of {type(neuron).__name__} begins with several values, which a file cannot tell")
    return float(values.flatten()[0])


def export_program(module: nn.Module, given: tuple, axes: tuple, inputs: list[str], outputs: list[str]) -> Any:
    """The module as an ONNX program; of the exporter's many words, only an error's first line."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                module,
                given,
                dynamo=True,
                dynamic_shapes=axes,
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"this network cannot be written as ONNX: {reason}") from None
    finally:
        log.setLevel(level)
