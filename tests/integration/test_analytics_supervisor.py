"""The parent and a worker that hangs, as processes."""

import asyncio
import sys

import pytest

from shopstream_analytics import supervisor
from shopstream_analytics.supervisor import WorkerProcess
from shopstream_analytics.worker.report import Report, encode_report

REPORT = Report(state="running", reason=None, trouble=None, lags=[], counters={})

#: A worker that says one word and then hangs, as one whose event loop does, deaf to SIGTERM.
HANGING = f"""
import signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
line = socket.socket(fileno=int(sys.argv[1]))
line.send({encode_report(REPORT)!r})
if %s: line.close()
time.sleep(600)
"""


@pytest.mark.parametrize("line_closed", [False, True])
def test_a_worker_whose_loop_hangs_is_killed_and_another_one_started(
    *, line_closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "SILENT_SECONDS_MAX", 0.2)
    monkeypatch.setattr(supervisor, "STOP_SECONDS_MAX", 0.2)
    worker = WorkerProcess("archive", (sys.executable, "-c", HANGING % line_closed))

    async def run() -> None:
        task = asyncio.create_task(worker.run())
        async with asyncio.timeout(60):
            while worker.starts < 2:  # noqa: ASYNC110 - a process
                await asyncio.sleep(0.01)
            # One that does not listen to SIGTERM either ends all the same.
            worker.stop()
            await task

    asyncio.run(run())
    assert worker.pid is None
