"""Under which keys of the indexes an event of RecentEvents lies.

A hash key of an index takes 1,000 write units a second, and an event takes one for each KB of it,
so a large seller, or a type that comes often, would hold back the whole table: a hot index
throttles every write. With shards a seller's or a type's events are spread over so many keys, by a
hash of the event's id; a reader reads all of them. One shard is none: then the keys are the plain
attributes. A subject's events are few: it needs no shards.

The number may grow: events of before lie under keys that stay among those that are read. It may
shrink only once the last event of before has expired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from zlib import crc32

from shopstream_shared.events.envelope import Envelope

SHARDS_MAX: Final = 64


class IndexKey(NamedTuple):
    """One hash key of one index."""

    index_name: str
    attribute: str
    value: str


class _Index(NamedTuple):
    """``plain``: index and attribute without shards; ``sharded``: with them."""

    plain: tuple[str, str]
    sharded: tuple[str, str]


_SELLER: Final = _Index(("bySeller", "sellerId"), ("bySellerShard", "sellerShard"))
_TYPE: Final = _Index(("byType", "eventType"), ("byTypeShard", "typeShard"))
_SUBJECT: Final = _Index(("bySubject", "subject"), ("bySubject", "subject"))
_INDEXES: Final[Mapping[str, _Index]] = {
    "sellerId": _SELLER,
    "eventType": _TYPE,
    "subject": _SUBJECT,
}


@dataclass(frozen=True, slots=True)
class RecentIndexes:
    """The indexes of a table whose sellers and types have so many shards."""

    shards: int = 1

    def attributes_of(self, envelope: Envelope) -> dict[str, Any]:
        """The attributes that only the indexes need, as DynamoDB has them."""
        if self.shards == 1:
            return {}
        shard = crc32(envelope.id.encode()) % self.shards
        return {
            _SELLER.sharded[1]: {"S": _key(shard, envelope.sellerid)},
            _TYPE.sharded[1]: {"S": _key(shard, envelope.type)},
        }

    def of_table(self) -> tuple[tuple[str, str], ...]:
        """(hash attribute, name) of each index."""
        return tuple((self._index(name)[1], self._index(name)[0]) for name in _INDEXES)

    def keys_of(self, attribute: str, value: str) -> Sequence[IndexKey]:
        """Where all events lie whose attribute has this value."""
        index, key = self._index(attribute)
        if key == attribute:
            return [IndexKey(index, key, value)]
        return [IndexKey(index, key, _key(shard, value)) for shard in range(self.shards)]

    def _index(self, attribute: str) -> tuple[str, str]:
        index = _INDEXES[attribute]
        return index.plain if self.shards == 1 else index.sharded


def _key(shard: int, value: str) -> str:
    # The number first: no value can end in what looks like one.
    return f"{shard}#{value}"
