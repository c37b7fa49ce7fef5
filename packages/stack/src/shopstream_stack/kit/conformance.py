"""`shopstream sse-conformance`: a server of event streams, looked at from outside only."""

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shopstream_stack.errors import StackError
from shopstream_stack.kit.checks import FIRST_SECONDS_MAX, Check, Kit, State, Verdict
from shopstream_stack.kit.load_command import KitProfile
from shopstream_stack.kit.plain_checks import PLAIN
from shopstream_stack.kit.shopstream_checks import SHOPSTREAM
from shopstream_stack.kit.tape import taping
from shopstream_stack.kit.target import CONNECT_SECONDS_MAX, Target
from shopstream_stack.process import write_atomically

EXIT_FAILED: Final = 1
_STYLES: Final[Mapping[State, str]] = {"holds": "green", "FAILED": "bold red", "skipped": "yellow"}
#: As many streams at once as all checks together may hold.
CONNECTIONS_MAX: Final = 200

Found = Sequence[tuple[Check, Verdict]]


def command(
    url: str,
    console: Console,
    *,
    profile: KitProfile,
    patience: float,
    headers: Mapping[str, str],
    into: Path | None,
    only: Collection[str] = (),
    first_seconds: float = FIRST_SECONDS_MAX,
) -> int:
    """Check, tell; the exit code is 0 only if no check failed. Raises StackError."""
    found = asyncio.run(
        check(
            url,
            profile=profile,
            patience=patience,
            headers=headers,
            only=only,
            first_seconds=first_seconds,
        )
    )
    _show(console, url, profile, found)
    if into is not None:
        write_atomically(into, _as_json(url, profile, found))
    return EXIT_FAILED if any(verdict.state == "FAILED" for _, verdict in found) else 0


async def check(
    url: str,
    *,
    profile: KitProfile,
    patience: float,
    headers: Mapping[str, str],
    only: Collection[str] = (),
    first_seconds: float = FIRST_SECONDS_MAX,
) -> Found:
    """Every check of the profile with its verdict; a skipped one could not decide.

    ``only`` these names, if any. ``patience``, ``first_seconds``: what a heartbeat or event, and a
    first byte may take. Raises StackError for a name that no check has, and when nothing listens
    or nothing answers.
    """
    checks = [*PLAIN.checks, *(SHOPSTREAM.checks if profile == "shopstream" else ())]
    names = [one.name for one in checks]
    if unknown := set(only) - set(names):
        raise StackError(f"--only: no check is named {min(unknown)}; there are {', '.join(names)}")
    checks = [one for one in checks if one.name in only or not only]
    target = Target.of(url)
    target.require_listener()
    limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=0)
    timeout = httpx.Timeout(CONNECT_SECONDS_MAX, read=None)
    async with httpx.AsyncClient(trust_env=False, limits=limits, timeout=timeout) as client:
        try:
            async with taping(client, url, headers) as main:
                kit = Kit(target, client, headers, patience, main, first_seconds)
                verdicts = await asyncio.gather(*(one.verdict(kit) for one in checks))
        except (httpx.HTTPError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            raise StackError(f"{target.address} does not answer as HTTP: {reason}") from error
    return list(zip(checks, verdicts, strict=True))


def _show(console: Console, url: str, profile: KitProfile, found: Found) -> None:
    table = Table(title=f"{url}, profile {profile}", title_justify="left")
    for heading in ("check", "seen", "verdict", "why"):
        table.add_column(heading, overflow="fold")
    for one, verdict in found:
        state = f"[{_STYLES[verdict.state]}]{verdict.state}[/]"
        table.add_row(escape(one.name), escape(verdict.seen), state, escape(one.why))
    console.print(table)
    counted = Counter(verdict.state for _, verdict in found)
    text = ", ".join(f"{counted[state]} {state}" for state in _STYLES)
    console.print(text, highlight=False)


def _as_json(url: str, profile: KitProfile, found: Found) -> str:
    checks = [
        {"name": one.name, "why": one.why, "verdict": verdict.state, "seen": verdict.seen}
        for one, verdict in found
    ]
    return json.dumps({"url": url, "profile": profile, "checks": checks}, indent=1) + "\n"
