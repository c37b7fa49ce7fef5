"""What a record says, read a second time: nothing here is shared with the apps' own reading.

Order events are taken apart by line: a product's revenue is its lines' part of it, and of a refund
the lines' proportion of the order's cumulative refund, the remainder with the first line.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from shopstream_shared.events.codec import EventRejected, decode
from shopstream_stack.demo.oracle import Order
from shopstream_stack.verify.log import Record

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class _Event(msgspec.Struct, gc=False):
    id: str
    type: str
    subject: str
    sellerid: str
    sequence: str
    time: str
    data: msgspec.Raw


class _Item(msgspec.Struct, rename="camel", gc=False):
    product_id: str
    quantity: int
    total_minor: int


class _Order(msgspec.Struct, rename="camel", gc=False):
    items: list[_Item]
    total_minor: int
    refunded_minor: int
    currency: str
    refund_amount_minor: int = 0


#: Type, time, seller, currency, product, units, revenue: what an order event adds to one product;
#: revenue is signed, in minor units.
Line = tuple[str, int, str, str, str, int, int]
#: Subject, sequence, event id, type, seller, time (microseconds since 1970), amount, currency,
#: units, whether all is paid back; the amount is what was paid or paid back, in minor units, never
#: negative.
Row = tuple[str, int, str, str, str, int, int, str, int, bool]


class Event(NamedTuple):
    """An event as the check's tables hold it."""

    row: Row
    lines: Sequence[Line] = ()

    @property
    def time(self) -> int:
        return self.row[5]


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
        said = (event.subject, sequence, event.id, event.type, event.sellerid, time)
        if not event.type.startswith("order."):
            return Event((*said, 0, "", 0, False))
        order = _order.decode(event.data)
    except (msgspec.MsgspecError, ValueError):
        return None
    amount = _amount(event.type, order)
    currency = order.currency if amount is not None else ""
    units = sum([item.quantity for item in order.items])
    head = (event.type, time, event.sellerid, currency)
    lines = [(*head, *line) for line in _lines(event, order)]
    refunded = event.type == "order.refunded" and order.refunded_minor >= order.total_minor
    return Event((*said, amount or 0, currency, units, refunded), lines)


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


def _lines(event: _Event, order: _Order) -> Iterable[tuple[str, int, int]]:
    """Product, units and revenue: one line a product, however often it stands in the order."""
    bought: dict[str, tuple[int, int]] = {}
    for item in order.items:
        quantity, total = bought.get(item.product_id, (0, 0))
        bought[item.product_id] = quantity + item.quantity, total + item.total_minor
    if event.type == "order.paid":
        return [(product, quantity, total) for product, (quantity, total) in bought.items()]
    if event.type != "order.refunded":
        return [(product, quantity, 0) for product, (quantity, _) in bought.items()]
    model = Order(event.subject, event.sellerid, order.currency, bought)
    before = model.refund_shares(order.refunded_minor - order.refund_amount_minor)
    after = model.refund_shares(order.refunded_minor)
    return [
        (product, quantity, before[product] - after[product])
        for product, (quantity, _) in bought.items()
    ]
