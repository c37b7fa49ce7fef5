"""Topics that a test deletes, makes and looks at, on a broker of its own."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka.admin import AdminClient
from tests.support.api import COMMAND, ApiProcess, Published
from tests.support.components import LocalComponents
from tests.support.system import wait_until
from tests.support.warm import forks

from shopstream_api.outbox.relay.kafka import KafkaLog
from shopstream_shared.boundaries import Boundary
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topic_admin import ensure_topics
from shopstream_shared.topics import load_topics


def delete(own: LocalComponents, *topics: str) -> None:
    admin = AdminClient({"bootstrap.servers": own.kafka_brokers})
    for future in admin.delete_topics(list(topics)).values() if topics else ():
        future.result(10)
    wait_until(
        lambda: not set(topics) & admin.list_topics(timeout=10).topics.keys(), "they are gone"
    )


def end_transactions(api: ApiProcess) -> None:
    """Abort what its relays, none of which runs any more, have left open.

    The broker knows a transaction's topics by name: one that it ends when its time is out, some
    ten seconds later, gets its marker into the next test's topic of that name.
    """
    log = KafkaLog(KafkaConnection(api.environ["KAFKA_BROKERS"], "tests"), lambda: None)
    for (transactional_id,) in api.query("SELECT transactional_id FROM relay_state"):
        if transactional_id is not None:
            log.fence(transactional_id)
    log.close()


def make(own: LocalComponents) -> None:
    admin = AdminClient({"bootstrap.servers": own.kafka_brokers})
    ensure_topics(admin, load_topics("local").values())


def run(api: ApiProcess, *words: str, **environ: str) -> tuple[int, str]:
    """`shopstream-api …`: exit code and all that it printed."""
    with tempfile.NamedTemporaryFile() as printed:
        ended = forks("shopstream_api.main").start(
            [COMMAND, *words], {**api.environ, **environ}, printed.fileno()
        )
        return ended.wait(120), Path(printed.name).read_text()


def topics(api: ApiProcess, *words: str, **environ: str) -> tuple[int, str]:
    return run(api, "topics", *words, **environ)


def relay_says(api: ApiProcess) -> str:
    message: str = api.client.get("/health").json()["checks"]["relay"]["message"]
    return message


def partitions(own: LocalComponents, topic: str) -> int:
    admin = AdminClient({"bootstrap.servers": own.kafka_brokers})
    return len(admin.list_topics(topic, timeout=10).topics[topic].partitions)


def assert_once_and_in_order(
    found: Sequence[Published], api: ApiProcess, boundaries: Sequence[Boundary] = ()
) -> None:
    """All that the database says was caused, each once; in order of its key, below each boundary
    before above it, and in one partition between two of them."""
    wanted = api.query("SELECT topic, subject::text, sequence FROM event_audit")
    assert Counter((r.topic, r.key, r.sequence) for r in found) == Counter(wanted)
    places: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    sequences: dict[tuple[str, str], list[int]] = defaultdict(list)
    for r in sorted(found, key=lambda r: (era(r, boundaries), r.partition, r.offset)):
        places[r.topic, r.key, era(r, boundaries)].add(r.partition)
        sequences[r.topic, r.key].append(r.sequence)
    assert all(len(partitions) == 1 for partitions in places.values()), places
    assert all(numbers == sorted(numbers) for numbers in sequences.values()), sequences


def era(record: Published, boundaries: Sequence[Boundary]) -> int:
    """How many boundaries of its topic the record lies above."""
    return sum(
        record.partition >= len(one.ends) or record.offset >= one.ends[record.partition]
        for one in boundaries
        if one.topic == record.topic
    )
