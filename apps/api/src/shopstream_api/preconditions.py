"""ETags and the conditions requests put on them (RFC 9110, section 13)."""

import re
from typing import Final

from shopstream_api.errors import VersionMismatch

_TAG: Final = re.compile(r'(W/)?"([^"]*)"')


def if_match(header: str | None, version: int) -> None:
    """Raises VersionMismatch unless a strong tag names this version, before any dot."""
    if header is None or header.strip() == "*":
        return
    tags = _TAG.findall(header)
    if not tags:
        raise VersionMismatch(
            f'If-Match holds no ETag: send the one you read, quotes included, as "v{version}".'
        )
    for weak, tag in tags:
        if not weak and tag.partition(".")[0] == f"v{version}":
            return
    raise VersionMismatch(f"The resource is at version {version} now.")


def none_match(header: str | None, etag: str) -> bool:
    """True when the caller already holds this representation; compares weakly, all of the tag."""
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return any(f'"{tag}"' == etag for _weak, tag in _TAG.findall(header))
