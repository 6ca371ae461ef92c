"""The errors that end a training."""


class Interrupted(Exception):
    """A signal ended a run, after its state was saved; `status` is the exit status, 128 + signal number."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.status = 128 + signal_number


class RankLostError(ConnectionError):
    """Another process of a training is gone."""


class NonFiniteError(ArithmeticError):
    """A loss or a gradient is NaN or infinite."""


class BatchTooLargeError(MemoryError):
    """A batch does not fit into memory; the message says which one would."""
