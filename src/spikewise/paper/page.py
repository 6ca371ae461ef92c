"""The page of a figure or table: numbers as JSON, table and claims as Markdown, figures as SVG and PNG."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import disk
from ..durations import format_duration
from ..engine.build import choose_device
from ..engine.run.folder import environment
from ..version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_ROWS = 100  # of a table on a page
Rows = Sequence[Sequence[Any]]  # the names of the columns first


@dataclass
class Claim:
    """A statement of the paper, whether it holds here, and the numbers."""

    statement: str
    holds: bool
    evidence: str


@dataclass
class Result:
    """A reproduced figure, table or equation.

    text:     what the page says first
    rows:     the numbers
    claims:   the paper's statements, each compared with what was measured
    figures:  by name
    table:    what the page shows instead of `rows`: fewer columns
    device:   that computed
    """

    name: str
    title: str
    text: str
    rows: Rows
    claims: list[Claim] = field(default_factory=list)
    figures: "dict[str, Figure]" = field(default_factory=dict)
    table: Rows | None = None
    device: str = "cpu"

    def save(self, folder: Path, command: str, seconds: float = 0.0) -> list[Path]:
        """Write NAME.json, NAME.md and the figures as SVG and PNG; return the files."""
        folder.mkdir(parents=True, exist_ok=True)
        machine = describe_this_machine(self.device)
        numbers = {
            "name": self.name,
            "title": self.title,
            "columns": self.rows[0],
            "rows": self.rows[1:],
            "claims": [vars(claim) for claim in self.claims],
            "command": command,
            "machine": machine,
            "seconds": round(seconds, 1),
            "spikewise": __version__,
        }
        files = [folder / f"{self.name}.json", folder / f"{self.name}.md"]
        disk.atomic_write(files[0], (json.dumps(numbers, indent=1) + "\n").encode())
        for name, figure in self.figures.items():
            for suffix in ("svg", "png"):
                files.append(folder / f"{name}.{suffix}")
                figure.savefig(files[-1], dpi=200, metadata={"Date": None} if suffix == "svg" else None)
        disk.atomic_write(files[1], self.markdown(command, machine, seconds).encode())
        return files

    def markdown(self, command: str, machine: str, seconds: float) -> str:
        lines = [f"# {self.title}", "", self.text, ""]
        for name in self.figures:
            lines += [f"![{self.title}]({name}.svg)", ""]
        if self.claims:
            claims = [[claim.statement, "so" if claim.holds else "**otherwise**", claim.evidence] for claim in self.claims]
            lines += [*as_markdown([["the paper says", "here", "measured"], *claims]), ""]
        table = self.rows if self.table is None else self.table
        lines += as_markdown(table[: MAX_ROWS + 1])
        if len(table) > MAX_ROWS + 1:
            lines += ["", f"The other {len(table) - 1 - MAX_ROWS} rows are in [{self.name}.json]({self.name}.json)."]
        made = [["command", "machine", "time"], [f"`{command}`", machine, format_duration(seconds)]]
        return "\n".join([*lines, "", *as_markdown(made), ""])


def as_markdown(rows: Rows) -> list[str]:
    """Lines of a table."""
    head, *rest = ["| " + " | ".join(map(format_cell, row)) + " |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *rest]


def format_cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def describe_machine(env: dict[str, Any]) -> str:
    """The processor, or the GPU, of an environment as run folders record it."""
    processor = env["cpu"] if env["device"] in ("cpu", "mps") else env["device"]
    threads = f"{env['threads']} thread" + "s" * (env["threads"] != 1)
    return f"{processor}, {threads}, torch {env['torch']}"


def describe_this_machine(device: str = "cpu") -> str:
    return describe_machine(environment(choose_device(device), "auto"))
