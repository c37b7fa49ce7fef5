"""What an archive holds, offset by offset: the objects' own lines, not their metadata."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import zstandard

from shopstream_stack.bench.analytics.feed import Backlog
from shopstream_stack.bench.analytics.place import Place, Stores

#: A line begins with topic, partition and offset; an event's own text cannot begin a line.
_LINE: Final = re.compile(rb'^\{"topic":"([^"]+)","partition":(\d+),"offset":(\d+),', re.MULTILINE)


def faults_of(stores: Stores, backlog: Backlog) -> list[str]:
    """Offsets of the backlog that are there twice or not at all, a line a kind."""
    found = Counter(_offsets(stores))
    wanted = {
        (place, offset)
        for place, start in backlog.starts.items()
        for offset in range(start, backlog.ends[place])
    }
    lost, doubled = len(wanted - found.keys()), sum(found[one] > 1 for one in wanted)
    named = {"lost": lost, "doubled": doubled, "of nobody": len(found.keys() - wanted)}
    return [f"{count:,} offsets {name} in the archive" for name, count in named.items() if count]


def chain_faults(stores: Stores) -> list[str]:
    """Objects whose `start` is not the `next` of the one before (protocol rule 22)."""
    links: dict[Place, list[tuple[int, int]]] = {}
    for key in _keys(stores):
        bucket = stores.target.archive_bucket
        metadata = stores.s3.head_object(Bucket=bucket, Key=key)["Metadata"]
        topic, partition, _ = key.rpartition("/")[2].split("+")
        link = int(metadata["start"]), int(metadata["next"])
        links.setdefault((topic, int(partition)), []).append(link)
    return [
        f"{place[0]}/{place[1]}: an object starts at {start}, the one before it ends at {end}"
        for place, found in links.items()
        for (_, end), (start, _) in zip(sorted(found), sorted(found)[1:], strict=False)
        if start != end
    ]


def _offsets(stores: Stores) -> Iterator[tuple[Place, int]]:
    bucket = stores.target.archive_bucket
    unpacker = zstandard.ZstdDecompressor()
    for key in _keys(stores):
        body = stores.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        text = unpacker.decompressobj().decompress(body)
        for line in _LINE.finditer(text):
            yield (line[1].decode(), int(line[2])), int(line[3])


def _keys(stores: Stores) -> Iterator[str]:
    pages = stores.s3.get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=stores.target.archive_bucket, Prefix="events/"):
        yield from (entry["Key"] for entry in page.get("Contents", ()))
