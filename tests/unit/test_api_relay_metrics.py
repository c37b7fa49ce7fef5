"""What operators watch of the relay, above all while it does not get on."""

import pytest
from prometheus_client import CollectorRegistry
from tests.support.relay_model import AGE_SECONDS, World, make, row

from shopstream_api.outbox.relay.wakeup import Wakeup


class Hours(Wakeup):
    """A clock on which each look is long after the last; stops after some pauses."""

    pauses = hours = 0

    def now(self) -> float:
        self.hours += 1
        return self.hours * 3_600.0

    def pause(self, seconds: float) -> None:
        self.pauses += 1
        if self.pauses > 3:
            self.stop()

    def wait(self, seconds: float) -> None:
        self.stop()


def _metrics_of(world: World) -> CollectorRegistry:
    """After a while of a relay."""
    registry = CollectorRegistry()
    make(world, waits=Hours(), registry=registry).run()
    return registry


@pytest.mark.parametrize(
    ("failures", "leader"),
    [
        pytest.param(["topics"] * 99, None, id="the broker is away"),
        pytest.param([], object(), id="another leads, and hangs"),
    ],
)
def test_what_waits_is_told_when_nothing_is_published(
    failures: list[str], leader: object | None
) -> None:
    world = World([row(seq) for seq in range(1, 8)], failures=failures, leader=leader)
    registry = _metrics_of(world)
    assert registry.get_sample_value("shopstream_relay_lag_rows", {"shard": "0"}) == 7
    assert registry.get_sample_value("shopstream_relay_lag_seconds", {"shard": "0"}) == AGE_SECONDS


def test_each_batch_is_measured() -> None:
    registry = _metrics_of(World([row(seq) for seq in range(1, 8)]))

    def sample(name: str) -> float | None:
        return registry.get_sample_value(f"shopstream_relay_{name}", {"shard": "0"})

    assert (sample("batch_rows_count"), sample("batch_rows_sum")) == (1, 7)
    # The clock is looked at before the batch, inside its commit and behind it.
    assert (sample("batch_seconds_count"), sample("batch_seconds_sum")) == (1, 2 * 3_600)
    assert sample("events_total") == 7
