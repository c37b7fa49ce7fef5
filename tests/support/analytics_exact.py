"""What each sink must hold, worked out from the log anew; and a shop to fill the log."""

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from tests.support.analytics import Analytics, log_ranges, read_log, s3_client, wait_until
from tests.support.analytics_events import Counts, Shop, naive_sums

from shopstream_analytics.archive.line import value_of
from shopstream_shared.archive.bucket import S3Bucket
from shopstream_shared.events.codec import EncodedEvent, EventRejected, decode
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.archive.check import Check


def lives(seed: int) -> Iterator[list[EncodedEvent]]:
    """Transactions of an endless shop."""
    # Young enough for the topics' retention and the items' TTL, whenever this runs.
    shop = Shop(seed, start=datetime.now(UTC) - timedelta(hours=120))
    while True:
        yield shop.order_life()


def events_by_partition(analytics: Analytics) -> dict[tuple[str, int], list[bytes]]:
    """The readable events on the log."""
    found: dict[tuple[str, int], list[bytes]] = {}
    for record in read_log(analytics.environ["KAFKA_BROKERS"]):
        with contextlib.suppress(EventRejected):
            value = decode(record.value).value
            found.setdefault((record.topic, record.partition), []).append(value)
    return found


def values(analytics: Analytics) -> list[bytes]:
    return [value for values in events_by_partition(analytics).values() for value in values]


def expected_counts(analytics: Analytics) -> Counts:
    return naive_sums(events_by_partition(analytics).values())


def aggregates_exact(analytics: Analytics) -> None:
    assert analytics.counts() == expected_counts(analytics)


def recent_exact(analytics: Analytics) -> None:
    ids = sorted(json.loads(value)["id"] for value in values(analytics))
    assert analytics.recent_ids() == ids


def archive_exact(analytics: Analytics) -> None:
    """The chains hold every record of the log once, in order, with its very bytes."""
    log = read_log(analytics.environ["KAFKA_BROKERS"])
    ranges = log_ranges(analytics.environ["KAFKA_BROKERS"])
    for (topic, partition), (first, end) in ranges.items():
        mine = [r for r in log if (r.topic, r.partition) == (topic, partition)]
        chain = analytics.chain(topic, partition, start=first)
        lines = [line for stored in chain for line in stored.lines]
        offsets = [json.loads(line)["offset"] for line in lines]
        assert offsets == [record.offset for record in mine]
        assert [value_of(line) for line in lines] == [record.value for record in mine]
        if mine:
            assert mine[-1].offset < int(chain[-1].metadata["next"]) <= end
    # What `shopstream archive verify` says of it, which asks nobody but the bucket.
    bucket = S3Bucket(
        s3_client(analytics.environ), analytics.environ["ARCHIVE_BUCKET_NAME"], RuntimeError
    )
    report = Check(bucket, STREAM_TOPICS, []).run(lambda _: None)
    assert report.holds, report
    assert sum(chain.records for chain in report.chains) == len(log)


EXACT: dict[str, Callable[[Analytics], None]] = {
    "aggregates": aggregates_exact,
    "recent": recent_exact,
    "archive": archive_exact,
}


def made_way(analytics: Analytics, name: str, before: int) -> bool:
    """Whether the worker has committed anything since it had committed so much in all."""
    return analytics.commits(f"analytics-{name}") > before


def caught_up(analytics: Analytics, name: str) -> None:
    wait_until(lambda: analytics.lag(f"analytics-{name}") == 0, f"{name} has no lag")
