"""A proxy in front of DynamoDB Local or MinIO that answers wrongly on demand.

It knows HTTP and what is asked (the operation, the tables, the object), so a fault hits exactly the
calls it is meant for: an answer in place of the store's, an answer that is lost after the store has
acted, cut, damaged, late, or dripping. Everything else passes as it is.
"""

import asyncio
import contextlib
import json
import threading
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

LOOPBACK: Final = "127.0.0.1"
JSON: Final = "application/x-amz-json-1.0"
_BODY_BYTES_MAX: Final = 16_777_216


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``operation``: as DynamoDB calls it, or for S3 the method and what it is on."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        if target := self.headers.get("x-amz-target"):
            return target.rpartition(".")[2]
        _, _, key = self.path.split("?", 1)[0].removeprefix("/").partition("/")
        kind = "hint" if key.startswith("_positions") else "object" if key else "bucket"
        return f"{self.method} {kind}"

    @property
    def tables(self) -> set[str]:
        """The tables that a call to DynamoDB names."""
        return set(_tables(json.loads(self.body))) if "x-amz-target" in self.headers else set()


#: What the proxy sends back, given what the store would; None: the connection is reset.
Forward = Callable[[Call], Awaitable[bytes]]
Answer = Callable[[Call, Forward], Awaitable[bytes | None]]


@dataclass(slots=True)
class Fault:
    """``answer`` in place of the next ``times`` calls of these operations (on these tables)."""

    answer: Answer
    operations: frozenset[str]
    times: int = 1
    table: str | None = None
    #: Any of these must stand in the path or the body; none: all calls.
    marks: tuple[str, ...] = ()
    hits: int = 0

    def hit(self, call: Call) -> bool:
        """Whether this call is to be answered by the fault, counted."""
        wanted = call.operation in self.operations and self.table in {None, *call.tables}
        if not wanted or self.hits >= self.times or not self._marked(call):
            return False
        self.hits += 1
        return True

    def _marked(self, call: Call) -> bool:
        text = unquote(call.path).encode() + call.body
        return not self.marks or any(mark.encode() in text for mark in self.marks)


@dataclass(slots=True)
class StoreProxy:
    """Listens on a free port and passes on to the store at ``endpoint``."""

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    #: Calls that came in, by operation, faulted ones as well.
    calls: Counter[str] = field(default_factory=Counter)
    url: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["StoreProxy"]:
        server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def running(self) -> Iterator["StoreProxy"]:
        """In a thread of its own, for tests that wait by blocking."""
        ready, done = threading.Event(), threading.Event()

        async def serve() -> None:
            async with self.open():
                ready.set()
                await asyncio.to_thread(done.wait)

        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        try:
            assert ready.wait(10)
            yield self
        finally:
            done.set()
            thread.join(10)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours, not the server's: it is ended at the end.
        task = asyncio.get_running_loop().create_task(self._talk(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                # One call a connection: an answer is all that comes until the store closes.
                raw, call = await _read(reader, writer)
                answer = await self._answer(raw, call)
                if answer is not None:
                    writer.write(answer)
                    await writer.drain()
                    writer.write_eof()
                    return
            finally:
                if writer.can_write_eof() and not writer.transport.is_closing():
                    writer.close()
        writer.transport.abort()

    async def _answer(self, raw: bytes, call: Call) -> bytes | None:
        self.calls[call.operation] += 1
        store = urlsplit(self.endpoint)

        async def forward(changed: Call) -> bytes:
            sent = raw if changed is call else _request(changed)
            reader, writer = await asyncio.open_connection(store.hostname, store.port)
            try:
                writer.write(sent)
                await writer.drain()
                return await reader.read()
            finally:
                writer.close()

        for fault in self.faults:
            if fault.hit(call):
                return await fault.answer(call, forward)
        return await forward(call)


# What can go wrong


def says(status: int, code: str, **more: Any) -> Answer:
    """The store refuses, having done nothing."""

    async def answer(call: Call, forward: Forward) -> bytes:
        if "x-amz-target" in call.headers:
            kind = f"com.amazonaws.dynamodb.v20120810#{code}"
            return _response(status, json.dumps({"__type": kind, "message": code, **more}), JSON)
        body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        return _response(status, body, "application/xml")

    return answer


def says_html(status: int) -> Answer:
    """Something between us and the store answers, having passed nothing on."""

    async def answer(call: Call, forward: Forward) -> bytes:
        return _response(status, "<html>no</html>", "text/html")

    return answer


async def reset(call: Call, forward: Forward) -> None:
    """The connection breaks before the store has heard of it."""


async def lost(call: Call, forward: Forward) -> None:
    """The store acts; its answer never arrives."""
    await forward(call)


async def cut(call: Call, forward: Forward) -> bytes:
    """The store acts; half of its answer arrives."""
    answer = await forward(call)
    head, _, body = answer.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n" + body[: len(body) // 2] if body else head[: len(head) // 2]


async def damaged(call: Call, forward: Forward) -> bytes | None:
    """The store acts; of its answer some bytes arrive as others. A refusal is lost as a whole."""
    head, _, body = (await forward(call)).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        # DynamoDB Local gives no checksum with it.
        return None
    return head + b"\r\n\r\n" + b"x" * len(body)


def late(seconds: float) -> Answer:
    """The store hears of it late."""

    async def answer(call: Call, forward: Forward) -> bytes:
        await asyncio.sleep(seconds)
        return await forward(call)

    return answer


async def silent(call: Call, forward: Forward) -> None:
    """Nothing happens and nothing comes."""
    await asyncio.Event().wait()


async def hands_back_all_but_one(call: Call, forward: Forward) -> bytes:
    """A batch of which one item is written and the others come back unprocessed."""
    asked = json.loads(call.body)
    ((table, puts),) = asked["RequestItems"].items()
    asked["RequestItems"] = {table: puts[:1]}
    answer = await forward(Call(call.method, call.path, call.headers, json.dumps(asked).encode()))
    if len(puts) == 1:
        return answer
    return _response(200, json.dumps({"UnprocessedItems": {table: puts[1:]}}), JSON)


def cancelled(*codes: str) -> Answer:
    """A transaction cancelled for these reasons, the last one for all further actions."""

    async def answer(call: Call, forward: Forward) -> bytes:
        count = len(json.loads(call.body)["TransactItems"])
        reasons = [{"Code": codes[min(at, len(codes) - 1)]} for at in range(count)]
        says_so = says(400, "TransactionCanceledException", CancellationReasons=reasons)
        refused = await says_so(call, forward)
        assert refused is not None
        return refused

    return answer


async def adds_conflicts(call: Call, forward: Forward) -> bytes:
    """The store cancels for a failed condition; where it gave no reason, a conflict is added."""
    answer = await forward(call)
    _, _, body = answer.partition(b"\r\n\r\n")
    found = json.loads(body)
    reasons = found.get("CancellationReasons")
    if reasons is None:
        return answer
    for reason in reasons:
        if reason["Code"] == "None":
            reason["Code"] = "TransactionConflict"
    return _response(400, json.dumps(found), JSON)


def _tables(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "TableName":
                yield inner
            elif name == "RequestItems":
                yield from inner
            else:
                yield from _tables(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _tables(inner)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, Call]:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    if headers.pop("expect", None):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = int(headers.get("content-length", "0"))
    assert length <= _BODY_BYTES_MAX
    assert "transfer-encoding" not in headers
    call = Call(method, path, headers, await reader.readexactly(length))
    return _request(call), call


def _request(call: Call) -> bytes:
    headers = {**call.headers, "connection": "close"}
    if call.method in {"PUT", "POST"}:
        headers["content-length"] = str(len(call.body))
    lines = [f"{call.method} {call.path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + call.body


def _response(status: int, body: str, content_type: str) -> bytes:
    data = body.encode()
    lines = [
        f"HTTP/1.1 {status} Told",
        f"content-type: {content_type}",
        f"content-length: {len(data)}",
        f"x-amz-crc32: {zlib.crc32(data)}",
        "connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + data
