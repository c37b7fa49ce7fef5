"""How a call to DynamoDB or S3 is carried: turns, a bound for all of it, and only whole answers.

aiobotocore bounds the connecting and each read. That leaves three ways to hang or to be fooled:
a store that sends a byte now and then, a store that stops reading an upload (the bound of reads
begins after it), and an answer that was damaged on the way.
"""

import asyncio
import zlib
from typing import Any, ClassVar, Final

from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

#: One try, from the first byte to the last; two of them and the pause between stay below the 60 s
#: within which /health must tell.
TRY_SECONDS_MAX: Final = 25.0
#: An upload may take longer by what its body needs at this rate.
UPLOAD_BYTES_PER_SECOND_MIN: Final = 1_048_576
_CRC: Final = "x-amz-crc32"


class BoundedSession(AIOHTTPSession):
    """Sends at most ``max_pool_connections`` requests at once; the others wait without a bound."""

    #: One try, without what its body adds.
    seconds_max: ClassVar = TRY_SECONDS_MAX
    upload_bytes_per_second_min: ClassVar = UPLOAD_BYTES_PER_SECOND_MIN

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._turns = asyncio.Semaphore(options["max_pool_connections"])

    # Any: the published types name botocore's classes of blocking calls.
    async def send(self, request: Any) -> Any:
        """Send and take the answer in. Raises botocore's errors of connections."""
        async with self._turns:
            try:
                async with asyncio.timeout(self._seconds_for(request)):
                    response = await super().send(request)
            except TimeoutError as error:
                raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
        if not request.stream_output:
            await _check(request, response)
        return response

    def _seconds_for(self, request: Any) -> float:
        # Not the body's length: botocore makes a file of an upload.
        size = int(request.headers.get("Content-Length", 0))
        return self.seconds_max + size / self.upload_bytes_per_second_min


async def _check(request: Any, response: Any) -> None:
    """Refuse an answer whose checksum is not that of its bytes; DynamoDB sends one.

    botocore tries again once and then believes what it got.
    """
    told = response.headers.get(_CRC)
    if told is not None and str(zlib.crc32(await response.content)) != told:
        raise ConnectionClosedError(
            error="checksum differs", request=request, endpoint_url=request.url
        )
