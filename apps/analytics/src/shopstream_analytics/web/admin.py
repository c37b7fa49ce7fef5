"""The operators' routes: overview, dead letters, verify's last report.

With a token in the settings every one of them wants it. Without one they are open to whoever
reaches the port, which in open mode is this machine.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shopstream_analytics.admin.guard import Guard
from shopstream_analytics.admin.letters import LetterBox
from shopstream_analytics.admin.overview import Overview
from shopstream_analytics.admin.replay import (
    AlreadyCounted,
    MadeByRebuild,
    NoSuchLetter,
    NotSettled,
    Replays,
    StillUnreadable,
)
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.web.operations import Handler, Operation, Parameter
from shopstream_analytics.web.parameters import Faults
from shopstream_analytics.web.problems import Problem
from shopstream_shared.health import Health
from shopstream_shared.topics import ORDERS, STREAM_TOPICS

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
#: Reads of the letters' topic at the same time; each has a client of its own.
READS_MAX: Final = 2
#: Of a number of 64 bits with its sign.
OFFSET_DIGITS_MAX: Final = 18
#: Lives of a topic; each takes an operator's command.
EPOCH_MAX: Final = 9_999
_WHOLE: Final = {"type": "integer", "minimum": 0}
_REPLAY_REFUSED: Final[dict[type[Exception], str]] = {
    StillUnreadable: "still_unreadable",
    NotSettled: "not_settled",
    AlreadyCounted: "already_counted",
    MadeByRebuild: "made_by_rebuild",
}
_GUARDED: Final = ("unauthenticated",)
_NO_STORE: Final = {"cache-control": "no-store"}


def _behind(guard: Guard, handler: Handler) -> Handler:
    async def guarded(request: Request) -> Response:
        if not guard.lets_in(request.headers.get("authorization", "")):
            detail = "Send the token as Authorization: Bearer …"
            raise Problem("unauthenticated", detail, www_authenticate="Bearer")
        return await handler(request)

    return guarded


class Admin:
    """The routes.

    ``report``: where verify leaves its last report, None when nobody said. ``on_replay`` is called
    after each replay.
    """

    def __init__(
        self,
        *,
        overview: Overview,
        letters: LetterBox,
        health: Health,
        replays: Replays,
        on_replay: Callable[[], None],
        report: Path | None,
        guard: Guard,
    ) -> None:
        self._replays = replays
        self._on_replay = on_replay
        self._overview = overview
        self._letters = letters
        self._health = health
        self._report = report
        self._guard = guard
        self._reads = asyncio.Semaphore(READS_MAX)

    def operations(self) -> Sequence[Operation]:
        """All operators' routes."""
        return (
            Operation(
                name="overview",
                path="/admin/overview",
                handler=_behind(self._guard, self._show_overview),
                summary="Services, the relay's lag, the groups' lag, and how fresh we are",
                answer="Overview",
                codes=_GUARDED,
                tag="operators",
            ),
            Operation(
                name="deadLetters",
                path="/admin/dead-letters",
                handler=_behind(self._guard, self._list_letters),
                summary="Records that nobody could read, newest first",
                answer="DeadLetterPage",
                parameters=(
                    Parameter(
                        "limit",
                        "How many at most.",
                        {
                            "type": "integer",
                            "minimum": 1,
                            "maximum": LIMIT_MAX,
                            "default": LIMIT_DEFAULT,
                        },
                        20,
                    ),
                    Parameter(
                        "cursor", "`nextCursor` of the page before.", {"type": "string"}, None
                    ),
                ),
                codes=(*_GUARDED, "invalid_cursor", "validation_failed"),
                tag="operators",
            ),
            Operation(
                name="replayDeadLetter",
                path="/admin/dead-letters/{topic}/{partition}/{offset}/replay",
                method="POST",
                handler=_behind(self._guard, self._replay),
                summary="Take in a record that this version can read, under its own offset",
                description="May be repeated: what has taken it in does not take it twice.",
                answer="Replayed",
                parameters=(
                    Parameter("topic", "The record's topic.", {"type": "string"}, ORDERS, "path"),
                    Parameter("partition", "Its partition.", _WHOLE, 0, "path"),
                    Parameter("offset", "Its offset.", _WHOLE, 41, "path"),
                    Parameter(
                        "epoch",
                        "The letter's; without it, that of the topic's present life.",
                        {**_WHOLE, "maximum": EPOCH_MAX},
                        0,
                    ),
                ),
                codes=(
                    *_GUARDED,
                    "forbidden",
                    "not_found",
                    "validation_failed",
                    *_REPLAY_REFUSED.values(),
                ),
                tag="operators",
            ),
            Operation(
                name="verifyReport",
                path="/admin/verify",
                handler=_behind(self._guard, self._show_report),
                summary="The last report of `make verify`",
                answer="VerifyReport",
                codes=(*_GUARDED, "not_found"),
                tag="operators",
            ),
        )

    async def _show_overview(self, _request: Request) -> Response:
        report = await self._health.report()
        return JSONResponse(await self._overview.as_json(report.as_json()), headers=_NO_STORE)

    async def _list_letters(self, request: Request) -> Response:
        faults = Faults()
        query = request.query_params
        limit = faults.number("limit", query.get("limit"), 1, LIMIT_MAX, LIMIT_DEFAULT)
        faults.raise_any()
        async with self._reads:
            page = await asyncio.to_thread(self._letters.page, limit, query.get("cursor"))
        body: dict[str, Any] = {
            "data": [letter.as_json() for letter in page.letters],
            "hasMore": page.cursor is not None,
            "nextCursor": page.cursor,
            "prevCursor": None,
        }
        return JSONResponse(body, headers=_NO_STORE)

    async def _replay(self, request: Request) -> Response:
        if self._guard.token is None and request.headers.get("sec-fetch-site") == "cross-site":
            # Without a token any page that somebody visits here could ask for it.
            raise Problem("forbidden", "A page of another site may not replay.")
        place = request.path_params
        partition, offset = _number(place["partition"]), _number(place["offset"])
        if place["topic"] not in STREAM_TOPICS or partition is None or offset is None:
            raise Problem("not_found", "There is no such record.")
        faults = Faults()
        told = request.query_params.get("epoch")
        life = None if told is None else faults.number("epoch", told, 0, EPOCH_MAX, 0)
        faults.raise_any()
        try:
            async with self._reads:
                done = await self._replays.replay(Source(place["topic"], partition), offset, life)
        except NoSuchLetter as error:
            raise Problem("not_found", str(error)) from error
        except tuple(_REPLAY_REFUSED) as error:
            raise Problem(_REPLAY_REFUSED[type(error)], str(error)) from error
        self._on_replay()
        return JSONResponse(done.as_json(), headers=_NO_STORE)

    async def _show_report(self, _request: Request) -> Response:
        text = None if self._report is None else await asyncio.to_thread(_read, self._report)
        if text is None:
            raise Problem("not_found", "There is no report yet: run `make verify`.")
        return Response(text, headers=_NO_STORE, media_type="application/json")


def _number(text: str) -> int | None:
    """An offset or partition; None for what cannot be one."""
    if not (text.isascii() and text.isdigit() and len(text) <= OFFSET_DIGITS_MAX):
        return None
    return int(text)


def _read(path: Path) -> bytes | None:
    """The report; None when there is none that is whole."""
    try:
        text = path.read_bytes()
        msgspec.json.decode(text)
    except (OSError, msgspec.MsgspecError):
        return None
    return text
