"""Are the broker's topics still those that the outbox was published to (protocol rules 13, 14)?

A topic made again begins at offset 0, where readers would take its records for old ones, and a
progress topic made again says that nothing was published. More partitions that nobody waited for
put the later part of a key's history where a reader may come first. Both need a person.
"""

from shopstream_api.outbox.relay.ports import Topics
from shopstream_shared.topics import STREAM_TOPICS


class TopicsChanged(Exception):
    """The relay must not publish until an operator has decided; the text has the remedy."""


def require_same(found: Topics, stored: Topics) -> Topics:
    """The topics as found, if they are those of the store, which knows them all.

    Raises TopicsChanged.
    """
    again = [topic for topic, state in stored.items() if topic_id(found, topic) != state.id]
    if again:
        raise TopicsChanged(
            f"topic_recreated: {', '.join(sorted(again))} is gone or was made again; "
            "nothing is published until `shopstream topics adopt`"
        )
    grown = [t for t in STREAM_TOPICS if found[t].partitions != stored[t].partitions]
    if grown:
        raise TopicsChanged(
            f"partitions_changed: {', '.join(grown)}; "
            "nothing is published until `shopstream topics apply`"
        )
    return found


def topic_id(topics: Topics, topic: str) -> str | None:
    """Its id, None for a topic that is not there."""
    state = topics.get(topic)
    return None if state is None else state.id
