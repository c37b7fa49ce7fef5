"""One clock for what is waited for and what is stamped."""

import asyncio


def monotonic() -> float:
    """Seconds by the running loop's clock, the one that its own waits and time-outs go by."""
    return asyncio.get_running_loop().time()
