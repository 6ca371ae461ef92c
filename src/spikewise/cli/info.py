"""The commands `spikewise doctor` and `spikewise list`: what this machine and this package have."""

import json
from collections.abc import Mapping
from typing import Annotated

from tyro.conf import Positional, arg

from ..config import Config
from ..wording import count, unknown_name
from .options import Json


def doctor(as_json: Json = False) -> None:
    """What this machine can do, and which kernels run."""
    from ..engine.doctor import system_report

    facts = system_report()
    print(json.dumps(facts) if as_json else "\n".join(f"{name:<22} {value}" for name, value in facts.items()))


def list_tables(topic: Annotated[Positional[str], arg(metavar="TOPIC")] = "all", as_json: Json = False) -> None:
    """What there is to choose from: models, recipes, datasets, neurons, formats, filters and more.

    Args:
        topic: one of these tables
    """
    tables = all_tables()
    if topic not in ("all", *tables):
        raise ValueError(unknown_name("topic", topic, ["all", *tables]))
    chosen = tables if topic == "all" else {topic: tables[topic]}
    lines = {name: {key: describe_entry(entry) for key, entry in table.items()} for name, table in chosen.items()}
    if as_json:
        print(json.dumps(lines))
        return
    for name, table in lines.items():
        if topic == "all":
            print(f"{name}:")
        for key, line in table.items():
            print(f"  {key:<30} {line}")


def all_tables() -> dict[str, Mapping[str, object]]:
    """Every table from which an option takes its value, by topic."""
    from ..data import DATASETS
    from ..data.events import FILTERS, FORMATS, REPRESENTATIONS
    from ..kernels import BACKENDS, CONNECT, SURROGATES
    from ..models import MODELS
    from ..neurons import NEURONS
    from ..recipes import RECIPES

    return {
        "models": MODELS,
        "recipes": {name: recipe() for name, recipe in RECIPES.items()},
        "datasets": DATASETS,
        "neurons": NEURONS,
        "connections": CONNECT,
        "surrogates": SURROGATES,
        "backends": BACKENDS,
        "formats": FORMATS,
        "representations": REPRESENTATIONS,
        "filters": FILTERS,
    }


def describe_entry(entry: object) -> str:
    """What a table's entry is, in a line."""
    from ..data import DatasetEntry
    from ..data.events.filters import Filter
    from ..data.events.formats import Format
    from ..data.events.representations import Representation
    from ..kernels import Backend
    from ..models.registry import ModelEntry

    if isinstance(entry, Backend):
        return entry.unavailable_reason(None) or "runs here"
    if isinstance(entry, DatasetEntry | Format | Representation | Filter):
        return entry.description
    if isinstance(entry, Config):
        return f"{entry.model.name} {entry.model.connect} on {entry.data.name}, {count(entry.optim.epochs, 'epoch')}"
    if isinstance(entry, ModelEntry):
        if entry.block is None:
            return entry.layers
        blocks = sum(entry.stages) if entry.family != "event" else sum(count for _, count in entry.stages)
        kind = "bottleneck" if entry.bottleneck else "basic"
        return f"{entry.family} kind, {count(blocks, f'{kind} {entry.block.__name__}')}"
    return (entry.__doc__ or "").strip().partition("\n")[0]
