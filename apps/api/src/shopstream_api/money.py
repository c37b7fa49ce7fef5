"""Exact money: decimals at the edge, integers of minor units inside, never a float.

The exponents are ISO 4217's (list one, active currencies): two digits unless named below.
"""

from decimal import Decimal
from typing import Final

DEFAULT_CURRENCY: Final = "USD"
#: The contract's upper bound of one price, in minor units.
PRICE_MINOR_MAX: Final = 10**12

_NO_DIGITS: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DIGITS: Final = "BHD IQD JOD KWD LYD OMR TND"
_FOUR_DIGITS: Final = "CLF UYW"
_TWO_DIGITS: Final = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD "
    "CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS "
    "GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD "
    "LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB "
    "PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP "
    "SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD YER ZAR ZMW ZWG"
)
EXPONENTS: Final = {
    currency: digits
    for digits, names in (
        (0, _NO_DIGITS),
        (2, _TWO_DIGITS),
        (3, _THREE_DIGITS),
        (4, _FOUR_DIGITS),
    )
    for currency in names.split()
}


class NotMoney(ValueError):
    """The amount cannot be a price in this currency; the text says why."""


def to_minor(price: Decimal, currency: str) -> int:
    """The price in minor units of the currency.

    Raises NotMoney below zero, above PRICE_MINOR_MAX or with more digits than the currency has;
    trailing zeros carry nothing and are fine.
    """
    if price == 0:
        return 0
    if price.is_signed():
        raise NotMoney("must not be below zero")
    # Compared before scaling: 1e999999 must not become a million-digit integer.
    if price.adjusted() > len(str(PRICE_MINOR_MAX)):
        raise NotMoney("is too large")
    # On the digits themselves: decimal arithmetic would round to its context's 28 digits.
    digits = EXPONENTS[currency]
    _, figures, exponent = price.as_tuple()
    written = "".join(map(str, figures))
    carried = written.rstrip("0")
    shift = int(exponent) + len(written) - len(carried) + digits
    if shift < 0:
        raise NotMoney(f"has more than the {digits} decimal digits of {currency}")
    minor: int = int(carried) * 10**shift
    if minor > PRICE_MINOR_MAX:
        raise NotMoney(f"is above {from_minor(PRICE_MINOR_MAX, currency)} {currency}")
    return minor


def from_minor(minor: int, currency: str) -> Decimal:
    """The price as it is shown: always with the currency's own number of digits."""
    return Decimal(minor).scaleb(-EXPONENTS[currency])
