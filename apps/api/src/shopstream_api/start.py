"""The command's entry: the service is loaded while nobody looks for cycles (ADR 0020)."""

import gc


def main() -> None:
    """Load the service and do what the command line says."""
    gc.disable()
    from shopstream_api import main as service  # noqa: PLC0415 - loaded with the collector off

    # Modules, classes and routes stay: no later collection goes through them either.
    gc.freeze()
    gc.enable()
    service.main()
