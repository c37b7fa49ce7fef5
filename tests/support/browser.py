"""The page in a real browser: launching it, reading its tables, judging its accessibility."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

from shopstream_stack.chromium import ARGUMENTS, find_chromium

AXE = Path(__file__).parents[2] / "apps" / "web" / "node_modules" / "axe-core" / "axe.min.js"
TIMEOUT_MS = 20_000
DESKTOP = (1280, 860)
PHONE = (390, 844)


@contextmanager
def launched() -> Iterator[Browser]:
    """The system's own Chromium; raises MissingToolError, in one clear line, when there is none."""
    path = find_chromium(os.environ)  # noqa: TID251 - the machine's PATH
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def context_of(
    browser: Browser,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Literal["light", "dark"] = "light",
) -> Iterator[BrowserContext]:
    """A browser profile of its own: size in CSS pixels, English formats, no animation."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        locale="en-US",
        reduced_motion="reduce",
    )
    context.set_default_timeout(TIMEOUT_MS)
    try:
        yield context
    finally:
        context.close()


class Console:
    """The console page as a person sees it, of one seller."""

    def __init__(self, context: BrowserContext, url: str, seller: str) -> None:
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{url}/?seller={seller}")
        self.wait_live()

    def wait_live(self) -> None:
        """Wait until the page says that it is connected."""
        self.page.locator('.connection[data-phase="live"]').wait_for()

    def wait_cut(self) -> None:
        """Wait until the page says that it has lost the stream."""
        self.page.locator('.connection[data-phase="reconnecting"]').wait_for()

    def row(self, name: str) -> Locator:
        """The table's row of the product called `name`."""
        return self.page.get_by_role("row").filter(
            has=self.page.get_by_role("rowheader", name=name)
        )

    def stock_of(self, name: str) -> Locator:
        """The number in the stock column of `name`."""
        return self.row(name).locator(".stock")

    def events(self, event_type: str, text: str = "") -> Locator:
        """The listed events of one type that mention `text`."""
        listed = self.page.locator(f'li[data-event-type="{event_type}"]')
        return listed.filter(has_text=text) if text else listed

    def event_ids(self) -> list[str]:
        """The ids of all listed events, newest first."""
        ids = self.page.locator("li[data-event-id]").evaluate_all(
            "items => items.map(item => item.dataset.eventId)"
        )
        return [str(found) for found in ids]

    def field(self, name: str) -> Locator:
        """The control of the open dialog with this member name."""
        return self.page.locator(f'dialog [name="{name}"]')

    def press(self, name: str) -> None:
        """Press the button with exactly this name."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def dialog_closes(self) -> None:
        """Wait until no dialog is open."""
        self.page.locator("dialog").wait_for(state="detached")

    def violations(self) -> list[str]:
        """What axe-core finds wrong with the page as it is now, a line a rule."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: list[dict[str, Any]] = self.page.evaluate(
            "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
        )
        return [
            f"{rule['id']}: {rule['help']}: {[node['target'] for node in rule['nodes']]}"
            for rule in found
        ]
