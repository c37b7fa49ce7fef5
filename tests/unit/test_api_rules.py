"""Rules free of any component: stock, transitions, preconditions, problems, keys."""

from decimal import Decimal
from typing import Any, get_args

import pytest

from shopstream_api.errors import ShopError, ValidationFailed, VersionMismatch
from shopstream_api.idempotency.errors import KeyInvalid
from shopstream_api.idempotency.service import Key
from shopstream_api.members import Members
from shopstream_api.orders.errors import IllegalTransition
from shopstream_api.orders.transitions import TRANSITIONS, require
from shopstream_api.preconditions import if_match, none_match
from shopstream_api.stock.rules import LOW, OUT, warning
from shopstream_api.web.problems import PROBLEMS, kind_of, problem
from shopstream_shared.events.payloads import OrderStatus


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (10, 6, None),
        (6, 5, LOW),
        (6, 1, LOW),
        (6, 0, OUT),
        (5, 4, None),
        (1, 0, OUT),
        (0, 0, None),
        (0, 3, None),
        (0, 9, None),
        (9, 5, LOW),
    ],
)
def test_a_warning_is_given_when_stock_crosses_its_line(
    before: int, after: int, expected: str | None
) -> None:
    assert warning(before, after, threshold=5) == expected


def test_a_threshold_of_zero_never_warns_of_low_stock() -> None:
    assert warning(3, 1, threshold=0) is None
    assert warning(3, 0, threshold=0) == OUT


def test_every_state_of_an_order_is_in_the_transition_table() -> None:
    assert set(TRANSITIONS) == set(get_args(OrderStatus))


def test_each_pair_of_states_is_allowed_or_refused_as_the_table_says() -> None:
    for present, allowed in TRANSITIONS.items():
        for wanted in TRANSITIONS:
            if wanted in allowed:
                require(present, wanted)
            else:
                with pytest.raises(IllegalTransition) as refused:
                    require(present, wanted)
                assert refused.value.extra == {
                    "from": present,
                    "to": wanted,
                    "allowed": list(allowed),
                }


@pytest.mark.parametrize("header", [None, "*", '"v3"', '"v3.9"', '"v1.0", "v3.2"'])
def test_if_match_passes_for_the_present_version_whatever_the_stock(header: str | None) -> None:
    if_match(header, 3)


@pytest.mark.parametrize("header", ['"v2.0"', 'W/"v3.0"', "v3", "", '"v33.0"', '"3"'])
def test_if_match_refuses_every_other_tag(header: str) -> None:
    with pytest.raises(VersionMismatch):
        if_match(header, 3)


@pytest.mark.parametrize("header", ["v3", "", "nonsense"])
def test_an_if_match_without_quotes_is_told_what_is_wrong_with_it(header: str) -> None:
    with pytest.raises(VersionMismatch) as refused:
        if_match(header, 3)
    assert 'quotes included, as "v3"' in refused.value.detail


def test_what_is_no_object_is_told_so_and_nothing_else() -> None:
    members = Members([], known=("name",))
    members.text("name", length_max=5, required=True)
    with pytest.raises(ValidationFailed) as refused:
        members.done()
    assert refused.value.detail == "must be a JSON object"


@pytest.mark.parametrize(
    ("sent", "code"), [("0.5", "wrong_type"), ("11", "out_of_range"), ("1e999999", "out_of_range")]
)
def test_a_number_is_told_whether_it_is_not_whole_or_out_of_range(sent: str, code: str) -> None:
    members = Members({"units": Decimal(sent)}, known=("units",))
    members.whole("units", low=1, high=10)
    assert [fault.code for fault in members.faults] == [code]


def test_if_none_match_compares_all_of_the_tag() -> None:
    assert none_match('"v1.0"', '"v1.0"')
    assert none_match('W/"v1.0"', '"v1.0"')
    assert none_match("*", '"v1.0"')
    assert not none_match('"v1.1"', '"v1.0"')
    assert not none_match(None, '"v1.0"')


def _subclasses(cls: type[ShopError]) -> set[type[ShopError]]:
    return {cls}.union(*(_subclasses(sub) for sub in cls.__subclasses__()))


def test_no_error_falls_through_to_an_internal_one() -> None:
    abstract = {"ShopError", "BusinessError"}
    for cls in _subclasses(ShopError):
        if cls.__name__ not in abstract:
            assert cls in PROBLEMS, cls


def test_codes_are_unique_and_hold_those_of_the_contract() -> None:
    codes = [kind.code for kind in PROBLEMS.values()]
    assert len(codes) == len(set(codes))
    assert set(codes) >= {
        "malformed_json",
        "validation_failed",
        "unsupported_media_type",
        "body_too_large",
        "not_found",
        "forbidden",
        "insufficient_stock",
        "illegal_transition",
        "mixed_sellers",
        "mixed_currencies",
        "product_not_available",
        "duplicate_sku",
        "version_mismatch",
        "version_required",
        "idempotency_key_required",
        "idempotency_key_reused",
        "idempotency_key_in_flight",
        "invalid_cursor",
        "unavailable",
    }


def test_a_problem_names_its_request_and_hides_nothing_it_promises() -> None:
    answer = problem(
        IllegalTransition("paid", "pending", ["shipped"]), instance="/x", request_id="r"
    )
    assert answer.status == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert b'"from":"paid"' in answer.body
    assert b'"requestId":"r"' in answer.body
    assert kind_of(ShopError("x")).status == 500


def _key(body: Any, key: str = "k") -> Key:
    return Key.of(key, caller="s", method="POST", path="/p", body=body)


def test_spelling_does_not_change_a_bodys_fingerprint() -> None:
    one = _key({"a": 1, "b": [Decimal("1.50"), None, True]})
    other = _key({"b": [Decimal("1.5"), None, True], "a": Decimal("1.0")})
    assert one == other


@pytest.mark.parametrize(
    "body",
    [{"a": 2}, {"a": "1"}, {"a": True}, {"a": None}, {}, [1], {"a": 10}, {"a": -1}, {"a": [1]}],
)
def test_another_body_has_another_fingerprint(body: Any) -> None:
    assert _key(body).fingerprint != _key({"a": 1}).fingerprint


@pytest.mark.parametrize("key", ["", "x" * 256, "ü", "a\nb", "a\x7f"])
def test_a_key_that_cannot_be_used_is_refused(key: str) -> None:
    with pytest.raises(KeyInvalid):
        _key({}, key)
