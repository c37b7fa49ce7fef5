"""What a load has left behind, held against what its callers were told."""

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from shopstream_shared.kafka import KafkaConnection
from shopstream_stack.bench.place import Place
from shopstream_stack.bench.waiting import deadline
from shopstream_stack.demo.log_reader import LogReader, Offsets

READ_SECONDS_MAX: Final = 120.0
_POLL_SECONDS: Final = 0.5
_MESSAGES_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Fact:
    """One event as its headers name it."""

    type: str
    subject: str
    sequence: int


@dataclass(slots=True)
class Witness:
    """Notes where the log ends before a load, and reads what came after it."""

    place: Place
    start: Offsets

    @classmethod
    def before(cls, place: Place) -> "Witness":
        """Raises KafkaException."""
        return cls(place, LogReader(place.brokers).ends())

    def published(self) -> defaultdict[str, Counter[Fact]]:
        """Every committed event since then by seller, with how often it is there.

        The relay must have published all. Raises KafkaException, StackError.
        """
        found: defaultdict[str, Counter[Fact]] = defaultdict(Counter)

        def count(message: Any) -> None:
            headers = _headers(message)
            fact = Fact(headers["ce_type"], headers["ce_subject"], int(headers["ce_sequence"]))
            found[headers["ce_sellerid"]][fact] += 1

        read_log(self.place, self.start, count)
        return found

    def audited(self, seller: str) -> Counter[Fact]:
        """A seller's events from the table that is written with each of them."""
        with self.place.connect() as connection:
            rows = connection.execute(
                "SELECT type, subject::text, sequence FROM event_audit WHERE seller_id = %s",
                (seller,),
            ).fetchall()
        return Counter(Fact(*row) for row in rows)


def read_log(place: Place, start: Offsets, each: Callable[[Any], None]) -> None:
    """Call ``each`` with every committed message from ``start`` to the end.

    Raises KafkaException, and StackError when that takes READ_SECONDS_MAX.
    """
    config = KafkaConnection(place.brokers, "shopstream-bench").consumer("bench")
    consumer = Consumer(config | {"enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(t, p, at) for (t, p), at in start.items()])
        _read(consumer, len(start), each)
    finally:
        consumer.close()


def _read(consumer: Consumer, left: int, each: Callable[[Any], None]) -> None:
    in_time = deadline(READ_SECONDS_MAX, "the log is read to its end")
    while left:
        in_time()
        for message in consumer.consume(1, _POLL_SECONDS) + consumer.consume(_MESSAGES_MAX, 0):
            error = message.error()
            if error is None:
                each(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's only name
                left -= 1
            else:
                raise KafkaException(error)


def _headers(message: Any) -> Mapping[str, str]:
    return {name: value.decode() for name, value in message.headers() or ()}


def differences(
    what: str, wanted: Collection[str], seen: Sequence[str] | Counter[str]
) -> list[str]:
    """How ``seen`` differs from each of ``wanted`` exactly once; empty when it does not."""
    counted = Counter(seen)
    lost, phantom = set(wanted) - counted.keys(), counted.keys() - set(wanted)
    doubled = [one for one, count in counted.items() if count > 1]
    return [
        f"{what}: {len(ids)} {how}, the first {min(ids)}"
        for how, ids in (("lost", lost), ("of nobody", phantom), ("doubled", doubled))
        if ids
    ]


def check_created(
    witness: Witness, seller: str, created: Sequence[str], published: Counter[Fact]
) -> list[str]:
    """Acknowledged products = rows = audit rows = audited events = published events, once each."""
    with witness.place.connect() as connection:
        rows = connection.execute(
            "SELECT id::text FROM products WHERE seller_id = %s", (seller,)
        ).fetchall()
        audits = connection.execute(
            "SELECT entity_id::text FROM audit_log WHERE seller_id = %s", (seller,)
        ).fetchall()
    audited = witness.audited(seller)
    faults = differences("answers", created, created) if len(set(created)) != len(created) else []
    faults += differences("rows in products", created, [row for (row,) in rows])
    faults += differences("rows in audit_log", created, [row for (row,) in audits])
    faults += differences("rows in event_audit", created, _subjects(audited))
    faults += differences("events on the log", created, _subjects(published))
    odd = [fact for fact in audited + published if (fact.type, fact.sequence) != _FIRST]
    return faults + ([f"{len(odd)} events are no first product.created"] if odd else [])


_FIRST: Final = ("product.created", 1)


def _subjects(facts: Counter[Fact]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for fact, count in facts.items():
        counted[fact.subject] += count
    return counted


def new_seller(name: str) -> str:
    """A seller that nobody else has."""
    return f"bench-{name}-{uuid.uuid4().hex[:8]}"
