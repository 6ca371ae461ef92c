"""What all networks share: the check of the input, the head, and a stream of single frames."""

import copy
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ..neurons import Neuron
from ..wording import count, option
from .calls import buffers_kept
from .checkpointing import Checkpointing, checkpointed, require_checkpointing
from .conv_norm import ConvNorm, NormGroup
from .layers import ConvNormFire, Fire, LayerOwner, NeuronFactory, run_block
from .residual import Block
from .stream import assign_state_keys, neurons, run_streamed, spiking_layers
from .stream_state import Memory, NeuronStates, StreamState, require_memory, sum_in_order

if TYPE_CHECKING:  # networks are built without readers of images and events
    from ..data.input_spec import InputSpec
    from .published_files import PublishedAccuracy

INPUT_ADVICE = (
    "does not say what it was trained on: load it in Python, set net.input_spec = sw.InputSpec(class_names=(...), "
    "shape=(3, 224, 224)), and keep that by sw.save_pretrained(net, FOLDER)"
)
EXPORT_ADVICE = "use torch.export.export(net, (x,)) or torch.compile(net)"


class BuildOptions(dict[str, Any]):
    """What `build_model` was given. It cannot be edited: the network would not follow, and its file would say otherwise."""

    def refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("net.spec says how the network was built, and cannot be edited: build another one, or change its parts")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = refuse

    def __reduce__(self) -> tuple[Any, ...]:  # copying and pickling would set item by item
        return type(self), (dict(self),)


class Network(LayerOwner):
    """Images or frames in, class scores out. A forward pass starts from rest and leaves nothing behind.

    Shapes:  still images [N, C, H, W], read T times, or frames [T, N, C, H, W] of any T -> logits [N, num_classes]
    Raises:  ValueError that says what was given and what fits

    A network of your own sets `stem`, `stages` (an nn.ModuleList of lists of layers, blocks or modules of PyTorch),
    `num_features` and its last layer `fc`; or it says its own `forward_features`.
    Layers that halve the image need `min_image_size` pixels: set it, and smaller images are refused in words.
    spiking:  whether there are neurons; a network without sees a still image once
    """

    stages: Any  # in the order of depth
    stem: Any

    def __init__(self, *, in_channels: int, num_classes: int, T: int, spiking: bool):
        super().__init__()
        require_positive(in_channels=in_channels, num_classes=num_classes, T=T)
        self.in_channels, self.T, self.spiking = in_channels, T, spiking
        self.num_features = 0  # of each step, before the head: set by the network
        self.spec: dict[str, Any] = {}  # what build_model was given: enough to build the network again; read-only
        self.input_spec: InputSpec | None = None  # what it is shown and answers, where that is known; checked when it is set
        self.published: PublishedAccuracy | None = None  # of a file of the authors: what their log says of it
        self.told_of_range = False  # whether the user knows that pixels lie between 0 and 1
        self.min_image_size = 1  # pixels
        self.checkpointing = "none"
        self.tail: Fire | None = None  # neurons between the last stage and the head, where blocks hand on currents

    def forward_features(self, x: Tensor, states: NeuronStates | None, taken: dict[int, Tensor]) -> Tensor:
        """Features of each step: [T, N, F], or [N, F] where a ReLU network sees a still image.

        taken:  number of a stage -> its output, put there for the numbers that are there
        """
        x = self.forward_stem(x, states)
        for number, stage in enumerate(self.stages, start=1):
            x = self.forward_stage(stage, x, states)
            if number in taken:
                taken[number] = x
        return self.average_over_space(x, states)

    def forward_stem(self, x: Tensor, states: NeuronStates | None) -> Tensor:
        """What the first stage is given: of a spiking network [T, N, C, H, W], also where x is a still image."""
        repeat_steps = self.T if x.dim() == 4 and self.spiking else 0
        if isinstance(self.stem, ConvNormFire):  # convolves a still image once
            return self.stem(x, states=states, repeat_steps=repeat_steps)
        return run_block(self.stem, x.expand(repeat_steps, *x.shape) if repeat_steps else x, states)

    def features(
        self, x: Tensor, stages: int | Sequence[int] = (), *, mean: bool = False, batch_first: bool = False
    ) -> dict[int, Tensor]:
        """The output of stages: of a spiking network [T, N, C, H, W], with `mean` averaged over time [N, C, H, W].

        x:        as in a call of the network
        stages:   numbers from 1; the last one, if none is given. Behind it the network averages over space and time.
        Raises:   ValueError for a stage that is not there
        """
        count = len(self.stages)
        stages = (stages,) if isinstance(stages, int) else tuple(stages) or (count,)
        if unknown := [number for number in stages if number not in range(1, count + 1)]:
            raise ValueError(f"there is no stage {unknown[0]!r}; this network has stages 1 to {count}")
        taken = dict.fromkeys(stages, x)
        x = self.prepare_input(x, batch_first)
        self.forward_features(x, None, taken)
        for number, out in taken.items():
            marked = self.nan_where_meaningless(out.flatten(-3), x, mixed=self.training)
            taken[number] = marked.unflatten(-1, out.shape[-3:])
        return {number: out.mean(0) if mean and out.dim() == 5 else out for number, out in taken.items()}

    head_name = "fc"  # the attribute that holds the last layer

    @property
    def head(self) -> Any:
        """From features [N, F] to logits: a linear layer, or what a user put in its place."""
        return getattr(self, self.head_name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "input_spec" and value is not None:
            self.require_input_spec(value)
        if name == "spec":
            value = BuildOptions(value)
        super().__setattr__(self.head_name if name == "head" else name, value)

    def require_input_spec(self, spec: "InputSpec") -> None:
        """Refuse the input or the class names of another network.

        Raises:  ValueError
        """
        stem = next((getattr(layer.conv, "in_channels", None) for layer in self.conv_layers.values()), None)
        if spec.shape[0] not in (self.in_channels, stem):  # the stem may be another now
            channels = count(self.in_channels, "channel")
            raise ValueError(f"input_spec: shape={spec.shape}, but this network takes {channels}")
        if spec.class_names and len(spec.class_names) != self.num_classes:
            given = f"{len(spec.class_names)} class_names"
            raise ValueError(
                f"input_spec: {given}, but this network has {self.num_classes} outputs; give each its name, or none: ()"
            )

    def require_head(self) -> None:
        """Refuse a head that cannot take the features.

        Raises:  ValueError
        """
        head = copy.deepcopy(self.head).to("meta").eval()
        try:
            head(torch.empty(2, self.num_features, device="meta", dtype=self.dtype))
        except NotImplementedError:  # what PyTorch cannot follow without numbers may fit
            return
        except (RuntimeError, ValueError, IndexError) as error:
            kind, width = type(head).__name__, count(self.num_features, "feature")
            raise ValueError(f"{self.head_name}: this {kind} cannot take the network's {width}: {error}") from None

    @property
    def num_classes(self) -> int:
        """What the head's last layer gives; without one, the features."""
        sizes = [module.out_features for module in self.head.modules() if hasattr(module, "out_features")]
        return sizes[-1] if sizes else self.num_features

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by index; () where they are not known."""
        names = () if self.input_spec is None else self.input_spec.class_names
        return names if len(names) == self.num_classes else ()  # another head has other classes

    def preprocess(self, source: Any) -> Tensor:
        """An image or a recording as the network was shown those of its training: [1, C, H, W], of events [T, 1, 2, H, W].

        source:  a path, an image of Pillow, an array; see `InputSpec.preprocess`
        Raises:  ValueError where the weights do not say what the network was trained on; as `InputSpec.preprocess`
        """
        if self.input_spec is None:
            raise ValueError(f"this network {INPUT_ADVICE}")
        sample = torch.from_numpy(self.input_spec.preprocess(source))
        return sample[:, None] if sample.dim() == 4 else sample[None]

    @property
    def dtype(self) -> torch.dtype:
        """Of the first floating-point parameter, as input must be."""
        for parameter in self.parameters():  # next() with a default stops PyTorch 2.8's compiler
            if parameter.is_floating_point():
                return parameter.dtype
        return torch.get_default_dtype()

    @property
    def blocks(self) -> dict[str, Block]:
        """The residual blocks by name, in the order of depth."""
        return {name: module for name, module in self.named_modules() if isinstance(module, Block)}

    @property
    def conv_layers(self) -> dict[str, ConvNorm]:
        """Convolutions with their norms, those of shortcuts included, by name."""
        return {name: module for name, module in self.named_modules() if isinstance(module, ConvNorm)}

    @property
    def spiking_layers(self) -> dict[str, Any]:
        """The spiking layers by name."""
        return spiking_layers(self)

    @property
    def neurons(self) -> dict[str, nn.Module]:
        """What gives spikes, by name: the place for hooks of spiking layers; neurons that a user's block calls by itself."""
        return neurons(self)

    @torch.no_grad()
    def zero_init_(self) -> None:
        """Zero init (E9) of every block."""
        for block in self.blocks.values():
            block.zero_init_()

    @property
    def packing(self) -> bool:
        """Whether training keeps spikes as bit planes, where the kernels can."""
        return all(layer.packing for layer in self.spiking_layers.values())

    @packing.setter
    def packing(self, on: bool) -> None:
        for layer in self.spiking_layers.values():
            layer.packing = on

    def join_norms(self, group: NormGroup | None) -> None:
        """Let all layers' norms take their statistics in training over this group; None: over what the network is given."""
        for layer in self.conv_layers.values():
            layer.norm_group = group

    @property
    def checkpointing(self) -> Checkpointing:
        """What backward computes again: nothing, each block, or each stage."""
        return self._checkpointing

    @checkpointing.setter
    def checkpointing(self, word: Checkpointing) -> None:
        require_checkpointing(word)
        self._checkpointing: Checkpointing = word

    def forward_stage(self, segments: Iterable[Any], x: Tensor, states: NeuronStates | None) -> Tensor:
        """The segments of a stage, functions of (x, states), one after another; under checkpointing as it says."""
        recompute = self.checkpointing if self.training and torch.is_grad_enabled() and states is None else "none"
        if recompute == "none":
            for segment in segments:
                x = run_block(segment, x, states)
            return x
        not_ours = self.modules_outside_layers()

        def run(segments: Iterable[Any], x: Tensor) -> Tensor:
            with buffers_kept(not_ours):
                for segment in segments:
                    x = run_block(segment, x, None)
            return x

        for group in [segments] if recompute == "stage" else [[segment] for segment in segments]:
            x = checkpointed(partial(run, group), x)
        return x

    def add_tail(self, block: type[Block], neuron: NeuronFactory | None) -> None:
        """Neurons before the head, where blocks hand on currents."""
        if block.meets == "currents" and neuron is not None:
            self.tail = Fire(neuron)

    def average_over_space(self, x: Tensor, states: NeuronStates | None) -> Tensor:
        """Features [T, N, F] of the last stage's output [T, N, F, H, W], by way of the tail's neurons, where there are any."""
        return (x if self.tail is None else self.tail(x, states=states)).mean((-2, -1))

    def nan_where_meaningless(self, features: Tensor, x: Tensor, *, mixed: bool) -> Tensor:
        """Features, NaN where those of this input mean nothing: neurons answer NaN with silence, which looks like any other.

        That is of samples with NaN or infinities, and of all where a learned threshold is not above rest. Without waiting for a
        GPU.
        Shapes:  features [T, N, F] or [N, F], x [T, N, C, H, W] or [N, C, H, W]
        mixed:   whether samples depend on each other
        """
        fine = x.isfinite().flatten(-3).all(-1, keepdim=True)
        fine = fine.all() if mixed else fine
        for module in self.modules():
            if isinstance(module, Neuron) and (holds := module.threshold_holds()) is not None:
                fine = fine & holds
        zero = features.new_zeros(())
        return torch.where(fine, features, zero / zero)  # torch.export of PyTorch 2.8 writes no NaN

    def _replicate_for_data_parallel(self) -> Any:
        raise ValueError(
            "DataParallel cuts its input along axis 0, which is time in frames [T, N, C, H, W]; use DistributedDataParallel, "
            "or spikewise train --processes"
        )

    def modules_outside_layers(self) -> list[nn.Module]:
        """Modules with buffers that belong to none of our layers: a user's own norms, for example."""
        ours = {part for layer in self.conv_layers.values() for part in layer.modules()}
        return [module for module in self.modules() if module._buffers and module not in ours]

    def forward(self, x: Tensor, *, batch_first: bool = False) -> Tensor:
        """Logits [N, num_classes] of still images [N, C, H, W] or frames [T, N, C, H, W]; with batch_first, [N, T, C, H, W].

        A sample that holds NaN or infinities gets NaN; in training all get it, as batch norm mixes them. So do all where a
        threshold that is learned is not above rest any more.
        """
        x = self.prepare_input(x, batch_first)
        features = self.nan_where_meaningless(self.forward_features(x, None, {}), x, mixed=self.training)
        if features.dim() == 3:
            features = sum_in_order(features) / features.shape[0]
        return self.head(features)

    def step(
        self, frame: Tensor, state: StreamState | None = None, *, memory: Memory | None = None
    ) -> tuple[Tensor, StreamState]:
        """See one more frame of a stream: the logits after t frames are those of `net(frames[:t])`.

        Shapes:  frame [N, C, H, W] -> logits [N, num_classes]
        state:   what the last call returned; None at the first frame. It is not changed.
        memory:  at the first frame, which frames the logits average: "all" (None), the latest n (an int), or all with weights
                 that fall by a factor per frame (a float below 1). Membranes forget as their neurons do
        Raises:  RuntimeError in training mode, where batch norm would see one frame instead of the sequence;
                 ValueError for a frame or a state that does not fit
        """
        if self.training:
            raise RuntimeError("net.step streams in evaluation mode; call net.eval() first")
        self.check_input(frame, dims=(4,))
        self.check_state(state, frame, memory)
        frames, previous = frame[None], None if state is None else state.membranes
        features, membranes = run_streamed(self, lambda states: self.forward_features(frames, states, {}), previous)
        features = self.nan_where_meaningless(features, frames, mixed=False)[0]
        if state is None:
            state = StreamState.begin(features, membranes, memory or "all")
        else:
            state = state.remember(features, membranes)
        return self.head(state.mean_features.to(features.dtype)), state

    def check_state(self, state: StreamState | None, frame: Tensor, memory: Memory | None) -> None:
        """Refuse a state that is none, or that is not of these streams, and another memory than it began with."""
        if memory is not None:
            require_memory(memory)
        if state is None:
            return
        require_state(state, "pass what the last call returned, or None at first")
        if memory not in (None, state.memory):
            raise ValueError(
                f"this stream began with memory={state.memory!r}, given {memory!r}: begin a new one with state=None"
            )
        if len(state.feature_sum) != len(frame):
            raise ValueError(f"the state is of {len(state.feature_sum)} streams, the frame of {len(frame)}; pass them alike")
        if (there := state.feature_sum.device) != frame.device:
            raise ValueError(f"the state is on {there}, the frame on {frame.device}; use state.to({str(frame.device)!r})")

    def reset_streams(self, state: StreamState, samples: Sequence[int] | Tensor) -> StreamState:
        """The state with some streams of the batch at rest again, as before their first frame; the others go on.

        samples:  their numbers in the batch, or for each stream whether it begins anew (bool [N])
        Raises:   ValueError for a number beyond the batch, or a mask of another length
        """
        require_state(state, "pass what net.step returned")
        size = len(state.feature_sum)
        try:
            chosen = torch.as_tensor(samples)
        except (TypeError, ValueError, RuntimeError):
            chosen = torch.tensor(0)  # no numbers
        if chosen.dim() != 1 or (chosen.dtype == torch.bool and len(chosen) != size):
            raise ValueError(f"given {samples!r}; give the numbers of streams, or a mask of {size}")
        numbers = (chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen).tolist()
        if beyond := [number for number in numbers if number not in range(size)]:
            raise ValueError(f"there is no stream {beyond[0]!r}; the state is of {size}, 0 to {size - 1}")
        begins = torch.zeros(size, dtype=torch.bool, device=state.feature_sum.device)
        begins[[int(number) for number in numbers]] = True

        def at_rest(value: Tensor, rest: Any) -> Tensor:
            rows = begins.reshape(-1, *[1] * (value.dim() - 1))
            return torch.where(rows, torch.as_tensor(rest, dtype=value.dtype, device=value.device), value)

        membranes = {}
        for name, value in state.membranes.items():
            if name not in self.spiking_layers:
                raise ValueError(f"{name} is a state of a block's own: it cannot be put to rest; let Fire hold its neurons")
            neuron = self.spiking_layers[name].neuron
            like = next(leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
            rest = neuron.initial_state(torch.zeros_like(like))
            membranes[name] = at_rest(value, neuron.v_rest) if rest is None else tree_map(at_rest, value, rest)
        steps = (
            state.num_steps
            if isinstance(state.num_steps, Tensor)
            else begins.new_full((size,), state.num_steps, dtype=torch.float32)
        )
        return replace(
            state,
            membranes=membranes,
            feature_sum=at_rest(state.feature_sum, 0.0),
            num_steps=at_rest(steps, 0.0),
            recent=tuple(at_rest(features, 0.0) for features in state.recent),
            not_finite=None if state.not_finite is None else state.not_finite & ~begins,
        )

    def warn_of_range(self, x: Tensor) -> None:
        """Say once, in evaluation, that a network of normalized pixels is given pixels from 0 to 1.

        Every input is looked at until then, where that costs next to nothing: on the CPU, and not while it is compiled.
        """
        if torch.compiler.is_compiling() or x.device.type != "cpu" or type(x) is not Tensor:
            return
        if self.input_spec is not None and self.input_spec.mean is not None and x.numel() and x.min() >= 0 and x.max() <= 1:
            self.told_of_range = True
            warnings.warn(
                "all pixels lie between 0 and 1, but this network was trained on normalized ones (net.input_spec.mean, std): "
                "use net.preprocess, or normalize them",
                stacklevel=5,
            )

    def __prepare_scriptable__(self) -> None:
        raise TypeError(f"torch.jit.script cannot take this network; {EXPORT_ADVICE}")

    def assign_state_keys(self) -> None:
        """Tell each spiking layer the name of its neurons' state."""
        assign_state_keys(self)

    def prepare_input(self, x: Tensor, batch_first: bool) -> Tensor:
        """Input as the network computes with it: frames with time first."""
        if isinstance(x, torch.fx.Proxy):
            raise ValueError(f"torch.fx.symbolic_trace cannot follow this network; {EXPORT_ADVICE}")
        if not batch_first:
            self.check_input(x, dims=(4, 5))
            return x
        if not isinstance(x, Tensor) or x.dim() != 5:
            given = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"given {given}; with batch_first=True this network takes frames [N, T, {self.in_channels}, H, W]")
        x = x.transpose(0, 1)
        self.check_input(x, dims=(5,))
        return x

    def check_input(self, x: Tensor, dims: tuple[int, ...]) -> None:
        """Refuse an input that does not fit, in words."""
        images, frames = f"[N, {self.in_channels}, H, W]", f"[T, N, {self.in_channels}, H, W]"
        fits = f"one frame {images}" if dims == (4,) else f"images {images} or frames {frames}"
        if dims == (5,):
            fits = f"frames {frames}"
        if not isinstance(x, Tensor):
            raise ValueError(f"given {type(x).__name__}; this network takes a tensor: {fits}")
        if x.dim() in dims and x.shape[-3] != self.in_channels:
            self.in_channels = next(iter(self.conv_layers.values())).conv.in_channels  # the stem may be another now
        if x.dim() not in dims or x.shape[-3] != self.in_channels:
            hint = ""
            if x.dim() == 5 and x.shape[-3] != self.in_channels and x.shape[1] == self.in_channels:
                hint = "; channels come after batch: x.permute(...)"
            raise ValueError(f"given {list(x.shape)}; this network takes {fits}{hint}")
        if not self.training and not self.told_of_range:
            self.warn_of_range(x)
        if x.dim() == 5 and x.shape[0] == 0:
            raise ValueError(f"given {list(x.shape)}, a sequence of no frames; T must be at least 1")
        if min(x.shape[-2:]) < self.min_image_size:
            least = self.min_image_size
            raise ValueError(
                f"given {list(x.shape)}; this network needs at least {least} x {least} pixels, as its layers halve them"
                + (f": use a smaller {option('num_blocks')}" if "num_blocks" in self.spec else "")
            )
        dtype = self.dtype
        if not x.is_floating_point():
            raise ValueError(f"given {x.dtype}; this network takes {dtype}: convert with x.float() and scale as in training")
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"given {x.dtype}, but the weights are {dtype}; use x.to({dtype}), net.to({x.dtype}) or autocast")


def require_state(state: object, advice: str) -> None:
    if not isinstance(state, StreamState):
        raise ValueError(f"given a state of type {type(state).__name__}; {advice}")


def require_positive(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{option(name, value)} must be a whole number of at least 1")


def scaled_channels(channels: int, width: float) -> int:
    """Channels of a stage in a network of this width.

    Raises:  ValueError for a width that leaves none
    """
    if not (isinstance(width, int | float) and math.isfinite(width) and round(channels * width) >= 1):
        raise ValueError(
            f"{option('width', width)} leaves no channel of {channels}; use a number above 0, 1 for the published channels"
        )
    return round(channels * width)
