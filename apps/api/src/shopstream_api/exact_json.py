"""JSON values of bytes, numbers exactly as they were written: of a body, of a row of a file."""

import json
from decimal import Decimal, InvalidOperation
from typing import Final, NoReturn

from shopstream_api.web.errors import MalformedJson

#: Longer whole numbers are in no rule's range; as decimals they are refused without cost.
_INTEGER_LENGTH_MAX: Final = 40


def parse(body: bytes) -> object:
    """One JSON value of UTF-8 bytes; numbers with a point or an exponent are Decimal.

    Raises MalformedJson and nothing else.
    """
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
