"""Reading a JSON body: media type, size, syntax."""

from typing import Final

from starlette.requests import ClientDisconnect, Request

from shopstream_api.exact_json import parse
from shopstream_api.web.errors import MalformedJson, UnsupportedMediaType

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"


async def read_json(request: Request, *types: str, empty: object = ...) -> object:
    """The body's value; numbers with a point or an exponent are Decimal.

    ``empty`` is the value of an empty body where one is allowed. Raises MalformedJson,
    UnsupportedMediaType and, from the stream, BodyTooLarge.
    """
    return read_from(await read_bytes(request), request, *types, empty=empty)


async def read_bytes(request: Request) -> bytes:
    """The body, of which nothing has been read yet.

    The framework's own way goes through an asynchronous generator, also for the one piece in which
    a small body comes. Raises BodyTooLarge, ClientDisconnect.
    """
    pieces: list[bytes] = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_from(body: bytes, request: Request, *types: str, empty: object = ...) -> object:
    """`read_json` of a body that was read already."""
    if not body:
        if empty is not ...:
            return empty
        raise MalformedJson("The body is empty.")
    require_type(request, types or (JSON,))
    return parse(body)


def require_type(request: Request, types: tuple[str, ...]) -> str:
    """The body's media type. Raises UnsupportedMediaType unless it is one of these."""
    sent = request.headers.get("content-type", "")
    media_type, _, parameters = sent.partition(";")
    charset = parameters.lower().replace(" ", "").partition("charset=")[2].strip('"')
    media_type = media_type.strip().lower()
    if media_type not in types or charset not in {"", "utf-8", "utf8"}:
        raise UnsupportedMediaType(f"This route takes {' or '.join(types)} in UTF-8.")
    return media_type
