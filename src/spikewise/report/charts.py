"""Charts as Plotly takes them: plain dicts of traces and layout, and beside each its numbers as a table.

Colours are names of the page's own, var(--series-1), which it replaces by those of its light or dark theme.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..wording import count

NUM_COLOURS = 8  # of runs, in page.css
HEIGHT = 320  # of a chart without rows, in pixels
MAX_POINTS = 600  # of a curve; more are thinned, and the caption says so
MAX_MARKED = 15  # points of a curve that has marks
MAX_ROWS = 12  # of a curve's table
MAX_CELL_TEXTS = 12  # rows of a heat map whose cells show their numbers
HEAT = [[0, "var(--heat-0)"], [0.5, "var(--heat-1)"], [1, "var(--heat-2)"]]
Rows = Sequence[Sequence[Any]]  # the names of the columns first


class Line(NamedTuple):
    """A curve. Where y is None it has a gap.

    dash:    solid, dash, dot or dashdot
    behind:  whether it is shown for comparison: the table has its values at the places of the others
    """

    label: str
    xs: Sequence[Any]
    ys: Sequence[float | None]
    colour: str
    dash: str = "solid"
    width: float = 2
    markers: bool = False
    behind: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    name:    identifies it on the page
    title:   what it shows, which a screen reader reads
    figure:  data and layout, as Plotly takes them
    rows:    its numbers
    note:    what else is to be said of it
    legend:  of each trace, in their order: label, colour and dash; () where none is needed
    """

    name: str
    title: str
    figure: dict[str, Any]
    rows: Rows
    note: str = ""
    legend: tuple[tuple[str, str, str], ...] = ()

    @property
    def height(self) -> int:
        """In pixels."""
        return self.figure["layout"].get("height", HEIGHT)


def series_colour(number: int) -> str:
    """Of the run of that number, from 0."""
    return f"var(--series-{number % NUM_COLOURS + 1})"


def thin(xs: Sequence[Any], ys: Sequence[float | None], limit: int = MAX_POINTS) -> tuple[list[Any], list[float | None]]:
    """At most `limit` points of a curve: its ends, and of every stretch the lowest and the highest, so that no peak is lost.

    A stretch without a number keeps its first point, as a gap.
    """
    if len(xs) <= limit:
        return list(xs), list(ys)
    kept, stretches = {0, len(xs) - 1}, limit // 2 - 1
    for stretch in range(stretches):
        places = range(stretch * len(xs) // stretches, (stretch + 1) * len(xs) // stretches)
        numbers = [(y, i) for i in places if (y := ys[i]) is not None]
        kept |= {min(numbers)[1], max(numbers)[1]} if numbers else {places[0]}
    places_kept = sorted(kept)
    return [xs[i] for i in places_kept], [ys[i] for i in places_kept]


def line_chart(
    name: str,
    title: str,
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    log: bool = False,
    percent: bool = False,
    zero: bool = False,
    note: str = "",
) -> Chart:
    """Curves over x: epochs, steps or blocks.

    x, y:  titles of the axes
    log:   whether y is logarithmic; what is not above 0 has no place there
    zero:  whether y begins at 0
    """
    traces = []
    for line in lines:
        xs, ys = thin(line.xs, [finite(value) for value in line.ys])
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if line.markers or len(xs) <= MAX_MARKED else "lines",
                "name": line.label,
                "x": xs,
                "y": ys,
                "line": {"color": line.colour, "dash": line.dash, "width": line.width},
                "marker": {"size": 6, "color": line.colour},
                "hovertemplate": f"%{{y:{'.2f' if percent else '.4~g'}}}{' %' if percent else ''}",
            }
        )
    longest = max(len(line.xs) for line in lines)
    if longest > MAX_POINTS:
        note += (
            f" Of {count(longest, 'point')} a curve shows {MAX_POINTS} at most: the lowest and highest of every stretch, "
            "so that no peak is lost."
        )
    layout = {
        "hovermode": "x unified",
        "xaxis": {"title": {"text": x}} | x_axis(lines[0].xs[0], longest),
        "yaxis": {"title": {"text": y}, "type": "log" if log else "linear", "exponentformat": "power"}
        | ({"rangemode": "tozero"} if zero else {}),
    }

    legend = tuple((line.label, line.colour, line.dash) for line in lines) if len(lines) > 1 else ()
    return Chart(name, title, {"data": traces, "layout": layout}, line_rows(lines, x), note.strip(), legend)


def x_axis(first: Any, longest: int) -> dict[str, Any]:
    """Names as they are, of which none is left out; whole numbers without anything between them."""
    return {"type": "category"} if isinstance(first, str) else {"dtick": 1} if longest <= MAX_MARKED else {}


def line_rows(lines: Sequence[Line], x: str) -> Rows:
    """Numbers of curves at no more than MAX_ROWS places: blocks all, epochs from the first to the last."""
    places = list(dict.fromkeys(x for line in lines if not line.behind for x in line.xs))
    if len(places) > MAX_ROWS and not isinstance(places[0], str):
        places.sort()
        places = [places[round(i * (len(places) - 1) / (MAX_ROWS - 1))] for i in range(MAX_ROWS)]
    values = [dict(zip(line.xs, line.ys, strict=True)) for line in lines]
    return [[x, *(line.label for line in lines)], *([place, *(of.get(place) for of in values)] for place in places)]


def heat_map(
    name: str,
    title: str,
    values: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[Any],
    *,
    x: str,
    y: str,
    unit: str,
    whole: bool = False,
    note: str = "",
) -> Chart:
    """A map of numbers by row, the first on top, and column; a cell without a number stays empty.

    unit:   what the numbers are
    whole:  whether they are counts
    """
    cells = [[finite(value) for value in row] for row in values]
    shown = len(rows) <= MAX_CELL_TEXTS and len(columns) <= MAX_CELL_TEXTS
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": cells,
        "x": list(map(str, columns)),
        "y": list(rows),
        "colorscale": HEAT,
        "zmin": 0,
        "zmax": max((cell for row in cells for cell in row if cell is not None), default=1) or 1,
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"thickness": 10, "outlinewidth": 0, "len": 1},
        "hovertemplate": f"{y} %{{y}}<br>{x} %{{x}}<br>{unit} %{{z:{',d' if whole else '.4~g'}}}<extra></extra>",
    }
    if shown and whole:
        trace |= {"text": [[f"{cell:,}" if cell else "" for cell in row] for row in cells], "texttemplate": "%{text}"}
    elif shown:
        trace["texttemplate"] = "%{z:.2~g}"
    layout = {
        "height": min(900, max(220, 22 * len(rows) + 110)),
        "xaxis": {"title": {"text": x}, "type": "category", "showgrid": False},
        "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False, "title": {"text": y}},
    }
    table = [[y, *columns], *([row, *line] for row, line in zip(rows, cells, strict=True))]
    return Chart(name, title, {"data": [trace], "layout": layout}, table, note)


def bar_chart(
    name: str, title: str, bars: Sequence[tuple[str, str, Sequence[float | None]]], labels: Sequence[str], **options: Any
) -> Chart:
    """Bars that lie, of each label one per entry of `bars` (name, colour, values).

    options:  x the axis's title, stacked, percent, note
    """
    percent = options.get("percent", False)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": of,
            "x": [finite(value) for value in values],
            "y": list(labels),
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}}: %{{x:{'.1f' if percent else ',.4~g'}}}{' %' if percent else ''}<extra>{of}</extra>",
        }
        for of, colour, values in bars
    ]
    stacked = options.get("stacked", False)
    thickness = 22 if stacked else 14 * len(bars) + 8
    layout = {
        "bargap": 0.25,
        "barmode": "stack" if stacked else "group",
        "height": min(1600, thickness * len(labels) + 90),
        "xaxis": {"title": {"text": options["x"]}} | ({"range": [0, 100.5]} if percent else {}),
        "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False},
    }
    table: Rows = [["", *(of for of, _, _ in bars)], *([label, *(v[i] for _, _, v in bars)] for i, label in enumerate(labels))]
    legend = tuple((of, colour, "solid") for of, colour, _ in bars) if len(bars) > 1 else ()
    return Chart(name, title, {"data": traces, "layout": layout}, table, options.get("note", ""), legend)


def finite(value: float | None) -> float | None:
    """Rounded to the six digits that a chart can show; None of what is no number: JSON has neither NaN nor infinity."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")
