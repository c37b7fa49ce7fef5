"""Keyset pages: newest first, stable under inserts, the same cost at any depth.

A cursor holds the key of the row it stands at, the direction, and a digest of the list's filters,
with a checksum over all: a cursor of another list or a damaged one is refused, not misread. It is
no secret and grants nothing.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Integer, Select, Tuple, bindparam, tuple_

from shopstream_api.errors import InvalidCursor

LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 100
_DIGEST_BYTES: Final = 8
_CURSOR_LENGTH_MAX: Final = 512
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DAMAGED: Final = "The cursor is damaged."
#: Names of parameters: the key of the row that a page follows.
_PLACE: Final = ("after_first", "after_id")
#: As many rows as `Paging.values` says, also for a statement around that of `keyset`.
ROWS: Final = bindparam("rows", type_=Integer)
OTHER_FILTERS: Final = "The cursor belongs to a list with other filters."

#: Where a row stands: its time, or its number in a list that is numbered; then its id.
Key = tuple[datetime | int, UUID]
T = TypeVar("T")
K = TypeVar("K")
K_contra = TypeVar("K_contra", contravariant=True)


class Cut(Protocol[K_contra]):
    """Which rows a page takes of a list whose places are of one kind."""

    @property
    def limit(self) -> int: ...
    @property
    def backwards(self) -> bool: ...
    @property
    def after(self) -> object | None:
        """Where it begins; None: at the list's head."""

    def cursor(self, place: K_contra, *, backwards: bool) -> str: ...


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    digest: bytes
    backwards: bool
    #: Microseconds since 1970, or the number; PostgreSQL's bigint has no more.
    place: Annotated[int, msgspec.Meta(le=2**63 - 1)]
    id: UUID


_decoder: Final = msgspec.msgpack.Decoder(_Cursor)


class Shape(NamedTuple):
    """What of a page decides the text of its statement; all else is in `Paging.values`."""

    #: Whether it begins at a place, not at the list's head.
    resumed: bool
    backwards: bool

    def outer_order(
        self, statement: "Select[Any]", *columns: "ColumnElement[Any]"
    ) -> "Select[Any]":
        """The order of `keyset` again, for a statement around it."""
        return statement.order_by(
            *(column.asc() if self.backwards else column.desc() for column in columns)
        )


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page: from where, in which direction, how long; ``digest`` is the filters'."""

    limit: int
    digest: bytes
    after: Key | None = None
    backwards: bool = False

    def cursor(self, place: Key, *, backwards: bool) -> str:
        """The text that leads to what follows the place, or precedes it."""
        first, ident = place
        number = first if isinstance(first, int) else micros_of(first)
        return seal(_Cursor(self.digest, backwards, number, ident))

    @property
    def shape(self) -> Shape:
        return Shape(self.after is not None, self.backwards)

    def values(self) -> dict[str, object]:
        """The parameters of a statement that `keyset` has bounded."""
        place = {} if self.after is None else dict(zip(_PLACE, self.after, strict=True))
        return {**place, ROWS.key: self.limit + 1}


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows of one page and the cursors of its neighbours."""

    items: Sequence[T]
    has_more: bool
    next_cursor: str | None
    prev_cursor: str | None


def paging(
    limit: int, cursor: str | None, filters: Sequence[object], *, numbered: bool = False
) -> Paging:
    """Read a request's page, of a list by time or of a ``numbered`` one. Raises InvalidCursor."""
    digest = digest_of(filters)
    if cursor is None:
        return Paging(limit, digest)
    found = unseal(cursor, _decoder)
    if found.digest != digest:
        raise InvalidCursor(OTHER_FILTERS)
    place = found.place if numbered else time_of(found.place)
    return Paging(limit, digest, (place, found.id), found.backwards)


def digest_of(filters: Sequence[object]) -> bytes:
    """What tells a list's cursors from those of another."""
    return hashlib.blake2b(repr(tuple(filters)).encode(), digest_size=_DIGEST_BYTES).digest()


def micros_of(time: datetime) -> int:
    """Microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def time_of(micros: int) -> datetime:
    """The time that `micros_of` took. Raises InvalidCursor for one that is none."""
    try:
        return _EPOCH + micros * _MICROSECOND
    except OverflowError:
        raise InvalidCursor(_DAMAGED) from None


def keyset(statement: "Select[Any]", shape: Shape, *columns: "ColumnElement[Any]") -> "Select[Any]":
    """Order and bound a statement; one row more than the page tells whether more follow.

    ``columns`` are those of the key; the id may be left out where the first is unique.
    """
    if shape.resumed:
        here, there = tuple_(*columns), place_of(_PLACE[: len(columns)], *columns)
        statement = statement.where(here > there if shape.backwards else here < there)
    return shape.outer_order(statement, *columns).limit(ROWS)


def place_of(names: Sequence[str], *columns: "ColumnElement[Any]") -> "Tuple":
    """The parameters of these names, to be compared with the columns."""
    return tuple_(*(bindparam(name, type_=c.type) for name, c in zip(names, columns, strict=True)))


def page_of(rows: Sequence[T], page: Cut[K], place: Callable[[T], K]) -> Page[T]:
    """Cut one row more than the page to the page, in the list's order, and make its cursors."""
    further = len(rows) > page.limit
    items = list(rows[: page.limit])
    if page.backwards:
        items.reverse()
    if not items:
        return Page([], has_more=False, next_cursor=None, prev_cursor=None)
    # Backwards, the rows we came from follow; forwards from a cursor, those we came from precede.
    has_more = page.backwards or further
    has_newer = further if page.backwards else page.after is not None
    return Page(
        items,
        has_more=has_more,
        next_cursor=page.cursor(place(items[-1]), backwards=False) if has_more else None,
        prev_cursor=page.cursor(place(items[0]), backwards=True) if has_newer else None,
    )


def seal(cursor: msgspec.Struct) -> str:
    """The text of a cursor, with its checksum."""
    body = msgspec.msgpack.encode(cursor)
    return base64.urlsafe_b64encode(body + _checksum(body)).rstrip(b"=").decode()


def unseal(text: str, decoder: "msgspec.msgpack.Decoder[T]") -> T:
    """Read what `seal` made. Raises InvalidCursor."""
    try:
        if len(text) > _CURSOR_LENGTH_MAX:
            raise InvalidCursor(_DAMAGED)
        raw = text.encode("ascii")
        whole = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
        body, checksum = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
        if _checksum(body) != checksum:
            raise InvalidCursor(_DAMAGED)
        return decoder.decode(body)
    except (UnicodeEncodeError, binascii.Error, msgspec.MsgspecError):
        raise InvalidCursor(_DAMAGED) from None


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES, person=b"shop cursor").digest()
