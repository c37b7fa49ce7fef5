"""What can be refused about stock."""

from collections.abc import Sequence
from dataclasses import dataclass

from shopstream_api.errors import BusinessError


@dataclass(frozen=True, slots=True)
class Shortage:
    """A product with less than was asked."""

    product_id: str
    requested: int
    available: int


class InsufficientStock(BusinessError):
    """Fewer units are there than the request takes; nothing was taken."""

    def __init__(self, shortages: Sequence[Shortage]) -> None:
        first, *others = shortages
        more = f" So it is with {len(others)} more; see items." if others else ""
        super().__init__(
            f"Of product {first.product_id} {first.requested} were asked for, "
            f"{first.available} are available.{more}",
            extra={
                "items": [
                    {
                        "productId": shortage.product_id,
                        "requested": shortage.requested,
                        "available": shortage.available,
                    }
                    for shortage in shortages
                ]
            },
        )
