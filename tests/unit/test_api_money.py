"""Exact money."""

from decimal import Decimal

import pytest

from shopstream_api.money import EXPONENTS, NotMoney, from_minor, to_minor


@pytest.mark.parametrize(
    ("written", "currency", "minor"),
    [
        ("99.99", "USD", 9_999),
        ("99.990", "USD", 9_999),
        ("1e2", "USD", 10_000),
        ("0", "USD", 0),
        ("-0.0", "USD", 0),
        ("0E+999999", "USD", 0),
        ("10000000000", "USD", 10**12),
        ("5", "JPY", 5),
        ("5.0", "JPY", 5),
        ("1.234", "KWD", 1_234),
    ],
)
def test_a_price_is_read_exactly(written: str, currency: str, minor: int) -> None:
    assert to_minor(Decimal(written), currency) == minor


@pytest.mark.parametrize(
    ("written", "currency"),
    [
        ("-0.01", "USD"),
        ("0.001", "USD"),
        ("10000000000.01", "USD"),
        ("1e999999", "USD"),
        ("1e-999999", "USD"),
        ("99.9900000000000000000000000000000000000000001", "USD"),
        ("0.5", "JPY"),
    ],
)
def test_a_price_that_cannot_be_held_exactly_is_refused(written: str, currency: str) -> None:
    with pytest.raises(NotMoney):
        to_minor(Decimal(written), currency)


def test_a_price_is_shown_with_the_digits_of_its_currency() -> None:
    assert str(from_minor(500, "USD")) == "5.00"
    assert str(from_minor(500, "JPY")) == "500"
    assert str(from_minor(500, "KWD")) == "0.500"


def test_every_currency_reads_back_what_it_shows() -> None:
    for currency in EXPONENTS:
        assert to_minor(from_minor(123_456, currency), currency) == 123_456
