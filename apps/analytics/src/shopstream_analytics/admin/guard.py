"""Who may use the operators' routes."""

import hmac
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

_BEARER: Final = "bearer"


@dataclass(frozen=True, slots=True)
class Guard:
    """Lets in who knows the token; everybody, where there is none."""

    token: SecretStr | None

    def lets_in(self, authorization: str) -> bool:
        """``authorization`` is the header's value, as Latin-1."""
        if self.token is None:
            return True
        scheme, _, given = authorization.partition(" ")
        # Compared as bytes, in a time that says nothing of the token.
        wanted = self.token.get_secret_value().encode()
        right = hmac.compare_digest(given.strip().encode("latin-1"), wanted)
        return right and scheme.lower() == _BEARER
