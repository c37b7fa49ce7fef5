"""Holds what was read back against what the oracle expects: a row a step, a verdict a row.

Pure. The words are Jepsen's: an event is *lost* where it should be and is not, *doubled* where it
is more than once, a *phantom* where nothing caused it, *reordered* when a later version of one
(topic, subject) comes before an earlier one. Everywhere the bytes are held against the log's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shopstream_stack.demo.evidence import Key, Readback, SeenEvent, WatcherReading
from shopstream_stack.demo.oracle import ExpectedEvent, Oracle
from shopstream_stack.demo.tally import Selling

#: So many faults of one row are spelled out.
FAULTS_SHOWN_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report. It holds when nothing is wrong."""

    step: str
    expected: str
    seen: str
    faults: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.faults


def judge(oracle: Oracle, readback: Readback, shared: frozenset[str] = frozenset()) -> list[Row]:
    """All rows on what arrived where.

    ``shared`` are sellers that others use too, as the guide's ``seller1``: their sums are not ours
    to count, their events of this run are.
    """
    bodies = {event.key: event.body for event in readback.log}
    return [
        stock_row(oracle, readback.stocks),
        log_row(oracle.events, readback.log, readback.log_faults),
        *stream_rows(oracle.events, readback.watchers, bodies),
        table_row(oracle.events, readback.recent, bodies),
        listed_row(readback.log, readback.recent_listed),
        *totals_rows(oracle, readback, shared),
        selling_row(oracle, readback, shared),
        types_row(oracle.events, readback.types_grown),
        archive_row(oracle.events, readback, bodies),
    ]


def stock_row(oracle: Oracle, stocks: Mapping[str, int | None]) -> Row:
    """REST shows the stock that the exchanges add up to; deleted products are gone."""
    expected = {
        product.id: None if product.deleted else product.stock
        for product in oracle.products.values()
    }
    faults = [
        f"{product}: stock {stocks.get(product, 'unread')}, not {stock}"
        for product, stock in expected.items()
        if product not in stocks or stocks[product] != stock
    ]
    units = sum(stock for stock in stocks.values() if stock is not None)
    return Row(
        "REST: products and units in stock",
        f"{len(expected)} products, {sum(stock or 0 for stock in expected.values())} units",
        f"{len(stocks)} products, {units} units",
        tuple(faults),
    )


def log_row(
    expected: Sequence[ExpectedEvent], log: Sequence[SeenEvent], around: Iterable[str]
) -> Row:
    """The log holds every event once, in order, and no other, each with its key and headers."""
    faults = [*around, *_held_once(expected, log), *_reordered(log), *_repeated_ids(log)]
    return Row("Kafka: events, read committed", str(len(expected)), str(len(log)), tuple(faults))


def stream_rows(
    expected: Sequence[ExpectedEvent],
    watchers: Iterable[WatcherReading],
    bodies: Mapping[Key, bytes],
) -> Iterator[Row]:
    """A row for each group of clients: every client saw what it asked for, once, in order."""
    groups: defaultdict[str, list[WatcherReading]] = defaultdict(list)
    for watcher in watchers:
        groups[watcher.group].append(watcher)
    for group, members in groups.items():
        wanted = [event for event in expected if members[0].wants(event)]
        faults: list[str] = []
        for member in members:
            faults += [
                f"{member.name}: {fault}" for fault in _member_faults(member, wanted, bodies)
            ]
        seen_count = sum(len(member.receipts) for member in members)
        again = sum(len(member.opens) - 1 for member in members)
        yield Row(
            f"SSE: {len(members)} x {group}",
            str(len(wanted) * len(members)),
            f"{seen_count}" + (f", {again} resumed" if again else ""),
            tuple(faults),
        )


def table_row(
    expected: Sequence[ExpectedEvent], recent: Sequence[SeenEvent], bodies: Mapping[Key, bytes]
) -> Row:
    """RecentEvents holds every event once, byte for byte."""
    faults = [*_held_once(expected, recent), *_other_bytes(recent, bodies)]
    return Row("DynamoDB: recent events", str(len(expected)), str(len(recent)), tuple(faults))


def listed_row(log: Sequence[SeenEvent], listed: Mapping[str, Sequence[str]]) -> Row:
    """GET /events/recent lists each event of each seller once."""
    faults = []
    wanted_count = seen_count = 0
    for seller in sorted({event.seller_id for event in log} | set(listed)):
        wanted = {event.event_id for event in log if event.seller_id == seller}
        seen = Counter(listed.get(seller, ()))
        wanted_count += len(wanted)
        seen_count += sum(seen[event_id] for event_id in wanted)
        faults += [f"lost: {seller} {event_id}" for event_id in sorted(wanted - set(seen))]
        faults += [f"doubled: {seller} {event_id}" for event_id, n in seen.items() if n > 1]
    return Row("Read API: recent events", str(wanted_count), str(seen_count), tuple(faults))


def totals_rows(oracle: Oracle, readback: Readback, shared: frozenset[str]) -> Iterator[Row]:
    """Aggregates by seller and by product, to the cent."""
    for kind, tallies, seen in (
        ("seller", oracle.sellers, readback.sellers),
        ("product", oracle.per_product, readback.products),
    ):
        wanted = {name: tally.as_json() for name, tally in tallies.items() if name not in shared}
        faults = [
            f"{kind} {name}: {member} is {theirs.get(member)}, not {ours.get(member)}"
            for name in sorted(wanted.keys() | seen.keys())
            for ours, theirs in [(wanted.get(name, {}), seen.get(name, {}))]
            for member in ours.keys() | theirs.keys()
            if ours.get(member) != theirs.get(member)
        ]
        yield Row(
            f"Read API: aggregates of {len(wanted)} {kind}s",
            _totals_text(wanted.values()),
            _totals_text(seen.values()),
            tuple(faults),
        )


def selling_row(oracle: Oracle, readback: Readback, shared: frozenset[str]) -> Row:
    """How many orders reached each state, and what paid orders were worth, to the cent."""
    wanted = {
        seller: selling.as_json()
        for seller, selling in oracle.selling.items()
        if seller not in shared
    }
    nothing = Selling().as_json()
    faults = [
        f"seller {seller}: {member} is {theirs[member]}, not {ours[member]}"
        for seller in sorted(wanted.keys() | readback.selling.keys())
        for ours, theirs in [
            (wanted.get(seller, nothing), readback.selling.get(seller, nothing)),
        ]
        for member in nothing
        if ours[member] != theirs[member]
    ]
    step = f"Read API: funnel and order value of {len(wanted)} sellers"
    return Row(step, _reached(wanted.values()), _reached(readback.selling.values()), tuple(faults))


def _reached(many: Iterable[Mapping[str, Any]]) -> str:
    reached = Counter[str]()
    for one in many:
        reached.update(one["funnel"])
    return f"{reached['paid']} paid, {reached['shipped']} shipped, {reached['refunded']} refunded"


def types_row(expected: Sequence[ExpectedEvent], grown: Mapping[str, int]) -> Row:
    """Each event type's count grew by our events at least; the system may have other users."""
    wanted = Counter(event.type for event in expected)
    faults = [
        f"{name} grew by {grown.get(name, 0)}, not by {count} or more"
        for name, count in sorted(wanted.items())
        if grown.get(name, 0) < count
    ]
    seen = sum(grown.values())
    text = f"{len(wanted)} types, {len(expected)} or more"
    return Row("Read API: growth by event type", text, f"{len(grown)} types, {seen}", tuple(faults))


def archive_row(
    expected: Sequence[ExpectedEvent], readback: Readback, bodies: Mapping[Key, bytes]
) -> Row:
    """The archive holds every event once, byte for byte, in objects whose chain is whole."""
    faults = [
        *readback.archive_faults,
        *_held_once(expected, readback.archive),
        *_other_bytes(readback.archive, bodies),
    ]
    seen = f"{len(readback.archive)} in {readback.archive_objects} objects"
    return Row("MinIO: archived events, chain, sha256", str(len(expected)), seen, tuple(faults))


def _member_faults(
    member: WatcherReading, wanted: Sequence[ExpectedEvent], bodies: Mapping[Key, bytes]
) -> Iterator[str]:
    seen = [receipt.event for receipt in member.receipts]
    yield from _held_once(wanted, seen)
    yield from _reordered(seen)
    yield from _other_bytes(seen, bodies)
    yield from member.gaps
    yield from _not_resumed(member)


def _not_resumed(member: WatcherReading) -> Iterator[str]:
    again = member.opens[1:]
    if False in again:
        yield "connected again without resuming"
    if len(again) < member.cuts:
        yield f"cut {member.cuts} times, back {len(again)} times"


def _held_once(expected: Sequence[ExpectedEvent], seen: Sequence[SeenEvent]) -> Iterator[str]:
    wanted = {event.key: event for event in expected}
    counts = Counter(event.key for event in seen)
    for key, event in wanted.items():
        if key not in counts:
            yield f"lost: {event.type} {_text(key)}"
    for one in {event.key: event for event in seen}.values():
        if counts[one.key] > 1:
            yield f"doubled: {one.type} {_text(one.key)}, {counts[one.key]} times, {one.place}"
        if one.key not in wanted:
            yield f"phantom: {one.type} {_text(one.key)}, {one.place}"
        elif (one.type, one.seller_id) != (wanted[one.key].type, wanted[one.key].seller_id):
            yield f"{one.place}: {one.type} of {one.seller_id}, not {wanted[one.key].type}"


def _reordered(seen: Iterable[SeenEvent]) -> Iterator[str]:
    last: dict[tuple[str, str], int] = {}
    for event in seen:
        before = last.get((event.topic, event.subject), 0)
        if event.sequence < before:
            yield f"reordered: {_text(event.key)} after {before}, {event.place}"
        last[event.topic, event.subject] = event.sequence


def _repeated_ids(seen: Iterable[SeenEvent]) -> Iterator[str]:
    counts = Counter(event.event_id for event in seen)
    return (f"event id {name} stands {n} times" for name, n in counts.items() if n > 1)


def _other_bytes(seen: Iterable[SeenEvent], bodies: Mapping[Key, bytes]) -> Iterator[str]:
    return (
        f"other bytes than the log's: {_text(event.key)}, {event.place}"
        for event in seen
        if event.key in bodies and event.body != bodies[event.key]
    )


def _text(key: Key) -> str:
    return f"{key[0]} {key[1]} #{key[2]}"


def _totals_text(many: Iterable[Mapping[str, Any]]) -> str:
    totals = list(many)

    def add(name: str) -> int:
        return sum(one.get(name, 0) for one in totals)

    warnings = add("lowStockWarnings") + add("outOfStock")
    return (
        f"{add('events')} events, {add('orders')} orders, {add('units')} units, "
        f"{add('cancelled')} cancelled, {warnings} warnings"
    )
