"""Parts stop, die and come back under load; what arrives stays exact."""

import asyncio
from functools import partial

import httpx
import psutil
import pytest
from tests.support.demo import a_shop
from tests.support.system import LocalSystem, wait_until

from shopstream_stack.demo.crowd import until
from shopstream_stack.demo.evidence import WatcherReading

pytestmark = pytest.mark.timeout(300)

WORKERS = ("aggregates", "recent", "archive")


def worker(system: LocalSystem, name: str) -> psutil.Process | None:
    """The process of one analytics worker, None while there is none."""
    try:
        children = psutil.Process(system.pid("analytics")).children(recursive=True)
        found = [child for child in children if name in child.cmdline()]
    except psutil.NoSuchProcess:
        return None
    return found[0] if found else None


def living_worker(system: LocalSystem, name: str) -> psutil.Process:
    wait_until(lambda: worker(system, name), f"the worker {name}")
    found = worker(system, name)
    assert found is not None
    return found


def test_what_a_seller_writes_arrives_on_all_four_components_and_in_the_browser(
    system: LocalSystem,
) -> None:
    async def run() -> None:
        everything = WatcherReading("all", "everything")
        orders = WatcherReading("orders", "orders", types=("order.*",))
        async with a_shop(system, [everything, orders]) as shop:
            await shop.create(2, stock=9)
            for _ in range(12):
                await shop.write()
            outcome = await shop.assert_holds()
            assert outcome.latency is not None
            assert outcome.latency.deliveries > len(shop.session.oracle.events)

    asyncio.run(run())


def test_with_the_broker_stopped_writes_succeed_and_their_events_arrive_after(
    system: LocalSystem,
) -> None:
    async def run() -> None:
        async with a_shop(system, [WatcherReading("all", "everything")]) as shop:
            await shop.create()
            await asyncio.to_thread(system.stop, "kafka")
            await shop.create(3)
            for _ in range(8):
                await shop.write()
            await asyncio.to_thread(system.wait_health, "api", 503)
            assert system.health("api", "/health/ready").status_code == 200
            assert system.health("api", "/health/live").status_code == 200
            await asyncio.to_thread(system.start, "kafka")
            await shop.create()
            await shop.assert_holds()
            await asyncio.to_thread(system.wait_health, "api")

    asyncio.run(run())


def test_with_notifications_stopped_nothing_else_notices(system: LocalSystem) -> None:
    before = {name: system.pid(name) for name in ("api", "analytics")}

    async def run() -> None:
        async with a_shop(system) as shop:
            await asyncio.to_thread(system.stop, "notifications")
            await shop.create(3)
            for _ in range(12):
                await shop.write()
            for name in before:
                assert (await asyncio.to_thread(system.health, name)).status_code == 200
            await shop.assert_holds()

    asyncio.run(run())
    assert {name: system.pid(name) for name in before} == before


def test_a_killed_analytics_worker_leaves_aggregates_and_archive_exact(
    system: LocalSystem,
) -> None:
    async def run() -> None:
        async with a_shop(system) as shop:
            await shop.create(4)
            async with shop.under_load():
                for name in WORKERS:
                    await shop.more_writes(25)
                    victim = await asyncio.to_thread(living_worker, system, name)
                    victim.kill()
                    await asyncio.to_thread(victim.wait, 10)
                    again = await asyncio.to_thread(living_worker, system, name)
                    assert again.pid != victim.pid
                await shop.more_writes(25)
            await shop.assert_holds()

    parent = system.pid("analytics")
    asyncio.run(run())
    assert system.pid("analytics") == parent


def test_a_killed_analytics_parent_takes_its_workers_along_and_loses_nothing(
    system: LocalSystem,
) -> None:
    async def run() -> None:
        async with a_shop(system) as shop:
            await shop.create(4)
            async with shop.under_load():
                await shop.more_writes(40)
                orphans = [await asyncio.to_thread(living_worker, system, n) for n in WORKERS]
                await asyncio.to_thread(system.kill, "analytics")
                await asyncio.to_thread(psutil.wait_procs, orphans, 10)
                assert not [orphan for orphan in orphans if orphan.is_running()]
                await shop.more_writes(40)
                await asyncio.to_thread(system.start, "analytics")
                await shop.more_writes(20)
            await shop.assert_holds()

    asyncio.run(run())


def test_a_client_misses_and_repeats_nothing_across_restarts_of_notifications(
    system: LocalSystem,
) -> None:
    readings = [
        WatcherReading("all", "everything"),
        WatcherReading("orders", "orders", types=("order.*",)),
        WatcherReading("cut", "cut"),
    ]

    async def all_back(times: int) -> None:
        back = partial(all_opened, readings, times)
        assert await until(back, 60), [reading.opens for reading in readings]

    async def run() -> None:
        async with a_shop(system, readings) as shop:
            await shop.create(3)
            async with shop.under_load():
                await shop.more_writes(20)
                shop.session.crowd.named("cut").cut()
                await shop.more_writes(20)
                stop = partial(system.terminate, "notifications", seconds_max=30)
                assert await asyncio.to_thread(stop) == 0
                await shop.more_writes(10)
                await asyncio.to_thread(system.start, "notifications")
                await all_back(2)
                await shop.more_writes(20)
                await asyncio.to_thread(system.kill, "notifications")
                await asyncio.to_thread(system.start, "notifications")
                await all_back(3)
                await shop.more_writes(20)
            await shop.assert_holds()

    asyncio.run(run())


def all_opened(readings: list[WatcherReading], times: int) -> bool:
    return all(len(reading.opens) >= times for reading in readings)


def test_a_rejected_write_leaves_no_event(system: LocalSystem) -> None:
    async def run() -> None:
        async with a_shop(system, [WatcherReading("all", "everything")]) as shop:
            await shop.create(stock=3)
            product = shop.products[0]
            items = [{"productId": product, "quantity": 4}]
            await shop.rest.call("POST", "/orders", {"items": items}, wanted=409)
            blank = {"name": "", "price": 1, "sellerId": shop.seller}
            await shop.rest.call("POST", "/products", blank, wanted=422)
            await shop.assert_holds()
            assert shop.rest.refused == 2
            assert len(shop.session.oracle.events) == 1

    asyncio.run(run())


def test_every_service_answers_metrics_while_the_broker_is_away(system: LocalSystem) -> None:
    system.stop("kafka")
    for url in (system.api_url, system.stream_url, system.analytics_url):
        answer = httpx.get(f"{url}/metrics", timeout=10)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
