"""Images: arrays and photographs."""

from ... import aliases

__getattr__ = aliases.old_contents(__name__)
