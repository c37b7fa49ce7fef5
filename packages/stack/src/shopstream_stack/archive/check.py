"""`archive verify`: every chain walked, every line read, nothing beside them (rules 22-24).

Needs nothing but the bucket. That the chains hold what the log held is `shopstream verify`'s.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from shopstream_shared.archive.keys import HINTS, Damaged, ObjectKey, Place, hour_of
from shopstream_shared.archive.lines import Record, read_line
from shopstream_shared.archive.reader import Bucket, Fault, Hint, Walk, index_of

#: Of each chain; all are counted.
SHOWN_MAX: Final = 10
#: A hint is a line of JSON.
HINT_BYTES_MAX: Final = 65_536
_HINT: Final = re.compile(
    rf"{HINTS}/(?:epoch=[1-9][0-9]*/)?(?P<topic>[A-Za-z0-9._-]+)/(?P<partition>[0-9]+)"
)


@dataclass(slots=True)
class Checked:
    """One chain. ``start`` and ``next``: which positions it covers."""

    generation: int
    place: Place
    objects: int = 0
    records: int = 0
    start: int | None = None
    next: int = 0
    topic_id: str = ""
    #: How many; the first of them as they are.
    faults: int = 0
    shown: list[Fault] = field(default_factory=list)

    def found(self, fault: Fault) -> None:
        """Take note of something that is wrong."""
        self.faults += 1
        if len(self.shown) < SHOWN_MAX:
            self.shown.append(fault)


@dataclass(slots=True)
class Report:
    """All chains, and what belongs to none."""

    chains: list[Checked] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    #: What is wrong with the hints.
    hints: list[str] = field(default_factory=list)
    #: Lifecycle rules that would end objects of a chain.
    rules: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        wrong = self.strange or self.hints or self.rules
        return not wrong and not any(chain.faults for chain in self.chains)


class Check:
    """One check of the chains of some topics, while writers may go on."""

    def __init__(self, bucket: Bucket, topics: Sequence[str], rules: Sequence[str]) -> None:
        self._bucket = bucket
        self._report = Report(rules=list(rules))
        # Before the listing, so that what a hint names must be in it.
        self._hints = list(self._read_hints(topics))
        self._index = index_of(bucket, topics)

    def __len__(self) -> int:
        """How many objects will be read."""
        return len(self._index)

    def run(self, advance: Callable[[int], None]) -> Report:
        """Walk all chains; ``advance`` is told of each object."""
        report = self._report
        report.strange += self._index.strange
        for generation, place in self._index.chains():
            report.chains.append(self._chain(generation, place, advance))
        ends = {(one.place, one.topic_id): one for one in report.chains}
        for key, place, hint in self._hints:
            self._hint(key, hint, ends.get((place, hint.topic_id)))
        return report

    def _chain(self, generation: int, place: Place, advance: Callable[[int], None]) -> Checked:
        checked = Checked(generation, place)
        walk = Walk(self._bucket, place, fault=checked.found)
        for key in self._index.keys(place, generation):
            first = True
            for some in walk.object(key):
                for line in some.lines:
                    try:
                        record = read_line(line, place)
                    except Damaged as error:
                        fault = Fault("damaged", "a line that can be read", str(error), key)
                        checked.found(fault)
                        continue
                    if first:
                        _named_after(key, record, checked)
                        first = False
            advance(1)
        checked.objects, checked.records = walk.objects, walk.records
        checked.start, checked.next, checked.topic_id = walk.start, walk.next, walk.topic_id or ""
        return checked

    def _read_hints(self, topics: Sequence[str]) -> Iterator[tuple[str, Place, Hint]]:
        """Key, partition and hint, of every generation."""
        for stored in self._bucket.list(f"{HINTS}/"):
            found = _HINT.fullmatch(stored.key)
            if found is None:
                self._report.strange.append(stored.key)
            elif found["topic"] in topics:
                try:
                    with self._bucket.open(stored.key) as content:
                        body = b"".join(content.chunks(HINT_BYTES_MAX))
                    hint = msgspec.json.decode(body, type=Hint)
                except (KeyError, msgspec.MsgspecError) as error:
                    self._report.hints.append(f"{stored.key} cannot be read: {error}")
                else:
                    yield stored.key, Place(found["topic"], int(found["partition"])), hint

    def _hint(self, key: str, hint: Hint, chain: Checked | None) -> None:
        """A hint is written after the object that it names, and never ahead of it."""
        if hint.key and not self._index.has(hint.key):
            self._report.hints.append(f"the hint {key} names {hint.key}, which is not there")
        if chain is not None and hint.next > chain.next:
            self._report.hints.append(
                f"the hint {key} says {hint.next}, its chain ends at {chain.next}"
            )


def _named_after(key: str, record: Record, checked: Checked) -> None:
    """An object's key is a function of its first record."""
    read = ObjectKey.read(key)
    ought = read._replace(first=record.offset, hour=hour_of(record.timestamp))
    if ought != read:
        checked.found(Fault("damaged", f"the key of its first record, {ought}", key, key))
