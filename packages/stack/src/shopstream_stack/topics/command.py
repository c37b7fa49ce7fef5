"""The three commands: what they do in which order, and what they print."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack import rebuild
from shopstream_stack.demo.target import Target
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System
from shopstream_stack.topics import sinks
from shopstream_stack.topics.relay_side import Adopted, Applied, ListedTopic, ask

EXIT_FAILED: Final = 1
#: They look at their topics at start: what stopped them is found put right by a new process.
RESTARTED: Final = ("notifications", "analytics")
FINE: Final = frozenset({"ok", "unused"})


def ls(settings: StackSettings, out: Console) -> int:
    """A row a topic; 0 if nothing is to be done about any."""
    rows = ask(settings, list[ListedTopic], "ls")
    shown = Table("topic", "state", "partitions", "id", "stored id", "generation", "what differs")
    for row in rows:
        shown.add_row(
            row.topic,
            row.state,
            _or_dash(row.partitions),
            _or_dash(row.id),
            "same" if row.stored_id == row.id else _or_dash(row.stored_id),
            _or_dash(row.generation),
            escape("; ".join([*row.differences, *_boundaries(row)])),
        )
    out.print(shown)
    return 0 if all(row.state in FINE for row in rows) else EXIT_FAILED


def adopt(system: System, out: Console, limit: rebuild.Limit | None = None) -> int:
    """Relay first, then the sinks, then new processes; 0 if everything goes on now.

    ``limit`` is that of a rebuild, should there be one to do.
    """
    settings = system.settings
    adopted = ask(settings, Adopted, "adopt")
    _tell_relay(adopted, out)
    rows = {row.topic: row for row in ask(settings, list[ListedTopic], "ls")}
    ends = {topic.topic: topic.last_ends for topic in adopted.topics}
    found = sinks.adopt(
        Target.local(settings),
        [_life(rows[topic], ends.get(topic, ())) for topic in STREAM_TOPICS],
    )
    shown = Table("sink", "topic", "state", "what this means")
    for sink in found:
        shown.add_row(sink.sink, sink.topic, sink.state, sink.detail)
    out.print(shown)
    code = 0
    if any(sink.state == "rebuild" for sink in found):
        out.print("Making the aggregates again from the archive.")
        code = rebuild.run(settings, out, ["--swap"], None, limit)
    if adopted.topics or any(sink.state in {"adopted", "rebuild"} for sink in found):
        _restart(system, out)
    if code:
        out.print("The aggregates go on; call `shopstream archive rebuild --swap` for the rest.")
    stopped = any(sink.state == "stopped" for sink in found)
    return EXIT_FAILED if code or stopped else 0


def apply(settings: StackSettings, out: Console, without: list[str]) -> int:
    """More partitions, as topics.toml says; nothing needs a new process afterwards."""
    options = [word for group in without for word in ("--without", group)]
    applied = ask(settings, Applied, "apply", *options)
    if not applied.topics:
        out.print("Every topic has the partitions that topics.toml says.")
        return 0
    shown = Table("topic", "partitions", "boundary", "")
    for topic in applied.topics:
        ends = ", ".join(map(str, topic.ends))
        shown.add_row(topic.topic, f"{topic.before} → {topic.after}", ends, topic.warning)
    out.print(shown)
    return EXIT_FAILED if any(topic.warning for topic in applied.topics) else 0


def _life(row: ListedTopic, ends: Sequence[int]) -> sinks.NewLife:
    return sinks.NewLife(row.topic, row.id or "", row.partitions or 0, row.generation or 0, ends)


def _tell_relay(adopted: Adopted, out: Console) -> None:
    if not adopted.topics:
        out.print("The relay knows these topics already.")
    for topic in adopted.topics:
        out.print(f"{topic.topic}: generation {topic.generation}, id {topic.id} for {topic.old_id}")
    if adopted.found_published:
        out.print(f"{adopted.found_published} waiting events were on the log already.")
    if adopted.sent_again_max:
        out.print(
            f"Up to {adopted.sent_again_max} events may have been on a topic that is gone. They "
            "are sent again, under the same event ids: readers of the old topic may see them twice."
        )


def _restart(system: System, out: Console) -> None:
    living = [name for name in RESTARTED if system.runner.living(name) is not None]
    if living:
        system.stop(*living)
        system.start(*living)
    if others := sorted(set(RESTARTED) - set(living)):
        out.print(f"Restart {' and '.join(others)}, where they run: they look at topics at start.")


def _boundaries(row: ListedTopic) -> list[str]:
    return [f"boundary at {', '.join(map(str, ends))}" for ends in row.boundaries]


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
