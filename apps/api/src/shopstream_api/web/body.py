"""Reading a JSON body: media type, size, syntax; numbers exactly as they were written."""

import json
from decimal import Decimal, InvalidOperation
from typing import Final, NoReturn

from starlette.requests import Request

from shopstream_api.web.errors import MalformedJson, UnsupportedMediaType

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
#: Longer whole numbers are in no rule's range; as decimals they are refused without cost.
_INTEGER_LENGTH_MAX: Final = 40


async def read_json(request: Request, *types: str, empty: object = ...) -> object:
    """The body's value; numbers with a point or an exponent are Decimal.

    ``empty`` is the value of an empty body where one is allowed. Raises MalformedJson,
    UnsupportedMediaType and, from the stream, BodyTooLarge.
    """
    body = await request.body()
    if not body:
        if empty is not ...:
            return empty
        raise MalformedJson("The body is empty.")
    _require_type(request, types or (JSON,))
    return parse(body)


def parse(body: bytes) -> object:
    """One JSON value of UTF-8 bytes. Raises MalformedJson and nothing else."""
    try:
        return json.loads(
            body.decode("utf-8"),
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError:
        raise MalformedJson("The body is not UTF-8.") from None
    except RecursionError:
        raise MalformedJson("The body is nested too deeply.") from None
    except ValueError as error:
        raise MalformedJson(f"The body is not JSON: {error}") from None


def _require_type(request: Request, types: tuple[str, ...]) -> None:
    sent = request.headers.get("content-type", "")
    media_type, _, parameters = sent.partition(";")
    charset = parameters.lower().replace(" ", "").partition("charset=")[2].strip('"')
    if media_type.strip().lower() not in types or charset not in {"", "utf-8", "utf8"}:
        raise UnsupportedMediaType(f"This route takes {' or '.join(types)} in UTF-8.")


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError("a number's exponent is too large") from None
    if not number.is_finite():
        raise ValueError("a number's exponent is too large")
    return number


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= _INTEGER_LENGTH_MAX else Decimal(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
