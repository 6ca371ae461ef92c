"""Images and events, and the order in which they are seen."""

from collections.abc import Callable

from .images import Images, digits
from .order import Order, generator

DATASETS: dict[str, Callable[[str], Images]] = {"digits": digits}

__all__ = ["DATASETS", "Images", "Order", "generator"]
