"""What a dead letter says of the record it is a copy of: its headers, written and read here.

A letter keeps the record's own headers and has ours after them; of a repeated name ours is the
last. Whoever may write to the topic may write anything, so that a record without all of ours, or
with others in their place, is no letter.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

Header = tuple[str, bytes | str | None]
Headers = Mapping[str, bytes | str | None] | Iterable[Header]

#: A detail quotes parsers, who may quote the record.
DETAIL_CHARACTERS_MAX: Final = 500
#: Of a number of 64 bits with its sign.
_DIGITS_MAX: Final = 18
_EPOCH: Final = "dlq_epoch"


class LetterHead(NamedTuple):
    """Which record the letter is a copy of, and why it was set aside.

    ``epoch``: of the topic's lives, 0 the first; an offset stands for another record in each.
    """

    topic: str
    partition: int
    offset: int
    epoch: int
    reason: str
    detail: str


def head_headers(head: LetterHead, group: str, own: Iterable[Header]) -> list[Header]:
    """All headers of a letter: the record's ``own``, then ours.

    The first life's epoch is only told where the record has a header that would be taken for it.
    """
    kept = list(own)
    told = head.epoch or any(name == _EPOCH for name, _ in kept)
    return [
        *kept,
        ("dlq_reason", head.reason.encode()),
        ("dlq_detail", head.detail[:DETAIL_CHARACTERS_MAX].encode(errors="replace")),
        ("dlq_topic", head.topic.encode()),
        ("dlq_partition", str(head.partition).encode()),
        ("dlq_offset", str(head.offset).encode()),
        ("dlq_group", group.encode()),
        *([(_EPOCH, str(head.epoch).encode())] if told else ()),
    ]


def read_head(headers: Headers | None) -> LetterHead | None:
    """The reverse of `head_headers`; None for a record of the topic that is no letter of ours."""
    said = {name: _bytes(value) for name, value in dict(headers or ()).items()}
    try:
        return LetterHead(
            topic=said["dlq_topic"].decode(),
            partition=_number(said["dlq_partition"]),
            offset=_number(said["dlq_offset"]),
            epoch=_number(said.get(_EPOCH, b"0")),
            reason=said["dlq_reason"].decode(),
            detail=said["dlq_detail"].decode(errors="replace"),
        )
    except (KeyError, ValueError):
        return None


def _number(text: bytes) -> int:
    """Raises ValueError for what we would not have written."""
    if not text.isdigit() or len(text) > _DIGITS_MAX:
        raise ValueError(text)
    return int(text)


def _bytes(value: bytes | str | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
