"""How items of the aggregates are named in DynamoDB.

Protocol rule 20: the source partition is part of the partition key, so no two writers share an
item and a large series spreads over several keys; readers sum over all sources. What a seller
sells spreads over `SALES_SHARDS` keys a source partition besides, since its items are as many as
its products (docs/adr/0029 has the arithmetic).
"""

import hashlib
from typing import Final

from shopstream_analytics.aggregates.fold import Dimension, Granularity, ItemKey
from shopstream_analytics.consumer.batch import Source

SALES_SHARDS: Final = 8


def keys_of(key: ItemKey, source: Source) -> tuple[str, str]:
    """Partition key and sort key of an item."""
    if key.dimension == "sellerProduct":
        partition = sales_key(key.id, shard_of(key.member), source)
        return partition, f"{sort_key(key.granularity, key.start)}#{key.member}"
    return (
        partition_key(key.dimension, key.id, source),
        sort_key(key.granularity, key.start),
    )


def partition_key(dimension: Dimension, series: str, source: Source) -> str:
    """All buckets of one series from one source partition."""
    return f"{dimension}#{series}#{source.topic}#{source.partition}"


def sales_key(seller: str, shard: int, source: Source) -> str:
    """Some of a seller's products, all days."""
    return partition_key("sellerProduct", f"{seller}#{shard}", source)


def shard_of(product: str) -> int:
    """Where a product's sales are: by the first four bits of its id's md5, as anyone can tell."""
    digest = hashlib.md5(product.encode(), usedforsecurity=False).digest()
    return (digest[0] >> 4) % SALES_SHARDS


def sort_key(granularity: Granularity, start: str) -> str:
    """One bucket; text order is time order."""
    return f"{granularity}#{start}"


def parse(partition: str, sort: str) -> tuple[ItemKey, Source]:
    """The reverse of `keys_of`."""
    head, topic, number = partition.rsplit("#", 2)
    dimension, series = head.split("#", 1)
    granularity, start, *member = sort.split("#", 2)
    if dimension == "sellerProduct":
        series = series.rsplit("#", 1)[0]
    key = ItemKey(dimension, series, granularity, start, *member)  # type: ignore[arg-type]  # ours: see above
    return key, Source(topic, int(number))
