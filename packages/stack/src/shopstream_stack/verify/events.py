"""What a record says, read a second time: nothing here is shared with the apps' own reading.

Order events are taken apart by line: a product's revenue is its lines' part of it, and of a refund
the lines' proportion of the order's cumulative refund, the remainder with the first line.
"""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from shopstream_shared.events.codec import EventRejected, decode
from shopstream_stack.demo.oracle import Order
from shopstream_stack.verify.log import Record

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class _Event(msgspec.Struct):
    id: str
    type: str
    subject: str
    sellerid: str
    sequence: str
    time: str
    data: msgspec.Raw


class _Item(msgspec.Struct, rename="camel"):
    product_id: str
    quantity: int
    total_minor: int


class _Order(msgspec.Struct, rename="camel"):
    items: list[_Item]
    total_minor: int
    refunded_minor: int
    currency: str
    refund_amount_minor: int = 0


class Line(NamedTuple):
    """What an order event adds to one product; revenue is signed, in minor units."""

    product: str
    units: int
    revenue: int


class Event(NamedTuple):
    """An event; ``amount`` is what was paid or paid back, in minor units, never negative."""

    subject: str
    sequence: int
    event_id: str
    type: str
    seller: str
    #: Microseconds since 1970.
    time: int
    amount: int
    currency: str
    units: int
    lines: tuple[Line, ...]


_envelope: Final = msgspec.json.Decoder(_Event)
_order: Final = msgspec.json.Decoder(_Order)


def read(record: Record) -> Event | None:
    """The event of a record; None for what counts as no event: a dead letter.

    What the archive keeps as raw bytes is mostly that, but for an event whose bytes hold a line
    break: then the codec has the last word.
    """
    if record.raw and _is_rejected(record.value):
        return None
    try:
        event = _envelope.decode(record.value or b"")
        sequence, time = int(event.sequence), _microseconds(event.time)
        if not event.type.startswith("order."):
            return Event(
                event.subject, sequence, event.id, event.type, event.sellerid, time, 0, "", 0, ()
            )
        order = _order.decode(event.data)
    except (msgspec.MsgspecError, ValueError):
        return None
    amount = _amount(event.type, order)
    return Event(
        subject=event.subject,
        sequence=sequence,
        event_id=event.id,
        type=event.type,
        seller=event.sellerid,
        time=time,
        amount=amount or 0,
        currency=order.currency if amount is not None else "",
        units=sum(item.quantity for item in order.items),
        lines=_lines(event, order),
    )


def _is_rejected(value: bytes | None) -> bool:
    try:
        decode(value)
    except EventRejected:
        return True
    return False


def _microseconds(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND


def _amount(event_type: str, order: _Order) -> int | None:
    if event_type == "order.paid":
        return order.total_minor
    return order.refund_amount_minor if event_type == "order.refunded" else None


def _lines(event: _Event, order: _Order) -> tuple[Line, ...]:
    """One line a product, however often it stands in the order."""
    bought: dict[str, tuple[int, int]] = {}
    for item in order.items:
        quantity, total = bought.get(item.product_id, (0, 0))
        bought[item.product_id] = quantity + item.quantity, total + item.total_minor
    earned = dict.fromkeys(bought, 0)
    if event.type == "order.paid":
        earned = {product: total for product, (_, total) in bought.items()}
    elif event.type == "order.refunded":
        model = Order(event.subject, event.sellerid, order.currency, bought)
        earlier = order.refunded_minor - order.refund_amount_minor
        steps = (model.refund_shares(refunded) for refunded in (earlier, order.refunded_minor))
        for before, after in pairwise(steps):
            earned = {product: before[product] - after[product] for product in bought}
    return tuple(
        Line(product, quantity, earned[product]) for product, (quantity, _) in bought.items()
    )
