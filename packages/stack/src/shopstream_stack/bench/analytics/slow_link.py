"""A store that answers late: a link of chaos as a process of its own.

``python -m shopstream_stack.bench.analytics.slow_link``, with port, the store's port and the
seconds that each request takes longer in one line of its input; until killed.
"""

import asyncio
import sys

from shopstream_stack.bench.peer import say_ready
from shopstream_stack.chaos.link import Link


async def run(port: int, server_port: int, seconds: float) -> None:
    """Half of the delay on the way there, half on the way back."""
    link = Link(port, server_port)
    link.slow(seconds / 2)
    async with link.open():
        say_ready()
        await asyncio.Event().wait()


if __name__ == "__main__":
    port, server_port, seconds = sys.stdin.readline().split()
    asyncio.run(run(int(port), int(server_port), float(seconds)))
