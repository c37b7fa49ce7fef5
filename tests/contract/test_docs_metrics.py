"""docs/metrics.md is what the definitions say."""

from pathlib import Path

import pytest

from shopstream_analytics.aggregates.definitions import DERIVED, STORED
from shopstream_analytics.aggregates.manual import PATH, main
from shopstream_shared.events.registry import EVENT_TYPES

ROOT = Path(__file__).parents[2]


def test_the_committed_page_has_not_drifted_from_the_definitions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_drift_is_found_and_written_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], tmp_path) == 0
    (tmp_path / PATH).write_text("old")
    capsys.readouterr()
    assert main(["--check"], tmp_path) == 1
    assert (tmp_path / PATH).read_text() == "old"
    assert main([], tmp_path) == 0
    assert capsys.readouterr().out == f"drifted: {PATH}\nwritten: {PATH}\n"


def test_the_page_names_every_metric() -> None:
    page = (ROOT / PATH).read_text()
    for metric in STORED:
        assert f"| `{metric.counter}{metric.per}` |" in page
    for number in DERIVED:
        assert f"| `{number.name}` |" in page


def test_definitions_name_only_types_that_exist() -> None:
    named = {event_type for metric in STORED for event_type in metric.types}
    assert named <= set(EVENT_TYPES)
