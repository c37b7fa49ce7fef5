"""The rules of stock, free of the database: what a change does and what it warns of."""

from typing import Final

from shopstream_api.catalog.schemas import STOCK_MAX

LOW: Final = "product.low_stock"
OUT: Final = "product.out_of_stock"


def warning(before: int, after: int, threshold: int) -> str | None:
    """The warning a change of stock crosses, if any.

    Out of stock when it comes to 0, low when it falls from above the threshold to 1..threshold;
    a fall straight to 0 is only the former. Crossing is what re-arms each when stock rises.
    """
    if after == 0 < before:
        return OUT
    if 1 <= after <= threshold < before:
        return LOW
    return None


def fits(stock: int) -> bool:
    """True when this much stock can be stored."""
    return 0 <= stock <= STOCK_MAX
