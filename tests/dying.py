"""A process that ends in the middle of what it does to the disk."""

import copy
import itertools  # its counter is one for all threads
import os

from spikewise.disk import PAGE


class Crash(BaseException):
    """Stands for the end of the process: nothing catches it, nothing after it reaches the disk."""


CALLS = ("open", "write", "fsync", "replace", "ftruncate", "symlink", "unlink", "mkdir", "rmdir")


class Dying:
    """The `os` of a process that ends before its n-th change of the disk; a write counts twice, as it may end half done."""

    def __init__(self, at):
        self.at, self.changes, self.dead = at, itertools.count(1), False

    def __getattr__(self, name):
        real = getattr(os, name)
        return self.count(name, real) if name in CALLS else real

    @property
    def num_changes(self):
        return next(copy.copy(self.changes)) - 1

    def count(self, name, real):
        def call(*args, **kwargs):
            if self.dead:
                raise Crash
            for part in ("before", "half")[: 1 + (name == "write")]:
                if next(self.changes) == self.at:
                    self.dead = True
                    if part == "half":
                        descriptor, content = args
                        half = len(content) // 2
                        real(descriptor, content[: half // PAGE * PAGE or half])  # whole pages may go past the file cache
                    raise Crash
            return real(*args, **kwargs)

        return call
