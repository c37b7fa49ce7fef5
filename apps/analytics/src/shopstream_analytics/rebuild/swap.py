"""Another generation becomes the one in use: one conditional write, after what could be wrong."""

from collections.abc import Mapping

from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.rebuild.lives import Lives
from shopstream_analytics.rebuild.tables import Tables


def swap(tables: Tables, generation: int, current: int, lives: Mapping[str, Lives]) -> None:
    """Raises RebuildFailed with nothing changed: the log lacks what the workers would need next,
    the generation is not whole, or somebody else has swapped."""
    if not tables.is_complete(generation):
        raise RebuildFailed(f"generation {generation} is not complete; rebuild again")
    for topic, one in lives.items():
        present = one.present
        noted = tables.noted(generation, topic)
        if noted is not None and noted.id != present.topic_id:
            raise RebuildFailed(f"generation {generation} is of another life of {topic}")
        for partition, first in one.first.items():
            at = tables.checkpoint(generation, topic, present.topic_id, partition)
            if at is not None and not first <= at <= one.ends[partition]:
                raise RebuildFailed(
                    f"{topic}/{partition}: generation {generation} ends at {at}, but the log holds "
                    f"{first} to {one.ends[partition]}; rebuild again when the archive has come "
                    "further"
                )
    if not tables.use(generation, instead_of=current):
        raise RebuildFailed("another rebuild was swapped in meanwhile; look, and call again")
