"""What several files of these tests check alike."""

import contextlib
import os
import re
from pathlib import Path

import numpy as np
import pytest

from spikewise.cli.main import main
from spikewise.data.events import Events

REAL = Path(os.environ.get("SPIKEWISE_DATA") or Path(__file__).parents[3] / "shared" / "data")
needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="no real recordings: set SPIKEWISE_DATA to a folder that has them"
)
QUICK = "--optim.epochs 1 --optim.batch 6 --optim.lr-batch 6 --optim.precision float32 --device cpu --workers 0"
DTYPES = [np.int64, np.uint16, np.uint16, np.uint8]  # of t, x, y and polarity


@contextlib.contextmanager
def refused(message, kind=ValueError):
    """The block raises an error of one line that `message` matches; yields what pytest.raises does."""
    with pytest.raises(kind, match=message) as error:
        yield error
    assert "\n" not in str(error.value)


def refuse(message, function, *args, kind=ValueError, **how):
    """The call raises an error of one line that `message` matches."""
    with refused(message, kind):
        function(*args, **how)


def as_events(t, x, y, polarity, size):
    """Columns of any integers as a recording, in the types that are promised."""
    return Events(*map(np.asarray, (t, x, y, polarity), DTYPES), size)


def columns(events):
    return events.t, events.x, events.y, events.polarity


def require_equal(events, *expected):
    """The events have these t, x, y and polarity, in the types that are promised."""
    assert [column.dtype for column in columns(events)] == DTYPES
    assert all(np.array_equal(found, column) for found, column in zip(columns(events), expected, strict=True))


def other_notes(events):
    """What a reader noted besides the unit for which it took times of whole numbers."""
    return tuple(note for note in events.notes if "taken as microseconds: whole numbers" not in note)


def contents(folder):
    """The bytes of all files in a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def train_and_evaluate(capsys, run, recipe, *options):
    """Train for an epoch, then evaluate; what is printed of the test split's size."""
    assert main(["train", recipe, "--out", str(run), *QUICK.split(), *map(str, options)]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    return re.search(r"of [\d,]+\), loss", capsys.readouterr().out)[0].split(")")[0]
