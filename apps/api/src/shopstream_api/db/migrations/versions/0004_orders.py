"""Nothing yet: orders."""

from typing import Final

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    """Nothing to change yet."""


def downgrade() -> None:
    """Nothing to take back yet."""
