"""Nothing yet: imports."""

from typing import Final

revision: Final = "0005"
down_revision: Final = "0004"


def upgrade() -> None:
    """Nothing to change yet."""


def downgrade() -> None:
    """Nothing to take back yet."""
