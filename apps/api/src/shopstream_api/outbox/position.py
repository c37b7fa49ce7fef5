"""Where a read stands in the stream: the positions of all shards as one (protocol rule 29).

A statement that joins ``READ_POSITION`` to its rows takes both from one snapshot. What each shard's
position covers is on the log, so it was committed before, so the snapshot shows it, whichever
shard's it is: the component-wise maximum is safe, and as new as any of them (ADR 0025).
"""

from functools import lru_cache
from typing import Final

from sqlalchemy import Subquery, func, literal_column, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from shopstream_api.outbox.models import stream_position
from shopstream_shared.stream_id import StreamPosition, newest

#: Between writes all reads see the same positions.
_CACHED_MAX: Final = 256
_SEPARATOR: Final = " "
_STORED: Final = stream_position.c

#: One row: the ids of all shards, the one stored last first; NULL until a relay has stored one.
#: Shards that are no longer used keep theirs, which are only older.
READ_POSITION: Final[Subquery] = select(
    func.string_agg(
        _STORED.stream_id,
        aggregate_order_by(
            literal_column(f"'{_SEPARATOR}'"), _STORED.updated_at.desc().nulls_last()
        ),
    ).label("stream_id")
).subquery("position")

#: The same for statements that are written out.
READ_POSITION_SQL: Final = f"""
(SELECT string_agg(stream_id, '{_SEPARATOR}' ORDER BY updated_at DESC NULLS LAST) AS stream_id
 FROM stream_position) AS position
"""  # noqa: S608 - put together from constants


def one_id(stored: str | None) -> str | None:
    """The stream id of what a statement found as ``stream_id``; None where there is none yet.

    Raises MalformedStreamId for ids of several shards of which one is none.
    """
    # With one shard, the default, nothing is read: the id goes out as the relay stored it.
    return stored if stored is None or _SEPARATOR not in stored else _joined(stored)


@lru_cache(_CACHED_MAX)
def _joined(stored: str) -> str:
    return newest([StreamPosition.decode(each) for each in stored.split(_SEPARATOR)]).encode()
