"""Files for `POST /imports`, and waiting for what becomes of them."""

import asyncio
import json
import uuid
from collections.abc import Iterable
from typing import Any, Final

import httpx
from tests.support.app import InProcess
from tests.support.system import wait_until

NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
SELLER: Final = "seller1"
#: Longest wait for an import of a test to end.
WAIT_SECONDS_MAX: Final = 60.0


Caller = InProcess | httpx.Client


def row(sku: str | None, **members: Any) -> dict[str, Any]:
    """A product body as a row."""
    return {"name": f"Product {sku}", "price": 9.99, "sellerId": SELLER, "sku": sku, **members}


def ndjson(rows: Iterable[Any]) -> bytes:
    """A file of these rows; bytes among them are lines as they are."""
    return b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in rows
    )


def upload(
    caller: Caller,
    content: Any,
    *,
    media_type: str = NDJSON,
    key: str | None = None,
    seller: str | None = None,
) -> httpx.Response:
    """Send a file."""
    headers = {"Content-Type": media_type, "Idempotency-Key": key or uuid.uuid4().hex}
    if seller is not None:
        headers["X-Seller-Id"] = seller
    return caller.request("POST", "/imports", content=content, headers=headers)


def sending(app: InProcess, content: Any, key: str | None = None) -> "asyncio.Task[httpx.Response]":
    """A file on its way, inside the application's loop."""
    headers = {"Content-Type": NDJSON, "Idempotency-Key": key or uuid.uuid4().hex}
    return asyncio.create_task(app.client.post("/imports", content=content, headers=headers))


def ended(caller: Caller, answer: httpx.Response, **headers: str) -> dict[str, Any]:
    """The import of a 202, once it runs no longer."""
    assert answer.status_code == 202, answer.text
    location = answer.headers["location"]
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(caller.request("GET", location, headers=headers).json())
        return bool(found["status"] != "running")

    wait_until(over, "the import has ended", seconds_max=WAIT_SECONDS_MAX)
    return found


def counts(shown: dict[str, Any]) -> tuple[int, int, int, int]:
    """Rows created, updated, unchanged and failed, of an import that is done."""
    assert shown["status"] == "done", shown
    names = ("rowsCreated", "rowsUpdated", "rowsUnchanged", "rowsFailed")
    found = (shown[names[0]], shown[names[1]], shown[names[2]], shown[names[3]])
    assert shown["rowsRead"] == sum(found)
    return found


def errors(caller: Caller, import_id: str) -> list[tuple[int, str, str]]:
    """(row, code, detail) of the rows that failed."""
    answer = caller.request("GET", f"/imports/{import_id}/errors")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(NDJSON)
    lines = [json.loads(line) for line in answer.content.splitlines()]
    assert all(list(line) == ["row", "code", "detail"] for line in lines)
    return [(line["row"], line["code"], line["detail"]) for line in lines]
