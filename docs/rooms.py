"""Draws the rooms of the package from its imports: `python docs/rooms.py` writes docs/rooms.svg.

A box is a room, its area about its lines of code; rows are the floors of `pyproject.toml`, the ground at the bottom. An arrow
goes from a room to what it imports; those between neighbouring floors are dark, the others light.
"""

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "src" / "spikewise"
WIDTH, FLOOR, GAP = 960, 92, 26
NOTES = {
    "cli": "commands",
    "report": "a page about runs",
    "paper": "the paper's figures and tables",
    "analysis": "rates, gradients, energy, diagnosis",
    "export": "ONNX, NIR, whole numbers",
    "conversion": "ReLU to spikes",
    "recipes": "named configs",
    "engine": "loop, step, loader; what leaves is a run folder",
    "models": "layers, blocks, networks, weights, streams",
    "neurons": "IF, LIF, PLIF",
    "kernels": "fused operation: spec, reference, cpu, triton",
    "data": "where data enters: sets, events, images",
    "config": "what a run depends on",
    "version": "",
    "native": "C sources",
    "disk": "crash-safe writes",
    "aliases": "old names",
    "wording": "names in messages",
    "progress": "of long work",
    "durations": "20ms, 1.5min",
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports from."""
    depth, rooms = len(path.relative_to(PACKAGE).parts) - 1, set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth + 1:
            rooms |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return rooms


def draw() -> str:
    contract = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    floors = [[room.strip() for room in floor.split("|")] for floor in contract["layers"]]
    lines, arrows = defaultdict(int), set()
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".c", ".h", ".inc"):
            lines[room_of(path)] += len(path.read_text().splitlines())
        if path.suffix == ".py":
            arrows |= {(room_of(path), other) for other in imported_rooms(path)}
    boxes = {}
    for number, floor in enumerate(floors):
        weights = [max(lines[room], 350) ** 0.5 for room in floor]
        unit = (WIDTH - 40 - GAP * (len(floor) - 1)) / max(sum(weights), 75)
        x = (WIDTH - unit * sum(weights) - GAP * (len(floor) - 1)) / 2
        for room, weight in zip(floor, weights, strict=True):
            boxes[room] = (x, 20 + number * FLOOR, unit * weight, number)
            x += unit * weight + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {FLOOR * len(floors)}" font-family="sans-serif">',
        '<defs><marker id="head" markerWidth="7" markerHeight="7" refX="6" refY="3" orient="auto">'
        '<path d="M0,0 L6,3 L0,6 z" fill="context-stroke"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{FLOOR * len(floors)}" fill="#ffffff"/>',
    ]
    for room, other in sorted(arrows):
        if room in boxes and other in boxes and room != other:
            (x, y, w, floor), (ox, oy, ow, other_floor) = boxes[room], boxes[other]
            style = 'stroke="#5b6b7d" stroke-width="1.4"' if other_floor - floor == 1 else 'stroke="#c9d2dc" stroke-width="1"'
            begin = x + w / 2 + (ox + ow / 2 - x - w / 2) * 0.15
            parts.append(
                f'<line x1="{begin:.0f}" y1="{y + 48}" x2="{ox + ow / 2:.0f}" y2="{oy - 2}" {style} marker-end="url(#head)"/>'
            )
    for room, (x, y, w, _) in boxes.items():
        title = f"{room}" if w < 190 else f"{room}  ({lines[room]:,} lines)"
        parts.append(f'<rect x="{x:.0f}" y="{y}" width="{w:.0f}" height="48" rx="6" fill="#e8f0f8" stroke="#5b6b7d"/>')
        centered = f'x="{x + w / 2:.0f}" text-anchor="middle"'
        parts.append(f'<text {centered} y="{y + 20}" font-size="13" font-weight="bold">{title}</text>')
        if w >= 5.6 * len(NOTES[room]):
            parts.append(f'<text {centered} y="{y + 37}" font-size="11">{NOTES[room]}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    (HERE / "rooms.svg").write_text(draw())
