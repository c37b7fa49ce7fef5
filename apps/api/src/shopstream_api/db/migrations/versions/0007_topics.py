"""The topics that the relay uses, and where topics got more partitions."""

from typing import Final

from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"

_TOPICS: Final = """
CREATE TABLE relay_topics (
    topic      text        PRIMARY KEY,
    -- Kafka's own: another one is another topic, whose offsets mean something else.
    topic_id   text        NOT NULL,
    partitions integer     NOT NULL,
    -- How often an operator has adopted a topic made again.
    generation integer     NOT NULL DEFAULT 0,
    since      timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE topic_boundaries (
    topic      text        NOT NULL,
    topic_id   text        NOT NULL,
    -- After the change.
    partitions integer     NOT NULL,
    -- The next offset of each partition there was, by its number: all below comes before all else.
    ends       bigint[]    NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, topic_id, partitions)
);
"""


def upgrade() -> None:
    """Two tables that older code does not know."""
    op.execute(_TOPICS)


def downgrade() -> None:
    """The next relay takes the topics as it finds them."""
    op.execute("DROP TABLE topic_boundaries")
    op.execute("DROP TABLE relay_topics")
