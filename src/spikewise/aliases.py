"""Old public names and their new ones: modules, config fields, flags of commands, words. The one place that knows them.

What a command line or an import still says in these old words works as before and is told the new word once. Files are
read silently: a run folder keeps what was written.
"""

import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

MODULES = {  # modules below a moved package move with it
    "spikewise.analysis.initial": "spikewise.analysis.block_stats",
    "spikewise.analysis.opened": "spikewise.analysis.load",
    "spikewise.analysis.pictures": "spikewise.analysis.sample_images",
    "spikewise.analysis.diagnose": "spikewise.analysis.diagnosis.diagnose",
    "spikewise.analysis.reproduce": "spikewise.paper",
    "spikewise.analysis_commands": "spikewise.cli.analysis",
    "spikewise.data_commands": "spikewise.cli.data",
    "spikewise.plan_command": "spikewise.cli.plan",
    "spikewise.reproduce_command": "spikewise.cli.paper",
    "spikewise.data.cifar10dvs": "spikewise.data.datasets.cifar10_dvs",
    "spikewise.data.download": "spikewise.data.fetch.download",
    "spikewise.data.dvsgesture": "spikewise.data.datasets.dvs_gesture",
    "spikewise.data.event_folder": "spikewise.data.datasets.event_folder",
    "spikewise.data.folder": "spikewise.data.datasets.image_folder",
    "spikewise.data.formats": "spikewise.data.events.formats",
    "spikewise.data.frames": "spikewise.data.events.frames",
    "spikewise.data.idx": "spikewise.data.images.idx",
    "spikewise.data.nmnist": "spikewise.data.datasets.nmnist",
    "spikewise.data.order": "spikewise.data.sampler",
    "spikewise.data.photographs": "spikewise.data.images.photographs",
    "spikewise.data.pictures": "spikewise.data.events.plot",
    "spikewise.data.prepare": "spikewise.data.fetch.prepare",
    "spikewise.data.recordings": "spikewise.data.events.recordings",
    "spikewise.data.samples": "spikewise.data.dataset",
    "spikewise.data.shards": "spikewise.data.datasets.image_shards",
    "spikewise.data.simulate": "spikewise.data.events.simulate",
    "spikewise.data.summary": "spikewise.data.events.summary",
    "spikewise.data.unpack": "spikewise.data.fetch.unpack",
    "spikewise.engine.allocator": "spikewise.engine.memory.allocator",
    "spikewise.engine.average": "spikewise.engine.ema",
    "spikewise.engine.batches": "spikewise.engine.loader",
    "spikewise.engine.checkpoint": "spikewise.engine.run.checkpoint",
    "spikewise.engine.identity": "spikewise.engine.run.fingerprint",
    "spikewise.engine.ledger": "spikewise.engine.memory.estimate",
    "spikewise.engine.plan": "spikewise.engine.memory.plan",
    "spikewise.engine.rundir": "spikewise.engine.run.folder",
    "spikewise.engine.trainer": "spikewise.engine.loop",
    "spikewise.engine.training": "spikewise.engine.step",
    "spikewise.engine.report": "spikewise.engine.metrics",
    "spikewise.kernels.convolve": "spikewise.kernels.spike_conv",
    "spikewise.kernels.cuda": "spikewise.kernels.triton",
    "spikewise.kernels.dynamics": "spikewise.kernels.spec",
    "spikewise.models.blocks": "spikewise.models.residual",
    "spikewise.models.names": "spikewise.models.key_maps",
    "spikewise.models.probe": "spikewise.models.recorder",
    "spikewise.models.recognise": "spikewise.models.infer_spec",
    "spikewise.models.zoo": "spikewise.models.registry",
}
PACKAGES = {  # packages that bear the name of an old module, and where its contents are
    "spikewise.cli": "spikewise.cli.main",
    "spikewise.data.events": "spikewise.data.events.events",
    "spikewise.data.images": "spikewise.data.images.arrays",
}
FIELDS = {  # of Config; their flags, too
    "keep": "retention",
    "keep.mean_of_last": "retention.num_last_averaged",
    "keep.probe_every": "retention.probe_every_steps",
    "data.frames": "data.num_frames",
    "data.part": "data.split_variant",
    "data.rule": "data.split_by",
    "data.warp": "data.affine",
    "optim.w_lr": "optim.plif_lr_multiplier",
}
FLAGS = {  # by command, "": of all; the config's are in FIELDS
    "": {"data-root": "data.root", "root": "data.root"},
    "train": {"until": "stop-epoch"},
    "reproduce": {"budget": "max-epochs"},
    "diagnose": {"name": "model"},
    "energy": {"name": "model"},
    "events show": {"frames": "num-frames"},
}
WORDS = {"rectangle": "rectangular", "triangle": "triangular"}  # surrogates
WORD_FLAGS = ("model.surrogate", "model.last-surrogate")  # whose values may be such words
NAMES = {"spikewise.config": {"Keep": "Retention"}}  # in modules that bear the same name as before

T = TypeVar("T")


def renamed(word: Any) -> Any:
    """The new word for an old one; anything else as it is."""
    return WORDS.get(word, word) if isinstance(word, str) else word


def renamed_by_user(word: Any) -> Any:
    """`renamed`, of what a program says and no file: with a warning at the line that says it, the first outside the package."""
    if renamed(word) != word:
        frame, level = sys._getframe(1), 2
        while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("spikewise."):
            frame, level = frame.f_back, level + 1
        warn(repr(word), repr(renamed(word)), level=level)
    return renamed(word)


def renamed_field(name: str) -> str:
    """The config field `section.field` by its new name."""
    section, dot, field = name.partition(".")
    return FIELDS.get(name) or FIELDS.get(section, section) + dot + field


def rename_fields(content: dict[str, Any]) -> dict[str, Any]:
    """A config as a dict of sections, its fields by their new names."""
    result: dict[str, Any] = {}
    for section, fields in content.items():
        if not isinstance(fields, dict):
            result[renamed_field(section)] = fields
            continue
        here = result.setdefault(renamed_field(section), {})
        here |= {renamed_field(f"{section}.{name}").partition(".")[2]: renamed(value) for name, value in fields.items()}
    return result


def rename_flags(command: str, args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments of a command with new flags in place of old ones, and a notice of each."""
    tables = [table for name, table in FLAGS.items() if not name or f"{command} ".startswith(f"{name} ")]
    flags = {old: new for table in tables for old, new in table.items()}
    result, notices = list(args), []
    for place, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        old = flag.removeprefix("--").replace("_", "-")
        if flag.startswith("--") and old in WORD_FLAGS:
            word = value if equals else args[place + 1] if place + 1 < len(args) else ""
            if word in WORDS:
                result[place : place + 1 if equals else place + 2] = (
                    [f"{flag}={WORDS[word]}"] if equals else [flag, WORDS[word]]
                )
                notices.append(f"{word} is now {WORDS[word]}")
        new = renamed_field(old.replace("-", "_")).replace("_", "-") if "." in old else flags.get(old, old)
        if flag.startswith("--") and new != old:
            result[place] = f"--{new}{equals}{value}"
            notices.append(f"{flag} is now --{new}")
    return result, notices


def take_old_fields(section: str) -> Callable[[type[T]], type[T]]:
    """Let the config class of a section be made by its fields' old names, and show them."""
    pairs = [(old.rpartition("."), new.rpartition(".")) for old, new in FIELDS.items()]
    names = {old[2]: new[2] for old, new in pairs if new[0] == section}

    def decorate(kind: type[T]) -> type[T]:
        init = kind.__init__

        @functools.wraps(init)
        def __init__(self: T, **values: Any) -> None:
            old = {name: values.pop(name) for name in names if name in values}
            for name in old:
                warn(f"{kind.__name__}({name}=...)", f"{names[name]}=...", level=2)
            init(self, **values | {names[name]: value for name, value in old.items()})

        def __getattr__(self: T, name: str) -> Any:
            if name not in names:
                raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
            warn(f"{kind.__name__}.{name}", names[name], level=2)
            return getattr(self, names[name])

        setattr(kind, "__init__", __init__)  # noqa: B010  # mypy refuses the assignment
        setattr(kind, "__getattr__", __getattr__)  # noqa: B010
        return kind

    return decorate


def new_home(module: str) -> str | None:
    """Where a module lies now; None for one that was not moved."""
    package, _, name = module.rpartition(".")
    if module in MODULES:
        return MODULES[module]
    return f"{MODULES[package]}.{name}" if package in MODULES else None


def old_contents(package: str) -> Callable[[str], Any]:
    """`__getattr__` of a package that bears the name of an old module: what that module held."""
    home = PACKAGES[package]

    def __getattr__(name: str) -> Any:
        module = None if name.startswith("__") or f"{package}.{name}" == home else import_module(home)
        if module is None or not hasattr(module, name):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        warn(f"{package}.{name}", f"{home}.{name}", level=2)
        setattr(sys.modules[package], name, getattr(module, name))  # `from package import name` asks twice
        return getattr(module, name)

    return __getattr__


def old_names(module: str) -> Callable[[str], Any]:
    """`__getattr__` of a module that holds things under new names: the old ones lead to them."""

    def __getattr__(name: str) -> Any:
        new = NAMES[module].get(name)
        if new is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn(f"{module}.{name}", f"{module}.{new}", level=2)
        return getattr(sys.modules[module], new)

    return __getattr__


def warn(old: str, new: str, level: int) -> None:
    """Say so at the line that used the old name, `level` - 1 frames above the caller; the import system's do not count."""
    warnings.warn(f"{old} is now {new}", FutureWarning, stacklevel=level + 1)


class OldModules(MetaPathFinder, Loader):
    """Imports a moved module by its old name: the very same module object, with one FutureWarning."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if new_home(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        home = new_home(spec.name)
        assert home is not None, "find_spec found it"
        warn(spec.name, home, level=2)
        module = import_module(home)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None, "the import system has just set it"
        module.__spec__ = module.__spec__.loader_state  # back to the module's own


def install() -> None:
    """Let old module names be imported; before all other finders, which know a moved package's folder."""
    sys.meta_path.insert(0, OldModules())
