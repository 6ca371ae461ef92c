"""What tests of event files share."""

import pytest

from spikewise.data.events.formats import reading


@pytest.fixture(params=[True, False], ids=["C", "NumPy"])
def both(request, monkeypatch):
    """Decoders in C, then those in NumPy, which define them."""
    if not request.param:
        monkeypatch.setattr(reading, "has_native", lambda: False)
    elif not reading.has_native():
        pytest.skip("no compiler here")
