"""What a fault came to, how it is told, and that each kind of fault can be made."""

import dataclasses
import io
import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from shopstream_shared.clock import SystemClock
from shopstream_stack.chaos import command, commands, picture, probe, report
from shopstream_stack.chaos.faults.scene import Scene
from shopstream_stack.chaos.inflict import Inflict
from shopstream_stack.chaos.load import FAIR_REFUSALS
from shopstream_stack.chaos.place import OWN_PORTS, RELAYS, Place, chaos_settings
from shopstream_stack.chaos.recovery import Measure, Recovery
from shopstream_stack.chaos.report import Verdict
from shopstream_stack.chaos.schedule import FAULTS_MIN, QUICK, Fault
from shopstream_stack.chaos.storm import Outcome, Plan
from shopstream_stack.chaos.timeline import Sample
from shopstream_stack.cli import app
from shopstream_stack.console import Silent
from shopstream_stack.errors import StackError
from shopstream_stack.ports import PortReservations
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System


class Numbers(PortReservations):
    """Ports that nobody listens on: they are only told apart."""

    def take(self) -> int:
        self._next = getattr(self, "_next", 20_000) + 1
        return self._next


@pytest.fixture
def place(tmp_path: Path) -> Place:
    ports = Numbers()
    settings = StackSettings.load({"SHOPSTREAM_DATA_DIR": str(tmp_path), "PATH": "/bin"})
    numbers = {name: ports.take() for name in OWN_PORTS}
    return Place(System(chaos_settings(settings, ports)), numbers)


def recovery(seconds: float | None = 1.0, *wrong: str) -> Recovery:
    fault = Fault(5.0, "kill", "leader", {"seconds": 0.0})
    measure = Measure("api serves", seconds, 5.0)
    return Recovery(fault, "api", 5.1, 8.0, [measure], ["noted [so]"], list(wrong))


def verdict(folder: Path, outcome: Outcome) -> Verdict:
    plan = Plan(
        run="chaos-1",
        seed=1,
        seconds=60.0,
        writes_per_second=30.0,
        patience=1.0,
        schedule=(recovery().fault,),
        acts=(),
        every_fault=False,
        faults_min=0,
        folder=folder,
        clock=SystemClock(),
        reporter=Silent(),
    )
    return Verdict(plan, outcome)


def samples() -> list[Sample]:
    return [
        Sample(at, 30.0, 40.0, 100.0, 0.0, None if at == 2 else at, at / 10) for at in range(1, 9)
    ]


def found(*recoveries: Recovery, code: int | None = 0, wrong: tuple[str, ...] = ()) -> Outcome:
    return Outcome(Path("j.jsonl"), code, list(recoveries), samples(), {"acked": 3}, list(wrong))


@pytest.mark.parametrize(
    "outcome",
    [
        found(recovery(5.1)),
        found(recovery(None)),
        found(recovery(1.0, "the fault never happened")),
        found(recovery(), code=1),
        found(recovery(), code=None),
        found(recovery(), wrong=("api ended by itself",)),
    ],
)
def test_any_one_thing_that_does_not_hold_spoils_the_whole(
    tmp_path: Path, outcome: Outcome
) -> None:
    assert verdict(tmp_path, found(recovery())).holds
    assert not verdict(tmp_path, outcome).holds


def test_a_run_with_fewer_faults_than_are_wanted_or_with_none_at_all_does_not_hold(
    tmp_path: Path,
) -> None:
    of_one = verdict(tmp_path, found(recovery()))
    for least, holds in ((0, True), (1, True), (2, False)):
        plan = dataclasses.replace(of_one.plan, faults_min=least)
        assert Verdict(plan, of_one.outcome).holds == holds
    assert Verdict(plan, of_one.outcome).as_json()["wrong"] == [
        "only 1 faults were made, 2 are wanted"
    ]
    late = dataclasses.replace(of_one.outcome, unmade=1)
    assert not Verdict(dataclasses.replace(plan, faults_min=1), late).holds
    assert not verdict(tmp_path, found()).holds


@pytest.mark.parametrize(
    ("arguments", "least"),
    [
        (["chaos", "--minutes", "10"], FAULTS_MIN),
        (["chaos", "--minutes", "15"], FAULTS_MIN),
        (["chaos", "--minutes", "9"], 0),
        (["chaos", "--faults", "kill"], 0),
        (["chaos", "--quick"], len(QUICK)),
        (["reliability", "--minutes", "1", "--seeds", "1"], FAULTS_MIN),
    ],
)
def test_full_runs_and_the_page_of_reliability_want_the_promised_number_of_faults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], least: int
) -> None:
    wanted: list[int] = []

    def ran(*_: object, faults_min: int, **__: object) -> command.Ran:
        wanted.append(faults_min)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "chaos", ran)
    monkeypatch.setattr(commands, "reserved_ports", lambda: nullcontext(Numbers()))
    monkeypatch.setenv("SHOPSTREAM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SHOPSTREAM_CACHE_DIR", str(tmp_path / "cache"))
    said = CliRunner().invoke(app, arguments)
    assert wanted == [least], said.output + repr(said.exc_info)


def test_a_seed_whose_run_cannot_start_is_told_and_loses_no_report_of_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written: list[tuple[list[Path], Mapping[str, str]]] = []

    def ran(*_: object, seed: int, **__: object) -> command.Ran:
        if seed == 2:
            raise StackError("postgres is not healthy")
        return command.Ran(holds=True, folder=tmp_path / f"run-{seed}")

    def reported(
        _: object, folders: list[Path], page: Path | None, about: Mapping[str, str]
    ) -> int:
        written.append((folders, about))
        return 0

    monkeypatch.setattr(command, "chaos", ran)
    monkeypatch.setattr(command, "report", reported)
    monkeypatch.setattr(commands, "reserved_ports", lambda: nullcontext(Numbers()))
    monkeypatch.setenv("SHOPSTREAM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SHOPSTREAM_CACHE_DIR", str(tmp_path / "cache"))
    said = CliRunner().invoke(app, ["reliability", "--seeds", "1,2,3"])
    assert said.exit_code == 1, said.output + repr(said.exc_info)
    ((folders, about),) = written
    assert [folder.name for folder in folders] == ["run-1", "run-3"]
    assert about["seed 2"] == "**did not come to its end**: postgres is not healthy"
    # Without any run there is nothing to report.
    assert CliRunner().invoke(app, ["reliability", "--seeds", "2"]).exit_code == 1
    assert len(written) == 1


def test_everything_is_printed_and_left_in_the_folder(tmp_path: Path) -> None:
    outcome = found(recovery(9.0), wrong=("relay ended by itself; see its log",))
    (tmp_path / "verify.json").write_text('{"holds": true}')
    console = Console(file=io.StringIO(), width=140)
    report.show(console, verdict(tmp_path, outcome))
    said = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO from above
    for words in ("api serves: 9.0 s (5)", "noted [so]", "relay ended by itself", "WRONG"):
        assert words in said
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["verify"] == {"exitCode": 0, "report": {"holds": True}}
    assert written["faults"][0]["measures"][0]["seconds"] == 9.0
    assert len(written["timeline"]) == len(samples())
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_for_the_terminal_has_a_panel_for_each_quantity_and_no_colours() -> None:
    drawn = picture.on_terminal(samples(), [recovery()], columns=100)
    assert all(panel.title in drawn for panel in picture.PANELS)
    assert "\x1b" not in drawn


def test_each_kind_of_fault_has_a_way_to_make_it(place: Place) -> None:
    """It says so itself, at its making."""
    asked = probe.Probe(place, None, None, SystemClock())  # type: ignore[arg-type]  # asks nobody
    Inflict(Scene(place, asked, None, 1.0), 0.0)  # type: ignore[arg-type]  # asks nobody


def test_api_and_relay_reach_database_and_broker_through_links_of_their_own(place: Place) -> None:
    for name in RELAYS:
        environ = place.spec(name).environ
        assert f":{place.links[f'{name}-postgres'].port}/" in environ["DATABASE_URL"]
        assert environ["KAFKA_BROKERS"] == f"127.0.0.1:{place.links[f'{name}-kafka'].port}"
    assert place.spec("api-2").environ["DATABASE_URL"] == place.system.settings.postgres_url
    assert place.spec("relay").argv[-1] == "relay"


def test_the_woken_leader_is_asked_for_what_it_said_since_it_was_stopped(place: Place) -> None:
    path = place.log_path("api")
    path.parent.mkdir(parents=True)
    line = '{"event":"relay begins again","kind":"Fenced","reason":"by a newer instance"}\n'
    path.write_text(line)
    mark = probe.log_bytes(place, "api")
    assert probe.said_after(place, "api", 0) == "Fenced: by a newer instance"
    assert probe.said_after(place, "api", mark) == ""
    with path.open("a") as log:
        log.write('no json\n{"event":"other"}\n' + line)
    assert probe.said_after(place, "api", mark) == "Fenced: by a newer instance"
    assert probe.log_bytes(place, "relay") == 0


def test_what_a_fair_caller_may_be_told_are_codes_of_the_contract() -> None:
    path = Path(__file__).parents[2] / "docs" / "openapi.json"
    known = path.read_text()
    assert all(f'"{code}"' in known for code in FAIR_REFUSALS)
