"""Each rule of the checker is seen to fail when it is broken, and to hold when nothing is."""

from collections.abc import Iterator
from typing import Final

import psycopg
import pytest
from tests.support.app import in_process
from tests.support.components import LocalComponents
from tests.support.invariants import RULES, broken, holds
from tests.support.lived import live

_FREE: Final = "ALTER TABLE products DROP CONSTRAINT products_stock_check;"
_REFUNDED: Final = "(SELECT id FROM orders WHERE status = 'refunded' LIMIT 1)"
_PENDING: Final = "(SELECT id FROM orders WHERE status = 'pending' LIMIT 1)"
_STRANGER: Final = "00000000-0000-0000-0000-000000000001"

#: For each rule a statement that breaks it, as a fault of the code might.
PLANTED: Final = {
    "stock is the initial stock and the ledger": "UPDATE products SET stock = stock + 1",
    "stock is never below zero": f"{_FREE} UPDATE products SET stock = -1",
    "each ledger row shows the stock after it": "UPDATE stock_movements SET stock = stock + 1",
    "each ledger row is of a product": f"UPDATE stock_movements SET product_id = '{_STRANGER}'"
    " WHERE id = (SELECT id FROM stock_movements LIMIT 1)",
    "ledger rows and inventory events are one to one": "UPDATE stock_movements SET cause = 'x'",
    "reserved is the sum of the active reservations": "UPDATE products SET reserved = reserved + 1",
    "each reservation is of a product": f"UPDATE reservations SET product_id = '{_STRANGER}'",
    "the low-stock table is the products with few units": "DELETE FROM low_stock",
    "each word of a product is known to the search": "DELETE FROM search_words",
    "each version has its one event": "UPDATE products SET inventory_version = 99",
    "each event is of a thing that is there": "DELETE FROM orders",
    "each event is on its topic": "UPDATE event_audit SET topic = topic || 's'",
    "an event has an id of its own": f"UPDATE event_audit SET event_id = '{_STRANGER}'",
    "a thing begins and ends once": "UPDATE event_audit SET type = 'product.created'"
    " WHERE type = 'product.updated'",
    "a product with a last event is deleted": "UPDATE products SET deleted_at = NULL",
    "a warning follows its cause": "UPDATE event_audit SET type = 'product.low_stock'"
    " WHERE type = 'inventory.reserved'",
    "time never goes back in a thing's history": "UPDATE event_audit"
    " SET time = time - interval '1 hour' WHERE sequence > 1",
    "a thing's last change is its last event's": "UPDATE orders"
    " SET updated_at = updated_at + interval '1 second'",
    "an outbox row is the event that was audited": "UPDATE outbox SET payload = '{}'",
    "outbox rows have the order of their sequences": "UPDATE event_audit"
    " SET sequence = 100 - sequence",
    "an outbox row knows how many its transaction wrote": "DELETE FROM outbox"
    " WHERE seq = (SELECT max(seq) FROM outbox WHERE txrows > 1)",
    "an order's amounts are the sums of its lines": "UPDATE order_items SET quantity = 1",
    "each line is of an order and of a product of its seller": "UPDATE orders SET seller_id = 's9'",
    "refunds of the events add up": "UPDATE orders SET refunded_minor = 1",
    "the history tells each refund as its event does": "UPDATE order_history SET refund_minor = 1",
    "amounts stand on payments and refunds only": "UPDATE event_audit SET amount_minor = 7"
    " WHERE type = 'order.paid'",
    "an order is refunded when all of it is": "UPDATE orders SET status = 'paid'"
    f" WHERE id = {_REFUNDED}",
    "an order's history is its versions": "DELETE FROM order_history WHERE version = 2",
    "each step of the history is one of the table": "UPDATE order_history SET status = 'delivered'"
    " WHERE status = 'paid'",
    "each step of the history has its event": "UPDATE order_history SET status = 'paid'"
    " WHERE status = 'confirmed'",
    "an order has taken its units, or given them back": "UPDATE stock_movements"
    f" SET order_id = {_PENDING} WHERE order_id IS NOT NULL",
    "an open order holds its units and another none": "DELETE FROM reservations"
    f" WHERE order_id = {_PENDING}",
    "ended reservations end as their order did": "UPDATE reservations SET status = 'released'"
    " WHERE status = 'consumed'",
    "a hold has an end while the order is open": "UPDATE orders SET reserved_until = NULL",
    "a cancelled order says why": "UPDATE orders SET cancel_reason = NULL",
    "each command left one line in the audit": "DELETE FROM audit_log"
    " WHERE action = 'inventory.updated'",
    "each reservation of a seller left its lines in the audit": "DELETE FROM audit_log"
    " WHERE action = 'inventory.released'",
    "each reservation of a seller moved its units": "UPDATE reservations SET quantity = 9"
    " WHERE order_id IS NULL",
}


@pytest.fixture(scope="module")
def lived_in(session_components: LocalComponents) -> Iterator[str]:
    """A database in which everything has happened once."""
    with in_process(session_components) as app:
        live(app)
        yield app.database_url


def test_every_rule_is_planted_against() -> None:
    assert PLANTED.keys() == RULES.keys()


def test_nothing_is_broken_where_only_the_api_wrote(lived_in: str) -> None:
    assert holds(lived_in) == []


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_named(lived_in: str, rule: str) -> None:
    with psycopg.connect(lived_in) as connection:
        connection.execute(PLANTED[rule].encode())
        found = {line.partition(":")[0] for line in broken(connection)}
        connection.rollback()

    assert rule in found
