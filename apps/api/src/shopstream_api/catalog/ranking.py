"""Pages of products in the order of how well they match a search.

Ranking reads every match, so matches are ranked in windows: the newest WINDOW of them, then the
WINDOW after those. A page that a window does not fill goes on with its neighbour. A cursor holds
the bounds of its window: products that come or go later move no other across them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import (
    CTE,
    ColumnElement,
    Double,
    ScalarSelect,
    Select,
    Subquery,
    case,
    cast,
    func,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.catalog.filters import SHAPES_MAX, ProductFilter, conditions, planned
from shopstream_api.catalog.models import ROW_COLUMNS, ProductRow, products, row_of
from shopstream_api.catalog.search import Matching, matching
from shopstream_api.errors import InvalidCursor
from shopstream_api.outbox.position import READ_POSITION, one_id
from shopstream_api.paging import (
    OTHER_FILTERS,
    ROWS,
    Page,
    digest_of,
    micros_of,
    page_of,
    place_of,
    seal,
    time_of,
    unseal,
)

#: Ranking them takes some milliseconds, and who looks further narrows the search instead.
WINDOW: Final = 700
#: A window grows when products change to match, or lie in a slow transaction: never beyond this.
GROWN_MAX: Final = 2 * WINDOW
#: So many matches are sorted in less time than a walk by time takes to meet a window of them.
FEW_MAX: Final = 2 * WINDOW
#: Names of parameters: the bounds of the window, and the place in it.
_TOP: Final = ("top_created_at", "top_id")
_END: Final = ("end_created_at", "end_id")
_AFTER: Final = ("after_score", "after_created_at", "after_id")
#: ts_rank's flag for rank / (rank + 1): all ranks stay below 1, the step to an exact match.
_BELOW_ONE: Final = 32


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    digest: bytes
    backwards: bool
    #: The bounds of the window, and the row it stands at with its score.
    top: tuple[int, UUID] | None
    end: tuple[int, UUID] | None
    at: tuple[float, int, UUID]


_decoder: Final = msgspec.msgpack.Decoder(_Cursor)


class Edge(NamedTuple):
    """A product's place among the newest."""

    created_at: datetime
    id: UUID


class Window(NamedTuple):
    """Matches by their time; None = as far as they go."""

    #: The newest of them.
    top: Edge | None = None
    #: The first that is older than all of them.
    end: Edge | None = None


class Place(NamedTuple):
    """A product's place among the ranked of a window."""

    window: Window
    score: float
    created_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class RankedPaging:
    """Which page."""

    limit: int
    digest: bytes
    after: Place | None = None
    backwards: bool = False

    def cursor(self, place: Place, *, backwards: bool) -> str:
        """The text that leads to what follows the place, or precedes it."""
        top, end = (_packed(edge) for edge in place.window)
        at = (place.score, micros_of(place.created_at), place.id)
        return seal(_Cursor(self.digest, backwards, top, end, at))


class _Item(NamedTuple):
    row: ProductRow
    place: Place


class _Shape(NamedTuple):
    """What of a look decides the text of its statement; all else are parameters."""

    narrowed: tuple[str, ...]
    #: Whether a word stands for others.
    replaced: bool
    #: Which bounds of the window are known.
    topped: bool
    ended: bool
    #: Whether the page begins at a place in the window.
    resumed: bool
    backwards: bool
    #: How many matches the window has at most, and how many are few.
    matches_max: int
    few_max: int


@dataclass(frozen=True, slots=True)
class _Look:
    """What is looked for in one window, best first or, backwards, best last.

    Without a place the window's other bound is still to be found: it is the nearest WINDOW matches
    below its top or, backwards, above its end.
    """

    wanted: ProductFilter
    query: Matching
    window: Window
    after: Place | None
    backwards: bool
    rows: int

    @property
    def shape(self) -> _Shape:
        return _Shape(
            tuple(self.wanted.values()),
            self.query.replaced,
            self.window.top is not None,
            self.window.end is not None,
            self.after is not None,
            self.backwards,
            WINDOW if self.after is None else GROWN_MAX,
            FEW_MAX,
        )

    def values(self) -> dict[str, object]:
        """The parameters of the statement of this shape."""
        values: dict[str, object] = {
            **self.wanted.values(),
            "meant": self.query.meant,
            "exact": self.query.exact,
            ROWS.key: self.rows,
        }
        for bound, edge in zip((_TOP, _END), self.window, strict=True):
            if edge is not None:
                values |= zip(bound, edge, strict=True)
        if self.after is not None:
            values |= zip(_AFTER, self.after[1:], strict=True)
        return values


class _Found(NamedTuple):
    items: Sequence[_Item]
    window: Window
    position: str | None


def ranked_paging(limit: int, cursor: str | None, filters: Sequence[object]) -> RankedPaging:
    """Read a request's page. Raises InvalidCursor."""
    digest = digest_of(("ranked", *filters))
    if cursor is None:
        return RankedPaging(limit, digest)
    found = unseal(cursor, _decoder)
    if found.digest != digest:
        raise InvalidCursor(OTHER_FILTERS)
    score, micros, ident = found.at
    window = Window(_unpacked(found.top), _unpacked(found.end))
    return RankedPaging(
        limit, digest, Place(window, score, time_of(micros), ident), found.backwards
    )


def _packed(edge: Edge | None) -> tuple[int, UUID] | None:
    return None if edge is None else (micros_of(edge.created_at), edge.id)


def _unpacked(packed: tuple[int, UUID] | None) -> Edge | None:
    return None if packed is None else Edge(time_of(packed[0]), packed[1])


async def ranked_page(
    connection: AsyncConnection, wanted: ProductFilter, written: str, paging: RankedPaging
) -> tuple[Page[ProductRow], str | None]:
    """One page, best first, and a stream position that is not after any of its snapshots.

    Raises ValidationFailed when the search has too many words.
    """
    query = await matching(connection, written)
    items: list[_Item] = []
    positions = []
    after = paging.after
    window: Window | None = Window() if after is None else after.window
    while window is not None and len(items) <= paging.limit:
        rows = paging.limit + 1 - len(items)
        look = _Look(wanted, query, window, after, paging.backwards, rows)
        found = await _found(connection, look)
        items += found.items
        positions.append(found.position)
        window, after = _neighbour(found.window, backwards=paging.backwards), None
    page = page_of(items, paging, lambda item: item.place)
    rows_shown = [item.row for item in page.items]
    return Page(rows_shown, page.has_more, page.next_cursor, page.prev_cursor), positions[0]


def _neighbour(window: Window, *, backwards: bool) -> Window | None:
    """The window before or after this one, one of its bounds open; None when there is none."""
    if backwards:
        return None if window.top is None else Window(end=window.top)
    return None if window.end is None else Window(top=window.end)


async def _found(connection: AsyncConnection, look: _Look) -> _Found:
    rows = (await connection.execute(_statement(look.shape), look.values())).all()
    score = len(ROW_COLUMNS)
    newest, following = rows[0][score + 1 : score + 3], rows[0][score + 3 : score + 5]
    window = look.window
    if look.after is None:
        window = Window(_edge(newest), window.end if look.backwards else _edge(following))
    shown = ((row_of(row), row[score]) for row in rows if row[0] is not None)
    items = [_Item(row, Place(window, rank, row.created_at, row.id)) for row, rank in shown]
    return _Found(items, window, one_id(rows[0][-1]))


def _edge(found: Sequence[Any]) -> Edge | None:
    return None if found[0] is None else Edge(*found)


@lru_cache(SHAPES_MAX)
def _statement(shape: _Shape) -> "Select[Any]":
    # Made once: it takes as long as a search for a rare word. It is planned for the words, which
    # stand in it: a common one is read newest first until the window is full, a rare one from the
    # index of words.
    meant, exact = (cast(planned(name), TSQUERY) for name in ("meant", "exact"))
    numbered = _numbered(shape, meant)
    edges = (_edge_of(numbered, number) for number in (1, shape.matches_max + 1))
    page = _ranked(numbered, meant, exact, shape)
    shown = page.join(products, products.c.id == page.c.id)
    order = (page.c.score, page.c.created_at, page.c.id)
    return (
        select(
            *ROW_COLUMNS,
            page.c.score,
            *(column for edge in edges for column in edge),
            READ_POSITION.c.stream_id,
        )
        .select_from(READ_POSITION.outerjoin(shown, true()))
        .order_by(*(column.asc() if shape.backwards else column.desc() for column in order))
    )


def _numbered(shape: _Shape, meant: "ColumnElement[Any]") -> CTE:
    """The window and, where its end is to be found, the one product after it; 1 is the newest."""
    columns = products.c
    here = tuple_(columns.created_at, columns.id)
    statement = select(columns.created_at, columns.id, columns.search).where(
        *conditions(shape.narrowed), columns.search.op("@@")(meant)
    )
    if shape.topped:
        statement = statement.where(here <= place_of(_TOP, columns.created_at, columns.id))
    if shape.ended:
        statement = statement.where(here > place_of(_END, columns.created_at, columns.id))
    window = _nearest(statement, shape).subquery("matched")
    newest_first = (window.c.created_at.desc(), window.c.id.desc())
    return select(window, func.row_number().over(order_by=newest_first).label("number")).cte(
        "numbered"
    )


def _nearest(statement: "Select[Any]", shape: _Shape) -> "Select[Any]":
    if not shape.replaced:
        return _cut(statement, shape)
    # The planner takes any word that is not common for one in 200 products, and what stands for a
    # mistyped word for five of these: it would walk all products by time for words that few have.
    # So they are looked up first, unordered, and the walk is made where they are not few.
    looked_up = statement.offset(0).subquery("looked_up")
    few = select(looked_up).limit(shape.few_max + 1).cte("few")
    are_few = select(func.count() <= shape.few_max).select_from(few).scalar_subquery()
    walked = _cut(statement.where(~are_few), shape).subquery("walked")
    either = union_all(select(few).where(are_few), select(walked)).subquery("either")
    return _cut(select(either), shape)


def _cut(statement: "Select[Any]", shape: _Shape) -> "Select[Any]":
    """As many as the window takes and one that follows it, from where it begins."""
    columns = statement.selected_columns
    order = (columns.created_at, columns.id)
    if shape.backwards and not shape.resumed:
        return statement.order_by(*(column.asc() for column in order)).limit(shape.matches_max)
    return statement.order_by(*(column.desc() for column in order)).limit(shape.matches_max + 1)


def _edge_of(numbered: CTE, number: int) -> list["ScalarSelect[Any]"]:
    """A product's place by its number; found once, where a join would look for it a row."""
    return [
        select(column).where(numbered.c.number == number).scalar_subquery()
        for column in (numbered.c.created_at, numbered.c.id)
    ]


def _ranked(
    numbered: CTE, meant: "ColumnElement[Any]", exact: "ColumnElement[Any]", shape: _Shape
) -> Subquery:
    """Products with all words exact first, inside by weight of what matched, then the newest."""
    words = numbered.c.search
    rank = cast(func.ts_rank(words, meant, _BELOW_ONE), Double)
    score = case((words.op("@@")(exact), 1.0), else_=0.0) + rank
    ranked = (
        select(numbered.c.id, numbered.c.created_at, score.label("score"))
        .where(numbered.c.number <= shape.matches_max)
        .subquery("ranked")
    )
    order = (ranked.c.score, ranked.c.created_at, ranked.c.id)
    statement = select(ranked)
    if shape.resumed:
        here, there = tuple_(*order), place_of(_AFTER, *order)
        statement = statement.where(here > there if shape.backwards else here < there)
    return (
        statement.order_by(*(c.asc() if shape.backwards else c.desc() for c in order))
        .limit(ROWS)
        .subquery("page")
    )
