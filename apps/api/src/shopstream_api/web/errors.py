"""What can be refused before any domain is asked."""

from shopstream_api.errors import ShopError, Unavailable


class MalformedJson(ShopError):
    """The body is empty, not UTF-8 or not JSON."""


class UnsupportedMediaType(ShopError):
    """The body is of another media type than this route takes."""


class BodyTooLarge(ShopError):
    """The body is above the limit."""


class MethodNotAllowed(ShopError):
    """The resource exists, but not for this method."""


class DeadlineExceeded(Unavailable):
    """The request was not answered in time; what it did not commit is undone."""


class RateLimited(ShopError):
    """The caller has used up its requests for now."""
