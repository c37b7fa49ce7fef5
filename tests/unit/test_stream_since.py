"""The query's ``since``: which moment each spelling means, and what is refused."""

import pytest

from shopstream_notifications import routes


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0", 0),
        ("100000000000", 100_000_000_000),
        ("1767225600000", 1_767_225_600_000),
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        # A plus sign that was not escaped.
        ("2026-01-01T02:00:00 02:00", 1_767_225_600_000),
        # Written out there is no doubt about the unit.
        ("1970-01-01T00:00:01Z", 1_000),
    ],
)
def test_every_spelling_means_its_moment(text: str, moment: int) -> None:
    assert routes._since(text).timestamp_ms == moment


@pytest.mark.parametrize("text", ["1", "01", "1767225600", "99999999999"])
def test_seconds_are_refused_and_milliseconds_asked_for(text: str) -> None:
    with pytest.raises(routes.BadParameter, match="seconds; epoch milliseconds") as refused:
        routes._since(text)
    assert refused.value.parameter == "since"
