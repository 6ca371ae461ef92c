"""Durations and rates as people write and read them."""

import pytest

from spikewise.durations import MAX_DURATION, SECONDS, format_duration, format_rate, parse_duration


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("500us", 500),
        ("500 µs", 500),
        ("20ms", 20_000),
        ("1.5s", 1_500_000),
        ("2min", 120_000_000),
        ("1h", 3_600_000_000),
        (".5us", 0),
    ],
)
def test_a_number_and_its_unit(text, microseconds):
    assert parse_duration(text) == microseconds


@pytest.mark.parametrize("text", ["", "2", "s", "-1s", "1 day", "1e3s", "nan s", "2s 3s"])
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="is no duration; write a number and its unit"):
        parse_duration(text)


def test_longer_than_any_clock_is_refused():
    with pytest.raises(ValueError, match="is too long"):
        parse_duration(f"{MAX_DURATION + 10}us")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s"), (2e-8, "0.02 us"), (1e-6, "1 us"), (0.0009996, "1 ms"), (0.05, "50 ms"), (0.99949, "999 ms")),
        *((1.2345, "1.23 s"), (119, "119 s"), (750, "12.5 min"), (3 * 3600, "3.0 h"), (4e5, "4.6 days")),
    ],
)
def test_the_unit_suits_the_time(seconds, text):
    assert format_duration(seconds) == text


def test_what_is_written_is_read():
    for unit, length in SECONDS.items():
        if unit != "days":
            assert parse_duration(format_duration(3 * length)) == round(3e6 * length)


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0"), (840, "840"), (12_345, "12.3 k"), (999_960, "1 M"), (25e6, "25 M"), (1.2e9, "1.2 G")]
)
def test_rates(rate, text):
    assert format_rate(rate).removesuffix("events/s").strip() == text
