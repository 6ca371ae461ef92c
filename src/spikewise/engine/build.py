"""From the names in a config to objects: device, precision, data, network."""

import dataclasses
import os
from typing import Any, Literal

import torch

from ..config import Config, Data, Model
from ..data import DATASETS, Dataset, DatasetEntry, EventDataset, PlaceholderDataset, find_dataset, rng_from
from ..data.events.downsample import pixel_tables
from ..data.events.frames import FrameSpec
from ..data.files import data_root
from ..data.images.normalize import CROP_SCALE
from ..data.input_spec import InputSpec
from ..data.subset import draw_samples
from ..data.validation import split_validation
from ..models import Network, build_model
from ..wording import count, did_you_mean
from .distributed import ALONE, World, local_rank, world_size

PHOTOGRAPH_FIELDS = ("size", "crop_scale", "mean", "std")  # of the config's data, None: as the data set has it
EVENT_FIELDS = ("size", "crop", "max_count")  # of the config's data: what is seen of event recordings
RECORDING_FIELDS = ("temporal_delete", "polarity_flip", "event_drop", "cache", "crop", "max_count")  # for recordings alone
FRAME_OPTIONS = ("representation", "time_window", "event_count", "tau", "filter")  # of `FrameSpec` and the config's data
SPREAD = 9  # recordings, at most, that tell how long the others are
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU, or the CPU if there is none. Each of several processes takes a GPU of its own.
    On a GPU float32 is float32 from here on (`set_arithmetic`).

    Raises:  ValueError for an unknown name, a device that is not there, and more processes than GPUs
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name not in available:
        raise ValueError(f"no device named {name!r}; use auto, cpu, cuda or mps")
    if not available[name]:
        raise ValueError(f"device {name!r} was asked for by name, but torch {torch.__version__} sees none; use auto or cpu")
    set_arithmetic(torch.device(name))
    if name != "cuda" or world_size() == 1:
        return torch.device(name)
    number, gpus = local_rank(), torch.cuda.device_count()
    if number >= gpus:
        raise ValueError(
            f"LOCAL_RANK={number}, but PyTorch sees {count(gpus, 'GPU')} here: start at most one process for each, "
            "or set LOCAL_RANK=0 where each process sees only its own"
        )
    torch.cuda.set_device(number)
    return torch.device(name, number)


def set_arithmetic(device: torch.device, *, tf32: bool = False, deterministic: bool = False) -> None:
    """How a GPU computes, for the whole process: PyTorch by itself takes TF32 in convolutions, and sums in any order.

    deterministic:  the same sums in the same order each time; operations that can't raise PyTorch's RuntimeError
    """
    if device.type != "cuda":
        return
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a pass over every new tensor


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Convolutions and linear layers in `precision`; membranes, statistics and the loss stay in float32.

    Raises:  ValueError for float16 on a CPU
    """
    if precision == "float16" and device.type == "cpu":
        raise ValueError(
            "precision float16 needs a GPU: on a CPU its gradients vanish unscaled; use bfloat16 or float32 "
            "(--optim.precision bfloat16)"
        )
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "float32")


def choose_precision(config: Config, device: torch.device) -> Config:
    """The config with the precision that "auto" stands for on this device."""
    if config.optim.precision != "auto":
        return config
    able = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else has_bfloat16(device)
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, precision="bfloat16" if able else "float32"))


def has_bfloat16(device: torch.device) -> bool:
    """Whether a CPU multiplies bfloat16 by instructions of its own."""
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def load_data(config: Config, split: str, world: World = ALONE) -> Dataset:
    """A split of the config's data set, whole; where reading its index takes long, the processes share that."""
    entry = dataset_entry(config)
    share = {"share": world.share} if entry.shares_index and world.size > 1 else {}
    return view_events(config, entry.load(split, config.data.root, **dataset_kwargs(config), **share))


def view_events(config: Config, data: Dataset) -> Dataset:
    """Event recordings as the config's size, crop and max_count show them; other data, and without these fields, as it is.

    Raises:  ValueError for event recordings of a class of the user's own that has no such fields
    """
    view = {name: value for name in EVENT_FIELDS if (value := getattr(config.data, name)) != getattr(Data(), name)}
    if not dataset_entry(config).events or not view:
        return data
    if not isinstance(data, EventDataset):
        raise ValueError(f"data.{min(view)} is for data sets that are an EventDataset; {data.name} is none: leave it out")
    return dataclasses.replace(data, **view)


def load_run_data(config: Config, split: str, world: World = ALONE) -> Dataset:
    """What a run learns from ("train") or evaluates after each epoch ("validation", "test"): the split, or samples of it.

    "validation" is what the config holds out of the training split.
    """
    return run_samples(config, load_data(config, "test" if split == "test" else "train", world), split)


def run_samples(config: Config, data: Dataset, split: str) -> Dataset:
    """The samples of a data set's split that `load_run_data` gives."""
    if split != "test" and config.data.validation:
        data, held_out = split_validation(data, config.data.validation)
        if split == "validation":
            return held_out
    number = config.data.test_samples if split == "test" else config.data.train_samples
    return draw_samples(data, number, config.seed, split) if number else data


def load_or_placeholder(config: Config) -> tuple[Dataset, bool]:
    """The training split, or a placeholder of its size and shape, all zeros, where its files are missing; and whether it was
    loaded.

    Raises:  what `load_data` raises, FileNotFoundError only for data sets of unknown size (folders of the user's own)
    """
    entry, kwargs = dataset_entry(config), dataset_kwargs(config)
    try:
        return load_run_data(config, "train"), True
    except FileNotFoundError:
        if entry.info is None:
            raise
    shape_kwargs = {name: value for name, value in kwargs.items() if name in ("T", "size", "split_variant", "fold", "folds")}
    if entry.events:
        shape_kwargs["size"] = pixel_tables(entry.info.shape[1:], config.data.size, config.data.crop)[0]
    return run_samples(config, PlaceholderDataset(config.data.name, entry.info, **shape_kwargs), "train"), False


def dataset_entry(config: Config) -> DatasetEntry:
    """The config's data set in the registry."""
    return find_dataset(config.data.name)


def dataset_kwargs(config: Config) -> dict[str, Any]:
    """The keyword arguments that the config's data set is opened with.

    Raises:  ValueError for a field of the config that does not apply to this data set
    """
    entry, data = dataset_entry(config), config.data
    refuse_foreign_fields(entry, data)
    view = {name: value for name in PHOTOGRAPH_FIELDS if (value := getattr(data, name)) is not None}
    if entry.events:
        view.pop("size", None)  # see view_events
    for name, value in () if entry.variable_size else view.items():
        known = ", ".join(name for name, other in DATASETS.items() if other.variable_size)
        also = " and event recordings" if name == "size" else ""
        raise ValueError(f"data.{name}={value} is for photographs ({known}){also}, not for {data.name}: leave it at None")
    kwargs: dict[str, Any] = {}
    if entry.events:
        options = frame_options(data)
        _ = FrameSpec(data.num_frames, data.split_by, **options)  # refuses what does not fit together
        kwargs = {"T": data.num_frames, "split_by": data.split_by, "cache": data.cache} | options
    kwargs |= reading_options(entry, data)
    kwargs |= view | ({"class_order": data.class_order} if entry.class_order else {})
    if data.split_variant != "published":
        if data.split_variant not in entry.split_variants:
            advice = f"use {' or '.join(entry.split_variants)}" if entry.split_variants else "leave it at 'published'"
            advice = did_you_mean(data.split_variant, entry.split_variants) + advice
            raise ValueError(f"data.split_variant={data.split_variant!r} is an unknown split variant of {data.name}; {advice}")
        kwargs["split_variant"] = data.split_variant
    if data.fold is not None:
        if not entry.has_folds:
            known = ", ".join(name for name, other in DATASETS.items() if other.has_folds)
            raise ValueError(f"data.fold={data.fold} is for {known}; {data.name} has one split: leave it at None")
        kwargs |= {"fold": data.fold, "folds": data.folds}
    return kwargs


def reading_options(entry: DatasetEntry, data: Data) -> dict[str, Any]:
    """What a config says of recordings that do not say it themselves.

    Raises:  ValueError for a data set that knows it
    """
    options = {}
    for name, taken_by in (("sensor", "takes_sensor"), ("time_unit", "takes_columns"), ("columns", "takes_columns")):
        if (value := getattr(data, name)) is None:
            continue
        if not getattr(entry, taken_by):
            known = ", ".join(name for name, other in DATASETS.items() if getattr(other, taken_by))
            raise ValueError(f"data.{name}={value!r} is for {known}; {data.name} knows its own: leave it at None")
        options[name] = value
    return options


def refuse_foreign_fields(entry: DatasetEntry, data: Data) -> None:
    """Refuse fields that are for data of another kind, or for other frames."""
    contents, others = ("event recordings", "still images") if entry.events else ("still images", "event recordings")
    for name in ("affine", "resized_crop") if entry.events else RECORDING_FIELDS:
        value, default = getattr(data, name), getattr(Data(), name)
        if value != default:
            raise ValueError(f"data.{name}={value!r} is for {others}; {data.name} holds {contents}: leave it at {default!r}")
    counted = [name for name in ("event_drop", "max_count") if data.representation != "counts" and getattr(data, name)]
    if counted:
        set_ = " and ".join(f"data.{name}={getattr(data, name)!r}" for name in counted)
        unset = " ".join(f"--data.{name.replace('_', '-')} 0" for name in counted)
        are = "is" if len(counted) == 1 else "are"
        raise ValueError(
            f"{set_} {are} for counts of events, not for {data.representation}; where the recipe says so, say {unset}"
        )
    if entry.variable_size and data.resized_crop:
        low, high = data.crop_scale or CROP_SCALE
        raise ValueError(
            f"data.resized_crop={data.resized_crop!r} is for images of one size; {data.name} crops its photographs itself, to "
            f"shares {low:g} to {high:g} of the area: say --data.crop-scale {data.resized_crop:g},1 and leave it at 0.0"
        )


def where_data_is(data: Data) -> str:
    """A data set as messages name it: folders of a user's own data with their path."""
    return f"{data.name} in {data_root(data.root)}" if find_dataset(data.name).info is None else data.name


def frame_options(data: Data) -> dict[str, Any]:
    """What a config says of frames beyond their number and division; empty where it says nothing."""
    return {name: value for name in FRAME_OPTIONS if (value := getattr(data, name)) != getattr(Data(), name)}


def build_network(config: Config, data: Dataset) -> Network:
    """The network of a config for this data; its initial weights depend on the config's seed alone."""
    kwargs = dataclasses.asdict(config.model)
    with torch.random.fork_rng(devices=[]):
        # only the CPU's generator: torch.manual_seed would reseed those of all GPUs, too
        torch.default_generator.manual_seed(int(rng_from(config.seed, "weights").integers(2**63)))
        net = build_model(num_classes=len(data.class_names), in_channels=data.in_channels, **kwargs)
    net.packing, net.checkpointing = config.memory.packing, config.memory.checkpointing
    return weights_channels_last(net)


def describe_input(config: Config, data: Dataset) -> InputSpec:
    """What a network of this config is shown, as its weights tell it."""
    entry, settings = dataset_entry(config), config.data
    kind: Literal["photographs", "images", "events"] = (
        "events" if entry.events else "photographs" if entry.variable_size else "images"
    )
    channels, height, width = data.sample(0).shape[-3:]
    is_moved = kind == "events" and (settings.size is not None or settings.crop != "none")  # onto a canvas
    return InputSpec(
        data=config.data.name,
        kind=kind,
        class_names=tuple(data.class_names),
        shape=(channels, height, width),
        mean=settings.mean,
        std=settings.std,
        num_frames=settings.num_frames if kind == "events" else 0,
        split_by=settings.split_by,
        sensor=data.sensor if is_moved else None,  # type: ignore[attr-defined]  # recordings have one
        crop=settings.crop,
        max_count=settings.max_count,
        frame_options=frame_options(settings) if kind == "events" else {},
        **(usual_recording(data) if kind == "events" else {}),
    )


def usual_recording(data: Dataset) -> dict[str, int]:
    """The median duration and number of events of a few recordings, spread over the data; empty for data of other kinds."""
    read, files = getattr(data, "read", None), getattr(data, "files", ())
    if read is None or not len(files):
        return {}
    recordings = [read(files[place]) for place in range(0, len(files), -(-len(files) // SPREAD))]
    middle = len(recordings) // 2
    return {
        "usual_duration": sorted(events.duration for events in recordings)[middle],
        "usual_events": sorted(len(events) for events in recordings)[middle],
    }


def model_config(net: Network) -> Model:
    """The config of a network that `build_model` made; options that are functions stay at their defaults."""
    fields = {field.name for field in dataclasses.fields(Model)}
    return Model(**{key: value for key, value in net.spec.items() if key in fields and not callable(value)})


def weights_channels_last(net: Network) -> Network:
    """The network with the weights of its convolutions in channels-last layout: twice as fast a training step on a CPU."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
