"""``python -m shopstream_analytics.worker NAME [INSTANCE [REPORT_FD]]``: one process of a sink.

The parent gives all three. By hand, NAME alone makes one more member of the sink's consumer group;
INSTANCE, a name that no other member has, makes it a static one (its successor under the same name
gets its partitions at once).
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from typing import Final

from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.worker.ports import RealSurroundings
from shopstream_analytics.worker.run import Worker, WorkerFailed
from shopstream_analytics.worker.sinks import WORKERS
from shopstream_shared.children import follow_parent
from shopstream_shared.logs import configure, get_logger
from shopstream_shared.settings import exit_usage

#: Of container objects; CPython's own threshold is 700.
GC_YOUNG_OBJECTS: Final = 20_000

log = get_logger(__name__)


def main(arguments: list[str]) -> int:
    """Run one worker; 0 when asked to end, 1 when it failed."""
    name = next((known for known in WORKERS if arguments[:1] == [known]), None)
    if name is None:
        exit_usage(f"name one of {', '.join(WORKERS)}")
    settings = AnalyticsSettings.read_or_exit()
    configure(f"analytics-{name}", settings.log_level)
    for chatty in ("faust", "mode", "aiokafka", "shopstream_analytics.consumer"):
        # Their services' every start and stop; what matters of it we say ourselves.
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("shopstream_analytics.consumer.lanes").setLevel(settings.log_level)
    instance = arguments[1] if len(arguments) > 1 else None
    reports = None
    if len(arguments) > 2:  # noqa: PLR2004 - the third argument
        reports = socket.socket(fileno=int(arguments[2]))
        follow_parent(reports, lambda: os.kill(os.getpid(), signal.SIGTERM), signal_too=True)
    spare_the_collector()
    return asyncio.run(_run(Worker(RealSurroundings(name, settings), instance, reports)))


def spare_the_collector() -> None:
    """Collect garbage less often, and never what was imported.

    Records come by the ten thousand and leave by reference count; looking at them each 700 took
    a third of the processor time of reading them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 50)


async def _run(worker: Worker) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop.set)
    try:
        await worker.run()
    except WorkerFailed as error:
        log.error("worker failed", detail=str(error))  # noqa: TRY400 - its cause is logged
        return 1
    except Exception:
        # Faust's own, such as a broker that went away while the app started.
        log.exception("worker failed")
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # Faust's threads are daemons of their own will; everything of worth is stored by now.
    sys.stdout.flush()
    os._exit(code)
