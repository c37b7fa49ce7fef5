"""A record of a file to the product it says, by the rules of POST and PUT /products."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import UNSET, UnsetType

from shopstream_api.catalog import quick
from shopstream_api.catalog.schemas import MEMBERS, Details, read_replacement
from shopstream_api.errors import Fault, ValidationFailed
from shopstream_api.exact_json import parse
from shopstream_api.imports.errors import MalformedCsv
from shopstream_api.imports.records import RECORD_BYTES_MAX, Record
from shopstream_api.principal import Principal
from shopstream_api.web.errors import BodyTooLarge, MalformedJson

#: Without these no row could be applied.
_COLUMNS_REQUIRED: Final = ("name", "price", "sku")
#: Columns whose cells are numbers, as JSON writes them.
_NUMBERS: Final = ("price", "stock")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TAG_SEPARATOR: Final = "|"

Header = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A product as a row of a file says it; without ``stock`` the present one stays."""

    number: int
    seller_id: str
    sku: str
    details: Details
    stock: int | UnsetType


def read_header(record: Record, principal: Principal) -> Header:
    """The columns of a CSV file. Raises MalformedCsv, ValidationFailed."""
    names = tuple(name.strip() for name in _fields(record))
    required = (*_COLUMNS_REQUIRED, *(() if principal.seller_id else ("sellerId",)))
    faults = [
        Fault(name, "unknown_column", "is not a column of a product")
        for name in names
        if name not in MEMBERS
    ]
    faults += [
        Fault(name, "repeated_column", "is there twice")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    faults += [
        Fault(name, "required", "is a required column") for name in required if name not in names
    ]
    if faults:
        raise ValidationFailed(faults)
    return names


def read_row(number: int, record: Record, header: Header | None, principal: Principal) -> Row:
    """``header`` is a CSV file's, None for NDJSON.

    Raises BodyTooLarge, MalformedJson, MalformedCsv, ValidationFailed, Forbidden.
    """
    if record is None:
        raise BodyTooLarge(f"A row has at most {RECORD_BYTES_MAX} bytes.")
    if header is None:
        read = quick.read_replacement(record) or read_replacement(parse(record, "row"))
    else:
        read = read_replacement(_body(header, _fields(record)))
    seller_id = principal.seller_id if read.seller_id is UNSET else read.seller_id
    faults = [
        Fault(f"/{name}", "required", "is required in an import")
        for name, value in (("sku", read.details.sku), ("sellerId", seller_id))
        if value is None
    ]
    if faults or not isinstance(seller_id, str) or read.details.sku is None:
        raise ValidationFailed(faults)
    return Row(number, principal.act_for(seller_id), read.details.sku, read.details, read.stock)


def _fields(record: Record) -> list[str]:
    if record is None:
        raise MalformedCsv(f"A row has at most {RECORD_BYTES_MAX} bytes.")
    try:
        # The record was cut where it ends, so this is one row or no CSV.
        (fields,) = csv.reader([record.decode()], strict=True)
    except UnicodeDecodeError:
        raise MalformedCsv("The row is not UTF-8.") from None
    except (csv.Error, ValueError) as error:
        raise MalformedCsv(f"The row is not CSV: {error}") from None
    return fields


def _body(header: Header, fields: Sequence[str]) -> dict[str, object]:
    """The body that the cells stand for; an empty cell is an absent member."""
    if len(fields) != len(header):
        raise MalformedCsv(f"The row has {len(fields)} fields, the header {len(header)}.")
    return {
        name: _value(name, cell) for name, cell in zip(header, fields, strict=True) if cell != ""
    }


def _value(name: str, cell: str) -> object:
    """What cannot be read as it should stays a text, which the reader of products refuses."""
    if name in _NUMBERS:
        number = cell.strip()
        return _json(number) if _NUMBER.fullmatch(number) else cell
    if name == "tags":
        return _json(cell) if cell.lstrip().startswith("[") else cell.split(_TAG_SEPARATOR)
    return cell


def _json(cell: str) -> object:
    try:
        return parse(cell.encode())
    except MalformedJson:
        return cell
