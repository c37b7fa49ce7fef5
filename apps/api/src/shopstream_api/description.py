"""The committed description of the API: docs/openapi.json, generated, never hand-written.

``python -m shopstream_api.description [--check]`` in a checkout writes the file, or with --check
exits 1 when it has drifted.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from shopstream_api.main import create_app
from shopstream_api.settings import ApiSettings
from shopstream_api.wiring import open_resources
from shopstream_shared.generated import keep

FILE: Final = Path("docs/openapi.json")
#: Nothing is asked of it: the description needs the routes only.
_NOWHERE: Final = "postgresql://127.0.0.1:1/none"


def document() -> dict[str, Any]:
    """The document as the running API serves it."""
    return asyncio.run(_document())


async def _document() -> dict[str, Any]:
    settings = ApiSettings.model_validate(
        {"DATABASE_URL": _NOWHERE, "SHOPSTREAM_RELAY": "off", "SHOPSTREAM_MIGRATE": "false"}
    )
    async with open_resources(settings) as resources:
        return create_app(settings, resources).openapi()


def main(arguments: list[str], root: Path | None = None) -> int:
    """Write or check below ``root``, this checkout when None; see the module's docstring."""
    content = msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n"
    return keep(root or Path(__file__).parents[4], [(FILE, content)], arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
