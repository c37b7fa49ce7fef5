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
        super().__init__(
            "There is not enough stock.",
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
