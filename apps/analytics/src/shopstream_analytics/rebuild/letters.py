"""Which archived records have a dead letter: they are counted, but have no part in partition time.

At their place in the log nobody knew their time, and what came after them was judged without
(docs/adr/0039).
"""

from collections.abc import Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_shared.generations import source_name
from shopstream_shared.kafka import KafkaConnection, topic_states
from shopstream_shared.letter_head import read_head
from shopstream_shared.log_range import EARLIEST, committed_records, log_offsets, settled_ends
from shopstream_shared.topics import DEAD_LETTER


def read_letters(settings: AnalyticsSettings) -> Mapping[Source, frozenset[int]]:
    """The offsets that have one, by what items call their source. Raises RebuildFailed."""
    kafka = KafkaConnection(settings.kafka_brokers, "shopstream-rebuild")
    found: dict[Source, set[int]] = {}
    try:
        admin = AdminClient(kafka.admin())
        state = topic_states(admin, (DEAD_LETTER,)).get(DEAD_LETTER)
        parts = [(DEAD_LETTER, n) for n in range(0 if state is None else state.partitions)]
        begins = log_offsets(admin, parts, EARLIEST)
        for message in committed_records(kafka, begins, settled_ends(admin, parts, _go_on)):
            head = read_head(message.headers())
            if head is not None:
                source = Source(source_name(head.topic, head.epoch), head.partition)
                found.setdefault(source, set()).add(head.offset)
    except KafkaException as error:
        raise RebuildFailed(f"broker at {settings.kafka_brokers}: {error.args[0].str()}") from error
    return {source: frozenset(offsets) for source, offsets in found.items()}


def _go_on() -> None:
    """Nobody ends the wait for open transactions but its own bound."""
