"""`archive manifest`: a day's chain objects in one list, to be held against the bucket later.

``_manifests/topic=T/year=…/month=…/day=…/manifest.json`` lies outside the chain and may be written
again. Whoever keeps a copy elsewhere can tell later, without the log, whether anything of that day
has gone or changed: sizes and sha256 are in it, and its own sha256 is printed.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from shopstream_shared.archive.keys import MANIFESTS, ObjectKey, below, day_prefix
from shopstream_stack.archive.listing import Selection, objects
from shopstream_stack.archive.place import ArchivePlace
from shopstream_stack.errors import StackError


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was written; ``sha256`` is of its bytes."""

    key: str
    objects: int
    records: int
    bytes: int
    sha256: str


def manifest_key(topic: str, day: str, generation: int = 0) -> str:
    """Where a day's manifest lies."""
    return f"{below(MANIFESTS, day_prefix(topic, day, generation))}manifest.json"


def write_manifest(place: ArchivePlace, topic: str, day: str, generation: int = 0) -> Manifest:
    """Make the day's list and store it. Raises StackError."""
    rows = _rows(place, topic, day, generation)
    records = sum(row["count"] for row in rows)
    size = sum(row["bytes"] for row in rows)
    said = {
        "topic": topic,
        "day": day,
        "generation": generation,
        "objects": rows,
        "records": records,
        "bytes": size,
    }
    body = (json.dumps(said, indent=1) + "\n").encode()
    key = manifest_key(topic, day, generation)
    try:
        place.client.put_object(
            Bucket=place.bucket.name, Key=key, Body=body, ContentType="application/json"
        )
    except (BotoCoreError, ClientError) as error:
        raise place.bucket.away(error) from error
    return Manifest(key, len(rows), records, size, hashlib.sha256(body).hexdigest())


def held_against(place: ArchivePlace, manifest: dict[str, Any]) -> list[str]:
    """What of a manifest is not in the bucket as it says; objects that came later are no fault.

    Raises StackError for a file that is no manifest.
    """
    try:
        topic, day, generation = manifest["topic"], manifest["day"], manifest["generation"]
        listed = {row["key"]: row for row in manifest["objects"]}
    except (KeyError, TypeError):
        raise StackError("this is no manifest that `archive manifest` wrote") from None
    there = {row["key"]: row for row in _rows(place, topic, day, generation)}
    wrong = []
    for key, row in listed.items():
        if key not in there:
            wrong.append(f"{key} is not there any more")
        elif there[key] != row:
            names = [name for name in row if row[name] != there[key].get(name)]
            wrong.append(f"{key} has another {', '.join(names)}")
    return wrong


def _rows(place: ArchivePlace, topic: str, day: str, generation: int) -> list[dict[str, Any]]:
    wanted = Selection(topics=(topic,), day=day, generation=generation)
    rows = []
    for one in objects(place.bucket, wanted):
        if one.link is None:
            raise StackError(f"{one.key} is damaged; see `shopstream archive verify`")
        rows.append({"key": one.key, "bytes": one.bytes, **asdict(one.link)})
    return sorted(rows, key=lambda row: ObjectKey.read(row["key"]))
