"""What the engine overrides in Faust, mode and aiokafka is still there, in the shape it relies on.

A new version of one of the three turns this red; then the overrides are read against it before the
versions here are raised (ADR 0028).
"""

import importlib.metadata
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]  # ships no types
from aiokafka.consumer import (  # type: ignore[import-untyped]  # ships no types
    fetcher,
    group_coordinator,
    subscription_state,
)
from faust.app.base import App
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from mode.services import ServiceBase
from mode.threads import QueueServiceThread

from shopstream_analytics.consumer.app import BatchApp
from shopstream_analytics.consumer.driver import BatchConsumer, BatchThread

VERSIONS = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

#: Overridden by us: theirs, ours.
OVERRIDDEN: list[tuple[type, type, str]] = [
    (driver.AIOKafkaConsumerThread, BatchThread, "_create_worker_consumer"),
    (driver.AIOKafkaConsumerThread, BatchThread, "on_start"),
    (driver.Consumer, BatchConsumer, "_new_consumer_thread"),
    (driver.Consumer, BatchConsumer, "_to_message"),
    (faust_consumer.Consumer, BatchConsumer, "_wait_next_records"),
    (faust_consumer.Consumer, BatchConsumer, "perform_seek"),
    (faust_consumer.Consumer, BatchConsumer, "on_partitions_revoked"),
    (faust_consumer.Consumer, BatchConsumer, "_filter_tps_with_pending_acks"),
    (faust_consumer.Consumer, BatchConsumer, "_new_offset"),
    (faust_consumer.Consumer, BatchConsumer, "_add_gap"),
    (App, BatchApp, "_new_transport"),
]

#: Called by us: where, name, parameters.
CALLED: list[tuple[Any, str, list[str]]] = [
    (driver.AIOKafkaConsumerThread, "_ensure_consumer", ["self"]),
    (driver.Consumer, "_new_topicpartition", ["self", "topic", "partition"]),
    (faust_consumer.Consumer, "_get_active_partitions", ["self"]),
    (faust_consumer.Consumer, "stop_flow", ["self"]),
    (QueueServiceThread, "call_thread", ["self", "fun", "args", "kwargs"]),
    (AIOKafkaConsumer, "seek", ["self", "partition", "offset"]),
    (AIOKafkaConsumer, "last_stable_offset", ["self", "partition"]),
    (AIOKafkaConsumer, "beginning_offsets", ["self", "partitions"]),
    (AIOKafkaConsumer, "end_offsets", ["self", "partitions"]),
    (fetcher.Fetcher, "_create_fetch_waiter", ["self"]),
    (fetcher.Fetcher, "_notify", ["self", "future"]),
    (fetcher.FetchResult, "check_assignment", ["self", "tp"]),
    (fetcher.FetchResult, "has_more", ["self"]),
    (fetcher.FetchResult, "_update_position", ["self"]),
    (fetcher.FetchError, "check_raise", ["self"]),
    (fetcher.PartitionRecords, "_consumer_record", ["self", "tp", "record"]),
    (group_coordinator.GroupCoordinator, "check_errors", ["self"]),
    (group_coordinator.GroupCoordinator, "request_rejoin", ["self"]),
    (subscription_state.SubscriptionState, "fetch_context", ["self"]),
    (subscription_state.TopicPartitionState, "consumed_to", ["self", "position"]),
]

#: Attributes that we read or set, by the method of theirs that makes or uses them.
ATTRIBUTES: list[tuple[Callable[..., Any], list[str]]] = [
    (AIOKafkaConsumer.__init__, ["_isolation_level", "_fetch_min_bytes", "_fetch_max_wait_ms"]),
    (AIOKafkaConsumer.start, ["_fetcher", "_coordinator"]),
    (AIOKafkaConsumer.stop, ["_closed"]),
    (fetcher.Fetcher.__init__, ["_records", "_subscriptions", "_wait_consume_future", "_closed"]),
    (fetcher.Fetcher._proc_fetch_request, ["_prefetch_backoff"]),
    (fetcher.FetchResult.__init__, ["_assignment", "_partition_records"]),
    (fetcher.PartitionRecords.__init__, ["_records_iterator", "next_fetch_offset"]),
    (group_coordinator.GroupCoordinator._maybe_leave_group, ["_group_instance_id"]),
    (
        faust_consumer.Consumer.__init__,
        ["_acked", "_acked_index", "_read_offset", "_committed_offset"],
    ),
    (ServiceBase.__init__, ["log"]),
    (driver.ConsumerRebalanceListener.on_partitions_assigned, ["consumer_generation_id"]),
]


@pytest.mark.parametrize("name", VERSIONS)
def test_the_overrides_run_with_the_versions_they_were_written_for(name: str) -> None:
    assert importlib.metadata.version(name) == VERSIONS[name]


@pytest.mark.parametrize(("theirs", "ours", "name"), OVERRIDDEN, ids=[n for _, _, n in OVERRIDDEN])
def test_an_override_takes_what_the_method_it_replaces_takes(
    theirs: type, ours: type, name: str
) -> None:
    assert name in vars(ours)
    old, new = vars(theirs)[name], vars(ours)[name]
    assert inspect.iscoroutinefunction(inspect.unwrap(old)) == inspect.iscoroutinefunction(new)
    assert list(inspect.signature(old).parameters) == list(inspect.signature(new).parameters)


@pytest.mark.parametrize(("owner", "name", "parameters"), CALLED, ids=[n for _, n, _ in CALLED])
def test_a_method_that_is_called_takes_what_it_is_given(
    owner: Any, name: str, parameters: list[str]
) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


@pytest.mark.parametrize(
    ("maker", "names"), ATTRIBUTES, ids=[maker.__qualname__ for maker, _ in ATTRIBUTES]
)
def test_an_attribute_that_is_read_or_set_is_still_theirs(
    maker: Callable[..., Any], names: list[str]
) -> None:
    used = inspect.getsource(inspect.unwrap(maker))
    assert [name for name in names if not re.search(rf"\.{name}\b", used)] == []
