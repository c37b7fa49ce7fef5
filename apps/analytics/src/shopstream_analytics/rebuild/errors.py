"""What ends a rebuild before it has done anything that counts."""


class RebuildFailed(Exception):
    """One line for the operator: what is in the way, and what to do."""
