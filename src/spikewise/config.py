"""What a run depends on: frozen dataclasses, checked when they are made. Knows no torch."""

import dataclasses
import difflib
import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from . import aliases

FORMAT_VERSION = 2  # 1 had other names for some fields: see aliases.FIELDS


@aliases.take_old_fields("data")
@dataclass(frozen=True, kw_only=True)
class Data:
    """Which samples, and what chance does to them."""

    name: str = "digits"  # a data set of `spikewise list datasets`
    root: str | None = None  # folder of the data; None: $SPIKEWISE_DATA, or else ./data
    num_frames: int = 16  # time steps an event recording is split into
    split_by: Literal["count", "duration"] = "count"  # frames of equally many events, as published, or of equal duration
    cache: bool = False  # keep the frames of recordings on disk, beside them; changes nothing that is computed
    split_variant: str = "published"  # which split into train and test; `spikewise data info` lists a data set's
    fold: int | None = None  # N-MNIST: test on this fold of `folds`, train on the others; None: the published split
    folds: int = 5
    size: int | None = None  # side of the square that photographs are cut to, in pixels; None: 224
    shift: int = 0  # pixels a sample may move in each direction; training only, as all below
    flip: bool = False  # mirror left and right, one in two
    affine: float = 0.0  # std of a random rotation, shear (radians), scale and translation; 0.1 is mild; images only
    rotate: float = 0.0  # largest angle of a random rotation in degrees; nearest pixels, so that counts stay whole
    resized_crop: float = 0.0  # smallest share of an image that is cut out and enlarged to it, e.g. 0.3; 0: the whole image
    polarity_flip: bool = False  # brighter becomes darker, one in two; events only
    event_drop: float = 0.0  # probability with which each event is lost; events only
    temporal_delete: int = 0  # random temporal delete: frames kept of `num_frames`; 0: all
    temporal_delete_per: Literal["batch", "sample"] = "batch"  # one choice of frames per batch, as published, or per sample
    mixup: float = 0.0  # mix each sample with another, weight from Beta(mixup, mixup), e.g. 0.2; 0: never
    cutmix: float = 0.0  # put a rectangle of another sample into each, area from Beta; 0: never. With mixup: one or the other

    def __post_init__(self):
        check_types(self, "data")
        require_range("data.num_frames", self.num_frames, self.num_frames >= 1, "1 or more")
        require_range("data.folds", self.folds, self.folds >= 2, "2 or more")
        require_range("data.size", self.size, self.size is None or 1 <= self.size <= 4096, "1 to 4096 pixels, or None for 224")
        in_folds = self.fold is None or 0 <= self.fold < self.folds
        require_range("data.fold", self.fold, in_folds, f"0 to {self.folds - 1}, below data.folds={self.folds}")
        require_range("data.shift", self.shift, self.shift >= 0, "0 or more pixels")
        for name in ("affine", "resized_crop", "event_drop"):
            require_range(f"data.{name}", getattr(self, name), 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        require_range("data.rotate", self.rotate, 0 <= self.rotate <= 180, "0 to 180 degrees")
        for name in ("mixup", "cutmix"):
            alpha = getattr(self, name)
            require_range(f"data.{name}", alpha, alpha == 0 or 0.01 <= alpha <= 100, "0, or 0.01 to 100")
        fits = 0 <= self.temporal_delete <= self.num_frames
        require_range("data.temporal_delete", self.temporal_delete, fits, f"0 to data.num_frames={self.num_frames}")


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which network: the options of `build_model` that a file can hold. Classes and channels come from the data."""

    name: str = "sew_resnet18"  # a network of `spikewise list models`
    T: int = 4  # time steps a still image is shown
    connect: str = "ADD"  # ADD, AND or IAND; SEW networks
    neuron: str | None = None  # IF, LIF or PLIF; None: IF for images, PLIF for events
    v_th: float = 1.0  # threshold
    v_reset: float | None = 0.0  # potential after a spike; None: soft reset
    tau: float = 2.0  # membrane time constant, time steps; LIF, and PLIF at the start
    decay_input: bool = True  # whether LIF and PLIF divide their input by tau
    surrogate: str = "atan"  # slope of the firing step in backward
    alpha: float = 2.0  # the surrogate's slope parameter
    last_surrogate: str | None = None  # another surrogate for the last neurons of each block
    detach_reset: bool = True  # gradients ignore the reset's dependence on the spike
    stem: str | None = None  # 7x7 or 3x3 (images), 1x1 or 3x3 (events); None: as published
    pool: str = "max"  # max or avg
    zero_init: bool = False  # every block starts as the identity
    num_blocks: int | None = None  # blocks of a 7B network; None: 7
    backend: str = "auto"  # kernels

    def __post_init__(self):
        check_types(self, "model")
        require_range("model.T", self.T, self.T >= 1, "1 or more")
        require_range("model.tau", self.tau, self.tau > 1, "a time constant above 1 step")
        require_range("model.alpha", self.alpha, self.alpha > 0, "a number above 0")


@aliases.take_old_fields("optim")
@dataclass(frozen=True, kw_only=True)
class Optim:
    """How the weights are learned."""

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = 0.1  # at a batch of `lr_batch`; scaled linearly to the real one, and printed
    lr_batch: int = 256  # samples
    batch: int = 256  # samples per step, over all processes
    epochs: int = 320
    momentum: float = 0.9  # sgd only
    weight_decay: float = 0.0
    plif_lr_multiplier: float = 1.0  # learning rate of PLIF's time constants, as a multiple of the others'
    schedule: Literal["cosine", "step", "constant"] = "cosine"  # cosine: down to 0 at the end of the last epoch
    schedule_every: Literal["step", "epoch"] = "step"  # when the schedule moves; the published runs: every epoch
    step_epochs: int = 64  # step schedule: epochs between drops
    step_gamma: float = 0.1  # step schedule: what each drop multiplies by
    warmup_epochs: float = 0.0  # linear from 0; may be a fraction
    label_smoothing: float = 0.0  # share of the target spread over all classes
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of training; membranes are always float32
    eval_precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of evaluation
    ema_decay: float = 0.0  # evaluate a moving average of the weights, e.g. 0.98 per step; 0: the weights themselves

    def __post_init__(self):
        check_types(self, "optim")
        require_range("optim.lr", self.lr, self.lr > 0, "a number above 0")
        for name in ("lr_batch", "batch", "epochs", "step_epochs"):
            require_range(f"optim.{name}", getattr(self, name), getattr(self, name) >= 1, "1 or more")
        require_range("optim.momentum", self.momentum, 0 <= self.momentum < 1, "at least 0 and below 1")
        require_range("optim.plif_lr_multiplier", self.plif_lr_multiplier, self.plif_lr_multiplier >= 0, "0 or more")
        require_range("optim.step_gamma", self.step_gamma, 0 < self.step_gamma <= 1, "above 0 and at most 1")
        require_range("optim.weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
        require_range("optim.label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "at least 0 and below 1")
        require_range("optim.ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "at least 0 and below 1")
        fits = 0 <= self.warmup_epochs < self.epochs
        require_range("optim.warmup_epochs", self.warmup_epochs, fits, f"at least 0 and below optim.epochs={self.epochs}")

    @property
    def peak_lr(self) -> float:
        """The learning rate at the real batch."""
        return self.lr * self.batch / self.lr_batch


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What training keeps for backward; changes nothing that is computed."""

    packing: bool = True  # spikes as bit planes, where the kernels can
    checkpointing: Literal["none", "block", "stage"] = "none"  # activations that backward computes again, a forward pass more

    def __post_init__(self):
        check_types(self, "memory")


@aliases.take_old_fields("retention")
@dataclass(frozen=True, kw_only=True)
class Retention:
    """Which checkpoints stay on disk, and what is reported; changes nothing that is computed."""

    last: int = 2  # the newest k, in case the newest is damaged
    best: bool = True  # the one with the best test accuracy
    every_epochs: int = 0  # one of every n epochs; 0: none
    every_steps: int = 0  # save within epochs, too, every n steps; 0: at the end of each epoch
    num_last_averaged: int = 5  # evaluations whose mean is reported beside best and final
    probe_every_steps: int = 0  # record firing rates, gradients and tau of every block each n steps, in probe.jsonl; 0: never

    def __post_init__(self):
        check_types(self, "retention")
        require_range("retention.last", self.last, self.last >= 1, "1 or more")
        require_range("retention.every_epochs", self.every_epochs, self.every_epochs >= 0, "0 or more")
        require_range("retention.every_steps", self.every_steps, self.every_steps >= 0, "0 or more")
        require_range("retention.probe_every_steps", self.probe_every_steps, self.probe_every_steps >= 0, "0 or more")
        require_range("retention.num_last_averaged", self.num_last_averaged, self.num_last_averaged >= 1, "1 or more")


@aliases.take_old_fields("")
@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what a run computes. Where and how (device, workers, folder) is not part of it."""

    recipe: str = "custom"  # the recipe this began as
    seed: int = 0
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    optim: Optim = field(default_factory=Optim)
    memory: Memory = field(default_factory=Memory)
    retention: Retention = field(default_factory=Retention)

    def __post_init__(self):
        check_types(self)
        require_range("seed", self.seed, self.seed >= 0, "0 or more")


def check_types(config: object, path: str = "") -> None:
    """Refuse a field whose value is not of its annotation's type, or not one of its choices."""
    for name, hint in typing.get_type_hints(type(config)).items():
        value, where = getattr(config, name), f"{path}.{name}" if path else name
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, hint):  # type: ignore[arg-type]
                raise ValueError(f"{where}={value!r} has the wrong type; use a {hint.__name__}")  # type: ignore[union-attr]
        else:
            object.__setattr__(config, name, coerce(hint, value, where))


def require_range(name: str, value: object, fits: bool, allowed: str) -> None:
    if not fits:
        raise ValueError(f"{name}={value!r} is out of range; use {allowed}")


def to_json(config: Config) -> str:
    """The config as JSON, complete, with its format version."""
    return json.dumps({"format_version": FORMAT_VERSION, **dataclasses.asdict(config)}, indent=2) + "\n"


def from_json(text: str) -> Config:
    """The config that `to_json` wrote, or an edited one.

    Raises:  ValueError that names the field, what was given and what fits
    """
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"the config is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"the config is a JSON {type(content).__name__}; an object with the fields of Config was expected")
    version = content.pop("format_version", FORMAT_VERSION)
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise ValueError(f"the config has format_version {version!r}; this spikewise reads 1 to {FORMAT_VERSION}: update it")
    return from_dict(Config, aliases.rename_fields(content))


T = TypeVar("T")


def from_dict(kind: type[T], content: dict[str, Any], path: str = "") -> T:
    """Make a config dataclass from a dict, every name and type checked."""
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in content.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its fields: {', '.join(hints)}"
            raise ValueError(f"{path or 'the config'}: {kind.__name__} has no field {name!r}; {hint}")
        values[name] = coerce(hints[name], value, f"{path}.{name}" if path else name)
    return kind(**values)


def coerce(hint: Any, value: Any, path: str) -> Any:
    """`value` as its annotation wants it."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ValueError(f"{path}={value!r} must be an object with the fields of {hint.__name__}")
        return from_dict(hint, value, path)
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise ValueError(f"{path}={value!r} is unknown; use {', '.join(map(repr, typing.get_args(hint)))}")
        return value
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in kinds and type(value) in (int, float):
        if not abs(value) <= 1e30:  # infinite, no number, or more than float32 holds after a product
            raise ValueError(f"{path}={value!r} is out of range; use a finite number")
        return float(value)
    if type(value) not in kinds:  # exact: True is no number
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ValueError(f"{path}={value!r} has the wrong type; use {names}")
    return value
