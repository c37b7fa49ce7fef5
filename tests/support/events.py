"""Golden events: complete Kafka values of every type and version, as they are on logs out there."""

import json
from pathlib import Path
from typing import Any, Final

GOLDEN: Final = Path(__file__).parents[1] / "golden"
GOLDEN_FILES: Final = tuple(sorted(path.name for path in GOLDEN.glob("*.json")))


def golden(name: str) -> bytes:
    """The value in ``tests/golden/<name>``; ``name`` is a type, or a file's name."""
    return (GOLDEN / (name if name.endswith(".json") else f"{name}.v1.json")).read_bytes()


def changed(value: bytes, **attributes: Any) -> bytes:
    """The value with attributes set, or removed where None is given."""
    event = json.loads(value) | attributes
    return json.dumps({name: entry for name, entry in event.items() if entry is not None}).encode()


def with_data(value: bytes, **members: Any) -> bytes:
    """The value with members of its data set."""
    event = json.loads(value)
    event["data"] |= members
    return json.dumps(event).encode()
