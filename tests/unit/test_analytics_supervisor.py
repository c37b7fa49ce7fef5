"""How long the parent waits for a word of a worker."""

from shopstream_analytics.supervisor import (
    SILENT_SECONDS_MAX,
    START_SECONDS_MAX,
    WorkerProcess,
)
from shopstream_analytics.worker.report import Report


def test_a_worker_may_take_longer_for_its_first_word_than_between_two() -> None:
    worker = WorkerProcess("archive", ())
    assert worker.patience == START_SECONDS_MAX
    worker.report = Report(state="waiting", reason=None, trouble=None, lags=[], counters={})
    assert worker.patience == SILENT_SECONDS_MAX < START_SECONDS_MAX
