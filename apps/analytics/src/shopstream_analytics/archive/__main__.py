"""``python -m shopstream_analytics.archive``: make or complete the bucket, once, and end.

For the one-shot set-up of docker-compose.yml; the archive's worker does the same at its start.
Exit 0 when the bucket is there, 1 with one line when it cannot be made, 2 for a wrong variable.
"""

import asyncio
import sys

from shopstream_analytics.archive.store import BucketAtMinio
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import SinkUnavailable


def main() -> int:
    """See the module's docstring."""
    settings = AnalyticsSettings.read_or_exit()
    try:
        asyncio.run(BucketAtMinio.of(settings)())
    except SinkUnavailable as error:
        sys.stderr.write(f"error: bucket at {settings.minio_endpoint}: {error}\n")
        return 1
    sys.stdout.write(f"bucket {settings.archive_bucket} is there\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
