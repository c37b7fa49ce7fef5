"""The simulation's models of DynamoDB and S3 keep what the sinks rely on of the real ones."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.simulation.consumers.clients import DynamoClient, S3Client
from tests.simulation.consumers.climate import Climate
from tests.simulation.consumers.dynamo import SimDynamo
from tests.simulation.consumers.machine import Machine
from tests.simulation.consumers.s3 import SimS3
from tests.simulation.world import World
from tests.support.store_ports import SCENARIOS, Stores


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_model_does_as_the_real_one(scenario: Callable[[Stores], Awaitable[None]]) -> None:
    world = World(0)
    world.calm = True
    machine = Machine(world, Climate.drawn(world.rng), "test")
    stores = Stores(DynamoClient(machine, SimDynamo()), S3Client(machine, SimS3()), "bucket")

    async def live() -> None:
        await scenario(stores)

    task: asyncio.Task[None] = machine.loop.create_task(live())
    assert world.run(task.done, seconds_max=60)
    task.result()
