"""What a slow client gets once its socket has room again.

``resume``: everything (the hub closes it before too much waits). ``drop``: the newest that fit its
bound. ``latest``: the newest per (topic, subject), in log order, each with its own id (protocol
rule 28). What was left out is counted, and the client is told.
"""

from collections.abc import Sequence

from shopstream_notifications.client import Policy
from shopstream_notifications.records import Record


def select(
    policy: Policy, records: Sequence[Record], *, missed: int, bytes_max: int
) -> tuple[list[Record], int]:
    """(what to send, how many events were left out).

    ``records`` are those still in the log; ``missed`` counts all that matched since the client fell
    behind, so their difference has left the log already.
    """
    gone = max(0, missed - len(records))
    if policy == "resume":
        return list(records), gone
    # A superseded event is no loss: its successor says all.
    wanted = _newest_per_subject(records) if policy == "latest" else records
    kept = _newest(wanted, bytes_max)
    return kept, gone + len(wanted) - len(kept)


def _newest(records: Sequence[Record], bytes_max: int) -> list[Record]:
    kept: list[Record] = []
    size = 0
    for record in reversed(records):
        size += record.size
        if size > bytes_max and kept:
            break
        kept.append(record)
    kept.reverse()
    return kept


def _newest_per_subject(records: Sequence[Record]) -> list[Record]:
    newest = {(record.part[0], record.subject): record for record in records}
    return [r for r in records if newest[r.part[0], r.subject] is r]
