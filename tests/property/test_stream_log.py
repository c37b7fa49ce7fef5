"""The shared log's positions against a plain list of vectors."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.stream import EPOCH, PARTS, record

from shopstream_notifications.log import EventLog
from shopstream_notifications.records import Part, Record
from shopstream_shared.stream_id import StreamPosition


class Model:
    """What the log says in other words: every position that it ever had, by index."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.start = {part: self.chance.randrange(3) for part in PARTS}
        self.bytes_max = self.chance.choice((0, 1_500, 10**9))
        self.log = EventLog(EPOCH, self.start, bytes_max=self.bytes_max, seconds_max=100)
        self.records: list[Record] = []
        #: All positions at each index, oldest first: markers move it without a record.
        self.vectors: list[list[dict[Part, int]]] = [[dict(self.start)]]

    def step(self) -> None:
        part = self.chance.choice(PARTS)
        offset = self.vectors[-1][-1][part]
        batch = []
        for _ in range(self.chance.randrange(4)):
            offset += self.chance.choice((0, 0, 1))
            batch.append(record(part, offset))
            offset += 1
        end = offset + self.chance.choice((0, 0, 1))
        self.log.append(batch, {part: end}, 0.0)
        for entry in batch:
            self.records.append(entry)
            self.vectors.append([{**self.vectors[-1][-1], part: entry.offset + 1}])
        if end > self.vectors[-1][-1][part]:
            self.vectors[-1].append({**self.vectors[-1][-1], part: end})
        self.log.evict(0.0)

    def some_vector(self) -> dict[Part, int]:
        """Near positions that were: as another replica may have handed out."""
        now = self.vectors[-1][-1]
        return {
            part: self.chance.randint(max(0, now[part] - 4), now[part] + self.chance.randrange(2))
            for part in PARTS
        }


seeds = given(st.integers(min_value=0, max_value=2**32))


@settings(max_examples=150, deadline=None)
@seeds
def test_attach_skips_exactly_what_the_client_has(seed: int) -> None:
    model = Model(seed)
    for _ in range(12):
        model.step()
        wanted = model.some_vector()
        index = model.log.attach(wanted)
        base = model.log.base()
        if index is None:
            assert any(wanted[part] < base[part] for part in PARTS)
            continue
        missing = [r for r in model.records if r.offset >= wanted[r.part]]
        given_out = [r for r in model.log.read(index, model.log.end) if r.offset >= wanted[r.part]]
        assert given_out == missing
        # The latest such place: the record there is one that the client lacks.
        if index < model.log.end:
            first = model.log.read(index, index + 1)[0]
            assert first.offset >= wanted[first.part]


@settings(max_examples=150, deadline=None)
@seeds
def test_covered_is_never_said_too_early(seed: int) -> None:
    model = Model(seed)
    for _ in range(12):
        model.step()
        wanted = model.some_vector()
        now = model.vectors[-1][-1]
        index = model.log.covered_at(wanted)
        if index is None:
            assert any(now[part] < wanted[part] for part in PARTS)
        else:
            assert index <= model.log.end
            last = model.vectors[max(index, model.log.first)][-1]
            assert all(last[part] >= wanted[part] for part in PARTS)


@settings(max_examples=100, deadline=None)
@seeds
def test_every_record_carries_the_position_after_it(seed: int) -> None:
    model = Model(seed)
    for _ in range(12):
        model.step()
    for index, entry in enumerate(model.records):
        text = entry.id_line.removeprefix(b"id: ").rstrip(b"\n").decode()
        position = model.log.offsets_of(StreamPosition.decode(text))
        assert position == model.vectors[index + 1][0]
    assert model.log.position == model.vectors[-1][-1]


@settings(max_examples=100, deadline=None)
@seeds
def test_the_log_keeps_to_its_bound_and_counts_right(seed: int) -> None:
    model = Model(seed)
    for _ in range(12):
        model.step()
        log = model.log
        assert log.bytes <= model.bytes_max or log.first == log.end
        assert log.read(log.first, log.end) == model.records[log.first : log.end]
        assert log.end == len(model.records)


def test_the_log_forgets_what_is_older_than_its_age() -> None:
    log = EventLog(EPOCH, dict.fromkeys(PARTS, 0), bytes_max=10**9, seconds_max=60)
    for second in range(5):
        log.append([record(PARTS[0], second)], {PARTS[0]: second + 1}, float(second))
    log.evict(62.5)
    assert (log.first, log.end) == (3, 5)
    assert log.base()[PARTS[0]] == 3


def test_trimming_in_pieces_loses_no_place() -> None:
    log = EventLog(EPOCH, dict.fromkeys(PARTS, 0), bytes_max=50_000, seconds_max=10**9)
    part = PARTS[1]
    for offset in range(5_000):
        log.append([record(part, offset)], {part: offset + 1}, 0.0)
        log.evict(0.0)
    assert log.end == 5_000
    wanted = dict.fromkeys(PARTS, 0) | {part: 4_950}
    assert log.attach(wanted) == 4_950
    assert log.read(4_950, 4_952)[0].offset == 4_950
    assert log.attach(wanted | {part: log.base()[part] - 1}) is None
