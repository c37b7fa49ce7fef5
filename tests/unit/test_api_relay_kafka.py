"""What the relay asks the broker besides its transactions, without a broker."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec

from shopstream_api.outbox.relay import kafka
from shopstream_api.outbox.relay.kafka import KafkaLog, _Reports
from shopstream_api.outbox.relay.ports import Row
from shopstream_api.outbox.relay.postgres import IDLE_SESSION_TIMEOUT_MS
from shopstream_api.outbox.relay.relay import PING_SECONDS
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import PRODUCTS

#: `answer` lets the request's own time-out come first.
MARGIN_SECONDS = 1.0


class Admin:
    """Answers at once, and notes how long it would have been waited for."""

    def __init__(self, noted: list[float | str]) -> None:
        self._noted = noted

    def describe_topics(
        self, topics: TopicCollection, *, request_timeout: float
    ) -> dict[str, Future[SimpleNamespace]]:
        self._noted.append(request_timeout)
        one = SimpleNamespace(topic_id="one", partitions=[0])
        return {name: _done(one) for name in topics.topic_names}

    def list_offsets(
        self,
        wanted: dict[TopicPartition, OffsetSpec],
        *,
        isolation_level: object,
        request_timeout: float,
    ) -> dict[TopicPartition, Future[SimpleNamespace]]:
        assert isolation_level is not None
        self._noted.append(request_timeout)
        return {place: _done(SimpleNamespace(offset=7)) for place in wanted}


def _done(found: SimpleNamespace) -> Future[SimpleNamespace]:
    future: Future[SimpleNamespace] = Future()
    future.set_result(found)
    return future


def test_before_each_question_to_the_broker_is_a_heartbeat_soon_enough_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 9: the server ends a silent session, and each question may wait its whole time."""
    noted: list[float | str] = []
    monkeypatch.setattr(kafka, "AdminClient", lambda _: Admin(noted))
    log = KafkaLog(KafkaConnection("127.0.0.1:1", "test"), lambda: noted.append("beat"))
    log.topics()
    assert log.end_position()[PRODUCTS, 0] == 7
    assert (log._final_end(), log._first_offset()) == (7, 7)
    waits = [note for note in noted if isinstance(note, float)]
    assert noted == [note for wait in waits for note in ("beat", wait)]
    assert PING_SECONDS + max(waits) + MARGIN_SECONDS < IDLE_SESSION_TIMEOUT_MS / 1_000


def test_what_was_damaged_on_its_way_is_no_event_refused_for_good() -> None:
    """Rule 11: a wrong checksum is the network's doing."""
    row = Row(1, PRODUCTS, b"k", b"v", (), 0, 1, 1)
    with pytest.raises(KafkaException):
        _Reports([row]).refuse(KafkaError(KafkaError.INVALID_MSG), row)
