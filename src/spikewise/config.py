"""What a run depends on: frozen dataclasses, checked when they are made. Knows no torch."""

import dataclasses
import json
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

try:
    from tyro.conf import Suppress, arg
    from tyro.constructors import PrimitiveConstructorSpec
except ImportError:  # only the command line needs them; networks are measured where nothing but PyTorch is
    Suppress, arg, PrimitiveConstructorSpec = Any, dict, dict  # type: ignore[assignment,misc]

from . import aliases
from .durations import format_duration, parse_duration
from .wording import did_you_mean

__getattr__ = aliases.old_names(__name__)
FORMAT_VERSION = 2  # 1 had other names for some fields: see aliases.FIELDS
BEFORE = {"class_order": "text"}  # what a file meant, before it could say so, in fields of `Data` with another default today


class Range(NamedTuple):
    """Which numbers a field may hold, and that in words."""

    holds: Callable[[Any], bool]
    words: str


PositiveInt = Annotated[int, Range(lambda value: value >= 1, "1 or more")]
NonNegativeInt = Annotated[int, Range(lambda value: value >= 0, "0 or more")]
PositiveFloat = Annotated[float, Range(lambda value: value > 0, "a number above 0")]
NonNegativeFloat = Annotated[float, Range(lambda value: value >= 0, "0 or more")]
Fraction = Annotated[float, Range(lambda value: 0 <= value < 1, "at least 0 and below 1")]
Decay = Annotated[float, Range(lambda value: 0 < value <= 1, "above 0 and at most 1")]
TimeConstant = Annotated[float, Range(lambda value: value > 1, "a time constant above 1 step")]
Degrees = Annotated[float, Range(lambda value: 0 <= value <= 180, "0 to 180 degrees")]
Side = Annotated[
    int | tuple[int, int] | None,
    Range(
        lambda value: all(1 <= side <= 4096 for side in (value if isinstance(value, tuple) else (value,))),
        "1 to 4096 pixels, one number or height,width, or None for 224 of photographs, the sensor's of events",
    ),
]
Crop = Literal["none", "centre"] | tuple[int, int, int, int]
Sensor = Annotated[
    tuple[int, int] | None,
    Range(lambda value: all(1 <= side <= 8192 for side in value), "height,width of 1 to 8192 pixels, or None"),
]
Folds = Annotated[int, Range(lambda value: value >= 2, "2 or more")]
DURATION: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(  # on the command line 10ms, here microseconds
    nargs=1,
    metavar="TIME",
    instance_from_str=lambda words: None if words[0] == "None" else parse_duration(words[0]),
    is_instance=lambda value: value is None or type(value) is int,
    str_from_instance=lambda value: ["None" if value is None else format_duration(value / 1e6).replace(" ", "")],
)
Duration = Annotated[int, Range(lambda value: value >= 1, "1 microsecond or more"), DURATION]
OptionalDuration = Annotated[int | None, Range(lambda value: value >= 1, "1 microsecond or more"), DURATION]
OptionalCount = Annotated[int | None, Range(lambda value: value >= 1, "1 or more"), arg(metavar="INT")]
Name = Annotated[str, arg(metavar="NAME")]  # in a table of `spikewise list`
OptionalName = Annotated[str | None, arg(metavar="NAME")]
Folder = Annotated[str | None, arg(metavar="FOLDER")]
Beta = Annotated[float, Range(lambda value: value == 0 or 0.01 <= value <= 100, "0, or 0.01 to 100")]


@aliases.take_old_fields("data")
@dataclass(frozen=True, kw_only=True)
class Data:
    """Which samples, and what chance does to them."""

    name: Name = "digits"  # a data set of `spikewise list datasets`
    root: Folder = None  # folder of the data; None: $SPIKEWISE_DATA, or else ./data
    num_frames: PositiveInt = 16  # time steps an event recording is split into
    split_by: Literal["count", "duration"] = "count"  # frames of equally many events, as published, or of equal duration
    representation: Literal["counts", "time_surface", "voxel_grid"] = "counts"  # what a frame holds of its events
    time_window: OptionalDuration = None  # of each frame, where they are split by duration; None: equal shares of a recording
    event_count: OptionalCount = None  # of each frame, where they are split by count; None: equal shares of a recording
    tau: Duration = 50_000  # by which time surfaces decay
    filter: Annotated[str, arg(metavar="NAME=VALUE,...")] = ""  # of noise in recordings, as hot_pixels=500,background=10ms
    cache: bool = False  # keep the frames of recordings on disk, beside them; changes nothing that is computed
    split_variant: str = "published"  # which split into train and test; `spikewise data info` lists a data set's
    fold: int | None = None  # N-MNIST: test on this fold of `folds`, train on the others; None: the published split
    folds: Folds = 5  # N-MNIST: the parts of equal size that each class is divided into
    # that photographs are cut to, and onto which events of a larger sensor are binned, in pixels: the side of a square, or
    # height,width; None: 224, of events the sensor's
    size: Side = None
    sensor: Sensor = None  # that all recordings of an event-folder share, height,width in pixels; None: as they say
    # of time in text, NPZ, NPY and HDF5 of an event-folder; None: as the files say
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    # order of the columns in text, NPZ, NPY and HDF5 of an event-folder, as t,x,y,p; None: as the files say
    columns: Annotated[str | None, arg(metavar="T,X,Y,P")] = None
    # of events, before size: the whole sensor (none), its largest part of the size's proportions (centre), or a region of it,
    # top,left,height,width
    crop: Crop = "none"
    max_count: NonNegativeInt = 0  # of events in a pixel of a frame: larger counts, as of hot pixels, become it; 0: none
    train_samples: NonNegativeInt = 0  # learn from so many samples of the training split, drawn by the seed; 0: all
    test_samples: NonNegativeInt = 0  # of the test split, evaluate so many after each epoch; 0: all. `evaluate` takes all
    validation: Fraction = 0.0  # share of the training split held out to choose the best epoch; 0: the test split chooses it
    sampling: Literal["uniform", "balanced"] = "uniform"  # each sample once per epoch, or each class equally often
    shift: NonNegativeInt = 0  # pixels a sample may move in each direction; training only, as all below
    flip: bool = False  # mirror left and right, one in two
    affine: Fraction = 0.0  # std of a random rotation, shear (radians), scale and translation; 0.1 is mild; images only
    rotate: Degrees = 0.0  # largest angle of a random rotation in degrees; nearest pixels, so that counts stay whole
    resized_crop: Fraction = 0.0  # smallest share of an image that is cut out and enlarged to it, e.g. 0.3; 0: the whole image
    polarity_flip: bool = False  # brighter becomes darker, one in two; events only
    event_drop: Fraction = 0.0  # probability with which each event is lost; events only
    temporal_delete: int = 0  # random temporal delete: frames kept of `num_frames`; 0: all
    temporal_delete_per: Literal["batch", "sample"] = "batch"  # one choice of frames per batch, as published, or per sample
    mixup: Beta = 0.0  # mix each sample with another, weight from Beta(mixup, mixup), e.g. 0.2; 0: never
    cutmix: Beta = 0.0  # put a rectangle of another sample into each, area from Beta; 0: never. With mixup: one or the other
    # classes of a user's own folders: by number where all names are numbers (1, 2, 10), or always as text (1, 10, 2)
    class_order: Literal["natural", "text"] = "natural"
    crop_scale: tuple[float, float] | None = None  # shares of a photograph's area that a crop takes in training; None: 0.08,1
    mean: tuple[float, float, float] | None = None  # of red, green, blue of photographs; white is 1; None: ImageNet's
    std: tuple[float, float, float] | None = None  # by which photographs are divided, likewise; None: ImageNet's

    def __post_init__(self):
        check_fields(self, "data")
        low, high = self.crop_scale or (1, 1)
        require_range("data.crop_scale", self.crop_scale, 0 < low <= high <= 1, "two numbers, 0 < low <= high <= 1")
        for name, allowed in (("mean", "three numbers, 0 to 1"), ("std", "three numbers above 0, at most 1")):
            values = getattr(self, name)
            fits = all(0 <= value <= 1 and (value > 0 or name == "mean") for value in values or ())
            require_range(f"data.{name}", values, fits, f"{allowed}; white is 1, not 255")
        fits = isinstance(self.crop, str) or (min(self.crop[:2]) >= 0 and min(self.crop[2:]) >= 1)
        require_range("data.crop", self.crop, fits, "none, centre, or a region of the sensor: top,left,height,width in pixels")
        fits = self.fold is None or 0 <= self.fold < self.folds
        require_range("data.fold", self.fold, fits, f"0 to {self.folds - 1}, below data.folds={self.folds}")
        fits = 0 <= self.temporal_delete <= self.num_frames
        require_range("data.temporal_delete", self.temporal_delete, fits, f"0 to data.num_frames={self.num_frames}")


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which network: the options of `build_model` that a file can hold. Classes and channels come from the data."""

    name: Name = "sew_resnet18"  # a network of `spikewise list models`
    T: PositiveInt = 4  # time steps a still image is shown
    connect: Name = "ADD"  # ADD, AND, IAND, or one of your own; SEW networks
    neuron: OptionalName = None  # IF, LIF, PLIF, or one of your own; None: IF for images, PLIF for events
    v_th: float = 1.0  # threshold
    v_reset: float | None = 0.0  # potential after a spike; None: soft reset
    tau: TimeConstant = 2.0  # membrane time constant, time steps; LIF, and PLIF at the start
    decay_input: bool = True  # whether LIF and PLIF divide their input by tau
    surrogate: Name = "atan"  # slope of the firing step in backward
    alpha: PositiveFloat = 2.0  # the surrogate's slope parameter
    last_surrogate: OptionalName = None  # another surrogate for the last neurons of each block
    detach_reset: bool = True  # gradients ignore the reset's dependence on the spike
    stem: str | None = None  # 7x7 or 3x3 (images), 1x1 or 3x3 (events); None: as published
    pool: str = "max"  # max or avg
    zero_init: bool = False  # every block starts as the identity
    num_blocks: int | None = None  # blocks of a 7B network; None: 7
    width: PositiveFloat = 1.0  # channels of every stage, as a multiple of the published ones, rounded
    backend: Name = "auto"  # kernels, of `spikewise list backends`; auto: the fastest that run

    def __post_init__(self):
        check_fields(self, "model")
        for name in ("surrogate", "last_surrogate"):
            object.__setattr__(self, name, aliases.renamed_by_user(getattr(self, name)))


@aliases.take_old_fields("optim")
@dataclass(frozen=True, kw_only=True)
class Optim:
    """How the weights are learned."""

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"  # stochastic gradient descent, Adam or AdamW
    lr: PositiveFloat = 0.1  # at a batch of `lr_batch`; scaled linearly to the real one, and printed
    lr_batch: PositiveInt = 256  # samples
    batch: PositiveInt = 256  # samples per step, over all processes
    shards: PositiveInt = 1  # parts of the batch, computed one by one or by several processes
    norm_over: Literal["shard", "batch"] = "shard"  # what batch norm takes its statistics over in training; batch: all shards
    # how the gradients of shards are summed. exact: in 64-bit integers, the same bits for any number of processes; float32:
    # half the bytes, other last digits
    gradient_sum: Literal["exact", "float32"] = "exact"
    epochs: PositiveInt = 320  # passes over the training samples
    momentum: Fraction = 0.9  # sgd only
    nesterov: bool = False  # Nesterov's momentum; sgd only
    weight_decay: NonNegativeFloat = 0.0  # of convolutions and linear layers: how much of each weight is subtracted, times lr
    clip_grad_norm: NonNegativeFloat = 0.0  # the gradient of all weights is scaled down to this norm; 0: never
    head_lr: PositiveFloat = 1.0  # learning rate of the last layer, as a multiple of the others'
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"  # mse: squared error to 1 for the class, 0 for others; of rates
    class_weights: Literal["none", "balanced"] = "none"  # balanced: in the loss, rare classes weigh more, as 1 / their number
    plif_lr_multiplier: NonNegativeFloat = 1.0  # learning rate of PLIF's time constants, as a multiple of the others'
    schedule: Literal["cosine", "step", "constant"] = "cosine"  # cosine: down to 0 at the end of the last epoch
    schedule_every: Literal["step", "epoch"] = "step"  # when the schedule moves; the published runs: every epoch
    step_epochs: PositiveInt = 64  # step schedule: epochs between drops
    step_gamma: Decay = 0.1  # step schedule: what each drop multiplies by
    warmup_epochs: NonNegativeFloat = 0.0  # linear from 0; may be a fraction; half the run where it would take all of it
    label_smoothing: Fraction = 0.0  # share of the target spread over all classes
    # of training; membranes are always float32. auto: bfloat16 where the device computes in it, else float32
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    eval_precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of evaluation
    tf32: bool = False  # on an NVIDIA GPU, float32 is multiplied with 10 bits of mantissa: faster, and no longer float32
    # on a GPU: convolutions with sums in one order; without it two runs differ in their last digits
    deterministic: bool = False
    ema_decay: Fraction = 0.0  # evaluate a moving average of the weights, e.g. 0.98 per step; 0: the weights themselves
    # steps from one look at whether loss and gradients are finite to the next: a GPU need not be waited for in between.
    # 0: 50 on a GPU where a batch is one shard, else 1
    check_every: NonNegativeInt = 0

    def __post_init__(self):
        check_fields(self, "optim")
        fits = self.batch % self.shards == 0 and self.batch // self.shards >= 2
        fits = fits or self.shards == 1
        require_range("optim.shards", self.shards, fits, f"a divisor of optim.batch={self.batch} that leaves 2 samples or more")
        fits = self.loss == "cross_entropy" or self.class_weights == "none"
        require_range("optim.class_weights", self.class_weights, fits, "none with optim.loss=mse, or optim.loss=cross_entropy")
        apart = self.check_every <= 1 or self.shards == 1
        require_range("optim.check_every", self.check_every, apart, f"1 with {self.shards} optim.shards, summed each step")
        require_range("optim.nesterov", self.nesterov, not self.nesterov or self.momentum > 0, "it with optim.momentum above 0")

    @property
    def peak_lr(self) -> float:
        """The learning rate at the real batch."""
        return self.lr * self.batch / self.lr_batch

    @property
    def warmup(self) -> float:
        """The epochs that warm-up takes: `warmup_epochs`, or half of a run that is not longer than them."""
        return self.warmup_epochs if self.warmup_epochs < self.epochs else self.epochs / 2

    @property
    def shard_batch(self) -> int:
        """Samples of a shard: what is computed at once, in training and in evaluation."""
        return self.batch // self.shards


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What training keeps for backward; changes nothing that is computed."""

    packing: bool = True  # spikes as bit planes, where the kernels can
    checkpointing: Literal["none", "block", "stage"] = "none"  # activations that backward computes again, a forward pass more
    # on a GPU, where optim.check_every is above 1: a step is recorded as CUDA graphs, which keep its memory for the whole run
    capture: bool = True

    def __post_init__(self):
        check_fields(self, "memory")


@aliases.take_old_fields("retention")
@dataclass(frozen=True, kw_only=True)
class Retention:
    """Which checkpoints stay on disk, and what is reported; changes nothing that is computed."""

    last: PositiveInt = 2  # the newest k, in case the newest is damaged
    best: bool = True  # the one with the best accuracy: on the validation samples or, without, on the test split
    every_epochs: NonNegativeInt = 0  # one of every n epochs; 0: none
    every_steps: NonNegativeInt = 0  # save within epochs, too, every n steps; 0: at the end of each epoch
    num_last_averaged: PositiveInt = 5  # evaluations whose mean is reported beside best and final
    probe_every_steps: NonNegativeInt = 0  # record rates, gradients and tau by block each n steps, in probe.jsonl; 0: never

    def __post_init__(self):
        check_fields(self, "retention")


@aliases.take_old_fields("")
@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what a run computes. Where and how (device, workers, folder) is not part of it.

    The commands import the modules of `imports`, and say so. In Python nothing that a config names is run: import them
    yourself.
    """

    recipe: Annotated[str, Suppress] = "custom"  # the recipe this began as
    weights: Annotated[str | None, arg(metavar="FILE|RUN")] = None  # begin with these; None: fresh ones
    freeze: Annotated[str, arg(metavar="NAMES")] = ""  # modules that do not learn, nor their norms' statistics: stem,layer1
    imports: Annotated[tuple[str, ...], Suppress] = ()  # what --import named: modules, absolute paths of .py files
    seed: NonNegativeInt = 0  # of all chance: first weights, order of the samples, augmentation
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    optim: Optim = field(default_factory=Optim)
    memory: Memory = field(default_factory=Memory)
    retention: Retention = field(default_factory=Retention)

    def __post_init__(self):
        check_fields(self)


def check_fields(config: object, section: str = "") -> None:
    """Refuse a field whose value is not of its annotation's type or choices, or not in its range."""
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        path = f"{section}.{name}" if section else name
        kind, *notes = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
        value = coerce(kind, getattr(config, name), path)
        for allowed in notes:
            if isinstance(allowed, Range):
                require_range(path, value, value is None or allowed.holds(value), allowed.words)
        object.__setattr__(config, name, value)


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
    fields = aliases.rename_fields(content)
    data = fields.get("data", {})
    return from_dict(Config, fields | {"data": BEFORE | data if isinstance(data, dict) else data})


T = TypeVar("T")


def from_dict(kind: type[T], content: dict[str, Any]) -> T:
    """Make a config dataclass from a dict; every name is checked here, every value by the class."""
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in content.items():
        if name not in hints:
            hint = did_you_mean(name, hints).strip() or f"its fields: {', '.join(hints)}"
            raise ValueError(f"the config: {kind.__name__} has no field {name!r}; {hint}")
        section = dataclasses.is_dataclass(hints[name])
        if section and not isinstance(value, dict):
            raise ValueError(f"{name}={value!r} must be an object with the fields of {hints[name].__name__}")
        values[name] = from_dict(hints[name], value) if section else value
    return kind(**values)


def coerce(kind: Any, value: Any, path: str) -> Any:
    """`value` as its annotation wants it: a whole number serves as a float, a list as a tuple."""
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise ValueError(f"{path}={value!r} is unknown; use {', '.join(map(repr, typing.get_args(kind)))}")
        return value
    if typing.get_origin(kind) is tuple:  # JSON has lists
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{path}={value!r} has the wrong type; use a list of names")
        return tuple(value)
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)
    for words in (typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is Literal):
        if value in words:
            return value
    for parts in (typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is tuple):
        if isinstance(value, list | tuple) and len(value) == len(parts):
            return tuple(coerce(part, number, path) for part, number in zip(parts, value, strict=True))
    if float in kinds and type(value) in (int, float):
        # neither infinite, nor NaN, nor more than float32 holds after a product
        require_range(path, value, abs(value) <= 1e30, "a finite number")
        return float(value)
    if type(value) not in kinds:  # exact: True is no number
        raise ValueError(f"{path}={value!r} has the wrong type; use {' or '.join(map(kind_name, kinds))}")
    return value


def kind_name(kind: Any) -> str:
    """A type in words: null, int, 3 numbers, or the choices."""
    parts = typing.get_args(kind)  # of a tuple, or of a Literal
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(repr, parts))
    return f"{len(parts)} numbers" if parts else "null" if kind is type(None) else kind.__name__
