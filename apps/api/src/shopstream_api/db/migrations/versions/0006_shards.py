"""How many shards the outbox has, and the housekeeping of what a relay writes at every batch."""

from typing import Final

from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"

_SHARDS: Final = """
-- One row: protocol rule 4 changes it only while no relay runs and the outbox is empty.
CREATE TABLE outbox_shards (
    one   boolean  PRIMARY KEY DEFAULT true,
    count smallint NOT NULL,
    CONSTRAINT outbox_shards_one_check CHECK (one),
    CONSTRAINT outbox_shards_count_check CHECK (count BETWEEN 1 AND 64)
);
INSERT INTO outbox_shards (count) VALUES (1);
"""

#: A row a shard, written again at every batch: new versions go where the old ones were (HOT), as
#: long as the page has room for those that some snapshot still sees.
_HOUSEKEEPING: Final = """
ALTER TABLE stream_position SET (
    fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000
);
"""


def upgrade() -> None:
    """Older code writes shard 0, which is right as long as there is one."""
    op.execute(_SHARDS)
    op.execute(_HOUSEKEEPING)


def downgrade() -> None:
    """Right only while there is one shard."""
    op.execute("""
        ALTER TABLE stream_position RESET (
            fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
            autovacuum_analyze_scale_factor, autovacuum_analyze_threshold
        )
    """)
    op.execute("DROP TABLE outbox_shards")
