"""Outbox rows as requests leave them, many at a time, and the check that each became one event."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from shopstream_stack.bench.creates import create_products
from shopstream_stack.bench.evidence import new_seller, read_log
from shopstream_stack.bench.place import Place
from shopstream_stack.demo.log_reader import LogReader, Offsets
from shopstream_stack.errors import StackError

#: How many aggregates the rows of one wave are of.
SUBJECTS: Final = 1_000
FAULTS_MAX: Final = 5

#: Copies of one row, each with an id of its own, in turn of each subject, with rising sequences.
_INSERT: Final = """
INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms, txid,
                    txrows, shard)
SELECT id, %(aggregatetype)s, subject, %(type)s,
       convert_to(replace(replace(replace(%(payload)s, %(old_id)s, id::text),
           %(old_subject)s, subject), '"sequence":"1"', '"sequence":"' || sequence || '"'), 'UTF8'),
       %(topic)s,
       convert_to(replace(replace(replace(%(headers)s, %(old_id)s, id::text),
           %(old_subject)s, subject), '"ce_sequence","1"', '"ce_sequence","' || sequence || '"'),
           'UTF8'),
       %(time_ms)s, pg_current_xact_id()::text::bigint, 1, 0
FROM (
    SELECT g, uuidv7() AS id, (%(subjects)s::text[])[1 + g %% %(count)s] AS subject,
           1 + g / %(count)s AS sequence
    FROM generate_series(0, %(rows)s - 1) AS g
) AS made ORDER BY g
"""
_TEMPLATE: Final = """
SELECT id::text AS old_id, aggregatetype, aggregateid AS old_subject, type,
       convert_from(payload, 'UTF8') AS payload, topic, convert_from(headers, 'UTF8') AS headers,
       time_ms
FROM outbox ORDER BY seq DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Wave:
    """Rows that were written together, and where the log ended before."""

    subjects: Sequence[str]
    rows: int
    start: Offsets


@dataclass(slots=True)
class Rows:
    """Writes waves into the outbox; the template is what one POST /products has left there."""

    place: Place
    template: dict[str, Any]

    @classmethod
    def of(cls, place: Place) -> "Rows":
        """The relay must stand still. Raises StackError."""
        create_products(place, new_seller("template"), 1, stock=10)
        with place.connect() as connection:
            cursor = connection.execute(_TEMPLATE.encode())
            found = cursor.fetchone()
            names = [column.name for column in cursor.description or ()]
        if found is None:
            raise StackError("The product's event is not in the outbox")
        return cls(place, dict(zip(names, found, strict=True)))

    def write(self, connection: Any, rows: int) -> Wave:
        """Insert a wave in the connection's transaction; it is seen when that commits."""
        wave = Wave(_ids(min(rows, SUBJECTS)), rows, LogReader(self.place.brokers).ends())
        values = {"subjects": wave.subjects, "count": len(wave.subjects), "rows": rows}
        connection.execute(_INSERT, self.template | values)
        return wave

    def write_one(self, connection: Any) -> str:
        """Insert a first event; returns its subject."""
        (subject,) = _ids(1)
        connection.execute(_INSERT, self.template | {"subjects": [subject], "count": 1, "rows": 1})
        return subject


def _ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def check(place: Place, wave: Wave) -> list[str]:
    """What is wrong with a wave's committed events: each once, in order. Raises as `read_log`."""
    last = dict.fromkeys(wave.subjects, 0)
    faults: list[str] = []

    def count(message: Any) -> None:
        subject = message.key().decode()
        if subject not in last:
            return
        sequence = next(int(value) for name, value in message.headers() if name == "ce_sequence")
        if sequence != last[subject] + 1 and len(faults) < FAULTS_MAX:
            faults.append(f"{subject}: {sequence} follows {last[subject]}")
        last[subject] = sequence

    read_log(place, wave.start, count)
    for turn, subject in enumerate(wave.subjects):
        due = len(range(turn, wave.rows, len(wave.subjects)))
        if last[subject] != due:
            faults.append(f"{subject}: {last[subject]} of {due} events are on the log")
    return faults[:FAULTS_MAX]
