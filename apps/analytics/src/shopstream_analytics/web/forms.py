"""The forms in which an answer can be had: JSON, CSV, Parquet; and its ETag.

A tag stands for content and form. The content is hashed as JSON, whose members have one order, so
that a file need not be made to see that the caller has it already.
"""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from shopstream_analytics.aggregates.definitions import BY_TYPE, PLAIN_COUNTERS, REVENUE
from shopstream_analytics.aggregates.reader import Series
from shopstream_analytics.web.problems import Fault, InvalidRequest
from shopstream_shared.events.registry import EVENT_TYPES

Form = Literal["json", "csv", "parquet"]

#: By form, in the order of preference where a caller takes several.
MEDIA_TYPES: Final[Mapping[Form, str]] = {
    "json": "application/json",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
#: A chunk of a CSV file is so many rows: some 20 KB, and a millisecond of the loop.
CSV_ROWS_A_CHUNK: Final = 200
#: Above it an answer is made beside the loop, which serves everybody.
ROWS_IN_LOOP_MAX: Final = 500
MONEY_DIGITS: Final = 38
FILE_NAME_CHARACTERS_MAX: Final = 100
#: The columns that hold text; others hold whole numbers.
TEXTS: Final = frozenset({"currency", "productId", "sellerId"})
_START: Final = "start"
_MONEY: Final = REVENUE.name
_ASK_AGAIN: Final = {"cache-control": "no-cache", "vary": "Accept"}


def form_of(request: Request) -> Form:
    """What `format` names, else what ``Accept`` likes best. Raises InvalidRequest."""
    named = request.query_params.get("format")
    if named is None:
        return _accepted(request.headers.get("accept", "*/*"))
    form = next((known for known in MEDIA_TYPES if known == named), None)
    if form is None:
        raise InvalidRequest([Fault("format", f"is none of {', '.join(MEDIA_TYPES)}")])
    return form


def only_json(request: Request) -> None:
    """For an answer that is no file. Raises InvalidRequest when one is asked for by ``format``."""
    if request.query_params.get("format", "json") != "json":
        text = "is json here: the series of sellers, products and event types are files, too"
        raise InvalidRequest([Fault("format", text)])


def _accepted(accept: str) -> Form:
    qualities = dict(map(_range, accept.split(",")))

    def quality(form: Form) -> float:
        media_type = MEDIA_TYPES[form]
        ranges = media_type, media_type.split("/")[0] + "/*", "*/*"
        return next((qualities[name] for name in ranges if name in qualities), 0.0)

    return max(MEDIA_TYPES, key=quality)


def _range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, float(parameter[2:])
            except ValueError:
                return name, 0.0
    return name, 1.0


@dataclass(frozen=True, slots=True)
class Content:
    """What is answered: the body of the JSON form, the rows of a file, and the file's name."""

    body: Callable[[], object]
    table: Callable[[], "Table"]
    columns: Callable[[], Sequence[str]]
    file_name: str
    rows: int

    @classmethod
    def of_series(cls, series: Series, name: str) -> "Content":
        return cls(
            body=series.as_json,
            table=lambda: Table.of_series(series),
            columns=lambda: _columns(_counters(series)),
            file_name=f"{name}-{series.granularity}",
            rows=len(series.buckets),
        )


async def answer(request: Request, content: Content) -> Response:
    """The content as the caller wants it; 304 if it has it. Raises InvalidRequest."""
    form = form_of(request)
    beside = content.rows > ROWS_IN_LOOP_MAX
    body = await asyncio.to_thread(_json, content) if beside else _json(content)
    if form == "json":
        tag = _tag(body, form)
    else:
        columns = await asyncio.to_thread(content.columns) if beside else content.columns()
        tag = _tag(body, form, columns)
    headers = {"etag": tag, **_ASK_AGAIN}
    if matches(request.headers.get("if-none-match"), headers["etag"]):
        return Response(status_code=304, headers=headers)
    media_type = MEDIA_TYPES[form]
    if form == "json":
        return Response(body, headers=headers, media_type=media_type)
    headers["content-disposition"] = f'attachment; filename="{_file_name(content, form)}"'
    table = await asyncio.to_thread(content.table)
    if form == "csv":
        return StreamingResponse(_chunks(table), headers=headers, media_type=media_type)
    packed = await asyncio.to_thread(parquet, table)
    return Response(packed, headers=headers, media_type=media_type)


def tagged(request: Request, body: object) -> Response:
    """The body as JSON; 304 if the caller has it."""
    content = msgspec.json.encode(body)
    headers = {"etag": _tag(content, "json"), "cache-control": "no-cache"}
    if matches(request.headers.get("if-none-match"), headers["etag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=MEDIA_TYPES["json"])


def matches(sent: str | None, tag: str) -> bool:
    """RFC 9110 13.1.2, by the weak comparison."""
    if sent is None:
        return False
    tags = [one.strip().removeprefix("W/") for one in sent.split(",")]
    return tags == ["*"] or tag in tags


def _json(content: Content) -> bytes:
    return msgspec.json.encode(content.body())


def _tag(content: bytes, form: Form, columns: Sequence[str] = ()) -> str:
    """``columns`` of a file: a later version may have others for the same content."""
    hashed = blake2b(content, digest_size=16)
    hashed.update(msgspec.json.encode(columns) if columns else b"")
    return f'"{hashed.hexdigest()}-{form}"'


def _file_name(content: Content, form: Form) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", content.file_name)
    return f"{plain[:FILE_NAME_CHARACTERS_MAX]}.{form}"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of moments, texts and whole numbers; a column of money begins with ``revenueMinor``."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @classmethod
    def of_series(cls, series: Series) -> "Table":
        """A row a bucket, a column a counter, named ``byType.order.paid``, ``revenueMinor.USD``.

        Columns are the same for every range, but for currencies and types new to us.
        """
        counters = _counters(series)
        return cls(
            columns=_columns(counters),
            rows=[
                (start, *(counted[name] for name in counters))
                for start, counted in series.buckets.items()
            ],
        )


def _counters(series: Series) -> list[str]:
    found: set[str] = set().union(*series.buckets.values())
    types = [BY_TYPE.counter + name for name in EVENT_TYPES]
    types += sorted({name for name in found if name.startswith(BY_TYPE.counter)} - set(types))
    money = sorted(name for name in found if name.startswith(REVENUE.counter))
    return [*PLAIN_COUNTERS, *types, *money]


def _columns(counters: Sequence[str]) -> list[str]:
    return [_START, *(name.replace("#", ".") for name in counters)]


async def _chunks(table: Table) -> AsyncIterator[bytes]:
    """A header row, then rows; lines end as RFC 4180 says."""
    yield _csv([table.columns])
    for at in range(0, len(table.rows), CSV_ROWS_A_CHUNK):
        yield _csv(table.rows[at : at + CSV_ROWS_A_CHUNK])
        await asyncio.sleep(0)


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def parquet(table: Table) -> bytes:
    """One file, zstd. ``start`` is a timestamp in UTC, money a decimal, numbers have 64 bits."""
    # Two tenths of a second of processor time and 30 MB, which a service that is never asked for
    # Parquet need not pay.
    import pyarrow as pa  # noqa: PLC0415 - said above
    import pyarrow.parquet as pq  # noqa: PLC0415 - said above

    money = pa.decimal128(MONEY_DIGITS, 0)
    arrays = []
    for position, column in enumerate(table.columns):
        values = [row[position] for row in table.rows]
        if column == _START:
            moments = [datetime.fromisoformat(value) for value in values]
            arrays.append(pa.array(moments, pa.timestamp("us", tz="UTC")))
        elif column.startswith(_MONEY):
            arrays.append(pa.array([Decimal(value) for value in values], money))
        elif column in TEXTS:
            arrays.append(pa.array(values, pa.string()))
        else:
            arrays.append(pa.array(values, pa.int64()))
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(arrays, names=list(table.columns)), sink, compression="zstd"
    )
    body: bytes = sink.getvalue().to_pybytes()
    return body
