"""What must hold once all is quiet: each store against everything that was ever committed.

The aggregates are held against a count that shares no code with the service
(`tests.support.analytics_events.naive_counts`).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from tests.simulation.consumers.log import Life, read_all
from tests.simulation.consumers.stores import AGGREGATES, RECENT, Stores
from tests.simulation.world import Violation
from tests.support.analytics_events import Counts, LogRecord, naive_counts

from shopstream_analytics.aggregates.keys import parse
from shopstream_analytics.archive.file import unpack
from shopstream_analytics.archive.line import attributes_of, value_of
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.worker.sinks import WorkerName
from shopstream_shared.archive.reader import link_of
from shopstream_shared.events.codec import EventRejected, decode
from shopstream_shared.generations import source_name

_OF_TIME: Final = frozenset({"lateEvents", "aheadEvents"})


class Chapter(NamedTuple):
    """One partition in one life of its topic, as one sink must hold it.

    ``skipped``: spans that an operator let the sink leave out; of them it may hold a beginning.
    ``present``: the life that the topic is in; of an earlier one the sink holds a beginning.
    """

    source: Source
    life: Life
    epoch: int
    records: Sequence[LogRecord]
    skipped: Sequence[range]
    present: bool

    @property
    def name(self) -> str:
        return f"{source_name(self.source.topic, self.epoch)}/{self.source.partition}"

    def held(self, upto: int | None) -> list[LogRecord]:
        """What is held by whoever got so far; None: as far as there is anything."""
        return [
            record
            for record in self.records
            if not any(record.offset in span for span in self.skipped)
            and (upto is None or record.offset < upto)
        ]


def judge(stores: Stores) -> None:
    """Raises Violation."""
    if stores.world.broken:
        raise Violation(stores.world.broken[0])
    for sink in stores.climate.sinks:
        for chapter in _chapters(stores, sink):
            _JUDGES[sink](stores, chapter)
        if sink == "recent":
            _nothing_else_is_recent(stores)
        if sink == "aggregates":
            _letters(stores)
        _ends(stores, sink)


def _chapters(stores: Stores, sink: WorkerName) -> Iterator[Chapter]:
    for source in stores.log.sources:
        lives = stores.log.lives[source.topic]
        epochs = {
            life.id: stores.epoch_of(sink, source.topic, stores.known_id(life)) for life in lives
        }
        for life in lives:
            records = list(read_all(source, life.partitions[source.partition]))
            skipped = stores.skipped.get((sink, life.id, source.partition), [])
            epoch = epochs[life.id]
            if epoch is None:
                # Never seen, so that nothing may be held; or the sink begins with this one.
                epoch = 0 if life is lives[-1] and 0 not in epochs.values() else -1
            yield Chapter(source, life, epoch, records, skipped, life is lives[-1])


def _aggregates(stores: Stores, chapter: Chapter) -> None:
    items = _items_of(stores, chapter)
    stretches = _stretches(stores, chapter)
    expected = _sum(naive_counts(map(_value, stretch)) for stretch in stretches)
    wrong = _difference(items, expected)
    if wrong is None:
        return
    if chapter.present and not chapter.skipped:
        raise Violation(f"counted wrong: {chapter.name} {wrong}")
    # Of a span that was left out, and of the end of a topic that is gone, an item may have counted
    # a beginning: a worker that dies between its items and its checkpoint.
    sure = {record.offset for stretch in stretches for record in stretch}
    spared = [r for r in _readable(chapter.records) if r.offset not in sure]
    cuts = [
        _sum([expected, naive_counts(map(_value, spared[:cut]))]) for cut in range(len(spared) + 1)
    ]
    for key in {*items, *expected}:
        mine = _timeless(items.get(key))
        if not any(mine == _timeless(cut.get(key)) for cut in cuts):
            raise Violation(f"counted wrong: {chapter.name} {key}: {mine}, whatever was left out")


def _timeless(counters: Counter[str] | None) -> Counter[str]:
    """Without what depends on the events before, which a span left out takes away."""
    return Counter({name: n for name, n in (counters or {}).items() if name not in _OF_TIME})


def _stretches(stores: Stores, chapter: Chapter) -> list[list[LogRecord]]:
    """What is counted, by stretches: after a span that is left out partition time begins anew."""
    upto = None
    if not chapter.present:
        upto = stores.checkpoint(
            "aggregates", chapter.source.topic, chapter.life.id, chapter.source.partition
        )
        upto = 0 if upto is None else upto
    stretches: list[list[LogRecord]] = [[]]
    ends = sorted(span.stop for span in chapter.skipped)
    for record in _readable(chapter.held(upto)):
        while ends and record.offset >= ends[0]:
            stretches.append([])
            ends.pop(0)
        stretches[-1].append(record)
    return stretches


def _items_of(stores: Stores, chapter: Chapter) -> Counts:
    """The counters of one source, item by item."""
    wanted = Source(source_name(chapter.source.topic, chapter.epoch), chapter.source.partition)
    counts: Counts = {}
    table = stores.dynamo.tables.get(AGGREGATES)
    for (partition, sort), item in table.items.items() if table else ():
        key, source = parse(partition, sort)
        if source == wanted:
            name = (*key,) if key.member else (*key[:4],)
            counts[name] = Counter(
                {n: int(v["N"]) for n, v in item.items() if n not in {"pk", "sk", "upto"}}
            )
    return counts


def _difference(found: Counts, expected: Counts) -> str | None:
    for key in sorted({*found, *expected}):
        mine, theirs = found.get(key, Counter()), expected.get(key, Counter())
        if mine != theirs:
            return f"{key}: {dict(mine)} instead of {dict(theirs)}"
    return None


def _recent(stores: Stores, chapter: Chapter) -> None:
    items = stores.dynamo.tables[RECENT].items if RECENT in stores.dynamo.tables else {}
    if not chapter.present:
        return
    for record in _readable(chapter.held(None)):
        item = items.get((decode(record.value).envelope.id,))
        if item is None:
            raise Violation(f"not listed: {chapter.name}@{record.offset}")
        if item["data"]["S"].encode() != record.value:
            raise Violation(f"listed with other words: {chapter.name}@{record.offset}")


def _nothing_else_is_recent(stores: Stores) -> None:
    """An item an event id is DynamoDB's; that each is of an event on the log is ours."""
    known = {
        decode(record.value).envelope.id
        for chapter in _chapters(stores, "recent")
        for record in _readable(chapter.records)
    }
    table = stores.dynamo.tables.get(RECENT)
    for (event_id,) in table.items if table else ():
        if event_id not in known:
            raise Violation(f"phantom: {event_id} is listed, and not on the log")


def _archive(stores: Stores, chapter: Chapter) -> None:
    """The chain is whole, and its lines are the log's records, byte for byte."""
    lines: list[bytes] = []
    position: int | None = None
    skips = {span.start: span.stop for span in chapter.skipped}
    for key in stores.chain_keys(chapter.source, chapter.epoch):
        stored = stores.s3.objects[str(key)]
        link = link_of(stored.metadata)
        follows = position is None or link.start in {position, skips.get(position)}
        if not follows:
            raise Violation(f"chain broken: {key} starts at {link.start}, not {position}")
        if link.topic_id != stores.topics()[chapter.source.topic].id and chapter.present:
            raise Violation(f"chain broken: {key} is of {link.topic_id}")
        position = link.next
        lines += unpack(stored.body).splitlines(keepends=True)
    upto = None if chapter.present else position or 0
    expected = chapter.held(upto)
    found = [(attributes_of(line)["offset"], value_of(line)) for line in lines]
    if found != [(record.offset, record.value) for record in expected]:
        offsets = [offset for offset, _ in found]
        wanted = [record.offset for record in expected]
        raise Violation(f"archived wrong: {chapter.name} {offsets} instead of {wanted}")


def _letters(stores: Stores) -> None:
    """Each unreadable record has one letter; of a life that is over perhaps none."""
    found = Counter(
        (headers["dlq_topic"], headers.get("dlq_epoch", b"0"), headers["dlq_partition"], offset)
        for headers in (dict(entry.headers) for entry in stores.log.letters())
        for offset in (headers["dlq_offset"],)
    )
    for chapter in _chapters(stores, "aggregates"):
        topic, part = chapter.source.topic.encode(), str(chapter.source.partition).encode()
        epoch = str(chapter.epoch).encode()
        must = {record.offset for record in chapter.held(None)} if chapter.present else set()
        for record in chapter.records:
            letters = found.pop((topic, epoch, part, str(record.offset).encode()), 0)
            if letters > 1:
                raise Violation(f"letters doubled: {chapter.name}@{record.offset}")
            if letters and _is_event(record):
                raise Violation(f"letter of an event: {chapter.name}@{record.offset}")
            if not letters and record.offset in must and not _is_event(record):
                raise Violation(f"letter lost: {chapter.name}@{record.offset}")
    if found:
        raise Violation(f"phantom letter: {min(found)}")


def _ends(stores: Stores, sink: WorkerName) -> None:
    """Nothing is left: the sink and its group are at the log's end."""
    for source in stores.log.sources:
        end = stores.log.range(source).end
        committed = stores.groups[sink].committed.get(source)
        if committed != end and end:
            raise Violation(
                f"left: {sink} has committed {committed} of {source}, which ends at {end}"
            )
        if not stores.is_stored(sink, source, end):
            raise Violation(f"left: {sink} has not stored {source} up to {end}")


def _readable(records: Sequence[LogRecord]) -> list[LogRecord]:
    return [record for record in records if _is_event(record)]


def _is_event(record: LogRecord) -> bool:
    try:
        decode(record.value)
    except EventRejected:
        return False
    return True


def _value(record: LogRecord) -> bytes:
    assert record.value is not None
    return record.value


def _sum(parts: "Iterator[Counts] | Sequence[Counts]") -> Counts:
    total: Counts = {}
    for part in parts:
        for key, counters in part.items():
            total.setdefault(key, Counter()).update(counters)
    return total


_JUDGES = {"aggregates": _aggregates, "recent": _recent, "archive": _archive}
