"""Sections on what a run depends on: config, machine, what differs between runs, and the command that makes it again."""

import shlex
from collections.abc import Sequence
from typing import Any

from ..config import Config
from ..engine.run.fingerprint import flatten_config
from ..paper.runs import train_command
from ..recipes import RECIPES
from .html import command, details, heading, missing, paragraph, table
from .record import MACHINE, RunRecord


def config_section(records: Sequence[RunRecord]) -> str:
    parts = [differences(records)] if len(records) > 1 else []
    for record in records:
        name = heading(record.label) if len(records) > 1 else ""
        parts.append(name + changed_fields(record) + environment_table(record))
        fields = [[field, show(value)] for field, value in flatten_config(record.config).items()]
        parts.append(details("The whole config", table([["field", "value"], *fields], f"Config of {record.label}")))
    return "".join(parts)


def show(value: Any) -> str:
    """A value of a config as JSON's reader knows it."""
    return "none" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def differences(records: Sequence[RunRecord]) -> str:
    """What differs between the runs: fields of configs, and what they ran on."""
    machines = [{f"machine: {key}": record.environment.get(key) for key in MACHINE} for record in records]
    columns = [flatten_config(record.config) | machine for record, machine in zip(records, machines, strict=True)]
    rows = [
        [field, *(show(column.get(field)) for column in columns)]
        for field in columns[0]
        if any(column.get(field) != columns[0][field] for column in columns)
    ]
    title = heading("What differs between the runs")
    if not rows:
        return title + paragraph("Nothing: neither the configs nor the machines differ.")
    return title + table([["", *(record.label for record in records)], *rows], "What differs between the runs")


def changed_fields(record: RunRecord) -> str:
    recipe, config = record.config.recipe, record.config
    start = RECIPES[recipe]() if recipe in RECIPES else Config()
    of = f"the recipe {recipe}" if recipe in RECIPES else "the defaults"
    before, now = flatten_config(start), flatten_config(config)
    rows = [
        [field, show(before[field]), show(value)]
        for field, value in now.items()
        if before[field] != value and field != "recipe"
    ]
    if not rows:
        return paragraph(f"Exactly {of}.")
    return table([["field", of, "this run"], *rows], f"What differs from {of}")


def environment_table(record: RunRecord) -> str:
    first = record.environment
    if not first:
        return missing("Where it ran is not known: environment.json is missing, or can't be read.")
    resumed = first.get("resumed")
    columns = [first, *(one for one in resumed if isinstance(one, dict))] if isinstance(resumed, list) else [first]
    head = ["", "begun", *(f"resumed, {i}" for i in range(1, len(columns)))]
    rows = [[key, *(show(column.get(key)) for column in columns)] for key in MACHINE]
    return details("Where it ran", table([head, *rows], f"Where {record.label} ran"))


def again_section(records: Sequence[RunRecord]) -> str:
    parts = []
    for record in records:
        name = heading(record.label) if len(records) > 1 else ""
        parts.append(name + commands_of(record))
    together = shlex.join(["spikewise", "report", *(str(record.path) for record in records)])
    return "".join(parts) + heading("This page") + command(together)


def commands_of(record: RunRecord) -> str:
    config, done = record.config, len(record.epochs)
    if config.recipe in RECIPES:
        made, text = train_command(config, done or config.optim.epochs), "Train the same network again:"
    else:
        made = shlex.join(
            ["spikewise", "train", "--from", str(record.path), "--weights", str(config.weights), "--out", "AGAIN"]
        )
        text = f"The recipe {config.recipe!r} is not registered here, as of a run begun in Python. From its folder:"
    seen = config.data.root
    where = f" Its data lay in {seen}; $SPIKEWISE_DATA or --data.root says where it lies now." if seen else ""
    resume = ""
    if not record.is_complete:
        resume = paragraph("Go on with it:") + command(shlex.join(["spikewise", "train", "--resume", str(record.path)]))
    if record.environment.get("device", "cpu") == "cpu" or config.optim.deterministic:
        same = "On the same kind of machine, with as many threads, the bytes are the same."
    else:
        same = "On a GPU without --optim.deterministic the last digits may differ."
    return paragraph(text) + command(made) + resume + paragraph(same + where)
