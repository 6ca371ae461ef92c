"""Errors of other libraries as one line."""


def one_line(error: BaseException) -> str:
    """The error's message without line breaks; its type where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__
