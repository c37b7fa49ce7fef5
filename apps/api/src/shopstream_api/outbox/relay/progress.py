"""The progress record: which outbox rows are on the log but not yet known to be deleted.

It rides in the same Kafka transaction as the events themselves (protocol rule 6), so it is there
exactly when they are. Numbers are written as ranges, since rows of a batch mostly follow each
other: ``{"v":1,"outbox":"<uuid>","seqs":[[1,500],[502,502]]}``. The outbox is named because a fresh
database on an old broker counts from 1 again: records of the old one must not delete its rows.
"""

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

#: Rule 6: more than this is never listed; the relay waits with new batches instead.
PROGRESS_SEQS_MAX: Final = 10_000


class _Record(msgspec.Struct, frozen=True):
    v: int
    outbox: str
    seqs: list[tuple[int, int]]


class _Named(msgspec.Struct, frozen=True):
    """What every format has, whatever else a later one may hold."""

    outbox: str


_decoder: Final = msgspec.json.Decoder(_Record)
_named: Final = msgspec.json.Decoder(_Named)


class UnreadableProgress(Exception):
    """The progress record is not one of ours: a person must look, for guessing could double."""


def ranges_of(seqs: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run of numbers that follow each other; together just ``seqs``."""
    found: list[tuple[int, int]] = []
    first = last = None
    for seq in sorted(set(seqs)):
        if first is None or last is None:
            first = seq
        elif seq != last + 1:
            found.append((first, last))
            first = seq
        last = seq
    if first is not None and last is not None:
        found.append((first, last))
    return found


def encode_progress(outbox: str, seqs: Iterable[int]) -> bytes:
    """Raises ValueError above PROGRESS_SEQS_MAX."""
    found = ranges_of(seqs)
    count = sum(last - first + 1 for first, last in found)
    if count > PROGRESS_SEQS_MAX:
        msg = f"{count} rows in one progress record; at most {PROGRESS_SEQS_MAX}"
        raise ValueError(msg)
    return msgspec.json.encode(_Record(1, outbox, found))


def outbox_of(value: bytes) -> str:
    """Whose record this is, of whatever format. Raises UnreadableProgress."""
    try:
        return _named.decode(value).outbox
    except msgspec.MsgspecError as error:
        raise UnreadableProgress(str(error)) from error


def decode_progress(value: bytes) -> tuple[str, Collection[int]]:
    """The outbox and its ``seq`` numbers listed. Raises UnreadableProgress."""
    try:
        record = _decoder.decode(value)
    except msgspec.MsgspecError as error:
        raise UnreadableProgress(str(error)) from error
    count = sum(last - first + 1 for first, last in record.seqs)
    if record.v != 1 or count > PROGRESS_SEQS_MAX:
        msg = f"version {record.v} with {count} rows"
        raise UnreadableProgress(msg)
    return record.outbox, [seq for first, last in record.seqs for seq in range(first, last + 1)]
