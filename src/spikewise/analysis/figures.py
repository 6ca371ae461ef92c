"""Figures as all pages have them: colours, marks, sizes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# of Okabe and Ito: told apart by colour-blind people; Spiking, ADD, AND, IAND, zero init and its kin
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
MARKS = ("o", "s", "^", "D", "v", "P", "X", ".")


def panels(columns: int, *, width: float = 3.4, height: float = 2.6) -> "tuple[Figure, list[Axes]]":
    """A figure with axes side by side, each as wide as a column of the paper.

    Raises:  ValueError where matplotlib is missing
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("pictures need the package matplotlib: pip install 'spikewise[plots]'") from None
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])
