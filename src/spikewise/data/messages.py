"""What is said to users: notices, once each, and errors of other libraries as one line."""

import functools
import logging

CHECK_HINT = "`spikewise data check FOLDER` lists all such files"


@functools.cache
def notice(text: str) -> None:
    """Say something that is no error, once per process: a line on standard error, unless the program configures logging."""
    logging.getLogger("spikewise").warning("%s", text)


def one_line(error: BaseException) -> str:
    """The error's message without line breaks; its type where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__
