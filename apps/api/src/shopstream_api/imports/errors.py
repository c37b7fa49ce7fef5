"""What can be refused about an import or one of its rows."""

from shopstream_api.errors import ShopError


class MalformedCsv(ShopError):
    """The header, or a row, is not CSV in UTF-8, or has more or fewer fields than the header."""


class EmptyFile(ShopError):
    """The upload has not a single byte."""


class UploadIncomplete(ShopError):
    """The upload ended early, sent nothing for too long, or took too long."""
