"""The web page: built once from its sources, served as files with the addresses it needs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shopstream_shared.web import bind, serve
from shopstream_stack import tools
from shopstream_stack.cache import locked, run_build
from shopstream_stack.console import Reporter
from shopstream_stack.errors import StackError
from shopstream_stack.ports import LOOPBACK
from shopstream_stack.settings import StackSettings

# What the build reads; anything else in the folder does not make the page stale.
SOURCES: Final = ("package.json", "package-lock.json", "index.html", "public", "src")
SOURCE_PATTERNS: Final = ("tsconfig*.json", "vite.config.*")
_NEVER_STALE: Final = b"public, max-age=31536000, immutable"
_ASK_EACH_TIME: Final = b"no-cache"


def ensure_built(settings: StackSettings, reporter: Reporter) -> None:
    """Build the page unless it is built from exactly these sources.

    Raises StackError when npm fails; does nothing where the checkout has no page.
    """
    web = settings.project / "apps" / "web"
    if not (web / "package-lock.json").exists() or _is_fresh(web):
        return
    with reporter.step("Building the web page"), locked(web / "node_modules" / ".build.lock"):
        if not _is_fresh(web):
            _build(web, settings)


def tools_to_build(settings: StackSettings) -> list[tools.Tool]:
    """The tools that `ensure_built` would use now."""
    web = settings.project / "apps" / "web"
    if not (web / "package-lock.json").exists() or _is_fresh(web):
        return []
    return [tools.NODE, tools.NPM]


def _build(web: Path, settings: StackSettings) -> None:
    npm = tools.find(tools.NPM)
    ready = web / "node_modules" / ".ready"
    if not ready.exists():
        argv = [npm, "ci", "--silent", "--no-audit", "--no-fund"]
        run_build(argv, "install the page's packages", environ=settings.environ, cwd=web)
        ready.touch()
    stamp = _stamp(web)
    argv = [npm, "run", "--silent", "build"]
    run_build(argv, "build the web page", environ=settings.environ, cwd=web)
    # Last, so that a build that was cut off is done again.
    (web / "dist" / ".sources").write_text(stamp)


def _is_fresh(web: Path) -> bool:
    built = web / "dist" / ".sources"
    return built.exists() and built.read_text() == _stamp(web)


def _stamp(web: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(_sources(web)):
        digest.update(f"{path.relative_to(web)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources(web: Path) -> Iterator[Path]:
    for name in SOURCES:
        found = web / name
        yield from (path for path in found.rglob("*") if path.is_file())
        if found.is_file():
            yield found
    for pattern in SOURCE_PATTERNS:
        yield from web.glob(pattern)


def run_server(settings: StackSettings, port: int, host: str) -> None:
    """Serve the built page until SIGTERM; raises StackError when it is not built."""
    dist = settings.project / "apps" / "web" / "dist"
    if not (dist / "index.html").exists():
        raise StackError("The page is not built; run `shopstream prepare`")
    listener = bind(host, port)
    asyncio.run(serve(page_app(settings, dist), listener))


def page_app(settings: StackSettings, dist: Path) -> Starlette:
    """The page's files, its addresses at /config.json, and index.html for the page's own paths."""

    async def config(request: Request) -> Response:
        # The host the browser came by: the services are on the same one, at their own ports.
        host = request.url.hostname or LOOPBACK
        name = f"[{host}]" if ":" in host else host
        ports = {
            "apiUrl": settings.api_port,
            "streamUrl": settings.notifications_port,
            "analyticsUrl": settings.analytics_port,
        }
        urls = {key: f"http://{name}:{port}" for key, port in ports.items()}
        return JSONResponse(urls, headers={"cache-control": "no-store"})

    return Starlette(
        routes=[
            Route("/config.json", config),
            Mount("/", _PageFiles(directory=dist, html=True)),
        ],
        middleware=[Middleware(_Headers)],
    )


class _PageFiles(StaticFiles):
    """Files, and index.html for a path without a suffix: the page routes those itself."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != 404 or Path(path).suffix:  # noqa: PLR2004 - not found
                raise
            return await super().get_response("index.html", scope)


class _Headers:
    """Cache rules and the headers that keep a browser from guessing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The build names its assets by their content.
        is_asset_path = scope["type"] == "http" and scope["path"].startswith("/assets/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                names = {name for name, _ in headers}
                if b"cache-control" not in names:
                    # One that is not there yet may come with the next build.
                    is_asset = is_asset_path and message["status"] < HTTPStatus.BAD_REQUEST
                    rule = _NEVER_STALE if is_asset else _ASK_EACH_TIME
                    headers.append((b"cache-control", rule))
                headers += [
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"same-origin"),
                    (b"x-frame-options", b"DENY"),
                ]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_headers)
