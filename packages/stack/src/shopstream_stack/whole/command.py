"""What loads a whole system, as benchmarks: each starts one, measures, leaves nothing behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from shopstream_stack.bench.command import Benchmark
from shopstream_stack.bench.names import Form
from shopstream_stack.bench.result import Results
from shopstream_stack.ports import PortReservations
from shopstream_stack.system import System
from shopstream_stack.whole.gate import GATE_QUICK, GatePlan, measure_gate
from shopstream_stack.whole.place import WholePlace, running_whole, whole_settings
from shopstream_stack.whole.soak import SOAK_QUICK, SOAK_VARIABLES, SoakPlan, measure_soak

GATE: Final = "load-gate"
SOAK: Final = "soak"


def load_gate(plan: GatePlan) -> Benchmark[WholePlace]:
    """The load gate; ``plan`` is that of its full form."""

    def measure(place: WholePlace, _ports: PortReservations, results: Results, form: Form) -> None:
        measure_gate(place, results, GATE_QUICK if form == "quick" else plan)

    return Benchmark(
        GATE, "The load gate", measure, _running_with_k6, settings_of=partial(whole_settings, GATE)
    )


def soak(plan: SoakPlan) -> Benchmark[WholePlace]:
    """The soak; ``plan`` is that of its full form."""

    def measure(place: WholePlace, _ports: PortReservations, results: Results, form: Form) -> None:
        measure_soak(place, results, SOAK_QUICK if form == "quick" else plan)

    return Benchmark(
        SOAK,
        "The soak",
        measure,
        running_whole,
        settings_of=partial(whole_settings, SOAK, variables=SOAK_VARIABLES),
    )


@contextmanager
def _running_with_k6(system: System, ports: PortReservations) -> Iterator[WholePlace]:
    # Before anything is started: it takes minutes, once.
    system.cache.ensure_k6(system.reporter)
    with running_whole(system, ports) as place:
        yield place
