"""What `topics adopt` says of a topic that is gone, where its archive's writer had died."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.support.analytics import Analytics, s3_client, sinks_target
from tests.support.components import LocalComponents

from shopstream_shared.archive.keys import Link, Place, object_key
from shopstream_stack.topics.sinks import ARCHIVE, NewLife, adopt

HOUR_MS = 3_600_000
OLD = Place("shop.orders", 0)


@pytest.mark.parametrize(
    ("ends", "lost"), [((200,), "0 offsets"), ((230,), "30 offsets"), ((), "how far")]
)
def test_what_a_writer_stored_before_it_died_is_not_said_to_be_lost(
    components: LocalComponents, tmp_path: Path, ends: tuple[int, ...], lost: str
) -> None:
    target = sinks_target(Analytics.fresh(components, tmp_path))
    client: Any = s3_client(components.environ_of("minio"))
    with closing(client) as s3:
        s3.create_bucket(Bucket=target.archive_bucket)
        # The clock went back: by its key the last object comes before the one the hint names.
        for start, hour in ((0, 500_001), (100, 500_000)):
            link = Link(start, start + 100, start, start + 99, 100, "0" * 64, "old")
            s3.put_object(
                Bucket=target.archive_bucket,
                Key=object_key(OLD, start, hour * HOUR_MS),
                Metadata=link.metadata(),
            )
        hint = {"next": 100, "topicId": "old", "key": object_key(OLD, 0, 500_001 * HOUR_MS)}
        s3.put_object(
            Bucket=target.archive_bucket,
            Key=f"_positions/{OLD.topic}/{OLD.partition}",
            Body=json.dumps(hint).encode(),
        )
    found = adopt(target, [NewLife(OLD.topic, "new", 1, 1, ends)])
    (archived,) = (one for one in found if one.sink == ARCHIVE)
    assert archived.state == "adopted"
    assert archived.detail.startswith(lost)
