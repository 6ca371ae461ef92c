"""The paper's figures and equations, each by one name."""

from collections.abc import Callable

from .at_start import fig5, fig6, fig7, fig8
from .equations import a5, eq15
from .logs import fig3, fig9
from .page import Options, Result

FIGURES: dict[str, Callable[[Options], Result]] = {
    "fig3": fig3,
    "fig5": fig5,
    "fig6": fig6,
    "fig7": fig7,
    "fig8": fig8,
    "fig9": fig9,
    "eq15": eq15,
    "a5": a5,
}

__all__ = ["FIGURES", "Options", "Result"]
