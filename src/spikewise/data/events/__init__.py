"""Recordings of event cameras."""

from ... import aliases

__getattr__ = aliases.old_contents(__name__)
