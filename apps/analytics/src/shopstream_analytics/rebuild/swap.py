"""Another generation becomes the one in use: one conditional write, after what could be wrong."""

from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.rebuild.lives import read_log
from shopstream_analytics.rebuild.tables import Tables
from shopstream_analytics.settings import AnalyticsSettings


def swap(settings: AnalyticsSettings, tables: Tables, generation: int, current: int) -> None:
    """Raises RebuildFailed with nothing changed: the log lacks what the workers would need next,
    the generation is not whole, or somebody else has swapped."""
    if not tables.is_complete(generation):
        raise RebuildFailed(f"generation {generation} is not complete; rebuild again")
    # As it is now: while the archive was folded, log and archive went on.
    log = read_log(settings)
    for (topic, partition), first in log.first.items():
        topic_id, end = log.topics[topic].id, log.ends[topic, partition]
        noted = tables.noted(generation, topic)
        if noted is not None and noted.id != topic_id:
            raise RebuildFailed(f"generation {generation} is of another life of {topic}")
        at = tables.checkpoint(generation, topic, topic_id, partition)
        if at is not None and not first <= at <= end:
            raise RebuildFailed(
                f"{topic}/{partition}: generation {generation} ends at {at}, but the log holds "
                f"{first} to {end}; rebuild again when the archive has come further"
            )
    if not tables.use(generation, instead_of=current):
        raise RebuildFailed("another rebuild was swapped in meanwhile; look, and call again")
