"""The application does what its description says, and the description tells all it does."""

import os
from collections.abc import Iterator
from typing import Final

import pytest
from tests.support.app import InProcess, in_process
from tests.support.components import LocalComponents
from tests.support.fuzz import described, run_chains, run_phases
from tests.support.links import Walker

#: Generated requests an operation, and chains of links; more by wish (CONTRIBUTING.md).
_WISHED: Final = os.environ.get("SHOPSTREAM_TEST_EXAMPLES")  # noqa: TID251 - a tester's wish
EXAMPLES: Final = int(_WISHED or 5)
CHAINS: Final = int(_WISHED or 8)
#: Bounded by counts: a minute on a free machine, several on a busy one.
TIMEOUT_SECONDS: Final = 0 if _WISHED else 600


@pytest.fixture
def api(components: LocalComponents) -> Iterator[InProcess]:
    with in_process(components) as running:
        yield running


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_no_request_is_answered_otherwise_than_described(api: InProcess) -> None:
    with described(api, examples=EXAMPLES) as schema:
        report = run_phases(schema)

    assert not report.failures, "\n\n".join(report.failures[:5])
    described_operations = {
        operation["operationId"]
        for methods in api.app.openapi()["paths"].values()
        for operation in methods.values()
    }
    assert report.answered.keys() == described_operations


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_no_chain_of_requests_is_answered_otherwise_than_described(api: InProcess) -> None:
    with described(api, examples=1) as schema:
        assert run_chains(api, schema, chains=CHAINS)


def test_every_link_leads_to_a_thing_that_is_there(api: InProcess) -> None:
    walked = list(Walker(api, api.app.openapi()).walked())

    assert len(walked) > 20
    for link, answer in walked:
        # What an order can become and what a product still has may refuse; the thing is there.
        assert answer.is_success or answer.status_code in (409, 412), (link, answer.text)
