"""Imports: their progress, the slices still to be worked, the rows that could not be applied."""

from typing import Final

from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"

_IMPORTS: Final = """
CREATE TABLE imports (
    id             uuid        PRIMARY KEY,
    -- The caller's, where it named one: its rows may be of no other seller.
    seller_id      text,
    status         text        NOT NULL,
    media_type     text        NOT NULL,
    -- The members that the columns of a CSV file are, in their order.
    header         text[],
    rows_created   bigint      NOT NULL,
    rows_updated   bigint      NOT NULL,
    rows_unchanged bigint      NOT NULL,
    rows_failed    bigint      NOT NULL,
    -- Of the upload's request: they stand on all that the import causes.
    request_id     text        NOT NULL,
    correlation_id text,
    traceparent    text,
    created_at     timestamptz NOT NULL,
    -- When a slice was last worked: the import that has waited longest is next.
    updated_at     timestamptz NOT NULL,
    CONSTRAINT imports_status_check CHECK (status IN ('running', 'done', 'failed'))
);
CREATE INDEX imports_waiting_idx ON imports (updated_at, id) WHERE status = 'running';
CREATE INDEX imports_ended_idx ON imports (updated_at) WHERE status <> 'running';
-- Without a foreign key: slices are staged before their import is known.
CREATE TABLE import_slices (
    import_id uuid        NOT NULL,
    first_row bigint      NOT NULL,
    records   bytea       NOT NULL,
    staged_at timestamptz NOT NULL,
    PRIMARY KEY (import_id, first_row)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE TABLE import_errors (
    import_id uuid   NOT NULL,
    row       bigint NOT NULL,
    code      text   NOT NULL,
    detail    text   NOT NULL,
    PRIMARY KEY (import_id, row)
);
"""


def upgrade() -> None:
    """Three tables that older code does not know."""
    op.execute(_IMPORTS)


def downgrade() -> None:
    """Imports that are not done are forgotten; what they have written stays."""
    for table in ("import_errors", "import_slices", "imports"):
        op.execute(f"DROP TABLE {table}")
