"""The read API does what its description says, and the description tells all it does."""

import os
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from schemathesis import Case, HookContext
from schemathesis.config import SchemathesisConfig
from tests.support.analytics import ensure_topics
from tests.support.analytics_events import Shop
from tests.support.analytics_reads import Reading, reading
from tests.support.components import LocalComponents
from tests.support.fuzz import InItsLoop, operation_id, run_phases

from shopstream_shared.clock import parse_time

#: Generated requests an operation, by wish alone (CONTRIBUTING.md): without it those that cover
#: each bound and each kind of each parameter.
_WISHED: Final = os.environ.get("SHOPSTREAM_TEST_EXAMPLES")  # noqa: TID251 - a tester's wish
EXAMPLES: Final = int(_WISHED or 1)
#: Bounded by counts: some seconds on a free machine.
TIMEOUT_SECONDS: Final = 0 if _WISHED else 600


@pytest.fixture
def api(components: LocalComponents) -> Iterator[Reading]:
    components.up("kafka", "dynamodb")
    ensure_topics(components.kafka_brokers)
    with reading(components, KAFKA_BROKERS=components.kafka_brokers) as running:
        running.feed(Shop(seed=91).order_life())
        yield running


def made_valid(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Put right, in a request that is meant to be valid, what its description cannot say."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    query = case.query
    # It is of a page before, and there is one page.
    query.pop("cursor", None)
    if "from" in query and "to" in query and parse_time(query["from"]) > parse_time(query["to"]):
        query["from"], query["to"] = query["to"], query["from"]
    if operation_id(case) == "topProducts":
        query.setdefault("day", "2026-11-21")
        if query.get("by") == "units":
            query.pop("currency", None)
        else:
            query.setdefault("currency", "USD")


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_no_request_is_answered_otherwise_than_described(api: Reading) -> None:
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "generation": {"deterministic": True, "database": "none", "max-examples": EXAMPLES},
            # Reads lead nowhere: there is nothing that one answer says of another request.
            "phases": {"stateful": {"enabled": False}, "fuzzing": {"enabled": bool(_WISHED)}},
        }
    )
    schemathesis.hook("before_call")(made_valid)
    try:
        schema = schemathesis.openapi.from_asgi("/openapi.json", InItsLoop(api), config=config)
        report = run_phases(schema)
    finally:
        schemathesis.hooks.unregister(made_valid)

    assert not report.failures, "\n\n".join(report.failures[:5])
    described = {
        operation["operationId"]
        for methods in api.app.openapi()["paths"].values()
        for operation in methods.values()
    }
    assert report.answered.keys() == described
