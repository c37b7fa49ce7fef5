"""How far a partition's chain has come, without walking it."""

from shopstream_shared.archive.keys import Damaged, ObjectKey, Place, topic_prefix
from shopstream_shared.archive.reader import Bucket, Hint, link_of, read_hint


def chain_end(bucket: Bucket, topic: str, epoch: int, partition: int) -> int:
    """The position after the last object; 0 without any. The hint says where to begin to look."""
    place = Place(topic, partition)
    hint = _hint(bucket, place, epoch)
    first, last = -1, ""
    for stored in bucket.list(topic_prefix(topic, epoch), hint.key):
        try:
            key = ObjectKey.read(stored.key)
        except Damaged:
            continue
        if key.place == place and key.first > first:
            first, last = key.first, stored.key
    return max(hint.next, link_of(bucket.head(last)).next) if last else hint.next


def _hint(bucket: Bucket, place: Place, epoch: int) -> Hint:
    try:
        return read_hint(bucket, place, epoch) or Hint(0)
    except Damaged:
        return Hint(0)
