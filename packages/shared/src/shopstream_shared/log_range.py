"""Read a known range of the log once, as tools do that look something up.

Guarantee of `committed_records`: every committed record of each part's [begin, end), each once and
in the order of its part; nothing of what was aborted. Parts come in no order among each other.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from shopstream_shared.kafka import (
    METADATA_TIMEOUT_SECONDS,
    SETTLE_SECONDS_MAX,
    KafkaConnection,
    answer,
)

Part = tuple[str, int]

#: Where a part begins and ends; the library has no types here.
EARLIEST: Final[OffsetSpec] = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # as said
LATEST: Final[OffsetSpec] = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # as said

#: How often an open transaction is asked after.
SETTLE_POLL_SECONDS: Final = 0.05
#: A range that brings nothing for this long finds the broker away.
SILENCE_SECONDS_MAX: Final = 30.0
_POLL_SECONDS: Final = 0.2
_RECORDS_A_POLL: Final = 1_000


def log_offsets(
    admin: AdminClient,
    parts: Collection[Part],
    spec: OffsetSpec,
    *,
    committed: bool = False,
    timeout_seconds: float = METADATA_TIMEOUT_SECONDS,
) -> dict[Part, int]:
    """The offset that ``spec`` means in each part. Raises KafkaException.

    ``committed``: as a reader of committed records sees the log, whose end is the last stable
    offset; -1 for a time after which there is no record.
    """
    if not parts:
        return {}
    futures = admin.list_offsets(
        {TopicPartition(*part): spec for part in parts},
        isolation_level=(
            IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        ),
        request_timeout=timeout_seconds,
    )
    return {
        (where.topic, where.partition): int(answer(future, timeout_seconds).offset)
        for where, future in futures.items()
    }


def log_ends(
    admin: AdminClient,
    parts: Collection[Part],
    *,
    committed: bool = False,
    timeout_seconds: float = METADATA_TIMEOUT_SECONDS,
) -> dict[Part, int]:
    """Where the next record of each part will go, or may be read. Raises KafkaException."""
    return log_offsets(admin, parts, LATEST, committed=committed, timeout_seconds=timeout_seconds)


def settled_ends(
    admin: AdminClient,
    parts: Collection[Part],
    step: Callable[[], None],
    *,
    timeout_seconds: float = METADATA_TIMEOUT_SECONDS,
) -> dict[Part, int]:
    """The ends of now, once nothing below them is in an open transaction (protocol rule 7).

    What is written meanwhile keeps nobody waiting. ``step`` is called between the questions, of
    ``timeout_seconds`` each, and may raise. Raises KafkaException, also when a transaction stays
    open for SETTLE_SECONDS_MAX.
    """
    ends = log_ends(admin, parts, timeout_seconds=timeout_seconds)
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while True:
        step()
        stable = log_ends(admin, parts, committed=True, timeout_seconds=timeout_seconds)
        if all(stable[part] >= end for part, end in ends.items()):
            return ends
        if time.monotonic() > deadline:
            code = KafkaError._TIMED_OUT  # noqa: SLF001 - the library's name
            raise KafkaException(KafkaError(code, "a transaction stays open"))
        time.sleep(SETTLE_POLL_SECONDS)


def committed_records(
    connection: KafkaConnection,
    begin: Mapping[Part, int],
    end: Mapping[Part, int],
    *,
    step: Callable[[], None] = lambda: None,
) -> Iterator[Message]:
    """The records of [begin, end) of each part of ``begin``; ``step`` may raise to end the wait.

    Nothing below ``end`` may be in an open transaction, or it waits for its outcome. Raises
    KafkaException, also when the broker sends nothing for SILENCE_SECONDS_MAX.
    """
    open_parts = {part for part, offset in begin.items() if offset < end[part]}
    if not open_parts:
        return
    config = {**connection.consumer(connection.client_id), "enable.partition.eof": True}
    consumer = Consumer({**config, "auto.offset.reset": "earliest"})
    try:
        consumer.assign([TopicPartition(*part, begin[part]) for part in open_parts])
        heard = time.monotonic()
        while open_parts:
            step()
            for message in consumer.consume(_RECORDS_A_POLL, _POLL_SECONDS):
                heard = time.monotonic()
                part = (message.topic() or "", message.partition() or 0)
                offset = message.offset() or 0
                error = message.error()
                if error is None:
                    if offset < end[part]:
                        yield message
                    if offset + 1 >= end[part]:
                        open_parts.discard(part)
                elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    raise KafkaException(error)
                # Markers and aborted records are no messages: only this says that all was read.
                elif offset >= end[part]:
                    open_parts.discard(part)
            if time.monotonic() - heard > SILENCE_SECONDS_MAX:
                raise KafkaException(
                    KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001 - the library's name
                )
    finally:
        consumer.close()
