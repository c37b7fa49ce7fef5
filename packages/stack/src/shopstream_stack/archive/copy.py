"""`archive get`: objects copied to a folder, for tools that read files, such as DuckDB."""

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shopstream_shared.archive.keys import (
    EVENTS,
    PARQUET,
    Damaged,
    ObjectKey,
    below,
    day_prefix,
    topic_prefix,
)
from shopstream_shared.archive.reader import CHUNK_BYTES, Bucket, Stored, generations
from shopstream_stack.archive.listing import Selection, select
from shopstream_stack.errors import StackError

#: What `archive compact` makes. Keys become paths, and S3 has nothing against dots in them.
_PART: Final = re.compile(
    rf"{PARQUET}(?:epoch=(?P<generation>[1-9][0-9]*)/)?topic=(?P<topic>[A-Za-z0-9._-]+)/"
    r"year=(?P<year>[0-9]{4})/month=(?P<month>[0-9]{2})/day=(?P<day>[0-9]{2})/"
    r"part-[0-9]{5,}\.parquet"
)


@dataclass(slots=True)
class Copied:
    """What a call did; ``kept`` were there already, whole."""

    copied: int = 0
    kept: int = 0
    bytes: int = 0


def wanted_objects(bucket: Bucket, wanted: Selection, *, parquet: bool) -> list[Stored]:
    """The chain's objects, or the Parquet parts that `archive compact` made."""
    if not parquet:
        return [stored for _, stored in select(bucket, wanted)]
    return list(_parts(bucket, wanted))


def check_folder(folder: Path, wanted: Selection, objects: list[Stored], *, parquet: bool) -> None:
    """Raise StackError where the folder holds what the archive does not.

    Such files are another archive's, or from before the chains were begun anew; queries over the
    folder would count them.
    """
    known = {stored.key for stored in objects}
    head = PARQUET if parquet else EVENTS
    there = (path.relative_to(folder).as_posix() for path in (folder / head).rglob("*.*"))
    strange = sorted(key for key in there if key not in known and _is_meant(key, wanted))
    if strange:
        raise StackError(
            f"{folder} holds {len(strange)} files that the archive does not have, such as "
            f"{strange[0]}: they are another archive's, or older than this one. Delete them or "
            "name an empty folder."
        )


def _is_meant(key: str, wanted: Selection) -> bool:
    """Whether a file of this name would be among the objects that are wanted."""
    if part := _PART.fullmatch(key):
        day = "-".join(part.group("year", "month", "day"))
        generation, topic, partition = int(part["generation"] or 0), part["topic"], None
    else:
        try:
            found = ObjectKey.read(key)
        except Damaged:
            return False
        day, generation, topic, partition = (
            found.day,
            found.generation,
            found.topic,
            found.partition,
        )
    return (
        topic in wanted.topics
        and wanted.day in {"", day}
        and wanted.generation in {None, generation}
        and wanted.partition in {None, partition}
    )


def copy(
    bucket: Bucket, objects: list[Stored], folder: Path, advance: Callable[[int], None]
) -> Copied:
    """Copy under the objects' own keys; a file is there whole, or not at all.

    Raises StackError where an object is not what its sha256 says.
    """
    done = Copied()
    for stored in objects:
        path = folder / stored.key
        with bucket.open(stored.key) as content:
            sha256 = content.metadata.get("sha256", "")
            if path.is_file() and path.stat().st_size == stored.bytes and _is(path, sha256):
                done.kept += 1
            else:
                _write(path, content.chunks(CHUNK_BYTES), sha256, stored.key)
                done.copied += 1
                done.bytes += stored.bytes
        advance(1)
    return done


def _parts(bucket: Bucket, wanted: Selection) -> Iterator[Stored]:
    lives = generations(bucket) if wanted.generation is None else [wanted.generation]
    for topic in wanted.topics:
        for life in lives:
            prefix = (
                day_prefix(topic, wanted.day, life) if wanted.day else topic_prefix(topic, life)
            )
            for stored in bucket.list(below(PARQUET, prefix)):
                if _PART.fullmatch(stored.key):
                    yield stored


def _is(path: Path, sha256: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _write(path: Path, chunks: Iterator[bytes], sha256: str, key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        fresh = Path(file.name)
        try:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
        except BaseException:
            fresh.unlink()
            raise
    if digest.hexdigest() != sha256:
        fresh.unlink()
        raise StackError(f"{key} is not what its sha256 says; see `shopstream archive verify`")
    fresh.chmod(0o644)
    fresh.replace(path)
