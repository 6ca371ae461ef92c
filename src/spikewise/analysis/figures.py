"""The common style of all figures: colours, marks, sizes."""

from math import ceil, floor, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, for colour-blind readers, too
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
MARKS = ("o", "s", "^", "D", "v", "P", "X", ".")
# a network has the same colour and mark on every page
NETWORK_KINDS = ("Spiking", "SEW ADD", "SEW AND", "SEW IAND", "Plain", "MS")
COLOUR_OF, MARK_OF = dict(zip(NETWORK_KINDS, COLOURS, strict=False)), dict(zip(NETWORK_KINDS, MARKS, strict=False))
FONT_SIZE = 8  # points, at the width that `panels` gives


def panels(columns: int, *, width: float | None = None, height: float = 2.2) -> "tuple[Figure, list[Axes]]":
    """A figure with axes side by side, together as wide as a page's column; its text is readable at that size.

    width:   of one of the axes, in inches
    Raises:  ValueError where matplotlib is missing
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("pictures need the package matplotlib: pip install 'spikewise[plots]'") from None
    width = width or {1: 3.3, 2: 3.0}.get(columns, 2.15)
    with rc_context({"font.size": FONT_SIZE}):
        figure = Figure(figsize=(width * columns, height), layout="constrained")
        axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for ax in axes:
        ax.tick_params(labelsize=FONT_SIZE - 1)
    return figure, axes


def legend_below(figure: "Figure", ax: "Axes", columns: int) -> None:
    """A legend of `ax` under all axes, where it hides nothing; titles as small as the other text."""
    handles, labels = ax.get_legend_handles_labels()
    for other in figure.axes:
        other.title.set_fontsize(FONT_SIZE)
    height = 0.18 * -(-len(labels) // columns) + 0.1
    figure.set_figheight(figure.get_figheight() + height)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=FONT_SIZE - 0.5, frameon=False, columnspacing=1.2
    )


def log_axis(ax: "Axes") -> None:
    """A logarithmic axis that begins and ends at a power of ten: a short one would have no labelled tick."""
    from matplotlib.ticker import NullFormatter

    low, high = ax.dataLim.intervaly
    ax.set_yscale("log")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(10.0 ** floor(log10(low)), 10.0 ** max(ceil(log10(high)), floor(log10(low)) + 1))
