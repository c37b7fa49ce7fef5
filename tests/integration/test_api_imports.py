"""A file of products becomes products: each change once, each bad row told."""

import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents
from tests.support.imports import CSV, SELLER, counts, ended, errors, ndjson, row, upload


@pytest.fixture(scope="module")
def api(session_components: LocalComponents) -> Iterator[InProcess]:
    with in_process(session_components, SHOPSTREAM_IMPORT_BYTES_MAX="1000000") as app:
        yield app


def _sku() -> str:
    return uuid.uuid4().hex


def _product(api: InProcess, sku: str) -> dict[str, Any]:
    ((product_id,),) = api.query(
        "SELECT id::text FROM products WHERE sku = %s AND deleted_at IS NULL", sku
    )
    shown: dict[str, Any] = api.get(f"/products/{product_id}").json()
    return shown


def _events(api: InProcess, *subjects: str) -> list[tuple[str, int]]:
    """(type, sequence) of all events of these products and their stock, in their order."""
    found = api.query(
        "SELECT o.type, a.sequence FROM outbox o JOIN event_audit a ON a.event_id = o.id"
        " WHERE o.aggregateid = ANY(%s) ORDER BY o.seq",
        list(subjects),
    )
    return [(kind, sequence) for kind, sequence in found]


def _event_count(api: InProcess) -> Any:
    return api.query("SELECT count(*) FROM outbox")


def test_rows_become_products_as_single_requests_would_make_them(api: InProcess) -> None:
    members = {"tags": ["a|b", 'c"\\'], "stock": 7, "description": "x\ny", "category": "c"}
    alone = api.product(name="same", price=1.5, currency="EUR", status="draft", **members)
    sku = _sku()
    line = row(sku, name="same", price=1.5, currency="EUR", status="draft", **members)
    shown = ended(api, upload(api, ndjson([line])))
    assert counts(shown) == (1, 0, 0, 0)
    made = _product(api, sku)
    own = ("id", "sku", "createdAt", "updatedAt")
    assert {k: v for k, v in made.items() if k not in own} == {
        k: v for k, v in alone.items() if k not in own
    }
    assert _events(api, made["id"]) == [("product.created", 1)]


def test_the_answer_is_202_with_where_to_look(api: InProcess) -> None:
    answer = upload(api, ndjson([row(_sku())]))
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/imports/{body['id']}"
    assert body == {
        "id": body["id"],
        "status": "running",
        "rowsRead": 0,
        "rowsCreated": 0,
        "rowsUpdated": 0,
        "rowsUnchanged": 0,
        "rowsFailed": 0,
    }
    assert ended(api, answer) == body | {"status": "done", "rowsRead": 1, "rowsCreated": 1}
    assert errors(api, body["id"]) == []


def test_a_file_sent_again_changes_nothing_and_tells_nobody(api: InProcess) -> None:
    file = ndjson([row(_sku(), stock=n, tags=["t"]) for n in range(700)])
    assert counts(ended(api, upload(api, file))) == (700, 0, 0, 0)
    before = _event_count(api)
    assert counts(ended(api, upload(api, file))) == (0, 0, 700, 0)
    assert _event_count(api) == before


def test_a_row_replaces_the_product_and_each_change_is_one_event(api: InProcess) -> None:
    priced, named, stocked, both, same = skus = [_sku() for _ in range(5)]
    first = [row(sku, stock=20, description="old") for sku in skus]
    assert counts(ended(api, upload(api, ndjson(first)))) == (5, 0, 0, 0)
    second = [
        row(priced, price=8, description="old"),
        row(named, name="new name"),
        row(stocked, stock=3, description="old"),
        row(both, name="new name", stock=0, description="old"),
        row(same, stock=20, description="old"),
    ]
    answer = upload(api, ndjson(second))
    assert counts(ended(api, answer)) == (0, 4, 1, 0)
    expected = {
        priced: [("product.price_changed", 2)],
        named: [("product.updated", 2)],
        stocked: [("inventory.updated", 1), ("product.low_stock", 2)],
        both: [("product.updated", 2), ("inventory.updated", 1), ("product.out_of_stock", 2)],
        same: [],
    }
    for sku, events in expected.items():
        assert _events(api, _product(api, sku)["id"]) == [("product.created", 1), *events]
    shown = _product(api, both)
    assert (shown["name"], shown["stock"], shown["version"]) == ("new name", 0, 2)
    # As PUT: a member that is left out has its default again; but stock stays.
    assert (_product(api, named)["description"], _product(api, named)["stock"]) == (None, 20)
    movements = api.get(f"/products/{shown['id']}/stock-movements").json()["data"]
    assert [(m["delta"], m["stock"], m["reference"], m["reason"]) for m in movements] == [
        (-20, 0, answer.json()["id"], None)
    ]


def test_what_an_import_does_carries_the_ids_of_its_request(api: InProcess) -> None:
    sku = _sku()
    headers = {
        "Content-Type": "application/x-ndjson",
        "Idempotency-Key": _sku(),
        "X-Request-Id": "upload-1",
        "X-Correlation-Id": "season-7",
    }
    ended(api, api.post("/imports", content=ndjson([row(sku)]), headers=headers))
    product_id = _product(api, sku)["id"]
    ((payload,),) = api.query("SELECT payload FROM outbox WHERE aggregateid = %s", product_id)
    assert json.loads(payload)["correlationid"] == "season-7"
    assert api.query(
        "SELECT action, request_id, seller_id FROM audit_log WHERE entity_id = %s", product_id
    ) == [("product.created", "upload-1", SELLER)]


def test_rows_of_one_sku_are_applied_in_their_order(api: InProcess) -> None:
    sku, other = _sku(), _sku()
    rows = [row(sku, price=n, stock=n) for n in (1, 2, 2, 3)]
    shown = ended(api, upload(api, ndjson([rows[0], row(other), *rows[1:]])))
    assert counts(shown) == (2, 2, 1, 0)
    made = _product(api, sku)
    assert (made["price"], made["stock"], made["version"], made["inventoryVersion"]) == (3, 3, 3, 2)
    kinds = Counter(kind for kind, _ in _events(api, made["id"]))
    assert kinds == {"product.created": 1, "product.price_changed": 2, "inventory.updated": 2}


def test_rows_that_cannot_be_applied_are_told_by_number_and_stop_no_other(api: InProcess) -> None:
    rows = [
        row(_sku()),
        b"not json",
        row(_sku(), price="1"),
        b"",
        row(None),
        row(_sku(), sellerId="other"),
        b"[1]",
        b'{"name":"\xff"}',
        row(_sku()),
    ]
    shown = ended(api, upload(api, ndjson(rows), seller=SELLER), **{"X-Seller-Id": SELLER})
    assert counts(shown) == (2, 0, 0, 6)
    found = errors(api, shown["id"])
    # The blank line is no row.
    assert [(number, code) for number, code, _ in found] == [
        (2, "malformed_json"),
        (3, "validation_failed"),
        (4, "validation_failed"),
        (5, "forbidden"),
        (6, "validation_failed"),
        (7, "malformed_json"),
    ]
    assert [detail.partition(":")[0] for _, _, detail in found[1:3]] == ["/price", "/sku"]


def test_what_is_wrong_with_a_row_can_be_kept_whatever_it_names(api: InProcess) -> None:
    strange = row(_sku()) | {"\x00": 1, "\ud800": 1, "x" * 5_000: 1}
    shown = ended(api, upload(api, ndjson([strange, row(_sku())])))
    assert counts(shown) == (1, 0, 0, 1)
    ((number, code, detail),) = errors(api, shown["id"])
    assert (number, code) == (1, "validation_failed")
    assert len(detail) <= 1_000


def test_all_errors_of_a_large_file_are_told_in_their_order(api: InProcess) -> None:
    shown = ended(api, upload(api, b"x\n" * 2_345))
    assert counts(shown) == (0, 0, 0, 2_345)
    assert [number for number, _, _ in errors(api, shown["id"])] == list(range(1, 2_346))


def test_stock_that_has_no_room_beside_what_is_held_is_a_bad_row(api: InProcess) -> None:
    sku = _sku()
    ended(api, upload(api, ndjson([row(sku, stock=10)])))
    product_id = _product(api, sku)["id"]
    headers = {"Idempotency-Key": _sku()}
    held = api.post(f"/products/{product_id}/reservations", {"quantity": 5}, headers=headers)
    assert held.status_code == 201
    shown = ended(api, upload(api, ndjson([row(sku, stock=10**9, name="not this")])))
    assert counts(shown) == (0, 0, 0, 1)
    assert errors(api, shown["id"])[0][:2] == (1, "validation_failed")
    assert _product(api, sku)["name"] == f"Product {sku}"


def test_a_deleted_product_is_not_the_one_meant(api: InProcess) -> None:
    sku = _sku()
    ended(api, upload(api, ndjson([row(sku)])))
    old = _product(api, sku)["id"]
    assert api.request("DELETE", f"/products/{old}").status_code == 204
    assert counts(ended(api, upload(api, ndjson([row(sku)])))) == (1, 0, 0, 0)
    assert _product(api, sku)["id"] != old


def test_a_csv_file_is_read_by_its_header(api: InProcess) -> None:
    sku = _sku()
    file = (
        "\ufeffsku,name,price,stock,tags,description,sellerId\r\n"
        f'{sku},"A ""quoted"", name",9.990,4,a|b,"two\r\nlines",{SELLER}\r\n'
        f"{sku}-2,plain,1,,,,{SELLER}\r\n"
        "only,three,1\r\n"
    )
    shown = ended(api, upload(api, file.encode(), media_type="text/csv; charset=utf-8"))
    assert counts(shown) == (2, 0, 0, 1)
    made = _product(api, sku)
    assert (made["name"], made["priceMinor"], made["stock"]) == ('A "quoted", name', 999, 4)
    assert (made["tags"], made["description"]) == (["a", "b"], "two\r\nlines")
    assert [(number, code) for number, code, _ in errors(api, shown["id"])] == [
        (3, "malformed_csv")
    ]


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        (b"sku,name\ns,n\n", CSV, 422, "validation_failed"),
        (b"\n", CSV, 422, "validation_failed"),
        (b'"sku', CSV, 400, "malformed_csv"),
        (b"", CSV, 400, "empty_file"),
        (b"", "application/x-ndjson", 400, "empty_file"),
        (b"{}", "application/json", 415, "unsupported_media_type"),
        (b"{}", "text/csv; charset=latin1", 415, "unsupported_media_type"),
        (b"x" * 1_000_001, CSV, 413, "body_too_large"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_is_refused_whole(
    api: InProcess, content: bytes, media_type: str, status: int, code: str
) -> None:
    answer = upload(api, content, media_type=media_type)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert api.query("SELECT count(*) FROM import_slices") == [(0,)]


def test_a_file_above_the_bound_is_refused_announced_or_not(api: InProcess) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(20):
            read += 1
            yield b"x" * 59_999 + b"\n"

    answer = upload(api, body())
    assert (answer.status_code, answer.json()["code"], read) == (413, "body_too_large", 17)
    headers = {"Content-Type": CSV, "Idempotency-Key": _sku(), "Content-Length": "1000001"}
    answer = api.post("/imports", content=body(), headers=headers)
    assert (answer.status_code, answer.json()["code"], read) == (413, "body_too_large", 17)
    assert api.query("SELECT count(*) FROM import_slices") == [(0,)]


def test_a_file_without_rows_is_done_at_once(api: InProcess) -> None:
    header = b"sku,name,price,sellerId\n"
    assert counts(ended(api, upload(api, header, media_type=CSV))) == (0, 0, 0, 0)
    assert counts(ended(api, upload(api, b"\n \n"))) == (0, 0, 0, 0)


def test_the_same_key_with_the_same_file_is_one_import(api: InProcess) -> None:
    file = ndjson([row(_sku())])
    key = _sku()
    first = upload(api, file, key=key)
    ended(api, first)
    again = upload(api, file, key=key)
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    for content, media_type in ((file + b"\n", "application/x-ndjson"), (file, CSV)):
        other = upload(api, content, key=key, media_type=media_type)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    without = api.post("/imports", content=file, headers={"Content-Type": CSV})
    assert (without.status_code, without.json()["code"]) == (400, "idempotency_key_required")
    assert api.query("SELECT count(*) FROM import_slices") == [(0,)]


def test_an_import_belongs_to_its_seller(api: InProcess) -> None:
    answer = upload(api, ndjson([row(_sku())]), seller=SELLER)
    ended(api, answer, **{"X-Seller-Id": SELLER})
    location = answer.headers["location"]
    for path in (location, f"{location}/errors"):
        assert api.get(path).status_code == 200
        for headers, status in (({"X-Seller-Id": SELLER}, 200), ({"X-Seller-Id": "other"}, 404)):
            assert api.get(path, headers=headers).status_code == status
    for path in (
        f"/imports/{uuid.uuid4()}",
        "/imports/nonsense",
        f"/imports/{uuid.uuid4()}/errors",
    ):
        assert api.get(path).status_code == 404


def test_rows_worked_are_counted_by_what_became_of_them(api: InProcess) -> None:
    def worked() -> dict[str, float]:
        return {
            outcome: api.resources.registry.get_sample_value(
                "shopstream_import_rows_total", {"outcome": outcome}
            )
            or 0.0
            for outcome in ("created", "updated", "unchanged", "failed")
        }

    before = worked()
    file = ndjson([row(_sku()), b"bad"])
    ended(api, upload(api, file))
    ended(api, upload(api, file))
    after = worked()
    assert {name: after[name] - before[name] for name in after} == {
        "created": 1,
        "updated": 0,
        "unchanged": 1,
        "failed": 2,
    }
