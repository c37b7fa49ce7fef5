"""The relay's part of the work, done by `shopstream-api topics`, which has its locks and state."""

import subprocess
import sys
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from shopstream_stack.errors import StackError
from shopstream_stack.settings import StackSettings

#: Draining, waiting for readers and reading the log's end, each bounded, come to less.
SECONDS_MAX: Final = 600.0

T = TypeVar("T")


class ListedTopic(msgspec.Struct, frozen=True, rename="camel"):
    """A topic on the broker, beside what the relay has stored of it."""

    topic: str
    state: str
    partitions: int | None
    id: str | None
    stored_partitions: int | None
    stored_id: str | None
    generation: int | None
    differences: list[str]
    boundaries: list[list[int]]


class AdoptedTopic(msgspec.Struct, frozen=True, rename="camel"):
    """``last_ends``: how far each partition of the old topic was published."""

    topic: str
    old_id: str
    id: str
    generation: int
    last_ends: list[int]


class Adopted(msgspec.Struct, frozen=True, rename="camel"):
    """What the relay's state took over."""

    topics: list[AdoptedTopic]
    found_published: int
    sent_again_max: int


class GrownTopic(msgspec.Struct, frozen=True, rename="camel"):
    """``ends``: the boundary; empty where order means nothing."""

    topic: str
    before: int
    after: int
    ends: list[int]
    warning: str


class Applied(msgspec.Struct, frozen=True, rename="camel"):
    """Topics with more partitions now, and the groups that had to be waited for."""

    topics: list[GrownTopic]
    waited_for: list[str]


def ask(settings: StackSettings, kind: type[T], *arguments: str) -> T:
    """Run the command and read its answer; what it says on stderr is shown as it comes.

    Raises StackError when it gives none: it has said why, or it was ended after SECONDS_MAX.
    """
    program = Path(sys.executable).parent / "shopstream-api"
    try:
        ended = subprocess.run(  # noqa: S603 - the argv is ours
            [program, "topics", *arguments, "--json"],
            env=settings.service_environ("api"),
            stdout=subprocess.PIPE,
            timeout=SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"topics {arguments[0]} gave no answer in {SECONDS_MAX:g} s; call it again"
        ) from error
    if not ended.stdout:
        raise StackError(f"topics {arguments[0]} was refused, as said above")
    return msgspec.json.decode(ended.stdout, type=kind)
