"""What can be refused about products."""

from shopstream_api.errors import BusinessError


class DuplicateSku(BusinessError):
    """Another product of this seller, not deleted, has this sku."""

    def __init__(self) -> None:
        super().__init__("Another product of this seller has this sku.")
