"""Words that messages share: a name that is not in a table and the nearest one that is, a number with its noun, an option as
its reader gives it.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

OWN = "of your own: import the module that registers it (--import MODULE)"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The question for the known name nearest to `name`, whatever the case, and a space; "" where none is near."""
    by_lower = {word.lower(): word for word in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1)
    return f"did you mean {by_lower[near[0]]!r}? " if near else ""


def unknown_name(kind: str, name: object, known: Iterable[str], *, own: bool = False) -> str:
    """The message for a name that is not among the known ones.

    own:  whether users add entries of their own, so that the name may be one whose module was not imported
    """
    known = list(known)
    message = f"no {kind} named {name!r}; {did_you_mean(name, known)}known: {', '.join(known)}"
    return f"{message}; {OWN}" if own else message


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 epoch, 2 epochs, 3 classes."""
    plural = "es" if noun.endswith(("s", "x", "sh", "tch", "nch")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


FLAGS: ContextVar[Mapping[str, str] | None] = ContextVar("FLAGS", default=None)  # of the command that runs, by keyword


@contextmanager
def options_as_flags(flags: Mapping[str, str]) -> Iterator[None]:
    """Let `option` speak of a command line: the flag of each keyword that the command has."""
    token = FLAGS.set(flags)
    try:
        yield
    finally:
        FLAGS.reset(token)


def option(name: str, *values: object) -> str:
    """An option as the reader of a message gives it: connect='ADD' in Python, --connect ADD on the command line.

    name:    as a keyword in Python
    values:  to choose from; none: only the option's name
    """
    flags = FLAGS.get()
    if flags is None or name not in flags:
        said = f"{name}={choice(map(repr, values))}" if values else repr(name)
        return said if flags is None else f"{said} (in Python: this command has no option for it)"
    if len(values) == 1 and isinstance(values[0], bool):  # 0 == False, but is a number
        section, dot, field = flags[name].removeprefix("--").rpartition(".")
        return f"--{section}{dot}{'' if values[0] else 'no-'}{field}"
    return f"{flags[name]} {choice(map(str, values))}".strip()


def choice(words: Iterable[str]) -> str:
    """Words to choose from: a, b or c."""
    *others, last = [*words] or [""]
    return f"{', '.join(others)} or {last}" if others else last
