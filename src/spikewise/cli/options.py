"""Options that several commands have: each described once, named alike everywhere."""

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tyro.conf import Positional, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from .. import disk

NUMBERS = ConstructorRegistry()  # how several numbers are written: as one word, 0.5,0.5,0.5


@NUMBERS.primitive_rule
def numbers_joined_by_commas(field: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """How tyro reads and shows a field of a fixed number of numbers."""
    kinds = get_args(field.type)
    if get_origin(field.type) is not tuple or not kinds or not set(kinds) <= {int, float}:
        return None

    def parse(words: list[str]) -> tuple[Any, ...]:
        numbers = (words[0].replace("x", ",") if kinds == (int, int) else words[0]).split(",")  # 96,128 or 96x128
        if len(numbers) != len(kinds):
            raise ValueError(f"{len(kinds)} numbers, joined by commas, were expected, given {len(numbers)}")
        return tuple(kind(number) for kind, number in zip(kinds, numbers, strict=True))

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=",".join(kind.__name__.upper() for kind in kinds),
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, tuple) and len(value) == len(kinds),
        str_from_instance=lambda value: [",".join(map(str, value))],
    )


Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], arg(help="where to compute")]
Workers = Annotated[
    int | None, arg(metavar="INT", help="processes that load data; 0: this one; default as suits the device; changes no result")
]
Processes = Annotated[
    int | None,
    arg(metavar="INT", help="on this machine that train together, up to optim.shards; changes no result; more hosts: torchrun"),
]
DataRoot = Annotated[
    str | None,
    arg(
        name="data.root",
        metavar="FOLDER",
        help="where the data lies now, if not where the config says; of shards also an address",
    ),
]
DataFolder = Annotated[
    Path | None, arg(name="data.root", metavar="FOLDER", help="of all data sets; default $SPIKEWISE_DATA, or else ./data")
]
Json = Annotated[bool, arg(name="json", help="print JSON")]
Quiet = Annotated[bool, arg(help="print only the result")]
StopEpoch = Annotated[
    int | None, arg(metavar="INT", help="stop after this epoch, with the learning rates of the whole run; default the last")
]
Picture = Annotated[Path | None, arg(metavar="FILE", help="draw into this file")]
Run = Annotated[Positional[Path], arg(metavar="RUN", help="the run folder")]
RunOrFile = Annotated[Positional[Path], arg(metavar="RUN|FILE", help="a run folder, or a file of weights")]
DatasetName = Annotated[Positional[str], arg(metavar="NAME")]
Recording = Annotated[Positional[Path], arg(metavar="FILE", help="a recording")]
Format = Annotated[str | None, arg(metavar="NAME", help="the recording's, of `spikewise list formats`; default as it tells")]
Images = Annotated[
    Path | None,
    arg(
        metavar="FOLDER",
        help="for a file, in place of its data: a folder of photographs; without data: the embedded digits, enlarged",
    ),
]
Size = Annotated[int | None, arg(metavar="INT", help="of these images: the side in pixels; default 224, to diagnose 64")]
DataName = Annotated[
    str | None, arg(name="data.name", metavar="NAME", help="for a file: a data set, if not that of its training")
]
Steps = Annotated[int | None, arg(metavar="INT", help="time steps for which an image is shown; default as trained")]
ModelName = Annotated[str | None, arg(name="model", metavar="NAME", help="the network's, where a file does not tell it")]
Connect = Annotated[str | None, arg(metavar="NAME", help="ADD, AND or IAND, where a file does not tell it")]


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What a network is examined with: where it computes, what it is shown, and what its file does not tell."""

    images: Images = None
    size: Size = None
    device: Device = "auto"
    data_root: DataRoot = None
    data_name: DataName = None
    T: Steps = None
    name: ModelName = None
    connect: Connect = None

    def keywords(self) -> dict[str, Any]:
        """The options that were given, as `load_analysis_input` takes them."""
        return given(**vars(self))


def flags_of(function: Callable[..., Any]) -> dict[str, str]:
    """The options of a command by their names in Python: of a config its fields, with their section and without."""
    flags: dict[str, str] = {}
    for name, hint in get_type_hints(function, include_extras=True).items():
        flags |= flags_of_field(name, hint, prefix="")
    return flags


def flags_of_field(name: str, hint: Any, prefix: str) -> dict[str, str]:
    kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    given_name = next((note.name for note in notes if getattr(note, "name", None) is not None), None)
    word = name.replace("_", "-") if given_name is None else given_name
    if not is_dataclass(kind):
        return {prefix + name: f"--{prefix}{word}"}
    inner = f"{prefix}{word}." if word else prefix
    found: dict[str, str] = {}
    for inside, inside_hint in get_type_hints(kind, include_extras=True).items():
        found |= flags_of_field(inside, inside_hint, inner)
    return {name.rpartition(".")[2]: flag for name, flag in found.items()} | found


def require_folders(*files: Path | None) -> None:
    """Refuse files that could not be written after long work, as there is no folder for them."""
    for file in filter(None, files):
        disk.require_folder_of(file)


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
