"""A worker that ends by itself is seen, though its parent starts another at once."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shopstream_stack.chaos.deaths import Death, Meant, deaths

#: The analytics service's own parent, whose worker ends with 3 each time; two of them are seen.
PARENT = """
import asyncio, sys
from shopstream_analytics.supervisor import WorkerProcess
from shopstream_shared.logs import configure

async def go():
    worker = WorkerProcess("archive", (sys.executable, "-c", "raise SystemExit(3)"))
    running = asyncio.create_task(worker.run())
    while worker.starts < 3:
        await asyncio.sleep(0.01)
    worker.stop()
    await running

configure("analytics")
asyncio.run(asyncio.wait_for(go(), 60))
"""
#: What the stream service's parent writes (`life.py`, `parent.py`).
STREAM = tuple(
    line + ', "timestamp": "2026-05-04T03:02:01.5Z"}'
    for line in (
        '{"slot": 0, "worker_pid": 11, "event": "stream.worker_started"',
        '{"slot": 1, "worker_pid": 12, "event": "stream.worker_started"',
        '{"slot": 1, "code": -9, "pause_seconds": 0.5, "event": "stream.worker_ended"',
        '{"slot": 1, "worker_pid": 13, "event": "stream.worker_started"',
        '{"slot": 1, "code": 1, "pause_seconds": 0.5, "event": "stream.worker_ended"',
    )
)
HALF = '{"slot": 1, "code": 0, "event": "stream.worker_ended"'


def test_the_parent_of_analytics_tells_of_each_worker_that_ended_by_itself(tmp_path: Path) -> None:
    log = tmp_path / "analytics.log"
    with log.open("wb") as output:
        subprocess.run([sys.executable, "-c", PARENT], stdout=output, check=True, timeout=100)
    found = list(deaths([log]))
    # The third was being started, or had ended, when the parent was told to stop.
    assert len(found) in {2, 3}
    assert {(one.log, one.worker, one.code) for one in found} == {("analytics", "archive", 3)}
    assert len({one.pid for one in found}) == len(found)
    assert None not in {one.pid for one in found}
    assert str(found[0]) == "analytics: worker archive ended by itself, exit code 3"


def test_the_parent_of_the_stream_tells_which_process_ended_and_half_a_line_tells_nothing(
    tmp_path: Path,
) -> None:
    log = tmp_path / "notifications.log"
    log.write_text("\n".join([*STREAM, HALF]))
    assert [(one.worker, one.pid, one.code) for one in deaths([log])] == [
        ("1", 12, -9),
        ("1", 13, 1),
    ]


def test_what_a_long_log_was_continued_from_is_read_too(tmp_path: Path) -> None:
    log = tmp_path / "notifications.log"
    (tmp_path / "notifications.log.1").write_text("\n".join(STREAM[:2]))
    log.write_text(STREAM[2])
    assert [one.pid for one in deaths([log])] == [12]


def test_only_what_a_fault_hit_and_who_moved_to_topics_made_again_is_meant() -> None:
    noon = datetime(2026, 5, 4, 12, tzinfo=UTC)
    minute = timedelta(minutes=1)
    meant = Meant(hit={11}, made_again=[(noon, noon + minute)])

    def died(pid: int, code: int, at: datetime) -> Death:
        return Death("analytics", "recent", pid, code, at)

    assert meant.covers(died(11, -9, noon - minute))
    assert meant.covers(died(12, 0, noon))
    assert not meant.covers(died(12, 1, noon))
    assert not meant.covers(died(12, 0, noon - minute))
    assert not meant.covers(died(12, 0, noon + 2 * minute))
    assert not Meant().covers(died(12, 0, noon))


def test_the_events_are_those_that_the_parent_of_the_stream_logs() -> None:
    source = Path(__file__).parents[2] / "apps/notifications/src/shopstream_notifications"
    assert (
        '_log.info("stream.worker_started", slot=slot, worker_pid='
        in (source / "life.py").read_text()
    )
    assert (
        '_log.warning("stream.worker_ended", slot=life.slot, code=code'
        in (source / "parent.py").read_text()
    )
