"""What can be refused about orders."""

from collections.abc import Sequence

from shopstream_api.errors import BusinessError, Fault


class IllegalTransition(BusinessError):
    """The order's state does not allow this."""

    def __init__(self, present: str, wanted: str, allowed: Sequence[str]) -> None:
        super().__init__(
            f"An order that is {present} cannot become {wanted}.",
            extra={"from": present, "to": wanted, "allowed": list(allowed)},
        )


class MixedSellers(BusinessError):
    """The lines are of several sellers."""

    def __init__(self) -> None:
        super().__init__("All products of an order must be of one seller.")


class MixedCurrencies(BusinessError):
    """The lines are priced in several currencies."""

    def __init__(self) -> None:
        super().__init__("All products of an order must be priced in one currency.")


class ProductNotAvailable(BusinessError):
    """A product is unknown, deleted or not active."""

    def __init__(self, lines: Sequence[int]) -> None:
        super().__init__(
            "A product of this order cannot be ordered.",
            faults=[
                Fault(f"/items/{line}/productId", "product_not_available", "cannot be ordered")
                for line in lines
            ],
        )


class RefundTooLarge(BusinessError):
    """More is asked back than is left of what was paid."""

    def __init__(self, left_minor: int) -> None:
        detail = f"at most {left_minor} is left to refund" if left_minor else "nothing is left"
        super().__init__(
            "More is to be refunded than is left.",
            faults=[Fault("/amountMinor", "refund_too_large", detail)],
        )
