"""What a relay without guarantees would do: read, produce, wait for the acks, delete.

The relay's floor, in a process of its own as the relay is: the same rows read in the same way, the
same records, an idempotent producer, but no transaction and no record of progress. Killed between
the acks and the delete it doubles a batch. ``python -m shopstream_stack.bench.plain_loop``, with
the addresses of the database and the brokers in one line of its input.
"""

import sys
import time
from typing import Any, Final

import msgspec
import psycopg
from confluent_kafka import KafkaError, Message, Producer

from shopstream_shared.kafka import PARTITIONER
from shopstream_stack.bench.peer import say_ready

BATCH_ROWS: Final = 2_000
IDLE_SECONDS: Final = 0.005
FLUSH_SECONDS_MAX: Final = 30.0

_TAKE: Final = """
SELECT seq, topic, convert_to(aggregateid, 'UTF8'), payload, headers, time_ms
FROM outbox ORDER BY seq LIMIT %s
"""
_DELETE: Final = b"DELETE FROM outbox WHERE seq = ANY(%s)"
_headers: Final = msgspec.json.Decoder(list[tuple[str, str]]).decode


def run(database_url: str, brokers: str) -> None:
    """Publish what is there until killed."""
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": PARTITIONER,
            "compression.type": "lz4",
            "linger.ms": 5,
        }
    )
    producer.list_topics(timeout=FLUSH_SECONDS_MAX)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET enable_sort = off")
        say_ready()
        while True:
            if not _batch(connection, producer):
                time.sleep(IDLE_SECONDS)


def _batch(connection: psycopg.Connection[Any], producer: Producer) -> int:
    rows = connection.execute(_TAKE, (BATCH_ROWS,), prepare=True, binary=True).fetchall()
    for _, topic, key, value, headers, time_ms in rows:
        producer.produce(
            topic,
            value,
            key,
            on_delivery=_delivered,
            timestamp=time_ms,
            headers=[*_headers(headers)],
        )
    if rows:
        if producer.flush(FLUSH_SECONDS_MAX):
            sys.exit("the broker does not acknowledge")
        connection.execute(_DELETE, ([row[0] for row in rows],), prepare=True)
    return len(rows)


def _delivered(error: KafkaError | None, _message: Message) -> None:
    if error is not None:
        sys.exit(f"not delivered: {error}")


if __name__ == "__main__":
    # Not as arguments: those of a process are shown to everyone, and an address has a password.
    run(*sys.stdin.readline().split())
