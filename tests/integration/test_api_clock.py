"""Time as the API is told it: how long keys are kept, when things happened, clocks that go back.

When holds end is in `test_api_expiry.py`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import pytest
from tests.support.app import InProcess, in_process, later
from tests.support.components import LocalComponents

from shopstream_shared.clock import ManualClock

START: Final = datetime(2031, 3, 1, 12, tzinfo=UTC)
HOUR: Final = 3600
DAY: Final = 24 * HOUR


@pytest.fixture(scope="module")
def app(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(
        session_components, clock=ManualClock(START), SHOPSTREAM_EXPIRY_SECONDS="0"
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _noon(app: InProcess) -> None:
    app.clock.at = START


def test_a_key_is_kept_for_a_day_and_is_new_after_it(app: InProcess) -> None:
    product = app.product(stock=10)["id"]
    first = _adjust(app, product, "day")
    later(app, DAY - 0.000001)
    again = _adjust(app, product, "day")
    later(app, 0.000001)
    anew = _adjust(app, product, "day")

    assert (first.json()["stock"], again.json()["stock"], anew.json()["stock"]) == (9, 9, 8)
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in anew.headers
    later(app, DAY - 0.000001)
    assert _adjust(app, product, "day").json() == anew.json()


def test_only_keys_older_than_a_day_are_swept(app: InProcess) -> None:
    product = app.product(stock=10)["id"]
    for key in ("old", "young"):
        _adjust(app, product, key)
        later(app, HOUR)
    later(app, DAY - 2 * HOUR)
    app.run(app.resources.sweeper._once)

    young = _adjust(app, product, "young")
    old = _adjust(app, product, "old")

    assert (young.headers.get("idempotent-replayed"), young.json()["stock"]) == ("true", 8)
    assert (old.headers.get("idempotent-replayed"), old.json()["stock"]) == (None, 7)


def test_a_key_outlives_a_clock_that_goes_back(app: InProcess) -> None:
    product = app.product(stock=10)["id"]
    first = _adjust(app, product, "back")
    later(app, -HOUR)

    assert _adjust(app, product, "back").json() == first.json()
    later(app, DAY)
    assert _adjust(app, product, "back").json() == first.json()


def test_an_order_tells_when_each_step_was(app: InProcess) -> None:
    order = _order(app, app.product(stock=10)["id"])
    assert (order["createdAt"], order["reservedUntil"]) == (_at(0), _at(0, 15))
    for hour, verb in enumerate(("confirm", "pay", "ship", "deliver"), start=1):
        later(app, HOUR)
        order = app.post(f"/orders/{order['id']}/{verb}").json()
        assert (order["createdAt"], order["updatedAt"]) == (_at(0), _at(hour))
        # Confirming does not move the end of the hold; from paid on there is none.
        assert order["reservedUntil"] == (_at(0, 15) if verb == "confirm" else None)

    assert _times(app, order) == [_at(hour) for hour in range(5)]
    assert _event_times(app, order["id"]) == _times(app, order)


def test_in_a_history_time_stands_still_while_the_clock_is_behind(app: InProcess) -> None:
    product = app.product(stock=10)["id"]
    order = _order(app, product)
    later(app, -HOUR)
    app.post(f"/orders/{order['id']}/confirm")
    changed = app.request("PATCH", f"/products/{product}", json={"name": "Other"}).json()
    later(app, 2 * HOUR)
    app.post(f"/orders/{order['id']}/cancel")

    assert changed["updatedAt"] == _at(0)
    assert _times(app, order) == [_at(0), _at(0), _at(1)]
    assert _event_times(app, order["id"]) == _times(app, order)


def test_what_is_made_while_the_clock_is_behind_is_listed_by_its_own_time(app: InProcess) -> None:
    seller = "behind"
    ids = []
    for hours in (0, -1, 2):
        later(app, hours * HOUR)
        ids.append(app.product(sellerId=seller)["id"])
    pages: list[dict[str, Any]] = []
    path = f"/products?sellerId={seller}&limit=1"
    cursor = ""
    while not pages or pages[-1]["hasMore"]:
        pages.append(app.get(path + cursor).json())
        cursor = f"&cursor={pages[-1]['nextCursor']}"

    assert [page["data"][0]["id"] for page in pages] == [ids[2], ids[0], ids[1]]


def _adjust(app: InProcess, product: str, key: str) -> httpx.Response:
    answer = app.post(
        f"/products/{product}/stock-adjustments",
        {"delta": -1, "reason": "counted"},
        headers={"Idempotency-Key": key},
    )
    assert answer.status_code == 201
    return answer


def _order(app: InProcess, product: str) -> dict[str, Any]:
    answer = app.post("/orders", {"items": [{"productId": product, "quantity": 1}]})
    assert answer.status_code == 201
    placed: dict[str, Any] = answer.json()
    return placed


def _at(hours: int, minutes: int = 0) -> str:
    return f"2031-03-01T{12 + hours:02}:{minutes:02}:00.000000Z"


def _times(app: InProcess, order: dict[str, Any]) -> list[str]:
    return [step["at"] for step in app.get(f"/orders/{order['id']}/history").json()["data"]]


def _event_times(app: InProcess, subject: str) -> list[str]:
    rows = app.query(
        "SELECT to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        " FROM event_audit WHERE subject = %s ORDER BY sequence",
        subject,
    )
    return [row[0] for row in rows]
