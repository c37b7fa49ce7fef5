"""What can be refused about a bulk request as a whole."""

from collections.abc import Sequence

from shopstream_api.errors import BusinessError, Fault


class RowsRefused(BusinessError):
    """All or nothing was asked for, and a rule of the business refuses some rows."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        rows = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults)
        super().__init__(f"Nothing was written: {rows}", faults=faults)
