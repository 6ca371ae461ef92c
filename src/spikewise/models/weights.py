"""Weights from and to files: ours, the published checkpoints, SpikingJelly's, torchvision's. Nothing in a file can run code."""

import argparse
import dataclasses
import json
import re
import warnings
from collections.abc import Collection
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .. import disk
from ..neurons import Neuron
from ..wording import count, option
from .card import MARK, TrainingFacts, model_card
from .convert import OTHER_IAND, rename_tensors, swaps_iand
from .infer_spec import detect_layout, summarize_names
from .key_maps import spikingjelly_names, torchvision_names
from .network import Network, require_positive
from .parts import build_empty, changed_parts, replace_parts
from .published_files import find_published, input_of
from .registry import DEFAULTS, effective_options, find_model
from .shipped import CARD, WEIGHTS_FILE, shipped_weights
from .tensor_file import serialize

FORMAT_VERSION = (
    3  # 2 with parts that build_model did not make, 3 with frames beyond counts: older readers refuse what they lack
)
NUMPY_MAKERS: tuple[Any, Any] = (np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0])  # of a scalar, of an array
# what training scripts leave beside the tensors: made without running any code
HARMLESS_TYPES: list[Any] = [
    *(argparse.Namespace, np.dtype, np.ndarray, *NUMPY_MAKERS),
    *{type(np.dtype(code)) for code in np.typecodes["All"]},
    *((make, f"numpy.{core}.multiarray.{make.__name__}") for make in NUMPY_MAKERS for core in ("core", "_core")),
    *((PurePosixPath, f"pathlib.{name}") for name in ("PosixPath", "PurePosixPath")),
    *((PureWindowsPath, f"pathlib.{name}") for name in ("WindowsPath", "PureWindowsPath")),
]
OTHER_PROGRAMS = {  # files of `spikewise export`, and their like
    ".onnx": "an ONNX file, which onnxruntime runs (docs/onnx.md)",
    ".spk": "an integer network, which spikewise.export.integer_runner runs (docs/integer.md)",
    ".h5": "an HDF5 file, which NIR and Keras have",
}
FIRST_BYTES = {b"SPKWINT\0": ".spk", b"\x89HDF": ".h5"}  # whatever the file is called
FREE_OPTIONS = {"T", "backend", "zero_init"}  # of `load_pretrained`: they contradict no file
STATE_DICT_KEYS = ("model", "net", "state_dict")  # where checkpoints keep their tensors; "model" and "net": the published ones


def save_pretrained(net: nn.Module, folder: str | Path, *, facts: TrainingFacts | None = None) -> Path:
    """Write `folder`/model.safetensors, which says itself which network it is; `load_pretrained` reads it back.

    Beside it stands a model card, README.md, of what is known of the network; another README.md is left as it is.
    net:      a network of `build_model`, also with other parts than it was built with (parts.py), or inside torch.compile,
              DistributedDataParallel or an AveragedModel
    facts:    what the card says beyond the network: recipe, accuracy, rates, energy, licence
    Returns:  the file
    Raises:   ValueError for what a file cannot tell, by name; nothing is written
    """
    path = Path(folder) / WEIGHTS_FILE
    content = serialize_pretrained(net)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{WEIGHTS_FILE}.new")
    beside.write_bytes(content)
    beside.replace(path)
    write_card(path.with_name(CARD), unwrap_module(net), facts)
    return path


def write_card(file: Path, net: nn.Module, facts: TrainingFacts | None) -> None:
    """Write the model card, unless another file is in its place."""
    assert isinstance(net, Network), "only these are saved"
    if file.exists() and MARK.encode() not in file.read_bytes()[:1000]:
        say(f"{file} is not ours, and kept as it is; the model card is not written")
        return
    disk.atomic_write(file.absolute(), model_card(net, facts).encode())


def serialize_pretrained(net: nn.Module) -> memoryview:
    """The content of the file that `save_pretrained` writes: a copy, which later training does not change."""
    net = unwrap_module(net)
    if not isinstance(net, Network) or not net.spec:
        raise ValueError(
            "save_pretrained: this network was not built by build_model, so the file could not say what it is; "
            "save net.state_dict() instead, and load it into a network of the same class by net.load_state_dict"
        )
    spec = net.spec | {"T": net.T}
    if type(net.head) is nn.Linear:
        spec["num_classes"] = net.num_classes
    # a function can't be stored: the file holds null there, and load_pretrained asks for it
    asks = sorted(key for key, value in spec.items() if callable(value))
    header = {"format_version": 1, "model": spec | dict.fromkeys(asks), "functions": asks}
    if net.input_spec is not None:
        net.require_input_spec(net.input_spec)  # the head may be another since it was set
        header["input"] = net.input_spec.to_json()
    if parts := changed_parts(net, spec):
        net.require_head()
        header |= {"format_version": 2, "parts": parts}
    if net.input_spec is not None and net.input_spec.needs_format_3:
        header["format_version"] = 3
    tensors = net.state_dict()
    owners: dict[int, str] = {}
    for name, tensor in tensors.items():
        if tensor.numel() and (other := owners.setdefault(tensor.data_ptr(), name)) != name:
            raise ValueError(f"save_pretrained: {name} is the same tensor as {other}, which would come back as two")
    return serialize(tensors, metadata={"spikewise": json.dumps(header)})


def unwrap_module(net: nn.Module) -> nn.Module:
    """The network inside torch.compile, DistributedDataParallel, DataParallel or an AveragedModel."""
    while not isinstance(net, Network):
        inner = net._modules.get("_orig_mod") or net._modules.get("module")
        if inner is None:
            return net
        net = inner
    return net


def load_pretrained(path: str | Path, **overrides: Any) -> Network:
    """Build the network that a file holds, with its weights and in its dtype.

    path:       a folder of `save_pretrained`, a run folder, a .safetensors file, or a checkpoint written by torch.save: the
                published ones ("model" or "net" inside, with or without the training script's arguments), SpikingJelly's,
                torchvision's, or a bare dict of tensors; an address of one of them (https://, hf://, s3://, with
                #sha256=HEX behind it or without); or a name of `spikewise list weights`
    overrides:  options of `build_model`, and `name`: what the file doesn't tell, or what you know better. One that contradicts
                the file holds, and a line says so; T and backend are no properties of weights, and free. One that
                only says where learning begins (zero_init, tau of PLIF) is refused
    num_classes other than the file's keeps all weights but the head's, and warns that the new head is untrained.
    Kind, depth and classes are read from tensor names and shapes; connect and T from the file's arguments where there are any.
    Of the files that the authors published, `published` of the network says what accuracy is to be expected.
    torchvision's names make the ReLU twin, unless `name` says otherwise. The network comes in evaluation mode.
    Raises:     FileNotFoundError; ValueError that says what doesn't fit, or which override is needed
    """
    file = resolve_weights_file(path)
    tensors, metadata = read_weights(file)
    num_classes = overrides.pop("num_classes", None)
    try:
        if "name" in metadata:  # one of ours
            inputs, parts, functions = (
                metadata.pop("input"),
                metadata.pop("parts"),
                [key for key in metadata.pop("functions") if key not in overrides],
            )
            if functions:
                raise ValueError(
                    f"it was saved with a {functions[0]} of your own, which a file can't hold; "
                    f"give it again: {option(functions[0])}"
                )
            told, names = metadata, None
            net = build_empty(told | overrides)
            replace_parts(net, parts, [key for key, value in overrides.items() if value != metadata.get(key)])
            if inputs:
                from ..data.input_spec import InputSpec  # here, as networks are built without readers of images and events

                net.input_spec = InputSpec.from_json(inputs)
        else:
            infer, rename = detect_layout(tensors)
            told = infer(tensors, metadata, overrides)
            net = build_empty(told | overrides)
            names = rename(net)
            if known := find_published(file, net, metadata.get("record", {})):
                net.published, net.input_spec = known, input_of(known.run)
            if rename in (spikingjelly_names, torchvision_names) and swaps_iand(net):
                say(f"{file}: {OTHER_IAND}")
        assign_tensors(net, tensors, names)
        refuse_overwritten(net, overrides, told)
        say_contradictions(file, net, overrides, told)
        if num_classes is not None and num_classes != net.num_classes:
            replace_head(net, num_classes, file)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:  # a hostile header may hold anything
        raise ValueError(f"{file}: {' '.join(str(error).split())}") from None
    return net.eval()


def refuse_overwritten(net: Network, given: dict[str, Any], told: dict[str, Any]) -> None:
    """Refuse options that only say where learning begins: the file's weights are past that.

    given, told:  options as the caller and the file say them
    """
    learned = {name for module in net.modules() if isinstance(module, Neuron) for name in module.learned_settings}
    for name in sorted(learned | {"zero_init"}):
        default = DEFAULTS.get(name)
        if name in given and given[name] not in (default, told.get(name, default)):
            said = option(name, given[name])
            raise ValueError(
                f"{said} has no effect: it says where learning begins, and these weights are learned; leave it out"
            )


def say_contradictions(file: Path, net: Network, given: Collection[str], told: dict[str, Any]) -> None:
    """Say which options the caller gave although the file tells them otherwise: the caller's hold.

    given:  names of options
    told:   what the file tells
    """
    named = [key for key in given if key in told and key not in FREE_OPTIONS]
    entry, options = find_model(net.spec["name"]), net.spec
    holds, file_says = (effective_options(entry, {**options, **values}) for values in ({}, told))
    differing = [f"{option(key, holds[key])} as given, not {file_says[key]!r}" for key in named if holds[key] != file_says[key]]
    if differing:
        say(f"{file}: {', '.join(differing)} as the file says")


def say(text: str) -> None:
    """`notice`, imported here, as networks are built without readers of images and events."""
    from ..data.messages import notice

    notice(text)


def replace_head(net: Network, num_classes: int, file: Path) -> None:
    """Give `net` a fresh last layer for another number of classes, and say so."""
    require_positive(num_classes=num_classes)
    before, dtype = net.num_classes, net.dtype
    setattr(net, net.head_name, nn.Linear(net.num_features, num_classes, dtype=dtype))
    net.spec, net.published = net.spec | {"num_classes": num_classes}, None
    if net.input_spec is not None:
        net.input_spec = dataclasses.replace(net.input_spec, class_names=())
    old, new = count(before, "class"), num_classes
    warnings.warn(f"{file}: all but its head of {old}; the new head of {new} is untrained", stacklevel=3)


def resolve_weights_file(path: str | Path) -> Path:
    """The weights file that a path, an address (remote.py) or the name of a network that comes with the package stands for."""
    if isinstance(path, str) and "://" in path:
        from ..data.remote import fetch  # here, as networks are built without readers of images and events

        return fetch(path, WEIGHTS_FILE)
    path = Path(path)
    if not path.exists():
        shipped = shipped_weights().get(path.as_posix())
        path = shipped.folder if shipped else path
    if path.is_dir():
        for folder in (path, *(disk.follow(path / "checkpoints" / name) for name in ("last", "best"))):
            if (folder / WEIGHTS_FILE).is_file():
                return folder / WEIGHTS_FILE
        raise FileNotFoundError(
            f"{path} holds no {WEIGHTS_FILE}, neither itself nor in checkpoints/last or checkpoints/best; give a run folder, a "
            "folder of save_pretrained or a weights file"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give a weights file, a folder of save_pretrained or a run folder")
    return path


def read_weights(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, and what it says about them: our own spec, or the arguments of the script that wrote it."""
    refuse_other_programs(file)
    if is_safetensors(file):
        try:
            with safe_open(file, "pt") as opened:
                header = validate_header(json.loads((opened.metadata() or {}).get("spikewise", "{}")))
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no dict)
        except (SafetensorError, ValueError, OSError, RecursionError) as error:
            raise ValueError(f"{file} is not a readable safetensors file: {error}") from None
        return tensors, spec_from_header(header)
    try:
        with torch.serialization.safe_globals(HARMLESS_TYPES), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on pickle protocols; what can't be read is refused below
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler stumbles over in a file that is none of ours
        # torch's own message recommends to load it unsafely: only what it says of the cause is passed on
        cause = re.search(
            r"(?:Unsupported|Trying to|Can only)[^\n]*?(?= was not an allowed| whose module|\n|$)", str(error)
        ) or re.search(r"[^\n]+", str(error.__cause__ or ""))
        raise ValueError(
            f"{file} is not a checkpoint of plain tensors: {cause.group(0) if cause else 'torch.load cannot read it'}"
        ) from None
    return unwrap_checkpoint(file, content)


def read_class_names(file: Path) -> tuple[str, ...]:
    """The class names in one of our files; () where it tells none, or can't be read."""
    try:
        with safe_open(file, "pt") as opened:
            header = validate_header(json.loads((opened.metadata() or {}).get("spikewise", "{}")))
    except (SafetensorError, ValueError, OSError, RecursionError):
        return ()
    return tuple(header.get("input", {}).get("class_names", ()))


def refuse_other_programs(file: Path) -> None:
    """Refuse what holds a network, but no weights by name.

    Raises:  ValueError
    """
    with file.open("rb") as opened:
        begin = opened.read(8)
    kind = next((suffix for mark, suffix in FIRST_BYTES.items() if begin.startswith(mark)), file.suffix.lower())
    if what := OTHER_PROGRAMS.get(kind):
        raise ValueError(f"{file} is {what}; give the run, or the weights file, that it was exported from")


def is_safetensors(file: Path) -> bool:
    """By its suffix or, as addresses may have none, by its first bytes: the header's length, then JSON."""
    with file.open("rb") as opened:
        begin = opened.read(9)
    return file.suffix == ".safetensors" or begin[8:] == b"{"


def validate_header(header: Any) -> dict[str, Any]:
    """The header of one of our files, or an empty one."""
    if not isinstance(header, dict) or not isinstance(header.get("model", {}), dict):
        raise ValueError("its spikewise header is damaged")
    for key, kind in (("functions", list), ("parts", dict), ("input", dict)):
        if not isinstance(header.get(key, kind()), kind):
            raise ValueError(f"its spikewise header is damaged: {key!r} is no {kind.__name__}")
    version = header.get("format_version", 0)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ValueError(f"it has format {version!r}, newer than {FORMAT_VERSION}; update spikewise")
    return header


def spec_from_header(header: dict[str, Any]) -> dict[str, Any]:
    """What one of our files was built with; {} for another's file.

    Under "functions" stand the options that were functions, under "parts" what was replaced afterwards.
    """
    if "model" not in header:
        return {}
    functions, parts = header.get("functions", []), header.get("parts", {})
    spec = {key: value for key, value in header["model"].items() if key not in functions}
    return {**spec, "functions": functions, "parts": parts, "input": header.get("input", {})}


def unwrap_checkpoint(file: Path, content: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Find the tensors in what torch.save wrote, and the arguments of the training script beside them."""
    metadata: dict[str, Any] = {}
    if isinstance(content, dict):
        arguments = content.get("args")
        if isinstance(arguments, argparse.Namespace):
            arguments = vars(arguments)
        metadata = {"args": arguments if isinstance(arguments, dict) else {}, "record": read_record(content)}
        for key in STATE_DICT_KEYS:
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{file} holds no dict of tensors, neither itself nor under {', '.join(STATE_DICT_KEYS)}")
    content = strip_wrappers(content)
    strangers = [str(key) for key, value in content.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if strangers:
        raise ValueError(f"{file}: these entries are no tensors: {summarize_names(strangers)}")
    for name, tensor in content.items():  # a tiny file can claim a tensor of any size by strides of 0
        if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{file}: {name!r} is no plain tensor, or larger than what the file holds of it")
    return content, metadata


def read_record(content: dict[Any, Any]) -> dict[str, Any]:
    """What a checkpoint of the authors says of its training: the epoch, counted from 0, and the best accuracy, in per cent."""
    numbers = {
        "epoch": (content.get("epoch"), 1),
        "best": (content["max_test_acc1"], 1) if "max_test_acc1" in content else (content.get("max_test_acc"), 100),
    }
    return {
        name: value * scale
        for name, (value, scale) in numbers.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def strip_wrappers(content: dict[Any, Any]) -> dict[Any, Any]:
    """Names without what DistributedDataParallel, torch.compile and AveragedModel put before them, one inside another."""
    content = {key: value for key, value in content.items() if key != "n_averaged"}
    for prefix in ("module.", "_orig_mod.") * 3:
        if content and all(isinstance(name, str) and name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): value for name, value in content.items()}
            content.pop("n_averaged", None)
    return content


def assign_tensors(net: Network, tensors: dict[str, Tensor], names: dict[str, str] | None) -> None:
    """Give `net` the tensors of a file, strictly: every one used, none missing, shapes equal, dtype as in the file.

    names:  our name -> the file's; None where they are the same
    """
    ours = net.state_dict()
    if names and not any(theirs.endswith("num_batches_tracked") for theirs in tensors):  # files of torchvision before 0.3
        tensors = tensors | {names[name]: torch.tensor(0) for name in ours if name.endswith("num_batches_tracked")}
    names = names or {name: name for name in ours}
    missing = [theirs for theirs in names.values() if theirs not in tensors]
    unexpected = sorted(set(tensors) - set(names.values()))
    if missing or unexpected:
        raise ValueError(
            f"the tensors are not those of {net.spec['name']}: "
            + "; ".join(
                f"{word}: {summarize_names(found)}"
                for word, found in (("missing", missing), ("not in it", unexpected))
                if found
            )
        )
    state = {}
    for name, theirs in names.items():
        # PLIF's w is [1] in the published files and here, a scalar in newer SpikingJelly
        tensor = tensors[theirs].reshape(1) if name.endswith(".w") and tensors[theirs].dim() == 0 else tensors[theirs]
        if tensor.shape != ours[name].shape:
            raise ValueError(
                f"{theirs!r} has shape {list(tensor.shape)}, {net.spec['name']} needs {list(ours[name].shape)} there"
            )
        if tensor.is_floating_point() != ours[name].is_floating_point():
            raise ValueError(f"{theirs!r} is {tensor.dtype}, {net.spec['name']} needs {ours[name].dtype} there")
        state[name] = tensor.clone(memory_format=torch.contiguous_format)  # tensors of a file may share memory
    net.load_state_dict(state, strict=True, assign=True)


def to_published(net: Network) -> dict[str, Tensor]:
    """The network's tensors under their published names, in the published order."""
    return rename_tensors(net, "authors")


def to_spikingjelly(net: Network) -> dict[str, Tensor]:
    """The network's tensors under SpikingJelly's names (0.0.0.0.14 and later, 2.0 included)."""
    return rename_tensors(net, "spikingjelly")


def to_torchvision(net: Network) -> dict[str, Tensor]:
    """The network's tensors under torchvision's names."""
    return rename_tensors(net, "torchvision")
