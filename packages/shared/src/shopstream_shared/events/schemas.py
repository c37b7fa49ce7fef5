"""The committed schemas, the AsyncAPI document and the page's types: generated from the Structs.

Each type and version has one schema of its whole CloudEvent, at the path that events name as
``dataschema``. A schema says what a consumer may rely on, so it lets unknown members pass: inside
a version only additive change is allowed.

``python -m shopstream_shared.events.schemas [--check]`` in a checkout writes the files, or with
--check exits 1 and names those that have drifted.
"""

import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from shopstream_shared.events.asyncapi import asyncapi_document
from shopstream_shared.events.json_schema import event_schema
from shopstream_shared.events.registry import EVENT_TYPES, EventType
from shopstream_shared.events.typescript import typescript
from shopstream_shared.generated import keep

FOLDER: Final = Path("packages/shared/src/shopstream_shared/schemas")
ASYNCAPI: Final = Path("docs/asyncapi.json")
TYPESCRIPT: Final = Path("apps/web/src/stream/contract.ts")


def schema_file(kind: EventType) -> str:
    """The name of a type's committed schema."""
    return f"{kind.name}.v{kind.version}.json"


def load_schema(kind: EventType) -> bytes:
    """The committed schema's bytes, to be served at ``kind.schema``."""
    return (resources.files("shopstream_shared") / "schemas" / schema_file(kind)).read_bytes()


def documents() -> Iterator[tuple[Path, bytes]]:
    """Every generated file: its path in the checkout and its bytes."""
    for kind in EVENT_TYPES.values():
        yield FOLDER / schema_file(kind), _bytes(event_schema(kind))
    yield ASYNCAPI, _bytes(asyncapi_document())
    yield TYPESCRIPT, typescript().encode()


def _bytes(document: Mapping[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def main(arguments: list[str], root: Path | None = None) -> int:
    """Write or check below ``root``, this checkout when None; see the module's docstring."""
    return keep(root or Path(__file__).parents[5], documents(), arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
