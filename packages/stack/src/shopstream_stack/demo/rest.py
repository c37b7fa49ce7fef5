"""The REST side of the demo: sends, notes in the journal, and tells the oracle."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import httpx
import msgspec

from shopstream_stack.demo.evidence import Key
from shopstream_stack.demo.oracle import Exchange, Oracle
from shopstream_stack.journal import Journal

#: The product that the migration guide creates, to the byte.
SEED_BODY: Final = '{"name":"Test Product","price":99.99,"stock":10,"sellerId":"seller1"}'
SEED_ADDRESS: Final = "http://localhost:3000"
CURL_SECONDS_MAX: Final = 30.0
REQUEST_SECONDS_MAX: Final = 20.0

_encoder: Final = msgspec.json.Encoder(decimal_format="number")


class CurlFailed(Exception):
    """curl did not end well; the message is what it said."""


@dataclass(slots=True)
class Rest:
    """One caller of the API. Requests that touch one product must not overlap (see `Oracle`)."""

    client: httpx.AsyncClient
    oracle: Oracle
    journal: Journal
    #: When the request that causes an event was sent (monotonic), by the event's key.
    sent_at: dict[Key, float] = field(default_factory=dict)
    accepted: int = 0
    refused: int = 0
    #: Answers with another status than the scenario wanted.
    faults: list[str] = field(default_factory=list)

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        wanted: int,
        key: str | None = None,
    ) -> Exchange:
        """Send one request; an answer with another status than wanted is noted as a fault.

        ``key`` is the Idempotency-Key. Raises httpx.HTTPError when there is no answer.
        """
        headers = {"content-type": "application/json"} if body is not None else {}
        if key is not None:
            headers["idempotency-key"] = key
        content = body if isinstance(body, bytes | None) else _encoder.encode(body)
        sent = time.monotonic()
        response = await self.client.request(method, path, content=content, headers=headers)
        exchange = Exchange(
            method=method,
            path=path,
            status=response.status_code,
            request=body if isinstance(body, Mapping) else None,
            answer=read_json(response.content),
            replayed=response.headers.get("idempotent-replayed") == "true",
        )
        self.take(exchange, sent, wanted)
        return exchange

    def take(self, exchange: Exchange, sent: float, wanted: int) -> None:
        """Note an exchange in the journal and with the oracle."""
        self.journal.write(exchange)
        if exchange.status != wanted:
            detail = (exchange.answer or {}).get("detail", "")
            self.faults.append(
                f"{exchange.method} {exchange.path}: {exchange.status}, not {wanted} {detail}"
            )
        if exchange.status < 400:  # noqa: PLR2004 - HTTP's own border
            self.accepted += 1
        else:
            self.refused += 1
        for event in self.oracle.observe(exchange):
            self.sent_at[event.key] = sent

    async def seed_curl(self, curl: str | None, address: str) -> Exchange:
        """The guide's own command, as printed; without curl the same bytes by httpx.

        Raises CurlFailed, or httpx.HTTPError.
        """
        if curl is None:
            return await self.call("POST", "/products", SEED_BODY.encode(), wanted=201)
        sent = time.monotonic()
        answer = read_json(await run_curl(curl, *seed_arguments(address)))
        # curl as printed does not tell the status: a product with an id was created.
        created = answer is not None and "id" in answer
        exchange = Exchange(
            method="POST",
            path="/products",
            status=201 if created else int((answer or {}).get("status", 0)),
            request=read_json(SEED_BODY.encode()),
            answer=answer,
        )
        self.take(exchange, sent, 201)
        return exchange


def seed_arguments(address: str) -> tuple[str, ...]:
    """The arguments of the guide's curl, the address replaced only where another is configured."""
    return (
        "-X",
        "POST",
        f"{address}/products",
        "-H",
        "Content-Type: application/json",
        "-d",
        SEED_BODY,
    )


async def run_curl(curl: str, *arguments: str) -> bytes:
    """What curl prints. Raises CurlFailed."""
    process = await asyncio.create_subprocess_exec(
        curl,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(CURL_SECONDS_MAX):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise CurlFailed(f"no answer within {CURL_SECONDS_MAX:g} s") from None
    if process.returncode:
        raise CurlFailed(errors.decode(errors="replace").strip())
    return output


def read_json(body: bytes) -> dict[str, Any] | None:
    """A JSON object with exact numbers, or None for anything else."""
    try:
        value = json.loads(body, parse_float=Decimal)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
