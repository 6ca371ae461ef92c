"""The paper's figures, tables and equations, each by one command: numbers, plots, and whether its claims hold."""

from .catalogue import TRAINED, UNTRAINED, list_entries, reproduce
from .options import Options
from .page import Result

__all__ = ["TRAINED", "UNTRAINED", "Options", "Result", "list_entries", "reproduce"]
