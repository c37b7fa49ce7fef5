"""What an order's event moves, in units or minor units: of the whole order, and of each line."""

from collections.abc import Sequence

from shopstream_shared.events.payloads import Order, OrderItem, OrderRefunded


def units(order: Order) -> int:
    """Pieces ordered."""
    return sum(unit_lines(order))


def unit_lines(order: Order) -> Sequence[int]:
    """Pieces ordered, a line each."""
    return [item.quantity for item in order.items]


def total(order: Order) -> int:
    """What the order costs, in minor units."""
    return order.total_minor


def total_lines(order: Order) -> Sequence[int]:
    """What each line costs, in minor units."""
    return [item.total_minor for item in order.items]


def refund(order: Order) -> int:
    """What this step pays back, in minor units; 0 for what is no refund."""
    return order.refund_amount_minor if isinstance(order, OrderRefunded) else 0


def minus_refund(order: Order) -> int:
    """What this step takes from the revenue."""
    return -refund(order)


def minus_refund_lines(order: Order) -> Sequence[int]:
    """What this step takes from each line's revenue; after a full refund each stands at 0."""
    after = refund_shares(order.items, order.total_minor, order.refunded_minor)
    earlier = order.refunded_minor - refund(order)
    before = refund_shares(order.items, order.total_minor, earlier)
    return [was - now for was, now in zip(before, after, strict=True)]


def in_full(order: Order) -> int:
    """1 when nothing is left to pay back, else 0."""
    return int(order.refunded_minor >= order.total_minor)


def refund_shares(items: tuple[OrderItem, ...], total_minor: int, refunded: int) -> list[int]:
    """How the cumulative refund of an order spreads over its lines, in minor units.

    A line's share is its proportion of the total, rounded down; what rounding leaves goes to the
    first line. So at a full refund every line's share is exactly its own total. Of tax and
    shipping, which belong to no line, nothing is spread.
    """
    if total_minor <= 0:
        return [0] * len(items)
    shares = [refunded * item.total_minor // total_minor for item in items]
    lines_total = sum(item.total_minor for item in items)
    shares[0] += refunded * lines_total // total_minor - sum(shares)
    return shares
