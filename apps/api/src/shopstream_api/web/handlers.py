"""Errors that reach the edge become problems here, whatever raised them."""

import json
from html import escape
from http import HTTPStatus
from typing import Final, cast

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match

from shopstream_api.errors import NotFound, ShopError
from shopstream_api.web.errors import MethodNotAllowed
from shopstream_api.web.examples import problem_example
from shopstream_api.web.problems import BY_CODE
from shopstream_api.web.respond import refusal_of, response_of

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def install(app: FastAPI, *, alias: str) -> None:
    """Render every error as a problem, and serve the pages of their types, under ``alias`` too."""
    app.add_exception_handler(ShopError, _shop_error)
    app.add_exception_handler(HTTPException, _http_error)
    for prefix in ("", alias):
        app.add_route(f"{prefix}/problems/{{code}}", _page, include_in_schema=False)


async def _shop_error(request: Request, error: Exception) -> Response:
    return render(request, cast("ShopError", error))


async def _http_error(request: Request, error: Exception) -> Response:
    http = cast("HTTPException", error)
    if http.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response = render(request, MethodNotAllowed("The method is not allowed here."))
        response.headers["allow"] = ", ".join(_allowed(request))
        return response
    return render(request, NotFound("There is nothing at this address."))


def _allowed(request: Request) -> list[str]:
    """All methods of this address: the framework knows those of the first route it met."""
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.router.routes
        )
    ]


def render(request: Request, error: ShopError) -> Response:
    """The error as this request's answer."""
    return response_of(refusal_of(request, error))


async def _page(request: Request) -> Response:
    kind = BY_CODE.get(request.path_params["code"])
    if kind is None:
        raise NotFound("There is no such type of problem.")
    example = json.dumps(problem_example(kind), indent=2, ensure_ascii=False)
    return HTMLResponse(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(kind.title)}</title>"
        f"<h1>{escape(kind.title)}</h1><p><code>{kind.code}</code>, status {kind.status}</p>"
        f"<h2>What to do</h2><p>{escape(kind.help)}</p>"
        f"<h2>Example</h2><pre>{escape(example)}</pre></html>"
    )
