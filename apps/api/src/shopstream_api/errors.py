"""The root of the API's errors. They carry data; `web/problems.py` gives each its HTTP form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request; ``pointer`` is a JSON Pointer into its body, or a name."""

    pointer: str
    code: str
    detail: str


class ShopError(Exception):
    """A request that cannot be done; ``extra`` holds the problem's own members."""

    def __init__(
        self,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.extra: Mapping[str, object] = extra or {}

    def without_frames(self) -> Self:
        """To be kept: its frames hold what they worked on, and often the keeper (a cycle)."""
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class BusinessError(ShopError):
    """Refused by a rule of the business: the same request with the same key gets this again."""


class ValidationFailed(ShopError):
    """The body or a parameter breaks a rule that can be checked without looking anything up."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(
            "; ".join(f"{f.pointer}: {f.detail}" if f.pointer else f.detail for f in faults),
            faults=faults,
        )

    @classmethod
    def of(cls, pointer: str, code: str, detail: str) -> "ValidationFailed":
        return cls([Fault(pointer, code, detail)])


class NotFound(BusinessError):
    """There is no such thing, or it is another seller's."""


class Forbidden(BusinessError):
    """The caller may not act for this seller."""


class VersionMismatch(BusinessError):
    """The resource has changed since the caller read it."""


class VersionRequired(ShopError):
    """This write must say which version it replaces."""


class InvalidCursor(ShopError):
    """The cursor is damaged, or belongs to a list with other filters."""


class Unavailable(ShopError):
    """A resource that every request needs is away or exhausted; try again later."""
