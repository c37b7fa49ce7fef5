"""Bytes to events: what is refused, for which reason, in which order."""

import pytest
from msgspec import structs
from tests.support.events import changed, golden, with_data

from shopstream_shared.events.codec import (
    DETAIL_LENGTH_MAX,
    EVENT_BYTES_MAX,
    EventRejected,
    InvalidData,
    Malformed,
    TooLarge,
    UnknownType,
    decode,
    decode_envelope,
    encode,
    encode_payload,
    header_map,
)
from shopstream_shared.events.payloads import Order, OrderItem, Product

PRODUCT = golden("product.created")
ORDER = golden("order.created")


def price_written(digits: bytes) -> bytes:
    assert b'"price":99.99' in PRODUCT
    return PRODUCT.replace(b'"price":99.99', b'"price":' + digits)


@pytest.mark.parametrize(
    ("value", "rejection"),
    [
        pytest.param(b"x" * (EVENT_BYTES_MAX + 1), TooLarge, id="large and not JSON"),
        pytest.param(None, Malformed, id="null"),
        pytest.param(b"", Malformed, id="empty"),
        pytest.param(b"{", Malformed, id="cut"),
        pytest.param(b"[]", Malformed, id="list"),
        pytest.param(b"null", Malformed, id="JSON null"),
        pytest.param(b"\xef\xbb\xbf" + PRODUCT, Malformed, id="byte order mark"),
        pytest.param(PRODUCT + b"x", Malformed, id="more after the end"),
        pytest.param(b"[" * 100_000, Malformed, id="deep"),
        pytest.param(changed(PRODUCT, specversion="0.3"), Malformed, id="other version"),
        pytest.param(changed(PRODUCT, time="2026-11-21"), Malformed, id="date for a time"),
        pytest.param(
            changed(PRODUCT, time=f"2026-11-21T05:00:00.{'0' * 1_100}Z"),
            Malformed,
            id="endless time",
        ),
        pytest.param(
            changed(PRODUCT, time="0001-01-01T00:00:00+23:59"), Malformed, id="time before year 1"
        ),
        pytest.param(changed(PRODUCT, sequence="0"), Malformed, id="sequence 0"),
        pytest.param(changed(PRODUCT, sequence="-1"), Malformed, id="sequence below 0"),
        pytest.param(changed(PRODUCT, sequence="1.0"), Malformed, id="sequence with a point"),
        pytest.param(changed(PRODUCT, sequence="٣"), Malformed, id="sequence in other digits"),
        pytest.param(changed(PRODUCT, sequence="9" * 5_000), Malformed, id="endless sequence"),
        pytest.param(changed(PRODUCT, sequence=str(2**63)), Malformed, id="sequence past 64 bits"),
        pytest.param(changed(PRODUCT, sequence=1), Malformed, id="sequence as a number"),
        pytest.param(
            changed(PRODUCT, type="product.eaten", id=""), Malformed, id="unknown and malformed"
        ),
        pytest.param(
            PRODUCT[:-2] + b',"zz":"\xff"}}', Malformed, id="broken UTF-8 in an unknown field"
        ),
        pytest.param(changed(PRODUCT, type="product.eaten"), UnknownType, id="unknown type"),
        pytest.param(
            changed(PRODUCT, type="product.eaten", data=1),
            UnknownType,
            id="unknown with other data",
        ),
        pytest.param(changed(PRODUCT, data=None), InvalidData, id="without data"),
        pytest.param(changed(PRODUCT, data="x"), InvalidData, id="data is a text"),
        pytest.param(with_data(PRODUCT, price="99.99"), InvalidData, id="price as text"),
        pytest.param(with_data(PRODUCT, price="NaN"), InvalidData, id="price not a number"),
        pytest.param(price_written(b"1e400"), InvalidData, id="price past all bounds"),
        pytest.param(price_written(b"1e99999999999999999999"), InvalidData, id="endless exponent"),
        pytest.param(price_written(b"-0.01"), InvalidData, id="price below 0"),
        pytest.param(with_data(PRODUCT, priceMinor=2**63), InvalidData, id="past 64 bits"),
        pytest.param(with_data(ORDER, total="1"), InvalidData, id="total as text"),
        pytest.param(
            with_data(PRODUCT, createdAt="2026-11-21T05:00:00.000000Z\n"),
            InvalidData,
            id="line end",
        ),
    ],
)
def test_what_cannot_be_read_has_one_reason(
    value: bytes | None, rejection: type[EventRejected]
) -> None:
    with pytest.raises(rejection) as caught:
        decode(value)

    assert type(caught.value) is rejection


@pytest.mark.parametrize(
    "name", ["specversion", "id", "source", "type", "subject", "time", "sellerid", "sequence"]
)
@pytest.mark.parametrize("value", ["", None], ids=["empty", "missing"])
def test_a_required_attribute_that_is_empty_or_missing_is_malformed(
    name: str, value: str | None
) -> None:
    with pytest.raises(Malformed):
        decode_envelope(changed(PRODUCT, **{name: value}))


def test_the_reasons_are_spelt_as_the_dead_letter_spells_them() -> None:
    reasons = [kind.reason for kind in (TooLarge, Malformed, UnknownType, InvalidData)]

    assert reasons == ["too_large", "malformed", "unknown_type", "invalid_data"]


def test_what_is_said_of_a_record_is_bounded_whatever_the_record_says() -> None:
    with pytest.raises(UnknownType) as caught:
        decode(changed(PRODUCT, type="x" * 100_000))

    assert len(str(caught.value)) <= DETAIL_LENGTH_MAX


def test_the_largest_value_that_is_read_is_read() -> None:
    padding = EVENT_BYTES_MAX - len(PRODUCT) - len(b',"pad":""')
    value = PRODUCT[:-1] + b',"pad":"' + b"x" * padding + b'"}'

    assert len(value) == EVENT_BYTES_MAX
    assert decode(value).type == "product.created"


def test_optional_attributes_may_be_missing_and_unknown_ones_present() -> None:
    event = decode(
        changed(PRODUCT, datacontenttype=None, dataschema=None, correlationid=None, colour="blue")
    )

    assert event.envelope.correlationid is None


def test_a_price_is_written_as_the_decimal_it_is() -> None:
    payload = decode(PRODUCT).payload
    assert isinstance(payload, Product)

    for text in ("99.990", "0.10", "100.00", "1000000000000"):
        value = price_written(text.encode())
        again = decode(value)
        assert isinstance(again.payload, Product)
        assert str(again.payload.price) == text
        assert f'"price":{text},'.encode() in encode_payload(again.payload)


def test_the_largest_order_and_product_of_the_contract_fit() -> None:
    """100 lines with names of 200, descriptions of 10,000, all in the widest escapes."""
    product, order = decode(PRODUCT).payload, decode(ORDER).payload
    assert isinstance(product, Product)
    assert isinstance(order, Order)
    line = structs.replace(order.items[0], name="\x01" * 200)
    payloads: tuple[Product | Order, ...] = (
        structs.replace(order, items=(line,) * 100),
        structs.replace(
            product,
            name="\x01" * 200,
            description="\x01" * 10_000,
            tags=("\x01" * 50,) * 20,
            sku="\x01" * 64,
        ),
    )
    assert isinstance(line, OrderItem)

    for payload in payloads:
        assert len(encode_payload(payload)) < EVENT_BYTES_MAX - 2_000


def test_a_type_that_is_not_registered_cannot_be_encoded() -> None:
    event = decode(PRODUCT)

    with pytest.raises(KeyError):
        encode(
            "product.eaten",
            event_id="1",
            subject="2",
            seller_id="3",
            sequence=1,
            time=event.time,
            data=b"{}",
        )


def test_of_a_repeated_header_the_last_counts() -> None:
    assert header_map([("a", b"1"), ("a", b"2")]) == {"a": b"2"}
    assert header_map(None) == {}
