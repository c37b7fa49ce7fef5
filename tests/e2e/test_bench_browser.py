"""`shopstream bench-e2e --quick`: each event of each POST is at each stream, once."""

from pathlib import Path

import pytest
from tests.support.bench import COMMAND_SECONDS_MAX, assert_begin, run_quick

pytestmark = pytest.mark.timeout(COMMAND_SECONDS_MAX + 20)


def test_a_quick_run_follows_every_post_to_every_stream(tmp_path: Path) -> None:
    rows = run_quick("bench-e2e", tmp_path, environ={"SHOPSTREAM_POSTGRES_FSYNC": "false"})
    assert_begin(
        rows,
        "POST to browser, 10/s, 5 streams",
        "Of that until the answer to the POST",
        "From the event's own time to a stream beside them",
    )
    whole, _, part = (row["figures"] for row in rows)
    # The same events, counted from an earlier moment.
    assert whole["maxMs"] > part["p50Ms"] > 0
