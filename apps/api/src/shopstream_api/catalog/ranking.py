"""Pages of products in the order of how well they match a search.

Ranking reads every match, so matches are ranked in windows: the newest WINDOW of them, then the
WINDOW after those. A cursor holds its window's newest product, so products that come later move
nothing. A page ends with its window, and may then be shorter than was asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import (
    CTE,
    ColumnElement,
    Double,
    Select,
    Subquery,
    case,
    cast,
    func,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.catalog.filters import ProductFilter, planned
from shopstream_api.catalog.models import ROW_COLUMNS, ProductRow, products, row_of
from shopstream_api.catalog.search import Matching, matching
from shopstream_api.errors import InvalidCursor
from shopstream_api.outbox.models import stream_position
from shopstream_api.paging import (
    OTHER_FILTERS,
    Page,
    digest_of,
    micros_of,
    seal,
    time_of,
    unseal,
)

#: Ranking them takes some milliseconds, and who looks further narrows the search instead.
WINDOW: Final = 1_000
#: ts_rank's flag for rank / (rank + 1): all ranks stay below 1, the step to an exact match.
_BELOW_ONE: Final = 32


#: A product and its score.
_Item = tuple[ProductRow, float]


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    digest: bytes
    backwards: bool
    window: int
    #: The newest product of the window; backwards from outside, of the window after it.
    top: tuple[int, UUID]
    #: Score, time and id of the row it stands at; None: at the window's edge.
    at: tuple[float, int, UUID] | None


_decoder: Final = msgspec.msgpack.Decoder(_Cursor)


class Edge(NamedTuple):
    """A product's place among the newest."""

    created_at: datetime
    id: UUID


class Place(NamedTuple):
    """A product's place among the ranked."""

    score: float
    created_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class RankedPaging:
    """Which page of which window."""

    limit: int
    digest: bytes
    backwards: bool = False
    window: int = 0
    top: Edge | None = None
    at: Place | None = None

    @property
    def enters_backwards(self) -> bool:
        """The page is the last of the window before ``top``."""
        return self.backwards and self.at is None

    def cursor(self, top: Edge, at: Place | None, *, window: int, backwards: bool) -> str:
        place = None if at is None else (at.score, micros_of(at.created_at), at.id)
        edge = (micros_of(top.created_at), top.id)
        return seal(_Cursor(self.digest, backwards, window, edge, place))


class _Found(NamedTuple):
    rows: Sequence[_Item]
    #: The newest product of this window and of the next one; None when there is none.
    top: Edge | None
    following: Edge | None
    position: str | None


def ranked_paging(limit: int, cursor: str | None, filters: Sequence[object]) -> RankedPaging:
    """Read a request's page. Raises InvalidCursor."""
    digest = digest_of(("ranked", *filters))
    if cursor is None:
        return RankedPaging(limit, digest)
    found = unseal(cursor, _decoder)
    if found.digest != digest:
        raise InvalidCursor(OTHER_FILTERS)
    top = Edge(time_of(found.top[0]), found.top[1])
    at = None if found.at is None else Place(found.at[0], time_of(found.at[1]), found.at[2])
    return RankedPaging(limit, digest, found.backwards, found.window, top, at)


async def ranked_page(
    connection: AsyncConnection, wanted: ProductFilter, written: str, paging: RankedPaging
) -> tuple[Page[ProductRow], str | None]:
    """One page, best first, and the stream position of the same snapshot.

    Raises ValidationFailed when the search has too many words.
    """
    query = await matching(connection, written)
    found = await _found(connection, wanted, query, paging)
    return _page_of(found, paging), found.position


async def _found(
    connection: AsyncConnection, wanted: ProductFilter, query: Matching, paging: RankedPaging
) -> _Found:
    rows = (await connection.execute(_statement(wanted, query, paging))).all()
    columns = len(ROW_COLUMNS)
    score, top, following, position = columns, columns + 1, columns + 3, -1
    return _Found(
        [(row_of(row), row[score]) for row in rows if row[0] is not None],
        _edge(rows[0][top : top + 2]) if rows else None,
        _edge(rows[0][following : following + 2]) if rows else None,
        rows[0][position] if rows else None,
    )


def _edge(found: Sequence[Any]) -> Edge | None:
    return None if found[0] is None else Edge(*found)


def _page_of(found: _Found, paging: RankedPaging) -> Page[ProductRow]:
    further = len(found.rows) > paging.limit
    items = list(found.rows[: paging.limit])
    if paging.backwards:
        items.reverse()
    following = _next_cursor(found, paging, items, further=further)
    previous = _previous_cursor(found, paging, items, further=further)
    return Page([row for row, _ in items], following is not None, following, previous)


def _next_cursor(
    found: _Found, paging: RankedPaging, items: Sequence[_Item], *, further: bool
) -> str | None:
    top = _top(found, paging)
    same = paging.at is not None if paging.backwards else further
    if items and same and top is not None:
        return paging.cursor(top, _place(items[-1]), window=paging.window, backwards=False)
    start = paging.top if paging.enters_backwards else found.following
    if start is None or (paging.backwards and not paging.enters_backwards):
        return None
    return paging.cursor(start, None, window=paging.window + 1, backwards=False)


def _previous_cursor(
    found: _Found, paging: RankedPaging, items: Sequence[_Item], *, further: bool
) -> str | None:
    top = _top(found, paging)
    same = further if paging.backwards else paging.at is not None
    if top is None:
        return None
    if items and same:
        return paging.cursor(top, _place(items[0]), window=paging.window, backwards=True)
    if paging.window == 0:
        return None
    return paging.cursor(top, None, window=paging.window - 1, backwards=True)


def _top(found: _Found, paging: RankedPaging) -> Edge | None:
    """A window's edge stays where the first look at it found it."""
    return found.top if paging.enters_backwards or paging.top is None else paging.top


def _place(item: _Item) -> Place:
    row, score = item
    return Place(score, row.created_at, row.id)


def _statement(wanted: ProductFilter, query: Matching, paging: RankedPaging) -> "Select[Any]":
    # The statement plans itself for the words: a common one is read newest first until the window
    # is full, a rare one from the index of words.
    meant, exact = (cast(planned(text), TSQUERY) for text in (query.meant, query.exact))
    numbered = _numbered(wanted, meant, paging)
    newest, following = (_edge_of(numbered, number) for number in (1, WINDOW + 1))
    page = _ranked(numbered, meant, exact, paging)
    shown = page.join(products, products.c.id == page.c.id)
    order = (page.c.score, page.c.created_at, page.c.id)
    return (
        select(
            *ROW_COLUMNS,
            page.c.score,
            newest.c.created_at,
            newest.c.id,
            following.c.created_at,
            following.c.id,
            stream_position.c.stream_id,
        )
        .select_from(
            stream_position.outerjoin(shown, true())
            .outerjoin(newest, true())
            .outerjoin(following, true())
        )
        .where(stream_position.c.shard == 0)
        .order_by(*(column.asc() if paging.backwards else column.desc() for column in order))
    )


def _numbered(wanted: ProductFilter, meant: "ColumnElement[Any]", paging: RankedPaging) -> CTE:
    """The window and the one product after it, numbered from the newest."""
    columns = products.c
    here = tuple_(columns.created_at, columns.id)
    order = (columns.created_at.desc(), columns.id.desc())
    size = WINDOW + 1
    statement = select(columns.created_at, columns.id, columns.search).where(
        *wanted.conditions(), columns.search.op("@@")(meant)
    )
    if paging.enters_backwards:
        order, size = (columns.created_at.asc(), columns.id.asc()), WINDOW
    if paging.top is not None:
        there = tuple_(*paging.top)
        statement = statement.where(here > there if paging.enters_backwards else here <= there)
    window = statement.order_by(*order).limit(size).subquery("matched")
    newest_first = (window.c.created_at.desc(), window.c.id.desc())
    return select(window, func.row_number().over(order_by=newest_first).label("number")).cte(
        "numbered"
    )


def _edge_of(numbered: CTE, number: int) -> Subquery:
    return (
        select(numbered.c.created_at, numbered.c.id).where(numbered.c.number == number).subquery()
    )


def _ranked(
    numbered: CTE,
    meant: "ColumnElement[Any]",
    exact: "ColumnElement[Any]",
    paging: RankedPaging,
) -> Subquery:
    """Products with all words exact first, inside by weight of what matched, then the newest."""
    words = numbered.c.search
    rank = cast(func.ts_rank(words, meant, _BELOW_ONE), Double)
    score = case((words.op("@@")(exact), 1.0), else_=0.0) + rank
    ranked = (
        select(numbered.c.id, numbered.c.created_at, score.label("score"))
        .where(numbered.c.number <= WINDOW)
        .subquery("ranked")
    )
    order = (ranked.c.score, ranked.c.created_at, ranked.c.id)
    statement = select(ranked)
    if paging.at is not None:
        here, there = tuple_(*order), tuple_(*paging.at)
        statement = statement.where(here > there if paging.backwards else here < there)
    return (
        statement.order_by(*(c.asc() if paging.backwards else c.desc() for c in order))
        .limit(paging.limit + 1)
        .subquery("page")
    )
