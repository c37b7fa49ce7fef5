"""Checks of any server of event streams: the WHATWG standard's, and what experience adds.

References: HTML standard, section "Server-sent events"; the rest are ways in which streams were
seen to fail behind proxies and in browsers.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import httpx

from shopstream_stack.kit.checks import (
    FIRST_SECONDS_MAX,
    Kit,
    Register,
    Verdict,
    judged,
    skipped,
)
from shopstream_stack.kit.tape import Tape

PLAIN: Final = Register()
#: Browsers allow six of HTTP/1.1; two tabs have more than that behind a proxy.
AT_ONCE: Final = 20
#: A comment's blank line comes with it, not with the next one.
SETTLE_SECONDS: Final = 0.5
#: A well-formed id of nobody.
STRANGE_ID: Final = "conformance-unknown-id"
_FIELDS: Final = frozenset({"data", "event", "id", "retry"})
_END_NAMES: Final = {b"\n": "LF", b"\r\n": "CRLF", b"\r": "CR"}


@PLAIN("status", "EventSource gives up for ever on anything but 200")
async def _status(kit: Kit) -> Verdict:
    return judged(kit.main.status == httpx.codes.OK, str(kit.main.status))


@PLAIN("content type", "text/event-stream, if a charset then UTF-8: there is no other")
async def _content_type(kit: Kit) -> Verdict:
    value = kit.main.headers.get("content-type", "")
    kind, _, parameters = value.lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    return judged(
        kind.strip() == "text/event-stream" and charset in {"", "charset=utf-8"}, value or "none"
    )


@PLAIN("cache control", "no-store or no-cache: a cache must not answer, nor hold back")
async def _cache(kit: Kit) -> Verdict:
    value = kit.main.headers.get("cache-control", "")
    words = {word.strip().lower() for word in value.split(",")}
    return judged(words & {"no-store", "no-cache"}, value or "none")


@PLAIN("no length", "an endless answer has no Content-Length")
async def _no_length(kit: Kit) -> Verdict:
    value = kit.main.headers.get("content-length")
    return judged(value is None, value or "none")


@PLAIN("first byte", f"within {FIRST_SECONDS_MAX:g} s, event or not: proxies wait for it")
async def _first_byte(kit: Kit) -> Verdict:
    return await _first_of(kit, kit.main)


@PLAIN("first byte with gzip", "compression must not hold frames back")
async def _first_byte_gzip(kit: Kit) -> Verdict:
    async with kit.open({"accept-encoding": "gzip, br"}) as tape:
        verdict = await _first_of(kit, tape)
        return Verdict(verdict.state, f"{verdict.seen}, {_encoding(tape)}")


async def _first_of(kit: Kit, tape: Tape) -> Verdict:
    await tape.until(lambda: tape.first_seconds is not None, kit.first_seconds)
    seconds = tape.first_seconds
    seen = "nothing" if seconds is None else f"after {seconds * 1_000:.0f} ms"
    return judged(seconds is not None and seconds <= kit.first_seconds, seen)


def _encoding(tape: Tape) -> str:
    return str(tape.headers.get("content-encoding", "not compressed"))


@PLAIN("stays open", "a stream that ends by itself is a poll")
async def _stays_open(kit: Kit) -> Verdict:
    await asyncio.sleep(SETTLE_SECONDS)
    return judged(not kit.main.ended, kit.main.ended or "open")


@PLAIN("blocks", "lines in UTF-8 that blank lines group, one kind of line end")
async def _blocks(kit: Kit) -> Verdict:
    await kit.main.until(lambda: kit.main.blocks, kit.patience)
    main = kit.main
    ends = ", ".join(sorted(_END_NAMES[one] for one in main.line_ends))
    seen = f"{len(main.blocks)} blocks, {ends or 'no line'}"
    if main.not_utf8:
        return judged(holds=False, seen=f"{seen}, not UTF-8")
    if not main.size:
        return skipped("nothing came")
    return judged(main.blocks and len(main.line_ends) == 1, seen)


@PLAIN("fields", "data, event, id and retry: others are ignored without a word")
async def _fields(kit: Kit) -> Verdict:
    if not await kit.main.until(lambda: kit.main.blocks, kit.patience):
        return skipped("no block came")
    names = {name for block in kit.main.blocks for name, _ in block.fields}
    return judged(names <= _FIELDS, ", ".join(sorted(names - _FIELDS)) or "known ones only")


@PLAIN("retry", "digits only, or it is ignored")
async def _retry(kit: Kit) -> Verdict:
    await kit.main.until(lambda: kit.main.blocks, kit.patience)
    values = [v for block in kit.main.blocks for name, v in block.fields if name == "retry"]
    if not values:
        return skipped("none was sent")
    return judged(all(v.isascii() and v.isdigit() for v in values), ", ".join(values[:3]))


@PLAIN("ids", "without NUL, or they are ignored")
async def _ids(kit: Kit) -> Verdict:
    if not await kit.some_id():
        return skipped("none was sent")
    values = [v for block in kit.main.blocks for name, v in block.fields if name == "id"]
    return judged(not any("\0" in v for v in values), f"{len(values)} ids")


@PLAIN("alive when idle", "bytes within the patience: proxies cut silent connections after 60 s")
async def _alive(kit: Kit) -> Verdict:
    await asyncio.sleep(SETTLE_SECONDS)
    before, at = kit.main.size, kit.main.last_at
    if kit.main.ended:
        return judged(holds=False, seen=kit.main.ended)
    await kit.main.until(lambda: kit.main.size > before, kit.patience)
    seconds = kit.main.last_at - at
    alive = kit.main.size > before
    return judged(alive, f"after {seconds:.1f} s" if alive else f"silent for {kit.patience:g} s")


@PLAIN("comments end", "with a blank line: some parsers keep a lone one for the next event")
async def _comments(kit: Kit) -> Verdict:
    if not await kit.main.until(_any_comment(kit.main), kit.patience):
        return skipped("no comment came")
    await kit.main.until(lambda: not kit.main.dangling_comments, SETTLE_SECONDS)
    dangling = kit.main.dangling_comments
    return judged(not dangling, f"{dangling} without a blank line" if dangling else "all do")


def _any_comment(tape: Tape) -> Callable[[], bool]:
    return lambda: any(b.comments for b in tape.blocks) or tape.dangling_comments > 0


@PLAIN("HEAD", "ends, without a body, as GET would begin; or 405")
async def _head(kit: Kit) -> Verdict:
    answer = await kit.answer("HEAD")
    kind = answer.headers.get("content-type", "")
    as_get = answer.status_code == httpx.codes.OK and kind.startswith("text/event-stream")
    holds = as_get or answer.status_code == httpx.codes.METHOD_NOT_ALLOWED
    return judged(holds and not answer.content, f"{answer.status_code} {kind}")


@PLAIN("reconnect", "with the last id: a stream, and not the same event again")
async def _reconnect(kit: Kit) -> Verdict:
    last = await kit.some_id()
    if not last:
        return skipped("no id came")
    async with kit.open({"last-event-id": last}) as tape:
        if not tape.is_stream:
            return judged(holds=False, seen=f"{tape.status}")
        await tape.until(lambda: tape.messages, kit.first_seconds)
        again = [block for block in tape.messages if block.get("id") == last]
        return judged(not again, "the last event came again" if again else "goes on")


@PLAIN("unknown id", "is no reason to refuse: the browser would never come back")
async def _unknown_id(kit: Kit) -> Verdict:
    async with kit.open({"last-event-id": STRANGE_ID}) as tape:
        return judged(tape.is_stream, f"{tape.status} {tape.headers.get('content-type', '')}")


@PLAIN(f"{AT_ONCE} at once", "each gets its first bytes")
async def _many(kit: Kit) -> Verdict:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(kit.open()) for _ in range(AT_ONCE)]
        verdicts = await asyncio.gather(*(_first_of(kit, tape) for tape in opened))
    served = sum(verdict.state == "holds" for verdict in verdicts)
    return judged(served == AT_ONCE, f"{served} of {AT_ONCE}")


@PLAIN("after clients left", "the next one is served as before")
async def _after(kit: Kit) -> Verdict:
    for _ in range(3):
        async with kit.open():
            pass
    async with kit.open() as tape:
        return await _first_of(kit, tape)
