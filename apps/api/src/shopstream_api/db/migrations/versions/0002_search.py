"""Nothing yet: search."""

from typing import Final

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Nothing to change yet."""


def downgrade() -> None:
    """Nothing to take back yet."""
