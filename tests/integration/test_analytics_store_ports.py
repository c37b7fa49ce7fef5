"""DynamoDB Local and MinIO keep what the sinks, and the simulation's models, rely on."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.analytics import Analytics
from tests.support.components import LocalComponents
from tests.support.store_ports import SCENARIOS, Stores

from shopstream_analytics.archive.store import BucketAtMinio, open_chain
from shopstream_analytics.dynamo import open_dynamo
from shopstream_analytics.settings import AnalyticsSettings


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_real_one_does_as_the_model(
    scenario: Callable[[Stores], Awaitable[None]], components: LocalComponents, tmp_path: Path
) -> None:
    variables: dict[str, Any] = {**Analytics.fresh(components, tmp_path).environ}
    settings = AnalyticsSettings(**variables)

    async def live() -> None:
        await BucketAtMinio.of(settings)()
        async with open_dynamo(settings) as dynamo, open_chain(settings) as chain:
            prefix = f"{settings.aggregates_table}-"
            await scenario(Stores(dynamo, chain.client, settings.archive_bucket, prefix))

    asyncio.run(live())
