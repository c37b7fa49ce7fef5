"""JSON values of bytes, numbers exactly as they were written: of a body, of a row of a file."""

import json
from decimal import Decimal, InvalidOperation
from typing import Final, NoReturn

from shopstream_api.web.errors import MalformedJson

#: Levels of lists and objects; no body of ours needs ten. Whoever walks a value may recurse.
DEPTH_MAX: Final = 100
_TOO_DEEP: Final = "is nested too deeply."
#: Longer whole numbers are in no rule's range; as decimals they are refused without cost.
_INTEGER_LENGTH_MAX: Final = 40


def parse(body: bytes, what: str = "body") -> object:
    """One JSON value of UTF-8 bytes; numbers with a point or an exponent are Decimal.

    ``what`` it is, errors say. Raises MalformedJson and nothing else.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError:
        raise MalformedJson(f"The {what} is not UTF-8.") from None
    except RecursionError:
        raise MalformedJson(f"The {what} {_TOO_DEEP}") from None
    except json.JSONDecodeError as error:
        at = f"{error.msg}, at character {error.pos + 1}"
        raise MalformedJson(f"The {what} is not JSON: {at}.") from None
    except ValueError as error:
        raise MalformedJson(f"The {what} is not JSON: {error}") from None
    # Most bodies have fewer brackets than there may be levels.
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX and _is_deep(value):
        raise MalformedJson(f"The {what} {_TOO_DEEP}")
    return value


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(DEPTH_MAX):
        inside = [
            outer.values() if isinstance(outer, dict) else outer
            for outer in level
            if isinstance(outer, dict | list)
        ]
        level = [value for values in inside for value in values]
    return any(isinstance(value, dict | list) for value in level)


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
