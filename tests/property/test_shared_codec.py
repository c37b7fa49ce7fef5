"""The codec over generated events and generated rubbish."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.support.events import golden

from shopstream_shared.clock import format_time
from shopstream_shared.events.codec import (
    EventRejected,
    InvalidData,
    decode,
    encode,
    encode_payload,
)
from shopstream_shared.events.payloads import Inventory, Product
from shopstream_shared.events.registry import EVENT_TYPES
from shopstream_shared.events.schemas import load_schema

# What UTF-8 can carry: lone surrogates never get past the API.
texts = st.text(st.characters(exclude_categories=["Cs"]))
words = texts.filter(bool)
counts = st.integers(0, 2**63 - 1)
versions = st.integers(1, 2**63 - 1)
moments = st.datetimes(timezones=st.just(UTC))
prices = st.decimals(0, 10**12, allow_nan=False, allow_infinity=False, places=3)


@st.composite
def products(draw: st.DrawFn) -> Product:
    return Product(
        id=draw(words),
        name=draw(words),
        description=draw(st.none() | texts),
        sku=draw(st.none() | texts),
        category=draw(st.none() | texts),
        tags=tuple(draw(st.lists(texts, max_size=3))),
        price=draw(prices),
        price_minor=draw(counts),
        currency=draw(st.sampled_from(["USD", "JPY", "TND"])),
        stock=draw(counts),
        seller_id=draw(words),
        status=draw(st.sampled_from(["draft", "active", "archived"])),
        version=draw(versions),
        inventory_version=draw(counts),
        created_at=format_time(draw(moments)),
        updated_at=format_time(draw(moments)),
    )


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    return Inventory(
        product_id=draw(words),
        seller_id=draw(words),
        name=draw(words),
        stock=draw(counts),
        delta=draw(st.integers(-(2**63) + 1, 2**63 - 1)),
        reason=draw(st.none() | texts),
        order_id=draw(st.none() | texts),
        threshold=draw(st.none() | counts),
        inventory_version=draw(versions),
    )


@given(
    payload=products() | inventories(),
    event_id=words,
    subject=words,
    seller=words,
    sequence=versions,
    time=moments,
    correlation=st.none() | texts,
)
def test_an_event_comes_back_as_it_went(
    *,
    payload: Product | Inventory,
    event_id: str,
    subject: str,
    seller: str,
    sequence: int,
    time: datetime,
    correlation: str | None,
) -> None:
    event_type = "product.updated" if isinstance(payload, Product) else "inventory.updated"
    sent = encode(
        event_type,
        event_id=event_id,
        subject=subject,
        seller_id=seller,
        sequence=sequence,
        time=time,
        data=encode_payload(payload),
        correlation_id=correlation,
    )

    got = decode(sent.value)

    assert got.payload == payload
    assert (got.type, got.time, got.sequence) == (event_type, time, sequence)
    assert (got.envelope.id, got.envelope.subject, got.envelope.sellerid) == (
        event_id,
        subject,
        seller,
    )
    assert got.envelope.correlationid == correlation
    assert bytes(got.envelope.data) == encode_payload(payload)
    # One line: what the stream and the archive build on.
    assert b"\n" not in sent.value
    assert b"\r" not in sent.value


@given(st.none() | st.binary(max_size=200))
def test_rubbish_raises_nothing_but_event_rejected(value: bytes | None) -> None:
    _decode_or_reject(value)


@given(
    event_type=st.sampled_from(sorted(EVENT_TYPES)),
    cuts=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 5), st.binary(max_size=5)), min_size=1, max_size=4
    ),
)
def test_a_damaged_event_raises_nothing_but_event_rejected(
    event_type: str, cuts: list[tuple[float, int, bytes]]
) -> None:
    value = golden(event_type)
    for where, length, put in cuts:
        at = int(where * len(value))
        value = value[:at] + put + value[at + length :]

    _decode_or_reject(value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["active", "pending", "USD", "2026-11-21T05:00:00.000000Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@given(event_type=st.sampled_from(sorted(EVENT_TYPES)), change=st.data())
def test_codec_and_schema_agree_on_data(event_type: str, change: st.DataObject) -> None:
    """The schema says what a consumer may rely on, so it must not accept what the codec rejects."""
    event: dict[str, Any] = json.loads(golden(event_type), parse_float=Decimal)
    member = change.draw(st.sampled_from(sorted(event["data"])))
    event["data"][member] = change.draw(json_values)
    value = json.dumps(event, default=float).encode()

    try:
        decode(value)
        read = True
    except InvalidData:
        read = False

    validator = Draft202012Validator(json.loads(load_schema(EVENT_TYPES[event_type])))
    # A whole float such as 1.0 is an integer to JSON Schema, and none to the codec: writing one
    # where a count belongs is no additive change, so the stricter side may stand.
    assert read == validator.is_valid(json.loads(value)) or b".0" in value or b"e+" in value


def _decode_or_reject(value: bytes | None) -> None:
    try:
        event = decode(value)
    except EventRejected as rejection:
        assert rejection.reason in {"too_large", "malformed", "unknown_type", "invalid_data"}  # noqa: PT017 - either outcome is right
    else:
        assert event.value == value
