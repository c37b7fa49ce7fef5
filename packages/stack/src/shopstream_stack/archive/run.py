"""What the commands do with what was asked, and what they print."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from shopstream_shared.archive.reader import generations
from shopstream_shared.clock import SystemClock
from shopstream_stack.archive import cat as reading
from shopstream_stack.archive import listing
from shopstream_stack.archive.check import Check, Checked, Report
from shopstream_stack.archive.place import ArchivePlace, opened, topics_of
from shopstream_stack.archive.rules import ending_rules
from shopstream_stack.archive.times import read_day, read_ms
from shopstream_stack.console import reporting, standard_output
from shopstream_stack.demo.target import Target
from shopstream_stack.errors import StackError
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System

EXIT_BROKEN: Final = 1
out: Final = standard_output()
#: Progress, which must not stand among the results.
err: Final = Console(stderr=True)


@contextmanager
def archive() -> Iterator[ArchivePlace]:
    """The archive of this system. Raises StackError."""
    settings = StackSettings.load()
    System(settings).require_up("minio")
    with opened(Target.local(settings)) as place:
        yield place


def select(
    topic: str | None, day: str | None, partition: int | None, generation: int | None
) -> listing.Selection:
    """Raises StackError for a topic or a day that is none."""
    return listing.Selection(
        topics=topics_of(topic),
        day=read_day(day) if day else "",
        partition=partition,
        generation=generation,
    )


def cut(  # noqa: PLR0917 - the options of one command
    topic: str,
    partition: int | None,
    generation: int | None,
    begin: int,
    end: int | None,
    since: str | None,
    until: str | None,
) -> reading.Cut:
    """Raises StackError for a topic or a time that is none."""
    return reading.Cut(
        topic=topics_of(topic)[0],
        partition=partition,
        generation=generation,
        begin=begin,
        end=end,
        since_ms=read_ms("--since", since),
        until_ms=read_ms("--until", until),
    )


def ls(wanted: listing.Selection, *, objects: bool, as_json: bool) -> None:
    """A row a day, or a row an object."""
    with archive() as place, _whole_output():
        if objects:
            _objects(listing.objects(place.bucket, wanted), as_json=as_json)
        else:
            _days(listing.days(place.bucket, wanted), as_json=as_json)


def cat(wanted: reading.Cut, *, events_only: bool) -> None:
    """To standard output, as bytes."""
    with archive() as place, _whole_output():
        write = sys.stdout.buffer.write
        for some in reading.lines(place.bucket, wanted):
            chosen = list(reading.events(some)) if events_only else some
            if chosen:
                write(b"\n".join(chosen) + b"\n")


def verify(topic: str | None, manifests: Iterable[Path], *, as_json: bool) -> int:
    """0 if nothing is broken."""
    topics = topics_of(topic)
    with archive() as place:
        differing = [wrong for path in manifests for wrong in _manifest(place, path)]
        with reporting(err) as reporter:
            check = Check(place.bucket, topics, ending_rules(place))
            with reporter.bar("Walking the chains", len(check)) as advance:
                report = check.run(advance)
    wrong = [*report.rules, *report.hints, *_strange(report), *differing]
    if as_json:
        _print_json({"chains": [_chain_json(one) for one in report.chains], "wrong": wrong})
    else:
        _show(report, wrong)
    return 0 if report.holds and not wrong else EXIT_BROKEN


def manifest(topic: str | None, day: str) -> None:
    """A list a topic and generation that has objects of the day; none at all is an error."""
    from shopstream_stack.archive.manifest import write_manifest  # noqa: PLC0415 - own command

    wanted = select(topic, day, None, None)
    with archive() as place:
        _require_objects(place, wanted)
        for name in wanted.topics:
            for life in generations(place.bucket):
                made = write_manifest(place, name, wanted.day, life)
                if made.objects or not life:
                    out.print(
                        f"{made.key}: {made.objects} objects, {made.records} records, "
                        f"sha256 {made.sha256}",
                        soft_wrap=True,
                        highlight=False,
                    )


def compact(topic: str | None, day: str) -> int:
    """Add what is missing of the day; 0 also where nothing was. No objects is an error."""
    from shopstream_stack.archive import compact as parquet  # noqa: PLC0415 - pyarrow is slow to load

    chosen, now = select(topic, day, None, None), SystemClock().now()
    day = chosen.day
    shown = Table("part", "rows", "positions covered")
    with archive() as place, reporting(err) as reporter:
        _require_objects(place, chosen)
        for name in chosen.topics:
            for life in generations(place.bucket):
                wanted = parquet.Day(topic=name, day=day, generation=life)
                with reporter.step(f"Compacting {wanted}"):
                    made = parquet.compact(place, wanted, now, _nothing)
                for chain in made.behind:
                    err.print(
                        f"{chain} has not gone on beyond {day}: what it gets of that day later "
                        "needs another call.",
                        soft_wrap=True,
                        highlight=False,
                    )
                for part in made.parts:
                    shown.add_row(part.key, f"{part.rows:,}", parquet.write_covers(part.covers))
    if shown.row_count:
        out.print(shown)
    else:
        out.print(f"Everything that the archive holds of {day} is compacted already.")
    return 0


def get(wanted: listing.Selection, folder: Path, *, parquet: bool) -> None:
    """Copy what is wanted; nothing wanted is an error, or a typing error would go unseen."""
    from shopstream_stack.archive.copy import (  # noqa: PLC0415 - own command
        check_folder,
        copy,
        wanted_objects,
    )

    with archive() as place, reporting(err) as reporter:
        objects = wanted_objects(place.bucket, wanted, parquet=parquet)
        if not objects:
            form = "Parquet; `shopstream archive compact` makes it" if parquet else "objects"
            raise StackError(f"The archive has no such {form}.")
        check_folder(folder, wanted, objects, parquet=parquet)
        with reporter.bar("Copying objects", len(objects)) as advance:
            done = copy(place.bucket, objects, folder, advance)
    out.print(
        f"{done.copied} objects copied, {done.bytes:,} bytes; {done.kept} were there. "
        f"They lie below {folder}.",
        highlight=False,
    )


def sql(query: Path, folder: Path, *, as_json: bool) -> None:
    """A table, or a JSON object a row."""
    from shopstream_stack.archive.sql import ask  # noqa: PLC0415 - DuckDB only for its own command

    try:
        text = query.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"{query} cannot be read: {error}") from None
    columns, rows = ask(text, folder)
    with _whole_output():
        if as_json:
            for row in rows:
                _print_json(dict(zip(columns, map(_plain, row), strict=True)))
            return
        shown = Table(*columns)
        for row in rows:
            shown.add_row(*map(str, row))
        out.print(shown)


def _require_objects(place: ArchivePlace, wanted: listing.Selection) -> None:
    """Raises StackError for a day of which nothing is archived: most likely a slip."""
    if next(listing.select(place.bucket, wanted), None) is None:
        raise StackError(
            f"The archive holds nothing of {wanted.day}; `shopstream archive ls` shows its days"
        )


@contextmanager
def _whole_output() -> Iterator[None]:
    """A reader that has seen enough (`head`) closes the pipe: that is no failure of ours."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Whatever is left must not be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _objects(rows: Iterable[listing.Object], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            _print_json(row.as_json())
        return
    shown = Table()
    shown.add_column("object", no_wrap=True)
    for name in ("bytes", "start", "next", "first", "last", "count"):
        shown.add_column(name, justify="right")
    for row in rows:
        link = row.link
        said: tuple[object, ...] = ("no object of a chain", "", "", "", "")
        if link is not None:
            said = (link.start, link.next, link.first, link.last, link.count)
        shown.add_row(row.key, f"{row.bytes:,}", *map(str, said))
    out.print(shown)


def _days(rows: list[listing.Day], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            _print_json(asdict(row))
        return
    later = any(row.generation for row in rows)
    shown = Table("topic", "day", "partition", "objects", "bytes", "first offset")
    for row in rows:
        name = f"{row.topic} (generation {row.generation})" if later else row.topic
        counts = (f"{row.objects:,}", f"{row.bytes:,}", str(row.first))
        shown.add_row(name, row.day, str(row.partition), *counts)
    out.print(shown)


def _show(report: Report, wrong: list[str]) -> None:
    shown = Table("chain", "objects", "records", "from", "to", "verdict")
    for one in report.chains:
        name = f"{one.place}" + (f" (generation {one.generation})" if one.generation else "")
        verdict = f"[bold red]{one.faults:,} faults[/]" if one.faults else "[green]whole[/]"
        counts = (f"{one.objects:,}", f"{one.records:,}", str(one.start), str(one.next))
        shown.add_row(name, *counts, verdict)
    out.print(shown)
    for chain in report.chains:
        for fault in chain.shown:
            _say(str(fault))
    for line in wrong:
        _say(line)
    total = sum(one.records for one in report.chains)
    if report.holds and not wrong:
        out.print(f"The archive is whole: {total:,} records.", style="bold green")


def _chain_json(one: Checked) -> dict[str, Any]:
    return {
        "generation": one.generation,
        "topic": one.place.topic,
        "partition": one.place.partition,
        "objects": one.objects,
        "records": one.records,
        "start": one.start,
        "next": one.next,
        "faults": one.faults,
        "shown": [fault._asdict() for fault in one.shown],
    }


def _strange(report: Report) -> list[str]:
    return [f"{key} lies among the chains and belongs to none" for key in report.strange]


def _manifest(place: ArchivePlace, path: Path) -> list[str]:
    from shopstream_stack.archive.manifest import held_against  # noqa: PLC0415 - own command

    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StackError(f"{path} cannot be read: {error}") from None
    return held_against(place, said)


def _print_json(row: Any) -> None:
    sys.stdout.write(json.dumps(row) + "\n")


def _say(text: str) -> None:
    out.print(f"  {text}", style="red", markup=False, highlight=False, soft_wrap=True)


def _nothing(_done: int) -> None:
    """Nobody watches."""


def _plain(value: Any) -> Any:
    """What JSON has no word for is written as text."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
