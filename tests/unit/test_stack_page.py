"""The page's server: files, the addresses of the services, the page's own paths."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp

from shopstream_stack.page import page_app
from shopstream_stack.settings import StackSettings


class Client:
    """A browser without a socket: each request runs the app once."""

    def __init__(self, app: ASGIApp) -> None:
        self._transport = httpx.ASGITransport(app)

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            base = "http://shop.local:5173"
            async with httpx.AsyncClient(transport=self._transport, base_url=base) as client:
                return await client.get(path, headers=headers)

        return asyncio.run(ask())


@pytest.fixture
def client(tmp_path: Path) -> Client:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "index-abc.js").write_text("1")
    (tmp_path / "index.html").write_text("<!doctype html><title>page</title>")
    settings = StackSettings.load({"HOME": "/nowhere", "SHOPSTREAM_API_PORT": "4000"})
    return Client(page_app(settings, tmp_path))


def test_the_page_learns_the_services_on_the_host_it_was_opened_by(client: Client) -> None:
    answer = client.get("/config.json")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "apiUrl": "http://shop.local:4000",
        "streamUrl": "http://shop.local:3001",
        "analyticsUrl": "http://shop.local:8080",
    }


def test_an_ipv6_host_keeps_its_brackets(client: Client) -> None:
    answer = client.get("/config.json", headers={"host": "[::1]:5173"})
    assert answer.json()["apiUrl"] == "http://[::1]:4000"


def test_assets_are_kept_and_the_page_is_asked_for_each_time(client: Client) -> None:
    asset = client.get("/assets/index-abc.js")
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    missing = client.get("/assets/index-next.js")
    assert (missing.status_code, missing.headers["cache-control"]) == (404, "no-cache")
    page = client.get("/")
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["x-content-type-options"] == "nosniff"


def test_a_path_of_the_page_is_the_page_and_a_missing_file_is_not(client: Client) -> None:
    assert "<title>page</title>" in client.get("/products/1").text
    assert client.get("/assets/index-old.js").status_code == 404


def test_nothing_outside_the_folder_is_served(client: Client, tmp_path: Path) -> None:
    (tmp_path.parent / "secret.txt").write_text("secret")
    assert "secret" not in client.get("/%2e%2e/secret.txt").text
