"""Snapshot, then stream, over two relay shards (protocol rule 29), on the real components."""

import argparse
import asyncio
import itertools
import json
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import pytest
from tests.support.api import ApiProcess, published
from tests.support.components import LocalComponents
from tests.support.stream_service import StreamService
from tests.support.system import wait_until

from shopstream_api.outbox.relay import shards
from shopstream_api.settings import ApiSettings
from shopstream_shared.stream_id import StreamPosition
from shopstream_stack.demo.crowd import until
from shopstream_stack.stream_client import StreamClient
from shopstream_stack.stream_events import DomainEvent, Heartbeat, Opened, StreamEvent

WRITERS = 3
WRITES = 25  # of each
READERS = 8
SECONDS_MAX = 60.0
#: (topic, subject) → the version held.
Versions = Mapping[tuple[str, str], int]


@pytest.fixture
def api(components: LocalComponents) -> Iterator[ApiProcess]:
    """Its process leads both shards."""
    components.up("kafka", "postgres")
    with ApiProcess.beside(components, SHOPSTREAM_RELAY="off") as process:
        wait_until(lambda: process.answers("/health"), "the topics are there")
        settings = ApiSettings.model_validate(process.environ)
        assert shards.run(settings, argparse.Namespace(count=2)) == 0
        process.kill()
        process.start(SHOPSTREAM_RELAY="inline")
        wait_until(lambda: process.answers("/health"), "both shards are led")
        yield process


def test_the_position_is_past_what_either_shard_published(
    api: ApiProcess, components: LocalComponents
) -> None:
    by_shard: dict[int, str] = {}
    while len(by_shard) < 2:
        product = api.product()["id"]
        by_shard[int(product[-7:], 16) % 2] = product
    api.drained()
    answer = api.client.get(f"/products/{product}")
    again = api.client.get(
        f"/products/{product}", headers={"If-None-Match": answer.headers["etag"]}
    )
    position = StreamPosition.decode(answer.headers["X-Stream-Position"])

    for record in published(components.kafka_brokers, *by_shard.values()):
        assert position.next_offset(record.topic, record.partition) > record.offset
    assert (again.status_code, again.headers["X-Stream-Position"]) == (304, position.encode())


@dataclass(slots=True)
class Shop:
    """Writers on products of their own, all of one seller."""

    api: ApiProcess
    seller: str = field(default_factory=lambda: f"s{uuid.uuid4().hex}")
    written: int = 0

    def write(self, number: int) -> None:
        random = Random(number)
        mine = [self._new()]
        for _ in range(WRITES):
            product = random.choice(mine)
            step = random.randrange(5)
            if step == 0:
                mine.append(self._new())
            elif step == 1:
                self._done("PATCH", f"/products/{product}", {"price": random.randrange(1, 99)})
            elif step == 2:
                change = {"delta": random.randrange(1, 9), "reason": "found"}
                self._done("POST", f"/products/{product}/stock-adjustments", change)
            elif step == 3:
                items = [{"productId": product, "quantity": 1}]
                order = self._done("POST", "/orders", {"items": items})
                self._done("POST", f"/orders/{order['id']}/confirm", {})
            elif len(mine) > 1:
                mine.remove(product)
                self._done("DELETE", f"/products/{product}", None)
            self.written += 1

    def has_written(self, count: int) -> bool:
        return self.written >= count

    def _new(self) -> str:
        product: str = self.api.product(sellerId=self.seller, stock=100)["id"]
        return product

    def _done(self, method: str, path: str, body: Any) -> dict[str, Any]:
        key = {"Idempotency-Key": uuid.uuid4().hex}
        answer = self.api.client.request(method, path, json=body, headers=key)
        assert answer.is_success, answer.text
        answered: dict[str, Any] = answer.json() if answer.content else {}
        return answered

    def snapshot(self) -> "Snapshot":
        """All products and orders, and the older of the two reads' positions."""
        query = {"sellerId": self.seller, "limit": "100"}
        products = self.api.client.get("/products", params=query)
        orders = self.api.client.get("/orders", params=query)
        held: dict[tuple[str, str], int] = {}
        assert not products.json()["hasMore"] and not orders.json()["hasMore"]  # noqa: PT018 - one thing: all is shown
        for row in products.json()["data"]:
            held["shop.products", row["id"]] = row["version"]
            held["shop.inventory", row["id"]] = row["inventoryVersion"]
        for row in orders.json()["data"]:
            held["shop.orders", row["id"]] = row["version"]
        return Snapshot(products.headers["X-Stream-Position"], held)


@dataclass(slots=True)
class Snapshot:
    """What a read showed, brought up to date by the stream from its position."""

    position: str
    held: dict[tuple[str, str], int]
    deleted: set[str] = field(default_factory=set)
    #: Sequences of aggregates that were not shown and did not begin at 1.
    tails: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))

    def take(self, event: StreamEvent) -> None:
        """Apply an event by the client's rule: not above the version held is dropped."""
        if isinstance(event, Opened):
            assert event == Opened(resumed=True, replay_from=self.position)
            return
        if isinstance(event, Heartbeat):
            return
        assert isinstance(event, DomainEvent), event
        body = json.loads(event.data)
        topic = _topic(body["type"])
        key, sequence = (topic, body["subject"]), int(body["sequence"])
        if body["type"] == "product.deleted":
            self.deleted.add(body["subject"])
        held = self.held.get(key)
        if held is None and sequence > 1:
            self.tails[key].append(sequence)
        elif sequence > (held or 0):
            assert sequence == (held or 0) + 1, f"{key} goes from {held} to {sequence}"
            self.held[key] = sequence

    def living(self) -> Versions:
        """Versions of all that was not deleted; an inventory nobody touched counts as none."""
        return {
            (topic, subject): version
            for (topic, subject), version in self.held.items()
            if subject not in self.deleted and version
        }

    def tails_ended(self) -> bool:
        """Whether what passed of aggregates that were not shown was of deleted products."""
        return all(subject in self.deleted for _, subject in self.tails)


def _topic(event_type: str) -> str:
    if event_type.startswith("order."):
        return "shop.orders"
    warnings = ("product.low_stock", "product.out_of_stock")
    if event_type.startswith("inventory.") or event_type in warnings:
        return "shop.inventory"
    return "shop.products"


def test_e05_a_snapshot_and_the_stream_from_its_position_are_the_state(
    api: ApiProcess, components: LocalComponents
) -> None:
    """Read at any moment of concurrent writes: no version is missing, and the end is the truth."""

    async def run(service: StreamService) -> None:
        shop = Shop(api)
        writers = [asyncio.create_task(asyncio.to_thread(shop.write, n)) for n in range(WRITERS)]
        readers: list[Snapshot] = []
        async with asyncio.TaskGroup() as tasks:
            followers = []
            for number in range(READERS):
                wanted = number * WRITERS * WRITES // READERS
                assert await until(partial(shop.has_written, wanted), SECONDS_MAX)
                snapshot = await asyncio.to_thread(shop.snapshot)
                readers.append(snapshot)
                followers.append(tasks.create_task(_follow(service, shop, snapshot, number)))
            await asyncio.gather(*writers)
            truth = (await asyncio.to_thread(shop.snapshot)).living()
            assert len({topic for topic, _ in truth}) == 3
            complete = await until(
                lambda: all(r.living() == truth and r.tails_ended() for r in readers), SECONDS_MAX
            )
            for follower in followers:
                follower.cancel()
        assert complete, [set(r.living().items()) ^ set(truth.items()) for r in readers]
        for tail in itertools.chain.from_iterable(r.tails.values() for r in readers):
            assert tail == list(range(tail[0], tail[0] + len(tail)))

    with StreamService(components.kafka_brokers) as service:
        asyncio.run(run(service))


async def _follow(service: StreamService, shop: Shop, snapshot: Snapshot, number: int) -> None:
    url = f"{service.url}/events/stream?sellerId={shop.seller}"
    if number % 2:  # as a client that cannot set the header
        client = StreamClient(f"{url}&lastEventId={snapshot.position}")
    else:
        client = StreamClient(url, last_event_id=snapshot.position)
    async with aclosing(client.events()) as events:
        async for event in events:
            snapshot.take(event)
