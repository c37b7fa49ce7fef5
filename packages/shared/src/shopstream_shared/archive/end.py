"""Where a partition's chain ends, without reading it.

The hint is written after the object, and not at all by a writer that died in between, so a chain
may be an object longer than its hint says. Where the clock went back, that object lies in an
earlier hour than the hint's own: only the listing of the whole topic is sure to have it.
"""

from collections.abc import Iterable

from shopstream_shared.archive.keys import Damaged, Link, ObjectKey, Place, topic_prefix
from shopstream_shared.archive.reader import Bucket, Hint, link_of, read_hint


def last_key(keys: Iterable[str], place: Place, last: ObjectKey | None = None) -> ObjectKey | None:
    """The last object of a chain among some keys of its topic and generation, and ``last``."""
    for text in keys:
        try:
            key = ObjectKey.read(text)
        except Damaged:
            continue
        if key.place == place and (last is None or key.first > last.first):
            last = key
    return last


def last_link(bucket: Bucket, place: Place, generation: int = 0, after: str = "") -> Link | None:
    """What the chain's last object says of itself; None without any.

    Lists the whole topic, or what has a key behind ``after``. Raises Damaged where the object is
    none of a chain.
    """
    stored = bucket.list(topic_prefix(place.topic, generation), after)
    last = last_key((one.key for one in stored), place)
    return None if last is None else link_of(bucket.head(str(last)))


def chain_end(
    bucket: Bucket, place: Place, generation: int = 0, *, enough: int | None = None
) -> int:
    """The position after the last object; 0 without any.

    With ``enough``, where the end is asked for again and again, the whole topic is listed only if
    neither the hint nor the objects behind the one it names reach so far; what comes back may then
    be less than the end, but not less than that. What cannot be read counts as not there.
    """
    hint = _hint(bucket, place, generation)
    if enough is None:
        return max(hint.next, _behind(bucket, place, generation, ""))
    end = hint.next
    for after in (hint.key, ""):
        if end >= enough:
            break
        end = max(end, _behind(bucket, place, generation, after))
    return end


def _hint(bucket: Bucket, place: Place, generation: int) -> Hint:
    try:
        return read_hint(bucket, place, generation) or Hint(0)
    except Damaged:
        return Hint(0)


def _behind(bucket: Bucket, place: Place, generation: int, after: str) -> int:
    try:
        link = last_link(bucket, place, generation, after)
    except (Damaged, KeyError):
        return 0
    return 0 if link is None else link.next
