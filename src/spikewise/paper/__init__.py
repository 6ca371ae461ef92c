"""The paper's figures, tables and equations, each by one command: numbers, pictures, and whether the paper's words hold."""

from .catalogue import FIGURES, TRAINED, described, reproduce
from .options import Options
from .page import Result

__all__ = ["FIGURES", "TRAINED", "Options", "Result", "described", "reproduce"]
