"""Words that messages share: a name that is not in a table and the nearest one that is, a number with its noun."""

import difflib
from collections.abc import Iterable

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
