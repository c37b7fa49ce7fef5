"""What passes through a link, read as messages: which answer says that a commit has happened.

PostgreSQL (protocol 3): an answer is complete with ReadyForQuery; its status `I` after statements
that wrote to or deleted from the outbox, without an error and without ROLLBACK, means that they
are committed. Kafka: the answer to EndTxn (API key 26) means that the coordinator has decided.

Nothing is kept but what the next message needs; a body is looked at up to BODY_BYTES_MAX.
"""

import re
import struct
from collections.abc import Iterator
from typing import Final, Protocol

BODY_BYTES_MAX: Final = 65_536
#: Prepared statements that write; a client has a handful.
STATEMENTS_MAX: Final = 1_000
#: EndTxn requests without an answer; a producer has one at a time.
REQUESTS_MAX: Final = 1_000

_END_TXN: Final = 26
#: SSLRequest and GSSENCRequest: answered by one byte, before the start-up message.
_NEGOTIATIONS: Final = frozenset({80_877_103, 80_877_104})
_WRITES: Final = re.compile(rb"(insert\s+into|delete\s+from)\s+outbox\b", re.IGNORECASE)
_length: Final = struct.Struct("!i").unpack
_kafka_request: Final = struct.Struct("!hhi").unpack


class Conversation(Protocol):
    """One connection, both ways, chunk by chunk as they pass."""

    def requests(self, chunk: bytes) -> None:
        """Take what the client sent."""
        ...

    def answers(self, chunk: bytes) -> bool:
        """Take what the server sent; whether a commit's answer ends in this chunk."""
        ...


class Deaf:
    """Understands nothing: for links whose answers are never lost one by one."""

    def requests(self, chunk: bytes) -> None:
        """Take no notice."""

    def answers(self, chunk: bytes) -> bool:
        return False


class Messages:
    """Cuts a stream into messages of a head, which ends in the length, and a body.

    ``length_counts``: bytes of the head that the length includes. ``head_bytes`` may be changed
    between two messages.
    """

    def __init__(self, head_bytes: int, length_counts: int) -> None:
        self.head_bytes = head_bytes
        self._length_counts = length_counts
        self._head = b""
        self._body = bytearray()
        self._left = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Head and body, cut at BODY_BYTES_MAX, of each message that ends in ``chunk``."""
        at = 0
        while at < len(chunk):
            if len(self._head) < self.head_bytes:
                part = chunk[at : at + self.head_bytes - len(self._head)]
                self._head += part
                at += len(part)
                if len(self._head) < self.head_bytes:
                    return
                self._left = max(0, _length(self._head[-4:])[0] - self._length_counts)
            part = chunk[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            self._body += part[: BODY_BYTES_MAX - len(self._body)]
            if not self._left:
                head, self._head = self._head, b""
                body, self._body = bytes(self._body), bytearray()
                yield head, body


class PostgresConversation:
    """See the module."""

    def __init__(self) -> None:
        # The first messages of a client have no type, only a length.
        self._from_client = Messages(head_bytes=4, length_counts=4)
        self._from_server = Messages(head_bytes=5, length_counts=4)
        self._single_bytes = 0
        self._writing: set[bytes] = set()
        self._wrote = self._failed = False

    def requests(self, chunk: bytes) -> None:
        for head, body in self._from_client.feed(chunk):
            if len(head) == 4:  # noqa: PLR2004 - a length without a type
                if int.from_bytes(body[:4], "big") in _NEGOTIATIONS:
                    self._single_bytes += 1
                else:
                    self._from_client.head_bytes = 5
            else:
                self._request(head[:1], body)

    def _request(self, kind: bytes, body: bytes) -> None:
        if kind == b"Q":
            self._wrote |= _WRITES.search(body) is not None
        elif kind == b"P":
            name, _, text = body.partition(b"\0")
            self._writing.discard(name)
            if _WRITES.search(text) and len(self._writing) < STATEMENTS_MAX:
                self._writing.add(name)
        elif kind == b"B":
            self._wrote |= body.split(b"\0", 2)[1] in self._writing

    def answers(self, chunk: bytes) -> bool:
        single = min(self._single_bytes, len(chunk))
        self._single_bytes -= single
        committed = False
        for head, body in self._from_server.feed(chunk[single:]):
            kind = head[:1]
            if kind == b"E" or (kind == b"C" and body.startswith(b"ROLLBACK")):
                self._failed = True
            elif kind == b"Z" and body == b"I":
                committed |= self._wrote and not self._failed
                self._wrote = self._failed = False
        return committed


class KafkaConversation:
    """See the module."""

    def __init__(self) -> None:
        self._from_client = Messages(head_bytes=4, length_counts=0)
        self._from_server = Messages(head_bytes=4, length_counts=0)
        self._ending: set[int] = set()

    def requests(self, chunk: bytes) -> None:
        for _, body in self._from_client.feed(chunk):
            key, _, correlation = _kafka_request(body[:8])
            if key == _END_TXN and len(self._ending) < REQUESTS_MAX:
                self._ending.add(correlation)

    def answers(self, chunk: bytes) -> bool:
        ended = False
        for _, body in self._from_server.feed(chunk):
            correlation = int.from_bytes(body[:4], "big", signed=True)
            if correlation in self._ending:
                self._ending.discard(correlation)
                ended = True
        return ended
