"""`shopstream-notifications`: Kafka to browsers over Server-Sent Events."""

from shopstream_notifications.parent import run_parent
from shopstream_notifications.service import allow_many_sockets, run_service
from shopstream_notifications.settings import NotificationsSettings
from shopstream_shared import logs
from shopstream_shared.web import bind


def main() -> None:
    """Entry point of the console script: one process, or the parent of several."""
    allow_many_sockets()  # the settings are checked against it; children inherit it
    settings = NotificationsSettings.read_or_exit()
    logs.configure("notifications", settings.log_level)
    logs.warn_of_dead_variables()
    if settings.workers > 1:
        run_parent(settings)
    else:
        run_service(settings, bind(settings.host, settings.port))


if __name__ == "__main__":
    main()
