"""A link of chaos between clients that block and the real PostgreSQL."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from shopstream_stack.chaos.conversation import PostgresConversation
from shopstream_stack.chaos.link import Link
from shopstream_stack.ports import LOOPBACK, reserved_ports

OPEN_SECONDS_MAX: Final = 10.0


@contextmanager
def link_to(database_url: str) -> Iterator[tuple[Link, str]]:
    """A link to the server of a database, and the database's address through it."""
    parts = urlsplit(database_url)
    assert parts.port is not None
    with reserved_ports() as ports:
        link = Link(ports.take(), parts.port, PostgresConversation)
        login = parts.netloc.rpartition("@")[0]
        with _in_thread(link):
            yield link, urlunsplit(parts._replace(netloc=f"{login}@{LOOPBACK}:{link.port}"))


@contextmanager
def _in_thread(link: Link) -> Iterator[None]:
    """The link in a loop of its own."""
    opened, closing = Event(), Event()

    async def live() -> None:
        async with link.open():
            opened.set()
            await asyncio.to_thread(closing.wait)

    thread = Thread(target=lambda: asyncio.run(live()))
    thread.start()
    try:
        assert opened.wait(OPEN_SECONDS_MAX)
        yield
    finally:
        closing.set()
        thread.join()
