"""What a reproduction leaves: numbers as JSON, a table and what it says as Markdown, pictures."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import disk
from ..engine.build import choose_device
from ..engine.run.folder import environment
from ..version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 100  # of a table on a page
Rows = Sequence[Sequence[Any]]  # the names of the columns first


@dataclass
class Claim:
    """Something the paper says, whether it came out so here, and the numbers."""

    says: str
    holds: bool
    evidence: str


@dataclass
class Result:
    """What came out.

    rows:      the numbers
    claims:    the paper's statements, each held against what was measured
    pictures:  by name
    table:     what the page shows in place of `rows`: fewer columns
    device:    that computed
    """

    name: str
    title: str
    about: str
    rows: Rows
    claims: list[Claim] = field(default_factory=list)
    pictures: "dict[str, Figure]" = field(default_factory=dict)
    seconds: float = 0.0
    table: Rows | None = None
    device: str = "cpu"

    def save(self, folder: Path, command: str) -> list[Path]:
        """Write NAME.json, NAME.md and the pictures as SVG and PNG; the files."""
        folder.mkdir(parents=True, exist_ok=True)
        where = this_machine(self.device)
        numbers = {
            "name": self.name,
            "title": self.title,
            "columns": self.rows[0],
            "rows": self.rows[1:],
            "claims": [vars(claim) for claim in self.claims],
            "command": command,
            "machine": where,
            "seconds": round(self.seconds, 1),
            "spikewise": __version__,
        }
        files = [folder / f"{self.name}.json", folder / f"{self.name}.md"]
        disk.atomic_write(files[0], (json.dumps(numbers, indent=1) + "\n").encode())
        for picture, figure in self.pictures.items():
            for suffix in ("svg", "png"):
                files.append(folder / f"{picture}.{suffix}")
                figure.savefig(files[-1], dpi=200, metadata={"Date": None} if suffix == "svg" else None)
        disk.atomic_write(files[1], self.markdown(command, where).encode())
        return files

    def markdown(self, command: str, where: str) -> str:
        lines = [f"# {self.title}", "", self.about, ""]
        for picture in self.pictures:
            lines += [f"![{self.title}]({picture}.svg)", ""]
        if self.claims:
            claims = [[claim.says, "so" if claim.holds else "**otherwise**", claim.evidence] for claim in self.claims]
            lines += [*as_markdown([["the paper says", "here", "measured"], *claims]), ""]
        shown = self.rows if self.table is None else self.table
        lines += as_markdown(shown[: MOST_ROWS + 1])
        if len(shown) > MOST_ROWS + 1:
            lines += ["", f"The other {len(shown) - 1 - MOST_ROWS} rows are in [{self.name}.json]({self.name}.json)."]
        made = [["command", "machine", "time"], [f"`{command}`", where, duration(self.seconds)]]
        return "\n".join([*lines, "", *as_markdown(made), ""])


def as_markdown(rows: Rows) -> list[str]:
    """Lines of a table."""
    head, *rest = ["| " + " | ".join(map(shown_as, row)) + " |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *rest]


def shown_as(value: Any) -> str:
    """A number as a table has room for it."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """A time in the unit that fits."""
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def machine(found: dict[str, Any]) -> str:
    """The processor, or the GPU, of an environment as run folders hold it."""
    processor = found["cpu"] if found["device"] in ("cpu", "mps") else found["device"]
    threads = f"{found['threads']} thread" + "s" * (found["threads"] != 1)
    return f"{processor}, {threads}, torch {found['torch']}"


def this_machine(device: str = "cpu") -> str:
    return machine(environment(choose_device(device), "auto"))


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.began = time.perf_counter()

    def __float__(self) -> float:
        return time.perf_counter() - self.began
