"""`shopstream verify` on the whole system, after all that the tests before have done to it."""

import asyncio
import io
import json
from pathlib import Path

from rich.console import Console
from tests.support.demo import a_shop
from tests.support.system import LocalSystem

from shopstream_stack.demo.crowd import OPEN_SECONDS_MAX, until
from shopstream_stack.demo.evidence import WatcherReading
from shopstream_stack.demo.target import Target
from shopstream_stack.verify import Report, command, verify


async def checked_under_load(system: LocalSystem) -> Report:
    """A check that begins and ends while a shop writes, one of its clients cut in between."""
    readings = [WatcherReading("all", "all"), WatcherReading("orders", "orders", ("order.*",))]
    async with a_shop(system, readings) as shop:
        await shop.create(3)
        async with shop.under_load():
            await shop.more_writes(20)
            watcher = shop.session.crowd.named("all")
            watcher.cut()
            await shop.more_writes(20)
            # It comes back after a pause of its own; the journals are read once.
            assert await until(lambda: len(watcher.reading.opens) > 1, OPEN_SECONDS_MAX)
            before = shop.step
            report = await asyncio.to_thread(
                verify,
                Target.local(system.settings),
                [shop.rest.journal.path],
                data=system.settings.data,
            )
            assert shop.step > before, "nothing was written meanwhile"
    return report


def test_the_system_is_proven_while_writes_go_on(system: LocalSystem) -> None:
    report = asyncio.run(checked_under_load(system))
    told = [str(one) for row in report.invariants for one in row.violations]
    assert [row.status for row in report.invariants] == ["holds"] * 8, (told, report.as_json())
    assert report.row(7).counted["connections"] >= 3
    assert report.row(8).counted["writes"] > 40


def test_the_command_prints_a_table_and_keeps_the_report(
    system: LocalSystem, tmp_path: Path
) -> None:
    output = io.StringIO()
    console = Console(file=output, width=200)
    code = command.run(system.settings, console, (), tmp_path / "report.json")
    text = output.getvalue()
    assert code == 0, text
    assert "Everything holds" in text
    assert text.count("not checked: no journal was given") == 2
    kept = json.loads((system.settings.data / "verify" / "report.json").read_text())
    assert kept == json.loads((tmp_path / "report.json").read_text())
    assert [row["status"] for row in kept["invariants"]] == ["holds"] * 6 + ["not checked"] * 2
