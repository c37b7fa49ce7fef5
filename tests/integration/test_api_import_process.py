"""Imports of a process that is killed: worked on from where they stood, each row once."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.support.api import ApiProcess
from tests.support.components import LocalComponents
from tests.support.imports import NDJSON, counts, ended, errors, ndjson, row, upload
from tests.support.system import wait_until

NOWHERE: Final = "127.0.0.1:1"
ROWS: Final = 1_300
#: Half of what the file has that the test sends, so that it cannot be held.
GROWTH_BYTES_MAX: Final = 40 * 10**6


@pytest.fixture
def dead(components: LocalComponents) -> Iterator[ApiProcess]:
    """A process that is not started yet."""
    process = ApiProcess.beside(components, KAFKA_BROKERS=NOWHERE, SHOPSTREAM_RELAY="off")
    yield process
    process.__exit__(None, None, None)


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[ApiProcess]:
    """A process that lives through several tests."""
    with ApiProcess.beside(
        session_components, KAFKA_BROKERS=NOWHERE, SHOPSTREAM_RELAY="off"
    ) as process:
        yield process


def _file() -> bytes:
    """Good rows, a repeated sku in the last slice, and a bad row in each slice."""
    rows: list[Any] = [row(f"s{n}", stock=n) for n in range(ROWS)]
    rows[7] = rows[700] = b"bad"
    rows[ROWS - 1] = row("s1", price=1, stock=0)
    return ndjson(rows)


def _require_exact(api: ApiProcess, shown: dict[str, Any], left: int = 0) -> None:
    assert counts(shown) == (ROWS - 3, 1, 0, 2)
    assert [number for number, _, _ in errors(api.client, shown["id"])] == [8, 701]
    assert api.query("SELECT count(*), count(DISTINCT sku) FROM products") == [(ROWS - 3, ROWS - 3)]
    assert dict(api.query("SELECT type, count(*) FROM outbox GROUP BY type")) == {
        "product.created": ROWS - 3,
        "product.price_changed": 1,
        "inventory.updated": 1,
        "product.out_of_stock": 1,
    }
    assert _slices(api) == left


def test_killed_around_a_commit_the_next_life_and_another_process_go_on(dead: ApiProcess) -> None:
    api = dead.start(SHOPSTREAM_CRASH_AT="import.before_commit")
    answer = upload(api.client, _file())
    api.died()
    assert _slices(api) == 3
    api.start(path=None, SHOPSTREAM_CRASH_AT="import.after_commit")
    api.died()
    assert _slices(api) == 2
    with ApiProcess(api.environ) as other:
        _require_exact(other, ended(other.client, answer))


def test_killed_while_it_receives_and_while_it_works_every_row_is_applied_once(
    dead: ApiProcess,
) -> None:
    api, file = dead.start(), _file()
    with _half_sent(api, file, "killed"):
        wait_until(lambda: _slices(api) > 0, "a slice is staged")
        api.kill()
    api.start()
    # Nobody reads what was staged then; only the sweep takes it, in its time.
    left = _slices(api)
    answer = upload(api.client, file, key="killed")
    _wait_for_rows(api, answer.json()["id"], 501)
    api.kill()
    api.start()
    _require_exact(api, ended(api.client, answer), left=left)


def test_an_upload_that_is_cut_leaves_nothing_and_can_be_sent_again(api: ApiProcess) -> None:
    file = _file()
    with _half_sent(api, file, "cut"):
        wait_until(lambda: _slices(api) > 0, "a slice is staged")
    wait_until(lambda: _slices(api) == 0, "the slices are removed")
    assert api.query("SELECT count(*) FROM imports") == [(0,)]
    _require_exact(api, ended(api.client, upload(api.client, file, key="cut")))


def test_a_large_file_is_never_in_memory(api: ApiProcess) -> None:
    line = b"x" * 99_999 + b"\n"
    # The first one fills what is kept for all.
    for megabytes in (10, 80):
        before = _resident(api)
        answer = upload(api.client, (line * 10 for _ in range(megabytes)))
        assert counts(ended(api.client, answer)) == (0, 0, 0, megabytes * 10)
    assert _resident(api) - before < GROWTH_BYTES_MAX


def _slices(api: ApiProcess) -> int:
    found: int = api.query("SELECT count(*) FROM import_slices")[0][0]
    return found


def _wait_for_rows(api: ApiProcess, import_id: str, rows: int) -> None:
    def there() -> bool:
        shown = api.client.get(f"/imports/{import_id}").json()
        return bool(shown["rowsRead"] >= rows or shown["status"] != "running")

    wait_until(there, f"{rows} rows are worked")


def _half_sent(api: ApiProcess, file: bytes, key: str) -> socket.socket:
    """A connection on which half of the file was sent; closing it cuts the upload."""
    head = (
        f"POST /imports HTTP/1.1\r\nHost: test\r\nContent-Type: {NDJSON}\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(file)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", api.port))
    connection.sendall(head.encode() + file[: len(file) // 2])
    return connection


def _resident(api: ApiProcess) -> int:
    status = Path(f"/proc/{api.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1_024
