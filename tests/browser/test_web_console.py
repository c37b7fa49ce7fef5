"""The page in Debian's Chromium, on the whole running system."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

import httpx
import pytest
from playwright.sync_api import Browser, Request, expect
from tests.support.browser import DESKTOP, PHONE, TIMEOUT_MS, Console, context_of, launched
from tests.support.system import LocalSystem, wait_until

BURST = 12


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        expect.set_options(timeout=TIMEOUT_MS)
        yield found


@pytest.fixture
def seller() -> str:
    return f"web-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def web(system: LocalSystem) -> LocalSystem:
    system.up_all(web=True)
    return system


@pytest.fixture
def console(web: LocalSystem, browser: Browser, seller: str) -> Iterator[Console]:
    with context_of(browser) as context:
        opened = Console(context, web.web_url, seller)
        yield opened
        assert opened.errors == [], "the page threw"


def create(system: LocalSystem, seller: str, name: str, **members: Any) -> dict[str, Any]:
    body = {"name": name, "price": 99.99, "stock": 10, "sellerId": seller, **members}
    answer = httpx.post(f"{system.api_url}/products", json=body, timeout=15.0)
    assert answer.status_code == 201, answer.text
    product: dict[str, Any] = answer.json()
    return product


def test_a_product_created_on_the_page_arrives_as_its_event_and_as_a_row(
    console: Console, web: LocalSystem, seller: str
) -> None:
    console.press("New product")
    expect(console.field("sellerId")).to_have_value(seller)
    console.field("name").fill("Walnut lamp")
    console.field("price").fill("99.990")
    console.field("stock").fill("10")
    console.press("Create product")
    console.dialog_closes()

    expect(console.events("product.created", "Walnut lamp")).to_have_count(1)
    row = console.row("Walnut lamp")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("$99.99")
    (stored,) = httpx.get(f"{web.api_url}/products", params={"sellerId": seller}).json()["data"]
    assert (stored["name"], stored["priceMinor"], stored["stock"]) == ("Walnut lamp", 9999, 10)
    assert row.get_attribute("data-product-id") == stored["id"]


def test_what_others_do_appears_without_a_reload(
    console: Console, web: LocalSystem, seller: str
) -> None:
    product = create(web, seller, "Mug")
    expect(console.row("Mug")).to_have_count(1)
    httpx.patch(f"{web.api_url}/products/{product['id']}", json={"price": 5}).raise_for_status()
    expect(console.row("Mug")).to_contain_text("$5.00")
    order = {"items": [{"productId": product["id"], "quantity": 4}]}
    httpx.post(f"{web.api_url}/orders", json=order).raise_for_status()
    expect(console.stock_of("Mug")).to_have_text("6")
    expect(console.events("order.created", "Mug")).to_have_count(1)
    httpx.delete(f"{web.api_url}/products/{product['id']}").raise_for_status()
    expect(console.row("Mug")).to_have_count(0)


def test_a_restart_of_notifications_loses_nothing_and_repeats_nothing(
    console: Console, web: LocalSystem, seller: str
) -> None:
    names = [f"Product {number:02d}" for number in range(3 * BURST)]
    for name in names[:BURST]:
        create(web, seller, name)
    expect(console.events("product.created")).to_have_count(BURST)

    web.system.stop("notifications")
    console.wait_cut()
    for name in names[BURST : 2 * BURST]:
        create(web, seller, name)
    web.system.start("notifications")
    for name in names[2 * BURST :]:
        create(web, seller, name)

    console.wait_live()
    expect(console.events("product.created")).to_have_count(len(names))
    for name in names:
        expect(console.events("product.created", name)).to_have_count(1)
        expect(console.row(name)).to_have_count(1)
    ids = console.event_ids()
    assert len(ids) == len(set(ids)) == len(names)
    expect(console.page.locator(".notices")).to_be_empty()


def test_a_killed_notifications_service_is_found_again(
    console: Console, web: LocalSystem, seller: str
) -> None:
    create(web, seller, "Before")
    expect(console.events("product.created", "Before")).to_have_count(1)
    web.system.kill("notifications")
    console.wait_cut()
    create(web, seller, "Meanwhile")
    web.system.start("notifications")
    console.wait_live()
    expect(console.events("product.created", "Meanwhile")).to_have_count(1)
    expect(console.events("product.created")).to_have_count(2)


def test_e20_a_second_tab_has_no_connection_of_its_own_and_goes_on_when_the_first_is_closed(
    console: Console, web: LocalSystem, seller: str
) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        if "/events/stream" in request.url and request.method == "GET":
            asked.append(request.headers.get("last-event-id", ""))

    context = console.page.context
    context.on("request", note)
    second = Console(context, web.web_url, seller)
    create(web, seller, "Both")
    for tab in (console, second):
        expect(tab.events("product.created", "Both")).to_have_count(1)
    assert asked == []

    console.page.close()
    create(web, seller, "After")
    expect(second.events("product.created", "After")).to_have_count(1)
    expect(second.events("product.created")).to_have_count(2)
    assert len(asked) == 1
    assert asked[0], "the new connection goes on where the old one was"
    expect(second.page.locator(".notices")).to_be_empty()
    assert second.errors == []


def test_e20_a_tab_that_is_robbed_of_the_connection_reads_anew_and_goes_on(
    console: Console, web: LocalSystem, seller: str
) -> None:
    """As a tab does that hears nothing of the one that has the connection."""
    held = console.page.evaluate("navigator.locks.query().then(found => found.held[0].name)")
    thief = console.page.context.new_page()
    thief.goto(f"{web.web_url}/favicon.svg")
    thief.evaluate(
        "name => void navigator.locks.request(name, {steal: true}, () => new Promise(() => {}))",
        held,
    )
    console.wait_cut()
    create(web, seller, "Meanwhile")
    thief.close()
    console.wait_live()
    expect(console.row("Meanwhile")).to_have_count(1)
    expect(console.events("product.created", "Meanwhile")).to_have_count(1)
    expect(console.page.locator(".notices")).to_contain_text("without the events in between")


def test_a_page_opened_later_lists_what_happened_before(
    console: Console, web: LocalSystem, seller: str
) -> None:
    create(web, seller, "Earlier")

    def stored() -> bool:
        recent = httpx.get(f"{web.analytics_url}/events/recent", params={"sellerId": seller})
        return bool(recent.raise_for_status().json()["data"])

    wait_until(stored, "the event to be stored")
    console.page.reload()
    console.wait_live()
    expect(console.events("product.created", "Earlier")).to_have_count(1)
    create(web, seller, "Later")
    expect(console.events("product.created", "Later")).to_have_count(1)
    expect(console.events("product.created")).to_have_count(2)


def test_taking_stock_down_raises_the_warnings_and_the_badge(
    console: Console, web: LocalSystem, seller: str
) -> None:
    create(web, seller, "Candle", stock=8)
    badge = console.page.get_by_test_id("low-stock-badge")
    expect(console.row("Candle")).to_have_count(1)
    expect(badge).to_have_text("No low stock")

    for delta, left, event_type, text in (
        ("-3", "5", "product.low_stock", "1 low on stock"),
        ("-5", "0", "product.out_of_stock", "1 low on stock1 of them out"),
    ):
        console.press("Adjust stock of Candle")
        console.field("delta").fill(delta)
        console.field("reason").fill("damaged")
        console.press("Adjust stock")
        console.dialog_closes()
        expect(console.stock_of("Candle")).to_have_text(left)
        expect(console.events(event_type, "Candle")).to_have_count(1)
        expect(badge).to_have_text(text)


def test_a_refused_adjustment_says_why_and_leaves_the_stock(
    console: Console, web: LocalSystem, seller: str
) -> None:
    create(web, seller, "Pan", stock=3)
    console.press("Adjust stock of Pan")
    console.field("delta").fill("-4")
    console.field("reason").fill("damaged")
    console.press("Adjust stock")
    expect(console.page.get_by_role("alert")).not_to_be_empty()
    console.press("Cancel")
    console.dialog_closes()
    expect(console.stock_of("Pan")).to_have_text("3")


def test_each_error_of_the_api_stands_at_its_field(console: Console) -> None:
    console.press("New product")
    console.field("name").fill("Lamp")
    console.field("price").fill("1.234")
    console.field("currency").fill("zzz")
    console.field("tags").fill("x" * 51)
    console.press("Create product")
    for name in ("currency", "tags"):
        expect(console.field(name)).to_have_attribute("aria-invalid", "true")
    console.field("currency").fill("USD")
    console.field("tags").fill("small")
    console.press("Create product")
    expect(console.field("price")).to_have_attribute("aria-invalid", "true")
    expect(console.field("price")).to_be_focused()
    expect(console.field("tags")).to_have_attribute("aria-invalid", "false")


def test_an_edit_over_somebody_elses_change_is_not_saved(
    console: Console, web: LocalSystem, seller: str
) -> None:
    product = create(web, seller, "Board")
    console.press("Edit Board")
    console.field("name").fill("My board")
    url = f"{web.api_url}/products/{product['id']}"
    httpx.patch(url, json={"name": "Their board"}).raise_for_status()
    expect(console.page.get_by_text("changed by somebody else")).to_have_count(1)
    console.press("Save changes")
    console.press("Load the newest")
    expect(console.field("name")).to_have_value("Their board")
    console.field("name").fill("Our board")
    console.press("Save changes")
    console.dialog_closes()
    expect(console.row("Our board")).to_have_count(1)
    assert httpx.get(url).json()["name"] == "Our board"


def test_the_keyboard_alone_creates_a_product(console: Console) -> None:
    keyboard = console.page.keyboard
    opener = console.page.get_by_role("button", name="New product", exact=True)
    opener.focus()
    keyboard.press("Enter")
    expect(console.page.get_by_role("dialog")).to_be_visible()
    keyboard.press("Escape")
    expect(opener).to_be_focused()
    keyboard.press("Enter")
    expect(console.field("name")).to_be_visible()
    console.field("name").focus()
    keyboard.type("Typed")
    keyboard.press("Tab")
    keyboard.type("3.50")
    keyboard.press("Enter")
    console.dialog_closes()
    expect(console.row("Typed")).to_contain_text("$3.50")
    expect(console.events("product.created", "Typed")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_wrong_with_the_page_and_its_dialogs(
    web: LocalSystem,
    browser: Browser,
    seller: str,
    scheme: Literal["light", "dark"],
    size: tuple[int, int],
) -> None:
    for name, stock in (("Plenty", 50), ("Few", 2), ("None", 0)):
        create(web, seller, name, stock=stock, sku=f"SKU-{name}", category="Kitchen")
    with ExitStack() as stack:
        console = Console(
            stack.enter_context(context_of(browser, scheme=scheme, size=size)), web.web_url, seller
        )
        create(web, seller, "Arriving")
        expect(console.events("product.created", "Arriving")).to_have_count(1)
        assert console.violations() == []
        width = console.page.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0], "the page scrolls sideways"

        console.press("New product")
        console.press("Create product")
        expect(console.field("name")).to_have_attribute("aria-invalid", "true")
        assert console.violations() == []
        console.press("Cancel")

        console.press("Edit Few")
        expect(console.field("name")).to_have_value("Few")
        assert console.violations() == []
        console.press("Cancel")

        console.press("Adjust stock of Few")
        assert console.violations() == []
