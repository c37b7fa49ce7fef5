"""Checks of what docs/stream.md promises, besides those of any stream."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from shopstream_shared.clock import epoch_ms, format_time
from shopstream_shared.stream_id import EPOCH_BYTES, MalformedStreamId, StreamPosition
from shopstream_stack.kit.checks import (
    Kit,
    Register,
    Verdict,
    judged,
    skipped,
)
from shopstream_stack.kit.tape import Block, Tape
from shopstream_stack.stream_ids import FUTURE_OFFSETS

SHOPSTREAM: Final = Register()
#: Where a page of somebody else's would be.
ORIGIN: Final = "https://conformance.example"
_REQUIRED: Final = (
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "sellerid",
    "sequence",
)
_POLICIES: Final = ("resume", "drop", "latest")
_PROBLEM: Final = "application/problem+json"


async def _opening(kit: Kit, tape: Tape) -> dict[str, Any]:
    """The data of `stream.open` once its id has come too, {} when it does not."""

    def both() -> bool:
        blocks = tape.blocks
        at = next((n for n, b in enumerate(blocks) if b.get("event") == "stream.open"), None)
        return at is not None and any(block.get("id") for block in blocks[at:])

    await tape.until(both, kit.answer_seconds)
    return _data(tape.named("stream.open"))


def _data(blocks: list[Block]) -> dict[str, Any]:
    if not blocks:
        return {}
    found: dict[str, Any] = json.loads(blocks[0].data or "{}")
    return found


def _says(found: Mapping[str, Any], **wanted: object) -> Verdict:
    holds = all(found.get(name, "") == value for name, value in wanted.items())
    return judged(holds and found, json.dumps(found) if found else "nothing")


async def _position(kit: Kit) -> StreamPosition | None:
    """The main stream's, None when its id is none of ours."""
    await _opening(kit, kit.main)
    try:
        return StreamPosition.decode(kit.main.last_id)
    except MalformedStreamId:
        return None


@SHOPSTREAM("headers", "as written: no-store and no-transform, no buffering by nginx")
async def _headers(kit: Kit) -> Verdict:
    cache = {word.strip() for word in kit.main.headers.get("cache-control", "").split(",")}
    buffering = kit.main.headers.get("x-accel-buffering", "")
    holds = {"no-store", "no-transform"} <= cache and buffering == "no"
    return judged(holds, f"{', '.join(sorted(cache))}; X-Accel-Buffering: {buffering or 'none'}")


@SHOPSTREAM("retry and comment", "go out at once, before anything that takes time")
async def _preamble(kit: Kit) -> Verdict:
    first = await kit.main.until(lambda: kit.main.blocks[:1], kit.answer_seconds)
    holds = first and first[0].comments and first[0].get("retry")
    return judged(holds, str(first[0]) if first else "nothing")


@SHOPSTREAM("stream.open", "is the first event: not resumed, from nowhere")
async def _open(kit: Kit) -> Verdict:
    found = await _opening(kit, kit.main)
    named = [block for block in kit.main.blocks if block.data is not None]
    if not named or named[0].get("event") != "stream.open":
        return judged(holds=False, seen=f"the first is {named[:1]}")
    return _says(found, resumed=False, replayFrom=None)


@SHOPSTREAM("id after open", "an id-only block at once: who is cut before an event resumes there")
async def _id_after(kit: Kit) -> Verdict:
    await _opening(kit, kit.main)
    blocks = kit.main.blocks
    at = next((n for n, b in enumerate(blocks) if b.get("event") == "stream.open"), len(blocks))
    following = blocks[at + 1 : at + 2]
    return judged(following and following[0].is_id_only, str(following[:1]))


@SHOPSTREAM("ids", "are positions of this version with a good checksum")
async def _ids(kit: Kit) -> Verdict:
    position = await _position(kit)
    if position is None:
        return judged(holds=False, seen=kit.main.last_id or "none")
    return judged(holds=True, seen=f"of {sum(map(len, position.offsets))} partitions")


@SHOPSTREAM("ids and names", "never together: a named event would move the place")
async def _ids_and_names(kit: Kit) -> Verdict:
    await kit.main.until(lambda: kit.main.named("stream.heartbeat"), kit.patience)
    both = [b for b in kit.main.blocks if b.get("event") and b.get("id") is not None]
    return judged(not both, str(both[0]) if both else "apart")


@SHOPSTREAM("events", "one line of data with all attributes, an id, no name")
async def _events(kit: Kit) -> Verdict:
    if not await kit.main.until(lambda: kit.main.messages, kit.patience):
        return skipped("no event came")
    for block in kit.main.messages:
        event = json.loads(block.data or "")
        lacking = [name for name in _REQUIRED if not event.get(name)]
        if lacking or "\n" in (block.data or "") or not block.get("id"):
            return judged(holds=False, seen=f"{block.data}: lacks {', '.join(lacking) or 'an id'}")
    return judged(holds=True, seen=f"{len(kit.main.messages)} events")


@SHOPSTREAM("order", "sequences of a subject follow each other without a gap")
async def _order(kit: Kit) -> Verdict:
    if kit.target.parameters - {"sellerId", "subject"}:
        return skipped("the filter thins the sequences out")
    if not await kit.main.until(lambda: kit.main.messages, kit.patience):
        return skipped("no event came")
    last: dict[tuple[str, str], int] = {}
    for block in kit.main.messages:
        event = json.loads(block.data or "")
        key, sequence = (_topic(event["type"]), event["subject"]), int(event["sequence"])
        if last.setdefault(key, sequence - 1) != sequence - 1:
            return judged(holds=False, seen=f"{key}: {sequence} follows {last[key]}")
        last[key] = sequence
    return judged(holds=True, seen=f"{len(last)} subjects")


def _topic(kind: str) -> str:
    if kind in {"product.low_stock", "product.out_of_stock"}:
        return "inventory"
    return kind.partition(".")[0]


@SHOPSTREAM("heartbeat", "a comment for proxies and stream.heartbeat for watchdogs")
async def _heartbeat(kit: Kit) -> Verdict:
    await kit.main.until(lambda: kit.main.named("stream.heartbeat"), kit.patience)
    beats = kit.main.named("stream.heartbeat")
    comments = sum(block.comments for block in kit.main.blocks)
    time = _data(beats).get("time", "")
    return judged(beats and comments > 1 and time, f"{comments} comments, {time or 'no event'}")


@SHOPSTREAM("resume", "with Last-Event-ID: resumed, from that id")
async def _resume(kit: Kit) -> Verdict:
    last = await kit.some_id()
    async with kit.open({"last-event-id": last}) as tape:
        return _says(await _opening(kit, tape), resumed=True, replayFrom=last)


@SHOPSTREAM("resume by query", "lastEventId does the same where no header can be set")
async def _resume_by_query(kit: Kit) -> Verdict:
    last = await kit.some_id()
    async with kit.open({"last-event-id": ""}, lastEventId=last) as tape:
        return _says(await _opening(kit, tape), resumed=True, replayFrom=last)


@SHOPSTREAM("header first", "then lastEventId, then since")
async def _precedence(kit: Kit) -> Verdict:
    last = await kit.some_id()
    since = format_time(datetime.now(UTC))
    async with kit.open({"last-event-id": last}, lastEventId="x", since=since) as by_header:
        first = _says(await _opening(kit, by_header), resumed=True, replayFrom=last)
    async with kit.open(lastEventId=last, since=since) as by_query:
        second = _says(await _opening(kit, by_query), resumed=True, replayFrom=last)
    return first if first.state == "FAILED" else second


@SHOPSTREAM("since", "a time with Z, with an offset, in milliseconds: said back as it was written")
async def _since(kit: Kit) -> Verdict:
    now = datetime.now(UTC)
    text = format_time(now)
    for value in (text, text.replace("Z", "+00:00"), str(epoch_ms(now))):
        async with kit.open({"last-event-id": ""}, since=value) as tape:
            verdict = _says(await _opening(kit, tape), resumed=False, replayFrom=value)
        if verdict.state == "FAILED":
            return verdict
    return verdict


async def _gap(kit: Kit, bad_id: str, reasons: tuple[str, ...]) -> Verdict:
    async with kit.open({"last-event-id": bad_id}) as tape:
        await tape.until(lambda: tape.named("stream.gap"), kit.answer_seconds)
        gap = _data(tape.named("stream.gap"))
        live = tape.is_stream and not tape.ended
        holds = live and gap.get("reason") in reasons and {"from", "to"} <= gap.keys()
        return judged(holds, json.dumps(gap) if gap else f"{tape.status}, no gap")


@SHOPSTREAM("gap: malformed_id", "text that is no id: said, then live")
async def _gap_malformed(kit: Kit) -> Verdict:
    return await _gap(kit, "conformance", ("malformed_id",))


@SHOPSTREAM("gap: a damaged id", "one character changed: its checksum tells")
async def _gap_damaged(kit: Kit) -> Verdict:
    last = await kit.some_id()
    return await _gap(kit, ("B" if last[:1] == "A" else "A") + last[1:], ("malformed_id",))


@SHOPSTREAM("gap: unknown_epoch", "an id of other topics")
async def _gap_epoch(kit: Kit) -> Verdict:
    position = await _position(kit)
    if position is None:
        return skipped("there is no id to start from")
    other = replace(position, epoch=secrets.token_bytes(EPOCH_BYTES))
    return await _gap(kit, other.encode(), ("unknown_epoch",))


@SHOPSTREAM("gap: future", "an id beyond the end of the log")
async def _gap_future(kit: Kit) -> Verdict:
    position = await _position(kit)
    if position is None:
        return skipped("there is no id to start from")
    far = tuple(tuple(one + FUTURE_OFFSETS for one in vector) for vector in position.offsets)
    return await _gap(kit, replace(position, offsets=far).encode(), ("future",))


@SHOPSTREAM("refusals", "400 and a problem that names the parameter")
async def _refusals(kit: Kit) -> Verdict:
    wrong = (
        {"types": "nonsense.type"},
        {"types": "product.*.x"},
        {"policy": "nonsense"},
        {"since": "yesterday"},
        {"access_token": "secret"},
    )
    for parameters in wrong:
        answer = await _refused(kit, parameters)
        if answer:
            return judged(holds=False, seen=f"{parameters}: {answer}")
    return judged(holds=True, seen=f"{len(wrong)} of them")


async def _refused(kit: Kit, parameters: Mapping[str, str]) -> str:
    """What is wrong with a refusal; "" if nothing is."""
    # Taped, not awaited: what is not refused does not end.
    async with kit.open(None, **parameters) as tape:
        kind = tape.headers.get("content-type", "")
        right = tape.status == httpx.codes.BAD_REQUEST and kind.startswith(_PROBLEM)
        return "" if right else f"{tape.status} {kind}"


@SHOPSTREAM("policies", "resume, drop and latest are streams")
async def _policies(kit: Kit) -> Verdict:
    for policy in _POLICIES:
        async with kit.open(policy=policy) as tape:
            if not await _opening(kit, tape):
                return judged(holds=False, seen=f"{policy}: {tape.status}")
    return judged(holds=True, seen=", ".join(_POLICIES))


@SHOPSTREAM("filter", "of one kind lets no other through")
async def _filter(kit: Kit) -> Verdict:
    async with kit.open(types="order.*") as tape:
        if not await _opening(kit, tape):
            return judged(holds=False, seen=f"{tape.status}, no stream.open")
        # What came before this stream was open says nothing of it.
        begun = len(kit.main.messages)
        await kit.main.until(lambda: _others(kit.main.messages[begun:]), kit.patience)
        # What a filter lets through that is none comes at about the same time.
        await tape.until(lambda: _others(tape.messages), kit.first_seconds)
        through, kept = _others(tape.messages), _others(kit.main.messages[begun:])
        if through:
            return judged(holds=False, seen=through[0])
        if not kept and not tape.messages:
            return skipped("no event came")
        return judged(holds=True, seen=f"{len(tape.messages)} events, {len(kept)} left out")


def _others(messages: list[Block]) -> list[str]:
    """The types of those that are no orders'."""
    types = [str(json.loads(block.data or "").get("type")) for block in messages]
    return [one for one in types if not one.startswith("order.")]


@SHOPSTREAM("CORS", "pages of other origins may listen, and send last-event-id")
async def _cors(kit: Kit) -> Verdict:
    async with kit.open({"origin": ORIGIN}) as tape:
        allowed = tape.headers.get("access-control-allow-origin", "")
    asked = {
        "origin": ORIGIN,
        "access-control-request-method": "GET",
        "access-control-request-headers": "last-event-id",
    }
    answer = await kit.answer("OPTIONS", asked)
    headers = answer.headers.get("access-control-allow-headers", "").lower()
    holds = allowed in {"*", ORIGIN} and answer.is_success and "last-event-id" in headers
    return judged(holds, f"origin {allowed or 'none'}, preflight {answer.status_code}: {headers}")


@SHOPSTREAM("methods", "HEAD 200; others 405 with Allow")
async def _methods(kit: Kit) -> Verdict:
    head = await kit.answer("HEAD")
    if head.status_code != httpx.codes.OK:
        return judged(holds=False, seen=f"HEAD {head.status_code}")
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await kit.answer(method)
        allowed = answer.headers.get("allow", "")
        if answer.status_code != httpx.codes.METHOD_NOT_ALLOWED or "GET" not in allowed:
            return judged(holds=False, seen=f"{method} {answer.status_code}, Allow: {allowed}")
    return judged(holds=True, seen="405")
