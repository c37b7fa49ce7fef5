"""What the aggregates have counted, held against what was sent."""

from collections.abc import Iterable

from shopstream_shared.events.codec import EncodedEvent
from shopstream_stack.bench.analytics.bench import Bench
from shopstream_stack.bench.analytics.place import Stores
from shopstream_stack.bench.analytics.positions import Stored


def counted(bench: Bench, events: Iterable[EncodedEvent]) -> tuple[Stored, list[str]]:
    """Stored by the aggregates worker; what the items have not counted of it. Raises StackError."""
    alone = bench.alone("aggregates")
    before = events_of(alone.stores)
    found = alone.stored(lambda: bench.feed.send(events))
    more = events_of(alone.stores) - before
    return found, [] if more == found.events else [
        f"{more:,} events are counted of {found.events:,}"
    ]


def events_of(stores: Stores) -> int:
    """What the items of all events together have counted, by hour."""
    pages = stores.dynamo.get_paginator("scan").paginate(
        TableName=stores.target.aggregates_table,
        ConsistentRead=True,
        FilterExpression="begins_with(pk, :all) AND begins_with(sk, :hour)",
        ExpressionAttributeValues={":all": {"S": "all#"}, ":hour": {"S": "hour#"}},
    )
    return sum(int(item.get("events", {"N": "0"})["N"]) for page in pages for item in page["Items"])
