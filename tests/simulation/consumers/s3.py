"""S3 as a state machine: objects that are created once where that is asked for.

Modelled: conditional PUTs (``If-None-Match: *``, ``If-Match``), HEAD, GET and listings. Its methods
are named and shaped as boto3's; a body is bytes, the clients make a stream of it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.simulation.consumers.dynamo import refusal
from tests.simulation.consumers.pieces import Piece


class Stored(NamedTuple):
    """An object."""

    body: bytes
    metadata: Mapping[str, str]
    tag: str


class Body:
    """What boto3 gives for a body."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self) -> bytes:
        return self._content

    def iter_chunks(self, _size: int) -> Iterator[bytes]:
        yield self._content

    def close(self) -> None:
        """Nothing is open."""


class Pages:
    """The paginator of list_objects_v2."""

    def __init__(self, bucket: "SimS3") -> None:
        self._bucket = bucket

    def paginate(self, *, Prefix: str, StartAfter: str = "", **_: Any) -> list[dict[str, Any]]:  # noqa: N803 - S3's
        return [self._bucket.list_objects_v2(Prefix=Prefix, StartAfter=StartAfter)]


def _unseen(_key: str, _before: Stored | None, _after: Stored) -> None:
    """For who does not look."""


@dataclass(slots=True)
class SimS3:
    """One bucket. ``on_put`` sees each object before and after."""

    without: Piece | None = None
    on_put: Callable[[str, Stored | None, Stored], None] = _unseen
    objects: dict[str, Stored] = field(default_factory=dict)
    _tags: int = 0

    def put_object(
        self,
        *,
        Key: str,  # noqa: N803 - S3's
        Body: bytes,  # noqa: N803 - S3's
        Metadata: Mapping[str, str] | None = None,  # noqa: N803 - S3's
        **conditions: Any,
    ) -> dict[str, Any]:
        there = self.objects.get(Key)
        unless_there = conditions.get("IfNoneMatch") == "*"
        if unless_there and there is not None and self.without is not Piece.IF_NONE_MATCH:
            raise refusal("PutObject", "PreconditionFailed", status=412)
        wanted = conditions.get("IfMatch")
        if wanted is not None and (there is None or there.tag != wanted):
            raise refusal("PutObject", "PreconditionFailed", status=412)
        self._tags += 1
        stored = Stored(bytes(Body), dict(Metadata or {}), f'"{self._tags}"')
        self.on_put(Key, there, stored)
        self.objects[Key] = stored
        return {"ETag": stored.tag}

    def head_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803 - S3's
        if Key not in self.objects:
            # A HEAD has no body: the status is all there is.
            raise refusal("HeadObject", "404", status=404)
        return {"Metadata": dict(self.objects[Key].metadata), "ETag": self.objects[Key].tag}

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803 - S3's
        if Key not in self.objects:
            raise refusal("GetObject", "NoSuchKey", status=404)
        found = self.objects[Key]
        return {"Body": Body(found.body), "Metadata": dict(found.metadata), "ETag": found.tag}

    def list_objects_v2(self, *, Prefix: str, StartAfter: str = "") -> dict[str, Any]:  # noqa: N803 - S3's
        keys = [key for key in sorted(self.objects) if key.startswith(Prefix) and key > StartAfter]
        return {"Contents": [{"Key": key, "Size": len(self.objects[key].body)} for key in keys]}

    def get_paginator(self, _operation: str) -> Pages:
        return Pages(self)
