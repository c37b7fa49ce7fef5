"""`shopstream-notifications`: Kafka to browsers over Server-Sent Events."""

import signal
from types import FrameType

from shopstream_notifications.parent import run_parent
from shopstream_notifications.service import allow_many_sockets, run_service
from shopstream_notifications.settings import NotificationsSettings
from shopstream_shared import logs
from shopstream_shared.logs import get_logger
from shopstream_shared.web import bind

_log = get_logger(__name__)


def _no_successor(_number: int, _frame: FrameType | None) -> None:
    """Of several workers it is a rolling restart; of one it would cut every stream, unannounced."""
    _log.warning("stream.sighup_ignored", reason="one worker has no successor; end it by SIGTERM")


def main() -> None:
    """Entry point of the console script: one process, or the parent of several."""
    allow_many_sockets()  # the settings are checked against it; children inherit it
    settings = NotificationsSettings.read_or_exit()
    logs.configure("notifications", settings.log_level)
    logs.warn_of_dead_variables()
    if settings.workers > 1:
        run_parent(settings)
    else:
        signal.signal(signal.SIGHUP, _no_successor)
        run_service(settings, bind(settings.host, settings.port))


if __name__ == "__main__":
    main()
