"""Orders: what each refund gave back."""

from typing import Final

from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"

_UP: Final = """
ALTER TABLE order_history
    ADD COLUMN refund_minor bigint,
    ADD CONSTRAINT order_history_refund_check CHECK (refund_minor > 0);
"""
_DOWN: Final = """
ALTER TABLE order_history DROP COLUMN refund_minor;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute(_DOWN)
