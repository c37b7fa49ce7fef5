"""How items of the aggregates are named in DynamoDB.

Protocol rule 20: the source partition is part of the partition key, so no two writers share an
item and a large series spreads over several keys; readers sum over all sources.
"""

from shopstream_analytics.aggregates.fold import Dimension, Granularity, ItemKey
from shopstream_analytics.consumer.batch import Source


def partition_key(dimension: Dimension, series: str, source: Source) -> str:
    """All buckets of one series from one source partition."""
    return f"{dimension}#{series}#{source.topic}#{source.partition}"


def sort_key(granularity: Granularity, start: str) -> str:
    """One bucket; text order is time order."""
    return f"{granularity}#{start}"


def parse(partition: str, sort: str) -> tuple[ItemKey, Source]:
    """The reverse of the two above."""
    head, topic, number = partition.rsplit("#", 2)
    dimension, series = head.split("#", 1)
    granularity, start = sort.split("#", 1)
    key = ItemKey(dimension, series, granularity, start)  # type: ignore[arg-type]  # ours: see above
    return key, Source(topic, int(number))
