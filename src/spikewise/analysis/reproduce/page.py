"""What a reproduction leaves: numbers as JSON, a table and what it says as Markdown, pictures."""

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ... import disk
from ...version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 100  # of a table on a page


@dataclass(frozen=True)
class Options:
    """How a reproduction is made.

    images:  a folder of photographs; None: the embedded digits, enlarged
    size:    side of the images in pixels
    batch:   images
    seed:    of weights and labels
    """

    images: Path | None = None
    size: int = 112
    batch: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 32:
            raise ValueError(f"size={self.size} pixels; 152 layers halve an image five times: use 32 or more")
        if self.batch < 2:
            raise ValueError(f"batch={self.batch}; batch norm needs 2 or more images")


@dataclass
class Claim:
    """Something the paper says, whether it came out so here, and the numbers."""

    says: str
    holds: bool
    evidence: str


@dataclass
class Result:
    """What came out.

    rows:     a table: column names first
    claims:   the paper's statements, each held against what was measured
    pictures: by name
    """

    name: str
    title: str
    about: str
    rows: Sequence[Sequence[Any]]
    claims: list[Claim] = field(default_factory=list)
    pictures: "dict[str, Figure]" = field(default_factory=dict)
    seconds: float = 0.0

    def save(self, folder: Path, command: str) -> list[Path]:
        """Write NAME.json, NAME.md and the pictures as SVG and PNG; the files."""
        folder.mkdir(parents=True, exist_ok=True)
        where = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
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
        disk.replace(files[0], (json.dumps(numbers, indent=1) + "\n").encode())
        for picture, figure in self.pictures.items():
            for suffix in ("svg", "png"):
                files.append(folder / f"{picture}.{suffix}")
                figure.savefig(files[-1], dpi=160, metadata={"Date": None} if suffix == "svg" else None)
        disk.replace(files[1], self.markdown(command, where).encode())
        return files

    def markdown(self, command: str, where: str) -> str:
        lines = [f"# {self.title}", "", self.about, ""]
        for picture in self.pictures:
            lines += [f"![{self.title}]({picture}.svg)", ""]
        if self.claims:
            lines += ["| the paper says | here | measured |", "|---|---|---|"]
            lines += [
                f"| {claim.says} | {'so' if claim.holds else '**otherwise**'} | {claim.evidence} |" for claim in self.claims
            ]
            lines.append("")
        lines += ["| " + " | ".join(map(str, self.rows[0])) + " |", "|" + "---|" * len(self.rows[0])]
        lines += ["| " + " | ".join(map(shown, row)) + " |" for row in self.rows[1 : MOST_ROWS + 1]]
        if len(self.rows) > MOST_ROWS + 1:
            lines += ["", f"The other {len(self.rows) - 1 - MOST_ROWS} rows are in [{self.name}.json]({self.name}.json)."]
        lines += ["", f"`{command}`, {self.seconds:.0f} s; {where}.", ""]
        return "\n".join(lines)


def shown(value: Any) -> str:
    """A number as a table has room for it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.began = time.perf_counter()

    def __float__(self) -> float:
        return time.perf_counter() - self.began
