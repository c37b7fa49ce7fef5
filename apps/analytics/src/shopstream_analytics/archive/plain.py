"""A quick yes for the events that we write ourselves; anything else is for `events.read_event`.

`is_plain` is true only for bytes that `read_event` takes: each shape here asks for at least what
the full reading asks for, in one pass; prices, which the full reading reads twice, must stand there
once, as short plain numbers. What it refuses may still be an event. A property test holds the two
against each other.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from shopstream_shared.clock import TIME_CHARACTERS_MAX, parse_time
from shopstream_shared.events import payloads
from shopstream_shared.events.codec import EVENT_BYTES_MAX
from shopstream_shared.events.registry import EVENT_TYPES

#: Of UTF-8, at most 4 bytes a character: 900 bytes at most, as `events.KEY_BYTES_MAX` asks.
_Key = Annotated[str, Meta(min_length=1, max_length=225)]
#: Its digits are looked at by `_is_sequence`: a pattern took half of the decoder's time.
_Sequence = Annotated[str, Meta(min_length=1, max_length=18)]
#: Where our encoder puts the type; a wrong guess is only slow.
_TYPE: Final = b'"type":"'
_TYPE_WITHIN_BYTES: Final = 256
#: Below 10^18, the largest price, and read alike as a float and as a decimal.
_is_price: Final = re.compile(rb"(?:0|[1-9][0-9]{0,16})(?:\.[0-9]{1,9})?").fullmatch
_read_time: Final = datetime.fromisoformat


def is_plain(value: bytes | None) -> bool:
    """Whether a record's value is an event, without any doubt."""
    # Without this escape no member's name can be hidden from those who count names below.
    if value is None or len(value) > EVENT_BYTES_MAX or (b"\\" in value and b"\\u" in value):
        return False
    found = value.find(_TYPE, 0, _TYPE_WITHIN_BYTES)
    begin = found + len(_TYPE)
    decoder = _DECODERS.get(value[begin : value.find(b'"', begin)]) if found > 0 else None
    if decoder is None:
        return False
    try:
        # The decoder passes over broken UTF-8 in members that it does not know.
        if not value.isascii():
            str(value, "utf-8")
        event = decoder.decode(value)
        time = event.time
        # In UTC there is nothing more that `parse_time` could refuse.
        if len(time) > TIME_CHARACTERS_MAX or _read_time(time).tzinfo is not UTC:
            parse_time(time)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return _is_sequence(event.sequence) and _prices_are_plain(value, event.data)


def _is_sequence(text: str) -> bool:
    return text[0] != "0" and text.isdigit() and text.isascii()


def _prices_are_plain(value: bytes, data: Any) -> bool:
    """Each price once: of a member that comes twice only the last one would be seen here."""
    if isinstance(data, _Inventory):
        return True
    if isinstance(data, _Product):
        return value.count(b'"price":') == 1 and _is_price(data.price) is not None
    if value.count(b'"total":') != 1 or not _is_price(data.total):
        return False
    items = data.items
    if value.count(b'"unitPrice":') != len(items):
        return False
    # Not `all`: this runs for every line of every order.
    for item in items:  # noqa: SIM110 - see above
        if not _is_price(item.unit_price):
            return False
    return True


def _plainer(shape: type[Struct], name: str, **narrowed: Any) -> Any:
    """The same members as `shape`: prices as they stand, keys short, the rest unchanged."""
    fields: list[tuple[str, Any]] = []
    for one in msgspec.structs.fields(shape):
        wanted = narrowed.get(one.name, one.type)
        # Annotated[Decimal, …]: a price.
        is_price = get_args(wanted)[:1] == (Decimal,)
        fields.append((one.name, msgspec.Raw if is_price else wanted))
    return msgspec.defstruct(name, fields, rename="camel", gc=False, kw_only=True)


def _some(item: Any) -> Any:
    return Annotated[list[item], Meta(min_length=1)]


_Item: Final = _plainer(payloads.OrderItem, "_Item", product_id=_Key)
_items: Final = _some(_Item)
_Product: Final = _plainer(payloads.Product, "_Product")
_Order: Final = _plainer(payloads.Order, "_Order", items=_items)
_Refunded: Final = _plainer(payloads.OrderRefunded, "_Refunded", items=_items)
_Inventory: Final = _plainer(payloads.Inventory, "_Inventory")
_PLAIN: Final = {
    payloads.Product: _Product,
    payloads.Order: _Order,
    payloads.OrderRefunded: _Refunded,
    payloads.Inventory: _Inventory,
}


def _decoder(event_type: str, payload: Any) -> "msgspec.json.Decoder[Any]":
    members: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("specversion", Literal["1.0"]),
        ("id", _Key),
        ("source", Annotated[str, Meta(min_length=1)]),
        # Each of them, should there be two.
        ("type", Literal[event_type]),
        ("subject", _Key),
        ("time", str),
        ("sellerid", _Key),
        ("sequence", _Sequence),
        ("data", payload),
        ("datacontenttype", str | None, None),
        ("dataschema", str | None, None),
        ("correlationid", str | None, None),
        ("traceparent", str | None, None),
    ]
    return msgspec.json.Decoder(msgspec.defstruct("_Event", members, gc=False, kw_only=True))


_DECODERS: Final = {
    name.encode(): _decoder(name, _PLAIN[kind.payload]) for name, kind in EVENT_TYPES.items()
}
