"""The committed description of the read API: docs/openapi-analytics.json, generated.

``python -m shopstream_analytics.description [--check]`` in a checkout writes the file, or with
--check exits 1 when it has drifted.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.web.app import create_app
from shopstream_analytics.wiring import open_resources
from shopstream_shared.generated import keep

FILE: Final = Path("docs/openapi-analytics.json")
#: Nothing is asked of any of them: the description needs the routes only.
_NOWHERE: Final = {
    "DYNAMO_ENDPOINT": "http://127.0.0.1:1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "MINIO_ACCESS_KEY": "none",
    "MINIO_SECRET_KEY": "none",
}


def document() -> dict[str, Any]:
    """The document as the running service serves it."""
    return asyncio.run(_document())


async def _document() -> dict[str, Any]:
    async with open_resources(AnalyticsSettings.model_validate(_NOWHERE)) as resources:
        return create_app(resources, ()).openapi()


def main(arguments: list[str], root: Path | None = None) -> int:
    """Write or check below ``root``, this checkout when None; see the module's docstring."""
    content = msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n"
    return keep(root or Path(__file__).parents[4], [(FILE, content)], arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
