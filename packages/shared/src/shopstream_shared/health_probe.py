"""The health check of a container: is the service in it ready?

``python -m shopstream_shared.health_probe VARIABLE DEFAULT`` asks ``/health/ready`` on the port
VARIABLE names, else DEFAULT. Exit 0 for ready, 1 with one line for anything else. Only the standard
library, so that a check every few seconds costs little.
"""

import http.client
import os
import sys
from typing import Final

#: Below the time-out of the container's check, so that the reason is told and not cut off.
TIMEOUT_SECONDS: Final = 3.0


def probe(port: int) -> str | None:
    """None when the service on this port is ready, else what is wrong."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer on port {port}: {error}"
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return None
    return f"{answer.status}: {body.decode(errors='replace')}"


def main(arguments: list[str]) -> int:
    """Ask once; see the module's docstring."""
    variable, default = arguments
    port = os.environ.get(variable) or default  # noqa: TID251 - the whole settings of this command
    wrong = probe(int(port))
    if wrong is not None:
        sys.stderr.write(f"{wrong}\n")
    return 0 if wrong is None else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
