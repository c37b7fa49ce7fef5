"""Quix Streams' own S3 file sink on a topic, until killed.

Run by the Python of an environment of its own, in which nothing of ours is installed; what it must
know is one line of JSON: ``brokers``, ``topic``, ``group``, ``bucket``, ``endpoint``, ``region``,
``access_key``, ``secret_key``, ``commit_every``.
"""

import json
import sys

from quixstreams import Application
from quixstreams.sinks.community.file.formats import JSONFormat
from quixstreams.sinks.community.file.s3 import S3FileSink

# Files are cut by count alone, so that the last one is not waited for.
COMMIT_SECONDS = 60.0


def main() -> None:
    """JSON lines, gzip: what its documentation shows."""
    task = json.loads(sys.stdin.readline())
    app = Application(
        broker_address=task["brokers"],
        consumer_group=task["group"],
        auto_offset_reset="earliest",
        auto_create_topics=False,
        commit_interval=COMMIT_SECONDS,
        commit_every=task["commit_every"],
        loglevel="WARNING",
    )
    sink = S3FileSink(
        bucket=task["bucket"],
        endpoint_url=task["endpoint"],
        region_name=task["region"],
        aws_access_key_id=task["access_key"],
        aws_secret_access_key=task["secret_key"],
        directory="quix",
        format=JSONFormat(compress=True),
    )
    app.dataframe(app.topic(task["topic"], value_deserializer="json")).sink(sink)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    app.run()


if __name__ == "__main__":
    main()
