"""The report: its sections in their order, and the file that they make."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from .. import disk
from ..version import __version__
from ..wording import choice, count
from .blocks import diagnosis_section, gradients_section, rates_section
from .charts import NUM_COLOURS
from .classes import classes_section, samples_section
from .cost import energy_section, speed_section
from .html import Section, chart, escape, page, plotly_js, side_by_side
from .learning import curves_section, describe, result_section
from .measure import Scope
from .record import RunRecord, read_runs
from .setting import again_section, config_section


def learning_section(records: Sequence[RunRecord]) -> str:
    charts, text = curves_section(records)
    return text + side_by_side(map(chart, charts))


SECTIONS: dict[str, tuple[str, Callable[[Sequence[RunRecord]], str]]] = {  # anchor: heading, and what makes the content
    "result": ("Result", result_section),
    "curves": ("Loss and accuracy", learning_section),
    "diagnosis": ("Diagnosis", diagnosis_section),
    "rates": ("Firing rates", rates_section),
    "gradients": ("Gradients", gradients_section),
    "classes": ("Classes", classes_section),
    "samples": ("Samples", samples_section),
    "energy": ("Energy", energy_section),
    "speed": ("Speed and memory", speed_section),
    "config": ("Config", config_section),
    "again": ("Get it again", again_section),
}


class Written(NamedTuple):
    """What was written: the file, its bytes, its runs and sections."""

    file: Path
    bytes: int
    runs: list[str]
    sections: list[str]


def write_report(runs: Sequence[str | Path], out: str | Path | None = None, scope: Scope | None = None) -> Written:
    """Write one HTML file about runs, which opens without any network.

    runs:    run folders, 1 to 8
    out:     the file; None: report.html in the first run's folder
    scope:   how much of the test split is looked at
    Raises:  FileNotFoundError, ValueError for what is no run, or damaged; ValueError where Plotly is missing. Nothing is
             written then
    """
    paths = tuple(map(Path, runs))
    if not 1 <= len(paths) <= NUM_COLOURS:
        raise ValueError(f"a report shows 1 to {NUM_COLOURS} runs, given {len(paths)}; choose some")
    file = Path(out) if out is not None else paths[0] / "report.html"
    if out is not None:
        disk.require_folder_of(file)
    plotly_js()  # before long work
    records = read_runs(paths, scope or Scope())
    content = make_page(records).encode()
    disk.atomic_write(file.absolute(), content)
    return Written(file, len(content), [str(path) for path in paths], list(SECTIONS))


def make_page(records: Sequence[RunRecord]) -> str:
    sections = [Section(name, title, make(records)) for name, (title, make) in SECTIONS.items()]
    kinds = list(dict.fromkeys(map(describe, records)))
    title = kinds[0] if len(kinds) == 1 else f"{count(len(records), 'run')}: {choice(kinds).replace(' or ', ' and ')}"
    labels = ", ".join(record.label for record in records)
    which = f"{'Run' if len(records) == 1 else 'Runs'} {labels}"
    lead = f"{which}. Everything is in this one file; no network is needed."
    footer = f"<p>Made by spikewise {escape(__version__)}. Charts: Plotly.js (MIT licence).</p>"
    return page(title, lead, sections, footer)
