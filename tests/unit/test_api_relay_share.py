"""Which shards a process may lead, and when it gives one up."""

from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from shopstream_api.outbox.relay import share as share_module
from shopstream_api.outbox.relay.metrics import RelayMetrics
from shopstream_api.outbox.relay.shards import transactional_id_of
from shopstream_api.outbox.relay.share import EXCLUDED_SECONDS, Share
from shopstream_api.outbox.relay.status import RelayStatuses
from shopstream_shared.clock import SystemClock


def _led(share: Share, shards: int) -> list[int]:
    return [shard for shard in range(shards) if share.take(shard)]


@pytest.mark.parametrize(
    ("shards", "processes", "part"), [(1, 1, 1), (1, 3, 1), (4, 1, 4), (4, 3, 2), (4, 4, 1)]
)
def test_a_process_leads_at_most_its_part_of_the_shards(
    shards: int, processes: int, part: int
) -> None:
    share = Share()
    share.see(shards, processes)
    assert _led(share, shards) == list(range(part))


def test_a_process_alone_leads_all_and_gives_up_no_more_than_another_may_have() -> None:
    share = Share()
    share.see(4, 1)
    assert _led(share, 4) == [0, 1, 2, 3]
    share.see(4, 2)
    assert [shard for shard in range(4) if share.surplus(shard)] == [0, 1]
    assert not share.take(0)


def test_shards_of_one_that_died_may_be_taken() -> None:
    share = Share()
    share.see(4, 2)
    assert _led(share, 4) == [0, 1]
    share.see(4, 1)
    assert share.take(2)


def test_a_shard_that_is_no_more_is_led_by_nobody() -> None:
    share = Share()
    share.see(2, 1)
    assert _led(share, 2) == [0, 1]
    share.see(1, 1)
    assert share.surplus(1)
    assert not share.take(1)


def test_a_process_whose_relay_failed_is_not_counted_for_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000.0
    monkeypatch.setattr(share_module, "time", SimpleNamespace(monotonic=lambda: now))
    share = Share()
    assert not share.excluded()
    share.seat(0).failed()
    assert share.excluded()
    now += EXCLUDED_SECONDS
    assert not share.excluded()


def test_one_shard_has_the_configured_transactional_id_and_others_their_own() -> None:
    """Protocol rule 5."""
    assert [transactional_id_of("t", shard) for shard in range(3)] == ["t", "t-1", "t-2"]


def test_health_names_the_shards_where_there_are_several() -> None:
    statuses = RelayStatuses()
    assert statuses.well() == "off"
    assert not statuses.leads_all()
    first = statuses.add(0)
    assert statuses.sick() == "starting"
    first.leading()
    assert (statuses.sick(), statuses.well()) == (None, "leading")
    assert statuses.leads_all()
    second = statuses.add(1)
    second.standby()
    assert statuses.well() == "shard 0 leading; shard 1 standby"
    assert not statuses.leads_all()
    second.failed("no broker")
    assert statuses.sick() == "shard 1 failing: no broker"


def test_metrics_are_by_shard() -> None:
    registry = CollectorRegistry()
    first = RelayMetrics(registry, SystemClock())
    first.published(3, 0.1)
    first.of(1).published(2, 0.1)
    name = "shopstream_relay_events_total"
    assert [registry.get_sample_value(name, {"shard": shard}) for shard in "01"] == [3, 2]
