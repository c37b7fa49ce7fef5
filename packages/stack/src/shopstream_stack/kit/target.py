"""The server that is looked at: its URL, taken apart, and whether anything listens there."""

import socket
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from shopstream_stack.errors import StackError

CONNECT_SECONDS_MAX: Final = 5.0
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """One event stream's address. ``path`` has the query."""

    url: str
    secure: bool
    name: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Raises StackError for what is no http or https URL."""
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise StackError(f"URL: {error}") from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise StackError(f"URL: {url} is none; write it as http://localhost:3001/events/stream")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(url, parts.scheme == "https", parts.hostname, port, path)

    @property
    def address(self) -> str:
        """Host and port, an IPv6 host in brackets."""
        host = f"[{self.name}]" if ":" in self.name else self.name
        return f"{host}:{self.port}"

    @property
    def host(self) -> str:
        """What the Host header says."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def parameters(self) -> frozenset[str]:
        """Names in the query."""
        return frozenset(name for name, _ in parse_qsl(urlsplit(self.url).query, True))

    def asking(self, **parameters: str) -> str:
        """The URL with these in its query too, in place of those of the same name."""
        parts = urlsplit(self.url)
        kept = [pair for pair in parse_qsl(parts.query, True) if pair[0] not in parameters]
        return urlunsplit(parts._replace(query=urlencode([*kept, *parameters.items()])))

    def require_listener(self) -> None:
        """Raises StackError when nothing accepts a connection there."""
        try:
            socket.create_connection((self.name, self.port), CONNECT_SECONDS_MAX).close()
        except OSError as error:
            raise StackError(
                f"Nothing listens at {self.address} ({error}): start the server, or correct the URL"
            ) from error
