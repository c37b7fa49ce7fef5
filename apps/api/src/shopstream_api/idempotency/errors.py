"""What can be refused about an idempotency key."""

from shopstream_api.errors import ShopError


class KeyRequired(ShopError):
    """This route may not be called without an Idempotency-Key."""


class KeyInvalid(ShopError):
    """The key is empty, too long or not printable ASCII."""


class KeyReused(ShopError):
    """The key belongs to a request with another body."""


class KeyInFlight(ShopError):
    """A request with this key is being worked on at this moment."""
