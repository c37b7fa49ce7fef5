"""Nothing yet: stock."""

from typing import Final

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """Nothing to change yet."""


def downgrade() -> None:
    """Nothing to take back yet."""
