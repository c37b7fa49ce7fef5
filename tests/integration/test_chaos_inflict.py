"""A fault that cannot be made spoils the verdict and nothing else; what cannot be asked is said."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shopstream_shared.clock import SystemClock
from shopstream_stack.chaos import probe
from shopstream_stack.chaos.inflict import Inflict
from shopstream_stack.chaos.place import RELAYS, Place, chaos_settings
from shopstream_stack.chaos.probe import PUBLISHED, Probe
from shopstream_stack.chaos.recovery import Recovery
from shopstream_stack.chaos.schedule import Fault
from shopstream_stack.chaos.storm import missing
from shopstream_stack.chaos.tail import Tail
from shopstream_stack.errors import StackError
from shopstream_stack.ports import reserved_ports
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Nothing of it is started: nobody listens on its ports."""
    with reserved_ports() as ports:
        settings = StackSettings.load({"SHOPSTREAM_DATA_DIR": str(tmp_path), "PATH": "/bin"})
        own = [f"{name}-{part}" for name in RELAYS for part in ("postgres", "kafka", "door")]
        numbers = {name: ports.take() for name in ("api-2", "relay", *own)}
        yield Place(System(chaos_settings(settings, ports)), numbers)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(probe, "LEADER_SECONDS_MAX", 0.1)


def asking(place: Place, counters: dict[str, list[int]]) -> Probe:
    """Each relay tells its next counter with each look, the last one for ever."""

    def answer(request: httpx.Request) -> httpx.Response:
        for name in RELAYS:
            if str(request.url).startswith(place.url(name)):
                told = counters[name]
                value = told.pop(0) if len(told) > 1 else told[0]
                return httpx.Response(
                    200, text=f"# TYPE {PUBLISHED} counter\n{PUBLISHED} {value}\n"
                )
        raise AssertionError(request.url)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return Probe(place, Tail(place.brokers, SystemClock()), client, SystemClock())


def inflicted(place: Place, asked: Probe, fault: Fault) -> Recovery:
    return asyncio.run(Inflict(place, asked, 0.0, 1.0)(fault))


def test_the_leader_is_the_one_that_publishes(place: Place) -> None:
    asked = asking(place, {"api": [7], "relay": [3, 3, 4]})
    assert asyncio.run(asked.leader()) == "relay"


def test_with_nobody_publishing_no_leader_is_named(place: Place) -> None:
    with pytest.raises(StackError, match="no relay published"):
        asyncio.run(asking(place, {"api": [7], "relay": [3]}).leader())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(1.0, "stop", "leader"), "no relay published"),
        (Fault(1.0, "stop", "relay"), "no relay published"),
        (Fault(1.0, "database-terminate", "postgres"), "connection"),
    ],
    ids=lambda value: f"{value.kind} {value.target}" if isinstance(value, Fault) else "",
)
def test_a_fault_that_cannot_be_made_is_noted_and_the_run_goes_on(
    place: Place, fault: Fault, words: str
) -> None:
    found = inflicted(place, asking(place, {"api": [7], "relay": [3]}), fault)
    assert not found.holds
    assert words in found.wrong[0]
    assert found.target == fault.target


def test_what_is_missing_is_asked_again_when_the_database_does_not_answer(place: Place) -> None:
    tail = Tail(place.brokers, SystemClock())
    told = asyncio.run(missing(place, tail, []))
    assert told.startswith("the database does not tell")
