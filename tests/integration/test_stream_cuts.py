"""Cuts, kills and more partitions on a real broker, in the short form.

The long one: `python -m tests.endurance cuts --cuts 1000 --seed 1`; by property, without a broker:
`tests/property/test_stream_cuts.py`.
"""

import asyncio

from tests.endurance.cuts import ABORTED_EVERY, Scene
from tests.support.components import LocalComponents

from shopstream_shared.topics import STREAM_TOPICS, load_topics

CUTS = 60
KILLS = 2


def test_cuts_kills_and_more_partitions_lose_double_and_reorder_nothing() -> None:
    # Its topics get more partitions: no other test may see them.
    with LocalComponents() as own:
        scene = Scene(own.kafka_brokers, clients=6, cuts=CUTS, kills=KILLS, seed=1)
        seen = asyncio.run(scene.play())
    assert seen.holds, seen
    assert seen.cuts >= CUTS
    assert seen.kills == KILLS
    assert seen.events >= CUTS
    assert seen.aborted > 0, f"of {ABORTED_EVERY} transactions one is"
    assert seen.received >= seen.events
    before = sum(load_topics("local")[topic].partitions for topic in STREAM_TOPICS)
    assert seen.partitions == before + len(STREAM_TOPICS)
