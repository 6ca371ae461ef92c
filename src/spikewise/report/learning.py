"""Sections on what was learned: the result of each run, and loss and accuracy by epoch beside the published log."""

from collections.abc import Sequence
from typing import Any

from ..durations import format_duration
from ..engine.metrics import Result, read_result
from ..paper.published_logs import Epochs, log_of_recipe, read_published_logs
from ..wording import count
from .charts import Line, line_chart, series_colour
from .html import escape, heading, missing, paragraph
from .measure import Missing
from .record import RunRecord

CURVES = (  # title, unit, factor, key in metrics.jsonl after train_, test_ and val_, and in the published logs
    ("Loss", "loss", 1, "loss", "loss"),
    ("Accuracy", "accuracy, %", 100, "accuracy", "acc1"),
)
SPLITS = (("train", "train", "dot"), ("test", "test", "solid"), ("val", "validation", "dashdot"))
NO_EPOCH = "No epoch is finished yet: there is no curve. `spikewise train --resume RUN` goes on."


def result_section(records: Sequence[RunRecord]) -> str:
    return "".join(run_tiles(record, named=len(records) > 1) for record in records)


def run_tiles(record: RunRecord, *, named: bool) -> str:
    """The numbers of a run that are asked for first."""
    total = record.config.optim.epochs
    tiles = [("epochs", f"{len(record.epochs):,} of {total:,}", "finished" if record.is_complete else "in the middle")]
    if record.epochs:
        tiles = [*accuracy_tiles(read_result(record.path, record.config)), *tiles]
    seconds = sum(line["seconds"] for line in record.timing)
    if record.timing:
        tiles.append(("time of training", format_duration(seconds), record.environment.get("device", "")))
    measured = record.measured
    if not isinstance(measured, Missing):
        tiles.append(("parameters", f"{measured.parameters:,}", record.config.model.name))
        if not isinstance(measured.energy, Missing):
            microjoules = measured.energy.costs[0].total / 1e6
            tiles.append(("energy of one inference", f"{microjoules:,.3g} µJ", "estimate; float32, see below"))
    content = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in tiles
    )
    unfinished = "" if record.is_complete else missing(f"{progress(record)} Numbers are those so far.")
    name = heading(f"{record.label}: {describe(record)}") if named else ""
    return f"{name}{unfinished}<dl class=tiles>{content}</dl>"


def describe(record: RunRecord) -> str:
    config = record.config
    return f"{config.model.name} on {config.data.name}"


def progress(record: RunRecord) -> str:
    return (
        f"{len(record.epochs):,} of {count(record.config.optim.epochs, 'epoch')} are done; "
        f"`spikewise train --resume {record.path}` goes on."
    )


def accuracy_tiles(result: Result) -> list[tuple[str, str, str]]:
    chosen = "chosen on the test split" if result.chosen_on == "test" else "chosen on validation samples"
    return [
        ("test accuracy, last epoch", f"{100 * result.final:.1f} %", f"{result.correct:,} of {result.total:,}"),
        ("best epoch", f"{100 * result.best:.1f} %", f"epoch {result.best_epoch:,}, {chosen}"),
        (f"mean of the last {count(result.num_averaged, 'epoch')}", f"{100 * result.mean_last_epochs:.1f} %", "test accuracy"),
    ]


def curves_section(records: Sequence[RunRecord]) -> tuple[list[Any], str]:
    """Charts of loss and accuracy, and what is said around them."""
    shown = [record for record in records if record.epochs]
    logs = published_logs(shown)
    charts = []
    for title, unit, factor, key, published_key in CURVES if shown else ():
        lines = [
            line
            for number, (name, epochs) in enumerate(logs.items())
            for line in published_lines(name, epochs, published_key, DASHES[number % len(DASHES)])
        ]
        for number, record in enumerate(records):
            lines += run_lines(record, series_colour(number), factor, key, named=len(records) > 1)
        charts.append(
            line_chart(f"curve-{key}", title, lines, x="epoch", y=unit, percent=factor == 100, note=curve_note(shown))
        )
    text = "".join(missing(f"{record.label}: {NO_EPOCH}") for record in records if not record.epochs)
    return charts, text + published_text(records, logs)


DASHES = ("dash", "longdash", "longdashdot")


def curve_note(records: Sequence[RunRecord]) -> str:
    smoothed = any(record.config.optim.ema_decay for record in records)
    average = " Test: of the weights' moving average, where a run keeps one." if smoothed else ""
    return f"Training is dotted: a running mean over the epoch, with augmentation.{average}"


def run_lines(record: RunRecord, colour: str, factor: int, key: str, *, named: bool) -> list[Line]:
    lines = []
    for split, word, dash in SPLITS:
        points = [(line["epoch"], factor * line[f"{split}_{key}"]) for line in record.epochs if f"{split}_{key}" in line]
        if points:
            label = f"{record.label}, {word}" if named else word
            xs, ys = zip(*points, strict=True)
            lines.append(Line(label, xs, ys, colour, dash, width=1.5 if split == "train" else 2.5))
    return lines


def published_logs(records: Sequence[RunRecord]) -> dict[str, Epochs]:
    """The published logs of the runs' recipes, each once."""
    names = dict.fromkeys(log_of_recipe(record.config.recipe) for record in records)
    logs = read_published_logs() if any(names) else {}
    return {name: logs[name] for name in names if name in logs}


def published_lines(name: str, epochs: Epochs, key: str, dash: str) -> list[Line]:
    lines = []
    for split in ("train", "test"):
        points = [(int(epoch["epoch"]) + 1, epoch[f"{split}_{key}"]) for epoch in epochs if f"{split}_{key}" in epoch]
        if points:
            xs, ys = zip(*points, strict=True)
            label, style = f"published, {name}: {split}", dash if split == "test" else "dot"
            lines.append(Line(label, xs, ys, "var(--published)", style, width=1.5, behind=True))
    return lines


def published_text(records: Sequence[RunRecord], logs: dict[str, Epochs]) -> str:
    if not logs:
        recipes = ", ".join(dict.fromkeys(record.config.recipe for record in records))
        return paragraph(f"There is no published curve of this recipe ({recipes}): the authors published logs of theirs only.")
    return paragraph(
        f"Grey: the authors' published log of the same recipe ({', '.join(logs)}). Where a run's config was changed, "
        "the section on the config says how."
    )
