"""Another generation becomes the one in use: one conditional write, after what could be wrong."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.rebuild.lives import LogNow, read_log
from shopstream_analytics.rebuild.tables import Tables
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_shared.generations import source_name

#: So many are spelled out in a refusal.
SHOWN_MAX: Final = 10


class LeftOut(NamedTuple):
    """Offsets of a source, [begin, end), that the one generation counts and the other does not."""

    source: str
    begin: int
    end: int

    def __str__(self) -> str:
        return f"{self.source} {self.begin} to {self.end}"


def swap(
    settings: AnalyticsSettings,
    tables: Tables,
    generation: int,
    current: int,
    *,
    accept_loss: bool,
) -> list[LeftOut]:
    """What is left out by it, with ``accept_loss``; without, that is refused.

    Raises RebuildFailed with nothing changed: the log lacks what the workers would need next, the
    generation is not whole, it holds less than the one in use, or somebody else has swapped.
    """
    if why := tables.unfit(generation):
        raise RebuildFailed(f"generation {generation} {why}; rebuild again")
    # As it is now: while the archive was folded, log and archive went on.
    log = read_log(settings)
    for (topic, partition), first in log.first.items():
        topic_id, end = log.topics[topic].id, log.ends[topic, partition]
        noted = tables.noted(generation, topic)
        if noted is not None and noted.id != topic_id:
            raise RebuildFailed(f"generation {generation} is of another life of {topic}")
        at = tables.checkpoint(generation, topic, topic_id, partition)
        if at is not None and not first <= at.next <= end:
            raise RebuildFailed(
                f"{topic}/{partition}: generation {generation} ends at {at.next}, but the log "
                f"holds {first} to {end}; rebuild again when the archive has come further"
            )
    left_out = list(_left_out(tables, generation, current, log))
    if left_out:
        # Offsets without a record of ours, such as transaction markers, are in no archive: a chain
        # may be missing or begin late for them alone. Then no item is from there either.
        counted = tables.counted(current)
        left_out = [one for one in left_out if one.source in counted]
    if left_out and not accept_loss:
        shown = ", ".join(map(str, left_out[:SHOWN_MAX]))
        more = f" and {len(left_out) - SHOWN_MAX} more" if len(left_out) > SHOWN_MAX else ""
        raise RebuildFailed(
            f"generation {generation} lacks offsets that generation {current} may have counted: "
            f"{shown}{more}; bring their archive back, or call again with --accept-loss"
        )
    if not tables.use(generation, instead_of=current):
        raise RebuildFailed("another rebuild was swapped in, or this one dropped, meanwhile; look")
    return left_out


def _left_out(tables: Tables, generation: int, current: int, log: LogNow) -> Iterator[LeftOut]:
    """Where the generation begins later than the one in use did.

    The archive cannot say what it has lost at its head: a chain without its first objects is as
    sound as any. So each checkpoint says where its items begin.
    """
    for topic, state in log.topics.items():
        noted = tables.noted(generation, topic)
        known = tables.noted(current, topic) is not None
        epoch = 0 if noted is None else noted.epoch
        for partition in range(state.partitions):
            made = tables.checkpoint(generation, topic, state.id, partition)
            live = tables.checkpoint(current, topic, state.id, partition)
            if made is None and live is None:
                continue
            first = log.first[topic, partition]
            begin = first if made is None else made.begin
            # Without a checkpoint it begins with the log; without a note nobody knows what it had.
            had = live.begin if live is not None else (first if known else 0)
            if begin > had:
                yield LeftOut(f"{source_name(topic, epoch)}/{partition}", had, begin)
        for life in noted.earlier if noted is not None else ():
            for partition in range(life.partitions):
                made = tables.checkpoint(generation, topic, life.topic_id, partition)
                live = tables.checkpoint(current, topic, life.topic_id, partition)
                if live is None:
                    continue
                # Of a topic that is gone there is no log to go on from.
                begin = live.next if made is None else made.begin
                if begin > live.begin:
                    source = f"{source_name(topic, life.epoch)}/{partition}"
                    yield LeftOut(source, live.begin, begin)
