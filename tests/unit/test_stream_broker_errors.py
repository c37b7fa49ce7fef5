"""What the stream's reader says of a broker that is away."""

from unittest.mock import MagicMock

import pytest
from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from shopstream_notifications import consumer as reading
from shopstream_notifications.consumer import SAID_SECONDS, StreamConsumer
from shopstream_notifications.source import Source
from shopstream_shared.kafka import KafkaConnection


def test_an_error_that_lasts_is_said_now_and_then_and_each_kind_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """librdkafka reports each of its 20 attempts a second."""
    now = [100.0]
    monkeypatch.setattr(reading, "time", MagicMock(monotonic=lambda: now[0]))
    reader = StreamConsumer(
        KafkaConnection("localhost:9092", "example"), MagicMock(), Source(), MagicMock()
    )
    refused, down = (
        KafkaError(code) for code in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
    )
    with capture_logs() as logged:
        for _ in range(400):
            reader.on_error(refused)
            now[0] += SAID_SECONDS / 200
        reader.on_error(down)
    assert [line["code"] for line in logged] == ["_TRANSPORT", "_TRANSPORT", "_ALL_BROKERS_DOWN"]
