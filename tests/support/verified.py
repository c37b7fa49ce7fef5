"""A small shop whose parts have all done their work and stopped: for tests that then break it.

Real API, relay and analytics on the shared components, with a database, tables, a bucket and a
Kafka of their own. What arrived is in order when it is handed out; nothing runs any more that could
mend it.
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
from tests.support.analytics import Analytics, dynamo_client, read_log, s3_client
from tests.support.analytics_events import LogRecord
from tests.support.api import ApiProcess
from tests.support.components import LocalComponents

from shopstream_shared.clock import SystemClock
from shopstream_stack.demo.evidence import SeenEvent
from shopstream_stack.demo.oracle import Exchange
from shopstream_stack.demo.target import Target
from shopstream_stack.journal import Journal
from shopstream_stack.verify import Report, verify
from shopstream_stack.verify.waits import Waits

#: Nothing runs that could still come: what is not there now will not be.
NO_WAITS: Final = Waits(still_seconds_max=0.2)
SELLERS: Final = ("verify-1", "verify-2")


@dataclass(slots=True)
class SmallShop:
    """What was written, and where everything is."""

    environ: Mapping[str, str]
    target: Target
    folder: Path
    dynamo: Any
    s3: Any
    products: list[str] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)

    @property
    def journals(self) -> Path:
        return self.folder / "journal"

    def check(self, waits: Waits = NO_WAITS) -> Report:
        """One check, journals included."""
        return verify(self.target, [self.journals], data=self.folder, waits=waits)

    def log(self) -> list[LogRecord]:
        """Every committed record."""
        return read_log(self.environ["KAFKA_BROKERS"])

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """A statement on the shop's database; its rows, if it has any."""
        url = self.target.database_url.get_secret_value()
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def objects(self) -> list[str]:
        """The archive's keys."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.target.archive_bucket, Prefix="events/"
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


@contextmanager
def small_shop(components: LocalComponents, brokers: str, folder: Path) -> Iterator[SmallShop]:
    """Write, wait until all of it is everywhere, stop everything.

    ``brokers``: a Kafka that nobody else uses.
    """
    analytics = Analytics.fresh(components, folder, KAFKA_BROKERS=brokers)
    with ExitStack() as stack, ApiProcess.beside(components, KAFKA_BROKERS=brokers) as api:
        api.checked = False
        environ = {**analytics.environ, "DATABASE_URL": api.database_url}
        services = dict.fromkeys(("api", "notifications", "analytics", "web"), "http://127.0.0.1:1")
        dynamo = stack.enter_context(closing(dynamo_client(environ)))
        s3 = stack.enter_context(closing(s3_client(environ)))
        shop = SmallShop(environ, Target.of(services, environ), folder, dynamo, s3)
        with analytics.service() as service:
            service.wait_healthy()
            with Journal.open(shop.journals, "run", SystemClock()) as journal:
                # A turn's events are in the archive before the next turn, so that some object holds
                # several (a bulk is one transaction) and some partition has more than one object.
                for turn in (_write, _write_bulk, _write_again):
                    turn(shop, api.client, journal)
                    report = shop.check(Waits())
                    assert report.holds, json.dumps(report.as_json(), indent=1)
        api.terminate()
        with Journal.open(shop.journals, "clients", SystemClock()) as journal:
            _hear(journal, "everything", shop.log())
            mine = [record for record in shop.log() if SELLERS[0].encode() in (record.value or b"")]
            _hear(journal, "one seller", mine, seller_id=SELLERS[0])
        yield shop


def hear(shop: SmallShop, name: str, records: Sequence[LogRecord], **filters: Any) -> None:
    """A journal of one client that received these records, in this order."""
    with Journal.open(shop.journals, name, SystemClock()) as journal:
        _hear(journal, name, records, **filters)


def _hear(journal: Journal, name: str, records: Sequence[LogRecord], **filters: Any) -> None:
    journal.client(name, **filters)
    journal.connected(name, resumed=False)
    for record in records:
        assert record.value is not None
        journal.received(name, SeenEvent.read(record.value, "test", record.topic))


def _call(
    client: httpx.Client, journal: Journal, method: str, path: str, body: Any = None
) -> dict[str, Any]:
    """The answer to a request that is carried out, with a line in the journal."""
    key = {"Idempotency-Key": uuid.uuid4().hex}
    answer = client.request(method, path, json=body, headers=key)
    assert answer.is_success, answer.text
    told: dict[str, Any] = answer.json() if answer.content else {}
    journal.write(Exchange(method=method, path=path, status=answer.status_code, answer=told))
    return told


def _write_bulk(shop: SmallShop, client: httpx.Client, journal: Journal) -> None:
    """One transaction with more events than its topic has partitions."""
    items = [{"name": f"B{n}", "price": 1, "sellerId": SELLERS[n % 2]} for n in range(40)]
    _call(client, journal, "POST", "/products/bulk", {"items": items})


def _write_again(shop: SmallShop, client: httpx.Client, journal: Journal) -> None:
    """One more event, for a partition that has some."""
    _call(client, journal, "PATCH", f"/products/{shop.products[7]}", {"price": 5})


def _write(shop: SmallShop, client: httpx.Client, journal: Journal) -> None:
    """Some of everything: each kind of event, money paid and paid back, a deletion."""
    call = partial(_call, client, journal)

    for number in range(9):
        body = {"name": f"P{number}", "price": 9.99, "stock": 10, "sellerId": SELLERS[number % 2]}
        shop.products.append(call("POST", "/products", body)["id"])
    for number, product in enumerate(shop.products[:6]):
        call("PATCH", f"/products/{product}", {"price": 10 + number})
        call("POST", f"/products/{product}/stock-adjustments", {"delta": -1, "reason": "x"})
        items = [{"productId": product, "quantity": 4}]
        shop.orders.append(call("POST", "/orders", {"items": items})["id"])
    for order in shop.orders[:4]:
        call("POST", f"/orders/{order}/confirm")
        call("POST", f"/orders/{order}/pay")
    call("POST", f"/orders/{shop.orders[0]}/refunds", {"amountMinor": 333})
    call("POST", f"/orders/{shop.orders[1]}/refunds", {})
    call("POST", f"/orders/{shop.orders[4]}/cancel")
    call("POST", f"/products/{shop.products[6]}/reservations", {"quantity": 2})
    bulk = [{"name": "B", "price": 1, "sellerId": SELLERS[0]}, {"name": "", "price": 1}]
    call("POST", "/products/bulk", {"items": bulk})
    call("DELETE", f"/products/{shop.products[8]}")
