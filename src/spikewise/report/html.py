"""The page: text, tables, charts and sections as HTML, with everything that they need in the one file."""

import html
import json
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, NamedTuple

from .charts import Chart, Rows

# nothing may be asked of any network, whatever a run's names hold
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'"

# before the first paint, so that a dark page does not flash
THEME = 'document.documentElement.dataset.theme=matchMedia("(prefers-color-scheme: dark)").matches?"dark":"light"'


class Section(NamedTuple):
    """A part of the page: its anchor, its heading, and its HTML."""

    name: str
    title: str
    content: str


def escape(value: object) -> str:
    return html.escape(str(value))


def words(text: str) -> str:
    """A sentence; what stands between backticks is code."""
    return re.sub(r"`(.+?)`", r"<code>\1</code>", escape(text))


def paragraph(text: str) -> str:
    return f"<p>{words(text)}</p>"


def missing(text: str) -> str:
    """What a run does not have, said in its place."""
    return f'<p class="missing">{words(text)}{"" if text.endswith(".") else "."}</p>'


def heading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def details(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def command(text: str) -> str:
    """A command that one click copies."""
    return f'<div class="command"><code>{escape(text)}</code><button type="button" class="copy">Copy</button></div>'


def format_cell(value: Any) -> str:
    if value is None:
        return "–"  # noqa: RUF001  # a dash stands for nothing
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if type(value) is int else str(value)


def table(rows: Rows, caption: str) -> str:
    """A table; the first column names the rows.

    caption:  what a screen reader reads of it
    """
    head, *body = rows
    numeric = [any(isinstance(row[i], int | float) for row in body) for i in range(len(head))]
    kinds = [' class="number"' if is_number else "" for is_number in numeric]
    lines = ["<tr>" + "".join(f'<th scope="col"{kind}>{escape(cell)}</th>' for cell, kind in zip(head, kinds, strict=True))]
    for first, *rest in body:
        cells = "".join(f"<td{kind}>{escape(format_cell(cell))}</td>" for cell, kind in zip(rest, kinds[1:], strict=True))
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table><caption>{escape(caption)}'
        f"</caption><thead>{lines[0]}</thead><tbody>{''.join(lines[1:])}</tbody></table></div>"
    )


def chart(of: Chart) -> str:
    """A chart, buttons that hide and show its curves, and its numbers as a table."""
    buttons = "".join(
        f'<button type="button" class="toggle" aria-pressed="true" data-trace="{i}">'
        f'<svg aria-hidden="true" viewBox="0 0 24 8"><line x1="0" x2="24" y1="4" y2="4" class="{dash}" '
        f'style="stroke:{colour}"/></svg>{escape(label)}</button>'
        for i, (label, colour, dash) in enumerate(of.legend)
    )
    legend = f'<div class="legend" role="group" aria-label="Curves of: {escape(of.title)}">{buttons}</div>' if buttons else ""
    note = f" <span>{escape(of.note)}</span>" if of.note else ""
    label = f"{of.title}; its numbers are in the table below"
    return (
        f'<figure id="{of.name}" class="chart"><figcaption><strong>{escape(of.title)}.</strong>{note}</figcaption>{legend}'
        f'<div class="plot" style="height:{of.height}px" role="img" aria-label="{escape(label)}"></div>'
        f'<script type="application/json">{to_json(of.figure)}</script>'
        f"{details('Numbers', table(of.rows, of.title))}</figure>"
    )


def side_by_side(parts: Iterable[str]) -> str:
    return f'<div class="row">{"".join(parts)}</div>'


def to_json(content: Any) -> str:
    """JSON inside a script element, which no text in it can close."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """The whole file.

    Raises:  ValueError where Plotly is missing
    """
    links = "".join(f'<a href="#{section.name}">{escape(section.title)}</a>' for section in sections)
    content = "".join(
        f'<section id="{section.name}" aria-labelledby="{section.name}-title"><h2 id="{section.name}-title">'
        f"{escape(section.title)}</h2>{section.content}</section>"
        for section in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{resource("page.css")}</style>'
        f"<script>{THEME}</script></head><body>"
        '<a class="skip" href="#content">To the content</a>'
        f'<header><div class="bar"><h1>{escape(title)}</h1><button type="button" id="theme">Theme: as the system</button></div>'
        f'<p class="lead">{escape(lead)}</p><nav aria-label="Sections">{links}</nav></header>'
        f'<main id="content">{content}</main><footer>{footer}</footer>'
        "<noscript><p>Charts need JavaScript; the tables below them do not.</p></noscript>"
        f"<script>{plotly_js()}</script><script>{resource('page.js')}</script></body></html>\n"
    )


def resource(name: str) -> str:
    return (resources.files(__package__) / name).read_text()


def plotly_js() -> str:
    """Plotly's own script, which the page carries.

    Raises:  ValueError where it is not installed
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ValueError("a report needs the package plotly: pip install 'spikewise[report]'") from None
    return str(get_plotlyjs())
