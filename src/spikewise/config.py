"""What a run depends on: frozen dataclasses, checked when they are made. Knows no torch."""

import dataclasses
import difflib
import json
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which samples, and what chance does to them."""

    name: str = "digits"  # a data set of `spikewise list datasets`
    shift: int = 0  # pixels an image may move in each direction; training only, as all below
    warp: float = 0.0  # spread of a random rotation (radians), slant, stretch and move; 0.1 is mild

    def __post_init__(self):
        require("data.shift", self.shift, self.shift >= 0, "0 or more pixels")
        require("data.warp", self.warp, 0 <= self.warp < 1, "at least 0 and below 1")


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
    schedule: Literal["cosine", "constant"] = "cosine"  # cosine: down to 0 at the end of the last epoch
    warmup_epochs: float = 0.0  # linear from 0; may be a fraction
    label_smoothing: float = 0.0  # share of the target spread over all classes
    ema_decay: float = 0.0  # evaluate a moving average of the weights, e.g. 0.98 per step; 0: the weights themselves

    def __post_init__(self):
        require("optim.lr", self.lr, self.lr > 0 and math.isfinite(self.lr), "a finite number above 0")
        for name in ("lr_batch", "batch", "epochs"):
            require(f"optim.{name}", getattr(self, name), getattr(self, name) >= 1, "1 or more")
        require("optim.momentum", self.momentum, 0 <= self.momentum < 1, "at least 0 and below 1")
        require("optim.weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
        require("optim.label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "at least 0 and below 1")
        require("optim.ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "at least 0 and below 1")
        fits = 0 <= self.warmup_epochs < self.epochs
        require("optim.warmup_epochs", self.warmup_epochs, fits, f"at least 0 and below optim.epochs={self.epochs}")

    @property
    def peak_lr(self) -> float:
        """The learning rate at the real batch."""
        return self.lr * self.batch / self.lr_batch


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what a run computes. Where and how (device, workers, folder) is not part of it."""

    recipe: str = "custom"  # the recipe this began as
    seed: int = 0
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    optim: Optim = field(default_factory=Optim)

    def __post_init__(self):
        require("seed", self.seed, self.seed >= 0, "0 or more")


def require(name: str, value: object, fits: bool, allowed: str) -> None:
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
    except json.JSONDecodeError as error:
        raise ValueError(f"the config is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"the config is a JSON {type(content).__name__}; an object with the fields of Config was expected")
    version = content.pop("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ValueError(f"the config has format_version {version!r}; this spikewise reads up to {FORMAT_VERSION}: update it")
    return from_dict(Config, content)


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
        values[name] = checked(hints[name], value, f"{path}.{name}" if path else name)
    return kind(**values)


def checked(hint: Any, value: Any, path: str) -> Any:
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
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) not in kinds:  # exact: True is no number
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ValueError(f"{path}={value!r} has the wrong type; use {names}")
    return value
